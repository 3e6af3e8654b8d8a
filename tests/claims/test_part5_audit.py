"""The rules of the audit on rows whose truth is known."""

import inspect
import itertools

import numpy as np
import pandas as pd
import pytest

from helpers.claims import part5
from helpers.claims.judgement import INCONCLUSIVE, NOT_REPRODUCED, PARTLY, REPRODUCED
from helpers.claims.part5 import audit

TRIALS, CLEAN = 12, 80
WORLDS = {"digits": 0.88, "mixture": 0.76, "pixels": 0.67, "safe": 1.0}
# what is foretold too high in two worlds, and by the naive law in all
OFF = {"false": (0.08, 0.2), "near": (0.005, 0.005)}


def flip_rows(kind):
    """Foretold near the truth, which the naive law is not; far; unknown; no better than naively."""
    rng, tables = np.random.default_rng(0), []
    trials = 3 if kind == "nothing" else TRIALS
    off, naive = OFF.get(kind, (0.005, 0.08))
    for (world, truth), aligned in itertools.product(WORLDS.items(), (0.75, 0.95)):
        noise = rng.normal(0, 0.2 if kind == "nothing" else 0.02, trials)
        safe = truth == 1
        tables.append(pd.DataFrame({
            "world": world, "aligned": aligned, "trial": range(trials), "measured": truth,
            "foretold": truth if safe else truth + off + noise - noise.mean(),
            "naive": truth if safe else truth + naive + noise - noise.mean(),
            "low": truth - 0.1, "high": 1.0, "safe": float(safe), "flagged": float(not safe),
        }))  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def where(rows, **cell):
    """Which rows have these values."""
    return np.logical_and.reduce([rows[name] == value for name, value in cell.items()])


def network_rows(kind):
    """Flagged where planted and nowhere else; everywhere; too few to know; a little too often."""
    clean, odd = {"nothing": (4, 1)}.get(kind, (CLEAN // 2, 20))
    tables = []
    for planted, count in ((kind, clean if kind in audit.CLEAN else odd)
                           for kind in (*audit.CLEAN, *audit.OWED)):  # fmt: skip
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


# the nearest thing that must not pass: a naive law is as good; an audit that flags everything
NEAR = {"S17": "near", "S18": "every one", "S19": "every one"}
RULES = {"S17": (audit.flip_share, flip_rows), "S18": (audit.false_alarms, network_rows),
         "S19": (audit.planted_found, network_rows)}  # fmt: skip


def _judged(claim):
    rule, rows = RULES[claim]
    return lambda kind: rule(rows(NEAR[claim] if kind == "near" else kind), "data")


ROWS = {claim: _judged(claim) for claim in RULES}


def test_the_rule_answers(asked):
    asked()


def judged_flips(rows):
    return part5.flip_share(rows, "data").verdict


def test_a_world_that_is_foretold_wrongly_refutes_and_without_control_nothing_is_known():
    rows = flip_rows("true")
    one = where(rows, world="mixture", aligned=0.75)
    wrong = rows.assign(foretold=rows["foretold"] + 0.08 * one)
    assert judged_flips(wrong) == NOT_REPRODUCED
    assert judged_flips(flip_rows("near")) == INCONCLUSIVE
    single = rows.assign(naive=np.where(rows["world"] == "digits", rows["naive"], rows["foretold"]))
    assert judged_flips(single) == INCONCLUSIVE
    assert part5.flip_errors(flip_rows("false"))["digits"].mean == pytest.approx(0.08)


def test_errors_count_where_there_are_conflicting_samples_and_intervals_everywhere():
    rows = flip_rows("true")
    few = where(rows, world="mixture", aligned=0.95)
    assert judged_flips(rows.assign(foretold=rows["foretold"] - 0.1 * few)) == REPRODUCED
    narrow = rows.assign(low=np.where(few, rows["measured"] + 0.01, rows["low"]))
    assert judged_flips(narrow) == NOT_REPRODUCED


def test_one_number_for_all_worlds_does_not_pass():
    rows = flip_rows("true")
    assert judged_flips(rows.assign(foretold=rows["measured"].mean())) == NOT_REPRODUCED


def test_a_world_that_does_not_flip_has_to_be_called_safe_and_is_no_error_of_nought():
    rows = flip_rows("true")
    safe = rows["world"] == "safe"
    assert "safe" not in part5.flip_errors(rows[audit.flips_below(rows)])
    open_ = rows.assign(safe=np.where(safe, 0.0, rows["safe"]))
    assert judged_flips(open_) == NOT_REPRODUCED
    few = safe & (rows["aligned"] == 0.95)  # too near to be cleared, but must not be flagged
    assert judged_flips(rows.assign(safe=np.where(few, 0.0, rows["safe"]))) == REPRODUCED
    assert judged_flips(rows.assign(flagged=np.where(few, 1.0, rows["flagged"]))) == NOT_REPRODUCED
    assert judged_flips(rows[~safe]) == PARTLY
    assert judged_flips(rows[safe]) == INCONCLUSIVE


def test_a_square_found_elsewhere_is_no_hit_and_a_question_that_was_not_asked_does_not_count():
    rows = network_rows("true")
    assert part5.planted_found(rows.assign(inside=0.0), "data").verdict == NOT_REPRODUCED
    half = rows["trial"] % 2 == 0
    rows.loc[half, ["critical_channels_value"]] = np.nan
    rows.loc[half, ["critical_channels_flagged"]] = 1.0
    assert part5.false_alarms(rows, "data").verdict == REPRODUCED
    assert part5.alarms(rows).loc["critical_channels", "nothing"] == 0


def test_one_question_that_cries_wolf_refutes_and_five_in_eighty_are_left_open():
    rows = network_rows("true")
    own = (rows["planted"] == "aligned").to_numpy()
    often = rows.assign(leading_mode_flagged=np.where(own, 1.0, 0.0))
    assert part5.false_alarms(often, "data").verdict == NOT_REPRODUCED
    some = rows.assign(critical_channels_flagged=np.where(own & (rows["trial"] < 5), 1.0, 0.0))
    assert part5.false_alarms(some, "data").verdict == PARTLY
    assert part5.planted_found(some, "data").verdict == REPRODUCED


def test_all_answers_of_a_network_are_one_alarm():
    rows = network_rows("true")
    flags = [f"{name}_flagged" for name in audit.ASKED]
    rows.loc[rows["planted"].eq("nothing") & rows["trial"].eq(0), flags] = 1.0
    found = part5.false_alarms(rows, "data")
    assert found.verdict == PARTLY and list(found.side.values()) == [False]
    assert found.effect.endswith("1.2 %") and found.interval[1] == pytest.approx(0.0677, abs=1e-4)
    assert part5.false_alarms(pd.concat([rows, network_rows("true")]), "data").verdict == REPRODUCED


def test_a_table_without_one_kind_decides_nothing():
    rows = network_rows("true")
    for kind in audit.CLEAN:
        twice = pd.concat([rows[rows["planted"] != kind]] * 2)
        assert part5.false_alarms(twice, "data").verdict == INCONCLUSIVE
    for kind, questions in audit.OWED.items():
        judged = part5.planted_found(rows[rows["planted"] != kind], "data")
        assert judged.verdict not in (REPRODUCED, NOT_REPRODUCED)
        lost = [held for text, held in judged.checks.items() if text.startswith(f"{kind}: ")]
        assert lost == [False] * len(questions)


@pytest.mark.parametrize("kind", audit.OWED)
def test_one_kind_that_is_missed_refutes(kind):
    """A question that always says clear would pass where its kind is not planted."""
    for name in audit.OWED[kind]:
        rows = network_rows("true").assign(**{f"{name}_flagged": 0.0})
        assert part5.planted_found(rows, "data").verdict == NOT_REPRODUCED


def test_who_alone_speaks_up():
    """Once in two draws is not most of them, but once is not silence either."""
    said = {
        "ours": (1, 1, 0, 1),
        "another of ours": (np.nan, 0, 0, 0),
        "theirs": (0, 0.5, 1, np.nan),
    }
    rows = pd.DataFrame([
        dict(case=case, tool=tool, trial=trial,
             flagged=share if np.isnan(share) else float(trial < 2 * share))
        for tool, shares in said.items()
        for case, share in zip("abcd", shares, strict=True)
        for trial in range(2)
    ])  # fmt: skip
    table = part5.spoken(rows)
    assert table.loc["b", "theirs"] == 0.5 and np.isnan(table.loc["a", "another of ours"])
    assert part5.only(table, ["ours", "another of ours"]) == ["a", "d"]
    assert part5.only(table, ["theirs"]) == ["c"]


FAULTS = {
    "S17": ("one.low > -NEAR and one.high < NEAR", "one.mean < 1",
            lambda: flip_rows("true").assign(foretold=lambda rows: rows["foretold"] + 0.08)),
    "S18": ("enough[name] and one.mean <= ALARMS", "one.mean >= 0",
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
