"""What all kernels ask of their inputs, and how they keep a block symmetric.

Ours.
"""

import math

import torch


def check_real(*inputs: torch.Tensor) -> None:
    """Raise ValueError where inputs are not finite samples of one shape, one real dtype."""
    first = inputs[0]
    for Z in inputs:
        if Z.ndim == 0 or Z.numel() == 0 or Z.shape[1:] != first.shape[1:]:
            shapes = [tuple(z.shape) for z in inputs]
            raise ValueError(
                f"inputs have shapes {shapes}: expected at least one sample, all of the same d"
            )
        real = Z.dtype in (torch.float32, torch.float64)
        if not real or (Z.dtype, Z.device) != (first.dtype, first.device):
            kinds = [f"{z.dtype} on {z.device}" for z in inputs]
            raise ValueError(
                f"inputs have dtypes {kinds}: expected all float32 or all float64, on one device"
            )
        check_finite(Z, "inputs hold")


def check_inputs(*inputs: torch.Tensor) -> None:
    """Raise ValueError where inputs are not finite `(n, d)` of one d and one real dtype."""
    if any(Z.ndim != 2 for Z in inputs):
        raise ValueError(f"inputs have shapes {[tuple(z.shape) for z in inputs]}: expected (n, d)")
    check_real(*inputs)


def check_symmetric(K: torch.Tensor, *, strict: bool = False) -> None:
    """Raise ValueError where K is no finite, symmetric `(n, n)` matrix of float32 or float64.

    Entries may differ by 1e-4 of the largest, and 200 rows of a large matrix are looked at; all of
    them, to a hundred roundings, if `strict`.
    """
    if K.ndim != 2 or K.shape[0] != K.shape[1] or len(K) == 0:
        raise ValueError(f"the kernel has shape {tuple(K.shape)}: expected a square matrix")
    if K.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the kernel has dtype {K.dtype}: expected float32 or float64")
    check_finite(K, "the kernel holds")
    rows = slice(None, None, 1 if strict else max(1, len(K) // 200))
    apart = (K[rows] - K[:, rows].T).abs().max()
    if apart > (100 * torch.finfo(K.dtype).eps if strict else 1e-4) * K[rows].abs().max():
        raise ValueError(f"the kernel is not symmetric: entries differ by {float(apart):.3g}")


def check_no_negative(ascending: torch.Tensor, K: torch.Tensor, lowest: str) -> None:
    """Raise ValueError where the first of these eigenvalues of K is negative beyond rounding."""
    low, top = float(ascending[0]), float(ascending[-1])
    if low < -len(K) * torch.finfo(K.dtype).eps * abs(top):
        raise ValueError(
            f"{lowest} is {low:.3g} against a largest of {top:.3g}: a kernel has none below 0, "
            "apart from rounding"
        )


def check_finite(values: torch.Tensor, what: str) -> None:
    """Raise ValueError where there are NaN or infinity."""
    # a sum is cheaper to look at, and not finite when an entry is not
    if not (torch.isfinite(values.sum()) or torch.isfinite(values).all()):
        raise ValueError(f"{what} values that are not finite (NaN or infinity)")


def directions(Z: torch.Tensor) -> torch.Tensor:
    """Rows `(n, d)` at length 1; rows of zeros stay.

    Raises:
        ValueError: a row that is not zero, with a length whose square is no normal number.
    """
    norms, limits = Z.norm(dim=1, keepdim=True), torch.finfo(Z.dtype)
    low, high = math.sqrt(limits.tiny / limits.eps), math.sqrt(limits.max)
    if not (((norms >= low) & (norms <= high)) | ~Z.any(dim=1, keepdim=True)).all():
        raise ValueError(
            f"inputs have lengths from {float(norms.min()):.3g} to {float(norms.max()):.3g}: "
            f"{Z.dtype} can square those from {low:.1g} to {high:.1g} (and 0); rescale the inputs"
        )
    return Z / torch.where(norms > 0, norms, torch.ones_like(norms))


def cosines(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Cosines `(n, m)` of :func:`directions`; of the same or opposite ones, exactly 1 or -1.

    A product is off by a few roundings, and an angle near 0 by the root of that: kernels with a
    kink or jump would tell duplicates apart. There it is taken from the difference of the rows.
    """
    cosine = left @ right.T
    near = (100 + math.sqrt(left.shape[1])) * torch.finfo(left.dtype).eps  # of 1: only rounding
    pairs = (cosine.abs() > 1 - near).nonzero()
    for i, j in (part.T for part in pairs.split(1 + 2**22 // left.shape[1])):  # bounds the memory
        side = cosine[i, j].sign()
        apart = left[i] - side[:, None] * right[j]
        cosine[i, j] = side * (1 - apart.square().sum(1) / 2)
    return cosine


def mirrored(block: torch.Tensor) -> torch.Tensor:
    """The upper half on both sides: some processors round the halves of a product differently."""
    return block.triu().add_(block.triu(1).T)


def symmetric_tile(n: int) -> int:
    """Edge of the tiles in which the upper half of a symmetric `(n, n)` block is computed."""
    return max(128, -(-n // 4))


def inner_products(Z: torch.Tensor) -> torch.Tensor:
    """`Z @ Z.T`, of which only the tiles on and above the diagonal are computed."""
    tile = symmetric_tile(len(Z))
    product = Z.new_empty(len(Z), len(Z))
    for start in range(0, len(Z), tile):
        stop = min(start + tile, len(Z))
        torch.mm(Z[:stop], Z[start:stop].T, out=product[:stop, start:stop])
        edge = product[start:stop, start:stop]
        edge.copy_(mirrored(edge))
        product[start:stop, :start] = product[:start, start:stop].T
    return product
