"""Two-layer ReLU networks of finite width: their kernels, and what is learnt when."""

import itertools
import math
from dataclasses import replace

import torch

from helpers import data, kernels
from helpers.data import Grouped
from helpers.experiments.shortcut import tasks
from helpers.experiments.shortcut.tasks import Core, by_alignment, full_training
from helpers.sweep import Call, Cell, experiment
from helpers.training import margin_losses

CORE = 0.05  # share of the conflicting labels from which a feature counts as one that helps
LOGGED = (1, 3, 10, 30, 100, 300, 1_000, 3_000)


class ReluNet:
    r"""Two-layer ReLU network in NTK parametrisation whose output is zero at the start.

    :math:`f(x) = g\sqrt{2/m}\,\sum_j a_j\,\mathrm{relu}(\langle w_j, x\rangle)` with weights that
    are standard normal at the start. The second half of the m units repeats the first with the
    opposite sign of a, so f starts at 0. The gain g sets the regime: at 1 the features hardly move,
    at a small gain the weights have to move far to fit the labels, and the features with them.

    Raises:
        ValueError: an odd width, or a gain that is not above 0.
    """

    def __init__(self, dim: int, width: int, gain: float, seed: int, device: str = "cpu") -> None:
        if width < 2 or width % 2:
            raise ValueError(f"width is {width}: units come in pairs, an even number from 2 on")
        if not 0 < gain < math.inf:
            raise ValueError(f"gain is {gain}: a number above 0")
        draw = torch.Generator().manual_seed(seed)
        W, a = torch.randn(width // 2, dim, generator=draw), torch.randn(width // 2, generator=draw)
        self.W, self.a = torch.cat([W, W]).to(device), torch.cat([a, -a]).to(device)
        self.scale = gain * math.sqrt(2 / width)

    def __call__(self, X: torch.Tensor) -> torch.Tensor:
        """Outputs `(n,)` at inputs `(n, d)`."""
        return self.scale * torch.relu(X @ self.W.T) @ self.a

    def step(
        self, X: torch.Tensor, y: torch.Tensor, loss: margin_losses.MarginLoss, rate: float
    ) -> None:
        """One step of gradient descent on the sum of losses; gradients written out."""
        H = X @ self.W.T
        active = torch.relu(H)
        f = self.scale * active @ self.a
        pull = -rate * self.scale * y * loss.slope(y * f)
        by_unit = (H > 0) * pull[:, None]
        W_step = self.a[:, None] * (by_unit.T @ X)
        self.a += active.T @ pull
        self.W += W_step

    def kernel(self, X: torch.Tensor, X2: torch.Tensor | None = None) -> torch.Tensor:
        r"""Tangent kernel :math:`(2g^2/m)\,[A A'^\top + (1_H a^2)1_{H'}^\top \circ XX'^\top]`.

        With :math:`H = XW^\top`, A = relu(H); no gradient of any sample is formed. `X2` is None for
        X itself.
        """
        H, H2 = (Z @ self.W.T for Z in (X, X if X2 is None else X2))
        on, on2 = ((h > 0).to(X) for h in (H, H2))
        K = ((on * self.a.square()) @ on2.T).mul_(X @ (X if X2 is None else X2).T)
        K = K.add_(torch.relu(H) @ torch.relu(H2).T).mul_(self.scale**2)
        return K if X2 is not None else (K + K.T) / 2


def half_resolution(sample: Grouped) -> Grouped:
    """Patched digits with 14 x 14 pixels; other images as they are."""
    if sample.images.shape[-1] != 28:
        return sample
    return replace(sample, images=torch.nn.functional.avg_pool2d(sample.images, 2))


def _cells(profile: str) -> list[Cell]:
    dataset, samples, test, width, steps, trials = {
        "smoke": ("mnist5k", 300, 400, 256, 150, 2),
        "laptop": ("mnist", 1_000, 2_000, 256, 3_000, 3),
        "paper": ("mnist", 2_000, 4_000, 1_024, 3_000, 10),
    }[profile]
    losses = ("squared", "logistic", "sd", "marg_log")
    grid = [("patched", gain, loss, width) for gain in (1.0, 0.1) for loss in losses]
    grid += [("colored", 1.0, loss, width) for loss in losses[:3]]
    grid += [("patched", 1.0, "squared", 4 * width)]
    if profile == "smoke":
        grid = [("patched", 1.0, loss, width) for loss in losses[:3]]
        grid += [("patched", 0.1, "squared", width)]
    return [
        dict(kind=kind, dataset=dataset, rho=0.9, gain=gain, loss=loss, width=k,
             samples=samples, test=test, steps=steps, trial=trial)
        for trial, (kind, gain, loss, k) in itertools.product(range(trials), grid)
    ]  # fmt: skip


@experiment(
    "relu_networks",
    cells=_cells,
    # a step count may move by one
    tolerance={"default": tasks.TOLERANCE, "share_half": 0.25, "cosine_half": 0.25},
    cheap=lambda cell: cell["samples"] <= 300,
)
def relu_networks(call: Call) -> dict[str, float | str]:
    """One network, full-batch gradient descent; its kernel before and after; who is learnt when."""
    gain, steps = call.gain, call.steps
    *sets, source = tasks.digit_sets(call)
    train, held_out = map(half_resolution, sets)
    X, X_test = (rows.to(call.device) for rows in data.centred(train, held_out))
    y, chosen = train.label.to(call.device), margin_losses.named(call.loss)
    net = ReluNet(X.shape[1], call.width, gain, call.trial, call.device)
    K0, K0_test, limit = net.kernel(X), net.kernel(X_test, X), kernels.relu_ntk(X)
    before = tasks.find_shortcut(K0, train)
    vectors, mode = before.features.vectors, before.features.vectors[:, before.index]
    rate = 1 / (float(before.features.values[0]) * chosen.steepest)
    # a loss that wants the margin u* ends at u* times the labels: that is what there is to learn
    goal = 1.0 if chosen.name == "logistic" else margin_losses.common_margin(chosen)
    course, said = [], {}
    for step in range(steps + 1):
        f = net(X)
        course.append(vectors.T @ f / (goal * before.features.weights))
        if step in LOGGED or step == steps:
            said[step] = net(X_test)
        if step < steps:
            net.step(X, y, chosen, rate)
    if not bool(torch.isfinite(f).all()):
        raise FloatingPointError(f"outputs are not finite after {steps} steps of {call.loss}")
    K1, learnt = net.kernel(X), torch.stack(course)
    after = tasks.find_shortcut(K1, train)
    others = torch.arange(len(before.bias), device=vectors.device) != before.index
    core = tasks.core_shares(vectors, train)
    task = tasks.Task(train, held_out, limit, kernels.relu_ntk(X_test, X), source)
    found: dict[str, float | str] = {
        "kernel_error": float((K0 / gain**2 - limit).norm() / limit.norm()) * math.sqrt(call.width),
        "kernel_moved": float((K1 - K0).norm() / K0.norm()),
        "kernel_cosine": float((K1 * K0).sum() / (K1.norm() * K0.norm())),
    }
    ends = {"before": before, "after": after}
    found |= {f"index_{end}": s.index + 1 for end, s in ends.items()}
    found |= {f"mu_{e}": float(s.features.values[s.index]) / call.samples for e, s in ends.items()}
    found |= {f"bias_{end}": float(s.bias[s.index]) for end, s in ends.items()}
    found |= {"shortcut_half": _half(learnt[:, before.index])}
    found |= _core_times(learnt, core, others) | by_alignment(said[steps], held_out)
    found |= by_alignment(full_training(task), held_out, "_regression")
    found |= by_alignment(full_training(task._replace(K=K0, K_test=K0_test)), held_out, "_own")
    weights = core.share * others
    for step in LOGGED:
        at = min(step, steps)
        found |= {
            f"shortcut_{step}": float(learnt[at, before.index]),
            f"core_{step}": float((learnt[at] * weights).sum() / weights.sum()),
        } | by_alignment(said[at], held_out, f"_{step}")
    return found | tasks.summary(f, train, mode) | {"data_source": source}


def _core_times(learnt: torch.Tensor, core: Core, others: torch.Tensor) -> dict[str, float]:
    """When the first feature other than the shortcut that helps is half learnt, and how many do.

    Two readings of "its squared alignment with the labels of conflicting images is above 0.05".
    Infinity: there is no such feature, or it never gets there.
    """
    found = {}
    for name, part in core._asdict().items():
        helps = (part > CORE) & others
        found[f"{name}_half"] = min(map(_half, learnt[:, helps].T), default=math.inf)
        found[f"{name}_modes"] = int(helps.sum())
    return found


def _half(course: torch.Tensor) -> float:
    """Step at which a course passes a half, between the steps on a line; infinity for never."""
    reached = (course >= 0.5).nonzero().flatten()
    if not len(reached):
        return math.inf
    after = int(reached[0])
    low, high = (float(course[i]) for i in (max(after - 1, 0), after))
    return after - (high - 0.5) / (high - low) if after else 0.0
