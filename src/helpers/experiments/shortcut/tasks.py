"""What the experiments of Part IV on images share: the digits, and what is measured on a kernel.

Inputs are centred with the training mean, labels are -1 and +1, and every accuracy is measured on a
balanced test set, apart on aligned and conflicting images. The *shortcut* is the feature with the
largest share of the bias attribute among the leading ones; it is not the first feature of a ReLU
kernel, which is one of constant sign.
"""

from functools import lru_cache
from typing import NamedTuple

import torch

from helpers import data, kernels, probes
from helpers.data import Grouped
from helpers.sweep import Call
from helpers.training import margin_losses

KINDS = {"patched": data.patched_mnist, "colored": data.colored_mnist}
LEADING = 50  # modes that are looked at
TOLERANCE = 0.02  # of a recomputed accuracy, images near the border may flip


class Task(NamedTuple):
    """Training and test set, their kernel blocks (float32), and where the data come from."""

    train: Grouped
    test: Grouped
    K: torch.Tensor
    K_test: torch.Tensor
    source: str


class Shortcut(NamedTuple):
    """The leading features of a task and which of them is the shortcut (counted from 0)."""

    features: kernels.Eigenfeatures
    bias: torch.Tensor
    label: torch.Tensor
    index: int


@lru_cache(maxsize=2)
def digit_splits(dataset: str, data_dir: str | None) -> tuple[data.Dataset, data.Dataset]:
    """Training and test split of a dataset."""
    return tuple(data.load(dataset, train=train, data_dir=data_dir) for train in (True, False))


def digit_sets(call: Call) -> tuple[Grouped, Grouped, str]:
    """Training set, balanced test set, and the source of the digits.

    Raises:
        ValueError: an unknown kind, or more images than there are.
    """
    if call.kind not in KINDS:
        raise ValueError(f"kind is {call.kind!r}: allowed are {', '.join(map(repr, KINDS))}")
    splits, sizes = digit_splits(call.dataset, call.data_dir), (call.samples, call.test)
    sets = data.train_and_test(KINDS[call.kind], splits, call.rho, sizes, call.trial)
    return *sets, splits[0].source


def digit_task(call: Call) -> Task:
    """Digits with the closed-form kernel of a two-layer ReLU network."""
    train, held_out, source = digit_sets(call)
    X, X_test = (rows.to(call.device) for rows in data.centred(train, held_out))
    return Task(train, held_out, kernels.relu_ntk(X), kernels.relu_ntk(X_test, X), source)


def find_shortcut(K: torch.Tensor, train: Grouped, modes: int = LEADING) -> Shortcut:
    """Leading features with their shares of bias attribute and label.

    >>> train = Grouped(torch.zeros(2, 1), torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0]))
    >>> K = torch.tensor([[3.0, 1.0], [1.0, 3.0]])            # the mean first, then the difference
    >>> find_shortcut(K, train, 2).index
    1
    """
    features = kernels.eigenfeatures(K, train.label, modes=min(modes, len(K)))
    bias = kernels.mode_alignment(features.vectors, train.attribute)
    label = kernels.mode_alignment(features.vectors, train.label)
    return Shortcut(features, bias, label, int(bias.argmax()))


class Core(NamedTuple):
    """How much each mode helps on conflicting samples, `(k,)` each; 0 where it does not.

    Attributes:
        share: squared alignment with the labels of the conflicting samples, zero elsewhere; a whole
            basis shares 1.
        cosine: the same for the mode's conflicting entries alone, each mode on its own scale.
    """

    share: torch.Tensor
    cosine: torch.Tensor


def core_shares(vectors: torch.Tensor, train: Grouped) -> Core:
    """What modes know of the labels of conflicting samples.

    A mode helps where its term in the output points to the right side on them. Ours: the paper's
    measure is not known. The two columns differ in what they divide by.

    Raises:
        ValueError: no sample is conflicting.

    >>> y, b = torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([1.0, -1.0, -1.0, 1.0])
    >>> modes = torch.stack([b, y], 1) / 2
    >>> core_shares(modes, Grouped(torch.zeros(4, 1), y, b)).share.tolist()   # b helps nobody here
    [0.0, 0.5]
    """
    labels, conflicting = train.label.to(vectors), ~train.aligned.to(vectors.device)
    if not bool(conflicting.any()):
        raise ValueError("no sample is conflicting: there is nothing that a mode could help")
    inside = vectors[conflicting]
    along = inside.T @ labels[conflicting]
    helps = along * (vectors.T @ labels) > 0
    share = along.square() / conflicting.sum()
    cosine = share / inside.square().sum(0).clamp_min(torch.finfo(vectors.dtype).tiny)
    return Core(*(torch.where(helps, part, 0) for part in (share, cosine)))


def full_training(task: Task, ridge: float = 0.0) -> torch.Tensor:
    """Test outputs of kernel regression, the limit of training; `ridge` adds to the diagonal.

    Raises:
        ValueError: a kernel that cannot give the labels, as where copies of an input have two.
    """
    K = task.K.to(torch.float64, copy=True)
    K.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(K)
    y = task.train.label.to(K)[:, None]
    coefficients = torch.cholesky_solve(y, factor)
    if int(failed) or not float((K @ coefficients - y).abs().max()) < 1e-2:
        raise ValueError(
            "the kernel is singular and does not give the training labels: remove inputs that are "
            "there twice, or add a ridge"
        )
    return task.K_test.double() @ coefficients[:, 0]


def by_alignment(outputs: torch.Tensor, test: Grouped, suffix: str = "") -> dict[str, float]:
    """The accuracies on aligned and conflicting images as two columns of a result."""
    aligned, conflicting = probes.accuracy_by_alignment(outputs, test)
    return {f"aligned{suffix}": aligned, f"conflicting{suffix}": conflicting}


def summary(f: torch.Tensor, train: Grouped, mode: torch.Tensor) -> dict[str, float]:
    """Spread of the margins, share of a mode in the training output, training accuracy."""
    labels = train.label.to(f)
    return {
        "cv": margin_losses.margin_cv(data.margins(f, labels).cpu()),
        "share": float((mode @ f).square() / f.square().sum()),
        "fitted": probes.sign_accuracy(f, labels),
    }
