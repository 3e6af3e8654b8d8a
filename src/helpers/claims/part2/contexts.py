"""Rules of chapter 14: natural contexts, on NICO++ (Y7) and on its surrogate (Y33).

Rows are those of the experiment `contexts`, one a network, context, object and number of pictures.
The unit is the repetition: the trials (context and object) of one share split and networks.
"""

import pandas as pd

from helpers import stats
from helpers.claims.bars import Bar, bar, checks, excluded
from helpers.claims.judgement import Judgement, rule, sources
from helpers.stats import power

TRIAL = ["context", "target"]
PAPERS_CONTEXTS = ("autumn", "dim", "grass")
RISEN, TRIALS = 4, 9  # so many trials must rise; the paper counts 5 of 9
VISIBLE = 0.01  # a rise of the rate, one picture of a hundred

_NEEDS = (*TRIAL, "spurious", "trial", "rate", "elsewhere_rate", "data_source")


def context_pairs(rows: pd.DataFrame, many: int, column: str = "rate") -> pd.DataFrame:
    """One row a trial and repetition: `before`, the column at n = 0, and `after`, at n = `many`.

    Raises:
        LookupError: no network for one of the two.
    """
    if missing := {0, many} - set(rows["spurious"]):
        raise LookupError(f"n = {missing.pop()}")
    chosen = rows[rows["spurious"].isin([0, many])]
    wide = chosen.pivot(index=[*TRIAL, "trial"], columns="spurious", values=column)
    return wide.rename(columns={0: "before", many: "after"}).dropna()


def context_change(rows: pd.DataFrame, many: int, column: str = "rate") -> pd.Series:
    """Mean over trials of the change from n = 0 to n = `many`, a number for each repetition."""
    wide = context_pairs(rows, many, column)
    return (wide["after"] - wide["before"]).groupby(level="trial").mean()


def context_table(rows: pd.DataFrame, many: int) -> pd.DataFrame:
    """One row a trial: mean rates, the rise, and p of Welch's test, plain and after Holm."""
    lines = {}
    for key, wide in context_pairs(rows, many).groupby(level=TRIAL, sort=False):
        lines[key] = {
            "n = 0": wide["before"].mean(),
            f"n = {many}": wide["after"].mean(),
            "rise": (wide["after"] - wide["before"]).mean(),
            "p": stats.welch_greater(wide["after"], wide["before"]),
        }
    table = pd.DataFrame(lines).T.rename_axis(["context", "object"])
    return table.assign(**{"p (Holm)": power.holm(table["p"].to_numpy())})


def _own(rows: pd.DataFrame, many: int) -> pd.Series:
    """Rise in the context less the rise in all others, mean over trials, by repetition."""
    return context_change(rows, many) - context_change(rows, many, "elsewhere_rate")


@rule("Y7", needs=_NEEDS)
def natural_contexts(rows: pd.DataFrame, many: int = 10) -> Judgement:
    """The rate rises in 4 of 9 trials, in the context and not everywhere."""
    table = context_table(rows, many)
    risen, own = int((table["p"] < 0.05).sum()), _own(rows, many)
    rise = stats.interval_from(context_change(rows, many), stats.mean_ci)
    if len(table) < TRIALS:
        raise LookupError(f"{TRIALS} trials: there are {len(table)}")
    everywhere = bar(own, VISIBLE)
    return Judgement(
        {
            f"n = {many} above n = 0 with p below 0.05 in {RISEN} of {TRIALS} trials or more, and "
            "more than in other contexts": risen >= RISEN and everywhere.holds,
        },
        f"{risen} of {len(table)} trials; mean rise {rise.mean:+.3f}",
        (rise.low, rise.high),
        rows["trial"].nunique(),
        sources(rows),
        "Objects, optimiser and augmentation are ours; the text names two objects and the epochs.",
        excluded=everywhere.excluded,
    )


@rule("Y33", needs=_NEEDS)
def surrogate_contexts(rows: pd.DataFrame, many: int = 10) -> Judgement:
    """On the surrogate, the rate rises in each context, by more than in all others."""
    contexts = [name for name in PAPERS_CONTEXTS if name in set(rows["context"])]
    if len(contexts) < len(PAPERS_CONTEXTS):
        raise LookupError("each of the contexts " + ", ".join(PAPERS_CONTEXTS))
    statements: dict[str, list[Bar]] = {
        f"{name}: rise above {VISIBLE}, beyond that in other contexts, mean over objects": [
            bar(_own(rows[rows["context"] == name], many), VISIBLE)
        ]
        for name in contexts
    }
    rise = stats.interval_from(context_change(rows, many), stats.mean_ci)
    return Judgement(
        checks(statements),
        f"mean rise of the rate with n = {many}: {rise.mean:+.3f}",
        (rise.low, rise.high),
        rows["trial"].nunique(),
        sources(rows),
        "A surrogate: it says nothing of photographs. Repetitions split one pool of pictures anew.",
        boundary=VISIBLE,
        excluded=excluded(statements),
    )
