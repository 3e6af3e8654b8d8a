r"""Influence of a group of training examples: what a network would be without them, to first order.

Parameters :math:`\theta` that minimise a mean loss over N examples move, when n of the examples are
left out, by approximately

.. math:: \theta' - \theta = \frac{1}{N - n} H^{-1} \sum_{z \in \text{group}} \nabla\ell(z, \theta)

with H the Hessian of the mean loss. The formula is exact to first order in n/N where
:math:`\theta` is a minimum and H is positive definite. A network that was trained for some epochs
has neither; then H + damping takes the place of H, and the result depends on the damping.

Source: Cook & Weisberg 1982; Koh & Liang 2017; for groups Basu, You & Feizi 2020 and the form above
Yang, Chou & Chaudhuri 2022. Parameters are flat vectors `(p,)`, in the order of `parameters()`;
those that are frozen (without `requires_grad`) would not move, and are left out.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call, grad, vjp, vmap
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from helpers import kernels
from helpers.errors import check_whole
from helpers.training import learned

Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # outputs, labels: one loss a sample
Product = Callable[[torch.Tensor], torch.Tensor]
DENSE = 3_000  # parameters up to which the whole Hessian is affordable


def cross_entropies(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`(b,)` cross-entropies of outputs `(b, classes)`."""
    return functional.cross_entropy(outputs, labels, reduction="none")


class MeanLoss:
    r"""The mean loss of a model on its training set, as a function of the parameters.

    The loss of one example is :math:`\ell(f(x), y) + \frac{\lambda}{2}\|\theta\|^2`, so the penalty
    of an example goes when the example goes.

    Args:
        model: a module without batch statistics; it is used in the mode in which it is.
        inputs: `(N, …)` on the device of the model.
        labels: `(N,)`, what `losses` takes.
        losses: from outputs and labels of a batch to one loss a sample.
        l2: the penalty :math:`\lambda`, on all parameters that are not frozen.
        batch: samples at a time; decides memory, not results.

    Raises:
        ValueError: no samples, other labels than one a sample (with the cross-entropy, from 0 on),
            a penalty below 0 or not finite, a batch that is no whole number from 1 on, or a model
            that is all frozen; from all that asks for losses, when they are not one a sample.

    >>> x, y = torch.tensor([[1.0], [2.0]]), torch.zeros(2)
    >>> model = nn.Linear(1, 1, bias=False)
    >>> squares = MeanLoss(model, x, y, losses=lambda f, y: (f[:, 0] - y) ** 2 / 2)
    >>> squares.product(torch.ones(1))  # the mean of x squared
    tensor([2.5000])
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        *,
        losses: Losses = cross_entropies,
        l2: float = 0.0,
        batch: int = 1_000,
    ) -> None:
        if not len(inputs) or labels.shape != inputs.shape[:1]:
            raise ValueError(
                f"there are {len(inputs)} inputs, and labels of shape {tuple(labels.shape)}: "
                "expected the same number, above 0"
            )
        if not 0 <= l2 < math.inf:
            raise ValueError(f"l2 is {l2}: it must be 0 or more, finite")
        check_whole(batch=batch)
        self.model, self.inputs, self.labels = model, inputs, labels
        self.l2, self._losses, self._batch = l2, losses, batch
        self._check(inputs, labels)
        self._parameters = {name: p.detach() for name, p in learned(model).items()}
        self.size = sum(p.numel() for p in self._parameters.values())

    def gradient(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """`(p,)`: the summed gradient of the losses of these samples (a group).

        Raises:
            ValueError: no samples, or labels that do not fit.
        """
        if not len(inputs):
            raise ValueError("the group has no members: nothing to remove, and no gradient")
        self._check(inputs, labels)
        total = sum(
            _flat(grad(self._total)(self._parameters, x, y))
            for x, y in self._batches(inputs, labels)
        )
        return total + len(inputs) * self.l2 * self.vector()

    def norms(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """`(m,)`: the length of each sample's own gradient."""
        each = zip(inputs.split(1), labels.split(1), strict=True)
        return torch.stack([self.gradient(x, y).norm() for x, y in each])

    def product(self, v: torch.Tensor) -> torch.Tensor:
        """`(p,)`: the Hessian of the mean loss times v `(p,)`; nothing of size p x p is made.

        Source: Pearlmutter 1994, here by two passes of reverse differentiation.
        """
        tangent = self._named(v)
        total = sum(
            _flat(_along(lambda p, x=x, y=y: self._total(p, x, y), self._parameters, tangent))
            for x, y in self._batches(self.inputs, self.labels)
        )
        return total / len(self.inputs) + self.l2 * v

    def products_at(self, v: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """`(r, p)`: row k of v `(r, p)` times the Hessian of the one sample `rows[k]`."""

        def one(tangent: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return _flat(
                _along(lambda p: self._total(p, x[None], y[None]), self._parameters, tangent)
            )

        found = vmap(lambda h, x, y: one(self._named(h), x, y))(
            v, self.inputs[rows], self.labels[rows]
        )
        return found + self.l2 * v

    def vector(self) -> torch.Tensor:
        """`(p,)`: the parameters."""
        return _flat(self._parameters)

    def _check(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        if labels.shape != inputs.shape[:1]:
            raise ValueError(f"there are {len(inputs)} inputs, and labels {tuple(labels.shape)}")
        if self._losses is cross_entropies and bool((labels < 0).any()):  # it leaves out some
            raise ValueError(f"labels has {int(labels.min())}: classes are 0 or more")

    def _total(
        self, parameters: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        losses = self._losses(functional_call(self.model, parameters, (x,)), y)
        if losses.shape != x.shape[:1]:  # such as those of all outputs with all labels
            raise ValueError(f"losses have shape {tuple(losses.shape)} for {len(x)} samples")
        return losses.sum()

    def _batches(self, inputs: torch.Tensor, labels: torch.Tensor) -> zip:
        return zip(inputs.split(self._batch), labels.split(self._batch), strict=True)

    def _named(self, v: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = v.split([p.numel() for p in self._parameters.values()])
        return {
            name: part.view_as(p)
            for part, (name, p) in zip(parts, self._parameters.items(), strict=True)
        }


def _along(
    function: Callable, at: dict[str, torch.Tensor], direction: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The second derivative of `function` times a direction; it is symmetric, so vjp will do."""
    return vjp(grad(function), at)[1](direction)[0]


def _flat(named: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([p.reshape(-1) for p in named.values()])


def exact(loss: MeanLoss, g: torch.Tensor, damping: float = 0.0) -> torch.Tensor:
    """`(p,)`: (H + damping)^-1 g by the whole Hessian, for models of at most 3,000 parameters.

    Raises:
        ValueError: a larger model, or a matrix that is not positive definite (to rounding).
    """
    if loss.size > DENSE:
        raise ValueError(
            f"the model has {loss.size} parameters: a whole Hessian is for {DENSE} at most, "
            "use solve()"
        )
    H = torch.stack([loss.product(e) for e in torch.eye(loss.size).to(g)])
    values, vectors = torch.linalg.eigh((H + H.T) / 2)
    if not values[0] + damping > torch.finfo(g.dtype).eps * len(values) * values.abs().max():
        raise ValueError(
            f"the smallest eigenvalue of the Hessian is {float(values[0]):.2g} and the damping "
            f"{damping:g}: their sum must be above 0, give more damping"
        )
    return vectors @ ((vectors.T @ g) / (values + damping))


class Solved(NamedTuple):
    """What :func:`solve` found.

    Attributes:
        solutions: `(s, p)`, one a damping.
        residuals: `(s,)`, relative to the right side.
        lowest, highest: the extreme Ritz values, between the extreme eigenvalues of the matrix: not
            positive definite is H + damping certainly where `lowest` + damping is below 0.
    """

    solutions: torch.Tensor
    residuals: torch.Tensor
    lowest: float
    highest: float


def solve(
    product: Product, g: torch.Tensor, dampings: Sequence[float], *, steps: int = 50
) -> Solved:
    r"""(H + damping)^-1 g for several dampings, from products with the symmetric matrix H alone.

    The Krylov space of g is the same for all of them, so one Lanczos run serves all: with its basis
    V and the tridiagonal T, the solution is :math:`\|g\| V (T + s)^{-1} e_1`. For positive
    definite matrices these are the iterates of conjugate gradients.

    Args:
        product: from `(p,)` to `(p,)`.
        g: right side `(p,)`, not zero; its precision is that of the whole computation.
        dampings: each s.
        steps: products at most; `steps` vectors of length p are kept.

    Raises:
        ValueError: a right side of zeros, no steps or dampings, or one with which the matrix is
            singular on the Krylov space (to rounding), as a matrix of zeros with damping 0.

    Source: Paige & Saunders 1975; several dampings at once, Jegerlehner 1996.

    >>> H = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> solve(H.__matmul__, torch.tensor([1.0, 1.0]), [0.0, 1.0]).solutions
    tensor([[0.5000, 1.0000],
            [0.3333, 0.5000]])
    """
    length = float(g.norm())
    if not length > 0 or steps < 1:
        raise ValueError(f"the norm of g is {length} and steps is {steps}: both must be above 0")
    basis, T, beyond = kernels.lanczos(product, g / length, steps)
    values, turn = torch.linalg.eigh(T)
    scale = (
        torch.tensor([*dampings, 0.0], dtype=values.dtype).abs().max().maximum(values.abs().max())
    )
    shifted = [values + s for s in dampings]
    singular = [not bool((v.abs() > torch.finfo(g.dtype).eps * scale).all()) for v in shifted]
    if not shifted or any(singular):
        raise ValueError(
            f"dampings are {list(dampings)} and Ritz values go from {float(values[0]):.2g} to "
            f"{float(values[-1]):.2g}: with each damping, none of them may be 0"
        )
    inside = torch.stack([turn @ (turn[0] / v) for v in shifted])
    return Solved(
        solutions=length * inside.to(g) @ basis,
        residuals=beyond * inside[:, -1].abs(),
        lowest=float(values[0]),
        highest=float(values[-1]),
    )


def lissa(
    loss: MeanLoss,
    g: torch.Tensor,
    *,
    scale: float,
    damping: float = 0.01,
    depth: int,
    repeats: int = 10,
    seed: int,
    as_released: bool = False,
) -> torch.Tensor:
    r"""`(p,)`: a random estimate of :math:`(H + \text{scale}\cdot\text{damping})^{-1} g`.

    The recursion h <- g + (1 - damping) h - H_i h / scale, with H_i the Hessian of one random
    training example, has the fixed point :math:`(H/\text{scale} + \text{damping})^{-1} g` on
    average: `scale` times what is wanted, so h is divided by it at the end.

    Args:
        loss: the mean loss; one of its samples is drawn in each step.
        g: right side `(p,)`.
        scale: what Hessians are divided by; too small, and the recursion diverges.
        damping: of the recursion.
        depth: steps.
        repeats: independent recursions, side by side, whose mean is returned.
        seed: of the samples drawn.
        as_released: leave out the division at the end, as the released code of Yang et al. does.

    Raises:
        ValueError: a number outside its range.

    Source: Agarwal, Bullins & Hazan 2017; Koh & Liang 2017; settings of Yang, Chou & Chaudhuri
    2022. By linearity one recursion for a summed gradient does what one for each gradient would.
    """
    if not scale > 0 or not 0 <= damping < 1 or depth < 1 or repeats < 1:
        raise ValueError(
            f"scale is {scale}, damping {damping}, depth {depth}, repeats {repeats}: allowed are "
            "scale above 0, damping in [0, 1), at least one step and one repeat"
        )
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(loss.inputs), (depth, repeats), generator=generator)
    h = g.expand(repeats, -1)
    for drawn in rows.to(g.device):
        h = g + (1 - damping) * h - loss.products_at(h, drawn) / scale
    return h.mean(0) if as_released else h.mean(0) / scale


def group_step(solution: torch.Tensor, samples: int, removed: int) -> torch.Tensor:
    r"""`(p,)`: the step :math:`\frac{1}{N(1 - n/N)} H^{-1} \sum \nabla\ell` that removes a group.

    Args:
        solution: H^-1 (or its damped form) times the group's summed gradient.
        samples: N, the size of the training set with the group.
        removed: n, the size of the group.

    Raises:
        ValueError: no members, or nothing left.

    Source: Yang, Chou & Chaudhuri 2022.

    >>> group_step(torch.tensor([8.0]), samples=10, removed=2)
    tensor([1.])
    """
    if not 0 < removed < samples:
        raise ValueError(
            f"removed is {removed} of {samples} samples: at least one must go and one must stay"
        )
    return solution / (samples - removed)


def length_and_direction(g: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The norm of g `(p,)`, and g over it in single precision; 0 and zeros for a vector of zeros.

    The gradient of a memorised example may be so small that its squares underflow.

    >>> length, direction = length_and_direction(1e-200 * torch.tensor([3.0, 4.0]).double())
    >>> f"{length:.0e}", direction
    ('5e-200', tensor([0.6000, 0.8000]))
    """
    largest = float(g.abs().max())
    if not largest:
        return 0.0, g.float()
    length = float((g / largest).norm())
    return largest * length, (g / largest / length).float()


def moved(model: nn.Module, step: torch.Tensor) -> nn.Module:
    """A copy of the model whose parameters, but for frozen ones, are moved by the step `(p,)`.

    Raises:
        ValueError: a step of another length, or a model that is all frozen.
    """
    copied = copy.deepcopy(model)
    parameters = list(learned(copied).values())
    at = parameters_to_vector(parameters).detach()
    if step.shape != at.shape:
        raise ValueError(
            f"the step has shape {tuple(step.shape)}, the parameters {tuple(at.shape)}"
        )
    vector_to_parameters(at + step, parameters)
    return copied
