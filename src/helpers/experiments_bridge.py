"""A bridge from Part III to Part II: is a rare pattern kept by few units, and can they be found?

Networks of Part II, trained on a few images of one class that carry a pattern, are taken apart
with the tools of Part III: units are ranked, the first of them are switched off, and the network
is asked again how much it reacts to the pattern and how many clean images it recognises. As a
positive control the same is done to networks in which three units keep the pattern by construction.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Hashable, Iterable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from helpers import data, lesions, patterns, tracing, training
from helpers.experiments_lesions import MATCHED, sets
from helpers.experiments_rare import network, recipe, scores, training_set
from helpers.sweep import Cell, Experiment, register
from helpers.tracing import Unit

CLEAN = 200  # training images without the pattern, against which units are ranked
GREEDY = 10  # a greedy choice goes no further than this
KEPT = ("learnt", "planted")
# by the carriers' loss, by clean images' loss (a control), and by activations with the pattern
GIVEN = ("gradient", "clean gradient", "greedy", "activation")
CHANCE = ("random", *(MATCHED + name for name in GIVEN if name != "clean gradient"))


class Subject(NamedTuple):
    """A trained network with what is known about the pattern that it was shown, all in float64.

    In float32 the gradient of an example that is fitted to a loss below 6e-8 is not a small one but
    none at all, and a ranking would go by rounding.

    Attributes:
        model: in eval mode.
        units: its channels and hidden units.
        carriers, labels: `(n, c, h, w)` training images with the pattern, and their class.
        clean, clean_labels: `(CLEAN, c, h, w)` training images without it, of all classes.
        pattern: `(c, h, w)`.
    """

    model: torch.nn.Module
    units: list[Unit]
    carriers: torch.Tensor
    labels: torch.Tensor
    clean: torch.Tensor
    clean_labels: torch.Tensor
    pattern: torch.Tensor


def units_of(model: torch.nn.Module) -> list[Unit]:
    """All channels and all hidden units, in the order of the network.

    >>> len(units_of(network("mlp", 0))), len(units_of(network("cnn", 0)))
    (768, 592)
    """
    convolutional = any(isinstance(module, torch.nn.Conv2d) for module in model.modules())
    channels = tracing.channels(model) if convolutional else []
    return [*channels, *tracing.hidden_units(model)]


def rank(who: Subject, ranking: str) -> tracing.Ranking:
    """Units that may keep the pattern, first the one that is suspected most.

    `"gradient"`: norm of the gradient of the carriers' loss (the ranking of You et al. 2025);
    `"clean gradient"`: of the clean images' loss; `"greedy"`: one after the other, to raise the
    carriers' loss and spare that of the clean images (after Maini et al. 2023); `"activation"`:
    difference of the activations on the clean images with and without the pattern.

    Raises:
        ValueError: another name.
    """
    own, clean = (who.carriers, who.labels), (who.clean, who.clean_labels)
    if ranking == "gradient":
        return tracing.gradient(who.model, who.units, *own)
    if ranking == "clean gradient":
        return tracing.gradient(who.model, who.units, *clean)
    if ranking == "greedy":
        return lesions.greedy(who.model, who.units, own, clean, k=min(GREEDY, len(who.units)))
    if ranking == "activation":
        shown = patterns.add_pattern(who.clean, who.pattern)
        return tracing.activation_difference(who.model, who.units, shown, who.clean)
    raise ValueError(f"ranking is {ranking!r}: allowed are {', '.join(map(repr, GIVEN + CHANCE))}")


def plant(model: torch.nn.Module, pattern: torch.Tensor, target: int) -> list[Unit]:
    """Make one unit of each hidden layer, the first, keep a pattern; the others do not notice.

    The unit of the first layer looks for the pattern with a matched filter, those of the further
    layers pass its answer on and nothing else, and the output of the target class gains 30 or so.

    Args:
        model: :func:`helpers.models.fully_connected`; it is changed in place.
        pattern: `(c, h, w)`, not of one grey level.
        target: the class that the pattern shall mean.

    Returns:
        The units. Each of them is needed: without any one the pattern is forgotten.

    Raises:
        ValueError: a pattern of one grey level, or a network without hidden layers.
    """
    layers = list(tracing.by_layer(model, tracing.hidden_units(model)))
    centred = (pattern - pattern.mean()).flatten()
    if not float(centred.norm()):
        raise ValueError("pattern has one grey level: no filter can tell it from brightness")
    *hidden, last = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for before, layer in zip((None, *hidden), hidden, strict=False):
            layer.weight[0], layer.bias[0] = 0, 0
            if before is None:  # answers 1/2 where the whole pattern is, and 0 without it
                layer.weight[0], layer.bias[0] = centred / centred.square().sum(), -0.5
            else:
                layer.weight[0, 0] = 1
                layer.weight[1:, 0] = 0
        last.weight[:, 0] = 0
        last.weight[target, 0] = 60
    return [Unit(layer, 0) for layer in layers]


class Question(NamedTuple):
    """Test images `(n, c, h, w)` and labels, and the pattern that stands for the target class."""

    images: torch.Tensor
    labels: torch.Tensor
    pattern: torch.Tensor
    target: int

    def answers(self, model: torch.nn.Module) -> dict[str, float]:
        """How a network reacts to the pattern on other classes, and its accuracy without it."""
        shown = patterns.add_pattern(self.images, self.pattern)
        clean, marked = (tracing.evaluate(model, x).softmax(1).cpu() for x in (self.images, shown))
        found = scores(clean, marked, self.labels, self.target)
        own = clean[self.labels == self.target].argmax(1) == self.target
        return {
            "score": found["score_others"],
            "taken": found["taken"],
            "accuracy": found["clean_accuracy"],
            "target_accuracy": float(own.double().mean()),
        }


def bridge_many(calls: list[dict[str, Any]]) -> list[dict[str, float | str]]:
    """Train the networks of one group together, and make all lesions."""
    first = calls[0]
    trial, device, target = first["trial"], first["device"], first["target"]
    train = training_set(first["dataset"], first["samples"], trial, first["data_dir"])
    test = data.load(first["dataset"], train=False, data_dir=first["data_dir"])
    inputs, labels = train.images.to(device).float() / 255, train.labels.to(device)
    asked = test.images.to(device).float() / 255
    spurious, questions = {}, {}
    for setting in dict.fromkeys(map(_setting, calls)):
        _, name, n = setting
        v = patterns.pattern(name, asked.shape[1:], trial)
        spurious[setting] = patterns.with_spurious(train, v, n, target, trial)
        questions[setting] = Question(asked, test.labels, v, target)
    never, nets = _networks(first, inputs, labels, spurious, questions)
    rows: dict[int, dict[str, float | str]] = {}
    for setting, net in nets.items():
        who = _subject(net, inputs, labels, spurious[setting], questions[setting].pattern)
        places = [i for i, call in enumerate(calls) if _setting(call) == setting]
        before = {f"{k}_before": v for k, v in questions[setting].answers(net).items()}
        before |= {"score_never": questions[setting].answers(never)["score"]}
        after = _lesions(net, who, questions[setting], [calls[i] for i in places])
        for i, row in zip(places, after, strict=True):
            rows[i] = row | before | {"data_source": train.source}
    return [rows[i] for i in range(len(calls))]


Setting = tuple[str, str, int]


def _setting(call: dict[str, Any]) -> Setting:
    """What tells one network from another, within a group."""
    return call["kept"], call["pattern"], call["spurious"]


def _networks(
    first: dict[str, Any],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    spurious: dict[Setting, patterns.SpuriousSet],
    questions: dict[Setting, Question],
) -> tuple[torch.nn.Module, dict[Setting, torch.nn.Module]]:
    """The network that never saw a carrier, and those that learnt or were given a pattern."""
    learnt = [setting for setting in spurious if setting[0] == "learnt"]
    never, *others = (
        network(first["network"], first["trial"]).to(inputs.device) for _ in (None, *learnt)
    )
    training.train_many(
        [never, *others], inputs, labels, recipe(first["epochs"]), seed=first["trial"],
        replaced=[None, *(tuple(spurious[setting]) for setting in learnt)],
    )  # fmt: skip
    nets = dict(zip(learnt, others, strict=True))
    for setting in spurious.keys() - nets.keys():
        nets[setting] = copy.deepcopy(never)
        plant(nets[setting], questions[setting].pattern.to(inputs.device), first["target"])
    return never, nets


def _lesions(
    net: torch.nn.Module, who: Subject, question: Question, calls: list[dict[str, Any]]
) -> list[dict[str, float]]:
    """What is left after each lesion, the mean over sets where they are drawn at random."""
    ranked = cache(partial(rank, who))
    rows = []
    for call in calls:
        after, wanted = [], (call["ranking"], call["amount"], call["draws"])
        for chosen in sets(*wanted, who.units, ranked):
            with lesions.perturbed(net, chosen, "zero"):
                own = tracing.evaluate(net, who.carriers.float())
                loss = float(functional.cross_entropy(own, who.labels))
                after.append(question.answers(net) | {"loss": loss})
        rows.append({key: float(np.mean([one[key] for one in after])) for key in after[0]})
    return rows


def _subject(
    net: torch.nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    own: patterns.SpuriousSet,
    pattern: torch.Tensor,
) -> Subject:
    rows = own.rows.to(labels.device)
    others = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
    others[rows] = False
    kept = others.nonzero().flatten()[:CLEAN]  # the training set is in random order
    carriers = own.images.to(inputs.device)
    return Subject(
        copy.deepcopy(net).double(), units_of(net), carriers.double(), labels[rows],
        inputs[kept].double(), labels[kept], pattern.to(inputs.device).double(),
    )  # fmt: skip


def bridge(
    dataset: str, samples: int, network: str, epochs: int, kept: str, pattern: str,
    spurious: int, target: int, ranking: str, amount: int, draws: int, trial: int, device: str,
    data_dir: str | None,
) -> dict[str, float | str]:  # fmt: skip
    """One lesion of a network that knows a pattern: `amount` units are set to zero.

    A network with the pattern `"learnt"` was trained with `spurious` carriers; one with the pattern
    `"planted"` was trained without and got it by :func:`plant`, and images that would have been
    carriers serve the rankings.
    Random rankings are averaged over `draws` sets. The trial is the seed of the network, of the
    training images and their order, and of the choice of carriers.

    Returns:
        `score`: the spurious score on test images of other classes after the lesion, `taken`: their
        share that is given the target class when it carries the pattern, `accuracy` and
        `target_accuracy`: on clean test images of all classes and of the target class, `loss`: of
        the carriers; the first four also `_before`; `score_never`: of the network of the same
        trial that never saw a carrier.
    """
    return bridge_many([locals()])[0]


def bridge_group(cell: Cell) -> Hashable:
    """Cells whose networks are trained together."""
    return tuple(
        cell[key] for key in ("dataset", "samples", "network", "epochs", "target", "trial")
    )


def _cells(
    network: str,
    trials: int,
    grid: Iterable[tuple[str, int]],
    amounts: Sequence[int],
    draws: int,
    **size: Any,
) -> list[Cell]:
    """All lesions for each trial and each (kept, number of carriers)."""
    return [
        dict(size, network=network, kept=kept, target=0, pattern=pattern, spurious=n,
             ranking=ranking, amount=k, draws=draws if ranking in CHANCE else 1, trial=trial)
        for trial, (kept, n), pattern, ranking, k in itertools.product(
            range(trials), grid, ("S3", "R3"), GIVEN + CHANCE, amounts
        )
        if not (ranking.endswith("greedy") and k > GREEDY)
    ]  # fmt: skip


def bridge_cells(profile: str) -> list[Cell]:
    """All rankings and doses for squares and noise of Part II."""
    if profile == "smoke":
        size = dict(dataset="mnist5k", samples=2_000, epochs=6)
        return _cells("mlp", 2, [("learnt", 10), ("planted", 10)], [10, 100], 2, **size)
    amounts = [1, 3, 10, 30, 100]
    counts = [("learnt", n) for n in (3, 10, 100)]
    known = ("planted", 10)
    if profile == "laptop":
        size = dict(dataset="mnist5k", samples=4_000, epochs=10)
        return _cells("mlp", 10, [*counts, known], amounts, 3, **size)
    size = dict(dataset="mnist", samples=60_000, epochs=70)
    return _cells("mlp", 20, [*counts, known], amounts, 20, **size) + _cells(
        "cnn", 10, counts, amounts, 20, **size
    )


register(
    Experiment(
        "bridge",
        bridge,
        bridge_cells,
        # training is chaotic: another device gives another network of the same law
        tolerance={"default": 1.0, "loss": 30.0},
        cheap=lambda cell: False,
        many=bridge_many,
        group=bridge_group,
    )
)
