r"""How long the kernel and its leading modes take, next to what the machine could do at best.

The floors are measured right before, in a process of their own: the rate of a large matrix product,
and the bandwidth of copying an array that fits no cache. Then

* the *arithmetic* of the kernel is :math:`n^2(2d + 60)/2` operations (one half of a symmetric
  matrix, 60 for the elementwise functions of an entry); that of a solver is 2 operations for each
  entry and vector;
* the *traffic* is what has to cross memory: each half entry of the kernel is written once and its
  mirror image once; a solver reads the matrix, or one half of it, once a pass.

A floor is the larger of the two times.
"""

import math
import warnings
from functools import partial

import torch
from scipy.sparse.linalg import LinearOperator, lobpcg

from helpers import kernels
from helpers.experiments.performance.clock import TIMED, apart, peak, timed
from helpers.sweep import Call, Cell, experiment, grid, pick

ELEMENTWISE = 60  # operations of an entry's functions, as if each counted like a multiplication
_BYTES = 4


def inputs(samples: int, dim: int, seed: int) -> torch.Tensor:
    """Digits as far as a kernel can tell: a decaying spectrum and one strong two-valued direction.

    Returns `(n, d)` float32.
    """
    draw = torch.Generator().manual_seed(seed)
    scales = 3 / torch.arange(1, dim + 1).float()
    X = torch.randn(samples, dim, generator=draw) * scales.sqrt()
    X[:, 0] = 3 * torch.sign(X[:, 0])
    return X


def product_rate(size: int, dim: int) -> float:
    """Operations a second of a float32 product with the shapes of the kernel's tiles."""
    left = torch.randn(size, dim)
    times = [timed(partial(torch.mm, left, left.T))[0] for _ in range(4)]
    return 2 * size * size * dim / min(times[1:])


def bandwidth(entries: int) -> float:
    """Bytes a second read and written by copying this many float32 numbers."""
    source = torch.zeros(entries)
    target = torch.empty_like(source)
    times = [timed(partial(target.copy_, source))[0] for _ in range(4)]
    return 2 * _BYTES * entries / min(times[1:])


def by_lobpcg(K: torch.Tensor, modes: int, tolerance: float, seed: int) -> kernels.Modes:
    """The same modes by scipy's LOBPCG, a third way: a block with three times its width kept."""
    reads = 0

    def product(block):
        nonlocal reads
        reads += 1
        return (K @ torch.from_numpy(block).to(K)).numpy()

    n = len(K)
    start = torch.randn(n, modes + 5, generator=torch.Generator().manual_seed(seed))
    operator = LinearOperator((n, n), matvec=product, matmat=product, dtype="float32")
    top = float((K @ torch.ones(n) / math.sqrt(n)).norm())
    with warnings.catch_warnings():  # it warns of the extra columns, which need not converge
        warnings.simplefilter("ignore", UserWarning)
        values, vectors = lobpcg(operator, start.numpy(), tol=tolerance * top, maxiter=60)
    found = torch.from_numpy(vectors[:, :modes].copy())
    return kernels.Modes(torch.from_numpy(values[:modes].copy()), found, reads)


def _measure(samples: int, dim: int, modes: int, seed: int) -> dict[str, float]:
    """Kernel and solvers in a process of their own, so that its peak memory is theirs."""
    kernels.top_modes(kernels.relu_ntk(inputs(64, dim, seed)), 3)  # libraries loaded
    found: dict[str, float] = {}
    X = inputs(samples, dim, seed)
    before = peak()
    found["kernel_seconds"], K = timed(partial(kernels.relu_ntk, X))
    found["kernel_memory"] = peak() - before
    best = None
    for name, tolerance in (("lanczos", 1e-6), ("subspace", 1e-5)):
        work = partial(kernels.top_modes, K, modes, solver=name, tolerance=tolerance, seed=seed)
        found[f"{name}_seconds"], modes_found = timed(work)
        best = best or modes_found
        found |= _checked(name, K, modes_found, best)
    found["memory"] = peak() - before
    work = partial(by_lobpcg, K, modes, 1e-5, seed)
    found["lobpcg_seconds"], modes_found = timed(work)
    return found | _checked("lobpcg", K, modes_found, best)


def _machine(samples: int, dim: int) -> dict[str, float]:
    """What the machine does at best, in the shapes of the problem."""
    moved = max(samples**2 // 2, 2**22)
    return {"rate": product_rate(min(samples, 2_000), dim), "bandwidth": bandwidth(moved)}


def _checked(
    name: str, K: torch.Tensor, found: kernels.Modes, best: kernels.Modes
) -> dict[str, float]:
    """Passes over the matrix, the largest residual, and how far eigenvalues are from Lanczos'."""
    residual = (K @ found.vectors - found.vectors * found.values).norm(dim=0).max()
    top = best.values[0]
    return {
        f"{name}_reads": found.reads,
        f"{name}_residual": float(residual / top),
        f"{name}_apart": float((found.values - best.values).abs().max() / top),
    }


def floors(samples: int, dim: int, modes: int, row: dict[str, float]) -> dict[str, float]:
    """Seconds below which this machine cannot make the kernel, or run each solver's passes."""
    entries, width = samples**2, modes + max(5, modes // 4)

    def floor(operations: float, numbers: float) -> float:
        return max(operations / row["rate"], _BYTES * numbers / row["bandwidth"])

    # Lanczos reads half the matrix a pass, the blocked ways all of it
    return {
        "kernel_floor": floor(entries * (2 * dim + ELEMENTWISE) / 2, entries),
        "lanczos_floor": row["lanczos_reads"] * floor(entries * 2, entries / 2),
        "subspace_floor": row["subspace_reads"] * floor(entries * 2 * width, entries),
    }


def _cells(profile: str) -> list[Cell]:
    sizes, trials, modes = pick(
        profile,
        ((400,), 1, 5),
        ((1_000, 2_000, 4_000, 10_000), 3, 20),
        ((1_000, 2_000, 4_000, 10_000, 20_000), 5, 20),
    )
    return grid(samples=sizes, dim=784, modes=modes, trial=range(trials))


@experiment("spectra_performance", cells=_cells, **TIMED)
def spectra_performance(call: Call) -> dict[str, float]:
    """Seconds, memory beyond the inputs (GiB), passes and floors of kernel and solvers, float32."""
    size = call.samples, call.dim
    row = apart(_machine, *size) | apart(_measure, *size, call.modes, call.trial)
    return row | floors(*size, call.modes, row)
