"""Verdicts on claims, and the cards that show them.

HTML of a card, for style sheets: ``div.claim-card.verdict-<verdict with hyphens>`` with the id
``claim-<id>`` (and the class ``smoke`` when the run is no evidence) holds ``div.claim-head``
(``span.claim-id``, ``span.claim-paper``, ``span.claim-badge``), ``p.claim-smoke``,
``p.claim-statement``, ``p.claim-origin`` (who says so, and ``origin-inferred`` or its like as a
second class), ``p.claim-test``, ``ul.claim-checks`` (``li.holds`` or ``li.fails``),
``dl.claim-facts`` (one ``div`` with ``dt`` and ``dd`` a fact) and ``p.claim-note``. The site adds
the links to the evidence when it is built, so that they fit every edition.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from helpers.claims.catalogue import Claim, known, maths_html
from helpers.claims.judgement import NOT_REPRODUCED, NOT_TESTED, Judgement
from helpers.naming import worded
from helpers.project import Run

MIME = "application/vnd.spurious-book.verdict+json"
NO_EVIDENCE = "smoke run: not evidence"


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
        return {"text/plain": repr(self), "text/html": card_html(self), MIME: self.record()}

    def __repr__(self) -> str:
        smoke = "" if self.evidence else f" ({NO_EVIDENCE})"
        lines = [f"{self.claim.id}: {self.verdict}{smoke}", self.claim.statement]
        lines += [f"  ({'; '.join(self.claim.told)})"] if self.claim.told else []
        lines += [f"  {_mark(holds)} {name}" for name, holds in self.checks.items()]
        lines += [f"  {name}: {text}" for name, text in _facts(self)]
        return "\n".join([*lines, *([self.note] if self.note else [])])


def card(judgement: Judgement, run: Run) -> Verdict:
    """The verdict of a rule, as the card of this run, in symbols instead of names of code.

    Raises:
        ValueError: a judgement that comes from no rule, a claim that claims.yml does not know.
    """
    if not judgement.claim:
        raise ValueError("this judgement has no claim: it does not come from a rule")
    found = judgement
    checks = {worded(name): holds for name, holds in found.checks.items()}
    checks |= {f"at the side: {worded(name)}": holds for name, holds in found.side.items()}
    return Verdict(
        known(found.claim), found.verdict, checks, worded(found.effect), found.interval,
        found.seeds, worded(found.data), run.profile, run.device, worded(found.note),
    )  # fmt: skip


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
    """The card of a claim whose rule is still a cell: all checks hold, some, or none.

    Args and errors are those of `Judgement`. With no check that holds the verdict is "not
    reproduced": whether the interval holds the claim too, such a cell does not say.
    """
    known(claim_id)
    try:
        found = Judgement(checks, effect, interval, seeds, data, note, claim_id)
    except (ValueError, TypeError) as error:
        raise type(error)(f"claim {claim_id}: {error}") from error
    made = card(found, run)
    return made if any(found.checks.values()) else replace(made, verdict=NOT_REPRODUCED)


def not_tested(claim_id: str, reason: str, *, run: Run) -> Verdict:
    """The verdict "not tested", with its reason."""
    if not reason.strip():
        raise ValueError(f"claim {claim_id}: say why it is not tested")
    return Verdict(
        known(claim_id), NOT_TESTED, {}, "", None, 0, "", run.profile, run.device, reason
    )


# -- HTML ------------------------------------------------------------------------------------------


def card_html(verdict: Verdict) -> str:
    """The claim card as HTML; its classes are listed at the top of this module."""
    claim, smoke = verdict.claim, not verdict.evidence
    classes = f"claim-card {verdict_class(verdict.verdict)}{' smoke' if smoke else ''}"
    label = f"Claim {claim.id}: {verdict.verdict}{f' ({NO_EVIDENCE})' if smoke else ''}"
    parts = [
        f'<div class="{classes}" id="claim-{claim.id}" role="group" '
        f'aria-label="{html.escape(label)}">',
        f'<div class="claim-head"><span class="claim-id">{claim.id}</span> '
        f'<span class="claim-paper">{maths_html(claim.place)}</span> '
        f'<span class="claim-badge">{verdict.verdict}</span></div>',
        f'<p class="claim-smoke">{NO_EVIDENCE}</p>' if smoke else "",
        f'<p class="claim-statement">{maths_html(claim.statement)}</p>',
        _origin_html(claim),
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


def _origin_html(claim: Claim) -> str:
    """Who says so, and when the rule was fixed."""
    told = maths_html("; ".join(claim.told))
    classes = f"claim-origin origin-{claim.origin or 'unrecorded'}"
    return f'<p class="{classes}">Statement: {told}.</p>' if told else ""


def _mark(holds: bool) -> str:
    return "✓ holds:" if holds else "✗ not shown:"


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
        facts += [
            ("95 % interval", _ends(verdict.interval)),
            ("Seeds", str(verdict.seeds)),
            ("Data", verdict.data),
        ]
    return [*facts, ("Profile", verdict.profile)]


def _ends(interval: tuple[float, float] | None) -> str:
    """An interval with three digits, or as many as it takes to tell its ends apart."""
    if interval is None:
        return "none"
    for digits in range(3, 9):
        low, high = (f"{end:.{digits}g}" for end in interval)
        if low != high:
            break
    return f"[{low}, {high}]"
