"""Linear networks on mixtures of Gaussians, measured on samples against the closed forms.

A trial draws its own data from its number. Populations are never asked: what a trial returns is for
the chapters to hold against :mod:`helpers.theory.lim2025`. Linear algebra in float64: other
machines differ in the last digits, and where a sample lies on a threshold.
"""

import itertools
import math

import numpy as np
import torch

from helpers import data, theory
from helpers.sweep import Call, Cell, experiment, grid, pick

# the setting of the whole part: a strong shortcut, a weaker core
AXES = {"m_s": 2.0, "m_c": 1.0, "sigma_s": 0.7}
RHOS = (0.5, 0.8, 0.9, 0.95, 0.99)

# -- spectra of mixtures ---------------------------------------------------------------------------

# clusters in six directions that are not orthogonal, and what each holds of the data
CLUSTER_WEIGHTS = np.array([0.35, 0.25, 0.15, 0.12, 0.08, 0.05])
CLUSTER_VARIANCES = np.array([0.5, 1.0, 0.8, 1.2, 0.6, 1.5])
CLUSTER_NORMS = np.array([4.0, 3.5, 3.5, 3.0, 3.0, 3.0])
_BLOCK = 50_000


def cluster_means(dim: int, trial: int) -> np.ndarray:
    """Means `(6, dim)` in random directions, of lengths `CLUSTER_NORMS`."""
    directions = np.random.default_rng([7, trial]).standard_normal((6, dim))
    return CLUSTER_NORMS[:, None] * directions / np.linalg.norm(directions, axis=1, keepdims=True)


def sample_moment(
    weights: np.ndarray, means: np.ndarray, variances: np.ndarray, samples: int, trial: int
) -> np.ndarray:
    """Second moment `(d, d)` of a sample, drawn in blocks."""
    moment = np.zeros((means.shape[1],) * 2)
    for start in range(0, samples, _BLOCK):
        count = min(_BLOCK, samples - start)
        seed = int(np.random.default_rng([trial, start]).integers(2**31))
        x, _ = data.gaussian_mixture(weights, means, variances, count, seed)
        moment += x.T @ x
    return moment / samples


def _clusters_cells(profile: str) -> list[Cell]:
    # 400,000: the spread of 34 equal eigenvalues, 2 sqrt(d/n), has to be below 3 %
    samples = [20_000, 400_000] if profile != "smoke" else [20_000]
    return grid(samples=samples, dim=40, trial=range(pick(profile, 2, 5, 20)))


@experiment(
    "mixture_clusters",
    cells=_clusters_cells,
    tolerance=1e-6,
    cheap=lambda cell: cell["samples"] < 50_000,
    on_device=False,
)
def mixture_clusters(call: Call) -> dict[str, float]:
    """Proposition 3.1 on a sample: relative errors of eigenvalues, overlaps of eigenvectors."""
    means = cluster_means(call.dim, call.trial)
    law = theory.mixture_spectrum(CLUSTER_WEIGHTS, means, CLUSTER_VARIANCES)
    moment = sample_moment(CLUSTER_WEIGHTS, means, CLUSTER_VARIANCES, call.samples, call.trial)
    values, vectors = (part[..., ::-1] for part in np.linalg.eigh(moment))
    off = np.abs(values / law.values - 1)
    overlap = ((vectors * law.vectors).sum(0) ** 2)[:6]
    # directions without a mean share one eigenvalue: only their span can be compared
    bulk = (vectors[:, 6:].T @ law.vectors[:, 6:]) ** 2
    return {
        "spikes_off": float(off[:6].max()),
        "bulk_off": float(off[6:].max()),
        "bulk_mean_off": float(abs(values[6:].mean() / law.values[-1] - 1)),
        "overlap": float(overlap.min()),
        "bulk_overlap": float(bulk.sum() / (call.dim - 6)),
    }


def _weight_cells(profile: str) -> list[Cell]:
    weights = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
    samples, trials = pick(profile, (20_000, 2), (100_000, 5), (100_000, 20))
    return grid(weight=weights, norm=(1.0, 3.0), samples=samples, trial=range(trials))


@experiment(
    "mixture_weight", cells=_weight_cells, tolerance=1e-6, cheap=lambda cell: True, on_device=False
)
def mixture_weight(call: Call) -> dict[str, float]:
    """Eigenvalue along the axis of one pair of clusters, in 20 dimensions, as its weight grows.

    Three axes, clusters of variance 1 at both ends of each; the first has this weight and norm, the
    others share the rest at length 2.
    """
    weight, rest = call.weight, (1 - call.weight) / 2
    weights = np.repeat([weight, rest, rest], 2) / 2
    axes = np.eye(20)[:3] * np.array([call.norm, 2.0, 2.0])[:, None]
    means = np.concatenate([axes, -axes])[[0, 3, 1, 4, 2, 5]]
    moment = sample_moment(weights, means, np.ones(6), call.samples, call.trial)
    values, vectors = np.linalg.eigh(moment)
    own = (vectors[0] ** 2).argmax()
    return {"eigenvalue": float(values[own])}


# -- two axes --------------------------------------------------------------------------------------


def _two_axis_cells(profile: str) -> list[Cell]:
    samples, trials = pick(profile, (50_000, 2), (1_000_000, 10), (1_000_000, 20))
    common = dict(samples=samples, trial=range(trials))
    top = grid(rho=RHOS, m_s=2.0, m_c=1.0, sigma_s=(0.3, 0.7), sigma_c=0.7, **common)
    amplitudes = grid(rho=0.9, m_s=(0.5, 0.8, 1.25, 1.5, 3.0), m_c=1.0, sigma_s=0.7,
                      sigma_c=0.7, **common)  # fmt: skip
    spread = grid(rho=0.95, **AXES, sigma_c=(0.05, 0.25, 0.5, 0.75, 1.0, 1.5), **common)
    symmetric = [
        cell | {"sigma_s": sigma, "sigma_c": sigma}
        for sigma in (0.1, 0.5, 1.0)
        for cell in grid(rho=(0.8, 0.95), m_s=1.0, m_c=1.0, sigma_s=0.0, sigma_c=0.0, **common)
    ]
    return top + amplitudes + spread + symmetric


@experiment(
    "mixture_two_axis",
    cells=_two_axis_cells,
    tolerance=1e-5,
    cheap=lambda cell: True,
    on_device=False,
)
def mixture_two_axis(call: Call) -> dict[str, float]:
    """Spectrum, alignments, speed and result of training on one sample, tested on another."""
    setting = {name: call[name] for name in ("rho", "m_s", "m_c", "sigma_s", "sigma_c")}
    train = data.two_axis_sample(call.samples, **setting, seed=2 * call.trial)
    test = data.two_axis_sample(call.samples, **setting | {"rho": 0.5}, seed=2 * call.trial + 1)
    n = len(train.x)
    moment, on_label, on_bias = (train.x.T @ a / n for a in (train.x, train.label, train.bias))
    values, u = (part[..., ::-1] for part in np.linalg.eigh(moment))
    label_shares, bias_shares = ((u.T @ on) ** 2 / values for on in (on_label, on_bias))
    u = u * np.sign(u.T @ on_label)  # each feature points where the label is +1
    w = np.linalg.solve(moment, on_label)
    measured = {"mu": values, "label": label_shares, "bias": bias_shares}
    found = {f"{name}_{i + 1}": float(two[i]) for name, two in measured.items() for i in range(2)}
    for name, direction in (("first", u[:, 0]), ("trained", w)):
        right = (test.x @ direction) * test.label > 0
        found |= {f"{name}_aligned": float(right[test.aligned].mean())}
        found |= {f"{name}_conflicting": float(right[~test.aligned].mean())}
    return found | {
        "angle": float(math.atan2(u[1, 0], u[0, 0])),
        "reliance": float(w[0] * call.m_s / (w[1] * call.m_c)),
        "ratio_start": float((u.T @ on_label)[0] / (u.T @ on_label)[1]),
        "ratio_end": float((u.T @ w)[0] / (u.T @ w)[1]),
        **descent(moment, on_label, u),
    }


def descent(moment: np.ndarray, on_label: np.ndarray, u: np.ndarray) -> dict[str, float]:
    """Gradient descent on the mean squared error, seen along the two features.

    The half-lives are interpolated between steps, in units of 1 / (learning rate); `ratio_falls`
    is 1 where the ratio of the two coefficients fell in every step.
    """
    step = 0.02 / np.linalg.eigvalsh(moment)[-1]
    limit = u.T @ np.linalg.solve(moment, on_label)
    w, course = np.zeros(2), []
    while len(course) < 100_000:
        w = w - step * (moment @ w - on_label)
        course.append(u.T @ w)
        if (np.abs(course[-1]) > 0.55 * np.abs(limit)).all():
            break
    learnt = np.array([[0.0, 0.0], *course]) / limit
    halves = [float(np.interp(0.5, learnt[:, i], np.arange(len(learnt)))) * step for i in range(2)]
    ratios = np.array(course)[:, 0] / np.array(course)[:, 1]
    falls = float((np.diff(ratios) < 0).all())
    return {"half_1": halves[0], "half_2": halves[1], "ratio_falls": falls}


# -- few samples, many dimensions ------------------------------------------------------------------

FEW_AMPLITUDE, FEW_RHO = 3.0, 0.95  # both axes, noise 1 in every direction


def _few_cells(profile: str) -> list[Cell]:
    samples, trials = pick(profile, (200, 3), (1_000, 10), (2_000, 10))
    common = dict(samples=samples, trial=range(trials))
    plain = grid(ratio=(0.1, 0.3, 0.5, 3.0, 10.0), ridge=0.0, **common)
    return plain + grid(ratio=(0.5, 1.0, 3.0), ridge=1.0, **common)


@experiment(
    "mixture_few",
    cells=_few_cells,
    tolerance=1e-6,
    cheap=lambda cell: cell["ratio"] <= 1,
    on_device=False,
)
def mixture_few(call: Call) -> dict[str, float]:
    """Coefficients along the two axes of ridge regression with d = ratio x n."""
    samples, ridge, m = call.samples, call.ridge, FEW_AMPLITUDE
    extra = round(call.ratio * samples) - 2
    train = data.two_axis_sample(samples, FEW_RHO, m, m, 1, 1, extra=extra, seed=call.trial)
    x, y = train.x, train.label
    dim = x.shape[1]
    if dim <= samples:
        w = np.linalg.solve(x.T @ x / samples + ridge * np.eye(dim), x.T @ y / samples)
    else:  # the dual system: without a ridge, the smallest weights that fit
        w = x.T @ np.linalg.solve(x @ x.T / samples + ridge * np.eye(samples), y) / samples
    s, c = w[:2]
    return {"biased": float((s + c) / math.sqrt(2)), "light": float((c - s) / math.sqrt(2))}


# early stopping in full, up to where both features are learnt at every size
STOPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def _stopped_cells(profile: str) -> list[Cell]:
    samples, trials = pick(profile, (200, 3), (1_000, 10), (2_000, 10))
    return grid(ratio=(0.1, 0.5, 3.0), time=STOPS, samples=samples, trial=range(trials))


@experiment(
    "mixture_stopped",
    cells=_stopped_cells,
    tolerance=1e-6,
    cheap=lambda cell: cell["ratio"] <= 1,
    on_device=False,
)
def mixture_stopped(call: Call) -> dict[str, float]:
    """Gradient flow stopped at a time t, and ridge regression on the same draw, along the two axes.

    Exact, by the spectrum of the sample's second moment: the flow (learning rate 1, half the mean
    squared error, from zero) learns the share 1 - exp(-mu t) of each of its modes, a ridge k the
    share mu/(mu + k). The ridge is that which serves both coefficients best: it minimises the
    larger of their relative errors, the light one's over 3, since the law for few samples is held
    to 5 % and 15 %. `inverse_*`: the ridge 1/t.
    """
    m, time = FEW_AMPLITUDE, call.time
    extra = round(call.ratio * call.samples) - 2
    train = data.two_axis_sample(call.samples, FEW_RHO, m, m, 1, 1, extra=extra, seed=call.trial)
    _, singular, v = np.linalg.svd(train.x / math.sqrt(call.samples), full_matrices=False)
    mu = singular**2
    plane = np.array([[1, 1], [-1, 1]]) / math.sqrt(2)  # biased and light, on (shortcut, core)
    modes = (plane @ v[:, :2].T) * (v @ (train.x.T @ train.label / call.samples))
    stopped = modes @ (-np.expm1(-mu * time) / mu)
    ridges = np.geomspace(0.02, 20, 400) / time
    with_ridge = modes @ (1 / (mu[:, None] + ridges))
    off = np.abs(with_ridge / stopped[:, None] - 1) / np.array([[1.0], [3.0]])
    best = off.max(0).argmin()
    inverse = modes @ (1 / (mu + 1 / time))
    names = ("biased", "light")
    return {
        **{name: float(stopped[i]) for i, name in enumerate(names)},
        "ridge": float(ridges[best]),
        **{f"ridge_{name}": float(with_ridge[i, best]) for i, name in enumerate(names)},
        **{f"inverse_{name}": float(inverse[i]) for i, name in enumerate(names)},
    }


def _spike_cells(profile: str) -> list[Cell]:
    samples, trials = pick(profile, (200, 3), (1_000, 10), (2_000, 10))
    lifts = (0.25, 0.5, 1.5, 2.0, 3.0, 4.0, 6.0)
    return grid(lift=lifts, ratio=1.0, samples=samples, trial=range(trials))


@experiment(
    "mixture_spike", cells=_spike_cells, tolerance=1e-5, cheap=lambda cell: True, on_device=False
)
def mixture_spike(call: Call) -> dict[str, float]:
    """Largest eigenvalue of a sample with one lifted axis, and its vector's overlap with it."""
    samples, dim = call.samples, round(call.ratio * call.samples)
    x = np.random.default_rng(call.trial).standard_normal((samples, dim))
    x[:, 0] *= math.sqrt(1 + call.lift)
    gram = x.T @ x / samples if dim <= samples else x @ x.T / samples
    values, vectors = np.linalg.eigh(gram)
    top = vectors[:, -1] if dim <= samples else x.T @ vectors[:, -1]
    return {"eigenvalue": float(values[-1]), "overlap": float(top[0] ** 2 / (top @ top))}


# -- deep linear networks --------------------------------------------------------------------------

DEEP_STEPS = 2_000


def _deep_cells(profile: str) -> list[Cell]:
    widths = pick(profile, (64,), (128, 512), (128, 512, 2_048))
    return grid(depth=(1, 2, 3), width=widths, trial=range(pick(profile, 2, 5, 5)))


@experiment(
    "deep_linear",
    cells=_deep_cells,
    tolerance=1e-3,
    cheap=lambda cell: cell["width"] <= 128,
    on_device=False,
)
def deep_linear(call: Call) -> dict[str, float]:
    """A linear network of finite width, trained on the population of the two-axis mixture.

    Standard Gaussian weights, each layer over the root of its fan-in, but for the first (NTK
    parametrisation); what it says before training is taken off. The law: kernel depth x <x, x'>,
    so that both features are learnt depth times as fast as by one layer.
    """
    depth, width = call.depth, call.width
    law = theory.two_axis(0.9, **AXES, sigma_c=0.7)
    moment = torch.from_numpy(
        theory.mixture_spectrum(*two_axis_clusters(0.9, **AXES, sigma_c=0.7)).moment
    )
    target = torch.tensor([0.8 * AXES["m_s"], AXES["m_c"]], dtype=torch.float64)
    draw = torch.Generator().manual_seed(call.trial)
    sizes = [2, *[width] * (depth - 1), 1]
    layers = [
        torch.randn(out, into, dtype=torch.float64, generator=draw).requires_grad_()
        for into, out in itertools.pairwise(sizes)
    ]

    def slope() -> torch.Tensor:
        product = layers[0]
        for layer in layers[1:]:
            product = layer @ product / math.sqrt(width)
        return product[0]

    start = slope().detach().clone()
    kernel = _tangent_moment(slope(), layers)
    cos, sin = math.cos(law.angle), math.sin(law.angle)
    u = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    step, course = 0.02 / (depth * law.eigenvalues[0]), []
    for _ in range(DEEP_STEPS):
        w = slope() - start
        course.append((u.T @ w.detach()).numpy())
        if len(course) > 1 and (course[-1] > 0.55 * np.array(law.coefficients)).all():
            break
        loss = w @ moment @ w / 2 - target @ w
        for layer, gradient in zip(layers, torch.autograd.grad(loss, layers), strict=True):
            layer.data -= step * gradient
    learnt = np.array(course) / law.coefficients
    times = step * np.arange(len(learnt))
    return {
        **{f"half_{i + 1}": float(np.interp(0.5, learnt[:, i], times)) for i in range(2)},
        **{f"law_{i + 1}": math.log(2) / (depth * law.eigenvalues[i]) for i in range(2)},
        "kernel_off": float((kernel / depth - torch.eye(2)).norm() / math.sqrt(2)),
    }


def _tangent_moment(slope: torch.Tensor, layers: list[torch.Tensor]) -> torch.Tensor:
    """The kernel as a matrix `(2, 2)` between the two inputs e_1 and e_2."""
    rows = [torch.autograd.grad(part, layers, retain_graph=True) for part in slope]
    flat = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    return flat @ flat.T


def two_axis_clusters(
    rho: float, m_s: float, m_c: float, sigma_s: float, sigma_c: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two-axis mixture as weights, means and covariances of its four clusters."""
    means = np.array([[b * m_s, c * m_c] for b, c in ((1, 1), (-1, -1), (1, -1), (-1, 1))])
    weights = np.array([rho, rho, 1 - rho, 1 - rho]) / 2
    kept = weights > 0
    covariances = np.broadcast_to(np.diag([sigma_s**2, sigma_c**2]), (4, 2, 2))
    return weights[kept], means[kept], covariances[kept]
