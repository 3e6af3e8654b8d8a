"""The rules of Part V's cross-examinations: one part's quantity against another part's question.

Each rule reads the rows of an experiment, or of two. Repetitions are draws of images with their
networks; intervals are Student's, from five draws on.
"""

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.judgement import Judgement, rule, sources
from helpers.stats import Interval

NEAR = 0.1  # a law is near where it is off by less
REACH = 0.2  # of the truth: where an influence step reaches less, the law is not asked
PREDICTS = 0.3  # a rank correlation below it is no prediction worth the name
TAUGHT = 0.5  # of 2 from even to odd: a pattern that moves the output so far is learnt
VISIBLE = 0.5  # of the carriers' indicator in one mode
SHARE = 0.01  # "a few" units are less than this share
FOUND = 3  # units at most, of a memory that one unit keeps
FEW, MANY, UNITS = 3, 100, 10  # carriers, and units removed, of the bridge
LIGHT, HEAVY = ("frame", "pattern", "membership"), "shortcut"
GENERAL = ("weight decay", "early stopping", "clipping")
TRACED = ("gradient", "greedy", "activation")


def over_draws(values: pd.Series | list[float]) -> Interval:
    """Mean and Student interval over draws; no ends for fewer than five, or where one is NaN."""
    sample = np.asarray(values, dtype=float)
    if np.isnan(sample).any():
        return Interval(np.nan, np.nan, np.nan)
    return stats.interval_from(sample, stats.mean_ci, least=5)


def shown(made: Interval, form: str = "{:+.2f}") -> str:
    """Mean and ends in words."""
    ends = "" if np.isnan(made.low) else f" [{form.format(made.low)}, {form.format(made.high)}]"
    return form.format(made.mean) + ends


def _judged(
    checks: dict[str, bool], effect: str, interval: Interval, rows: pd.DataFrame, *,
    excluded: bool, note: str = "", side: dict[str, bool] | None = None,
) -> Judgement:  # fmt: skip
    return Judgement(
        checks, effect, (interval.low, interval.high), rows["trial"].nunique(), sources(rows), note,
        excluded=excluded, side=side or {},
    )  # fmt: skip


# -- deletion --------------------------------------------------------------------------------------


def off_by(rows: pd.DataFrame, law: str) -> pd.Series:
    """Ratio over law minus 1, in each row."""
    return rows["ratio"] / rows[law] - 1


SETTING = ["features", "shape", "norm", "ridge", "count"]


def within_reach(rows: pd.DataFrame) -> pd.DataFrame:
    """Settings in which the law says, on average, that the step reaches a fifth or more."""
    return rows[rows.groupby(SETTING)["predicted"].transform("mean") >= REACH]


@rule("S10", needs=(*SETTING, "trial", "ratio", "predicted", "rare", "tau", "data_source"))
def deletion(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Step over truth is (1-q) tau / (1 + q(1-q) v(C + k')^-1 v), known from clean images.

    Where it is a fifth or more: the mean over draws is off by less than 10 % in every setting, and
    the typical deviation lies below 10 %; without the knee, (1 - q) tau, it lies above. At the
    side: every setting's interval lies within 10 %.
    """
    rows, checks, excluded, worst_of = within_reach(rows), {}, [], []
    ends = [over_draws(error) for _, error in off_by(rows, "predicted").groupby(
        [rows[name] for name in SETTING])]  # fmt: skip
    inside = [bool(one.low > -NEAR and one.high < NEAR) for one in ends]
    side = {f"{sum(inside)} of {len(inside)} settings have their interval within 10 %": all(inside)}
    for features, part in rows.groupby("features", sort=False):
        part = part.assign(kneeless=part["tau"] * part["predicted"] / part["rare"])
        law, alone = (
            over_draws(off_by(part, name).abs().groupby(part["trial"]).mean())
            for name in ("predicted", "kneeless")
        )
        keys = [part[name] for name in SETTING]
        worst = float(off_by(part, "predicted").groupby(keys).mean().abs().max(skipna=False))
        tells = bool(alone.low > NEAR)
        checks[f"{features}: worst setting off by {100 * worst:.1f} %, below 10 % (control: no "
               f"knee, off by {100 * alone.mean:.0f} %)"] = (
            worst < NEAR and bool(law.high < NEAR) and tells
        )  # fmt: skip
        excluded.append(tells and (worst >= NEAR and bool(law.low > NEAR)))
        worst_of.append(worst)
    every = over_draws(off_by(rows, "predicted").abs().groupby(rows["trial"]).mean())
    words = f"off by {100 * every.mean:.1f} % on average, {100 * max(worst_of):.1f} % at worst"
    return _judged(checks, words, every, rows, excluded=all(excluded), note=note, side=side)


# -- alignment as predictor ------------------------------------------------------------------------


def by_pattern(rows: pd.DataFrame, predictor: str) -> pd.Series:
    """Rank correlation over patterns with what the carriers taught; mean over counts, by trial."""
    rows = rows.assign(taught=rows["rise"] - rows["never"])
    made = {
        key: stats.rank_correlation(part[predictor].tolist(), part["taught"].tolist())
        for key, part in rows.groupby(["trial", "count"])
    }
    table = pd.Series(made).rename_axis(["trial", "count"])
    return table.groupby("trial").agg(lambda one: one.mean(skipna=False))


def shuffled(rows: pd.DataFrame, predictor: str) -> pd.DataFrame:
    """The predictor of another pattern of the same norm, in each trial and count."""
    moved = rows.groupby(["trial", "count", "norm"])[predictor].transform(
        lambda one: np.roll(one, 1)
    )
    return rows.assign(**{predictor: moved})


@rule("S11", needs=("trial", "count", "norm", "alignment", "rise", "never", "data_source"))
def alignment_predicts(rows: pd.DataFrame, images: pd.DataFrame, note: str = "") -> Judgement:
    """Alignment before training ranks patterns by what is learnt, and images by what is kept.

    In both, the rank correlation lies above 0.3 and above that of the pixel norm and of the
    alignment that belongs to another pattern or image.
    """
    own = by_pattern(rows, "alignment")
    kinds = {
        "patterns": (own, by_pattern(rows, "norm"), by_pattern(shuffled(rows, "alignment"),
                                                               "alignment")),
        "images": tuple(images.set_index("trial")[name] for name in (
            "alignment", "norm of the frame", "alignment of another image")),
    }  # fmt: skip
    checks, excluded, found = {}, [], {}
    for name, (values, norm, other) in kinds.items():
        found[name] = over_draws(values)
        ahead = [bool(over_draws(values - control).low > 0) for control in (norm, other)]
        checks[
            f"{name}: rank correlation above {PREDICTS}, above the pixel norm's, and above that "
            "of another's alignment"
        ] = bool(found[name].low > PREDICTS) and all(ahead)
        excluded.append(bool(found[name].high < PREDICTS))
    words = "; ".join(f"{name} {shown(made)}" for name, made in found.items())
    return _judged(checks, f"rank correlation: {words}", found["patterns"], rows,
                   excluded=all(excluded), note=note)  # fmt: skip


# -- remedies and measures -------------------------------------------------------------------------


def matrix(rows: pd.DataFrame, measures: tuple[str, ...]) -> pd.DataFrame:
    """Each way minus nothing, on the same draws: one row for every way and measure.

    Columns `mean`, `low`, `high`, `size` (the mean over the standard deviation of the measure over
    all ways and draws) and `moves`: whether the interval excludes 0.
    """
    nothing, made = rows[rows["way"] == "nothing"], []
    for way, part in rows[rows["way"] != "nothing"].groupby("way", sort=False):
        for measure in measures:
            change = over_draws(stats.paired(part, nothing, measure))
            spread = float(rows[measure].std())
            made.append({
                "way": way, "measure": measure, **change._asdict(),
                "size": change.mean / spread if spread else np.nan,
                "moves": bool(change.low > 0 or change.high < 0),
            })  # fmt: skip
    return pd.DataFrame(made)


@rule("S12", needs=("way", "trial", *LIGHT, HEAVY, "data_source"))
def cure_and_poison(rows: pd.DataFrame, note: str = "") -> Judgement:
    """What shortens the way of a network lowers memory of light things and raises a heavy one.

    For weight decay, early stopping and clipping: all three measures of light memory fall and the
    weight of the shortcut rises, each by its paired interval. At the side, a control: the measure
    of the pattern falls where it was never shown.
    """
    table = matrix(rows, (*LIGHT, HEAVY)).set_index(["way", "measure"])
    checks, excluded = {}, []
    for way in GENERAL:
        falls = {name: bool(table.loc[(way, name), "high"] < 0) for name in LIGHT}
        rises = bool(table.loc[(way, HEAVY), "low"] > 0)
        told = ", ".join(name for name, held in falls.items() if held) or "nothing"
        checks[f"{way}: memory falls (it does for {told}), the shortcut rises"] = (
            all(falls.values()) and rises
        )
        against = [bool(table.loc[(way, name), "low"] > 0) for name in LIGHT]
        excluded.append(any(against) or bool(table.loc[(way, HEAVY), "high"] < 0))
    first = table.loc[("early stopping", HEAVY)]
    interval = Interval(first["mean"], first["low"], first["high"])
    side = {"control: never shown, the pattern's measure falls": bool(
        table.loc[("never shown", "pattern"), "high"] < 0)}  # fmt: skip
    return _judged(checks, f"shortcut under early stopping {shown(interval)}", interval, rows,
                   excluded=all(excluded), note=note, side=side)  # fmt: skip


# -- units -----------------------------------------------------------------------------------------


def growth(rows: pd.DataFrame, kind: str) -> pd.Series:
    """By trial, the exponent with which the number of units to be removed grows with the width."""
    rows = rows[rows["kind"] == kind]
    return pd.Series({
        trial: np.polyfit(np.log(part["width"]), np.log(part["units"]), 1)[0]
        for trial, part in rows.groupby("trial")
    })  # fmt: skip


def planted_found(rows: pd.DataFrame) -> bool:
    """Positive control: a memory that one unit keeps goes with the first few units, everywhere."""
    planted = rows[rows["kind"] == "planted"]
    return bool(len(planted)) and bool((planted["units"] <= FOUND).all())


_UNITS = ("kind", "width", "trial", "units", "units_random", "data_source")


@rule("S13", needs=_UNITS)
def lazy_spreads(rows: pd.DataFrame, note: str = "") -> Judgement:
    """In random features the units that keep a rare group are a share of the width, above 1 %.

    Their number grows in proportion to the width (the exponent's interval holds 1, and lies above
    1/2), and at the largest width their share lies above 1 %; with a planted unit three are enough
    at every width.
    """
    lazy, control = rows[rows["kind"] == "random features"], planted_found(rows)
    grows = over_draws(growth(rows, "random features"))
    wide = lazy[lazy["width"] == lazy["width"].max()]
    share = over_draws((wide["units"] / wide["width"]).groupby(wide["trial"]).mean())
    whole = bool(grows.low > 0.5 and grows.high >= 1 and share.low > SHARE)
    checks = {
        f"their number grows in proportion, exponent {shown(grows)}, and their share is above 1 % "
        f"at the largest width ({100 * share.mean:.1f} %; control: a planted unit is found)": (
            whole and control
        )
    }
    excluded = control and bool(grows.high < 1 or share.high < SHARE)
    return _judged(checks, f"exponent {shown(grows)}", grows, rows, excluded=excluded, note=note)


def fewer(rows: pd.DataFrame, kind: str) -> pd.Series:
    """By trial, mean over widths of the log of units needed, a kind against random features."""
    sides = [rows[rows["kind"] == name] for name in (kind, "random features")]
    logs = [side.assign(units=np.log(side["units"])) for side in sides]
    return stats.paired(*logs, "units", key=("trial", "width")).groupby("trial").mean()


@rule("S14", needs=_UNITS)
def learning_concentrates(rows: pd.DataFrame, note: str = "") -> Judgement:
    """A trained network keeps a rare group in fewer units than random features of the same width.

    In both kinds of training; the traced units are also fewer than matched random ones, and a
    planted unit is found.
    """
    control, checks, excluded, made = planted_found(rows), {}, [], {}
    for kind in ("trained", "trained, small start"):
        change, part = over_draws(fewer(rows, kind)), rows[rows["kind"] == kind]
        logs = np.log(part["units"] / part["units_random"]).groupby(part["trial"]).mean()
        traced = bool(over_draws(logs).high < 0)
        made[kind] = change
        checks[f"{kind}: {np.exp(change.mean):.1f} times the units of random features, fewer "
               "(and fewer than matched random units)"] = (
            bool(change.high < 0) and traced and control
        )  # fmt: skip
        excluded.append(control and bool(change.low > 0))
    words = f"log of the ratio, trained: {shown(made['trained'])}"
    return _judged(checks, words, made["trained"], rows, excluded=all(excluded), note=note)


# -- modes -----------------------------------------------------------------------------------------


def first_count(rows: pd.DataFrame, reached: pd.Series) -> pd.Series:
    """By trial, shape and norm, the smallest count that is reached; infinite if none is."""
    counts = rows["count"].where(reached, np.inf)
    return counts.groupby([rows["trial"], rows["shape"], rows["norm"]]).min()


@rule("S15", needs=("trial", "shape", "norm", "count", "rise", "never", "visible",
                    "visible_others", "data_source"))  # fmt: skip
def visible_first(rows: pd.DataFrame, control: pd.DataFrame, note: str = "") -> Judgement:
    """Before a pattern is learnt, one leading mode of the kernel is mostly its carriers.

    Of the patterns that are learnt from some number of carriers, most are visible (half of the
    carriers' indicator in one leading mode, and not so for images without the pattern) from as many
    or fewer. `control` has the `visible` of patterns so strong that each must be a mode: without
    most of them nothing is decided. At the side: the largest share in a mode ranks patterns better
    than their norm.
    """
    found = bool((control["visible"] >= VISIBLE).mean() > 0.5)
    learnt = first_count(rows, rows["rise"] - rows["never"] >= TAUGHT)
    seen = (rows["visible"] >= VISIBLE) & (rows["visible_others"] < VISIBLE)
    unknown = rows[["rise", "never", "visible", "visible_others"]].isna().any(axis=None)
    early = (first_count(rows, seen) <= learnt)[np.isfinite(learnt)].astype(float)
    shares = early.groupby("trial").mean()
    share = over_draws([np.nan] if unknown else shares)
    ranks, norm = by_pattern(rows, "visible"), by_pattern(rows, "norm")
    ahead = over_draws(ranks - norm)
    side = {f"order of the patterns: rank correlation {shown(over_draws(ranks))}, above the "
            "norm's": bool(ahead.low > 0)}  # fmt: skip
    checks = {"most learnt patterns are visible first (control: strong patterns are visible)": (
        bool(share.low > 0.5) and found)}  # fmt: skip
    return _judged(checks, f"visible first: {shown(share, '{:.2f}')} of the learnt", share, rows,
                   excluded=found and bool(share.high < 0.5), note=note, side=side)  # fmt: skip


# -- the bridge ------------------------------------------------------------------------------------


def forgotten(rows: pd.DataFrame, kept: str, count: int) -> pd.DataFrame:
    """Share of the score that ten traced units take beyond matched random ones.

    The score is what carriers raised it by. One row a trial, one column a ranking; the mean over
    patterns that `count` carriers taught at all (0.05 on average).
    """
    part = rows[(rows["kept"] == kept) & (rows["spurious"] == count) & (rows["amount"] == UNITS)]
    raised = (part["score_before"] - part["score_never"]).groupby(part["pattern"]).mean()
    part = part[part["pattern"].map(raised) >= 0.05]
    wide = part.pivot(index=["pattern", "trial"], columns="ranking", values="score")
    wide = wide.reindex(columns=[*TRACED, *(f"layer-matched like {way}" for way in TRACED)])
    by = raised.reindex(wide.index.get_level_values("pattern")).to_numpy()
    made = {way: (wide[f"layer-matched like {way}"] - wide[way]) / by for way in TRACED}
    return pd.DataFrame(made).groupby("trial").mean()


@rule("S16", needs=("kept", "pattern", "spurious", "ranking", "amount", "trial", "score",
                    "score_before", "score_never", "data_source"))  # fmt: skip
def rarer_in_fewer(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Ten traced units take a larger share of a pattern that few images taught than many.

    Beyond what layer-matched random units take; mean over the three ways of tracing. At the side:
    with few carriers they take more than those at all, and one way finds planted units.
    """
    few, many = (forgotten(rows, "learnt", count).mean(axis=1) for count in (FEW, MANY))
    own, rarer = over_draws(few), over_draws((few - many).dropna())
    planted = [over_draws(values) for _, values in forgotten(rows, "planted", UNITS).items()]
    checks = {f"a larger share with {FEW} carriers than with {MANY}": bool(rarer.low > 0)}
    side = {
        f"{FEW} carriers: traced units take {shown(own)} more of the score than matched random "
        "ones": bool(own.low > 0),
        "control: planted units are found": any(bool(one.low > 0) for one in planted),
    }
    words = f"share of the score taken, {FEW} less {MANY} carriers: {shown(rarer)}"
    return _judged(checks, words, rarer, rows, note=note, side=side,
                   excluded=bool(rarer.high < 0))  # fmt: skip
