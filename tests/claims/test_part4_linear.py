"""The rules of chapters 20 and 21 on rows whose truth is known: four kinds of rows for each.

True rows come from the closed forms, with a little noise; false ones from their opposite; rows
without information are noise alone; and the nearest thing looks like the claim and is not.
"""

import importlib
import itertools

import numpy as np
import pandas as pd
import pytest

from helpers import claims, theory
from helpers.claims import part4
from helpers.claims.judgement import NOT_REPRODUCED, PARTLY

TRIALS = 10
CLUSTERS = np.array([0.5, 0.3, 0.2]), np.diag([4.0, 3.0, 2.0, 0, 0])[:3], np.ones(3)


def table(noise=0.001, draw=0, **axes):
    """One row a combination of the axes, with `noise`, which is around 1."""
    rows = pd.DataFrame(itertools.product(*axes.values()), columns=list(axes))
    return rows.assign(noise=1 + np.random.default_rng(draw).normal(0, noise, len(rows)))


# -- the rows of each claim ------------------------------------------------------------------------


def sums(kind):
    rows = table(setting=["wide", "long"], trial=range(3))
    off = {"true": 1e-13, "false": 0.4, "nothing": np.nan}.get(kind)
    if kind == "near":  # all features but the last add up to nearly the same
        off = np.where(rows["setting"] == "wide", 1e-13, 1e-4)
    return part4.sum_of_features(rows.assign(difference=off))


def half_lives(kind):
    # false: all features at the same speed; near: the speed is the root of the eigenvalue
    slope = {"false": 0.0, "near": -0.5}.get(kind, -1.0)
    rows = table(
        3.0 if kind == "nothing" else 0.001, trial=range(3), eigenvalue=2.0 ** np.arange(5)
    )
    off = 1e-9 if kind == "true" else np.nan if kind == "nothing" else 0.1
    return part4.power_law(
        rows.assign(half_life=rows["eigenvalue"] ** slope * np.exp(rows["noise"]), off=off)
    )


def spectra(kind):
    rows = table(0.1, samples=[20_000, 400_000], dim=[5], trial=range(5))
    off = 0.002 * rows["noise"]
    if kind == "false":
        off = 0.3 * rows["noise"]
    if kind == "near":  # clusters that all count the same have the same features, other eigenvalues
        weights, means, variances = CLUSTERS
        same = theory.mixture_spectrum(np.full(3, 1 / 3), means, variances).values
        off = np.abs(same / theory.mixture_spectrum(*CLUSTERS).values - 1).max()
    if kind == "nothing":
        off = 0.06 * np.random.default_rng(0).uniform(0, 1, len(rows)) ** 2 + 0.001
    bulk = 0.2 if kind in ("false", "nothing") else 0.01
    overlap = 0.5 if kind in ("false", "nothing") else 0.999
    return part4.proposition(
        rows.assign(spikes_off=off, bulk_off=bulk, overlap=overlap, bulk_overlap=overlap)
    )


def weights(kind, law=None):
    noise = 3.0 if kind == "nothing" else 0.002
    rows = table(noise, weight=[0.1, 0.4, 0.7, 0.9], norm=[1.0, 3.0], trial=range(5))
    # near: the distance counts, but too little; flat: an intercept that is right, and nothing else
    slope = {"false": 0.0, "flat": 0.0, "near": 0.9}.get(kind, 1.0)
    start = {"false": 2.0, "near": 1.1, "steep": 1.2}.get(kind, 1.0)
    eigenvalue = start + slope * rows["weight"] * rows["norm"] ** 2 + (rows["noise"] - 1)
    if law is None:
        law = theory.two_axis(np.linspace(0.5, 0.99, 9), 2, 1, 0.7, 0.7).eigenvalues
    return part4.weight_lifts(rows.assign(eigenvalue=eigenvalue), law)


def axes_rows(noise=0.001, sizes=(0.5, 0.8, 1.25, 2.0, 3.0)):
    """Rows of two axes as the closed forms say, and what they say beside them."""
    settings = [(0.9, size, 1.0, 0.7, 0.7) for size in sizes]
    settings += [(0.95, 2.0, 1.0, 0.7, sigma) for sigma in (0.05, 0.25, 0.5, 1.0, 1.5)]
    settings += [(rho, 1.0, 1.0, sigma, sigma) for rho in (0.8, 0.95) for sigma in (0.1, 1.0)]
    rows = table(noise, setting=settings, trial=range(TRIALS))
    names = ["rho", "m_s", "m_c", "sigma_s", "sigma_c"]
    rows[names] = rows["setting"].to_list()
    law = theory.two_axis(*rows[names].to_numpy().T)
    first = theory.linear_accuracies(
        np.cos(law.angle), np.sin(law.angle), *rows[names[1:]].to_numpy().T
    )
    ratio = law.coefficients[0] / law.coefficients[1]
    return rows.assign(
        mu_1=law.eigenvalues[0], mu_2=law.eigenvalues[1], half_1=rows["noise"] / law.eigenvalues[0],
        half_2=1 / law.eigenvalues[1], bias_1=law.bias_alignments[0],
        bias_2=law.bias_alignments[1], first_aligned=first[0], first_conflicting=first[1],
        ratio_start=rows["rho"] / (1 - rows["rho"]) * rows["noise"], ratio_falls=1.0,
        ratio_end=ratio * rows["noise"], law_ratio=ratio, law_conflicting=law.conflicting,
        trained_conflicting=law.conflicting, reliance=law.reliance * rows["noise"],
    )  # fmt: skip


def first_features(kind):
    rows = axes_rows()
    draw = np.random.default_rng(0)
    if kind == "true":  # what the words of the claim say: at every size
        rows["first_conflicting"] = 0.05
    if kind == "false":
        rows = rows.assign(bias_1=0.1, bias_2=0.6, first_conflicting=0.9 * rows["noise"])
    if kind == "nothing":
        shares = draw.uniform(0, 1, (2, len(rows)))
        rows = rows.assign(bias_1=shares[0], bias_2=shares[1])
        rows["first_conflicting"] = rows["trial"].map(dict(enumerate(draw.uniform(0, 1, TRIALS))))
    return part4.shortcut_first(rows)  # near: the closed form, false for small shortcuts


def clocks(kind, change=lambda rows: rows):
    rows = axes_rows(0.3 if kind == "nothing" else 0.001)
    if kind != "closed form":  # what the words of the claim say: at every size
        rows["first_conflicting"] = 0.05 * rows["noise"]
    if kind == "near":  # the shortcut comes first, but its lead does not follow the eigenvalues
        rows["half_1"] = 0.5 * rows["half_2"]
    if kind == "false":  # the feature that comes first answers by the core
        rows["first_conflicting"] = 0.9 * rows["noise"]
    if kind == "nothing":
        lead = np.exp(np.random.default_rng(1).normal(0, 3, TRIALS))
        rows["half_1"] = lead[rows["trial"]] * rows["half_1"]
        rows["first_conflicting"] = np.random.default_rng(2).uniform(0, 1, len(rows))
    return part4.shortcut_early(change(rows))


def relying(rows, reliance):
    """The rows of networks with another reliance, and the accuracy that goes with it."""
    weights = reliance * rows["m_c"], rows["m_s"]
    right = theory.linear_accuracies(*weights, *rows[["m_s", "m_c", "sigma_s", "sigma_c"]].T.values)
    return rows.assign(reliance=reliance, trained_conflicting=right[1])


def spreads(kind):
    rows = axes_rows()
    reliance = {
        "false": 0.5 * rows["noise"],  # the shortcut counts the same, whatever the core's noise
        "nothing": np.random.default_rng(0).normal(0.5, 2, len(rows)),
        "near": rows["reliance"] + 0.3,  # grows with the noise, but does not vanish without it
        "never": 0.0 * rows["noise"],
        "hardly": 0.018 + 0.0005 * rows["sigma_c"],
    }.get(kind, rows["reliance"])
    return part4.spread_keeps_influence(relying(rows, reliance))


def flips(kind):
    draw = np.random.default_rng(0)
    rows = pd.DataFrame({"population": [True] * 300 + [False] * (2 if kind == "nothing" else 600)})
    rho = draw.uniform(0.5, 0.999, len(rows))
    n_s, n_c = np.exp(draw.uniform(-3, 3, (2, len(rows))))
    law = theory.two_axis(rho, 1, 1, np.sqrt(n_s), np.sqrt(n_c))
    conflicting = law.conflicting
    rows = rows.assign(
        law_reliance=law.reliance,
        law_flips=theory.flip_rule(rho, n_s, n_c),
        conflicting=conflicting,
    )
    if kind == "false":
        rows["conflicting"] = 1 - conflicting
    if kind == "nothing":
        rows["conflicting"] = np.where(rows["population"], np.nan, conflicting)
        rows.loc[rows.index[-1], "conflicting"] = 1 - conflicting[-1]
    if kind == "near":  # as often as the rule says, but in other settings
        rows["conflicting"] = draw.permutation(conflicting)
    return part4.flip(rows)


def ridges(kind, **changes):
    noise = 1.5 if kind == "nothing" else 0.001
    rows = table(noise, ratio=[0.1, 3.0, 10.0], ridge=[0.0, 1.0], trial=range(TRIALS))
    kappa = np.array(
        [theory.effective_ridge(1, r, 1, k) for r, k in rows[["ratio", "ridge"]].to_numpy()]
    )
    law = theory.two_axis(0.95, 3, 3, 1, 1, ridge=kappa - 1).coefficients
    rows = rows.assign(kappa=kappa, samples=1_000, law_biased=law[0], law_light=law[1])
    rows = rows.assign(biased=law[0] * rows["noise"], light=law[1])
    spikes = table(0.001, lift=[0.5, 2.0], trial=range(TRIALS))
    seen = [theory.visible_spike(lift, 1, 1) for lift in spikes["lift"]]
    spikes = spikes.assign(law_eigenvalue=[s.eigenvalue for s in seen],
                           law_overlap=[s.overlap for s in seen])  # fmt: skip
    spikes = spikes.assign(eigenvalue=spikes["law_eigenvalue"], overlap=spikes["law_overlap"])
    stopped = table(0.001, ratio=[0.1, 3.0], time=[0.1, 1.0], trial=range(TRIALS))
    falls = np.where(stopped["time"] == 1.0, 2.0, 8.0)
    stopped = stopped.assign(light=0.02, biased=0.02 * falls)
    stopped = stopped.assign(ridge_biased=stopped["biased"], ridge_light=stopped["light"])
    if kind == "near":  # a filter of another shape: the same direction, other numbers
        stopped["ridge_light"] *= 1.3
    if kind == "false":  # few samples and stopping leave the ratio as it is
        few = rows["biased"].where(rows["ratio"] < 1, 2 * rows["light"]) * rows["noise"]
        rows = rows.assign(biased=few, light=rows["light"] * 1.5)
        rows["biased"] *= 1.5
        stopped = stopped.assign(biased=stopped["light"], ridge_light=0.01)
    if kind == "nothing":
        stopped = stopped.assign(ridge_light=np.nan, biased=np.nan)
        rows = rows.assign(light=2 * law[1], biased=2 * law[1] * 2 * rows["noise"])
    return part4.one_ridge(rows, spikes, stopped)


ROWS = {
    "L1": sums, "L2": half_lives, "L3": spectra, "L4": weights, "L5": first_features,
    "L6": clocks, "L7": spreads, "L8": flips, "L9": ridges,
}  # fmt: skip


# -- the tests -------------------------------------------------------------------------------------


def test_the_rule_answers(asked):
    asked()


def test_a_shortcut_is_first_where_it_is_larger_than_the_core():
    found = first_features("near")
    assert found.verdict == PARTLY and list(found.checks.values()) == [True, True, False]
    with pytest.raises(ValueError, match="claim L5: an interval needs"):
        part4.shortcut_first(axes_rows(sizes=(1.25, 2.0)))


def test_what_is_learnt_first_is_the_shortcut_only_where_that_is_larger():
    found = clocks("closed form")
    assert found.verdict == PARTLY and list(found.checks.values()) == [True, False]
    with pytest.raises(ValueError, match="claim L6.*larger and smaller"):
        clocks("true", lambda rows: rows[rows["m_s"] <= rows["m_c"]])


def test_features_learnt_at_the_same_time_have_no_first():
    # the course of the coefficients, which stands at the side, is as it should be
    found = clocks("true", lambda rows: rows.assign(half_1=rows["half_2"]))
    assert found.verdict == NOT_REPRODUCED and all(found.side.values())


def test_a_course_at_the_side_takes_away_from_the_claim():
    assert clocks("true", lambda rows: rows.assign(ratio_falls=0.0)).verdict == PARTLY


@pytest.mark.parametrize("kind", ["never", "hardly"])
def test_a_shortcut_that_never_counts_is_no_influence(kind):
    assert spreads(kind).verdict == NOT_REPRODUCED


def test_the_intercept_alone_says_nothing_of_the_weight():
    assert weights("flat").verdict == NOT_REPRODUCED
    assert weights("steep").verdict == PARTLY and all(weights("steep").checks.values())


def test_early_stopping_in_the_same_direction_is_no_ridge():
    found = ridges("near")
    assert found.verdict == PARTLY and sum(found.checks.values()) == 3


def test_the_closed_forms_stand_at_the_side():
    straight = np.array([[3.0, 3.0], [1.0, 1.0]])
    assert weights("true", law=straight).verdict == PARTLY


def test_settings_near_the_border_do_not_count():
    rows = pd.DataFrame(dict(population=[True, False, False], law_reliance=[2.0, 1.04, 2.0],
                             law_flips=True, conflicting=[0.1, 0.9, 0.1]))  # fmt: skip
    assert part4.flip_share(rows).mean == 1 and part4.flip(rows).seeds == 1
    with pytest.raises(ValueError, match="away from the border"):
        part4.flip(rows.iloc[:2])


# module, what stands there, the fault, and the claim whose tests notice
FAULTS = [
    ("linear", '] > biased["bias_2"]', '] > -biased["bias_2"]', "L5", "false"),
    ("linear", "bool(wrong[~larger].all())", "True", "L5", "near"),
    (
        "speed",
        '0.5 - part["first_conflicting"], 0.0',
        '0.5 - part["first_conflicting"], -1.0',
        "L6",
        "closed form",
    ),
    ("speed", "and rise.low > 0.1", "", "L7", "hardly"),
    ("speed", 'stop["light"] < 0.15', 'stop["light"] < 1.5', "L9", "near"),
    ("speed", '== exact["law_flips"]', '!= exact["law_flips"]', "L8", "true"),
]


@pytest.mark.parametrize(("module", "text", "fault", "claim", "kind"), FAULTS)
def test_a_planted_fault_is_noticed(monkeypatch, planted, module, text, fault, claim, kind):
    right = ROWS[claim](kind).verdict
    planted(importlib.import_module(f"helpers.claims.part4.{module}"), text, fault)
    monkeypatch.setattr(part4, claims.RULES[claim].__name__, claims.RULES[claim])
    assert ROWS[claim](kind).verdict != right
