"""Figures with sliders: drawn by plotly on the book's pages, a still image everywhere else.

A figure is written as plotly's JSON; the Python package plotly is not needed to make it. The page's
`plotly.min.js` (book/_ext/offline_book.py) draws it. Without that file or without JavaScript, in
Jupyter and in print, an image with an alternative text stands in its place.
"""

import base64
import html
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from helpers.book import figures

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

    Attributes:
        name: Id of the drawing on its page: lower-case letters, digits and hyphens.
        data: Traces, as plotly.js takes them.
        layout: The layout, likewise.
        wide: The layout's entries that differ between desks and phones, for `relayout`: on desks.
        narrow: The same on phones.
        image: The PNG that stands in for the drawing.
        alt: What the figure shows, in a sentence.

    Raises:
        ValueError: The name is no such id, or `alt` is empty.

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


# -- panels with a slider each ---------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """Curves over one variable, and a slider under them for another.

    Attributes:
        title: What the curves show.
        variable: Name of the horizontal axis.
        x: Its values.
        axis: Further properties of the axis, as plotly takes them.
        slider: Name of the slider.
        stops: The values that it stops at.
        start: Where it starts, and what an error calls it.
        draw: One list of values over `x` for each curve, at a stop.

    Raises:
        ValueError: The slider would start at no stop.
    """

    title: str
    variable: str
    x: np.ndarray
    axis: dict[str, Any]
    slider: str
    stops: Sequence[float]
    start: tuple[str, float]
    draw: Callable[[float], list[list[float]]]

    def __post_init__(self) -> None:
        name, value = self.start
        if value not in self.stops:
            stops = ", ".join(map(str, self.stops))
            raise ValueError(f"{name} is {value}: the slider has {stops}")

    @cached_property
    def curves(self) -> list[list[list[float]]]:
        """What is drawn at each stop."""
        return list(map(self.draw, self.stops))

    @property
    def active(self) -> int:
        """Number of the stop that the slider starts at."""
        return list(self.stops).index(self.start[1])

    @property
    def shown(self) -> list[list[float]]:
        """The curves where the slider starts."""
        return self.curves[self.active]


def traces(panels: Sequence[Panel], looks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Traces of all panels, in the order of the panels; `looks` has the look of each curve."""
    found = []
    for number, panel in enumerate(panels):
        for look, y in zip(looks, panel.shown, strict=True):
            trace = {"type": "scatter", "mode": "lines", "x": panel.x.tolist(), "y": y}
            trace |= {"name": look["name"], "xaxis": f"x{nth(number)}"}
            trace |= {"yaxis": f"y{nth(number)}", **look}
            # one entry in the legend for all panels
            found.append(trace | {"showlegend": number == 0, "hovertemplate": "%{y:.3f}"})
    return found


def nth(number: int) -> str:
    """What plotly appends to the names of the axes of a panel: "", "2", "3" and so on."""
    return str(number + 1) if number else ""


def _sliders(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """One slider a panel: it gives the panel's traces the curves of each stop, nothing else."""
    sliders, first = [], 0
    for panel in panels:
        own = list(range(first, first := first + len(panel.shown)))
        sliders.append(
            {
                "active": panel.active,
                "currentvalue": {"prefix": f"{panel.slider} = ", "font": {"size": 14}},
                "pad": {"t": 0, "b": 0, "l": 0, "r": 0},
                "steps": [
                    {"label": f"{stop:g}", "method": "restyle", "args": [{"y": y}, own]}
                    for stop, y in zip(panel.stops, panel.curves, strict=True)
                ],
            }
        )
    return sliders


def layout(
    panels: Sequence[Panel], vertical: str, legends: Sequence[str], shapes: list[dict[str, Any]]
) -> dict[str, Any]:
    """Axes, titles, sliders and legends; `vertical` names the axis from 0 to 1 of all panels."""
    # a finger that scrolls the page must not zoom the curves
    axis = {"fixedrange": True, "zeroline": False, "gridcolor": "#e6e6e6", "ticks": "outside"}
    height = axis | {"range": [0, 1], "title": {"text": vertical, "standoff": 4}}
    title = {"xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    title |= {"showarrow": False, "font": {"size": 14}}
    legend = {"orientation": "h", "x": 0, "yanchor": "top", "font": {"size": 13}}
    legend |= {"tracegroupgap": 0}
    found = {
        "font": {"family": "sans-serif", "size": 12, "color": "#222"},
        "dragmode": False,
        "hovermode": "closest",
        "margin": {"l": 48, "r": 12, "t": _TOP, "b": _BOTTOM},
    }
    for number, panel in enumerate(panels):
        anchor = {"anchor": f"y{nth(number)}"} if number else {}
        name = {"title": {"text": panel.variable, "standoff": 4}}
        found[f"xaxis{nth(number)}"] = axis | panel.axis | anchor | name
    for number in range(len(panels)):
        anchor = {"anchor": f"x{nth(number)}"} if number else {}
        found[f"yaxis{nth(number)}"] = height | anchor
    found |= {"annotations": [title | {"text": panel.title} for panel in panels], "shapes": shapes}
    for number, text in enumerate(legends):
        words = {"title": {"text": text, "font": {"size": 13}}} if text else {}
        found[f"legend{nth(number)}"] = legend | words
    return found | {"sliders": _sliders(panels)}


# pixels: margins, height of a panel, from a panel's top to its slider
_TOP, _BOTTOM, _PANEL, _SLIDER = 36, 12, 240, 290


def places(
    height: int,
    tops: Sequence[float],
    spans: Sequence[tuple[float, float]],
    legends: Sequence[float],
    side: str,
) -> dict[str, Any]:
    """Entries of the layout, for `relayout`, that say where everything is.

    Args:
        height: Of the whole, in pixels, as all that is vertical.
        tops: Where each panel begins.
        spans: Shares of the width at which each panel begins and ends.
        legends: Where each legend begins.
        side: Where a legend has its title, "left" or "top".
    """
    inside = height - _TOP - _BOTTOM
    found: dict[str, Any] = {"height": height}
    for number, (top, (left, right)) in enumerate(zip(tops, spans, strict=True)):
        found |= {
            f"xaxis{nth(number)}.domain": [left, right],
            f"yaxis{nth(number)}.domain": [1 - (top + _PANEL) / inside, 1 - top / inside],
            f"annotations[{number}].x": left,
            f"annotations[{number}].y": 1 - (top - 6) / inside,
            f"sliders[{number}].x": left,
            f"sliders[{number}].len": right - left,
            f"sliders[{number}].y": 1 - (top + _SLIDER) / inside,
        }
        if number < len(legends):
            found[f"legend{nth(number)}.y"] = 1 - legends[number] / inside
            found[f"legend{nth(number)}.title.side"] = side
    return found


# -- three panels, curves with names of their own --------------------------------------------------

# key: name in the legend, colour (a key of `figures.COLOURS`), dash as plotly calls it
Curves = Mapping[str, tuple[str, str, str]]


def three_panels(
    name: str,
    alt: str,
    panels: Sequence[Panel],
    curves: Curves,
    vertical: str,
    formulas: Mapping[str, str],
    level: float | None = None,
) -> Interactive:
    """Three panels with the same curves: side by side on a wide page, else one below the other.

    Args:
        name: As in `Interactive`.
        alt: As in `Interactive`.
        panels: The panels; each of their stops has one list for each of `curves`.
        curves: Name, colour and dash of each curve.
        vertical: Name of the vertical axis.
        formulas: Symbols in plotly's text -> formulas for the still image.
        level: Where a dotted line crosses all panels.
    """
    looks = [
        {
            "name": words,
            "line": {"color": figures.COLOURS[colour], "dash": dash, "width": 2.5},
            "legendgroup": key,
        }
        for key, (words, colour, dash) in curves.items()
    ]
    line = {"color": figures.COLOURS["bound"], "dash": "dot", "width": 1}
    levels = [
        {"type": "line", "xref": f"x{nth(i)}", "yref": f"y{nth(i)}", "y0": level, "y1": level}
        | {"x0": panel.axis["range"][0], "x1": panel.axis["range"][1], "line": line}
        for i, panel in enumerate(panels)
        if level is not None
    ]
    spans = ((0, 0.28), (0.36, 0.64), (0.72, 1))
    # on a narrow page each entry of the legend has a row
    narrow = 1270 + 20 * len(curves)
    return Interactive(
        name,
        traces(panels, looks),
        layout(panels, vertical, ("",), levels),
        places(430, (0, 0, 0), spans, (375,), "left"),
        places(narrow, (0, 410, 820), ((0, 1),) * 3, (1195,), "top"),
        png(_still(panels, curves, vertical, formulas, level)),
        alt,
    )


def _still(
    panels: Sequence[Panel],
    curves: Curves,
    vertical: str,
    formulas: Mapping[str, str],
    level: float | None,
) -> Figure:
    """The three panels for matplotlib, where the sliders start."""

    def maths(text: str) -> str:
        for symbol, formula in formulas.items():
            text = text.replace(symbol, f"${formula}$")
        return text

    with plt.rc_context():
        figures.use_style()
        figure = Figure(figsize=(8.6, 3.6))
        for ax, panel in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
            for (name, colour, dash), y in zip(curves.values(), panel.shown, strict=True):
                style = {"solid": "-", "dash": "--", "dot": ":"}[dash]
                ax.plot(panel.x, y, style, color=figures.COLOURS[colour], label=maths(name))
            where = f"{panel.slider} = {panel.start[1]:g}"
            ax.set_title(f"{maths(panel.title)}\n{maths(where)}", fontsize=10.5)
            ax.set(xlabel=maths(panel.variable), ylim=(0, 1 if level is None else 1.02))
            ax.set_xscale(panel.axis.get("type", "linear"))
        figure.axes[0].set_ylabel(vertical.replace("Δ", r"$\Delta$"))
        lines = figure.axes[0].get_lines()
        columns = 3 if len(lines) < 4 else 2
        figure.legend(handles=lines, loc="outside lower center", ncols=columns)
    for ax in figure.axes if level is not None else ():
        ax.axhline(level, color=figures.COLOURS["bound"], linestyle=":", linewidth=0.8)
    return figure
