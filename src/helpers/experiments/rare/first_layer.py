"""What the first layer of an MLP has on each pixel, after a few images with a white corner."""

from operator import itemgetter

import numpy as np
import pandas as pd

from helpers import probes, training
from helpers.experiments.rare import setup
from helpers.sweep import Call, Cell, experiment

SIDE = 28
PIXELS = [f"pixel_{i}" for i in range(SIDE**2)]


def importance_maps_cells(profile: str) -> list[Cell]:
    """S3 on MNIST, one network for each number of spurious zeros (the paper's Figure 3)."""
    counts, size = (0, 10, 100, 2_000), dict(dataset="mnist", samples=60_000, epochs=setup.EPOCHS)
    if profile == "smoke":
        counts, size = (0, 100), setup.SMALL
    fixed = size | dict(network="mlp", pattern="S3", target=0, trial=0)
    return [fixed | dict(spurious=count) for count in counts]


@experiment(
    "importance_maps",
    cells=importance_maps_cells,
    tolerance=2.0,  # training is chaotic, and a map holds the largest weights
    cheap=lambda cell: False,
    group=itemgetter("dataset", "samples", "network", "epochs", "trial"),
    half=True,
)
def importance_maps(calls: list[Call]) -> list[dict[str, float | str]]:
    """The importance of each pixel, row by row of the image, and the test accuracy.

    Networks, images and the choice of spurious ones are those of `rare_patterns` for this trial.
    """

    def recipe_of(call: Call) -> training.Recipe:
        return setup.recipe(call.epochs, precision=call.precision)

    train, test = setup.sets(calls[0])
    rows = []
    for net, *_ in setup.trained(calls, train, recipe_of):
        pixels = setup.importance(net).flatten().double().numpy().round(4)
        row = dict(zip(PIXELS, pixels.tolist(), strict=True))
        row["clean_accuracy"] = probes.accuracy(setup.outputs(net, test.images), test.labels)
        rows.append(row | {"data_source": train.source})
    return rows


def maps(rows: pd.DataFrame) -> dict[int, np.ndarray]:
    """`(28, 28)` maps of the importance by the number of spurious images, in rising order."""
    ordered = rows.sort_values("spurious")
    images = ordered[PIXELS].to_numpy(dtype=float).reshape(-1, SIDE, SIDE)
    return dict(zip(ordered["spurious"].tolist(), images, strict=True))
