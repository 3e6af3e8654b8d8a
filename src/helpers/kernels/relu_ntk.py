"""Tangent kernel of a fully connected ReLU network of infinite width."""

import math

import torch

from helpers.kernels.inputs import check_inputs, cosines, directions, mirrored


def relu_ntk(
    X: torch.Tensor, X2: torch.Tensor | None = None, depth: int = 1, *, rows: int = 500
) -> torch.Tensor:
    r"""NTK of a fully connected ReLU network of infinite width, all layers trained.

    With u the cosine between two inputs, each hidden layer maps :math:`u \mapsto \kappa(u) =
    (\sqrt{1-u^2} + u(\pi - \arccos u))/\pi` and the tangent kernel :math:`t \mapsto
    t\,(\pi - \arccos u)/\pi + \kappa(u)`, starting from :math:`t = u`. Weights have variance
    2 / fan-in, so that norms pass through every layer unchanged: :math:`K(x, x') = \|x\|\|x'\|t`.
    There are no biases; append a constant coordinate to the inputs for one in the first layer.

    Angles below 3e-4 are lost in float32, those below 1e-8 in float64: such inputs count as one
    direction. An input of zeros has only zeros in its row.

    Args:
        X: `(n, d)` inputs, float32 or float64, on any device; the result has their dtype.
        X2: `(m, d)` inputs, or None for `X` itself.
        depth: number of hidden layers; 0 is the linear kernel.
        rows: rows and columns of the tiles in which the kernel is made, small enough to stay in the
            cache. Beside the result it needs the memory of a few tiles.

    Returns:
        `(n, m)` tensor, symmetric to the last bit if `X2` is None.

    Raises:
        ValueError: as in :func:`random_feature_blocks`; norms whose squares over- or underflow; a
            negative depth.

    Source: Jacot et al. 2018; Cho & Saul 2009. Lim, Kim & Moon 2025 use depth 1.

    >>> relu_ntk(torch.eye(2, dtype=torch.float64)).round(decimals=4).tolist()    # 2 and 1/pi
    [[2.0, 0.3183], [0.3183, 2.0]]
    """
    check_inputs(X, *([] if X2 is None else [X2]))
    if depth < 0 or rows < 1:
        raise ValueError(f"depth is {depth} and rows is {rows}: at least 0 and 1 are needed")
    others = X if X2 is None else X2
    left, right = directions(X), directions(others)
    norms, norms2 = X.norm(dim=1), others.norm(dim=1)
    kernel = X.new_empty(len(X), len(others))
    for i in range(0, len(X), rows):
        for j in range(i if X2 is None else 0, len(others), rows):
            cosine = cosines(left[i : i + rows], right[j : j + rows])
            if X2 is None and i == j:
                cosine = mirrored(cosine)
            tile = _relu_tangent(cosine, depth)
            tile.mul_(norms[i : i + rows, None] * norms2[j : j + rows])
            kernel[i : i + rows, j : j + rows] = tile
            if X2 is None and i != j:
                kernel[j : j + rows, i : i + rows] = tile.T
    return kernel


def _relu_tangent(cosine: torch.Tensor, depth: int) -> torch.Tensor:
    """The tangent t after `depth` layers, from the cosines, which are overwritten."""
    u = cosine.clamp_(-1, 1)
    tangent = u.clone()
    for _ in range(depth):
        angle = torch.acos(u).neg_().add_(math.pi)  # pi - arccos u
        sine = (1 - u).mul_(1 + u).sqrt_()  # more exact near u = 1 than 1 - u^2
        u = sine.addcmul_(u, angle).div_(math.pi)
        tangent = tangent.mul_(angle.div_(math.pi)).add_(u)
    return tangent
