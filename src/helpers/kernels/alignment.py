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

from helpers.kernels.inputs import check_finite, check_symmetric


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
        """Outputs at the queries: `(m, n)` kernel block and `(n,)` labels to `(m,)` float64.

        Raises:
            ValueError: other shapes, or values that are not finite.
        """
        n = len(self.inverse)
        if K_query.ndim != 2 or K_query.shape[1] != n:
            raise ValueError(f"K_query has shape {tuple(K_query.shape)}: expected (m, {n})")
        check_finite(K_query, "K_query holds")
        return K_query.double() @ (self.inverse @ self._checked(labels))

    def stability(self, labels: torch.Tensor) -> torch.Tensor:
        """S_{z_i}(z_i) of every sample, `(n,)`: its leave-one-out residual.

        A start other than zero is covered by passing `labels - f(., theta_0)`.

        Raises:
            ValueError: not `(n,)` finite labels.

        Source: Bombari & Mondelli 2024, Definition 3.1; closed form as for the alignment.
        """
        return (self.inverse @ self._checked(labels)) / self.inverse.diagonal()

    def _checked(self, labels: torch.Tensor) -> torch.Tensor:
        if labels.shape != self.novelty.shape:
            expected = tuple(self.novelty.shape)
            raise ValueError(f"labels have shape {tuple(labels.shape)}: expected {expected}")
        check_finite(labels, "labels hold")
        return labels.double()

    def alignment(self, K_query: torch.Tensor) -> torch.Tensor:
        """F(z_i', z_i), `(n,)`, where row i of the `(n, n)` block is the query made from sample i.

        Raises:
            ValueError: the block is not `(n, n)`, or not finite.

        Source: Bombari & Mondelli 2024, Lemma 4.1; closed form derived in the book's chapter 2.
        """
        if K_query.shape != self.inverse.shape:
            raise ValueError(
                f"K_query has shape {tuple(K_query.shape)}: expected {tuple(self.inverse.shape)}, "
                "one query for each training sample"
            )
        check_finite(K_query, "K_query holds")
        return (K_query.double() * self.inverse).sum(1)


def interpolate(K: torch.Tensor) -> Interpolation:
    r"""Factorise a training kernel once, for the closed forms above.

    The kernel counts as numerically singular where rounding decides about an answer. Entries
    :math:`K_{jk}` are known to a few roundings of :math:`\sqrt{K_{jj}K_{kk}}`, and one rounding in
    each moves :math:`[K^{-1}]_{ii}` by about :math:`\sum_j [K^{-1}]_{ij}^2 K_{jj}`. For no sample
    may a hundred of them be as much as :math:`[K^{-1}]_{ii}` itself. A rounding is one of K's
    precision, plus n / 100 of the factorisation's in float64.

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
    moved = torch.linalg.vecdot(inverse * K64.diagonal(), inverse) / inverse.diagonal()
    rounding = 100 * torch.finfo(K.dtype).eps + len(K) * torch.finfo(torch.float64).eps
    if not bool((moved * rounding < 1).all()):  # nor where the inverse is not finite
        raise ValueError(_singular(K64, int(moved.argmax())))
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
