r"""One results file: a table of finished trials that survives kills, full disks and two writers.

A header, then one line a trial with its parameters, its results and its provenance. How it stays
whole:

* a row is one ``write`` to a file opened with ``O_APPEND``, under an exclusive ``flock``, followed
  by ``fsync``; the lock dies with its process, so there is never a stale one;
* a file system without ``flock`` (network ones) is read without a lock and written under a lock
  file, which is removed when it has not changed hands for half a minute;
* no field contains a line break, so that a last line without ``\n`` is a torn one: reading
  ignores it, writing first truncates it, and its cell is computed again;
* a row whose cell another process has stored meanwhile is not written twice;
* what editors leave behind is understood: a byte order mark, ``\r\n`` (new rows then end so too),
  blank lines at the end; numbers and booleans as a spreadsheet rewrites them are damage.
"""

import csv
import fcntl
import io
import json
import os
import platform
import re
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from helpers.errors import StoreError
from helpers.project import expanded

PROVENANCE = ("data_source", "device", "seconds", "versions", "date", "revision")
_TEXT = ("data_source", "device", "versions", "date", "revision")
# what a spreadsheet makes of True and of 1.2345678e-05; no such text is ever written bare
_REWRITTEN = re.compile(r"TRUE|FALSE|[-+]?\d+(\.\d*)?E[-+]?\d+")
# looks at a lock file that stays the same, and the seconds between two
_LOOKS, _PAUSE = 1_500, 0.02

Scalar = str | int | float | bool
Cell = dict[str, Scalar]
Key = tuple[tuple[str, Any], ...]


# -- values and keys -----------------------------------------------------------------------------


def encode(value: Scalar) -> str:
    """One field of the file, on one line, such that ``decode(encode(value))`` is `value` exactly.

    Strings stay bare unless they would read as something else; those are written as JSON.

    >>> [encode(v) for v in (1, 1.0, 0.1, float("inf"), True, "relu", "1")]
    ['1', '1.0', '0.1', 'inf', 'True', 'relu', '"1"']
    """
    if not isinstance(value, str):
        return repr(value)
    bare = value.isprintable() and not value.startswith('"') and not _REWRITTEN.fullmatch(value)
    return value if bare and isinstance(decode(value), str) else json.dumps(value)


def decode(text: str) -> Scalar:
    """The value of one field; ValueError for what `encode` does not write."""
    if text in ("True", "False"):
        return text == "True"
    if _REWRITTEN.fullmatch(text):
        raise ValueError(f"{text} was written by a spreadsheet, which changes and rounds values")
    if text.startswith('"'):
        return json.loads(text)
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _decode_number(text: str) -> int | float:
    value = decode(text)
    if isinstance(value, bool | str):
        raise ValueError(f"{text!r} is not a number")
    return value


def plain(value: Any) -> Any:
    """Scalars of numpy and torch (also 0-dimensional arrays) as Python ones, the rest as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def as_cell(cell: dict[str, Any]) -> Cell:
    """A cell with Python scalars; ValueError for what is no parameter, nan among it."""
    scalars = {name: plain(value) for name, value in cell.items()}
    for name, value in scalars.items():
        if not isinstance(value, str | int | float) or value != value:
            raise ValueError(
                f"cell {cell}: parameter {name!r} is {value!r}; parameters are "
                "strings, bools, integers and floats (infinity allowed, nan not)"
            )
    return scalars


def key_of(cell: Cell) -> Key:
    """Equal for equal cells: 1 and 1.0 are one value; 1, True and "1" are three."""
    return tuple(
        (name, ("bool", cell[name]) if isinstance(cell[name], bool) else cell[name])
        for name in sorted(cell)
    )


def as_results(results: Any, reserved: frozenset[str]) -> tuple[dict[str, int | float], str]:
    """Checked numbers of one trial, and its data source. Raises TypeError or ValueError."""
    if not isinstance(results, dict):
        raise TypeError(f"the trial returned {type(results).__name__}, not a dict of numbers")
    values = {name: plain(value) for name, value in results.items()}
    source = values.pop("data_source", "")
    if not isinstance(source, str):
        raise TypeError(f"data_source is {source!r}, not a string")
    for name, value in values.items():
        if not (isinstance(name, str) and name and name.isprintable()):
            raise TypeError(f"result name {name!r} cannot head a column")
        if not isinstance(value, int | float):
            raise TypeError(f"result {name!r} is {type(value).__name__} {value!r}, not a number")
        if name in reserved:
            raise ValueError(f"result {name!r} has the name of a parameter or provenance column")
    return {n: int(v) if isinstance(v, bool) else v for n, v in values.items()}, source


# -- the file ------------------------------------------------------------------------------------


class Store:
    """The results file of one experiment.

    Attributes:
        path: of the file.
        header: its columns, empty before the first row.
        rows: key of the cell -> {column: value}.
    """

    def __init__(self, path: Path, parameters: frozenset[str]) -> None:
        self.path = expanded(path)
        self._names = parameters
        self.header: list[str] = []
        self.rows: dict[Key, dict[str, Any]] = {}
        self._seen = b""

    @property
    def parameters(self) -> frozenset[str]:
        """The parameters that the file has columns for."""
        return self._names.intersection(self.header)

    def read(self) -> bool:
        """Read what is stored, touching nothing; True when a torn last line was left out."""
        try:
            # Shared with other readers; a writer in the middle of its row is waited for.
            with _locked(self.path, os.O_RDONLY, fcntl.LOCK_SH) as fd:
                return bool(self._absorb(fd).strip())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(
                f"cannot read the results file {self.path}: {error.strerror}"
            ) from error

    def prepare(self) -> None:
        """Make sure that rows can be written: create the folder, drop a torn last line.

        Leaves no empty file behind.

        Raises:
            StoreError: they cannot be written.
        """
        folder = self.path.parent
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                print(f"created the results folder {folder}")
            if not self.path.exists():
                tempfile.TemporaryFile(dir=folder).close()
                return
            with self._writing():
                pass
        except OSError as error:
            raise StoreError(
                f"cells are missing from {self.path} and it cannot be written "
                f"({error.strerror}); nothing was computed. Make the folder writable, choose "
                "another one (BOOK_RESULTS), or pass store=None to compute without storing."
            ) from error

    def append(self, row: dict[str, Any]) -> None:
        """Store one finished trial, unless its cell is stored by now.

        Raises:
            StoreError: the columns differ from the header's, or the row cannot be written; what is
                stored stays as it was.
        """
        try:
            with self._writing() as fd:
                self._check_columns(row)
                if self.key(row) not in self.rows:
                    columns = self.header or list(row)
                    lines = [] if self.header else [columns]
                    end = "\r\n" if self._seen.partition(b"\n")[0].endswith(b"\r") else "\n"
                    _write(fd, [*lines, [encode(row[column]) for column in columns]], end)
                    self._absorb(fd)
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.path} ({error.strerror}). Rows stored before "
                f"are safe; this one is not stored: {row}"
            ) from error

    def key(self, row: dict[str, Any]) -> Key:
        """The identity of a row's cell."""
        return key_of({name: row[name] for name in self._names.intersection(row)})

    @contextmanager
    def _writing(self) -> Iterator[int]:
        """The file, open and locked for one change, with a torn or blank end gone."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        with _locked(self.path, flags, fcntl.LOCK_EX) as fd:
            if rest := self._absorb(fd):
                os.ftruncate(fd, len(self._seen))
                if rest.strip():
                    print(
                        f"{self.path.name}: dropped an incomplete last line (an interrupted run); "
                        "its cell counts as not yet computed"
                    )
            yield fd

    def _absorb(self, fd: int) -> bytes:
        """Take in what the file holds beyond what was read before; returns its torn or blank end.

        A file that was replaced meanwhile (by git, say) is read again from its beginning.
        """
        with os.fdopen(os.dup(fd), "rb") as file:
            file.seek(0)
            data = file.read()
        filled = len(data[: data.rfind(b"\n") + 1].rstrip(b"\r\n"))
        whole = data[: data.find(b"\n", filled) + 1] if filled else b""
        if not whole.startswith(self._seen):
            self.header, self.rows, self._seen = [], {}, b""
        first = self._seen.count(b"\n") + 1
        for number, line in enumerate(whole[len(self._seen) :].split(b"\n")[:-1], start=first):
            self._take(number, line)
        self._seen, rest = whole, data[len(whole) :]
        if b"\r" in rest.strip():  # not one torn row, but all rows of a file without "\n"
            raise self._damaged(whole.count(b"\n") + 1, "lines end in a lone carriage return")
        return rest

    def _take(self, number: int, line: bytes) -> None:
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            fields = next(csv.reader([text], strict=True), [])
            (self._take_header if number == 1 else self._take_row)(fields)
        except (ValueError, csv.Error) as error:
            raise self._damaged(number, error) from error

    def _damaged(self, number: int, why: object) -> StoreError:
        return StoreError(
            f"the results file {self.path} is damaged in line {number}: {why}. Nothing was "
            "changed. Restore the file from git, or delete that line, whose cell will then be "
            "computed again."
        )

    def _take_header(self, fields: list[str]) -> None:
        if len(set(fields)) != len(fields):
            raise ValueError("a column appears twice in the header")
        if absent := [column for column in PROVENANCE if column not in fields]:
            raise ValueError(f"the header lacks the columns {', '.join(absent)}")
        self.header = fields

    def _take_row(self, fields: list[str]) -> None:
        if len(fields) != len(self.header):
            raise ValueError(f"{len(fields)} fields where the header has {len(self.header)}")
        texts = {*self.parameters, *_TEXT}
        row = {
            column: decode(field) if column in texts else _decode_number(field)
            for column, field in zip(self.header, fields, strict=True)
        }
        for column in _TEXT:
            if not isinstance(row[column], str):
                raise ValueError(f"{column} is {row[column]!r}, not text")
        if self.key(row) in self.rows:
            raise ValueError("its cell is already stored in an earlier line")
        self.rows[self.key(row)] = row

    def _check_columns(self, row: dict[str, Any]) -> None:
        columns, header = set(row), set(self.header)
        if header and columns != header:
            raise StoreError(
                f"the results in {self.path} have other columns than this trial returned: only in "
                f"the file: {sorted(header - columns) or 'none'}; only in the new row: "
                f"{sorted(columns - header) or 'none'}. If the experiment has changed, give it a "
                "new name, or move the old file away to compute all cells anew."
            )


class MemoryStore(Store):
    """A store without a file, for ``store=None``."""

    def read(self) -> bool:
        """There is nothing to read."""
        return False

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def append(self, row: dict[str, Any]) -> None:
        """Keep one finished trial; StoreError when its columns differ from those before."""
        self._check_columns(row)
        self.header = self.header or list(row)
        self.rows[self.key(row)] = row


@contextmanager
def _locked(path: Path, flags: int, lock: int) -> Iterator[int]:
    fd = os.open(path, flags, 0o666)
    try:
        with ExitStack() as held:
            try:
                fcntl.flock(fd, lock)
            except OSError:  # whatever it is called: this file system has no such locks
                if lock == fcntl.LOCK_EX:
                    held.enter_context(_lock_file(path.with_name(f".{path.name}.lock")))
            yield fd
    finally:
        os.close(fd)


@contextmanager
def _lock_file(path: Path) -> Iterator[None]:
    """An exclusive lock for the writing of one row: the file that only one process can create.

    One that stays the same for `_LOOKS` looks was left by a process that died. Looks are counted,
    and no time is taken: a server that stands still holds up all, the holder among them.
    """
    mine, seen, looks = f"{platform.node()}, process {os.getpid()}, {uuid.uuid4()}", "", 0
    while True:
        try:
            file = path.open("x", encoding="utf-8")
            break
        except FileExistsError:
            holder = _holder(path)
            looks, seen = looks + 1 if holder == seen else 0, holder
            if looks >= _LOOKS:
                print(f"removed the lock {path} that was left by {seen or 'an unknown process'}")
                path.unlink(missing_ok=True)
            time.sleep(_PAUSE)
    try:
        with file:
            file.write(mine)
        yield
    finally:
        if _holder(path) in ("", mine):  # empty: the disk was full
            path.unlink(missing_ok=True)


def _holder(lock: Path) -> str | None:
    try:
        return lock.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _write(fd: int, lines: list[list[str]], end: str) -> None:
    """Append all lines, or nothing and OSError (a full disk takes what fits, then fails)."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=end).writerows(lines)
    data, size = buffer.getvalue().encode("utf-8"), os.fstat(fd).st_size
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
    except OSError:
        os.ftruncate(fd, size)
        raise
