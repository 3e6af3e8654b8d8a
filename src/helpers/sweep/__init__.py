"""Experiments, the stored results of their trials, and the audit of what is stored.

`registry` knows the experiments and `run` has what is missing computed: `course` says what is next
and what became of the rest, `workers` and `cluster` have processes here and on other machines,
`worker` is such a process and `trials` computes one group in it. `store` keeps the rows whole,
`locks` several clients apart, `failures` what did not succeed. `costs` and `shards` plan a grid and
part it, `pace` keeps to the time. `audit` computes stored rows anew and `closeness` compares.
`command` is ``python -m helpers.sweep``.
"""

# fmt: off
from helpers.sweep.audit import Audited, audit, stored_rows
from helpers.sweep.registry import (
    CONTEXT, Call, Experiment, experiment, get, grid, names, pick, register,
)
from helpers.sweep.course import Terms
from helpers.sweep.run import TrialError, results, sweep
from helpers.sweep.store import PROVENANCE, Cell, MemoryStore, Store
