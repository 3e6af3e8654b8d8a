"""What every chapter starts and ends with: its settings, its profiles, its promised numbers.

A chapter has one cell tagged `parameters`::

    profile = "smoke"
    device = "auto"
    seed = 0
    data_dir = ""

and hands these to `setup`, which returns a `Run`. Numbers that the prose quotes go through `put`,
numbers that the tests watch go through `check`.
"""

from __future__ import annotations

import ast
import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.project import PROFILES, Run, own_package, resolve_device

ORIGINAL = "original"
_GLUE = "application/papermill.record/"


def setup(
    profile: str = "smoke", device: str = "auto", seed: int = 0, data_dir: str = ""
) -> ChapterRun:
    """Check the four parameters of a chapter and apply the book's style of figures and tables.

    Raises ValueError, one paragraph that names the value and what is allowed, and ImportError where
    the package of another checkout is at work.
    """
    own_package()
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}: expected one of {', '.join(PROFILES)}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed {seed!r} is not usable: expected a whole number, 0 or more.")
    if not isinstance(data_dir, str | os.PathLike):
        raise ValueError(
            f'data_dir {data_dir!r} is not usable: expected the path of a folder, or "" for none.'
        )
    folder = os.path.expanduser(os.fspath(data_dir)) or None
    if folder and not os.path.isdir(folder):
        raise ValueError(
            f"data_dir {folder!r} is not a folder on this machine: give the folder "
            'that holds the datasets, or "" to look in the usual places.'
        )
    run = ChapterRun(profile=profile, device=resolve_device(device), seed=seed, data_dir=folder)
    import pandas as pd

    from helpers.book import figures

    figures.use_style()
    pd.set_option("display.max_colwidth", None)  # words in tables are shown whole
    return run


@dataclass(frozen=True)
class ChapterRun(Run):
    """A run that can show its sizes."""

    def sizes(self, rows: Mapping[str, Mapping[str, Any]]) -> ProfileTable:
        """`profile_table` with this run's column marked."""
        return profile_table(rows, current=self.profile)


@dataclass(frozen=True)
class ProfileTable:
    """Sizes of each profile, shown as a table in a notebook; `current` is marked."""

    rows: Mapping[str, Mapping[str, Any]]
    current: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The three profiles, and the paper's own numbers where a row gives them apart."""
        extra = (ORIGINAL,) if any(ORIGINAL in row for row in self.rows.values()) else ()
        return (*PROFILES, *extra)

    def _title(self, column: str) -> str:
        title = "in the paper" if column == ORIGINAL else column
        return f"{title} (this run)" if column == self.current else title

    def _repr_html_(self) -> str:
        def line(tag: str, first: str, cells: list[tuple[str, str]]) -> str:
            body = "".join(
                f'<{tag} class="this-run">{html.escape(text)}</{tag}>'
                if column == self.current
                else f"<{tag}>{html.escape(text)}</{tag}>"
                for column, text in cells
            )
            return f'<tr><th scope="row">{html.escape(first)}</th>{body}</tr>'

        head = line("th", "", [(c, self._title(c)) for c in self.columns])
        body = "".join(
            line("td", name, [(c, _shown(row.get(c))) for c in self.columns])
            for name, row in self.rows.items()
        )
        return f'<table class="profile-table"><thead>{head}</thead><tbody>{body}</tbody></table>'

    def __repr__(self) -> str:
        table = [["", *map(self._title, self.columns)]]
        table += [
            [name, *(_shown(row.get(c)) for c in self.columns)] for name, row in self.rows.items()
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            [cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in table
        ]
        return "\n".join("  ".join(line).rstrip() for line in lines)


def profile_table(
    rows: Mapping[str, Mapping[str, Any]], current: str | None = None
) -> ProfileTable:
    """Table of the sizes that each profile uses.

    `rows` maps a quantity to {"smoke": ..., "laptop": ..., "paper": ...}; "paper" is the profile
    that uses the paper's own numbers. Where even that profile differs from the paper, the
    paper's number is given as "original" and gets a column. Numbers, strings and lists are shown
    as they are; what is absent becomes a dash.

    >>> profile_table({"samples N": {"smoke": 60, "laptop": 1000, "paper": 1000}}, current="smoke")
               smoke (this run)  laptop  paper
    samples N  60                1000    1000

    Raises ValueError for an unknown column.
    """
    allowed = {*PROFILES, ORIGINAL}
    for name, row in rows.items():
        if unknown := set(row) - allowed:
            raise ValueError(
                f"row {name!r} names {sorted(unknown)}: expected only "
                f"{', '.join((*PROFILES, ORIGINAL))}."
            )
    return ProfileTable(rows, current)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:g}" if hasattr(value, "__float__") else str(value)


def _plain(value: Any) -> Any:
    """The Python number inside a numpy or torch scalar; anything else as it is."""
    return value.item() if hasattr(value, "item") else value


def _listlike(value: Any) -> bool:
    """Whether a text such as "20,000" would be read as a tuple of numbers where it is shown."""
    try:
        return isinstance(value, str) and isinstance(ast.literal_eval(value), tuple | list)
    except (SyntaxError, ValueError):
        return False


def put(name: str, value: Any) -> None:
    """Make `value` available to the prose as {glue:text}`name`, with `:.2f` and the like.

    Does what myst_nb's `glue` does, without importing it, and turns numpy and torch scalars into
    plain numbers first (their repr would not be a number any more).
    """
    from IPython.display import display

    value = _plain(value)
    text = repr(value) if isinstance(value, int | float) or _listlike(value) else str(value)
    display(
        {f"{_GLUE}text/plain": text},
        raw=True,
        metadata={"scrapbook": {"name": name, "mime_prefix": _GLUE}},
    )


def listed(values: Sequence[float], form: str = "{:.0f}") -> str:
    """Numbers as a list in words, each in this format.

    >>> listed([1, 2.6, 3]), listed([0.5], "{:.1f}")
    ('1, 3 and 3', '0.5')
    """
    *first, last = (form.format(value) for value in values)
    return f"{', '.join(first)} and {last}" if first else last


def with_interval(made: tuple[float, float, float], form: str = "{:.1f}", unit: str = "") -> str:
    """Mean and ends of an interval in one format; only the mean where there are no ends (NaN).

    >>> with_interval((1.25, 0.5, 2.0), unit=" points"), with_interval((-0.01, math.nan, math.nan))
    ('1.2 points [0.5, 2.0]', '-0.0')
    """
    mean, low, high = (form.format(value) for value in made)
    return mean + unit + ("" if math.isnan(made[1]) else f" [{low}, {high}]")


def plus_minus(mean: float, half: float, form: str = "{:.3f}") -> str:
    """Mean and half width of its interval; only the mean where there is no width (NaN).

    >>> plus_minus(1.25, 0.5, "{:.2f}"), plus_minus(1.25, math.nan)
    ('1.25 ± 0.50', '1.250')
    """
    return form.format(mean) + ("" if math.isnan(half) else f" ± {form.format(half)}")


def check(name: str, value: Any, *, expect: float, within: float) -> bool:
    """Print one line that is the same for every value in `expect` ± `within`.

    The line holds the value itself only when it is outside, so that a replayed notebook compares
    statements, not last digits.

    >>> check("slope", -0.47, expect=-0.5, within=0.1)
    slope: expected -0.5 +- 0.1: holds
    True
    >>> check("slope", float("nan"), expect=-0.5, within=0.1)
    slope: expected -0.5 +- 0.1: FAILS, got nan
    False

    Raises ValueError when the range itself is no range.
    """
    expect, within = float(_plain(expect)), float(_plain(within))
    if not (math.isfinite(expect) and math.isfinite(within) and within >= 0):
        raise ValueError(f"check {name!r}: {expect:g} +- {within:g} is no range.")
    value = float(_plain(value))
    holds = math.isfinite(value) and abs(value - expect) <= within
    verdict = "holds" if holds else f"FAILS, got {value:.6g}"
    print(f"{name}: expected {expect:g} +- {within:g}: {verdict}")
    return holds
