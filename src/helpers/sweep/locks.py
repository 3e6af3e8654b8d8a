"""Who may write a table, and who computes which of its cells: agreed on by files alone.

A results file is written under ``flock`` *and* under a lock file, since on network file systems
``flock`` may fail or, worse, do nothing. Clients that share a table claim what they compute, so
that none computes what another is at. Both work wherever one process alone can create a file.
"""

import fcntl
import hashlib
import os
import platform
import threading
import time
import uuid
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from helpers.errors import StoreError
from helpers.sweep.signals import SignalsWait

# looks at a lock file that stays the same, and the seconds between two
_LOOKS, _PAUSE = 1_500, 0.02
# seconds between two signs of life of a client, and how long one may be silent
_BEAT, _SILENCE = 5.0, 120.0


@contextmanager
def locked(path: Path, flags: int, lock: int) -> Iterator[int]:
    """A file, open and locked: ``LOCK_SH`` for reading, ``LOCK_EX`` for one change."""
    with ExitStack() as held:
        if lock == fcntl.LOCK_EX:
            held.enter_context(lock_file(path.with_name(f".{path.name}.lock")))
        fd = os.open(path, flags, 0o666)
        held.callback(os.close, fd)
        # whatever the error is called: this file system has no such locks
        with suppress(OSError):
            fcntl.flock(fd, lock)
        yield fd


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """An exclusive lock for the writing of some rows: the file that only one process can create.

    One that a dead process of this machine left is removed at once, another when it stays the same
    for `_LOOKS` looks. Looks are counted, and no time is taken: a server that stands still holds up
    all, the holder among them. Signals wait while it is held: it would stay behind, and this very
    process would wait for it.
    """
    mine, seen, looks = _signature(), "", 0
    while True:
        with SignalsWait():
            if file := _created(path):
                try:
                    with file:
                        file.write(mine)
                    yield
                finally:
                    if _holder(path) in ("", mine):  # empty: the disk was full
                        path.unlink(missing_ok=True)
                return
        holder = _holder(path)
        looks, seen = looks + 1 if holder == seen else 0, holder
        if looks >= _LOOKS or (holder and _is_dead(holder)):
            _remove(path, holder)
        time.sleep(_PAUSE)


def _created(path: Path) -> TextIO | None:
    """A file that was not there, open for writing."""
    try:
        return path.open("x", encoding="utf-8")
    except FileExistsError:
        return None


def _remove(lock: Path, holder: str | None) -> None:
    """Remove the lock of a holder that is gone, unless another client has done so meanwhile.

    It is taken away under a name of its own, which one client alone can do, and looked at: a lock
    that has changed hands since is put back.
    """
    aside = lock.with_name(f"{lock.name}.{uuid.uuid4().hex}")
    try:
        lock.rename(aside)
    except FileNotFoundError:
        return
    try:
        if _holder(aside) == holder:
            print(f"removed the lock {lock} that was left by {holder or 'an unknown process'}")
        else:
            with suppress(OSError):
                os.link(aside, lock)
    finally:
        aside.unlink(missing_ok=True)


def _machine() -> str:
    """Where a process number means the same process: containers have numbers of their own."""
    with suppress(OSError):
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"
    return platform.node()


def _signature() -> str:
    return f"{_machine()}, process {os.getpid()}, {uuid.uuid4()}"


def _holder(lock: Path) -> str | None:
    try:
        return lock.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _is_dead(holder: str) -> bool:
    """Whether a process signed that ran on this machine and runs no more."""
    machine, _, rest = holder.partition(", process ")
    number = rest.partition(",")[0]
    if machine != _machine() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


class Claims:
    """Which groups of cells this client computes, told to the others that share its table.

    A claim is a file that one client alone can create, in a folder beside the table that is gone
    when none is at work. Clients give a sign of life now and then: the claims of one that is dead
    or silent for two minutes are taken over. Should two take over at once, both compute, and the
    table keeps one row: claims save time, and nothing rests on them. Who claims has signals wait.

    Args:
        table: the results file; None: nobody shares what is computed.
    """

    def __init__(self, table: Path | None) -> None:
        self.folder = table and table.with_name(f".{table.name}.claims")
        self._mine, self._held = _signature(), set()
        self._over, self._alive = threading.Event(), None
        self._seen: dict[str, tuple[int, float]] = {}

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *details: object) -> None:
        self._over.set()
        if self.folder:
            for file in [*self._held, self._sign]:
                with suppress(OSError):
                    file.unlink()
            self._held.clear()
            with suppress(OSError):  # others are at work
                for file in self.folder.iterdir():
                    if _is_dead(_holder(file) or ""):
                        file.unlink(missing_ok=True)
                self.folder.rmdir()

    def take(self, group: Hashable) -> bool:
        """Whether this client may compute the group now; StoreError where none can be claimed."""
        if self.folder is None:
            return True
        file = self._file(group)
        try:
            self._show()
            for _ in range(2):
                if claim := _created(file):
                    self._held.add(file)
                    with claim:
                        claim.write(self._mine)
                    return True
                if not self._is_left(file):
                    return False
                file.unlink(missing_ok=True)
            return False
        except FileNotFoundError:  # another client has just ended, and removed the empty folder
            return False
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.folder} ({error.strerror}), where it is agreed on who "
                "computes what. Rows stored before are safe."
            ) from error

    def drop(self, group: Hashable) -> None:
        """The group is stored, or given up."""
        if self.folder:
            file = self._file(group)
            with suppress(OSError):
                file.unlink(missing_ok=True)
                self._held.discard(file)

    @property
    def _sign(self) -> Path:
        return self.folder / f"client-{self._mine.rpartition(' ')[2]}"

    def _file(self, group: Hashable) -> Path:
        return self.folder / hashlib.sha256(repr(group).encode()).hexdigest()[:24]

    def _show(self) -> None:
        """Be there, with a thread that says so."""
        if self._held and self._sign.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sign.write_text(self._mine, encoding="utf-8")
        if self._alive is None:
            self._alive = threading.Thread(target=self._beat, daemon=True)
            self._alive.start()

    def _beat(self) -> None:
        while not self._over.wait(_BEAT):
            with suppress(OSError):
                os.utime(self._sign)

    def _is_left(self, claim: Path) -> bool:
        """Whether the client of a claim is gone: a look at its sign of life, and at the last look.

        Times of the file system are compared with each other, never with those of this machine.
        """
        holder = _holder(claim)
        if holder is None:
            return True
        if holder and _is_dead(holder):
            return True
        sign = self.folder / f"client-{holder.rpartition(' ')[2]}"
        try:
            beat = sign.stat().st_mtime_ns
        except FileNotFoundError:
            beat = -1
        now, seen = time.monotonic(), self._seen.get(claim.name)
        if seen is None or seen[0] != beat:
            self._seen[claim.name] = seen = (beat, now)
        return now - seen[1] > _SILENCE
