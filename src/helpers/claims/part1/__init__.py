"""The rules of Part I: Bombari & Mondelli 2024, random features, NTK features, trained networks.

Rows are those of the experiments of the same part, one a trial and cell; columns that need a closed
form (the bound, the law, the theorem's constant) are added by the chapter. What a chapter
quotes beside its verdict (a slope, a fall) is a function here too: text and rule agree.
"""

# fmt: off
from helpers.claims.part1.features import (
    above_bound, activation_dial, alignment_table, changes, concentration, degree_on_images,
    dial_table, flatness, image_degree, leave_one_out, leave_one_out_gap, ntk_constant,
    product_identity, relative_spread, scaled_levels, share, share_effects, spread_slopes)
from helpers.claims.part1.memory import (
    OWN_FRAMES, appendix_signs, bound_cells, fall_shares, generalisation_bound, kernel_rows, nearer,
    predicted_memory, prediction_errors, prediction_rows, with_bound)
from helpers.claims.part1.networks import (
    at_end, network_checks, network_note, network_panels, panel_table, plain_networks,
    residual_networks, scaling_change, schedule_changes, too_few_sizes, towards_certainty,
    widest_gap)
from helpers.claims.part1.trade_offs import (
    LEAST_FALL, Course, course, courses, degree_effects, image_trade_off, paired,
    synthetic_trade_off)
