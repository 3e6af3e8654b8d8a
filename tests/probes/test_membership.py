"""Membership inference against sklearn and brute force, and on models whose answer is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from helpers import data, models, training
from helpers.probes import membership
from helpers.probes.membership import Answers, Attacker

# few different values, so that ties are common
SCORES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=40)
THRESHOLDS = st.sampled_from([-np.inf, -5.0, -1.0, 0.0, 0.5, 2.0, np.inf])


def labelled(members, others):
    scores = np.concatenate([members, others])
    return np.arange(len(scores)) < len(members), scores


# -- the measure ----------------------------------------------------------------------------------


@given(SCORES, SCORES, THRESHOLDS)
def test_area_and_rates_agree_with_sklearn(members, others, threshold):
    found = membership.membership_inference(members, others, threshold)
    is_member, scores = labelled(members, others)
    assert found.auc == pytest.approx(roc_auc_score(is_member, scores))
    called = scores >= threshold
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(is_member, called))
    assert found.tpr == pytest.approx(called[is_member].mean())


@given(
    st.lists(st.integers(0, 2_000).map(float), min_size=1, max_size=30),
    st.lists(st.integers(0, 2_000).map(float), min_size=1, max_size=1_200),
)
def test_rates_at_a_low_false_positive_rate_are_points_of_the_curve(members, others):
    found = membership.membership_inference(members, others, 0.0)
    fpr, tpr, _ = roc_curve(*labelled(members, others), drop_intermediate=False)
    for level, value in ((0.01, found.tpr_1), (0.001, found.tpr_01)):
        assert value == pytest.approx(tpr[fpr <= level + 1e-12].max())


def test_rates_at_a_low_false_positive_rate_by_hand():
    found = membership.membership_inference([996.5, 997.5, 998.5, 989.5], np.arange(1000.0), 0.0)
    # above 998 are one of 1,000 others, above 989 ten
    assert (found.tpr_01, found.tpr_1) == (0.25, 1.0)


@given(SCORES, SCORES)
def test_members_and_others_change_places(members, others):
    there = membership.membership_inference(members, others, 0.0)
    back = membership.membership_inference(others, members, 0.0)
    assert there.auc + back.auc == pytest.approx(1)
    assert there.balanced_accuracy + back.balanced_accuracy == pytest.approx(1)


def test_who_always_says_member_finds_all_members_and_is_no_better_than_chance():
    found = membership.membership_inference([1.0, 2.0], [1.0, 5.0, 2.0], threshold=-np.inf)
    assert (found.tpr, found.fpr, found.balanced_accuracy) == (1, 1, 0.5)


@pytest.mark.parametrize(
    ("members", "others", "threshold", "message"),
    [
        ([], [1.0], 0.0, r"^member_scores has shape \(0,\)"),
        ([1.0], [], 0.0, r"nonmember_scores has shape \(0,\)"),
        ([[1.0, 2.0]], [1.0], 0.0, r"member_scores has shape \(1, 2\)"),
        ([1.0, np.nan], [1.0], 0.0, "member_scores has 1 NaN"),
        ([1.0], [np.nan, np.nan], 0.0, "nonmember_scores has 2 NaN"),
        ([1.0], [1.0], np.nan, "threshold is nan"),
    ],
)
def test_scores_that_cannot_be_judged(members, others, threshold, message):
    with pytest.raises(ValueError, match=message):
        membership.membership_inference(members, others, threshold)


# -- what the attacker looks at -------------------------------------------------------------------


def answers(size, seed, scale=3.0):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (size,), generator=draw)
    return Answers(scale * torch.randn(size, 10, generator=draw), labels)


@given(st.integers(4, 500), st.integers(0, 5))
def test_parts_are_equal_and_share_no_image(size, seed):
    parts = membership.four_parts(size, seed)
    assert set(map(len, parts.values())) == {size // 4} and len(parts) == 4
    assert len(torch.cat(list(parts.values())).unique()) == 4 * (size // 4)


def test_parts_depend_on_the_seed_alone():
    first, again, other = (membership.four_parts(80, seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["target-train"], other["target-train"])
    assert len(membership.four_parts(80, 0, part=7)["shadow-train"]) == 7


@pytest.mark.parametrize("part", [0, 26])
def test_parts_that_do_not_fit(part):
    with pytest.raises(ValueError, match=f"part is {part}: allowed is 1 to 25, a quarter of 103"):
        membership.four_parts(103, 0, part)


def test_features_are_sorted_outputs_and_a_flag():
    asked = answers(50, 0)
    outputs, labels = asked.outputs.double().numpy(), asked.labels.numpy()
    found = membership.features(asked)
    np.testing.assert_array_equal(found[:, :10], np.sort(outputs, axis=1))
    np.testing.assert_array_equal(found[:, 10], outputs.argmax(1) == labels)


def test_confidence_is_the_log_odds_of_the_label():
    asked = answers(200, 1)
    logs = log_softmax(asked.outputs.double().numpy(), axis=1)[np.arange(200), asked.labels]
    np.testing.assert_allclose(membership.confidence(asked), logs - np.log1p(-np.exp(logs)))


def test_answers_that_do_not_fit_are_refused():
    outputs, labels = torch.eye(3), torch.arange(3)
    cases = [
        (outputs, labels[:, None], r"labels \(3, 1\)"),  # compared with each other: (3, 3)
        (outputs, labels - 1, "labels has -1: allowed is 0 to 2"),
        (outputs, labels + 1, "labels has 3"),
        (outputs * np.nan, labels, "finite"),
        (outputs[:, :1], 0 * labels, "shape|labels has 0"),
    ]
    for f, y, message in cases:
        for read in (membership.features, membership.confidence, lambda answers: answers.correct):
            with pytest.raises(ValueError, match=message):
                read(Answers(f, y))


def test_confidence_does_not_saturate():
    sure = Answers(torch.tensor([[90.0, 0.0], [80.0, 0.0]]), torch.tensor([0, 0]))
    assert membership.confidence(sure).tolist() == [90, 80]
    assert sure.outputs.softmax(1)[:, 0].tolist() == [1, 1]


# -- the attacks ----------------------------------------------------------------------------------


def test_the_shadow_attack_knows_no_scale():
    """Features are standardised: outputs in other units make no other attack."""
    inside, outside, target = answers(300, 0, 5.0), answers(300, 1, 3.0), answers(100, 2, 4.0)
    found = membership.fit_shadow(inside, outside).decision_function(membership.features(target))
    scaled = [Answers(7 * a.outputs, a.labels) for a in (inside, outside, target)]
    again = membership.fit_shadow(*scaled[:2])
    np.testing.assert_allclose(
        again.decision_function(membership.features(scaled[2])), found, rtol=1e-4, atol=1e-6
    )


def test_the_shadow_attack_is_a_ridge_logistic_regression():
    inside, outside = answers(300, 0, 5.0), answers(200, 1, 3.0)
    attack = membership.fit_shadow(inside, outside)
    known = np.concatenate([membership.features(inside), membership.features(outside)])
    scaled = (known - known.mean(0)) / known.std(0)
    strength = attack[-1].C
    assert strength in membership.STRENGTHS
    direct = LogisticRegression(C=strength, tol=1e-8, max_iter=1_000)
    direct.fit(scaled, np.arange(500) < 300)
    np.testing.assert_allclose(
        attack.decision_function(known), direct.decision_function(scaled), atol=0.02
    )


def test_three_answers_of_each_kind_are_enough_to_learn_from():
    assert membership.fit_shadow(answers(3, 0), answers(3, 1))[-1].C in membership.STRENGTHS
    for sizes in ((2, 5), (5, 2)):
        with pytest.raises(ValueError, match="{} members and {} others: three".format(*sizes)):
            membership.fit_shadow(answers(sizes[0], 0), answers(sizes[1], 1))


@given(SCORES, SCORES)
def test_the_best_threshold_is_the_best_of_all(members, others):
    def reached(limit):
        return np.mean(np.array(members) >= limit) - np.mean(np.array(others) >= limit)

    threshold = membership.best_threshold(np.array(members), np.array(others))
    best = max(map(reached, {*members, *others, np.inf}))
    assert reached(threshold) == pytest.approx(best)


def test_what_is_printed_as_accuracy_compares_members_with_themselves():
    """By brute force, and from who changes sides with the flag (the specification's formula)."""
    inside, outside = answers(400, 0, 6.0), answers(400, 1, 2.0)
    attack = membership.fit_shadow(inside, outside)
    hits = 0
    for outputs, own, other in zip(inside.outputs, inside.correct, outside.correct, strict=True):
        ordered = sorted(outputs.double().tolist())
        said = [bool(attack.predict([[*ordered, float(flag)]])[0]) for flag in (own, other)]
        hits += said[0] + (not said[1])
    found = membership.printed_accuracy(attack, inside, outside)
    assert found == pytest.approx(hits / 800)


def test_what_is_printed_is_a_half_where_flags_are_equal():
    inside, outside = answers(100, 0), answers(100, 1, 0.1)
    attack = membership.fit_shadow(inside, outside)
    same = Answers(outside.outputs, outside.outputs.argmax(1))
    right = Answers(inside.outputs, inside.outputs.argmax(1))
    assert membership.printed_accuracy(attack, right, same) == 0.5
    real = Attacker(inside, outside).attack((right, right), (same, same))["shadow"]
    assert real.auc != pytest.approx(0.5, abs=0.1), "although the outputs differ"


def test_printed_accuracy_of_unequal_numbers():
    attack = membership.fit_shadow(answers(9, 0), answers(9, 1))
    with pytest.raises(ValueError, match="9 members and 8 others"):
        membership.printed_accuracy(attack, answers(9, 0), answers(8, 1))


def test_calibration_subtracts_what_the_shadow_network_says():
    target, shadow = answers(60, 3), answers(60, 4)
    shadow = Answers(shadow.outputs, target.labels)
    scores = Attacker(answers(50, 0), answers(50, 1)).scores(target, shadow)
    np.testing.assert_allclose(
        scores["calibrated"], membership.confidence(target) - membership.confidence(shadow)
    )
    np.testing.assert_array_equal(scores["confidence"], membership.confidence(target))
    with pytest.raises(ValueError, match="different labels"):
        Attacker(answers(50, 0), answers(50, 1)).scores(target, answers(60, 4))


# -- models whose answer is known -----------------------------------------------------------------


@pytest.fixture(scope="module")
def parts():
    digits = data.load("mnist5k")
    return {
        name: digits.rows(rows) for name, rows in membership.four_parts(len(digits), seed=0).items()
    }


def attacked(parts, answer):
    """All attacks on a model `answer(part, images)`: what it says after training on `part`."""
    asked = {
        (side, name): Answers(answer(parts[f"{side}-train"], part.images), part.labels)
        for side in ("target", "shadow")
        for name, part in parts.items()
    }
    attacker = Attacker(asked["shadow", "shadow-train"], asked["shadow", "shadow-test"])
    pairs = (
        (asked["target", name], asked["shadow", name]) for name in ("target-train", "target-test")
    )
    return attacker.attack(*pairs)


def standard_error(size):
    """Of the area under the curve of two samples of one law (the variance of Mann-Whitney's U)."""
    return np.sqrt((2 * size + 1) / (12 * size * size))


def test_who_remembers_every_image_is_found_out(parts):
    def nearest(train, images):
        distances = torch.cdist(images.flatten(1).float() / 255, train.images.flatten(1) / 255)
        return torch.stack([-distances[:, train.labels == k].amin(1) for k in range(10)], 1)

    for name, found in attacked(parts, nearest).items():
        assert found.auc > 0.99, name
        assert found.balanced_accuracy > 0.9 or name == "calibrated", name
        assert found.tpr_1 > 0.9, name


def test_a_model_that_saw_no_image_gives_nothing_away(parts):
    net = models.fully_connected(28 * 28, (256,) * 3, 10, seed=0)
    found = attacked(parts, lambda train, images: training.predict(net, images.float() / 255))
    four = 4 * standard_error(len(parts["target-test"]))
    for name, result in found.items():
        assert result.auc == pytest.approx(0.5, abs=four), name


def test_a_network_held_back_by_weight_decay_gives_nothing_away(parts):
    def decayed(train, images):
        net = models.fully_connected(28 * 28, (256,), 10, seed=0)
        how = training.Recipe(
            epochs=4, batch=128, learning_rate=0.01, decay=0.1, milestones=(2, 3, 3),
            optimiser="adam", weight_decay=0.03,
        )  # fmt: skip
        training.train(net, train.images.float() / 255, train.labels, how, seed=0)
        return training.predict(net, images.float() / 255)

    found = attacked(parts, decayed)
    four = 4 * standard_error(len(parts["target-test"]))
    assert found["shadow"].auc == pytest.approx(0.5, abs=four)
    assert found["confidence"].auc == pytest.approx(0.5, abs=four)
