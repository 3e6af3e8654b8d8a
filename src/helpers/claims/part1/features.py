"""Rules on features: chapters 2 to 4 (stability times alignment, random features, NTK features)."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import scipy

from helpers import stats
from helpers.claims.judgement import Judgement, by_trial, rule, sources

GAUSSIAN = "Gaussian blocks"
ACCURACIES = ["test_accuracy", "spurious_accuracy"]


def paired(rows: pd.DataFrame, first: str, second: str, column: str) -> pd.DataFrame:
    """Differences of two settings (queries) on the same data: columns samples, trial, `column`."""
    sides = [rows.query(query) for query in (first, second)]
    return stats.paired(*sides, column, ("samples", "trial")).reset_index(name=column)


def spread_slopes(rows: pd.DataFrame, name: str) -> stats.Interval:
    """Exponent of sd(F) in the dimension: the mean of one fit a trial and name, with interval."""
    fits = (
        scipy.stats.linregress(np.log(trial["dim"]), np.log(trial["resample_sd"])).slope
        for _, trial in rows.groupby([name, "trial"])
    )
    return stats.mean_ci(list(fits))


def scaled_levels(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over trials of sd(F) times the root of the dimension, by activation and dimension."""
    scaled = rows["resample_sd"] * np.sqrt(rows["dim"])
    return scaled.groupby([rows["activation"], rows["dim"]]).mean().unstack()


def flatness(levels: pd.DataFrame) -> pd.Series:
    """Largest relative distance of a level from the mean over dimensions, by activation."""
    middle = levels.mean(axis=1)
    return levels.sub(middle, axis=0).abs().div(middle, axis=0).max(axis=1)


def trade_off(rows: pd.DataFrame, by: Sequence[str]) -> dict:
    """Rank correlation of mean test and spurious accuracy over N, for each curve."""
    means = rows.groupby([*by, "samples"])[ACCURACIES].mean()
    return {
        key: stats.rank_correlation(*(curve[c] for c in ACCURACIES))
        for key, curve in means.groupby(level=list(by))
    }


# -- chapter 2: stability times alignment ----------------------------------------------------------


@rule("B1", needs=("activation", "start", "query", "trial", "error"))
def product_identity(rows: pd.DataFrame) -> Judgement:
    """The identity holds to rounding: `error` is relative, both sides from their definitions."""
    worst = rows.groupby(["activation", "start"])["error"].agg(lambda e: e.max(skipna=False))
    checks = {
        f"relative error below 1e-10, {name}, start {start}": error < 1e-10
        for (name, start), error in worst.items()
    }
    words = f"largest relative error {rows['error'].max():.0e} over {len(rows)} comparisons"
    return Judgement(
        checks,
        words,
        None,
        rows["trial"].nunique(),
        "Gaussian inputs, arbitrary labels",
        excluded=bool(worst.notna().all()),
    )


def leave_one_out_gap(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows from N = 100 on with `difference`, the mean of S² minus the test error."""
    large = rows[rows["samples"] >= 100]
    return large.assign(difference=large["leave_one_out_error"] - large["test_error"])


@rule("B2", needs=("activation", "alpha", "samples", "trial", "leave_one_out_error", "test_error"))
def leave_one_out(rows: pd.DataFrame, closed_error: float) -> Judgement:
    """Mean of S² equals the test error; `closed_error` is that of the closed form itself.

    Equality is judged only where the mean difference is known to 0.05.
    """
    large = leave_one_out_gap(rows)
    cells = large.groupby(["activation", "alpha", "samples"])["difference"]
    p_values = cells.apply(lambda values: scipy.stats.ttest_1samp(values, 0).pvalue)
    gap = stats.mean_ci(large.groupby("trial")["difference"].mean())
    known = (gap.high - gap.low) / 2 < 0.05
    biggest = cells.mean().abs().max()
    return by_trial(
        {
            f"no paired t test rejects equality (Bonferroni over {len(p_values)} cells)": bool(
                known and p_values.min() > 0.05 / len(p_values)
            ),
            "no mean difference above 0.05": biggest < 0.05,
        },
        f"mean of S² minus test error {gap.mean:+.4f}, largest cell {biggest:.3f}",
        gap,
        large,
        "Gaussian blocks, labels sign(u'x)",
        side={"closed form agrees with retraining to 1e-10": closed_error < 1e-10},
    )


# -- chapter 3: random features --------------------------------------------------------------------


@rule("B3", needs=("activation", "dim", "trial", "resample_sd"))
def concentration(rows: pd.DataFrame) -> Judgement:
    """sd(F) falls like the inverse root of the dimension."""
    flat, slope = flatness(scaled_levels(rows)), spread_slopes(rows, "activation")
    return by_trial(
        {f"{name}: sd·√d within 20 % of its mean": flat[name] < 0.2 for name in flat.index},
        f"exponent of sd in d {slope.mean:.3f} (theory −0.5)",
        slope,
        rows,
        "Gaussian blocks of fixed norm",
        boundary=-0.25,
    )


@rule("B4", needs=("activation", "alpha", "samples", "trial", "resample_mean", "bound"))
def above_bound(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The mean alignment lies above the bound in every cell."""
    rows = rows.assign(gap=rows["resample_mean"] - rows["bound"])
    cells = rows.groupby(["activation", "alpha", "samples"])
    z = cells["gap"].apply(stats.z_score)
    ratio = (cells["resample_mean"].mean() / cells["bound"].mean()).min()
    gap = stats.mean_ci(rows[rows["samples"] < 3_000].groupby("trial")["gap"].mean())
    checks = {
        f"{name}: mean − bound above 5 standard errors in every cell": part.min() > 5
        for name, part in z.groupby(level="activation")
    }
    words = (
        f"mean of alignment minus bound {gap.mean:.3f}; measured alignment is {ratio:.1f} times "
        "the bound or more"
    )
    return by_trial(checks, words, gap, rows, GAUSSIAN, note)


def share_effects(rows: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """For activation and column: the value at alpha = 1/2 minus that at 1/4, by N and trial."""
    return {
        (name, column): paired(
            rows, f"activation == '{name}' and alpha == 0.5",
            f"activation == '{name}' and alpha == 0.25", column,
        )
        for name in sorted(rows["activation"].unique())
        for column in ("spurious_accuracy", "alignment_mean")
    }  # fmt: skip


@rule(
    "B7",
    needs=("activation", "alpha", "samples", "trial", "spurious_accuracy", "alignment_mean"),
)
def share(rows: pd.DataFrame) -> Judgement:
    """A larger share of background, larger alignment and spurious accuracy, at every N."""
    effects = share_effects(rows)
    z = {key: e.groupby("samples")[key[1]].apply(stats.z_score).min() for key, e in effects.items()}
    both = pd.concat([e for (_, c), e in effects.items() if c == "spurious_accuracy"])
    effect = stats.mean_ci(both.groupby("trial")["spurious_accuracy"].mean())
    checks = {
        f"{name}: {column.replace('_', ' ')} grows by more than 3 standard errors at every N": (
            value > 3
        )
        for (name, column), value in z.items()
    }
    words = f"spurious accuracy at α = 1/2 minus α = 1/4: {effect.mean:+.3f}"
    return by_trial(checks, words, effect, rows, f"{GAUSSIAN}, N from {rows['samples'].min()}")


def degree_effects(rows: pd.DataFrame) -> dict[float, pd.Series]:
    """For each share: spurious accuracy of phi2 minus that of phi4, mean over N, by trial."""
    column = "spurious_accuracy"
    return {
        alpha: paired(part, "activation == 'phi2'", "activation == 'phi4'", column)
        .groupby("trial")[column]
        .mean()
        for alpha, part in rows.groupby("alpha")
    }


@rule("B10", needs=("activation", "alpha", "samples", "trial", *ACCURACIES))
def synthetic_trade_off(rows: pd.DataFrame, degree_from: int = 50) -> Judgement:
    """Test accuracy rises and spurious accuracy falls; higher degree memorises less."""
    degree = degree_effects(rows[rows["samples"] >= degree_from])
    effect = stats.mean_ci((degree[0.25] + degree[0.5]) / 2)
    checks = {
        f"{name}, α = {alpha}: rank correlation of test and spurious accuracy below −0.9": (
            value < -0.9
        )
        for (name, alpha), value in trade_off(rows, ["activation", "alpha"]).items()
    } | {
        f"α = {alpha}: φ₂ above φ₄ by 3 standard errors": stats.z_score(values) > 3
        for alpha, values in degree.items()
    }
    return by_trial(
        checks, f"spurious accuracy of φ₂ minus φ₄: {effect.mean:+.3f}", effect, rows, GAUSSIAN
    )


@rule("B11", needs=("dataset", "samples", "trial", "data_source", *ACCURACIES))
def image_trade_off(rows: pd.DataFrame, titles: Mapping[str, str], note: str = "") -> Judgement:
    """The same trade-off on framed images, for each data set in `titles`."""
    checks, falls = {}, {}
    for name in (name for name in titles if name in set(rows["dataset"])):
        part = rows[rows["dataset"] == name]
        falls[name] = stats.fall(part, "spurious_accuracy")
        rank = trade_off(part, ["dataset"])[(name,)]
        checks[f"{titles[name]}: rank correlation below −0.9"] = rank < -0.9
        checks[f"{titles[name]}: spurious accuracy falls by 5 standard errors"] = (
            stats.z_score(falls[name]) > 5
        )
    drop = stats.mean_ci(pd.concat(falls, axis=1).mean(axis=1))
    return by_trial(
        checks,
        f"fall of spurious accuracy from smallest to largest N: {drop.mean:.3f}",
        drop,
        rows,
        sources(rows),
        note,
    )


# -- chapter 4: NTK features -----------------------------------------------------------------------


@rule("B5", needs=("derivative", "trial", "resample_mean", "equivalent", "theorem", "samples"))
def ntk_constant(rows: pd.DataFrame, limits: Mapping[str, float], note: str = "") -> Judgement:
    """At the largest N the alignment is the equivalent, which tends to the theorem's constant.

    `limits`: distance of the equivalent from the theorem's constant at N/d = 1e5, by derivative.
    """
    last = rows[rows["samples"] == rows["samples"].max()]
    means = last.groupby("derivative")[["resample_mean", "equivalent"]].mean()
    close = (means["resample_mean"] - means["equivalent"]).abs()
    remaining = stats.mean_ci(
        (last["resample_mean"] - last["theorem"]).groupby(last["trial"]).mean()
    )
    checks = {
        f"{name}: measured within 0.01 of the equivalent at the largest N (α = 1/2, query "
        "resample)": close[name] < 0.01
        for name in limits
    }
    side = {
        f"{name}: the equivalent ends at the theorem's constant (1e-3 at N/d = 1e5)": (value < 1e-3)
        for name, value in limits.items()
    }
    words = (
        f"measured minus the theorem's constant at N = {last['samples'].max()} (mean of four "
        f"derivatives) {remaining.mean:.3f}; largest distance to the equivalent {close.max():.4f}"
    )
    off = last["resample_mean"] - last["equivalent"]
    apart = [stats.mean_ci(values) for _, values in off.groupby(last["derivative"])]
    excluded = all(one.low > 0.01 or one.high < -0.01 for one in apart)
    return by_trial(checks, words, remaining, rows, GAUSSIAN, note, side=side, excluded=excluded)


def dial_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard error and z of `difference` by dial, share and N."""
    table = rows.groupby(["dial", "alpha", "samples"])["difference"].agg(["mean", "sem"])
    return table.assign(z=table["mean"] / table["sem"])


@rule("B6", needs=("dial", "alpha", "samples", "trial", "difference"))
def activation_dial(rows: pd.DataFrame, dials: Iterable[str], shown: str, note: str) -> Judgement:
    """A higher degree at equal weight lowers the alignment, at every share and N.

    `dials` are judged; `shown` is the one whose size is the effect.
    """
    z = dial_table(rows)["z"]
    mine = rows[rows["dial"] == shown]
    effect = stats.mean_ci(mine.groupby("trial")["difference"].mean())
    checks = {
        f"{name}: above 0 by 5 standard errors at every share and N": bool((z[name] > 5).all())
        for name in dials
    }
    words = f"alignment with NTK features, h₀+h₁ minus h₀+h₃: {effect.mean:+.3f}"
    return by_trial(checks, words, effect, mine, GAUSSIAN, note)


def degree_on_images(rows: pd.DataFrame) -> pd.DataFrame:
    """h0+h1 minus h0+h7 at N >= 200, mean over N, by dataset, scaling and trial."""
    late = rows[rows["samples"] >= 200]
    key, columns = ["dataset", "scaling", "samples", "trial"], ["spurious_accuracy", "spurious_auc"]
    low, high = (
        late[late["derivative"] == name].set_index(key)[columns] for name in ("h0+h1", "h0+h7")
    )
    return (low - high).groupby(["dataset", "scaling", "trial"]).mean()


@rule(
    "B12",
    needs=("dataset", "scaling", "derivative", "samples", "trial", "spurious_accuracy",
           "spurious_auc", "data_source"),
)  # fmt: skip
def image_degree(
    rows: pd.DataFrame, titles: Mapping[str, str], scalings: Mapping[str, str], note: str = ""
) -> Judgement:
    """On images, too, the higher degree memorises less, for each scaling of the pixels."""
    differences = degree_on_images(rows)
    z = differences.groupby(["dataset", "scaling"]).agg(stats.z_score)
    effect = stats.mean_ci(differences["spurious_auc"].groupby("trial").mean())
    checks = {
        f"{titles[name].split(',')[0]}, {scalings[scaling]}: spurious {measure} of h₀+h₁ above "
        "h₀+h₇ by 3 standard errors, mean over N ≥ 200": z.loc[(name, scaling), column] > 3
        for name in titles
        if name in set(rows["dataset"])
        for scaling in scalings
        for measure, column in (("accuracy", "spurious_accuracy"), ("AUC", "spurious_auc"))
    }
    words = (
        f"AUC of h₀+h₁ minus h₀+h₇, mean over datasets and scalings, N ≥ 200: {effect.mean:+.3f}"
    )
    return by_trial(checks, words, effect, rows, sources(rows), note)
