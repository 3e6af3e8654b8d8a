"""Rules of chapter 21: speed, and influence after training (L6 to L9).

Rows are those of the experiments `mixture_*` or of a chapter's cell, which adds what closed forms
say (columns `law_*`). Draws of one trial share their random numbers between cells, so that the
trial is the unit, but for L8, where every setting has its own data.
"""

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims import bars
from helpers.claims.judgement import Judgement, by_trial, rule
from helpers.claims.part4.linear import TWO_AXES, span

_AXES = ("rho", "m_s", "m_c", "sigma_s", "sigma_c", "trial")


def _alike(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in which shortcut and core differ in nothing but what they tell."""
    return rows[(rows["m_s"] == rows["m_c"]) & (rows["sigma_s"] == rows["sigma_c"])]


def clock_errors(rows: pd.DataFrame) -> pd.DataFrame:
    """Imbalanced rows, `off`: ratio of half-lives over the eigenvalues' inverse ratio, less 1."""
    rows = rows[rows["rho"] >= 0.8]
    clock = (rows["half_1"] / rows["half_2"]) / (rows["mu_2"] / rows["mu_1"])
    return rows.assign(off=clock - 1)


def start_errors(rows: pd.DataFrame) -> pd.Series:
    """First ratio of the coefficients over the odds of being aligned, less 1: mean by setting."""
    rows = _alike(rows)
    off = rows["ratio_start"] / (rows["rho"] / (1 - rows["rho"])) - 1
    return off.groupby([rows["rho"], rows["sigma_s"]]).mean()


def end_errors(rows: pd.DataFrame) -> pd.Series:
    """Last ratio of the two coefficients over its law, less 1: mean by setting."""
    rows = _alike(rows)
    off = rows["ratio_end"] / rows["law_ratio"] - 1
    return off.groupby([rows["rho"], rows["sigma_s"]]).mean()


_EARLY = ("mu_1", "mu_2", "half_1", "half_2", "first_conflicting", "ratio_start", "ratio_falls")


def _learnt_first(rows: pd.DataFrame) -> list[bars.Bar]:
    """Feature 1 is half learnt first, by its eigenvalue, and answers by the bias: each setting."""
    found = []
    for _, part in clock_errors(rows).groupby(["rho", "m_s", "m_c", "sigma_s", "sigma_c"]):
        found.append(bars.bar(np.log(part["half_2"] / part["half_1"]), 0.0))
        found.append(bars.bar(0.5 - part["first_conflicting"], 0.0))
        found += bars.inside(np.log1p(part["off"]), 0.05)
    return found


@rule("L6", needs=(*_AXES, *_EARLY))
def shortcut_early(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The feature half learnt first is the shortcut, because of its eigenvalue, at every size.

    It is the shortcut where it is wrong on most conflicting samples. How the ratio of the two
    coefficients goes on stands at the side.
    """
    clock = clock_errors(rows)
    larger, smaller = clock.query("m_s > m_c"), clock.query("m_s < m_c")
    if larger.empty or smaller.empty:
        raise LookupError("shortcuts larger and smaller than the core")
    statements = {
        "shortcut larger than the core: feature 1 is half learnt first, by the inverse ratio of "
        "eigenvalues within 5 %, and wrong on most conflicting samples, each setting": (
            _learnt_first(larger)
        ),
        f"shortcut smaller than the core (aligned share {span(smaller['rho'])}, $m_s/m_c$ "
        f"{span(smaller['m_s'] / smaller['m_c'])}): the same": _learnt_first(smaller),
    }
    off = stats.mean_ci(100 * clock.groupby("trial")["off"].mean())
    effect, weak = (
        stats.mean_ci(part.groupby("trial")["first_conflicting"].mean())
        for part in (larger, smaller)
    )
    return by_trial(
        bars.checks(statements),
        f"accuracy of feature 1 on conflicting samples {effect.mean:.3f} with a larger shortcut "
        f"(the interval's), {weak.mean:.3f} with a smaller one; ratio of half-lives off its law "
        f"by {off.mean:+.2f} %",
        effect,
        rows,
        TWO_AXES,
        note,
        side={
            "the ratio of coefficients falls in every step of every draw": bool(
                (_alike(rows)["ratio_falls"] == 1).all()
            ),
            "it starts within 2 % of ρ/(1−ρ), mean of each setting": (
                start_errors(rows).abs().max(skipna=False) < 0.02
            ),
        },
        excluded=bars.excluded(statements),
    )


def noise_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in which only the noise of the core differs: shortcut 2, core 1, aligned share 0.95."""
    return rows.query("rho == 0.95 and m_s == 2 and m_c == 1 and sigma_s == 0.7 and sigma_c != 0.7")


@rule(
    "L7",
    needs=(*_AXES, "reliance", "ratio_end", "trained_conflicting", "law_ratio", "law_conflicting"),
)
def spread_keeps_influence(rows: pd.DataFrame) -> Judgement:
    """After training the shortcut counts as much as the core is noisy.

    That it counts for nothing without the noise is true of one that never counts: it stands at the
    side.
    """
    spread = noise_cells(rows).sort_values("sigma_c")
    quiet, loud = spread[spread["sigma_c"] == 0.05], spread[spread["sigma_c"] == 1]
    rise = stats.mean_ci(stats.paired(loud, quiet, "reliance"))
    courses = spread.groupby("trial")["reliance"]
    off = (spread["trained_conflicting"] - spread["law_conflicting"]).abs()
    return by_trial(
        {
            "reliance increases with core noise, every draw, from 0.05 to 1 by more than 0.1": (
                bool(courses.apply(lambda course: (course.diff().iloc[1:] > 0).all()).all())
                and rise.low > 0.1
            ),
        },
        f"reliance rises by {rise.mean:.3f} from core noise 0.05 to 1",
        rise,
        spread,
        TWO_AXES,
        side={
            "reliance below 0.02 at core noise 0.05, every draw": (
                quiet["reliance"].max(skipna=False) < 0.02
            ),
            "ratio of coefficients within 5 % of the closed form, mean of each setting": (
                end_errors(rows).abs().max(skipna=False) < 0.05
            ),
            "conflicting accuracy within 0.01 of the closed form, every draw": (
                off.max(skipna=False) < 0.01
            ),
        },
        note="Tested on a shortcut twice as large as the core.",
        boundary=0.1,
    )


def far_from_border(rows: pd.DataFrame) -> pd.Series:
    """Whether the reliance differs from 1 by 5 % or more: nearer, a sample of any size may tip."""
    return (rows["law_reliance"] - 1).abs() >= 0.05


def flip_share(rows: pd.DataFrame) -> stats.Interval:
    """Share of settings on samples, away from the border, that end as the rule says."""
    seen = rows[~rows["population"] & far_from_border(rows)]
    right = (seen["conflicting"] < 0.5) == seen["law_flips"]
    return stats.share_ci(int(right.sum()), len(seen))


@rule("L8", needs=("population", "law_reliance", "law_flips", "conflicting"))
def flip(rows: pd.DataFrame) -> Judgement:
    """The flip rule tells who loses most conflicting samples; settings are drawn independently.

    `conflicting` is the trained accuracy on them, in closed form where `population` is true;
    `law_flips` is what the flip rule says.
    """
    exact = rows[rows["population"]]
    agree = ((exact["conflicting"] < 0.5) == exact["law_flips"]) & exact["conflicting"].notna()
    seen, share = int((~rows["population"] & far_from_border(rows)).sum()), flip_share(rows)
    if not len(exact) or not seen:
        raise LookupError("both the population and samples away from the border")
    return Judgement(
        {
            f"no disagreement in {len(exact):,} random settings": bool(agree.all()),
            "at least 98 % agreement on samples": share.mean >= 0.98,
        },
        f"disagreement on samples {100 * (1 - share.mean):.2f} %",
        (100 * (1 - share.high), 100 * (1 - share.low)),
        seen,
        f"{TWO_AXES}, {seen:,} random settings, each with its own data",
        boundary=2,
    )


def few_errors(rows: pd.DataFrame) -> pd.DataFrame:
    """Means by ratio and ridge: coefficients, kappa, and how far they are off the law."""
    columns = ["biased", "light", "kappa", "law_biased", "law_light"]
    means = rows.groupby(["ratio", "ridge"])[columns].mean()
    for name in ("biased", "light"):
        means[f"{name} off"] = means[name] / means.pop(f"law_{name}") - 1
    return means


def stopping_errors(rows: pd.DataFrame, which: str = "ridge") -> pd.DataFrame:
    """Relative distance of ridge regression from early stopping: means by ratio and time.

    `which` is "ridge" (the best one for each draw and time) or "inverse" (1/t).
    """
    off = {name: rows[f"{which}_{name}"] / rows[name] - 1 for name in ("biased", "light")}
    return pd.DataFrame(off).groupby([rows["ratio"], rows["time"]]).mean()


def spike_errors(rows: pd.DataFrame) -> pd.DataFrame:
    """Top eigenvalue (relative) and overlap of each lifted axis, less their laws: means by lift."""
    seen = rows.groupby("lift")[["eigenvalue", "overlap", "law_eigenvalue", "law_overlap"]].mean()
    return pd.DataFrame(
        {
            "eigenvalue": seen["eigenvalue"] / seen["law_eigenvalue"] - 1,
            "overlap": seen["overlap"] - seen["law_overlap"],
        }
    )


def _earlier_is_more(rows: pd.DataFrame) -> bool:
    """Whether the ratio of coefficients falls with training time, in every draw."""
    rows = rows.assign(share=rows["biased"] / rows["light"]).sort_values("time")
    courses = rows.groupby(["ratio", "trial"])["share"]
    return bool(courses.apply(lambda course: (course.diff().iloc[1:] < 0).all()).all())


@rule(
    "L9",
    needs=("ratio", "ridge", "samples", "trial", "biased", "light", "kappa", "law_biased",
           "law_light"),
)  # fmt: skip
def one_ridge(rows: pd.DataFrame, spikes: pd.DataFrame, stopped: pd.DataFrame) -> Judgement:
    """Few samples, a ridge and early stopping each act as one effective ridge.

    The tolerances, 5 % for the biased and 15 % for the light feature, are the same for all three;
    early stopping may choose its ridge anew for every draw and time.
    """
    worst = few_errors(rows)[["biased off", "light off"]].abs().max(skipna=False)
    stop = stopping_errors(stopped).abs().max(skipna=False)
    spike = spike_errors(spikes).abs().max(skipna=False)
    ratio, plain = rows["biased"] / rows["light"], rows["ridge"] == 0
    law = rows["law_biased"] / rows["law_light"]
    few, many = (plain & (rows["ratio"] == end(rows["ratio"])) for end in (max, min))
    tail = stats.mean_ci(ratio[few])
    return by_trial(
        {
            "few samples and ridge: biased feature within 5 % of the law": (
                worst["biased off"] < 0.05
            ),
            "few samples and ridge: light feature within 15 %": worst["light off"] < 0.15,
            "early stopping: at every time, one ridge gives both features within 5 % and 15 %": (
                bool(stop["biased"] < 0.05 and stop["light"] < 0.15)
            ),
            "early stopping: the earlier, the larger the ratio of coefficients, every draw": (
                _earlier_is_more(stopped)
            ),
        },
        f"ratio of coefficients {tail.mean:.2f} at d/n = {rows['ratio'].max():g} (law "
        f"{law[few].mean():.2f}; with many samples {law[many].mean():.2f}); best ridge for early "
        f"stopping off by {100 * stop['biased']:.0f} % (biased) and {100 * stop['light']:.0f} %",
        tail,
        rows,
        f"Gaussian mixture, {rows['samples'].iloc[0]:,} samples, d/n from {rows['ratio'].min():g} "
        f"to {rows['ratio'].max():g}",
        "Means over draws. Early stopping was added to the rule after its result was known.",
        side={
            "top eigenvalue of a sample within 3 %": spike["eigenvalue"] < 0.03,
            "its squared overlap within 0.05": spike["overlap"] < 0.05,
        },
        boundary=(law[few].mean() + law[many].mean()) / 2,
    )
