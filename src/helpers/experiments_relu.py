"""Experiments of Part IV on two-layer ReLU networks: their kernel, and networks of finite width.

Inputs are centred with the training mean, labels are -1 and +1, and every accuracy is measured on a
balanced test set, apart on aligned and conflicting images. The *shortcut* is the feature with the
largest share of the bias attribute among the leading ones; it is not the first feature, since the
ReLU kernel starts with one of constant sign.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import torch

from helpers import biased, data, kernels, losses, mixtures, spectra
from helpers.biased import Biased
from helpers.sweep import Cell, Experiment, register

KINDS = {"patched": data.patched_mnist, "colored": data.colored_mnist}
LISTED = 8  # modes whose numbers are stored one by one
LEADING = 50  # modes that are looked at
CLOCK = (1, 10, 100, 1_000)  # times of training, in time constants of the shortcut
RHOS = (0.5, 0.8, 0.9, 0.95, 0.99)
CORE = 0.05  # share of the conflicting labels from which a feature counts as one that helps


# -- what is measured on a kernel -----------------------------------------------------------------


class Task(NamedTuple):
    """Training and test set, their kernel blocks (float32), and where the data come from."""

    train: Biased
    test: Biased
    K: torch.Tensor
    K_test: torch.Tensor
    source: str


class Shortcut(NamedTuple):
    """The leading features of a task and which of them is the shortcut (counted from 0)."""

    features: spectra.Eigenfeatures
    bias: torch.Tensor
    label: torch.Tensor
    index: int


def find_shortcut(K: torch.Tensor, train: Biased, modes: int = LEADING) -> Shortcut:
    """Leading features with their shares of bias attribute and label.

    >>> train = Biased(torch.zeros(2, 1), torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0]))
    >>> K = torch.tensor([[3.0, 1.0], [1.0, 3.0]])            # the mean first, then the difference
    >>> find_shortcut(K, train, 2).index
    1
    """
    features = spectra.eigenfeatures(K, train.label, modes=min(modes, len(K)))
    bias = spectra.alignment(features.vectors, train.attribute)
    label = spectra.alignment(features.vectors, train.label)
    return Shortcut(features, bias, label, int(bias.argmax()))


class Core(NamedTuple):
    """How much each mode helps on conflicting samples, `(k,)` each; 0 where it does not.

    share     squared alignment with the labels of the conflicting samples, zero elsewhere; a whole
              basis shares 1
    cosine    the same for the mode's conflicting entries alone, each mode on its own scale
    """

    share: torch.Tensor
    cosine: torch.Tensor


def core_shares(vectors: torch.Tensor, train: Biased) -> Core:
    """What modes know of the labels of conflicting samples.

    A mode helps where its term in the output points to the right side on them. Ours: the paper's
    measure is not known. The two columns differ in what they divide by.

    >>> y, b = torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([1.0, -1.0, -1.0, 1.0])
    >>> modes = torch.stack([b, y], 1) / 2
    >>> core_shares(modes, Biased(torch.zeros(4, 1), y, b)).share.tolist()   # b helps nobody here
    [0.0, 0.5]
    """
    labels, conflicting = train.label.to(vectors), ~train.aligned.to(vectors.device)
    if not bool(conflicting.any()):
        raise ValueError("no sample is conflicting: there is nothing that a mode could help")
    inside = vectors[conflicting]
    along = inside.T @ labels[conflicting]
    helps = along * (vectors.T @ labels) > 0
    share = along.square() / conflicting.sum()
    cosine = share / inside.square().sum(0).clamp_min(torch.finfo(vectors.dtype).tiny)
    return Core(*(torch.where(helps, part, 0) for part in (share, cosine)))


def full_training(task: Task, ridge: float = 0.0) -> torch.Tensor:
    """Test outputs of kernel regression, the limit of training; `ridge` adds to the diagonal."""
    K = task.K.double()
    K.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(K)
    y = task.train.label.to(K)[:, None]
    return task.K_test.double() @ torch.cholesky_solve(y, factor)[:, 0]


def time_course(task: Task, rate: float, times: tuple[float, ...]) -> torch.Tensor:
    r"""Test outputs `(times, m)` under gradient flow, :math:`1 - e^{-\lambda t}` of each feature.

    Args:
        task: what is learnt.
        rate: eigenvalue whose inverse is the unit of time.
        times: in these units.
    """

    def after(time: float, values: torch.Tensor) -> torch.Tensor:
        exponent = values * time / rate
        return torch.where(exponent > 1e-12, -torch.expm1(-exponent) / values, time / rate)

    filters = [lambda values, time=time: after(time, values) for time in times]
    coefficients = spectra.krylov_filters(task.K, task.train.label, filters)
    return coefficients.to(task.K_test) @ task.K_test.T


def test_energy(features: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Shares of the leading features in the output's energy; all other modes count as one term.

    Args:
        features: `(m, k)` terms of the leading modes at the test points.
        output: `(m,)` their sum with all others.
    """
    rest = output - features.sum(1)
    return spectra.energy_shares(torch.cat([features, rest[:, None]], 1))[:-1]


test_energy.__test__ = False  # no test of pytest's


# -- digits with a patch, digits in colour --------------------------------------------------------


@lru_cache(maxsize=2)
def _digits(dataset: str, train: bool, data_dir: str | None) -> data.Dataset:
    return data.load(dataset, train=train, data_dir=data_dir)


def digit_sets(
    kind: str, dataset: str, rho: float, samples: int, test: int, trial: int, data_dir: str | None
) -> tuple[Biased, Biased, str]:
    """Training set, balanced test set, and the source of the digits."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: allowed are {', '.join(map(repr, KINDS))}")
    splits = [_digits(dataset, train, data_dir) for train in (True, False)]
    train, held_out = biased.train_and_test(KINDS[kind], splits, rho, (samples, test), trial)
    return train, held_out, splits[0].source


@lru_cache(maxsize=1)
def digit_task(
    kind: str,
    dataset: str,
    rho: float,
    samples: int,
    test: int,
    trial: int,
    device: str,
    data_dir: str | None,
) -> Task:
    """Digits with the closed-form kernel of a two-layer ReLU network."""
    train, held_out, source = digit_sets(kind, dataset, rho, samples, test, trial, data_dir)
    X, X_test = (rows.to(device) for rows in biased.centred(train, held_out))
    K = kernels.relu_ntk(X)
    return Task(train, held_out, K, kernels.relu_ntk(X_test, X), source)


def patch_axes(train: Biased) -> tuple[float, float, float]:
    r"""The two-axis model of patched digits: m_s, m_c, sigma_c.

    The patch moves 32 pixels by a half either way, so :math:`m_s = \sqrt{32}/2`. The core axis is
    that of the class means once the corners are painted over; m_c is half the distance of the means
    and sigma_c the spread within the classes along it.
    """
    images = train.images.clone()
    images[:, :, : biased.PATCH, : biased.PATCH] = 0
    images[:, :, : biased.PATCH, -biased.PATCH :] = 0
    rows, y = images.flatten(1).double(), train.label.double()
    half = (rows[y > 0].mean(0) - rows[y < 0].mean(0)) / 2
    m_c = float(half.norm())
    along = (rows - rows.mean(0)) @ half / m_c
    m_s = math.sqrt(2 * biased.PATCH**2) / 2
    return m_s, m_c, math.sqrt(max(float(along.square().mean()) - m_c**2, 0))


def linear_top(train: Biased, rho: float) -> dict[str, float]:
    """Top eigenvalue of the linear kernel on patched digits over n, and the two-axis law."""
    (X,) = biased.centred(train)
    measured = spectra.top_modes(X.double().T @ X.double() / len(X), 1, tolerance=1e-9).values[0]
    m_s, m_c, sigma_c = patch_axes(train)
    # the patch has no noise; at rho = 1 a trace of it keeps the law's matrix regular
    law = mixtures.two_axis(rho, m_s, m_c, 1e-6, sigma_c).eigenvalues[0]
    return {"linear_mu": float(measured), "linear_law": float(law)}


def implicit_ridge(train: Biased) -> float:
    r"""What the ReLU kernel adds to its own diagonal, :math:`(1 - \frac{5}{2\pi})R^2`.

    R^2 is the mean square norm of the centred inputs. Where these are nearly orthogonal, what the
    kernel has beyond the second degree in their cosine stays on the diagonal, like a ridge.

    Source: our derivation.

    >>> one = torch.ones(2)
    >>> round(implicit_ridge(Biased(torch.tensor([[1.0], [-1.0]]), one, one)), 4)
    0.2042
    """
    return (1 - 2.5 / math.pi) * float(train.rows.var(0, correction=0).sum())


def relu_digits(
    kind: str,
    dataset: str,
    rho: float,
    samples: int,
    test: int,
    reference: int,
    trial: int,
    device: str,
    data_dir: str | None,
) -> dict[str, float | str]:
    """Features of the two-layer ReLU kernel on digits, and the output that they add up to."""
    task = digit_task(kind, dataset, rho, samples, test, trial, device, data_dir)
    features, bias, label, index = find_shortcut(task.K, task.train)
    terms = features.on(task.K_test)
    final = full_training(task)
    energy = test_energy(terms, final.to(terms))
    core = core_shares(features.vectors, task.train).share
    found: dict[str, float | str] = {
        "index": index + 1,
        "first_changing": spectra.first_sign_changing(features.vectors) + 1,
        "span": spectra.shortcut_span(bias),
        "subspace": float(bias.topk(2).values.sum()),
    }
    for i in range(min(LISTED, len(features))):
        aligned, conflicting = biased.group_accuracies(terms[:, i], task.test)
        found |= {
            f"mu_{i + 1}": float(features.values[i]) / samples,
            f"bias_{i + 1}": float(bias[i]),
            f"label_{i + 1}": float(label[i]),
            f"core_{i + 1}": float(core[i]),
            f"energy_{i + 1}": float(energy[i]),
            f"aligned_{i + 1}": aligned,
            f"conflicting_{i + 1}": conflicting,
        }
    outputs = {
        "mode": terms[:, index],
        "first10": terms[:, :10].sum(1),
        "leading": terms.sum(1),
        "full": final,
        "ridge": full_training(task, ridge=1e-4 * float(features.values[0])),
        # the ridge over n that a kernel of `reference` images has by itself
        "as": full_training(task, ridge=implicit_ridge(task.train) * (samples / reference - 1)),
    }
    rate = float(features.values[index])
    course = time_course(task, rate, CLOCK)
    outputs |= {f"t{time}": f for time, f in zip(CLOCK, course, strict=True)}
    for name, f in outputs.items():
        groups = zip(("aligned", "conflicting"), biased.group_accuracies(f, task.test), strict=True)
        found |= {f"{group}_{name}": accuracy for group, accuracy in groups}
    found |= {
        "mu": rate / samples,
        "bias": float(bias[index]),
        "label": float(label[index]),
        "energy": float(energy[index]),
        "energy_other": float(torch.cat([energy[:index], energy[index + 1 :]]).max()),
        "perron_law": float(task.train.rows.var(0, correction=0).sum()) / math.pi,
    }
    linear = {"linear_mu": math.nan, "linear_law": math.nan}
    if kind == "patched":
        linear = linear_top(task.train, rho)
    return found | linear | {"data_source": task.source}


def relu_digits_cells(profile: str) -> list[Cell]:
    dataset, samples, test, trials = {
        "smoke": ("mnist5k", 500, 600, 2),
        "laptop": ("mnist", 5_000, 2_000, 5),
        "paper": ("mnist", 10_000, 4_000, 10),
    }[profile]
    sizes = [200, samples] if profile == "smoke" else [500, 1_500, samples]
    grid = [(size, rho) for size in sizes for rho in RHOS]
    if profile == "smoke":
        grid = [(size, rho) for size, rho in grid if size == samples or rho in (0.5, 0.9, 0.99)]
    return [
        dict(kind=kind, dataset=dataset, rho=rho, samples=size, test=test, reference=sizes[0],
             trial=trial)
        for kind, trial, (size, rho) in itertools.product(KINDS, range(trials), grid)
    ]  # fmt: skip


# -- the mixture of the linear chapters -----------------------------------------------------------


@lru_cache(maxsize=1)
def mixture_task(samples: int, dim: int, rho: float, test: int, trial: int, device: str) -> Task:
    """The mixture with m_s = 2, m_c = 1 and spread 0.7 everywhere, and its ReLU kernel."""
    sets = []
    for size, share, seed in ((samples, rho, trial), (test, 0.5, trial + 10_000)):
        drawn = mixtures.two_axis_sample(
            size, share, 2.0, 1.0, 0.7, 0.7, extra=dim - 2, noise=0.7, seed=seed
        )
        tensors = (torch.from_numpy(part).float() for part in (drawn.x, drawn.label, drawn.bias))
        sets.append(Biased(*tensors))
    train, held_out = sets
    X, X_test = (part.rows.to(device) for part in sets)
    return Task(train, held_out, kernels.relu_ntk(X), kernels.relu_ntk(X_test, X), "Gaussian")


def relu_mixture(
    samples: int, dim: int, rho: float, test: int, trial: int, device: str
) -> dict[str, float]:
    """The first feature that changes sign, and the output after full training."""
    task = mixture_task(samples, dim, rho, test, trial, device)
    features, bias, label, index = find_shortcut(task.K, task.train, 10)
    first = spectra.first_sign_changing(features.vectors)
    terms = features.on(task.K_test)
    aligned, conflicting = biased.group_accuracies(terms[:, first], task.test)
    full = biased.group_accuracies(full_training(task), task.test)
    return {
        "first": first + 1,
        "index": index + 1,
        "bias": float(bias[first]),
        "label": float(label[first]),
        "aligned": aligned,
        "conflicting": conflicting,
        "aligned_full": full[0],
        "conflicting_full": full[1],
        **{f"mu_{i + 1}": float(features.values[i]) / samples for i in range(4)},
    }


def relu_mixture_cells(profile: str) -> list[Cell]:
    samples, trials = {"smoke": (300, 3), "laptop": (2_000, 10), "paper": (10_000, 10)}[profile]
    return [
        dict(samples=samples, dim=20, rho=rho, test=samples, trial=trial)
        for trial, rho in itertools.product(range(trials), RHOS)
    ]


# -- margin control with the fixed kernel ---------------------------------------------------------


def relu_margins(
    kind: str,
    dataset: str,
    rho: float,
    loss: str,
    strength: float,
    samples: int,
    test: int,
    steps: int,
    trial: int,
    device: str,
    data_dir: str | None,
) -> dict[str, float | str]:
    """Gradient descent with the closed-form kernel under one loss: margins, shortcut, groups."""
    task = digit_task(kind, dataset, rho, samples, test, trial, device, data_dir)
    shortcut = find_shortcut(task.K, task.train, 10)
    chosen = losses.named(loss, strength)
    fit = losses.fit_kernel(task.K, task.train.label, chosen, steps=steps)
    f = fit.outputs[-1]
    outputs = task.K_test @ fit.coefficients[-1]
    aligned, conflicting = biased.group_accuracies(outputs, task.test)
    return summary(f, task.train, shortcut.features.vectors[:, shortcut.index]) | {
        "aligned": aligned,
        "conflicting": conflicting,
        "data_source": task.source,
    }


def summary(f: torch.Tensor, train: Biased, mode: torch.Tensor) -> dict[str, float]:
    """Spread of the margins, share of a mode in the training output, training accuracy."""
    margins = f * train.label.to(f)
    return {
        "cv": losses.margin_cv(margins.cpu()),
        "share": float((mode @ f).square() / f.square().sum()),
        "fitted": float((margins > 0).double().mean()),
    }


STRENGTHS = {"logistic": (0.0,), "squared": (0.0,), "sd": (0.01, 0.1, 1.0),
             "marg_log": (0.1, 0.5), "sigma_damp": (1.0, 2.0)}  # fmt: skip


def relu_margins_cells(profile: str) -> list[Cell]:
    dataset, samples, test, steps, trials = {
        "smoke": ("mnist5k", 500, 500, 400, 2),
        "laptop": ("mnist", 2_000, 2_000, 3_000, 5),
        "paper": ("mnist", 5_000, 4_000, 3_000, 10),
    }[profile]
    tried = [(name, strength) for name, row in STRENGTHS.items() for strength in row]
    if profile == "smoke":
        tried = [("logistic", 0.0), ("squared", 0.0), ("sd", 0.1), ("marg_log", 0.5)]
    return [
        dict(kind=kind, dataset=dataset, rho=0.9, loss=loss, strength=strength, samples=samples,
             test=test, steps=steps, trial=trial)
        for kind, trial, (loss, strength) in itertools.product(KINDS, range(trials), tried)
    ]  # fmt: skip


# -- networks of finite width ---------------------------------------------------------------------


class ReluNet:
    r"""Two-layer ReLU network in NTK parametrisation whose output is zero at the start.

    :math:`f(x) = g\sqrt{2/m}\,\sum_j a_j\,\mathrm{relu}(\langle w_j, x\rangle)` with weights that
    are standard normal at the start. The second half of the m units repeats the first with the
    opposite sign of a, so f starts at 0. The gain g sets the regime: at 1 the features hardly move,
    at a small gain the weights have to move far to fit the labels, and the features with them.
    """

    def __init__(self, dim: int, width: int, gain: float, seed: int, device: str = "cpu") -> None:
        if width < 2 or width % 2:
            raise ValueError(f"width is {width}: units come in pairs, an even number from 2 on")
        if not 0 < gain < math.inf:
            raise ValueError(f"gain is {gain}: a number above 0")
        draw = torch.Generator().manual_seed(seed)
        W, a = torch.randn(width // 2, dim, generator=draw), torch.randn(width // 2, generator=draw)
        self.W, self.a = torch.cat([W, W]).to(device), torch.cat([a, -a]).to(device)
        self.scale = gain * math.sqrt(2 / width)

    def __call__(self, X: torch.Tensor) -> torch.Tensor:
        """Outputs `(n,)` at inputs `(n, d)`."""
        return self.scale * torch.relu(X @ self.W.T) @ self.a

    def step(self, X: torch.Tensor, y: torch.Tensor, loss: losses.MarginLoss, rate: float) -> None:
        """One step of gradient descent on the sum of losses; gradients written out."""
        H = X @ self.W.T
        active = torch.relu(H)
        f = self.scale * active @ self.a
        pull = -rate * self.scale * y * loss.slope(y * f)
        by_unit = (H > 0) * pull[:, None]
        W_step = self.a[:, None] * (by_unit.T @ X)
        self.a += active.T @ pull
        self.W += W_step

    def kernel(self, X: torch.Tensor, X2: torch.Tensor | None = None) -> torch.Tensor:
        r"""Tangent kernel :math:`(2g^2/m)\,[A A'^\top + (1_H a^2)1_{H'}^\top \circ XX'^\top]`.

        With :math:`H = XW^\top`, A = relu(H); no gradient of any sample is formed. `X2` is None for
        X itself.
        """
        H, H2 = (Z @ self.W.T for Z in (X, X if X2 is None else X2))
        on, on2 = ((h > 0).to(X) for h in (H, H2))
        K = ((on * self.a.square()) @ on2.T).mul_(X @ (X if X2 is None else X2).T)
        K = K.add_(torch.relu(H) @ torch.relu(H2).T).mul_(self.scale**2)
        return K if X2 is not None else (K + K.T) / 2


def half_resolution(sample: Biased) -> Biased:
    """Patched digits with 14 x 14 pixels; other images as they are."""
    if sample.images.shape[-1] != 28:
        return sample
    return sample._replace(images=torch.nn.functional.avg_pool2d(sample.images, 2))


def relu_networks(
    kind: str,
    dataset: str,
    rho: float,
    gain: float,
    loss: str,
    width: int,
    samples: int,
    test: int,
    steps: int,
    trial: int,
    device: str,
    data_dir: str | None,
) -> dict[str, float | str]:
    """One network, full-batch gradient descent; its kernel before and after; who is learnt when."""
    sets = digit_sets(kind, dataset, rho, samples, test, trial, data_dir)
    train, held_out = (half_resolution(part) for part in sets[:2])
    X, X_test = (rows.to(device) for rows in biased.centred(train, held_out))
    y, chosen = train.label.to(device), losses.named(loss)
    net = ReluNet(X.shape[1], width, gain, trial, device)
    K0, K0_test, limit = net.kernel(X), net.kernel(X_test, X), kernels.relu_ntk(X)
    before = find_shortcut(K0, train)
    vectors, mode = before.features.vectors, before.features.vectors[:, before.index]
    rate = 1 / (float(before.features.values[0]) * chosen.steepest)
    # a loss that wants the margin u* ends at u* times the labels: that is what there is to learn
    goal = 1.0 if chosen.name == "logistic" else losses.common_margin(chosen)
    course, groups = [], {}
    for step in range(steps + 1):
        f = net(X)
        course.append(vectors.T @ f / (goal * before.features.weights))
        if step in LOGGED or step == steps:
            groups[step] = biased.group_accuracies(net(X_test), held_out)
        if step < steps:
            net.step(X, y, chosen, rate)
    if not bool(torch.isfinite(f).all()):
        raise FloatingPointError(f"outputs are not finite after {steps} steps of {loss}")
    K1, learnt = net.kernel(X), torch.stack(course)
    after = find_shortcut(K1, train)
    others = torch.arange(len(before.bias), device=vectors.device) != before.index
    core = core_shares(vectors, train)
    task = Task(train, held_out, limit, kernels.relu_ntk(X_test, X), sets[2])
    regression = biased.group_accuracies(full_training(task), held_out)
    own = biased.group_accuracies(full_training(task._replace(K=K0, K_test=K0_test)), held_out)
    found: dict[str, float | str] = {
        "kernel_error": float((K0 / gain**2 - limit).norm() / limit.norm()) * math.sqrt(width),
        "kernel_moved": float((K1 - K0).norm() / K0.norm()),
        "kernel_cosine": float((K1 * K0).sum() / (K1.norm() * K0.norm())),
        "index_before": before.index + 1,
        "index_after": after.index + 1,
        "mu_before": float(before.features.values[before.index]) / samples,
        "mu_after": float(after.features.values[after.index]) / samples,
        "bias_before": float(before.bias[before.index]),
        "bias_after": float(after.bias[after.index]),
        "shortcut_half": _half(learnt[:, before.index]),
        **_core_times(learnt, core, others),
        "aligned": groups[steps][0],
        "conflicting": groups[steps][1],
        "aligned_regression": regression[0],
        "conflicting_regression": regression[1],
        "aligned_own": own[0],
        "conflicting_own": own[1],
    }
    weights = core.share * others
    for step in LOGGED:
        at = min(step, steps)
        found |= {
            f"shortcut_{step}": float(learnt[at, before.index]),
            f"core_{step}": float((learnt[at] * weights).sum() / weights.sum()),
            f"aligned_{step}": groups[at][0],
            f"conflicting_{step}": groups[at][1],
        }
    return found | summary(f, train, mode) | {"data_source": sets[2]}


LOGGED = (1, 3, 10, 30, 100, 300, 1_000, 3_000)


def _core_times(learnt: torch.Tensor, core: Core, others: torch.Tensor) -> dict[str, float]:
    """When the first feature other than the shortcut that helps is half learnt, and how many do.

    Two readings of "its squared alignment with the labels of conflicting images is above 0.05".
    Infinity: there is no such feature, or it never gets there.
    """
    found = {}
    for name, part in core._asdict().items():
        helps = (part > CORE) & others
        found[f"{name}_half"] = min(map(_half, learnt[:, helps].T), default=math.inf)
        found[f"{name}_modes"] = int(helps.sum())
    return found


def _half(course: torch.Tensor) -> float:
    """Step at which a course passes a half, between the steps on a line; infinity for never."""
    reached = (course >= 0.5).nonzero().flatten()
    if not len(reached):
        return math.inf
    after = int(reached[0])
    low, high = (float(course[i]) for i in (max(after - 1, 0), after))
    return after - (high - 0.5) / (high - low) if after else 0.0


def relu_networks_cells(profile: str) -> list[Cell]:
    dataset, samples, test, width, steps, trials = {
        "smoke": ("mnist5k", 300, 400, 256, 150, 2),
        "laptop": ("mnist", 1_000, 2_000, 256, 3_000, 3),
        "paper": ("mnist", 2_000, 4_000, 1_024, 3_000, 10),
    }[profile]
    grid = [("patched", gain, loss) for gain in (1.0, 0.1)
            for loss in ("squared", "logistic", "sd", "marg_log")]  # fmt: skip
    grid += [("colored", 1.0, loss) for loss in ("squared", "logistic", "sd")]
    grid = [(*cell, width) for cell in grid] + [("patched", 1.0, "squared", 4 * width)]
    if profile == "smoke":
        grid = [("patched", 1.0, loss, width) for loss in ("squared", "logistic", "sd")]
        grid.append(("patched", 0.1, "squared", width))
    return [
        dict(kind=kind, dataset=dataset, rho=0.9, gain=gain, loss=loss, width=k,
             samples=samples, test=test, steps=steps, trial=trial)
        for trial, (kind, gain, loss, k) in itertools.product(range(trials), grid)
    ]  # fmt: skip


# Of a recomputed accuracy, images near the border may flip; a step count may move by one.
TOLERANCE = {"default": 0.02, "share_half": 0.25, "cosine_half": 0.25}

for name, trial, cells, cheap in (
    ("relu_digits", relu_digits, relu_digits_cells, lambda cell: cell["samples"] <= 1_500),
    ("relu_mixture", relu_mixture, relu_mixture_cells, lambda cell: cell["samples"] <= 2_000),
    ("relu_margins", relu_margins, relu_margins_cells, lambda cell: cell["samples"] <= 2_000),
    ("relu_networks", relu_networks, relu_networks_cells, lambda cell: cell["samples"] <= 300),
):
    register(Experiment(name, trial, cells, tolerance=TOLERANCE, cheap=cheap))
