"""The claims of the papers, as `book/claims.yml` lists them."""

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from helpers.project import project_root

MATHS = re.compile(r"(?<!\\)\$(.+?)(?<!\\)\$", re.DOTALL)


# where a statement comes from: read in the paper's own words, told by a third party, found in the
# released code, inferred by us from other results of the paper, or a statement of our own
ORIGINS = ("read", "second-hand", "code", "inferred", "ours")
# those of them that mean nothing until somebody is named
_NAMED = ("second-hand", "code")
# how a number of the paper is known
REPORTED = ("read", "second-hand", "code")
# when the rule that decides was fixed
FIXED = ("before", "after a pilot", "after the result")
# whose a claim is: claims of the papers and ours are counted apart; where nobody has recorded yet
# who makes a claim, it is counted as neither
PAPERS, OURS, UNRECORDED = "of the papers", "ours", "origin not recorded"


@dataclass(frozen=True)
class Reported:
    """What the paper itself reports for a claim, where that is known.

    Attributes:
        number: the number, or numbers, with what they measure.
        known: one of `REPORTED`: read in the paper, second-hand, or from the released code.
        source: where it stands, or who says so.
    """

    number: str
    known: str
    source: str

    @property
    def told(self) -> str:
        """In few words: how the number is known.

        >>> Reported("64.0 %", "second-hand", "a note").told
        'second-hand: a note'
        """
        return f"{_TOLD[self.known]}: {self.source}"


@dataclass(frozen=True)
class Claim:
    """One claim of one paper, in our words.

    Attributes:
        id: letter of the paper and a number.
        part: of the book.
        paper: key of the bibliography; `paper_name` is what readers see.
        statement: what is claimed.
        where: its place in the paper.
        test: the rule that decides, in words.
        title: a few words; empty where nobody has given it one yet.
        origin: one of `ORIGINS`; empty only in the parts that the file lists as unrecorded.
        source: who says so, or what it is inferred from; empty for a claim of ours.
        rule_fixed: one of `FIXED`; empty like `origin`.
        chapter: slug of the chapter that tests it, None while that is still to come.
        paper_name: what readers see for `paper`.
        figure: name of the figure that shows it, where `evidence` would take another one.
        reported: the paper's own number, None where it is not known.
    """

    id: str
    part: str
    paper: str
    statement: str
    where: str
    test: str
    title: str = ""
    origin: str = ""
    source: str = ""
    rule_fixed: str = ""
    chapter: str | None = None
    paper_name: str = ""
    # not in `repr`, which tells of what words a card is made: neither stands on it
    figure: str = field(default="", repr=False)
    reported: Reported | None = field(default=None, repr=False)

    @property
    def whose(self) -> str:
        """`PAPERS`, `OURS` or `UNRECORDED`."""
        if not self.origin:
            return UNRECORDED
        return OURS if self.origin == "ours" else PAPERS

    @property
    def place(self) -> str:
        """Paper and place; a claim of ours names the paper only as what it stands beside."""
        beside = "ours, beside " if self.whose == OURS else ""
        return f"{beside}{self.paper_name}, {self.where}"

    @property
    def told(self) -> list[str]:
        """In few words: where the statement comes from, and when the rule was fixed.

        >>> Claim("B1", "I", "p", "s", "w", "t", origin="inferred", source="the abstract").told
        ['inferred by us, not read: the abstract']
        """
        source = f": {self.source}" if self.source else ""
        told = [_TOLD[self.origin] + source] if self.origin else []
        fixed = "before the result" if self.rule_fixed == "before" else self.rule_fixed
        return told + ([f"rule fixed {fixed}"] if fixed else [])


_TOLD = {
    "read": "read in the paper",
    "second-hand": "second-hand",
    "code": "from the released code",
    "inferred": "inferred by us, not read",
    "ours": "our own claim, not the paper's",
}
_REQUIRED = ("id", "part", "paper", "statement", "where", "test")
_OPTIONAL = ("title", "origin", "source", "rule_fixed", "figure")
_RECORDED = ("origin", "rule_fixed")
_ALLOWED = {"origin": ORIGINS, "rule_fixed": FIXED}


def load(
    path: Path | str | None = None, *, chapters: Iterable[str] | None = None
) -> dict[str, Claim]:
    """Claims by id, in the order of the file (default: the book's ``claims.yml``).

    Raises ValueError, naming file and claim: for YAML that does not parse, a key that is missing,
    empty or unknown, an id given twice, a lone ``$``, and, when `chapters` lists the known slugs,
    for a chapter not among them. A claim needs `origin` and `rule_fixed`, unless the file lists its
    part under ``unrecorded``; it needs a `source` where others or the code say so, and has none
    where it is ours. What the papers report stands under ``reported``, by claim, and is refused for
    a claim that is not there, is ours, or does not say how the number is known.
    """
    path = Path(path) if path is not None else project_root() / "book" / "claims.yml"
    try:
        content = _parsed(path.read_text(encoding="utf-8-sig"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if isinstance(content, list):
        content = {"claims": content}
    if not isinstance(content, dict) or not isinstance(content.get("claims"), list):
        raise ValueError(f"{path}: expected a list of claims, or a mapping with the key 'claims'")
    papers = content.get("papers") or {}
    if not isinstance(papers, dict):
        raise ValueError(f"{path}: 'papers' must map bibliography keys to names")
    unrecorded = content.get("unrecorded") or []
    if not isinstance(unrecorded, list):
        raise ValueError(f"{path}: 'unrecorded' must list parts of the book")
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(content["claims"], start=1):
        try:
            claim = _claim(entry, papers, chapters)
            _check_origin(claim, unrecorded)
            if claim.id in claims:
                raise ValueError("the id is given twice")
        except ValueError as error:
            name = entry.get("id", number) if isinstance(entry, dict) else number
            raise ValueError(f"{path}, claim {name}: {error}") from error
        claims[claim.id] = claim
    for claim_id, entry in (content.get("reported") or {}).items():
        try:
            reported = _reported(entry, claims.get(claim_id))
        except ValueError as error:
            raise ValueError(f"{path}, reported for claim {claim_id}: {error}") from error
        claims[claim_id] = replace(claims[claim_id], reported=reported)
    return claims


@lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    """What a YAML text says, for reading alone; by the library in C where there is one."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _reported(entry: Any, claim: Claim | None) -> Reported:
    if claim is None:
        raise ValueError("there is no such claim")
    if claim.whose == OURS:
        raise ValueError("the claim is ours: no paper reports a number for it")
    given = entry if isinstance(entry, dict) else {}
    texts = {str(key): str(text or "").strip() for key, text in given.items()}
    if set(texts) != {"number", "known", "source"} or not all(texts.values()):
        raise ValueError("expected number, known and source, none of them empty")
    if texts["known"] not in REPORTED:
        raise ValueError(f"known is {texts['known']!r}: expected one of {', '.join(REPORTED)}")
    return Reported(**texts)


def _claim(entry: Any, papers: Mapping[str, str], chapters: Iterable[str] | None) -> Claim:
    if not isinstance(entry, dict):
        raise ValueError(f"expected a mapping, found {entry!r}")
    unknown = set(entry) - {*_REQUIRED, *_OPTIONAL, "chapter"}
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown, key=str)}")
    texts = {key: str(entry.get(key, "") or "").strip() for key in (*_REQUIRED, *_OPTIONAL)}
    empty = [key for key in _REQUIRED if not texts[key]]
    if empty:
        raise ValueError(f"missing or empty: {', '.join(empty)}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9.-]*", texts["id"]):
        raise ValueError("an id is a letter, then letters, digits, '.' and '-'")
    for key in ("statement", "where", "test", "source"):
        if "$" in MATHS.sub("", texts[key]).replace(r"\$", ""):
            raise ValueError(rf"a '$' without its partner in {key} (write \$ for a dollar)")
    for key, allowed in _ALLOWED.items():
        if texts[key] and texts[key] not in allowed:
            raise ValueError(f"{key} is {texts[key]!r}: expected one of {', '.join(allowed)}")
    chapter = entry.get("chapter")
    if chapter is not None and chapters is not None and chapter not in chapters:
        raise ValueError(f"unknown chapter {chapter!r}")
    name = str(papers.get(texts["paper"], texts["paper"]))
    return Claim(**texts, chapter=chapter, paper_name=name)


def _check_origin(claim: Claim, unrecorded: Iterable[str]) -> None:
    """ValueError for a claim whose origin, source and time of its rule do not fit together."""
    empty = [key for key in _RECORDED if not getattr(claim, key)]
    if empty and claim.part not in unrecorded:
        raise ValueError(
            f"missing or empty: {', '.join(empty)} (only the parts listed under 'unrecorded' may "
            "do without)"
        )
    if claim.origin in _NAMED and not claim.source:
        raise ValueError(f"origin is {claim.origin!r}: source must name who says so")
    if claim.source and claim.origin in ("", "ours"):
        raise ValueError(f"a source makes no sense with origin {claim.origin!r}: remove it")


def known(claim_id: str) -> Claim:
    """The book's claim of this id; ValueError names those that there are."""
    claims = load()
    if claim_id not in claims:
        raise ValueError(f"unknown claim {claim_id!r}: claims.yml has {', '.join(claims)}")
    return claims[claim_id]


def maths_html(text: str) -> str:
    r"""`text` as HTML: escaped, with ``$…$`` in the element and delimiters that Sphinx uses.

    MathJax ignores the book's text outside elements of class ``math``.

    >>> print(maths_html(r"$\gamma < 1$ & \$5"))
    <span class="math notranslate nohighlight">\(\gamma &lt; 1\)</span> &amp; $5
    """
    pieces = MATHS.split(text)
    pieces[0::2] = [html.escape(piece.replace(r"\$", "$")) for piece in pieces[0::2]]
    pieces[1::2] = [
        rf'<span class="math notranslate nohighlight">\({html.escape(maths)}\)</span>'
        for maths in pieces[1::2]
    ]
    return "".join(pieces)
