"""How near a recomputed number must come to a stored one.

Between kinds of processors, other numbers of threads or other versions, training is chaotic, and
the tolerances of the experiments are wide. On the same kind of processor with the same threads and
versions nearly every number comes out as it was, to the last digit: there a number that does not
stands out among those that do.
"""

import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from helpers.sweep.trials import noted

# of the stored number: what the same arithmetic may differ by. Most rows come out to the last
# digit; the largest difference measured is 3e-6, of losses after 1,000 epochs (`networks`)
REPEATS = 1e-5
NEAR = 1e-3  # of the stored number: what another make of a group may do to most of its numbers
_FLOOR = 1e-9  # of the column's usual size: what is as good as zero in it
_FEW = 4  # numbers, at least, from which it is told whether the arithmetic is the same


def agree(old: float, new: float, tolerance: float) -> bool:
    """Whether ``|new - old| <= tolerance * max(1, |old|)``; nan agrees with nan, inf with inf."""
    return _near(old, new, tolerance * max(1.0, abs(old)))


def repeated(old: float, new: float, size: float, share: float = REPEATS) -> bool:
    """Whether a number is the same again, but for this share of it.

    Args:
        old: the stored one.
        new: what came out now.
        size: the usual size of the column's numbers.
        share: of the stored number.
    """
    return _near(old, new, share * abs(old) + _FLOOR * size)


def _near(old: float, new: float, distance: float) -> bool:
    if old == new or (math.isnan(old) and math.isnan(new)):
        return True
    if not (math.isfinite(old) and math.isfinite(new)):
        return False
    return abs(new - old) <= distance


def usual_size(values: list[float]) -> float:
    """Median size of the numbers of a column that are finite and not zero; 0 if there are none."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v != 0]
    return float(np.median(sizes)) if sizes else 0.0


def is_fine(values: list[float]) -> bool:
    """Whether a column's numbers are mostly different, so that one that repeats tells something."""
    return len(set(values)) > len(values) / 2


def other_arithmetic(row: dict[str, Any], again: dict[str, Any]) -> str:
    """Why a row cannot be asked to come out as it was; "" where it can.

    Args:
        row: a stored one.
        again: what it came out as now.
    """
    kind, now = (processor(r["device"]) for r in (row, again))
    if not kind or kind != now:
        return f"stored from {row['device']}"
    versions = [r["versions"].split("; threads")[0] for r in (row, again)]
    if versions[0] != versions[1]:
        return f"stored with {versions[0]}"
    threads = [noted(r, "threads") for r in (row, again)]
    if threads[0] and threads[0] != threads[1]:
        return f"stored from {threads[0]} threads, now {threads[1]}"
    return ""


def processor(device: str) -> str:
    """The kind of processor of a row; "" for others, which add up in an order of their own.

    >>> processor("AMD EPYC, 2 cores, bfloat16 products")
    'AMD EPYC'
    """
    return device[: found.start()] if (found := re.search(r", \d+ cores?\b", device)) else ""


def is_same_arithmetic(repeats: list[bool]) -> bool:
    """Whether numbers that might repeat mostly do; too few to tell count as the same."""
    return len(repeats) < _FEW or 2 * sum(repeats) >= len(repeats)


@contextmanager
def as_many_threads(row: dict[str, Any]) -> Iterator[None]:
    """Compute with the threads of a stored row: one, where it is too old to say."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")  # the module of a trial that needs it has imported it
    # asked before the limit, which torch takes for its own number, and would keep for MKL
    before = torch.get_num_threads() if torch else None
    count = int(noted(row, "threads") or 1)
    with threadpool_limits(count):
        if torch:
            torch.set_num_threads(count)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def noticed(values: list[float], tolerance: float | None) -> tuple[float, float]:
    """Shares of swaps, and of zeros, in a column that a comparison would notice; nan: none exist.

    A swap puts one number of the column in place of another that differs; a zero is put in place of
    a number that is none.

    Args:
        values: the column.
        tolerance: as for `agree`; None: as for `repeated`.
    """
    size = usual_size(values)

    def distance(stored: np.ndarray) -> np.ndarray:
        if tolerance is None:
            return REPEATS * abs(stored) + _FLOOR * size
        return tolerance * np.maximum(1.0, abs(stored))

    array = np.array(values, float)
    finite = np.sort(array[np.isfinite(array)])
    kinds = (array == np.inf, array == -np.inf, np.isnan(array))
    special = [int(kind.sum()) for kind in kinds]
    reach = distance(finite)
    left, right = finite - reach, finite + reach
    unseen = np.searchsorted(finite, right, "right") - np.searchsorted(finite, left, "left")
    equal = np.searchsorted(finite, finite, "right") - np.searchsorted(finite, finite, "left")
    # pairs in order: n of them a number, less those that are equal
    swaps = len(array) ** 2 - int(equal.sum()) - sum(k * k for k in special)
    hidden = int((unseen - equal).sum())
    nonzero = finite[finite != 0]
    zeros = len(nonzero) + sum(special)
    hidden_zeros = int((abs(nonzero) <= distance(np.zeros(1))).sum())
    return (
        1 - hidden / swaps if swaps else math.nan,
        1 - hidden_zeros / zeros if zeros else math.nan,
    )
