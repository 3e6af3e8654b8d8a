"""How long it takes to remove every filter of a network alone, in the ways one might do it.

The *naive* way zeroes a filter, passes all images through the whole network, puts it back, and goes
on; the *census* starts from the values that the images have in the changed layer
(:mod:`.census`). What remains to be computed is a known share of the multiplications, and
the inverse of that share is the speedup that arithmetic alone would give.
"""

from contextlib import ExitStack
from functools import partial

import torch
from torch import nn

from helpers import models, probes
from helpers.experiments.performance.clock import TIMED, timed
from helpers.probes import census, lesions
from helpers.sweep import Call, Cell, experiment, grid, pick


def multiplications(model: nn.Module, image: torch.Tensor) -> dict[str, int]:
    """Multiplications of each convolution and linear layer for one image `(1, …)`, in order."""
    return {
        path: output.numel() * model.get_submodule(path).weight[0].numel()
        for path, output in _outputs(model, image).items()
    }


def remaining(model: nn.Module, image: torch.Tensor) -> float:
    """Share of the multiplications that come after a filter, mean over all filters.

    A layer depends on a filter if its output changes with the filter's weights.
    """
    costs, clean = multiplications(model, image), _outputs(model, image)
    units, later = probes.channels(model), 0
    for layer, members in probes.by_layer(model, units).items():
        own = [probes.Unit(layer, index) for index in members]
        with lesions.perturbed(model, own, "random_noise", scale=1.0, seed=0):
            changed = _outputs(model, image)
        after = [p for p in costs if p != layer and not torch.equal(clean[p], changed[p])]
        later += len(members) * sum(costs[p] for p in after)
    return later / sum(costs.values()) / len(units)


def _outputs(model: nn.Module, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each convolution and linear layer gives for an image."""
    found: dict[str, torch.Tensor] = {}
    with ExitStack() as hooks:
        for path, layer in model.named_modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                keep = lambda _, given, output, path=path: found.update({path: output})  # noqa: E731
                hooks.enter_context(layer.register_forward_hook(keep))
        probes.evaluate(model, image)
    return found


def naive(model: nn.Module, images: torch.Tensor, units: list[probes.Unit]) -> torch.Tensor:
    """Logits `(units, n, 2)`, one whole pass for each filter."""
    logits = []
    for unit in units:
        with lesions.perturbed(model, [unit], "zero"):
            logits.append(probes.evaluate(model, images))
    return torch.stack(logits)


def _cells(profile: str) -> list[Cell]:
    sizes, units, trials = pick(
        profile, (50, 12, 1), ((300, 1_000, 2_900), 336, 1), ((300, 1_000, 2_900, 10_000), 336, 5)
    )
    return grid(samples=sizes, units=units, trial=range(trials))


@experiment("census_performance", cells=_cells, **TIMED)
def census_performance(call: Call) -> dict[str, float]:
    """Seconds of both ways on `units` filters spread over a network, and how far they are apart."""
    model = models.small_resnet(2, seed=call.trial).eval().to(memory_format=torch.channels_last)
    draw = torch.Generator().manual_seed(call.trial)
    images = torch.rand(call.samples, 3, 32, 32, generator=draw)
    every = probes.channels(model)
    chosen = every[:: max(1, len(every) // call.units)]
    census.census(model, images[:10], chosen[:2])  # libraries loaded
    cached, found = timed(partial(census.census, model, images, chosen))
    plain, expected = timed(partial(naive, model, images, chosen))
    whole, _ = timed(partial(probes.evaluate, model, images))
    return {
        "census_seconds": cached,
        "naive_seconds": plain,
        "pass_seconds": whole,
        "filters": len(chosen),
        "apart": float((found - expected).abs().max()),
        "remaining": remaining(model, images[:1]),
    }
