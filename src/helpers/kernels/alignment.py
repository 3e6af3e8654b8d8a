r"""Stability and feature alignment, for all training samples at once.

Bombari & Mondelli (2024) define, for the minimum-norm interpolator :math:`f(\cdot, \theta^*)`,

.. math::
   S_{z_i}(z) = f(z, \theta^*) - f(z, \theta^*_{-i}), \qquad
   F_\varphi(z, z_i) = \frac{\varphi(z)^\top P_{-i}^\perp \varphi(z_i)}
                            {\|P_{-i}^\perp \varphi(z_i)\|^2},

(Definition 3.1 and Lemma 4.1), where :math:`\theta^*_{-i}` is trained without sample i and
:math:`P_{-i}^\perp` projects away the features of the other samples. Both look like N retrainings.
One inverse of the N x N kernel gives them all: with :math:`\kappa(z) = \Phi\varphi(z)`,

.. math::
   F_\varphi(z, z_i) = [K^{-1}\kappa(z)]_i, \qquad
   S_{z_i}(z_i) = \frac{[K^{-1}g]_i}{[K^{-1}]_{ii}}, \qquad
   \|P_{-i}^\perp\varphi(z_i)\|^2 = \frac{1}{[K^{-1}]_{ii}}.
"""

from dataclasses import dataclass

import torch

from helpers.kernels.inputs import check_symmetric


@dataclass(frozen=True)
class Interpolation:
    """A kernel interpolator, ready to answer every leave-one-out question.

    Attributes:
        inverse: `(n, n)` float64 inverse of the training kernel.
        novelty: `(n,)` share of each sample's squared feature norm outside the span of the others.
    """

    inverse: torch.Tensor
    novelty: torch.Tensor

    def predict(self, K_query: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Outputs at the queries: `(m, n)` kernel block and `(n,)` labels to `(m,)` float64."""
        return K_query.double() @ (self.inverse @ labels.double())

    def stability(self, labels: torch.Tensor) -> torch.Tensor:
        """S_{z_i}(z_i) of every sample, `(n,)`: its leave-one-out residual.

        A start other than zero is covered by passing `labels - f(., theta_0)`.

        Source: Bombari & Mondelli 2024, Definition 3.1; closed form as for the alignment.
        """
        return (self.inverse @ labels.double()) / self.inverse.diagonal()

    def alignment(self, K_query: torch.Tensor) -> torch.Tensor:
        """F(z_i', z_i), `(n,)`, where row i of the `(n, n)` block is the query made from sample i.

        Raises:
            ValueError: the block is not `(n, n)`.

        Source: Bombari & Mondelli 2024, Lemma 4.1; closed form derived in the book's chapter 2.
        """
        if K_query.shape != self.inverse.shape:
            raise ValueError(
                f"K_query has shape {tuple(K_query.shape)}: expected {tuple(self.inverse.shape)}, "
                "one query for each training sample"
            )
        return (K_query.double() * self.inverse).sum(1)


def interpolate(K: torch.Tensor) -> Interpolation:
    """Factorise a training kernel once, for the closed forms above.

    Args:
        K: `(n, n)` symmetric kernel, float32 or float64; the work is done in float64.

    Raises:
        ValueError: K is not square and symmetric, not finite, or numerically singular; for a
            singular K the message names the sample and the one it depends on most.

    >>> K = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    >>> interpolate(K).stability(torch.tensor([1.0, 0.0])).round(decimals=9).tolist()
    [1.0, -0.5]
    >>> interpolate(K).alignment(K).round(decimals=9).tolist()      # a sample aligns with itself
    [1.0, 1.0]
    """
    check_symmetric(K, strict=True)
    K64 = K.double()
    factor, failed = torch.linalg.cholesky_ex(K64)
    if int(failed):
        raise ValueError(_singular(K64, int(failed) - 1))
    inverse = torch.cholesky_inverse(factor)
    novelty = 1 / (inverse.diagonal() * K64.diagonal())
    # Below this, rounding in the entries of K decides about [K^-1]_ii.
    if float(novelty.min()) < 100 * torch.finfo(K.dtype).eps:
        raise ValueError(_singular(K64, int(novelty.argmin())))
    return Interpolation(inverse, novelty)


def _singular(K: torch.Tensor, sample: int) -> str:
    scale = K.diagonal().clamp(min=torch.finfo(K.dtype).tiny).sqrt()
    cosine = (K[sample] / (scale * scale[sample])).abs()
    cosine[sample] = 0
    nearest = int(cosine.argmax())
    return (
        f"the kernel of {len(K)} samples is numerically singular: the features of sample {sample} "
        f"lie in the span of the others (closest is sample {nearest}, cosine "
        f"{float(cosine[nearest]):.6f}). Remove duplicate samples, use more features than samples, "
        "or compute the kernel in float64"
    )
