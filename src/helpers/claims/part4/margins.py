"""Rules of chapter 22: losses that control the margin (L10, L11, L12, L22).

Losses have the names of the chapter: "logistic", "squared", "SD", "marg-log", "sigma-damp". Every
trial has a draw of its own; the cells of one draw are one trial.
"""

from itertools import pairwise

import pandas as pd

from helpers import stats
from helpers.claims import bars
from helpers.claims.judgement import Judgement, by_trial, rule, sources

PERFECT = ("SD", "marg-log", "squared")


@rule("L10", needs=("trial", "rate", "apart"))
def one_clock(rows: pd.DataFrame) -> Judgement:
    """Near the end each feature decays at the rate of its eigenvalue; the margins end equal.

    `rate`: of one feature, over the law; `apart`: largest distance of a margin from the common one.
    """
    mean = bars.bar(rows.groupby("trial")["rate"].mean(), 1.0).found
    rates_off = (rows["rate"] - 1).abs().max(skipna=False)
    checks = {
        "every decay rate within 5 % of the law": rates_off < 0.05,
        "all margins within 1e-3 of one value": rows["apart"].max(skipna=False) < 1e-3,
    }
    words = f"mean rate over its law {mean.mean:.4f}; largest distance of a rate {rates_off:.3f}"
    data = "Gaussian mixture, 100 samples in 200 dimensions, SD with λ = 0.1"
    known = bool(rows[["rate", "apart"]].notna().all(axis=None))
    return by_trial(checks, words, mean, rows, data, excluded=known)


def _by_loss(rows: pd.DataFrame, column: str, *keys: str) -> pd.DataFrame:
    """One row a trial and setting, one column a loss."""
    return rows.set_index([*keys, "trial", "loss"])[column].unstack("loss")


def kept(rows: pd.DataFrame, loss: str) -> stats.Interval:
    """The share of the closed form's reliance that a loss keeps from core noise 0.5 on."""
    found = rows[(rows["sigma_c"] >= 0.5) & (rows["loss"] == loss)]
    return bars.bar((found["reliance"] / found["law"]).groupby(found["trial"]).mean(), 0.8).found


@rule("L11", needs=("loss", "sigma_c", "trial", "reliance", "law", "margin_cv"))
def preference_remains(rows: pd.DataFrame) -> Judgement:
    """With margins more uniform than the logistic loss's, the shortcut keeps its lead.

    `law`: reliance in the closed form for squared loss.
    """
    noisy = rows[rows["sigma_c"] >= 0.5]
    reliance, spread = (_by_loss(noisy, c, "sigma_c") for c in ("reliance", "margin_cv"))
    law = noisy.groupby("sigma_c")["law"].first()
    statements = {}
    for loss in ("SD", "marg-log"):
        told = [bars.bar(reliance.loc[s, loss] / law[s], 0.8) for s in law.index]
        # more than the core, wherever the closed form says so
        told += [bars.bar(reliance.loc[s, loss], 1.0) for s in law.index[law > 1]]
        more_uniform = spread["logistic"] - spread[loss]
        told += [bars.bar(more_uniform[s], 0.0, decides=False) for s in law.index]
        statements[
            f"{loss}: margins more uniform than the logistic loss's, 0.8 of the closed form's "
            "reliance, and above 1 where the closed form is (core noise from 0.5 on)"
        ] = [*told, *([] if (law > 1).any() else [bars.bar([0.0], 1.0)])]
    share = kept(rows, "SD")
    return by_trial(
        bars.checks(statements),
        f"reliance under SD is {share.mean:.3f} of the closed form",
        share,
        noisy,
        "Gaussian mixture with two axes, core noise 0.5 to 1.5",
        excluded=bars.excluded(statements),
    )


def stopped_and_limit(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on conflicting samples under the logistic loss: a row a trial, a column a stop.

    With a perfect core, in the task whose course was followed; columns are (by, steps).
    """
    course = rows[(rows["core"] == 0) & (rows["loss"] == "logistic")]
    course = course[course["dim"] == rows.loc[rows["by"] == "descent", "dim"].iloc[0]]
    return course.set_index(["trial", "by", "steps"])["conflicting"].unstack(["by", "steps"])


@rule("L12", needs=("loss", "core", "dim", "samples", "by", "steps", "trial", "reliance",
                    "conflicting"))  # fmt: skip
def control(rows: pd.DataFrame) -> Judgement:
    """With a perfect core: what margin control removes, what the limit does, what stopping does."""
    if (rows["dim"] >= rows["samples"]).any():
        raise ValueError("the claim is about fewer dimensions than samples")
    perfect = rows[rows["core"] == 0]
    limits = perfect[perfect["by"] == "limit"]
    reliance, right = (_by_loss(limits, c, "dim") for c in ("reliance", "conflicting"))
    dims, task = sorted(limits["dim"].unique()), rows.loc[rows["by"] == "descent", "dim"].iloc[0]
    course, largest = stopped_and_limit(rows), right["logistic"]
    beyond, many = [dim for dim in dims if dim >= task], dims[-1]
    end, right_there = course["limit", 0], largest.loc[many]
    stops = [way for way in course if way[0] in ("descent", "adam")]
    first = min(steps for _, steps in stops)
    last = max(steps for by, steps in stops if by == "descent")
    statements = {
        "SD, marg-log and squared loss, in the limit: reliance below 0.02 in every dimension": [
            bars.bar(0.02 - reliance.loc[d, loss], 0.0) for d in dims for loss in PERFECT
        ],
        "logistic loss, few dimensions: below half of the conflicting samples right at first, "
        "after any number of steps less than in the limit, there above 99 %": [
            bars.bar(end, 0.99),
            *(bars.bar(end - course[way], 0.0) for way in stops),
            *(bars.bar(0.5 - course[way], 0.0) for way in stops if way[1] == first),
        ],
        f"logistic loss in the limit, beyond {task} dimensions: fewer right at each number of "
        f"dimensions than at the one before, below half at {many}; SD above 99 % at each": [
            bars.bar(0.5 - right_there, 0.0),
            *(bars.bar(largest.loc[a] - largest.loc[b], 0.0) for a, b in pairwise(beyond)),
            *(bars.bar(right.loc[dim, "SD"], 0.99) for dim in beyond),
        ],
    }
    stopped = course["descent", last]
    lost = bars.bar(end - stopped, 0.0).found
    words = (
        f"conflicting samples right under the logistic loss: {end.mean():.1%} in the limit, "
        f"{stopped.mean():.1%} after {last:,} steps; limit in "
        + ", ".join(f"{dim} dimensions {largest.loc[dim].mean():.1%}" for dim in beyond[1:])
    )
    return by_trial(
        bars.checks(statements),
        words,
        lost,
        perfect,
        "linear task of Puli et al.",
        "Interval: limit minus gradient descent, both in the task's own dimensions.",
        excluded=bars.excluded(statements),
    )


def harms(rows: pd.DataFrame, task: str) -> pd.Series:
    """By how much SD widens the gap of aligned and conflicting accuracy, one number a trial."""
    gaps = _by_loss(rows.assign(gap=rows["aligned"] - rows["conflicting"]), "gap", "task")
    return (gaps["SD"] - gaps["logistic"]).loc[task]


@rule("L22", needs=("loss", "sigma_c", "trial", "reliance"))
def harm(mixture: pd.DataFrame, digits: pd.DataFrame, limits: pd.DataFrame) -> Judgement:
    """SD relies on the shortcut more than the logistic loss, on a mixture and on digits.

    `digits` were trained for a fixed number of steps, `limits` are the same digits in the limit;
    both have columns task, loss, trial, aligned, conflicting, margin_cv and data_source.
    """
    # with less noise some draws can be separated, and the logistic loss has no minimum
    reliance = _by_loss(mixture[mixture["sigma_c"] >= 0.5], "reliance", "sigma_c")
    more = reliance["SD"] - reliance["logistic"]
    statements = {
        "Gaussian mixture: more reliance at every core noise from 0.5 on": [
            bars.bar(more[noise], 0.0) for noise in more.index.unique("sigma_c")
        ]
    }
    for task in ("patched", "colored"):
        found = []
        for rows in (digits, limits):
            spread = _by_loss(rows, "margin_cv", "task").loc[task]
            found += [bars.bar(harms(rows, task), 0.0)]
            found += [bars.bar(spread["logistic"] - spread["SD"], 0.0, decides=False)]
        title = f"{task.capitalize()}-MNIST: larger gap, more uniform margins"
        statements[f"{title}, after equal steps and in the limit"] = found
    ends = {task: harms(limits, task) for task in ("patched", "colored")}
    interval = bars.bar(ends["patched"], 0.0).found
    return Judgement(
        bars.checks(statements),
        f"gap in the limit larger by {ends['patched'].mean():+.3f} (Patched-MNIST) and "
        f"{ends['colored'].mean():+.3f} (Colored-MNIST)",
        (interval.low, interval.high),
        digits["trial"].nunique(),
        f"Gaussian mixture; digits, linear kernel ({sources(digits)})",
        "Interval: Patched-MNIST, paired over draws.",
        excluded=bars.excluded(statements),
    )
