"""Experiments, the stored results of their trials, and the audit of what is stored.

`registry` knows the experiments, `run` computes what is missing, `trials` one group of it, `store`
keeps the rows whole, `audit` computes stored ones anew, `command` is ``python -m helpers.sweep``.
"""

# fmt: off
from helpers.sweep.audit import Audited, audit, stored_rows
from helpers.sweep.registry import (
    CONTEXT, Call, Experiment, experiment, get, grid, names, pick, register,
)
from helpers.sweep.run import TrialError, results, sweep
from helpers.sweep.store import PROVENANCE, Cell, MemoryStore, Store
