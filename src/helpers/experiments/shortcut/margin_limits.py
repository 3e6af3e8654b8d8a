"""Where the losses of the margin lead, and where they stand on the way there.

The limit of the logistic loss is the largest margin wherever the data can be separated; that of
every other loss is its minimiser. The draws are not those of `margins`.
"""

import numpy as np
from scipy.special import ndtr

from helpers import data, training
from helpers.experiments.shortcut.margins import LOSSES, PULI, fitted
from helpers.experiments.shortcut.tasks import KINDS, by_alignment, digit_splits
from helpers.sweep import Call, Cell, experiment, grid, pick
from helpers.training import margin_losses

FIRST = 10_000  # seed of the first draw


def limit(x: np.ndarray, y: np.ndarray, loss: margin_losses.MarginLoss) -> np.ndarray:
    """Weights `(d,)` in the limit of infinitely many steps of gradient descent, up to scale.

    >>> x = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> limit(x, np.array([1.0, -1.0]), margin_losses.logistic).round(6).tolist()
    [1.0, -0.5]
    """
    if loss.name == "logistic" and (found := training.hard_margin(x, y)) is not None:
        return found.weights
    if loss.name == "squared":
        return np.linalg.lstsq(x, y, rcond=None)[0]
    return margin_losses.fit_linear(x, y, loss, iterations=5_000).weights


def _cells(profile: str) -> list[Cell]:
    samples, dim, dims, stops, trials = pick(
        profile,
        (150, 40, (140,), (10, 100, 1_000), 3),
        (1_000, 300, (100, 500, 700, 900), (10, 100, 1_000, 10_000), 5),
        (1_000, 300, (100, 500, 700, 900), (10, 100, 1_000, 10_000), 20),
    )
    draws = grid(samples=samples, trial=range(trials))
    ways = [("descent", steps, loss) for steps in stops for loss in LOSSES]
    ways += [("adam", steps, LOSSES[0]) for steps in stops]
    ways += [("limit", 0, loss) for loss in LOSSES]
    cells = [(core, dim, *way) for core in (0.0, 0.5) for way in ways]
    cells += [(0.0, dim, "limit of signs", 0, LOSSES[0])]
    cells += [(0.0, other, "limit", 0, loss) for other in dims for loss in LOSSES]
    return [
        {"loss": loss, "strength": k, "core": core, "dim": d, "by": by, "steps": steps} | draw
        for core, d, by, steps, (loss, k) in cells
        for draw in draws
    ]


@experiment(
    "margin_limits",
    cells=_cells,
    tolerance=0.02,
    cheap=lambda cell: cell["steps"] <= 100 and cell["by"] != "limit of signs",
    on_device=False,
)
def margin_limits(call: Call) -> dict[str, float]:
    """The task of Puli et al. 2023, or the same with core noise, after steps or in the limit.

    `by`: "descent" (full-batch gradient descent) or "adam", after `steps`; "limit" of the former,
    "limit of signs", that of Adam with a falling step size. Accuracies are exact.
    """
    draw = dict(**PULI, sigma_c=call.core, extra=call.dim - 2)
    train = data.two_axis_sample(call.samples, **draw, seed=FIRST + call.trial)
    chosen = margin_losses.named(call.loss, call.strength)
    x, y = train.x, train.label
    if call.by == "limit":
        w = limit(x, y, chosen)
    elif call.by == "limit of signs":
        w = training.hard_margin(x, y, "largest").weights
    else:
        fit = margin_losses.fit_linear(x, y, chosen, method=call.by, iterations=call.steps)
        w = fit.weights
    shortcut, core = PULI["m_s"] * w[0], PULI["m_c"] * w[1]
    spread = max(np.hypot(call.core * w[1], np.linalg.norm(w[2:])), 1e-300)
    return {
        "reliance": float(abs(shortcut) / abs(core)),
        **fitted(train, w),
        "aligned": float(ndtr((core + shortcut) / spread)),
        "conflicting": float(ndtr((core - shortcut) / spread)),
    }


def _digit_cells(profile: str) -> list[Cell]:
    source, samples, trials = pick(
        profile, ("mnist5k", 200, 1), ("mnist", 1_500, 5), ("mnist", 1_500, 10)
    )
    cells = grid(task=tuple(KINDS), source=source, rho=0.9, samples=samples, trial=range(trials))
    return [{"loss": loss, "strength": k} | cell for loss, k in LOSSES[:3] for cell in cells]


@experiment(
    "margin_digit_limits",
    cells=_digit_cells,
    tolerance=0.02,
    cheap=lambda cell: cell["loss"] != "sd",
    on_device=False,
)
def margin_digit_limits(call: Call) -> dict[str, float | str]:
    """The same digits as in `margin_digits`, with the linear kernel in the limit of each loss."""
    splits = digit_splits(call.source, call.data_dir)
    sizes = call.samples, min(2_000, 2 * (len(splits[1].labels) // 4))
    train, test = data.train_and_test(KINDS[call.task], splits, call.rho, sizes, call.trial)
    x, x_test = (rows.double() for rows in data.centred(train, test))
    y = train.label.double()
    w = limit(x.numpy(), y.numpy(), margin_losses.named(call.loss, call.strength))
    margins = x.numpy() @ w * y.numpy()
    return {
        "margin_cv": margin_losses.margin_cv(margins),
        "train_accuracy": float((margins > 0).mean()),
        "data_source": splits[0].source,
        **by_alignment(x_test @ x_test.new_tensor(w), test),
    }
