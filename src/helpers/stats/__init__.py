"""From repetitions to statements: intervals, tests, and how likely a study is to find something.

Everything is over independent repetitions: trials, networks, splits. `mean_ci` and `bootstrap_ci`
give intervals, `welch_greater`, `mcnemar` and `permutation_p` p-values; `per_trial`, `paired` and
the other names of `replicates` bring tables of results into that form; `power` plans studies.
Needs SciPy and pandas, but no torch.
"""

# fmt: off
from helpers.stats import power
from helpers.stats.intervals import Interval, bootstrap_ci, interval_from, mean_ci, share_ci
from helpers.stats.ranking import auc_ci
from helpers.stats.replicates import (
    above_zero, arms, courses, error_bars, fall, mean_and_half, mean_fall, paired, per_trial,
    pooled, rank_correlation, rank_with_samples, z_score)
from helpers.stats.tests import mcnemar, mcnemar_lost, permutation_p, welch_greater
