"""Rules on accuracy by group and epoch: rows whose truth is known, and networks that know less."""

import functools
import itertools

import numpy as np
import pandas as pd
import pytest

from helpers.claims.judgement import INCONCLUSIVE, NOT_REPRODUCED, PARTLY, REPRODUCED
from helpers.claims.part3 import gaps
from tests.claims.equal_damage import none, random_sets, strong

EPOCHS, NETWORKS = 12, 10
FITTED, KNOWN = (1.0, 0.97, 0.92, 1.0), (0.98, 0.75, 0.55, 0.96)  # after the last epoch
LATE = (2, 6, 9, 3)  # epoch in which a group is learnt
ALIKE = (3, 3, 3, 3)
SETTINGS = ("sky", "birds", "birds, transformer")
NO = (0.0,) * 4


def rows(
    train=FITTED, test=KNOWN, learnt=LATE, trials=NETWORKS, scatter=0.004, settings=SETTINGS,
    seed=0, **changes,
):  # fmt: skip
    """What `minority` stores: half of each group is told before it is learnt."""
    made = pd.DataFrame(
        itertools.product(settings, range(trials), range(EPOCHS + 1)),
        columns=["setting", "trial", "epoch"],
    ).assign(data_source="made up")
    draw = np.random.default_rng(seed)
    for g in range(4):
        for split, at_end in (("train", train), ("test", test)):
            noise = draw.normal(0, scatter, len(made))
            known = made["epoch"] >= learnt[g]
            made[f"{split}_{g}"] = np.where(known, at_end[g], 0.5) - np.abs(noise)
    for column, (where, values) in changes.items():
        made.loc[made.eval(where), column] = values
    return made


def at(where, **values):
    return {name: (where, value) for name, value in values.items()}


def hidden(
    ranked=(0.0, 0.1, 0.1, 0.0), like=(0.0, 0.02, 0.02, 0.0), trials=NETWORKS, felt=1, seed=0
):
    """What `paired_lesions` stores of a transformer; fewer units than `felt` do nothing."""
    rankings = ("gradient 1", "gradient 2")
    made = pd.DataFrame(
        itertools.product(rankings, (1, 2, 3, 30), range(trials)),
        columns=["ranking", "amount", "trial"],
    ).assign(setting="birds, transformer", data_source="made up")
    draw = np.random.default_rng(seed)
    for kind, means in (("ranked", ranked), ("like", like)):
        for g in range(4):
            loss = means[g] + draw.normal(0, 0.001, len(made)) * (means != NO)
            made[f"{kind}_lost_{g}"] = np.where(made["amount"] >= felt, loss, 0.0)
    return made


@functools.cache
def single_sets(law):
    """What `random_lesions` stores of a transformer."""
    return random_sets(("birds, transformer",), NETWORKS, law, ("gradient 1", "gradient 2"))


def judged(claim, paired=None, law=none, **changes):
    if claim == "M12":
        return gaps.transformer(rows(**changes), hidden(**paired or {}), single_sets(law))
    return {"M1": gaps.gap, "M3": gaps.later}[claim](rows(**changes))


# an attribute that is permuted: the rare groups are random parts of the others
PERMUTED = dict(test=(0.9, 0.91, 0.9, 0.91), learnt=ALIKE)
UNTRAINED = dict(learnt=(EPOCHS + 1,) * 4, scatter=0.05)
KINDS = {
    "M1": dict(false=dict(test=FITTED), nothing=dict(trials=2), near=PERMUTED),
    "M3": dict(false=dict(learnt=ALIKE), nothing=dict(trials=2), near=PERMUTED),
    "M12": dict(
        false=dict(test=FITTED, paired=dict(ranked=NO, like=NO)),
        nothing=dict(trials=2, paired=dict(trials=2)),
        near=PERMUTED | dict(paired=dict(like=(0.0, 0.1, 0.1, 0.0))),
    ),
}
ROWS = {
    claim: lambda kind, claim=claim, kinds=kinds: judged(claim, **kinds.get(kind, {}))
    for claim, kinds in KINDS.items()
}


def test_the_rule_answers(asked):
    asked()


SKY, END = "setting == 'sky'", f"setting == 'sky' and epoch == {EPOCHS}"
CASES = [
    *((claim, dict(settings=("digits",)), REPRODUCED) for claim in ("M1", "M3")),
    *((claim, UNTRAINED, NOT_REPRODUCED) for claim in ("M1", "M3")),
    *((claim, dict(train=NO, test=NO, scatter=0), NOT_REPRODUCED) for claim in ("M1", "M3")),
    ("M1", PERMUTED, NOT_REPRODUCED),
    ("M3", PERMUTED, NOT_REPRODUCED),
    # overfitted to every group alike
    ("M1", dict(test=(0.6,) * 4), NOT_REPRODUCED),
    # not fitted at all: that is no memory
    ("M1", dict(train=(1.0, 0.97, 0.7, 1.0), test=(0.98, 0.75, 0.4, 0.96)), NOT_REPRODUCED),
    # one rare group of two
    ("M1", dict(test=(0.98, 0.75, 0.85, 0.96)), NOT_REPRODUCED),
    ("M1", at(f"{END} and trial % 2 == 0", test_1=0.95, test_2=0.9), INCONCLUSIVE),
    # garments alone, and photographs alone
    ("M1", at(END, test_1=0.97, test_2=0.92), NOT_REPRODUCED),
    ("M1", at("setting == 'birds'", test_1=0.97, test_2=0.92), PARTLY),
    # on garments the direction is enough
    ("M1", at("setting == 'birds'", test_1=0.9, test_2=0.85), REPRODUCED),
    # the gap of an epoch on the way says nothing
    ("M1", at("epoch == 9", test_1=1.0, test_2=1.0, train_0=0.0), REPRODUCED),
    ("M3", dict(learnt=(2, 6, EPOCHS + 1, 3)), REPRODUCED),
    ("M3", dict(learnt=(2, 2, 9, 3)), NOT_REPRODUCED),
    # later than one frequent group, earlier than the other
    ("M3", dict(learnt=(2, 6, 9, 8)), NOT_REPRODUCED),
    ("M3", at(f"{SKY} and trial % 2 == 0", train_1=1.0, train_2=1.0), INCONCLUSIVE),
    ("M3", at("setting == 'birds'", train_1=1.0, train_2=1.0), PARTLY),
    ("M3", at(SKY, train_1=1.0, train_2=1.0), NOT_REPRODUCED),
    # both parts, or none
    ("M12", dict(paired=dict(ranked=(0.1, 0.1, 0.1, 0.1))), NOT_REPRODUCED),
    ("M12", dict(test=FITTED), NOT_REPRODUCED),
    # no number of units is felt, in all networks or in too many
    ("M12", dict(paired=dict(ranked=NO, like=NO)), INCONCLUSIVE),
    ("M12", dict(paired=dict(felt=10)), REPRODUCED),
    ("M12", dict(paired=dict(felt=100)), INCONCLUSIVE),
    # as selective as whatever does so much damage
    ("M12", dict(law=strong), NOT_REPRODUCED),
    # one rare group alone: frequent groups with a gap
    ("M1", dict(settings=(*SETTINGS, "sky faces")), PARTLY),
    (
        "M1",
        dict(settings=(*SETTINGS, "sky faces"), **at("setting == 'sky faces'", test_2=0.9)),
        REPRODUCED,
    ),
    ("M12", dict(paired=dict(trials=4)), INCONCLUSIVE),
    ("M12", at(SKY, test_1=0.97, test_2=0.92), REPRODUCED),
]


@pytest.mark.parametrize(("claim", "changes", "verdict"), CASES)
def test_rows_whose_truth_is_known(claim, changes, verdict):
    found = judged(claim, **changes)
    assert found.verdict == verdict, found


def test_effects_are_the_means_of_these_rows():
    found = judged("M1", scatter=0)
    # gaps of 2, 22, 37 and 4 points
    assert found.effect.startswith("gap of rare minus frequent groups +26.5 points")
    assert "group 2 +37.0 points" in found.effect and found.seeds == NETWORKS
    late = judged("M3", scatter=0).effect
    assert late == "epochs later, rare minus frequent groups: +5.0 [+5.0, +5.0]"


def test_a_group_that_is_never_learnt_counts_as_one_epoch_after_the_last():
    made = rows(learnt=(2, 6, EPOCHS + 1, 0))
    first = gaps.first_epoch(made, "sky")
    assert first.loc[0].tolist() == [2, 6, EPOCHS + 1, 1]


@pytest.mark.parametrize(
    ("text", "fault", "case"),
    [
        ("FITTED, GAP, HARDLY = 0.85, 0.15, 0.06", "FITTED, GAP, HARDLY = 0.85, 0.15, 0.5",
         dict(train=(1.0, 0.98, 0.97, 1.0), test=(0.8, 0.6, 0.55, 0.8))),
        ("FITTED, GAP, HARDLY = 0.85, 0.15, 0.06", "FITTED, GAP, HARDLY = 0.2, 0.15, 0.06",
         dict(train=(1.0, 0.97, 0.7, 1.0), test=(0.98, 0.75, 0.4, 0.96))),
        ('here["epoch"] == here["epoch"].max()', 'here["epoch"] == here["epoch"].min()', {}),
    ],
)  # fmt: skip
def test_these_tests_notice_a_planted_fault(planted, text, fault, case):
    right, broken = gaps.gap, planted(gaps, text, fault)["gap"]
    assert right(rows(**case)).verdict != broken(rows(**case)).verdict
