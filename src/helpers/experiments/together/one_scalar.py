"""Worlds on which one felt ridge has to predict the quantities of three parts, and its limits.

A world is a population with known moments and a way to draw from it. Two inputs are added to every
sample: a rare mark as in Part II and a common attribute as in Part IV. The query of a sample is its
own background, as in Part I.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from helpers import data
from helpers.experiments.together import backgrounds
from helpers.theory import cure, smoother

Draw = tuple[np.ndarray, np.ndarray, np.ndarray]  # inputs, queries `(n, d)`, labels `(n,)`
QUANTITIES = ("own background (I)", "τ (II)", "Δ (II)", "attribute (IV)", "core (IV)")
REDRAWS = 64  # marks are drawn that often for each draw of a world
FRAME = 400  # numbers of noise around a digit
LENGTH = 5.0  # root mean square length of the features of photographs


class World(NamedTuple):
    """A population with balanced classes and mean 0.

    Attributes:
        moment: M, `(d, d)`.
        cross: moment of inputs and queries, `(d, d)`.
        label: mean of label times input, `(d,)`: the core's direction.
        draw: n samples, independent if a picture may come twice (`repeat`), which it may not else.
        source: of the data.
    """

    moment: np.ndarray
    cross: np.ndarray
    label: np.ndarray
    draw: Callable[[int, np.random.Generator, bool], Draw]
    source: str


def simulated(dim: int = 600) -> World:
    """A spectrum that falls as a power, numbers that are uniform; the core is one half of them."""
    half, random = dim // 2, np.random.default_rng(26)
    variances = np.tile(2 * (1 + np.arange(half)) ** -1.2, 2)
    core, background = np.zeros(dim), np.arange(dim) >= half
    sign = random.choice([-1.0, 1.0], half)
    core[:half] = 0.35 * np.sqrt(variances[:half]) * (1 + np.arange(half)) ** -0.25 * sign

    def draw(n: int, random: np.random.Generator, repeat: bool = True) -> Draw:
        g = random.permutation(np.resize([1.0, -1.0], n))
        noise = random.uniform(-(3**0.5), 3**0.5, (n, dim)) * np.sqrt(variances)
        x = g[:, None] * core + noise
        return x, x * background, g

    moment = np.diag(variances) + np.outer(core, core)
    return World(moment, np.diag(variances * background), core, draw, "uniform numbers")


def digits(dataset: str = "mnist5k", data_dir: str | None = None) -> World:
    """Pixels of digits 0-4 against 5-9 in frames of fresh noise; the query is the frame."""
    images = data.load(dataset, data_dir=data_dir)
    g = np.where(images.labels.numpy() > 4, 1.0, -1.0)
    x = _centred(images.images.flatten(1).double().numpy() / 255, g)
    pixels = x.shape[1]
    weight = _balanced(g)

    def draw(n: int, random: np.random.Generator, repeat: bool = True) -> Draw:
        rows = random.choice(len(g), n, replace=repeat, p=weight)
        frame = random.random((n, FRAME)) - 0.5
        blank = np.zeros((n, pixels))
        return np.c_[x[rows], frame], np.c_[blank, frame], g[rows]

    moment, cross = np.zeros((2, pixels + FRAME, pixels + FRAME))
    moment[:pixels, :pixels] = (x.T * weight) @ x
    moment[pixels:, pixels:] = cross[pixels:, pixels:] = np.eye(FRAME) / 12
    label = np.r_[(weight * g) @ x, np.zeros(FRAME)]
    return World(moment, cross, label, draw, f"{images.source}; frames of noise")


def photographs(
    dataset: str, pool: int, size: int, *, device: str = "cpu", data_dir: str | None = None
) -> World:
    """Features of a network that saw ImageNet; the query is a picture without its middle.

    Args:
        dataset, pool, size, device, data_dir: as in :func:`backgrounds.seen`.
    """
    whole, background, source = backgrounds.seen(
        dataset, pool, size, device=device, data_dir=data_dir
    )
    x, queries = whole.double().numpy(), background.double().numpy()
    pool = len(x)
    g, mean = np.repeat([-1.0, 1.0], pool // 2), x.mean(0)
    scale = LENGTH / np.sqrt(np.square(x - mean).sum(1).mean())
    x, queries = scale * (x - mean), scale * (queries - mean)

    def draw(n: int, random: np.random.Generator, repeat: bool = True) -> Draw:
        rows = random.choice(pool, n, replace=repeat)
        return x[rows], queries[rows], g[rows]

    cross = x.T @ queries / pool
    return World(x.T @ x / pool, (cross + cross.T) / 2, g @ x / pool, draw, source)


def _balanced(g: np.ndarray) -> np.ndarray:
    """Chances of the samples under which both classes have half."""
    return np.where(g > 0, 0.5 / (g > 0).sum(), 0.5 / (g < 0).sum())


def _centred(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    return x - _balanced(g) @ x


# -- measured and predicted ------------------------------------------------------------------------


def measured(world: World, drawn: Draw, ridge: float, marks: cure.Marks,
             random: np.random.Generator) -> np.ndarray:  # fmt: skip
    """The five `QUANTITIES` of one draw; those of marks are means over `REDRAWS` draws of them."""
    x, queries, g = drawn
    model = smoother.smooth(torch.from_numpy(x @ x.T), len(g) * ridge)
    own = float(model.alignment(torch.from_numpy(queries @ x.T)).mean())
    inverse, along = model.inverse.numpy(), x @ world.label
    u = np.stack([marks.draw(g, random) for _ in range(REDRAWS)])
    solved = inverse @ u
    turned = solved.transpose(0, 2, 1)
    theta = np.linalg.solve(np.eye(2) + turned @ u, (turned @ g)[..., None])[..., 0]
    core = along @ inverse @ g - (np.einsum("n,rnj->rj", along, solved) * theta).sum(1)
    size = np.sqrt([marks.strength, marks.weight])
    return np.r_[own, model.residual_share, (theta * size).mean(0), core.mean()]


def predicted(world: World, marks: cure.Marks) -> Callable[[float, int], dict[str, np.ndarray]]:
    """The same by the law, for a ridge and a size: at the felt ridge, and at two wrong scalars."""
    plain, d = cure.population(world.moment, world.label), len(world.label)
    marked = cure.population(*marks.added(world.moment, world.label))
    directions = np.zeros((3, d + 2))
    directions[0, d], directions[1, d + 1] = np.sqrt([marks.strength, marks.weight])
    directions[2, :d] = world.label

    def laws(ridge: float, samples: int) -> dict[str, np.ndarray]:
        flat = smoother.effective_ridge(plain.values.mean(), ridge, samples, counts=d)
        scalars = {"felt": plain.felt(ridge, samples), "raw": ridge, "flat": float(flat)}
        return {
            name: np.r_[
                plain.alignment(world.cross, felt, samples),
                ridge / felt,
                [marked.answer(u, felt) for u in directions],
            ]
            for name, felt in scalars.items()
        }

    return laws


# -- where the law ends ----------------------------------------------------------------------------


def share_left(x: np.ndarray, ridge: float) -> float:
    """Part II's residual share of one draw."""
    gram = torch.from_numpy(x @ x.T)
    return smoother.smooth(gram, len(x) * ridge).residual_share


def lengths_rows(world: World, n: int, ridge: float, short: float, trials: Iterable[int],
                 seed: int) -> pd.DataFrame:  # fmt: skip
    """Half of the samples shortened, the others longer, the covariance as it was."""
    values = cure.population(world.moment, world.label).values
    lengths = np.array([short, np.sqrt(2 - short**2)])
    plain = ridge / smoother.effective_ridge(values, ridge, n)
    knows = cure.residual_by_lengths(values, ridge, n, lengths)
    found = []
    for trial in trials:
        x, _, _ = world.draw(n, np.random.default_rng([seed, trial, 1]), False)
        uneven = share_left(x * np.resize(lengths, n)[:, None], ridge)
        errors = uneven / plain - 1, share_left(x, ridge) / plain - 1, uneven / knows - 1
        found += _arms("lengths that differ", trial, errors)
    return pd.DataFrame(found)


def real_lengths_rows(world: World, n: int, ridge: float, trials: Iterable[int], seed: int,
                      pool: int) -> pd.DataFrame:  # fmt: skip
    r"""Features of pictures as they are, and all brought to one length.

    What counts as a length in the law that knows of it is the square root of
    :math:`x^\top(M + k')^{-1}x`, over its mean.
    """
    everything = world.draw(pool, np.random.default_rng(seed), False)[0]
    level = LENGTH * everything / np.linalg.norm(everything, axis=1, keepdims=True)
    arms, laws = (everything, level - level.mean(0)), []
    for x in arms:
        made = cure.population(x.T @ x / pool, np.zeros(x.shape[1]))
        felt = made.felt(ridge, n)
        laws.append(ridge / felt)
        if len(laws) == 1:
            heard = ((x @ made.vectors) ** 2 / (made.values + felt)).sum(1)
            lengths = np.sqrt(heard / heard.mean())
            laws.append(cure.residual_by_lengths(made.values, ridge, n, lengths))
    plain, knows, even = laws
    found = []
    for trial in trials:
        rows = np.random.default_rng([seed, trial, 4]).choice(pool, n, replace=False)
        uneven, equal = (share_left(x[rows], ridge) for x in arms)
        errors = uneven / plain - 1, equal / even - 1, uneven / knows - 1
        found += _arms("lengths of features", trial, errors)
    return pd.DataFrame(found)


def twins_rows(
    world: World, n: int, ridge: float, trials: Iterable[int], seed: int
) -> pd.DataFrame:
    """The same pictures may come twice, or not."""
    values = cure.population(world.moment, world.label).values
    plain = ridge / smoother.effective_ridge(values, ridge, n)
    found = []
    for trial in trials:
        random = np.random.default_rng([seed, trial, 2])
        drawn = [world.draw(n, random, repeat)[0] for repeat in (True, False)]
        errors = [share_left(x, ridge) / plain - 1 for x in drawn]
        found += _arms("images that come twice", trial, errors)
    return pd.DataFrame(found)


def stopping_rows(
    world: World, n: int, time: float, trials: Iterable[int], seed: int
) -> pd.DataFrame:
    """The answer to the core after a time t, and with a ridge 1/t, by the law for the latter."""
    made, found = cure.population(world.moment, world.label), []
    law = made.answer(world.label, made.felt(1 / time, n))
    for trial in trials:
        x, _, g = world.draw(n, np.random.default_rng([seed, trial, 3]), False)
        both = cure.stopped(x, g, time), cure.ridge_weights(x, g, 1 / time)
        errors = [w @ world.label / law - 1 for w in both]
        found += _arms("early stopping", trial, errors)
    return pd.DataFrame(found)


def _arms(limit: str, trial: int, errors: Iterable[float]) -> list[dict[str, object]]:
    arms = zip(("broken", "matched", "repaired"), errors, strict=False)
    return [{"limit": limit, "arm": arm, "trial": trial, "error": error} for arm, error in arms]
