"""How likely a study is to find an effect that is there: images, comparisons, networks.

Shares and accuracies are numbers from 0 to 1, not points of a hundred.

Source: exact powers of McNemar's test and of Student's t test (Cohen 1988); powers by resampling
what was measured (Efron & Tibshirani 1993, ch. 25); searches are ours.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize, stats

from helpers.stats.intervals import check_level

_LARGEST = 10_000_000  # images or networks: no study has more


def mcnemar_power(n: int, lost: float, won: float, level: float = 0.05) -> float:
    r"""Probability that McNemar's exact test finds that answers changed in one direction.

    The same n images are judged before and after a change. Independently of each other they turn
    from right to wrong with probability `lost` and from wrong to right with probability `won`. The
    number of changed answers is then binomial, and so is, given that number, how many were lost;
    the test (:func:`helpers.stats.mcnemar`) is two-sided and finds something if p <= `level`.

    .. math:: P = \sum_{d=0}^{n} \mathrm{Bin}(d;\, n, a + b)\,
              \sum_{x:\, p(x, d) \le \mathrm{level}} \mathrm{Bin}(x;\, d, a / (a + b)),
              \qquad a = \mathrm{lost},\ b = \mathrm{won}

    Raises:
        ValueError: n below 1, shares outside [0, 1] or with a sum above 1, a level outside (0, 1).

    Source: ours, the definition of power; McNemar 1947.

    >>> round(mcnemar_power(56, 2 / 56, 0.0), 3)
    0.015
    """
    _check_images(n, level)
    _check_shares(lost, won)
    if lost + won == 0:
        return 0.0
    changed = np.arange(n + 1)
    few = _largest_few(changed, level)
    given = stats.binom(changed, lost / (lost + won))
    found = given.cdf(few) + given.sf(changed - few - 1)
    return float(stats.binom.pmf(changed, n, lost + won) @ found)


def _largest_few(changed: np.ndarray, level: float) -> np.ndarray:
    """Largest x for which x against d - x of d changes has p <= level; -1 where there is none."""
    found = stats.binom.ppf(level / 2, changed, 0.5)  # smallest x with P(X <= x) >= level / 2
    found -= 2 * stats.binom.cdf(found, changed, 0.5) > level
    return np.minimum(found, (changed - 1) // 2)  # also for d = 0: there is no such x


def unpaired_power(n: int, before: float, after: float, level: float = 0.05) -> float:
    """Probability that comparing two accuracies, each on n images of its own, finds something.

    The test is the usual one for two shares: two-sided, normal, with the pooled variance. The
    probability is exact, a sum over both numbers of right answers.

    Raises:
        ValueError: n below 1, an accuracy outside [0, 1], a level outside (0, 1).

    Source: ours, the definition of power.

    >>> round(unpaired_power(642, 0.64, 0.60), 2), round(mcnemar_power(642, 0.06, 0.02), 2)
    (0.31, 0.95)
    """
    _check_images(n, level)
    if not (0 <= before <= 1 and 0 <= after <= 1):
        raise ValueError(f"before is {before}, after is {after}: allowed is 0 to 1")
    ranges = [_likely(n, share) for share in (before, after)]
    first, second = np.meshgrid(*ranges, indexing="ij")
    pooled = (first + second) / (2 * n)
    spread = np.sqrt(2 * n * pooled * (1 - pooled))
    found = np.abs(first - second) >= stats.norm.isf(level / 2) * spread
    found &= first != second  # where all are right, or none, there is nothing to find
    chances = [stats.binom.pmf(hits, n, p) for hits, p in zip(ranges, (before, after), strict=True)]
    return float(chances[0] @ found @ chances[1])


def _likely(n: int, share: float) -> np.ndarray:
    """Numbers of right answers but for those that have a chance below 1e-9."""
    low, high = stats.binom.ppf([1e-9, 1 - 1e-9], n, share)
    return np.arange(max(low, 0), high + 1)


def t_power(networks: int, effect: float, spread: float, level: float = 0.05) -> float:
    """Probability that a two-sided t-test over networks finds a mean effect.

    Args:
        networks: trained independently of each other, at least 2.
        effect: the true mean.
        spread: true standard deviation between networks, above 0, in the unit of the effect.
        level: of the test.

    Raises:
        ValueError: fewer than 2 networks, an effect that is not finite, a spread not above 0, a
            level outside (0, 1).

    Source: the non-central t-distribution, by SciPy (Cohen 1988).

    >>> round(t_power(5, effect=1.0, spread=1.0), 3)
    0.401
    """
    if not networks >= 2:
        raise ValueError(f"networks is {networks}: a t-test needs at least 2")
    if not spread > 0:
        raise ValueError(f"spread is {spread}: it must be above 0")
    if not math.isfinite(effect):
        raise ValueError(f"effect is {effect}: it must be a finite number")
    check_level(level)
    freedom, shift = networks - 1, abs(effect) / spread * math.sqrt(networks)
    edge = stats.t.isf(level / 2, freedom)
    if shift > edge + 40:  # far out scipy returns NaN
        return 1.0
    wrong_way = stats.nct.cdf(-edge, freedom, shift) if shift < 5 else 0.0  # below 3e-7, or NaN
    return float(stats.nct.sf(edge, freedom, shift) + wrong_way)


def resampled_power(
    effects: Sequence[float], networks: int, level: float = 0.05, *,
    draws: int = 20_000, seed: int = 0,
) -> float:  # fmt: skip
    """Probability that a two-sided t-test finds an effect above 0, by networks like measured ones.

    Each study draws its networks from the measured effects, with replacement. Nothing is assumed
    about their law, which for lesions is skewed: many networks lose little and a few lose much. It
    knows no network beyond those measured, and takes their mean for the truth. Studies that drew
    one network over and over, which no real study does, find nothing.

    Args:
        effects: `(m,)` one number a network, at least 2.
        networks: of a study, at least 2.
        level: of the test.
        draws: studies.
        seed: of the draws.

    Raises:
        ValueError: fewer than 2 effects or networks, effects that are not finite, a level outside
            (0, 1).

    Source: the bootstrap power of Efron & Tibshirani 1993, ch. 25.

    >>> resampled_power([0.02, 0.03, 0.04], 20), resampled_power([-0.02, -0.03, -0.04], 20)
    (1.0, 0.0)
    """
    measured = np.asarray(effects, dtype=float)
    if measured.ndim != 1 or len(measured) < 2 or not np.isfinite(measured).all():
        raise ValueError("effects must be one column of at least 2 finite numbers")
    if not networks >= 2:
        raise ValueError(f"networks is {networks}: a t-test needs at least 2")
    check_level(level)
    even = np.full(len(measured), 1 / len(measured))
    often = np.random.default_rng(seed).multinomial(networks, even, size=draws)
    mean = often @ measured / networks
    spread = np.sqrt((often @ measured**2 / networks - mean**2).clip(0) / (networks - 1))
    edge = stats.t.isf(level / 2, networks - 1)
    several = often.max(axis=1) < networks
    return float((several & (mean > 0) & (mean >= edge * spread)).mean())


def networks_like_these(
    effects: Sequence[float], level: float = 0.05, power: float = 0.8, *, most: int = 1_000
) -> float:
    """Smallest number of networks with which :func:`resampled_power` reaches `power`.

    Infinite where `most` are not enough, as with a mean effect that is not above 0.

    Raises:
        ValueError: as there, or a power outside (level, 1).

    >>> networks_like_these([0.0, 0.0, 0.0, 0.01, 0.2]), networks_like_these([-0.1, 0.1])
    (26, inf)
    """
    _check_aim(1.0, level, power)
    if np.mean(effects) <= 0 or resampled_power(effects, most, level) < power:
        return math.inf
    return _smallest(lambda m: resampled_power(effects, m, level), power, start=2)


def measured_spread(between: float, lost: float, won: float, n: int) -> float:
    r"""Standard deviation of a network's measured loss of accuracy on n images.

    .. math:: \sqrt{\tau^2 + \frac{a + b - (a - b)^2}{n}}

    The true loss differs between networks with standard deviation tau; to this comes the chance of
    which images are looked at, whose variance is that of a variable that is +1 with probability a
    (lost), -1 with probability b (won), and else 0.

    Args:
        between: tau.
        lost, won: a and b, mean shares over networks.
        n: images of the group.

    Raises:
        ValueError: no image, a negative tau, shares as in :func:`mcnemar_power`.

    Source: ours.

    >>> measured_spread(0.3, 0.25, 0.25, 100) ** 2
    0.095
    """
    if not (n >= 1 and between >= 0):
        raise ValueError(f"n is {n}, between is {between}: at least 1 image, and 0 or more")
    _check_shares(lost, won)
    return math.sqrt(between**2 + (lost + won - (lost - won) ** 2) / n)


def images_needed(effect: float, won: float = 0.0, level: float = 0.05, power: float = 0.8) -> int:
    """A number of images with which :func:`mcnemar_power` reaches `power`, one less does not.

    `effect` is the loss of accuracy, lost minus won.

    Raises:
        ValueError: an effect that is not above 0, a power outside (level, 1), others as there.

    >>> images_needed(0.05)
    157
    """
    _check_aim(effect, level, power)
    return _smallest(lambda n: mcnemar_power(n, effect + won, won, level), power)


def networks_needed(effect: float, spread: float, level: float = 0.05, power: float = 0.8) -> int:
    """Smallest number of networks with which :func:`t_power` reaches `power`.

    Raises:
        ValueError: an effect that is not above 0, a power outside (level, 1), others as there.

    >>> networks_needed(1.0, 1.0)
    10
    """
    _check_aim(effect, level, power)
    return _smallest(lambda m: t_power(m, effect, spread, level), power, start=2)


def _smallest(power_of: Callable[[int], float], power: float, start: int = 1) -> int:
    """Where a power that grows with the number reaches `power`, by bisection."""
    high = start
    while power_of(high) < power:
        if high > _LARGEST:
            raise ValueError(f"more than {_LARGEST} would be needed for a power of {power}")
        high *= 2
    low = max(high // 2, start - 1)  # too few
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


def detectable(n: int, won: float = 0.0, level: float = 0.05, power: float = 0.8) -> float:
    """Smallest loss of accuracy that McNemar's test finds on n images with probability `power`.

    NaN where not even the loss of all that can be lost is found so often.

    Raises:
        ValueError: a power outside (level, 1), others as in :func:`mcnemar_power`.

    >>> round(detectable(56), 4), detectable(5)
    (0.1375, nan)
    """
    _check_aim(1.0, level, power)

    def lacking(effect: float) -> float:
        return mcnemar_power(n, effect + won, won, level) - power

    most = 1 - 2 * won
    if most <= 0 or lacking(most) < 0:
        return math.nan
    return float(optimize.brentq(lacking, 0, most, xtol=1e-9))


def fewest_lost(level: float) -> int:
    """Least number of changed answers, all of them lost, that McNemar's exact test takes for more.

    All d changes go in one direction with p = 2 (1/2)^d. Source: ours.

    >>> fewest_lost(0.05), fewest_lost(0.05 / 100)
    (6, 12)
    """
    check_level(level)
    return math.ceil(math.log2(2 / level))


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values of several comparisons, adjusted after Holm: compare them with the level of one.

    Of m, the smallest is multiplied by m, the next by m - 1 and so on, and none may be below one
    before it. The chance of any false finding stays below the level, whatever ties the comparisons
    together.

    Raises:
        ValueError: no p-values, or some outside [0, 1].

    Source: Holm 1979.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p_values must be one column of numbers from 0 to 1")
    order = p.argsort(kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted


def _check_images(n: int, level: float) -> None:
    check_level(level)
    if not n >= 1:
        raise ValueError(f"n is {n}: at least one image is needed")


def _check_shares(lost: float, won: float) -> None:
    if not (lost >= 0 and won >= 0 and lost + won <= 1):
        raise ValueError(f"lost is {lost}, won is {won}: shares from 0 on, with a sum up to 1")


def _check_aim(effect: float, level: float, power: float) -> None:
    check_level(level)
    if not effect > 0:
        raise ValueError(f"effect is {effect}: it must be above 0")
    if not level < power < 1:
        raise ValueError(f"power is {power}: allowed is the level, {level}, to 1")
