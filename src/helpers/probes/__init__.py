"""What is asked of a trained model.

Accuracies by sign, class and group, and the spurious score are read from outputs; `membership`
asks outputs who was in the training set; `influence`, what would be without a group. Units of a
network are listed by `channels` and `hidden_units`, ranked in `tracing`, changed in `lesions`, and
removed one by one in `census`.
"""

# fmt: off
from helpers.probes import census, influence, lesions, membership, tracing
from helpers.probes.accuracy import (
    accuracy, accuracy_by_alignment, accuracy_by_group, auc, covariance, first_epoch_at, mean_auc,
    memorisation_gap, predicted_accuracy, selectivity, sign_accuracy, weighted_average,
)
from helpers.probes.spurious_score import NORMALISATIONS, normalised_score, spurious_score
from helpers.probes.units import (
    Unit, activations, batchnorms, by_layer, channels, evaluate, hidden_units,
)
