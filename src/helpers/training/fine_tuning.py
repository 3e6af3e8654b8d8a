"""Fine-tuning of a pretrained network on pictures in files.

Ours, after Yang, Chou & Chaudhuri 2022.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.data.contexts import Pool
from helpers.data.nicopp import Pictures
from helpers.training.prediction import predict
from helpers.training.randomness import randomness
from helpers.training.recipe import Recipe, check_basic, diverged, learned, make_optimiser, set_rate


def fine_tuned(
    net: nn.Module,
    pool: Pool,
    train: Tensor,
    asked: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    size: int = 224,
    workers: int = 8,
) -> Tensor:
    """Train all weights of `net` on files, in place; its outputs `(len(asked), objects)`.

    Args:
        net: takes pictures `(n, 3, size, size)` in [0, 1]; parameters without `requires_grad` stay.
        pool: with files for inputs.
        train, asked: rows to train on, and rows to answer for.
        recipe: epochs, batch, optimiser and rates, weight decay.
        seed: of order and crops.
        device: where the network is trained.
        size: pixels of a side.
        workers: processes that decode files; 0 for none.

    Raises:
        ValueError: no row to train on or to answer for, a recipe that asks for what is not done
            here, a network without a parameter that may move.
        OSError: a file that is no picture.
        errors.Diverged: the loss became infinite or NaN.
    """
    if not len(train) or not len(asked):
        raise ValueError(
            f"there are {len(train)} rows to train on and {len(asked)} to answer for: at least one "
            "each is needed"
        )
    check_basic(recipe, "fine-tuning")
    net.to(device, memory_format=torch.channels_last)
    optimiser = make_optimiser(recipe, [{"params": list(learned(net).values())}])
    with randomness(seed, torch.device(device)):
        loader = torch.utils.data.DataLoader(
            Pictures(pool, train, size, True), recipe.batch, shuffle=True, num_workers=workers
        )
        for epoch in range(recipe.epochs):
            set_rate(optimiser, recipe, epoch)
            net.train()
            total = torch.zeros((), device=device)
            for pictures, label in loader:
                loss = functional.cross_entropy(net(pictures.to(device)), label.to(device))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.detach()
            if not math.isfinite(total):
                raise diverged(float(total), epoch + 1, recipe)
        shown = torch.utils.data.DataLoader(
            Pictures(pool, asked, size, False), recipe.batch, num_workers=workers
        )
        return torch.cat([predict(net, part.to(device)).cpu() for part, _ in shown])
