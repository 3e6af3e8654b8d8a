"""What an audit reads from files: tables of features, folders of pictures, a model and its weights.

Ours; the layouts are those of Sagawa et al. 2020 (Waterbirds), Liu et al. 2015 (CelebA) and
torchvision's folders of classes.
"""

import importlib
import inspect
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from helpers import data
from helpers.data.files import data_folder, decoded

_PICTURES = (".jpg", ".jpeg", ".png")
_CELEBA = ("list_attr_celeba.txt", "list_attr_celeba.csv")


def table(
    file: str | Path, label: str, attribute: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features `(n, d)`, labels and attribute from a CSV file with a header.

    All columns but the two named must be numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no table, a column that is not there, features that are no numbers.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there")
    try:
        rows = pd.read_csv(file)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no table: {error}") from error
    for name in (label, attribute):
        if name not in rows:
            raise ValueError(f"{file} has no column {name!r}: it has {', '.join(rows)}")
    features = rows.drop(columns=[label, attribute])
    words = features.columns[features.dtypes.map(lambda kind: kind.kind not in "iufb")]
    if len(words) or features.shape[1] == 0:
        named = ", ".join(words) or "no other column"
        raise ValueError(f"{file} has columns that are no numbers: {named}")
    kinds = [pd.factorize(rows[name], sort=True)[0] for name in (label, attribute)]
    return features.to_numpy(dtype=float), *kinds


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

    The function takes no argument and gives a module that reads pixels in [0, 1]. Only numbers are
    read from the file (a state dict of torch, or safetensors), never code.

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
