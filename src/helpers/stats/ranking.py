"""How well scores rank one kind of sample above another.

Source: as in :mod:`.intervals`.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from helpers.stats.intervals import Interval, check_level, share_ci


def auc_ci(positive: Sequence[float], negative: Sequence[float], level: float = 0.95) -> Interval:
    """Area under the ROC curve with its interval, inside [0, 1], over both kinds of samples.

    The variance is DeLong's, the interval symmetric in the logit. Where that variance is 0 (an area
    of 0 or 1, or all scores alike), the ends are those of :func:`share_ci` for as many pairs as the
    fewer samples make; with one sample of a kind nothing is known.

    Raises:
        ValueError: no sample of a kind, NaN among the scores, or a level outside (0, 1).

    Source: DeLong, DeLong & Clarke-Pearson 1988.

    >>> [round(x, 3) for x in auc_ci([2.0, 3.0, 5.0, 6.0], [1.0, 2.5, 0.0, 3.5])]
    [0.812, 0.329, 0.975]
    """
    up, down = (np.sort(np.asarray(scores, dtype=float)) for scores in (positive, negative))
    if not up.size or not down.size or np.isnan([*up, *down]).any():
        raise ValueError(
            f"{up.size} positive and {down.size} negative scores: at least one of each is needed, "
            "and no NaN"
        )
    check_level(level)
    places = [np.searchsorted(down, up, side) / down.size for side in ("left", "right")]
    above = np.add(*places) / 2
    places = [np.searchsorted(up, down, side) / up.size for side in ("left", "right")]
    below = 1 - np.add(*places) / 2
    area, fewer = float(above.mean()), min(up.size, down.size)
    if fewer < 2:
        return Interval(area, 0.0, 1.0)
    if np.ptp(above) == np.ptp(below) == 0:
        hits = area * fewer  # of all ties a half
        low = share_ci(math.floor(hits), fewer, level).low
        return Interval(area, low, share_ci(math.ceil(hits), fewer, level).high)
    error = math.sqrt(above.var(ddof=1) / up.size + below.var(ddof=1) / down.size)
    half = stats.norm.ppf((1 + level) / 2) * error / (area * (1 - area))
    ends = special.expit(special.logit(area) + np.array([-half, half]))
    return Interval(area, float(ends[0]), float(ends[1]))
