"""Toy experiments, and a registry without those of the book."""

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from helpers.sweep import Experiment, grid


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("BOOK_PROGRESS", "0")
    monkeypatch.setattr("helpers.sweep.run.revision", lambda: "abc1234")


@pytest.fixture
def registry(monkeypatch):
    """An empty registry, and no experiments of the book in it."""
    known = {}
    monkeypatch.setattr("helpers.sweep.registry._REGISTRY", known)
    monkeypatch.setattr("helpers.sweep.registry._import_experiments", lambda name=None: set())
    return known


@pytest.fixture
def toy():
    def make(
        name="toy",
        *,
        runs=None,
        tolerance=1e-9,
        cheap=lambda cell: cell["x"] < 3,
        cells=lambda profile: grid(x=range(3 if profile == "smoke" else 6)),
        result=None,
        **options,
    ):
        """Squares x, and notes each execution in the list `runs`."""

        def trial(call):
            if runs is not None:
                runs.append(call.x)
            square = {"y": float(call.x**2), "data_source": "made up, here"}
            return result(call.x) if result else square

        return Experiment(name, trial, cells=cells, tolerance=tolerance, cheap=cheap, **options)

    return make


@pytest.fixture
def together(toy):
    def make(name="toy", *, calls=None, many=None, **options):
        """`toy`, but even and odd cells are computed at once; notes what each call got in `calls`.

        A row says how many cells were computed with it, and which of them it was."""

        def squares(group):
            if calls is not None:
                calls.append([call.x for call in group])
            return [
                {"y": call.x**2, "size": len(group), "place": place}
                for place, call in enumerate(group)
            ]

        odd = lambda cell: cell["x"] % 2  # noqa: E731
        return replace(toy(name, **options), trial=many or squares, group=odd)

    return make


@pytest.fixture
def lines(tmp_path):
    def read(store=tmp_path, name="toy"):
        """Lines of a results file; the last is empty in a whole one."""
        return (store / f"{name}.csv").read_bytes().split(b"\n")

    return read


@pytest.fixture
def alter(tmp_path):
    def change(old, new, name="toy"):
        """Write `new` over `old`, which stands once in the results file."""
        path = tmp_path / f"{name}.csv"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    return change


CLIENT = """
import os, subprocess, sys, time
from helpers.sweep import Experiment, Terms, grid, sweep

def trial(call):
    process = {process}
    with open(call.data_dir, "a") as file:
        file.write(f"{{process}}\\n")
    time.sleep(600)

toy = Experiment("toy", trial, lambda profile: grid(x=0), 0.0, lambda cell: True)
sweep(toy, grid(x=[0, 1]), store=None, n_jobs=2, context={{"data_dir": sys.argv[1]}})
"""


@pytest.fixture
def left_by_a_killed_client(tmp_path):
    """Two trials note a process each, an expression; their client is killed. Returns the two."""

    def killed(process):
        log = tmp_path / "log"
        script = CLIENT.format(process=process)
        client = subprocess.Popen([sys.executable, "-c", script, log])
        until = time.monotonic() + 60
        while time.monotonic() < until and (not log.exists() or log.read_text().count("\n") < 2):
            time.sleep(0.05)
        noted = [int(line) for line in log.read_text().split()]
        client.kill()
        client.wait()
        return noted

    return killed
