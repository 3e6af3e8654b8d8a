"""A bridge from Part III to Part II: is a rare pattern kept by few units, and can they be found?

Networks of Part II, trained on a few images of one class that carry a pattern, are taken apart
with the tools of Part III: units are ranked, the first of them are switched off, and the network
is asked again how much it reacts to the pattern and how many clean images it recognises. As a
positive control the same is done to networks in which three units keep the pattern by construction.
"""

import copy
import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
from torch.nn import functional

from helpers import data, probes
from helpers.experiments.minority.networks import mean_of
from helpers.experiments.rare import setup
from helpers.probes import Unit, lesions, tracing
from helpers.sweep import Call, Cell, experiment

CLEAN = 200  # training images without the pattern, against which units are ranked
GREEDY = 10  # a greedy choice goes no further than this
KEPT = ("learnt", "planted")
MATCHED = "layer-matched like "
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

    >>> len(units_of(setup.network("mlp", 0))), len(units_of(setup.network("cnn", 0)))
    (768, 592)
    """
    convolutional = any(isinstance(module, torch.nn.Conv2d) for module in model.modules())
    channels = probes.channels(model) if convolutional else []
    return [*channels, *probes.hidden_units(model)]


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
        return tracing.greedy(who.model, who.units, own, clean, k=min(GREEDY, len(who.units)))
    if ranking == "activation":
        shown = data.add_pattern(who.clean, who.pattern)
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
    layers = list(probes.by_layer(model, probes.hidden_units(model)))
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
        shown = data.add_pattern(self.images, self.pattern)
        clean, marked = (probes.evaluate(model, x).softmax(1).cpu() for x in (self.images, shown))
        found = setup.scores(clean, marked, self.labels, self.target)
        own = self.labels == self.target
        return {
            "score": found["score_others"],
            "taken": found["taken"],
            "accuracy": found["clean_accuracy"],
            "target_accuracy": probes.accuracy(clean[own], self.labels[own]),
        }


def _setting(call: Call) -> tuple[str, str, int]:
    """What tells one network from another, within a group."""
    return call.kept, call.pattern, call.spurious


def sets(
    ranking: str, amount: int, draws: int, units: Sequence[Unit],
    ranked: Callable[[str], tracing.Ranking],
) -> Iterator[Sequence[Unit]]:  # fmt: skip
    """The first `amount` units of a ranking, or `draws` random sets of as many.

    Args:
        ranking: a name that `ranked` knows, "random", or one behind :data:`MATCHED`, for sets with
            as many units of each layer as the first of that ranking.
        amount, draws: how many units, and sets.
        units: those to draw from.
        ranked: makes the ranking of a name.
    """
    if ranking == "random":
        yield from (tracing.random(units, seed=s).top(amount) for s in range(draws))
    elif ranking.startswith(MATCHED):
        chosen = ranked(ranking.removeprefix(MATCHED)).top(amount)
        yield from (tracing.layer_matched(chosen, units, seed=s) for s in range(draws))
    else:
        yield ranked(ranking).top(amount)


def _lesions(
    net: torch.nn.Module, who: Subject, question: Question, calls: list[Call]
) -> list[dict[str, float]]:
    """What is left after each lesion, the mean over sets where they are drawn at random."""
    ranked, rows = cache(partial(rank, who)), []
    for call in calls:
        after = []
        for chosen in sets(call.ranking, call.amount, call.draws, who.units, ranked):
            with lesions.perturbed(net, chosen, "zero"):
                own = probes.evaluate(net, who.carriers.float())
                loss = float(functional.cross_entropy(own, who.labels))
                after.append(question.answers(net) | {"loss": loss})
        rows.append(mean_of(after))
    return rows


def _subject(
    net: torch.nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    own: data.SpuriousSet,
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


def bridge_group(cell: Cell) -> Hashable:
    """Cells whose networks are trained together."""
    return tuple(
        cell[key] for key in ("dataset", "samples", "network", "epochs", "target", "trial")
    )


def bridge_cells(profile: str) -> list[Cell]:
    """All rankings and doses for squares and noise of Part II."""
    learnt, planted = [("learnt", n) for n in (3, 10, 100)], [("planted", 10)]
    amounts = [1, 3, 10, 30, 100]
    # size, and (network, trials, (kept, carriers), amounts, draws)
    size, plans = {
        "smoke": (
            dict(dataset="mnist5k", samples=2_000, epochs=6),
            [("mlp", 2, [("learnt", 10), *planted], [10, 100], 2)],
        ),
        "laptop": (
            dict(dataset="mnist5k", samples=4_000, epochs=10),
            [("mlp", 10, learnt + planted, amounts, 3)],
        ),
        "paper": (
            dict(dataset="mnist", samples=60_000, epochs=70),
            [("mlp", 20, learnt + planted, amounts, 20), ("cnn", 10, learnt, amounts, 20)],
        ),
    }[profile]
    return [
        dict(size, network=network, kept=kept, target=0, pattern=pattern, spurious=n,
             ranking=ranking, amount=k, draws=draws if ranking in CHANCE else 1, trial=trial)
        for network, trials, kinds, amounts, draws in plans
        for trial, (kept, n), pattern, ranking, k in itertools.product(
            range(trials), kinds, ("S3", "R3"), GIVEN + CHANCE, amounts
        )
        if not (ranking.endswith("greedy") and k > GREEDY)
    ]  # fmt: skip


@experiment(
    "bridge",
    cells=bridge_cells,
    # training is chaotic: another device gives another network of the same law
    tolerance={"default": 1.0, "loss": 30.0},
    cheap=lambda cell: False,
    group=bridge_group,
)
def bridge(calls: list[Call]) -> list[dict[str, float | str]]:
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
    first = calls[0]
    train, test = setup.sets(first)
    inputs, labels = setup.inputs_of(train, first.device)
    asked, _ = setup.inputs_of(test, first.device)
    settings = {_setting(call): call for call in calls}
    learnt = {name: call for name, call in settings.items() if call.kept == "learnt"}
    never, *others = setup.trained(
        [Call(first, spurious=0), *learnt.values()], train, lambda call: setup.recipe(call.epochs)
    )
    nets = {name: one.net for name, one in zip(learnt, others, strict=True)}
    rows: list[dict[str, float | str]] = [{} for _ in calls]
    for name, call in settings.items():
        pattern, carriers = setup.spurious_set(call, train)
        if name not in nets:
            nets[name] = copy.deepcopy(never.net)
            plant(nets[name], pattern.to(first.device), call.target)
        question = Question(asked, test.labels, pattern, call.target)
        before = {f"{k}_before": v for k, v in question.answers(nets[name]).items()}
        before |= {"score_never": question.answers(never.net)["score"]}
        who = _subject(nets[name], inputs, labels, carriers, pattern)
        places = [i for i, other in enumerate(calls) if _setting(other) == name]
        after = _lesions(nets[name], who, question, [calls[i] for i in places])
        for i, row in zip(places, after, strict=True):
            rows[i] = row | before | {"data_source": train.source}
    return rows
