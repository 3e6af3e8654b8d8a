"""The dials of memory on framed digits: fresh draws, the right border, ridge and label noise."""

import pytest
import torch

from helpers import probes, theory
from helpers.experiments.framed.dials import border_alignment, framed_digits, memory_dials
from helpers.sweep import Call

CONTEXT = dict(device="cpu", data_dir=None)
BORDER = Call(CONTEXT, dataset="mnist5k", border=3, scaling="blocks", samples=40, pool=60, trial=0)
DIALS = Call(CONTEXT, dataset="mnist5k", samples=60, test=80, ridge=0.0, noise=0.0, trial=0)


def test_a_trial_has_its_own_digits_and_its_own_frames():
    first, second = (framed_digits("mnist5k", 3, "raw", 20, 10, t, None) for t in (0, 1))
    assert not torch.equal(first.labels, second.labels)
    # queries hold nothing but the frame: their norms would agree if frames did
    norms = [d.grams.queries.diagonal().sort().values for d in (first, second)]
    assert not torch.allclose(norms[0], norms[1])
    again = framed_digits("mnist5k", 3, "raw", 20, 10, 0, None)
    assert torch.equal(again.grams.train, first.grams.train)


@pytest.mark.parametrize("border", [1, 3, 10])
def test_the_border_decides_the_share_and_the_law(border):
    found = border_alignment(Call(BORDER, border=border))
    pixels = (28 + 2 * border) ** 2
    assert found["alpha"] == pytest.approx(1 - 784 / pixels)
    assert found["law_isotropic"] == pytest.approx(
        theory.gamma_rf("relu", found["alpha"], 40 / pixels, "zero", samples=40)
    )
    assert found["data_source"]


def test_samples_are_the_first_of_the_pool():
    found = framed_digits("mnist5k", 3, "blocks", 60, 10, 0, None)
    K, Q = found.grams.train[:40, :40], found.grams.queries[:40, :40]
    expected = float((Q * torch.linalg.inv(K)).sum(1).mean())
    assert border_alignment(BORDER)["alignment_mean"] == pytest.approx(expected, abs=1e-9)


def test_the_ridge_is_added_to_the_kernel_of_the_training_set_alone():
    found = framed_digits("mnist5k", 10, "blocks", 60, 80, 0, None)
    g = found.labels.double()
    K = found.grams.train + 0.5 * torch.eye(60, dtype=torch.float64)
    outputs = found.grams.queries @ torch.linalg.solve(K, g)
    row = memory_dials(Call(DIALS, ridge=0.5))
    assert row["spurious_covariance"] == pytest.approx(probes.covariance(outputs, g), abs=1e-9)
    assert row["spurious_auc"] == pytest.approx(probes.auc(outputs, g))


def test_label_noise_leaves_the_alignment_and_raises_the_memory():
    clean, noisy = memory_dials(DIALS), memory_dials(Call(DIALS, noise=0.3))
    assert noisy["alignment_mean"] == clean["alignment_mean"]
    assert noisy["spurious_covariance"] > 2 * clean["spurious_covariance"]
    assert noisy["test_accuracy"] < clean["test_accuracy"]


def test_published_dials_part_covariance_and_auc(published):
    rows = published("memory_dials").query("noise == 0")
    means = rows.groupby("ridge")[["spurious_covariance", "spurious_auc", "auc_unseen"]].mean()
    assert means["spurious_covariance"].is_monotonic_decreasing
    assert means["spurious_auc"].is_monotonic_increasing
    assert (means["auc_unseen"] - 0.5).abs().max() < 0.03, "frames never seen tell nothing"


def test_published_alignment_falls_with_thin_frames_and_rises_with_thick_ones(published):
    rows = published("border_alignment").query("scaling == 'blocks'")
    means = rows.groupby(["border", "samples"])["alignment_mean"].mean().unstack()
    gain = means[1_000] - means[200]
    assert (gain[[1, 2, 3, 5, 7]] < 0).all() and (gain[[10, 14]] > 0).all()


def test_published_derivatives_without_a_constant_part_are_at_the_theorems_constant(published):
    rows = published("spread_alignment").query("features == 'ntk' and dim == 800")
    means = rows.groupby("activation")["resample_mean"].mean()
    for name, power in (("h1", 2), ("h3", 4), ("h7", 8)):
        assert means[name] == pytest.approx(0.5**power, rel=0.1)
