"""Change some units or single weights of a network for a while, and see what it answers.

Perturbing a unit changes its slice of the weight only; a bias, and the batch normalisation that
follows, stay as they are. A zeroed unit thus emits a constant (behind batch normalisation: shift
minus scale times mean over deviation) which need not be 0. Source: You et al. 2025 and their
released code; Maini et al. 2023.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn

from helpers.data import check_values
from helpers.probes.units import Unit, activations, batchnorms_behind, by_layer

Masks = Mapping[str, torch.Tensor]  # of parameters, by name


# what each needs besides the place
PERTURBATIONS = {
    "zero": (),
    "random_init": ("scale", "seed"),
    "random_noise": ("scale", "seed"),
    "relative_noise": ("scale", "seed"),
    "rewind": ("earlier",),
    "sign_flip": (),
    "permute": ("seed",),
    "batchnorm_zero": ("images",),
    "batchnorm_mean": ("images",),
}
Change = tuple[torch.Tensor, int | torch.Tensor, torch.Tensor]  # tensor, place in it, new values


@contextmanager
def perturbed(
    model: nn.Module,
    where: Sequence[Unit] | Masks,
    how: str,
    *,
    scale: float | None = None,
    seed: int | None = None,
    earlier: Mapping[str, torch.Tensor] | None = None,
    images: torch.Tensor | None = None,
) -> Iterator[nn.Module]:
    """The model with some weights changed; afterwards it is what it was, to the bit.

    Inside, the weights w of each unit (or those that each tensor's mask chooses) become

    * `"zero"`: 0; `"sign_flip"`: -w; `"permute"`: the same numbers in random order;
    * `"random_init"`: N(0, s²); `"random_noise"`: w + N(0, s²); `"relative_noise"`:
      w + N(0, (s std(w))²), with s = `scale` and std over the weights of the unit (or mask);
    * `"rewind"`: those of `earlier`;
    * `"batchnorm_zero"`, `"batchnorm_mean"`: as they are, but the channel behind the batch
      normalisation is 0, or its mean over `images` in eval mode.

    Contexts can be nested. In the end all parameters and buffers are put back, also after an
    exception, and also those that something else changed inside.

    Args:
        model: is changed in place.
        where: units, in any order, or masks as :func:`weights_beyond` makes them.
        how: see above.
        scale: s, for the three random changes that have it.
        seed: of what is drawn; the draw depends on the set of units and not on their order.
        earlier: a `state_dict` of the same network.
        images: for `"batchnorm_…"`: those of the mean; one is enough for 0.

    Raises:
        ValueError: an unknown perturbation, settings that it lacks or does not have, unknown units
            or parameters, shapes that do not fit, masks for `"batchnorm_…"`.

    Source: You et al. 2025, released code; relative noise, sign flip, permutation and the two for
    batch normalisation are additions.

    >>> net = nn.Sequential(nn.Linear(2, 1, bias=False))
    >>> with perturbed(net, [Unit("0", 0)], "zero"):
    ...     net(torch.ones(1, 2)).item()
    0.0
    """
    given = {"scale": scale, "seed": seed, "earlier": earlier, "images": images}
    _check_settings(how, given)
    if images is not None:
        changes = list(_batchnorm_changes(model, where, images, to_mean=how == "batchnorm_mean"))
    else:
        changes = list(_weight_changes(model, where, how, given))
    kept = [(t, t.detach().clone()) for t in chain(model.parameters(), model.buffers())]
    try:
        with torch.no_grad():
            for tensor, place, new in changes:
                tensor[place] = new
        yield model
    finally:
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)


def _check_settings(how: str, given: Mapping[str, Any]) -> None:
    if how not in PERTURBATIONS:
        raise ValueError(f"how is {how!r}: allowed are {', '.join(map(repr, PERTURBATIONS))}")
    needed = PERTURBATIONS[how]
    if missing := [name for name in needed if given[name] is None]:
        raise ValueError(f"{missing[0]} is None: {how!r} needs {' and '.join(needed)}")
    if extra := [name for name, value in given.items() if value is not None and name not in needed]:
        raise ValueError(f"{extra[0]} is given: {how!r} has no such setting")
    if "scale" in needed and not given["scale"] >= 0:
        raise ValueError(f"scale is {given['scale']}: it must be 0 or more")


def _weight_changes(
    model: nn.Module, where: Sequence[Unit] | Masks, how: str, given: Mapping[str, Any]
) -> Iterator[Change]:
    """New values of each unit's slice, or of what each mask chooses in its tensor."""
    seed, earlier = given["seed"], given["earlier"]
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for name, place in _places(model, where):
        tensor, past = model.get_parameter(name), None
        if earlier is not None:
            if name not in earlier or earlier[name].shape != tensor.shape:
                raise ValueError(f"earlier has no {name} of shape {tuple(tensor.shape)}")
            past = earlier[name].to(tensor)[place]
        old = tensor.detach()[place]
        if old.numel():  # a mask may choose nothing in a tensor
            yield tensor, place, _changed(how, old, past, given["scale"], generator)


def _places(
    model: nn.Module, where: Sequence[Unit] | Masks
) -> list[tuple[str, int | torch.Tensor]]:
    """Name of a parameter, and index of a slice or mask."""
    if not isinstance(where, Mapping):
        layers = by_layer(model, where)
        return [(f"{p}.weight", index) for p, indices in layers.items() for index in indices]
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for name, mask in where.items():
        if mask.dtype != torch.bool or shapes.get(name) != tuple(mask.shape):
            raise ValueError(
                f"the mask of {name} is {mask.dtype} {tuple(mask.shape)}: expected torch.bool "
                f"{shapes.get(name, 'of a parameter of the model')}"
            )
    return list(where.items())


def _changed(
    how: str,
    old: torch.Tensor,
    past: torch.Tensor | None,
    scale: float | None,
    generator: torch.Generator | None,
) -> torch.Tensor:
    if how == "zero":
        return torch.zeros_like(old)
    if how == "sign_flip":
        return -old
    if how == "rewind":
        return past
    if how == "permute":
        order = torch.randperm(old.numel(), generator=generator).to(old.device)
        return old.flatten()[order].view(old.shape)
    noise = scale * torch.randn(old.shape, generator=generator).to(old)
    if how == "relative_noise":
        noise *= old.std(correction=0)
    return noise if how == "random_init" else old + noise


def _batchnorm_changes(
    model: nn.Module, where: Sequence[Unit] | Masks, images: torch.Tensor, *, to_mean: bool
) -> Iterator[Change]:
    """Scale 0, and the constant as shift: exact in training mode too."""
    if isinstance(where, Mapping):
        raise ValueError("where holds masks: batch normalisation acts on whole units")
    norms = batchnorms_behind(model, where, images)
    means = activations(model, list(norms), images) if to_mean else {}
    for layer, indices in by_layer(model, where).items():
        norm = norms[layer]
        if norm.weight is None:
            raise ValueError(f"the batch normalisation behind {layer!r} has no scale and shift")
        zeros = torch.zeros_like(norm.bias)
        constants = means[layer].mean(0).to(norm.bias) if to_mean else zeros
        for index in indices:
            yield norm.weight, index, zeros[index]
            yield norm.bias, index, constants[index]


SIDES = ("largest", "smallest", "random")
KINDS = ("convolutions", "linear", "all")


def weights_beyond(
    model: nn.Module,
    fraction: float,
    side: str = "largest",
    *,
    parameters: str = "convolutions",
    seed: int | None = None,
) -> dict[str, torch.Tensor]:
    """Masks of the largest (or smallest) single weights of a network, over all its layers.

    Args:
        model: the network.
        fraction: p, the share of the N weights to choose: exactly round(p N) of them.
        side: `"largest"` or `"smallest"` in absolute value (ties in the order of the network), or
            `"random"`.
        parameters: `"convolutions"`; `"linear"`: all matrices but that of the last linear layer (of
            a vision transformer queries, keys and values, projections and MLPs; neither patch
            embedding, norms nor head); `"all"`: every parameter, as in the release. Frozen ones
            count as any other: a lesion asks what a network says, not what may be trained.
        seed: of the draw, where `side` is `"random"`.

    Returns:
        A boolean mask for each of these parameters, by name.

    Raises:
        ValueError: a share outside [0, 1], an unknown side or kind, a network without such
            parameters, a seed that is missing or not needed.

    Source: You et al. 2025, released code.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> int(weights_beyond(net, 0.1)["0.weight"].sum())
    22
    """
    for name, value, allowed in (("side", side, SIDES), ("parameters", parameters, KINDS)):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}: allowed are {', '.join(map(repr, allowed))}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}: allowed is 0 to 1")
    if (seed is None) == (side == "random"):
        raise ValueError(f"seed is {seed}: one is needed if, and only if, something is drawn")
    chosen = _parameters(model, parameters)
    sizes = torch.cat([p.detach().abs().flatten() for p in chosen.values()]).cpu()
    if side == "random":
        order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(seed))
    else:
        order = sizes.sort(descending=side == "largest", stable=True).indices
    mask = torch.zeros(len(sizes), dtype=torch.bool)
    mask[order[: round(fraction * len(sizes))]] = True
    parts = mask.split([p.numel() for p in chosen.values()])
    return {
        name: part.view(p.shape).to(p.device)
        for part, (name, p) in zip(parts, chosen.items(), strict=True)
    }


def _parameters(model: nn.Module, kind: str) -> dict[str, torch.Tensor]:
    found = dict(model.named_parameters())
    if kind == "convolutions":
        found = {name: p for name, p in found.items() if p.ndim == 4}
    elif kind == "linear":
        linear = [path for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
        head = f"{linear[-1]}.weight" if linear else None
        found = {name: p for name, p in found.items() if p.ndim == 2 and name != head}
    if not found:
        raise ValueError(f"parameters is {kind!r}: the model has none of these")
    return found


def shift_matched(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """What a lesion would do if it were but an offset: `before` with its mean shift of the margin.

    The margin is the logit of class 1 minus that of class 0. The logit of class 1 is raised by the
    mean over samples of the margin's change.

    Args:
        before, after: logits `(n, 2)` without and with the lesion.

    Returns:
        Logits `(n, 2)`.

    Raises:
        ValueError: shapes that differ or are not `(n, 2)`, no rows, values that are not finite.

    >>> shift_matched(torch.tensor([[0.0, 1.0], [0.0, 3.0]]), torch.zeros(2, 2))
    tensor([[ 0., -1.], [ 0., 1.]])
    """
    if before.shape != after.shape or before.shape[1:] != (2,) or not len(before):
        raise ValueError(
            f"logits have shapes {tuple(before.shape)} and {tuple(after.shape)}: expected (n, 2)"
        )
    change = (after.double() - before.double()).mean(0)
    if not bool(change.isfinite().all()):
        raise ValueError("logits have NaN or infinity: there is no mean shift")
    return before + before.new_tensor([0.0, float(change[1] - change[0])])


def refit_bias(margins: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor) -> float:
    """The offset on the margin with the highest accuracy, averaged over the four groups.

    A sample is taken for class 1 if margin + offset > 0. Candidates are 0, the middles between
    neighbouring margins, and 1 beyond the outermost; of those that are equally good the smallest
    in absolute value wins.

    Args:
        margins: `(n,)` logit of class 1 minus that of class 0, on validation data.
        labels: `(n,)` classes 0 or 1.
        groups: `(n,)` groups 0 to 3.

    Raises:
        ValueError: lengths that differ, NaN or infinite margins, another label or group, a group
            without a sample.

    >>> margins = torch.tensor([-4.0, -3.0, -2.0, 1.0])
    >>> refit_bias(margins, torch.tensor([0, 0, 1, 1]), torch.arange(4))
    2.5
    """
    if not margins.shape == labels.shape == groups.shape or margins.ndim != 1:
        shapes = ", ".join(str(tuple(x.shape)) for x in (margins, labels, groups))
        raise ValueError(f"margins, labels and groups have shapes {shapes}: expected (n,)")
    margins, labels, groups = margins.detach().double().cpu(), labels.cpu(), groups.cpu()
    if not bool(margins.isfinite().all()):
        raise ValueError("margins has NaN or infinity")
    check_values("labels", labels, range(2))
    check_values("groups", groups, range(4))
    groups = groups.long()
    sizes = groups.bincount(minlength=4)
    if empty := (sizes == 0).nonzero().flatten().tolist():
        raise ValueError(f"group {empty[0]} is empty: its accuracy does not exist")
    at = margins.unique()  # sorted
    thresholds = torch.cat([at.new_zeros(1), at[:1] - 1, (at[1:] + at[:-1]) / 2, at[-1:] + 1])
    thresholds = thresholds[thresholds.abs().argsort(stable=True)]
    # a threshold at or above its margin makes a sample of class 0 right, and one of class 1 wrong
    weight = torch.where(labels == 1, -1.0, 1.0).double() / sizes[groups]
    gained = torch.cat([weight.new_zeros(1), weight[margins.argsort()].cumsum(0)])
    below = torch.searchsorted(margins.sort().values, thresholds, right=True)
    # rounding: equal accuracies may differ in the last digit of their sums
    return 0.0 - float(thresholds[gained[below].round(decimals=9).argmax()])
