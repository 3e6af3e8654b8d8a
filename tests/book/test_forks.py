"""Forked kernels: what comes out is what new processes give, and they end as those do."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from helpers.book import forks

linux = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked there alone")
WHERE = """
import os, sys
from ipykernel import get_connection_file
print("torch" in sys.modules, os.getppid())
"""
WHAT = r"""
import multiprocessing
import helpers, matplotlib, pandas, torch
print("encrypted:", "curve" in open(get_connection_file()).read())
from helpers.book import figures
figures.use_style()
print(helpers.__file__, sys.executable, sys.flags, sys.path, os.getcwd(), __name__,
      multiprocessing.get_start_method())
print(torch.get_num_threads(), *(f"{k}={v}" for k, v in matplotlib.rcParams.items()), sep="\n")
own = ("JPY_", "IPYTHONDIR", "JUPYTER_RUNTIME", "BOOK_RESULTS")  # of each run
print(*sorted(f"{k}={v}" for k, v in os.environ.items() if not k.startswith(own)), sep="\n")
print(torch.randn(500, 500, generator=torch.Generator().manual_seed(0)).double().inverse().sum())
matplotlib.pyplot.subplots()[1].plot([1, 2])
pandas.DataFrame([range(40)])
"""


def started(*arguments: str, folder, **settings: str) -> subprocess.Popen:
    """A command of the book in a toy project."""
    return subprocess.Popen(
        [sys.executable, "-m", "helpers.book", *arguments], cwd=folder, text=True,
        env=settings | {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", *settings)},
        start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def said(path) -> list[str]:
    """What the last two cells of an executed chapter show."""
    shown = []
    for cell in nbformat.read(path, 4).cells[-2:]:
        shown.append("".join(one.get("text") or str(one.data) for one in cell.outputs))
    return shown


def comes(condition) -> bool:
    """Whether something is so within 100 seconds."""
    until = time.monotonic() + 100
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


@linux
def test_chapters_come_out_of_forks_as_out_of_new_processes_and_one_that_dies_is_told(project, put):
    (project / "book" / "results").mkdir()
    put("01-a", WHERE, WHAT)
    put("02-dies", WHERE, "os.kill(os.getpid(), 9)")
    put("03-c", WHERE, WHAT)
    staging = started("stage", "--device", "cpu", "--jobs", "1", folder=project)
    out, err = staging.communicate(timeout=200)
    assert [line.partition("  ")[0] for line in out.splitlines()] == [
        f"_build/book/chapters/{name}.ipynb" for name in ("01-a", "03-c")
    ]
    assert "02-dies stopped at code cell 4" in err and "the death of its kernel" in err
    assert staging.returncode == 1
    run = started("run", "01", "--profile", "laptop", "--out", "fresh", folder=project)
    assert run.communicate(timeout=200)[1] == "" and run.returncode == 0
    made = project / "_build" / "book" / "chapters"
    (where, first), (same, third) = said(made / "01-a.ipynb"), said(made / "03-c.ipynb")
    assert where == same and where.startswith("True "), "forks of one server with its libraries"
    where, fresh = said(project / "fresh" / "01-a.ipynb")
    assert where.startswith("False ")
    assert first == third == fresh and "<svg" in first


@linux
@pytest.mark.parametrize(
    ("chapters", "number"),
    [(1, signal.SIGINT), (1, signal.SIGKILL),
     (2, signal.SIGINT), (2, signal.SIGTERM), (2, signal.SIGKILL)],
)  # fmt: skip
def test_nothing_is_left_of_a_stage_that_is_ended(project, put, chapters, number):
    """Two chapters run at once: neither goes on before the other has begun."""
    (project / "book" / "results").mkdir()
    for k in range(chapters):
        put(f"0{k}-a", f"open('begun{k}', 'w').close()\nimport time\ntime.sleep(300)")
    staging = started("stage", "--device", "cpu", "--jobs", "2", folder=project)
    assert comes(lambda: len([*project.glob("begun?")]) == chapters)
    below = psutil.Process(staging.pid).children(recursive=True)
    least = {1: 3, 2: 7}[chapters]
    assert len(below) >= least, "servers, forks of them, who runs them, what counts resources"
    staging.send_signal(number)
    _, err = staging.communicate(timeout=60)
    assert staging.returncode == (-number if number == signal.SIGKILL else 130), err
    assert "Traceback" not in err
    assert psutil.wait_procs(below, timeout=20)[1] == []


@linux
def test_a_chapter_whose_process_is_killed_is_told_and_the_others_are_run(project, put):
    (project / "book" / "results").mkdir()
    put("01-a", "import os, psutil\npsutil.Process(os.getppid()).parent().kill()")
    put("02-b", "print('b')")
    put("03-c", "print('c')")
    staging = started("stage", "--device", "cpu", "--jobs", "2", folder=project)
    out, err = staging.communicate(timeout=200)
    assert staging.returncode == 1
    assert err.splitlines()[-1] == "FAILED  01-a: its process has ended: killed?", err
    assert sorted(line.partition("  ")[0] for line in out.splitlines()) == [
        f"_build/book/chapters/{name}.ipynb" for name in ("02-b", "03-c")
    ]


@linux
def test_an_interrupt_while_libraries_are_imported_leaves_no_traceback(project, put):
    (project / "book" / "results").mkdir()
    put("01-a", "print('too late')")
    staging = started("stage", "--device", "cpu", folder=project)
    assert comes(lambda: len(psutil.Process(staging.pid).children()) == 2)
    below = psutil.Process(staging.pid).children(recursive=True)
    os.killpg(staging.pid, signal.SIGINT)  # as a terminal does
    _, err = staging.communicate(timeout=100)
    assert staging.returncode == 130, err
    assert err.splitlines()[-1].startswith("Interrupted") and "Traceback" not in err, err
    assert psutil.wait_procs(below, timeout=20)[1] == []


def test_where_a_fork_would_be_another_process_there_is_none(monkeypatch):
    monkeypatch.setattr(sys, "path", ["", forks._OWN, sys.prefix])
    monkeypatch.setattr(sys, "warnoptions", [])
    monkeypatch.setattr(forks, "_server", {})
    here = sys.platform == "linux"
    assert forks.as_fresh() == here, "the server has not begun"
    monkeypatch.setattr(forks, "_server", dict(os.environ))
    assert forks.as_fresh() == here, "it has, as it would now"
    with monkeypatch.context() as other:
        other.setenv("OMP_NUM_THREADS", "7")
        assert not forks.as_fresh()
    with monkeypatch.context() as other:
        other.setattr(sys, "path", ["/elsewhere"])
        assert not forks.as_fresh()
    monkeypatch.setattr(sys, "warnoptions", ["error"])
    assert not forks.as_fresh()


@linux
def test_without_a_place_for_the_socket_of_the_server_kernels_are_new_processes(project, put):
    (project / "book" / "results").mkdir()
    put("01-a", WHERE)
    place = project / ("long" * 25)
    place.mkdir()
    staging = started("stage", "--device", "cpu", folder=project, TMPDIR=str(place))
    out, err = staging.communicate(timeout=100)
    assert staging.returncode == 0, err
    made = project / "_build" / "book" / "chapters" / "01-a.ipynb"
    assert said(made)[1].startswith("False "), out
