"""The two-layer ReLU kernel on digits: its features, and the output that they add up to."""

import itertools
import math

import torch

from helpers import data, kernels, theory
from helpers.data import Grouped
from helpers.experiments.shortcut import tasks
from helpers.experiments.shortcut.linear_mixtures import RHOS
from helpers.experiments.shortcut.tasks import Task, by_alignment, full_training
from helpers.sweep import Call, Cell, experiment, pick

LISTED = 8  # modes whose numbers are stored one by one
CLOCK = (1, 10, 100, 1_000)  # times of training, in time constants of the shortcut


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
    coefficients = kernels.krylov_filters(task.K, task.train.label, filters)
    return coefficients.to(task.K_test) @ task.K_test.T


def energy_at(features: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Shares of the leading features in the output's energy; all other modes count as one term.

    Args:
        features: `(m, k)` terms of the leading modes at the test points.
        output: `(m,)` their sum with all others.
    """
    rest = output - features.sum(1)
    return kernels.energy_shares(torch.cat([features, rest[:, None]], 1))[:-1]


def patch_axes(train: Grouped) -> tuple[float, float, float]:
    r"""The two-axis model of patched digits: m_s, m_c, sigma_c.

    The patch moves 32 pixels by a half either way, so :math:`m_s = \sqrt{32}/2`. The core axis is
    that of the class means once the corners are painted over; m_c is half the distance of the means
    and sigma_c the spread within the classes along it.
    """
    images = train.images.clone()
    images[:, :, : data.PATCH, : data.PATCH] = 0
    images[:, :, : data.PATCH, -data.PATCH :] = 0
    rows, y = images.flatten(1).double(), train.label.double()
    half = (rows[y > 0].mean(0) - rows[y < 0].mean(0)) / 2
    m_c = float(half.norm())
    along = (rows - rows.mean(0)) @ half / m_c
    m_s = math.sqrt(2 * data.PATCH**2) / 2
    return m_s, m_c, math.sqrt(max(float(along.square().mean()) - m_c**2, 0))


def linear_top(train: Grouped, rho: float) -> dict[str, float]:
    """Top eigenvalue of the linear kernel on patched digits over n, and the two-axis law."""
    (X,) = data.centred(train)
    measured = kernels.top_modes(X.double().T @ X.double() / len(X), 1, tolerance=1e-9).values[0]
    m_s, m_c, sigma_c = patch_axes(train)
    # the patch has no noise; at rho = 1 a trace of it keeps the law's matrix regular
    law = theory.two_axis(rho, m_s, m_c, 1e-6, sigma_c).eigenvalues[0]
    return {"linear_mu": float(measured), "linear_law": float(law)}


def implicit_ridge(train: Grouped) -> float:
    r"""What the ReLU kernel adds to its own diagonal, :math:`(1 - \frac{5}{2\pi})R^2`.

    R^2 is the mean square norm of the centred inputs. Where these are nearly orthogonal, what the
    kernel has beyond the second degree in their cosine stays on the diagonal, like a ridge.

    Source: our derivation.

    >>> one = torch.ones(2)
    >>> round(implicit_ridge(Grouped(torch.tensor([[1.0], [-1.0]]), one, one)), 4)
    0.2042
    """
    return (1 - 2.5 / math.pi) * float(train.flat.var(0, correction=0).sum())


def _cells(profile: str) -> list[Cell]:
    dataset, samples, test, trials = pick(
        profile, ("mnist5k", 500, 600, 2), ("mnist", 5_000, 2_000, 5), ("mnist", 10_000, 4_000, 10)
    )
    sizes = [200, samples] if profile == "smoke" else [500, 1_500, samples]
    grid = [(size, rho) for size in sizes for rho in RHOS]
    if profile == "smoke":
        grid = [(size, rho) for size, rho in grid if size == samples or rho in (0.5, 0.9, 0.99)]
    return [
        dict(kind=kind, dataset=dataset, rho=rho, samples=size, test=test, reference=sizes[0],
             trial=trial)
        for kind, trial, (size, rho) in itertools.product(tasks.KINDS, range(trials), grid)
    ]  # fmt: skip


@experiment(
    "relu_digits",
    cells=_cells,
    tolerance=tasks.TOLERANCE,
    cheap=lambda cell: cell["samples"] <= 1_500,
)
def relu_digits(call: Call) -> dict[str, float | str]:
    """Features of the two-layer ReLU kernel on digits, and the output that they add up to."""
    samples = call.samples
    task = tasks.digit_task(call)
    features, bias, label, index = tasks.find_shortcut(task.K, task.train)
    terms = features.on(task.K_test)
    final = full_training(task)
    energy = energy_at(terms, final.to(terms))
    core = tasks.core_shares(features.vectors, task.train).share
    found: dict[str, float | str] = {
        "index": index + 1,
        "first_changing": kernels.first_sign_changing(features.vectors) + 1,
        "span": kernels.shortcut_span(bias),
        "subspace": float(bias.topk(2).values.sum()),
    }
    for i in range(min(LISTED, len(features))):
        found |= {
            f"mu_{i + 1}": float(features.values[i]) / samples,
            f"bias_{i + 1}": float(bias[i]),
            f"label_{i + 1}": float(label[i]),
            f"core_{i + 1}": float(core[i]),
            f"energy_{i + 1}": float(energy[i]),
        } | by_alignment(terms[:, i], task.test, f"_{i + 1}")
    outputs = {
        "mode": terms[:, index],
        "first10": terms[:, :10].sum(1),
        "leading": terms.sum(1),
        "full": final,
        "ridge": full_training(task, ridge=1e-4 * float(features.values[0])),
        # the ridge over n that a kernel of `reference` images has by itself
        "as": full_training(task, implicit_ridge(task.train) * (samples / call.reference - 1)),
    }
    rate = float(features.values[index])
    course = time_course(task, rate, CLOCK)
    outputs |= {f"t{time}": f for time, f in zip(CLOCK, course, strict=True)}
    for name, f in outputs.items():
        found |= by_alignment(f, task.test, f"_{name}")
    found |= {
        "mu": rate / samples,
        "bias": float(bias[index]),
        "label": float(label[index]),
        "energy": float(energy[index]),
        "energy_other": float(torch.cat([energy[:index], energy[index + 1 :]]).max()),
        "perron_law": float(task.train.flat.var(0, correction=0).sum()) / math.pi,
    }
    linear = {"linear_mu": math.nan, "linear_law": math.nan}
    if call.kind == "patched":
        linear = linear_top(task.train, call.rho)
    return found | linear | {"data_source": task.source}
