"""Rules of chapter 11: what leaks, and whether the accuracy would show it (Y8, Y10, Y30).

Rows are those of the experiments `membership` (one a target network; the split is the unit),
`membership_in_out` (one an image; see :mod:`.in_out`) and `rare_patterns` (one a network). A leak
is a difference of two areas under the ROC curve (AUC): members with the pattern against other
images with the same pattern, less plain members against other plain images.
"""

from collections.abc import Callable
from functools import partial

import pandas as pd

from helpers import stats
from helpers.claims.judgement import Judgement, rule, sources
from helpers.claims.part2 import in_out as two
from helpers.claims.part2.score import DATA, LEAST, PANELS, usual

ATTACKS = {"shadow": "paper's", "confidence": "confidence", "calibrated": "calibrated"}
RATIO = two.NAMES["ratio"]
PATTERNS = ("R3", "S1", "S2", "S3")
LEAK = 0.05  # a smaller difference of AUC is none worth the name
KEPT = 0.01  # a smaller change of accuracy is none
LOSS = 0.05  # of accuracy; a smaller one is none
SEEN = 10  # splits whose results were known when the rule was finished
SPLITS, ONE_IMAGE = "splits", "one image"  # designs: of `membership`, of `membership_in_out`
MANY = 0.01  # of the training set
CASE = ["dataset", "pattern", "spurious"]
_GAPS = tuple(f"auc_{kind}_{name}" for kind in ("pattern", "plain") for name in ATTACKS)


# -- leaks -----------------------------------------------------------------------------------------


def later(rows: pd.DataFrame) -> pd.DataFrame:
    """The splits drawn after the rule was finished; all of them if there are no such."""
    fresh = rows[rows["trial"] >= SEEN]
    return fresh if len(fresh) else rows


def gap_values(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a split, pattern, n and attack: `gap`, AUC with the pattern less that of plain."""
    rows = rows[rows["pattern"].isin(PATTERNS) & (rows["spurious"] > 0)]
    parts = [
        rows[[*CASE, "trial"]].assign(
            attack=called, gap=rows[f"auc_pattern_{name}"] - rows[f"auc_plain_{name}"]
        )
        for name, called in ATTACKS.items()
    ]
    return pd.concat(parts, ignore_index=True)


def own_seeds(answers: pd.DataFrame | None) -> pd.DataFrame | None:
    """Of the rows of `membership_in_out`: those of an attacker who does not know the seeds."""
    return None if answers is None else answers[answers["start"] == "own"]


def gaps(
    rows: pd.DataFrame,
    answers: pd.DataFrame | None = None,
    *,
    counts: tuple[int, ...] = (1,),
    keep: Callable[[tuple], bool] = lambda key: True,
) -> pd.DataFrame:
    """Differences of AUC, pattern minus plain, of every attack, with two intervals each.

    Columns `mean`, `low`, `high` (95 %), `low_all`, `high_all` (95 % for all lines together, after
    Bonferroni) and `units` (splits, or images for the likelihood ratio), by data set, pattern, n
    and attack.

    Args:
        rows: of `membership`, one schedule.
        answers: of `membership_in_out`, of one kind of start; None: no likelihood ratio.
        counts: the numbers n of images with the pattern.
        keep: which (data set, pattern, n, attack) are compared; others do not widen intervals.
    """
    values = gap_values(rows)
    values = values[values["spurious"].isin(counts)]
    by = {key: list(own["gap"]) for key, own in values.groupby([*CASE, "attack"])}
    asked = {}
    if answers is not None and 1 in counts:
        for dataset, own in answers.groupby("dataset"):
            there = [name for name in PATTERNS if name in set(own["variant"])]
            asked |= {(dataset, name, 1, RATIO): (own, name) for name in there}
    keys = [key for key in (*by, *asked) if keep(key)]
    together = 1 - 0.05 / max(len(keys), 1)
    table = {key: _both(by.get(key), asked.get(key), together) for key in keys}
    columns = ["mean", "low", "high", "low_all", "high_all", "units"]
    found = pd.DataFrame.from_dict(table, orient="index", columns=columns)
    found.index = pd.MultiIndex.from_tuples(keys, names=[*CASE, "attack"])
    return found.sort_index()


def _both(values: list[float] | None, asked: tuple | None, together: float) -> list[float]:
    if asked is None:
        at = [
            stats.interval_from(values, partial(stats.mean_ci, level=level), least=LEAST)
            for level in (0.95, together)
        ]
        units = len(values)
    else:
        own, name = asked
        if "plain" not in set(own["variant"]):
            raise LookupError("images in the variant 'plain'")
        first, second = (two.resampled(two.this_image(own, v)) for v in (name, "plain"))
        apart = first[0] - second[0], first[1] - second[1]
        at = [two.interval(*apart, level) for level in (0.95, together)]
        units = int((own["variant"] == name).sum())
    return [at[0].mean, at[0].low, at[0].high, at[1].low, at[1].high, units]


def leaking(table: pd.DataFrame) -> pd.Series:
    """Whether a difference is above `LEAK`, with an interval (for all together) above 0."""
    return (table["mean"] > LEAK) & (table["low_all"] > 0)


def found_twice(rows: pd.DataFrame, answers: pd.DataFrame | None = None, **how) -> pd.DataFrame:
    """`gaps` with a column `found`: a leak over all splits, and over the `later` ones alone.

    A column `half` has the wider half-width of the two intervals for all lines together. The first
    splits suggested where to look, and what they show they would show too often; a leak of the
    others alone is none of all.
    """
    table, again = gaps(rows, answers, **how), gaps(later(rows), answers, **how)
    halves = pd.concat([(t["high_all"] - t["low_all"]) / 2 for t in (table, again)], axis=1)
    return table.assign(
        found=leaking(table) & leaking(again).reindex(table.index, fill_value=False),
        half=halves.reindex(table.index).max(axis=1, skipna=False),
    )


def falls_from_one(rows: pd.DataFrame, table: pd.DataFrame) -> tuple[bool, list[int]]:
    """Whether every leak of `found_twice` is smaller at a larger n of the same splits, and those n.

    The n of a case is the largest with at least half as many splits as any n above 1. Leaks that
    only the likelihood ratio finds have no other n and do not count; without a leak: False.
    """
    values = gap_values(rows)
    answers, last = [], set()
    for dataset, pattern, _, attack in table.index[table["found"]]:
        case = dict(dataset=dataset, pattern=pattern, attack=attack)
        own = values[(values[list(case)] == pd.Series(case)).all(axis=1)]
        splits = own[own["spurious"] > 1].groupby("spurious")["trial"].nunique()
        if len(splits):
            most = int(splits.index[splits >= splits.max() / 2].max())
            last.add(most)
            first, later = (own[own["spurious"] == n] for n in (1, most))
            differences = list(stats.paired(first, later, "gap"))
            answers.append(stats.above_zero(differences, stats.mean_ci))
    return bool(answers) and all(answers), sorted(last)


def visible(table: pd.DataFrame) -> float:
    """A difference that about half of all studies like this one would find, from `found_twice`.

    The median of half-widths, each of the wider interval: what is found has to be so in all splits
    and in the later ones alone.
    """
    return float(table["half"].median())


def _named(key: tuple) -> str:
    dataset, pattern, count, attack = key
    return f"{DATA.get(dataset, dataset)}, {pattern}, n = {count:,}, {attack}"


@rule("Y8", needs=("epochs", "trial", "data_source", *CASE, *_GAPS))
def rare_leaks_more(rows: pd.DataFrame, answers: pd.DataFrame | None = None) -> Judgement:
    """A single image with a pattern is found more easily than a plain one, by some attack.

    `answers` are rows of `membership_in_out`; of them those count whose attacker does not know the
    seeds. Every data set and pattern is a check of its own.
    """
    rows = usual(rows)
    table = found_twice(rows, own_seeds(answers))
    leaks = table["found"]
    checks = {
        f"{DATA.get(dataset, dataset)}, {pattern}: found more easily by some attack": bool(
            own.any()
        )
        for (dataset, pattern), own in leaks.groupby(level=["dataset", "pattern"], sort=False)
    }
    fall, last = falls_from_one(later(rows), table)
    further = f"n = {' and '.join(map(str, last))}" if last else "larger n"
    best = table.loc[leaks if leaks.any() else slice(None), "mean"].idxmax()
    there = [name for name in DATA if (name, "R3", 1, ATTACKS["shadow"]) in table.index]
    paper = ", ".join(
        f"{DATA[name]} {table.loc[(name, 'R3', 1, ATTACKS['shadow']), 'mean']:+.3f}"
        for name in there
    )
    return Judgement(
        checks,
        f"AUC, pattern minus plain, at n = 1: the largest {'found' if leaks.any() else 'of all'} "
        f"is {table.loc[best, 'mean']:+.3f} ({_named(best)}); with the paper's attack and R3: "
        f"{paper}",
        tuple(table.loc[best, ["low_all", "high_all"]]),
        int(table.loc[best, "units"]),
        sources(rows),
        f"The interval holds for all {len(table)} differences together (Bonferroni). Found "
        f"(above {LEAK}, interval above 0, over all splits and over the later ones alone): "
        f"{'; '.join(map(_named, table.index[leaks])) or 'none'}."
        f" One of {visible(table):.2f} would have been found in half of all cases; smaller leaks "
        "stay open. CIFAR-10 is not attacked.",
        side={f"less easily at {further} wherever it is at n = 1": fall},
        boundary=LEAK,
        excluded=bool((table["high_all"] < LEAK).all()),
    )  # fmt: skip


# -- accuracy --------------------------------------------------------------------------------------


def kept_accuracy(rows: pd.DataFrame, answers: pd.DataFrame | None = None) -> pd.DataFrame:
    """Change of the accuracy with the pattern since n = 0, by data set, pattern, n and design.

    Columns `mean`, `low`, `high` (95 %, over splits, or over networks that differ in one image),
    `before` (the accuracy at n = 0) and `kept`: the interval lies within `KEPT` of 0.
    """
    rows = rows[rows["pattern"].isin(PATTERNS)]
    clean, found = rows[rows["spurious"] == 0], {}
    for key, own in rows[rows["spurious"] > 0].groupby(CASE):
        same = clean[(clean["dataset"] == key[0]) & (clean["pattern"] == key[1])]
        change = list(stats.paired(own, same, "spurious_accuracy"))
        before = float(same["spurious_accuracy"].mean())
        found[*key, SPLITS] = [*stats.interval_from(change, stats.mean_ci, least=LEAST), before]
    if answers is not None:
        for (dataset, name), own in answers.groupby(["dataset", "variant"]):
            if name in PATTERNS:
                before = float(own["accuracy_before"].mean())
                found[dataset, name, 1, ONE_IMAGE] = [*two.accuracy_change(own, name), before]
    table = pd.DataFrame.from_dict(found, orient="index", columns=["mean", "low", "high", "before"])
    table.index = pd.MultiIndex.from_tuples(found, names=[*CASE, "design"])
    return table.assign(kept=(table["low"] > -KEPT) & (table["high"] < KEPT))


def _design(key: tuple) -> tuple:
    """The case of `kept_accuracy` to which a comparison belongs."""
    return (*key[:3], ONE_IMAGE if key[3] == RATIO else SPLITS)


@rule("Y30", needs=("epochs", "trial", "data_source", "spurious_accuracy", *CASE, *_GAPS))
def leak_unseen(rows: pd.DataFrame, answers: pd.DataFrame | None = None) -> Judgement:
    """Among cases that keep their accuracy with the pattern, one has members that are found.

    The accuracy keeps where its change is shown to lie within 0.01 of 0; then every attack counts,
    with intervals for all of these comparisons together.
    """
    rows, answers = usual(rows), own_seeds(answers)
    kept = kept_accuracy(rows, answers)
    cases = kept.index[kept["kept"]]
    seen = f"{len(cases)} of {len(kept)} cases keep their accuracy to within {KEPT}"
    if not len(cases):
        return Judgement(
            {"a case keeps its accuracy, and its members are found more easily": False},
            f"{seen}: nothing to judge by", None, rows["trial"].nunique(), sources(rows),
            "The precondition never occurs, so that the claim is open.", excluded=False,
        )  # fmt: skip
    counts = tuple(sorted(set(cases.get_level_values("spurious"))))
    how = dict(counts=counts, keep=lambda key: _design(key) in cases)
    table = found_twice(rows, answers, **how)
    leaks, best = table["found"], table["mean"].idxmax()
    change = kept.loc[_design(best)]
    return Judgement(
        {"a case keeps its accuracy, and its members are found more easily": bool(leaks.any())},
        f"{seen}; largest difference of AUC among them {table.loc[best, 'mean']:+.3f} "
        f"({_named(best)}), accuracy {change['mean']:+.4f} from {change['before']:.3f}",
        tuple(table.loc[best, ["low_all", "high_all"]]),
        int(table.loc[best, "units"]),
        sources(rows),
        f"The largest of {len(table)} differences; its interval holds for all of them together.",
        boundary=LEAK,
        excluded=bool((table["high_all"] < LEAK).all()),
    )


def panels(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of `rare_patterns` by data set and class: the usual schedule, the most images."""
    rows = usual(rows)
    rows = rows[rows["samples"] == rows.groupby("dataset")["samples"].transform("max")]
    return {
        f"{DATA.get(dataset, dataset)}, class {target}": own
        for (dataset, target), own in rows.groupby(["dataset", "target"], sort=False)
    }


def lost_at_start(rows: pd.DataFrame, pattern: str) -> pd.Series:
    """Clean accuracy less accuracy with a pattern of networks that never saw it, by trial."""
    own = rows[(rows["spurious"] == 0) & (rows["pattern"] == pattern)].set_index("trial")
    return (own["clean_accuracy"] - own["spurious_accuracy"]).dropna()


def further_fall(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy with the pattern at n = 0 less that at the largest n, with 95 % intervals.

    By pattern; the intervals hold for all patterns of the panel together. Column `n` is the largest
    one.
    """
    most = rows.groupby("pattern")["spurious"].transform("max")
    ends = [rows[rows["spurious"] == 0], rows[(rows["spurious"] == most) & (most > 0)]]
    falls = stats.paired(*ends, "spurious_accuracy", key=("pattern", "trial"))
    names = list(dict.fromkeys(falls.index.get_level_values("pattern")))
    of = partial(stats.mean_ci, level=1 - 0.05 / max(len(names), 1))
    found = {name: [*stats.interval_from(falls[name], of), most[rows["pattern"] == name].iloc[0]]
             for name in names}  # fmt: skip
    return pd.DataFrame.from_dict(found, orient="index", columns=["mean", "low", "high", "n"])


@rule(
    "Y10",
    needs=("epochs", "samples", "target", "trial", "data_source", "clean_accuracy",
           "spurious_accuracy", *CASE),
)  # fmt: skip
def low_and_lower(rows: pd.DataFrame) -> Judgement:
    """Accuracy with the pattern is below clean accuracy at n = 0, and falls further at large n.

    Pairs of data set and class that were not run, or not with so many images, are side checks that
    fail.
    """
    by_panel, checks, lost, used = panels(rows), {}, [], []
    side = {f"{title}: run with R3": False for title in PANELS if title not in by_panel}
    for title, own in by_panel.items():
        at_start = {name: lost_at_start(own, name) for name in ("R3", "S3")}
        r3 = at_start["R3"]
        checks[f"{title}: R3 costs accuracy at n = 0"] = r3.mean() > LOSS and stats.above_zero(
            list(r3), stats.mean_ci, least=LEAST
        )
        if len(at_start["S3"]):
            apart = (r3 - at_start["S3"]).dropna()
            checks[f"{title}: R3 costs more than S3"] = stats.above_zero(
                list(apart), stats.mean_ci, least=LEAST
            )
        else:
            side[f"{title}: run with S3"] = False
        fall = further_fall(own)
        fall = fall[fall["n"] >= MANY * own["samples"].iloc[0]]
        if len(fall):
            worse = (fall["mean"] > LOSS) & (fall["low"] > 0)
            checks[f"{title}: some pattern costs more once many images carry it"] = bool(
                worse.any()
            )
        else:
            side[f"{title}: some pattern in {100 * MANY:g} % of the training set"] = False
        lost.append(r3)
        used.append(own)
    mean = stats.pooled(lost)
    return Judgement(
        checks,
        f"clean accuracy less accuracy with R3 at n = 0, mean of {len(by_panel)} panels: "
        f"{mean.mean:.3f}",
        (mean.low, mean.high),
        pd.concat(used)["trial"].nunique(),
        sources(pd.concat(used)),
        "Networks of the chapter on the spurious score. Many images: at least "
        f"{100 * MANY:g} % of the training set.",
        boundary=LOSS,
        side=side,
    )
