"""The rules of chapter 24 on rows whose truth is known: four kinds of rows for each."""

import itertools

import numpy as np
import pandas as pd
import pytest

from helpers.claims.judgement import INCONCLUSIVE, NOT_REPRODUCED, PARTLY, REPRODUCED
from helpers.claims.part4 import resnet

SETS, TRIALS = ("digits", "pets", "garments"), 10
SHOWN, HIDDEN = dict(told_centred=0.95, conflicting_centred=0.05), dict(
    told_centred=0.6, conflicting_centred=0.6)  # fmt: skip


def rows(start=SHOWN, seed=0, noise=0.01, trials=TRIALS, **changes):
    """What `resnet_kernels` stores; `start`: what untrained networks show at a share above 1/2."""
    cells = []
    for name, trial, images in itertools.product(SETS, range(trials), (200, 600)):
        base = dict(dataset=name, trial=trial, images=images, rho=0.9, loss="logistic", width=16,
                    kernel="resnet", stage="start", statistics="data", data_source="made up",
                    a_bias_centred=0.3, a_label_centred=0.2,
                    a_null_centred=0.005)  # fmt: skip
        closed = dict(width=0, statistics="none", **SHOWN)
        half = dict(rho=0.5, images=200, a_label_centred=0.01)
        cells += [base | dict(statistics=s) | start for s in ("data", "none")]
        cells += [base | closed | dict(kernel=kind) for kind in ("linear", "relu")]
        if images == 200:
            cells += [base | HIDDEN | half | dict(statistics=s) for s in ("data", "none")]
            cells += [
                base | closed | half | dict(kernel=k, conflicting_centred=0.5)
                for k in ("linear", "relu")
            ]
            cells += [base | SHOWN | dict(stage="end", loss=loss) for loss in ("logistic", "sd")]
    made = pd.DataFrame(cells)
    draw = np.random.default_rng(seed)
    sd = made["loss"] == "sd"
    made["train_accuracy"], made["aligned_output"] = 1.0, 0.95
    made["conflicting_output"] = 0.3 + draw.normal(0, noise, len(made))
    made["explained_bias"] = 0.6 + draw.normal(0, noise, len(made))
    made["explained_label"] = 0.1
    made["margin_cv"] = np.where(sd, 0.2, 0.5) + draw.normal(0, 0.01, len(made))
    made["share"] = 0.7 + draw.normal(0, noise, len(made))
    made["rival"] = 0.2
    made["a_bias_centred"] *= np.exp(draw.normal(0, noise, len(made)))
    for column, (where, values) in changes.items():
        made.loc[made.eval(where), column] = values
    return made


def at(where, **values):
    return {name: (where, value) for name, value in values.items()}


NETWORKS = "kernel == 'resnet' and stage == 'start' and rho > 0.5"
HALF = "kernel == 'resnet' and rho == 0.5"
RULES = {"L19": resnet.first_modes, "L24": resnet.first_modes_off, "L23": resnet.availability,
         "L20": resnet.after_training, "L21": resnet.margin_control}  # fmt: skip
END = "stage == 'end'"
# no shortcut: the worst of four equal groups lies below their average all the same
NONE = at(END, aligned_output=0.9, conflicting_output=0.895)
CASES = [
    ("L19", {}, REPRODUCED),
    ("L19", dict(start=HIDDEN), NOT_REPRODUCED),
    ("L19", at("trial > 4 and " + NETWORKS, told_centred=0.7), INCONCLUSIVE),
    ("L19", dict(trials=2), INCONCLUSIVE),
    # near: an attribute that is told, but not in the place of the label
    ("L19", at(NETWORKS, conflicting_centred=0.5), NOT_REPRODUCED),
    # near: the other setting of normalisation
    ("L19", at(NETWORKS + " and statistics == 'data'", **HIDDEN), NOT_REPRODUCED),
    ("L24", at(NETWORKS + " and statistics == 'data'", **HIDDEN), REPRODUCED),
    ("L24", at(NETWORKS + " and statistics == 'none'", **HIDDEN), NOT_REPRODUCED),
    ("L24", at(NETWORKS + " and trial > 4", told_centred=0.7), INCONCLUSIVE),
    ("L24", at(NETWORKS, conflicting_centred=0.5), NOT_REPRODUCED),
    # one set excludes it and no other shows it
    (
        "L19",
        at(NETWORKS + " and (trial > 4 or dataset == 'pets')", told_centred=0.7),
        NOT_REPRODUCED,
    ),
    # near: some sets of several
    ("L19", at(NETWORKS + " and dataset == 'pets'", **HIDDEN), PARTLY),
    ("L23", {}, REPRODUCED),
    ("L23", at(HALF, a_bias_centred=0.002), NOT_REPRODUCED),
    ("L23", at(HALF + " and trial > 0", a_bias_centred=0.0003), INCONCLUSIVE),
    # near: a label that is as available as a permuted attribute says nothing of the two
    ("L23", at(HALF, a_label_centred=0.005), INCONCLUSIVE),
    ("L23", at(HALF + " and dataset == 'pets'", a_label_centred=0.005), REPRODUCED),
    (
        "L23",
        at(HALF + " and dataset == 'pets'", a_label_centred=0.005, a_bias_centred=0.005),
        PARTLY,
    ),
    # near: an attribute above the label, and no more available than a permuted one
    (
        "L23",
        at(HALF, a_bias_centred=0.02, a_null_centred=0.02, a_label_centred=0.015),
        INCONCLUSIVE,
    ),
    # near: the label looks available through the attribute, away from one half only
    ("L23", at(HALF, a_bias_centred=0.005), NOT_REPRODUCED),
    ("L20", {}, REPRODUCED),
    ("L20", at(END, share=0.1), NOT_REPRODUCED),
    ("L20", at(END + " and trial > 3", share=0.1), INCONCLUSIVE),
    # near: the attribute's mode is the largest since it holds the label as well
    ("L20", at(END, explained_bias=0.05, explained_label=0.9), NOT_REPRODUCED),
    ("L20", at(END + " and dataset == 'pets'", explained_label=0.9), PARTLY),
    # near: networks that do not fit their training set yet
    ("L20", at("stage == 'end'", train_accuracy=0.9), INCONCLUSIVE),
    # near: a mode ahead whose groups do not differ
    ("L20", NONE, PARTLY),
    ("L21", {}, REPRODUCED),
    ("L21", at("loss == 'sd'", conflicting_output=0.93), NOT_REPRODUCED),
    ("L21", at("loss == 'sd' and trial > 4", conflicting_output=0.95), INCONCLUSIVE),
    # near: no gap in the first place; one that stays by half and is next to nothing
    ("L21", NONE, INCONCLUSIVE),
    (
        "L21",
        at("loss == 'sd'", aligned_output=0.38)
        | at("loss == 'logistic' and " + END, conflicting_output=0.82),
        NOT_REPRODUCED,
    ),
    # near: a penalty that leaves the margins as they were
    ("L21", at("loss == 'sd'", margin_cv=0.5), INCONCLUSIVE),
]


@pytest.mark.parametrize(("claim", "changes", "verdict"), CASES)
def test_rows_whose_truth_is_known(claim, changes, verdict):
    found = RULES[claim](rows(**changes))
    assert found.claim == claim
    assert found.verdict == verdict, found


@pytest.mark.parametrize(
    "control",
    [
        at("kernel == 'linear' and rho > 0.5", told_centred=0.6),
        at("kernel == 'relu' and rho > 0.5", conflicting_centred=0.6),
        at(HALF, **SHOWN),
    ],
    ids=["linear", "relu", "half"],
)
@pytest.mark.parametrize("start", [SHOWN, HIDDEN])
def test_a_test_whose_control_fails_decides_nothing(control, start):
    found = resnet.first_modes(rows(start=start, **control))
    assert found.verdict == INCONCLUSIVE
    assert found.note.startswith("Not judged: digits, 200 images (control: ")
    assert found.note.count("(control: ") == 2 * len(SETS)


def test_a_control_that_fails_on_one_set_leaves_the_others():
    change = at("kernel == 'linear' and dataset == 'pets' and images == 200", told_centred=0.6)
    found = resnet.first_modes(rows(**change), "A note.")
    assert len(found.checks) == 5 and "pets, 200 images" not in found.checks
    assert found.note == "Not judged: pets, 200 images (control: linear kernel). A note."
    assert "pets, 200 images 10 of 10 [0.69, 1.00]" in found.effect


def test_availability_without_the_linear_control_decides_nothing():
    change = at("kernel == 'linear' and rho == 0.5", a_bias_centred=0.001)
    found = resnet.availability(rows(**change))
    assert found.verdict == INCONCLUSIVE and "pets, normalisation off (control:" in found.note


@pytest.mark.parametrize("rule", [resnet.after_training, resnet.margin_control])
def test_a_set_whose_networks_have_not_finished_is_named(rule):
    change = at("stage == 'end' and dataset == 'pets' and loss == 'logistic'", train_accuracy=0.95)
    found = rule(rows(**change), "A note.")
    assert found.note == "Not judged: pets (training accuracy 0.950). A note."
    assert not any("pets" in check for check in found.all_checks)


def test_a_set_without_the_conditions_of_margin_control_is_named():
    found = resnet.margin_control(rows(**NONE))
    assert found.note.count("(no gap above 0.1 to keep)") == len(SETS)
    found = resnet.margin_control(rows(**at("loss == 'sd'", margin_cv=0.5)))
    assert found.note.count("(margins no more even)") == len(SETS)


@pytest.mark.parametrize("rule", RULES.values())
def test_the_usual_width_is_judged(rule):
    wide = rows(start=HIDDEN, trials=5, **at(END, share=0.1, conflicting_output=0.9))
    wide = wide.query("kernel == 'resnet'").assign(width=64)
    both = pd.concat([rows(), wide])
    assert rule(both).verdict == REPRODUCED
    assert set(resnet.at_start(both, 64)["width"]) == {64}


@pytest.mark.parametrize("rule", [resnet.first_modes, resnet.first_modes_off])
def test_a_setting_that_is_not_in_the_rows_is_missed(rule):
    with pytest.raises(ValueError, match="claim L(19|24): the rows have nothing for"):
        rule(rows().query("kernel != 'resnet' or rho == 0.5"))


FAULTS = [
    ("TOLD, CONFLICTING = 0.8, 0.3", "TOLD, CONFLICTING = 0.8, 0.7",
     ("L19", at(NETWORKS, conflicting_centred=0.5), NOT_REPRODUCED)),
    ('half = rows[rows["rho"] == 0.5]', 'half = rows[rows["rho"] > 0.5]',
     ("L23", at(HALF, a_bias_centred=0.002), NOT_REPRODUCED)),
    ("FITTED = 0.99", "FITTED = 0.5",
     ("L20", at("stage == 'end'", train_accuracy=0.9), INCONCLUSIVE)),
    ('plain[name]["margin_cv"] - even[name]["margin_cv"], 0.0', '[1.0, 1.0], 0.0',
     ("L21", at("loss == 'sd'", margin_cv=0.5), INCONCLUSIVE)),
    ("bars.bar(before, GAP).holds", "bars.bar(before, -1.0).holds", ("L21", NONE, INCONCLUSIVE)),
    ("[bars.bar(more[name], 0.0), ", "[",
     ("L20", at(END, explained_bias=0.05, explained_label=0.9), NOT_REPRODUCED)),
    ("(core if label.holds else side)", "core",
     ("L23", at(HALF, a_label_centred=0.005), INCONCLUSIVE)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault", "case"), FAULTS)
def test_these_tests_notice_a_planted_fault(planted, text, fault, case):
    claim, changes, verdict = case
    broken = planted(resnet, text, fault)
    assert broken[RULES[claim].__name__](rows(**changes)).verdict != verdict
