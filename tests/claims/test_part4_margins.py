"""The rules of chapter 22 on rows whose truth is known: four kinds of rows for each."""

import itertools

import numpy as np
import pandas as pd
import pytest

from helpers import claims
from helpers.claims.judgement import INCONCLUSIVE, PARTLY, REPRODUCED
from helpers.claims.part4 import margins

TRIALS = 6
LOSSES = ("logistic", "squared", "SD", "marg-log", "sigma-damp")
SIGMAS = (0.05, 0.25, 0.5, 0.75, 1.0)
NOISE = {"nothing": 5.0}


def table(kind, **axes):
    """One row a combination of the axes, with noise: little, or as much as hides everything."""
    rows = pd.DataFrame(itertools.product(*axes.values()), columns=list(axes))
    draw = np.random.default_rng(3)
    return rows.assign(noise=draw.normal(0, NOISE.get(kind, 0.002), len(rows)), data_source="made")


def clocks(kind):
    rows = table(kind, trial=range(TRIALS), mode=range(20))
    values = np.geomspace(1, 0.1, 20)[rows["mode"]]
    rate, apart = {"false": (0.5, 0.3), "nothing": (np.nan, np.nan)}.get(kind, (1.0, 1e-5))
    if kind == "near":  # each feature at the rate of the next one: nearly its own, but not the law
        rate = np.roll(np.geomspace(1, 0.1, 20), 1)[rows["mode"]] / values
    return rows.assign(rate=rate + rows["noise"], apart=apart)


def one_clock(kind, change=lambda rows: rows):
    return margins.one_clock(change(clocks(kind)))


def mixtures(kind):
    rows = table(kind, loss=LOSSES, sigma_c=SIGMAS, trial=range(TRIALS))
    law = rows["sigma_c"] * 2.88
    share = 0.5 if kind == "false" else 0.97
    free = rows["loss"] == "logistic"
    reliance = np.where(free, (0.99 if kind == "false" else 0.5) * law, share * law)
    # near: a loss that controls nothing, its margins and its shortcut those of the logistic loss
    spread = np.where(free | (kind == "near"), 0.6, 0.5)
    return rows.assign(law=law, reliance=reliance + rows["noise"], margin_cv=spread + rows["noise"])


def preference(kind, change=lambda rows: rows):
    rows = mixtures(kind)
    if kind == "false":  # the shortcut loses its lead
        rows = rows.assign(reliance=0.3 * rows["law"] + rows["noise"])
    return margins.preference_remains(change(rows))


WAYS = [("descent", 10), ("descent", 1_000), ("adam", 10), ("adam", 1_000), ("limit", 0)]
STOPPED = {10: 0.1, 1_000: 0.6, 0: 1.0}


def courses(kind):
    few = table(kind, loss=LOSSES, way=WAYS, dim=[300], core=[0.0, 0.5], trial=range(TRIALS))
    many = table(kind, loss=LOSSES, way=[("limit", 0)], dim=[100, 600, 900], core=[0.0],
                 trial=range(TRIALS))  # fmt: skip
    rows = pd.concat([few, many], ignore_index=True).assign(samples=1_000)
    rows["by"], rows["steps"] = (rows["way"].str[i] for i in (0, 1))
    free = rows["loss"] == "logistic"
    right = np.where(free, rows["steps"].map(STOPPED), 1.0)
    right = np.where(free, np.where(rows["dim"] == 600, 0.7, right), right)
    right = np.where(free & (rows["dim"] == 900), 0.4, right)
    reliance = np.where(free, 1.0, 0.0)
    if kind == "near":  # the place where an optimiser stopped is taken for the limit
        right = np.where(free & (rows["dim"] < 600) & (rows["steps"] == 0), 0.6, right)
    if kind == "false":  # no margin helps, training longer does harm, many dimensions do not
        right = np.where(rows["steps"] == 0, 0.2, 0.9)
        right = np.where(rows["dim"] >= 600, 0.9, right)
        reliance = 3.0
    noise = rows["noise"]
    exact = noise.abs() if kind != "nothing" else noise
    return rows.assign(reliance=reliance + exact, conflicting=right - exact)


def control(kind, change=lambda rows: rows):
    return margins.control(change(courses(kind)))


def digit_rows(kind, gain):
    rows = table(kind, task=["patched", "colored"], loss=LOSSES[:4], trial=range(TRIALS))
    free = rows["loss"] == "logistic"
    return rows.assign(
        aligned=0.95,
        conflicting=np.where(free, 0.5, 0.5 - gain) + rows["noise"],
        margin_cv=np.where(free, 0.6, 0.4) + rows["noise"],
    )


def harm(kind, change=lambda rows: rows, digits=None, limits=None):
    gain = {"true": 0.15, "false": -0.15}.get(kind, 0.0)
    rows = mixtures(kind)
    if kind == "false":
        rows = rows.assign(reliance=rows["reliance"].where(rows["loss"] != "logistic", 9.0))
    if kind == "near":  # the same loss twice: which of the two names a row has says nothing
        rows = rows.assign(reliance=rows["law"] + rows["noise"])
    # near: a shortcut that gains while the optimiser has not arrived, and not in the limit
    digits = digit_rows(kind, 0.15 if kind == "near" else gain) if digits is None else digits
    return margins.harm(change(rows), digits, digit_rows(kind, gain) if limits is None else limits)


ROWS = {"L10": one_clock, "L11": preference, "L12": control, "L22": harm}


def test_every_claim_of_the_chapter_has_its_rule():
    of_the_chapter = {c.id for c in claims.load().values() if c.chapter == "22-margin-control"}
    assert set(ROWS) == of_the_chapter <= set(claims.RULES)


def test_the_rule_answers(asked):
    asked()


def moved(column, value, where):
    """Rows with another value in a column where a query holds."""
    return lambda rows: rows.assign(**{column: rows[column].where(~rows.eval(where), value)})


PARTS = {
    "one feature is late": (one_clock, moved("rate", 1.1, "mode == 3 and trial == 2")),
    "one rate is unknown": (one_clock, moved("rate", np.nan, "mode == 3 and trial == 2")),
    "margins apart": (one_clock, moved("apart", 0.1, "trial == 1")),
    "marg-log loses the shortcut": (preference, moved("reliance", 0.1, "loss == 'marg-log'")),
    "SD at one noise": (preference, moved("reliance", 0.1, "loss == 'SD' and sigma_c == 0.75")),
    "SD controls nothing": (preference, moved("margin_cv", 0.7, "loss == 'SD'")),
    "SD fails in one dimension": (
        control, moved("reliance", 0.5, "loss == 'SD' and dim == 900")),
    "the limit is no better": (control, moved("conflicting", 0.6, "steps == 0 and dim == 300")),
    "no shortcut at first": (control, moved("conflicting", 0.99, "steps == 10")),
    # the end of the regime alone: nothing happens on the way there
    "the largest margin keeps it at the end only": (
        control, moved("conflicting", 1.0, "dim == 600")),
    "SD keeps it in between": (control, moved("conflicting", 0.9, "loss == 'SD' and dim == 600")),
    "the largest margin cures everywhere": (control, moved("conflicting", 1.0, "dim == 900")),
    "no harm at one noise": (harm, moved("reliance", 0.1, "loss == 'SD' and sigma_c == 0.5")),
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_claim_is_not_the_claim(part):
    rule, change = PARTS[part]
    assert rule("true", change).verdict == PARTLY


@pytest.mark.parametrize("which", ["digits", "limits"])
@pytest.mark.parametrize("column", ["conflicting", "margin_cv"])
def test_harm_on_digits_needs_both_stages_and_control_of_the_margin(which, column):
    rows = moved(column, 0.65, "task == 'colored' and loss == 'SD'")(digit_rows("true", 0.15))
    assert harm("true", **{which: rows}).verdict == PARTLY


def test_without_a_preference_in_the_closed_form_none_can_remain():
    # bias and label independent: the law and every reliance are nearly nought, and agree
    rows = mixtures("true")
    rows = rows.assign(law=1e-3, reliance=1e-3)
    assert margins.preference_remains(rows).verdict != REPRODUCED


def test_dimensions_that_let_every_sample_be_fitted_are_refused():
    with pytest.raises(ValueError, match="claim L12: the claim is about fewer dimensions"):
        control("true", lambda rows: rows.assign(samples=900))


def test_one_draw_decides_nothing():
    assert control("true", lambda rows: rows[rows["trial"] == 0]).verdict == INCONCLUSIVE


def test_words_of_the_effect():
    assert "100.0%" not in control("false").effect
    assert "−" not in harm("true").effect and "+0.150" in harm("true").effect
    assert abs(margins.kept(mixtures("true"), "SD").mean - 0.97) < 0.01
    assert abs(margins.harms(digit_rows("true", 0.15), "patched").mean() - 0.15) < 0.01


FAULTS = [
    ("rates_off < 0.05", "rates_off < 0.5", one_clock, PARTS["one feature is late"][1]),
    ("reliance.loc[s, loss], 1.0", "reliance.loc[s, loss], -1.0", preference,
     lambda rows: rows.assign(law=1.05, reliance=0.9)),
    ("more_uniform[s], 0.0, decides", "more_uniform[s], -1.0, decides", preference,
     moved("margin_cv", 0.7, "loss != 'logistic'")),
    ("bars.bar(end, 0.99)", "bars.bar(end, 0.5)", control,
     moved("conflicting", 0.9, "steps == 0 and dim == 300 and loss == 'logistic'")),
    ("largest.loc[a] - largest.loc[b], 0.0", "largest.loc[a] - largest.loc[b], -1.0", control,
     moved("conflicting", 1.0, "dim == 600")),
    ("bars.bar(more[noise], 0.0)", "bars.bar(more[noise], -1.0)", harm,
     lambda rows: rows.assign(reliance=rows["noise"])),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault", "judged", "change"), FAULTS)
def test_a_planted_fault_is_noticed(monkeypatch, planted, text, fault, judged, change):
    assert judged("true", change).verdict != REPRODUCED
    planted(margins, text, fault)
    for claim in ROWS:
        rule = claims.RULES[claim]
        monkeypatch.setattr(margins, rule.__name__, rule)
    assert judged("true", change).verdict == REPRODUCED
