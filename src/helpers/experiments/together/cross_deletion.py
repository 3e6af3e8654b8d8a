r"""How far does an influence step reach? On digits, with patterns that no image has to itself.

The law: step over truth is :math:`\tau\kappa/(\kappa + q(1-q)S)`. In a set whose directions differ,
:math:`S/\kappa` becomes :math:`\bar v^\top(C + k')^{-1}\bar v` with the covariance C of clean
images, so all of it is known before a model is fitted.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from helpers import kernels
from helpers.experiments.together import cross_setting as setting
from helpers.sweep import Call, Cell, experiment
from helpers.theory import smoother

INTERCEPT = 1e3  # a constant in the kernel, times its mean diagonal: an intercept without a penalty
POPULATION = 3_000  # clean images at most, none of them trained on, for the population
FRESH = 200  # of these are asked


def features_of(name: str, width: int, trial: int) -> Callable[[Tensor], Tensor]:
    """From pixels `(n, 784)` to features: themselves, or random ReLU units.

    Raises:
        ValueError: another name.
    """
    if name == "pixels":
        return lambda x: x
    if name == "relu":
        V = kernels.random_weights(width, setting.SIDE**2, seed=trial) * 3
        return lambda x: torch.relu(x @ V.T) / width**0.5
    raise ValueError(f"features is {name!r}: allowed are 'pixels' and 'relu'")


def reach(
    features: Tensor, labels: Tensor, group: Tensor, without: Tensor, marked: Tensor, ridge: float
) -> tuple[float, float]:
    r"""What removing a group does to the mean answer to a pattern: by one step, and in truth.

    Args:
        features: `(n, p)` of the training images, which carry the pattern in the rows of `group`.
        labels: `(n,)`.
        group: `(m,)` rows.
        without, marked: `(b, p)` features of images that are asked, without and with the pattern.
        ridge: :math:`\lambda`.
    """
    gram = features @ features.T
    constant = INTERCEPT * float(gram.diagonal().mean())
    model = smoother.smooth(gram + constant, ridge)
    asked = (marked - without).mean(0, keepdim=True) @ features.T
    step = model.weights(asked)[:, group] @ model.residual(labels)[group]
    return float(step), float(model.removal(asked, labels, group))


class Clean(NamedTuple):
    """Covariance of the features of clean images: eigenvalues `(p,)`, eigenvectors in columns."""

    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, population: Tensor) -> "Clean":
        """From features `(N, p)`."""
        centred = population - population.mean(0)
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        return cls(values.clamp(min=0), vectors)


def law(clean: Clean, shift: Tensor, ridge: float, samples: int, share: float) -> dict[str, float]:
    r"""What clean images say: step over truth, :math:`\tau`, and :math:`\kappa` of a pattern.

    `predicted` has the factor 1 - q of the intercept, which `rare` (q well below 1) lacks; `white`
    takes the directions of the features as equal.

    Args:
        clean: covariance of the features.
        shift: `(p,)` mean change of the features by the pattern.
        ridge: a sample, k.
        samples: n of the training set.
        share: q, of carriers.
    """
    felt = smoother.effective_ridge(clean.values.numpy(), ridge, samples)
    along = float(((clean.vectors.T @ shift) ** 2 / (clean.values + felt)).sum())
    tau = smoother.residual_share(ridge, felt)
    strength, spread = float(shift @ shift), share * (1 - share)
    rare = tau / (1 + spread * along)
    white = tau / (1 + spread * strength / (float(clean.values.mean()) + felt))
    return {
        "predicted": (1 - share) * rare, "rare": rare, "tau": tau, "white": (1 - share) * white,
        "kappa_over_strength": 1 / along,
    }  # fmt: skip


def cross_deletion_cells(profile: str) -> list[Cell]:
    """Two kinds of features, two patterns, groups of several sizes, two ridges."""
    sizes = {
        "smoke": dict(samples=200, width=300, count=[4, 20], trials=2, shapes=["noise"],
                      norms=[2.0], ridges=[0.01]),
        "laptop": dict(samples=500, width=600, count=[2, 15, 50, 150], trials=8,
                       shapes=["corner", "noise"], norms=[2.0, 8.0], ridges=[0.001, 0.01, 0.1]),
        "paper": dict(samples=1_000, width=1_500, count=[2, 5, 15, 50, 150, 300], trials=20,
                      shapes=["corner", "noise"], norms=[1.0, 2.0, 8.0],
                      ridges=[0.001, 0.01, 0.1]),
    }[profile]  # fmt: skip
    return [
        dict(features=features, samples=sizes["samples"], width=sizes["width"], shape=shape,
             norm=norm, count=count, ridge=ridge, trial=trial)
        for features in ("pixels", "relu")
        for shape in sizes["shapes"]
        for count in sizes["count"]
        for norm in sizes["norms"]
        for ridge in sizes["ridges"]
        for trial in range(sizes["trials"])
    ]  # fmt: skip


@experiment(
    "cross_deletion",
    cells=cross_deletion_cells,
    tolerance=1e-6,
    cheap=lambda cell: cell["features"] == "pixels",
    group=lambda cell: (cell["features"], cell["samples"], cell["width"], cell["trial"]),
    on_device=False,
)
def cross_deletion(calls: list[Call]) -> list[dict[str, float | str]]:
    """Reach of an influence step that removes `count` images with a pattern.

    `ridge` is a sample, as a share of the mean squared length of a centred feature vector.

    Returns:
        `step`, `truth`: the change of the mean answer to the pattern; `ratio`: of the two;
        `predicted` and the others of :func:`law`, from clean images alone.
    """
    first, rows = calls[0], []
    found = setting.draw(first.samples, min(POPULATION, 6 * first.samples), first.trial)
    mapped = features_of(first.features, first.width, first.trial)
    train, population = mapped(found.train), mapped(found.fresh)
    clean = Clean.of(population)
    scale = float(clean.values.sum())
    for call in calls:
        v = setting.pattern(call.shape, call.norm, call.trial)
        group = setting.carriers(found.labels, call.count, call.trial)
        features = train.clone()
        features[group] = mapped(found.train[group] + v)
        marked, without = mapped(found.fresh[:FRESH] + v), population[:FRESH]
        k = call.ridge * scale
        step, truth = reach(features, found.labels, group, without, marked, k * call.samples)
        shift = (marked - without).mean(0)
        told = law(clean, shift, k, call.samples, call.count / call.samples)
        rows.append(
            {"step": step, "truth": truth, "ratio": step / truth}
            | told
            | {"data_source": setting.SOURCE}
        )
    return rows
