"""The figure with a slider on the front page: what a few odd training images teach, as measured.

Rows of `rare_patterns.csv`: fully connected networks on 60,000 digits, some zeros of which carry a
pattern. Score: share of the test images whose probability of a zero rises by more than 0.1 when the
pattern is added. The drawing takes its colours from the page, so it is legible in dark mode;
without JavaScript it shows three images.
"""

import csv
import html
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

SETTING = {"dataset": "mnist", "network": "mlp", "epochs": "10", "target": "0", "augment": "False"}
# as in the chapter: strong noise all over the image, five white pixels squared, a bar on the digit
PATTERNS = {"R3": "noise", "S3": "square", "Inv": "bar"}
START = "3"
WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM = 520, 300, 46, 90, 14, 46
# room that two names at the right end need, in pixels
LINE = 16


@dataclass(frozen=True)
class Course:
    """One curve: mean, lowest and highest network at each number of images."""

    name: str
    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Measured:
    """All that the figure shows."""

    stops: list[int]
    samples: int
    networks: int
    courses: dict[str, Course]
    accuracy: list[float]


def read(path: Path) -> Measured:
    """The curves from the stored table.

    Raises:
        ValueError: rows of the setting are missing for a pattern.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [
            row
            for row in csv.DictReader(stream)
            if all(row[key] == value for key, value in SETTING.items())
        ]
    stops = sorted({int(row["spurious"]) for row in rows if row["pattern"] in PATTERNS})
    courses, groups = {}, []
    for pattern, name in PATTERNS.items():
        own = [
            [r for r in rows if r["pattern"] == pattern and int(r["spurious"]) == n] for n in stops
        ]
        if not stops or not all(own):
            raise ValueError(f"{path} lacks rows of {pattern} in the setting {SETTING}")
        scores = [[float(row["score"]) for row in group] for group in own]
        courses[pattern] = Course(
            name, *([function(s) for s in scores] for function in (fmean, min, max))
        )
        groups.append(own)
    accuracy = [
        fmean(float(row["clean_accuracy"]) for own in groups for row in own[place])
        for place in range(len(stops))
    ]
    networks = min(len(group) for own in groups for group in own)
    return Measured(stops, int(rows[0]["samples"]), networks, courses, accuracy)


def place(measured: Measured, stop: int, share: float) -> tuple[float, float]:
    """Pixels of a point; the numbers of images stand at equal distances."""
    across = (WIDE - LEFT - RIGHT) / (len(measured.stops) - 1)
    return round(LEFT + across * stop, 1), round(TOP + (HIGH - TOP - BOTTOM) * (1 - share), 1)


def said(measured: Measured, stop: int) -> str:
    """One stop in words."""
    carriers = measured.stops[stop]
    parts = [
        f"{course.mean[stop]:.0%} with the {course.name} "
        f"({course.low[stop]:.0%} to {course.high[stop]:.0%})"
        for course in measured.courses.values()
    ]
    who = {0: "No image carries", 1: f"1 of {measured.samples:,} training images carries"}.get(
        carriers, f"{carriers:,} of {measured.samples:,} training images carry"
    )
    return (
        f"{who} the pattern. Test images turned towards a zero: {', '.join(parts)}. "
        f"Ordinary test images answered right: {measured.accuracy[stop]:.1%}."
    ).replace("%", " %")


def drawn(measured: Measured) -> str:
    """The figure as HTML: drawing, slider, sentence, script."""
    start = measured.stops.index(int(START))
    states = [
        {
            "says": said(measured, stop),
            "short": f"{measured.stops[stop]:,} of {measured.samples:,} images",
            "x": place(measured, stop, 0)[0],
            "ys": [place(measured, stop, c.mean[stop])[1] for c in measured.courses.values()],
        }
        for stop in range(len(measured.stops))
    ]
    data = json.dumps(states, ensure_ascii=False).replace("</", r"<\/")
    return (
        f'<div class="front-slider" id="odd-images">{svg(measured, states[start])}'
        '<label hidden>How many training images carry the pattern? <input type="range" min="0" '
        f'max="{len(states) - 1}" step="1" value="{start}" '
        f'aria-valuetext="{states[start]["short"]}"></label>'
        f'<output aria-live="polite">{html.escape(states[start]["says"])}</output>'
        f"<script>{SCRIPT.replace('STATES', data)}</script></div>"
    )


SCRIPT = """(() => {
  const states = STATES, box = document.getElementById("odd-images");
  const range = box.querySelector("input"), line = box.querySelector("[data-now]");
  const show = () => {
    const now = states[range.value];
    line.setAttribute("transform", `translate(${now.x} 0)`);
    line.querySelectorAll("circle").forEach((dot, i) => dot.setAttribute("cy", now.ys[i]));
    box.querySelector("output").textContent = now.says;
    range.setAttribute("aria-valuetext", now.short);
  };
  box.querySelector("label").hidden = false;
  range.addEventListener("input", show);
  window.addEventListener("pageshow", show);
})();"""


ALT = (
    "Three curves against the number of training images with a pattern. The noise rises at one to "
    "three images, the square and the bar at hundreds; the accuracy on ordinary images stays flat."
)


def svg(measured: Measured, now: dict) -> str:
    """Axes, range and mean of each pattern, the accuracy, the mark that the slider moves."""
    marks = "".join(
        f'<circle class="front-{pattern}" r="6" cx="0" cy="{y}"/>'
        for pattern, y in zip(measured.courses, now["ys"], strict=True)
    )
    floor = HIGH - BOTTOM
    return (
        f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{ALT}">'
        f"{axes(measured)}{''.join(curves(measured))}"
        f'<g data-now transform="translate({now["x"]} 0)"><path class="front-now" '
        f'd="M0 {TOP}V{floor}"/>{marks}</g></svg>'
    )


def axes(measured: Measured) -> str:
    """Lines and names of both axes."""
    found = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        _, y = place(measured, 0, share)
        found.append(f'<path class="front-grid" d="M{LEFT} {y}H{WIDE - RIGHT}"/>')
        found.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>')
    for stop, carriers in enumerate(measured.stops):
        x, y = place(measured, stop, 0)
        found.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{carriers:,}</text>')
    middle = (LEFT + WIDE - RIGHT) / 2
    title = "training images with the pattern"
    found.append(f'<text x="{middle}" y="{HIGH - 8}" text-anchor="middle">{title}</text>')
    return "".join(found)


def curves(measured: Measured) -> list[str]:
    """Means as lines, networks from the lowest to the highest as bars, names at the right."""
    ends = {
        p: place(measured, len(measured.stops) - 1, c.mean[-1]) for p, c in measured.courses.items()
    }
    last = len(measured.stops) - 1
    ends["right"] = place(measured, last, measured.accuracy[-1])
    names = {p: c.name for p, c in measured.courses.items()} | {"right": "accuracy"}
    lowest, found = 0.0, []
    for key, (x, y) in sorted(ends.items(), key=lambda item: item[1][1]):
        lowest = max(y, lowest + LINE)
        found.append(f'<text class="front-{key}" x="{x + 10}" y="{lowest + 4}">{names[key]}</text>')
    found.append(path_of("right", [place(measured, i, y) for i, y in enumerate(measured.accuracy)]))
    for pattern, course in measured.courses.items():
        for stop, (low, high) in enumerate(zip(course.low, course.high, strict=True)):
            (x, bottom), (_, top) = place(measured, stop, low), place(measured, stop, high)
            found.append(f'<path class="front-{pattern} front-range" d="M{x} {bottom}V{top}"/>')
        found.append(path_of(pattern, [place(measured, i, y) for i, y in enumerate(course.mean)]))
    return found


def path_of(key: str, points: list[tuple[float, float]]) -> str:
    return f'<path class="front-{key}" d="M{"L".join(f"{x} {y}" for x, y in points)}"/>'
