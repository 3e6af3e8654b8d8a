"""From a claim to its code, its data and its paper: links that every card and row gets.

They are added when the site is built, from `claims.yml`, the sources of the rules, the executed
chapters and `references.bib`, so that an executed copy needs none of them and any edition has
those that fit. The stored results are published with the site, as `results/<experiment>.csv`.

`{claim-rules}`: the source of every rule, under the id that cards and rows link to.
"""

import ast
import html
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from book_tables import raw
from docutils import nodes
from pybtex.database import parse_file
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

from helpers import claims
from helpers.dependencies import package_tree
from helpers.project import project_root

CARD = re.compile(r'<div class="claim-card[^"]*" id="claim-([^"]+)"')
HEAD = re.compile(r'<span class="claim-id">([^<]+)</span>')
# what older executed copies brought along
OLD_LINKS = re.compile(r'\n?<p class="claim-links">.*?</p>', re.DOTALL)


class Rule(NamedTuple):
    """A rule as text: where it stands, its name, empty while it is a cell, and its source."""

    place: str
    name: str
    source: str


class Link(NamedTuple):
    """One piece of evidence: its kind, where it is, in words, and whether to save it as a file."""

    kind: str
    address: str
    text: str
    save: bool = False


def rules_page(claim: claims.Claim) -> str:
    """The page that shows the rule of a claim: one a part, since all rules are a megabyte."""
    return f"rules/part-{claim.part}"


def rules(folder: Path | None = None) -> Iterator[tuple[str, Rule]]:
    """Every rule below src/helpers/claims, or a folder like it, read and not imported."""
    root = project_root()
    folder = folder or root / "src" / "helpers" / "claims"
    for path in sorted([*folder.glob("part*.py"), *folder.glob("part*/*.py")]):
        text = path.read_text(encoding="utf-8-sig")
        for node in ast.parse(text).body:
            for call in getattr(node, "decorator_list", []):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "rule":
                    lines = text.splitlines()[call.lineno - 1 : node.end_lineno]
                    door = path.parent if path.parent != folder else path
                    inside = path.is_relative_to(root)
                    place = path.relative_to(root if inside else folder).as_posix()
                    rule = Rule(place, f"{door.stem}.{node.name}", "\n".join(lines))
                    yield call.args[0].value, rule


@dataclass(frozen=True, eq=False)
class Chain:
    """What leads from a claim to its evidence, in one book.

    Attributes:
        book: the folder with claims.yml, references.bib, chapters and results.
        known: its claims.
    """

    book: Path
    known: dict[str, claims.Claim] = field(default_factory=dict)

    @classmethod
    def of(cls, app) -> "Chain":
        """The one of a build, made when it is first asked for."""
        if not hasattr(app, "claims_chain"):
            book = Path(app.srcdir)
            app.claims_chain = cls(book, claims.load(book / "claims.yml"))
        return app.claims_chain

    @cached_property
    def shown(self) -> dict[str, claims.Evidence]:
        """Evidence of every verdict in the executed chapters."""
        experiments = package_tree().experiments
        files = sorted((self.book / "chapters").glob("*.ipynb"))
        return {k: e for file in files for k, e in claims.evidence(file, experiments).items()}

    @cached_property
    def rules(self) -> dict[str, Rule]:
        """Rules that are functions, and for the others the cell of the chapter that decides."""
        cells = {k: Rule(f"notebooks/{e.chapter}.md", "", e.cell) for k, e in self.shown.items()}
        return {**cells, **dict(rules())}

    @cached_property
    def papers(self) -> dict[str, tuple[str, str]]:
        """Address and name (doi:… or arXiv:…) of everything in the bibliography that has one."""
        entries = parse_file(self.book / "references.bib", "bibtex").entries
        return {key: found for key, entry in entries.items() if (found := paper_link(entry.fields))}

    def links(self, claim_id: str, uri) -> list[Link]:
        """Evidence of a claim; `uri` gives the address of a page of the book, without ending."""
        claim, found = self.known[claim_id], self.shown.get(claim_id)
        chain = []
        if claim_id in self.rules:
            name = self.rules[claim_id].name or "a cell of the chapter"
            chain.append(Link("rule", f"{uri(rules_page(claim))}#rule-{claim_id}", name))
        if found:
            page = uri(f"chapters/{found.chapter}")
            if figure := claim.figure or found.figure:
                chain.append(Link("figure", f"{page}#{figure}", figure.removeprefix("fig-")))
            chain += self.data(found, uri)
        return chain + [Link("paper", *paper) for paper in self.written(claim)]

    def data(self, found: claims.Evidence, uri) -> list[Link]:
        """The stored tables behind a verdict, or the notebook that computes all by itself."""
        tables = [f"{name}.csv" for name in found.experiments]
        stored = [name for name in tables if (self.book / "results" / name).is_file()]
        top = uri("ledger").removesuffix("ledger.html")
        if stored:
            return [Link("data", f"{top}results/{name}", name, save=True) for name in stored]
        notebook = f"{found.chapter}.ipynb"
        text = f"computed in the chapter: {notebook}"
        return [Link("data", f"{top}_sources/chapters/{notebook}", text, save=True)]

    def written(self, claim: claims.Claim) -> list[tuple[str, str]]:
        """Address and name of a claim's paper; of all papers for a claim on all of them."""
        if claim.paper in self.papers:
            return [self.papers[claim.paper]]
        papers = dict.fromkeys(c.paper for c in self.known.values())
        return [self.papers[paper] for paper in papers if paper in self.papers]


def paper_link(fields) -> tuple[str, str] | None:
    """Where a paper is to be had: its DOI, or else arXiv, or else another address; with its name.

    >>> paper_link({"eprint": "2305.12100"})
    ('https://arxiv.org/abs/2305.12100', 'arXiv:2305.12100')
    """
    if "doi" in fields:
        return f"https://doi.org/{fields['doi']}", f"doi:{fields['doi']}"
    if "eprint" in fields:
        return f"https://arxiv.org/abs/{fields['eprint']}", f"arXiv:{fields['eprint']}"
    return (fields["url"], fields["url"]) if "url" in fields else None


def links_html(claim: claims.Claim, links: Iterable[Link]) -> str:
    """A list of evidence, one item a kind."""
    kinds: dict[str, list[str]] = {}
    for link in links:
        save = " download" if link.save else ""
        shown = f"<code>{html.escape(link.text)}</code>" if link.kind == "rule" else link.text
        anchor = f'<a href="{html.escape(link.address)}"{save}>{shown}</a>'
        kinds.setdefault(link.kind, []).append(anchor)
    names = {"paper": "beside the paper" if claim.whose == claims.OURS else "paper"}
    if len(kinds.get("paper", ())) > 1:
        names["paper"] = "beside the papers"
    items = (
        f'<li class="evidence-{kind}"><span class="evidence-kind">{names.get(kind, kind)}</span> '
        f"{', '.join(found)}</li>\n"
        for kind, found in kinds.items()
    )
    label = f"Evidence for claim {claim.id}"
    return f'<ul class="claim-evidence" aria-label="{label}">\n{"".join(items)}</ul>'


# -- cards -----------------------------------------------------------------------------------------


class CardEvidence(SphinxTransform):
    """Gives each card its permalink, its evidence, and a place in the index that search reads."""

    default_priority = 840  # before the index is gathered from the page

    def apply(self, **kwargs) -> None:
        chain = Chain.of(self.app)
        for node in list(self.document.findall(nodes.raw)):
            found = CARD.search(node.astext())
            if found and found[1] in chain.known:
                self.env.note_dependency(str(chain.book / "claims.yml"))
                text = self.card(chain, chain.known[found[1]], node.astext())
                node.replace_self([indexed(found[1], f"claim-{found[1]}"), raw(text)])

    def card(self, chain: Chain, claim: claims.Claim, text: str) -> str:
        docname = self.env.docname

        def uri(page: str) -> str:
            return self.app.builder.get_relative_uri(docname, page)

        links = chain.links(claim.id, uri)
        ledger = Link("ledger", f"{uri('ledger')}#row-{claim.id}", "its row")
        # the anchor is no link itself: a browser would put its frame of focus around it
        here = f'<span class="claim-anchor" id="{claim.id}"></span><a class="claim-id" '
        here += f'href="#{claim.id}" title="Link to this claim">{claim.id}</a>'
        text = HEAD.sub(here, OLD_LINKS.sub("", text), count=1)
        body, end, after = text.rpartition("</div>")
        return f"{body}{links_html(claim, [*links, ledger])}\n{end}{after}"


def indexed(claim_id: str, anchor: str) -> addnodes.index:
    """An entry of the index: the site's search looks there first, and leads to the anchor."""
    return addnodes.index(entries=[("single", claim_id, anchor, "main", None)])


# -- rules -----------------------------------------------------------------------------------------


class ClaimRules(SphinxDirective):
    """The source of a part's rules, with their evidence, under the ids that cards and rows link to.

    Its argument is the part.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        chain = Chain.of(self.env.app)
        shown: list[nodes.Node] = []
        for claim in chain.known.values():
            if claim.part == self.arguments[0] and claim.id in chain.rules:
                rule = chain.rules[claim.id]
                self.env.note_dependency(str(project_root() / rule.place))
                shown += [raw(self.heading(chain, claim, rule)), literal(rule.source)]
        return shown

    def heading(self, chain: Chain, claim: claims.Claim, rule: Rule) -> str:
        def uri(page: str) -> str:
            return self.env.app.builder.get_relative_uri(self.env.docname, page)

        page = html.escape(f"{uri(f'chapters/{claim.chapter}')}#claim-{claim.id}")
        told = claims.maths_html("; ".join([claim.place, *claim.told]))
        cell = "" if rule.name else " Not yet a function: the cell of the chapter that decides."
        links = [link for link in chain.links(claim.id, uri) if link.kind != "rule"]
        links.append(Link("ledger", f"{uri('ledger')}#row-{claim.id}", "its row"))
        return (
            f'<div class="claim-rule" id="rule-{claim.id}"><p><a href="{page}">'
            f'<span class="claim-id">{claim.id}</span></a> {html.escape(claim.title)} '
            f"<code>{html.escape(rule.place)}</code></p>\n"
            f'<p class="claim-paper">{told}.{cell}</p>\n{links_html(claim, links)}</div>'
        )


def literal(source: str) -> nodes.literal_block:
    return nodes.literal_block(source, source, language="python")


# -- results ---------------------------------------------------------------------------------------


def publish_results(app, error: Exception | None) -> None:
    """The stored tables, under an address that stays: results/<experiment>.csv."""
    if error is None and app.builder.format == "html":
        target = Path(app.outdir) / "results"
        target.mkdir(exist_ok=True)
        for table in sorted((Path(app.srcdir) / "results").glob("*.csv")):
            shutil.copy2(table, target / table.name)


def setup(app) -> dict:
    app.add_directive("claim-rules", ClaimRules)
    app.add_transform(CardEvidence)
    app.add_css_file("claims.css", priority=900)  # after the book's own, which it adds to
    app.connect("build-finished", publish_results)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
