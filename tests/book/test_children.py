"""Work side by side: who does it, and what is left when something goes wrong."""

import os
import signal
import sys
import time

import psutil
import pytest

from helpers.book.children import side_by_side, usual_lanes
from helpers.book.sources import BookError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is one lane")
NAMES = ["a", "b", "c", "d", "e"]


def who(name: str) -> list[str]:
    time.sleep(0.3)
    return [str(os.getpid())]


def killed(name: str) -> list[str]:
    if name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return who(name)


def all_killed(name: str) -> list[str]:
    os.kill(os.getpid(), signal.SIGKILL)


def wrong(name: str) -> list[str]:
    if name == "b":
        raise BookError("b cannot be read")
    return who(name)


def slow(name: str) -> list[str]:
    time.sleep(300 if name == "b" else 0)
    return []


@pytest.fixture(autouse=True)
def alone():
    """No process is left."""
    before = {child.pid for child in psutil.Process().children()}
    yield
    left = [c for c in psutil.Process().children() if c.pid not in before]
    assert [" ".join(c.cmdline()) for c in left if "resource_tracker" not in str(c.cmdline())] == []


@pytest.mark.parametrize("lanes", [2, 3])
def test_each_name_is_done_once_by_one_of_so_many_processes(lanes):
    found = dict(side_by_side(who, NAMES, lanes))
    assert sorted(found) == NAMES
    done_by = {pid for (pid,) in found.values()}
    assert len(done_by) == lanes and str(os.getpid()) not in done_by


@pytest.mark.parametrize(("names", "lanes"), [(NAMES, 1), (["a"], 4), ([], 4)])
def test_what_has_no_neighbour_is_done_here(names, lanes):
    assert list(side_by_side(who, names, lanes)) == [(name, [str(os.getpid())]) for name in names]


def test_who_dies_loses_one_name():
    found = dict(side_by_side(killed, NAMES, 2))
    assert sorted(found) == NAMES
    assert [name for name, done in found.items() if done is None] == ["b"]


def test_names_that_nobody_is_left_for_are_told():
    assert dict(side_by_side(all_killed, NAMES, 2)) == dict.fromkeys(NAMES)


def test_an_exception_ends_all_and_is_ours():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(BookError, match="b cannot be read"):
        list(side_by_side(wrong, NAMES, 2))
    assert signal.getsignal(signal.SIGTERM) == before


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def odd(name: str) -> list[str]:
    raise Odd("odd", 2)


def known(name: str) -> list[str]:
    raise KeyError(name)


@pytest.mark.parametrize(("work", "kind"), [(odd, RuntimeError), (known, KeyError)])
def test_where_an_exception_comes_from_is_told(work, kind):
    """Also of one that cannot be sent."""
    with pytest.raises(kind) as raised:
        list(side_by_side(work, NAMES, 2))
    told = [str(raised.value), *getattr(raised.value, "__notes__", ())]
    assert f"in {work.__name__}" in "".join(told)


@pytest.mark.parametrize("heeded", [signal.default_int_handler, signal.SIG_IGN])
def test_who_needs_no_more_ends_what_is_under_way(heeded):
    """Also one that began in the background, and ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, heeded)
    results = side_by_side(slow, NAMES, 2)
    assert next(results)[1] == []
    started = time.monotonic()
    results.close()
    signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 20


def test_there_is_a_lane_for_each_processor_of_this_process_and_four_at_most():
    assert usual_lanes() == min(4, len(os.sched_getaffinity(0)))
