"""Where a setting lies on the map of cure and poison, and what models trained on it do.

A setting has a spurious direction and a core. R is the answer to the one over the answer to the
other: above 1 conflicting samples are lost. Its `lift` is where R ends as the ridge grows; lift / R
is the place on the other axis. On the diagonal of the map R is 1.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import data
from helpers.data import Grouped
from helpers.theory import cure, smoother

Answers = tuple[float, float]  # to the spurious direction and to the core


class Setting(NamedTuple):
    """A setting of a paper, or one of ours.

    Attributes:
        name: of the setting.
        lift: R where the ridge is large.
        law: R at a felt ridge.
        felt: the felt ridge at a ridge.
        trained: answers of a model trained on a new draw with this ridge.
        source: of the data.
    """

    name: str
    lift: float
    law: Callable[[float], float]
    felt: Callable[[float], float]
    trained: Callable[[float, np.random.Generator], Answers]
    source: str


def _linear(name: str, made: cure.Population, directions: tuple[np.ndarray, np.ndarray],
            samples: int, draw: Callable, source: str) -> Setting:  # fmt: skip
    """A setting that is a linear model on inputs with these moments."""

    def trained(ridge: float, random: np.random.Generator) -> Answers:
        w = cure.ridge_weights(*draw(samples, random), ridge)
        return float(w @ directions[0]), float(w @ directions[1])

    return Setting(
        name, made.lift_ratio(*directions), lambda felt: float(made.reliance(*directions, felt)),
        lambda ridge: float(made.felt(ridge, samples)), trained, source,
    )  # fmt: skip


def shortcut(kind: str, rho: float, samples: int, pool: int = 4_000) -> Setting:
    """Part IV: digits whose patch or colour goes with the label in a share rho of them."""
    make = {"patched": data.patched_mnist, "colored": data.colored_mnist}[kind]
    images = data.load("mnist5k")
    whole = make(images, rho, pool, 0)
    mean, (x, y, b) = whole.flat.mean(0).double().numpy(), _rows(whole)
    core, spurious = np.linalg.lstsq(np.stack([y, b], 1), x - mean, rcond=None)[0]
    made = cure.population((x - mean).T @ (x - mean) / pool, y @ (x - mean) / pool)

    def draw(n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x, y, _ = _rows(make(images, rho, n, int(random.integers(2**31))))
        return x - mean, y

    name = f"IV: {kind} digits, {100 * rho:.0f} % aligned"
    return _linear(name, made, (spurious, core), samples, draw, images.source)


def _rows(part: Grouped) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(one.double().numpy() for one in (part.flat, part.label, part.attribute))


def _pair(negative: int, positive: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Centred pixels in 0..1 and labels of two digits, as many of either."""
    images = data.load("mnist5k")
    chosen, labels = data.binary_pair(images, negative, positive)
    x = chosen.flatten(1).double().numpy() / 255
    return x - x.mean(0), labels.double().numpy(), images.source


def rare_square(samples: int, carriers: int) -> Setting:
    """Part II: zeros against ones, a few of the zeros with a white square in the corner."""
    x, g, source = _pair(1, 0)
    square = data.pattern("S3", (1, 28, 28), 0).flatten().double().numpy()
    share, label = carriers / samples, g @ x / len(g)
    moment = x.T @ x / len(x) + share * (np.outer(square, label) + np.outer(label, square))
    moment += share * (1 - share) * np.outer(square, square)

    def draw(n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        rows = random.choice(len(x), n)
        chosen = random.permutation(np.flatnonzero(g[rows] > 0))[:carriers]
        return x[rows] + square * (np.isin(np.arange(n), chosen)[:, None] - share), g[rows]

    made = cure.population(moment, label + share * square)
    name = f"II: square on {carriers} of {samples}"
    return _linear(name, made, (square, label), samples, draw, source)


def own_frame(samples: int, pixels: int = 1_520) -> Setting:
    """Part I: ones against sevens in frames of noise; the spurious direction is one's own frame.

    The answer to it is alignment times what the others leave open.
    """
    x, g, source = _pair(1, 7)
    label = g @ x / len(g)
    core = cure.population(x.T @ x / len(x), label)
    values, variance = np.r_[core.values, 1 / 12], 1 / 12
    counts = np.r_[np.ones(len(label)), pixels]

    def law(felt: float) -> float:
        alignment = pixels * variance / (variance + felt) / samples
        return float(alignment * (1 - core.answer(label, felt)) / core.answer(label, felt))

    def trained(ridge: float, random: np.random.Generator) -> Answers:
        rows = random.choice(len(x), samples)
        frames = random.random((samples, pixels)) - 0.5
        w = cure.ridge_weights(np.c_[x[rows], frames], g[rows], ridge)
        return float((g[rows] * (frames @ w[len(label) :])).mean()), float(w[: len(label)] @ label)

    return Setting(
        f"I: own frame, {samples} images", pixels * variance / samples / float(label @ label), law,
        lambda ridge: float(smoother.effective_ridge(values, ridge, samples, counts)), trained,
        source,
    )  # fmt: skip


# -- four corners: a light and a heavy attribute, rarely and often in conflict ---------------------

WEIGHTS, AGREE = {"light": 0.1, "heavy": 3.0}, {"rarely": 0.9, "often": 0.6}
CORNERS = {("light", "rarely"): "cure", ("heavy", "often"): "poison",
           ("heavy", "rarely"): "no remedy", ("light", "often"): "no harm"}  # fmt: skip
WEAK, STRONG = 1e-3, 3.0  # ridges, and one over the times at which training stops
FEW, SUBSETS = 20, 40  # few samples, and of how many such sets an answer is the mean


class Corner(NamedTuple):
    """Digits with an attribute as a further input; the pool is the population."""

    setting: Setting
    x: np.ndarray
    g: np.ndarray
    marks: cure.Marks
    directions: tuple[np.ndarray, np.ndarray]

    def draw(self, n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs `(n, 785)` and labels of n different digits."""
        rows = random.choice(len(self.x), n, replace=False)
        return np.c_[self.x[rows], self.marks.draw(self.g[rows], random)[:, 1]], self.g[rows]


@lru_cache(maxsize=4)
def corner(weight: str, conflicts: str, samples: int) -> Corner:
    """One of `CORNERS`."""
    images = data.load("mnist5k")
    g = np.where(images.labels.numpy() > 4, 1.0, -1.0)
    x = images.images.flatten(1).double().numpy() / 255
    x, marks = x - x.mean(0), cure.Marks(0, 0, 0, AGREE[conflicts], WEIGHTS[weight])
    moment, label = marks.added(x.T @ x / len(x), g @ x / len(x))
    kept = np.r_[: len(label) - 2, len(label) - 1]  # no rare mark
    directions = np.zeros((2, len(kept)))
    directions[0, -1], directions[1, :-1] = np.sqrt(marks.weight), label[kept[:-1]]
    made = cure.population(moment[np.ix_(kept, kept)], label[kept])
    found = Corner(None, x, g, marks, tuple(directions))
    name = f"ours: {weight}, {conflicts} in conflict"
    linear = _linear(name, made, found.directions, samples, found.draw, images.source)
    return found._replace(setting=linear)


def corner_rows(samples: int, trials: int, seed: int) -> pd.DataFrame:
    """R at both ends of three dials, in four corners; the core's answer at the strong end."""
    found = []
    for key, name in CORNERS.items():
        here = corner(*key, samples)
        for trial in range(trials):
            random = np.random.default_rng([seed, trial])
            for dial, (weak, strong) in _dials(here, samples, random).items():
                row = {"corner": name, "dial": dial, "trial": trial, "core": strong[1]}
                ends = {"weak": weak[0] / weak[1], "strong": strong[0] / strong[1]}
                found.append(row | ends)
    return pd.DataFrame(found)


def _dials(here: Corner, n: int, random: np.random.Generator) -> dict[str, tuple[Answers, Answers]]:
    def answers(w: np.ndarray) -> Answers:
        return tuple(float(w @ u) for u in here.directions)

    full = here.draw(n, random)
    ridge = [answers(cure.ridge_weights(*full, k)) for k in (WEAK, STRONG)]
    stopped = [answers(w) for w in cure.stopped(*full, np.array([1 / WEAK, 1 / STRONG]))]
    few = np.mean([answers(cure.ridge_weights(*here.draw(FEW, random), WEAK))
                   for _ in range(SUBSETS)], 0)  # fmt: skip
    return {"ridge": ridge, "early stopping": stopped, "few samples": (ridge[0], tuple(few))}
