"""How networks are trained.

`train` trains one network by a `Recipe`, `train_many` many at once (in lock step where that can
be), `predict` asks them, and `fine_tuned` trains on pictures in files. `precision` is that of
matrix products, `margin_losses` has losses of the margin and fits of linear models with them,
`hard_margin` finds the largest margin of a linear model. Trainings draw all that they draw from one
seed, can be interrupted (`checkpoint=`), and raise :class:`helpers.errors.Diverged` when the loss
is no number any more.
"""

# fmt: off
from helpers.training import lockstep, margin_losses, precision, stacked
from helpers.training.checkpoint import Checkpoint, checkpoint_file, load_whole, save_whole
from helpers.training.fine_tuning import fine_tuned
from helpers.training.largest_margin import HardMargin, hard_margin
from helpers.training.loop import train
from helpers.training.many import train_many
from helpers.training.prediction import eval_mode, one_thread, predict
from helpers.training.randomness import (
    AUGMENTATIONS, MIRRORED, RESIZED, Randomness, augmented, check_augmentation, crop_and_flip,
    randomness, resized_crops,
)
from helpers.training.recipe import LOSSES, History, Recipe, Replaced, learned, make_optimiser
