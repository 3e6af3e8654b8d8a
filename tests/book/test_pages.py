"""What pages show as code runs."""

import re
from pathlib import Path

import pytest

from helpers.sweep import registry

BOOK = Path(__file__).resolve().parents[2] / "book"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_snippets_of_the_page_on_the_package_run_in_their_order(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    blocks = BLOCK.findall((BOOK / "package.md").read_text("utf8"))
    assert len(blocks) >= 5
    names: dict = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "package.md", "exec"), names)
    assert names["fitted"].alignment(names["K"]).numpy() == pytest.approx(1)
    assert names["toy"](registry.Call(width=10, trial=1)) == {"score": 11}


def test_the_page_on_the_package_names_every_door():
    doors = {path.parent.name for path in (BOOK.parent / "src" / "helpers").glob("*/__init__.py")}
    for page in (BOOK / "package.md", BOOK.parent / "README.md"):
        text = page.read_text("utf8")
        assert not [door for door in doors if f"`{door}`" not in text], page
