"""Which cells failed: kept beside the table, so that the next start tries them last.

``<name>.failures`` has one line of JSON a failure and is gone when none is left. A cell that failed
`TRIES` times with the same code is not tried again until the code changes or someone asks for it.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from helpers.errors import StoreError
from helpers.sweep.store import Cell, Key, key_of
from helpers.sweep.trials import Outcome

TRIES = 3


@dataclass(frozen=True)
class Failure:
    """What is known of a cell that failed: how often, with which code, and how it ended last."""

    count: int
    code: str
    reason: str


class Failures:
    """The failures of one experiment.

    Args:
        table: the results file; None: nothing is kept.
    """

    def __init__(self, table: Path | None) -> None:
        self.path = table and table.with_suffix(".failures")

    def read(self) -> dict[Key, Failure]:
        """Failures by cell; lines that a kill has cut are passed over."""
        found: dict[Key, Failure] = {}
        for line in self._lines():
            code, before = line["code"], found.get(key_of(line["cell"]))
            count = before.count + 1 if before and before.code == code else 1
            found[key_of(line["cell"])] = Failure(count, code, line["reason"])
        return found

    def _lines(self) -> list[dict]:
        if self.path is None or not self.path.exists():
            return []
        lines = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
                key_of(line["cell"]), line["code"], line["reason"]
            except (ValueError, KeyError, TypeError):
                continue
            lines.append(line)
        return lines

    def add(self, cell: Cell, outcome: Outcome, code: str) -> None:
        """Note a failure."""
        if self.path is None:
            return
        line = {"cell": cell, "code": code, "reason": outcome.failure, "trace": outcome.traceback}
        self._write("a", [line])

    def forget(self, stored: Iterable[Key]) -> None:
        """Drop the failures of cells that are stored by now."""
        if self.path is None or not self.path.exists():
            return
        stored = set(stored)
        left = [line for line in self._lines() if key_of(line["cell"]) not in stored]
        if left:
            self._write("w", left)
        else:
            self.path.unlink(missing_ok=True)

    def _write(self, mode: str, lines: list[dict]) -> None:
        part = self.path
        if mode == "w":  # whole or not at all
            part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            with part.open(mode, encoding="utf-8") as file:
                file.write("".join(json.dumps(line) + "\n" for line in lines))
            os.replace(part, self.path)
        except OSError as error:
            raise StoreError(f"cannot write to {self.path} ({error.strerror})") from error
