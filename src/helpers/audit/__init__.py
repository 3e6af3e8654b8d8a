"""Audit a data set or a model of one's own: does it lean on what it should not?

- :func:`data` asks a data set with an attribute what a linear model would do with it, before any
  training; :func:`features` gives it the features of a backbone;
- :func:`model` asks a trained classifier what it leans on and remembers;
- a :class:`Report` has named figures, each a :class:`Finding` with interval, control and sentence.

``python -m helpers.audit`` does the same from files.
"""

# fmt: off
from helpers.audit.after_training import QUESTIONS, model
from helpers.audit.before_training import data, features
from helpers.audit.measured import measured_flip_share
from helpers.audit.report import Finding, Report
