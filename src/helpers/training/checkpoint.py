"""The state of a training on disk, whole or not at all.

Ours.
"""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from helpers.dependencies import code_of
from helpers.project import expanded, project_root
from helpers.training.recipe import Recipe

FEW = 5  # differences that are told


def checkpoint_file(identity: tuple, folder: str = "checkpoints") -> Path:
    """Where what belongs to `identity` (a tuple of plain values) is kept, in a folder of _build."""
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    return project_root() / "_build" / folder / f"{name}.pt"


def save_whole(content: Any, file: Path) -> None:
    """`torch.save` at once or not at all, whoever else writes the same file; makes its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())  # or a crash could leave the new name with nothing behind it
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def load_whole(file: Path, kind: type, device: str = "cpu") -> Any:
    """What `save_whole` wrote, of this type (dict or list).

    Raises:
        ValueError: a file that is damaged, or that something else has written.
    """
    with file.open("rb") as stream:
        try:
            content = torch.load(stream, map_location=device, weights_only=True)
        except Exception as error:  # bytes that are no archive make the reader raise all kinds
            raise ValueError(f"{file} is damaged, or not written here: delete it") from error
    if not isinstance(content, kind):
        raise ValueError(f"{file} has a {type(content).__name__}, not written here: delete it")
    return content


def digest(*tensors: torch.Tensor) -> str:
    """Tells tensors from others, by their type, shape and bits; for none an empty string."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        whole = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        sha.update(whole.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()[:16] if tensors else ""


def identity_of(
    trainer: str,
    models: list[nn.Module],
    recipes: list[Recipe],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    **more: Any,
) -> dict[str, Any]:
    """What tells a training from others: numbers and names as they are, all else as hashes.

    Args:
        trainer: the module that trains.
        models: before training.
        recipes: one a network.
        inputs, labels: what all networks are trained on.
        more: what else matters; a list has one entry a network.
    """
    own = {type(part).__module__ for model in models for part in model.modules()}
    code = code_of(trainer, *(name for name in own if name.startswith("helpers.")))
    found = {"inputs": digest(inputs), "labels": digest(labels), "device": inputs.device.type}
    found |= {"code": code, "torch": str(torch.__version__)}
    found |= {name: value for name, value in more.items() if not isinstance(value, list)}
    for k, (model, recipe) in enumerate(zip(models, recipes, strict=True)):
        tensors = [*model.parameters(), *model.buffers()]
        frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
        built = hashlib.sha256(str(model).encode()).hexdigest()[:16]
        told = asdict(recipe) | {"frozen": frozen, "architecture": built}
        told |= {"first weights": digest(*tensors)}
        told |= {name: value[k] for name, value in more.items() if isinstance(value, list)}
        of = f" of network {k}" if len(models) > 1 else ""
        found |= {f"{name}{of}": value for name, value in told.items()}
    return found


class Checkpoint:
    """A file with the state of a training, from which an interrupted one goes on.

    Args:
        file: where (None: nothing is kept).
        identity: gives what tells this training from others; asked only where there is a file.
        seconds: how long a state may be out of date.
    """

    def __init__(
        self, file: Path | str | None, identity: Callable[[], dict[str, Any]], seconds: float
    ) -> None:
        self.file = expanded(file) if file else None
        self._identity = identity() if self.file else {}
        self.seconds, self._saved = seconds, time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state in the file, if there is one.

        Raises:
            ValueError: it belongs to another training, or is damaged.
        """
        if self.file is None or not self.file.exists():
            return None
        state = load_whole(self.file, dict)
        was, now = state.get("identity"), self._identity
        if not isinstance(was, dict):
            raise ValueError(f"{self.file} is no checkpoint of a training: name another file")
        if other := [name for name in {**now, **was} if was.get(name) != now.get(name)]:
            told = "; ".join(f"{n} was {was.get(n)!r}, is {now.get(n)!r}" for n in other[:FEW])
            raise ValueError(
                f"the checkpoint {self.file} belongs to another training ({told}"
                f"{'; …' if other[FEW:] else ''}): delete it, or name another file"
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
