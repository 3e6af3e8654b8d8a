"""What `make` does before any code of ours runs: variables, quoting, environments."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from helpers.project import project_root

ROOT = project_root()
# notes down how it was called; `-m venv PLACE` makes another of its kind there
STAND_IN = """#!/bin/sh
echo "$0 $*" >> "$CALLS"
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi
"""
# a Python that says that it is another
OTHER = """#!/bin/sh
exec {python} -c '
import platform, sys
sys.version_info, sys.platform, platform.machine = {version}, "{system}", lambda: "{machine}"
code, sys.argv = sys.argv[2], ["-c", *sys.argv[3:]]
exec(code)
' "$@"
"""
PYTHON = shlex.quote(sys.executable)
MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")


def make(folder, *words, **variables):
    # as from a shell, also where the tests themselves were started by make
    outer = {name: value for name, value in os.environ.items() if name not in MAKE}
    return subprocess.run(
        ["make", *words],
        cwd=folder,
        env=outer | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path):
    """A folder with what `make` reads, and a stand-in for Python that writes to calls.txt."""
    folder = tmp_path / "a book"
    (folder / "book").mkdir(parents=True)
    for name in ("Makefile", *pins()):
        shutil.copy(ROOT / name, folder / name)
    script(tmp_path / "python", STAND_IN)
    return folder


def pins():
    return re.search(r"^PINS := (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()


def setup(folder, place, **variables):
    """Calls of the stand-in during `make setup`."""
    calls = place / "calls.txt"
    calls.write_text("")
    done = make(folder, "setup", f"PYTHON={place / 'python'}", CALLS=str(calls), **variables)
    assert done.returncode == 0, done.stderr
    return calls.read_text()


def test_variables_of_the_shell_are_not_ours():
    names = ("PYTHON", "NB", "PROFILE", "DEVICE", "SEED", "DATA", "SAMPLE", "JOBS")
    foreign = {name: "/foreign" for name in names}
    for target in ("book", "publish", "audit", "baselines"):
        assert "/foreign" not in make(ROOT, "-n", target, **foreign).stdout
    assert "--data-dir '/mine'" in make(ROOT, "-n", "book", "DATA=/mine", **foreign).stdout


@pytest.mark.parametrize(("given", "told"), [((), False), (("JOBS=",), False), (("JOBS=3",), True)])
def test_chapters_are_as_many_at_a_time_as_the_command_line_says(given, told):
    assert ("--jobs '3'" in make(ROOT, "-n", "book", *given).stdout) == told
    assert ("--jobs" in make(ROOT, "-n", "book", *given).stdout) == told


@pytest.mark.parametrize("value", ["/data/l'image", "a b", '"', "'; exit 3; '", "~/x", "*"])
def test_a_value_is_one_word_for_the_shell(value):
    shown = make(ROOT, "-n", "chapter", "NB=01", f"DATA={value}").stdout.replace("\\\n", " ")
    line = next(line for line in shown.splitlines() if "helpers.book run" in line)
    words = shlex.split(line)
    assert words[words.index("--data-dir") + 1] == value


@pytest.mark.parametrize(
    ("version", "system", "machine", "refusal"),
    [
        ((3, 10, 13), "linux", "x86_64", "Python 3.10 is not supported"),
        ((3, 14, 0), "linux", "x86_64", "Python 3.14 is not supported"),
        ((2, 7, 18), "darwin", "arm64", "Python 2.7 is not supported"),
        ((3, 12, 1), "darwin", "x86_64", "Intel processors are not supported"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(checkout, version, system, machine, refusal):
    text = OTHER.format(python=PYTHON, version=version, system=system, machine=machine)
    other = script(checkout.parent / "other", text)
    done = make(checkout, "setup", f"PYTHON={other}")
    assert done.returncode != 0 and refusal in done.stderr and "Traceback" not in done.stderr
    assert not (checkout / ".venv").exists()


def test_the_supported_versions_are_stated_once_and_the_same_everywhere():
    low, high = re.fullmatch(
        r">=3\.(\d+),<3\.(\d+)",
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"],
    ).groups()
    assert f"(3, {low}) <= sys.version_info[:2] < (3, {high})" in (ROOT / "Makefile").read_text()
    *early, last = (f"3.{minor}" for minor in range(int(low), int(high)))
    assert f"Python {', '.join(early)} or {last}" in (ROOT / "README.md").read_text()
    assert int(low) <= sys.version_info.minor < int(high)


def test_an_environment_is_made_once_and_made_anew_where_it_was_copied(checkout, tmp_path):
    first = setup(checkout, tmp_path)
    assert "-m venv .venv" in first and "install" in first and "-e . --no-deps" in first
    assert setup(checkout, tmp_path) == ""
    (checkout / ".venv" / "of the old place").touch()
    copied = tmp_path / "copy"
    shutil.copytree(checkout, copied)
    assert "-m venv .venv" in setup(copied, tmp_path)
    assert not (copied / ".venv" / "of the old place").exists()
    assert setup(copied, tmp_path) == "" == setup(checkout, tmp_path)


def test_an_environment_made_by_hand_is_kept(checkout, tmp_path):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(tmp_path / "python", checkout / ".venv" / "bin" / "python")
    calls = setup(checkout, tmp_path)
    assert "venv .venv" not in calls and "install" in calls


def test_pip_and_python_take_nothing_from_the_shell(checkout, tmp_path):
    seen = tmp_path / "seen.txt"
    script(tmp_path / "python", STAND_IN + f"env >> {shlex.quote(str(seen))}\n")
    foreign = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "MPLBACKEND")
    setup(checkout, tmp_path, PIP_USER="1", **{name: "/foreign" for name in foreign})
    lines = set(seen.read_text().splitlines())
    assert {"PIP_USER=0", "PYTHONNOUSERSITE=1"} <= lines
    assert not [line for line in lines if line.endswith("=/foreign")]


def test_every_environment_can_be_installed_from_one_set_of_pins():
    """A constraint that a supported Python cannot have would stop the first command."""
    text = Path(ROOT / "constraints.txt").read_text()
    # its newer versions refuse Python 3.11.2, which Debian 12 has
    assert tuple(map(int, re.search(r"^soupsieve==([\d.]+)$", text, re.M)[1].split("."))) < (
        3,
        0,
        2,
    )


def test_an_environment_is_made_anew_when_its_python_has_gone(checkout, tmp_path):
    setup(checkout, tmp_path)
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")  # as an update of the system leaves it
    assert "-m venv .venv" in setup(checkout, tmp_path)
    assert not python.is_symlink() and setup(checkout, tmp_path) == ""


def test_an_environment_made_by_hand_from_another_python_is_refused(checkout):
    place = checkout / ".venv" / "bin"
    place.mkdir(parents=True)
    text = OTHER.format(python=PYTHON, version=(3, 14, 0), system="linux", machine="x86_64")
    script(place / "python", text)
    done = make(checkout, "setup")
    assert done.returncode != 0 and "Python 3.14 is not supported" in done.stderr


def test_pip_follows_no_other_list_and_no_other_python(checkout, tmp_path):
    seen = tmp_path / "seen.txt"
    script(tmp_path / "python", STAND_IN + f"env >> {shlex.quote(str(seen))}\n")
    foreign = ("PIP_CONSTRAINT", "PIP_PYTHON", "PIP_REQUIRE_HASHES", "PYTHONINSPECT")
    setup(checkout, tmp_path, **{name: "/foreign" for name in foreign})
    assert "=/foreign" not in seen.read_text()


def test_names_of_chapters_are_words_too():
    shown = make(ROOT, "-n", "baselines", "NB=01 l'a;b").stdout
    words = shlex.split(shown.splitlines()[-1])
    assert words[words.index("run") + 1 : words.index("--profile")] == ["01", "l'a;b"]
