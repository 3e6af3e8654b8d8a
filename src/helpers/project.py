"""Where the project is, what it runs on, and the settings of one run."""

import os
import platform
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROFILES = ("smoke", "laptop", "paper")
PUBLISHED = "laptop"


def project_root() -> Path:
    """Folder that holds `_config.yml` and `src/helpers`.

    `$BOOK_ROOT` wins; then the nearest parent of the current folder; then the place that this very
    file was installed from (the package is installed in editable mode).
    """
    given = os.environ.get("BOOK_ROOT")
    if given:
        return Path(given).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "_config.yml").is_file() and (folder / "src" / "helpers").is_dir():
            return folder
    return Path(__file__).resolve().parents[2]


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
        return Path(os.environ.get("BOOK_RESULTS") or project_root() / "book" / "results")

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
