"""Patterns before they are learnt: alignment and modes."""

import pytest
import torch

from helpers import kernels
from helpers.experiments.together import cross_patterns as experiment
from helpers.experiments.together import cross_setting as setting
from helpers.sweep import Call


def test_a_centred_kernel_is_that_of_centred_features():
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    c = x - x.mean(0)
    assert torch.allclose(experiment.centred(x @ x.T), c @ c.T)


def test_a_group_is_visible_when_one_leading_mode_is_its_own():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 200, generator=draw, dtype=torch.float64)
    rows, others = torch.arange(8), torch.arange(20, 28)
    marked = x.clone()
    marked[rows, 0] += 20
    for features, seen in ((x, False), (marked, True)):
        K = experiment.centred(features @ features.T)
        vectors = torch.linalg.eigh(K).eigenvectors
        assert (experiment.visible(vectors, rows) > 0.8) is seen
        assert experiment.visible(vectors, others) < 0.5


def test_alignment_of_a_pattern_is_the_derivative_by_the_carriers_labels():
    found = setting.draw(40, 40, 0)
    net = setting.network(784, 12, 0)
    v, rows = setting.pattern("corner", 3.0, 0), setting.carriers(found.labels, 3, 0)
    seen = experiment.seen(net, found, v, rows, rows)
    x = found.train.clone()
    x[rows] += v
    even = found.fresh[found.fresh_labels < 0]
    K = kernels.empirical_ntk(net.double(), x)
    shift = (kernels.empirical_ntk(net, even + v, x) - kernels.empirical_ntk(net, even, x)).mean(0)
    ridge = 1e-6 * K.diagonal().mean() * torch.eye(40)
    labels = found.labels.clone().requires_grad_()
    answer = shift @ torch.linalg.solve(K + ridge, labels)
    (slope,) = torch.autograd.grad(answer, labels)
    assert seen.alignment == pytest.approx(float(slope[rows].sum()), rel=1e-6)
    assert seen.response == pytest.approx(float(answer.detach()), rel=1e-6)


def test_networks_differ_in_their_carriers_alone():
    small = dict(samples=80, width=16, epochs=5, trial=0, device="cpu", data_dir=None)
    calls = [Call(small, shape="corner", norm=3.0, count=count) for count in (2, 20)]
    few, many = experiment.cross_patterns(calls)
    assert many["alignment"] > few["alignment"] > 0
    assert many["rise"] > few["rise"] and few["never"] == many["never"]
