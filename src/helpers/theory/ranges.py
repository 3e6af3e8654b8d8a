"""The ranges in which laws hold, and the root that two of them share.

Ours.
"""

from collections.abc import Callable

import numpy as np

Numbers = float | np.ndarray

_RANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "finite": np.isfinite,
    "above 0": lambda x: x > 0,
    "1 or more": lambda x: x >= 1,
    "above 0, finite": lambda x: (x > 0) & (x < np.inf),
    "0 or more, finite": lambda x: (x >= 0) & (x < np.inf),
    "[0, 1]": lambda x: (x >= 0) & (x <= 1),
    "(1/2, 1]": lambda x: (x > 0.5) & (x <= 1),
}


def check_ranges(allowed: dict[str, str], *values: Numbers) -> list[np.ndarray]:
    """The values as float arrays of one shape, once each is where it may be.

    Args:
        allowed: names of the values, in their order, and the range of each in words.
        values: numbers or arrays that can be broadcast.

    Raises:
        ValueError: a value outside its range; the message has the name, the value and the range.
    """
    arrays = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in values))
    for (name, words), array in zip(allowed.items(), arrays, strict=True):
        bad = array[~_RANGES[words](array)]
        if bad.size:
            raise ValueError(f"{name} is {bad.flat[0]:g}: allowed is {words}")
    return list(arrays)


def larger_root(half: Numbers, product: Numbers) -> Numbers:
    """The root x >= 0 of x^2 = 2 half x + product; 0 where both are 0.

    Two forms of one root: each loses no digits on its side of zero.
    """
    root = np.hypot(half, np.sqrt(np.maximum(product, 0.0)))
    with np.errstate(invalid="ignore", divide="ignore"):
        small = np.where(root > half, product / (root - half), 0.0)
    return np.where(np.greater(half, 0), half + root, small)[()]
