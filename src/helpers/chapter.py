"""What every chapter starts and ends with: its settings, its profiles, its promised numbers.

A chapter has one cell tagged `parameters`::

    profile = "smoke"
    device = "auto"
    seed = 0
    data_dir = ""

and hands these to `setup`, which returns a `Run`. Numbers that the prose quotes go through `put`,
numbers that the tests watch go through `check`.
"""

import html
import math
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROFILES = ("smoke", "laptop", "paper")
PUBLISHED = "laptop"
ORIGINAL = "original"
_GLUE = "application/papermill.record/"


def project_root() -> Path:
    """Folder that holds `_config.yml` and `src/helpers`.

    `$BOOK_ROOT` wins; then the nearest parent of the current folder; then the place that this very
    file was installed from (the package is installed in editable mode).
    """
    given = os.environ.get("BOOK_ROOT")
    if given:
        return Path(given).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "_config.yml").is_file() and (folder / "src" / "helpers").is_dir():
            return folder
    return Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """The settings of one execution of a chapter."""

    profile: str
    device: str
    seed: int
    data_dir: str | None

    def pick(self, *, smoke: Any, laptop: Any, paper: Any) -> Any:
        """The value that belongs to this run's profile.

        >>> Run("laptop", "cpu", 0, None).pick(smoke=50, laptop=1000, paper=1000)
        1000
        """
        return {"smoke": smoke, "laptop": laptop, "paper": paper}[self.profile]

    @property
    def store(self) -> Path | None:
        """Folder of stored results, or None at `smoke`, where everything is computed."""
        if self.profile == "smoke":
            return None
        return Path(os.environ.get("BOOK_RESULTS") or project_root() / "book" / "results")

    @property
    def context(self) -> dict[str, Any]:
        """What a trial may know about the machine, and what no result may depend on."""
        return {"device": self.device, "data_dir": self.data_dir}

    def sizes(self, rows: Mapping[str, Mapping[str, Any]]) -> "ProfileTable":
        """`profile_table` with this run's column marked."""
        return profile_table(rows, current=self.profile)


def resolve_device(device: str) -> str:
    """The torch device that `device` means on this machine; "auto" prefers CUDA.

    Raises ValueError for a name torch does not know and for a GPU that is not there.
    """
    allowed = '"auto", "cpu", "cuda" or "cuda:<number>"'
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"unknown device {device!r}: expected {allowed}.")
    if device == "cpu":
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if count else "cpu"
    if int(device.partition(":")[2] or 0) >= count:
        raise ValueError(
            f"device {device!r} asked for, but torch sees {count} CUDA device(s) "
            'here: use "auto" or "cpu", or install the driver of the GPU.'
        )
    return device


def describe_device(device: str = "cpu") -> str:
    """What computes: the GPU's name for ``cuda…``, else the CPU's model and usable cores.

    ``auto`` means the GPU when torch is loaded and sees one; torch is imported for ``cuda`` only.
    """
    if device == "auto":
        torch = sys.modules.get("torch")
        device = "cuda" if torch is not None and torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    if device != "cpu":
        return device
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu_model()}, {cores} core{'s' if cores != 1 else ''}"


@cache
def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def setup(profile: str = "smoke", device: str = "auto", seed: int = 0, data_dir: str = "") -> Run:
    """Check the four parameters of a chapter and apply the book's figure style.

    Raises ValueError, one paragraph that names the value and what is allowed.
    """
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
    run = Run(profile=profile, device=resolve_device(device), seed=seed, data_dir=folder)
    from helpers import figures

    figures.use_style()
    return run


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


def put(name: str, value: Any) -> None:
    """Make `value` available to the prose as {glue:text}`name`, with `:.2f` and the like.

    Does what myst_nb's `glue` does, without importing it, and turns numpy and torch scalars into
    plain numbers first (their repr would not be a number any more).
    """
    from IPython.display import display

    value = _plain(value)
    text = repr(value) if isinstance(value, int | float) else str(value)
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
