"""The runner: copies made from the sources, replaced only by something better."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from helpers.book import command, runner, sources


def test_a_chapter_runs_into_both_editions_and_then_nothing_is_stale(project, put, capsys):
    put("01-a", ('print(profile)\nprint("x")', "nbval-check-output"))
    assert command.main(["run"]) == 0
    assert command.main(["run", "--profile", "laptop"]) == 0
    smoke = nbformat.read(project / "notebooks" / "01-a.ipynb", 4)
    full = nbformat.read(project / "book" / "chapters" / "01-a.ipynb", 4)
    assert [c for c in smoke.cells if sources.INJECTED in sources.tags(c)] == []
    (injected,) = [c for c in full.cells if sources.INJECTED in sources.tags(c)]
    assert "remove-cell" in sources.tags(injected) and 'profile = "laptop"' in injected.source
    assert smoke.cells[-1].outputs[0].text == "smoke\nx\n"
    assert full.cells[-1].outputs[0].text == "laptop\nx\n"
    assert "seconds" not in smoke.metadata.book and "date" not in smoke.metadata.book
    assert full.metadata.book.keys() >= {
        "code",
        "helpers",
        "profile",
        "device",
        "processor",
        "torch",
        "numpy",
        "python",
        "date",
        "seconds",
    }
    before = (project / "notebooks" / "01-a.ipynb").read_bytes()
    capsys.readouterr()
    assert command.main(["stale"]) == 0
    assert capsys.readouterr().out == "every copy is current\n"
    # a second run on the same machine changes no byte of a baseline
    assert command.main(["run", "01"]) == 0
    assert (project / "notebooks" / "01-a.ipynb").read_bytes() == before
    assert sorted(p.name for p in (project / "notebooks").iterdir()) == ["01-a.ipynb", "01-a.md"]


def test_a_failing_cell_gives_one_paragraph_and_keeps_the_copy_before(project, put, capsys):
    put("01-a", "# first\nvalue = 1 / 0")
    put("02-b", "print(1)")
    kept = project / "notebooks" / "01-a.ipynb"
    kept.write_text("the copy before")
    assert command.main(["run"]) == 1
    out, err = capsys.readouterr()
    assert kept.read_text() == "the copy before"
    assert len(err.splitlines()) == 1 and len(err) < 500
    assert "01-a stopped at code cell 2 ('value = 1 / 0') with ZeroDivisionError" in err
    assert (project / "_build" / "failed" / "01-a.ipynb").is_file()
    assert "02-b.ipynb" in out, "the other chapters still run"


def test_parameters_reach_the_chapter_in_their_types(project, put):
    put("01-a", "print(profile, device, seed, rate)")
    assert (
        command.main(
            [
                "run",
                "01-a",
                "--profile",
                "paper",
                "--device",
                "cpu",
                "--seed",
                "3",
                "-p",
                "rate",
                "2",
                "--out",
                "_build/x",
            ]
        )
        == 0
    )
    nb = nbformat.read(project / "_build" / "x" / "01-a.ipynb", 4)
    assert nb.cells[-1].outputs[0].text == "paper cpu 3 2.0\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["03-c"], "no chapter is called '03-c'. Chapters: 01-a, 01-b"),
        (["01"], "more than one chapter is called '01'"),
        (
            ["--profile", "full", "--out", "x"],
            "unknown profile 'full': expected one of smoke, laptop",
        ),
        (["--profile", "full"], "unknown profile 'full'"),
        (["--device", "gpu", "--out", "x"], "unknown device 'gpu'"),
        (["-p", "sed", "1", "--out", "x"], "no parameter 'sed'. Its parameters: profile, device"),
        (["--seed", "one", "--out", "x"], "seed = 'one' is not usable: expected int"),
        (["--seed", "1"], "seed=1 say where to put the result with --out"),
        (["--device", "cpu"], "device=cpu say where"),
        (["--profile", "paper"], "profile=paper say where"),
        (["--data-dir", "/no/such/folder"], "'/no/such/folder' is not there"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(project, put, capsys, arguments, words):
    put("01-a")
    put("01-b")
    assert command.main(["run", *arguments]) == 2
    out, err = capsys.readouterr()
    assert words in err and len(err.splitlines()) == 1 and out == ""
    assert list(project.rglob("*.ipynb")) == []


def test_a_place_that_cannot_be_written_is_one_paragraph(project, put, capsys):
    put("01-a")
    (project / "file").write_text("")
    assert command.main(["run", "--out", "file/below"]) == 1
    err = capsys.readouterr().err
    assert "cannot write file/below/01-a.ipynb" in err and len(err.splitlines()) == 1


def test_an_interrupt_stops_the_kernel_and_leaves_no_litter(project, put):
    put("01-a", "import time\nopen('started', 'w')\ntime.sleep(300)")
    (project / "notebooks" / "01-a.ipynb").write_text("the copy before")
    runner = subprocess.Popen(
        [sys.executable, "-m", "helpers.book", "run"],
        cwd=project,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore Ctrl-C, and so would everything that they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while not (project / "started").exists() and time.monotonic() < until:
        time.sleep(0.1)
    kernels = psutil.Process(runner.pid).children(recursive=True)
    assert kernels, "the kernel runs in a process of its own"
    runner.send_signal(signal.SIGINT)
    _, err = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert err.strip().splitlines()[-1].startswith("Interrupted")
    assert "Traceback" not in err
    assert psutil.wait_procs(kernels, timeout=10)[1] == []
    assert (project / "notebooks" / "01-a.ipynb").read_text() == "the copy before"
    assert list((project / "_build" / "running").iterdir()) == []


def test_smoke_runs_have_one_thread_and_no_run_draws_progress_bars(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert runner.kernel_environment("smoke")["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in runner.kernel_environment("laptop")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert runner.kernel_environment("laptop")["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert runner.kernel_environment("laptop")["OMP_WAIT_POLICY"] == "active"
    assert runner.kernel_environment("paper")["BOOK_PROGRESS"] == "0"
    with runner.environment({"OMP_NUM_THREADS": "1"}):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in os.environ
