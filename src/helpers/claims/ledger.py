r"""The claims ledger: what the papers say, how it is tested here, and what came out.

``book/claims.yml`` lists the claims. A chapter ends each section with `card` (or `not_tested`)
as the last expression of a cell, which shows a card and leaves a machine-readable record in the
notebook. `collect` gathers these records from the published chapters, `ledger` joins them with
the claims, `counts` counts claims of the papers and ours apart, and `problems` lists what does not
fit together.

The file is a list of claims; or, to give papers readable names, a mapping::

    papers:
      bombari2024: "Bombari & Mondelli, 2024"
    unrecorded: [II]              # parts whose claims may lack origin and rule_fixed
    claims:
      - id: B4
        part: I
        paper: bombari2024        # key of the bibliography
        where: "Theorem 1"
        title: "The alignment is bounded away from zero"
        origin: second-hand       # one of `ORIGINS`
        source: "a reviewer"      # who says so
        rule_fixed: after a pilot      # one of `FIXED`
        statement: "The alignment is bounded away from 0: $\\gamma > 0$."
        test: "mean minus bound above 5 standard errors, for every activation and N"
        chapter: 03-random-features    # left out while the chapter is still to come
        figure: fig-alignment          # only where `evidence` would take another one
    reported:                     # the papers' own numbers, by claim
      B4: {number: "0.5", known: second-hand, source: "a reviewer"}

Text may contain ``$…$`` maths (a literal dollar is ``\$``); `maths_html` turns it into what
MathJax typesets both on the book's pages and in Jupyter.
"""

import json
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helpers.claims.cards import MIME
from helpers.claims.catalogue import OURS, PAPERS, UNRECORDED, Claim, known
from helpers.claims.judgement import RULES, VERDICTS, Judgement

TO_COME = "chapter to come"
NO_VERDICT = "no verdict"


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

    ``whose`` says whether the claim is one of the papers or ours. Without a record, ``verdict`` is
    `TO_COME` or, when the chapter exists, `NO_VERDICT`.
    """
    rows = []
    for claim in claims.values():
        record = dict(records.get(claim.id, {}))
        record.setdefault("verdict", NO_VERDICT if claim.chapter else TO_COME)
        rows.append(asdict(claim) | {"whose": claim.whose} | record)
    return rows


def counts(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many claims came to which verdict: a row for each part and each of whose claims.

    Args:
        rows: those of `ledger`.

    Returns:
        Rows with ``part`` and ``whose``, a number for each of the five verdicts (and for what has
        none, if there is such), their sum ``all``, and how many of these are ``inferred``. The last
        ones, with an empty part, are the totals. Claims of the papers and ours are never added up.
    """
    rows = list(rows)
    without = [v for v in (NO_VERDICT, TO_COME) if any(row["verdict"] == v for row in rows)]
    table = []
    for part in (*dict.fromkeys(row["part"] for row in rows), ""):
        for whose in (PAPERS, UNRECORDED, OURS):
            these = [row for row in rows if row["whose"] == whose and part in ("", row["part"])]
            counted = Counter(row["verdict"] for row in these)
            numbers = {verdict: counted[verdict] for verdict in (*VERDICTS, *without)}
            inferred = sum(row["origin"] == "inferred" for row in these)
            if these:
                last = {"all": len(these), "inferred": inferred}
                table.append({"part": part, "whose": whose, **numbers, **last})
    return table


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


def rule_of(claim_id: str) -> Callable[..., Judgement]:
    """The rule that judges a claim.

    Raises:
        ValueError: an unknown claim, or one whose rule is still a cell of its chapter.
    """
    # here, not above: they register their rules, and the ledger needs no SciPy
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("part"):
            pkgutil.resolve_name(f"helpers.claims.{module.name}")
    claim = known(claim_id)
    if claim_id not in RULES:
        raise ValueError(f"claim {claim_id} has no rule of its own: see chapter {claim.chapter}")
    return RULES[claim_id]
