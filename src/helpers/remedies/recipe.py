"""How a network is fine-tuned against its memory: the recipe and the names that it takes.

Source: the released code of You et al. 2025.
"""

import math
from dataclasses import dataclass

from helpers.errors import check_whole
from helpers.training import check_augmentation

CHOICES = {
    "head": ("softmax", "logits"),
    "mask": ("magnitude", "gradient", "both", "random", "random filters", "none"),
    "gradient_unit": ("filter", "weight"),
    "features": ("outputs", "penultimate"),
    "statistics": ("shared", "separate"),
    "sampling": ("plain", "group-balanced"),
}


@dataclass(frozen=True)
class Contrast:
    """How to fine-tune; the defaults are those of the released code.

    Attributes:
        epochs: passes over the training set; each starts with a new mask from the weights of then.
        batch: samples a step, at least 2 (a last batch of a single sample is left out); all of
            them where there are fewer.
        learning_rate: of Adam at the start; times `factor` when the sum of an epoch's losses has
            not fallen for more than `patience` epochs.
        temperature: of :func:`nt_xent`.
        contrast_weight: factor on the contrast; 0 is the continuation without any (no second
            branch, no mask).
        label_weight: factor on the cross-entropy, lambda.
        head: `"softmax"` takes the cross-entropy of the softmax outputs as if they were logits
            (a softmax twice, as released), `"logits"` the usual one.
        mask: what the pruned branch lacks: `"magnitude"`, `"gradient"` (on the 200
            :func:`poorest` samples), `"both"` (what either drops), `"random"` (single weights),
            `"random filters"`, or `"none"`.
        share: of the weights or filters that a mask drops.
        gradient_unit: `"filter"` or `"weight"`, see :func:`gradient_mask`.
        poorest_as_released: see :func:`poorest`.
        features: what is contrasted: the softmax `"outputs"` on one view of each image (as
            released), or `"penultimate"` features behind a projection head of two layers, on two
            views drawn independently (as SimCLR and SDCLR do; the head is trained along).
        statistics: running statistics of batch normalisation: `"shared"`, where both branches
            move them (as released, where a third pass without gradients moves them once more), or
            `"separate"` for the pruned branch (as SDCLR, which also separates scale and shift).
        augment: random crops and flips, as in :class:`helpers.training.Recipe`.
        class_weights: weigh classes in the cross-entropy by the inverse of their frequency.
        sampling: `"plain"`, or `"group-balanced"`: each sample is drawn, with replacement, with a
            probability inverse to the size of its group.
        weight_decay: of Adam.

    Raises:
        ValueError: numbers out of range, unknown names.

    Source: You et al. 2025, released code; SDCLR is Jiang et al. 2021.
    """

    epochs: int = 21
    batch: int = 100
    learning_rate: float = 2e-4
    patience: int = 1
    factor: float = 0.5
    temperature: float = 0.5
    contrast_weight: float = 1.0
    label_weight: float = 0.2
    head: str = "softmax"
    mask: str = "magnitude"
    share: float = 0.01
    gradient_unit: str = "filter"
    poorest_as_released: bool = False
    features: str = "outputs"
    statistics: str = "shared"
    augment: bool | str = True
    class_weights: bool = False
    sampling: str = "plain"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_whole(epochs=self.epochs)
        check_whole(2, batch=self.batch)
        check_whole(0, patience=self.patience)
        for name in ("learning_rate", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("factor", "share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: allowed is between 0 and 1")
        for name in ("contrast_weight", "label_weight", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        if self.contrast_weight == self.label_weight == 0:
            raise ValueError("contrast_weight and label_weight are both 0: nothing is minimised")
        check_augmentation(self.augment)
        check_choices(**{name: getattr(self, name) for name in CHOICES})


def check_choices(**settings: str) -> None:
    """ValueError for a setting that is none of its `CHOICES`."""
    for name, value in settings.items():
        if value not in CHOICES[name]:
            raise ValueError(
                f"{name} is {value!r}: allowed are {', '.join(map(repr, CHOICES[name]))}"
            )
