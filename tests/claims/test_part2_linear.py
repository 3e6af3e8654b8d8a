"""The rules of chapter 9 on rows whose truth is known: four kinds of rows for each.

True rows come from the closed forms, with the noise of a sample; false ones from their opposite;
rows without information are noise alone; and the nearest thing looks like the claim and is not.
"""

import itertools

import numpy as np
import pandas as pd
import pytest

from helpers import claims, theory
from helpers.claims.judgement import INCONCLUSIVE, NOT_REPRODUCED, PARTLY, REPRODUCED
from helpers.claims.part2 import linear

SETTINGS = [(1, 5, 0.5, 0.1, 0.05, 0), (1, 25, 1, 0.05, 0.3, 0), (2, 3, 0.7, 0.3, 0.8, 0.2)]
NAMES = ["P", "S", "var_inv", "var_sp", "gamma", "lam"]
CASES = {"rare": True, "rare, stronger by its length": True, "frequent": False}
STRENGTHS = (50, 500, 5_000)


def draws(count, size, seed=0):
    return np.random.default_rng(seed).normal(0, size, count)


def forms(kind):
    rows = []
    for setting, trial in itertools.product(SETTINGS, range(5)):
        law = dict(zip(linear.QUANTITIES, map(float, theory.rare_linear(*setting)), strict=True))
        rows.append(dict(zip(NAMES, setting, strict=True)) | {"trial": trial, "samples": 100_000}
                    | law | {f"law_{k}": x for k, x in law.items()}
                    | {f"exact_{k}": x for k, x in law.items()}
                    | {f"counted_{k}": x for k, x in law.items()})  # fmt: skip
    rows = pd.DataFrame(rows)
    noise = draws(len(rows), 0.001)
    if kind == "nothing":
        noise = draws(len(rows), 0.5)
    if kind in ("false", "nothing"):  # counts far from the law as well
        rows[["counted_clean", "counted_spurious"]] -= 0.1
    if kind == "false":
        rows[list(linear.QUANTITIES)] *= 0.8
    if kind == "near":  # the released expressions: accuracies nearly right, reaction too small
        plotted = [theory.as_plotted(*s).prediction_difference for s in SETTINGS]
        rows["difference"] = np.repeat(plotted, 5)
    for name in linear.QUANTITIES:
        rows[name] += noise
    return linear.closed_forms(rows)


def transitions(kind, strengths=STRENGTHS):
    grid = itertools.product(strengths, (1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3), range(8))
    rows = pd.DataFrame(grid, columns=["strength", "gamma", "trial"])
    share, size = rows["gamma"], rows["strength"]
    knee = {"near": 2 / 50 / np.sqrt(size / 50)}.get(kind, 2 / size)  # near: with the root
    rows["difference"] = share / (share + knee) + draws(len(rows), 0.005)
    if kind == "false":  # in proportion to the share: no knee
        rows["difference"] = share + draws(len(rows), 1e-4)
    if kind == "nothing":
        rows["difference"] = draws(len(rows), 1.0)
    return linear.knee_at_zero(rows.assign(S=size * 0.05, var_sp=0.05, lam=0.0))


def noises(kind):
    grid = itertools.product((0.02, 0.3), (0.0, 0.1, 0.2, 0.3), range(8))
    rows = pd.DataFrame(grid, columns=["gamma", "noise", "trial"])
    size = 2.0 if kind == "nothing" else 0.001
    for number, name in enumerate(linear.QUANTITIES):
        slope = 1 if kind == "false" else -1
        rows[name] = slope * 0.2 * rows["noise"] + draws(len(rows), size, number)
    if kind == "near":  # noise in training only: the accuracy with the pattern rises
        rows["spurious"] += 0.4 * rows["noise"]
    return linear.added_noise(rows)


def ridges(kind):
    grid = itertools.product(CASES, (0.0, 1.0), range(8))
    rows = pd.DataFrame(grid, columns=["case", "lam", "trial"])
    size = 2.0 if kind == "nothing" else 0.001
    helps = rows["case"].map(CASES).map({True: 1, False: -1})
    if kind == "false":
        helps = -helps
    if kind == "near":  # as derived: not where the pattern is longer
        helps = helps.where(rows["case"] != "rare, stronger by its length", -1)
    rows["spurious"] = 0.05 * helps * rows["lam"] + draws(len(rows), size)
    rows["difference"] = -0.05 * helps * rows["lam"] + draws(len(rows), size, 1)
    return linear.ridge_regimes(rows, CASES)


ROWS = {"Y11": forms, "Y12": transitions, "Y13": noises, "Y14": ridges}
KINDS = [("true", REPRODUCED), ("false", NOT_REPRODUCED), ("nothing", INCONCLUSIVE)]


@pytest.mark.parametrize("claim", ROWS)
@pytest.mark.parametrize(("kind", "verdict"), KINDS)
def test_rows_whose_truth_is_known(claim, kind, verdict):
    judgement = ROWS[claim](kind)
    assert judgement.claim == claim
    assert judgement.verdict == verdict, judgement


@pytest.mark.parametrize("claim", ROWS)
def test_the_nearest_thing_does_not_pass(claim):
    assert ROWS[claim]("near").verdict == PARTLY


def test_a_weak_pattern_alone_is_no_test():
    with pytest.raises(ValueError, match="claim Y12: the rows have nothing for .*strength of 500"):
        transitions("true", strengths=(5, 50))


def test_half_of_the_reaction_is_found_between_the_shares():
    rows = pd.DataFrame(dict(S=10.0, var_sp=0.5, lam=0.5, trial=0, gamma=[0.01, 0.1, 0.3],
                             difference=[0.0, 0.4, 0.6]))  # fmt: skip
    assert linear.half_shares(rows)["half"].item() == pytest.approx(0.01 * 10**0.75)
    assert np.isnan(linear.half_shares(rows.assign(difference=[0, 0.4, -0.1]))["half"].item())


def test_a_case_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="claim Y14: the rows have nothing for .*the case 'other'"):
        linear.ridge_regimes(pd.DataFrame(dict(case=["rare"], trial=0, lam=0.0, spurious=0.0,
                                       difference=0.0)), {"other": True})  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fault", "claim", "kind"),
    [
        ("inside(part[name] - part", "inside(0 * part[name] - 0 * part", "Y11", "near"),
        ("slopes + 1, 0.25", "slopes + 1, 2.5", "Y12", "near"),
        ("return -table.diff", "return table.diff", "Y13", "true"),
    ],
)
def test_a_planted_fault_is_noticed(monkeypatch, planted, text, fault, claim, kind):
    right = ROWS[claim](kind).verdict
    planted(linear, text, fault)
    monkeypatch.setattr(linear, claims.RULES[claim].__name__, claims.RULES[claim])
    assert ROWS[claim](kind).verdict != right
