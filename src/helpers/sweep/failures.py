"""Which cells failed: kept beside the table, so that the next start tries them last.

``<name>.failures`` has one line of JSON a failure and is gone when none is left. A cell that failed
`TRIES` times with the same code is not tried again until the code changes or someone asks for it.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
        self._seen: tuple[int, int] | None = None
        self._found: dict[Key, Failure] = {}

    def read(self) -> dict[Key, Failure]:
        """Failures by cell; lines that a kill has cut are passed over.

        Raises:
            StoreError: they cannot be read.
        """
        state = self._state()
        if state == self._seen:
            return self._found
        found: dict[Key, Failure] = {}
        for line in self._lines():
            code, before = line["code"], found.get(key_of(line["cell"]))
            count = before.count + 1 if before and before.code == code else 1
            found[key_of(line["cell"])] = Failure(count, code, line["reason"])
        self._seen, self._found = state, found
        return found

    def _state(self) -> tuple[int, int] | None:
        """What changes with the file; None: there is none."""
        if self.path is None or not self.path.exists():
            return None
        status = self.path.stat()
        return status.st_mtime_ns, status.st_size

    def _lines(self) -> list[dict]:
        if self.path is None or not self.path.exists():
            return []
        lines = []
        try:
            texts = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:  # another client has just removed it
            return []
        except OSError as error:
            raise StoreError(f"cannot read {self.path} ({error.strerror})") from error
        for text in texts:
            try:
                line = json.loads(text)
                hash(key_of(line["cell"])), line["code"], line["reason"]
            except (ValueError, KeyError, TypeError):
                continue
            lines.append(line)
        return lines

    def add(self, cell: Cell, outcome: Outcome, code: str) -> None:
        """Note a failure; StoreError when it cannot be."""
        if self.path is None:
            return
        line = {"cell": cell, "code": code, "reason": outcome.failure, "trace": outcome.traceback}
        with self._writing(), self.path.open("ab+") as file:
            cut = file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"
            file.write(b"\n" * bool(cut) + _encoded([line]))

    def forget(self, stored: Iterable[Key]) -> None:
        """Drop the failures of cells that are stored by now; StoreError when they cannot be."""
        if self.path is None or not self.path.exists():
            return
        stored = set(stored)
        left = [line for line in self._lines() if key_of(line["cell"]) not in stored]
        with self._writing():
            if not left:
                self.path.unlink(missing_ok=True)
                return
            part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
            part.write_bytes(_encoded(left))  # whole or not at all
            os.replace(part, self.path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"cannot write to {self.path} ({error.strerror})") from error


def _encoded(lines: list[dict]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
