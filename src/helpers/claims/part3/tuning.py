"""Rules of chapter 17: fine-tuning against memory, and simpler ways to go on (M13 to M16, X5, X6).

Rows are those of `fine_tuning`: accuracy by group after every epoch of every run. The first
training and the fine-tuning have the same augmentation: two *arms*, without any and with crops. Of
a method that rate (the release's, or a quarter of it) and epoch count whose worst group is
recognised best on the validation images; the network before the fine-tuning is no candidate, or no
method could do harm.

What looks like a cure without being one: the best of several epochs beats the one that nobody
chose, also if training just goes on (cross-entropy); a shift of the output gives one class what it
takes from the other (so each rare group has to gain, and a bias refitted before and after leaves no
shift); a run that diverged has no rows (its network then makes the comparison undecided: survivors
are no sample).
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from helpers.claims.bars import Bar
from helpers.claims.judgement import Judgement, rule
from helpers.claims.part3.groups import (
    GARMENTS,
    PHOTOS,
    SMALL,
    TRANSFORMER,
    frequent,
    judged,
    main,
    over,
    points,
    rare,
    selectivity,
    setting,
)

CROPPED = f"{PHOTOS}, crops"
ARMS = {PHOTOS: "no augmentation", CROPPED: "crops in both", SMALL: "no augmentation"}
KEPT = -0.03  # accuracy that a group may lose
PLAIN = "cross-entropy"
QUARTER = ", quarter rate"  # how the methods are called where they have a quarter of the rate
GIVEN = ("early stopping", "last layer")  # have no rate of their own
_SHIFT = "also where the output's bias is refitted before and after: more than a shift of it"
_CHOICE = "more than going on with cross-entropy, with the same choice of rate and epoch"
_SPLITS = ("train", "val", "test", "refit")
NEEDS = ("setting", "method", "tuning", "epoch", "trial", "data_source",
         *(f"{split}_{g}" for split in _SPLITS for g in range(4)))  # fmt: skip


def _worst(rows: pd.DataFrame, split: str) -> pd.Series:
    return rows[[f"{split}_{g}" for g in range(4)]].min(axis=1, skipna=False)


def usual(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the runs that rules are about: the shortest of each setting and method.

    Longer ones of a few methods show how much hangs on the number of epochs.
    """
    shortest = rows.groupby(["setting", "method"])["tuning"].transform("min")
    return rows[rows["tuning"] == shortest]


def best(rows: pd.DataFrame, name: str, method: str) -> pd.DataFrame:
    """The rate and epoch of each network that are chosen, of usual runs, by trial.

    Of equals the release's rate, and the first epoch. A network that lacks the run at a rate at
    which others have it is left out, also where only one of two runs diverged.

    Raises:
        LookupError: the method was not run there.
    """
    here = usual(setting(rows, name))
    runs = here[here["method"].isin([method, method + QUARTER]) & (here["epoch"] > 0)]
    if not len(runs):
        raise LookupError(f"the method {method!r} on {name!r}")
    tried = runs.groupby("trial")["method"].nunique()
    whole = runs[runs["trial"].isin(tried.index[tried == runs["method"].nunique()])]
    order = whole.assign(worst_val=_worst(whole, "val"), slow=whole["method"] != method)
    order = order.sort_values(
        ["trial", "worst_val", "slow", "epoch"], ascending=[True, False, True, True]
    )
    return order.drop_duplicates("trial").set_index("trial")


def before(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Each network before any fine-tuning, by trial; with its test accuracies refitted apart.

    Raises:
        LookupError: no networks there.
    """
    here = setting(rows, name)
    start = here[(here["epoch"] == 0) & (here["method"] != "early stopping")]
    return start.drop_duplicates("trial").set_index("trial").sort_index()


def _minus(first: pd.Series, second: pd.Series, networks: pd.DataFrame) -> pd.Series:
    """A difference for each of these networks; NaN where a run is missing."""
    return (first - second).reindex(networks.index)


def gain(rows: pd.DataFrame, name: str, method: str, over_method: str | None = None) -> pd.Series:
    """Worst-group test accuracy of a method minus before, or minus another method; by trial.

    `over_method` may also be `"offset"`: the network before, with its bias refitted. NaN where a
    run is missing, or one of two methods was tried at more rates than the other.

    Raises:
        LookupError: the method was not run there.
    """
    start = before(rows, name)
    if over_method is None:
        other = _worst(start, "test")
    elif over_method == "offset":
        other = _worst(start, "refit")
    else:
        other = _worst(best(rows, name, over_method), "test")
        other += _unequal(rows, name, method, over_method)
    return _minus(_worst(best(rows, name, method), "test"), other, start)


def _unequal(rows: pd.DataFrame, name: str, *methods: str) -> float:
    """0, or NaN for two methods of which one was trained at more rates than the other."""
    tried = set(usual(setting(rows, name))["method"])
    rates = {len(tried & {method, method + QUARTER}) for method in methods if method not in GIVEN}
    return 0.0 if len(rates) <= 1 else np.nan


def refitted_gain(rows: pd.DataFrame, name: str, method: str) -> pd.Series:
    """The same with the output's bias refitted before and after: 0 for a mere shift of the output.

    Rate and epoch are chosen as ever, without a refit.
    Such a shift takes from one class what it gives to the other, and may help the worst group.
    """
    start = before(rows, name)
    return _minus(_worst(best(rows, name, method), "refit"), _worst(start, "refit"), start)


def change(
    rows: pd.DataFrame, name: str, method: str, group: int, split: str = "test"
) -> pd.Series:
    """Accuracy of a group after a method minus before, by trial; NaN where a run is missing."""
    start, column = before(rows, name), f"{split}_{group}"
    return _minus(best(rows, name, method)[column], start[column], start)


def arms(rows: pd.DataFrame) -> list[str]:
    """The settings that a claim is judged in: the arms on photographs, or digits in their place."""
    others = [SMALL] if main(rows) != SMALL else []
    return [name for name in ARMS if name not in others and (rows["setting"] == name).any()]


def _listed(found: dict[str, Bar]) -> str:
    return "; ".join(f"{name} {points(one.found)}" for name, one in found.items())


@rule("M14", needs=NEEDS)
def worst_group(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The worst group gains by the released method, in each arm on photographs.

    At the side: it gains where the output's bias is refitted before and after, too; more than by
    going on with cross-entropy; and on garments.
    """
    on = main(rows)
    found = {ARMS[name]: over(gain(rows, name, "released")) for name in arms(rows)}
    first = next(iter(found.values()))
    refitted = {ARMS[name]: over(refitted_gain(rows, name, "released")) for name in arms(rows)}
    side = {
        _SHIFT: list(refitted.values()),
        _CHOICE: [over(gain(rows, name, "released", PLAIN)) for name in arms(rows)],
    }
    if (rows["setting"] == GARMENTS).any():
        side["on garments, no augmentation"] = [over(gain(rows, GARMENTS, "released"))]
    return judged(
        {f"{name}: the worst group gains": [one] for name, one in found.items()},
        f"worst-group test accuracy after minus before: {_listed(found)}; "
        f"with the bias refitted: {_listed(refitted)}",
        first.found, setting(rows, on), note, side,
    )  # fmt: skip


def memorisation(rows: pd.DataFrame, name: str) -> pd.Series:
    """Training minus test accuracy, of the rare groups minus of the frequent ones, a number a row.

    Accuracy is the mean over groups.
    """
    return selectivity(rows, "train", name) - selectivity(rows, "test", name)


def rise(rows: pd.DataFrame, name: str, method: str, over_method: str | None = None) -> pd.Series:
    """Test accuracy of the rare groups after a method minus before, their mean; by trial.

    Or minus the same of another method, NaN as in :func:`gain`.
    """
    risen = pd.concat([change(rows, name, method, g) for g in rare(name)], axis=1).mean(
        axis=1, skipna=False
    )
    if over_method is None:
        return risen
    return risen - rise(rows, name, over_method) + _unequal(rows, name, method, over_method)


@rule("M13", needs=NEEDS)
def gap_closed(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The gap shrinks since the test accuracy of each rare group rises, by the released method.

    Of each: what one rare group gains from the other is a trade-off between the classes. And by
    more than where training goes on with cross-entropy: the claim is of a cause.
    """
    statements, words, on = {}, [], main(rows)
    for name in arms(rows):
        start = before(rows, name)
        after = memorisation(best(rows, name, "released"), name)
        shrinks = over(_minus(memorisation(start, name), after, start))
        risen = rise(rows, name, "released")
        more = over(rise(rows, name, "released", PLAIN))
        each = [over(change(rows, name, "released", g)) for g in rare(name)]
        statements[f"{ARMS[name]}: the gap shrinks, each rare group gains on test images, "
                   "more than by cross-entropy"] = [over(risen), shrinks, *each, more]  # fmt: skip
        words.append(f"{ARMS[name]}: gap shrinks by {points(shrinks.found)}, test accuracy of rare "
                     f"groups {points(over(risen).found)}, minus cross-entropy's "
                     f"{points(more.found)}")  # fmt: skip
    shown = next(iter(statements.values()))[0].found
    return judged(statements, "; ".join(words), shown, setting(rows, on), note)


@rule("M15", needs=NEEDS)
def majority_kept(rows: pd.DataFrame, note: str = "") -> Judgement:
    """No frequent group loses more than three points.

    At the side: no rare group pays for that, as where a network goes over to the background; and
    the worst group gains, since a method that does nothing costs nothing.
    """
    on = main(rows)
    statements, words, spared = {}, [], []
    for name in arms(rows):
        found = {g: over(change(rows, name, "released", g), KEPT) for g in range(4)}
        statements[f"{ARMS[name]}: no frequent group loses more than 3 points"] = [
            found[g] for g in frequent(name)
        ]
        spared += [found[g] for g in rare(name)]
        told = ", ".join(f"group {g} {points(bar.found)}" for g, bar in found.items())
        words.append(f"{ARMS[name]}: {told}")
    shown = next(iter(statements.values()))[0].found
    side = {
        "no rare group loses more than 3 points": spared,
        "while the worst group gains": [over(gain(rows, name, "released")) for name in arms(rows)],
    }
    return judged(
        statements, f"test accuracy by group: {'; '.join(words)}", shown,
        setting(rows, on), note, side,
    )  # fmt: skip


_MASKS = (("by size", "released"), ("by gradient", "gradient mask"))


def _if_run(of: Callable[..., pd.Series], rows: pd.DataFrame, *run: str) -> Bar:
    """A bar of a run; nothing known where it was not made."""
    try:
        return over(of(rows, *run))
    except LookupError:
        return over([])


@rule("M16", needs=NEEDS)
def masks_and_networks(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The worst group gains with either mask, for a convolutional network and a transformer.

    All four cases, or the claim does not hold: that it is so whatever the mask and the network is
    what it says. A case that was not run is not known. At the side: as for M14.
    """
    on = main(rows)
    cases = {f"{mask}, {kind}": (name, method)
             for kind, name in (("convolutions", on), ("transformer", TRANSFORMER))
             for mask, method in _MASKS}  # fmt: skip
    found = {case: _if_run(gain, rows, *run) for case, run in cases.items()}
    side = {
        _SHIFT: [_if_run(refitted_gain, rows, *run) for run in cases.values()],
        _CHOICE: [_if_run(gain, rows, *run, PLAIN) for run in cases.values()],
    }
    least = min(found.values(), key=lambda one: np.nan_to_num(one.found.high, nan=np.inf))
    return judged(
        {f"the worst group gains: {'; '.join(found)}": list(found.values())},
        f"worst-group test accuracy after minus before: {_listed(found)}",
        least.found, setting(rows, on), note, side,
    )  # fmt: skip


def _against(
    rows: pd.DataFrame, method: str, others: dict[str, str], what: str = ""
) -> tuple[dict[str, list[Bar]], list[str]]:
    """For each arm one statement, that the method beats all of these, and the effects in words."""
    statements, words = {}, []
    for name in arms(rows):
        found = {title: over(gain(rows, name, method, other)) for title, other in others.items()}
        beaten = f"{what}more than {', '.join(others)}: {ARMS[name]}"
        statements[beaten] = list(found.values())
        words += [f"{what}minus {title}, {ARMS[name]} {points(one.found)}"
                  for title, one in found.items()]  # fmt: skip
    return statements, words


@rule("X5", needs=NEEDS)
def pruning_matters(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The method beats itself without a mask and with random masks, for either kind of mask."""
    by_size = {"no mask": "no mask", "random weights": "random mask"}
    by_gradient = {"no mask": "no mask", "random filters": "random filters"}
    statements, words = _against(rows, "released", by_size, "by size, ")
    more, further = _against(rows, "gradient mask", by_gradient, "by gradient, ")
    shown = next(iter(statements.values()))[0].found
    return judged(
        statements | more, f"worst-group test accuracy: {'; '.join(words + further)}", shown,
        setting(rows, main(rows)), note,
    )  # fmt: skip


@rule("X6", needs=NEEDS)
def more_than_simpler(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The method gains more than each simpler way to go on, with the same choice of rate, epoch."""
    others = {PLAIN: PLAIN, "class-balanced": "class-balanced",
              "early stopping": "early stopping", "a refitted bias": "offset"}  # fmt: skip
    statements, words = _against(rows, "released", others)
    shown = min((bar.found for bars in statements.values() for bar in bars), key=lambda x: x.low)
    return judged(
        statements,
        f"worst-group test accuracy of the method: {'; '.join(words)} (interval: the least of "
        "these)", shown,
        setting(rows, main(rows)), note,
    )  # fmt: skip
