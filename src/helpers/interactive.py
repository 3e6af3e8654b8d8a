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


# -- panels with a slider each ---------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """Curves over one variable, and a slider under them for another.

    title           what the curves show
    variable, x     name of the horizontal axis, and its values
    axis            further properties of the axis, as plotly takes them
    slider, stops   name of the slider, and the values that it stops at
    curves          `curves[stop][key]`: one list of values over `x` for each stop and curve
    active          number of the stop that the slider starts at
    """

    title: str
    variable: str
    x: Sequence[float]
    axis: dict[str, Any]
    slider: str
    stops: Sequence[float]
    curves: list[list[list[float]]]
    active: int

    @property
    def shown(self) -> list[list[float]]:
        """The curves where the slider starts."""
        return self.curves[self.active]


def _start(name: str, start: float, stops: Sequence[float]) -> int:
    """Number of the stop at which a slider starts; ValueError where there is none."""
    if start not in stops:
        raise ValueError(f"{name} is {start}: the slider has {', '.join(map(str, stops))}")
    return list(stops).index(start)


def _data(panels: Sequence[Panel], looks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Traces of all panels, in the order of the panels; `looks` has the look of each curve."""
    traces = []
    for number, panel in enumerate(panels):
        for look, y in zip(looks, panel.shown, strict=True):
            trace = {"type": "scatter", "mode": "lines", "x": list(panel.x), "y": y}
            trace |= {"name": look["name"], "xaxis": f"x{_nth(number)}"}
            trace |= {"yaxis": f"y{_nth(number)}", **look}
            # one entry in the legend for all panels
            traces.append(trace | {"showlegend": number == 0, "hovertemplate": "%{y:.3f}"})
    return traces


def _nth(number: int) -> str:
    """What plotly appends to the names of the axes of panel `number`: "", "2", "3" …"""
    return str(number + 1) if number else ""


def _sliders(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """One slider a panel: it gives the panel's traces the curves of each stop, nothing else."""
    sliders, first = [], 0
    for panel in panels:
        traces = list(range(first, first := first + len(panel.shown)))
        sliders.append(
            {
                "active": panel.active,
                "currentvalue": {"prefix": f"{panel.slider} = ", "font": {"size": 14}},
                "pad": {"t": 0, "b": 0, "l": 0, "r": 0},
                "steps": [
                    {"label": f"{stop:g}", "method": "restyle", "args": [{"y": y}, traces]}
                    for stop, y in zip(panel.stops, panel.curves, strict=True)
                ],
            }
        )
    return sliders


def _layout(
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
    layout = {
        "font": {"family": "sans-serif", "size": 12, "color": "#222"},
        "dragmode": False,
        "hovermode": "closest",
        "margin": {"l": 48, "r": 12, "t": _TOP, "b": _BOTTOM},
    }
    for number, panel in enumerate(panels):
        anchor = {"anchor": f"y{_nth(number)}"} if number else {}
        name = {"title": {"text": panel.variable, "standoff": 4}}
        layout[f"xaxis{_nth(number)}"] = axis | panel.axis | anchor | name
    for number in range(len(panels)):
        anchor = {"anchor": f"x{_nth(number)}"} if number else {}
        layout[f"yaxis{_nth(number)}"] = height | anchor
    layout |= {"annotations": [title | {"text": panel.title} for panel in panels], "shapes": shapes}
    for number, text in enumerate(legends):
        words = {"title": {"text": text, "font": {"size": 13}}} if text else {}
        layout[f"legend{_nth(number)}"] = legend | words
    return layout | {"sliders": _sliders(panels)}


# pixels: margins, height of a panel, from a panel's top to its slider
_TOP, _BOTTOM, _PANEL, _SLIDER = 36, 12, 240, 290


@dataclass(frozen=True)
class Places:
    """Where panels, sliders and legends are, in pixels from the top and shares of the width."""

    height: int
    tops: Sequence[float]
    spans: Sequence[tuple[float, float]]
    legends: Sequence[float]
    side: str

    def entries(self) -> dict[str, Any]:
        """The entries of the layout that say so, for `relayout`."""
        inside = self.height - _TOP - _BOTTOM
        places: dict[str, Any] = {"height": self.height}
        legends = [*self.legends, *[None] * (len(self.tops) - len(self.legends))]
        for number, (top, (left, right), legend) in enumerate(
            zip(self.tops, self.spans, legends, strict=True)
        ):
            axis = _nth(number)
            places |= {
                f"xaxis{axis}.domain": [left, right],
                f"yaxis{axis}.domain": [1 - (top + _PANEL) / inside, 1 - top / inside],
                f"annotations[{number}].x": left,
                f"annotations[{number}].y": 1 - (top - 6) / inside,
                f"sliders[{number}].x": left,
                f"sliders[{number}].len": right - left,
                f"sliders[{number}].y": 1 - (top + _SLIDER) / inside,
            }
            if legend is not None:
                places[f"legend{axis}.y"] = 1 - legend / inside
                places[f"legend{axis}.title.side"] = self.side
        return places


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
    starts = _start("alpha", alpha, ALPHAS), _start("ratio", ratio, STOPS)
    tables = [table(key) for key in LAWS]
    over_ratio = [[rows[a].tolist() for rows in tables] for a in range(len(ALPHAS))]
    over_alpha = [[rows[:, r].tolist() for rows in tables] for r in range(0, len(RATIOS), 2)]
    axes = {"type": "log", "range": [-2, 2], "dtick": 1}, {"range": [0, 1]}
    panels = (
        Panel(TITLES[0], "N/d", RATIOS, axes[0], "α", ALPHAS, over_ratio, starts[0]),
        Panel(TITLES[1], "α", ALPHAS, axes[1], "N/d", STOPS, over_alpha, starts[1]),
    )
    diagonal = {"type": "line", "xref": "x2", "yref": "y2", "x0": 0, "y0": 0, "x1": 1, "y1": 1}
    diagonal |= {"line": {"color": figures.COLOURS["bound"], "dash": "dot"}}
    return Interactive(
        "alignment-explorer",
        _data(panels, [_look(key) for key in LAWS]),
        _layout(panels, "γ", ("Random features", "NTK, φ′ ="), [diagonal]),
        Places(490, (0, 0), ((0, 0.46), (0.54, 1)), (375, 405), "left").entries(),
        Places(960, (0, 410), ((0, 1), (0, 1)), (780, 850), "top").entries(),
        png(_still([panel.shown for panel in panels], alpha, ratio)),
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


def _look(key: str) -> dict[str, Any]:
    """The look of one curve of `LAWS` in all panels."""
    dash, width, opacity = _line(key)
    look = {"color": figures.COLOURS[key], "dash": dash, "width": width, "shape": "spline"}
    return {
        "name": plain(figures.LABELS[key]),
        "opacity": opacity,
        "line": look,
        "legend": "legend" if LAWS[key] is theory.gamma_rf else "legend2",
        "legendgroup": key,
    }


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


# -- three panels, curves with names of their own --------------------------------------------------

# key: name in the legend, colour (a key of `figures.COLOURS`), dash as plotly calls it
Curves = dict[str, tuple[str, str, str]]


def _looks(curves: Curves) -> list[dict[str, Any]]:
    """The look of each curve in all panels, for `_data`."""
    return [
        {
            "name": name,
            "line": {"color": figures.COLOURS[colour], "dash": dash, "width": 2.5},
            "legendgroup": key,
        }
        for key, (name, colour, dash) in curves.items()
    ]


def _beside_or_below(height: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Places of three panels side by side on a wide page, and one below the other on a phone."""
    spans = ((0, 0.28), (0.36, 0.64), (0.72, 1))
    return (
        Places(430, (0, 0, 0), spans, (375,), "left").entries(),
        Places(height, (0, 410, 820), ((0, 1),) * 3, (1195,), "top").entries(),
    )


def _still_panels(
    panels: Sequence[Panel],
    curves: Curves,
    maths: Callable[[str], str],
    vertical: str,
    *,
    columns: int,
    top: float = 1,
) -> Figure:
    """Three panels for matplotlib, where the sliders start; `maths` sets symbols as formulas."""
    with plt.rc_context():
        figures.use_style()
        figure = Figure(figsize=(8.6, 3.6))
        for ax, panel in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
            for (name, colour, dash), y in zip(curves.values(), panel.shown, strict=True):
                style = {"solid": "-", "dash": "--", "dot": ":"}[dash]
                ax.plot(panel.x, y, style, color=figures.COLOURS[colour], label=maths(name))
            start = f"{panel.slider} = {panel.stops[panel.active]:g}"
            ax.set_title(f"{maths(panel.title)}\n{maths(start)}", fontsize=10.5)
            ax.set(xlabel=maths(panel.variable), ylim=(0, top))
            ax.set_xscale(panel.axis.get("type", "linear"))
        figure.axes[0].set_ylabel(vertical)
        lines = figure.axes[0].get_lines()
        figure.legend(handles=lines, loc="outside lower center", ncols=columns)
    return figure


# -- the explorer of rare examples -----------------------------------------------------------------

# what stays fixed, as in the noise and ridge panels of Yang, Chou & Chaudhuri
RARE_FIXED = {"P": 1.0, "var_inv": 0.5, "var_sp": 0.1}
SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
STRENGTHS = (1.0, 3.0, 10.0, 20.0, 50.0, 100.0, 300.0, 1e3, 1e4, 1e5)
RIDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
RARE_CURVES: Curves = {
    "clean": ("clean accuracy", "test", "solid"),
    "spurious": ("accuracy with the pattern", "spurious", "solid"),
    "prediction_difference": ("Δ", "law", "dash"),
}


def rare_curves(gamma: np.ndarray, strength: np.ndarray, lam: np.ndarray) -> list[list[float]]:
    """The curves of `RARE_CURVES` over whichever argument is an array, four digits.

    Args:
        gamma, lam: as in :func:`helpers.theory.rare_linear`.
        strength: S over the variance of a spurious coordinate.

    Source: :func:`helpers.theory.rare_linear`, the other arguments from `RARE_FIXED`.

    >>> rare_curves(np.array([0.25]), 50.0, 0.0)
    [[0.9191], [0.7673], [0.3503]]
    """
    S = strength * RARE_FIXED["var_sp"]
    found = theory.rare_linear(S=S, gamma=gamma, lam=lam, **RARE_FIXED)
    return [np.round(getattr(found, key), 4).tolist() for key in RARE_CURVES]


def rare_explorer(strength: float = 50.0, lam: float = 0.0, gamma: float = 0.1) -> Interactive:
    r"""The linear model of rare spurious examples in three panels.

    Each of the three quantities is the axis of one panel and the slider of another: over the share
    gamma with a slider for the strength (no ridge), over the strength with a slider for the ridge
    (gamma = 0.1), over the ridge with a slider for gamma (strength 50). The traces are those of
    `RARE_CURVES` in its order, panel by panel.

    Args:
        strength: where the first slider starts, one of `STRENGTHS`.
        lam: where the second slider starts, one of `RIDGES`.
        gamma: where the third slider starts, one of `SHARES`.

    Raises:
        ValueError: a start that is not a stop of its slider.

    Source: :func:`helpers.theory.rare_linear`.
    """
    shares = np.round(np.r_[0, np.geomspace(2e-4, 0.5, 50)], 5)
    strengths, ridges = (
        np.array([float(f"{x:.3g}") for x in np.geomspace(*ends, 41)])
        for ends in ((1, 1e5), (1e-3, 100))
    )
    logarithmic = {"type": "log", "dtick": 2, "tickangle": 0, "exponentformat": "power"}
    over_share = [rare_curves(shares, stop, 0.0) for stop in STRENGTHS]
    over_strength = [rare_curves(0.1, strengths, stop) for stop in RIDGES]
    over_ridge = [rare_curves(stop, 50.0, ridges) for stop in SHARES]
    ratio = "S/v<sub>s</sub>"
    starts = (
        _start("strength", strength, STRENGTHS),
        _start("lam", lam, RIDGES),
        _start("gamma", gamma, SHARES),
    )
    titles = ("A few suffice (λ = 0)", "Strength hurts (γ = 0.1)", f"Ridge damps ({ratio} = 50)")
    axes = {"range": [0, 0.5]}, logarithmic | {"range": [0, 5]}, logarithmic | {"range": [-3, 2]}
    panels = tuple(
        Panel(title, variable, x.tolist(), axis, slider, stops, curves, start)
        for title, variable, x, axis, slider, stops, curves, start in zip(
            titles,
            ("γ", ratio, "λ"),
            (shares, strengths, ridges),
            axes,
            (ratio, "λ", "γ"),
            (STRENGTHS, RIDGES, SHARES),
            (over_share, over_strength, over_ridge),
            starts,
            strict=True,
        )
    )
    return Interactive(
        "rare-explorer",
        _data(panels, _looks(RARE_CURVES)),
        _layout(panels, "accuracy, Δ", ("",), []),
        *_beside_or_below(1330),
        png(_rare_still(panels)),
        "Three panels with clean accuracy, accuracy with the pattern and prediction difference: "
        f"against the share gamma at S/vs = {strength:g}, against S/vs at lambda = {lam:g}, and "
        f"against lambda at gamma = {gamma:g}. Accuracy with the pattern falls and the difference "
        "rises within a small range of gamma, smaller for larger S/vs; a ridge lowers the "
        "difference.",
    )


def _rare_still(panels: Sequence[Panel]) -> Figure:
    """The three panels for matplotlib, where the sliders start."""

    def maths(text: str) -> str:
        for word, formula in (("S/v<sub>s</sub>", "S/v_s"), ("γ", r"\gamma"), ("λ", r"\lambda")):
            text = text.replace(word, f"${formula}$")
        return text

    return _still_panels(panels, RARE_CURVES, maths, r"accuracy, $\Delta$", columns=3)


# -- the explorer of shortcut and core -------------------------------------------------------------

# what stays fixed where it is neither an axis nor a slider
AXES_FIXED = {"rho": 0.95, "m_s": 2.0, "m_c": 1.0, "sigma_s": 0.7, "sigma_c": 0.7}
AMPLITUDES = (0.25, 0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
BALANCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
CORE_NOISES = (0.0, 0.1, 0.25, 0.5, 0.7, 1.0, 1.5, 2.0)
AXES_CURVES: Curves = {
    "aligned": ("accuracy, aligned", "test", "solid"),
    "conflicting": ("accuracy, conflicting", "spurious", "solid"),
    "shortcut": ("shortcut's share of the output", "law", "dash"),
    "spectrum": ("μ₁ / (μ₁ + μ₂)", "bound", "dot"),
}


def axes_curves(**changed: np.ndarray | float) -> list[list[float]]:
    """The curves of `AXES_CURVES` over whichever argument is an array, four digits.

    The shortcut's share of the output is R / (1 + R): above 1/2 where the shortcut wins.

    Args:
        changed: arguments of :func:`helpers.theory.two_axis` that are not as in `AXES_FIXED`.

    Source: :func:`helpers.theory.two_axis`.

    >>> axes_curves(sigma_c=np.array([0.05, 1.0]))[1]
    [1.0, 0.0927]
    """
    found = theory.two_axis(**AXES_FIXED | changed)
    first, second = found.eigenvalues
    curves = {
        "aligned": found.aligned,
        "conflicting": found.conflicting,
        "shortcut": found.reliance / (1 + found.reliance),
        "spectrum": first / (first + second),
    }
    return [np.round(curves[key], 4).tolist() for key in AXES_CURVES]


def two_axis_explorer(m_s: float = 2.0, rho: float = 0.95, sigma_c: float = 0.7) -> Interactive:
    r"""The trained linear network on one shortcut axis and one core axis, in three panels.

    Over the share of aligned samples with a slider for the shortcut's amplitude, over the noise of
    the core with a slider for the share, over the noise of the shortcut with a slider for the noise
    of the core. What is neither is as in `AXES_FIXED`. The traces are those of `AXES_CURVES` in its
    order, panel by panel. Where accuracy on conflicting samples and the shortcut's share cross the
    dotted line at 1/2, the shortcut begins to win.

    Args:
        m_s: where the first slider starts, one of `AMPLITUDES`.
        rho: where the second slider starts, one of `BALANCES`.
        sigma_c: where the third slider starts, one of `CORE_NOISES`.

    Raises:
        ValueError: a start that is not a stop of its slider.

    Source: :func:`helpers.theory.two_axis`.
    """
    shares = np.round(np.r_[np.linspace(0.5, 0.94, 23), np.linspace(0.95, 0.998, 17)], 4)
    noises = np.round(np.linspace(0, 2, 41), 3)
    names = ("m<sub>s</sub>", "ρ", "σ<sub>c</sub>")
    panels = (
        Panel(
            "Imbalance, amplitude",
            "ρ",
            shares.tolist(),
            {"range": [0.5, 1]},
            names[0],
            AMPLITUDES,
            [axes_curves(rho=shares, m_s=stop) for stop in AMPLITUDES],
            _start("m_s", m_s, AMPLITUDES),
        ),
        Panel(
            "Noise of the core",
            names[2],
            noises.tolist(),
            {"range": [0, 2]},
            names[1],
            BALANCES,
            [axes_curves(sigma_c=noises, rho=stop) for stop in BALANCES],
            _start("rho", rho, BALANCES),
        ),
        Panel(
            "Noise of the shortcut",
            "σ<sub>s</sub>",
            noises.tolist(),
            {"range": [0, 2]},
            names[2],
            CORE_NOISES,
            [axes_curves(sigma_s=noises, sigma_c=stop) for stop in CORE_NOISES],
            _start("sigma_c", sigma_c, CORE_NOISES),
        ),
    )
    line = {"color": figures.COLOURS["bound"], "dash": "dot", "width": 1}
    halves = [
        {"type": "line", "xref": f"x{_nth(i)}", "yref": f"y{_nth(i)}", "y0": 0.5, "y1": 0.5}
        | {"x0": panel.axis["range"][0], "x1": panel.axis["range"][1], "line": line}
        for i, panel in enumerate(panels)
    ]
    return Interactive(
        "two-axis-explorer",
        _data(panels, _looks(AXES_CURVES)),
        _layout(panels, "accuracy, share", ("",), halves),
        *_beside_or_below(1350),
        png(_axes_still(panels)),
        "Three panels with accuracy on aligned and on conflicting samples, the shortcut's share of "
        "the output, and the first feature's share of the spectrum: against the share of aligned "
        f"samples rho at amplitude {m_s:g}, against the noise of the core at rho = {rho:g}, and "
        f"against the shortcut's noise at core noise {sigma_c:g}. Accuracy on conflicting samples "
        "falls with rho and with the noise of the core, and crosses one half where the shortcut's "
        "share does.",
    )


def _axes_still(panels: Sequence[Panel]) -> Figure:
    """The three panels for matplotlib, where the sliders start."""

    def maths(text: str) -> str:
        text = re.sub(r"(\w)<sub>(\w)</sub>", r"$\1_\2$", text)
        for word, formula in (("ρ", r"\rho"), ("μ₁ / (μ₁ + μ₂)", r"\mu_1/(\mu_1 + \mu_2)")):
            text = text.replace(word, f"${formula}$")
        return text.replace("σ", r"\sigma")

    figure = _still_panels(panels, AXES_CURVES, maths, "accuracy, share", columns=2, top=1.02)
    for ax in figure.axes:
        ax.axhline(0.5, color=figures.COLOURS["bound"], linestyle=":", linewidth=0.8)
    return figure
