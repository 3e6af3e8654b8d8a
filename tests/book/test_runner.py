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


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("value = 1 / 0", "ZeroDivisionError: division by zero"),
        ("import os; os.kill(os.getpid(), 9)", "the death of its kernel: killed, or out of"),
    ],
)
def test_a_failing_cell_gives_one_paragraph_and_keeps_the_copy_before(
    project, put, copy_of, capsys, cell, what
):
    kept = copy_of(put("01-a", f"# first\n{cell}"))
    put("02-b", "print(1)")
    before = kept.read_bytes()
    assert command.main(["run"]) == 1
    out, err = capsys.readouterr()
    assert kept.read_bytes() == before
    assert len(err.splitlines()) == 1 and len(err) < 500
    assert f"01-a stopped at code cell 2 ({cell!r}) with {what}" in err
    assert (project / "_build" / "failed" / "01-a.ipynb").is_file()
    assert "02-b.ipynb" in out, "the other chapters still run"


def test_a_kernel_that_does_not_start_says_why(project, put, capsys, monkeypatch):
    put("01-a")
    program = {"argv": [sys.executable, "-c", "raise SystemExit('no kernel today')"]}
    monkeypatch.setattr("ipykernel.kernelspec.get_kernel_dict", lambda: program)
    assert command.main(["run"]) == 1
    assert "01-a: its kernel did not start: no kernel today" in capsys.readouterr().err


SETTINGS = """
import sys
import helpers, IPython, matplotlib
from helpers.book import figures
figures.use_style()
print(helpers.__file__, sys.executable, __debug__, globals().get("started"))
print(matplotlib.rcParams["lines.linestyle"], matplotlib.rcParams["timezone"])
1
2
"""


def test_a_chapter_comes_out_the_same_whatever_its_reader_has_set(project, put, monkeypatch):
    files = {
        "foreign/helpers/__init__.py": "raise ImportError('of $PYTHONPATH')",
        "helpers/__init__.py": "raise ImportError('of the working folder')",
        "IPython.py": "raise ImportError('of the working folder')",
        "jupyter/kernels/python3/kernel.json": '{"argv": ["false"], "display_name": "x"}',
        "ipython/profile_default/ipython_config.py": (
            'get_config().InteractiveShell.ast_node_interactivity = "all"'
        ),
        "ipython/profile_default/startup/00.py": "started = 1",
        "startup.py": "started = 2",
        "matplotlib/matplotlibrc": "timezone: Europe/Rome",
        "matplotlibrc": "lines.linestyle: :",
    }
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    for name, value in {
        "PYTHONPATH": "foreign",
        "PYTHONSTARTUP": "startup.py",
        "PYTHONOPTIMIZE": "2",
        "PYTHONSAFEPATH": "",
        "JUPYTER_PATH": "jupyter",
        "IPYTHONDIR": "ipython",
        "MPLCONFIGDIR": "matplotlib",
    }.items():
        monkeypatch.setenv(name, value if value in ("", "2") else str(project / value))
    (project / "matplotlibrc").unlink()
    source = put("01-a", SETTINGS)
    nb = nbformat.read(runner.execute(source, project / "out" / "01-a.ipynb", "smoke"), 4)
    mine = os.path.join(os.path.dirname(os.path.dirname(runner.__file__)), "__init__.py")
    stream, value = nb.cells[-1].outputs
    assert stream.text == f"{mine} {sys.executable} True None\n- UTC\n"
    assert value.data["text/plain"] == "2", "one result a cell"
    assert os.environ["PYTHONOPTIMIZE"] == "2", "this process has its own again"


def test_notebooks_are_replayed_in_the_environment_of_the_runner():
    settings = runner.kernel_environment("smoke")
    assert {name: os.environ.get(name) for name in settings} == settings
    assert settings["IPYTHONDIR"] and not os.environ.get("PYTHONSTARTUP")


def test_kernels_find_what_is_told_in_relative_paths(project, monkeypatch):
    monkeypatch.setenv("BOOK_RESULTS", "mine")
    monkeypatch.setenv("HOME", str(project))
    settings = runner.kernel_environment("laptop", "~/data")
    assert settings["BOOK_RESULTS"] == str(project / "mine")
    assert settings["SPURIOUS_DATA"] == str(project / "data")


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
    assert command.main(["run", "--out", "file/below"]) == 2
    err = capsys.readouterr().err
    assert "cannot write into file/below" in err and len(err.splitlines()) == 1


def test_with_out_nothing_is_written_into_the_project(project, put, tmp_path_factory, capsys):
    (project / "_build").write_text("no folder can be made here")
    put("01-a", "print(1)")
    put("02-b", "1 / 0")
    before, out = sorted(project.rglob("*")), tmp_path_factory.mktemp("out")
    assert command.main(["run", "--out", str(out)]) == 1
    assert sorted(project.rglob("*")) == before
    assert sorted(p.name for p in out.iterdir()) == ["01-a.ipynb", "failed"]
    assert str(out / "failed" / "02-b.ipynb") in capsys.readouterr().err
    # where nothing can be kept, the error is still that of the chapter
    (project / "failed").mkdir()
    assert command.main(["run", "02", "--out", "elsewhere"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err and "cannot write _build/failed/02-b.ipynb" in err


def test_a_folder_that_cannot_be_made_is_one_paragraph(project, capsys):
    (project / "_build").write_text("no folder can be made here")
    (project / "book" / "intro.md").write_text("# Intro")
    for arguments in (["stage"], ["build"], ["clean"]):
        assert command.main(arguments) == 2
        err = capsys.readouterr().err
        assert "_build" in err and len(err.splitlines()) == 1


def test_an_interrupt_stops_the_kernel_and_leaves_no_litter(project, put, copy_of, monkeypatch):
    copy = copy_of(put("01-a", "import time\nopen('started', 'w')\ntime.sleep(300)"))
    before = copy.read_bytes()
    (project / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(project / "tmp"))
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
    assert copy.read_bytes() == before
    assert not (project / "_build").exists() and list((project / "tmp").iterdir()) == []


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
