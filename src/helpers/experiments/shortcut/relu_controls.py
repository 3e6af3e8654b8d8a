"""The ReLU chapter's claims on draws of their own, each beside what must not show the effect.

Three nulls: an attribute permuted within the classes (it goes with the label as often, but is not
in the picture), the other leading modes, and an attribute that says nothing about the label. The
seeds are none of those with which the rules were found.
"""

import itertools

import numpy as np
import torch
from scipy.optimize import minimize

from helpers import data, kernels, probes
from helpers.data import Grouped
from helpers.experiments.shortcut import relu_digits as digits
from helpers.experiments.shortcut import relu_networks as networks
from helpers.experiments.shortcut import tasks
from helpers.experiments.shortcut.linear_mixtures import RHOS
from helpers.experiments.shortcut.relu_kernel import mixture_task
from helpers.experiments.shortcut.tasks import by_alignment
from helpers.sweep import Call, Cell, experiment, pick
from helpers.training import margin_losses

FIRST_TRIAL = 100  # the pilots' draws are those below
OTHERS = 8  # leading modes among which the one most like the shortcut is sought
MIXTURE_DIM = 20


def permuted(sample: Grouped, seed: int) -> Grouped:
    """The sample with its attribute permuted within each class.

    The attribute agrees with the label for as many samples as before, and is not in the picture.

    >>> y = torch.tensor([1.0, 1.0, 1.0, -1.0])
    >>> made = permuted(Grouped(torch.zeros(4, 1), y, torch.tensor([1.0, 1.0, -1.0, -1.0])), 0)
    >>> int(made.aligned.sum()), float(made.attribute[3])
    (3, -1.0)
    """
    draw, attribute = torch.Generator().manual_seed(seed), sample.attribute.clone()
    for side in (1, -1):
        members = (sample.label == side).nonzero().flatten()
        attribute[members] = attribute[members[torch.randperm(len(members), generator=draw)]]
    return Grouped(sample.images, sample.label, attribute)


def split(outputs: torch.Tensor, test: Grouped) -> float:
    """Accuracy on aligned minus accuracy on conflicting samples."""
    aligned, conflicting = probes.accuracy_by_alignment(outputs, test)
    return aligned - conflicting


def _shares(K: torch.Tensor, X: torch.Tensor, train: Grouped, twin: Grouped) -> dict[str, float]:
    """Availability of bias, label, label without the bias, and permuted bias, in two kernels."""
    y, b = train.label.double(), train.attribute.double()
    asked = {"bias": b, "label": y, "rest": y - (y @ b) / len(y) * b, "permuted": twin.attribute}
    return {
        f"availability_{kernel}_{name}": kernels.availability(block, attribute)
        for kernel, block in (("relu", K), ("linear", X @ X.T))
        for name, attribute in asked.items()
    }


def _cells(profile: str) -> list[Cell]:
    dataset, sizes, test, drawn, mixture, trials = {
        "smoke": ("mnist5k", (200, 500), 600, 2, 300, 3),
        "laptop": ("mnist", (500, 1_500, 5_000), 2_000, 5, 2_000, 10),
        "paper": ("mnist", (500, 1_500, 10_000), 4_000, 10, 10_000, 10),
    }[profile]
    made = [
        (kind, dataset, rho, size, test, trial)
        for trial, kind, size, rho in itertools.product(
            range(drawn), tasks.KINDS, sizes, (0.5, 0.9)
        )
    ]
    made += [
        ("mixture", "Gaussian", rho, mixture, mixture, trial)
        for trial, rho in itertools.product(range(trials), RHOS)
    ]
    names = ("kind", "dataset", "rho", "samples", "test")
    return [dict(zip(names, cell, strict=True), trial=FIRST_TRIAL + trial) for *cell, trial in made]


@experiment(
    "relu_controls",
    cells=_cells,
    tolerance=tasks.TOLERANCE,
    cheap=lambda cell: cell["samples"] <= 2_000,
)
def relu_controls(call: Call) -> dict[str, float | str]:
    """Shortcut, its term and the trained output of the ReLU kernel, with their nulls."""
    if call.kind == "mixture":
        task = mixture_task(Call(call, dim=MIXTURE_DIM))
        X = task.train.flat
    else:
        task = tasks.digit_task(call)
        (X,) = data.centred(task.train)
    train, test, K = task.train, task.test, task.K
    twin, test_twin = permuted(train, call.trial), permuted(test, call.trial)
    features, bias, label, index = tasks.find_shortcut(K, train)
    terms, final = features.on(task.K_test), tasks.full_training(task)
    splits = [split(terms[:, i], test) for i in range(OTHERS)]
    first = kernels.first_sign_changing(features.vectors)
    centred = tasks.find_shortcut(kernels.centred_kernel(K, K[:1])[0], train)
    twins = kernels.mode_alignment(features.vectors, twin.attribute)
    return {
        "index": index + 1,
        "first": first + 1,
        "bias": float(bias[first]),
        "label": float(label[first]),
        "subspace": float(bias.topk(2).values.sum()),
        "bias_other": float(bias.topk(2).values[-1]),
        "bias_permuted": float(twins[first]),
        "subspace_permuted": float(twins.topk(2).values.sum()),
        "centred_index": centred.index + 1,
        "centred_bias": float(centred.bias[centred.index]),
        **by_alignment(terms[:, first], test),
        "split_other": max(abs(x) for i, x in enumerate(splits) if i != index),
        "split_permuted": split(terms[:, first], test_twin),
        **by_alignment(final, test, "_full"),
        "gap_permuted": split(final, test_twin),
        **_shares(K, X.to(K), train, twin),
        "data_source": task.source,
    }


def _course_cells(profile: str) -> list[Cell]:
    dataset, sizes, test, trials = pick(
        profile, ("mnist5k", (200, 500), 600, 2), ("mnist", (500, 1_500), 2_000, 10),
        ("mnist", (500, 1_500), 4_000, 20),
    )  # fmt: skip
    return [
        dict(kind=kind, dataset=dataset, rho=rho, samples=size, test=test, reference=sizes[0],
             trial=FIRST_TRIAL + trial)
        for trial, kind, size, rho in itertools.product(range(trials), tasks.KINDS, sizes, RHOS)
    ]  # fmt: skip


@experiment(
    "relu_digits_again",
    cells=_course_cells,
    tolerance=tasks.TOLERANCE,
    cheap=lambda cell: True,
)
def relu_digits_again(call: Call) -> dict[str, float | str]:
    """What `relu_digits` finds on draws of its own: all shares, and the course of training."""
    return digits.relu_digits(call)


# -- losses of the margin --------------------------------------------------------------------------


def kernel_hard_margin(K: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    r"""Coefficients a of :math:`f = Ka`, the function of least norm with margins of 1 or more.

    The dual, :math:`\max_{\alpha \geq 0} 1^\top\alpha - \frac12\alpha^\top yKy\,\alpha`, by
    L-BFGS-B: with a kernel nearly all samples lie at the margin, which the exact method of
    :func:`helpers.training.hard_margin` would take up one by one.

    Raises:
        ValueError: the smallest margin is not within 1e-2 of the 1 that it is to be.

    >>> kernel_hard_margin(torch.eye(2), torch.tensor([1.0, -1.0])).tolist()
    [1.0, -1.0]
    """
    side = y.double().cpu().numpy()
    Q = K.double().cpu().numpy() * np.outer(side, side)
    scale = float(np.diag(Q).mean())

    def dual(alpha: np.ndarray) -> tuple[float, np.ndarray]:
        pulled = Q @ alpha / scale
        return float(alpha @ pulled / 2 - alpha.sum()), pulled - 1

    found = minimize(
        dual, np.ones(len(side)), jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(side),
        options={"maxiter": 5_000, "maxfun": 10_000, "ftol": 1e-13, "gtol": 1e-4, "maxcor": 30},
    ).x  # fmt: skip
    least = float((Q @ found / scale).min())
    if not abs(least - 1) < 1e-2:
        raise ValueError(f"the smallest margin is {least:g} instead of 1: not separated yet")
    return torch.from_numpy(found * side / scale).to(K)


CHOSEN = (("logistic", 0.0), ("sd", 0.1), ("marg_log", 0.5), ("hard_margin", 0.0))


def _margin_cells(profile: str) -> list[Cell]:
    dataset, samples, test, steps, trials = {
        "smoke": ("mnist5k", 500, 600, 400, 2),
        "laptop": ("mnist", 1_500, 2_000, 3_000, 5),
        "paper": ("mnist", 5_000, 4_000, 3_000, 10),
    }[profile]
    return [
        dict(kind=kind, dataset=dataset, rho=rho, loss=loss, strength=strength, samples=samples,
             test=test, steps=steps, trial=FIRST_TRIAL + trial)
        for trial, kind, rho, (loss, strength) in itertools.product(
            range(trials), tasks.KINDS, (0.5, 0.9), CHOSEN)
    ]  # fmt: skip


@experiment(
    "relu_margin_controls",
    cells=_margin_cells,
    tolerance=tasks.TOLERANCE,
    cheap=lambda cell: True,
    group=lambda cell: tuple(v for k, v in cell.items() if k not in ("loss", "strength", "steps")),
)
def relu_margin_controls(calls: list[Call]) -> list[dict[str, float | str]]:
    """One kernel under losses of the margin, and the limit of the logistic one."""
    task = tasks.digit_task(calls[0])
    features, _, _, index = tasks.find_shortcut(task.K, task.train, 10)
    rows = []
    for call in calls:
        if call.loss == "hard_margin":
            coefficients = kernel_hard_margin(task.K, task.train.label)
        else:
            chosen = margin_losses.named(call.loss, call.strength)
            fit = margin_losses.fit_kernel(task.K, task.train.label, chosen, steps=call.steps)
            coefficients = fit.coefficients[-1]
        row = tasks.summary(task.K @ coefficients, task.train, features.vectors[:, index])
        row |= by_alignment(task.K_test @ coefficients, task.test)
        rows.append(row | {"data_source": task.source})
    return rows


# -- networks --------------------------------------------------------------------------------------


def _network_cells(profile: str) -> list[Cell]:
    size, trials = pick(
        profile,
        (dict(dataset="mnist5k", samples=300, test=400, width=256, steps=150), 2),
        (dict(dataset="mnist", samples=1_000, test=2_000, width=256, steps=3_000), 5),
        (dict(dataset="mnist", samples=2_000, test=4_000, width=1_024, steps=3_000), 10),
    )
    fixed = dict(kind="patched", rho=0.9, gain=1.0, loss="squared")
    return [fixed | size | {"trial": FIRST_TRIAL + trial} for trial in range(trials)]


@experiment(
    "relu_networks_again",
    cells=_network_cells,
    tolerance={"default": tasks.TOLERANCE, "share_half": 0.25, "cosine_half": 0.25},
    cheap=lambda cell: cell["samples"] <= 300,
)
def relu_networks_again(call: Call) -> dict[str, float | str]:
    """The lazy networks of `relu_networks` on digits and weights of their own."""
    return networks.relu_networks(call)
