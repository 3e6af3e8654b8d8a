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
# pixels: height of letters, between a name and its course, radius of a point
_TALL, _GAP, _DOT = 15, 3, 6.5

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
        name: what stands at its course, and stays.
        colour: of the point.
        y: its height, the same at all stops; above 0.
        xs: its place at each stop, above 0.
        measured: where measurements lie at the same height, drawn as rings that stay.
    """

    name: str
    colour: str
    y: float
    xs: Sequence[float]
    measured: Sequence[float] = ()


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
            lack a stop or lie outside the limits; when drawn, a name that has no room.
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
        (x1, y1), (x2, y2) = (self.place(end, end) for end in self._diagonal(2))
        parts = [*self._grid()]
        parts.append(f'<path d="M{x1} {y1}L{x2} {y2}" stroke="currentColor" stroke-width="1.5"/>')
        for words, x, y in self.zones:
            parts.append(_text(words, *self.place(x, y), "middle"))
        for number, (point, box) in enumerate(zip(self.points, self._names(), strict=True)):
            parts += self._point(number, point)
            parts.append(_text(point.name, box.x, box.y + 0.8 * box.high, "start"))
        return (
            f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{html.escape(self.alt)}" '
            f'font-family="sans-serif" font-size="{_TALL}">{"".join(parts)}</svg>'
        )

    def _diagonal(self, count: int) -> list[float]:
        """Values along the diagonal, from end to end."""
        (low, high), (bottom, top) = self.limits
        start, end = max(low, bottom), min(high, top)
        return [start * (end / start) ** (at / (count - 1)) for at in range(count)]

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
        """Its course, its measurements, and itself."""
        course, colour = self._course(point), f'"{point.colour}"'
        y = course.y + _DOT
        left, right = course.x + _DOT, course.x + course.wide - _DOT
        rings = [
            f'<circle cx="{self.place(x, point.y)[0]}" cy="{y:g}" r="5" fill="none" '
            f"stroke={colour}/>"
            for x in point.measured
        ]
        where = "{},{}".format(*self.place(point.xs[self.start], point.y))
        return [
            f'<path d="M{left:g} {y:g}H{right:g}" stroke={colour} stroke-opacity=".45"/>',
            *rings,
            f'<g data-point="{number}" transform="translate({where})">'
            f'<circle r="{_DOT}" fill={colour}/></g>',
        ]

    def _course(self, point: Point) -> "_Box":
        """All that a point and its rings ever cover."""
        xs = [self.place(x, point.y)[0] for x in (*point.xs, *point.measured)]
        y = self.place(1, point.y)[1]
        return _Box(min(xs) - _DOT, y - _DOT, max(xs) - min(xs) + 2 * _DOT, 2 * _DOT)

    def _names(self) -> list["_Box"]:
        """Where names of points stand: clear of courses, of each other and of the zones' texts."""
        courses = [self._course(point) for point in self.points]
        texts = [(words, *self.place(x, y)) for words, x, y in self.zones]
        taken = [
            *courses,
            *(_Box(x - _long(words) / 2, y - _TALL, _long(words), _TALL) for words, x, y in texts),
        ]
        line = [_Box(*self.place(x, x), 1, 1) for x in self._diagonal(100)]
        found: list[_Box] = []
        for point, course in zip(self.points, courses, strict=True):
            free = [
                box
                for box in course.beside(_long(point.name), _TALL)
                if box.x >= _LEFT and box.x + box.wide <= _WIDE - _RIGHT
                and box.y >= _TOP and box.y + box.high <= _HIGH - _BOTTOM
            ]  # fmt: skip
            if not free:
                raise ValueError(f"the name {point.name!r} has no room on the map: shorten it")
            # a name may rather cross the diagonal than lie on another word
            found.append(min(free, key=lambda box: (box.meet(taken), box.meet(line))))
            taken.append(found[-1])
        return found


@dataclass(frozen=True)
class _Box:
    """A rectangle from its upper left corner, in pixels."""

    x: float
    y: float
    wide: float
    high: float

    def meet(self, others: Sequence["_Box"]) -> int:
        """How many others it lies on."""
        return sum(
            self.x < one.x + one.wide
            and one.x < self.x + self.wide
            and self.y < one.y + one.high
            and one.y < self.y + self.high
            for one in others
        )

    def beside(self, wide: float, high: float) -> list["_Box"]:
        """Places for a text: after this box and before it, then above and below, at either end."""
        right = self.x + self.wide
        centre = self.y + (self.high - high) / 2
        above, below = self.y - high, self.y + self.high
        ends = (right - wide, self.x, (self.x + right - wide) / 2)
        return [
            _Box(right + _GAP, centre, wide, high),
            _Box(self.x - _GAP - wide, centre, wide, high),
            *(_Box(x, y, wide, high) for y in (above, below) for x in ends),
        ]


def _long(words: str) -> float:
    """Pixels of a line of words, at most: a sans-serif letter is half as wide as it is high."""
    return 0.58 * _TALL * len(words)


def _text(words: str, x: float, y: float, anchor: str, more: str = "") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="currentColor"{more}>'
        f"{html.escape(words)}</text>"
    )
