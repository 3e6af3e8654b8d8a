"""Audits of data: planted truths, what ought to be silent, and what is refused."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from helpers import audit, data
from helpers.theory import smoother

MEANS = {"heavy": (0.45, 1.0), "light": (0.9, 0.3)}


def mixture(kind, count, share, seed, dims=120):
    """Two directions of unlike weight in noise of unlike variances."""
    rng = np.random.default_rng(seed)
    core, attribute = MEANS[kind]
    y = rng.choice([0, 1], count)
    a = np.where(rng.random(count) < share, y, 1 - y)
    X = rng.standard_normal((count, dims)) * np.sqrt(np.linspace(0.5, 1.5, dims))
    X[:, 3] += core * (2 * y - 1)
    X[:, 40] += attribute * (2 * a - 1)
    return X, y, a


def patched_digits(seed, patch=4, bright=0.5):
    """2 and 3 against 5 and 8 of 5,000 digits; a corner is noisy in every second one."""
    digits = data.load("mnist5k")
    rows = torch.isin(digits.labels, torch.tensor([3, 5, 8, 2])).nonzero().flatten()
    images = digits.images[rows].float() / 255
    y = torch.isin(digits.labels[rows], torch.tensor([5, 8])).int().numpy()
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2, len(y))
    noise = bright * torch.from_numpy(rng.random((int(a.sum()), 1, patch, patch))).float()
    images[torch.from_numpy(a == 1), :, :patch, :patch] = noise
    return images, y, a


@pytest.mark.parametrize("seed", range(3))
def test_the_flip_share_of_a_mixture_is_the_one_that_training_shows(seed):
    X, y, a = mixture("heavy", 8_000, 0.5, seed)
    found = audit.data(X, y, a, samples=800)["flip_share"]
    measured = audit.measured_flip_share(X, y, a, samples=800, seed=seed)
    assert found.value == pytest.approx(measured.mean, abs=0.03)
    assert found.low < found.value < found.high


def test_the_flip_share_of_digits_with_a_patch_is_the_one_that_training_shows():
    images, y, a = patched_digits(0)
    found = audit.data(images, y, a, samples=600)["flip_share"]
    measured = audit.measured_flip_share(images, y, a, samples=600)
    assert np.isfinite(measured.mean)
    assert found.value == pytest.approx(measured.mean, abs=0.03)


def test_the_flip_share_does_not_hang_on_how_the_data_are_aligned():
    """Estimated from data of which a twentieth conflicts, it is what balanced data give."""
    even = audit.data(*mixture("heavy", 20_000, 0.5, 0), samples=1_000)["flip_share"]
    skew = audit.data(*mixture("heavy", 20_000, 0.95, 1), samples=1_000)["flip_share"]
    assert skew.value == pytest.approx(even.value, abs=0.03)
    assert skew.low < even.value < skew.high
    assert (even.state, skew.state) == ("clear", "flagged")


def test_a_light_attribute_is_said_to_be_safe():
    report = audit.data(*mixture("light", 4_000, 0.95, 0))
    assert report["flip_share"].value == np.inf
    assert report["flip_share"].state == "clear"


@pytest.mark.parametrize("seed", range(5))
def test_an_attribute_that_is_not_in_the_inputs_is_not_found(seed):
    X, y, _ = mixture("heavy", 2_000, 0.5, seed)
    a = np.random.default_rng(seed + 50).integers(0, 2, len(y))
    report = audit.data(X, y, a)
    assert report["attribute_noise"].state == "clear"
    assert report["attribute_noise"].high > 1_000
    assert report["visible"].state == "clear"
    assert report["flip_share"].state == "clear"


def test_noise_ratios_cover_the_truth():
    """In the population, at the ridge that these samples feel."""
    variances = np.linspace(0.5, 1.5, 120)
    hits = np.zeros(2)
    for seed in range(20):
        report = audit.data(*mixture("heavy", 2_000, 0.8, seed))
        felt = report["effective_ridge"].detail["absolute"]
        for k, (name, place, mean) in enumerate(
            [("core_noise", 3, 0.45), ("attribute_noise", 40, 1.0)]
        ):
            truth = (variances[place] + felt) / mean**2
            hits[k] += report[name].low <= truth <= report[name].high
    assert (hits >= 16).all(), hits  # 16 of 20 or fewer: p = .003 where they cover 95 %


def test_the_felt_ridge_is_the_one_of_the_spectrum():
    X, y, a = mixture("heavy", 6_000, 0.5, 0)
    found = audit.data(X, y, a, samples=300, ridge=0.2)["effective_ridge"].detail["absolute"]
    variances = np.linspace(0.5, 1.5, 120)
    expected = smoother.effective_ridge(variances, 0.2 * variances.mean(), 300)
    assert found == pytest.approx(expected, rel=0.03)


def test_half_of_the_attribute_is_learnt_at_the_knee():
    """Ridge regression on samples of which so many have an attribute of their own class."""
    X, y, a = mixture("heavy", 4_000, 0.5, 0)
    knee = audit.data(X, y, a, samples=2_000)["knee"].value
    told, direction = [], np.zeros(120)
    direction[40] = 2.0  # from attribute -1 to +1
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X, y, _ = mixture("heavy", 2_000, 0.5, 10 + seed)
        X[:, 40] = rng.standard_normal(2_000) * np.sqrt(np.linspace(0.5, 1.5, 120)[40])
        rows = rng.choice(np.flatnonzero(y == 1), round(knee), replace=False)
        X[rows] += direction
        marks = np.zeros(2_000)
        marks[rows] = 1.0  # what the rest of the model leaves open of them
        centred = X - X.mean(0)
        penalty = 0.1 * np.linspace(0.5, 1.5, 120).mean() * np.eye(120)
        weights = np.linalg.solve(
            centred.T @ centred / 2_000 + penalty, centred.T @ (marks - marks.mean()) / 2_000
        )
        told.append(weights @ direction)
    assert np.mean(told) == pytest.approx(0.5, abs=0.05)


def test_more_dimensions_than_samples_go_through_the_smaller_side():
    X, y, a = mixture("heavy", 240, 0.6, 0, dims=120)
    wide = np.hstack([X, np.zeros((240, 300))])
    tall, other = (audit.data(Z, y, a, ridge=0.3) for Z in (X, wide))
    # zeros change nothing but the mean variance, in whose units the ridge is
    scaled = audit.data(wide, y, a, ridge=0.3 * 420 / 120)
    assert scaled["core_noise"].value == pytest.approx(tall["core_noise"].value, rel=1e-6)
    assert other["core_noise"].value < tall["core_noise"].value


def test_the_leading_direction_is_the_one_of_pca():
    X, y, a = mixture("heavy", 3_000, 0.5, 0)
    X[:, 40] *= 3
    found = audit.data(X, y, a)["visible"]
    inside = X - np.array([X[y == k].mean(0) for k in (0, 1)])[y]
    score = PCA(1, random_state=0).fit_transform(inside)[:, 0]
    other = audit.data(score[:, None] + 0 * X[:, :1], y, a)["visible"]
    assert found.detail["direction"] == 1
    assert found.value == pytest.approx(other.value, abs=0.01)


GOOD = mixture("heavy", 200, 0.7, 0)
REFUSED = {
    "no rows": ((np.empty((0, 3)), [], []), "inputs have shape"),
    "one number a row": ((np.ones(4), [0, 1, 0, 1], [0, 1, 1, 0]), "inputs have shape"),
    "not finite": ((np.where(np.eye(200, 120) > 0, np.nan, GOOD[0]), *GOOD[1:]), "in 120 of 200"),
    "one class": ((GOOD[0], np.zeros(200), GOOD[2]), "labels takes 1 values"),
    "ten classes": ((GOOD[0], np.arange(200) % 10, GOOD[2]), "labels takes 10 values"),
    "too few labels": ((GOOD[0], GOOD[1][:9], GOOD[2]), "labels has shape"),
    "attribute is the label": ((*GOOD[:2], GOOD[1]), "the attribute is the label"),
    "attribute is not the label": ((*GOOD[:2], 1 - GOOD[1]), "the attribute is the label"),
    "empty group": ((*GOOD[:2], np.maximum(GOOD[1], np.arange(200) % 2)), "fewer than 2 samples"),
    "no noise": ((2.0 * np.stack(GOOD[1:], 1), *GOOD[1:]), "do not vary within"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_audited_is_refused_by_name(case):
    given, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        audit.data(*given)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"ridge": 0.0}, "ridge is 0.0"), ({"ridge": np.nan}, "ridge is nan"),
     ({"samples": 201}, "samples is 201"), ({"samples": 2.5}, "samples is 2.5")],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        audit.data(*GOOD, **setting)


def test_features_are_those_of_the_backbone_in_eval_mode():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Dropout(0.5), torch.nn.ReLU())
    images = torch.rand(7, 1, 6, 6)
    found = audit.features(net, images, batch=3)
    assert found.shape == (7, 64) and net[1].training
    assert torch.allclose(found, net[0](images).relu().flatten(1).detach(), atol=1e-6)
    with pytest.raises(ValueError, match="not finite"):
        audit.features(lambda x: x / 0, images)
