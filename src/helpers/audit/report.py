"""What an audit found: named figures, each with an interval, a control and a sentence."""

import html
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from helpers import naming

FLAG, CLEAR, OPEN = "flagged", "clear", "open"
NOT_ASKED = "not asked"
STATES = (FLAG, CLEAR, OPEN, NOT_ASKED)


@dataclass(frozen=True)
class Finding:
    """One figure of an audit.

    Attributes:
        name: by which the report is asked for it.
        value: the figure; NaN where there is none, infinity where no share or number is enough.
        low, high: its 95 % interval.
        says: what it means, in plain words.
        control: the same figure where nothing can be found, and what was compared.
        assumes: what it stands on.
        state: ``"flagged"``, ``"clear"``, ``"open"`` (the interval holds both, or the figure alone
            decides nothing) or ``"not asked"``, where `says` tells why.
        detail: further numbers behind it, by name.
    """

    name: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    says: str = ""
    control: str = ""
    assumes: str = ""
    state: str = OPEN
    detail: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"state is {self.state!r}: allowed are {', '.join(STATES)}")

    @property
    def interval(self) -> str:
        """The figure with its interval, as it is printed.

        >>> Finding("worst_group", 0.5, 0.4, 0.6).interval
        '0.5 [0.4, 0.6]'
        """
        if math.isnan(self.value):
            return "–"
        ends = "" if math.isnan(self.low) else f" [{_short(self.low)}, {_short(self.high)}]"
        return _short(self.value) + ends


def not_asked(name: str, why: str) -> Finding:
    """A finding that is missing, with the reason.

    >>> not_asked("spurious_score", "not given: pattern").state
    'not asked'
    """
    return Finding(name, says=why, state=NOT_ASKED)


class Report(Mapping[str, Finding]):
    """Findings by name, in the order in which they were made.

    Prints as a table of sentences; `table` is a data frame, `html` a page that needs no other file.

    >>> report = Report("data", "60 samples", [Finding("knee", 12.0, 9.0, 15.0, "Twelve images.")])
    >>> report["knee"].value
    12.0
    >>> print(report)
    Audit of data: 60 samples
      knee  12 [9, 15]  open
        Twelve images.
    """

    def __init__(self, kind: str, about: str, findings: list[Finding]) -> None:
        self.kind, self.about = kind, about
        self._findings = {finding.name: finding for finding in findings}
        if len(self._findings) < len(findings):
            raise ValueError("two findings have one name")

    def __getitem__(self, name: str) -> Finding:
        if name not in self._findings:
            raise KeyError(f"{name!r} is not in this report: it has {', '.join(self._findings)}")
        return self._findings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._findings)

    def __len__(self) -> int:
        return len(self._findings)

    @property
    def flagged(self) -> list[Finding]:
        """The findings that ask for something to be done."""
        return [finding for finding in self.values() if finding.state == FLAG]

    def __str__(self) -> str:
        lines = [f"Audit of {self.kind}: {self.about}"]
        width = max((len(name) for name in self), default=0)
        for f in self.values():
            lines.append(f"  {f.name:<{width}}  {f.interval}  {f.state}")
            lines.append(f"    {f.says}")
        return "\n".join(lines)

    __repr__ = __str__

    def table(self) -> pd.DataFrame:
        """One row a finding, with the columns of :class:`Finding` but `name`, which is the index.

        Further numbers (`detail`) are left out.
        """
        columns = ("value", "low", "high", "state", "says", "control", "assumes")
        rows = [{name: getattr(f, name) for name in columns} for f in self.values()]
        return pd.DataFrame(rows, index=pd.Index(self, name="finding"), columns=list(columns))

    def _repr_html_(self) -> str:
        """In a notebook: a table without headings, which would be among the notebook's own."""
        head = "".join(
            f'<th scope="col">{name}</th>' for name in ("finding", "figure", "state", "says")
        )
        rows = "".join(
            f'<tr><th scope="row"><code>{html.escape(f.name)}</code></th>'
            f"<td>{html.escape(f.interval)}</td><td>{f.state}</td>"
            f"<td>{html.escape(f.says)}</td></tr>"
            for f in self.values()
        )
        about = f"Audit of {self.kind}: {html.escape(self.about)}"
        return (
            f'<table class="audit"><caption>{about}</caption><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )

    def html(self, path: Path | str | None = None) -> str:
        """The report as one page without anything from elsewhere; written to `path` if given.

        Raises:
            OSError: a path that cannot be written.
        """
        page = _PAGE.format(
            title=html.escape(f"Audit of {self.kind}"), body=self._body(), data=_script(self)
        )
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def _body(self) -> str:
        rows = "".join(_row(finding) for finding in self.values())
        count = len(self.flagged)
        head = f"<p><strong>{count} of {len(self)} findings flagged.</strong> "
        head += f"{html.escape(self.about)}</p>"
        return f'<section class="audit"><h1>Audit of {self.kind}</h1>{head}{rows}</section>'


def _short(value: float) -> str:
    """Three digits, and no exponent for ordinary numbers."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    rounded_up = abs(value) >= 999.5  # three digits of it would be those of a thousand
    return f"{value:,.0f}" if rounded_up else f"{value:.3g}"


def _row(f: Finding) -> str:
    parts = [f"<p>{html.escape(f.says)}</p>"]
    if not math.isnan(f.low):
        parts.append(_bar(f))
    for name, text in (("Control", f.control), ("Assumes", f.assumes)):
        if text:
            parts.append(f'<p class="note">{name}: {html.escape(text)}</p>')
    title = html.escape(naming.shown(f.name))
    return (
        f'<article id="{html.escape(f.name)}"><h2>{title} '
        f'<span class="state {f.state.replace(" ", "-")}">{f.state}</span></h2>'
        f'<p class="figure">{html.escape(f.interval)}</p>{"".join(parts)}</article>'
    )


def _bar(f: Finding) -> str:
    """The interval as a line on an axis of its own, which always shows 0 (and 1 for shares)."""
    known = [x for x in (f.value, f.low, f.high) if math.isfinite(x)]
    if not known:
        return ""
    least = min(0.0, *known)
    most = max(1.0 if max(known) <= 1 else 0.0, *known) or 1.0
    room = (most - least) * 1.05

    def at(x: float) -> float:
        return round(400 * (min(max(x, least), least + room) - least) / room, 1)

    dot = f'<circle cx="{at(f.value)}" cy="10" r="5"/>' if math.isfinite(f.value) else ""
    return (
        f'<svg viewBox="0 0 400 32" role="img" aria-label="{html.escape(f.interval)}">'
        f'<line class="axis" x1="0" y1="10" x2="400" y2="10"/>'
        f'<line class="range" x1="{at(f.low)}" y1="10" x2="{at(f.high)}" y2="10"/>{dot}'
        f'<text x="{at(0.0)}" y="30">0</text>'
        f'<text x="{at(most)}" y="30" text-anchor="end">{_short(most)}</text></svg>'
    )


def _script(report: Report) -> str:
    """The numbers for other programs, inside the page."""
    rows = {
        f.name: {k: _plain(getattr(f, k)) for k in ("value", "low", "high", "state")}
        | {"detail": {k: _plain(v) for k, v in f.detail.items()}}
        for f in report.values()
    }
    return json.dumps(rows).replace("</", "<\\/")


def _plain(value: float | str) -> float | str | None:
    """JSON has neither NaN nor infinity."""
    if isinstance(value, str) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #767676; --mark: #1f6feb; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
article {{ border-top: 1px solid var(--line); padding: .5rem 0; }}
h2 {{ font-size: 1.1rem; margin: .3rem 0; }}
.figure {{ font-size: 1.3rem; margin: .2rem 0; }}
.note {{ font-size: .9rem; margin: .2rem 0; }}
.state {{ font-size: .85rem; border: 1px solid currentColor; border-radius: .6rem; padding: 0 .5rem; }}
.state.flagged {{ font-weight: bold; border-width: 2px; }}
svg {{ width: 100%; max-width: 400px; height: auto; }}
svg text {{ fill: currentColor; font-size: 12px; }}
.axis {{ stroke: var(--line); stroke-width: 1; }} .range {{ stroke: var(--mark); stroke-width: 5; }}
circle {{ fill: var(--mark); }}
</style></head><body>
{body}
<script type="application/json" id="findings">{data}</script>
</body></html>
"""  # noqa: E501
