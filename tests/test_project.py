"""Where the project is, what it runs on, and the settings of one run."""

import pytest
import torch

from helpers.project import PROFILES, Run, describe_device, project_root, resolve_device


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


def test_the_root_is_found_from_inside_from_outside_and_by_name(monkeypatch, tmp_path):
    here = project_root()
    assert (here / "_config.yml").is_file()
    monkeypatch.chdir(here / "src" / "helpers")
    assert project_root() == here
    monkeypatch.chdir(tmp_path)
    assert (project_root() / "src" / "helpers").is_dir()
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path))
    assert project_root() == tmp_path.resolve()


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
