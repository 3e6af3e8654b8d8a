"""Images, patterns, frames, Gaussian models, and sets whose classes go with an attribute.

- :func:`load` finds MNIST, Fashion-MNIST and CIFAR-10 (`mnist5k` needs no files);
- frames of noise and blocks of two kinds of numbers (Part I), patterns added to a few images (Part
  II), groups of a class and an attribute, rendered or photographs, and planted memory (Part III),
  biased digits, cats and dogs (Part IV); :class:`Grouped` holds all sets with an attribute;
- labels, and which outputs are right about them;
- samples of the Gaussian models whose closed forms are in :mod:`helpers.theory`;
- `contexts` renders objects in natural contexts and splits them, `nicopp` reads real ones.
"""

# fmt: off
from helpers.data import contexts, nicopp
from helpers.data.attributed import Grouped
from helpers.data.biased_sets import (
    PATCH, cats_and_dogs, centred, colored_mnist, patched_mnist, train_and_test,
)
from helpers.data.blocks import BlockScaling, TwoBlock, two_blocks
from helpers.data.fashion_birds import (
    CELEBA, CELEBA_LIKE, DIGIT_PAIRS, GARMENT_PAIRS, WATERBIRDS, backgrounds, fashion_birds,
)
from helpers.data.files import DatasetCorrupted
from helpers.data.frames import blank_core, core_mask, noise_border, resample_core
from helpers.data.gaussian import (
    TwoAxisSample, gaussian_mixture, gaussian_two_block, linear_labels, two_axis_sample,
)
from helpers.data.group_folders import celeba, waterbirds
from helpers.data.images import (
    DIGITS, FASHION, OBJECTS, PACKAGES, SPECS, Dataset, binary_pair, load,
)
from helpers.data.labels import check_answers, check_values, margins, right_answers
from helpers.data.patterns import (
    PATTERNS, SCALES, SpuriousSet, add_pattern, pattern, pattern_norm, spurious_rows, with_spurious,
)
from helpers.data.planted import IDENTIFIER, Planted, plant_memory, with_identifiers
from helpers.data.sky_birds import (
    SKY, SKY_FACES, SKY_GROUPS, background, border_colour, sky_birds, sky_pool, sky_sample,
)
from helpers.data.sky_judgements import judged_pictures, judgements
