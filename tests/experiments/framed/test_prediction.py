"""Predictions on images: trials share nothing, and the law knows neither frames nor labels."""

import pytest
import torch

from helpers import data
from helpers.experiments.framed import prediction
from helpers.experiments.framed.prediction import image_prediction
from helpers.sweep import Call

CELL = Call(
    dataset="mnist5k", activation="relu", samples=60, pool=80, test=40, trial=1, device="cpu",
    data_dir=None,
)  # fmt: skip


def test_no_two_trials_share_an_image_or_a_frame():
    parts = [
        prediction._own_images("mnist5k", train, size, trial, None)[0]
        for train, size in ((True, 80), (False, 40))
        for trial in range(3)
    ]
    for block in ("x", "y"):
        rows = torch.cat([getattr(part, block) for part in parts])
        assert len(rows.unique(dim=0)) == len(rows) == 360


def test_a_trial_depends_on_its_cell_alone():
    first = image_prediction(CELL)
    image_prediction(Call(CELL, trial=2, samples=20))
    assert image_prediction(CELL) == first
    prediction._trial.cache_clear()
    assert image_prediction(CELL) == first


def test_the_laws_see_neither_frames_nor_labels(monkeypatch):
    found = image_prediction(CELL)
    assert found["law_cores"] == pytest.approx(found["alignment_mean"], rel=0.05)
    right = data.noise_border
    monkeypatch.setattr(data, "noise_border", lambda images, width, seed: right(images, width, 7))
    binary = data.binary_pair

    def flipped(*given):
        images, labels = binary(*given)
        return images, -labels

    monkeypatch.setattr(data, "binary_pair", flipped)
    prediction._trial.cache_clear()
    other = image_prediction(CELL)
    prediction._trial.cache_clear()
    assert other["law_cores"] == found["law_cores"]
    assert other["law_isotropic"] == found["law_isotropic"]
    assert other["spurious_covariance"] != found["spurious_covariance"]


def test_more_trials_than_there_are_images_for():
    with pytest.raises(ValueError, match="samples of its two classes"):
        image_prediction(Call(CELL, trial=50))
