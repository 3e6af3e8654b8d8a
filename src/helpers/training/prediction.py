"""Outputs of a network in evaluation mode, batch by batch; modes and threads for a while.

Ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from helpers.errors import check_whole


def predict(model: nn.Module, inputs: torch.Tensor, *, batch: int = 1_000) -> torch.Tensor:
    """Outputs `(n, …)` of the model in eval mode, without gradients; its modes are put back.

    Raises:
        ValueError: a batch that is no whole number from 1 on.

    >>> predict(torch.nn.Identity(), torch.ones(3, 2), batch=2).shape
    torch.Size([3, 2])
    """
    check_whole(batch=batch)
    with eval_mode(model), torch.no_grad():
        return torch.cat([model(part) for part in inputs.split(batch)])


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards each module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for a while: sums are then added in one order, however many cores there are.

    A training is chaotic, so that another number of threads gives another network.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
