"""A grid in parts, for job arrays, and their tables put together again."""

import math
from pathlib import Path
from typing import Any

from helpers.errors import StoreError
from helpers.project import PROFILES, expanded
from helpers.sweep.closeness import REPEATS, agree, other_arithmetic
from helpers.sweep.registry import Experiment
from helpers.sweep.store import PROVENANCE, Cell, Key, Store, key_of
from helpers.sweep.trials import noted


def shard(experiment: Experiment, cells: list[Cell], number: int, count: int) -> list[Cell]:
    """Part `number` (from 1) of `count` of a grid: whole groups, dealt out in the grid's order.

    It rests on the grid alone, and not on what is stored.

    Raises:
        ValueError: a number that is not among 1 … count.
    """
    if not 1 <= number <= count:
        raise ValueError(f"shard {number}/{count}: the first number is one of 1 to {count}")
    return [c for group in experiment.groups(cells)[number - 1 :: count] for c in group]


def merge(experiment: Experiment, store: Path, files: list[Path]) -> tuple[int, int, list[str]]:
    """Take the rows of other tables of an experiment into that of a store, in the grid's order.

    What is stored stays as it is. A cell that two tables have is taken once; where their numbers
    differ is told: by more than the experiment allows or, on one kind of processor, by anything
    that counts.

    Args:
        experiment: of all tables.
        store: folder of the table that grows.
        files: other tables of the same experiment.

    Returns:
        How many rows were added, how many were known, and the contradictions, one a line.

    Raises:
        StoreError: a table that is not there, damaged, of other parameters or columns than the
            rest, of other code than the others that are taken in, or that cannot be written;
            nothing is added then.
    """
    target = Store(store / f"{experiment.name}.csv", experiment.parameters)
    target.read()
    found: dict[Key, dict[str, Any]] = {}
    known, told = 0, []
    sources = [_read(experiment, path) for path in map(expanded, files)]
    _check_columns([target, *sources])
    _check_code(sources)
    for source in sources:
        path = source.path
        for key, row in source.rows.items():
            stored = target.rows.get(key) or found.get(key)
            if stored is None:
                found[key] = row
            else:
                known += 1
                told += _contradictions(experiment, path, stored, row)
    rows = _in_order(experiment, found)
    if rows:
        target.prepare()
        target.append(*rows)
    return len(rows), known, told


def _read(experiment: Experiment, path: Path) -> Store:
    if not path.is_file():
        raise StoreError(f"there is no results file {path}")
    source = Store(path, experiment.parameters)
    if source.read():
        print(f"{path}: ignored an incomplete last line (an interrupted run)")
    if source.header and (lacking := experiment.parameters - source.parameters):
        raise StoreError(
            f"{path} is no table of {experiment.name}: it lacks the columns {sorted(lacking)}"
        )
    return source


def _check_columns(tables: list[Store]) -> None:
    known = [table for table in tables if table.header]
    for table in known[1:]:
        if other := set(table.header) ^ set(known[0].header):
            raise StoreError(
                f"{table.path} has other columns than {known[0].path}: {sorted(other)} are in one "
                "of the two alone"
            )


def _check_code(tables: list[Store]) -> None:
    """Parts of one grid come from one code; a table that they are taken into may be older."""
    first: dict[str, Path] = {}
    for table in tables:
        for row in table.rows.values():
            first.setdefault(noted(row, "code"), table.path)
    if len(first) > 1:
        told = ", ".join(f"{code or 'none noted'} in {path}" for code, path in first.items())
        raise StoreError(
            f"the tables have rows of different code: {told}. If that is meant, merge them one by "
            "one: rows that contradict stored ones are told"
        )


def _in_order(experiment: Experiment, rows: dict[Key, dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the order of the smallest grid that has them all, of the largest if none has."""
    order: dict[Key, int] = {}
    for profile in PROFILES:
        order = {key_of(cell): place for place, cell in enumerate(experiment.cells(profile))}
        if order.keys() >= rows.keys():
            break
    return [rows[key] for key in sorted(rows, key=lambda key: order.get(key, math.inf))]


def _contradictions(
    experiment: Experiment, path: Path, stored: dict[str, Any], row: dict[str, Any]
) -> list[str]:
    same = not other_arithmetic(stored, row)
    wrong = [
        f"{name} {stored[name]!r} and {row[name]!r}"
        for name in stored
        if name not in {*PROVENANCE, *experiment.parameters}
        if not agree(stored[name], row[name], REPEATS if same else experiment.allowed(name))
    ]
    cell = {name: row[name] for name in sorted(experiment.parameters)}
    return [f"{path}, cell {cell}: {', '.join(wrong)}"] if wrong else []
