"""What a rule says of a claim, and the five words for it.

A rule is a function of rows, stored or just computed, and of what closed forms say of them: the
numbers may come from a chapter's cell, the deciding does not. It stands in the file of its part
under the decorator `rule`, which checks the rows::

    @rule("B7", needs=("alpha", "trial", "spurious_accuracy"))
    def share(rows): ...
        return Judgement(checks, effect, interval, seeds, data)

and a chapter ends a section with ``claims.card(part1.share(rows), run)``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, INCONCLUSIVE, NOT_TESTED)

# claim id -> its rule, filled by `rule` when the file of a part is imported
RULES: dict[str, Callable[..., Judgement]] = {}


@dataclass(frozen=True)
class Judgement:
    """What one set of rows says of one claim.

    Attributes:
        checks: name of each check -> whether it holds (numpy and torch booleans are fine).
        effect: the effect's size in words and numbers, for example ``"+0.14 accuracy"``.
        interval: its 95 % confidence interval over what was drawn independently; None, or an end
            that is not finite (as with one trial), means that there is none.
        seeds: number of independent repetitions behind it.
        data: what it was measured on.
        note: a sentence below the card.
        claim: id of the claim; a rule's decorator sets it.
        side: further checks, without which a claim is not reproduced, but which alone are no part
            of it: a formula that agrees with itself, say.
        boundary: the effect that parts the claim from its opposite.
        excluded: whether the rows exclude the claim, should no check hold; None leaves that to the
            interval and the boundary.

    Raises:
        ValueError: no check, an interval upside down, seeds that are no whole number from 1 on.
        TypeError: a check that is neither True nor False.
    """

    checks: Mapping[str, bool]
    effect: str
    interval: tuple[float, float] | None
    seeds: int
    data: str
    note: str = ""
    claim: str = ""
    side: Mapping[str, bool] = field(default_factory=dict, kw_only=True)
    boundary: float = field(default=0.0, kw_only=True)
    excluded: bool | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not self.checks:
            raise ValueError(
                "a verdict needs at least one check; use not_tested() for a claim that was not "
                "tested"
            )
        for name in ("checks", "side"):
            given = {str(key): _boolean(key, value) for key, value in getattr(self, name).items()}
            object.__setattr__(self, name, given)
        if int(self.seeds) != self.seeds or self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds!r}, not a whole number from 1 on")
        object.__setattr__(self, "seeds", int(self.seeds))
        object.__setattr__(self, "interval", _interval(self.interval))

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`.

        All checks hold: reproduced; some: partly; none: not reproduced, unless the interval holds
        both the claim and its opposite (or there is none): inconclusive.
        """
        if any(self.checks.values()):
            whole = all(self.checks.values()) and all(self.side.values())
            return REPRODUCED if whole else PARTLY
        excluded = self.excluded
        if excluded is None and self.interval is not None:
            excluded = not self.interval[0] < self.boundary < self.interval[1]
        return NOT_REPRODUCED if excluded else INCONCLUSIVE

    @property
    def all_checks(self) -> dict[str, bool]:
        """The checks and those at their side."""
        return {**self.checks, **self.side}


def rule(claim: str, *, needs: tuple[str, ...]) -> Callable[[Callable], Callable]:
    """Decorator for the rule of one claim, whose first argument is a table with these columns.

    Raises (when the rule is called):
        TypeError: rows that are no table.
        ValueError: no rows, or rows without a needed column, condition or size.
    """

    def decorated(judge: Callable[..., Judgement]) -> Callable[..., Judgement]:
        @functools.wraps(judge)
        def checked(rows: Any, *args: Any, **settings: Any) -> Judgement:
            if not hasattr(rows, "columns"):
                raise TypeError(f"claim {claim}: a table is needed, not {type(rows).__name__}")
            if missing := [name for name in needs if name not in rows.columns]:
                raise ValueError(
                    f"claim {claim}: the rows lack {', '.join(missing)}; they have "
                    f"{', '.join(map(str, rows.columns))}"
                )
            if not len(rows):
                raise ValueError(f"claim {claim}: there are no rows to judge by")
            try:
                found = judge(rows, *args, **settings)
            except (ValueError, TypeError) as error:
                raise type(error)(f"claim {claim}: {error}") from error
            except LookupError as error:
                raise ValueError(f"claim {claim}: the rows have nothing for {error}") from error
            object.__setattr__(found, "claim", claim)
            return found

        RULES[claim] = checked
        return checked

    return decorated


def by_trial(
    checks: Mapping[str, bool],
    effect: str,
    interval: Any,
    rows: Any,
    data: str,
    note: str = "",
    **further: Any,
) -> Judgement:
    """A judgement whose repetitions are the trials of these rows; `interval` has `low`, `high`."""
    ends = (interval.low, interval.high)
    return Judgement(checks, effect, ends, rows["trial"].nunique(), data, note, **further)


def sources(rows: Any) -> str:
    """The data sources of these rows, in words."""
    return "; ".join(sorted(rows["data_source"].unique()))


def _boolean(name: str, value: Any) -> bool:
    value = value.item() if getattr(value, "shape", None) == () else value
    if not isinstance(value, bool):
        raise TypeError(f"check {name!r} is {value!r}, neither True nor False")
    return value


def _interval(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    if interval is None:
        return None
    low, high = map(float, interval)
    if low > high:
        raise ValueError(f"interval ({low:g}, {high:g}) is upside down")
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
