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
                    null_told_centred=0.5, a_bias_centred=0.3, a_label_centred=0.2,
                    a_null_centred=0.01)  # fmt: skip
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
    made["train_accuracy"], made["average"] = 1.0, 0.7
    made["worst"] = 0.3 + draw.normal(0, noise, len(made))
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
RULES = {"L19": resnet.first_modes, "L23": resnet.availability, "L20": resnet.after_training,
         "L21": resnet.margin_control}  # fmt: skip
CASES = [
    ("L19", {}, REPRODUCED),
    ("L19", dict(start=HIDDEN), NOT_REPRODUCED),
    ("L19", at("trial > 4 and " + NETWORKS, told_centred=0.7), INCONCLUSIVE),
    ("L19", dict(trials=2), INCONCLUSIVE),
    # near: an attribute that is told, but not in the place of the label
    ("L19", at(NETWORKS, conflicting_centred=0.5), NOT_REPRODUCED),
    # near: one setting of two
    ("L19", at(NETWORKS + " and statistics == 'data'", **HIDDEN), PARTLY),
    ("L23", {}, REPRODUCED),
    ("L23", at(HALF, a_bias_centred=0.002), NOT_REPRODUCED),
    ("L23", at(HALF + " and trial > 4", a_bias_centred=0.0003), INCONCLUSIVE),
    # near: the label looks available through the attribute, away from one half only
    ("L23", at(HALF, a_bias_centred=0.005), NOT_REPRODUCED),
    ("L20", {}, REPRODUCED),
    ("L20", at("stage == 'end'", share=0.1), NOT_REPRODUCED),
    ("L20", at("stage == 'end' and trial > 3", share=0.1), INCONCLUSIVE),
    # near: networks that do not fit their training set yet
    ("L20", at("stage == 'end'", train_accuracy=0.9), INCONCLUSIVE),
    # near: a mode ahead whose groups do not differ
    ("L20", at("stage == 'end'", worst=0.69), PARTLY),
    ("L21", {}, REPRODUCED),
    ("L21", at("loss == 'sd'", worst=0.68), NOT_REPRODUCED),
    ("L21", at("loss == 'sd' and trial > 4", worst=0.7), INCONCLUSIVE),
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
        at("rho > 0.5", null_told_centred=0.9),
    ],
    ids=["linear", "relu", "half", "permuted"],
)
@pytest.mark.parametrize("start", [SHOWN, HIDDEN])
def test_a_test_whose_control_fails_decides_nothing(control, start):
    found = resnet.first_modes(rows(start=start, **control))
    assert found.verdict == INCONCLUSIVE
    assert "not judged: digits, garments, pets" in found.note


def test_a_control_that_fails_on_one_set_leaves_the_others():
    change = at("kernel == 'linear' and dataset == 'pets' and images == 200", told_centred=0.6)
    checks = resnet.first_modes(rows(**change)).checks
    assert len(checks) == 2 * 2 * 3 - 2 and not any("pets" in c and "200" in c for c in checks)


def test_availability_without_the_linear_control_decides_nothing():
    change = at("kernel == 'linear' and rho == 0.5", a_bias_centred=0.001)
    assert resnet.availability(rows(**change)).verdict == INCONCLUSIVE


@pytest.mark.parametrize("rule", [resnet.after_training, resnet.margin_control])
def test_a_set_whose_networks_have_not_finished_is_named(rule):
    change = at("stage == 'end' and dataset == 'pets'", train_accuracy=0.95)
    found = rule(rows(**change), "A note.")
    assert found.note == "Not judged, mean training accuracy below 0.99: pets (0.950). A note."
    assert not any("pets" in check for check in found.all_checks)


def test_the_usual_width_is_judged():
    wide = rows(start=HIDDEN, trials=5).query("stage == 'start' and kernel == 'resnet'")
    both = pd.concat([rows(), wide.assign(width=64)])
    assert resnet.first_modes(both).verdict == REPRODUCED
    assert set(resnet.at_start(both, 64)["width"]) == {64}


FAULTS = [
    ("TOLD, CONFLICTING = 0.8, 0.3", "TOLD, CONFLICTING = 0.8, 0.7",
     ("L19", at(NETWORKS, conflicting_centred=0.5), NOT_REPRODUCED)),
    ('half = rows[rows["rho"] == 0.5]', 'half = rows[rows["rho"] > 0.5]',
     ("L23", at(HALF, a_bias_centred=0.002), NOT_REPRODUCED)),
    ("FITTED = 0.99", "FITTED = 0.5",
     ("L20", at("stage == 'end'", train_accuracy=0.9), INCONCLUSIVE)),
    ("if falls[name].low > 0]", "]",
     ("L21", at("loss == 'sd'", margin_cv=0.5), INCONCLUSIVE)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault", "case"), FAULTS)
def test_these_tests_notice_a_planted_fault(planted, text, fault, case):
    claim, changes, verdict = case
    broken = planted(resnet, text, fault)
    assert broken[RULES[claim].__name__](rows(**changes)).verdict != verdict
