r"""The claims ledger: what the papers say, how it is tested here, and what came out.

``book/claims.yml`` lists the claims. A chapter ends each section with `verdict` (or `not_tested`)
as the last expression of a cell, which shows a card and leaves a machine-readable record in the
notebook. `collect` gathers these records from the published chapters, `ledger` joins them with
the claims, `problems` lists what does not fit together.

The file is a list of claims; or, to give papers readable names, a mapping::

    papers:
      bombari2024: "Bombari & Mondelli, 2024"
    claims:
      - id: B4
        part: I
        paper: bombari2024        # key of the bibliography
        where: "Theorem 1"
        statement: "The alignment is bounded away from 0: $\\gamma > 0$."
        test: "mean minus bound above 5 standard errors, for every activation and N"
        chapter: 03-random-features    # left out while the chapter is still to come

Text may contain ``$…$`` maths (a literal dollar is ``\$``); `maths_html` turns it into what
MathJax typesets both on the book's pages and in Jupyter.

HTML of a card, for style sheets: ``div.claim-card.verdict-<verdict with hyphens>`` with the id
``claim-<id>`` (and the class ``smoke`` when the run is no evidence) holds ``div.claim-head``
(``span.claim-id``, ``span.claim-paper``, ``span.claim-badge``), ``p.claim-smoke``,
``p.claim-statement``, ``p.claim-test``, ``ul.claim-checks`` (``li.holds`` or ``li.fails``),
``dl.claim-facts`` (one ``div`` with ``dt`` and ``dd`` a fact) and ``p.claim-note``.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from helpers.chapter import Run, project_root

VERDICTS = ("reproduced", "partly", "not reproduced", "not tested at this scale")
TO_COME = "chapter to come"
NO_VERDICT = "no verdict"
MIME = "application/vnd.spurious-book.verdict+json"
_SMOKE = "smoke run: not evidence"
_MATHS = re.compile(r"(?<!\\)\$(.+?)(?<!\\)\$", re.DOTALL)


@dataclass(frozen=True)
class Claim:
    """One claim of one paper, in our words.

    `where` is its place in the paper, `test` the rule that decides, stated before the result;
    `chapter` is the slug of the chapter that tests it, None while that is still to come.
    `paper` is the key of the bibliography, `paper_name` what readers see."""

    id: str
    part: str
    paper: str
    statement: str
    where: str
    test: str
    chapter: str | None = None
    paper_name: str = ""


_REQUIRED = ("id", "part", "paper", "statement", "where", "test")


def load(
    path: Path | str | None = None, *, chapters: Iterable[str] | None = None
) -> dict[str, Claim]:
    """Claims by id, in the order of the file (default: the book's ``claims.yml``).

    Raises ValueError, naming file and claim: for YAML that does not parse, a key that is missing,
    empty or unknown, an id given twice, a lone ``$``, and, when `chapters` lists the known slugs,
    for a chapter not among them.
    """
    path = Path(path) if path is not None else project_root() / "book" / "claims.yml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if isinstance(content, list):
        content = {"claims": content}
    if not isinstance(content, dict) or not isinstance(content.get("claims"), list):
        raise ValueError(f"{path}: expected a list of claims, or a mapping with the key 'claims'")
    papers = content.get("papers") or {}
    if not isinstance(papers, dict):
        raise ValueError(f"{path}: 'papers' must map bibliography keys to names")
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(content["claims"], start=1):
        try:
            claim = _claim(entry, papers, chapters)
            if claim.id in claims:
                raise ValueError("the id is given twice")
        except ValueError as error:
            name = entry.get("id", number) if isinstance(entry, dict) else number
            raise ValueError(f"{path}, claim {name}: {error}") from error
        claims[claim.id] = claim
    return claims


def _claim(entry: Any, papers: Mapping[str, str], chapters: Iterable[str] | None) -> Claim:
    if not isinstance(entry, dict):
        raise ValueError(f"expected a mapping, found {entry!r}")
    unknown = set(entry) - {*_REQUIRED, "chapter"}
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown, key=str)}")
    texts = {key: str(entry.get(key, "") or "").strip() for key in _REQUIRED}
    empty = [key for key, text in texts.items() if not text]
    if empty:
        raise ValueError(f"missing or empty: {', '.join(empty)}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9.-]*", texts["id"]):
        raise ValueError("an id is a letter, then letters, digits, '.' and '-'")
    for key in ("statement", "where", "test"):
        if "$" in _MATHS.sub("", texts[key]).replace(r"\$", ""):
            raise ValueError(rf"a '$' without its partner in {key} (write \$ for a dollar)")
    chapter = entry.get("chapter")
    if chapter is not None and chapters is not None and chapter not in chapters:
        raise ValueError(f"unknown chapter {chapter!r}")
    name = str(papers.get(texts["paper"], texts["paper"]))
    return Claim(**texts, chapter=chapter, paper_name=name)


# -- verdicts ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What one run found about one claim; shown as a card when it is a cell's last expression."""

    claim: Claim
    verdict: str
    checks: dict[str, bool]
    effect: str
    interval: tuple[float, float] | None
    seeds: int
    data: str
    profile: str
    device: str
    note: str = ""

    @property
    def evidence(self) -> bool:
        """False for a smoke run: it shows that the code works, not what is true."""
        return self.profile != "smoke"

    def record(self) -> dict[str, Any]:
        """Everything but the claim's own text, as JSON values; `collect` adds the chapter."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "claim"}
        interval = None if self.interval is None else list(self.interval)
        return {"id": self.claim.id, **own, "interval": interval, "evidence": self.evidence}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/plain": repr(self), "text/html": card(self), MIME: self.record()}

    def __repr__(self) -> str:
        smoke = "" if self.evidence else f" ({_SMOKE})"
        lines = [f"{self.claim.id}: {self.verdict}{smoke}", self.claim.statement]
        lines += [f"  {_mark(holds)} {name}" for name, holds in self.checks.items()]
        lines += [f"  {name}: {text}" for name, text in _facts(self)]
        return "\n".join([*lines, *([self.note] if self.note else [])])


def verdict(
    claim_id: str,
    checks: Mapping[str, bool],
    *,
    effect: str,
    interval: tuple[float, float] | None,
    seeds: int,
    data: str,
    run: Run,
    note: str = "",
) -> Verdict:
    """The verdict by rule: all `checks` hold: reproduced; some: partly; none: not reproduced.

    checks    name of each check -> whether it holds (numpy and torch booleans are fine)
    effect    the effect's size in words and numbers, for example ``"+0.14 accuracy"``
    interval  its 95 % confidence interval over seeds; None, or an end that is not finite (as with
              one seed), means that there is none
    seeds     number of independent repetitions behind it
    data      what it was measured on

    Raises ValueError for an unknown claim or no check, TypeError for a check that is no boolean.
    """
    claim = _known(claim_id)
    if not checks:
        raise ValueError(
            f"claim {claim_id}: a verdict needs at least one check; use not_tested() "
            "for a claim that was not tested"
        )
    checks = {str(name): _boolean(claim_id, name, value) for name, value in checks.items()}
    held = sum(checks.values())
    word = VERDICTS[0] if held == len(checks) else VERDICTS[1] if held else VERDICTS[2]
    if int(seeds) != seeds or seeds < 1:
        raise ValueError(f"claim {claim_id}: seeds is {seeds!r}, not a whole number from 1 on")
    return Verdict(
        claim,
        word,
        checks,
        effect,
        _interval(claim_id, interval),
        int(seeds),
        data,
        run.profile,
        run.device,
        note,
    )


def not_tested(claim_id: str, reason: str, *, run: Run) -> Verdict:
    """The verdict "not tested at this scale", with its reason."""
    if not reason.strip():
        raise ValueError(f"claim {claim_id}: say why it is not tested")
    return Verdict(
        _known(claim_id), VERDICTS[3], {}, "", None, 0, "", run.profile, run.device, reason
    )


def _known(claim_id: str) -> Claim:
    claims = load()
    if claim_id not in claims:
        raise ValueError(f"unknown claim {claim_id!r}: claims.yml has {', '.join(claims)}")
    return claims[claim_id]


def _boolean(claim_id: str, name: str, value: Any) -> bool:
    value = value.item() if getattr(value, "shape", None) == () else value
    if not isinstance(value, bool):
        raise TypeError(f"claim {claim_id}: check {name!r} is {value!r}, neither True nor False")
    return value


def _interval(claim_id: str, interval: tuple[float, float] | None) -> tuple[float, float] | None:
    if interval is None:
        return None
    low, high = map(float, interval)
    if low > high:
        raise ValueError(f"claim {claim_id}: interval ({low:g}, {high:g}) is upside down")
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


# -- the card ------------------------------------------------------------------------------------


def maths_html(text: str) -> str:
    r"""`text` as HTML: escaped, with ``$…$`` in the element and delimiters that Sphinx uses.

    MathJax ignores the book's text outside elements of class ``math``.

    >>> print(maths_html(r"$\gamma < 1$ & \$5"))
    <span class="math notranslate nohighlight">\(\gamma &lt; 1\)</span> &amp; $5
    """
    pieces = _MATHS.split(text)
    pieces[0::2] = [html.escape(piece.replace(r"\$", "$")) for piece in pieces[0::2]]
    pieces[1::2] = [
        rf'<span class="math notranslate nohighlight">\({html.escape(maths)}\)</span>'
        for maths in pieces[1::2]
    ]
    return "".join(pieces)


def card(verdict: Verdict) -> str:
    """The claim card as HTML; its classes are listed at the top of this module."""
    claim, smoke = verdict.claim, not verdict.evidence
    classes = f"claim-card {verdict_class(verdict.verdict)}{' smoke' if smoke else ''}"
    label = f"Claim {claim.id}: {verdict.verdict}{f' ({_SMOKE})' if smoke else ''}"
    parts = [
        f'<div class="{classes}" id="claim-{claim.id}" role="group" '
        f'aria-label="{html.escape(label)}">',
        f'<div class="claim-head"><span class="claim-id">{claim.id}</span> '
        f'<span class="claim-paper">{maths_html(f"{claim.paper_name}, {claim.where}")}</span> '
        f'<span class="claim-badge">{verdict.verdict}</span></div>',
        f'<p class="claim-smoke">{_SMOKE}</p>' if smoke else "",
        f'<p class="claim-statement">{maths_html(claim.statement)}</p>',
        f'<p class="claim-test">Test: {maths_html(claim.test)}</p>',
        _checks_html(verdict.checks),
        _facts_html(verdict),
        f'<p class="claim-note">{maths_html(verdict.note)}</p>' if verdict.note else "",
        "</div>",
    ]
    return "\n".join(part for part in parts if part)


def verdict_class(verdict: str) -> str:
    """CSS class of a verdict.

    >>> verdict_class("not reproduced")
    'verdict-not-reproduced'
    """
    return "verdict-" + verdict.replace(" ", "-")


def _mark(holds: bool) -> str:
    return "✓ holds:" if holds else "✗ fails:"


def _checks_html(checks: Mapping[str, bool]) -> str:
    items = [
        f'<li class="{"holds" if holds else "fails"}">{_mark(holds)} {maths_html(name)}</li>'
        for name, holds in checks.items()
    ]
    return f'<ul class="claim-checks">{"".join(items)}</ul>' if items else ""


def _facts_html(verdict: Verdict) -> str:
    items = [
        f"<div><dt>{name}</dt> <dd>{maths_html(text)}</dd></div>" for name, text in _facts(verdict)
    ]
    return f'<dl class="claim-facts">{"".join(items)}</dl>'


def _facts(verdict: Verdict) -> list[tuple[str, str]]:
    """(name, text) of what stands behind a verdict; what does not apply is left out."""
    facts = []
    if verdict.effect:
        facts.append(("Effect", verdict.effect))
    if verdict.checks:
        low_high = verdict.interval
        interval = "none" if low_high is None else f"[{low_high[0]:.3g}, {low_high[1]:.3g}]"
        facts += [
            ("95 % interval", interval),
            ("Seeds", str(verdict.seeds)),
            ("Data", verdict.data),
        ]
    return [*facts, ("Profile", verdict.profile)]


# -- the ledger ----------------------------------------------------------------------------------


def collect(chapters: Path | str) -> dict[str, dict[str, Any]]:
    """Records of all verdicts in the notebooks ``<chapters>/*.ipynb``, by claim id.

    Each is `Verdict.record` plus ``chapter``, the notebook's slug. Raises ValueError for a claim
    with two verdicts, a file that is no notebook, and a folder that does not exist.
    """
    folder = Path(chapters)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder} to collect verdicts from")
    records: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.ipynb")):
        for record in _records(path):
            record = {**record, "chapter": path.stem}
            first = records.setdefault(record["id"], record)
            if first is not record:
                raise ValueError(
                    f"claim {record['id']} has two verdicts: in {first['chapter']} "
                    f"and in {record['chapter']}"
                )
    return records


def _records(path: Path) -> list[dict[str, Any]]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a notebook: {error}") from error
    return [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]


def ledger(
    claims: Mapping[str, Claim], records: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row a claim, in their order, as JSON values: the claim's fields and its record's.

    Without a record, ``verdict`` is `TO_COME` or, when the chapter exists, `NO_VERDICT`."""
    rows = []
    for claim in claims.values():
        record = dict(records.get(claim.id, {}))
        record.setdefault("verdict", NO_VERDICT if claim.chapter else TO_COME)
        rows.append(asdict(claim) | record)
    return rows


def problems(claims: Mapping[str, Claim], records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What does not fit together, one sentence each; empty when all does."""
    found = [
        f"claim {claim.id}: chapter {claim.chapter} gives no verdict"
        for claim in claims.values()
        if claim.chapter and claim.id not in records
    ]
    for claim_id, record in records.items():
        if claim_id not in claims:
            found.append(
                f"chapter {record['chapter']} gives a verdict on {claim_id}, which is not "
                "in claims.yml"
            )
        elif record["chapter"] != claims[claim_id].chapter:
            found.append(
                f"claim {claim_id}: verdict in chapter {record['chapter']}, but "
                f"claims.yml says {claims[claim_id].chapter}"
            )
        if record["profile"] == "smoke":
            found.append(f"claim {claim_id}: its verdict comes from a smoke run")
    return found
