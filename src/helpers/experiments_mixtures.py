"""The experiments of Part IV on linear networks: mixtures of Gaussians, and digits with one kernel.

A trial draws its own data from its number. Populations are never asked: what a trial returns is
measured on samples, for the chapters to hold against the closed forms of `helpers.mixtures`.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
import torch

from helpers import biased, data, losses, mixtures
from helpers.sweep import Cell, Experiment, register

# the setting of the whole part: a strong shortcut, a weaker core
AXES = {"m_s": 2.0, "m_c": 1.0, "sigma_s": 0.7}
RHOS = (0.5, 0.8, 0.9, 0.95, 0.99)
LOSSES = (("logistic", 0.0), ("squared", 0.0), ("sd", 0.1), ("marg_log", 0.5), ("sigma_damp", 2.0))

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
        x, _ = mixtures.gaussian_mixture(weights, means, variances, count, seed)
        moment += x.T @ x
    return moment / samples


def mixture_clusters(samples: int, dim: int, trial: int) -> dict[str, float]:
    """Proposition 3.1 on a sample: relative errors of eigenvalues, overlaps of eigenvectors."""
    means = cluster_means(dim, trial)
    law = mixtures.mixture_spectrum(CLUSTER_WEIGHTS, means, CLUSTER_VARIANCES)
    moment = sample_moment(CLUSTER_WEIGHTS, means, CLUSTER_VARIANCES, samples, trial)
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
        "bulk_overlap": float(bulk.sum() / (dim - 6)),
    }


def mixture_weight(weight: float, norm: float, samples: int, trial: int) -> dict[str, float]:
    """Eigenvalue along the axis of one pair of clusters, in 20 dimensions, as its weight grows.

    Three axes, clusters of variance 1 at both ends of each; the first has this weight and norm, the
    others share the rest at length 2.
    """
    rest = (1 - weight) / 2
    weights = np.repeat([weight, rest, rest], 2) / 2
    axes = np.eye(20)[:3] * np.array([norm, 2.0, 2.0])[:, None]
    means = np.concatenate([axes, -axes])[[0, 3, 1, 4, 2, 5]]
    values, vectors = np.linalg.eigh(sample_moment(weights, means, np.ones(6), samples, trial))
    own = (vectors[0] ** 2).argmax()
    return {"eigenvalue": float(values[own])}


# -- two axes --------------------------------------------------------------------------------------


def mixture_two_axis(
    rho: float,
    m_s: float,
    m_c: float,
    sigma_s: float,
    sigma_c: float,
    samples: int,
    trial: int,
) -> dict[str, float]:
    """Spectrum, alignments, speed and result of training on one sample, tested on another."""
    setting = dict(rho=rho, m_s=m_s, m_c=m_c, sigma_s=sigma_s, sigma_c=sigma_c)
    train = mixtures.two_axis_sample(samples, **setting, seed=2 * trial)
    test = mixtures.two_axis_sample(samples, **setting | {"rho": 0.5}, seed=2 * trial + 1)
    n = len(train.x)
    moment, on_label, on_bias = (train.x.T @ a / n for a in (train.x, train.label, train.bias))
    values, u = (part[..., ::-1] for part in np.linalg.eigh(moment))
    label_shares, bias_shares = ((u.T @ on) ** 2 / values for on in (on_label, on_bias))
    u = u * np.sign(u.T @ on_label)  # each feature points where the label is +1
    w = np.linalg.solve(moment, on_label)
    found = {f"mu_{i + 1}": float(values[i]) for i in range(2)}
    found |= {f"label_{i + 1}": float(label_shares[i]) for i in range(2)}
    found |= {f"bias_{i + 1}": float(bias_shares[i]) for i in range(2)}
    for name, direction in (("first", u[:, 0]), ("trained", w)):
        right = (test.x @ direction) * test.label > 0
        found |= {f"{name}_aligned": float(right[test.aligned].mean())}
        found |= {f"{name}_conflicting": float(right[~test.aligned].mean())}
    return found | {
        "angle": float(math.atan2(u[1, 0], u[0, 0])),
        "reliance": float(w[0] * m_s / (w[1] * m_c)),
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
    return {
        "half_1": halves[0],
        "half_2": halves[1],
        "ratio_falls": float((np.diff(ratios) < 0).all()),
    }


# -- few samples, many dimensions ------------------------------------------------------------------

FEW_AMPLITUDE, FEW_RHO = 3.0, 0.95  # both axes, noise 1 in every direction


def mixture_few(ratio: float, ridge: float, samples: int, trial: int) -> dict[str, float]:
    """Coefficients along the two axes of ridge regression with d = ratio x n."""
    m = FEW_AMPLITUDE
    extra = round(ratio * samples) - 2
    train = mixtures.two_axis_sample(samples, FEW_RHO, m, m, 1, 1, extra=extra, seed=trial)
    x, y = train.x, train.label
    dim = x.shape[1]
    if dim <= samples:
        w = np.linalg.solve(x.T @ x / samples + ridge * np.eye(dim), x.T @ y / samples)
    else:  # the dual system: without a ridge, the smallest weights that fit
        w = x.T @ np.linalg.solve(x @ x.T / samples + ridge * np.eye(samples), y) / samples
    s, c = w[:2]
    return {"biased": float((s + c) / math.sqrt(2)), "light": float((c - s) / math.sqrt(2))}


def mixture_spike(lift: float, ratio: float, samples: int, trial: int) -> dict[str, float]:
    """Largest eigenvalue of a sample with one lifted axis, and its vector's overlap with it."""
    dim = round(ratio * samples)
    x = np.random.default_rng(trial).standard_normal((samples, dim))
    x[:, 0] *= math.sqrt(1 + lift)
    gram = x.T @ x / samples if dim <= samples else x @ x.T / samples
    values, vectors = np.linalg.eigh(gram)
    top = vectors[:, -1] if dim <= samples else x.T @ vectors[:, -1]
    return {"eigenvalue": float(values[-1]), "overlap": float(top[0] ** 2 / (top @ top))}


# -- deep linear networks --------------------------------------------------------------------------

DEEP_STEPS = 2_000


def deep_linear(depth: int, width: int, trial: int) -> dict[str, float]:
    """A linear network of finite width, trained on the population of the two-axis mixture.

    Standard Gaussian weights, each layer over the root of its fan-in, but for the first (NTK
    parametrisation); what it says before training is taken off. The law: kernel depth x <x, x'>,
    so that both features are learnt depth times as fast as by one layer.
    """
    law = mixtures.two_axis(0.9, **AXES, sigma_c=0.7)
    moment = torch.from_numpy(
        mixtures.mixture_spectrum(*two_axis_clusters(0.9, **AXES, sigma_c=0.7)).moment
    )
    target = torch.tensor([0.8 * AXES["m_s"], AXES["m_c"]], dtype=torch.float64)
    draw = torch.Generator().manual_seed(trial)
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
    halves = [float(np.interp(0.5, learnt[:, i], times)) for i in range(2)]
    return {
        "half_1": halves[0],
        "half_2": halves[1],
        "law_1": math.log(2) / (depth * law.eigenvalues[0]),
        "law_2": math.log(2) / (depth * law.eigenvalues[1]),
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


# -- margin control --------------------------------------------------------------------------------


def margin_mixture(
    loss: str, strength: float, rho: float, sigma_c: float, samples: int, trial: int
) -> dict[str, float]:
    """A linear network trained to the end with one loss on the two-axis mixture."""
    setting = dict(**AXES, sigma_c=sigma_c)
    train = mixtures.two_axis_sample(samples, rho, **setting, seed=trial)
    w = losses.fit_linear(train.x, train.label, losses.named(loss, strength)).weights
    aligned, conflicting = mixtures.linear_accuracies(*w, **setting)
    return {
        "reliance": float(w[0] * AXES["m_s"] / (w[1] * AXES["m_c"])),
        "margin_cv": losses.margin_cv(torch.from_numpy(train.x @ w * train.label)),
        "train_accuracy": float((train.x @ w * train.label > 0).mean()),
        "aligned": float(aligned),
        "conflicting": float(conflicting),
    }


PULI = {"rho": 0.9, "m_s": 10.0, "m_c": 1.0, "sigma_s": 0.0}


def margin_puli(
    loss: str, strength: float, core: float, samples: int, dim: int, steps: int, trial: int
) -> dict[str, float]:
    """The linear task of Puli et al.: a noiseless shortcut of size 10, full-batch Adam.

    `core` is the standard deviation of the core feature within a class, 0 in their task.
    """
    draw = dict(**PULI, sigma_c=core, extra=dim - 2)
    train = mixtures.two_axis_sample(samples, **draw, seed=2 * trial)
    test = mixtures.two_axis_sample(4_000, **draw | {"rho": 0.5}, seed=2 * trial + 1)
    chosen = losses.named(loss, strength)
    w = losses.fit_linear(
        train.x, train.label, chosen, method="adam", iterations=steps, step=0.01
    ).weights
    right = test.x @ w * test.label > 0
    return {
        "reliance": float(abs(PULI["m_s"] * w[0]) / abs(w[1])),
        "margin_cv": losses.margin_cv(torch.from_numpy(train.x @ w * train.label)),
        "train_accuracy": float((train.x @ w * train.label > 0).mean()),
        "aligned": float(right[test.aligned].mean()),
        "conflicting": float(right[~test.aligned].mean()),
    }


@lru_cache(maxsize=2)
def _digits(
    task: str, source: str, rho: float, samples: int, trial: int, data_dir: str | None
) -> tuple[torch.Tensor, torch.Tensor, biased.Biased, biased.Biased, str]:
    make = {"patched": biased.patched_mnist, "colored": biased.colored_mnist}[task]
    loaded = [data.load(source, train=train, data_dir=data_dir) for train in (True, False)]
    held_out = min(2_000, 2 * (len(loaded[1].labels) // 4))
    train, test = biased.train_and_test(make, loaded, rho, (samples, held_out), trial)
    x, x_test = biased.centred(train, test)
    return x.double(), x_test.double(), train, test, loaded[0].source


def margin_digits(
    task: str,
    source: str,
    loss: str,
    strength: float,
    rho: float,
    samples: int,
    steps: int,
    trial: int,
    data_dir: str | None,
) -> dict[str, float | str]:
    """Gradient descent with the linear kernel on Patched-MNIST or Colored-MNIST, with one loss.

    `task`: "patched" or "colored"; `source`: "mnist" or "mnist5k". Inputs are centred.
    """
    x, x_test, train, test, name = _digits(task, source, rho, samples, trial, data_dir)
    chosen = losses.named(loss, strength)
    K = x @ x.T
    fitted = losses.fit_kernel(K, train.label, chosen, steps=steps)
    outputs = fitted.outputs[-1]
    # energy of the output in the mode nearest to the bias attribute
    values, vectors = torch.linalg.eigh(x.T @ x)
    modes = x @ vectors.flip(1)[:, :20] / values.flip(0)[:20].sqrt()
    shortcut = modes[:, (modes.T @ train.attribute.double()).abs().argmax()]
    on_test = x_test @ (x.T @ fitted.coefficients[-1])
    aligned, conflicting = biased.group_accuracies(on_test, test)
    return {
        "margin_cv": losses.margin_cv(outputs * train.label),
        "share": float((shortcut @ outputs) ** 2 / outputs.square().sum()),
        "train_accuracy": float((outputs * train.label > 0).double().mean()),
        "aligned": aligned,
        "conflicting": conflicting,
        "data_source": name,
    }


# -- grids -----------------------------------------------------------------------------------------


def grid(**axes: object) -> list[Cell]:
    """All combinations; what is not a list or tuple is the same in every cell.

    >>> grid(a=1, trial=(0, 1))
    [{'a': 1, 'trial': 0}, {'a': 1, 'trial': 1}]
    """
    listed = {k: v if isinstance(v, list | tuple | range) else [v] for k, v in axes.items()}
    return [dict(zip(listed, point, strict=True)) for point in itertools.product(*listed.values())]


def _trials(profile: str, smoke: int, laptop: int, paper: int) -> range:
    return range({"smoke": smoke, "laptop": laptop, "paper": paper}[profile])


def mixture_clusters_cells(profile: str) -> list[Cell]:
    # 400,000: the spread of 34 equal eigenvalues, 2 sqrt(d/n), has to be below 3 %
    samples = [20_000, 400_000] if profile != "smoke" else [20_000]
    return grid(samples=samples, dim=40, trial=_trials(profile, 2, 5, 20))


def mixture_weight_cells(profile: str) -> list[Cell]:
    samples = {"smoke": 20_000, "laptop": 100_000, "paper": 100_000}[profile]
    weights = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
    return grid(weight=weights, norm=(1.0, 3.0), samples=samples, trial=_trials(profile, 2, 5, 20))


def mixture_two_axis_cells(profile: str) -> list[Cell]:
    samples = {"smoke": 50_000, "laptop": 1_000_000, "paper": 1_000_000}[profile]
    common = dict(samples=samples, trial=_trials(profile, 2, 10, 20))
    top = grid(rho=RHOS, m_s=2.0, m_c=1.0, sigma_s=(0.3, 0.7), sigma_c=0.7, **common)
    availability = grid(rho=0.9, m_s=(0.5, 0.8, 1.25, 1.5, 3.0), m_c=1.0, sigma_s=0.7,
                        sigma_c=0.7, **common)  # fmt: skip
    spread = grid(rho=0.95, m_s=2.0, m_c=1.0, sigma_s=0.7,
                  sigma_c=(0.05, 0.25, 0.5, 0.75, 1.0, 1.5), **common)  # fmt: skip
    symmetric = [
        cell | {"sigma_s": sigma, "sigma_c": sigma}
        for sigma in (0.1, 0.5, 1.0)
        for cell in grid(rho=(0.8, 0.95), m_s=1.0, m_c=1.0, sigma_s=0.0, sigma_c=0.0, **common)
    ]
    return top + availability + spread + symmetric


def mixture_few_cells(profile: str) -> list[Cell]:
    samples = {"smoke": 200, "laptop": 1_000, "paper": 2_000}[profile]
    trials = _trials(profile, 3, 10, 10)
    plain = grid(ratio=(0.1, 0.3, 0.5, 3.0, 10.0), ridge=0.0, samples=samples, trial=trials)
    return plain + grid(ratio=(0.5, 1.0, 3.0), ridge=1.0, samples=samples, trial=trials)


def mixture_spike_cells(profile: str) -> list[Cell]:
    samples = {"smoke": 200, "laptop": 1_000, "paper": 2_000}[profile]
    lifts = (0.25, 0.5, 1.5, 2.0, 3.0, 4.0, 6.0)
    return grid(lift=lifts, ratio=1.0, samples=samples, trial=_trials(profile, 3, 10, 10))


def deep_linear_cells(profile: str) -> list[Cell]:
    widths = {"smoke": (64,), "laptop": (128, 512), "paper": (128, 512, 2_048)}[profile]
    return grid(depth=(1, 2, 3), width=widths, trial=_trials(profile, 2, 5, 5))


def margin_mixture_cells(profile: str) -> list[Cell]:
    samples = {"smoke": 20_000, "laptop": 200_000, "paper": 200_000}[profile]
    cells = grid(rho=0.95, sigma_c=(0.05, 0.25, 0.5, 0.75, 1.0, 1.5), samples=samples,
                 trial=_trials(profile, 2, 10, 20))  # fmt: skip
    return [{"loss": loss, "strength": k} | cell for loss, k in LOSSES for cell in cells]


def margin_puli_cells(profile: str) -> list[Cell]:
    steps = {"smoke": 500, "laptop": 10_000, "paper": 10_000}[profile]
    size = {"samples": 150, "dim": 40} if profile == "smoke" else {"samples": 1_000, "dim": 300}
    cores = (0.0, 0.5) if profile == "smoke" else (0.0, 0.25, 0.5, 1.0)
    cells = grid(core=cores, **size, steps=steps, trial=_trials(profile, 2, 5, 10))
    return [{"loss": loss, "strength": k} | cell for loss, k in LOSSES for cell in cells]


def margin_digits_cells(profile: str) -> list[Cell]:
    source, samples, steps = {
        "smoke": ("mnist5k", 600, 400),
        "laptop": ("mnist", 1_500, 3_000),
        "paper": ("mnist", 1_500, 3_000),
    }[profile]
    cells = grid(task=("patched", "colored"), source=source, rho=0.9, samples=samples, steps=steps,
                 trial=_trials(profile, 1, 5, 10))  # fmt: skip
    return [cell | {"loss": loss, "strength": k} for cell in cells for loss, k in LOSSES[:4]]


# Linear algebra in float64: other machines differ in the last digits, and where a sample lies on a
# threshold. Adam and L-BFGS amplify these on separable data.
for _trial, _cells, _tolerance, _cheap in (
    (mixture_clusters, mixture_clusters_cells, 1e-6, lambda cell: cell["samples"] < 50_000),
    (mixture_weight, mixture_weight_cells, 1e-6, lambda cell: True),
    (mixture_two_axis, mixture_two_axis_cells, 1e-5, lambda cell: True),
    (mixture_few, mixture_few_cells, 1e-6, lambda cell: cell["ratio"] <= 1),
    (mixture_spike, mixture_spike_cells, 1e-5, lambda cell: True),
    (deep_linear, deep_linear_cells, 1e-3, lambda cell: cell["width"] <= 128),
    (margin_mixture, margin_mixture_cells, 0.02, lambda cell: cell["sigma_c"] > 0.3),
    (margin_puli, margin_puli_cells, 0.02, lambda cell: False),
    (margin_digits, margin_digits_cells, 0.02, lambda cell: False),
):
    register(Experiment(_trial.__name__, _trial, _cells, tolerance=_tolerance, cheap=_cheap))
