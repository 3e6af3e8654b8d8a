"""Which frame is remembered: the measure, and what the kernel says before."""

import pytest
import torch

from helpers import data
from helpers.experiments.together import cross_memory as experiment
from helpers.experiments.together import cross_setting as setting
from helpers.sweep import Call

BORDER = experiment.BORDER


class FrameMean(torch.nn.Module):
    """Answers with a multiple of the mean of a frame's first row."""

    def forward(self, x):
        return 5 * x.view(len(x), 28 + 2 * BORDER, -1)[:, 0].mean(1, keepdim=True)


def test_memory_is_what_the_own_frame_adds_for_the_label():
    found, labels = setting.images(6, 0)
    framed = data.noise_border(found, BORDER, seed=0)
    foreign = data.noise_border(found[:3], BORDER, seed=9)
    own, other = (experiment.unit(x).view(len(x), 40, 40)[:, 0].mean(1) for x in (framed, foreign))
    expected = labels * 5 * (own - other.mean()).double()
    remembered = experiment.memory(FrameMean(), framed, labels, foreign)
    assert torch.allclose(remembered, expected, atol=1e-5)


def test_a_network_that_sees_no_frame_remembers_none():
    found, labels = setting.images(6, 0)
    framed = data.noise_border(found, BORDER, seed=0)
    net = setting.network(1_600, 8, seed=0)
    with torch.no_grad():
        seen = data.core_mask((1, 40, 40), BORDER).flatten()
        net[1].weight[:, ~seen] = 0
    remembered = experiment.memory(net, framed, labels, framed.roll(1, 0))
    assert torch.allclose(remembered, torch.zeros(6, dtype=torch.float64), atol=1e-5)


def test_how_far_parameters_moved():
    assert experiment.moved([torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 9.0])]) == 1.0


def test_a_cell_gives_a_correlation_for_each_predictor():
    call = Call(samples=60, width=16, trial=0, device="cpu", data_dir=None)
    row = experiment.cross_memory(call)
    assert all(-1 <= row[name] <= 1 for name in experiment.PREDICTORS)
    assert row["loss"] < 0.01 and row["moved"] > 0
    assert row == experiment.cross_memory(call)
    assert row["memory"] == pytest.approx(experiment.cross_memory(call)["memory"])
