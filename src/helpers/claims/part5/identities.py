"""The rules of Part V: what ties the four papers together (claims of ours, prefix S).

The first chapter claims identities: two sides are computed in ways that share no formula, and every
draw of data, or random setting, is a row. Each row also has the nearest wrong formula on the same
data, without which a small difference would say nothing.
"""

import numpy as np
import pandas as pd

from helpers.claims.judgement import Judgement, rule
from helpers.claims.part5.conjunction import Conjunction

EXACT, BLIND = 1e-10, 1e-6
_NEEDS = ("case", "trial", "off", "near")


def apart(left: object, right: object) -> float:
    """Largest difference of two sides, over the largest value of the first; NaN if one is NaN.

    >>> apart([1.0, 2.0], [1.0, 1.5])
    0.25
    """
    left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    return float(np.abs(left - right).max() / np.abs(left).max())


def identity(rows: pd.DataFrame, nearest: str, data: str, note: str = "") -> Judgement:
    """Both sides agree to 1e-10 in every row of every case, where the nearest formula does not.

    A case whose data cannot tell the two formulas apart (`near` below 1e-6 somewhere) decides
    nothing; nor do differences that are no numbers.
    """
    checks, excluded = {}, []
    for case, part in rows.groupby("case", sort=False):
        off, near = part["off"].max(skipna=False), part["near"].min(skipna=False)
        tells = bool(near > BLIND)
        checks[f"{case}: equal to 1e-10 (control: {nearest}, off by {near:.1g} or more)"] = (
            bool(off < EXACT) and tells
        )
        excluded.append(tells and bool(off >= EXACT))
    words = f"largest difference of the two sides {rows['off'].max():.0e}, relative"
    seeds = rows["trial"].nunique()
    return Conjunction(checks, words, None, seeds, data, note, excluded=any(excluded))


@rule("S1", needs=_NEEDS)
def sensitivity(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """Alignment by projection, derivative by a label and smoother weight are one number."""
    return identity(rows, "the alignment that ignores the other samples", data, note)


@rule("S2", needs=_NEEDS)
def leaving_out(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """One formula gives what refitting without a sample, a rare or a conflicting group gives."""
    return identity(rows, "the first-order step", data, note)


@rule("S3", needs=_NEEDS)
def accounts(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """Sums over samples, over modes and over units are one output."""
    return identity(rows, "the sum without its smallest tenth", data, note)


@rule("S4", needs=_NEEDS)
def further_direction(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """A further feature is answered by slope times S / (S + threshold), as refits with it say."""
    return identity(rows, "the threshold of an average direction", data, note)


@rule("S5", needs=_NEEDS)
def one_equation(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """The fixed points of three parts are one; so are the quantities made of them."""
    return identity(rows, "the ridge itself in the place of the felt one", data, note)
