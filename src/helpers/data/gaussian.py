"""Samples of the Gaussian models of which `theory` has the closed forms.

Source: two blocks as in Bombari & Mondelli 2024; mixtures after Lim, Kim & Moon 2025.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from helpers.data.blocks import TwoBlock, to_sphere
from helpers.theory import check_mixture, check_two_axis


def gaussian_two_block(
    n: int,
    d: int,
    alpha: float,
    *,
    seed: int | torch.Generator,
    normalise: bool = False,
    dtype: torch.dtype = torch.float32,
) -> TwoBlock:
    """Samples with iid N(0, 1) entries, x `(n, d - dy)` and y `(n, dy)` with dy = round(alpha d).

    Args:
        n: number of samples.
        d: numbers of both blocks.
        alpha: share of the spurious block.
        seed: of the draw; a generator passed here is advanced. Numbers are drawn in float64 and
            then converted, so one seed gives the same data in every dtype.
        normalise: scale each sample's blocks to norms sqrt(dx) and sqrt(dy).
        dtype: of both blocks.

    Raises:
        ValueError: no sample, a block without a coordinate, or a dtype that is not floating.

    Source: Bombari & Mondelli 2024.

    >>> sample = gaussian_two_block(3, 1000, 0.25, seed=0)
    >>> tuple(sample.x.shape), tuple(sample.y.shape), sample.alpha
    ((3, 750), (3, 250), 0.25)
    """
    dy = round(alpha * d) if 0 < alpha < 1 else 0
    if n < 1 or not 0 < dy < d:
        raise ValueError(
            f"n={n}, d={d}, alpha={alpha}: n must be at least 1, and alpha in (0, 1) "
            "such that round(alpha d) and d - round(alpha d) are both positive."
        )
    if not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}: normal numbers need a floating one")
    if not isinstance(seed, torch.Generator):
        seed = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d, generator=seed, dtype=torch.float64)
    blocks = z.split([d - dy, dy], dim=1)
    if normalise:
        blocks = map(to_sphere, blocks)
    return TwoBlock(*(block.to(dtype).contiguous() for block in blocks))


def linear_labels(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Labels g = sign(u'x) of rows x `(n, dx)`: +1 or -1 `(n,)` in x's dtype; 0 counts as +1.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.

    >>> linear_labels(torch.tensor([[1.0, 2.0], [-3.0, 1.0]]), torch.tensor([1.0, 1.0])).tolist()
    [1.0, -1.0]
    """
    if x.ndim != 2 or u.shape != x.shape[1:] or x.dtype != u.dtype:
        kinds = " and ".join(f"{a.dtype} of shape {tuple(a.shape)}" for a in (x, u))
        raise ValueError(f"x and u are {kinds}: expected one dtype, (n, d) and (d,)")
    along = x @ u
    if not bool(along.isfinite().all()):
        raise ValueError("x and u have a product that is not finite (NaN or infinity)")
    return torch.where(along >= 0, 1.0, -1.0).to(x.dtype)


class TwoAxisSample(NamedTuple):
    """Inputs `(n, 2 + extra)`, labels, bias and core attributes, all three `(n,)` of -1 and +1."""

    x: np.ndarray
    label: np.ndarray
    bias: np.ndarray
    core: np.ndarray

    @property
    def aligned(self) -> np.ndarray:
        """Where the bias attribute agrees with the label, `(n,)`."""
        return self.bias == self.label


def two_axis_sample(
    samples: int,
    rho: float,
    m_s: float,
    m_c: float,
    sigma_s: float,
    sigma_c: float,
    kappa: float = 1.0,
    *,
    extra: int = 0,
    noise: float = 1.0,
    seed: int = 0,
) -> TwoAxisSample:
    """Data of :func:`two_axis`: coordinate 0 is the shortcut, 1 the core, the rest is noise.

    The numbers of labels, and of aligned samples in either class, are exact up to rounding.

    Args:
        samples: n, at least 4.
        rho, m_s, m_c, sigma_s, sigma_c, kappa: as in :func:`two_axis`.
        extra: number of further coordinates of pure noise.
        noise: their standard deviation.
        seed: of the draw.

    Raises:
        ValueError: an argument outside its range.

    >>> sample = two_axis_sample(1_000, 0.9, 2, 1, 0.5, 0.5, extra=3)
    >>> sample.x.shape, float(sample.aligned.mean())
    ((1000, 5), 0.9)
    """
    check_two_axis(rho, m_s, m_c, sigma_s, sigma_c, kappa, 0.0, math.inf)
    if samples < 4 or extra < 0 or not 0 <= noise < math.inf:
        raise ValueError(
            f"samples is {samples}, extra {extra}, noise {noise}: expected at least 4, 0 and 0"
        )
    random = np.random.default_rng(seed)
    label = np.where(np.arange(samples) % 2 == 0, 1.0, -1.0)
    # within a class, the first aligned ones; the core is drawn independently of that
    rank = np.arange(samples) // 2
    bias = np.where(rank < round(rho * samples / 2), label, -label)
    core = np.where(random.random(samples) < kappa, label, -label)
    x = random.standard_normal((samples, 2 + extra))
    x *= np.r_[sigma_s, sigma_c, np.full(extra, noise)]
    x[:, 0] += m_s * bias
    x[:, 1] += m_c * core
    return TwoAxisSample(x, label, bias, core)


def gaussian_mixture(
    weights: np.ndarray, means: np.ndarray, variances: np.ndarray, samples: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws of a mixture, `(n, d)`, and the cluster of each, `(n,)`.

    Args:
        weights, means, variances: as in :func:`mixture_spectrum`.
        samples: n, at least 1.
        seed: of the draw.

    Raises:
        ValueError: as in :func:`mixture_spectrum`; fewer than one sample.
    """
    weights, means, variances = check_mixture(weights, means, variances)
    if samples < 1:
        raise ValueError(f"samples is {samples}: at least 1")
    random = np.random.default_rng(seed)
    cluster = random.choice(len(weights), samples, p=weights / weights.sum())
    x = random.standard_normal((samples, means.shape[1]))
    if variances.ndim == 1:
        x *= np.sqrt(variances)[cluster, None]
    else:
        values, vectors = np.linalg.eigh(variances)
        roots = (vectors * np.sqrt(values.clip(min=0))[:, None, :]) @ vectors.transpose(0, 2, 1)
        for k, root in enumerate(roots):
            x[cluster == k] = x[cluster == k] @ root
    return x + means[cluster], cluster
