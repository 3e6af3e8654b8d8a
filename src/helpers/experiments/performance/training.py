"""How long many small networks take to train, next to the obvious ways and to the arithmetic.

All ways of a trial take turns in one process, round after round, and start from the same fresh
weights: their ratios mean something even where the machine's speed drifts.
"""

import itertools
import math
import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from helpers import data, models, training
from helpers.experiments.performance.clock import TIMED, timed
from helpers.experiments.rare import setup
from helpers.sweep import Call, Cell, experiment, grid, pick
from helpers.training import lockstep, stacked

PIXELS, HIDDEN, CLASSES, BATCH = 28 * 28, (256,) * 3, 10, 128
DEAD = 67  # pixels that are zero in all of MNIST's 60,000 training images
WORKERS = 2


class Task(NamedTuple):
    """Digits as floats `(n, 1, 28, 28)`, `lit` with no dead pixel, and samples of each network."""

    inputs: torch.Tensor
    lit: torch.Tensor
    labels: torch.Tensor
    test: TensorDataset
    replaced: list[training.Replaced]


def task(networks: int, samples: int, seed: int) -> Task:
    """Each network has 1 to a thirtieth of the samples to itself, up to 2,000 in 60,000."""
    digits, others = (data.load("mnist5k", train=train) for train in (True, False))
    lit = digits.images[:samples].float() / 255
    dead = (lit == 0).all(0).flatten().nonzero().flatten()
    lit[0].view(-1)[dead] = 1 / 255
    inputs = lit.clone()
    inputs[0].view(-1)[dead[:DEAD]] = 0
    draw = torch.Generator().manual_seed(seed)
    mark = data.pattern("R3", inputs.shape[1:], seed)
    replaced = []
    for k in range(networks):
        count = round((samples / 30) ** (k / max(1, networks - 1)))
        rows = torch.randperm(samples, generator=draw)[:count]
        replaced.append((rows, data.add_pattern(inputs[rows], mark)))
    few = samples // 6  # as many test images for a training image as MNIST has
    test = TensorDataset(others.images[:few].float() / 255, others.labels[:few])
    return Task(inputs, lit, digits.labels[:samples], test, replaced)


def fresh(networks: int) -> list[nn.Module]:
    """So many untrained networks, each with its own seed."""
    return [models.fully_connected(PIXELS, HIDDEN, CLASSES, seed=k) for k in range(networks)]


def recipe(epochs: int) -> training.Recipe:
    """How all ways train."""
    return training.Recipe(epochs=epochs, batch=BATCH, learning_rate=0.01)


# -- ways to train --------------------------------------------------------------------------------


def loader(net: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """The loop of every tutorial, without workers and without a look at the loss."""
    batches = DataLoader(TensorDataset(inputs, labels), batch_size=BATCH, shuffle=True)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(epochs):
        for shown, wanted in batches:
            optimiser.zero_grad()
            functional.cross_entropy(net(shown), wanted).backward()
            optimiser.step()


class Weighted(Dataset):
    """Samples one at a time, each with its weight in the loss."""

    def __init__(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        self.inputs, self.labels, self.weights = inputs, labels, torch.ones(len(labels))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.inputs[i], self.labels[i], self.weights[i]


def released(
    net: nn.Module, optimiser: torch.optim.Optimizer, batches: DataLoader, test: DataLoader
) -> float:
    """One epoch in the released way, plainly: items and weights from workers.

    The mode changes in every step; all test images follow in batches of 32 after the epoch.
    """
    for shown, wanted, weights in batches:
        net.train()
        optimiser.zero_grad()
        losses = functional.cross_entropy(net(shown), wanted, reduction="none")
        (weights * losses).mean().backward()
        optimiser.step()
        net.eval()
    hits = 0
    with torch.no_grad():
        for shown, wanted in test:
            hits += (net(shown).argmax(1) == wanted).sum().item()
    return hits / max(1, len(test.dataset))


def products(networks: int, dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    """Nothing but the matrix products of one step of that many networks, side by side."""
    sizes = (PIXELS, *HIDDEN, CLASSES)
    draw = partial(torch.randn, dtype=dtype)
    shown = draw(BATCH, PIXELS)
    weights = [draw(networks, b, a) for a, b in itertools.pairwise(sizes)]
    outputs = [draw(networks, b, BATCH) for b in sizes[1:]]
    slopes = [draw(networks, b, BATCH) for b in sizes[1:]]
    below = [torch.empty_like(out) for out in outputs[:-1]]
    gradients, forward = ([torch.empty_like(each) for each in e] for e in (weights, outputs))

    def step() -> None:
        torch.mm(weights[0].flatten(0, 1), shown.T, out=forward[0].flatten(0, 1))
        torch.mm(slopes[0].flatten(0, 1), shown, out=gradients[0].flatten(0, 1))
        for k in range(1, len(weights)):
            torch.bmm(weights[k], outputs[k - 1], out=forward[k])
            torch.bmm(slopes[k], outputs[k - 1].transpose(1, 2), out=gradients[k])
            torch.bmm(weights[k].transpose(1, 2), slopes[k], out=below[k - 1])

    return step


def operations() -> float:
    """Floating-point operations of `products`, a network."""
    entries = [a * b for a, b in itertools.pairwise((PIXELS, *HIDDEN, CLASSES))]
    return 2.0 * BATCH * (3 * sum(entries) - entries[0])


def adam(networks: int) -> Callable[[], None]:
    """Nothing but the optimiser's step on the stacked weights."""
    weights, _ = torch.func.stack_module_state(fresh(networks))
    views = [p.detach() for p in weights.values()]
    for view in views:
        view.grad = 1e-3 * torch.randn_like(view)
    return training.make_optimiser(recipe(1), [{"params": views}]).step


def shared_steps(spurious: int, samples: int, epochs: int) -> float:
    """Expected share of the steps before the first spurious image. Computed, not measured.

    Until then all networks of one seed are one network.
    """
    starts = range(BATCH, samples, BATCH)
    clean = sum(math.comb(samples - s, spurious) / math.comb(samples, spurious) for s in starts)
    return clean / (epochs * math.ceil(samples / BATCH))


# -- measured -------------------------------------------------------------------------------------


def _seconds(way: Callable[[], object], repeats: int = 1) -> float:
    return timed(way, repeats)[0]


def _each(nets: list[nn.Module], way: Callable[..., object], *arguments: object, **named) -> None:
    for net in nets:
        way(net, *arguments, **named)


def _one_round(networks: int, found: Task, epochs: int, seed: int) -> dict[str, float]:
    """Milliseconds a step and network of every way to train linear layers."""
    steps = epochs * math.ceil(len(found.labels) / BATCH)
    x, y, how = found.inputs, found.labels, recipe(epochs)
    many, one = partial(training.train_many, seed=seed), partial(training.train, seed=seed)
    nested = [nn.Sequential(net) for net in fresh(networks)]  # hides that it is an MLP
    seconds = {
        "together": _seconds(partial(many, fresh(networks), x, y, how)),
        "patched": _seconds(partial(many, fresh(networks), x, y, how, replaced=found.replaced)),
        "alone": _seconds(partial(_each, fresh(networks), one, x, y, how)),
        "loader": _seconds(partial(_each, fresh(networks), loader, x, y, epochs)),
        "products": _seconds(products(networks), steps),
        "adam": _seconds(adam(networks), steps),
        "lit": _seconds(partial(many, fresh(networks), found.lit, y, how)),
        "vmap": _seconds(partial(many, nested, x, y, how, lockstep=True)),
    }
    milliseconds = {name: 1e3 * s / (steps * networks) for name, s in seconds.items()}
    # 16 bits are slow on processors without instructions for them
    repeats = max(1, steps // 10)
    halves = _seconds(products(networks, torch.bfloat16), repeats)
    return milliseconds | {"products_bf16": 1e3 * halves / (repeats * networks)}


def _convolutional(networks: int, found: Task, seed: int) -> dict[str, float]:
    """The same for the CNN, in lock step and one by one: a few networks, a few steps."""
    x, y = found.inputs[: 4 * BATCH], found.labels[: 4 * BATCH]
    made = [models.trades_cnn(CLASSES, seed=k) for k in range(2 * networks)]
    scale = 1e3 / (networks * math.ceil(len(y) / BATCH))
    train = partial(training.train_many, inputs=x, labels=y, recipes=recipe(1), seed=seed)
    return {
        "cnn_together": scale * _seconds(partial(train, made[:networks], lockstep=True)),
        "cnn_alone": scale * _seconds(partial(train, made[networks:], lockstep=False)),
    }


@contextmanager
def _loaders(found: Task) -> Iterator[tuple[DataLoader, DataLoader]]:
    """Loaders whose workers live on between epochs: their start is not what is measured."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of more workers than cores, of forks beside threads
        settings = {"num_workers": WORKERS, "persistent_workers": True}
        weighted = Weighted(found.inputs, found.labels)
        batches = DataLoader(weighted, batch_size=BATCH, shuffle=True, **settings)
        yield batches, DataLoader(found.test, batch_size=32, **settings)


def late(networks: int, found: Task, epochs: int, seed: int) -> dict[str, float]:
    """Milliseconds a step and network in the last fifth of a training, in one thread.

    Where tiny numbers count as zero and where they do not; and the largest loss there.
    """
    how = [setup.recipe(epochs)] * networks
    device = found.inputs.device
    runs, seconds = {}, {True: [], False: []}
    for flush in seconds:
        none = stacked.Rows([None] * networks, found.inputs)
        stack = stacked.StackedMLPs(fresh(networks), how, found.inputs, found.labels, none)
        draw = training.Randomness(seed, device)
        runs[flush] = lockstep.LockstepRun(stack, how, list(range(networks))), draw
    with training.one_thread(), training.randomness(seed, device):
        for _, (flush, (run, draw)) in itertools.product(range(epochs), runs.items()):
            torch.set_flush_denormal(flush)
            seconds[flush].append(_seconds(partial(run.one_epoch, draw)))
    scale = 1e3 / (networks * math.ceil(len(found.labels) / BATCH))
    last = max(1, epochs // 5)
    return {
        "late_flushed": scale * statistics.median(seconds[True][-last:]),
        "late_plain": scale * statistics.median(seconds[False][-last:]),
        "late_loss": max(history.loss for history in runs[True][0].histories),
    }


def difference(networks: int, found: Task, seed: int) -> float:
    """Largest difference of a weight after an epoch of `train_many` and of `train`, in float64."""
    together, alone = ([net.double() for net in fresh(networks)] for _ in range(2))
    x, y, own = found.inputs.double(), found.labels, found.replaced[-networks:]
    training.train_many(together, x, y, recipe(1), seed=seed, replaced=own)
    for net, (rows, samples) in zip(alone, own, strict=True):
        inputs = x.clone()
        inputs[rows] = samples.double()
        training.train(net, inputs, y, recipe(1), seed=seed)
    pairs = zip(
        *(itertools.chain(*(net.parameters() for net in nets)) for nets in (together, alone)),
        strict=True,
    )
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def _cells(profile: str) -> list[Cell]:
    few = dict(samples=192, epochs=1, rounds=1, cnns=1, fitted=3)
    full = dict(samples=3_840, epochs=4, rounds=3, cnns=4, fitted=30)
    counts, size, trials = pick(
        profile, (4, few, 1), ((1, 4, 16), full, 1), ((1, 4, 16, 36), full, 5)
    )
    return grid(networks=counts, **size, trial=range(trials))


@experiment("train_performance", cells=_cells, **TIMED)
def train_performance(call: Call) -> dict[str, float | str]:
    """Milliseconds a step and network: medians over `rounds` of `epochs`.

    `cnns` is the number of CNNs, `fitted` that of the epochs whose last are late.
    """
    networks, samples, trial = call.networks, call.samples, call.trial
    found, smallest = task(networks, samples, trial), task(networks, BATCH, trial)
    _one_round(networks, smallest, 1, trial)  # libraries loaded, threads started, memory mapped
    _convolutional(1, smallest, trial)
    with _loaders(found) as loaders:
        (net,) = fresh(1)
        epoch = partial(released, net, torch.optim.Adam(net.parameters(), lr=0.01), *loaders)
        epoch()
        taken = []
        for _ in range(call.rounds):
            taken.append(_one_round(networks, found, call.epochs, trial))
            taken[-1] |= _convolutional(call.cnns, found, trial)
            net.load_state_dict(fresh(1)[0].state_dict())
            taken[-1]["released"] = 1e3 * _seconds(epoch) / math.ceil(samples / BATCH)
    medians = {name: statistics.median(each[name] for each in taken) for name in taken[0]}
    return (
        medians
        | late(min(networks, 2), found, call.fitted, trial)
        | {
            "difference": difference(min(networks, 4), found, trial),
            "operations": operations(),
            "threads": torch.get_num_threads(),
            "data_source": data.load("mnist5k").source,
        }
    )
