r"""Losses of the margin, plain and margin-controlling, and how to fit linear models with them.

The margin of a sample with label :math:`y = \pm1` and output f is :math:`u = yf`. The losses are
`logistic`, `squared`, `sd(lam)`, `marg_log(lam)`, `sigma_damp(T)`, or `named` by a name and a
strength; `fit_linear` minimises one among linear functions, `fit_kernel` follows its gradient with
a fixed kernel. Everything is a function of torch tensors (`fit_linear` also takes numpy arrays).

Source: Puli et al. 2023 (margin control), which Lim, Kim & Moon 2025 compare with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq, minimize
from torch.nn.functional import softplus

_USUAL = {"logistic": 0.0, "squared": 0.0, "sd": 0.1, "marg_log": 0.5, "sigma_damp": 2.0}


@dataclass(frozen=True)
class MarginLoss:
    r"""A loss that depends on the margin u alone.

    ============== =================================================== =======================
    name           value                                               strength
    ============== =================================================== =======================
    `logistic`     :math:`\log(1 + e^{-u})`                            none
    `squared`      :math:`(1 - u)^2/2`                                 none
    `sd`           :math:`\log(1 + e^{-u}) + \lambda u^2`              :math:`\lambda > 0`
    `marg_log`     :math:`\log(1 + e^{-u}) + \lambda\log(1 + u^2)`     :math:`\lambda > 0`
    `sigma_damp`   :math:`\log(1 + e^{-g})`, :math:`g = u\sigma(-u/T)` temperature :math:`T > 0`
    ============== =================================================== =======================

    Since labels are -1 and +1, :math:`u^2 = f^2`: `sd` is the logistic loss with spectral
    decoupling. Only `logistic` falls for ever; the others are smallest at a finite margin.

    Raises:
        ValueError: an unknown name, a strength that is not positive or not finite.

    Source: Pezeshki et al. 2021 (`sd`); Puli et al. 2023 (`marg_log`, `sigma_damp`), as given in
    accounts of these papers.
    """

    name: str
    strength: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in _USUAL:
            raise ValueError(f"unknown loss {self.name!r}: allowed are {', '.join(_USUAL)}")
        if not _USUAL[self.name] and self.strength:
            raise ValueError(f"strength is {self.strength}: the {self.name} loss has none, give 0")
        if _USUAL[self.name] and not 0 < self.strength < math.inf:
            raise ValueError(f"strength of {self.name} is {self.strength}: it is above 0, finite")

    def value(self, u: torch.Tensor) -> torch.Tensor:
        """The loss at margins u, of any shape."""
        k = self.strength
        if self.name == "squared":
            return (1 - u).square() / 2
        if self.name == "sd":
            return softplus(-u) + k * u.square()
        if self.name == "marg_log":
            return softplus(-u) + k * torch.log1p(u.square())
        return softplus(-(u * torch.sigmoid(-u / k) if self.name == "sigma_damp" else u))

    def slope(self, u: torch.Tensor) -> torch.Tensor:
        """First derivative at margins u."""
        k = self.strength
        if self.name == "squared":
            return u - 1
        if self.name == "sigma_damp":
            damped, first, _ = _damped(u, k)
            return -torch.sigmoid(-damped) * first
        logistic_slope = -torch.sigmoid(-u)
        if self.name == "sd":
            return logistic_slope + 2 * k * u
        if self.name == "marg_log":
            return logistic_slope + 2 * k * u / (1 + u.square())
        return logistic_slope

    def curvature(self, u: torch.Tensor) -> torch.Tensor:
        """Second derivative at margins u."""
        k = self.strength
        if self.name == "squared":
            return torch.ones_like(u)
        if self.name == "sigma_damp":
            damped, first, second = _damped(u, k)
            away = torch.sigmoid(-damped)
            return (1 - away) * away * first.square() - away * second
        bell = torch.sigmoid(u) * torch.sigmoid(-u)
        if self.name == "sd":
            return bell + 2 * k
        if self.name == "marg_log":
            return bell + 2 * k * (1 - u.square()) / (1 + u.square()).square()
        return bell

    @cached_property
    def steepest(self) -> float:
        """The largest curvature: gradient descent is stable with steps below two over it.

        >>> [round(loss.steepest, 3) for loss in (logistic, squared, sd(0.1))]
        [0.25, 1.0, 0.45]
        """
        u = torch.linspace(-20, 20, 4_001, dtype=torch.float64)
        return float(self.curvature(u).max())

    def __str__(self) -> str:
        return f"{self.name} {self.strength:g}" if self.strength else self.name


def _damped(u: torch.Tensor, T: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""The damped margin :math:`g = u\sigma(-u/T)` and its first two derivatives."""
    a = u / T
    rest = torch.sigmoid(-a)
    bell = rest * (1 - rest)
    return u * rest, rest - a * bell, -bell * (2 + a * (2 * rest - 1)) / T


logistic = MarginLoss("logistic")
squared = MarginLoss("squared")


def sd(lam: float = 0.1) -> MarginLoss:
    r"""Spectral decoupling: the logistic loss plus :math:`\lambda f^2` (Pezeshki et al. 2021)."""
    return MarginLoss("sd", lam)


def marg_log(lam: float = 0.5) -> MarginLoss:
    r"""The logistic loss plus :math:`\lambda\log(1 + f^2)` (Puli et al. 2023)."""
    return MarginLoss("marg_log", lam)


def sigma_damp(T: float = 2.0) -> MarginLoss:
    r"""The logistic loss of the margin damped by :math:`1 - \sigma(u/T)` (Puli et al. 2023)."""
    return MarginLoss("sigma_damp", T)


def named(name: str, strength: float | None = None) -> MarginLoss:
    """The loss of a name; without a strength, with its default (sd 0.1, marg_log 0.5, T = 2).

    A strength of 0 goes with the losses that have none.

    >>> str(named("sd")), str(named("squared"))
    ('sd 0.1', 'squared')
    """
    return MarginLoss(name, _USUAL.get(name, 0.0) if strength is None else strength)


def common_margin(loss: MarginLoss) -> float:
    r"""The margin u* that every sample gets when the model can fit any output.

    The root of the slope; for `sd`, :math:`\sigma(-u) = 2\lambda u`.

    Raises:
        ValueError: the logistic loss, which has none: its margins grow without end.

    Source: our derivation.

    >>> round(common_margin(sd(0.1)), 3), common_margin(squared)
    (1.177, 1.0)
    >>> round(common_margin(sigma_damp(2.0)) / 2.0, 4)        # the root of a sigma(a) = 1
    1.2785
    """
    if loss.name == "logistic":
        raise ValueError("the logistic loss falls for ever: it has no common margin")

    def slope(u: float) -> float:
        return float(loss.slope(torch.tensor(u, dtype=torch.float64)))

    upper = 1e-3
    while slope(upper) < 0:
        upper *= 2
    return float(brentq(slope, 0, upper, xtol=1e-14))


def margin_cv(margins: torch.Tensor) -> float:
    """Coefficient of variation of margins: standard deviation over mean.

    Raises:
        ValueError: fewer than two margins, or a mean that is not positive.

    >>> round(margin_cv(torch.tensor([1.0, 3.0])), 4)
    0.5
    """
    margins = torch.as_tensor(margins, dtype=torch.float64)
    if margins.numel() < 2 or not float(margins.mean()) > 0:
        raise ValueError(
            f"{margins.numel()} margins with mean {float(margins.mean()):.3g}: the coefficient of "
            "variation needs at least two, and a mean above 0"
        )
    return float(margins.std(correction=0) / margins.mean())


def check_labels(labels: torch.Tensor, shape: Sequence[int]) -> None:
    """ValueError unless labels are -1 and +1 and have this shape."""
    if tuple(labels.shape) != tuple(shape):
        raise ValueError(f"labels have shape {tuple(labels.shape)}, expected {tuple(shape)}")
    if not bool((labels.abs() == 1).all()):
        raise ValueError(f"labels have values {torch.unique(labels)[:5].tolist()}: allowed -1, +1")


class LinearFit(NamedTuple):
    """Weights `(d,)`, the mean loss, and whether the optimiser came to an end by itself."""

    weights: np.ndarray
    loss: float
    converged: bool


def fit_linear(
    x: np.ndarray | torch.Tensor,
    y: np.ndarray | torch.Tensor,
    loss: MarginLoss,
    *,
    method: Literal["lbfgs", "adam", "descent"] = "lbfgs",
    iterations: int = 500,
    step: float | None = None,
) -> LinearFit:
    r"""A linear function :math:`f(x) = \langle w, x\rangle` that minimises the mean loss.

    It starts at w = 0. On separable data the logistic loss has no minimiser: what comes back is
    where the optimiser stopped, and :func:`helpers.training.largest_margin.hard_margin` where it
    was going.

    Args:
        x: `(n, d)` inputs.
        y: `(n,)` labels -1 and +1.
        loss: a loss of this module.
        method: `"lbfgs"` (scipy), or, ending after `iterations`, `"adam"` or gradient `"descent"`
            with full batches.
        iterations: the most iterations.
        step: learning rate; None for 0.01 with `"adam"` and, with `"descent"`, one over the
            largest curvature of the mean loss.

    Raises:
        ValueError: shapes that do not fit, other labels, values that are not finite, an unknown
            method, fewer than one iteration.

    >>> x = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> fit_linear(x, np.array([1.0, -1.0]), squared).weights.round(4).tolist()
    [1.0, -0.5]
    """
    x, y = (torch.as_tensor(a, dtype=torch.float64) for a in (x, y))
    if x.ndim != 2 or 0 in x.shape or not bool(torch.isfinite(x).all()):
        raise ValueError(f"inputs of shape {tuple(x.shape)}: expected (n, d), finite values")
    check_labels(y, (len(x),))
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}: at least 1")
    signed = x * y[:, None]
    if method == "lbfgs":
        return _by_lbfgs(signed, loss, iterations)
    if method == "adam":
        return _by_adam(signed, loss, iterations, 0.01 if step is None else step)
    if method == "descent":
        return _by_descent(signed, loss, iterations, step)
    raise ValueError(f"method is {method!r}: allowed are 'lbfgs', 'adam' and 'descent'")


def _by_lbfgs(signed: torch.Tensor, loss: MarginLoss, iterations: int) -> LinearFit:
    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        u = signed @ torch.from_numpy(w)
        return float(loss.value(u).mean()), (signed.T @ loss.slope(u) / len(u)).numpy()

    options = {"maxiter": iterations, "maxfun": 20 * iterations, "ftol": 1e-15, "gtol": 1e-9}
    start = np.zeros(signed.shape[1])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    return LinearFit(found.x, float(found.fun), found.nit < iterations)


def _by_adam(signed: torch.Tensor, loss: MarginLoss, iterations: int, step: float) -> LinearFit:
    # as torch.optim.Adam with its defaults, whose import alone takes seconds
    w, first, second = (torch.zeros(signed.shape[1], dtype=torch.float64) for _ in range(3))
    for t in range(1, iterations + 1):
        gradient = signed.T @ loss.slope(signed @ w) / len(signed)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        spread = (second / (1 - 0.999**t)).sqrt() + 1e-8
        w = w - step * first / (1 - 0.9**t) / spread
    return LinearFit(w.numpy(), float(loss.value(signed @ w).mean()), False)


def _by_descent(
    signed: torch.Tensor, loss: MarginLoss, iterations: int, step: float | None
) -> LinearFit:
    n, d = signed.shape
    if step is None:
        step = n / (float(torch.linalg.matrix_norm(signed, 2)) ** 2 * loss.steepest)
    w = torch.zeros(d, dtype=torch.float64)
    for _ in range(iterations):
        w = w - step * (signed.T @ loss.slope(signed @ w)) / n
    return LinearFit(w.numpy(), float(loss.value(signed @ w).mean()), False)


class KernelFit(NamedTuple):
    """Gradient descent with a fixed kernel, at the s steps that were kept.

    Attributes:
        steps: `(s,)` numbers of the steps.
        coefficients: `(s, n)` a of the function f(x) = K(x, X) a; outputs at queries are
            `K_query @ coefficients.T`.
        outputs: `(s, n)` on the training set.
    """

    steps: torch.Tensor
    coefficients: torch.Tensor
    outputs: torch.Tensor


def fit_kernel(
    K: torch.Tensor,
    y: torch.Tensor,
    loss: MarginLoss,
    *,
    steps: int,
    step: float | None = None,
    keep: Sequence[int] | None = None,
    start: torch.Tensor | None = None,
) -> KernelFit:
    r"""Full-batch gradient descent on the *sum* of losses of a function with kernel K.

    From f = 0, :math:`f_{t+1}(x) = f_t(x) - \eta\sum_j K(x, x_j)\,\partial\ell_j/\partial f`, hence
    :math:`f_t = K a_t`. Near the minimum of a loss with curvature h the error along eigenvector i
    shrinks by :math:`1 - \eta\lambda_i h` a step. (A mean of losses has this with
    :math:`\mu_i = \lambda_i/n` in the place of :math:`\lambda_i`.)

    Args:
        K: `(n, n)` kernel of the training inputs, any floating dtype and device.
        y: `(n,)` labels -1 and +1.
        loss: a loss of this module.
        steps: number of steps.
        step: step size; None for one over the largest eigenvalue times the largest curvature.
        keep: which steps to keep, from 0 (the start) to `steps`; None for the last one.
        start: `(n,)` coefficients of another start than f = 0.

    Raises:
        ValueError: shapes, labels or a step size that do not fit, steps out of range.
        FloatingPointError: the outputs are not finite any more.

    Source: our derivation.

    >>> K = torch.diag(torch.tensor([1.0, 0.5]))
    >>> found = fit_kernel(K, torch.tensor([1.0, -1.0]), squared, steps=2, step=1.0, keep=[1, 2])
    >>> found.outputs.tolist()
    [[1.0, -0.5], [1.0, -0.75]]
    """
    if K.ndim != 2 or K.shape[0] != K.shape[1] or not K.is_floating_point():
        raise ValueError(f"K has shape {tuple(K.shape)}, {K.dtype}: expected floating (n, n)")
    check_labels(y, (len(K),))
    kept = [steps] if keep is None else sorted(set(keep))
    if steps < 1 or not kept or not 0 <= kept[0] <= kept[-1] <= steps:
        raise ValueError(f"{steps} steps, keep {kept}: expected steps of 1 or more, keep in 0..it")
    if step is None:
        if not (top := top_eigenvalue(K)):
            raise ValueError("K is zero: a step size must be given")
        step = 1 / (top * loss.steepest)
    if not 0 < step < math.inf:
        raise ValueError(f"step is {step}: it is above 0 and finite")
    y = y.to(K)
    a = torch.zeros_like(y) if start is None else start.to(K)
    if a.shape != y.shape:
        raise ValueError(f"start has shape {tuple(a.shape)}: expected {tuple(y.shape)}")
    f, found = K @ a, []
    wanted = set(kept)
    for t in range(kept[-1] + 1):
        if t in wanted:
            found.append((a.clone(), f.clone()))
            if not bool(torch.isfinite(f).all()):
                raise FloatingPointError(f"outputs are not finite at step {t}: lower step {step:g}")
        a = a - step * y * loss.slope(y * f)
        f = K @ a
    coefficients, outputs = (torch.stack(parts) for parts in zip(*found, strict=True))
    return KernelFit(torch.tensor(kept), coefficients, outputs)


def top_eigenvalue(K: torch.Tensor, products: int = 60) -> float:
    """The largest eigenvalue of a positive semidefinite matrix, by power iteration."""
    v = torch.randn(len(K), generator=torch.Generator().manual_seed(0)).to(K)
    for _ in range(products):
        if not bool(v.any()):  # a matrix of zeros
            return 0.0
        v = K @ (v / v.norm())
    return float(v.norm())
