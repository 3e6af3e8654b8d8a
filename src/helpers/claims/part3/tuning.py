"""Rules of chapter 17: fine-tuning against memory, and simpler ways to go on (M13 to M16, X5, X6).

Rows are those of `fine_tuning`: accuracy by group after every epoch of every run. The first
training and the fine-tuning have the same augmentation: two *arms*, without any and with crops. Of
a run that epoch counts whose worst group is recognised best on the validation images; the network
before the fine-tuning is no candidate, or no method could do harm.
"""

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
    of_groups,
    over,
    points,
    rare,
    selectivity,
    setting,
)

CROPPED = f"{PHOTOS}, crops"
ARMS = {PHOTOS: "no augmentation", CROPPED: "crops in both", SMALL: "no augmentation"}
KEPT = -0.03  # accuracy that a frequent group may lose
_SHIFT = "also where the output's bias is refitted before and after: more than a shift of it"
_SPLITS = ("train", "val", "test", "refit")
NEEDS = ("setting", "method", "epoch", "trial", "data_source",
         *(f"{split}_{g}" for split in _SPLITS for g in range(4)))  # fmt: skip


def _worst(rows: pd.DataFrame, split: str) -> pd.Series:
    return rows[[f"{split}_{g}" for g in range(4)]].min(axis=1)


def best(rows: pd.DataFrame, name: str, method: str) -> pd.DataFrame:
    """The epoch of each network that is chosen, of a method (the first of equals), by trial.

    Raises:
        LookupError: the method was not run there.
    """
    here = setting(rows, name)
    runs = here[(here["method"] == method) & (here["epoch"] > 0)]
    if not len(runs):
        raise LookupError(f"the method {method!r} on {name!r}")
    order = runs.assign(worst_val=_worst(runs, "val")).sort_values(
        ["trial", "worst_val", "epoch"], ascending=[True, False, True]
    )
    return order.groupby("trial").first()


def before(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Each network before any fine-tuning, by trial; with its test accuracies refitted apart."""
    here = setting(rows, name)
    return (
        here[(here["epoch"] == 0) & (here["method"] != "early stopping")].groupby("trial").first()
    )


def gain(rows: pd.DataFrame, name: str, method: str, over_method: str | None = None) -> pd.Series:
    """Worst-group test accuracy of a method minus before, or minus another method; by trial.

    `over_method` may also be `"offset"`: the network before, with its bias refitted.
    """
    own = _worst(best(rows, name, method), "test")
    if over_method is None:
        other = _worst(before(rows, name), "test")
    elif over_method == "offset":
        other = _worst(before(rows, name), "refit")
    else:
        other = _worst(best(rows, name, over_method), "test")
    return (own - other).dropna()


def refitted_gain(rows: pd.DataFrame, name: str, method: str) -> pd.Series:
    """The same with the output's bias refitted before and after: 0 for a mere shift of the output.

    Such a shift takes from one class what it gives to the other, and may help the worst group.
    """
    return (
        _worst(best(rows, name, method), "refit") - _worst(before(rows, name), "refit")
    ).dropna()


def change(
    rows: pd.DataFrame, name: str, method: str, group: int, split: str = "test"
) -> pd.Series:
    """Accuracy of a group after a method minus before, by trial."""
    return (
        best(rows, name, method)[f"{split}_{group}"] - before(rows, name)[f"{split}_{group}"]
    ).dropna()


def _arms(rows: pd.DataFrame) -> list[str]:
    others = [SMALL] if main(rows) != SMALL else []
    return [name for name in ARMS if name not in others and (rows["setting"] == name).any()]


def _listed(found: dict[str, Bar]) -> str:
    return "; ".join(f"{name} {points(one.found)}" for name, one in found.items())


@rule("M14", needs=NEEDS)
def worst_group(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The worst group gains by the released settings, in each arm on photographs.

    At the side: it gains where the output's bias is refitted before and after, too.
    """
    on = main(rows)
    found = {ARMS[name]: over(gain(rows, name, "released")) for name in _arms(rows)}
    first = next(iter(found.values()))
    side = {_SHIFT: [over(refitted_gain(rows, name, "released")) for name in _arms(rows)]}
    if (rows["setting"] == GARMENTS).any():
        side["on garments, no augmentation"] = [over(gain(rows, GARMENTS, "released"))]
    return judged(
        {f"{name}: the worst group gains": [one] for name, one in found.items()},
        f"worst-group test accuracy after minus before: {_listed(found)}",
        first.found, setting(rows, on), note, side,
    )  # fmt: skip


@rule("M13", needs=NEEDS)
def gap_closed(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The gap of rare groups shrinks, and the test accuracy of each rises, by released settings.

    Of each: what one rare group gains from the other is a trade-off between the classes.
    """
    on = main(rows)
    statements, words = {}, []
    for name in _arms(rows):
        then, now = before(rows, name), best(rows, name, "released")
        gaps = [
            selectivity(part, "train", name) - selectivity(part, "test", name)
            for part in (then, now)
        ]
        shrinks = over((gaps[0] - gaps[1]).dropna())
        rise = over(
            (of_groups(now, "test", rare(name)) - of_groups(then, "test", rare(name))).dropna()
        )
        each = [over(change(rows, name, "released", g)) for g in rare(name)]
        statements[f"{ARMS[name]}: the gap shrinks and test images of each rare group gain"] = [
            shrinks, rise, *each
        ]  # fmt: skip
        words.append(f"{ARMS[name]}: gap shrinks by {points(shrinks.found)}, test accuracy of rare "
                     f"groups {points(rise.found)}")  # fmt: skip
    shown = next(iter(statements.values()))[1].found
    return judged(statements, "; ".join(words), shown, setting(rows, on), note)


@rule("M15", needs=NEEDS)
def majority_kept(rows: pd.DataFrame, note: str = "") -> Judgement:
    """No frequent group loses more than three points, and no rare group pays for that."""
    on = main(rows)
    statements, words = {}, []
    for name in _arms(rows):
        found = {g: over(change(rows, name, "released", g), KEPT) for g in range(4)}
        statements[f"{ARMS[name]}: no frequent group loses more than 3 points, nor a rare one"] = (
            list(found.values())
        )
        told = ", ".join(f"group {g} {points(found[g].found)}" for g in frequent(name))
        words.append(f"{ARMS[name]}: {told}")
    shown = next(iter(statements.values()))[frequent(on)[0]].found
    return judged(
        statements, f"test accuracy of frequent groups: {'; '.join(words)}", shown,
        setting(rows, on), note,
    )  # fmt: skip


_MASKS = (("by size", "released"), ("by gradient", "gradient mask"))


@rule("M16", needs=NEEDS)
def masks_and_networks(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The worst group gains with either mask, for a convolutional network and a transformer."""
    on = main(rows)
    cases = {f"{mask}, {kind}": (name, method)
             for kind, name in (("convolutions", on), ("transformer", TRANSFORMER))
             for mask, method in _MASKS}  # fmt: skip
    found = {case: over(gain(rows, *run)) for case, run in cases.items()}
    return judged(
        {case: [one] for case, one in found.items()},
        f"worst-group test accuracy after minus before: {_listed(found)}",
        found["by gradient, convolutions"].found, setting(rows, on), note,
        {_SHIFT: [over(refitted_gain(rows, *run)) for run in cases.values()]},
    )  # fmt: skip


def _against(rows: pd.DataFrame, others: dict[str, str], note: str) -> Judgement:
    statements, words = {}, []
    for what, method in others.items():
        for name in _arms(rows):
            one = over(gain(rows, name, "released", method))
            statements[f"more than {what}, {ARMS[name]}"] = [one]
            words.append(f"{what}, {ARMS[name]} {points(one.found)}")
    shown = next(iter(statements.values()))[0].found
    return judged(
        statements, f"worst-group test accuracy of the method minus: {'; '.join(words)}", shown,
        setting(rows, main(rows)), note,
    )  # fmt: skip


@rule("X5", needs=NEEDS)
def pruning_matters(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The method beats itself without a mask and with random masks."""
    others = {"no mask": "no mask", "random weights": "random mask"}
    return _against(rows, others, note)


@rule("X6", needs=NEEDS)
def more_than_simpler(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The method gains more than simpler ways to go on, the same epochs and choice."""
    others = {"cross-entropy": "cross-entropy", "class-balanced": "class-balanced",
              "early stopping": "early stopping", "a refitted bias": "offset"}  # fmt: skip
    return _against(rows, others, note)
