"""What is done against memorised minorities, after or instead of plain training.

`finetune` goes on training a network in contrast to a pruned copy of itself (`nt_xent`), as a
`Contrast` says; the masks prune, and `free_outputs` minimises the same loss with no network behind.
`group_dro`, `last_layer_retraining` and `worst_group_bias` are what it is compared with.
"""

# fmt: off
from helpers.remedies.bias import worst_group_bias
from helpers.remedies.contrast import finetune, nt_xent
from helpers.remedies.fitting import Evaluate, Tuned, last_linear, penultimate
from helpers.remedies.free_outputs import FreeOutputs, free_outputs
from helpers.remedies.group_dro import group_dro
from helpers.remedies.last_layer import last_layer_retraining
from helpers.remedies.masks import (
    Mask, gradient_mask, magnitude_mask, own_statistics, poorest, prunable, pruned_outputs,
    random_mask,
)
from helpers.remedies.recipe import CHOICES, Contrast
