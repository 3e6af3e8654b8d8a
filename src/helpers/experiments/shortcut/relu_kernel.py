"""The two-layer ReLU kernel on the mixture of the linear chapters, and under other losses."""

import itertools

import torch

from helpers import data, kernels
from helpers.data import Grouped
from helpers.experiments.shortcut import tasks
from helpers.experiments.shortcut.linear_mixtures import RHOS
from helpers.experiments.shortcut.tasks import by_alignment, find_shortcut
from helpers.sweep import Call, Cell, experiment, pick
from helpers.training import margin_losses


def mixture_task(call: Call) -> tasks.Task:
    """The mixture with m_s = 2, m_c = 1 and spread 0.7 everywhere, and its ReLU kernel."""
    sets = []
    for size, share, seed in (
        (call.samples, call.rho, call.trial),
        (call.test, 0.5, call.trial + 10_000),
    ):
        drawn = data.two_axis_sample(
            size, share, 2.0, 1.0, 0.7, 0.7, extra=call.dim - 2, noise=0.7, seed=seed
        )
        tensors = (torch.from_numpy(part).float() for part in (drawn.x, drawn.label, drawn.bias))
        sets.append(Grouped(*tensors))
    X, X_test = (part.flat.to(call.device) for part in sets)
    return tasks.Task(*sets, kernels.relu_ntk(X), kernels.relu_ntk(X_test, X), "Gaussian")


def _mixture_cells(profile: str) -> list[Cell]:
    samples, trials = pick(profile, (300, 3), (2_000, 10), (10_000, 10))
    return [
        dict(samples=samples, dim=20, rho=rho, test=samples, trial=trial)
        for trial, rho in itertools.product(range(trials), RHOS)
    ]


@experiment(
    "relu_mixture",
    cells=_mixture_cells,
    tolerance=tasks.TOLERANCE,
    cheap=lambda cell: cell["samples"] <= 2_000,
)
def relu_mixture(call: Call) -> dict[str, float]:
    """The first feature that changes sign, and the output after full training."""
    task = mixture_task(call)
    features, bias, label, index = find_shortcut(task.K, task.train, 10)
    first = kernels.first_sign_changing(features.vectors)
    return {
        "first": first + 1,
        "index": index + 1,
        "bias": float(bias[first]),
        "label": float(label[first]),
        **by_alignment(features.on(task.K_test)[:, first], task.test),
        **by_alignment(tasks.full_training(task), task.test, "_full"),
        **{f"mu_{i + 1}": float(features.values[i]) / call.samples for i in range(4)},
    }


STRENGTHS = {"logistic": (0.0,), "squared": (0.0,), "sd": (0.01, 0.1, 1.0),
             "marg_log": (0.1, 0.5), "sigma_damp": (1.0, 2.0)}  # fmt: skip


def _margins_cells(profile: str) -> list[Cell]:
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
        for kind, trial, (loss, strength) in itertools.product(tasks.KINDS, range(trials), tried)
    ]  # fmt: skip


@experiment(
    "relu_margins",
    cells=_margins_cells,
    tolerance=tasks.TOLERANCE,
    cheap=lambda cell: cell["samples"] <= 2_000,
    group=lambda cell: tuple(v for k, v in cell.items() if k not in ("loss", "strength", "steps")),
)
def relu_margins(calls: list[Call]) -> list[dict[str, float | str]]:
    """Gradient descent with one closed-form kernel under losses: margins, shortcut, groups."""
    task = tasks.digit_task(calls[0])
    features, _, _, index = find_shortcut(task.K, task.train, 10)
    rows = []
    for call in calls:
        chosen = margin_losses.named(call.loss, call.strength)
        fit = margin_losses.fit_kernel(task.K, task.train.label, chosen, steps=call.steps)
        row = tasks.summary(fit.outputs[-1], task.train, features.vectors[:, index])
        row |= by_alignment(task.K_test @ fit.coefficients[-1], task.test)
        rows.append(row | {"data_source": task.source})
    return rows
