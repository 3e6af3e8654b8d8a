"""The rules of Part I: Bombari & Mondelli 2024, random features, NTK features, trained networks.

Rows are those of the experiments of the same part, one a trial and cell; columns that need a closed
form (the bound, the equivalent, the theorem's constant) are added by the chapter. What a chapter
quotes beside its verdict (a slope, a fall) is a function here too: text and rule agree.
"""

# fmt: off
from helpers.claims.part1.features import (
    above_bound, activation_dial, concentration, degree_effects, degree_on_images, dial_table,
    flatness, image_degree, image_trade_off, leave_one_out, leave_one_out_gap, ntk_constant, paired,
    product_identity, scaled_levels, share, share_effects, spread_slopes, synthetic_trade_off,
    trade_off)
from helpers.claims.part1.memory import (
    appendix_signs, bound_cells, generalisation_bound, network_checks, plain_networks,
    predicted_memory, prediction_errors, residual_networks)
