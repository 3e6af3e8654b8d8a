"""Rules on two-layer ReLU networks (chapter 23): mixture, digits, time, widths, losses.

Effects are taken against their nulls: an attribute permuted within the classes (which goes with the
label as often and is not in the input), the other leading modes, and rho = 1/2.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.bars import Bar, bar, checks, excluded, inside
from helpers.claims.judgement import Judgement, by_trial, rule, sources

EVEN, MAIN = 0.5, 0.9  # aligned shares: the null, and the one the claims are about


def at_share(rows: pd.DataFrame, rho: float) -> pd.DataFrame:
    """The rows of one aligned share, by trial; KeyError when there are none."""
    found = rows[rows["rho"] == rho]
    if found.empty:
        raise KeyError(f"rho = {rho}")
    return found.set_index("trial").sort_index()


def gap(rows: pd.DataFrame, suffix: str = "") -> pd.Series:
    """Accuracy on aligned minus accuracy on conflicting samples."""
    return rows[f"aligned{suffix}"] - rows[f"conflicting{suffix}"]


# -- where the shortcut is -------------------------------------------------------------------------

_FOUND = ("rho", "trial", "bias", "bias_permuted", "split_permuted", "aligned", "conflicting",
          "aligned_full", "conflicting_full", "gap_permuted")  # fmt: skip


@rule("L13", needs=(*_FOUND, "first", "label"))
def relu_mixture(rows: pd.DataFrame, note: str = "") -> Judgement:
    """On the mixture the first feature that changes sign is the shortcut.

    At rho = 1/2 it has to be there without any label in it; a permuted attribute, which shares the
    label's part of the feature, is the null at every share.
    """
    statements, even = {}, at_share(rows, EVEN)
    for rho in sorted(rows["rho"].unique()):
        part = at_share(rows, rho)
        beyond = part["bias"] - part["bias_permuted"]
        name = f"ρ = {rho}: A(b) above 0.8 and above that of the permuted attribute"
        bars = [bar(part["bias"], 0.8), bar(beyond, 0.5 if rho == EVEN else 0.0)]
        if rho == EVEN:
            name += " by 0.5; no label in the feature (A(y) below 0.05)"
            bars.append(bar(-part["label"], -0.05))
        if rho >= 0.8:
            name += "; the term right on more than 95 % of aligned, less than 10 % of conflicting"
            bars += [bar(part["aligned"], 0.95), bar(-part["conflicting"], -0.1)]
            bars.append(bar(gap(part) - part["split_permuted"].abs(), 0.5))
        statements[name] = bars
    smallest = stats.interval_from(rows.groupby("trial")["bias"].min(), stats.mean_ci)
    return by_trial(
        checks(statements),
        f"smallest A(b) over ρ: {smallest.mean:.3f}; at ρ = 1/2 {even['bias'].mean():.3f} against "
        f"{even['bias_permuted'].mean():.3f} for the permuted attribute",
        smallest,
        rows,
        "Gaussian mixture in 20 dimensions",
        note,
        excluded=excluded(statements),
    )


class Limits(NamedTuple):
    """Which share of the attribute its feature has to hold, and the best two together."""

    bias: float
    subspace: float


# one mode holds a patch, which never varies; colour spreads over the pixels of each digit
PATCH, COLOUR = Limits(0.9, 0.0), Limits(0.85, 0.9)
GAP = 0.2  # reliance that counts, in every claim of the chapter: one answer in five


def influence(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns gap, null (permuted attribute), even (rho = 1/2), by trial, at aligned share 0.9."""
    main, even = at_share(rows, MAIN), at_share(rows, EVEN)
    return pd.DataFrame(
        {"gap": gap(main, "_full"), "null": main["gap_permuted"], "even": gap(even, "_full")}
    )


def place_bars(rows: pd.DataFrame, limits: Limits) -> list[Bar]:
    """The shortcut is feature 2, the first of the centred kernel, and holds the attribute."""
    bars = []
    for rho, more in ((EVEN, 0.5), (MAIN, 0.0)):
        part = at_share(rows, rho)
        second = (part["index"] == 2) & (part["first"] == 2) & (part["centred_index"] == 1)
        bars += [
            bar(second.astype(float), 0.99),
            bar(part["bias"], limits.bias),
            bar(part["subspace"], limits.subspace),
            bar(part["bias"] - part["bias_permuted"], more),
        ]
    return bars


def term_bars(rows: pd.DataFrame) -> list[Bar]:
    """Its term sorts images by the attribute: no other mode does, nor by a permuted attribute."""
    part = at_share(rows, MAIN)
    return [
        bar(part["aligned"], 0.98),
        bar(-part["conflicting"], -0.02),
        bar(gap(part) - part["split_other"], 0.5),
        bar(gap(part) - part["split_permuted"].abs(), 0.5),
    ]


def gap_bars(rows: pd.DataFrame) -> list[Bar]:
    """The trained output relies on it, beyond a permuted attribute and beyond rho = 1/2."""
    found = influence(rows)
    return [
        bar(found["gap"], GAP),
        bar(found["gap"] - found["null"], GAP),
        bar(found["gap"] - found["even"], GAP),
    ]


def _on_digits(rows: pd.DataFrame, what: str, limits: Limits, note: str) -> Judgement:
    statements, words = {}, []
    for n, part in rows.groupby("samples"):
        name = (
            f"n = {n}: {what} is feature 2, its term sorts images by it, and the gap after full "
            f"training is above {GAP}"
        )
        statements[name] = [
            *place_bars(part, limits),
            *term_bars(part),
            *gap_bars(part),
        ]
        last = stats.interval_from(influence(part)["gap"], stats.mean_ci)
        words.append(f"{last.mean:.3f} [{last.low:.3f}, {last.high:.3f}] (n = {n})")
    return by_trial(
        checks(statements),
        f"gap at ρ = 0.9: {', '.join(words)}; the interval is that of the last",
        last,
        rows,
        sources(rows),
        note,
        boundary=GAP,
        excluded=excluded(statements),
    )


_DIGITS = (*_FOUND, "samples", "data_source", "index", "first", "centred_index", "subspace",
           "split_other")  # fmt: skip


@rule("L14", needs=_DIGITS)
def patched_digits(rows: pd.DataFrame, note: str = "") -> Judgement:
    """On digits with a patch, feature 2 is the patch, and the trained output relies on it."""
    return _on_digits(rows, "the patch", PATCH, note)


@rule("L15", needs=_DIGITS)
def colored_digits(rows: pd.DataFrame, note: str = "") -> Judgement:
    """On digits in two colours, feature 2 is the colour, and the trained output relies on it."""
    return _on_digits(rows, "the colour", COLOUR, note)


# -- imbalance and time ----------------------------------------------------------------------------


def over_shares(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column by trial and aligned share, of one data set and size."""
    return rows.pivot(index="trial", columns="rho", values=column)


def _rises(table: pd.DataFrame) -> list[Bar]:
    """From the smallest share to the largest, with no step between neighbours that falls."""
    steps = table.diff(axis=1).iloc[:, 1:]
    ends = bar(table.iloc[:, -1] - table.iloc[:, 0], 0.0)
    return [ends, *(bar(steps[rho], 0.0, lenient=True) for rho in steps)]


def _recovers(part: pd.DataFrame) -> list[Bar]:
    """Wrong on conflicting images at first, better at the end; no difference where rho is 1/2."""
    even = at_share(part, EVEN)
    bars = inside(gap(even, "_t1"), 0.1)
    for rho in sorted(set(part["rho"]) - {EVEN}):
        strong = at_share(part, rho)
        bars += [
            bar(-strong["conflicting_t1"], -0.5),
            bar(strong["conflicting_full"] - strong["conflicting_t1"], 0.0),
        ]
    return bars


@rule(
    "L16",
    needs=("kind", "samples", "rho", "trial", "mu", "conflicting_full", "aligned_t1",
           "conflicting_t1", "linear_mu", "linear_law", "data_source"),
)  # fmt: skip
def imbalance_and_time(rows: pd.DataFrame, note: str = "") -> Judgement:
    """More imbalance, larger eigenvalue and less accuracy; in time the shortcut comes first."""
    statements, falls = {}, []
    for (kind, n), part in rows.groupby(["kind", "samples"], sort=False):
        accuracy = over_shares(part, "conflicting_full")
        where = f"{kind}, n = {n}"
        statements |= {
            f"{where}: conflicting accuracy falls and the eigenvalue rises from ρ = 0.5 to 0.99": [
                *_rises(-accuracy),
                *_rises(over_shares(part, "mu")),
            ],
            f"{where}: conflicting accuracy below 0.5 at one time constant and higher at the end, "
            "at every ρ from 0.8": _recovers(part),
        }
        if n == rows["samples"].max():
            falls.append(accuracy.iloc[:, 0] - accuracy.iloc[:, -1])
    fall = stats.pooled(falls)
    linear = rows.dropna(subset="linear_mu")
    off = (linear["linear_mu"] / linear["linear_law"] - 1).abs()
    law = off.groupby([linear["samples"], linear["rho"]]).apply(lambda x: bar(-x, -0.03).holds)
    return by_trial(
        checks(statements),
        f"conflicting accuracy at ρ = 0.5 minus ρ = 0.99: {fall.mean:.3f} at the largest n; law "
        f"off by {100 * off.mean():.1f} % on average",
        fall,
        rows,
        sources(rows),
        note,
        side={
            "patched, linear kernel: top eigenvalue within 3 % of the two-axis law at every ρ": (
                bool(len(law) and law.all())
            )
        },
        excluded=excluded(statements),
    )


# -- networks --------------------------------------------------------------------------------------


def delay(rows: pd.DataFrame) -> pd.Series:
    """Logarithm of how much later than the shortcut the first helpful feature is half learnt."""
    return np.log(rows["cosine_half"] / rows["shortcut_half"])


@rule(
    "L17",
    needs=("trial", "kernel_error", "shortcut_half", "cosine_half", "aligned_3", "conflicting_3",
           "aligned", "conflicting", "aligned_regression", "conflicting_regression",
           "data_source"),
)  # fmt: skip
def finite_width(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Networks learn the shortcut first, and end where regression with their kernel ends."""
    off = {side: rows[side] - rows[f"{side}_regression"] for side in ("aligned", "conflicting")}
    order = [
        bar(delay(rows), 0.0),
        bar(rows["aligned_3"], 0.95),
        bar(-rows["conflicting_3"], -0.1),
        bar(rows["conflicting"] - rows["conflicting_3"], 0.2),
    ]
    statements = {
        "shortcut half learnt before the first feature that helps on conflicting images; after 3 "
        "steps right on more than 0.95 of aligned and less than 0.1 of conflicting images, at the "
        "end on 0.2 more": order,
        "accuracy of both groups at the end within 0.1 of kernel regression": [
            one for values in off.values() for one in inside(values, 0.1)
        ],
    }
    found = stats.interval_from(off["conflicting"], stats.mean_ci)
    return by_trial(
        checks(statements),
        f"conflicting accuracy minus kernel regression: {found.mean:+.3f}",
        found,
        rows,
        f"patched digits; {sources(rows)}",
        note,
        side={
            "kernel at the start: distance to the closed form below 5/√width in every network": (
                bool((rows["kernel_error"] < 5).all())
            )
        },
        excluded=excluded(statements),
    )


# -- losses of the margin --------------------------------------------------------------------------

CONTROLLED = ("sd", "marg_log")


def by_loss(rows: pd.DataFrame, column: str, rho: float = MAIN) -> pd.DataFrame:
    """A column by trial and loss, of one setting and aligned share."""
    return rows[rows["rho"] == rho].pivot(index="trial", columns="loss", values=column)


def kept_bars(rows: pd.DataFrame) -> list[Bar]:
    """Margins are more even, and more than half of the gap is still there, of one setting.

    The gap of the logistic loss is taken after the same number of steps and, where the rows have
    it, at its limit (hard margin); at rho = 1/2 there is to be none.
    """
    rows = rows.assign(gap=gap(rows))
    gaps, spread = by_loss(rows, "gap"), by_loss(rows, "cv")
    even = by_loss(rows, "gap", EVEN)
    bars = []
    for loss in (name for name in CONTROLLED if name in gaps):
        # without more even margins the setting says nothing about their control
        ratio = np.log(spread["logistic"] / spread[loss])
        bars.append(bar(ratio, math.log(1.5), decides=False))
        bars.append(bar(gaps[loss], GAP))
        bars += [
            bar(gaps[loss] - gaps[plain] / 2, 0.0)
            for plain in ("logistic", "hard_margin")
            if plain in gaps
        ]
        if loss in even:
            bars.append(bar(gaps[loss] - even[loss].abs(), GAP))
    if not bars:
        raise KeyError("a loss of the margin")
    return bars


def kernel_change(rows: pd.DataFrame, base: str) -> stats.Interval:
    """Gap under SD minus gap under another loss, mean over the kernel's settings, by trial."""
    of_kernel = rows["setting"].str.startswith("kernel") & (rows["rho"] == MAIN)
    gaps = rows[of_kernel].assign(gap=gap(rows[of_kernel]))
    sides = [gaps[gaps["loss"] == name] for name in ("sd", base)]
    change = stats.paired(*sides, "gap", ("setting", "trial")).groupby("trial").mean()
    return stats.interval_from(change, stats.mean_ci)


@rule("L18", needs=("setting", "rho", "loss", "trial", "cv", "aligned", "conflicting",
                    "data_source"))  # fmt: skip
def relu_margins(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The shortcut keeps its influence when the margins are controlled, in each setting.

    A setting without its null, the same at rho = 1/2, decides nothing and stands at the side.
    """
    statements, side = {}, {}
    for setting, part in rows.groupby("setting", sort=False):
        title = (
            f"{setting}: margins more even by a factor of 1.5; gap above {GAP} and more than half "
            "of that without control"
        )
        nulled = (part["rho"] == EVEN).any()
        (statements if nulled else side)[title] = kept_bars(part)
    if not statements:
        raise LookupError(f"rho = {EVEN}")
    changes = {base: kernel_change(rows, base) for base in ("logistic", "hard_margin")}
    found = changes["logistic"]
    return Judgement(
        checks(statements),
        f"gap under SD minus gap under the logistic loss, kernel: {found.mean:+.3f} (the "
        f"interval's); minus that of the hard margin: {changes['hard_margin'].mean:+.3f}",
        (found.low, found.high),
        rows[rows["setting"].str.startswith("kernel")]["trial"].nunique(),
        sources(rows),
        note,
        side=checks(side),
        excluded=excluded(statements),
    )
