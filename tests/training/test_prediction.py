"""Outputs in evaluation mode."""

import pytest
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


def test_one_thread_for_a_while_also_when_it_ends_badly():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError), training.one_thread():
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
