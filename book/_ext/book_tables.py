"""Directives for the tables that are made from the published notebooks.

`{build-status}`: what each chapter was executed with, and whether its source has changed since.
`{claims-ledger}`: every claim with its verdict; also writes `claims.json` beside `index.html`.
`{claim-rules}`: the source of the rules that are functions.
`{grid-plans}`: what the grids of the experiments cost, from `plan.csv`.
"""

import ast
import csv
import html
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from helpers import claims
from helpers.book import freshness
from helpers.project import project_root

LOG = logging.getLogger(__name__)


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


def table(
    head: list[str], rows: list[list[str]], classes: str, names: list[str] | None = None
) -> str:
    """An HTML table in its own scrolling box; cells are HTML already, `names` are ids of rows."""
    starts = [f"<tr id='{html.escape(name)}'>" for name in names] if names else ["<tr>"] * len(rows)
    top = "".join(f"<th scope='col'>{cell}</th>" for cell in head)
    body = "".join(
        start + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        for start, row in zip(starts, rows, strict=True)
    )
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
            state(path) + small(stored(nb)),
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
    return f"stored pictures, their data set is not here: {', '.join(shown)}" if shown else ""


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


FILTER = """<script>
(function () {
  const chosen = name => {
    const button = document.querySelector("input[name=" + name + "]:checked");
    return button ? button.value : "";
  };
  function apply() {
    const verdict = chosen("ledger-filter"), whose = chosen("ledger-whose");
    document.querySelectorAll("table.ledger tbody tr").forEach(function (row) {
      const text = one => row.querySelector(one).textContent;
      row.hidden = (verdict !== "" && text(".claim-badge") !== verdict)
        || (whose !== "" && text(".claim-whose") !== whose);
    });
  }
  document.addEventListener("change", apply);
  window.addEventListener("pageshow", apply);
})();
</script>"""


class ClaimsLedger(SphinxDirective):
    """Counts, buttons to filter by, one row a claim. What does not fit together is a warning."""

    def run(self) -> list[nodes.Node]:
        source = Path(self.env.app.srcdir)
        self.env.note_dependency(str(source / "claims.yml"))
        self.known = claims.load(source / "claims.yml")
        records = claims.collect(source / "chapters")
        for problem in claims.problems(self.known, records):
            LOG.warning(problem, location=self.get_location())
        rows = sorted(claims.ledger(self.known, records), key=order(self.known))
        self.env.ledger_rows = rows
        body = [self.row(row) for row in rows]
        head = ["claim", "what is claimed", "what was measured"]
        names = [f"row-{row['id']}" for row in rows]
        filters = buttons(rows, "verdict", (*claims.VERDICTS, claims.NO_VERDICT, claims.TO_COME))
        filters += buttons(rows, "whose", (claims.PAPERS, claims.UNRECORDED, claims.OURS))
        return [raw(counted(rows) + filters + table(head, body, "ledger", names) + FILTER)]

    def row(self, row: dict[str, Any]) -> list[str]:
        name = f"<span class='claim-id'>{row['id']}</span>"
        if "effect" in row:
            page = self.env.app.builder.get_relative_uri(
                self.env.docname, f"chapters/{row['chapter']}"
            )
            name = f"<a href='{html.escape(page)}#claim-{row['id']}'>{name}</a>"
        claim = self.known[row["id"]]
        place = small("; ".join([claim.place, *claim.told]))
        title = f"<strong>{html.escape(row['title'])}.</strong> " if row["title"] else ""
        return [
            f"{name} {badge(row['verdict'])} <div class='claim-whose'>{row['whose']}</div>",
            title + claims.maths_html(row["statement"]) + place,
            measured(row),
        ]


def small(text: str) -> str:
    return f"<div class='claim-paper'>{claims.maths_html(text)}</div>" if text else ""


def measured(row: dict[str, Any]) -> str:
    """Effect, interval, and what they rest on; the reason where nothing was tested."""
    main = claims.maths_html(row.get("effect") or row.get("note", ""))
    facts = []
    if row.get("interval"):
        facts.append("95 % interval [{:.3g}, {:.3g}]".format(*row["interval"]))
    if row.get("seeds"):
        facts.append("1 seed" if row["seeds"] == 1 else f"{row['seeds']} seeds")
    facts += [row[key] for key in ("data", "profile") if row.get(key)]
    return main + small("; ".join(facts))


def order(known: dict[str, claims.Claim]):
    """Key that sorts rows by paper, as the file has them, then by letter and number of the id."""
    papers = list(dict.fromkeys(claim.paper for claim in known.values()))

    def key(row: dict[str, Any]) -> tuple:
        pieces = [
            (piece.isdigit(), int(piece) if piece.isdigit() else piece)
            for piece in re.split(r"(\d+)", row["id"])
            if piece
        ]
        return papers.index(row["paper"]), pieces

    return key


def badge(verdict: str) -> str:
    return (
        f"<span class='{claims.verdict_class(verdict)}'>"
        f"<span class='claim-badge'>{verdict}</span></span>"
    )


def counted(rows: list[dict[str, Any]]) -> str:
    """The table of `claims.counts`: claims of the papers and ours apart, the totals last."""
    numbers = claims.counts(rows)
    columns = [key for key in numbers[0] if key not in ("part", "whose", "inferred")]
    body = []
    for row in numbers:
        whose = row["whose"]
        if row["inferred"]:
            whose += f" ({row['inferred']} of them inferred by us)"
        cells = [f"Part {row['part']}" if row["part"] else "all parts", whose]
        cells += [str(row[column]) for column in columns]
        body.append(cells if row["part"] else [f"<strong>{cell}</strong>" for cell in cells])
    return table(["", "claims", *columns], body, "ledger-counts")


def buttons(rows: list[dict[str, Any]], key: str, values: Iterable[str]) -> str:
    """One radio button for each value that occurs; the first shows all rows."""
    name = {"verdict": "ledger-filter", "whose": "ledger-whose"}[key]
    found = {row[key] for row in rows}
    shown = [("", "all", "all")]
    shown += [(value, claims.verdict_class(value), value) for value in values if value in found]
    items = [
        f"<li><label class='{css}'><input type='radio' name='{name}' value='{value}'"
        f"{'' if value else ' checked'}><span class='claim-badge'>{text}</span></label></li>"
        for value, css, text in shown
    ]
    return f"<ul class='ledger-totals' aria-label='Show by {key}'>{''.join(items)}</ul>"


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


# -- rules -----------------------------------------------------------------------------------------


def rules() -> Iterator[tuple[str, str, str]]:
    """(claim, file, source) of every rule below src/helpers/claims, read and not imported."""
    folder = project_root() / "src" / "helpers" / "claims"
    for path in sorted(folder.glob("part*/*.py")):
        text = path.read_text(encoding="utf-8-sig")
        for node in ast.parse(text).body:
            for call in getattr(node, "decorator_list", []):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "rule":
                    lines = text.splitlines()[call.lineno - 1 : node.end_lineno]
                    place = path.relative_to(project_root()).as_posix()
                    yield call.args[0].value, place, "\n".join(lines)


class ClaimRules(SphinxDirective):
    """The source of every rule, under the id that the claim cards link to."""

    def run(self) -> list[nodes.Node]:
        known = claims.load(Path(self.env.app.srcdir) / "claims.yml")
        found = {claim: (place, source) for claim, place, source in rules()}
        shown: list[nodes.Node] = []
        for claim in known.values():
            if claim.id in found:
                place, source = found[claim.id]
                self.env.note_dependency(str(project_root() / place))
                shown += [raw(self.heading(claim, place)), literal(source)]
        return shown

    def heading(self, claim: claims.Claim, place: str) -> str:
        page = self.env.app.builder.get_relative_uri(self.env.docname, f"chapters/{claim.chapter}")
        told = claims.maths_html("; ".join([claim.place, *claim.told]))
        return (
            f"<p class='claim-rule' id='rule-{claim.id}'><a href='{html.escape(page)}"
            f"#claim-{claim.id}'><span class='claim-id'>{claim.id}</span></a> "
            f"{html.escape(claim.title)} <code>{html.escape(place)}</code> "
            f"<span class='claim-paper'>{told}</span></p>"
        )


def literal(source: str) -> nodes.literal_block:
    return nodes.literal_block(source, source, language="python")


def write_json(app, error: Exception | None) -> None:
    """The ledger for programs, when a page of the book shows it."""
    rows = getattr(app.env, "ledger_rows", None) if app.env else None
    if error is None and rows is not None and app.builder.format == "html":
        text = json.dumps(rows, ensure_ascii=False, indent=1, allow_nan=False)
        (Path(app.outdir) / "claims.json").write_text(text + "\n", encoding="utf8")


def setup(app) -> dict:
    app.add_directive("build-status", BuildStatus)
    app.add_directive("claims-ledger", ClaimsLedger)
    app.add_directive("claim-rules", ClaimRules)
    app.add_directive("grid-plans", GridPlans)
    app.connect("build-finished", write_json)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
