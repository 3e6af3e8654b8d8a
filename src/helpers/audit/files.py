"""What an audit reads from files: tables of features, folders of pictures, a model and its weights.

Ours; the layouts are those of Sagawa et al. 2020 (Waterbirds), Liu et al. 2015 (CelebA) and
torchvision's folders of classes.
"""

import importlib
import inspect
import pickle
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from helpers import data
from helpers.data.files import data_folder, decoded

_PICTURES = (".jpg", ".jpeg", ".png")
_CELEBA = ("list_attr_celeba.txt", "list_attr_celeba.csv")


class Table(NamedTuple):
    """Features `(n, d)`, labels and attribute `(n,)` 0 or 1, and what they were in the file."""

    features: np.ndarray
    labels: np.ndarray
    attribute: np.ndarray
    about: str


def table(file: str | Path, label: str, attribute: str) -> Table:
    """Features, labels and attribute from a CSV file with a header.

    All columns but the two named must be numbers; these two take two values each, numbers or words,
    of which the first in their order becomes 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no table, rows of more cells than the header, a column that is not there, twice
            there or without a name, features that are no numbers, cells without anything, a label
            or attribute of more or fewer than two values.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there")
    try:
        # the header as it is written: pandas would rename columns without a name, or named twice
        header = pd.read_csv(file, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
        rows = pd.read_csv(file, low_memory=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no table: {error}") from error
    _check_columns(file, header.tolist(), rows, (label, attribute))
    values, said = [], []
    for what, name in (("class", label), ("attribute", attribute)):
        numbered, kinds = pd.factorize(rows[name], sort=True)
        if len(kinds) != 2:
            shown = ", ".join(repr(kind) for kind in kinds.tolist()[:5])
            raise ValueError(
                f"{file}: column {name!r} has {len(kinds)} values "
                f"({shown}{', …' * (len(kinds) > 5)}): expected two, keep the rows of two of them"
            )
        values.append(numbered)
        said.append(f"{what} {name} (-1 is {kinds[0]}, +1 is {kinds[1]})")
    features = rows.drop(columns=[label, attribute])
    names = list(features)
    shown = ", ".join(names if len(names) <= 5 else [*names[:3], "…", names[-1]])
    said.append(f"{len(names):,} column{'s' * (len(names) > 1)} of numbers ({shown})")
    return Table(features.to_numpy(dtype=float), *values, ", ".join(said))


def _check_columns(
    file: Path, header: list[str], rows: pd.DataFrame, asked: tuple[str, str]
) -> None:
    """ValueError for a table that cannot be read as it was meant."""
    if not isinstance(rows.index, pd.RangeIndex):
        raise ValueError(f"{file} has rows of more cells than the {len(header)} of its header")
    for name in asked:
        if name not in header:
            raise ValueError(f"{file} has no column {name!r}: it has {', '.join(header)}")
    nameless = [k for k, name in enumerate(header) if re.fullmatch(r"\s*(Unnamed: .*)?", name)]
    if nameless:
        raise ValueError(
            f"{file}: column {nameless[0] + 1} of {len(header)} has no name. If it numbers the "
            "rows, leave it out (to_csv(…, index=False)); else give it a name"
        )
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{file} has column {twice[0]!r} more than once")
    features = rows.drop(columns=list(asked))
    words = features.columns[features.dtypes.map(lambda kind: kind.kind not in "iufb")]
    if len(words) or features.shape[1] == 0:
        named = ", ".join(words) or "no other column"
        raise ValueError(f"{file} has columns that are no numbers: {named}")
    gaps = rows.isna().sum()
    if gaps.any():
        named = ", ".join(f"{count:,} in {name!r}" for name, count in gaps[gaps > 0][:5].items())
        raise ValueError(
            f"{file} has {gaps.sum():,} cells without a value among {len(rows):,} rows ({named}): "
            "fill them or leave the rows out (empty, NA, NaN, None and null count as such)"
        )


def pictures(folder: str | Path, *, size: int) -> dict[str, data.Grouped]:
    """Pictures with class and attribute by split, in one of two published layouts.

    A folder with `metadata.csv` is read as Waterbirds, one with CelebA's lists as CelebA.

    Raises:
        FileNotFoundError: no such folder, or neither layout.
        ValueError: as the readers of :mod:`helpers.data`.
    """
    folder = data_folder(folder)
    if (folder / "metadata.csv").is_file():
        return data.waterbirds(folder, size=size)
    if any((folder / name).is_file() for name in _CELEBA):
        return data.celeba(folder, size=size)
    raise FileNotFoundError(
        f"{folder} holds neither metadata.csv (img_filename, y, place, split) nor CelebA's lists"
    )


def classes(folder: str | Path, *, size: int) -> tuple[Tensor, Tensor, list[str]]:
    """Pictures `(n, 3, size, size)` uint8, classes `(n,)` and their names: a folder a class.

    Pictures are brought to a square of this side, classes are in the order of their names.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: fewer than two folders, one without pictures, a picture that cannot be decoded
            or lies elsewhere.
    """
    folder = data_folder(folder)
    names = sorted(part.name for part in folder.iterdir() if part.is_dir())
    if len(names) < 2:
        raise ValueError(f"{folder} has {len(names)} folders: expected one for each of two classes")
    found, labels = [], []
    for number, name in enumerate(names):
        files = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in _PICTURES)
        if not files:
            raise ValueError(f"{folder / name} has no pictures ({', '.join(_PICTURES)})")
        for file in files:
            if not file.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{file} is a link to a place outside {folder}")
            pixels = np.array(decoded(file).resize((size, size)))
            found.append(torch.from_numpy(pixels).permute(2, 0, 1))
            labels.append(number)
    return torch.stack(found), torch.tensor(labels), names


def network(factory: str, weights: str | Path | None) -> nn.Module:
    """A model in eval mode, made by `module:function` and loaded with weights from a file.

    The function takes no argument and gives a module that reads pictures `(n, 3, h, w)`. Only
    numbers are read from the file (a state dict of torch, or safetensors), never code.

    Raises:
        ValueError: no such function, something else than a module, weights that do not fit, a file
            that holds anything but weights.
        FileNotFoundError: no such file.
        ImportError: the module cannot be imported, or safetensors is not installed.
    """
    module, _, name = factory.partition(":")
    if not module or not name:
        raise ValueError(f"factory is {factory!r}: expected module:function")
    make = getattr(importlib.import_module(module), name, None)
    if not callable(make):
        raise ValueError(f"{module} has no function {name!r}")
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    asked = inspect.signature(make).parameters.values()
    needed = [p.name for p in asked if p.default is p.empty and p.kind not in free]
    if needed:
        raise ValueError(f"{factory} needs {', '.join(needed)}: expected a function of nothing")
    made = make()
    if not isinstance(made, nn.Module):
        raise ValueError(f"{factory} gives {type(made).__name__}: expected a torch module")
    if weights is not None:
        state = _weights(Path(weights))
        try:
            made.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{weights} does not fit {factory}: {error}") from error
    return made.eval()


def _weights(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there")
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file  # only who has such files needs it

        return load_file(file)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{file} is no file of weights alone: save model.state_dict(), not the model"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise ValueError(f"{file} holds no state dict: save model.state_dict()")
    return state
