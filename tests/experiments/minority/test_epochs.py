"""Accuracy by group over training: what a row says of an epoch, and the grid."""

import pytest
import torch

from helpers import probes, training
from helpers.experiments.minority import epochs, networks
from helpers.sweep import Call

CALL = Call(setting="digits", epochs=2, trial=0, device="cpu", data_dir=None)


def test_a_row_is_what_the_network_of_that_epoch_answers():
    rows = epochs.by_epoch([Call(CALL, epoch=e) for e in (0, 2)])
    made = networks.trained_of(CALL)
    for row, epoch in zip(rows, (0, 2), strict=True):
        net, part = made.at(epoch), made.splits["test"]
        outputs = training.predict(net, part.images)
        for g in range(4):
            own = part.group == g
            assert row[f"test_{g}"] == probes.accuracy(outputs[own], part.label[own])
            sign = 1 if g >= 2 else -1
            median = float((sign * (outputs[own, 1] - outputs[own, 0])).median())
            assert row[f"test_margin_{g}"] == pytest.approx(median)
        true = outputs.double().log_softmax(1)[torch.arange(len(part)), part.label]
        assert row["test_loss"] == pytest.approx(-float(true.mean()), rel=1e-5)
    (alone,) = epochs.by_epoch([Call(CALL, epoch=2)])
    assert alone == rows[1] != rows[0]


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_cells_hold_every_epoch(profile):
    cells = epochs.minority_cells(profile)
    found = {networks.network_of(cell) for cell in cells}
    assert len(cells) == sum(epochs + 1 for _, epochs, _ in found)
    assert all(0 <= cell["epoch"] <= cell["epochs"] for cell in cells)
    if profile != "smoke":  # the claims ask for five networks
        names = [name for name, _, _ in found]
        assert all(names.count(name) >= 5 for name in names)
