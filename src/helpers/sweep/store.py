r"""One results file: a table of finished trials that survives kills, full disks and two writers.

A header, then one line a trial with its parameters, its results and its provenance. How it stays
whole:

* a row is one ``write`` to a file opened with ``O_APPEND``, under a lock file and an exclusive
  ``flock`` (which may fail or do nothing, as on network file systems), followed by ``fsync``;
* what was read is not read again, however long the table is;
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
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.errors import RowError, StoreError
from helpers.project import expanded
from helpers.sweep.locks import locked

PROVENANCE = ("data_source", "device", "seconds", "versions", "date", "revision")
_TEXT = ("data_source", "device", "versions", "date", "revision")
# what a spreadsheet makes of True and of 1.2345678e-05; no such text is ever written bare
_REWRITTEN = re.compile(r"TRUE|FALSE|[-+]?\d+(\.\d*)?E[-+]?\d+")
# bytes before the place that was read to: what tells a file that grew from one that was replaced
_TAIL = 256

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
    if "E" in text and _REWRITTEN.fullmatch(text):  # tables have a million fields
        raise ValueError(f"{text} was written by a spreadsheet, which changes and rounds values")
    if text.startswith('"'):
        return json.loads(text)
    for number in (float,) if "." in text else (int, float):
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
    """Scalars of numpy and torch (also 0-dimensional arrays) as Python ones, the rest as it is.

    So are members of enumerations and the like, whose text is not that of their value.
    """
    value = value.item() if getattr(value, "shape", None) == () else value
    for kind in (int, float, str):
        if isinstance(value, kind) and type(value) not in (kind, bool):
            return getattr(kind, f"__{kind.__name__}__")(value)
    return value


def _is_too_long(value: Any) -> bool:
    """Whether a whole number has more digits than are read back."""
    return isinstance(value, int) and abs(value) >= 10**308


def as_cell(cell: dict[str, Any]) -> Cell:
    """A cell with Python scalars; ValueError for what is no parameter, nan among it."""
    scalars = {name: plain(value) for name, value in cell.items()}
    for name, value in scalars.items():
        if _is_too_long(value):
            raise ValueError(f"parameter {name!r} is a whole number of more than 308 digits")
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
        if _is_too_long(value):
            raise ValueError(f"result {name!r} is a whole number of more than 308 digits")
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
        shared: whether other clients may store in it, too.
    """

    shared = True

    def __init__(self, path: Path, parameters: frozenset[str]) -> None:
        self.path = expanded(path).absolute()  # a trial may change the folder of the process
        self._names = parameters
        self.header: list[str]
        self.rows: dict[Key, dict[str, Any]]
        self._forget()

    def _forget(self) -> None:
        """Nothing was read yet."""
        self.header, self.rows = [], {}
        self._decoders: list[Callable[[str], Scalar]] = []  # of each column
        self._size, self._lines, self._tail, self._end = 0, 0, b"", "\n"
        self._file: tuple[int, int] | None = None

    @property
    def parameters(self) -> frozenset[str]:
        """The parameters that the file has columns for."""
        return self._names.intersection(self.header)

    def read(self) -> bool:
        """Read what is stored, touching nothing; True when a torn last line was left out."""
        try:
            # Shared with other readers; a writer in the middle of its row is waited for.
            with locked(self.path, os.O_RDONLY, fcntl.LOCK_SH) as fd:
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

    def append(self, *rows: dict[str, Any]) -> None:
        """Store finished trials, in one write, but those whose cells are stored by now.

        Raises:
            RowError: the columns differ from the header's.
            StoreError: the rows cannot be written. What is stored stays as it was in both cases.
        """
        try:
            with self._writing() as fd:
                for row in rows:
                    self._check_columns(row, self.header or [*rows[0]])
                new = {self.key(row): row for row in rows if self.key(row) not in self.rows}
                if new:
                    columns = self.header or list(rows[0])
                    lines = [] if self.header else [columns]
                    lines += [[encode(row[column]) for column in columns] for row in new.values()]
                    _write(fd, lines, self._end)
                    self._absorb(fd)
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.path} ({error.strerror}). Rows stored before are safe"
            ) from error

    def key(self, row: dict[str, Any]) -> Key:
        """The identity of a row's cell."""
        return key_of({name: row[name] for name in self._names.intersection(row)})

    @contextmanager
    def _writing(self) -> Iterator[int]:
        """The file, open and locked for one change, with a torn or blank end gone."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        with locked(self.path, flags, fcntl.LOCK_EX) as fd:
            if rest := self._absorb(fd):
                os.ftruncate(fd, self._size)
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
        status = os.fstat(fd)
        known = (status.st_dev, status.st_ino), status.st_size >= self._size
        if known != (self._file, True) or _read(fd, self._size - len(self._tail), self._size) != (
            self._tail
        ):
            self._forget()
        self._file = known[0]
        data = _read(fd, self._size, status.st_size)
        filled = len(data[: data.rfind(b"\n") + 1].rstrip(b"\r\n"))
        whole = data[: data.find(b"\n", filled) + 1] if filled else b""
        try:
            for line in whole.split(b"\n")[:-1]:
                self._lines += 1
                self._take(self._lines, line)
                if self._lines == 1 and line.endswith(b"\r"):
                    self._end = "\r\n"
        except StoreError:  # half of what is new was taken in: begin anew next time
            self._forget()
            raise
        self._size += len(whole)
        self._tail = (self._tail + whole)[-_TAIL:]
        rest = data[len(whole) :]
        if b"\r" in rest.strip():  # not one torn row, but all rows of a file without "\n"
            raise self._damaged(self._lines + 1, "lines end in a lone carriage return")
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
        self.header, texts = fields, {*self._names, *_TEXT}
        self._decoders = [decode if column in texts else _decode_number for column in fields]

    def _take_row(self, fields: list[str]) -> None:
        if len(fields) != len(self.header):
            raise ValueError(f"{len(fields)} fields where the header has {len(self.header)}")
        row = {
            column: read(field)
            for column, read, field in zip(self.header, self._decoders, fields, strict=True)
        }
        for column in _TEXT:
            if not isinstance(row[column], str):
                raise ValueError(f"{column} is {row[column]!r}, not text")
        if self.key(row) in self.rows:
            raise ValueError("its cell is already stored in an earlier line")
        self.rows[self.key(row)] = row

    def _check_columns(self, row: dict[str, Any], expected: list[str]) -> None:
        columns, header = set(row), set(expected)
        if columns != header:
            raise RowError(
                f"the results in {self.path} have other columns than this trial returned: only in "
                f"the file: {sorted(header - columns) or 'none'}; only in the new row: "
                f"{sorted(columns - header) or 'none'}. If the experiment has changed, give it a "
                "new name, or move the old file away to compute all cells anew."
            )


class MemoryStore(Store):
    """A store without a file, for ``store=None``."""

    shared = False

    def read(self) -> bool:
        """There is nothing to read."""
        return False

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def append(self, *rows: dict[str, Any]) -> None:
        """Keep finished trials; RowError when their columns differ from those before."""
        for row in rows:
            self.header = self.header or list(row)
            self._check_columns(row, self.header)
            self.rows[self.key(row)] = row


def kept_elsewhere(table: Path, rows: list[dict[str, Any]], parameters: frozenset[str]) -> str:
    """Store rows in the folder for temporary files, when their table cannot be written; says where.

    What can be written nowhere is in the text.
    """
    try:
        file = Store(Path(tempfile.mkdtemp(prefix="results-")) / table.name, parameters)
        file.append(*rows)
    except (OSError, StoreError):
        return f"{len(rows)} could be stored nowhere: {rows}"
    found = f"{len(rows)} that could not be stored there are in {file.path}"
    return f"{found}; take them in with: python -m helpers.sweep merge {table.stem} {file.path}"


def _read(fd: int, start: int, end: int) -> bytes:
    """The bytes of an open file from `start` up to `end`, or to where it ends."""
    pieces = []
    while start < end and (piece := os.pread(fd, end - start, start)):
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)


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
