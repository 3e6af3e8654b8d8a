"""Digits, patterns and networks of the cross-examinations."""

import pytest
import torch

from helpers import kernels
from helpers.experiments.together import cross_setting as setting


def test_a_draw_is_of_its_trial_and_shares_no_image():
    first, again, other = (setting.draw(50, 30, trial) for trial in (0, 0, 1))
    assert torch.equal(first.train, again.train) and not torch.equal(first.train, other.train)
    assert first.train.shape == (50, 784) and first.fresh.shape == (30, 784)
    assert not (first.train[:, None] == first.fresh).all(2).any()
    assert set(first.labels.tolist()) == {-1.0, 1.0}
    with pytest.raises(ValueError, match="samples is 5001: allowed is 1 to 4000"):
        setting.images(5_001, 0)


@pytest.mark.parametrize("shape", setting.SHAPES)
def test_a_pattern_has_its_norm_and_noise_is_of_the_trial(shape):
    v, other = (setting.pattern(shape, 3.0, trial) for trial in (0, 1))
    assert float(v.norm()) == pytest.approx(3.0) and bool((v >= 0).all())
    assert torch.equal(v, other) == ("noise" not in shape)


def test_noise_is_inside_outside_or_everywhere():
    inner, outer = (setting.pattern(f"{where} noise", 1.0, 0) > 0 for where in ("inner", "outer"))
    assert not (inner & outer).any() and bool((inner | outer).all())
    assert int(inner.sum()) == 144
    with pytest.raises(ValueError, match="shape is 'star'"):
        setting.pattern("star", 1.0, 0)


def test_carriers_are_odd_and_more_of_them_begin_with_the_same():
    labels = setting.draw(100, 1, 0).labels
    few, many = (setting.carriers(labels, count, 0) for count in (3, 10))
    assert few.tolist() == many[:3].tolist() and bool((labels[many] == 1).all())


def test_the_tangent_kernel_is_that_of_the_gradients():
    net = setting.network(20, 15, seed=0).double()
    x = torch.randn(7, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = kernels.empirical_ntk(net, x, x[:3])
    assert torch.allclose(setting.tangent_kernel(net, x, x[:3]), expected, atol=1e-12)
