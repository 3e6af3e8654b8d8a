"""Does each paper's remedy move the others' measures? Frames, a rare pattern and a heavy patch.

Digits stand in frames of noise, each its own; ten odd ones carry a rare pattern; a white patch goes
with the label on nine of ten images. One network without a remedy and one with each.
"""

import copy
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers import data, probes, training
from helpers.experiments.together import cross_setting as setting
from helpers.experiments.together.cross_memory import BORDER, unit
from helpers.sweep import Call, Cell, experiment
from helpers.theory import smoother

DELETIONS = ("influence step", "formula")
BALANCES = ("balanced groups", "balanced, stopped early")
REMEDIES = ("weight decay", "early stopping", "clipping", *BALANCES, *DELETIONS)
WAYS = ("nothing", *REMEDIES, "never shown")  # the last: trained without the pattern
MEASURES = ("frame", "pattern", "membership", "shortcut", "worst_group")
CARRIERS, AGREE = 10, 0.9
PATCH = (slice(BORDER, BORDER + 5), slice(BORDER, BORDER + 5))
RARE = (slice(-BORDER - 8, -BORDER), slice(-BORDER - 8, -BORDER))  # where the rare pattern is
DECAY, CLIP, DAMPING = 1e-2, 0.1, 1e-2
RATE, BATCH, EARLY = 1e-3, 50, 12


class Images(NamedTuple):
    """Framed images `(n, 1, h, w)` uint8, labels and patches -1 or +1, carriers.

    `carriers` are rows of the training set, and `bare` what these images were before the pattern.
    """

    framed: Tensor
    labels: Tensor
    patch: Tensor
    carriers: Tensor
    bare: Tensor


def with_patch(framed: Tensor, patch: Tensor) -> Tensor:
    """A copy with a white patch where `patch` is +1, and a black one elsewhere."""
    made = framed.clone()
    made[(..., *PATCH)] = torch.where(patch > 0, 255, 0).to(torch.uint8)[:, None, None, None]
    return made


def with_rare(framed: Tensor, trial: int) -> Tensor:
    """A copy with the rare pattern: a corner of noise, the same in all images."""
    made = framed.clone()
    side = framed[(..., *RARE)].shape[-1]
    noise = torch.randint(0, 256, (side, side), generator=torch.Generator().manual_seed(trial))
    made[(..., *RARE)] = noise.to(torch.uint8)
    return made


def drawn(samples: int, trial: int) -> tuple[Images, Images]:
    """The training set, its carriers with the pattern, and as many images to ask, with none.

    In the latter the patch goes with nothing.
    """
    found, labels = setting.images(2 * samples, trial)
    draw = torch.Generator().manual_seed(trial)
    agrees = torch.where(torch.rand(samples, generator=draw) < AGREE, 1.0, -1.0).double()
    patch = torch.cat([
        labels[:samples] * agrees, torch.randint(0, 2, (samples,), generator=draw) * 2.0 - 1
    ])  # fmt: skip
    framed = with_patch(data.noise_border(found, BORDER, seed=trial), patch)
    rows = setting.carriers(labels[:samples], CARRIERS, trial)
    asked = Images(framed[samples:], labels[samples:], patch[samples:], rows[:0], framed[:0])
    train = framed[:samples].clone()
    train[rows] = with_rare(train[rows], trial)
    return Images(train, labels[:samples], patch[:samples], rows, framed[rows]), asked


def without_carriers(net: nn.Module, start: nn.Module, train: Images, way: str) -> nn.Module:
    r"""A copy that is moved as if the carriers had never been there, in float64.

    With features :math:`\nabla f`, tangent kernel K and :math:`A = K + \lambda`, the parameters
    lose :math:`\sum_i c_i\nabla f(z_i)`, :math:`c = A^{-1}_{\cdot G}\,w`. The `"influence step"`
    has for w the residuals of the carriers, the `"formula"` what a model without them gets wrong,
    as the leave-out formula of the smoother has it, for labels less what the start said.

    Raises:
        ValueError: another way.
    """
    x, rows = unit(train.framed).double(), train.carriers
    K = setting.tangent_kernel(net, x, x)
    model = smoother.smooth((K + K.T) / 2, DAMPING * float(K.diagonal().mean()))
    now, then = (training.predict(one, x.float()).flatten().double() for one in (net, start))
    if way == "influence step":
        wrong = (train.labels - now)[rows]
    elif way == "formula":
        wrong = model.held_out(train.labels - then, rows)
    else:
        raise ValueError(f"way is {way!r}: allowed are 'influence step' and 'formula'")
    changed = copy.deepcopy(net).double()
    (changed(x).flatten() * (model.inverse[:, rows] @ wrong)).sum().backward()
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter -= parameter.grad
    return changed.requires_grad_(False)


def measures(net: nn.Module, train: Images, asked: Images, trial: int) -> dict[str, float]:
    """What the four papers ask of a network; the first two and `shortcut` in units of `margin`.

    `frame`: mean rise of a training image's margin by its own frame instead of another's.
    `pattern`: mean rise of the output on fresh even images by the pattern. `membership`: AUC of
    carriers against fresh odd images with the pattern, by their loss. `shortcut`: half the mean
    change of the output by the patch. `worst_group`: smallest accuracy over label and patch, on
    fresh images; `accuracy`: the mean over these groups; `margin`: mean margin, over both patches.
    """
    dtype = next(net.parameters()).dtype

    def says(images: Tensor) -> Tensor:
        return training.predict(net, unit(images).to(dtype)).flatten().double()

    swapped = train.framed.roll(1, 0)
    core = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    swapped[core] = train.framed[core]
    both = [
        says(with_patch(asked.framed, sign * torch.ones(len(asked.labels)))) for sign in (1, -1)
    ]
    margin = float((asked.labels * (both[0] + both[1]) / 2).mean())
    even, odd = asked.framed[asked.labels < 0], asked.framed[asked.labels > 0]
    rise = says(with_rare(even, trial)) - says(even)
    members, others = says(train.framed[train.carriers]), says(with_rare(odd, trial))
    sure = -torch.cat([(members - 1) ** 2, (others - 1) ** 2])
    inside = torch.cat([torch.ones(len(members)), -torch.ones(len(others))])
    right = (says(asked.framed) * asked.labels > 0).double()
    groups = [
        float(right[(asked.labels == g) & (asked.patch == b)].mean())
        for g in (-1, 1)
        for b in (-1, 1)
    ]
    return {
        "frame": float((train.labels * (says(train.framed) - says(swapped))).mean()) / margin,
        "pattern": float(rise.mean()) / margin,
        "membership": probes.auc(sure, inside),
        "shortcut": float((both[0] - both[1]).mean()) / 2 / margin,
        "worst_group": min(groups),
        "accuracy": sum(groups) / 4,
        "margin": margin,
    }


def balanced(train: Images) -> Tensor:
    """Rows in which all four groups of label and patch are as large as the largest, repeated."""
    groups = [
        ((train.labels == g) & (train.patch == b)).nonzero().flatten()
        for g in (-1, 1)
        for b in (-1, 1)
    ]
    most = max(map(len, groups))
    return torch.cat([rows.repeat(most // len(rows) + 1)[:most] for rows in groups])


def cross_remedies_cells(profile: str) -> list[Cell]:
    """Every way in every trial."""
    samples, width, epochs, trials = {
        "smoke": (150, 32, 24, 2), "laptop": (400, 48, 48, 8), "paper": (2_000, 256, 60, 30),
    }[profile]  # fmt: skip
    return [
        dict(samples=samples, width=width, epochs=epochs, way=way, trial=trial)
        for trial in range(trials)
        for way in WAYS
    ]


@experiment(
    "cross_remedies",
    cells=cross_remedies_cells,
    tolerance=0.5,  # training is chaotic
    cheap=lambda cell: False,
    group=lambda cell: (cell["samples"], cell["width"], cell["epochs"], cell["trial"]),
    on_device=False,
)
def cross_remedies(calls: list[Call]) -> list[dict[str, float | str]]:
    """The :func:`measures` of a network without a remedy, or with one.

    All start from the same weights and see the same batches, but for balanced groups, whose
    epochs are longer and fewer, with as many steps.
    """
    first = calls[0]
    train, asked = drawn(first.samples, first.trial)
    nets = trained(train, first.width, first.epochs, first.trial)
    start = setting.network(unit(train.framed).shape[1], first.width, first.trial)
    nets |= {way: without_carriers(nets["nothing"], start, train, way) for way in DELETIONS}
    return [
        measures(nets[call.way], train, asked, call.trial) | {"data_source": setting.SOURCE}
        for call in calls
    ]


def trained(train: Images, width: int, epochs: int, trial: int) -> dict[str, nn.Module]:
    """Networks by their way, all but the two deletions."""
    x, labels = unit(train.framed), train.labels.float()
    clean = (train.carriers, unit(train.bare))
    plain = training.Recipe(epochs=epochs, batch=BATCH, loss="mse", learning_rate=RATE)
    ways = {
        "nothing": (plain, None), "weight decay": (replace(plain, weight_decay=DECAY), None),
        "clipping": (replace(plain, clip_norm=CLIP), None), "never shown": (plain, clean),
    }  # fmt: skip
    nets = {name: setting.network(x.shape[1], width, trial) for name in ways}
    recipes, replaced = zip(*ways.values(), strict=True)
    training.train_many(
        list(nets.values()), x, labels, list(recipes), seed=trial, replaced=list(replaced)
    )
    rows, few = balanced(train), max(1, epochs // EARLY)
    whole, short = (max(1, round(n * len(x) / len(rows))) for n in (epochs, few))  # as many steps
    others = {
        "early stopping": (x, labels, few),
        "balanced groups": (x[rows], labels[rows], whole),
        "balanced, stopped early": (x[rows], labels[rows], short),
    }
    for name, (inputs, own, fewer) in others.items():
        nets[name] = setting.network(x.shape[1], width, trial)
        training.train(nets[name], inputs, own, replace(plain, epochs=fewer), seed=trial)
    return nets
