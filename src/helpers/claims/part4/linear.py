"""Rules of chapter 20: linear networks on mixtures of Gaussians (L1 to L5).

Rows are those of the experiments `mixture_*` or of a chapter's cell. Draws of one trial share their
random numbers between cells: the trial is the unit.
"""

import numpy as np
import pandas as pd
import scipy

from helpers import stats
from helpers.claims.judgement import Judgement, by_trial, rule

MIXTURE, TWO_AXES = "Gaussian mixture, linear kernel", "Gaussian mixture with two axes"


@rule("L1", needs=("setting", "trial", "difference"))
def sum_of_features(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The features add up to the trained function; `difference` is the largest on test inputs."""
    worst = rows.groupby("setting", sort=False)["difference"].agg(lambda d: d.max(skipna=False))
    checks = {f"{name}: difference below 1e-8": off < 1e-8 for name, off in worst.items()}
    return Judgement(
        checks,
        f"largest difference on test inputs {rows['difference'].max():.1e}",
        None,
        rows["trial"].nunique(),
        MIXTURE,
        note,
        excluded=bool(worst.notna().all()),
    )


def half_life_slopes(rows: pd.DataFrame) -> stats.Interval:
    """Exponent of the half-life in the eigenvalue, plus 1: one fit a trial."""
    fits = (
        scipy.stats.linregress(np.log(trial["eigenvalue"]), np.log(trial["half_life"])).slope + 1
        for _, trial in rows.groupby("trial")
    )
    return stats.mean_ci(list(fits))


@rule("L2", needs=("trial", "eigenvalue", "half_life", "off"))
def power_law(rows: pd.DataFrame) -> Judgement:
    """Each coefficient follows its own power law, `off` is the largest distance in a trial."""
    slope = half_life_slopes(rows)
    checks = {
        "coefficients within 1e-6 of the power law": rows["off"].max(skipna=False) < 1e-6,
        "slope of log half-life −1 within 0.02": abs(slope.mean) < 0.02,
    }
    words = f"slope of log half-life minus its law, −1: {slope.mean:+.4f} (steps of finite size)"
    return by_trial(checks, words, slope, rows, MIXTURE, boundary=0.5)


@rule("L3", needs=("samples", "dim", "trial", "spikes_off", "bulk_off", "overlap", "bulk_overlap"))
def proposition(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Eigenvalues and eigenvectors of the largest samples are those of Proposition 3.1."""
    large = rows[rows["samples"] == rows["samples"].max()]
    spikes = stats.mean_ci(100 * large["spikes_off"])
    overlap = min(large["overlap"].min(), large["bulk_overlap"].min())
    return by_trial(
        {
            "eigenvalues along the means within 3 %": large["spikes_off"].max() < 0.03,
            "every other eigenvalue within 3 %": large["bulk_off"].max() < 0.03,
            "squared overlap of eigenvectors above 0.99": overlap > 0.99,
        },
        f"largest error of an eigenvalue along the means: {spikes.mean:.2f} % on average, "
        f"{100 * large['spikes_off'].max():.2f} % at worst",
        spikes,
        large,
        f"six Gaussian clusters, {large['dim'].iloc[0]} dimensions, "
        f"{large['samples'].iloc[0]:,} samples",
        note,
        boundary=3,
    )


def weight_lines(rows: pd.DataFrame) -> pd.DataFrame:
    """Eigenvalue on weight, a fit for each norm and trial: slope over squared norm, intercept."""
    fits = {
        key: scipy.stats.linregress(cell["weight"], cell["eigenvalue"])
        for key, cell in rows.groupby(["norm", "trial"])
    }
    index = pd.MultiIndex.from_tuples(fits, names=["norm", "trial"])
    parts = {name: [getattr(fit, name) for fit in fits.values()] for name in ("slope", "intercept")}
    lines = pd.DataFrame(parts, index).reset_index()
    return lines.assign(slope=lines["slope"] / lines["norm"] ** 2)


@rule("L4", needs=("weight", "norm", "trial", "eigenvalue"))
def weight_lifts(rows: pd.DataFrame, law: np.ndarray) -> Judgement:
    """The eigenvalue is a straight line in a cluster's weight (variance 1 within clusters).

    `law`: the closed form of the two eigenvalues `(2, k)` of two axes, as the imbalance grows.
    """
    lines = weight_lines(rows)
    slope = stats.mean_ci(100 * (lines.groupby("trial")["slope"].mean() - 1))
    return by_trial(
        {
            "slope within 3 % of the squared norm, every draw": (
                (lines["slope"] - 1).abs().max() < 0.03
            ),
        },
        f"slope off the squared norm by {slope.mean:+.2f} %; intercept "
        f"{lines['intercept'].mean():.3f} (variance 1)",
        slope,
        lines,
        "Gaussian clusters on orthogonal axes",
        side={
            # without any dependence on the weight it holds as well
            "intercept within 8 % of the within-cluster variance, every draw": (
                (lines["intercept"] - 1).abs().max() < 0.08
            ),
            "closed form: the gap of the two eigenvalues increases with the imbalance": bool(
                (np.diff(law[0] - law[1]) > 0).all()
            ),
            "closed form: their sum is constant to 1e-9": np.ptp(law.sum(0)) < 1e-9,
        },
        boundary=-50,
    )


def span(values: pd.Series) -> str:
    """Smallest and largest of these values, in words."""
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


_FIRST = ("bias_1", "bias_2", "first_aligned", "first_conflicting")


@rule("L5", needs=("rho", "m_s", "m_c", "trial", *_FIRST))
def shortcut_first(rows: pd.DataFrame, note: str = "") -> Judgement:
    """At an aligned share of 0.8 and more, the first feature is the shortcut at every size of it.

    That is: it has the larger share of the bias, and its sign is that of the bias, hence wrong, on
    most conflicting samples. The size of the shortcut, which the claim does not mention, is
    judged apart; the thresholds at its side are those of the first version of this rule.
    """
    biased = rows[(rows["rho"] >= 0.8) & (rows["m_s"] != rows["m_c"])]
    larger = biased["m_s"] > biased["m_c"]
    small = biased[~larger]
    few = f"aligned share {span(small['rho'])}, $m_s/m_c$ {span(small['m_s'] / small['m_c'])}"
    twice = biased[biased["m_s"] >= 2 * biased["m_c"]]
    wrong = biased["first_conflicting"] < 0.5
    effect, smaller = (
        stats.mean_ci(part.groupby("trial")["first_conflicting"].mean())
        for part in (biased[larger], biased[~larger])
    )
    return by_trial(
        {
            "whatever the shortcut's size: the first feature has the larger share of the bias": (
                bool((biased["bias_1"] > biased["bias_2"]).all())
            ),
            "shortcut larger than the core: wrong on most conflicting samples, every draw": bool(
                wrong[larger].all()
            ),
            f"shortcut smaller than the core ({few}): the same": bool(wrong[~larger].all()),
        },
        f"accuracy of the first feature on conflicting samples {effect.mean:.3f} with a larger "
        f"shortcut, {smaller.mean:.3f} with a smaller one",
        effect,
        biased,
        f"{TWO_AXES}, aligned share {span(biased['rho'])}; shortcuts smaller than the core: {few}",
        note,
        side={
            "shortcut twice the core: right on more than 95 % of aligned, on less than 20 % of "
            "conflicting samples": bool(
                len(twice)
                and twice["first_aligned"].min() > 0.95
                and twice["first_conflicting"].max() < 0.2
            )
        },
        boundary=0.5,
    )
