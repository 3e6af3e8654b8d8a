"""``python -m helpers.sweep``: what it prints, its exit codes, mistakes in one line."""

import os
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from helpers.sweep import grid, names, register
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

    assert "list | plan | run | merge | audit" in run("--help")
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

registry._import_experiments = lambda name=None: set()

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


def test_one_damaged_table_stops_neither_list_nor_audit_nor_run(registry, toy, tmp_path, capsys):
    where = ["--store", str(tmp_path)]
    for name in ("a", "b", "c"):
        register(toy(name))
    assert main(["run", "--all", "--profile", "smoke", "--device", "cpu", *where]) == 0
    (tmp_path / "b.csv").write_text("garbage\n")
    capsys.readouterr()
    assert main(["list", *where]) == 1
    told = capsys.readouterr()
    assert [line.partition("cells; ")[2] for line in told.out.splitlines()] == [
        "3 rows stored",
        "what is stored cannot be read",
        "3 rows stored",
    ]
    assert "b.csv is damaged in line 1" in told.err and told.err.count("\n") == 1
    assert main(["audit", "--sample", "1", "--device", "cpu", *where]) == 1
    told = capsys.readouterr()
    assert "2 agrees, 1 differs" in told.out and "b: the results file" in told.out
    for command in (["audit", "--power"], ["plan"]):
        assert main([*command, *where]) == 1
        told = capsys.readouterr()
        assert "b.csv is damaged in line 1" in told.err
        assert "\na " in told.out and "\nc " in told.out and "\nb " not in told.out
    assert main(["run", "--all", "--profile", "laptop", "--device", "cpu", *where]) == 1
    told = capsys.readouterr()
    assert "a: 6 cells in" in told.out and "c: 6 cells in" in told.out
    assert told.err.splitlines()[-1] == "1 of 3 experiments failed: b"


def test_the_profile_is_the_published_one_unless_another_is_named(registry, toy, tmp_path, capsys):
    register(toy())
    assert main(["run", "toy", "--device", "cpu", "--store", str(tmp_path)]) == 0
    assert "toy: 6 cells in" in capsys.readouterr().out, "three in smoke"


def test_a_grid_that_exits_keeps_no_other_from_list_plan_and_run(registry, toy, tmp_path, capsys):
    register(toy("a", cells=lambda profile: sys.exit(0)))
    register(toy("b"))
    for command in (["run", "--all", "--device", "cpu"], ["list"], ["plan", "--profile", "laptop"]):
        assert main([*command, "--store", str(tmp_path)]) == 1
        told = capsys.readouterr()
        assert "experiment a:\n" in told.err and "SystemExit: 0" in told.err
        assert "\nb" in "\n" + told.out


def test_who_stops_a_run_of_all_is_told_what_had_failed(
    registry, toy, tmp_path, capsys, monkeypatch
):
    def run(name, *rest):
        raise KeyboardInterrupt if name == "b" else ValueError("no")

    monkeypatch.setattr("helpers.sweep.command._run_one", run)
    for name in ("a", "b", "c"):
        register(toy(name))
    assert main(["run", "--all", "--device", "cpu", "--store", str(tmp_path)]) == 130
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == ["error: no", "1 of 3 experiments failed: a"] and "stopped" in told[2]


def test_experiments_that_fail_keep_no_other_from_running(registry, toy, tmp_path, capsys):
    def no_cells(profile):
        raise KeyError("no grid")

    def exits(x):
        sys.exit(0)

    register(toy("a", result=exits))
    register(toy("b", cells=no_cells))
    register(toy("c"))
    where = ["--profile", "smoke", "--device", "cpu", "--store", str(tmp_path)]
    assert main(["run", "--all", *where]) == 1
    told = capsys.readouterr()
    assert "error: experiment a: 3 of 3 cells failed. Rows finished before are safe" in told.err
    for x in range(3):
        assert f"\n  cell {{'x': {x}}}: SystemExit: 0\n" in told.err
    assert "Traceback" in told.err and "KeyError: 'no grid'" in told.err
    assert told.err.splitlines()[-1] == "2 of 3 experiments failed: a, b"
    assert "c: 3 cells in" in told.out


def test_a_tilde_is_the_home_folder_in_options_and_settings(
    registry, toy, tmp_path, capsys, monkeypatch
):
    told = []
    register(replace(toy(), trial=lambda call: told.append(call.data_dir) or {"y": call.x}))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "d").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    data = ["--device", "cpu", "--data-dir", "~/d"]
    assert main(["run", "toy", "--profile", "smoke", "--store", "~/r", *data]) == 0
    assert main(["audit", "--sample", "1", "--store", "~/r", *data]) == 0
    monkeypatch.setenv("BOOK_RESULTS", "~/s")
    assert main(["run", "toy", "--profile", "laptop", *data]) == 0
    assert set(told) == {str(tmp_path / "d")}
    assert (tmp_path / "r" / "toy.csv").exists() and (tmp_path / "s" / "toy.csv").exists()
    assert list((tmp_path / "work").iterdir()) == []
    capsys.readouterr()
    assert main(["list", "--store", "~nobody-here/r"]) == 1
    assert "'~nobody-here/r' names a home folder" in capsys.readouterr().err


def test_a_store_that_is_a_file_is_refused_once(registry, toy, tmp_path, capsys, monkeypatch):
    for name in ("a", "b"):
        register(toy(name))
    (tmp_path / "file").touch()
    monkeypatch.setenv("BOOK_RESULTS", str(tmp_path / "file"))
    for command in (["list"], ["audit"], ["run", "--all", "--profile", "laptop"]):
        assert main(command) == 1
        error = capsys.readouterr().err
        assert "is a file: --store and BOOK_RESULTS name a folder" in error
        assert error.count("\n") == 1


def test_a_reader_who_has_seen_enough_is_no_error():
    command = f"{shlex.quote(sys.executable)} -m helpers.sweep --help | true"
    done = subprocess.run(command, shell=True, text=True, capture_output=True)
    assert done.stderr == ""


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
    register(toy("broken", result=result, cells=lambda profile: grid(x=0)))
    device = [] if "--device" in arguments else ["--device", "cpu"]
    assert main([*arguments, "--store", str(tmp_path), *device]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_an_unknown_profile_is_refused(registry, capsys):
    with pytest.raises(SystemExit):
        main(["run", "toy", "--profile", "huge"])
    assert "huge" in capsys.readouterr().err


def test_ctrl_c_is_not_a_traceback(lines, tmp_path):
    script = """
import os, signal, sys, time
from helpers.sweep import command, grid, registry

registry._import_experiments = lambda name=None: set()
signal.signal(signal.SIGINT, signal.default_int_handler)  # which jobs in the background lack

@registry.experiment("toy", cells=lambda profile: grid(x=[1, 2, 3]), tolerance=0.0, cheap=bool)
def trial(call):
    if call.x == 3:
        os.kill(int(call.data_dir.rpartition("/")[2]), signal.SIGINT)
        time.sleep(60)
    return {"y": call.x}

os.mkdir(f"{sys.argv[1]}/{os.getpid()}")
sys.exit(command.main(["run", "toy", "--profile", "laptop", "--device", "cpu",
                       "--store", sys.argv[1], "--data-dir", f"{sys.argv[1]}/{os.getpid()}"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        text=True, capture_output=True, timeout=50, env=os.environ | {"BOOK_PROGRESS": "0"},
    )  # fmt: skip
    assert done.returncode == 130 and "finished rows are stored" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(lines()) == 1 + 2 + 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
