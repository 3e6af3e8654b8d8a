"""Audits of data: planted truths, what ought to be silent, and what is refused."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from helpers import audit, data
from helpers.audit import before_training
from helpers.audit.linear import metric
from helpers.audit.sample import sample_of
from helpers.theory import smoother

MEANS = {"heavy": (0.45, 1.0), "light": (0.9, 0.3), "even": (0.75, 1.3), "strong": (0.9, 1.0),
         "faint": (0.2, 0.0), "nothing": (0.0, 0.0)}  # fmt: skip


def mixture(kind, count, share, seed, dims=120, prior=0.5):
    """Two directions of unlike weight in noise of unlike variances."""
    rng = np.random.default_rng(seed)
    core, attribute = MEANS[kind]
    y = rng.choice([0, 1], count) if prior == 0.5 else (rng.random(count) < prior).astype(int)
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
    assert skew.detail["exact"] == pytest.approx(even.detail["exact"], abs=0.03)
    assert skew.low < even.value < skew.high
    assert (even.state, skew.state) == ("clear", "flagged")


# -- how it is coded, and classes of unequal size --------------------------------------------------


def slanted(count, seed, share=0.9):
    """Class and attribute that are not at right angles, so that their signs matter."""
    rng = np.random.default_rng(seed)
    y = rng.choice([0, 1], count)
    a = np.where(rng.random(count) < share, y, 1 - y)
    means = np.outer(2 * y - 1, [0.5, 0.0]) + np.outer(2 * a - 1, [0.35, 0.5])
    return means + rng.standard_normal((count, 2)), y, a


def test_the_flip_share_does_not_hang_on_how_class_and_attribute_are_coded():
    X, y, a = slanted(4_000, 0)
    plain = audit.data(X, y, a)
    for labels, attribute in ((y, 1 - a), (1 - y, a), (1 - y, 1 - a)):
        other = audit.data(X, labels, attribute)
        for name in plain:
            assert other[name].state == plain[name].state
            assert other[name].value == pytest.approx(plain[name].value, abs=0.03, rel=0.06)
    assert audit.data(X, y, 1 - a)["flip_share"] == plain["flip_share"]
    assert "larger label with the smaller attribute" in audit.data(X, y, 1 - a).about
    assert "smaller attribute" not in plain.about


def test_training_is_asked_about_the_same_direction_unless_told_how_it_is_coded():
    X, y, a = slanted(8_000, 1, share=0.6)
    plain = audit.measured_flip_share(X, y, a, samples=1_200, draws=2)
    turned = audit.measured_flip_share(X, y, 1 - a, samples=1_200, draws=2)
    assert turned == plain
    coded = audit.measured_flip_share(X, y, 1 - a, samples=1_200, draws=2, as_coded=True)
    assert coded.mean > plain.mean + 0.05


@pytest.mark.parametrize("label", [0, 1])
def test_the_flip_share_of_unequal_classes_is_the_one_that_training_shows(label):
    """A quarter is of class +1; of both classes, and of the rarer one alone."""
    X, y, a = mixture("even", 12_000, 0.5, 0, prior=0.25)
    found = audit.data(X, y, a, samples=1_200)["flip_share"]
    measured = audit.measured_flip_share(X, y, a, samples=1_200, prior=0.25, label=label)
    foretold = found.detail["rarer" if label else "exact"]
    assert foretold == pytest.approx(measured.mean, abs=0.03)
    assert found.detail["exact"] - found.detail["rarer"] > 0.1


def conflicting_hits(X, y, a, prior, share, count, seed):
    """Accuracy on conflicting samples of either class of one ridge regression with an intercept."""
    rng, group = np.random.default_rng(seed), 2 * y + a
    downs, ups = round(count * (1 - prior)), round(count * prior)
    sizes = (round(downs * share), downs - round(downs * share), ups - round(ups * share),
             round(ups * share))  # fmt: skip
    rows = np.concatenate([rng.permutation(np.flatnonzero(group == g))[:n]
                           for g, n in enumerate(sizes)])  # fmt: skip
    Z = np.c_[X[rows], np.ones(count)]
    penalty = np.diag(np.r_[np.full(X.shape[1], 0.1 * count), 0.0])
    weights = np.linalg.solve(Z.T @ Z + penalty, Z.T @ (2.0 * y[rows] - 1))
    said = np.c_[X, np.ones(len(X))] @ weights > 0
    rest = np.setdiff1d(np.arange(len(X)), rows)
    own = [rest[(y[rest] == k) & (a[rest] != k)] for k in (0, 1)]
    return [float((said[one] == (k == 1)).mean()) for k, one in enumerate(own)]


def test_a_rarer_class_that_fails_is_no_all_clear():
    """The mean of both classes never flips; the rarer one fails from 0.7 on."""
    X, y, a = mixture("strong", 40_000, 0.5, 0, prior=0.1)
    shares = (0.6, 0.95)
    told = [np.mean([conflicting_hits(X, y, a, 0.1, share, 2_000, seed) for seed in range(3)], 0)
            for share in shares]  # fmt: skip
    biased = mixture("strong", 40_000, 0.95, 1, prior=0.1)
    found = audit.data(*biased)["flip_share"]
    assert told[1][1] < 0.5 < told[1][0] and np.mean(told[1]) > 0.5
    assert found.value == np.inf and found.state != "clear"
    assert found.detail["rarer"] < 0.95 and "Of the rarer class alone" in found.says


def test_the_rarer_class_of_a_faint_core_fails_without_any_attribute():
    found = audit.data(*mixture("faint", 4_000, 0.5, 0, prior=0.2))["flip_share"]
    assert found.detail["rarer"] == 0.5 and found.state == "open"
    assert "with an attribute that is not there" in found.says


def test_classes_that_are_aligned_unlike_are_left_open():
    X, y, a = mixture("heavy", 8_000, 0.95, 0)
    assert audit.data(X, y, a)["flip_share"].state == "flagged"
    kept = ~((y == 1) & (a == 1)) | (np.random.default_rng(0).random(8_000) < 0.1)
    found = audit.data(X[kept], y[kept], a[kept])["flip_share"]
    assert found.state == "open" and "aligned alike" in found.says
    assert "aligned alike" not in audit.data(X, y, a)["flip_share"].says


def test_the_interval_holds_the_error_of_the_law_and_all_is_read_to_two_digits():
    sample = sample_of(*mixture("heavy", 6_000, 0.8, 0)).oriented()[0]
    seen, _ = before_training._metric(sample, 0.1, None, 0)
    value, low, high = before_training.directions(sample.inputs, sample.group, seen).flip()
    found = audit.data(*mixture("heavy", 6_000, 0.8, 0))["flip_share"]
    assert found.detail["exact"] == value and found.value == round(value, 2)
    assert low - 0.04 < found.low <= low - 0.03 and high + 0.03 <= found.high < high + 0.04
    for end in (found.value, found.low, found.high):
        assert end == round(end, 2)
    assert f"{value:.2f} on" in found.says and f"{value:.3f}" not in found.says


@pytest.mark.parametrize(
    ("ends", "widened"),
    [((0.6, 0.51, 0.62), (0.6, 0.5, 0.65)), ((0.9, 0.8, 0.98), (0.9, 0.77, np.inf)),
     ((np.inf, np.inf, np.inf), (np.inf, 0.97, np.inf)), ((0.7, 0.62, 0.7), (0.7, 0.59, 0.73))],
)  # fmt: skip
def test_a_share_above_one_may_be_off_as_well(ends, widened):
    assert before_training._widened(*ends) == widened


# -- controls --------------------------------------------------------------------------------------


def test_a_shuffled_direction_is_as_long_as_one_that_is_not_there():
    """With half as many dimensions as samples, whose noise the metric knows by heart."""
    own, mixed = [], []
    for seed in range(12):
        sample = sample_of(*mixture("nothing", 300, 0.5, seed, dims=150))
        seen, _ = before_training._metric(sample, 0.1, None, 0)
        found = before_training.directions(sample.inputs, sample.group, seen, draws=0)
        own.append(found.overlaps)
        mixed.append(before_training._shuffled(sample, seen, seed, kept="class"))
    own, mixed = np.array(own)[:, 1, 1], np.array(mixed)[:, :, 1, 1].ravel()
    places = (mixed[None] < own[:, None]).mean(1)  # ranks, even between 0 and 1
    assert 0.3 < places.mean() < 0.7 and places.min() < 0.3


@pytest.mark.parametrize("seed", range(4))
def test_where_nothing_is_told_nothing_is_flagged(seed):
    X, y, a = mixture("nothing", 400, 0.9, seed)
    report = audit.data(X, y, a)
    assert not report.flagged
    assert report["core_noise"].detail["told"] == 0 and report["core_noise"].state == "open"
    assert "do not tell the class" in report["core_noise"].says
    assert audit.data(*mixture("heavy", 2_000, 0.9, seed))["core_noise"].detail["told"] == 1


def test_a_flag_needs_answers_below_those_with_every_shuffled_attribute():
    sample = sample_of(*mixture("heavy", 20_000, 0.95, 0)).oriented()[0]
    seen, _ = before_training._metric(sample, 0.1, None, 0)
    found = before_training.directions(sample.inputs, sample.group, seen)
    mixed = before_training._shuffled(sample, seen, 1, kept="class")
    assert before_training._flip(sample, found, mixed, 0.1).state == "flagged"
    alike = np.concatenate([mixed, found.overlaps[None]])  # one of them answers as this one does
    assert before_training._flip(sample, found, alike, 0.1).state == "open"


@pytest.mark.parametrize("ridge", [0.001, 0.1, 3.0])
def test_what_depends_on_the_ridge_names_it(ridge):
    report = audit.data(*mixture("heavy", 400, 0.9, 0), ridge=ridge)
    named = f"a ridge of {ridge:g} mean variances of an input"
    for name in ("core_noise", "attribute_noise", "flip_share", "knee"):
        assert named in report[name].assumes


def test_what_is_kept_in_a_shuffle_is_kept():
    group = np.random.default_rng(0).integers(0, 4, 500)
    for part in (1, 2):
        mixed = before_training._permuted(group, group & part, np.random.default_rng(1))
        assert (mixed & part == group & part).all() and (mixed != group).any()
        assert (np.bincount(mixed) == np.bincount(group)).all()


def test_a_direction_is_flagged_only_above_all_shuffled_attributes(monkeypatch):
    X, y, a = mixture("heavy", 600, 0.5, 0)
    X[:, 40] *= 3
    found = audit.data(X, y, a)["visible"]
    assert found.state == "flagged" and "shuffled within the classes" in found.control
    # where shuffling moves nothing, the control is as good, and nothing is clear of it
    monkeypatch.setattr(before_training, "_permuted", lambda group, within, rng: group)
    assert before_training._visible(sample_of(X, y, a), 0).state == "open"


# -- fewer rows than samples -----------------------------------------------------------------------


def test_a_few_rows_answer_for_all_samples(monkeypatch):
    """900 samples of 1,000 numbers, the covariance from 400: felt ridge and flip share hold."""
    X, y, a = mixture("heavy", 900, 0.8, 0, dims=1_000)
    core = X[:, [3, 40]]
    X *= (1.05 ** -np.arange(1_000.0)).clip(0.05)
    X[:, [3, 40]] = core
    whole = audit.data(X, y, a, ridge=2.0)
    monkeypatch.setattr(before_training, "MOST_ROWS", 400)
    few = audit.data(X, y, a, ridge=2.0)
    assert "covariance from 400 of them" in few.about and "of them" not in whole.about
    assert "answers for" not in few.about and "900 samples make" in few["effective_ridge"].says
    for name in ("effective_ridge", "core_noise", "attribute_noise", "knee"):
        assert few[name].value == pytest.approx(whole[name].value, rel=0.1)
    exact = whole["flip_share"].detail["exact"]
    assert few["flip_share"].detail["exact"] == pytest.approx(exact, abs=0.015)


def test_rows_feel_what_the_samples_feel():
    """At the population's own felt ridge, from a spectrum in closed form."""
    variances, rng = np.linspace(0.1, 2.0, 900), np.random.default_rng(0)
    residuals = torch.from_numpy(rng.standard_normal((600, 900)) * np.sqrt(variances))
    felt = smoother.effective_ridge(variances, 1.0, 2_400)
    assert metric(residuals, 1.0, 2_400).felt_ridge == pytest.approx(felt, rel=0.02)
    assert metric(residuals, 1.0).felt_ridge == pytest.approx(
        smoother.effective_ridge(variances, 1.0, 600), rel=0.02
    )
    assert metric(residuals, 1.0).felt_ridge > 1.2 * felt


def test_where_so_few_rows_cannot_tell_it_is_said(monkeypatch):
    monkeypatch.setattr(before_training, "MOST_ROWS", 200)
    X, y, a = mixture("heavy", 800, 0.8, 0, dims=900)
    report = audit.data(X, y, a, ridge=0.01)
    assert (
        "answers for 200" in report.about and "200 samples make" in report["effective_ridge"].says
    )
    with pytest.raises(ValueError, match="samples is 3"):
        metric(torch.eye(5, dtype=torch.float64), 1.0, 3)


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


def carriers_apart(counts, seed):
    """By how much ridge regression that is asked for the attribute alone tells carriers apart."""
    variances, told = np.linspace(0.5, 1.5, 120), []
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((2_000, 120)) * np.sqrt(variances)
    step = np.zeros(120)
    step[40] = 2 * MEANS["even"][1]  # from attribute -1 to +1
    for count in counts:
        marks = np.arange(2_000) < count
        X = noise + np.outer(marks, step)
        X, asked = X - X.mean(0), marks - marks.mean()
        weights = np.linalg.solve(X.T @ X / 2_000 + 0.1 * np.eye(120), X.T @ asked / 2_000)
        told.append(weights @ step)
    return told


def test_the_knee_is_where_training_with_more_and_more_carriers_learns_half():
    """Models are asked for the attribute alone, without the class, by 50 to 1,000 carriers."""
    knee = audit.data(*mixture("even", 4_000, 0.5, 0), samples=2_000)["knee"]
    counts = np.geomspace(50, 1_000, 12)
    told = np.mean([carriers_apart(counts.round(), seed) for seed in range(6)], 0)
    assert (np.diff(told) > 0).all() and told[0] < 0.3 and told[-1] > 0.6
    measured = np.interp(0.5, told, counts)
    assert knee.value == pytest.approx(measured, rel=0.1)
    assert knee.low < measured < knee.high
    assert "alone, without the class" in knee.says and "½ apart" in knee.says


def test_a_flip_and_an_endless_knee_do_not_contradict_each_other():
    report = audit.data(*mixture("heavy", 20_000, 0.95, 0), ridge=3.0)
    knee = report["knee"]
    assert knee.value == np.inf and report["flip_share"].state == "flagged"
    assert "alone, without the class" in knee.says and "may win all the same" in knee.says


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


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"ridge": 0.0}, "ridge is 0.0"), ({"ridge": True}, "ridge is True"),
     ({"ridge": "big"}, "ridge is 'big'"),
     ({"ridge": np.nan}, "ridge is nan"),
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
