"""Closed forms of the book, one file a paper.

Part I: the alignment of random and NTK features (`gamma_rf`, `gamma_ntk` and what is around them;
`bombari2024`), at any number of samples (`gamma_staircase`; `staircase`) and image by image
(`alignment_by_image`; `images`). Part II: a linear model with rare spurious examples
(`rare_linear`; `yang2022`).
Part IV: linear networks on Gaussian mixtures (`two_axis`, `mixture_spectrum`, what few samples do;
`lim2025`). Behind all of them: kernel ridge regression as a smoother, and the one ridge that its
samples feel (`smoother`, handed on as a module). Numbers in, numbers out; where arrays are allowed
they are broadcast.
"""

# fmt: off
from helpers.theory import smoother
from helpers.theory.bombari2024 import QUERIES, alignment_sd, gamma_ntk, gamma_rf, gamma_rf_bound
from helpers.theory.bombari2024 import gamma_rf_cores
from helpers.theory.images import alignment_by_image
from helpers.theory.lim2025 import MixtureSpectrum, Spike, TwoAxis, check_mixture, check_two_axis
from helpers.theory.lim2025 import effective_ridge, flip_rule, linear_accuracies, mixture_spectrum
from helpers.theory.lim2025 import two_axis, visible_spike
from helpers.theory.ranges import Numbers
from helpers.theory.staircase import gamma_staircase, gamma_staircase_ntk
from helpers.theory.yang2022 import RareLinear, rare_linear
