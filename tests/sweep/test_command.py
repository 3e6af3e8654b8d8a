"""``python -m helpers.sweep``: what it prints, its exit codes, mistakes in one line."""

import subprocess
import sys

import pytest

from helpers.sweep import names, register
from helpers.sweep.command import main

pytestmark = pytest.mark.filterwarnings("error")


def test_help_and_list_run_as_a_module():
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "helpers.sweep", *arguments],
            text=True,
            capture_output=True,
            check=True,
        ).stdout

    assert "list | run | audit" in run("--help")
    assert [line.partition(":")[0] for line in run("list").splitlines()] == names()


@pytest.mark.parametrize("command, option", [("run", "--profile"), ("audit", "--cheap")])
def test_each_command_has_help(command, option, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0 and option in capsys.readouterr().out


def test_run_and_audit_in_a_process_of_their_own(alter, tmp_path):
    script = """
import sys
from helpers.sweep import command, grid, registry

registry._import_experiments = lambda name=None: None

@registry.experiment("toy", cells=lambda profile: grid(x=[1, 2]), tolerance=0.0, cheap=bool)
def trial(call):
    return {"y": call.x / 7}

sys.exit(command.main(sys.argv[1:]))
"""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", script, *arguments, "--store", tmp_path, "--device", "cpu"],
            text=True,
            capture_output=True,
        )

    assert "toy: 2 cells in" in run("run", "toy", "--profile", "laptop").stdout
    good = run("audit", "--sample", "2", "--seed", "1")
    assert good.returncode == 0 and "2 agrees, 0 differs, 0 not checked" in good.stdout
    alter("0.14285714285714285", "0.15")
    bad = run("audit", "--sample", "2", "--seed", "1")
    assert bad.returncode == 1 and "stored 0.15, now 0.14285714285714285" in bad.stdout


def test_run_all_and_list(registry, toy, tmp_path, capsys):
    register(toy("first"))
    register(toy("second", audited=False))
    where = ["--store", str(tmp_path)]
    assert main(["run", "--all", "--profile", "smoke", "--device", "cpu", *where]) == 0
    assert capsys.readouterr().out.count("3 cells in") == 2
    assert main(["list", *where]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "first: smoke 3, laptop 6, paper 6 cells; 3 rows stored",
        "second: smoke 3, laptop 6, paper 6 cells; 3 rows stored; not audited",
    ]


def test_the_store_is_that_of_the_book_and_smoke_runs_stay_out_of_it(
    registry, toy, tmp_path, capsys, monkeypatch
):
    register(toy())
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path))
    monkeypatch.delenv("BOOK_RESULTS", raising=False)
    assert main(["run", "toy", "--profile", "smoke", "--device", "cpu"]) == 0
    assert "3 cells computed, not stored" in capsys.readouterr().out
    assert main(["run", "toy", "--profile", "laptop", "--device", "cpu"]) == 0
    assert (tmp_path / "book" / "results" / "toy.csv").exists()
    monkeypatch.setenv("BOOK_RESULTS", str(tmp_path / "elsewhere"))
    assert main(["run", "toy", "--profile", "paper", "--device", "cpu"]) == 0
    assert (tmp_path / "elsewhere" / "toy.csv").exists()


def test_an_audit_that_checked_nothing_says_so(registry, toy, tmp_path, capsys):
    register(toy())
    assert main(["audit", "--store", str(tmp_path), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "not checked  toy: nothing is stored" in out and "NOTHING COULD BE CHECKED" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "--profile", "laptop"], "name the experiments to run, or say --all"),
        (
            ["run", "toy", "--all", "--profile", "laptop"],
            "name the experiments to run, or say --all",
        ),
        (["run", "tox", "--profile", "laptop"], "unknown experiment 'tox'"),
        (["run", "toy", "--profile", "laptop", "--data-dir", "/not/there"], "is not a folder"),
        (["audit", "--device", "gpu"], "unknown device 'gpu'"),
        (["run", "broken", "--profile", "laptop"], "experiment broken, cell {'x': 0}: KeyError"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_1(registry, toy, tmp_path, capsys, arguments, message):
    def result(x):
        raise KeyError("x")

    register(toy())
    register(toy("broken", result=result))
    device = [] if "--device" in arguments else ["--device", "cpu"]
    assert main([*arguments, "--store", str(tmp_path), *device]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_an_unknown_profile_is_refused(registry, capsys):
    with pytest.raises(SystemExit):
        main(["run", "toy", "--profile", "huge"])
    assert "huge" in capsys.readouterr().err


def test_ctrl_c_is_not_a_traceback(registry, toy, lines, tmp_path, capsys):
    def result(x):
        if x == 2:
            raise KeyboardInterrupt
        return {"y": x}

    register(toy(result=result))
    where = ["--store", str(tmp_path), "--device", "cpu"]
    assert main(["run", "toy", "--profile", "laptop", *where]) == 130
    assert "finished rows are stored" in capsys.readouterr().err
    assert len(lines()) == 1 + 2 + 1
