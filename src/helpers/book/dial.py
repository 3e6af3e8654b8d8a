"""A map whose points a slider moves: plain SVG and the browser's own range input.

No library draws it: arrow keys, Home and End work as in any form, and a screen reader hears where
the points are. Without JavaScript, in Jupyter's trust settings and in print, the map stands where
the slider starts.
"""

import html
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

MARKER = "range-figure"
_WIDE, _HIGH = 560, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 20, 14, 58

_SCRIPT = """
(() => {
  const {stops, points} = %(moves)s;
  const root = document.getElementById("%(name)s");
  const [input, output] = [root.querySelector("input"), root.querySelector("output")];
  const show = () => {
    const at = Number(input.value);
    points.forEach((places, i) => root.querySelector(`[data-point="${i}"]`)
      .setAttribute("transform", `translate(${places[at]})`));
    output.textContent = stops[at];
    input.setAttribute("aria-valuetext", stops[at]);
  };
  input.addEventListener("input", show);
  input.disabled = false;
  show();
})();
"""


@dataclass(frozen=True)
class Point:
    """A point of the map.

    Attributes:
        name: what stands beside it.
        colour: of the point.
        y: its height, the same at all stops; above 0.
        xs: its place at each stop, above 0.
        measured: where measurements lie at the same height, drawn as rings that stay.
        below: whether its name stands under it.
    """

    name: str
    colour: str
    y: float
    xs: Sequence[float]
    measured: Sequence[float] = ()
    below: bool = False


@dataclass(frozen=True)
class Dial:
    """A figure to end a cell with: points between two logarithmic axes, a diagonal, a slider.

    Attributes:
        name: id of the figure on its page: lower-case letters, digits and hyphens.
        alt: what the figure shows, in a sentence.
        slider: what the slider changes.
        stops: what is said at each of its stops.
        start: number of the stop where it starts.
        axes: names of the horizontal and of the vertical axis.
        limits: smallest and largest value of either axis.
        points: the points.
        zones: texts on the map, each with its place (x, y).

    Raises:
        ValueError: a name that is no id, no alternative text, a start that is no stop, points that
            lack a stop or lie outside the limits.
    """

    name: str
    alt: str
    slider: str
    stops: Sequence[str]
    start: int
    axes: tuple[str, str]
    limits: tuple[tuple[float, float], tuple[float, float]]
    points: Sequence[Point]
    zones: Sequence[tuple[str, float, float]] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise ValueError(f"name is {self.name!r}: it takes lower-case letters, digits, hyphens")
        if not self.alt.strip():
            raise ValueError("alt is empty: say in a sentence what the figure shows")
        if not 0 <= self.start < len(self.stops):
            raise ValueError(f"start is {self.start}: there are {len(self.stops)} stops")
        (low, high), (bottom, top) = self.limits
        for point in self.points:
            if len(point.xs) != len(self.stops):
                raise ValueError(
                    f"{point.name} has {len(point.xs)} places: there are {len(self.stops)} stops"
                )
            places = [*point.xs, *point.measured]
            if not (all(low <= x <= high for x in places) and bottom <= point.y <= top):
                raise ValueError(f"{point.name} lies outside the limits {self.limits}")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point in the drawing."""
        (low, high), (bottom, top) = self.limits
        right = math.log(x / low) / math.log(high / low)
        up = math.log(y / bottom) / math.log(top / bottom)
        across, down = _WIDE - _LEFT - _RIGHT, _HIGH - _TOP - _BOTTOM
        return round(_LEFT + across * right, 1), round(_TOP + down * (1 - up), 1)

    def _repr_html_(self) -> str:
        moves = [["{},{}".format(*self.place(x, point.y)) for x in point.xs]
                 for point in self.points]  # fmt: skip
        text = json.dumps({"stops": list(self.stops), "points": moves}, ensure_ascii=False)
        script = _SCRIPT % {"moves": text.replace("</", r"<\/"), "name": self.name}
        slider = html.escape(self.slider)
        return (
            f'<div class="{MARKER}" id="{self.name}">{self._svg()}'
            f'<label>{slider} <input type="range" min="0" max="{len(self.stops) - 1}" step="1" '
            f'value="{self.start}" disabled></label> '
            f'<output aria-live="polite">{html.escape(self.stops[self.start])}</output>'
            f"<script>{script}</script></div>"
        )

    def __repr__(self) -> str:
        return self.alt

    def _svg(self) -> str:
        """The drawing where the slider starts."""
        (low, high), (bottom, top) = self.limits
        ends = max(low, bottom), min(high, top)
        (x1, y1), (x2, y2) = (self.place(end, end) for end in ends)
        parts = [*self._grid()]
        parts.append(f'<path d="M{x1} {y1}L{x2} {y2}" stroke="currentColor" stroke-width="1.5"/>')
        for words, x, y in self.zones:
            parts.append(_text(words, *self.place(x, y), "middle"))
        for number, point in enumerate(self.points):
            parts += self._point(number, point)
        return (
            f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{html.escape(self.alt)}" '
            f'font-family="sans-serif" font-size="15">{"".join(parts)}</svg>'
        )

    def _grid(self) -> list[str]:
        """Lines at powers of ten, heavier at 1, with their numbers, and the names of the axes."""
        found = []
        for axis, (low, high) in enumerate(self.limits):
            for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
                value = 10.0**power
                here = self.place(*((value, self.limits[1][0]) if not axis else
                                    (self.limits[0][0], value)))  # fmt: skip
                line = f"V{_TOP}" if not axis else f"H{_WIDE - _RIGHT}"
                opacity = ".6" if not power else ".15"
                found.append(
                    f'<path d="M{here[0]} {here[1]}{line}" stroke="currentColor" '
                    f'stroke-opacity="{opacity}"/>'
                )
                x, y = (here[0], here[1] + 20) if not axis else (here[0] - 7, here[1] + 5)
                found.append(_text(f"{value:g}", x, y, "end" if axis else "middle"))
        middle, centre = (_LEFT + _WIDE - _RIGHT) / 2, (_TOP + _HIGH - _BOTTOM) / 2
        turned = f' transform="rotate(-90 16 {centre})"'
        return [
            *found,
            _text(self.axes[0], middle, _HIGH - 10, "middle"),
            _text(self.axes[1], 16, centre, "middle", more=turned),
        ]

    def _point(self, number: int, point: Point) -> list[str]:
        """Its course, its measurements, and itself with its name."""
        xs = [self.place(x, point.y)[0] for x in point.xs]
        y, colour = self.place(1, point.y)[1], f'"{point.colour}"'
        course = f'<path d="M{min(xs)} {y}H{max(xs)}" stroke={colour} stroke-opacity=".45"/>'
        rings = [
            f'<circle cx="{self.place(x, point.y)[0]}" cy="{y}" r="5" fill="none" stroke={colour}/>'
            for x in point.measured
        ]
        left = max(xs) > _WIDE * 0.62
        words = _text(
            point.name, -9 if left else 9, 20 if point.below else -7, "end" if left else "start"
        )
        where = "{},{}".format(*self.place(point.xs[self.start], point.y))
        return [
            course,
            *rings,
            f'<g data-point="{number}" transform="translate({where})">'
            f'<circle r="6.5" fill={colour}/>{words}</g>',
        ]


def _text(words: str, x: float, y: float, anchor: str, more: str = "") -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="currentColor"{more}>'
        f"{html.escape(words)}</text>"
    )
