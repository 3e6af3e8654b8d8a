"""Outputs in evaluation mode."""

import torch

from helpers import training


def test_prediction_is_batched_in_eval_mode_and_restores_the_mode(task):
    net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(6, 2)).double()
    x, _ = task()
    expected = net[1](x)
    assert net.training
    for batch in (1, 7, 1_000):
        assert torch.allclose(training.predict(net, x, batch=batch), expected)
    assert net.training
