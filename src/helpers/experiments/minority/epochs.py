"""How accuracy by group develops while the networks of Part III are trained."""

from torch.nn import functional

from helpers import probes, training
from helpers.experiments.minority import networks
from helpers.sweep import Call, Cell, experiment, grid


def minority_cells(profile: str) -> list[Cell]:
    """Every epoch of every network."""
    grids = {
        "smoke": [("digits", 12, 2)],
        "laptop": [("sky", 12, 10), ("sky faces", 12, 10), ("birds", 20, 10), ("faces", 20, 5),
                   ("shirts", 20, 5), ("planted", 20, 5), ("birds, transformer", 20, 5)],
        "paper": [("sky", 12, 20), ("sky faces", 12, 20), ("birds", 20, 20), ("faces", 20, 20),
                  ("shirts", 20, 20), ("planted", 20, 20), ("birds, fine transformer", 40, 20)],
    }[profile]  # fmt: skip
    return [
        cell
        for setting, epochs, trials in grids
        for cell in networks.on_network(setting, epochs, trials, grid(epoch=range(epochs + 1)))
    ]


@experiment(
    "minority",
    cells=minority_cells,
    # training is chaotic: another device gives another network of the same law
    tolerance={"default": 0.5, "train_loss": 1.0, "test_loss": 2.0}
    | {f"{split}_margin_{g}": 10.0 for split in ("train", "test") for g in range(4)},
    cheap=networks.on_digits,
    group=networks.network_of,
)
def by_epoch(calls: list[Call]) -> list[dict[str, float | str]]:
    """One network after `epoch` of `epochs` epochs (0: untrained).

    Returns:
        `<split>_<group>`: accuracy, `<split>_margin_<group>`: median margin in favour of the true
        class, `<split>_loss`: mean cross-entropy, on the training and the test set.
    """
    made, rows = networks.trained_of(calls[0]), []
    for call in calls:
        net = made.at(call.epoch)
        row: dict[str, float | str] = {}
        for split in ("train", "test"):
            part = made.splits[split]
            outputs = training.predict(net, part.images, batch=made.batch)
            right = probes.accuracy_by_group(outputs, part.label, part.group)
            row |= networks.by_group(split, right)
            row |= networks.by_group(f"{split}_margin", networks.median_margins(outputs, part))
            row[f"{split}_loss"] = float(functional.cross_entropy(outputs, part.label))
        rows.append(row | {"data_source": made.splits["train"].source})
    made.at(calls[0].epochs)
    return rows
