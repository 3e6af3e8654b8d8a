"""The same image in and out of the training set: networks for a likelihood-ratio attack (Part II).

Many networks share their training set but for one row, which holds another image in each of them.
So for every image there is one network that was trained on it and many that were not; and the same
images with a pattern, without, and with a wrong label. Whoever holds all these answers can ask two
questions apart: was *this image* in the training set, and was *this pattern*?

Source of the attack: Carlini et al. 2022, "Membership inference attacks from first principles";
the design is ours.
"""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers import data, probes, training
from helpers.experiments.rare import setup
from helpers.experiments.rare.membership import GREY, JUDGED, TARGET, ask, pool
from helpers.probes import membership
from helpers.sweep import Call, Cell, experiment

STACKS = 3  # networks of one stack see the same batches in the same order
WRONG = 1  # the class that an image of class TARGET is called where its label is wrong
OWN_SEED = 10**6  # of networks with weights of their own
ASKED = 5_000  # images on which accuracy is measured

# what the one row holds: the image as it is, under a wrong label, or with a pattern
PLAIN, LABEL = "plain", "label"
VARIANTS = (PLAIN, *JUDGED, LABEL)


class Material(NamedTuple):
    """One draw: what the networks share, and what each of them has in its row.

    Attributes:
        train: the shared training set.
        row: the row, of class TARGET, that is replaced.
        held: uint8 `(images, c, h, w)`: images of class TARGET that the shared set lacks.
        rest: images that no network is trained on.
    """

    train: data.Dataset
    row: int
    held: Tensor
    rest: data.Dataset


def material(call: Cell) -> Material:
    """The draw of a cell's trial.

    Raises:
        ValueError: a part so large that too few images are left.
    """
    whole = pool(call["dataset"], call["data_dir"])
    draw = torch.Generator().manual_seed(call["trial"])
    order = torch.randperm(len(whole), generator=draw)
    train, others = whole.rows(order[: call["part"]]), order[call["part"] :]
    held = others[whole.labels[others] == TARGET][: call["images"]]
    rest = others[~torch.isin(others, held)][:ASKED]
    if len(held) < call["images"] or not len(rest):
        raise ValueError(
            f"part is {call['part']}: of {len(whole)} images too few are left for "
            f"{call['images']} of class {TARGET} and others to ask"
        )
    row = int((train.labels == TARGET).nonzero()[0])
    return Material(train, row, whole.images[held], whole.rows(rest))


def shown(variant: str, images: Tensor, trial: int) -> Tensor:
    """Images as this variant shows them: floats in [0, 1], with the pattern if it is one."""
    if variant in (PLAIN, LABEL):
        return images.float() / 255
    return data.add_pattern(images, data.pattern(variant, images.shape[1:], trial))


def called(variant: str) -> int:
    """The label under which the variant's image is trained on, and asked about."""
    return WRONG if variant == LABEL else TARGET


def stack_of(image: int, images: int) -> int:
    """The stack in which the networks trained on this image (of so many) are.

    >>> [stack_of(k, 24) for k in (0, 7, 8, 23)]
    [0, 0, 1, 2]
    """
    return image * STACKS // images


def _trained(call: Call, variant: str, drawn: Material) -> Iterator[nn.Module]:
    """One network for each image of the draw, trained with this image in the row.

    ``start = "known"``: all networks of a draw have the same first weights and see the same batches
    in the same order. ``start = "own"``: the weights of each are its own, and each stack has its
    own order.
    """
    inputs, labels = setup.inputs_of(drawn.train, call.device)
    labels = labels.clone()
    labels[drawn.row] = called(variant)
    held = shown(variant, drawn.held, call.trial).to(inputs)
    row = torch.tensor([drawn.row])
    recipe = setup.recipe(call.epochs, precision=call.precision)
    known = call.start == "known"
    for stack in range(STACKS):
        members = [k for k in range(call.images) if stack_of(k, call.images) == stack]
        # of networks of their own, no two have the same first weights, whatever their variant
        first = OWN_SEED * (1 + VARIANTS.index(variant)) + call.images * call.trial
        seeds = [call.trial if known else first + k for k in members]
        nets = [setup.network(call.network, seed).to(call.device) for seed in seeds]
        name = ("in_out", variant, stack, drawn.train.source, *sorted(call.items()))
        training.train_many(
            nets, inputs, labels, recipe,
            seed=call.trial if known else STACKS * call.trial + stack,
            replaced=[(row, held[k : k + 1]) for k in members],
            checkpoint=training.checkpoint_file(name),
        )  # fmt: skip
        yield from nets


def _answers(nets: list[nn.Module], queries: Tensor, label: int) -> Tensor:
    """`(images, networks)`: each network's confidence in the label for each query."""
    labels = torch.full((len(queries),), label)
    return torch.stack(
        [torch.from_numpy(membership.confidence(ask(net, queries, labels))) for net in nets], 1
    )


def _accuracies(net: nn.Module, variant: str, call: Call, rest: data.Dataset) -> tuple:
    """Accuracy on images that nobody trained on, and on those of other classes with the pattern."""
    others = rest.rows(rest.labels != TARGET)
    asked = shown(variant, others.images, call.trial)
    clean, marked = setup.outputs(net, rest.images), setup.outputs(net, asked)
    return probes.accuracy(clean, rest.labels), probes.accuracy(marked, others.labels)


def _cells(variants: Sequence[str], images: int, **size: str | int) -> list[Cell]:
    """Every image of a draw in these variants."""
    return [
        size | dict(variant=variant, images=images, image=image)
        for variant in variants
        for image in range(images)
    ]


def in_out_cells(profile: str) -> list[Cell]:
    """Draw by draw; attackers who do not know the seeds come first."""
    if profile == "smoke":
        size = dict(dataset="mnist5k", part=1_250, network="mlp", epochs=12, start="own", trial=0)
        return _cells((PLAIN, "R3", LABEL), 6, **size)
    size, images = dict(part=17_500, network="mlp", epochs=20), 24
    plan = [("own", 0), ("own", 1)]
    if profile == "paper":
        size["epochs"], images = 70, 96
        plan.append(("known", 0))
    return [
        cell
        for start, trial in plan
        for dataset in GREY
        for cell in _cells(VARIANTS, images, start=start, trial=trial, dataset=dataset, **size)
    ]


@experiment(
    "membership_in_out",
    cells=in_out_cells,
    # training is chaotic: other neighbours in a matrix product give another network
    tolerance={"default": 6.0, "clean_accuracy": 0.05, "accuracy": 0.6, "accuracy_before": 0.6},
    cheap=lambda cell: False,
    group=itemgetter("dataset", "part", "network", "epochs", "images", "start", "trial"),
    half=True,
)
def in_out(calls: list[Call]) -> list[dict[str, float | str]]:
    """One row an image and variant: what every network of the draw says of it.

    Column `with_k` is the confidence (:func:`.membership.confidence`), in the label under which the
    variant's image was trained on, of the network that had image k in its row; so in the row of
    image k this network is the only one that was trained on what it is asked. `without_k` is the
    same number of the networks that had the plain image k in that row: of image k without the
    pattern, of other images neither. `accuracy` is that of network k on images of other classes
    with the variant's pattern, `accuracy_before` that of the network of the plain image k on the
    same.
    """
    first = Call(calls[0])
    setting = Call({key: value for key, value in first.items() if key not in ("variant", "image")})
    drawn = material(first)
    plain = list(_trained(setting, PLAIN, drawn))
    tables = {}
    for variant in dict.fromkeys(call.variant for call in calls):
        nets = plain if variant == PLAIN else list(_trained(setting, variant, drawn))
        queries, label = shown(variant, drawn.held, first.trial), called(variant)
        tables[variant] = (
            [_answers(each, queries, label) for each in (nets, plain)],
            [
                [_accuracies(net, variant, first, drawn.rest) for net in each]
                for each in (nets, plain)
            ],
        )
    return [_row(call, *tables[call.variant]) | {"data_source": drawn.train.source}
            for call in calls]  # fmt: skip


def _row(call: Call, answers: list[Tensor], accuracies: list[list[tuple]]) -> dict[str, float]:
    k = call.image
    row = {
        f"{name}_{j}": round(float(table[k, j]), 3)
        for name, table in zip(("with", "without"), answers, strict=True)
        for j in range(call.images)
    }
    (clean, accuracy), (_, before) = accuracies[0][k], accuracies[1][k]
    return row | dict(clean_accuracy=clean, accuracy=accuracy, accuracy_before=before)
