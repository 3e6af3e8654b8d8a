"""In which precision a training multiplies matrices: float32, or half of it where that is faster.

In bfloat16, products of activations and weights have 8 bits of mantissa in place of 24; weights,
their gradients' sums in the optimiser and its moments stay in float32, and so do losses.

Ours; the scheme is the usual mixed precision (Micikevicius et al. 2018) with bfloat16, whose range
needs no scaling of the loss.
"""

import time
from collections.abc import Callable
from functools import cache

import torch

PRECISIONS = ("float32", "bfloat16", "auto")
GAIN = 1.3  # a smaller gain of half precision in products is lost again in conversions
_SIDE, _SECONDS = 512, 0.05  # of the products that are timed, and for how long each


def check(precision: str) -> None:
    """ValueError for a name not in `PRECISIONS`."""
    if precision not in PRECISIONS:
        options = ", ".join(map(repr, PRECISIONS))
        raise ValueError(f"precision is {precision!r}: allowed are {options}")


def resolve(precision: str, device: torch.device | str = "cpu") -> str:
    """What a precision comes to on this device: "float32" or "bfloat16".

    Raises:
        ValueError: a name not in `PRECISIONS`.

    >>> resolve("float32")
    'float32'
    """
    check(precision)
    return _faster(torch.device(device).type) if precision == "auto" else precision


@cache
def _faster(kind: str) -> str:
    """Measured once a process, in a tenth of a second."""
    if kind not in ("cpu", "cuda"):  # elsewhere bfloat16 may not be there at all
        return "float32"
    rates = [_rate(kind, dtype) for dtype in (torch.float32, torch.bfloat16)]
    return "bfloat16" if rates[1] > GAIN * rates[0] else "float32"


def _rate(kind: str, dtype: torch.dtype) -> float:
    """Products of two square matrices a second, the best of several short looks."""
    a = torch.randn(_SIDE, _SIDE, generator=torch.Generator().manual_seed(0)).to(kind, dtype)
    wait: Callable[[], None] = torch.cuda.synchronize if kind == "cuda" else lambda: None
    a @ a  # libraries loaded
    wait()
    best, end = 0.0, time.perf_counter() + _SECONDS
    while not best or time.perf_counter() < end:
        start = time.perf_counter()
        a @ a
        wait()
        best = max(best, 1 / (time.perf_counter() - start))
    return best


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Products inside are in bfloat16 if that is the (resolved) precision; else nothing changes."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
