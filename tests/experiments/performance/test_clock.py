"""The clock counts all calls; memory is counted in GiB, in a process of its own."""

import os
import time
from functools import partial

from helpers.experiments.performance import clock


def test_seconds_are_those_of_all_calls_together():
    seconds, found = clock.timed(partial(time.sleep, 0.02), repeats=3)
    assert seconds >= 0.06 and found is None
    assert clock.timed(lambda: "last")[1] == "last"


def _grown(gib):
    before = clock.peak()
    kept = b"x" * int((before + gib) * 2**30)  # a process starts with the peak of its parent
    return clock.peak() - before, len(kept), os.getpid()


def test_memory_is_measured_in_a_process_of_its_own():
    found, _, process = clock.apart(_grown, 0.25)
    assert 0.25 <= found < 0.75 and process != os.getpid()
