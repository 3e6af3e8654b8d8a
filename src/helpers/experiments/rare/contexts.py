"""The experiment of the chapter on natural contexts: a few pictures of one object in a new context.

NICO++ itself takes a fine-tuned ResNet-50 and the reader's own copy of the data. What runs without
it is a surrogate: pictures of CIFAR-10 in rendered contexts, seen through a small network that has
been trained on ImageNet, with a head on its features; or a small network from scratch.
"""

import itertools
import math
from dataclasses import replace
from functools import lru_cache
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from helpers import data, models, training
from helpers.data import contexts, nicopp
from helpers.data.contexts import Pool, TrialSplit, trial_split
from helpers.dependencies import code_of
from helpers.experiments.rare import setup
from helpers.sweep import Call, Cell, experiment

HEADS = {"linear": (), "mlp": (64,)}  # hidden units of heads on frozen features (digits: on pixels)
MODELS = (*HEADS, "small resnet", "resnet50")
SIZE = {"mnist5k": 28, "cifar10": 96}  # pixels of rendered pictures
THUMBNAIL = 32  # pixels that the small network sees
POOL_SEED = 0  # one pool for all trials, as NICO++ is one
CONTEXTS = ("autumn", "dim", "grass")  # of the paper's trials
TARGETS = {
    "mnist5k": ("0", "1", "8"),
    "cifar10": ("airplane", "cat", "truck"),
    "nicopp": ("airplane", "bicycle", "dog"),
}


# -- pictures and features ------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _rendered(
    dataset: str, samples: int, device: str, data_dir: str | None
) -> tuple[Pool, Tensor | None]:
    """Thumbnails in contexts, and what the backbone says about them in full size (not of digits).

    Both are kept in `_build/features`, since rendering and backbone take minutes.
    """
    if dataset == "mnist5k":
        return contexts.rendered(dataset, samples, SIZE[dataset], POOL_SEED, data_dir), None
    source = data.load(dataset, data_dir=data_dir).source
    code = code_of("helpers.data.contexts", "helpers.models.backbones")
    identity = (source, samples, SIZE[dataset], POOL_SEED, code)
    file = training.checkpoint_file(identity, "features")
    if file.is_file():
        kept = training.load_whole(file, dict)
        return Pool(**kept["pool"]), kept["features"]
    pool = contexts.rendered(dataset, samples, SIZE[dataset], POOL_SEED, data_dir)
    net = models.efficientnet_lite0().to(device)
    features = torch.cat(
        [training.predict(net, part.to(device).float()).cpu() for part in pool.inputs.split(128)]
    )
    small = functional.adaptive_avg_pool2d(pool.inputs.float(), THUMBNAIL).round()
    pool = replace(pool, inputs=small.to(torch.uint8))
    training.save_whole({"pool": vars(pool), "features": features}, file)
    return pool, features


def pool_for(dataset: str, samples: float, model: str, device: str, data_dir: str | None) -> Pool:
    """The pool of a data set, its inputs as this model takes them.

    Raises:
        ValueError: an unknown data set or model, or a model that does not go with the data.
        DatasetNotFound: the pictures are not on this machine.
    """
    if model not in MODELS:
        raise ValueError(f"model is {model!r}: allowed are {', '.join(map(repr, MODELS))}")
    if dataset not in TARGETS:
        raise ValueError(f"dataset is {dataset!r}: allowed are {', '.join(map(repr, TARGETS))}")
    if (model == "resnet50") != (dataset == "nicopp"):
        raise ValueError(f"model is {model!r} for {dataset!r}: 'resnet50' goes with 'nicopp' alone")
    if dataset == "nicopp":
        return nicopp.pool(data_dir)
    pool, features = _rendered(dataset, int(samples), device, data_dir)
    if model in HEADS and features is not None:
        return replace(pool, inputs=features)
    return replace(pool, inputs=pool.inputs.float() / 255)


# -- networks -------------------------------------------------------------------------------------


def recipe(model: str, epochs: int) -> training.Recipe:
    """Ours: the paper gives 20 epochs and ImageNet weights, and no more of its recipe."""
    if model == "resnet50":
        return training.Recipe(
            epochs=epochs, batch=64, learning_rate=0.01, optimiser="sgd", momentum=0.9, cosine=True
        )
    return training.Recipe(epochs=epochs, batch=128, learning_rate=1e-3, cosine=True)


def probabilities(
    pool: Pool, split: TrialSplit, model: str, epochs: int, seed: int, device: str
) -> Tensor:
    """Train on the training rows; `(len(pool), objects)` softmax outputs, NaN but for test rows."""
    asked = torch.cat([split.test, split.own, split.elsewhere])
    if model == "resnet50":
        outputs = training.fine_tuned(models.resnet50(len(pool.objects)), pool, split.train, asked,
                             recipe(model, epochs), seed=seed, device=device)  # fmt: skip
    else:
        inputs = pool.inputs
        if model in HEADS:
            own = inputs[split.train]
            inputs = (inputs - own.mean(0)) / own.std(0).clamp(min=1e-2)
            width = inputs[0].numel()
            net = models.fully_connected(width, HEADS[model], len(pool.objects), seed=seed)
        else:
            net = models.small_resnet(len(pool.objects), seed=seed)
        net.to(device)
        training.train(
            net, inputs[split.train].to(device), pool.label[split.train].to(device),
            recipe(model, epochs), seed=seed,
        )  # fmt: skip
        outputs = training.predict(net, inputs[asked].to(device))
    found = torch.full((len(pool), len(pool.objects)), math.nan)
    found[asked] = outputs.softmax(1).cpu()
    return found


def novelty(pool: Pool, context: str, seed: int) -> dict[str, float]:
    """How far a context is from the others, in the features that a head sees.

    `strength`: squared distance of the context's mean picture from the mean of all others, in the
    training half, each feature divided by its standard deviation over the others; `spread`:
    variance of the others along this direction. They are S and v_s of the linear theory, whose
    knee is at a share v_s / S of spurious examples (without ridge).
    """
    train, _ = contexts.halves(len(pool), seed)
    inside = pool.context[train] == pool.contexts.index(context)
    features = pool.inputs[train].flatten(1)
    others = features[~inside]
    scaled = others.std(0).clamp(min=1e-2)
    shift = (features[inside].mean(0) - others.mean(0)) / scaled
    strength = float(shift.square().sum())
    along = (others / scaled) @ shift / math.sqrt(strength)
    return {"strength": strength, "spread": float(along.var())}


# -- the experiment -------------------------------------------------------------------------------


def _cells(
    counts: tuple[int, ...],
    trials: range,
    *,
    names: tuple[str, ...] = CONTEXTS,
    targets: tuple[str, ...] = (),
    **fixed: Any,
) -> list[Cell]:
    """All contexts, trials, targets (by default the three of the data set) and counts."""
    return [
        fixed | dict(context=context, target=target, spurious=count, trial=trial)
        for context, trial in itertools.product(names, trials)
        for target, count in itertools.product(targets or TARGETS[fixed["dataset"]], counts)
    ]


def contexts_cells(profile: str) -> list[Cell]:
    """Nine trials at several n, all contexts and objects for n = 10, and other networks."""
    if profile == "smoke":
        digits = dict(dataset="mnist5k", samples=40, epochs=6)
        return _cells((0, 3, 20), range(2), **digits, model="linear") + _cells(
            (0, 20), range(2), **digits, model="mlp", targets=("0",)
        )
    every = dict(names=contexts.CONTEXTS, targets=data.OBJECTS)
    if profile == "laptop":
        # NICO++ has 247 pictures of each object in each context, on average
        objects = dict(dataset="cifar10", samples=250, epochs=20)
        cells = _cells((0, 10), range(3), **objects, model="linear", **every)
        cells += _cells((0, 10), range(3, 5), **objects, model="linear")
        cells += _cells((1, 3, 30, 100), range(5), **objects, model="linear")
        cells += _cells((0, 10), range(5), **objects, model="mlp")
        few = dict(dataset="cifar10", samples=100)
        cells += _cells((0, 10), range(5), **few, epochs=20, model="linear")
        return cells + _cells((0, 10), range(5), **few, epochs=10, model="small resnet")
    five, ten = range(5), range(10)
    cells = _cells((0, 1, 3, 10, 30, 100), five, dataset="nicopp", samples=math.inf, epochs=20,
                   model="resnet50")  # fmt: skip
    objects = dict(dataset="cifar10", samples=800, epochs=20)
    cells += _cells((0, 10), ten, **objects, model="linear", **every)
    cells += _cells((1, 3, 30, 100), ten, **objects, model="linear")
    cells += _cells((0, 10), ten, **objects, model="mlp")
    return cells + _cells((0, 10), five, **objects, model="small resnet")


@experiment(
    "contexts",
    cells=contexts_cells,
    # training is chaotic: another device gives another network of the same law
    tolerance={
        "default": 0.5,
        "clean_accuracy": 0.1,
        "strength": 0.05,
        "spread": 0.05,
        "test_images": 0,
        "training_images": 0,
    },
    cheap=lambda cell: cell["dataset"] == "mnist5k",
    group=itemgetter("dataset", "samples", "model", "epochs", "context", "trial"),
)
def novel_contexts(calls: list[Call]) -> list[dict[str, float | str]]:
    """Networks trained on `spurious` pictures of the target in a context without others.

    The trial is the seed of the split, of the choice of pictures and of the training. `samples` is
    the number of pictures of each object in each context (infinite for NICO++: all there are). In a
    group, one network without pictures of the context serves all targets.
    """
    first = calls[0]
    model, trial = first.model, first.trial
    pool = pool_for(first.dataset, first.samples, model, first.device, first.data_dir)
    far = {"strength": math.nan, "spread": math.nan}
    if model != "resnet50":
        far = novelty(pool, first.context, trial)
    found: dict[tuple, Tensor] = {}
    rows = []
    for call in calls:
        split = trial_split(pool, call.context, call.target, call.spurious, trial)
        own = setup.setting(call)
        if own not in found:
            found[own] = probabilities(pool, split, model, call.epochs, trial, call.device)
        row = contexts.read_off(pool, split, call.target, found[own]) | far
        row["training_images"] = len(split.train)
        rows.append(row | {"data_source": pool.source})
    return rows
