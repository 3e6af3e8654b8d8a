"""Figures with sliders: drawn by plotly on the book's pages, a still image everywhere else.

A figure is written as plotly's JSON; the Python package plotly is not needed to make it. The page's
`plotly.min.js` (book/_ext/offline_book.py) draws it. Without that file or without JavaScript, in
Jupyter and in print, an image with an alternative text stands in its place.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from helpers import figures, theory

# pages with this class get plotly's script (offline_book.py) and its rules (book.css)
MARKER = "interactive-figure"

_SCRIPT = """
(() => {
  const {data, layout, wide, narrow} = %(figure)s;
  const plot = document.getElementById("%(name)s");
  const config = {displayModeBar: false, responsive: true, showTips: false};
  const phone = matchMedia("(max-width: 600px)");
  const arrange = () => Plotly.relayout(plot, phone.matches ? narrow : wide);
  const draw = async () => {
    if (!window.Plotly) return;
    plot.hidden = false;
    await Plotly.newPlot(plot, data, layout, config);
    await arrange();
    plot.nextElementSibling.hidden = true;
    phone.addEventListener("change", arrange);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", draw);
  else draw();
})();
"""


@dataclass(frozen=True)
class Interactive:
    """A figure to end a cell with.

    name            id of the drawing on its page: lower-case letters, digits and hyphens
    data, layout    traces and layout, as plotly.js takes them
    wide, narrow    the layout's entries that differ between desks and phones, for `relayout`
    image           the PNG that stands in for the drawing
    alt             what the figure shows, in a sentence

    Raises ValueError for a name that is no such id and for a missing `alt`.

    >>> Interactive("one-curve", [], {}, {}, {}, b"", "A curve.")
    A curve.
    """

    name: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    wide: dict[str, Any]
    narrow: dict[str, Any]
    image: bytes
    alt: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise ValueError(
                f"name is {self.name!r}: it takes lower-case letters, digits and hyphens, "
                "a letter first"
            )
        if not self.alt.strip():
            raise ValueError("alt is empty: say in a sentence what the figure shows")

    def _repr_html_(self) -> str:
        figure = {key: getattr(self, key) for key in ("data", "layout", "wide", "narrow")}
        text = json.dumps(figure, separators=(",", ":"), allow_nan=False)
        # "</" could close the script element
        script = _SCRIPT % {"figure": text.replace("</", r"<\/"), "name": self.name}
        alt = html.escape(self.alt)
        image = base64.b64encode(self.image).decode()
        return (
            f'<div class="{MARKER}">'
            f'<div id="{self.name}" role="figure" aria-label="{alt}" hidden></div>'
            f'<img src="data:image/png;base64,{image}" alt="{alt}">'
            f"<script>{script}</script></div>"
        )

    def __repr__(self) -> str:
        return self.alt


def png(figure: Figure) -> bytes:
    """The figure as a PNG that is the same each time, without the version of its maker."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


# -- the alignment explorer ------------------------------------------------------------------------

ALPHAS = tuple(round(0.05 * step, 2) for step in range(1, 20))
# six values a decade; the slider stops at every other one
RATIOS = tuple(float(f"{10 ** (step / 6):.3g}") for step in range(-12, 13))
STOPS = RATIOS[::2]
LAWS: dict[str, Callable[..., float]] = dict.fromkeys(
    ("phi2", "phi4", "relu", "tanh"), theory.gamma_rf
) | dict.fromkeys(("h0+h1", "h0+h3", "h0+h7", "step"), theory.gamma_ntk)
TITLES = ("γ falls as samples are added", "γ grows with α and stays below it")


def alignment_explorer(alpha: float = 0.5, ratio: float = 1.0) -> Interactive:
    r"""The alignment constants :math:`\gamma_{RF}` and :math:`\gamma_{NTK}` in two panels.

    First panel: over N/d, with a slider for alpha. Second panel: over alpha, with a slider for N/d.
    The traces are those of `LAWS` in its order, for the first panel, then for the second.

    Args:
        alpha: where the first slider starts, one of `ALPHAS`.
        ratio: where the second slider starts, one of `STOPS`.

    Raises:
        ValueError: a start that is not a stop of its slider.

    Source: :func:`helpers.theory.gamma_rf`, :func:`helpers.theory.gamma_ntk`.
    """
    for name, start, stops in (("alpha", alpha, ALPHAS), ("ratio", ratio, STOPS)):
        if start not in stops:
            raise ValueError(f"{name} is {start}: the slider has {', '.join(map(str, stops))}")
    tables = [table(key) for key in LAWS]
    over_ratio = [[rows[a].tolist() for rows in tables] for a in range(len(ALPHAS))]
    over_alpha = [[rows[:, r].tolist() for rows in tables] for r in range(0, len(RATIOS), 2)]
    starts = ALPHAS.index(alpha), STOPS.index(ratio)
    first, second = over_ratio[starts[0]], over_alpha[starts[1]]
    count = len(LAWS)
    layout = _layout() | {
        "sliders": [
            _slider("α", ALPHAS, over_ratio, list(range(count)), starts[0]),
            _slider("N/d", STOPS, over_alpha, list(range(count, 2 * count)), starts[1]),
        ]
    }
    return Interactive(
        "alignment-explorer",
        _traces(RATIOS, first, "") + _traces(ALPHAS, second, "2"),
        layout,
        _places(narrow=False),
        _places(narrow=True),
        png(_still((first, second), alpha, ratio)),
        "Two panels of curves, one for each activation: the alignment constant gamma against the "
        f"number of samples per dimension N/d, at alpha = {alpha}, and against the share alpha of "
        f"the background, at N/d = {ratio:g}. Gamma falls with N/d from a plateau to a lower one; "
        "it grows with alpha and stays below it.",
    )


def table(key: str) -> np.ndarray:
    """Constants of one curve of `LAWS`, four digits: shape `(len(ALPHAS), len(RATIOS))`."""
    return np.round([[LAWS[key](key, alpha, ratio) for ratio in RATIOS] for alpha in ALPHAS], 4)


def plain(label: str) -> str:
    r"""A label of `figures.LABELS` in plain characters.

    plotly sets formulas with MathJax's SVG output alone; the book's pages have its HTML output.

    >>> plain(r"$\phi_2 = h_1 + h_2$")
    'φ₂ = h₁ + h₂'
    """
    text = label.replace("$", "").replace(r"\phi", "φ")
    return re.sub(r"_(\d)", lambda found: "₀₁₂₃₄₅₆₇₈₉"[int(found[1])], text)


def _line(key: str) -> tuple[str, float, float]:
    """Dash, width and opacity. Some NTK curves lie on one of random features (h0+h1 on phi2):
    thin dashes on a wide pale line show both."""
    return ("solid", 5, 0.5) if LAWS[key] is theory.gamma_rf else ("dash", 2, 1)


def _traces(x: Sequence[float], curves: list[list[float]], panel: str) -> list[dict[str, Any]]:
    traces = []
    for key, y in zip(LAWS, curves, strict=True):
        dash, width, opacity = _line(key)
        look = {"color": figures.COLOURS[key], "dash": dash, "width": width, "shape": "spline"}
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": list(x),
                "y": y,
                "name": plain(figures.LABELS[key]),
                "xaxis": f"x{panel}",
                "yaxis": f"y{panel}",
                "opacity": opacity,
                "line": look,
                "legend": "legend" if LAWS[key] is theory.gamma_rf else "legend2",
                # one entry in the legend for both panels
                "legendgroup": key,
                "showlegend": panel == "",
                "hovertemplate": "%{y:.3f}",
            }
        )
    return traces


def _slider(
    name: str,
    stops: Sequence[float],
    curves: list[list[list[float]]],
    traces: list[int],
    active: int,
) -> dict[str, Any]:
    """A slider that gives `traces` the `curves` of each stop, and touches nothing else."""
    return {
        "active": active,
        "currentvalue": {"prefix": f"{name} = ", "font": {"size": 14}},
        "pad": {"t": 0, "b": 0, "l": 0, "r": 0},
        "steps": [
            {"label": f"{stop:g}", "method": "restyle", "args": [{"y": y}, traces]}
            for stop, y in zip(stops, curves, strict=True)
        ],
    }


def _layout() -> dict[str, Any]:
    # a finger that scrolls the page must not zoom the curves
    axis = {"fixedrange": True, "zeroline": False, "gridcolor": "#e6e6e6", "ticks": "outside"}
    names = [{"text": text, "standoff": 4} for text in ("N/d", "α", "γ")]
    gamma = axis | {"range": [0, 1], "title": names[2]}
    title = {"xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    title |= {"showarrow": False, "font": {"size": 14}}
    legend = {"orientation": "h", "x": 0, "yanchor": "top", "font": {"size": 13}}
    legend |= {"tracegroupgap": 0}
    diagonal = {"type": "line", "xref": "x2", "yref": "y2", "x0": 0, "y0": 0, "x1": 1, "y1": 1}
    return {
        "font": {"family": "sans-serif", "size": 12, "color": "#222"},
        "dragmode": False,
        "hovermode": "closest",
        "margin": {"l": 48, "r": 12, "t": _TOP, "b": _BOTTOM},
        "xaxis": axis | {"type": "log", "range": [-2, 2], "dtick": 1, "title": names[0]},
        "xaxis2": axis | {"range": [0, 1], "anchor": "y2", "title": names[1]},
        "yaxis": gamma,
        "yaxis2": gamma | {"anchor": "x2"},
        "annotations": [title | {"text": text} for text in TITLES],
        "shapes": [diagonal | {"line": {"color": figures.COLOURS["bound"], "dash": "dot"}}],
        "legend": legend | {"title": {"text": "Random features", "font": {"size": 13}}},
        "legend2": legend | {"title": {"text": "NTK, φ′ =", "font": {"size": 13}}},
    }


# pixels: margins, height of a panel, from a panel's top to its slider
_TOP, _BOTTOM, _PANEL, _SLIDER = 36, 12, 240, 290


def _places(narrow: bool) -> dict[str, Any]:
    """Where panels, sliders and legends are: side by side, or one below the other on phones."""
    if narrow:
        height, tops, spans, legends = 960, (0, 410), ((0, 1), (0, 1)), (780, 850)
    else:
        height, tops, spans, legends = 490, (0, 0), ((0, 0.46), (0.54, 1)), (375, 405)
    inside = height - _TOP - _BOTTOM
    places: dict[str, Any] = {"height": height}
    for panel, axis in enumerate(("", "2")):
        top, (left, right) = tops[panel], spans[panel]
        places |= {
            f"xaxis{axis}.domain": [left, right],
            f"yaxis{axis}.domain": [1 - (top + _PANEL) / inside, 1 - top / inside],
            f"annotations[{panel}].x": left,
            f"annotations[{panel}].y": 1 - (top - 6) / inside,
            f"sliders[{panel}].x": left,
            f"sliders[{panel}].len": right - left,
            f"sliders[{panel}].y": 1 - (top + _SLIDER) / inside,
            f"legend{axis}.y": 1 - legends[panel] / inside,
            f"legend{axis}.title.side": "top" if narrow else "left",
        }
    return places


def _still(curves: Sequence[list[list[float]]], alpha: float, ratio: float) -> Figure:
    """The two panels for matplotlib, where the sliders start."""
    with plt.rc_context():
        figures.use_style()
        figure = Figure(figsize=(8, 4.4))
        axes = figure.subplots(1, 2, sharey=True)
        starts = (rf"$\alpha = {alpha}$", f"$N/d = {ratio:g}$")
        for ax, x, ys, title, start in zip(
            axes, (RATIOS, ALPHAS), curves, TITLES, starts, strict=True
        ):
            for key, y in zip(LAWS, ys, strict=True):
                dash, width, opacity = _line(key)
                look = {"color": figures.COLOURS[key], "alpha": opacity, "linewidth": 0.75 * width}
                label = "NTK, " * (dash == "dash") + figures.LABELS[key]
                ax.plot(x, y, linestyle="--" if dash == "dash" else "-", label=label, **look)
            ax.set_title(f"{title} ({start})".replace("γ", r"$\gamma$").replace("α", r"$\alpha$"))
        axes[0].set(xscale="log", xlabel="$N/d$", ylabel=r"$\gamma$", ylim=(0, 1))
        axes[1].set(xlabel=r"$\alpha$", xlim=(0, 1))
        axes[1].plot([0, 1], [0, 1], ":", color=figures.COLOURS["bound"], linewidth=1)
        # filled by columns: a row of random features above a row of NTK
        lines = axes[0].get_lines()
        pairs = [line for pair in zip(lines[:4], lines[4:], strict=True) for line in pair]
        figure.legend(handles=pairs, loc="outside lower center", ncols=4)
    return figure
