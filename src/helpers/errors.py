"""Errors that several parts of the package raise or catch, and the check of numbers that count."""

from numbers import Integral
from typing import Any


def check_whole(least: int = 1, **numbers: Any) -> None:
    """Refuse what is no whole number from `least` on, with a ValueError that names it."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, Integral) or number < least:
            raise ValueError(
                f"{name} is {number!r}: it must be at least {least}, and a whole number"
            )


class DatasetNotFound(FileNotFoundError):
    """A dataset is nowhere on this machine and could not be downloaded."""


class Diverged(FloatingPointError):
    """The training loss is no finite number any more; the message says since when.

    Args:
        loss: what it is.
        epoch: in which epoch it became that.
        epochs: how many there would have been.
        learning_rate: at the start.
    """

    def __init__(self, loss: float, epoch: int, epochs: int, learning_rate: float) -> None:
        # all four, since a worker process hands the error on as these arguments
        super().__init__(loss, epoch, epochs, learning_rate)
        self.epoch = epoch

    def __str__(self) -> str:
        loss, epoch, epochs, rate = self.args
        return (
            f"the training loss is {loss} in epoch {epoch} of {epochs}: lower the learning "
            f"rate ({rate:g}) or rescale the inputs"
        )


class StoreError(RuntimeError):
    """A results file cannot be used: unreadable, unwritable, or not of its experiment's shape."""


class RowError(StoreError):
    """One row does not fit its table; the table and all other rows are as good as before."""
