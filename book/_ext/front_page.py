"""What the front page shows of the book: a picture, a figure with a slider, verdicts, times.

`{front-picture}`: a figure of a chapter, taken from its executed copy.
`{front-slider}`: how networks react to a pattern, by the number of training images with it.
`{front-tally}`: verdicts by paper, claims of the papers and ours apart.
`{verdict}`, `{minutes}` and `{gap}` are roles: the verdict on a claim with a link to its card, how
long chapters take to read, what a group loses from training to test. Nothing here is typed: all of
it comes from the stored tables and notebooks.
"""

import base64
import csv
import hashlib
import html
import re
import struct
from collections import Counter
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import front_slider
import nbformat
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from helpers import claims

LOG = logging.getLogger(__name__)
# of a reader who follows the argument and looks at the figures
WORDS_A_MINUTE = 180
FIGURE = 0.4


@cache
def notebook(path: Path) -> nbformat.NotebookNode:
    """An executed copy; read once a build."""
    return nbformat.read(path, 4)


@cache
def verdicts(source: Path) -> dict[str, dict[str, Any]]:
    """The rows of the ledger by claim."""
    rows = claims.ledger(claims.load(source / "claims.yml"), claims.collect(source / "chapters"))
    return {row["id"]: row for row in rows}


class Figure(SphinxDirective):
    """A numbered figure around the HTML of a subclass; the content is its caption."""

    has_content = True
    required_arguments = 1
    option_spec = {"name": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        caption = nodes.caption("", "")
        inlines, problems = self.state.inline_text(" ".join(self.content), self.lineno)
        caption += inlines
        figure = nodes.figure("", nodes.raw("", self.drawn(), format="html"), caption)
        figure["classes"].append("front-figure")
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure, *problems]

    def drawn(self) -> str:
        raise NotImplementedError


def png_size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG image, from its head."""
    return struct.unpack(">II", content[16:24])


def svg_size(content: bytes) -> tuple[int, int]:
    """Width and height of a drawing in pixels of a page, from its head in points."""
    found = re.search(rb'width="([\d.]+)pt" height="([\d.]+)pt"', content)
    if found is None:
        raise ValueError("the drawing does not say how large it is")
    width, height = (round(float(side) * 4 / 3) for side in found.groups())
    return width, height


# what an executed chapter may hold of a figure, and how large that is
KINDS = {"image/svg+xml": svg_size, "image/png": png_size}


class FrontPicture(Figure):
    """`{front-picture} chapter figure`: the picture of that figure, with its alternative text."""

    required_arguments = 2

    def drawn(self) -> str:
        chapter, name = self.arguments
        path = Path(self.env.srcdir) / "chapters" / f"{chapter}.ipynb"
        self.env.note_dependency(str(path))
        for cell in notebook(path).cells:
            shown = cell.metadata.get("mystnb", {})
            if shown.get("figure", {}).get("name") == name:
                bundles = [o.data for o in cell.outputs if o.get("data", {}).keys() & KINDS.keys()]
                kind = next(kind for kind in KINDS if kind in bundles[0])
                content = bundles[0][kind]
                drawn = base64.b64decode(content) if kind == "image/png" else content.encode()
                return self.image(drawn, kind, name, shown["image"]["alt"])
        raise self.error(f"chapter {chapter} has no figure {name}")

    def image(self, content: bytes, kind: str, name: str, alt: str) -> str:
        width, height = KINDS[kind](content)
        # a name that changes with the picture, so that no cache shows an old one
        ending = "png" if kind == "image/png" else "svg"
        file = f"{name}-{hashlib.sha256(content).hexdigest()[:8]}.{ending}"
        folder = Path(self.env.app.outdir) / "_images"
        if self.env.app.builder.format == "html":
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        words = html.escape(" ".join(alt.split()), quote=True)
        return (
            f"<a class='enlarge pictures' href='_images/{file}'>"
            f"<img src='_images/{file}' width='{width}' height='{height}' loading='lazy' "
            f"alt='{words}'></a>"
        )


class FrontSlider(Figure):
    """`{front-slider} table.csv`: see `front_slider`."""

    def drawn(self) -> str:
        path = Path(self.env.srcdir) / "results" / self.arguments[0]
        self.env.note_dependency(str(path))
        return front_slider.drawn(front_slider.read(path))


class FrontTally(SphinxDirective):
    """A row for each paper and, apart from these, for what the book claims itself."""

    def run(self) -> list[nodes.Node]:
        rows = verdicts(Path(self.env.srcdir)).values()
        self.env.note_dependency(str(Path(self.env.srcdir) / "claims.yml"))
        return [nodes.raw("", tally(list(rows)), format="html")]


def tally(rows: list[dict[str, Any]]) -> str:
    """The verdicts as bars in HTML: papers first, then ours part by part, never added up."""
    groups: dict[bool, dict[str, Counter]] = {False: {}, True: {}}
    for row in rows:
        ours = row["whose"] == claims.OURS
        name = f"Part {row['part']}" if ours else f"Part {row['part']}: {row['paper_name']}"
        groups[ours].setdefault(name, Counter())[row["verdict"]] += 1
    legend = "".join(
        f"<li class='{claims.verdict_class(verdict)}'>"
        f"<span class='claim-badge'>{verdict}</span></li>"
        for verdict in claims.VERDICTS
    )
    longest = max(sum(found.values()) for group in groups.values() for found in group.values())
    titles = {False: "Claims of the papers", True: "Ours: controls and derivations"}
    parts = [
        f"<p class='front-tally-title'>{titles[ours]}</p><ul class='front-tally'>"
        + "".join(bar(name, found, longest) for name, found in group.items())
        + "</ul>"
        for ours, group in groups.items()
        if group
    ]
    return f"<ul class='front-legend'>{legend}</ul>{''.join(parts)}"


def bar(name: str, found: Counter, longest: int) -> str:
    """One row of `tally`: as long as there are claims, a piece for each verdict with its number."""
    pieces = "".join(
        f"<span class='{claims.verdict_class(verdict)}' style='flex-grow: {found[verdict]}' "
        f"title='{found[verdict]} {verdict}'>{found[verdict]}"
        f"<span class='visually-hidden'> {verdict}, </span></span>"
        for verdict in claims.VERDICTS
        if found[verdict]
    )
    share = 100 * sum(found.values()) / longest
    return (
        f"<li><span>{html.escape(name)}</span>"
        f"<span class='front-bar-of' style='width: {share:.0f}%'>{pieces}</span></li>"
    )


class Verdict(SphinxRole):
    """`{verdict}` with the id of a claim: its verdict as a badge that leads to the card."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        rows = verdicts(Path(self.env.srcdir))
        if self.text not in rows:
            LOG.warning("unknown claim %s", self.text, location=self.get_location())
            return [nodes.Text(self.text)], []
        row = rows[self.text]
        page = self.env.app.builder.get_relative_uri(self.env.docname, f"chapters/{row['chapter']}")
        badge = (
            f"<a class='front-verdict {claims.verdict_class(row['verdict'])}' "
            f"href='{html.escape(page)}#claim-{row['id']}'>"
            f"<span class='claim-id'>{row['id']}</span> "
            f"<span class='claim-badge'>{row['verdict']}</span></a>"
        )
        return [nodes.raw("", badge, format="html")], []


def reading_minutes(nb: nbformat.NotebookNode) -> float:
    """Minutes for the prose and the figures of a chapter; code is folded and counts nothing."""
    prose = " ".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    figures = sum("figure" in cell.metadata.get("mystnb", {}) for cell in nb.cells)
    return len(re.findall(r"\w+", prose)) / WORDS_A_MINUTE + FIGURE * figures


class Minutes(SphinxRole):
    """`{minutes}` with chapters, `01-setting 08-spurious-score`: how long they take to read."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        folder = Path(self.env.srcdir) / "chapters"
        paths = [folder / f"{name}.ipynb" for name in self.text.split()]
        if missing := [path.stem for path in paths if not path.is_file()]:
            LOG.warning("no chapter %s", ", ".join(missing), location=self.get_location())
            return [nodes.Text("?")], []
        return [nodes.Text(in_words(sum(reading_minutes(notebook(path)) for path in paths)))], []


class Gap(SphinxRole):
    """`{gap}` with a group: training less test accuracy, in points, from `minority.csv`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path = Path(self.env.srcdir) / "results" / "minority.csv"
        self.env.note_dependency(str(path))
        return [nodes.Text(points(group_gap(path, int(self.text))))], []


def group_gap(path: Path, group: int, setting: str = "sky") -> float:
    """Training less test accuracy of a group at the last epoch, mean over networks.

    Raises:
        ValueError: the table has no row of the setting.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["setting"] == setting]
    last = max((int(row["epoch"]) for row in rows), default=0)
    gaps = [
        float(row[f"train_{group}"]) - float(row[f"test_{group}"])
        for row in rows
        if int(row["epoch"]) == last
    ]
    if not gaps:
        raise ValueError(f"{path} has no row of {setting}")
    return fmean(gaps)


def points(share: float) -> str:
    """A share in points with one decimal, as it is meant and not as binary numbers have it.

    >>> points(0.00749999999999), points(0.05499999999999)
    ('0.8', '5.5')
    """
    return f"{round(100 * share, 6):.1f}"


def in_words(minutes: float) -> str:
    """Minutes to the next five below two hours, then hours to the next half.

    >>> in_words(41), in_words(150)
    ('40 minutes', '2.5 hours')
    """
    if minutes < 120:
        return f"{max(5, 5 * round(minutes / 5))} minutes"
    return f"{round(2 * minutes / 60) / 2:g} hours"


def setup(app) -> dict:
    app.add_directive("front-picture", FrontPicture)
    app.add_directive("front-slider", FrontSlider)
    app.add_directive("front-tally", FrontTally)
    app.add_role("verdict", Verdict())
    app.add_role("minutes", Minutes())
    app.add_role("gap", Gap())
    app.add_css_file("front.css")
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
