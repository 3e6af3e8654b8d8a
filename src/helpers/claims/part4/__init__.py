"""The rules of Part IV: Lim, Kim & Moon 2025, linear mixtures, margins, ReLU networks, ResNet-18.

Rows are those of the experiments of the same part, one a trial and cell; what a closed form says of
them is added by the chapter.
"""

# fmt: off
from helpers.claims.part4.linear import (
    half_life_slopes, power_law, proposition, shortcut_first, sum_of_features, weight_lifts,
    weight_lines)
from helpers.claims.part4.speed import (
    clock_errors, end_errors, few_errors, flip, flip_share, noise_cells, one_ridge, shortcut_early,
    spike_errors, spread_keeps_influence, start_errors, stopping_errors)
from helpers.claims.part4.resnet import (
    SETTINGS, after_training, at_start, availability, first_modes, first_modes_off, margin_control,
    of_width, shows)
from helpers.claims.part4.margins import (
    control, harm, harms, kept, one_clock, preference_remains, stopped_and_limit)
from helpers.claims.part4.relu import (
    colored_digits, finite_width, imbalance_and_time, influence, kernel_change, patched_digits,
    relu_margins, relu_mixture)
