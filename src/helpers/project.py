"""Where the project is, what it runs on, and the settings of one run."""

import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROFILES = ("smoke", "laptop", "paper")
PUBLISHED = "laptop"


def expanded(path: str | os.PathLike[str]) -> Path:
    """`path` with the home folder for its ``~``; ValueError when there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{str(path)!r} names a home folder that is not there") from error


def project_root() -> Path:
    """Folder that holds `_config.yml` and `src/helpers`.

    `$BOOK_ROOT` wins; then the nearest parent of the current folder; then the place that this very
    file was installed from (the package is installed in editable mode).
    """
    given = os.environ.get("BOOK_ROOT")
    if given:
        return expanded(given).resolve()
    here = Path.cwd().resolve()
    return next(filter(_is_checkout, (here, *here.parents)), Path(__file__).resolve().parents[2])


def _is_checkout(folder: Path) -> bool:
    return (folder / "_config.yml").is_file() and (folder / "src" / "helpers").is_dir()


def own_package(root: Path | None = None) -> None:
    """Make sure that a checkout (None: the project's root) is served by its own package.

    Raises:
        ImportError: `helpers` comes from elsewhere, so that an edit here would not count.
    """
    root, mine = root or project_root(), Path(__file__).resolve().parent
    if _is_checkout(root) and not mine.samefile(root / "src" / "helpers"):
        raise ImportError(
            f"the package `helpers` at work is {mine}, but the project is {root}, whose own "
            "would not count: use the environment that `make setup` makes there, with $PYTHONPATH "
            "and $BOOK_ROOT unset."
        )


def run_command(main: Callable[[], int]) -> int:
    """The exit status of a command whose reader may have seen enough (`… | head`)."""
    try:
        try:
            return main()
        finally:
            print(end="", flush=True)
    except BrokenPipeError:  # nothing is left to be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


@dataclass(frozen=True)
class Run:
    """The settings of one execution of a chapter."""

    profile: str
    device: str
    seed: int
    data_dir: str | None

    def pick(self, *, smoke: Any, laptop: Any, paper: Any) -> Any:
        """The value that belongs to this run's profile.

        >>> Run("laptop", "cpu", 0, None).pick(smoke=50, laptop=1000, paper=1000)
        1000
        """
        return {"smoke": smoke, "laptop": laptop, "paper": paper}[self.profile]

    @property
    def store(self) -> Path | None:
        """Folder of stored results, or None at `smoke`, where everything is computed."""
        if self.profile == "smoke":
            return None
        given = os.environ.get("BOOK_RESULTS")
        return expanded(given) if given else project_root() / "book" / "results"

    @property
    def context(self) -> dict[str, Any]:
        """What a trial may know about the machine, and what no result may depend on."""
        return {"device": self.device, "data_dir": self.data_dir}


def resolve_device(device: str) -> str:
    """The torch device that `device` means on this machine; "auto" prefers CUDA.

    Raises ValueError for a name torch does not know and for a GPU that is not there.
    """
    allowed = '"auto", "cpu", "cuda" or "cuda:<number>"'
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"unknown device {device!r}: expected {allowed}.")
    if device == "cpu":
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if count else "cpu"
    if int(device.partition(":")[2] or 0) >= count:
        raise ValueError(
            f"device {device!r} asked for, but torch sees {count} CUDA device(s) "
            'here: use "auto" or "cpu", or install the driver of the GPU.'
        )
    return device


def describe_device(device: str = "cpu") -> str:
    """What computes: the GPU's name for ``cuda…``, else the CPU's model and usable cores.

    ``auto`` means the GPU when torch is loaded and sees one; torch is imported for ``cuda`` only.
    """
    if device == "auto":
        torch = sys.modules.get("torch")
        device = "cuda" if torch is not None and torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    if device != "cpu":
        return device
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu_model()}, {cores} core{'s' if cores != 1 else ''}"


@cache
def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
