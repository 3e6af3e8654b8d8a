"""A model and its images as an audit asks them; what cannot be audited is refused by name.

Ours.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from helpers import data

_BATCH = 250
_LOOKED_AT = 64  # outputs from which one tells what kind they are


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


def gathered(name: str, given: Any) -> Images:
    """Samples from a pair of tensors, a data set of the book, or a loader of batches.

    Bytes are read as numbers in [0, 1]; a loader is read once, and its batches are kept.

    Raises:
        ValueError: no sample, lengths that differ, inputs that are not finite, labels that are no
            whole numbers.
    """
    if isinstance(given, data.Dataset):
        given = given.images, given.labels
    if not (isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[0], Tensor)):
        if not isinstance(given, Iterable):
            raise ValueError(f"{name} is {type(given).__name__}: expected tensors or a loader")
        batches = [(batch[0], batch[1]) for batch in given]
        if not batches:
            raise ValueError(f"{name} is an empty loader")
        given = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    inputs, labels = given
    labels = torch.as_tensor(labels).cpu()
    if inputs.ndim < 2 or not len(inputs) or labels.shape != inputs.shape[:1]:
        raise ValueError(
            f"{name} has inputs {tuple(inputs.shape)} and labels {tuple(labels.shape)}: expected "
            "(n, …) and (n,), n > 0"
        )
    inputs = inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs
    if not inputs.is_floating_point() or not torch.isfinite(inputs).all():
        raise ValueError(f"{name} holds inputs that are no finite floats, nor bytes")
    if not bool((labels == labels.long()).all()):
        raise ValueError(f"{name} has labels that are no whole numbers")
    return Images(inputs.detach(), labels.long())


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
        found = _outputs(self.model, inputs).double()
        if not torch.isfinite(found).all():
            bad = int((~torch.isfinite(found)).any(1).sum())
            raise ValueError(f"the model's outputs are not finite for {bad} of {len(found)} inputs")
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


def asked(model: nn.Module, train: Images, test: Images) -> tuple[Asked, Images, Images]:
    """The model to ask, and the samples with classes that fit its outputs.

    Raises:
        ValueError: a model that is no module or is in training mode; outputs of another shape, not
            finite, or after a softmax or sigmoid; one class, or labels without an output.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is {type(model).__name__}: expected a torch module")
    learning = [name or "itself" for name, part in model.named_modules() if part.training]
    if learning:
        raise ValueError(
            f"the model is in training mode ({learning[0]}): call model.eval() before an audit"
        )
    shown = _outputs(model, test.inputs[:_LOOKED_AT])
    if shown.ndim != 2:
        raise ValueError(
            f"the model gives shape {tuple(shown.shape)} for {len(shown)} inputs: expected "
            "(n, classes), or (n, 1) for two"
        )
    single = shown.shape[1] == 1
    found = Asked(model, single)
    found(test.inputs[:_LOOKED_AT])  # refuses what is not finite
    if bool((shown >= 0).all() and (shown <= 1).all()):
        sums = shown.sum(1)
        if single or bool((sums - 1).abs().max() < 1e-3):
            raise ValueError(
                "the model's outputs are probabilities, after a "
                f"{'sigmoid' if single else 'softmax'}: an audit needs the logits before it"
            )
    classes = 2 if single else shown.shape[1]
    return found, *(
        _fitting(name, part, classes) for name, part in (("train", train), ("test", test))
    )


def _outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """`(n, outputs)` on the CPU, from wherever the model is; `(n,)` counts as one output."""
    place = next(model.parameters(), inputs)
    with torch.no_grad():
        found = torch.cat([model(part.to(place)).cpu() for part in inputs.split(_BATCH)])
    return found[:, None] if found.ndim == 1 else found


def _fitting(name: str, images: Images, classes: int) -> Images:
    labels = images.labels
    kinds = labels.unique().tolist()
    if len(kinds) < 2:
        raise ValueError(f"{name} has one class ({kinds[0]}): an audit compares at least two")
    if kinds == [-1, 1] and classes == 2:
        labels = (labels > 0).long()
    elif kinds[0] < 0 or kinds[-1] >= classes:
        raise ValueError(
            f"{name} has labels from {kinds[0]} to {kinds[-1]}: the model has {classes} classes, "
            f"allowed is 0 to {classes - 1}"
        )
    return Images(images.inputs, labels)


def mask_of(name: str, values: Any, count: int) -> np.ndarray:
    """`(n,)` bool.

    Raises:
        ValueError: another length or kind.
    """
    found = torch.as_tensor(values).cpu().numpy()
    if found.shape != (count,) or found.dtype != bool:
        raise ValueError(
            f"{name} has shape {found.shape} and kind {found.dtype}: expected ({count},) of bool"
        )
    return found
