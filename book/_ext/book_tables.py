"""Directives for the tables that are made from the published notebooks.

`{build-status}`: what each chapter was executed with, and whether its source has changed since.
`{grid-plans}`: what the grids of the experiments cost, from `plan.csv`.
"""

import csv
import html
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from helpers.book import freshness
from helpers.project import project_root


def chapters_of(app) -> list[Path]:
    return sorted((Path(app.srcdir) / "chapters").glob("*.ipynb"))


def first_heading(nb) -> str:
    """Title of a notebook: its first line that starts with one #."""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
    return "untitled"


def table(head: list[str], rows: list[list[str]], classes: str) -> str:
    """An HTML table in its own scrolling box; cells are HTML already."""
    top = "".join(f"<th scope='col'>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f"<div class='table-scroll' tabindex='0'><table class='table {classes}'>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def raw(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


def duration(seconds: float) -> str:
    """Seconds in the unit a reader thinks in."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class BuildStatus(SphinxDirective):
    """One row a chapter: profile, device, time, date, versions, and whether it is current."""

    def run(self) -> list[nodes.Node]:
        rows, total, machines = [], 0.0, set()
        for path in chapters_of(self.env.app):
            self.env.note_dependency(str(path))
            nb = nbformat.read(path, 4)
            record = nb.metadata.get("book", {})
            total += record.get("seconds", 0)
            machines.add(record.get("processor", "unknown"))
            rows.append(self.row(path, nb, record))
        if not rows:
            return [nodes.paragraph("", "No chapter has been executed yet.")]
        head = ["chapter", "state", "profile", "device", "time", "date", "versions"]
        summary = (
            f"{len(rows)} chapters, {duration(total)} of execution in all, on "
            f"{' and on '.join(sorted(machines))}."
        )
        return [raw(table(head, rows, "build-status")), nodes.paragraph("", summary)]

    def row(self, path: Path, nb, record: dict[str, Any]) -> list[str]:
        where = self.env.app.builder.get_relative_uri(self.env.docname, f"chapters/{path.stem}")
        link = f"<a href='{html.escape(where)}'>{html.escape(first_heading(nb))}</a>"
        versions = "<br>".join(
            html.escape(f"{key} {record.get(key, '?')}") for key in ("torch", "numpy", "python")
        )
        profile, device, date = (
            html.escape(str(record.get(key, "?"))) for key in ("profile", "device", "date")
        )
        return [
            link,
            state(path) + stored(nb),
            profile,
            device,
            duration(record.get("seconds", 0)),
            date,
            versions,
        ]


def stored(nb) -> str:
    """What a chapter shows from the store because a data set is not on this machine, if any."""
    shown = [
        output.metadata["stored_pictures"]
        for cell in nb.cells
        for output in cell.get("outputs", ())
        if "stored_pictures" in output.get("metadata", {})
    ]
    text = f"stored pictures, their data set is not here: {', '.join(shown)}"
    return f"<div class='claim-paper'>{html.escape(text)}</div>" if shown else ""


def state(path: Path) -> str:
    """Badge: does the published copy show its source as it is now?"""
    source = project_root() / "notebooks" / f"{path.stem}.md"
    if not source.is_file():
        kind, text, why = "old", "no source", "there is no source of this name"
    elif why := freshness.staleness(path, source):
        kind, text = "old", "outdated"
    else:
        kind, text, why = "current", "current", "made from the source and helpers as they are now"
    return f"<span class='state state-{kind}' title='{html.escape(why)}'>{text}</span>"


# -- costs -----------------------------------------------------------------------------------------


class GridPlans(SphinxDirective):
    """One row an experiment: its grid, what is missing, and what that costs."""

    def run(self) -> list[nodes.Node]:
        file = Path(self.env.app.srcdir) / "plan.csv"
        self.env.note_dependency(str(file))
        with file.open(encoding="utf-8", newline="") as stream:
            plans = list(csv.DictReader(stream))
        head = ["experiment", "trials", "computed at once", "missing", "hours left", "hours of all"]
        head += ["told by like rows", "table", "from rows of"]
        body = [plan_row(plan) for plan in plans]
        left = sum(float(plan["seconds"] or 0) for plan in plans)
        summary = (
            f"{len(plans)} grids at the {plans[0]['profile']} profile: "
            f"{sum(int(plan['missing']) for plan in plans)} trials are missing, about "
            f"{left / 3600:.0f} hours of one process."
        )
        return [raw(table(head, body, "grid-plans")), nodes.paragraph("", summary)]


def plan_row(plan: dict[str, str]) -> list[str]:
    """One row of the table of plans."""

    def time(seconds: str) -> str:
        return f"{float(seconds) / 3600:.3g}" if seconds else "unknown"

    own = f"{float(plan['own']):.0%}" if float(plan["seconds"] or 0) else "–"
    size = f"{int(plan['size']) / 1000:.0f} kB" if plan["size"] else "unknown"
    return [
        f"<code>{html.escape(plan['experiment'])}</code>",
        plan["cells"],
        "one by one" if plan["cells"] == plan["groups"] else f"{plan['groups']} groups",
        plan["missing"],
        time(plan["seconds"]),
        time(plan["whole"]),
        own,
        size,
        html.escape(plan["device"]),
    ]


def setup(app) -> dict:
    app.add_directive("build-status", BuildStatus)
    app.add_directive("grid-plans", GridPlans)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
