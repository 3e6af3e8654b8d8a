r"""Kernels of random features and of neural tangents, at finite and at infinite width.

The random-features map is :math:`\varphi_{RF}(z) = \phi(Vz)` with :math:`V \in R^{k \times d}`
and independent entries :math:`V_{ij} \sim N(0, 1/d)` (Bombari & Mondelli 2024, Section 5); the
NTK features of a two-layer network are :math:`\varphi_{NTK}(z) = z \otimes \phi'(Wz)` with W drawn
like V (Section 6). Gram blocks are divided by the width :math:`k` (and by d for the NTK), so that
the limit :math:`k \to \infty` exists.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from helpers.hermite import Activation, basis_at_nodes, quadrature, resolve

# Neurons that share one random stream: weights do not depend on how many are held at a time.
_STREAM = 256
_SERIES_DEGREE = 60


def random_features(
    Z: torch.Tensor,
    Z2: torch.Tensor | None = None,
    *,
    activation: str | Activation,
    width: int,
    seed: int,
    chunk: int = 1024,
) -> torch.Tensor:
    r"""Gram block :math:`\phi(ZV^\top)\phi(Z_2V^\top)^\top / k` of `width` random features.

    Args:
        Z: `(n, d)` inputs, float32 or float64, on any device; the result has their dtype.
        Z2: `(m, d)` inputs, or None for the symmetric block of `Z` with itself.
        activation: a name of :func:`helpers.hermite.resolve`, or a callable on torch tensors.
        width: number of neurons k.
        seed: seed of V. Same seed, same device, same dtype: same features, whatever `chunk`.
        chunk: neurons held in memory at a time, rounded up to a multiple of 256.

    Returns:
        `(n, m)` tensor.

    Raises:
        ValueError: shapes, dtypes or values that no kernel can be made of.

    >>> z = torch.eye(2, dtype=torch.float64)
    >>> random_features(z, activation="linear", width=200_000, seed=0).round(decimals=2).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    if Z2 is None:
        return random_feature_blocks(Z, activation=activation, width=width, seed=seed, chunk=chunk)[
            0
        ]
    _check_inputs(Z, Z2)
    gram = Z.new_zeros(len(Z), len(Z2))
    stacked = torch.cat([Z, Z2])
    for features in _features(stacked, activation, width, seed, chunk):
        gram.addmm_(features[: len(Z)], features[len(Z) :].T)
    return gram.div_(width)


def random_feature_blocks(
    Z: torch.Tensor,
    *queries: torch.Tensor,
    activation: str | Activation,
    width: int,
    seed: int,
    chunk: int = 1024,
) -> list[torch.Tensor]:
    """All Gram blocks that a regression on `Z` needs, from one pass over the features.

    Args:
        Z: `(n, d)` training inputs.
        queries: any number of `(m_i, d)` inputs at which the model will be evaluated.
        activation, width, seed, chunk: as in :func:`random_features`.

    Returns:
        `[K, K_1, K_2, …]`: the symmetric `(n, n)` block and one `(m_i, n)` block for each query.

    Raises:
        ValueError: as in :func:`random_features`.
    """
    _check_inputs(Z, *queries)
    n, rows = len(Z), torch.cat([Z, *queries])
    gram = Z.new_zeros(len(rows), n)
    # The training block is symmetric: below its diagonal tiles nothing need be computed.
    tile = symmetric_tile(n)
    for features in _features(rows, activation, width, seed, chunk):
        for start in range(0, n, tile):
            stop = min(start + tile, n)
            gram[:stop, start:stop].addmm_(features[:stop], features[start:stop].T)
        if len(rows) > n:
            gram[n:].addmm_(features[n:], features[:n].T)
    gram.div_(width)
    train = _mirrored(gram[:n])
    return [train, *gram[n:].split([len(q) for q in queries])]


def symmetric_tile(n: int) -> int:
    """Edge of the tiles in which the upper half of a symmetric `(n, n)` block is computed."""
    return max(128, -(-n // 4))


def _features(
    rows: torch.Tensor, activation: str | Activation, width: int, seed: int, chunk: int
) -> Iterator[torch.Tensor]:
    """Feature matrices `(len(rows), c)`, chunk by chunk, until `width` neurons are used up."""
    if width < 1 or chunk < 1:
        raise ValueError(f"width is {width} and chunk is {chunk}: both must be at least 1")
    phi = resolve(activation)
    chunk = min(-(-chunk // _STREAM) * _STREAM, width)
    rows = rows / math.sqrt(rows.shape[1])
    weights = rows.new_empty(chunk, rows.shape[1])
    features = rows.new_empty(len(rows), chunk)

    for start in range(0, width, chunk):
        size = min(chunk, width - start)
        _draw(weights[:size], start, seed)
        torch.mm(rows, weights[:size].T, out=features[:, :size])
        yield phi(features[:, :size])


def _draw(weights: torch.Tensor, first: int, seed: int) -> None:
    """Fill rows with the N(0, 1) weights of neurons `first`, …; `first` is a multiple of 256."""

    def stream(start: int) -> None:
        block = weights[start : start + _STREAM]
        block.normal_(generator=_generator(seed, first + start, weights.device))

    # One stream draws on one core only: two at a time keep a small machine busy.
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(stream, range(0, len(weights), _STREAM)))


def random_weights(
    width: int,
    dim: int,
    *,
    seed: int,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """The weights V or W that the kernels of this module use: `(width, dim)`, N(0, 1/dim).

    For building the network itself, or its features, next to its kernel.

    >>> W = random_weights(1_000, 4, seed=0)
    >>> tuple(W.shape), round(float(W.var()), 2)
    ((1000, 4), 0.25)
    """
    if width < 1 or dim < 1:
        raise ValueError(f"width is {width} and dim is {dim}: both must be at least 1")
    weights = torch.empty(width, dim, dtype=dtype, device=device)
    _draw(weights, 0, seed)
    return weights.div_(math.sqrt(dim))


def _generator(seed: int, block: int, device: torch.device) -> torch.Generator:
    state = int(np.random.SeedSequence([seed, block]).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device=device).manual_seed(state)


def _check_real(*inputs: torch.Tensor) -> None:
    for Z in inputs:
        if len(Z) == 0 or Z.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"inputs have shape {tuple(Z.shape)} and dtype {Z.dtype}: expected at least one "
                "sample of float32 or float64"
            )
        # a sum is cheaper to look at, and not finite when an entry is not
        if not (torch.isfinite(Z.sum()) or torch.isfinite(Z).all()):
            raise ValueError("inputs hold values that are not finite (NaN or infinity)")


def _check_inputs(*inputs: torch.Tensor) -> None:
    first = inputs[0]
    for Z in inputs:
        if Z.ndim != 2 or Z.shape[1] != first.shape[1] or len(Z) == 0:
            shapes = [tuple(z.shape) for z in inputs]
            raise ValueError(f"inputs have shapes {shapes}: expected non-empty (n, d), the same d")
        if Z.dtype not in (torch.float32, torch.float64) or Z.dtype != first.dtype:
            kinds = [str(z.dtype) for z in inputs]
            raise ValueError(f"inputs have dtypes {kinds}: expected all float32 or all float64")
    _check_real(*inputs)


def infinite_width(
    Z: torch.Tensor, Z2: torch.Tensor | None = None, *, activation: str | Activation
) -> torch.Tensor:
    r"""The limit :math:`E_v[\phi(v^\top z)\phi(v^\top z')]`, :math:`v \sim N(0, I/d)`.

    By Mehler's formula the expectation is :math:`\sum_l c_l(s)\, c_l(s')\, r^l` with
    :math:`c_l(s) = E[\phi(st)h_l(t)]`, :math:`s = |z|/\sqrt d` and r the cosine of the
    angle. ReLU and step use the arc-cosine closed forms (Cho & Saul 2009); other activations the
    series up to degree 60, whose remainder at r = 1 is known exactly and is added there.

    Args:
        Z: `(n, d)` inputs, float32 or float64; the result has their dtype.
        Z2: `(m, d)` inputs, or None for `Z` itself.
        activation: a name of :func:`helpers.hermite.resolve`, or a callable on torch tensors.

    Returns:
        `(n, m)` tensor.

    Raises:
        ValueError: as in :func:`random_features`, or an activation whose series has not converged
            at these norms (more than 1e-3 of its weight beyond degree 60).

    >>> z = torch.eye(2, dtype=torch.float64) * 2**0.5          # unit variance, orthogonal
    >>> infinite_width(z, activation="relu").round(decimals=4).tolist()     # 1/2 and 1/(2 pi)
    [[0.5, 0.1592], [0.1592, 0.5]]
    """
    symmetric = Z2 is None
    Z2 = Z if symmetric else Z2
    _check_inputs(Z, Z2)
    scale, scale2 = (z.norm(dim=1) / math.sqrt(z.shape[1]) for z in (Z, Z2))
    cosine = _directions(Z) @ _directions(Z2).T
    if symmetric:
        cosine.fill_diagonal_(1)
    cosine.clamp_(-1, 1)
    if activation == "relu":
        angle = torch.acos(cosine)
        shape = torch.sin(angle) + (math.pi - angle) * cosine
        return shape * scale[:, None] * scale2 / (2 * math.pi)
    if activation == "step":
        return 0.5 - torch.acos(cosine) / (2 * math.pi)
    return _mehler(cosine, scale, scale2, activation)


def _directions(Z: torch.Tensor) -> torch.Tensor:
    norms = Z.norm(dim=1, keepdim=True)
    return Z / torch.where(norms > 0, norms, torch.ones_like(norms))


def _mehler(
    cosine: torch.Tensor, scale: torch.Tensor, scale2: torch.Tensor, activation: str | Activation
) -> torch.Tensor:
    left, moment = _scaled_coefficients(scale, activation)
    right, moment2 = _scaled_coefficients(scale2, activation)
    gram = torch.zeros_like(cosine)
    for order in range(_SERIES_DEGREE, -1, -1):
        gram.mul_(cosine).addr_(left[order].to(cosine), right[order].to(cosine))
    missing = (moment - left.square().sum(0)).clamp(min=0)
    worst = float((missing / moment.clamp(min=1e-300)).max())
    if worst > 1e-3:
        raise ValueError(
            f"activation {activation!r} keeps {worst:.1%} of its weight beyond Hermite degree "
            f"{_SERIES_DEGREE} at input norms up to {float(scale.max()):.3g} sqrt(d): rescale the "
            "inputs to norms near sqrt(d), or use a finite width"
        )
    same = cosine == 1
    missing2 = (moment2 - right.square().sum(0)).clamp(min=0)
    rest = torch.sqrt(missing[:, None] * missing2).to(cosine)
    return gram + torch.where(same, rest, torch.zeros_like(gram))


def _scaled_coefficients(
    scale: torch.Tensor, activation: str | Activation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients `(degree + 1, n)` and second moments `(n,)` of t -> activation(scale t)."""
    nodes, weights = quadrature()
    scales, position = torch.unique(scale.double().cpu(), return_inverse=True)
    values = resolve(activation)(scales[:, None] * nodes)
    table = (basis_at_nodes(_SERIES_DEGREE) * weights) @ values.T
    return table[:, position], (values.square() @ weights)[position]


# -- neural tangents ------------------------------------------------------------------------------


def ntk_two_layer(
    Z: torch.Tensor,
    Z2: torch.Tensor | None = None,
    *,
    derivative: str | Activation,
    width: float,
    seed: int = 0,
) -> torch.Tensor:
    r"""NTK block of the first layer of :math:`\sum_i \phi(w_i^\top z)`, divided by :math:`d k`.

    The features :math:`z \otimes \phi'(Wz)` have d k entries each and are never made, since their
    inner product is a product of two: :math:`\langle z, z'\rangle
    \langle \phi'(Wz), \phi'(Wz')\rangle`, the Hadamard product of two small Gram blocks.

    Args:
        Z: `(n, d)` inputs, float32 or float64, on any device; the result has their dtype.
        Z2: `(m, d)` inputs, or None for `Z` itself.
        derivative: phi', a name of :func:`helpers.hermite.resolve` (such as `"h0+h3"`, or `"step"`
            for ReLU), or a callable on torch tensors.
        width: number of hidden units k, or infinity for the limit.
        seed: seed of W, see :func:`random_weights`; without effect at infinite width.

    Returns:
        `(n, m)` tensor.

    Raises:
        ValueError: as in :func:`random_features` and :func:`infinite_width`.

    Source: Bombari & Mondelli 2024, Section 6; Jacot et al. 2018.

    >>> z = torch.eye(2, dtype=torch.float64) * 2**0.5          # unit variance, orthogonal
    >>> ntk_two_layer(z, derivative="step", width=math.inf).round(decimals=4).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    if math.isinf(width):
        slopes = infinite_width(Z, Z2, activation=derivative)
    else:
        slopes = _slopes_gram(Z, Z2, derivative, int(width), seed)
    return slopes.mul_(_symmetric_product(Z) if Z2 is None else Z @ Z2.T).div_(Z.shape[1])


def _slopes_gram(
    Z: torch.Tensor, Z2: torch.Tensor | None, derivative: str | Activation, width: int, seed: int
) -> torch.Tensor:
    """Gram block of phi'(Wz) / sqrt(k); unlike random features, few neurons on wide inputs."""
    _check_inputs(Z, *([] if Z2 is None else [Z2]))
    if width < 1:
        raise ValueError(f"width is {width}: must be at least 1")
    phi = resolve(derivative)
    gram = Z.new_zeros(len(Z), len(Z if Z2 is None else Z2))
    for start in range(0, width, 4 * _STREAM):
        W = Z.new_empty(min(4 * _STREAM, width - start), Z.shape[1])
        _draw(W, start, seed)
        W.div_(math.sqrt(Z.shape[1]))
        left = phi(Z @ W.T)
        gram.addmm_(left, (left if Z2 is None else phi(Z2 @ W.T)).T)
    gram.div_(width)
    return _mirrored(gram) if Z2 is None else gram


def _symmetric_product(Z: torch.Tensor) -> torch.Tensor:
    """`Z @ Z.T`, of which only the tiles on and above the diagonal are computed."""
    tile = symmetric_tile(len(Z))
    product = Z.new_empty(len(Z), len(Z))
    for start in range(0, len(Z), tile):
        stop = min(start + tile, len(Z))
        torch.mm(Z[:stop], Z[start:stop].T, out=product[:stop, start:stop])
        edge = product[start:stop, start:stop]
        edge.copy_(_mirrored(edge))
        product[start:stop, :start] = product[:start, start:stop].T
    return product


def _mirrored(block: torch.Tensor) -> torch.Tensor:
    """The upper half on both sides: some processors round the halves of a product differently."""
    return block.triu().add_(block.triu(1).T)


def empirical_ntk(
    model: torch.nn.Module,
    X: torch.Tensor,
    X2: torch.Tensor | None = None,
    *,
    memory: float = 2**28,
) -> torch.Tensor:
    r"""NTK of any torch module: :math:`\nabla_\theta f(x) \cdot \nabla_\theta f(x')`.

    All parameters with `requires_grad` count. Gradients of one sample at a time are stacked for as
    many samples as fit into `memory` and multiplied block by block.

    Args:
        model: a module with one output a sample; put it in eval mode if it normalises batches.
        X: `(n, …)` inputs in the dtype and on the device of the parameters.
        X2: `(m, …)` inputs, or None for `X` itself.
        memory: bytes for each of the two stacks of gradients.

    Returns:
        `(n, m)` tensor, not divided by anything.

    Raises:
        ValueError: no trainable parameters, more than one output a sample, a batch normalisation or
            dropout in train mode (there is no gradient of one sample then), inputs that are not
            finite reals.

    Source: Jacot et al. 2018; per-sample gradients by `torch.func`.

    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> empirical_ntk(layer, torch.tensor([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[5.0, 2.0], [2.0, 1.0]]
    """
    X2_, symmetric = (X, True) if X2 is None else (X2, False)
    _check_real(X, X2_)
    gradients, count = _sample_gradients(model, X)
    rows = max(1, int(memory / (count * X.element_size())))
    kernel = X.new_zeros(len(X), len(X2_))
    for i in range(0, len(X), rows):
        left = gradients(X[i : i + rows])
        for j in range(i if symmetric else 0, len(X2_), rows):
            right = left if symmetric and i == j else gradients(X2_[j : j + rows])
            block = left @ right.T
            kernel[i : i + rows, j : j + rows] = block
            if symmetric and i != j:
                kernel[j : j + rows, i : i + rows] = block.T
    return kernel


def _sample_gradients(
    model: torch.nn.Module, X: torch.Tensor
) -> tuple[Callable[[torch.Tensor], torch.Tensor], int]:
    """A function from inputs to flat gradients `(n, p)`, and p."""
    outputs, learned = _scalar_outputs(model, X)
    one = torch.func.grad(lambda parameters, x: outputs(parameters, x[None]).squeeze())

    def gradients(inputs: torch.Tensor) -> torch.Tensor:
        found = torch.func.vmap(one, in_dims=(None, 0), randomness="error")(learned, inputs)
        return torch.cat([g.flatten(1) for g in found.values()], 1)

    return gradients, sum(p.numel() for p in learned.values())


def _scalar_outputs(
    model: torch.nn.Module, X: torch.Tensor
) -> tuple[Callable[[dict[str, torch.Tensor], torch.Tensor], torch.Tensor], dict]:
    """A function from parameters and inputs to outputs `(n,)`, and the trainable parameters."""
    learned = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not learned:
        raise ValueError("the model has no trainable parameters: it has no tangent kernel")
    training = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.training
    ]
    if training:
        raise ValueError(
            f"{type(model).__name__} is in train mode and layer {training[0]!r} normalises over "
            "the batch, so outputs have no gradient of their own: call model.eval() first"
        )
    dropping = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.training and module.p
    ]
    if dropping:
        raise ValueError(
            f"{type(model).__name__} is in train mode and layer {dropping[0]!r} drops units at "
            "random, so its outputs are no function of the parameters: call model.eval() first"
        )
    with torch.no_grad():
        shape = tuple(model(X[:1]).shape)
    if math.prod(shape) != 1:
        raise ValueError(
            f"the model returns shape {shape} for one sample: expected a single number; wrap it so "
            "that it returns one output, for instance one class minus another"
        )
    fixed = {
        name: tensor.detach()
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if name not in learned
    }

    def outputs(parameters: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        found = torch.func.functional_call(model, {**parameters, **fixed}, inputs)
        return found.reshape(len(inputs))

    return outputs, learned


def relu_ntk(
    X: torch.Tensor, X2: torch.Tensor | None = None, depth: int = 1, *, rows: int = 500
) -> torch.Tensor:
    r"""NTK of a fully connected ReLU network of infinite width, all layers trained.

    With u the cosine between two inputs, each hidden layer maps :math:`u \mapsto \kappa(u) =
    (\sqrt{1-u^2} + u(\pi - \arccos u))/\pi` and the tangent kernel :math:`t \mapsto
    t\,(\pi - \arccos u)/\pi + \kappa(u)`, starting from :math:`t = u`. Weights have variance
    2 / fan-in, so that norms pass through every layer unchanged: :math:`K(x, x') = \|x\|\|x'\|t`.
    There are no biases; append a constant coordinate to the inputs for one in the first layer.

    Angles below 3e-4 are lost in float32. The diagonal is exact, but a query that equals a training
    input gives an entry that is off by up to 1e-4 of it; float64 has 1e-8 there.

    Args:
        X: `(n, d)` inputs, float32 or float64, on any device; the result has their dtype.
        X2: `(m, d)` inputs, or None for `X` itself.
        depth: number of hidden layers; 0 is the linear kernel.
        rows: rows and columns of the tiles in which the kernel is made, small enough to stay in the
            cache. Beside the result it needs the memory of a few tiles.

    Returns:
        `(n, m)` tensor, symmetric to the last bit if `X2` is None.

    Raises:
        ValueError: as in :func:`random_features`; a negative depth.

    Source: Jacot et al. 2018; Cho & Saul 2009. Lim, Kim & Moon 2025 use depth 1.

    >>> relu_ntk(torch.eye(2, dtype=torch.float64)).round(decimals=4).tolist()    # 2 and 1/pi
    [[2.0, 0.3183], [0.3183, 2.0]]
    """
    _check_inputs(X, *([] if X2 is None else [X2]))
    if depth < 0 or rows < 1:
        raise ValueError(f"depth is {depth} and rows is {rows}: at least 0 and 1 are needed")
    others = X if X2 is None else X2
    left, right = _directions(X), _directions(others)
    norms, norms2 = X.norm(dim=1), others.norm(dim=1)
    kernel = X.new_empty(len(X), len(others))
    for i in range(0, len(X), rows):
        for j in range(i if X2 is None else 0, len(others), rows):
            cosine = left[i : i + rows] @ right[j : j + rows].T
            if X2 is None and i == j:
                cosine = _mirrored(cosine).fill_diagonal_(1)
            tile = _relu_tangent(cosine, depth)
            tile.mul_(norms[i : i + rows, None] * norms2[j : j + rows])
            kernel[i : i + rows, j : j + rows] = tile
            if X2 is None and i != j:
                kernel[j : j + rows, i : i + rows] = tile.T
    return kernel


def _relu_tangent(cosine: torch.Tensor, depth: int) -> torch.Tensor:
    """t after `depth` layers, from the cosines, which are overwritten."""
    u = cosine.clamp_(-1, 1)
    tangent = u.clone()
    for _ in range(depth):
        angle = torch.acos(u).neg_().add_(math.pi)  # pi - arccos u
        sine = (1 - u).mul_(1 + u).sqrt_()  # more exact near u = 1 than 1 - u^2
        u = sine.addcmul_(u, angle).div_(math.pi)
        tangent = tangent.mul_(angle.div_(math.pi)).add_(u)
    return tangent


def ntk_product(
    model: torch.nn.Module, X: torch.Tensor, *, batch: int = 256
) -> Callable[[torch.Tensor], torch.Tensor]:
    r"""Products with the empirical NTK of a module, without the kernel or its gradients.

    :math:`K v = J (J^\top v)` with J the Jacobian of the outputs: one backward pass for
    :math:`J^\top v`, one forward-mode pass for the rest. For :func:`helpers.spectra.top_modes`.

    Args:
        model: a module with one output a sample, in eval mode if it normalises batches.
        X: `(n, …)` inputs in the dtype and on the device of the parameters.
        batch: samples in one pass.

    Returns:
        A function from `(n,)` or `(n, b)` to the product, of the same shape. It raises ValueError
        for another shape.

    Raises:
        ValueError: as in :func:`empirical_ntk`.

    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> product = ntk_product(layer, torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
    >>> product(torch.tensor([1.0, 0.0])).tolist()
    [5.0, 2.0]
    """
    _check_real(X)
    outputs, learned = _scalar_outputs(model, X)
    with warnings.catch_warnings():  # torch's own rules for forward mode use its old compiler
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")

    def one(vector: torch.Tensor) -> torch.Tensor:
        pulled = {name: torch.zeros_like(p) for name, p in learned.items()}
        for rows, part in zip(X.split(batch), vector.split(batch), strict=True):
            _, pull = torch.func.vjp(lambda p, rows=rows: outputs(p, rows), learned)
            for name, gradient in pull(part)[0].items():
                pulled[name] += gradient
        pushed = [
            torch.func.jvp(lambda p, rows=rows: outputs(p, rows), (learned,), (pulled,))[1]
            for rows in X.split(batch)
        ]
        return torch.cat(pushed)

    def product(block: torch.Tensor) -> torch.Tensor:
        if block.ndim not in (1, 2) or len(block) != len(X):
            raise ValueError(
                f"vector has shape {tuple(block.shape)}: expected ({len(X)},) or ({len(X)}, b)"
            )
        block = block.to(X)
        if block.ndim == 1:
            return one(block)
        return torch.stack([one(column) for column in block.T], 1)

    return product


def check_width(samples: int, width: float) -> None:
    """A feature Gram matrix of N samples has rank at most k: interpolation needs N <= k.

    Raises:
        ValueError: `samples` exceeds `width`.

    >>> check_width(20, 10)
    Traceback (most recent call last):
    ValueError: 20 training samples but only 10 features: the kernel is singular; \
interpolation needs at least as many features as samples
    """
    if samples > width:
        raise ValueError(
            f"{samples} training samples but only {width} features: the kernel is singular; "
            "interpolation needs at least as many features as samples"
        )
