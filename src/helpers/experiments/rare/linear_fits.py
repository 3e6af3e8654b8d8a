"""Ridge regression fitted to samples of the Gaussian mixture of Part II's linear theory.

The closed forms (:func:`helpers.theory.rare_linear`) know that two directions matter. Nothing here
does: components in full dimension, their moments, samples, and scikit-learn's ridge.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from helpers.sweep import Call, Cell, experiment

FIRST, SECOND = (1.0, 5.0, 0.5, 0.1), (1.0, 25.0, 1.0, 0.05)  # P, S, v_i, v_s of the paper's plots
# P, S, v_i, v_s, gamma, lambda, dimensions: five that the figures use, and three far from them
SETTINGS = (
    (1.0, 5.0, 0.5, 0.1, 0.05, 0.0, (3, 2)), (1.0, 5.0, 0.5, 0.1, 0.25, 0.0, (7, 1)),
    (1.0, 5.0, 0.8, 0.4, 0.5, 0.0, (2, 7)), (1.0, 25.0, 1.0, 0.05, 0.05, 0.0, (4, 4)),
    (1.0, 25.0, 1.0, 0.05, 0.3, 0.0, (1, 1)), (1.0, 5.0, 0.5, 0.1, 0.5, 1.0, (5, 3)),
    (2.0, 3.0, 0.7, 0.3, 0.8, 0.2, (6, 5)), (0.5, 8.0, 0.4, 0.6, 1.0, 10.0, (7, 7)),
)  # fmt: skip
NOISES, SHARES = (0.0, 0.1, 0.2, 0.3), (0.02, 0.1, 0.3, 0.5)
STRENGTHS = (50, 500, 5_000)  # S / v_s; the middle one is the paper's
# P, S, v_i, v_s, gamma: where a ridge is asked to help, and a class full of spurious examples
RIDGE_CASES = {
    "rare": (*FIRST, 0.02),
    "rare, strong pattern": (*SECOND, 0.02),
    "rare, stronger by less noise": (1.0, 25.0, 1.0, 0.0005, 0.02),
    "rare, stronger by its length": (1.0, 250.0, 1.0, 0.05, 0.02),
    "frequent": (*SECOND, 0.3),
}


class Mixture(NamedTuple):
    """Components of the training law, the law of the pattern on the wrong class, and the pattern.

    Attributes:
        weights, means, labels: `(c,)`, `(c, k)`, `(c,)`; the first two components are clean.
        wrong: `(k,)`, mean of the negative class with the pattern.
        pattern: `(k,)`.
        variances: `(k,)`, of every component.
    """

    weights: np.ndarray
    means: np.ndarray
    labels: np.ndarray
    wrong: np.ndarray
    pattern: np.ndarray
    variances: np.ndarray


def mixture(
    P: float, S: float, var_inv: float, var_sp: float, gamma: float, *, dims: Sequence[int],
    rng: np.random.Generator,
) -> Mixture:  # fmt: skip
    """The law of Definition 1, its two directions drawn at random; `dims`: of true and spurious."""
    m, v = (rng.standard_normal(k) for k in dims)
    m, v = m * (P / (m @ m)) ** 0.5, v * (S / (v @ v)) ** 0.5
    none = np.zeros_like(v)
    return Mixture(
        np.array([1 / 2, (1 - gamma) / 2, gamma / 2]),
        np.array([np.r_[-m, none], np.r_[m, none], np.r_[m, v]]),
        np.array([-1, 1, 1]),
        np.r_[-m, v],
        np.r_[0 * m, v],
        np.repeat([var_inv, var_sp], dims),
    )


def exact_weights(law: Mixture, lam: float) -> tuple[np.ndarray, float]:
    """Weights `(k,)` and intercept of ridge regression, from all moments of the law.

    >>> w, _ = exact_weights(mixture(1, 5, 0.5, 0.1, 0.25, dims=(3, 2),
    ...                              rng=np.random.default_rng(0)), 0)
    >>> w.shape
    (5,)
    """
    k = len(law.variances)
    second, first = np.diag(np.r_[law.variances + lam, 0.0]), np.zeros(k + 1)
    for weight, mean, label in zip(law.weights, law.means, law.labels, strict=True):
        row = np.r_[mean, 1.0]
        second += weight * np.outer(row, row)
        first += weight * label * row
    solution = np.linalg.solve(second, first)
    return solution[:k], float(solution[k])


def accuracies(w: np.ndarray, b: float, law: Mixture) -> tuple[float, float]:
    """Clean and spurious accuracy of any linear classifier, over the whole law."""
    sd = np.sqrt(w @ (law.variances * w))
    clean = law.labels[:2] * (law.means[:2] @ w + b) / sd
    return float(ndtr(clean).mean()), float(ndtr(-(w @ law.wrong + b) / sd))


def drawn(
    law: Mixture, samples: int, rng: np.random.Generator, *, clean: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs `(n, k)` and labels `(n,)` of the training law, or of the clean one."""
    weights = np.array([0.5, 0.5, 0.0]) if clean else law.weights
    part = np.searchsorted(weights.cumsum()[:-1], rng.random(samples), side="right")
    noise = rng.standard_normal((samples, len(law.variances))) * law.variances**0.5
    return law.means[part] + noise, law.labels[part]


def linear_fits_cells(profile: str) -> list[Cell]:
    """Fits for the theorem, the transition, added noise, and the ridge."""
    smoke = profile == "smoke"
    large, middle, little = (100_000, 20_000, 5_000) if smoke else (1_000_000, 200_000, 20_000)
    few, many = (2, 3) if smoke else (5, 20)
    plans = [("theorem", large, few, [(*s[:6], 0.0, *s[6]) for s in SETTINGS])]
    plans += [("noise", little, many // 2 + 1,
               [(*FIRST, g, 0.0, t, 5, 5) for t in NOISES for g in SHARES])]  # fmt: skip
    plans += [(f"ridge: {case}", little, many // 2 + 1,
               [(*numbers, lam, 0.0, 5, 5) for lam in (0.0, 1.0)])
              for case, numbers in RIDGE_CASES.items()]  # fmt: skip
    shares = (0.001, 0.01, 0.1, 0.3) if smoke else (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)
    plans += [("transition", middle, many,
               [(1.0, 0.05 * s, 1.0, 0.05, g, 0.0, 0.0, 3, 3) for s in STRENGTHS for g in shares])
              ]  # fmt: skip
    names = ("P", "S", "var_inv", "var_sp", "gamma", "lam", "noise", "dim_inv", "dim_sp")
    return [
        dict(zip(names, numbers, strict=True)) | dict(question=q, samples=n, trial=trial)
        for q, n, trials, settings in plans
        for trial in range(trials)
        for numbers in settings
    ]


@experiment(
    "linear_fits",
    cells=linear_fits_cells,
    tolerance=1e-6,
    cheap=lambda cell: cell["samples"] <= 20_000,
)
def linear_fits(call: Call) -> dict[str, float | str]:
    """What ridge regression on a sample does, and what the normal equations of the law say.

    `clean`, `spurious`, `difference`: accuracies and prediction difference of the fitted model over
    the whole law; `exact_…`: of the minimiser over the law; `counted_…`: shares of fresh draws that
    this minimiser gets right. Noise is added to training and test data. The trial is the seed of
    both directions and of the sample: cells of one trial share them as far as they can.
    """
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(call.trial)
    variances = call.var_inv + call.noise, call.var_sp + call.noise
    dims = (call.dim_inv, call.dim_sp)
    law = mixture(call.P, call.S, *variances, call.gamma, dims=dims, rng=rng)
    fit = Ridge(alpha=call.samples * call.lam).fit(*drawn(law, call.samples, rng))
    w, b = exact_weights(law, call.lam)
    inputs, labels = drawn(law, call.samples, rng, clean=True)
    wrong = rng.standard_normal(inputs.shape) * law.variances**0.5 + law.wrong
    row = {"counted_clean": float(np.mean((inputs @ w + b) * labels > 0)),
           "counted_spurious": float(np.mean(wrong @ w + b < 0))}  # fmt: skip
    for name, weights, bias in (("", fit.coef_, float(fit.intercept_)), ("exact_", w, b)):
        found = *accuracies(weights, bias, law), float(weights @ law.pattern)
        row |= {name + of: x for of, x in zip(QUANTITIES, found, strict=True)}
    return row | {"data_source": "Gaussian mixture"}


QUANTITIES = ("clean", "spurious", "difference")
