"""The rules of Part III: You et al. 2025, on photographs, with a matched random lesion beside each.

Rows are those of the experiments of the same part, one a network and cell.
"""

# fmt: off
from helpers.claims.part3.changes import (
    faces, noise, rewound, single, single_weights, two_splits)
from helpers.claims.part3.gaps import first_epoch, gap, later, transformer
from helpers.claims.part3.lesions import (
    beyond_chance, beyond_layers, by_loss, by_size, few_are_enough, memory_or_kind,
    more_than_an_offset, of_the_group, one_filter, survives_a_refit)
from helpers.claims.part3.tuning import (
    ARMS, QUARTER, arms, before, best, change, gain, gap_closed, majority_kept, masks_and_networks,
    memorisation, more_than_simpler, pruning_matters, refitted_gain, rise, usual, worst_group)
