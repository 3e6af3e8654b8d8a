"""What all kernels ask of their inputs, and how they keep a block symmetric.

Ours.
"""

import torch


def check_real(*inputs: torch.Tensor) -> None:
    """Raise ValueError where inputs are empty, not float32 or float64, or not finite."""
    for Z in inputs:
        if len(Z) == 0 or Z.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"inputs have shape {tuple(Z.shape)} and dtype {Z.dtype}: expected at least one "
                "sample of float32 or float64"
            )
        _check_finite(Z, "inputs hold")


def check_inputs(*inputs: torch.Tensor) -> None:
    """Raise ValueError where inputs are not finite `(n, d)` of one d and one real dtype."""
    first = inputs[0]
    for Z in inputs:
        if Z.ndim != 2 or Z.shape[1] != first.shape[1] or len(Z) == 0:
            shapes = [tuple(z.shape) for z in inputs]
            raise ValueError(f"inputs have shapes {shapes}: expected non-empty (n, d), the same d")
        if Z.dtype not in (torch.float32, torch.float64) or Z.dtype != first.dtype:
            kinds = [str(z.dtype) for z in inputs]
            raise ValueError(f"inputs have dtypes {kinds}: expected all float32 or all float64")
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
    _check_finite(K, "the kernel holds")
    rows = slice(None, None, 1 if strict else max(1, len(K) // 200))
    apart = (K[rows] - K[:, rows].T).abs().max()
    if apart > (100 * torch.finfo(K.dtype).eps if strict else 1e-4) * K[rows].abs().max():
        raise ValueError(f"the kernel is not symmetric: entries differ by {float(apart):.3g}")


def _check_finite(values: torch.Tensor, what: str) -> None:
    # a sum is cheaper to look at, and not finite when an entry is not
    if not (torch.isfinite(values.sum()) or torch.isfinite(values).all()):
        raise ValueError(f"{what} values that are not finite (NaN or infinity)")


def directions(Z: torch.Tensor) -> torch.Tensor:
    """Rows `(n, d)` at length 1; rows of zeros stay."""
    norms = Z.norm(dim=1, keepdim=True)
    return Z / torch.where(norms > 0, norms, torch.ones_like(norms))


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
