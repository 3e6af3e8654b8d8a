"""Linear networks under losses of the margin: a mixture, and digits.

Adam and L-BFGS amplify the last digits on separable data: hence the tolerance.
"""

import numpy as np
import torch

from helpers import data, probes, theory
from helpers.experiments.shortcut.linear_mixtures import AXES
from helpers.experiments.shortcut.tasks import KINDS, by_alignment, digit_splits
from helpers.sweep import Call, Cell, experiment, grid, pick
from helpers.training import margin_losses

LOSSES = (("logistic", 0.0), ("squared", 0.0), ("sd", 0.1), ("marg_log", 0.5), ("sigma_damp", 2.0))


def _under_each_loss(cells: list[Cell]) -> list[Cell]:
    return [{"loss": loss, "strength": k} | cell for loss, k in LOSSES for cell in cells]


def fitted(train: data.TwoAxisSample, w: np.ndarray) -> dict[str, float]:
    """Spread of the training margins of a linear function, and its training accuracy."""
    margins = train.x @ w * train.label
    return {
        "margin_cv": margin_losses.margin_cv(torch.from_numpy(margins)),
        "train_accuracy": float((margins > 0).mean()),
    }


def _mixture_cells(profile: str) -> list[Cell]:
    samples, trials = pick(profile, (20_000, 2), (200_000, 10), (200_000, 20))
    sigmas = (0.05, 0.25, 0.5, 0.75, 1.0, 1.5)
    return _under_each_loss(grid(rho=0.95, sigma_c=sigmas, samples=samples, trial=range(trials)))


@experiment(
    "margin_mixture",
    cells=_mixture_cells,
    tolerance=0.02,
    cheap=lambda cell: cell["sigma_c"] > 0.3,
    on_device=False,
)
def margin_mixture(call: Call) -> dict[str, float]:
    """A linear network trained to the end with one loss on the two-axis mixture."""
    setting = dict(**AXES, sigma_c=call.sigma_c)
    train = data.two_axis_sample(call.samples, call.rho, **setting, seed=call.trial)
    chosen = margin_losses.named(call.loss, call.strength)
    w = margin_losses.fit_linear(train.x, train.label, chosen).weights
    aligned, conflicting = theory.linear_accuracies(*w, **setting)
    return {
        "reliance": float(w[0] * AXES["m_s"] / (w[1] * AXES["m_c"])),
        **fitted(train, w),
        "aligned": float(aligned),
        "conflicting": float(conflicting),
    }


# the linear task of Puli et al. 2023: a noiseless shortcut of size 10
PULI = {"rho": 0.9, "m_s": 10.0, "m_c": 1.0, "sigma_s": 0.0}


def _digits_cells(profile: str) -> list[Cell]:
    source, samples, steps, trials = pick(
        profile, ("mnist5k", 600, 400, 1), ("mnist", 1_500, 3_000, 5), ("mnist", 1_500, 3_000, 10)
    )
    cells = grid(task=tuple(KINDS), source=source, rho=0.9, samples=samples, steps=steps,
                 trial=range(trials))  # fmt: skip
    return [cell | {"loss": loss, "strength": k} for cell in cells for loss, k in LOSSES[:4]]


@experiment(
    "margin_digits",
    cells=_digits_cells,
    tolerance=0.02,
    cheap=lambda cell: False,
    group=lambda cell: tuple(v for k, v in cell.items() if k not in ("loss", "strength", "steps")),
    on_device=False,
)
def margin_digits(calls: list[Call]) -> list[dict[str, float | str]]:
    """Gradient descent with the linear kernel on Patched-MNIST or Colored-MNIST, with each loss.

    `task`: "patched" or "colored"; `source`: "mnist" or "mnist5k". Inputs are centred.
    """
    one = calls[0]
    splits = digit_splits(one.source, one.data_dir)
    sizes = one.samples, min(2_000, 2 * (len(splits[1].labels) // 4))
    train, test = data.train_and_test(KINDS[one.task], splits, one.rho, sizes, one.trial)
    x, x_test = (rows.double() for rows in data.centred(train, test))
    K = x @ x.T
    # the mode nearest to the bias attribute
    values, vectors = torch.linalg.eigh(x.T @ x)
    modes = x @ vectors.flip(1)[:, :20] / values.flip(0)[:20].sqrt()
    shortcut = modes[:, (modes.T @ train.attribute.double()).abs().argmax()]
    rows = []
    for call in calls:
        chosen = margin_losses.named(call.loss, call.strength)
        fitted = margin_losses.fit_kernel(K, train.label, chosen, steps=call.steps)
        outputs = fitted.outputs[-1]
        row = {
            "margin_cv": margin_losses.margin_cv(outputs * train.label),
            "share": float((shortcut @ outputs) ** 2 / outputs.square().sum()),
            "train_accuracy": probes.sign_accuracy(outputs, train.label),
            "data_source": splits[0].source,
        }
        on_test = x_test @ (x.T @ fitted.coefficients[-1])
        rows.append(row | by_alignment(on_test, test))
    return rows
