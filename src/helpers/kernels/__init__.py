"""What a network sees as similar: Gram blocks, and what is asked of them.

Blocks are made by `random_feature_blocks`, its limit `infinite_width`, `ntk_two_layer`, `relu_ntk`
and, for any torch module, `empirical_ntk` (`ntk_product` only multiplies with it); activations and
their Hermite coefficients are in `hermite`. A block answers how samples align with their queries
(`alignment`), which features lead and what they know (`top_modes`, `eigenfeatures`), and what comes
out of smooth functions of it (`krylov_filters`). Inputs are torch tensors, one sample a row.
"""

# fmt: off
from helpers.kernels import alignment, hermite
from helpers.kernels.availability import Leading, availability, centred_kernel, halfway, leading
from helpers.kernels.eigenfeatures import Eigenfeatures, eigenfeatures, energy_shares
from helpers.kernels.eigenfeatures import first_sign_changing, mode_alignment, predictability
from helpers.kernels.eigenfeatures import shortcut_span
from helpers.kernels.empirical_ntk import empirical_ntk, ntk_product
from helpers.kernels.infinite_width import infinite_width
from helpers.kernels.inputs import symmetric_tile
from helpers.kernels.krylov import krylov_filters, lanczos
from helpers.kernels.modes import Modes, Product, dense_modes, top_modes
from helpers.kernels.random_features import check_width, random_feature_blocks, random_weights
from helpers.kernels.relu_ntk import relu_ntk
from helpers.kernels.two_layer_ntk import ntk_two_layer
