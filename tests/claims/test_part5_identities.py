"""The rules of Part V on rows whose truth is known: four kinds of rows for each."""

import inspect
import math

import numpy as np
import pandas as pd
import pytest

from helpers import claims
from helpers.claims.judgement import INCONCLUSIVE, NOT_REPRODUCED, PARTLY, REPRODUCED
from helpers.claims.part5 import identities

RULES = {"S1": identities.sensitivity, "S2": identities.leaving_out, "S3": identities.accounts}
RULES |= {"S4": identities.further_direction, "S5": identities.one_equation}
# difference of the two sides, difference of the nearest wrong formula
KINDS = {
    "true": (1e-13, 0.1),
    "false": (0.3, 0.2),
    "nothing": (math.nan, 0.1),
    "near": (1e-5, 1e-5),  # the first-order step where a group has hardly any weight
    "blind": (1e-13, 1e-13),  # data on which the wrong formula is as good
}


def rows(kind, cases=("no ridge", "ridge"), trials=5):
    off, near = KINDS[kind]
    made = pd.DataFrame([(c, t) for c in cases for t in range(trials)], columns=["case", "trial"])
    noise = np.random.default_rng(0).uniform(0.5, 1, len(made))
    return made.assign(off=off * noise, near=near * noise)


@pytest.mark.parametrize("claim", RULES)
@pytest.mark.parametrize(
    ("kind", "verdict"),
    [("true", REPRODUCED), ("false", NOT_REPRODUCED), ("nothing", INCONCLUSIVE)]
    + [("near", NOT_REPRODUCED), ("blind", INCONCLUSIVE)],
)
def test_rows_whose_truth_is_known(claim, kind, verdict):
    judgement = RULES[claim](rows(kind), "data")
    assert judgement.claim == claim and claims.RULES[claim] is RULES[claim]
    assert judgement.verdict == verdict, judgement
    assert judgement.seeds == 5 and judgement.interval is None


@pytest.mark.parametrize("claim", RULES)
def test_one_draw_that_differs_is_enough(claim):
    table = rows("true")
    table.loc[3, "off"] = 1e-3
    judgement = RULES[claim](table, "data")
    assert judgement.verdict == NOT_REPRODUCED and list(judgement.checks.values()) == [False, True]
    table.loc[3, "off"] = math.nan
    assert RULES[claim](table, "data").verdict == PARTLY


@pytest.mark.parametrize("claim", RULES)
def test_rows_that_cannot_be_judged_are_refused_by_name(claim):
    others = [None] * (len(inspect.signature(RULES[claim]).parameters) - 1)
    with pytest.raises(ValueError, match=rf"claim {claim}: the rows lack"):
        RULES[claim](pd.DataFrame({"other": [1]}), *others)


def test_every_rule_names_a_wrong_formula_of_its_own():
    names = {tuple(RULES[claim](rows("true"), "data").checks) for claim in RULES}
    assert len(names) == len(RULES)


def test_differences_are_relative_to_the_first_side():
    assert identities.apart([0.0, -4.0], [1.0, -4.0]) == 0.25
    assert math.isnan(identities.apart([1.0, math.nan], [1.0, 1.0]))
    assert identities.apart([1.0], [1.0]) == 0


# what stands there, the fault, and the rows that notice
FAULTS = [
    ("off < EXACT) and tells", "off < 1e-3) and tells", "near"),
    ("off < EXACT) and tells", "off < EXACT)", "blind"),
    ("tells and bool(off >= EXACT)", "bool(off < EXACT)", "false"),
    ('part["off"].max(skipna=False)', 'part["off"].fillna(0).max()', "nothing"),
]


@pytest.mark.parametrize(("text", "fault", "kind"), FAULTS)
def test_a_planted_fault_is_noticed(planted, text, fault, kind):
    right = identities.leaving_out(rows(kind), "data").verdict
    planted(identities, text, fault)
    assert claims.RULES["S2"](rows(kind), "data").verdict != right
