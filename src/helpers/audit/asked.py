"""A model and its images as an audit asks them; what cannot be audited is refused by name.

Ours.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, SequentialSampler

from helpers import data

_BATCH = 250
_LOOKED_AT = 64  # training inputs by which one tells whether the model takes them


@dataclass(frozen=True)
class Images:
    """Inputs `(n, …)` floats, and classes `(n,)` from 0 on."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: Tensor) -> "Images":
        """These samples."""
        return Images(self.inputs[chosen], self.labels[chosen])

    @property
    def pictures(self) -> bool:
        """Are the inputs `(n, c, h, w)`?"""
        return self.inputs.ndim == 4


# -- samples ---------------------------------------------------------------------------------------


def gathered(name: str, given: Any) -> Images:
    """Samples from a pair of tensors or arrays, a data set of the book, or a loader of batches.

    Bytes are read as numbers in [0, 1]; a loader is read once, and its batches are kept. What lies
    on another device is brought to the CPU, tables and columns are read in the order of their rows.

    Raises:
        ValueError: no pair and no loader of pairs, no sample, lengths that differ, inputs that are
            not finite floats, labels that are no whole numbers.
    """
    if isinstance(given, data.Dataset):
        given = given.images, given.labels
    arrays = Tensor | np.ndarray | pd.DataFrame
    if isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[0], arrays):
        inputs, labels = numbers(f"the inputs of {name}", given[0]), _labels(name, given[1])
    else:
        inputs, labels = _joined(name, given)
    if inputs.ndim < 2 or not len(inputs) or labels.shape != inputs.shape[:1]:
        raise ValueError(
            f"{name} has inputs {tuple(inputs.shape)} and labels {tuple(labels.shape)}: expected "
            "(n, …) and (n,), n > 0"
        )
    return Images(inputs, labels)


def _joined(name: str, loader: Any) -> tuple[Tensor, Tensor]:
    """Inputs and labels of all batches."""
    if not isinstance(loader, Iterable) or isinstance(loader, str | Mapping):
        raise ValueError(
            f"{name} is {type(loader).__name__}: expected a pair (inputs, labels) of tensors or "
            "arrays, or a loader (for a data set, a DataLoader of it)"
        )
    parts = []
    for batch in loader:
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            keys = f" of {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else ""
            raise ValueError(
                f"{name} gives {type(batch).__name__}{keys}: expected batches (inputs, labels)"
            )
        part = numbers(f"the inputs of {name}", batch[0]), _labels(name, batch[1])
        if part[1].ndim != 1 or part[0].shape[:1] != part[1].shape:
            raise ValueError(
                f"{name} gives batches with inputs {tuple(part[0].shape)} and labels "
                f"{tuple(part[1].shape)}: expected (n, …) and (n,); of a data set, give a loader"
            )
        parts.append(part)
    if not parts:
        raise ValueError(f"{name} is an empty loader")
    shapes = {tuple(inputs.shape[1:]) for inputs, _ in parts}
    if len(shapes) > 1:
        raise ValueError(f"{name} gives inputs of {len(shapes)} shapes, {sorted(shapes)[:2]}")
    inputs, labels = zip(*parts, strict=True)
    return torch.cat(inputs), torch.cat(labels)


def in_order(name: str, given: Any, told: str) -> None:
    """Refuse a loader that gives its samples in another order than that of its data set.

    What is told of each sample (an attribute, who is a member) would go to other samples. A loader
    without a sampler is taken at its word.

    Raises:
        ValueError: a sampler of its own, which is what shuffling is.
    """
    order, batches = getattr(given, "sampler", None), getattr(given, "batch_sampler", None)
    if batches is not None:  # it decides; beside one that was given, `sampler` is a default
        order = batches.sampler if type(batches) is BatchSampler else batches
    if order is not None and type(order) is not SequentialSampler:
        raise ValueError(
            f"{name} is a loader with {type(order).__name__}, and {told} is told sample by sample: "
            "expected one that does not shuffle (SequentialSampler), or tensors"
        )


def numbers(name: str, given: Any) -> Tensor:
    """Floats on the CPU; bytes become numbers in [0, 1].

    Raises:
        ValueError: other kinds of numbers, or some that are not finite.
    """
    if isinstance(given, Tensor):
        found = given.detach().cpu()
    else:
        array = array_of(name, given)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{name}: kind {array.dtype}, expected floats or bytes (uint8)")
        native = array.dtype.newbyteorder("=")
        found = torch.from_numpy(np.require(array, native, ["C", "W"]))
    found = found.float() / 255 if found.dtype == torch.uint8 else found
    if not found.is_floating_point():
        kind = str(found.dtype).removeprefix("torch.")
        raise ValueError(f"{name}: kind {kind}, expected floats or bytes (uint8)")
    if not torch.isfinite(found).all():
        bad = int((~torch.isfinite(found)).sum())
        raise ValueError(f"{name}: {bad:,} of {found.numel():,} numbers are not finite")
    return found


def _labels(name: str, given: Any) -> Tensor:
    """Whole numbers on the CPU."""
    found = array_of(f"the labels of {name}", _column(given))
    if found.dtype.kind not in "biuf":
        shown = repr(found.flat[0].item() if found.dtype.kind == "U" else found.flat[0])
        raise ValueError(
            f"{name} has labels such as {shown}: expected whole numbers from 0 on, in the order of "
            "the model's outputs"
        )
    whole = found.dtype.kind != "f" or bool((np.isfinite(found) & (found == found.round())).all())
    if not whole:
        raise ValueError(f"{name} has labels that are no whole numbers")
    return torch.from_numpy(np.array(found, dtype=np.int64))


def array_of(name: str, given: Any) -> np.ndarray:
    """The values of a tensor on any device, an array, a list or a column, in their order.

    Columns are read by position, whatever their index.

    Raises:
        ValueError: values that are no array.
    """
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = given.float() if given.dtype == torch.bfloat16 else given  # NumPy has none
    try:
        found = np.asarray(given)
        return np.array(found.tolist()) if found.dtype == object else found
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: {type(given).__name__} is no array ({error})") from error


def _column(given: Any) -> Any:
    """A table of one column is the column."""
    single = isinstance(given, pd.DataFrame) and given.shape[1] == 1
    return given.iloc[:, 0] if single else given


def mask_of(name: str, values: Any, count: int) -> np.ndarray:
    """`(n,)` bool, from a tensor, an array, a list or a column.

    Raises:
        ValueError: another length or kind.
    """
    found = array_of(name, _column(values))
    if found.shape != (count,) or found.dtype != bool:
        raise ValueError(
            f"{name} has shape {found.shape} and kind {found.dtype}: expected ({count},) of bool"
        )
    return found.copy()  # that of a column cannot be written to, which torch warns of


# -- the model -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A classifier that is asked in eval mode, as `(n, classes)` logits.

    One output f counts as the two logits 0 and f.
    """

    model: nn.Module
    single: bool

    def __call__(self, inputs: Tensor) -> Tensor:
        """`(n, classes)` on the CPU in float64.

        Raises:
            ValueError: outputs that are not finite.
        """
        found = _finite(_outputs(self.model, inputs)).double()
        return two(found) if self.single else found

    def probabilities(self, inputs: Tensor) -> Tensor:
        """The softmax of the logits."""
        return self(inputs).softmax(1)

    def classes(self, inputs: Tensor) -> Tensor:
        """`(n,)`: the class of the largest logit."""
        return self(inputs).argmax(1)


def two(outputs: Tensor) -> Tensor:
    """`(n, 1)` to the two logits that it stands for."""
    return torch.cat([torch.zeros_like(outputs), outputs], 1)


def asked(
    model: nn.Module, train: Images, test: Images, outsiders: Images | None = None
) -> tuple[Asked, Images, Images, Images | None]:
    """The model to ask, and the samples with classes that fit its outputs.

    All test inputs go through the model once, and some training inputs.

    Raises:
        ValueError: a model that is no module, is in training mode or cannot take the inputs;
            outputs of another shape, not finite, or after a softmax or sigmoid; one class, or
            labels without an output; outsiders of another shape.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is {type(model).__name__}: expected a torch module")
    learning = [name or "itself" for name, part in model.named_modules() if part.training]
    if learning:
        raise ValueError(
            f"the model is in training mode ({learning[0]}): call model.eval() before an audit"
        )
    shown = _first(model, "test", test.inputs)
    if shown.ndim != 2 or len(shown) != len(test):
        raise ValueError(
            f"the model gives shape {tuple(shown.shape)} for {len(test)} inputs: expected "
            "(n, classes), or (n, 1) for two"
        )
    _finite(shown)
    _first(model, "training", train.inputs[:_LOOKED_AT])
    single = shown.shape[1] == 1
    if bool((shown >= 0).all() and (shown <= 1).all()):
        sums = shown.sum(1)
        if single or bool((sums - 1).abs().max() < 1e-3):
            raise ValueError(
                "the model's outputs are probabilities, after a "
                f"{'sigmoid' if single else 'softmax'}: an audit needs the logits before it"
            )
    classes = 2 if single else shown.shape[1]
    for name, part in (("train", train), ("test", test)):
        if len(kinds := part.labels.unique()) < 2:
            raise ValueError(f"{name} has one class ({int(kinds)}): an audit compares at least two")
    if outsiders is not None:
        if outsiders.inputs.shape[1:] != test.inputs.shape[1:]:
            raise ValueError(
                f"outsiders have inputs of shape {tuple(outsiders.inputs.shape[1:])}: those of "
                f"test have {tuple(test.inputs.shape[1:])}"
            )
        outsiders = _fitting("outsiders", outsiders, classes)
    return (
        Asked(model, single),
        _fitting("train", train, classes), _fitting("test", test, classes), outsiders,
    )  # fmt: skip


def _first(model: nn.Module, name: str, inputs: Tensor) -> Tensor:
    """The outputs for the first inputs that a model is asked about, which it may not fit."""
    try:
        return _outputs(model, inputs)
    except Exception as error:  # a model may raise whatever it likes; the cause is kept
        raise ValueError(
            f"the model fails on {name} inputs of shape {tuple(inputs.shape[1:])}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """`(n, outputs)` on the CPU, from wherever the model is; `(n,)` counts as one output."""
    place, parts = next(model.parameters(), inputs), []
    with torch.no_grad():
        for part in inputs.split(_BATCH):
            found = model(part.to(place))
            if not isinstance(found, Tensor):
                raise TypeError(f"the model gives {type(found).__name__}, no tensor of logits")
            parts.append(found.cpu())
    joined = torch.cat(parts)
    return joined[:, None] if joined.ndim == 1 else joined


def _finite(outputs: Tensor) -> Tensor:
    if not torch.isfinite(outputs).all():
        bad = int((~torch.isfinite(outputs)).any(1).sum())
        raise ValueError(f"the model's outputs are not finite for {bad} of {len(outputs)} inputs")
    return outputs


def _fitting(name: str, images: Images, classes: int) -> Images:
    """Labels from 0 on; -1 and +1 become 0 and 1 where there are two classes."""
    labels = images.labels
    if classes == 2 and bool((labels.abs() == 1).all()):
        labels = (labels > 0).long()
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= classes:
        raise ValueError(
            f"{name} has labels from {least} to {most}: the model has {classes} classes, "
            f"allowed is 0 to {classes - 1}"
        )
    return Images(images.inputs, labels)
