"""Rules of chapter 9: the linear theory, judged on models that were fitted to samples (Y11 to Y14).

The printed formulas could not be read, and a formula derived here agrees with itself: nothing is
judged on closed forms alone. Rows are those of the experiment `linear_fits`, one a fitted model;
the trial is what was drawn. A statement holds when the 95 % interval of each of its means over
trials lies on its side of the limit, and is excluded once one lies on the other.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.bars import Bar, bar, checks, excluded, inside
from helpers.claims.judgement import Judgement, by_trial, rule

QUANTITIES = {
    "clean": "clean accuracy",
    "spurious": "accuracy with the pattern",
    "difference": "prediction difference",
}
WITHIN = {"clean": 0.005, "spurious": 0.015, "difference": 0.015}
LARGEST = 0.3  # share of the target class at which the reaction counts as whole
MIXTURE = "Gaussian mixture"
_LAWS = tuple(f"law_{name}" for name in QUANTITIES)
_PARAMETERS = ["P", "S", "var_inv", "var_sp", "gamma", "lam"]


@rule("Y11", needs=("trial", "samples", *_PARAMETERS, *QUANTITIES, *_LAWS, "counted_clean",
                    "counted_spurious", "exact_difference"))  # fmt: skip
def closed_forms(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Fitted models and counted accuracies are where the closed forms (`law_…`) say, everywhere."""
    settings = [part for _, part in rows.groupby(_PARAMETERS)]
    statements = {
        f"ridge on samples, {len(settings)} settings: {words} within {WITHIN[name]}": [
            one
            for part in settings
            for one in inside(part[name] - part[f"law_{name}"], WITHIN[name])
        ]
        for name, words in QUANTITIES.items()
    }
    z = counting_errors(rows)
    off = rows["difference"] - rows["law_difference"]
    equations = max(float((rows[f"exact_{q}"] - rows[f"law_{q}"]).abs().max()) for q in QUANTITIES)
    counted = f"Monte Carlo, {len(z)} accuracies: within 4 standard errors"
    found = checks(statements)
    return by_trial(
        found | {counted: bool(z.abs().max() < 4)},
        f"prediction difference of fitted models minus the closed form {off.mean():+.5f}; counted "
        f"accuracies off by {z.abs().max():.1f} standard errors at most",
        stats.mean_ci(off.groupby(rows["trial"]).mean()),
        rows,
        f"{MIXTURE}, {rows['samples'].max():,} draws in each of {len(settings)} settings",
        note,
        side={"normal equations in full dimension: within 1e-12": equations < 1e-12},
        excluded=excluded(statements),
    )


def counting_errors(rows: pd.DataFrame) -> pd.Series:
    """Counted minus predicted accuracies in standard errors of the counts, by setting."""
    found = {}
    for key, part in rows.groupby(_PARAMETERS):
        for name in ("clean", "spurious"):
            law = part[f"law_{name}"].iloc[0]
            error = np.sqrt(law * (1 - law) / part["samples"].sum())
            found[(*key, name)] = (part[f"counted_{name}"].mean() - law) / error
    return pd.Series(found)


def half_shares(rows: pd.DataFrame) -> pd.DataFrame:
    """`half` by `strength` and `trial`: where the reaction is half of that at the largest share.

    Interpolated along the logarithm of the share. NaN where the reaction at the largest share is
    not positive; the smallest share where half is reached before it.
    """
    found = []
    rows = rows.assign(strength=rows["S"] / (rows["var_sp"] + rows["lam"]))
    for key, part in rows[rows["gamma"] <= LARGEST].groupby(["strength", "trial"]):
        part = part.sort_values("gamma")
        whole = part["difference"].iloc[-1]
        reached = np.maximum.accumulate(part["difference"].to_numpy()) / whole
        half = np.exp(np.interp(0.5, reached, np.log(part["gamma"])))
        found.append((*key, half if whole > 0 else np.nan))
    return pd.DataFrame(found, columns=["strength", "trial", "half"])


def half_exponents(halves: pd.DataFrame) -> pd.Series:
    """Slope of the logarithm of the half-way share in that of the strength, by trial."""
    logs = halves.assign(x=np.log(halves["strength"]), y=np.log(halves["half"]))
    return logs.groupby("trial")[["x", "y"]].apply(
        lambda part: np.polyfit(part["x"], part["y"], 1)[0] if part["y"].notna().all() else np.nan
    )


@rule("Y12", needs=("S", "var_sp", "lam", "gamma", "trial", "difference"))
def knee_at_zero(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The reaction is half-way near zero, the earlier the stronger the pattern.

    For strengths of 500 (that of the paper's figure) and more, in less than a tenth of the shares
    looked at; and the half-way share falls like one over the strength.
    """
    halves = half_shares(rows)
    strong = halves[halves["strength"] >= 499]
    if strong.empty:
        raise KeyError("a strength of 500 or more")
    slopes = half_exponents(halves)
    statements = {
        f"strength 500 and more: half-way before γ = {LARGEST / 10:g}": [
            bar(LARGEST / 10 - part["half"], 0) for _, part in strong.groupby("strength")
        ],
        "half-way share falls like 1/strength (exponent −1 within 0.25)": inside(slopes + 1, 0.25),
    }
    slope = bar(slopes, 0).found
    middle = strong[strong["strength"] == strong["strength"].min()]["half"].median()
    words = (
        f"half-way at γ = {middle:.4f} for a strength of {strong['strength'].min():,.0f}; exponent "
        f"of the half-way share in the strength {slope.mean:+.3f}"
    )
    return by_trial(
        checks(statements), words, slope, rows, MIXTURE, note, excluded=excluded(statements)
    )


def paired_steps(rows: pd.DataFrame, column: str, along: str) -> pd.DataFrame:
    """Falls of a column from step to step of `along`, `(trials, steps)`, on the same draws."""
    table = rows.pivot(index="trial", columns=along, values=column)
    return -table.diff(axis=1).iloc[:, 1:]


@rule("Y13", needs=("trial", "gamma", "noise", *QUANTITIES))
def added_noise(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Reaction and both accuracies fall with every step of noise, at every share."""
    statements: dict[str, list[Bar]] = {
        f"{words} falls from step to step at every share": [
            bar(steps[column], 0)
            for _, part in rows.groupby("gamma")
            for steps in [paired_steps(part, name, "noise")]
            for column in steps
        ]
        for name, words in QUANTITIES.items()
    }
    ends = rows[rows["noise"].isin([rows["noise"].min(), rows["noise"].max()])]
    falls = {
        name: paired_steps(ends.groupby(["trial", "noise"], as_index=False)[name].mean(), name,
                           "noise").iloc[:, 0] for name in QUANTITIES
    }  # fmt: skip
    words = "; ".join(f"{QUANTITIES[name]} {-fall.mean():+.3f}" for name, fall in falls.items())
    return by_trial(
        checks(statements),
        f"noise of variance {rows['noise'].max():g}, over shares: {words} (interval: the last)",
        stats.mean_ci(-falls["difference"]),
        rows,
        MIXTURE,
        note,
        excluded=excluded(statements),
    )


@rule("Y14", needs=("case", "trial", "lam", "spurious", "difference"))
def ridge_regimes(rows: pd.DataFrame, cases: Mapping[str, bool], note: str = "") -> Judgement:
    """A ridge helps in the regime named, and not outside it.

    Helps: raises accuracy with the pattern and lowers the reaction. `cases`: whether each case
    belongs to the regime of the claim (few spurious examples, a large signal-to-noise ratio).
    """
    statements, gains = {}, {}
    for case, helps in cases.items():
        part = rows[rows["case"] == case]
        if part.empty:
            raise KeyError(f"the case {case!r}")
        gains[case] = -paired_steps(part, "spurious", "lam").iloc[:, 0]
        weaker = paired_steps(part, "difference", "lam").iloc[:, 0]
        name = f"{case}: a ridge helps" if helps else f"{case}: a ridge does not help"
        statements[name] = (
            [bar(gains[case], 0), bar(weaker, 0)] if helps else [bar(-gains[case], 0)]
        )
    words = "; ".join(f"{case} {gain.mean():+.3f}" for case, gain in gains.items())
    inner = pd.concat([gains[case] for case, helps in cases.items() if helps], axis=1).mean(axis=1)
    return by_trial(
        checks(statements),
        f"accuracy with the pattern gained by a ridge: {words} (interval: mean of the rare cases)",
        stats.mean_ci(inner),
        rows,
        MIXTURE,
        note,
        excluded=excluded(statements),
    )
