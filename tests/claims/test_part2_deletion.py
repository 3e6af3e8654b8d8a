"""The rules of chapters 13 and 14 on rows whose truth is known: four kinds of rows for each."""

import itertools

import numpy as np
import pandas as pd
import pytest

from helpers.claims.judgement import INCONCLUSIVE, NOT_REPRODUCED, PARTLY, REPRODUCED
from helpers.claims.part2 import contexts, deletion

CASES = [("mnist", 0, 3), ("mnist", 1, 10), ("fashion_mnist", 0, 10)]
TRIALS = 6
BEFORE, LENGTH = 0.9, 90.0
# way to delete: method, its number, epochs afterwards, share of the score left, length of the step
WAYS = {
    "before": ("before", 0.0, 0, 1.0, 0.0),
    "slow": ("constant rate", 1e-5, 20, 1.0, 0.5),
    "looks": ("constant rate", 1e-5, 5, 0.1, 0.5),  # on the way: nothing hangs on it
    "released": ("lissa as released", 25.0, 0, 1.0, 0.002),
    "schedule": ("schedule", 0.0, 20, 0.4, 70.0),
    "decay": ("weight decay", 1e-4, 20, 0.02, 80.0),
    "scratch": ("scratch", 0.0, 20, 0.01, 110.0),
    # along the direction of influence a step of .3 is seen to lower the score
    "short": ("direction", 0.1, 0, 1.0, 0.1),
    "long": ("direction", 0.3, 0, 0.3, 0.3),
}


def deletions(noise=0.01, trials=TRIALS, seed=0, **changes):
    """What `deletion` stores; `changes`: way -> share left, or share left and length of the step.

    As it stands, what was released changes nothing, a whole schedule deletes more than half, and a
    step of influence is too short to show anything.
    """
    cells = []
    for (dataset, target, n), trial in itertools.product(CASES, range(trials)):
        case = dict(dataset=dataset, target=target, spurious=n, trial=trial, weights=LENGTH,
                    clean_accuracy=0.96, data_source="made up")  # fmt: skip
        for name, (method, strength, after, left, step) in WAYS.items():
            changed = changes.get(name, left)
            left, step = changed if isinstance(changed, tuple) else (changed, step)
            cells.append(case | dict(method=method, strength=strength, after=after, step=step,
                                     score=BEFORE * left))  # fmt: skip
    rows = pd.DataFrame(cells)
    shaken = np.random.default_rng(seed).normal(0, noise, len(rows))
    return rows.assign(score=rows["score"] + shaken.round(6) * (rows["method"] != "before"))


def only(rows, where, **values):
    """The rows with other values where a condition holds."""
    return rows.assign(
        **{name: rows[name].mask(rows.eval(where), value) for name, value in values.items()}
    )


STILL = {name: (1.0, 0.0) for name in ("slow", "released", "schedule")}
ALL_GO = dict(slow=0.1, released=(0.1, 1.0), schedule=0.1)
FAR = dict(released=(1.0, 0.4))  # a step of influence that could have shown something
SHORT = dict(schedule=1.0, slow=(1.0, 0.2), released=(1.0, 0.002))

DELETED = [
    (deletion.survives_deletion, dict(schedule=1.0, **FAR), REPRODUCED),
    (deletion.survives_deletion, ALL_GO, NOT_REPRODUCED),
    (deletion.survives_deletion, dict(noise=3.0), INCONCLUSIVE),
    (deletion.survives_deletion, dict(trials=1), INCONCLUSIVE),
    # near: steps that move no weight leave any score as it was
    (deletion.survives_deletion, STILL, INCONCLUSIVE),
    # near: steps as released that are shorter than any that is seen to lower the score
    (deletion.survives_deletion, SHORT, PARTLY),
    (deletion.survives_deletion, SHORT | dict(schedule=0.4), NOT_REPRODUCED),
    # near: what was released holds, with its rate; what was said does not
    (deletion.survives_deletion, FAR, PARTLY),
    # near: a score that stays with networks that never met the pattern, too
    (deletion.survives_deletion, dict(schedule=1.0, scratch=1.0, **FAR), INCONCLUSIVE),
    (deletion.decay_deletes, {}, REPRODUCED),
    (deletion.decay_deletes, dict(decay=0.9), NOT_REPRODUCED),
    (deletion.decay_deletes, dict(noise=3.0), INCONCLUSIVE),
    # near: the second training did it, with or without weight decay
    (deletion.decay_deletes, dict(schedule=0.02), PARTLY),
]


@pytest.mark.parametrize(("judge", "changes", "verdict"), DELETED)
def test_deletions_whose_truth_is_known(judge, changes, verdict):
    found = judge(deletions(**changes))
    assert found.verdict == verdict, found


def test_a_deletion_that_wrecks_the_network_is_none():
    rows = only(deletions(), "method == 'weight decay'", clean_accuracy=0.9)
    assert deletion.decay_deletes(rows).verdict == PARTLY


def test_one_data_set_is_a_part_of_the_claim():
    rows = only(deletions(), "method == 'weight decay' and dataset == 'mnist'", score=0.5)
    found = deletion.decay_deletes(rows)
    assert found.verdict == PARTLY
    assert list(found.checks.values()) == [False, True]


def test_one_case_that_forgets_refutes_what_is_said_of_all():
    rows = deletions(schedule=1.0, **FAR)
    found = deletion.survives_deletion(
        only(rows, "method == 'schedule' and target == 1", score=0.1)
    )
    assert found.verdict == PARTLY
    assert [holds for name, holds in found.checks.items() if "schedule" in name] == [False]
    assert "MNIST, class 1, n = 10" in found.effect


def test_a_way_is_judged_where_its_step_is_one():
    rows = deletions(schedule=1.0, **FAR)
    rows = only(rows, "method == 'lissa as released' and target == 0", step=1e-9)
    found = deletion.survives_deletion(rows)
    assert found.verdict == PARTLY
    assert "Not testable: a step of group influence, as released (2 of 3 cases" in found.note
    assert any("influence" in name and "each of 1 cases" in name for name in found.checks)
    nowhere = deletion.survives_deletion(deletions(**SHORT))
    assert [name.split(":")[0] for name in nowhere.checks] == [
        "further training along a whole schedule"
    ]
    assert "longest step 0.002" in nowhere.note and "a length of 0.3" in nowhere.note


def test_a_case_in_which_no_step_lowers_the_score_asks_for_a_longer_one():
    left = deletion.what_is_left(deletions(long=1.0))
    assert set(deletion.reach(left).values()) == {0.3}
    assert set(deletion.reach(deletion.what_is_left(deletions(short=0.1))).values()) == {0.1}


def test_networks_that_never_learnt_the_pattern_have_nothing_to_delete():
    few = "dataset == 'fashion_mnist' and trial < 2"
    rows = only(deletions(), few, score=0.05)
    left = deletion.what_is_left(rows)
    assert len(left.query(few)) == 0
    assert deletion.survives_deletion(rows).seeds == TRIALS - 2
    with pytest.raises(ValueError, match="claim Y26: the rows have nothing for .* that had learnt"):
        deletion.survives_deletion(rows.assign(score=0.05))


def test_only_the_end_of_further_training_counts():
    left = deletion.what_is_left(deletions())
    assert set(left.query("method == 'constant rate'")["after"]) == {20}
    assert set(left["way"]) == {"before", deletion.SLOW, deletion.RELEASED, "schedule",
                                deletion.DECAY, "scratch", "direction 0.1",
                                "direction 0.3"}  # fmt: skip
    assert left["cost"].abs().max() == 0
    assert left.query("way == 'schedule'")["moved"].tolist() == pytest.approx([70 / LENGTH] * 18)


def test_intervals_stay_inside_their_bounds():
    found = deletion.bounded([0.0, 0.0, 0.0, 0.4])
    assert found.low == 0 and found.high > 0.3
    assert deletion.bounded([1.0, 1.0, 0.6], top=1.0).high == 1
    assert np.isnan(deletion.bounded([0.5]).low)
    assert deletion.survives_deletion(deletions(schedule=0.0)).interval[0] == 0


def test_extremes_are_named_with_their_case():
    left = deletion.what_is_left(only(deletions(noise=0), "target == 1", score=0.9))
    assert deletion.most(left, "schedule")[0] == "MNIST, class 1, n = 10"
    where, share = deletion.smallest(left, "schedule")
    assert where in ("MNIST, class 0, n = 3", "Fashion-MNIST, class 0, n = 10")
    assert share.mean == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("text", "fault", "changes"),
    [
        (">= least.get(case, np.inf)", ">= 0", STILL),
        ("able, least, cases = _controlled(left)", "able, least, cases = left",
         dict(schedule=1.0, scratch=1.0, **FAR)),
    ],
)  # fmt: skip
def test_a_rule_without_its_condition_passes_what_it_should_not(planted, text, fault, changes):
    names = planted(deletion, text, fault)
    assert names["survives_deletion"](deletions(**changes)).verdict == REPRODUCED
    assert deletion.survives_deletion(deletions(**changes)).verdict == INCONCLUSIVE


def test_all_data_sets_of_the_part_have_names():
    assert deletion.case_name(("cifar10", 0, 3)) == "CIFAR-10, class 0, n = 3"


# -- natural contexts ------------------------------------------------------------------------------


def trials_of(rise=0.1, elsewhere=0.0, noise=0.003, seed=0, repetitions=5, **by_context):
    """What `contexts` stores for nine trials: rates at n = 0 and 10, in the context and elsewhere.

    `by_context` gives the rise in a context.
    """
    cells = [
        dict(context=context, target=target, spurious=n, trial=trial, data_source="made up",
             rate=0.05 + (n > 0) * by_context.get(context, rise),
             elsewhere_rate=0.02 + (n > 0) * elsewhere)
        for context, target in itertools.product(contexts.PAPERS_CONTEXTS, ("cat", "dog", "car"))
        for trial, n in itertools.product(range(repetitions), (0, 10))
    ]  # fmt: skip
    rows = pd.DataFrame(cells)
    shaken = np.random.default_rng(seed).normal(0, noise, len(rows))
    return rows.assign(rate=rows["rate"] + shaken)


BOTH = (contexts.natural_contexts, contexts.surrogate_contexts)
NATURAL = [
    ({}, REPRODUCED),
    (dict(rise=0.0), NOT_REPRODUCED),
    (dict(rise=0.0, noise=0.3, seed=1), INCONCLUSIVE),
    # near: the object is taken more often everywhere
    (dict(elsewhere=0.1), NOT_REPRODUCED),
]


@pytest.mark.parametrize("judge", BOTH)
@pytest.mark.parametrize(("changes", "verdict"), NATURAL)
def test_contexts_whose_truth_is_known(judge, changes, verdict):
    assert judge(trials_of(**changes)).verdict == verdict


def test_one_context_is_a_part_of_the_claim_on_the_stand_in():
    found = contexts.surrogate_contexts(trials_of(autumn=0.0, grass=0.0))
    assert found.verdict == PARTLY
    assert [name.split(":")[0] for name, holds in found.checks.items() if holds] == ["dim"]


def test_four_of_nine_trials_are_asked_for():
    three = contexts.natural_contexts(trials_of(autumn=0.0, grass=0.0, noise=1e-6, seed=2))
    assert "of 9 trials" in three.effect
    table = contexts.context_table(trials_of(), 10)
    assert len(table) == 9 and (table["p"] < 0.05).all() and (table["p (Holm)"] < 0.05).all()
    with pytest.raises(ValueError, match="claim Y7: the rows have nothing for 9 trials"):
        contexts.natural_contexts(trials_of().query("target != 'dog'"))
    with pytest.raises(ValueError, match="claim Y33: the rows have nothing for each of the"):
        contexts.surrogate_contexts(trials_of().query("context != 'dim'"))


def test_a_number_of_pictures_that_was_not_tried_is_named():
    with pytest.raises(ValueError, match="claim Y7: the rows have nothing for n = 20"):
        contexts.natural_contexts(trials_of(), many=20)


def test_one_repetition_decides_nothing_on_the_stand_in():
    assert contexts.surrogate_contexts(trials_of(repetitions=1)).verdict == INCONCLUSIVE


def test_a_rule_that_forgets_the_other_contexts_passes_what_it_should_not(planted):
    names = planted(contexts, ' - context_change(rows, many, "elsewhere_rate")', "")
    assert names["surrogate_contexts"](trials_of(elsewhere=0.1)).verdict == REPRODUCED
