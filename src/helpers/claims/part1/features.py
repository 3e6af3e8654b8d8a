"""Rules on features: chapters 2 to 4 (stability times alignment, random features, NTK features)."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import scipy

from helpers import naming, stats
from helpers.claims.judgement import Judgement, by_trial, rule, sources
from helpers.claims.part1.trade_offs import GAUSSIAN, both_sets, paired


def spread_slopes(rows: pd.DataFrame, name: str, column: str = "resample_sd") -> stats.Interval:
    """Exponent of a spread of F in the dimension, with its interval over trials.

    One fit for each activation (the column `name`) and trial; the activations of a trial share
    their data and count as one, by their mean.
    """
    fits = pd.Series(
        {
            (activation, trial): scipy.stats.linregress(
                np.log(part["dim"]), np.log(part[column])
            ).slope
            for (activation, trial), part in rows.groupby([name, "trial"])
        }
    )
    return stats.mean_ci(
        stats.per_trial(fits, fits.index.get_level_values(1).to_series(fits.index))
    )


def scaled_levels(rows: pd.DataFrame, column: str = "resample_sd") -> pd.DataFrame:
    """Mean over trials of a spread times the root of the dimension, by activation and dimension."""
    scaled = rows[column] * np.sqrt(rows["dim"])
    return scaled.groupby([rows["activation"], rows["dim"]]).mean().unstack()


def flatness(levels: pd.DataFrame) -> pd.Series:
    """Largest relative distance of a level from the mean over dimensions, by activation."""
    middle = levels.mean(axis=1)
    return levels.sub(middle, axis=0).abs().div(middle, axis=0).max(axis=1)


def alignment_table(
    rows: pd.DataFrame, key: str, laws: Mapping[str, Callable[[str, float, int, str], float]]
) -> pd.DataFrame:
    """Mean alignment over trials beside closed forms, for every setting and kind of query.

    Args:
        rows: of an alignment experiment: `key`, alpha, samples, trial, and a mean for each query.
        key: column of the activation or derivative.
        laws: title of a column -> value for activation, share, N and query.

    Returns:
        Columns `key`, α, query, N, measured, ± 95 %, those of the laws, and "off by", measured over
        the first law minus 1.
    """
    table = []
    for (name, alpha, samples), cell in rows.groupby([key, "alpha", "samples"]):
        for query in ("resample", "zero"):
            mean = stats.mean_ci(cell[f"{query}_mean"])
            law = {title: of(name, alpha, samples, query) for title, of in laws.items()}
            table.append(
                {key: name, "α": alpha, "query": query, "N": samples, "measured": mean.mean,
                 "± 95 %": mean.high - mean.mean, **law,
                 "off by": mean.mean / next(iter(law.values())) - 1}
            )  # fmt: skip
    return pd.DataFrame(table)


def relative_spread(rows: pd.DataFrame) -> pd.Series:
    """Standard deviation of F over samples, over its mean (query `resample`), by row."""
    return rows["resample_sd"] / rows["resample_mean"]


def changes(
    rows: pd.DataFrame, by: Sequence[str], column: str, ends: tuple[int, int]
) -> pd.DataFrame:
    """What a column gains from the first to the second N of `ends`: mean, low, high over trials."""
    found = {}
    for key, part in rows.groupby(list(by)):
        first, last = (part[part["samples"] == n] for n in ends)
        found[key] = stats.mean_ci(stats.paired(last, first, column))
    return pd.DataFrame(found, index=["mean", "low", "high"]).T.rename_axis(list(by))


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


@rule("B3", needs=("activation", "alpha", "dim", "per_dim", "trial", "resample_sd",
                   "resample_mean"))  # fmt: skip
def concentration(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The spread of F falls with the dimension, for few samples and for many.

    `per_dim`: samples a dimension of the rows whose N grows with d, 0 for those of fixed, small N.
    The spread is judged over the mean of F: a constant that itself goes to zero would not do.
    """
    rows = rows.assign(spread=relative_spread(rows))
    few = rows[rows["per_dim"] == 0]
    flat = flatness(scaled_levels(few, "spread"))
    slope = spread_slopes(few, "activation", "spread")
    checks = {f"{name}, few samples: sd over mean, times √d, within 20 % of its level": within < 0.2
              for name, within in flat.items()}  # fmt: skip
    settings = rows[rows["per_dim"] > 0].groupby(["activation", "alpha", "per_dim"])
    if not len(settings):
        raise KeyError("N that grows with d")
    for (name, alpha, ratio), part in settings:
        checks[
            f"{name}, α = {alpha:g}, N = {ratio:g} d: exponent of sd over mean in d below −1/4 "
            "(whole interval over trials)"
        ] = spread_slopes(part, "activation", "spread").high < -0.25
    left = rows[rows["dim"] == rows["dim"][rows["per_dim"] > 0].max()]
    left = left[left["per_dim"] > 0].groupby(["activation", "alpha"])["spread"].mean()
    words = (
        f"exponent of sd over mean in d {slope.mean:.3f} (theory −0.5); sd over mean still "
        f"{left.min():.0%} to {left.max():.0%} at the largest d with many samples"
    )
    data = f"{GAUSSIAN} of fixed norm"
    return by_trial(checks, words, slope, few, data, note, boundary=-0.25)


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


# Where the smaller share has more of its frames remembered than this, none can have many more.
CEILING = 0.95


@rule(
    "B7",
    needs=("activation", "alpha", "samples", "trial", "spurious_accuracy", "alignment_mean"),
)
def share(rows: pd.DataFrame) -> Judgement:
    """A larger share of background, larger alignment and spurious accuracy, at every N.

    Spurious accuracy is judged at the N at which the smaller share stays below `CEILING`.
    """
    effects = share_effects(rows)
    small = rows[rows["alpha"] == 0.25].groupby(["activation", "samples"])["spurious_accuracy"]
    has_room = small.mean() < CEILING
    checks, accuracies, full = {}, [], set()
    for (name, column), effect in effects.items():
        where = "every N"
        if column == "spurious_accuracy":
            judged = has_room[name].index[has_room[name]]
            full |= set(has_room[name].index) - set(judged)
            if not len(judged):
                raise KeyError(f"an N at which {name} leaves room for more memory")
            effect = effect[effect["samples"].isin(judged)]
            accuracies.append(effect)
            where = f"every N that leaves room (from {judged.min()})"
        z = effect.groupby("samples")[column].apply(stats.z_score).min()
        checks[
            f"{name}: {naming.shown(column)} grows by more than 3 standard errors at {where}"
        ] = z > 3
    gain = stats.mean_ci(pd.concat(accuracies).groupby("trial")["spurious_accuracy"].mean())
    note = full and (
        f"Spurious accuracy is not compared at N = {', '.join(map(str, sorted(full)))}: with "
        f"α = 1/4 more than {CEILING:.0%} of the frames are remembered there already."
    )
    words = f"spurious accuracy at α = 1/2 minus α = 1/4: {gain.mean:+.3f}"
    data = f"{GAUSSIAN}, N from {rows['samples'].min()}"
    return by_trial(checks, words, gain, rows, data, note or "")


# -- chapter 4: NTK features -----------------------------------------------------------------------


@rule("B5", needs=("case", "derivative", "core", "trial", "resample_mean", "resample_sd",
                   "theorem"))  # fmt: skip
def ntk_constant(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The alignment is the theorem's constant to a tenth, and varies by less than half its mean.

    One check for each `case` (what was measured where) and derivative; query `resample`. No
    finite-sample law of ours stands in the rule. The `core` are derivatives whose alignment can be
    at the constant at any N. Of the others the theorem speaks at N ≫ d only: whether they have
    arrived at the N measured is a restriction beside the claim, and cannot refute it.
    """
    rows = rows.assign(ratio=rows["resample_mean"] / rows["theorem"])
    if not rows["core"].any():
        raise KeyError("a derivative that can be at the constant")
    checks, apart, sizes = {True: {}, False: {}}, [], {True: [], False: []}
    for (is_core, case, name), part in rows.groupby(["core", "case", "derivative"], sort=False):
        ratio = stats.mean_ci(part["ratio"])
        spread = relative_spread(part).mean()
        close = bool(ratio.low > 0.9 and ratio.high < 1.1)
        apart += [ratio.low > 1.1 or ratio.high < 0.9] if is_core else []
        sizes[is_core].append(f"{name} {ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]")
        checks[is_core][
            f"{case}, {name}: within 10 % of the theorem's constant, sd below half the mean "
            f"({ratio.mean:.3g} times it, sd {spread:.2g} of the mean)"
        ] = bool(close and spread < 0.5)
    core = rows[rows["core"]]
    logs = stats.mean_ci(np.log(core["ratio"].clip(lower=1e-9)).groupby(core["trial"]).mean())
    words = f"measured over the theorem's constant: {', '.join(sizes[True])}" + (
        f"; too few samples for the theorem: {', '.join(sizes[False])}" if sizes[False] else ""
    )
    ends = stats.Interval(*np.exp(logs))
    return by_trial(checks[True], words, ends, core, GAUSSIAN, note, side=checks[False],
                    boundary=1.1, excluded=all(apart))  # fmt: skip


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
    """On images, too, the higher degree memorises less.

    The core of the claim, and its effect, are the pixels normalised as the theorem assumes
    (`blocks`); the other scalings stand beside it.
    """
    differences = degree_on_images(rows)
    z = differences.groupby(["dataset", "scaling"]).agg(stats.z_score)
    blocks = differences["spurious_auc"].xs("blocks", level="scaling")
    effect = stats.mean_ci(blocks.groupby("trial").mean())

    def checked(scaling: str) -> dict[str, bool]:
        return {
            f"{titles[name].split(',')[0]}, {scalings[scaling]}: spurious {measure} of h₀+h₁ above "
            "h₀+h₇ by 3 standard errors, mean over N ≥ 200": z.loc[(name, scaling), column] > 3
            for name in titles
            if name in set(rows["dataset"])
            for measure, column in (("accuracy", "spurious_accuracy"), ("AUC", "spurious_auc"))
        }

    side = both_sets(rows["dataset"]) | {
        key: holds for name in scalings if name != "blocks" for key, holds in checked(name).items()
    }
    words = (
        "AUC of h₀+h₁ minus h₀+h₇, blocks normalised, mean over datasets, N ≥ 200: "
        f"{effect.mean:+.3f}"
    )
    return by_trial(checked("blocks"), words, effect, rows, sources(rows), note, side=side)
