"""The reference of the package: every name of every door, each function with an example."""

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOORS = sorted(path.parent.name for path in (ROOT / "src" / "helpers").glob("*/__init__.py"))


@pytest.fixture(scope="module")
def load():
    """A module of the book's directives by its name."""
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "book" / "_ext"))


@pytest.fixture(scope="module")
def names(load):
    return load("api_names")


@pytest.fixture(scope="module")
def pages(load):
    return load("api_pages")


def functions(names, pages, door):
    """(what readers write, where it is defined) of the functions that a door hands on."""
    for handed in names.handed_on(ROOT, door):
        if names.is_value(ROOT, handed.path):
            continue
        module = names.is_module(ROOT, handed.path)
        inner = names.public(ROOT, handed.path) if module else [""]
        for name in inner:
            path = f"{handed.path}.{name}".rstrip(".")
            if pages.package(ROOT)[path.removeprefix("helpers.")].is_function:
                yield f"{door}.{handed.name}.{name}".rstrip("."), path


@pytest.mark.parametrize("door", DOORS)
def test_every_function_has_an_example(names, pages, door):
    package, silent = pages.package(ROOT), []
    for written, path in functions(names, pages, door):
        text = package[path.removeprefix("helpers.")].docstring.value
        if ">>>" not in text and names.example(ROOT, path) is None:
            silent.append(written)
    assert not silent, f"give these an example in their docstring: {', '.join(silent)}"


def test_an_example_calls_the_function_and_stands_where_it_says(names):
    found = names.example(ROOT, "helpers.data.frames.blank_core")
    assert "blank_core(" in found.text
    assert found.text.strip() in (ROOT / "notebooks" / f"{found.place}.md").read_text("utf8")


def test_a_call_that_must_fail_is_no_example(names):
    code = (
        "from helpers.data import labels\n"
        "def test():\n"
        "    with pytest.raises(ValueError):\n"
        "        labels.margins(1)\n"
        "    labels.margins(22)\n"
    )
    found = [use.text for path, use in names.uses(ROOT, code, "x") if path.endswith("margins")]
    assert found == ["labels.margins(22)"]


def test_names_are_followed_through_doors_to_their_place(names):
    code = "from helpers import data, kernels as k\nx = data.load(k.alignment.interpolate(1))\n"
    found = {path for path, _ in names.uses(ROOT, code, "x")}
    assert {"helpers.data.images.load", "helpers.kernels.alignment.interpolate"} <= found


@pytest.mark.parametrize("door", DOORS)
def test_every_door_has_a_page_with_every_name(site, names, door):
    text = (site / "api" / f"{door}.html").read_text("utf8")
    for handed in names.handed_on(ROOT, door):
        assert f">{handed.name}<" in text or handed.name in text, handed.name
    # docstrings that did not parse leave these behind
    assert not re.search(r"system-message|problematic|:(func|class|mod|math):", text)
    assert f'href="api/{door}.html"' in (site / "package.html").read_text("utf8")


def test_a_page_says_what_is_raised_and_shows_the_signature(site):
    text = re.sub(r"<[^>]+>", "", (site / "api" / "stats.html").read_text("utf8"))
    assert "mean_ci(values: Sequence[float], level: float = 0.95)" in text
    assert "fewer than two values" in text and "[2.0, -0.484, 4.484]" in text


def test_a_signature_keeps_its_star_and_breaks_where_it_is_long(pages):
    package = pages.package(ROOT)
    short = pages.signature(package["stats.intervals.share_ci"], "stats.share_ci")
    assert short.startswith("stats.share_ci(hits: int") and "\n" not in short
    long = pages.signature(package["kernels.relu_ntk.relu_ntk"], "kernels.relu_ntk")
    assert "    *,\n    rows: int = 500,\n" in long


def test_pages_are_made_without_the_package_s_own_imports(load):
    """`make html` has no torch: reading the reference must not import what it describes."""
    import subprocess

    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['scipy'] = None\n"
        f"sys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
        "from pathlib import Path\nimport api_pages\n"
        f"root = Path({str(ROOT)!r})\n"
        "assert api_pages.described(api_pages.package(root)['kernels.relu_ntk.relu_ntk'])[1]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
