"""The alignment by itself: where width takes it, and how close published numbers are to the law."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers import theory
from helpers.experiments.framed.alignment import alignment_at, core_law
from helpers.experiments.framed.memory import rf_images
from helpers.sweep import Call

STEP = Call(
    features="ntk", activation="step", alpha=0.5, dim=60, samples=60, device="cpu", data_dir=None
)
CORES = Call(
    dataset="mnist5k", activation="relu", samples=80, pool=80, trial=0, device="cpu", data_dir=None
)


def test_infinite_width_is_where_wide_ntk_trials_go():
    narrow, wide, limit = (
        pd.DataFrame([alignment_at(Call(STEP, width=w, trial=t)) for t in range(4)]).mean()
        for w in (10, 20_000, math.inf)
    )
    for column in ("resample_mean", "zero_mean"):
        assert wide[column] == pytest.approx(limit[column], rel=0.01)
        assert abs(wide[column] - limit[column]) < abs(narrow[column] - limit[column])


def test_more_samples_than_ntk_features_is_an_error():
    with pytest.raises(ValueError, match="50 training samples but only 40 features"):
        alignment_at(Call(STEP, dim=4, samples=50, width=10, trial=0))


def test_the_law_for_cores_is_judged_on_the_samples_that_it_has_not_seen(clear):
    found = core_law(CORES)
    clear()
    images = rf_images(Call(CORES, scaling="blocks", test=100, width=math.inf))
    assert found["measured_mean"] == pytest.approx(images["alignment_mean"], abs=1e-12)
    assert found["law_cores"] == pytest.approx(found["measured_mean"], rel=0.005)


def test_published_alignments_follow_the_law(published):
    """Within 3 % for every activation, share, query and N of the published grid."""
    found = published("rf_alignment")
    wide = found[(found["dim"] == 1_000) & ~found["width"].astype(float).map(math.isinf)]
    cells = wide.groupby(["activation", "alpha", "samples"])
    assert len(cells) == 4 * 2 * 4
    for (activation, alpha, samples), cell in cells:
        for query in theory.QUERIES:
            law = theory.gamma_rf(activation, alpha, samples / 1_000, query, samples=samples)
            assert cell[f"{query}_mean"].mean() == pytest.approx(law, rel=0.03)


def test_published_ntk_alignments_are_within_five_percent_of_the_law(published):
    rows = published("ntk_alignment").query("alpha == 0.5 and derivative != 'h0+h7' and dim == 400")
    rows = rows[np.isfinite(rows["width"].astype(float))]
    means = rows.groupby(["derivative", "samples"])["resample_mean"].mean()
    assert len(means) == 9
    for (name, samples), mean in means.items():
        assert mean == pytest.approx(theory.gamma_ntk(name, 0.5, samples / 400), rel=0.05)


def test_published_alignments_on_images_are_those_of_the_law_for_cores(published):
    rows = published("core_law")
    means = rows.groupby(["dataset", "activation", "samples"])[
        ["measured_mean", "law_cores"]
    ].mean()
    assert len(means) == 60
    assert (means["law_cores"] / means["measured_mean"] - 1).abs().max() < 2e-3
