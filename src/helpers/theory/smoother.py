r"""One smoother behind the four papers, and the one ridge that its samples feel.

Kernel ridge regression with training kernel K `(n, n)` and penalty :math:`\lambda \ge 0` answers at
z with a weighted sum of labels,

.. math:: f(z) = \alpha(z)^\top g, \qquad \alpha(z) = (K + \lambda I)^{-1}k(z), \qquad
          H = K(K + \lambda I)^{-1}, \qquad r = g - Hg.

:class:`Smoother` holds what is exact for every kernel and every n. The functions below it are laws
for many samples: with population eigenvalues :math:`\lambda_i`, each counted :math:`c_i` times, and
a penalty :math:`k = \lambda/n` a sample, all depend on one number, the felt ridge :math:`k'` of
:func:`effective_ridge`.

Source: leave-out formulas are classical for linear smoothers (Craven & Wahba 1979); so is the felt
ridge (Dobriban & Wager 2018; Jacot et al. 2020; Canatar et al. 2021; Simon et al. 2023). What ties
the four papers to it is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from helpers.kernels.inputs import check_finite, check_no_negative, check_symmetric
from helpers.theory.ranges import Numbers, check_ranges, larger_root
from helpers.theory.yang2022 import rare_linear

_STEPS, _SETTLED = 2_000, 1e-15  # of Newton's method; ten are usual


class Direction(NamedTuple):
    """What a model does with a further feature u of its samples, before it is added.

    slope: of the labels along u, each sample weighed by what the others leave open. threshold: the
    strength at which half of the slope is learnt.
    """

    slope: Tensor
    threshold: Tensor

    def response(self, strength: float | Tensor) -> Tensor:
        r"""Output along u once :math:`S uu^\top` is added to the kernel, slope S / (S + threshold).

        That is f with u = 1 minus f with u = 0, of the model trained with the feature.
        """
        return self.slope * strength / (strength + self.threshold)


@dataclass(frozen=True)
class Smoother:
    r"""Kernel ridge regression after its one factorisation, in float64; make it by :func:`smooth`.

    Attributes:
        values: `(n,)` eigenvalues of K, the largest first.
        vectors: `(n, n)` its eigenvectors in columns.
        inverse: `(n, n)` :math:`(K + \lambda I)^{-1}`.
        ridge: :math:`\lambda`.
    """

    values: Tensor
    vectors: Tensor
    inverse: Tensor
    ridge: float

    def weights(self, K_query: Tensor) -> Tensor:
        r""":math:`\alpha` at the queries: `(m, n)` kernel block to `(m, n)`.

        Entry i is the derivative of the output by label i and, for an interpolator, the feature
        alignment of Part I with sample i.
        """
        return self._block(K_query) @ self.inverse

    def predict(self, K_query: Tensor, labels: Tensor) -> Tensor:
        """Outputs at the queries, `(m,)`."""
        return self._block(K_query) @ self.coefficients(labels)

    def coefficients(self, labels: Tensor) -> Tensor:
        r""":math:`(K + \lambda I)^{-1}g`, `(n,)`: the output's coefficient of each k(z, z_i)."""
        return self.inverse @ self._labels(labels)

    @property
    def hat(self) -> Tensor:
        """H, `(n, n)`: labels to outputs on the training set."""
        return torch.eye(len(self.inverse), dtype=torch.float64) - self.ridge * self.inverse

    def residual(self, labels: Tensor) -> Tensor:
        """r, `(n,)`: what the model gets wrong on its training set."""
        return self.ridge * self.coefficients(labels)

    def held_out(self, labels: Tensor, group: Tensor) -> Tensor:
        r"""Labels of a group minus what the model without it says there, `(|G|,)`.

        That is :math:`(I - H_{GG})^{-1}r_G`, computed as :math:`[(K + \lambda I)^{-1}]_{GG}^{-1}
        [(K + \lambda I)^{-1}g]_G`, which has no 0/0 for an interpolator. For one sample it is Part
        I's stability at the sample.

        Args:
            labels: `(n,)`.
            group: rows of the training set, or a mask `(n,)`.
        """
        rows = self._rows(group)
        return torch.linalg.solve(self.inverse[rows][:, rows], self.coefficients(labels)[rows])

    def removal(self, K_query: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        r""":math:`f - f_{-G}` at the queries, `(m,)`: what the answers owe to a group.

        Source: :math:`\alpha_G(I - H_{GG})^{-1}r_G`, derived in the book's chapter on the smoother.
        """
        return self.weights(K_query)[:, self._rows(group)] @ self.held_out(labels, group)

    def alignment(self, K_query: Tensor) -> Tensor:
        r""":math:`\alpha_i(z_i')`, `(n,)`: row i of the `(n, n)` block is sample i's own query."""
        if K_query.shape != self.inverse.shape:
            raise ValueError(
                f"K_query has shape {tuple(K_query.shape)}: expected {tuple(self.inverse.shape)}"
            )
        return (self._block(K_query) * self.inverse).sum(1)

    def by_mode(self, K_query: Tensor, labels: Tensor) -> Tensor:
        r"""Contributions :math:`\langle v_j, k(z)\rangle\langle v_j, g\rangle/(\lambda_j+\lambda)`.

        `(m, n)`, in the order of `values`; their sums over modes are the outputs. They are Part
        IV's features.
        """
        along = (self.vectors.T @ self._labels(labels)) / (self.values + self.ridge)
        return (self._block(K_query) @ self.vectors) * along

    def direction(self, u: Tensor, labels: Tensor) -> Direction:
        r"""What the model would learn of a further feature u `(n,)` that it does not have yet.

        With :math:`A = K + \lambda I`, slope :math:`u^\top A^{-1}g / u^\top A^{-1}u` and threshold
        :math:`1/u^\top A^{-1}u`. Of u = e_i they are the held-out residual and the novelty.

        Raises:
            ValueError: not `(n,)` finite values, or all of them 0.
        """
        solved = self.coefficients(u)
        squared = self._labels(u) @ solved
        if not squared > 0:
            raise ValueError("u is 0 for all samples: it is no feature")
        return Direction((solved @ self._labels(labels)) / squared, 1 / squared)

    @property
    def novelty(self) -> Tensor:
        r""":math:`1/[(K + \lambda I)^{-1}]_{ii}`, `(n,)`: a sample's kernel less what others know.

        Part I's :math:`\|P_{-i}^\perp\varphi(z_i)\|^2` for an interpolator.
        """
        return 1 / self.inverse.diagonal()

    @property
    def degrees_of_freedom(self) -> float:
        """Trace of H."""
        return float((self.values / (self.values + self.ridge)).sum())

    @property
    def residual_share(self) -> float:
        r"""Part II's :math:`\tau = \mathrm{tr}(I - H)/n`."""
        return float((self.ridge / (self.values + self.ridge)).mean())

    @property
    def felt_ridge(self) -> float:
        r"""The ridge :math:`k' = 1/\mathrm{tr}(K + \lambda I)^{-1}` that this training set feels.

        :func:`effective_ridge` is its limit; :math:`\tau k' = k = \lambda/n` is exact.
        """
        return float(1 / (1 / (self.values + self.ridge)).sum())

    def _block(self, K_query: Tensor) -> Tensor:
        if K_query.ndim != 2 or K_query.shape[1] != len(self.inverse):
            expected = f"(m, {len(self.inverse)})"
            raise ValueError(f"K_query has shape {tuple(K_query.shape)}: expected {expected}")
        check_finite(K_query, "K_query holds")
        return K_query.double()

    def _labels(self, labels: Tensor) -> Tensor:
        if labels.shape != self.values.shape:
            expected = tuple(self.values.shape)
            raise ValueError(f"labels have shape {tuple(labels.shape)}: expected {expected}")
        check_finite(labels, "labels hold")
        return labels.double()

    def _rows(self, group: Tensor) -> Tensor:
        """Row numbers of a group, once they are some of the training set's, each once."""
        n = len(self.inverse)
        if group.dtype == torch.bool and group.shape == (n,):
            group = group.nonzero().flatten()
        whole = group.ndim == 1 and len(group) and group.dtype in (torch.int64, torch.int32)
        if not whole or len(group.unique()) < len(group) or not 0 <= group.min() <= group.max() < n:
            raise ValueError(f"the group is no mask ({n},) and no list of different rows below {n}")
        return group.long()


def smooth(K: Tensor, ridge: float = 0.0) -> Smoother:
    r"""Factorise a training kernel once, for everything that :class:`Smoother` answers.

    An intercept is a constant feature: add a constant to the kernel.

    Args:
        K: `(n, n)` symmetric kernel, float32 or float64; the work is done in float64.
        ridge: :math:`\lambda`, n times the penalty a sample; 0 for the interpolator.

    Raises:
        ValueError: K is not square and symmetric, not finite, has a negative eigenvalue, or
            :math:`K + \lambda I` is numerically singular; a ridge that is negative or not finite.

    >>> K = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    >>> g, first = torch.tensor([1.0, 0.0]), torch.tensor([0])
    >>> [round(float(smooth(K).held_out(g, first)), 9), round(smooth(K, 1.0).residual_share, 4)]
    [1.0, 0.375]
    """
    check_symmetric(K, strict=True)
    check_ranges({"ridge": "0 or more, finite"}, ridge)
    ascending, vectors = torch.linalg.eigh(K.double())
    check_no_negative(ascending, K, "the smallest eigenvalue")
    values, vectors = ascending.clamp(min=0).flip(0), vectors.flip(1)
    if not values[-1] + ridge > len(K) * torch.finfo(K.dtype).eps * values[0]:
        raise ValueError(
            f"the kernel of {len(K)} samples is numerically singular (eigenvalues from "
            f"{float(values[-1]):.3g} to {float(values[0]):.3g}): remove duplicate samples, use "
            "more features than samples, or a ridge"
        )
    inverse = (vectors / (values + ridge)) @ vectors.T
    return Smoother(values, vectors, (inverse + inverse.T) / 2, float(ridge))


# -- laws for many samples -------------------------------------------------------------------------


def novelty(
    eigenvalues: Numbers, penalty: Numbers, samples: Numbers, counts: Numbers | None = None
) -> Numbers:
    r"""What a sample's kernel holds that n others do not explain, :math:`\nu = nk'`.

    .. math:: \nu = \lambda + \sum_i \frac{c_i\lambda_i}{1 + n\lambda_i/\nu}

    The penalty :math:`\lambda` (or what no eigenvalue carries) and of each eigenvalue the share
    that is unlearned. It is the equation of :func:`effective_ridge`, also at n = 0.

    Args:
        eigenvalues: `(m,)` or one, 0 or more.
        penalty: :math:`\lambda`, 0 or more.
        samples: n, 0 or more; broadcast with `penalty`.
        counts: how often each eigenvalue occurs, 0 or more; once if None.

    Returns:
        The largest root; 0 where the penalty is 0 and n is the number of eigenvalues or more.

    Raises:
        ValueError: an argument outside its range.
    """
    allowed = dict.fromkeys(("penalty", "samples"), "0 or more, finite")
    return _plain(solved(_spectrum(eigenvalues, counts), *check_ranges(allowed, penalty, samples)))


def effective_ridge(
    eigenvalues: Numbers, ridge: Numbers, samples: Numbers, counts: Numbers | None = None
) -> Numbers:
    r"""The ridge :math:`k'` that n samples feel where the penalty says k.

    .. math:: k' = k + \frac{k'}{n}\sum_i \frac{c_i\lambda_i}{\lambda_i + k'}

    In the population, with the penalty :math:`k'`, a linear model answers as it does on average
    with n samples and the penalty k.

    Args:
        eigenvalues: `(m,)` eigenvalues of the covariance (of the kernel's operator), or one.
        ridge: k, a sample: :math:`\lambda/n`, 0 or more.
        samples: n, above 0; broadcast with `ridge`.
        counts: how often each eigenvalue occurs; once if None.

    Raises:
        ValueError: an argument outside its range.

    Source: Dobriban & Wager 2018; Simon et al. 2023; for one eigenvalue Marchenko & Pastur 1967.

    >>> effective_ridge(2.0, [0.0, 0.0], [100, 100], counts=300).tolist()      # without a penalty
    [4.0, 4.0]
    >>> round(effective_ridge([1.0], 0.3, 400, counts=[600]), 3)
    1.078
    """
    allowed = {"ridge": "0 or more, finite", "samples": "above 0, finite"}
    ridge, samples = check_ranges(allowed, ridge, samples)
    return _plain(solved(_spectrum(eigenvalues, counts), ridge * samples, samples) / samples)


def degrees_of_freedom(
    eigenvalues: Numbers, felt: Numbers, counts: Numbers | None = None
) -> Numbers:
    r""":math:`\sum_i c_i\lambda_i/(\lambda_i + k')`, the trace of H; `felt` is :math:`k'`."""
    return _learnt(eigenvalues, felt, counts, 1.0)


def alignment(
    eigenvalues: Numbers,
    felt: Numbers,
    samples: Numbers,
    shared: Numbers = 1.0,
    counts: Numbers | None = None,
) -> Numbers:
    r"""Part I's mean alignment of a sample with a query of its own.

    .. math:: \frac1n\sum_i \frac{c_i\lambda_i\,\sigma_i}{\lambda_i + k'}

    Args:
        eigenvalues, counts: as in :func:`effective_ridge`, whose result is `felt`, of `samples`.
        shared: correlation :math:`\sigma_i` of query and sample along each eigenvalue, `(m,)` or
            one: 1 for the sample itself, the share of the background in a linear model whose
            core is drawn anew.

    >>> k = effective_ridge(1.0, 0.3, 400, counts=600)
    >>> round(alignment(1.0, k, 400, shared=0.5, counts=600), 4)
    0.3609
    """
    return _learnt(eigenvalues, felt, counts, shared) / samples


def unlearned_share(eigenvalue: Numbers, felt: Numbers) -> Numbers:
    r"""Part I's :math:`\rho = k'/(\lambda_i + k')`: what is left to learn of a direction."""
    return felt / (eigenvalue + felt)


def residual_share(ridge: Numbers, felt: Numbers) -> Numbers:
    r"""Part II's :math:`\tau = k/k'`, the mean of the diagonal of I - H; for :math:`k' > 0`."""
    return ridge / felt


def signal_to_noise(lift: Numbers, noise: Numbers, felt: Numbers) -> Numbers:
    r"""Part IV's ratio :math:`a/\kappa` with :math:`\kappa = s + k'`, s the direction's noise."""
    return lift / (noise + felt)


def response(lift: Numbers, noise: Numbers, felt: Numbers) -> Numbers:
    r"""Part IV's coefficient :math:`a/(a + \kappa)` of a direction that is lifted by a."""
    return lift / (lift + noise + felt)


def prediction_difference(
    P: Numbers, S: Numbers, var_inv: Numbers, var_sp: Numbers, gamma: Numbers, felt: Numbers
) -> Numbers:
    r"""Part II's :math:`\Delta` on n samples: that of :func:`rare_linear` at the felt ridge.

    So the knee, at :math:`v_s + \lambda = qS` in the population, is at :math:`\kappa = qS`.
    """
    return rare_linear(P, S, var_inv, var_sp, gamma, felt).prediction_difference


def _spectrum(eigenvalues: Numbers, counts: Numbers | None) -> list[np.ndarray]:
    values = np.atleast_1d(np.asarray(eigenvalues, dtype=float))
    times = np.ones_like(values) if counts is None else np.atleast_1d(np.asarray(counts, float))
    if values.ndim != 1 or times.shape != values.shape or not len(values):
        raise ValueError(
            f"eigenvalues have shape {values.shape} and counts {times.shape}: expected (m,) twice"
        )
    allowed = dict.fromkeys(("eigenvalues", "counts"), "0 or more, finite")
    return check_ranges(allowed, values, times)


def _learnt(
    eigenvalues: Numbers, felt: Numbers, counts: Numbers | None, shared: Numbers
) -> Numbers:
    values, times = _spectrum(eigenvalues, counts)
    (felt,) = check_ranges({"felt": "0 or more, finite"}, felt)
    present = values > 0  # where nothing is felt, 0/0 is nothing learnt
    weights = (times * shared * values)[present]
    return _plain((weights / (values[present] + felt[..., None])).sum(-1))


def _plain(found: Numbers) -> Numbers:
    return float(found) if np.ndim(found) == 0 else found


def solved(spectrum: Sequence[np.ndarray], penalty: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """:func:`novelty` without its checks; `spectrum` is eigenvalues and counts, `(m,)` each."""
    values, times = spectrum
    if len(values) == 1:
        signal = samples * values[0]
        return larger_root((penalty + times[0] * values[0] - signal) / 2, penalty * signal)
    found = _newton(values, values * times, penalty, samples)
    return np.where((penalty == 0) & (samples >= times[values > 0].sum()), 0.0, found)


def _newton(
    values: np.ndarray, weights: np.ndarray, penalty: np.ndarray, samples: np.ndarray
) -> np.ndarray:
    """Root of the convex nu - penalty - sum of weights nu / (n values + nu), from above."""
    nu, signal = penalty + weights.sum(), samples[..., None] * values
    for _ in range(_STEPS):
        with np.errstate(invalid="ignore", divide="ignore"):
            open_ = nu[..., None] / (signal + nu[..., None])
            excess = nu - penalty - open_ @ weights
            slope = 1 - (signal / (signal + nu[..., None]) ** 2) @ weights
            step = np.where(excess > 0, excess / slope, 0.0)
        if not (step > _SETTLED * nu).any():
            break
        nu = nu - step.clip(0, nu)
    return nu
