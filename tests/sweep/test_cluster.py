"""Dask: a real scheduler and two real workers on this machine, which may all die."""

import asyncio
import csv
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import helpers
from helpers.sweep import sweep
from helpers.sweep.cluster import Cluster
from helpers.sweep.workers import Event

SOURCE = Path(helpers.__file__).parents[1]
PATH = os.pathsep.join([str(SOURCE), *filter(None, sys.path)])

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None,
    reason="the package distributed is not installed: pip install -c constraints.txt -e .[dask]",
)

# how many processes the test of kills kills: KILLS=50 for a thorough one
KILLS = int(os.environ.get("KILLS", "1"))

CLIENT = """
import os, sys, time
from pathlib import Path
from helpers.errors import DatasetNotFound
from helpers.sweep import Experiment, Terms, TrialError, get, grid, sweep

store, folder, count, what = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

def trial(call):
    with open(f"{call.data_dir}/log", "a") as file:
        file.write(f"{call.x}\\n")
    time.sleep(0.1)
    if what == "faults" and call.x == 1:
        os.kill(os.getpid(), 9)
    if what == "faults" and call.x == 2:
        time.sleep(600)
    # were it every second cell, two workers in step might share them without a word
    needs_data = {"data": True, "long": call.x % 2}.get(what)
    if needs_data and "HAS_DATA" not in os.environ:
        (folder / "asked in vain").touch()
        raise DatasetNotFound("no cats here")
    while what == "data" and not (folder / "asked in vain").exists():
        time.sleep(0.1)  # whose process is slow to start would find nothing left to do
    if what == "long" and call.x == 1:
        (folder / "is held").touch()
        while not (folder / "go on").exists():
            time.sleep(0.1)
    if what == "no data" and call.x % 2:
        raise DatasetNotFound("no cats anywhere")
    return {"y": call.x / 7, "pid": os.getppid()}

if what == "package":
    experiment = get("mixture_weight")
    cells = experiment.cells("smoke")[:4]
else:
    experiment = Experiment("cluster", trial, lambda profile: grid(x=0), 0.0, lambda cell: True)
    cells = grid(x=range(count))
try:
    frame = sweep(experiment, cells, store=store, backend="dask", progress=False,
                  context={"data_dir": str(folder), "device": "auto"},
                  terms=Terms(limit=240.0 if what == "long" else 8.0))
    print(len(frame), "rows,", len(frame.attrs["missing"]), "missing,",
          len(set(frame["pid"])) if "pid" in frame else 0, "workers")
except TrialError as error:
    print("TrialError:", error, *error.__notes__ if hasattr(error, "__notes__") else ())
    sys.exit(1)
"""


class Place:
    """A scheduler, its workers and clients, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, []
        self.file, self.store, self.log = folder / "scheduler", folder / "store", folder / "log"

    def start(self, *arguments, **environment):
        output = (self.folder / f"output {len(self.started)}").open("w")
        with output:
            process = subprocess.Popen(
                [sys.executable, *map(str, arguments)], cwd=self.folder, stdout=output,
                stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": PATH} | environment,
            )  # fmt: skip
        self.started.append(process)
        return process

    def said(self, process):
        """All that a process has said so far."""
        return (self.folder / f"output {self.started.index(process)}").read_text()

    def told(self, process):
        """All that a process has said when it has ended."""
        process.wait(timeout=250)
        return self.said(process)

    def start_scheduler(self):
        self.file.unlink(missing_ok=True)
        process = self.start(
            "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
            "--dashboard-address", "127.0.0.1:0", "--scheduler-file", self.file,
        )  # fmt: skip
        # it is there before its text is
        self.until(lambda: self.file.exists() and self.file.read_text().rstrip().endswith("}"))
        return process

    def worker(self, **environment):
        return self.start(
            "-m", "distributed.cli.dask_worker", "--scheduler-file", self.file, "--nthreads", "1",
            "--no-dashboard", "--no-nanny", "--host", "127.0.0.1", "--death-timeout", "60",
            **environment,
        )  # fmt: skip

    def joined(self, *workers):
        """Wait until the scheduler knows these workers: one that comes late may find no work."""
        for worker in workers:
            self.until(lambda worker=worker: "Registered to" in self.said(worker))

    def client(self, count=12, what="plain"):
        address = json.loads(self.file.read_text())["address"]
        return self.start("-c", CLIENT, self.store, self.folder, count, what,
                          DASK_SCHEDULER_ADDRESS=address)  # fmt: skip

    def tried(self):
        return [int(x) for x in self.log.read_text().split()] if self.log.exists() else []

    def rows(self, name="cluster"):
        path = self.store / f"{name}.csv"
        return path.read_text().splitlines()[1:] if path.exists() else []

    def computed_by(self):
        """The workers that the stored rows are from."""
        path = self.store / "cluster.csv"
        rows = csv.DictReader(path.read_text().splitlines()) if path.exists() else []
        return {row["pid"] for row in rows if row["pid"]}

    def until(self, condition, seconds=250):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "this took too long"
            time.sleep(0.05)


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    try:
        found.scheduler = found.start_scheduler()
        yield found
    finally:
        for process in found.started:
            process.kill()
            process.wait()


@needs_dask
def test_rows_stream_in_from_two_workers_and_a_dead_one_costs_nothing(place):
    workers = [place.worker(), place.worker()]
    place.joined(*workers)
    client = place.client(count=40)
    place.until(lambda: len(place.rows()) >= 6 and len(place.computed_by()) == 2)
    assert client.poll() is None, "rows are stored while others are computed"
    workers[0].kill()
    told = place.told(client)
    assert "40 rows, 0 missing, 2 workers" in told, told
    assert len(place.rows()) == 40 and len(place.tried()) <= 41


@needs_dask
def test_a_dead_client_or_scheduler_costs_nothing_that_was_stored(place):
    place.worker()
    first = place.client(count=30)
    place.until(lambda: len(place.rows()) >= 4)
    first.kill()
    first.wait()
    second = place.client(count=30)
    place.until(lambda: len(place.rows()) >= 10)
    place.scheduler.kill()
    told = place.told(second)
    assert second.returncode == 1 and "Traceback" not in told, told
    assert "is gone. Rows finished before are safe; the next run goes on from them" in told
    stored = len(place.rows())
    place.scheduler = place.start_scheduler()
    place.worker()
    third = place.client(count=30)
    told = place.told(third)
    assert "30 rows, 0 missing" in told, told
    assert len(place.rows()) == 30 and stored >= 10 and len(place.tried()) <= 30 + 4


@needs_dask
@pytest.mark.parametrize("others", [0, 1])
def test_a_group_goes_to_a_new_worker_when_all_are_dead_that_could_compute_it(place, others):
    """Alone, or beside one without the data, to which it must not go."""
    beside = [place.worker() for _ in range(others)]
    dies = place.worker(HAS_DATA="1")
    place.joined(dies, *beside)
    client = place.client(count=4, what="long")
    # it is in the hands of the one that dies; what needs no data is done by the other
    place.until(lambda: (place.folder / "is held").exists())
    place.until(lambda: len(place.rows()) >= 2 * others)
    place.joined(place.worker(HAS_DATA="1"))
    if others:  # as a queue ends it
        dies.terminate()
    else:
        dies.kill()
    dies.wait(timeout=100)
    (place.folder / "go on").touch()
    told = place.told(client)
    assert "4 rows, 0 missing" in told, told


@needs_dask
def test_a_client_without_workers_says_once_that_it_waits(place):
    client = place.client(count=2)
    place.until(lambda: "waiting for workers at tcp://" in place.said(client))
    time.sleep(3.0)
    place.worker()
    told = place.told(client)
    assert "2 rows, 0 missing" in told and told.count("waiting for workers") == 1, told


@needs_dask
@pytest.mark.parametrize("kind", [TimeoutError, OSError, asyncio.CancelledError])
def test_rows_that_are_lost_with_their_worker_are_computed_again(monkeypatch, kind):
    """A worker that dies when a group is computed, and its rows are not yet fetched."""

    def result(timeout):
        assert 0 < timeout <= 60, "nobody waits for ever for one that is dead"
        raise kind("gone")

    monkeypatch.setattr("distributed.get_client", lambda: SimpleNamespace(
        scheduler=SimpleNamespace(address="tcp://here"), status="running",
        nthreads=lambda: {"a": 1},
        submit=lambda *a, **k: SimpleNamespace(
            status="finished", result=result, cancel=lambda force: None,
            add_done_callback=lambda back: None,
        ),
    ))  # fmt: skip
    with Cluster() as cluster:
        assert cluster.free() == 1
        cluster.submit(1, SimpleNamespace(packed=bytes, limit=None))
        cluster._done.put((1, cluster._futures[1]))
        cluster.wait(1.0)
        assert cluster.events() == [Event(1, "end")]
        assert cluster.free() == 1
        cluster.submit(2, SimpleNamespace(packed=bytes, limit=None))
        cluster._futures[2].status = "lost"  # it is told so before anybody asks for the rows
        cluster._done.put((2, cluster._futures[2]))
        assert cluster.events() == [Event(2, "end")] and cluster.free() == 1


@needs_dask
def test_a_worker_gets_no_more_before_its_rows_are_here(monkeypatch):
    """Else its death would cost the group that it computes, and that whose rows are on the way."""
    given, now = [], SimpleNamespace(status="finished", result=lambda timeout: ("tcp://b", []))

    def submit(*arguments, workers=(), allow_other_workers=False, **options):
        given.append((*workers, allow_other_workers))
        return SimpleNamespace(**vars(now), cancel=lambda force: None,
                               add_done_callback=lambda back: None)  # fmt: skip

    monkeypatch.setattr("distributed.get_client", lambda: SimpleNamespace(
        scheduler=SimpleNamespace(address="tcp://here"), status="running",
        nthreads=lambda: {"a": 1, "b": 2}, submit=submit,
    ))  # fmt: skip
    with Cluster() as cluster:
        assert cluster.free() == 3
        for number in (1, 2, 3):
            cluster.submit(number, SimpleNamespace(packed=bytes, limit=None))
        assert sorted(worker for worker, _ in given) == ["a", "b", "b"]
        assert all(elsewhere for _, elsewhere in given), "another one takes it from a dead worker"
        for number in (2, 1, 3):  # they are done, and this one's rows are here first
            cluster._done.put((number, cluster._futures[number]))
            cluster.wait(1.0)
            assert cluster.events() == [Event(number, "end")]
            cluster.submit(10 + number, SimpleNamespace(packed=bytes, limit=None))
            assert given[-1] == given[number - 1]
        cluster.submit(20, SimpleNamespace(packed=bytes, limit=None), frozenset("a"))
        assert given[-1] == ("b", False), "where not all would do, it goes to no other"
        cluster._threads = {"c": 1}  # the others are dead, and who has their groups is not known
        cluster.submit(21, SimpleNamespace(packed=bytes, limit=None))
        assert given[-1] == (False,), "the scheduler knows"


@needs_dask
@pytest.mark.timeout(120 + 30 * KILLS)
def test_whoever_is_killed_no_stored_row_is_lost_or_computed_again(place):
    """Client, scheduler or a worker, by chance, whenever 20 more rows are there."""
    count, chance = 20 * (KILLS + 1), random.Random(1)
    start = {"client": lambda: place.client(count), "one": place.worker, "other": place.worker}
    running = {name: begin() for name, begin in start.items()}
    seen = []  # at each kill: the stored rows, and how many trials had begun
    for kill in range(1, KILLS + 1):
        place.until(lambda least=20 * kill: len(place.rows()) >= least)
        victim = chance.choice(["scheduler", *running])
        (running.get(victim) or place.scheduler).kill()
        gone = [victim]
        if victim == "scheduler":  # all others end with it
            gone = list(running)
            place.scheduler.wait()
        for name in gone:
            running[name].wait(timeout=90)
        seen.append((place.rows(), len(place.tried())))
        if victim == "scheduler":
            place.scheduler = place.start_scheduler()
        running |= {name: start[name]() for name in gone}
    assert f"{count} rows, 0 missing" in place.told(running["client"])
    rows, tried = place.rows(), place.tried()
    assert sorted(int(row.split(",")[0]) for row in rows) == list(range(count))
    for before, begun in seen:
        assert rows[: len(before)] == before, "a row that was stored is gone"
        stored = {int(row.split(",")[0]) for row in before}
        assert not stored & set(tried[begun:]), "a trial that was stored was begun again"


@needs_dask
def test_a_trial_that_kills_its_process_or_never_ends_is_named_and_stops_no_other(place):
    place.worker(), place.worker()
    told = place.told(place.client(count=10, what="faults"))
    assert "2 of 10 cells failed" in told, told
    assert "cell {'x': 1}: its worker process was killed" in told
    assert "cell {'x': 2}: stopped after 8 s (--trial-limit)" in told
    assert len(place.rows()) == 8 and sorted(place.tried()) == list(range(10))


@needs_dask
def test_a_worker_without_the_data_leaves_its_cells_to_others(place):
    place.joined(place.worker(), place.worker(HAS_DATA="1"))
    told = place.told(place.client(count=10, what="data"))
    assert "10 rows, 0 missing" in told and "lacks data: no cats here" in told, told


@needs_dask
def test_data_that_no_worker_has_are_missing(place):
    place.worker()
    told = place.told(place.client(count=4, what="no data"))
    assert "2 rows, 2 missing" in told and "2 of 4 cells not computed: no cats" in told, told


@needs_dask
def test_a_worker_with_other_code_is_refused_and_one_with_other_words_is_not(place, tmp_path):
    other, words = tmp_path / "other", tmp_path / "words"
    for folder in (other, words):
        shutil.copytree(SOURCE / "helpers", folder / "helpers")
    changed = other / "helpers" / "theory" / "lim2025.py"
    changed.write_text(changed.read_text() + "\n\nHALF = 1 / 2\n")
    same = words / "helpers" / "theory" / "lim2025.py"
    same.write_text(same.read_text() + "\n\n# other words\n")
    place.worker(PYTHONPATH=os.pathsep.join([str(other), PATH]))
    client = place.client(what="package")
    told = place.told(client)
    assert "can be used: tcp://" in told and "other code: experiment mixture_weight is" in told
    assert client.returncode == 1 and place.rows("mixture_weight") == []
    place.worker(PYTHONPATH=os.pathsep.join([str(words), PATH]))
    told = place.told(place.client(what="package"))
    assert "4 rows, 0 missing" in told, told
    assert all("; code " in row for row in place.rows("mixture_weight"))


@needs_dask
def test_a_scheduler_that_is_not_there_is_one_sentence(toy, tmp_path, monkeypatch):
    script = """
import sys
from helpers.sweep import cluster
from helpers.sweep.command import main
cluster._ANSWER = 2.0
sys.exit(main(["run", "mixture_weight", "--profile", "smoke", "--device", "cpu", "--backend",
               "dask", "--store", sys.argv[1], *sys.argv[2:]]))
"""
    for arguments, message in (
        ([], "backend='dask' needs the address of a scheduler: --scheduler"),
        (["--scheduler", "tcp://127.0.0.1:9"], "no Dask scheduler answers at tcp://127.0.0.1:9"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path, *arguments], text=True, capture_output=True,
            env={k: v for k, v in os.environ.items() if k != "DASK_SCHEDULER_ADDRESS"}
            | {"PYTHONPATH": PATH},
        )  # fmt: skip
        assert done.returncode == 1 and f"error: {message}" in done.stderr
        assert "Traceback" not in done.stderr


def test_without_the_package_there_is_a_hint(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match="pip install distributed"):
        sweep(toy(), [{"x": 1}], store=tmp_path, backend="dask")
