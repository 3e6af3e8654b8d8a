"""The rules of Part II: Yang, Chou & Chaudhuri 2022, patterns in a few training images.

Rows are those of the experiments of the same part, one a network. What a chapter quotes beside its
verdict (a rise, a table of patterns) is a function here too: text and rule agree.
"""

# fmt: off
from helpers.claims.part2.score import (
    bar_is_learnt, crops, more_images, noise_first, three_images)
from helpers.claims.part2.readings import (
    accuracy_kept, first_layer, normalised, other_class, thresholds)
from helpers.claims.part2.contexts import (
    context_change, context_pairs, context_table, natural_contexts, surrogate_contexts)
from helpers.claims.part2.deletion import (
    at_last, bounded, case_name, decay_deletes, most, smallest, survives_deletion, what_is_left,
    with_way)
from helpers.claims.part2.prevention import clipping, regularised, removal, same_trend
from helpers.claims.part2.linear import (
    added_noise, closed_forms, half_exponents, half_shares, knee_at_zero, paired_steps,
    ridge_regimes)
from helpers.claims.part2.easy import (
    TABLE2, areas, clipping_cases, clipping_little, correlation_limit, few_and_small,
    kind_not_size, network_scores, norm_and_score, norm_errors, optimisers, parameters,
    pattern_means, printed_norms, sensitive_and_susceptible, way_minus_adam, welch, with_excess,
    with_ways)
from helpers.claims.part2 import in_out
from helpers.claims.part2.leaks import (
    further_fall, gaps, kept_accuracy, leak_unseen, lost_at_start, low_and_lower,
    own_seeds, panels, rare_leaks_more)
