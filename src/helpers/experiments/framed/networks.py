"""The experiments of Part I on trained networks (the paper's Figures 4 and 5)."""

import itertools
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch.optim.swa_utils import update_bn

from helpers import data, models, probes, training
from helpers.experiments.framed.grams import BORDERS, check_enough
from helpers.sweep import Call, Cell, experiment

_DIM, _ALPHA = 1_000, 0.5
HIDDEN = (500, 200)
# Adam at 1e-3, batches of 1024, learning rate times 0.8 every 100 epochs: the released code.
# ResNets: its weight decay; learning rate and batch are not known from it and are our choice.
_PLAIN = training.Recipe(epochs=1_000, batch=1_024, decay=0.8, decay_every=100)
_RESNET = training.Recipe(epochs=200, batch=128, weight_decay=5e-4)


@lru_cache(maxsize=2)
def _framed(dataset: str, train: bool, data_dir: str | None) -> tuple[torch.Tensor, ...]:
    """All framed images of a split with their labels, and the data source."""
    found = data.load(dataset, train=train, data_dir=data_dir)
    framed = data.noise_border(found.images, BORDERS[dataset], seed=0 if train else 1)
    return framed, found.labels, found.source


def _images(
    call: Call, draw: torch.Generator
) -> tuple[list[torch.Tensor], list[torch.Tensor], str]:
    """Training set, its frames, test set, its frames; two label vectors; the source."""
    inputs, labels = [], []
    for train, size in ((True, call.samples), (False, call.test)):
        framed, classes, source = _framed(call.dataset, train, call.data_dir)
        check_enough(call.dataset, len(framed), "images", size)
        chosen = torch.randperm(len(framed), generator=draw)[:size]
        divisor = {"raw": 1.0, "unit": 255.0}[call.scaling]
        for images in (framed[chosen], data.blank_core(framed[chosen], BORDERS[call.dataset])):
            inputs.append(images.float() / divisor)
        labels.append(classes[chosen])
    return inputs, labels, source


def _gaussian(
    samples: int, test: int, draw: torch.Generator
) -> tuple[list[torch.Tensor], list[torch.Tensor], str]:
    """The synthetic task: Gaussian blocks, labels sign(u'x), cores resampled."""
    inputs, labels, direction = [], [], None
    for size in (samples, test):
        block = data.gaussian_two_block(size, _DIM, _ALPHA, seed=draw)
        other = data.gaussian_two_block(size, _DIM, _ALPHA, seed=draw)
        if direction is None:
            direction = torch.randn(block.x.shape[1], generator=draw)
        inputs += [block.z, torch.cat([other.x, block.y], 1)]
        labels.append(data.linear_labels(block.x, direction))
    return inputs, labels, f"Gaussian, d = {_DIM}, alpha = {_ALPHA}"


def network(architecture: str, dataset: str, seed: int) -> torch.nn.Module:
    """The untrained network of a panel, on framed images or on the synthetic task."""
    channels, outputs = (3 if dataset == "cifar10" else 1), (1 if dataset == "gaussian" else 10)
    if architecture == "fc":
        inputs = _DIM if dataset == "gaussian" else channels * 48 * 48
        return models.fully_connected(inputs, HIDDEN, outputs, seed=seed)
    if architecture == "cnn":
        return models.small_cnn(channels, 48, outputs, seed=seed)
    return models.resnet(
        int(architecture.removeprefix("resnet")), outputs, channels=channels, seed=seed
    )


def networks_cells(profile: str) -> list[Cell]:
    """Four panels; on a laptop with a schedule that ends early, and some cells that do not."""
    # (dataset, architecture, scaling, test, epochs, stop_loss, sizes, trials)
    full = [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000]
    grids = {
        "smoke": [
            ("gaussian", "fc", "raw", 200, 100, 1e-2, [10, 100, 400], 3),
            ("mnist5k", "fc", "unit", 200, 60, 1e-2, [10, 100], 3),
            ("mnist5k", "cnn", "unit", 100, 10, 1e-2, [10, 50], 2),
        ],
        "laptop": [
            ("gaussian", "fc", "raw", 10_000, 1_000, 1e-3, full, 5),
            ("mnist", "fc", "raw", 10_000, 1_000, 1e-3, full[:8], 5),
            ("mnist", "fc", "unit", 10_000, 1_000, 1e-3, full[:8], 5),
            # the paper's schedule to its end
            ("gaussian", "fc", "raw", 10_000, 1_000, 0.0, [100, 1_000], 5),
            ("mnist", "fc", "raw", 10_000, 1_000, 0.0, [100, 1_000], 5),
            ("mnist", "cnn", "raw", 5_000, 1_000, 1e-3, full[:7], 5),
            ("cifar10", "cnn", "raw", 5_000, 1_000, 1e-3, full[:7], 5),
            ("cifar10", "resnet18", "raw", 2_000, 200, 1e-2, [10, 50, 200, 500], 5),
            ("cifar10", "resnet50", "raw", 2_000, 200, 1e-2, [10, 50, 200], 5),
            ("cifar10", "resnet18", "raw", 2_000, 200, 0.0, [50], 5),
            ("mnist", "cnn", "raw", 5_000, 1_000, 0.0, [100], 5),
        ],
        "paper": [
            *((dataset, architecture, "raw", 10_000, 1_000, 0.0, full, 10)
              for dataset, architecture in (("gaussian", "fc"), ("mnist", "fc"), ("mnist", "cnn"),
                                            ("cifar10", "cnn"))),
            *(("cifar10", f"resnet{depth}", "raw", 10_000, 200, 0.0, [2, 5, *full], 10)
              for depth in (18, 50)),
        ],
    }[profile]  # fmt: skip
    return [
        dict(dataset=dataset, architecture=architecture, scaling=scaling, samples=samples,
             test=test, epochs=epochs, stop_loss=stop_loss, trial=trial)
        for dataset, architecture, scaling, test, epochs, stop_loss, sizes, trials in grids
        for trial, samples in itertools.product(range(trials), sizes)
    ]  # fmt: skip


@experiment(
    "networks",
    cells=networks_cells,
    # training is chaotic: another device gives another network of the same law
    tolerance={"default": 0.25, "loss": 1.0, "epochs_run": 0.5},
    cheap=lambda cell: (
        cell["dataset"] in ("gaussian", "mnist5k")
        and cell["samples"] <= 1_000
        and cell["stop_loss"] > 0
    ),
)
def networks(call: Call) -> dict[str, float | str]:
    """One network on `samples` samples, asked about its training frames and about unseen ones.

    `dataset` is "gaussian" or one of images; the schedule has `epochs` epochs, cut short at a
    training loss below `stop_loss` (0: never). After an early end the statistics of batch
    normalisation, if there is any, are taken anew from the training set.
    """
    # every (trial, N) draws its own data and weights, as in the paper
    seed = int(np.random.SeedSequence([call.trial, call.samples]).generate_state(1)[0])
    draw = torch.Generator().manual_seed(seed)
    if call.dataset == "gaussian":
        inputs, labels, source = _gaussian(call.samples, call.test, draw)
    else:
        inputs, labels, source = _images(call, draw)
    inputs, labels = ([t.to(call.device) for t in ts] for ts in (inputs, labels))
    model = network(call.architecture, call.dataset, seed).to(call.device)
    recipe = replace(
        _RESNET if call.architecture.startswith("resnet") else _PLAIN,
        epochs=call.epochs,
        stop_loss=call.stop_loss,
        loss="mse" if call.dataset == "gaussian" else "cross_entropy",
    )
    checkpoint = training.checkpoint_file(tuple(call.items()))
    history = training.train(model, inputs[0], labels[0], recipe, seed=seed, checkpoint=checkpoint)
    if history.epochs < call.epochs:
        # after an early end the running averages of batch normalisation lag behind the weights
        update_bn(inputs[0].split(recipe.batch), model)
        model.eval()
    train, frames, held_out, unseen = (training.predict(model, x[: call.test]) for x in inputs)
    truth, test_truth = labels[0][: call.test], labels[1]
    return {
        "train_accuracy": probes.accuracy(train, truth),
        "test_accuracy": probes.accuracy(held_out, test_truth),
        "spurious_accuracy": probes.accuracy(frames, truth),
        "spurious_auc": probes.mean_auc(frames, truth),
        "unseen_accuracy": probes.accuracy(unseen, test_truth),
        "unseen_auc": probes.mean_auc(unseen, test_truth),
        "loss": history.loss,
        "epochs_run": history.epochs,
        "data_source": source,
    }
