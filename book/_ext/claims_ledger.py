"""`{claims-ledger}`: every claim with its verdict; also writes `claims.json` beside `index.html`.

First a tally for each paper, its claims and ours apart, then filters, which the script ledger.js
brings to life, then one row a claim. Without the script all rows are there.
"""

import html
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from book_tables import raw
from claims_evidence import Chain, Link, indexed, links_html
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from helpers import claims

LOG = logging.getLogger(__name__)
# effects of verdicts list several numbers; a row of the table shows as many as fit these letters
SHORT = 110
# what whose claims are is called in addresses
WHOSE = {claims.PAPERS: "papers", claims.UNRECORDED: "unrecorded", claims.OURS: "ours"}
ORIGINS = {
    "papers": "the papers’ claims",
    "read": "read in the paper",
    "second-hand": "second-hand",
    "code": "from the released code",
    "inferred": "inferred by us",
    "unrecorded": "origin not recorded",
    "ours": "our own claims",
}
ORDERS = {"": "paper and number", "verdict": "verdict", "origin": "origin", "fixed": "rule fixed"}


class ClaimsLedger(SphinxDirective):
    """A tally, filters, one row a claim. What does not fit together is a warning."""

    def run(self) -> list[nodes.Node]:
        chain = Chain.of(self.env.app)
        self.env.note_dependency(str(chain.book / "claims.yml"))
        records = claims.collect(chain.book / "chapters")
        for problem in claims.problems(chain.known, records):
            LOG.warning(problem, location=self.get_location())
        rows = sorted(claims.ledger(chain.known, records), key=order(chain.known))
        for row in rows:
            row["evidence"] = chain.links(row["id"], self.uri)
        self.env.ledger_rows = rows
        body = "\n".join(row_html(chain.known[row["id"]], row, self.uri) for row in rows)
        script = "<script src='_static/ledger.js' defer></script>"
        entries = [indexed(row["id"], f"row-{row['id']}") for row in rows]
        return [*entries, raw(f"{tally(rows)}\n{filters(rows)}\n{table(body)}\n{script}")]

    def uri(self, page: str) -> str:
        return self.env.app.builder.get_relative_uri(self.env.docname, page)


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


# -- tally -----------------------------------------------------------------------------------------


def tally(rows: list[dict[str, Any]]) -> str:
    """How many claims of each paper came to which verdict; ours stand in a group of their own.

    Every number leads to its rows.
    """
    numbers = claims.counts(rows)
    verdicts = [key for key in numbers[0] if key not in ("part", "whose", "all", "inferred")]
    names = {row["part"]: row["paper_name"] for row in rows}
    groups = []
    for whose, title in (
        (claims.PAPERS, "Claims of the papers"),
        (claims.UNRECORDED, "Claims whose origin is not recorded yet"),
        (claims.OURS, "Claims of our own, beside"),
    ):
        these = [line for line in numbers if line["whose"] == whose]
        if these:
            head = f"<tr class='tally-group'><th scope='rowgroup' colspan='8'>{title}</th></tr>"
            these = these[:-1] if len(these) == 2 else these  # one paper is its own total
            lines = "\n".join(tally_line(line, names, verdicts) for line in these)
            groups.append(f"<tbody>{head}\n{lines}</tbody>")
    heads = [f"<th scope='col'>{badge(verdict)}</th>" for verdict in verdicts]
    top = f"<tr><th scope='col'>paper</th>{''.join(heads)}<th scope='col'>all</th></tr>"
    return (
        "<div class='tally-box'><table class='table claims-tally'>"
        f"<thead>{top}</thead>{''.join(groups)}</table></div>"
    )


def tally_line(line: dict[str, Any], names: dict[str, str], verdicts: list[str]) -> str:
    part, origin = line["part"], WHOSE[line["whose"]]
    name = f"{names[part]} <span class='claim-paper'>Part {part}</span>" if part else "all"
    cells = [f"<th scope='row'>{name}</th>"]
    for verdict in verdicts:
        chosen = {"part": part, "origin": origin, "verdict": verdict}
        number = line[verdict]
        link = f"<a href='{address(chosen)}'>{number}<span class='for-phones'> {verdict}</span></a>"
        css = claims.verdict_class(verdict)
        cells.append(f"<td class='{css}'>{link}</td>" if number else "<td class='none'>0</td>")
    inferred = line["inferred"]
    note = f" <span class='claim-paper'>{inferred} inferred by us</span>" if inferred else ""
    link = f"<a href='{address({'part': part, 'origin': origin})}'>{line['all']}</a>"
    cells.append(f"<td class='all'>{link}{note}</td>")
    total = " class='total'" if not part else ""
    return f"<tr{total}>{' '.join(cells)}</tr>"


def address(chosen: dict[str, str]) -> str:
    """The address of the rows that these filters leave."""
    return "#" + html.escape(urlencode({key: text for key, text in chosen.items() if text}))


# -- filters ---------------------------------------------------------------------------------------


def filters(rows: list[dict[str, Any]]) -> str:
    """A form with what occurs; it shows where there is a script to serve it."""
    parts = {row["part"]: f"{row['part']} {row['paper_name']}" for row in rows}
    found = {WHOSE[row["whose"]] for row in rows} | {row["origin"] for row in rows}
    origins = {key: text for key, text in ORIGINS.items() if key in found}
    verdicts = (*claims.VERDICTS, claims.NO_VERDICT, claims.TO_COME)
    given = {row["verdict"] for row in rows}
    text = "<label>Words <input type='search' name='q' size='10' autocomplete='off'></label>"
    return (
        "<form id='ledger-filters' class='claims-filters' role='search' "
        "aria-label='Claims' hidden>\n"
        + select("part", "Part", {"": "all", **parts})
        + select("origin", "Origin", {"": "all", **origins})
        + select("verdict", "Verdict", {"": "all", **{v: v for v in verdicts if v in given}})
        + text
        + select("sort", "Sort by", ORDERS)
        + "<button type='reset'>Show all</button>\n"
        f"<p role='status' id='ledger-count'>{len(rows)} claims</p></form>"
    )


def select(name: str, label: str, options: dict[str, str]) -> str:
    items = "".join(
        f"<option value='{html.escape(value)}'>{html.escape(text)}</option>"
        for value, text in options.items()
    )
    return f"<label>{label} <select name='{name}' autocomplete='off'>{items}</select></label>\n"


# -- rows ------------------------------------------------------------------------------------------


def table(body: str) -> str:
    heads = (
        ("", "claim"),
        ("origin", "who says so"),
        (None, "the paper’s number"),
        (None, "what we measured"),
        ("verdict", "verdict"),
    )
    top = "".join(
        f"<th scope='col'{'' if key is None else f' data-sort={key!r}'}>{text}</th>"
        for key, text in heads
    )
    return f"<table class='table claims-ledger'><thead><tr>{top}</tr></thead>\n{body}</table>"


def row_html(claim: claims.Claim, row: dict[str, Any], uri) -> str:
    """One claim: a line to read across, and the rest folded below it."""
    name, page = claim.id, uri(f"chapters/{row['chapter']}") if "effect" in row else ""
    inner = f"<span class='claim-id'>{name}</span>"
    if page:
        inner = f"<a href='{html.escape(page)}#claim-{name}'>{inner}</a>"
    title = html.escape(claim.title) or claims.maths_html(short(claim.statement))
    fixed = f"rule {claim.rule_fixed}" if claim.rule_fixed else "rule: not recorded"
    here = f"<a class='row-link' href='#row-{name}' aria-label='Link to the row of {name}'>#</a>"
    cells = [
        f"<th scope='row'>{inner} <span class='ledger-title'>{title}</span> {here}\n"
        f"<div class='claim-paper'>{claims.maths_html(claim.place)}</div></th>",
        f"<td>{ORIGINS[claim.origin or 'unrecorded'].replace('claims', 'claim')}\n"
        f"<div class='claim-paper'>{fixed}</div></td>",
        reported(claim),
        measured(row),
        f"<td>{badge(row['verdict'])}</td>",
    ]
    facts = {
        "part": claim.part,
        "whose": WHOSE[claim.whose],
        "origin": claim.origin or "unrecorded",
        "fixed": claim.rule_fixed,
        "verdict": row["verdict"],
    }
    data = " ".join(f"data-{key}='{html.escape(value)}'" for key, value in facts.items())
    return (
        f"<tbody id='row-{name}' {data}><tr>{' '.join(cells)}</tr>\n"
        f"<tr class='ledger-more'><td colspan='5'>{more(claim, row)}</td></tr></tbody>"
    )


def short(text: str) -> str:
    """The first of several things that a sentence lists, as many as fit in a row."""
    kept, *others = re.split(r"(?<=;) ", text)
    for other in others:
        if len(kept) + len(other) > SHORT:
            return kept.rstrip(";") + "; …"
        kept += f" {other}"
    return kept


def reported(claim: claims.Claim) -> str:
    """The cell with the paper's own number, and how it is known."""
    if claim.reported is None:
        return "<td class='none'><span aria-label='not known'>–</span></td>"
    number = claims.maths_html(claim.reported.number)
    return f"<td>{number} <div class='claim-paper'>{ORIGINS[claim.reported.known]}</div></td>"


def measured(row: dict[str, Any]) -> str:
    """The cell with effect, interval and unit of replication."""
    if not row.get("effect"):
        return "<td class='none'><span aria-label='nothing'>–</span></td>"
    facts = []
    if row.get("interval"):
        facts.append("95 % interval [{:.3g}, {:.3g}]".format(*row["interval"]))
    if row.get("seeds"):
        facts.append("1 seed" if row["seeds"] == 1 else f"{row['seeds']} seeds")
    told = f" <div class='claim-paper'>{'; '.join(facts)}</div>" if facts else ""
    return f"<td>{claims.maths_html(short(row['effect']))}{told}</td>"


def more(claim: claims.Claim, row: dict[str, Any]) -> str:
    """Statement, rule, findings in full and evidence, folded."""
    facts = [
        ("Claim", claim.statement),
        ("Who says so", "; ".join(claim.told)),
        ("The paper’s number", own_number(claim)),
        ("Rule", claim.test),
        ("Found", row.get("effect") or ""),
        ("Data", "; ".join(row[key] for key in ("data", "profile") if row.get(key))),
        ("Note", row.get("note") or ""),
    ]
    shown = "\n".join(
        f"<div><dt>{name}</dt> <dd>{claims.maths_html(text)}</dd></div>"
        for name, text in facts
        if text
    )
    evidence: list[Link] = row["evidence"]
    return (
        "<details><summary>statement, rule and evidence"
        f"<span class='for-readers'> of {claim.id}</span></summary>\n"
        f"<dl>{shown}</dl>\n{links_html(claim, evidence)}</details>"
    )


def own_number(claim: claims.Claim) -> str:
    return f"{claim.reported.number} ({claim.reported.told})" if claim.reported else ""


def badge(verdict: str) -> str:
    return (
        f"<span class='{claims.verdict_class(verdict)}'>"
        f"<span class='claim-badge'>{verdict}</span></span>"
    )


def told(links: Iterable[Link]) -> dict[str, list[str]]:
    """Addresses of evidence by kind, as the JSON file has them."""
    kinds: dict[str, list[str]] = {}
    for link in links:
        kinds.setdefault(link.kind, []).append(link.address)
    return kinds


def write_json(app, error: Exception | None) -> None:
    """The ledger for programs, when a page of the book shows it."""
    rows = getattr(app.env, "ledger_rows", None) if app.env else None
    if error is None and rows is not None and app.builder.format == "html":
        rows = [row | {"evidence": told(row["evidence"])} for row in rows]
        text = json.dumps(rows, ensure_ascii=False, indent=1, allow_nan=False)
        (Path(app.outdir) / "claims.json").write_text(text + "\n", encoding="utf8")


def setup(app) -> dict:
    app.add_directive("claims-ledger", ClaimsLedger)
    app.connect("build-finished", write_json)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
