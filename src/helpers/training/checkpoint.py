"""The state of a training on disk, whole or not at all.

Ours.
"""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from helpers.project import project_root


def checkpoint_file(identity: tuple, folder: str = "checkpoints") -> Path:
    """Where what belongs to `identity` (a tuple of plain values) is kept, in a folder of _build."""
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    return project_root() / "_build" / folder / f"{name}.pt"


def save_whole(content: Any, file: Path) -> None:
    """`torch.save` at once or not at all, whoever else writes the same file; makes its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    torch.save(content, part)
    os.replace(part, file)


class Checkpoint:
    """A file with the state of a training, from which an interrupted one goes on.

    Args:
        file: where (None: nothing is kept).
        identity: what tells this training from others.
        seconds: how long a state may be out of date.
    """

    def __init__(self, file: Path | str | None, identity: dict[str, Any], seconds: float) -> None:
        self.file = Path(file) if file else None
        self.seconds, self._identity, self._saved = seconds, identity, time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state in the file, if there is one.

        Raises:
            ValueError: it belongs to another training.
        """
        if self.file is None or not self.file.exists():
            return None
        state = torch.load(self.file, map_location="cpu", weights_only=True)
        if state["identity"] != self._identity:
            raise ValueError(
                f"the checkpoint {self.file} belongs to another training ({state['identity']}, "
                f"asked for {self._identity}): delete it, or name another file"
            )
        return state

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state if it is time, at once or not at all."""
        if self.file is None or time.monotonic() - self._saved < self.seconds:
            return
        save_whole({"identity": self._identity} | state(), self.file)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """The training is done."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)
