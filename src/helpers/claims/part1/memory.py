"""Rules on memory: chapters 6 and 7 (stability and generalisation, distance from the limit)."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from helpers import naming, stats
from helpers.claims.judgement import Judgement, by_trial, rule, sources
from helpers.claims.part1.networks import DATA
from helpers.claims.part1.trade_offs import ACCURACIES, GAUSSIAN, LEAST_FALL, courses

# -- chapter 6: stability and generalisation -------------------------------------------------------

FACTORS = ["alignment_mean", "stability_covariance"]
OWN_FRAMES = "own frames"
_COMMON = [
    "model", "data", "samples", "trial", "gamma", "gamma_many", "by_law", "prediction",
    "control", "control_gamma", "test_error", "spurious_covariance", *FACTORS, "spurious_accuracy",
    "data_source",
]  # fmt: skip
_CELL = ["model", "data", "samples"]


def kernel_rows(
    rows: pd.DataFrame,
    kind: str,
    labels: Mapping[str, str],
    law: Callable[[str, float, int, int], float] | None = None,
    many: Callable[..., float] | None = None,
) -> pd.DataFrame:
    """Rows of one experiment on kernels in the columns that chapter 6 compares.

    Args:
        rows: on Gaussian data (with `alpha`), on images that all trials share (with `scaling`), or
            on images and frames of each trial's own (with `law_cores`).
        kind: "RF" or "NTK".
        labels: titles of the activations.
        law: constant of an activation, share, N and d on Gaussian data.
        many: the constant of many samples: on Gaussian data of the same four, on a trial's own
            images of activation and data set.

    Returns:
        `model`, `data`, `gamma`, the law's constant where its assumptions hold (`by_law`: isotropic
        data and features wide enough, or the law for real cores), elsewhere the measured mean
        alignment; `gamma_many` and, on a trial's own images, `control_gamma` and `control`, the
        isotropic law and its prediction (NaN elsewhere); the other columns of one interpolator.
    """
    name = rows["activation" if "activation" in rows else "derivative"]
    unlimited = np.isinf(rows["width"]) if "width" in rows else pd.Series(True, rows.index)
    made = rows.assign(model=f"{kind} " + name.map(labels) + np.where(unlimited, ", k = ∞", ""))
    if "alpha" in rows:
        made["data"] = "α = " + rows["alpha"].astype(str)
        made["by_law"] = (kind == "RF") | unlimited | (name == "h0+h1")
        settings = list(zip(name, rows["alpha"], rows["samples"], rows["dim"], strict=True))
        made["law"], prediction = _each(law, settings), "predicted_by_law"
        made["data_source"] = GAUSSIAN
    elif "law_cores" in rows:
        made["data"], made["by_law"] = rows["dataset"].map(DATA) + f", {OWN_FRAMES}", True
        settings = list(zip(name, rows["dataset"], strict=True))
        made["law"], prediction = rows["law_cores"], "predicted_by_cores"
    else:
        made["data"], made["by_law"] = rows["dataset"].map(DATA) + ", " + rows["scaling"], False
        made["law"], prediction = np.nan, "predicted_by_alignment"
    made["gamma"] = made["law"].where(made["by_law"], rows["alignment_mean"])
    made["gamma_many"] = np.nan if many is None else _each(many, settings)
    made["prediction"] = rows[prediction].where(made["by_law"], rows["predicted_by_alignment"])
    for column, of in (("control", "predicted_by_isotropic"), ("control_gamma", "law_isotropic")):
        made[column] = rows[of] if "law_cores" in rows else np.nan
    return made[_COMMON]


def _each(law: Callable[..., float], settings: list[tuple]) -> list[float]:
    known = {setting: law(*setting) for setting in set(settings)}
    return [known[setting] for setting in settings]


def with_bound(rows: pd.DataFrame) -> pd.DataFrame:
    """`kernel_rows` with the bound and the product, and how far memory is from both.

    `over_many` is memory minus a bound with the constant of many samples, which is too small.
    """
    root, memory = rows["test_error"] ** 0.5, rows["spurious_covariance"]
    rows = rows.assign(
        bound=rows["gamma"] * root,
        product=rows["gamma"] * rows["stability_covariance"],
        over_many=memory - rows["gamma_many"] * root,
        features=rows["model"].str.split().str[0],
        family=np.where(rows["data"].str.startswith("α"), "Gaussian", "images"),
    )
    return rows.assign(over_bound=memory - rows["bound"], off_product=memory - rows["product"])


def bound_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard error and z of memory over its bounds and off the product, by cell."""
    by = ["features", "family", "by_law", *_CELL]
    cells = rows.groupby(by)[["over_bound", "off_product", "over_many"]].agg(["mean", "sem"])
    cells.columns = ["over", "over_sem", "off", "off_sem", "many", "many_sem"]
    z = {name: cells[of] / cells[f"{of}_sem"] for name, of in (("z", "over"), ("many_z", "many"))}
    return cells.assign(**z).reset_index()


@rule("B8", needs=("features", "family", "by_law", *_CELL, "trial", "over_bound", "off_product",
                   "over_many"))  # fmt: skip
def generalisation_bound(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Memory stays below our bound in every cell, as far as its mean is known to 0.05.

    The constant is that of a law of ours at the given N. Judged only with one that was not measured
    on the same rows (`by_law`): with their own mean alignment the bound is nearly the inequality of
    Cauchy and Schwarz. And only where a check can fail: where the constant of many samples, which
    is too small, does break the bound.
    """
    judged = rows[rows["by_law"]]
    if judged.empty:
        raise KeyError("a constant that was not measured on the same rows")
    cells = bound_cells(judged)
    slack = stats.mean_ci(judged.groupby("trial")["over_bound"].mean())
    known, checks = (slack.high - slack.low) / 2 < 0.05, {}
    for (features, family), part in cells.groupby(["features", "family"]):
        broken = int((part["many_z"] > 2).sum())
        if broken:
            checks[
                f"{features}, {family}: none of {len(part)} cells above the bound by more than 2 "
                f"standard errors (control: with the constant of many samples {broken} are)"
            ] = bool(known and (part["z"] <= 2).all())
    words = (
        f"memory minus bound, mean over {len(cells)} cells: {slack.mean:+.3f}; largest excess "
        f"{cells['over'].max():.3f}"
    )
    idle = {"the control, too small a constant, breaks the bound somewhere": False}
    data = f"{GAUSSIAN}; framed images"
    return by_trial(
        checks or idle, words, slack, judged, data, note, excluded=None if checks else False
    )


def prediction_errors(rows: pd.DataFrame) -> dict[str, float]:
    """Largest distance of mean predicted and measured spurious accuracy over cells, by family."""
    return _largest_errors(rows, "prediction")


def _largest_errors(rows: pd.DataFrame, column: str) -> dict[str, float]:
    means = rows.groupby(["family", "cell"], sort=False)[[column, "spurious_accuracy"]].mean()
    off = (means[column] - means["spurious_accuracy"]).abs()
    return off.groupby("family", sort=False).max().to_dict()


def prediction_rows(rows: pd.DataFrame, narrow: pd.DataFrame, least: int) -> pd.DataFrame:
    """What the claim on predictions is judged by, from N = `least` on.

    Args:
        rows: `kernel_rows` of all experiments with the columns of `with_bound`.
        narrow: NTK on Gaussian data at widths that are too small for the law, which is used still.
        least: smallest N.

    Returns:
        Rows with `cell`, `family`, and `core`: own images of each trial, the law for real cores.
    """
    core = rows["data"].str.endswith(OWN_FRAMES)
    images = rows["family"] == "images"
    kind = rows["features"].map({"RF": "random features", "NTK": "NTK"})
    wide = np.where(rows["features"] == "NTK", ", h₀+h₁ or infinite width", "")
    constant = rows["by_law"].map({True: "", False: ", measured alignment"})
    own = rows["data"].str.split(",").str[0] + ", " + rows["model"].str.split("[ ,]").str[1]
    family = own.where(core, kind + np.where(images, " on images", wide) + constant)
    rows = rows.assign(family=family, core=core)[images | rows["by_law"]]
    narrow = narrow.assign(
        model=narrow["derivative"], data="α = " + narrow["alpha"].astype(str), core=False,
        family="NTK, " + narrow["derivative"].map(naming.shown) + ", k = 100",
        prediction=narrow["predicted_by_law"], data_source=GAUSSIAN,
    )  # fmt: skip
    both = pd.concat([rows, narrow], ignore_index=True)
    both["cell"] = both[_CELL].astype(str).agg("|".join, axis=1)
    return both[both["samples"] >= least]


def nearer(rows: pd.DataFrame) -> dict[str, stats.Interval]:
    """How much nearer the law comes than the control, the isotropic law; over trials.

    Returns:
        `accuracy`: mean over cells of the control's |error| minus the law's, in spurious accuracy;
        `covariance`: the same of memory as a covariance, alignment times stability.
    """
    memory, stability = rows["spurious_covariance"], rows["stability_covariance"]
    errors = {
        "accuracy": (rows[name] - rows["spurious_accuracy"] for name in ("control", "prediction")),
        "covariance": (rows[name] * stability - memory for name in ("control_gamma", "gamma")),
    }
    return {
        name: stats.mean_ci((control.abs() - law.abs()).groupby(rows["trial"]).mean())
        for name, (control, law) in errors.items()
    }


@rule("B9", needs=("family", "cell", "trial", "prediction", "control", "control_gamma", "gamma",
                   "spurious_accuracy", "spurious_covariance", "stability_covariance", "samples",
                   "core", "data_source"))  # fmt: skip
def predicted_memory(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Spurious accuracy is predicted within 0.03 in every cell, on images first of all (`core`).

    A family of cells is judged where its mean error is known to 0.03. One in which a single number,
    chosen afterwards, would do as well decides nothing; the core counts as one family in this. In
    the core the prediction must also depend on the law: its error has to be smaller than that of
    the isotropic law (`control`), whose alignment is wrong, on the same trials; a family in which
    that one comes within 0.03 too decides nothing.
    """
    rows = rows.assign(error=rows["prediction"] - rows["spurious_accuracy"])
    core, size = rows[rows["core"]], rows["samples"].min()
    if core.empty:
        raise KeyError("images predicted by the law for cores")
    checks, apart, idle = {True: {}, False: {}}, [], []
    for (is_core, family), part in rows.groupby(["core", "family"], sort=False):
        off = prediction_errors(part)[family]
        levels = (core if is_core else part).groupby("cell")["spurious_accuracy"].mean()
        if (levels.max() - levels.min()) / 2 <= 0.03:
            continue
        known = stats.mean_ci(part["error"].groupby(part["trial"]).mean())
        holds = bool(off < 0.03 and (known.high - known.low) / 2 < 0.03)
        name = f"{family}: within 0.03 at every N from {size} (largest error {off:.3f})"
        if is_core:
            cells = [stats.mean_ci(cell) for _, cell in part.groupby("cell")["error"]]
            apart.append(any(max(c.low, -c.high) > 0.03 for c in cells))
            wrong, gain = _largest_errors(part, "control")[family], nearer(part)["accuracy"]
            if wrong < 0.03 and holds:
                idle.append(family)
                continue
            name += (
                f", and nearer than by the isotropic law (its largest error {wrong:.3f}; mean gain "
                f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}])"
            )
            holds = holds and gain.low > 0
        checks[is_core][name] = holds
    gains = nearer(core)
    error = stats.mean_ci(core["error"].groupby(core["trial"]).mean())
    checks[False][
        "images: memory as a covariance is nearer to the law for cores than to the isotropic one "
        f"(mean gain {gains['covariance'].mean:+.3f})"
    ] = gains["covariance"].low > 0
    words = (
        f"error of the isotropic law minus that of ours on images: {gains['accuracy'].mean:+.4f} "
        f"in spurious accuracy; predicted minus measured, mean {error.mean:+.4f}"
        + (f"; the isotropic law will do for {', '.join(idle)}" if idle else "")
    )
    none = {"images whose memory differs enough, and tells the laws apart": False}
    return by_trial(
        checks[True] or none, words, gains["accuracy"], core, sources(core), note,
        side=checks[False], excluded=bool(apart) and all(apart),
    )  # fmt: skip


def fall_shares(rows: pd.DataFrame) -> pd.Series:
    """Change of the logarithm of both factors from the smallest to the largest N.

    Returns:
        `alignment`, `stability` and `share` (of the alignment in their sum, %), each with `_low`
        and `_high`: jackknife over trials, Student's t; NaN where a mean is not positive.
    """
    few, many = (
        rows[rows["samples"] == n].set_index("trial")[FACTORS].sort_index()
        for n in (rows["samples"].min(), rows["samples"].max())
    )
    shared = few.index.intersection(many.index)
    few, many = few.loc[shared].to_numpy(), many.loc[shared].to_numpy()

    def changes(chosen: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = np.log(many[chosen].mean(0) / few[chosen].mean(0))
            return np.append(logs, 100 * logs[0] / logs.sum())

    everyone = np.arange(len(shared))
    whole, n = changes(everyone), len(shared)
    pseudo = np.array([n * whole - (n - 1) * changes(everyone != i) for i in everyone])
    found = {}
    for name, mean, values in zip(
        ("alignment", "stability", "share"), whole, pseudo.T, strict=True
    ):
        half = np.nan
        if np.isfinite(values).all():
            made = stats.mean_ci(values)
            half = (made.high - made.low) / 2
        found |= {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
    return pd.Series(found)


# -- chapter 7: how far from the limit -------------------------------------------------------------


@rule("B15", needs=("derivative", "alpha", "samples", "trial", *ACCURACIES))
def appendix_signs(
    rows: pd.DataFrame,
    regimes: Mapping[str, tuple[float, float]],
    shares: Mapping[str, bool],
    note: str = "",
) -> Judgement:
    """Our reconstruction shows the same signs: in N, in N/d and in the share of the background.

    The course over N is the core, a check a curve. `regimes`: alignment at few and at many samples
    per dimension, by activation; `shares`: whether the alignment rises with the share.
    """
    if not regimes or not shares:
        raise ValueError("no activation whose regimes and shares could be judged")
    first, last = rows["samples"].min(), rows["samples"].max()
    curves = ["derivative", "alpha"]
    drop = stats.mean_fall(dict(list(rows.groupby(curves))), "spurious_accuracy")
    checks = {
        f"NTK on Gaussian data, {name}, α = {alpha}: test accuracy rises with N, spurious accuracy "
        f"falls by more than {LEAST_FALL} towards chance ({made.words})": made.holds
        for (name, alpha), made in courses(rows, curves).items()
    }
    side = {
        "alignment falls from few to many samples per dimension, every activation (α = 1/2, "
        "infinite width)": all(few > many for few, many in regimes.values()),
        "alignment rises with the share of the background, every activation (N = d, infinite "
        "width)": all(shares.values()),
    }
    words = f"fall of spurious accuracy from N = {first} to {last}: {drop.mean:.3f}"
    return by_trial(checks, words, drop, rows, GAUSSIAN, note, side=side, boundary=LEAST_FALL)
