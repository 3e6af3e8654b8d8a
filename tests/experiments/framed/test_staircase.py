"""The stored staircase is the law, and the pictures say which image is aligned with its frame."""

import pytest

from helpers import theory
from helpers.experiments.framed.staircase import image_alignment, remembered, staircase
from helpers.sweep import Call

LAWS = {"rf": theory.gamma_staircase, "ntk": theory.gamma_staircase_ntk}
SMALL = Call(dim=20, samples=300, pool=300, alpha=0.5, trial=0, device="cpu", data_dir=None)


@pytest.mark.parametrize(("features", "activation"), [("rf", "relu"), ("ntk", "h0+h2")])
def test_a_trial_is_near_the_law_past_the_second_step(features, activation):
    found = staircase(Call(SMALL, features=features, activation=activation))
    law = LAWS[features](activation, 0.5, 300, 20, "zero")
    assert found["zero_mean"] == pytest.approx(law, rel=0.02)


def test_published_alignments_are_those_of_the_staircase(published):
    """Query zero within 1.5 % from N = d on; resample, noisier, within a tenth."""
    rows = published("staircase")
    rows = rows[rows["samples"] >= rows["dim"]]
    cells = rows.groupby(["features", "activation", "alpha", "samples", "dim"])
    assert len(cells) == 5 * 2 * 6
    for (features, name, alpha, samples, dim), cell in cells:
        for query, within in (("zero", 0.015), ("resample", 0.1)):
            law = LAWS[features](name, alpha, samples, dim, query)
            assert cell[f"{query}_mean"].mean() == pytest.approx(law, rel=within)


def test_published_predictions_of_single_images_hold_and_odd_images_are_remembered(published):
    rows = published("image_alignment")
    assert len(rows) == 60 and rows["correlation"].min() > 0.94
    assert rows["slope"].between(0.95, 1.05).all()
    assert (rows["predicted_mean"] / rows["measured_mean"] - 1).abs().max() < 0.005
    assert (rows["memory_bottom"] > rows["memory_top"] + 0.05).all()


def test_the_prediction_sees_no_frame():
    """Two trials of one training set would differ in frames alone: the law takes digits only."""
    found = remembered("4 vs 9", "relu", 5, 60, 1)
    assert found.digits.shape == (60, 1, 28, 28)
    x = found.digits.flatten(1).double()
    x = x - x.mean(0)
    x = (x * (784**0.5 / x.norm(dim=1, keepdim=True))).numpy()
    law = theory.alignment_by_image(x, activation="relu", spurious_dim=38**2 - 784)
    assert found.predicted.numpy() == pytest.approx(law, abs=1e-4)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="pair is '1 vs 2'"):
        remembered("1 vs 2", "relu", 5, 60, 0)
    with pytest.raises(ValueError, match="5000 were asked for"):
        image_alignment(Call(pair="1 vs 7", activation="relu", border=4, samples=5_000, trial=0,
                             device="cpu", data_dir=None))  # fmt: skip
