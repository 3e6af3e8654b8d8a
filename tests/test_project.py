"""Where the project is, what it runs on, and the settings of one run."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from threadpoolctl import threadpool_info

from helpers.book import chapter
from helpers.book import command as book
from helpers.project import (
    PROFILES,
    Run,
    describe_device,
    own_package,
    project_root,
    resolve_device,
    run_command,
)
from helpers.sweep import command as sweeps


def test_every_library_computes_here_in_one_thread():
    threads = {library["filepath"]: library["num_threads"] for library in threadpool_info()}
    assert threads and set(threads.values()) == {1}
    told = re.findall(r"max_threads\(\) : (\d+)", torch.__config__.parallel_info())  # OpenMP, MKL
    assert told and set(told) == {"1"}


def test_each_profile_picks_its_own_value():
    picked = [Run(p, "cpu", 0, None).pick(smoke=1, laptop=2, paper=3) for p in PROFILES]
    assert picked == [1, 2, 3]


def test_auto_is_a_gpu_exactly_when_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [resolve_device(d) for d in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda",
        "cuda",
        "cuda:1",
        "cpu",
    ]
    with pytest.raises(ValueError, match="2 CUDA"):
        resolve_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"


def test_results_go_to_the_book_unless_the_environment_says_otherwise(monkeypatch, tmp_path):
    run = Run("laptop", "cpu", 0, None)
    assert run.store == project_root() / "book" / "results"
    monkeypatch.setenv("BOOK_RESULTS", str(tmp_path))
    assert run.store == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BOOK_RESULTS", "~/mine")
    assert run.store == tmp_path / "mine"


def test_the_root_is_found_from_inside_from_outside_and_by_name(monkeypatch, tmp_path):
    here = project_root()
    assert (here / "_config.yml").is_file()
    monkeypatch.chdir(here / "src" / "helpers")
    assert project_root() == here
    monkeypatch.chdir(tmp_path)
    assert (project_root() / "src" / "helpers").is_dir()
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path))
    assert project_root() == tmp_path.resolve()


@pytest.fixture
def checkout(tmp_path):
    """Another checkout of the project, as `cp -a` or `git worktree` makes one."""
    shutil.copytree(project_root() / "src" / "helpers", tmp_path / "other" / "src" / "helpers")
    shutil.copy(project_root() / "_config.yml", tmp_path / "other")
    (tmp_path / "other" / "notebooks").mkdir()
    return tmp_path / "other"


@pytest.mark.parametrize("how", ("here", "by name"))
def test_a_checkout_is_not_served_by_the_package_of_another(checkout, monkeypatch, capsys, how):
    own_package()
    if how == "here":
        monkeypatch.chdir(checkout / "notebooks")
    else:
        monkeypatch.setenv("BOOK_ROOT", str(checkout))
    assert book.main(["stale"]) == 2 and sweeps.main(["list"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 2
    assert all(f"the project is {checkout}" in line for line in err.splitlines())
    with pytest.raises(ImportError, match="make setup"):
        chapter.setup()


def test_a_link_to_the_package_is_the_package(checkout, monkeypatch):
    mine = project_root() / "src"
    shutil.rmtree(checkout / "src")
    (checkout / "src").symlink_to(mine)
    monkeypatch.chdir(checkout)
    own_package()


def test_a_root_that_is_no_folder_of_the_book_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path / "gone"))
    for arguments in (["stale"], ["refresh"], ["run"]):
        assert book.main(arguments) == 2
        assert f"{tmp_path}/gone/notebooks is not there" in capsys.readouterr().err


def test_a_reader_who_has_seen_enough_is_no_trouble(monkeypatch):
    for say in (lambda: print("x" * 10**6), lambda: print("x"), lambda: sys.exit(print("x"))):
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "w") as out:
            monkeypatch.setattr(sys, "stdout", out)
            assert run_command(say) == 1
    monkeypatch.setattr(sys, "stdout", None)  # `>&-`
    assert run_command(lambda: 3) == 3


@pytest.mark.parametrize("name", ("gpu", "cuda:x", "", None, 0))
def test_a_device_that_torch_does_not_know_is_named(name):
    with pytest.raises(ValueError, match=f"unknown device {name!r}"):
        resolve_device(name)


def test_a_processor_is_described_by_its_name_and_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0}, raising=False)
    assert describe_device("cpu").endswith(", 1 core")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 3}, raising=False)
    assert describe_device("cpu").endswith(", 2 cores")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"name of {device}")
    assert describe_device("cuda:1") == "name of cuda:1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert describe_device("auto") == describe_device("cpu")


@pytest.mark.parametrize("arguments", ["helpers.book stale", "helpers.sweep list"])
def test_a_reader_who_has_seen_the_first_line_is_no_error(arguments):
    """Python buffers what goes into a pipe: only without that the second line finds it closed."""
    command = f"{shlex.quote(sys.executable)} -u -m {arguments} | head -n 1"
    done = subprocess.run(command, shell=True, text=True, capture_output=True)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
