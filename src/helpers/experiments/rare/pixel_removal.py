"""Training images that lose their pixels: how sure of them a clean network still is."""

from operator import itemgetter

import numpy as np
import torch

from helpers import training
from helpers.experiments.rare import setup
from helpers.sweep import Call, Cell, experiment

REMOVED = tuple(i / 20 for i in range(21))  # shares of pixels


def remove_pixels(images: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """Images `(n, c, h, w)` in which each pixel is zero with probability `share`, in all channels.

    Source: Yang, Chou & Chaudhuri 2022, Figure 15; their code draws anew for each channel, which
    removes more pixels from colour images than from grey ones.

    Raises:
        ValueError: a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}: allowed is 0 to 1")
    kept = np.random.RandomState(seed).rand(len(images), 1, *images.shape[2:]) >= share
    return images * torch.from_numpy(kept).to(images)


def pixel_removal_cells(profile: str) -> list[Cell]:
    """MLPs of three sizes and the CNN (the paper's Figure 15)."""
    samples, epochs, few, many = {
        "smoke": (1_000, 2, 1, 2),
        "laptop": (10_000, 10, 3, 5),
        "paper": (60_000, setup.EPOCHS, 5, 5),
    }[profile]
    smoke = profile == "smoke"
    return [
        dict(dataset=dataset, samples=samples, network=name, epochs=epochs, removed=share,
             trial=trial)
        for dataset in (["mnist5k"] if smoke else ["mnist", "fashion_mnist"])
        for name in (["mlp", "cnn"] if smoke else setup.NETWORKS[:4])
        for trial in range(few if name == "cnn" else many)
        for share in (REMOVED[::5] if smoke else REMOVED)
    ]  # fmt: skip


@experiment(
    "pixel_removal",
    cells=pixel_removal_cells,
    tolerance=0.2,
    cheap=lambda cell: cell["network"] in setup.HIDDEN and cell["samples"] <= 10_000,
    group=itemgetter("dataset", "samples", "network", "epochs", "trial"),
)
def pixel_removal(calls: list[Call]) -> list[dict[str, float | str]]:
    """Mean probability of the true label on 500 training images that have lost `removed`.

    One clean network for all calls of a group, shown images with fewer and fewer pixels. The trial
    is the seed of the network, of its training, of the choice of images and of the lost pixels.
    """
    first = calls[0]
    train, _ = setup.sets(first)
    inputs, labels = setup.inputs_of(train, first.device)
    net = setup.network(first.network, first.trial).to(first.device)
    training.train(net, inputs, labels, setup.recipe(first.epochs), seed=first.trial)
    chosen = torch.from_numpy(np.random.RandomState(first.trial).permutation(len(train))[:500])
    rows = []
    for call in calls:
        shown = remove_pixels(inputs[chosen], call.removed, first.trial)
        true = setup.probabilities(net, shown).gather(1, train.labels[chosen][:, None])
        rows.append({"true_probability": float(true.mean()), "data_source": train.source})
    return rows
