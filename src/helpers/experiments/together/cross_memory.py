"""Alignment as a predictor: which image's frame does a trained network remember?"""

import torch
from torch import Tensor

from helpers import data, stats, training
from helpers.experiments.together import cross_setting as setting
from helpers.sweep import Call, Cell, experiment
from helpers.theory import smoother

BORDER = 6  # pixels of noise around each digit, its own frame
FOREIGN = 20  # frames of no training image
TAUGHT = 1e-3  # mean squared error at which a training ends
PREDICTORS = (
    "alignment", "alignment, trained", "stability", "alignment times stability",
    "norm of the frame", "norm of the image", "alignment of another image",
)  # fmt: skip


def memory(net: torch.nn.Module, framed: Tensor, labels: Tensor, foreign: Tensor) -> Tensor:
    r"""Part II's difference of each image, `(n,)`: its own frame against foreign ones.

    :math:`\Delta_i = g_i (f(x_i, y_i) - \overline{f(x_i, y')})`.

    Args:
        net: of one output.
        framed: `(n, 1, h, w)` uint8 training images.
        labels: `(n,)`.
        foreign: `(m, 1, h, w)` uint8, frames of no training image.
    """
    own = training.predict(net, unit(framed)).flatten()
    core = framed[..., BORDER:-BORDER, BORDER:-BORDER]
    others = torch.zeros_like(own)
    for frame in foreign:
        swapped = frame.expand_as(framed).clone()
        swapped[..., BORDER:-BORDER, BORDER:-BORDER] = core
        others += training.predict(net, unit(swapped)).flatten()
    return labels * (own - others / len(foreign)).double()


def unit(images: Tensor) -> Tensor:
    """`(n, h w)` floats around 0 from uint8 images."""
    return images.flatten(1).float() / 255 - 0.5


def cross_memory_cells(profile: str) -> list[Cell]:
    """One network a trial."""
    samples, width, trials = {
        "smoke": (150, 64, 3), "laptop": (400, 128, 12), "paper": (1_500, 512, 30),
    }[profile]  # fmt: skip
    return [dict(samples=samples, width=width, trial=trial) for trial in range(trials)]


@experiment(
    "cross_memory",
    cells=cross_memory_cells,
    tolerance=0.2,  # training is chaotic, rank correlations less
    cheap=lambda cell: True,
)
def cross_memory(call: Call) -> dict[str, float | str]:
    """Rank correlations over images with the memory of each image's own frame.

    Returns:
        one column for each of `PREDICTORS`; `loss` of the network, `memory` and `memory_sd`: mean
        and spread over images, `own_share`: images whose label its frame alone speaks for.
    """
    found, labels = setting.images(call.samples, call.trial)
    framed = data.noise_border(found, BORDER, seed=call.trial)
    foreign = data.noise_border(found[:FOREIGN], BORDER, seed=10_000 + call.trial)
    net = setting.network(unit(framed).shape[1], call.width, call.trial)
    start, x = [p.clone() for p in net.parameters()], unit(framed)
    recipe = training.Recipe(epochs=400, batch=50, loss="mse", stop_loss=TAUGHT)
    before = known(net, x, unit(data.blank_core(framed, BORDER)), labels)
    net = net.to(call.device)  # kernels are the processor's, in float64
    history = training.train(
        net, x.to(call.device), labels.float().to(call.device), recipe, seed=call.trial
    )
    net = net.cpu()
    after = known(net, x, unit(data.blank_core(framed, BORDER)), labels)
    remembered = memory(net, framed, labels, foreign)
    frames = x.clone().view_as(framed.float())
    frames[..., BORDER:-BORDER, BORDER:-BORDER] = 0
    predictors = {
        "alignment": before["alignment"],
        "alignment, trained": after["alignment"],
        "stability": before["stability"],
        "alignment times stability": before["alignment"] * before["stability"],
        "norm of the frame": frames.flatten(1).norm(dim=1),
        "norm of the image": x.norm(dim=1),
        "alignment of another image": before["alignment"].roll(1),
    }
    alone = labels * training.predict(net, unit(data.blank_core(framed, BORDER))).flatten()
    return {
        **{name: stats.rank_correlation(p.numpy(), remembered.numpy())
           for name, p in predictors.items()},
        "loss": history.loss, "moved": moved(start, list(net.parameters())),
        "memory": float(remembered.mean()), "memory_sd": float(remembered.std()),
        "own_share": float((alone > 0).double().mean()), "data_source": setting.SOURCE,
    }  # fmt: skip


def known(net: torch.nn.Module, x: Tensor, alone: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What a network's tangent kernel says of each image: alignment and size of the stability."""
    K = setting.tangent_kernel(net, x, x)
    model = smoother.smooth((K + K.T) / 2, 1e-6 * float(K.diagonal().mean()))
    held_out = model.coefficients(labels) / model.inverse.diagonal()
    return {
        "alignment": model.alignment(setting.tangent_kernel(net, alone, x)),
        "stability": labels * held_out,
    }


def moved(before: list[Tensor], after: list[Tensor]) -> float:
    """How far the parameters went, as a share of their length at the start."""
    pairs = zip(after, before, strict=True)
    away = sum(float((a.detach() - b.detach()).square().sum()) for a, b in pairs)
    return (away / sum(float(b.detach().square().sum()) for b in before)) ** 0.5
