"""The rules of chapter 11 on rows whose truth is known: four kinds of rows for each."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from helpers.claims.judgement import INCONCLUSIVE, NOT_REPRODUCED, PARTLY, REPRODUCED
from helpers.claims.part2 import in_out, leaks

SETS = ("mnist", "fashion_mnist")


def attacks(lift=0.0, splits=60, seed=0, counts=(0, 1, 10), change=0.0, wobble=0.0005, only=None):
    """What `membership` stores.

    A member with the pattern scores `lift / n` standard deviations above others with the pattern,
    in all cases, or in those of the pairs (data set, pattern) in `only`; plain members score like
    others. All images with the pattern are called members. Trained on it, the accuracy with the
    pattern changes by `change`.
    """
    cells = itertools.product(range(splits), SETS, leaks.PATTERNS, counts)
    rows = pd.DataFrame(cells, columns=["trial", "dataset", "pattern", "spurious"])
    draw, n = np.random.default_rng(seed), rows["spurious"].to_numpy()
    here = lift / np.maximum(n, 1)
    if only is not None:
        here = here * [pair in only for pair in zip(rows["dataset"], rows["pattern"], strict=True)]
    first = np.arange(max(counts)) < np.maximum(n, 1)[:, None]  # the members among as many draws
    for name in leaks.ATTACKS:
        ranks = norm.cdf(draw.normal(here[:, None], 1, first.shape))
        rows[f"auc_pattern_{name}"] = (ranks * first).sum(1) / first.sum(1)
        rows[f"auc_plain_{name}"] = 0.5 + draw.normal(0, 0.005, len(rows))
    accuracy = 0.9 + (n > 0) * change + draw.normal(0, wobble, len(rows))
    constant = dict(epochs=20, tpr_pattern_shadow=1.0, fpr_pattern_shadow=1.0)
    return rows.assign(spurious_accuracy=accuracy, data_source="made up", **constant)


def answers(lift=0.0, images=24, trials=4, seed=0, plain=0.0, start="own", pattern=6.0):
    """What `membership_in_out` stores; `lift` and `plain` in standard deviations of networks.

    Images differ by far more than networks do; the pattern raises all answers to it.
    """
    draw = np.random.default_rng(seed)
    rows = []
    for dataset, trial in itertools.product(SETS, range(trials)):
        ease = draw.normal(0, 20, images)[:, None]
        for variant in ("plain", *leaks.PATTERNS):
            own = np.eye(images) * (plain if variant == "plain" else lift)
            rise = 0.0 if variant == "plain" else pattern
            with_ = ease + rise + own + draw.normal(0, 1, (images, images))
            without = with_ if variant == "plain" else ease + draw.normal(0, 1, (images, images))
            for k in range(images):
                row = dict(dataset=dataset, variant=variant, start=start, trial=trial, image=k)
                row |= dict(images=images, accuracy=0.9, accuracy_before=0.9)
                row |= {f"with_{j}": with_[k, j] for j in range(images)}
                rows.append(row | {f"without_{j}": without[k, j] for j in range(images)})
    return pd.DataFrame(rows)


LEAKS = [
    (dict(lift=2.0), REPRODUCED),
    (dict(lift=0.0, splits=1_500), NOT_REPRODUCED),  # all with the pattern are called members
    (dict(lift=0.0, splits=12), INCONCLUSIVE),  # no information
    (dict(lift=-2.0), NOT_REPRODUCED),
    (dict(lift=2.0, only=[("fashion_mnist", "S3")]), PARTLY),
    (dict(lift=2.0, counts=(0, 1)), PARTLY),  # nothing says that it falls with n
    (dict(lift=2.0, splits=1), INCONCLUSIVE),
]


@pytest.mark.parametrize(("made", "verdict"), LEAKS)
def test_who_leaks(made, verdict):
    found = leaks.rare_leaks_more(attacks(**made))
    assert found.verdict == verdict, (found.all_checks, found.effect, found.interval)


def test_a_leak_that_does_not_fall_with_n_is_only_partly_the_claim():
    rows = attacks(lift=2.0)
    ten, one = attacks(lift=20.0, seed=1), rows["spurious"] != 10
    rows = pd.concat([rows[one], ten[ten["spurious"] == 10]])
    assert leaks.rare_leaks_more(rows).verdict == PARTLY


def test_a_leak_of_the_splits_that_were_seen_is_none():
    """The first ten splits alone leak, or all others alone; over all of them both show."""
    none, strong = attacks(lift=0.0, splits=20), attacks(lift=4.0, splits=20, seed=1)
    for first, then in ((strong, none), (none, strong)):
        seen = first["trial"] < leaks.SEEN
        rows = pd.concat([first[seen], then[~seen]])
        assert leaks.leaking(leaks.gaps(rows[rows["trial"] < leaks.SEEN])).all() == (
            first is strong
        )
        found = leaks.rare_leaks_more(rows)
        if first is strong:
            assert found.verdict == INCONCLUSIVE and not any(found.checks.values())
    assert leaks.found_twice(strong)["found"].all()


def test_chance_finds_no_leak_in_two_dozen_comparisons():
    """Without a correction, two dozen intervals of 95 % would find one in every second study."""
    found = [
        leaks.leaking(leaks.gaps(attacks(seed=s, splits=20, counts=(0, 1)))) for s in range(20)
    ]
    assert sum(each.any() for each in found) <= 3
    assert all(len(each) == 24 for each in found)


def test_a_likelihood_ratio_counts_where_its_attacker_has_seeds_of_his_own():
    quiet = attacks(splits=60)
    own, known = answers(lift=3.0), answers(lift=3.0, start="known")
    table = leaks.gaps(quiet, leaks.own_seeds(own))
    assert set(table.index[leaks.leaking(table)].get_level_values("attack")) == {leaks.RATIO}
    assert len(table) == 32 and leaks.leaking(table).sum() == 8
    assert leaks.rare_leaks_more(quiet, own).verdict == PARTLY  # it has one n alone
    without = leaks.rare_leaks_more(quiet)
    assert leaks.rare_leaks_more(quiet, known).all_checks == without.all_checks
    assert "likelihood" not in leaks.rare_leaks_more(quiet, known).effect


UNSEEN = [
    (dict(lift=2.0), REPRODUCED),
    (dict(lift=0.0, splits=1_500), NOT_REPRODUCED),
    (dict(lift=2.0, change=-0.03), INCONCLUSIVE),  # everywhere the accuracy tells
    (dict(lift=2.0, wobble=0.05, splits=20), INCONCLUSIVE),  # nobody knows whether it tells
    (dict(lift=0.0, splits=12), INCONCLUSIVE),
]


@pytest.mark.parametrize(("made", "verdict"), UNSEEN)
def test_leaks_that_the_accuracy_does_not_show(made, verdict):
    found = leaks.leak_unseen(attacks(**made))
    assert found.verdict == verdict, (found.all_checks, found.effect)


def test_a_leak_where_the_accuracy_tells_is_no_unseen_one():
    """The cases that keep their accuracy do not leak, those that leak lose it."""
    loud = attacks(lift=2.0, change=-0.05)
    quiet = attacks(splits=1_500)
    rows = pd.concat([loud[loud["pattern"] != "S1"], quiet[quiet["pattern"] == "S1"]])
    kept = leaks.kept_accuracy(rows)
    assert set(kept.index[kept["kept"]].get_level_values("pattern")) == {"S1"}
    assert leaks.leak_unseen(rows).verdict == NOT_REPRODUCED


def test_networks_that_differ_in_one_image_are_a_design_of_their_own():
    """Their change of accuracy is that of each data set and pattern, and counts at n = 1."""
    own = answers()
    less = (own["dataset"] == "mnist") & (own["variant"] == "S1")
    wobble = np.resize([-0.001, 0.001], len(own))
    own = own.assign(accuracy=0.9 + wobble - 0.05 * less)
    kept = leaks.kept_accuracy(attacks(counts=(0, 1)), own).xs(leaks.ONE_IMAGE, level="design")
    assert set(kept.index) == set(itertools.product(SETS, leaks.PATTERNS, [1]))
    assert list(kept.index[~kept["kept"]]) == [("mnist", "S1", 1)]
    assert kept.loc["mnist", "S1", 1]["mean"] == pytest.approx(-0.05)
    assert kept["before"].to_numpy() == pytest.approx(0.9)


PANELS = list(itertools.product((*SETS, "cifar10"), (0, 1)))


def accuracies(r3=0.6, s3=0.1, fall=0.3, noise=0.02, trials=5, seed=0, many=2_000):
    """What `rare_patterns` stores: accuracy lost to each pattern at n = 0 and, further, later."""
    draw = np.random.default_rng(seed)
    start = {"R3": r3, "S3": s3}
    rows = [
        dict(dataset=dataset, target=target, pattern=name, spurious=n, trial=trial, epochs=epochs,
             samples=60_000, data_source="made up", clean_accuracy=0.95,
             spurious_accuracy=0.95 - lost - (n > 0) * fall * (name == "S3")
             + draw.normal(0, noise))
        for (dataset, target), (name, lost), n, trial, epochs in itertools.product(
            PANELS, start.items(), (0, many), range(trials), (10, 70))
    ]  # fmt: skip
    return pd.DataFrame(rows)


LOW = [
    (dict(), REPRODUCED),
    (dict(r3=0.0, s3=0.0, fall=0.0), NOT_REPRODUCED),
    (dict(r3=0.3, s3=0.0, noise=9.0, fall=0.0), INCONCLUSIVE),
    (dict(s3=0.6), PARTLY),  # noise costs no more than a square
    (dict(fall=0.0), PARTLY),  # low from the start, and that is all
]


@pytest.mark.parametrize(("made", "verdict"), LOW)
def test_accuracy_with_the_pattern(made, verdict):
    found = leaks.low_and_lower(accuracies(**made))
    assert found.verdict == verdict, found.all_checks
    assert found.seeds == 5


def test_a_fall_counts_once_many_images_carry_the_pattern():
    few = leaks.low_and_lower(accuracies(fall=0.0, many=100))
    assert few.verdict == PARTLY and not any("many" in name for name in few.checks)
    assert len(few.side) == len(PANELS) and not any(few.side.values())


@pytest.mark.parametrize("lost", ["dataset == 'cifar10' and target == 1", "pattern == 'S3'"])
def test_a_panel_that_was_not_run_restricts_what_was_shown(lost):
    rows = accuracies()
    found = leaks.low_and_lower(rows[~rows.eval(lost)])
    assert found.verdict == PARTLY and found.side and not any(found.side.values())


# -- one image, many networks ----------------------------------------------------------------------


def test_both_controls_of_the_likelihood_ratio():
    """Networks that store their image are found, and a permuted membership is not."""
    rows = answers(lift=8.0)
    assert in_out.auc(in_out.this_image(rows, "R3")).mean > 0.999
    assert in_out.named(in_out.this_image(rows, "R3")).mean > 0.98
    for attack in in_out.NAMES:
        chance = in_out.auc(in_out.permuted(rows, "R3", attack))
        assert chance.low < 0.5 < chance.high
    plain = in_out.auc(in_out.this_image(rows, "plain"))
    assert plain.low < 0.5 < plain.high


def test_a_pattern_without_its_image():
    """Every network answers to the pattern, none to its image: one question yes, the other no."""
    rows = answers(lift=0.0, pattern=6.0)
    image, pattern = in_out.this_image(rows, "S1"), in_out.this_pattern(rows, "S1")
    assert in_out.auc(image).low < 0.5 < in_out.auc(image).high
    assert in_out.auc(pattern).low > 0.99
    cells = in_out.four_cells(rows, "S1")
    assert cells["other image", "pattern"] - cells["other image", "no pattern"] > 4
    unknown = in_out.auc(in_out.this_pattern(answers(pattern=0.0), "S1"))
    assert unknown.low < 0.5 < unknown.high


def test_images_that_differ_hide_from_the_loss_and_not_from_the_ratio():
    rows = answers(lift=2.0)
    ratio, loss = (in_out.auc(in_out.this_image(rows, "S2", name)).mean for name in in_out.NAMES)
    assert ratio > 0.85 and loss < 0.6


def test_the_area_is_that_of_scikit_learn():
    draw = np.random.default_rng(0)
    scores = draw.integers(0, 5, (4, 4)).astype(float)
    own = np.eye(4, dtype=bool)
    question = in_out.Question(np.where(own, scores, np.nan), np.where(own, np.nan, scores))
    expected = roc_auc_score(own.ravel(), scores.ravel())
    assert in_out.above(question).mean() == pytest.approx(expected)


def test_intervals_over_images_hold_the_truth():
    """Of many small studies, about 19 of 20 intervals hold the true value of the area."""
    truth = in_out.auc(
        in_out.this_image(answers(lift=1.0, trials=40, images=24), "S1", "loss")
    ).mean
    hits = 0
    for seed in range(25):
        rows = answers(lift=1.0, trials=1, seed=seed, images=24)
        found = in_out.auc(in_out.this_image(rows, "S1", "loss"))
        hits += found.low <= truth <= found.high
    assert hits >= 20


def test_judges_of_an_attacker_with_seeds_of_his_own_saw_other_batches():
    rows = answers(images=6, trials=1)
    _, _, own = next(in_out.draws(rows, "R3"))
    assert own.sum(1).tolist() == [4] * 6 and not own[0, 1] and own[0, 2]
    _, _, known = next(in_out.draws(rows.assign(start="known"), "R3"))
    assert known.sum() == 30


def test_what_is_refused():
    rows = answers(images=6, trials=1)
    with pytest.raises(ValueError, match="of 6 images"):
        in_out.this_image(rows[rows["image"] != 3], "R3")
    with pytest.raises(LookupError, match="Inv"):
        in_out.this_image(rows, "Inv")
    with pytest.raises(ValueError, match="3 are needed"):
        in_out.this_image(answers(images=3, trials=1), "R3")
    with pytest.raises(ValueError, match="claim Y8: the rows have nothing for"):
        leaks.rare_leaks_more(attacks(splits=6), rows[rows["variant"] != "plain"])


FAULTS = [
    # text of the rules, fault, rows, the name of the rule
    ("1 - 0.05 / max(len(keys), 1)", "0.95", dict(lift=0.45, splits=30, only=[("mnist", "S1")])),
    ('rows[f"auc_plain_{name}"]', "0.0", dict(splits=60)),
    ('excluded=bool((table["high_all"] < LEAK).all()),\n    )  # fmt', "excluded=True)  # fmt",
     dict(splits=12)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault", "made"), FAULTS)
def test_planted_faults_change_the_verdict(planted, text, fault, made):
    rows = attacks(**made)
    right = leaks.rare_leaks_more(rows).verdict
    assert planted(leaks, text, fault)["rare_leaks_more"](rows).verdict != right


def test_a_fault_in_what_is_kept(planted):
    rows = attacks(lift=2.0, change=-0.03)
    assert leaks.leak_unseen(rows).verdict == INCONCLUSIVE
    broken = planted(leaks, '(table["low"] > -KEPT) & ', "")["leak_unseen"]
    assert broken(rows).verdict == REPRODUCED
