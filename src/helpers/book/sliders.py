"""Figures with sliders: plain SVG and the browser's own range inputs, a few lines of script.

No library draws them. Arrow keys, Home and End move a slider as in any form, and a screen reader
says where it stands. Without JavaScript and in print the curves stand where the sliders start.
"""

import html
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from matplotlib.ticker import MaxNLocator

from helpers.book import figures

# what the site's styles and tests know such a figure by
MARKER = "slider-figure"
# of the drawing of a panel, in its own units
_HIGH, _LEFT, _RIGHT, _TOP, _BOTTOM = 236, 46, 17, 10, 42
_DASHES = {"solid": "", "dash": "7 4", "dot": "2 4"}

_SCRIPT = """
(() => {
  const root = document.getElementById("%(name)s");
  %(panels)s.forEach(({x, stops, y}, number) => {
    const panel = root.querySelectorAll("[data-panel]")[number];
    const input = panel.querySelector("input"), said = panel.querySelector("[data-value]");
    const lines = panel.querySelectorAll("[data-curve]");
    const show = () => {
      const at = Number(input.value);
      lines.forEach((line, i) => line.setAttribute("d",
        "M" + x.map((across, j) => across + " " + y[at][i][j] / 10).join("L")));
      said.textContent = stops[at];
      input.setAttribute("aria-valuetext", stops[at]);
    };
    input.addEventListener("input", show);
    input.disabled = false;
    show();
  });
  root.querySelectorAll("[data-shows]").forEach(box => {
    box.disabled = false;
    box.addEventListener("change", () => root
      .querySelectorAll(`[data-curve="${box.dataset.shows}"]`)
      .forEach(line => line.style.display = box.checked ? "" : "none"));
  });
})();
"""


@dataclass(frozen=True)
class Curve:
    """How one curve looks in all panels.

    Attributes:
        name: In the legend.
        colour: Of the line; black takes the colour of the text, also on dark pages.
        dash: "solid", "dash" or "dot".
        width: Of the line.
        opacity: Of the line.
        group: What stands before its part of the legend, if anything.
    """

    name: str
    colour: str
    dash: str = "solid"
    width: float = 2.5
    opacity: float = 1.0
    group: str = ""

    def __post_init__(self) -> None:
        if self.dash not in _DASHES:
            raise ValueError(f"dash is {self.dash!r}: it is one of {', '.join(_DASHES)}")

    @property
    def look(self) -> str:
        """Attributes of its line."""
        colour = "currentColor" if self.colour == figures.BLACK else self.colour
        dashes = f' stroke-dasharray="{_DASHES[self.dash]}"' if _DASHES[self.dash] else ""
        return (
            f'fill="none" stroke="{colour}" stroke-width="{self.width:g}" '
            f'stroke-opacity="{self.opacity:g}"{dashes}'
        )


@dataclass(frozen=True)
class Panel:
    """Curves over one variable, and a slider under them for another.

    Attributes:
        title: What the curves show.
        variable: Name of the horizontal axis; `<sub>…</sub>` is set lower, here and in `slider`.
        x: Its values.
        limits: Where the axis begins and ends.
        log: Whether it is logarithmic.
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
    limits: tuple[float, float]
    log: bool
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

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels along the axis."""
        low, high = self.limits
        if not self.log:
            places = MaxNLocator(5).tick_values(low, high)
            return [(x, f"{x:g}") for x in places.round(10) if low <= x <= high]
        powers = range(round(np.log10(low)), round(np.log10(high)) + 1)
        return [
            (10.0**power, _power(power)) for power in powers if len(powers) < 6 or not power % 2
        ]


@dataclass(frozen=True)
class Interactive:
    """A figure to end a cell with: panels with the same curves, a slider under each.

    Attributes:
        name: Id of the figure on its page: lower-case letters, digits and hyphens.
        alt: What the figure shows, in a sentence.
        panels: The panels; each of their stops has one list for each of `curves`.
        curves: The curves.
        vertical: Name of the vertical axis, which goes from 0 to 1 in all panels.
        level: Where a dotted line crosses all panels.
        diagonals: Numbers of the panels that have a dotted diagonal.

    Raises:
        ValueError: The name is no such id, `alt` is empty, or a panel lacks a curve.
    """

    name: str
    alt: str
    panels: Sequence[Panel]
    curves: Sequence[Curve]
    vertical: str
    level: float | None = None
    diagonals: Sequence[int] = field(default=())

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise ValueError(
                f"name is {self.name!r}: it takes lower-case letters, digits and hyphens, "
                "a letter first"
            )
        if not self.alt.strip():
            raise ValueError("alt is empty: say in a sentence what the figure shows")
        for panel in self.panels:
            lines = panel.shown
            if [len(line) for line in lines] != [len(panel.x)] * len(self.curves):
                raise ValueError(f"{panel.title!r} has {len(lines)} curves of another length or "
                                 f"number than {len(self.curves)} over {len(panel.x)}")  # fmt: skip

    @property
    def wide(self) -> int:
        """Width of a panel's drawing, so that letters look alike in rows of two and of three."""
        return 350 if len(self.panels) < 3 else 262

    def place(self, panel: Panel, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where values lie in a panel's drawing.

        Raises:
            ValueError: A value that is no number.
        """
        scale = np.log10 if panel.log else np.asarray
        low, high = scale(panel.limits)
        right = (scale(np.asarray(x, float)) - low) / (high - low)
        up = np.asarray(y, float)
        if not (np.isfinite(right).all() and np.isfinite(up).all()):
            raise ValueError(f"{panel.title!r} has a value that is no number")
        across, down = self.wide - _LEFT - _RIGHT, _HIGH - _TOP - _BOTTOM
        return (_LEFT + across * right).round(1), (_TOP + down * (1 - up)).round(1)

    def _repr_html_(self) -> str:
        data = [self._moves(panel) for panel in self.panels]
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        # "</" could close the script element
        script = _SCRIPT % {"panels": text.replace("</", r"<\/"), "name": self.name}
        panels = "".join(self._panel(number) for number in range(len(self.panels)))
        return (
            f'<div class="{MARKER}" id="{self.name}" role="group" '
            f'aria-label="{html.escape(self.alt)}">'
            f'<div class="panels" style="display:flex;flex-wrap:wrap;gap:1rem">{panels}</div>'
            f"{self._legend()}<script>{script}</script></div>"
        )

    def __repr__(self) -> str:
        return self.alt

    def _moves(self, panel: Panel) -> dict[str, object]:
        """Places of a panel's curves at every stop, tenths of a unit from the top."""
        x, _ = self.place(panel, panel.x, np.zeros(len(panel.x)))
        y = self.place(panel, panel.limits[:1], np.array(panel.curves))[1]
        stops = [f"{stop:g}" for stop in panel.stops]
        return {"x": x.tolist(), "stops": stops, "y": (10 * y).round().astype(int).tolist()}

    def _panel(self, number: int) -> str:
        """Title, drawing and slider of a panel."""
        panel, known = self.panels[number], f"{self.name}-{number + 1}"
        slider = _below(panel.slider, "sub")
        start = f"{panel.start[1]:g}"
        return (
            f'<div class="panel" data-panel style="flex:1 1 {self.wide - 40}px">'
            f'<p class="panel-title" id="{known}-title">{_below(panel.title, "sub")}</p>'
            f'<svg viewBox="0 0 {self.wide} {_HIGH}" role="img" aria-labelledby="{known}-title" '
            f'font-family="sans-serif" font-size="13">{self._drawing(number)}</svg>'
            f'<label for="{known}">{slider} = <span data-value>{start}</span></label>'
            f'<input type="range" id="{known}" min="0" max="{len(panel.stops) - 1}" step="1" '
            f'value="{panel.active}" aria-valuetext="{start}" disabled></div>'
        )

    def _drawing(self, number: int) -> str:
        """Axes, dotted lines, and the curves where the slider starts."""
        panel = self.panels[number]
        (left, right), (bottom, top) = self.place(panel, panel.limits, (0, 1))
        parts = []
        for value, words in panel.ticks():
            x = self.place(panel, (value,), (0,))[0][0]
            parts += [_grid(f"M{x} {bottom}V{top}"), _text(words, x, bottom + 17, "middle")]
        for value in (0, 0.2, 0.4, 0.6, 0.8, 1):
            y = self.place(panel, panel.limits[:1], (value,))[1][0]
            parts += [_grid(f"M{left} {y}H{right}"), _text(f"{value:g}", left - 6, y + 4, "end")]
        parts.append(_text(panel.variable, (left + right) / 2, _HIGH - 6, "middle"))
        middle = (top + bottom) / 2
        turned = f' transform="rotate(-90 13 {middle})"'
        parts.append(_text(self.vertical, 13, middle, "middle", turned))
        dotted = []
        if self.level is not None:
            y = self.place(panel, panel.limits[:1], (self.level,))[1][0]
            dotted.append(f"M{left} {y}H{right}")
        if number in self.diagonals:
            dotted.append(f"M{left} {bottom}L{right} {top}")
        parts += [f'<path d="{d}" stroke="currentColor" stroke-dasharray="2 3"/>' for d in dotted]
        for nth, (curve, y) in enumerate(zip(self.curves, panel.shown, strict=True)):
            places = zip(*self.place(panel, panel.x, np.array(y)), strict=True)
            path = "M" + "L".join(f"{across} {down}" for across, down in places)
            parts.append(f'<path data-curve="{nth}" d="{path}" {curve.look}/>')
        return "".join(parts)

    def _legend(self) -> str:
        """A box to tick for each curve, with its line and name."""
        found, group = [], ""
        for nth, curve in enumerate(self.curves):
            if curve.group != group:
                group = curve.group
                found.append(f"<li>{html.escape(group)}</li>")
            line = f'<path d="M1 5H33" {curve.look}/>'
            found.append(
                f'<li><label><input type="checkbox" data-shows="{nth}" checked disabled>'
                f'<svg width="34" height="10" aria-hidden="true">{line}</svg> '
                f"{html.escape(curve.name)}</label></li>"
            )
        style = "list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.2rem 1rem"
        return f'<ul class="legend" aria-label="Curves" style="{style}">{"".join(found)}</ul>'


def _power(power: int) -> str:
    """A power of ten in words that an axis has room for."""
    if -3 < power < 4:
        return f"{10.0**power:g}"
    return "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(c)] if c.isdigit() else "⁻" for c in str(power))


def _below(words: str, tag: str) -> str:
    """Escaped words with `<sub>` as it is, or as SVG has it."""
    text = html.escape(words, quote=False)
    if tag == "sub":
        return re.sub(r"&lt;(/?sub)&gt;", r"<\1>", text)
    return re.sub(
        r"&lt;sub&gt;(.*?)&lt;/sub&gt;",
        r'<tspan dy="3" font-size="10">\1</tspan><tspan dy="-3">&#8203;</tspan>', text,
    )  # fmt: skip


def _grid(path: str) -> str:
    return f'<path d="{path}" stroke="currentColor" stroke-opacity=".15"/>'


def _text(words: str, x: float, y: float, anchor: str, more: str = "") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="currentColor"{more}>'
        f"{_below(words, 'tspan')}</text>"
    )
