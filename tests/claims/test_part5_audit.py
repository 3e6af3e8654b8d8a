"""The rules of the audit on rows whose truth is known."""

import inspect

import numpy as np
import pandas as pd
import pytest

from helpers.claims import part5
from helpers.claims.judgement import INCONCLUSIVE, NOT_REPRODUCED, PARTLY, REPRODUCED
from helpers.claims.part5 import audit

TRIALS, CLEAN = 12, 50
WORLDS = {"digits": 0.88, "mixture": 0.76, "safe": 1.0}


def flip_rows(kind):
    """Foretold near the truth; far; unknown; far in one world; the truth is alike everywhere."""
    rng, tables = np.random.default_rng(0), []
    for number, (world, truth) in enumerate(WORLDS.items()):
        truth = 0.9 if kind == "blind" else truth
        spread = 0.2 if kind == "nothing" else 0.02
        noise = rng.normal(0, spread, TRIALS)
        off = {"false": 0.08, "one world": 0.08 * (number == 1)}.get(kind, 0.005)
        measured = truth + np.zeros(TRIALS)
        tables.append(pd.DataFrame({
            "world": world, "trial": range(TRIALS), "measured": measured,
            "foretold": truth + off + noise - noise.mean() * (kind != "nothing"),
        }))  # fmt: skip
    return pd.concat(tables)


def network_rows(kind):
    """Flagged where planted and nowhere else; everywhere; too few to know; a little too often."""
    clean, odd = {"nothing": (4, 1)}.get(kind, (CLEAN, 20))
    tables = []
    for planted, count in (("nothing", clean), ("trigger", odd), ("wrong labels", odd)):
        made = {"network": "mlp", "planted": planted, "trial": range(count), "inside": 0.0}
        for name in audit.ASKED:
            hit = name in audit.OWED.get(planted, ())
            made |= {f"{name}_value": 0.5, f"{name}_flagged": float(hit)}
        tables.append(pd.DataFrame(made))
    rows = pd.concat(tables, ignore_index=True)
    rows["inside"] = (rows["planted"] == "trigger").astype(float)
    flags = [f"{name}_flagged" for name in audit.ASKED]
    if kind == "false":  # it flags what is clean, and is silent about the rest
        rows[flags] = 1 - rows[flags]
    if kind == "every one":
        rows[flags] = 1.0
    if kind == "nothing":
        for flag in flags:
            rows[flag] = (rows["trial"] == 0).astype(float)
        rows["inside"] = 1.0
    return rows


# the nearest thing that must not pass: one world is off; an audit that flags everything
NEAR = {"S17": "one world", "S18": "every one", "S19": "every one"}
RULES = {"S17": (audit.flip_share, flip_rows), "S18": (audit.false_alarms, network_rows),
         "S19": (audit.planted_found, network_rows)}  # fmt: skip


def _judged(claim):
    rule, rows = RULES[claim]
    return lambda kind: rule(rows(NEAR[claim] if kind == "near" else kind), "data")


ROWS = {claim: _judged(claim) for claim in RULES}


def test_the_rule_answers(asked):
    asked()


def test_a_world_that_is_foretold_wrongly_refutes_and_worlds_that_are_alike_decide_nothing():
    assert part5.flip_share(flip_rows("one world"), "data").verdict == NOT_REPRODUCED
    assert part5.flip_share(flip_rows("blind"), "data").verdict == INCONCLUSIVE
    assert part5.flip_errors(flip_rows("false"))["digits"].mean == pytest.approx(0.08)


def test_a_square_found_elsewhere_is_no_hit_and_a_question_that_was_not_asked_does_not_count():
    rows = network_rows("true")
    assert part5.planted_found(rows.assign(inside=0.0), "data").verdict == NOT_REPRODUCED
    half = rows["trial"] % 2 == 0
    rows.loc[half, ["critical_channels_value"]] = np.nan
    rows.loc[half, ["critical_channels_flagged"]] = 1.0
    assert part5.false_alarms(rows, "data").verdict == REPRODUCED
    assert part5.alarms(rows).loc["critical_channels", "nothing"] == 0


def test_one_question_that_cries_wolf_refutes_and_three_in_fifty_are_left_open():
    rows = network_rows("true")
    own = (rows["planted"] == "nothing").to_numpy()
    often = rows.assign(leading_mode_flagged=np.where(own, 1.0, 0.0))
    assert part5.false_alarms(often, "data").verdict == NOT_REPRODUCED
    some = rows.assign(leading_mode_flagged=np.where(own & (rows["trial"] < 3), 1.0, 0.0))
    assert part5.false_alarms(some, "data").verdict == PARTLY
    assert part5.planted_found(some, "data").verdict == REPRODUCED


FAULTS = {
    "S17": ("one.low > -NEAR and one.high < NEAR", "one.mean < NEAR", lambda: flip_rows("nothing")),
    "S18": ("asked[name] >= 20 and one.mean <= ALARMS", "one.mean >= 0",
            lambda: network_rows("false")),
    "S19": ("found.mean >= HITS and quiet", "found.mean >= HITS",
            lambda: network_rows("every one")),
}  # fmt: skip
NAMES = {"S17": "flip_share", "S18": "false_alarms", "S19": "planted_found"}


@pytest.mark.parametrize("claim", FAULTS)
def test_a_rule_with_a_fault_in_it_is_told_apart(claim, planted):
    text, fault, rows = FAULTS[claim]
    right = getattr(audit, NAMES[claim])(rows(), "data")
    broken = planted(audit, text, fault)[NAMES[claim]](rows(), "data")
    assert inspect.ismodule(audit) and broken.verdict != right.verdict
