"""Ridge regression on the digits 0 and 1 with appended spurious coordinates.

The linear theory's setting (a true and a spurious part side by side) on true features of another
law than Gaussian clouds. Everything about the images is in one matrix, so that a reaction costs a
system of 25 equations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import data, theory

STRENGTH, COORDINATES = 25, 25  # S, as of the paper's square of 5 x 5 white pixels, each adds 1


def binary_digits(train: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Digits 1 and 0 of `mnist5k`: pixels `(N, 784)` in [0, 1], labels -1 and +1 (0 is +1)."""
    images, labels = data.binary_pair(data.load("mnist5k", train=train), 1, 0)
    return images.flatten(1).numpy() / 255, labels.double().numpy()


class DigitRidge(NamedTuple):
    """The images as ridge regression with penalty `lam` on the weights sees them.

    Attributes:
        labels: `(N,)`.
        target: `(n,)`, rows of the class whose images may carry the pattern.
        lam: the ridge penalty.
        M: `(N, N)`, takes labels to the residuals of ridge regression on the images alone.
        eta: the labels' variance that the images leave unexplained.
        tau: the same share of noise.
    """

    labels: np.ndarray
    target: np.ndarray
    lam: float
    M: np.ndarray
    eta: float
    tau: float

    @classmethod
    def fitted(cls, X: np.ndarray, y: np.ndarray, lam: float) -> "DigitRidge":
        """Of images `(N, d)` and labels."""
        N, centred = len(y), X - X.mean(0)
        centring = np.eye(N) - 1 / N
        inverse = np.linalg.inv(centred @ centred.T + N * lam * np.eye(N))
        M = centring @ (N * lam * inverse) @ centring
        eta, tau = float(y @ M @ y / N), float(np.trace(M) / N)
        return cls(y, np.flatnonzero(y > 0), lam, M, eta, tau)

    def marks(self, rows: Sequence[int]) -> np.ndarray:
        """`(N,)`: 1 on these rows, else 0."""
        return np.isin(np.arange(len(self.labels)), rows).astype(float)

    def spurious(self, rows: Sequence[int], noise: np.ndarray) -> np.ndarray:
        """Spurious features `(N, 25)`: noise, and the pattern on these rows."""
        return noise + self.marks(rows)[:, None] * np.ones(COORDINATES)

    def reaction(self, spurious: np.ndarray, weighted: np.ndarray | None = None) -> float:
        """Prediction difference of ridge regression on images and these spurious features.

        `weighted`: M times them, where it is known.
        """
        N = len(self.labels)
        weighted = self.M @ spurious if weighted is None else weighted
        inner = spurious.T @ weighted / N + self.lam * np.eye(COORDINATES)
        return float(np.linalg.solve(inner, weighted.T @ self.labels / N).sum())

    def sample_law(self, var_sp: float, n: np.ndarray) -> np.ndarray:
        """The reaction at `n` spurious rows, averaged over their choice (a ratio of averages)."""
        N, half = len(self.labels), len(self.target)
        own = self.M[self.target, self.target].mean()
        cross = (N * self.eta / 4 - half * own) / (half * (half - 1))
        q = np.asarray(n) / N
        pattern = q * (own + (n - 1) * cross)
        noise = self.tau * var_sp + self.lam
        return STRENGTH * q * self.eta / (noise + STRENGTH * pattern)

    def general_law(self, var_sp: float, n: np.ndarray, eta: float | None = None) -> np.ndarray:
        """`theory.rare_reaction` at n of N rows, with the images' eta or another."""
        of = self.eta if eta is None else eta
        return theory.rare_reaction(of, STRENGTH, var_sp + self.lam, n / len(self.labels))

    def alone(self, var_sp: float) -> np.ndarray:
        """`(n,)`: the law's reaction to each target row as the only spurious one."""
        residuals, N = (self.M @ self.labels)[self.target], len(self.labels)
        own = self.M[self.target, self.target]
        noise = self.tau * var_sp + self.lam
        return STRENGTH * residuals / N / (noise + STRENGTH * own / N)

    def floor(self, var_sp: float) -> float:
        """Standard deviation of a clean model's reaction to the pattern."""
        spread = np.sqrt(
            STRENGTH * var_sp * np.mean((self.M @ self.labels) ** 2) / len(self.labels)
        )
        return float(spread / (self.tau * var_sp + self.lam))

    def repeated(
        self, var_sp: float, counts: Sequence[int], repeats: int, rng: np.random.Generator
    ) -> pd.DataFrame:
        """Reactions of models on drawn noise and rows (nested in n): `trial`, `n`, `difference`."""
        rows = []
        for trial in range(repeats):
            noise = rng.standard_normal((len(self.labels), COORDINATES)) * var_sp**0.5
            order = rng.permutation(self.target)
            still = self.M @ noise  # once for all counts: this product is what takes time
            found = [
                self.reaction(
                    self.spurious(order[:n], noise), still + self.M[:, order[:n]].sum(1)[:, None]
                )
                for n in counts
            ]
            rows += [dict(trial=trial, n=n, difference=x)
                     for n, x in zip(counts, found, strict=True)]  # fmt: skip
        return pd.DataFrame(rows)


def cloud_eta(X: np.ndarray, y: np.ndarray, lam: float) -> float:
    """Unexplained variance if both classes were isotropic Gaussian clouds of the same size."""
    means = {sign: X[y == sign].mean(0) for sign in (-1, 1)}
    m = (means[1] - means[-1]) / 2
    within = X - np.where(y[:, None] > 0, means[1], means[-1])
    a = within.var() + lam
    return float(a / (a + m @ m))


def first_above(counts: Sequence[float], means: np.ndarray, level: float) -> float:
    """Where a rising curve reaches a level, between the counts (by logarithms); NaN: nowhere.

    >>> first_above([1, 10], np.array([0.1, 1.0]), 0.5) > 1
    True
    """
    means = np.maximum.accumulate(np.maximum(means, 1e-12))
    if means[0] >= level:
        return float(counts[0])
    logs = np.log(level), np.log(means), np.log(counts)
    return float(np.exp(np.interp(*logs, right=np.nan)))
