"""The look of every figure: one style, and one colour for one thing throughout the book."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes

from helpers.book import drawn

# Okabe & Ito's palette, told apart by readers with any colour vision. Orange, sky and yellow are
# darker here: every colour but black stands out 3:1 from the book's light and from its dark paper.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#000000", "#B98100", "#2F9AD8", "#009E73", "#A68A00", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip

COLOURS = {
    "test": BLUE,
    "spurious": RED,
    "law": BLACK,
    "bound": "#777777",
    "phi2": ORANGE,
    "phi4": GREEN,
    "relu": SKY,
    "tanh": PINK,
    "fresh": "#777777",
    # NTK: phi' has the colour of the phi that it is nearest to, in dashes. The eighth curve takes
    # a brown, as the palette's other hues mean something already.
    "h0+h1": ORANGE,
    "h0+h3": GREEN,
    "h0+h7": "#9C5F1A",
    "step": SKY,
}
LABELS = {
    "phi2": r"$\phi_2 = h_1 + h_2$",
    "phi4": r"$\phi_4 = h_1 + h_4$",
    "relu": "ReLU",
    "tanh": "tanh",
    "h0+h1": r"$h_0 + h_1$",
    "h0+h3": r"$h_0 + h_3$",
    "h0+h7": r"$h_0 + h_7$",
    "step": "step (ReLU)",
}

# spurious patterns: colour and line
PATTERN_LINES = {
    "S1": (SKY, ":"), "S2": (SKY, "--"), "S3": (BLUE, "-"),
    "R1": (ORANGE, ":"), "R2": (ORANGE, "--"), "R3": (RED, "-"),
    "Inv": (GREEN, "-."),
}  # fmt: skip

# datasets of two classes, as panel titles and in the order of panels
TITLES = {
    "mnist": "MNIST, 1 vs 7",
    "mnist5k": "MNIST subset, 1 vs 7",
    "cifar10": "CIFAR-10, cat vs ship",
}


def use_style() -> None:
    """Apply the book's style to matplotlib: readable when a page shrinks a figure to 60 %.

    In Jupyter, figures are shown as :func:`helpers.book.drawn.bundle` has them.
    """
    drawn.show_in_notebooks()
    plt.rcdefaults()  # whatever a matplotlibrc says
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11.5,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "lines.linewidth": 1.8,
            "image.cmap": "gray",
        }
    )


def by(frame: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Mean and standard deviation of `y` over trials at each value of `x`, sorted by `x`.

    >>> by(pd.DataFrame({"n": [2, 1, 1], "a": [5.0, 1.0, 3.0]}), "n", "a")["mean"].tolist()
    [2.0, 5.0]
    """
    return frame.groupby(x)[y].agg(["mean", "std", "count"]).sort_index()


def band(ax: Axes, frame: pd.DataFrame, x: str, y: str, **line: object) -> None:
    """A line through the means over trials, in a band of one standard deviation, as in paper B."""
    table = by(frame, x, y)
    (drawn,) = ax.plot(table.index, table["mean"], **line)
    ax.fill_between(
        table.index,
        table["mean"] - table["std"],
        table["mean"] + table["std"],
        color=drawn.get_color(),
        alpha=0.15,
        linewidth=0,
    )


def plain_log_ticks(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis whose ticks are the measured values, in plain digits."""
    ax.set_xscale("log")
    ax.set_xticks(list(values), [f"{value:,.0f}".replace(",", " ") for value in values])
    ax.xaxis.set_minor_locator(plt.NullLocator())


def count_ticks(ax: Axes, counts: Sequence[int]) -> None:
    """A logarithmic x axis that has room for 0, with ticks at these counts.

    Of counts whose numbers would run into each other, less than a factor of 2.8 apart, the smallest
    keeps its tick.
    """
    shown = []
    for count in sorted(counts):
        if not shown or count >= max(2.8 * shown[-1], 1):
            shown.append(count)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xticks(shown, [f"{n:,}".replace(",", " ") for n in shown])
    ax.xaxis.set_minor_locator(plt.NullLocator())


def name_ends(ax: Axes, ends: Mapping[str, tuple[float, float]], gap: float) -> None:
    """Small grey names at the ends of lines, each at least `gap` (on the y axis) above the last."""
    least = -np.inf
    for name, (x, y) in sorted(ends.items(), key=lambda end: end[1][1]):
        least = max(y, least + gap)
        ax.annotate(name, (x, least), color="0.5", fontsize=8)


def picture(ax: Axes, image: torch.Tensor, title: str) -> None:
    """One uint8 image `(c, h, w)` without axes."""
    pixels = np.asarray(image.permute(1, 2, 0))
    ax.imshow(pixels if pixels.shape[2] == 3 else pixels[..., 0], vmin=0, vmax=255)
    ax.set_title(title, loc="center", fontsize=10.5)
    ax.set_axis_off()
