"""What is kept of a trial beside its results: the seconds, the commit."""

import os
import subprocess

import pytest

from helpers.sweep import grid, sweep, trials

pytestmark = pytest.mark.filterwarnings("error")


def test_a_clock_that_jumps_back_stores_no_negative_seconds(toy, monkeypatch):
    class Clock:
        perf_counter = iter([100.0, 50.0]).__next__

    monkeypatch.setattr("helpers.sweep.trials.time", Clock)
    assert sweep(toy(), grid(x=0), store=None)["seconds"].tolist() == [0.0]


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True)


def test_the_revision_is_the_commit_and_says_when_the_package_differs(tmp_path, monkeypatch):
    package = tmp_path / "src" / "helpers"
    (package / "sweep").mkdir(parents=True)
    source = package / "errors.py"
    source.write_text("first")
    monkeypatch.setattr(trials, "__file__", str(package / "sweep" / "trials.py"))
    assert trials.revision() == "unknown", "no repository"
    git(tmp_path, "init")
    assert trials.revision() == "unknown", "no commit yet"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = trials.revision()
    assert 7 <= len(clean) <= 12 and set(clean) <= set("0123456789abcdef")
    (tmp_path / "README").write_text("changes outside the package do not count")
    assert trials.revision() == clean
    source.write_text("second")
    assert trials.revision() == clean + "+"
    monkeypatch.setenv("PATH", "/nowhere")
    assert trials.revision() == "unknown", "no git"


@pytest.fixture
def inside(tmp_path, monkeypatch):
    def make(place, ignored=False, committed=False):
        """A repository at `tmp_path` with the project in its folder `place`."""
        package = tmp_path / place / "src" / "helpers"
        (package / "sweep").mkdir(parents=True)
        (package / "errors.py").write_text("first")
        (tmp_path / ".gitignore").write_text(f"{place}/src/\n" if ignored else "")
        git(tmp_path, "init")
        git(tmp_path, "add", "." if committed else ".gitignore")
        git(tmp_path, "commit", "-m", "first")
        monkeypatch.setattr(trials, "__file__", str(package / "sweep" / "trials.py"))
        return package

    return make


@pytest.mark.parametrize("place", [".", "below", "src/helpers"])
@pytest.mark.parametrize("ignored", [True, False])
def test_the_commit_of_a_repository_without_the_package_is_not_its_revision(inside, place, ignored):
    inside(place, ignored)
    assert trials.revision() == "unknown"


def test_the_commit_of_a_surrounding_project_is_not_the_revision(inside):
    inside("below", committed=True)
    assert trials.revision() == "unknown"


def test_the_environment_does_not_choose_the_repository(inside, tmp_path, monkeypatch):
    inside(".", committed=True)
    own = trials.revision()
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    git(other, "commit", "--allow-empty", "-m", "other")
    for name, value in {
        "GIT_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / "index",
        "GIT_OBJECT_DIRECTORY": other / ".git" / "objects",
        "GIT_NAMESPACE": "odd",
        "GIT_CEILING_DIRECTORIES": tmp_path / "src",
        "GIT_PREFIX": "odd/",
    }.items():
        monkeypatch.setenv(name, str(value))
        assert trials.revision() == own != "unknown"


def test_git_that_refuses_is_not_heard(tmp_path, monkeypatch, capfd):
    fake = tmp_path / "git"
    fake.write_text(
        "#!/bin/sh\necho 'fatal: detected dubious ownership in repository' >&2\nexit 128"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert trials.revision() == "unknown"
    assert capfd.readouterr() == ("", "")
