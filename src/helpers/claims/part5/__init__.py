"""The rules of Part V: what ties the four papers together (claims of ours, prefix S).

Rows are those that a chapter computes, or of the experiments of the same part.
"""

# fmt: off
from helpers.claims.part5.identities import (
    accounts, apart, further_direction, identity, leaving_out, one_equation, sensitivity)
from helpers.claims.judgement import sources
from helpers.claims.part5.scalar import images, limits, lift_decides, simulated
from helpers.claims.part5.crossing import (
    alignment_predicts, by_pattern, cure_and_poison, deletion, forgotten, lazy_spreads,
    learning_concentrates, matrix, over_draws, rarer_in_fewer, visible_first, within_reach)
from helpers.claims.part5.audit import (
    CLEAN, NEAR, alarms, false_alarms, flagged, flip_errors, flip_share, flips_below, only,
    planted_found, spoken)
