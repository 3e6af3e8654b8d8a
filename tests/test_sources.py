"""Every scientific function says whose it is: in its own words, or in those of its module."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "helpers"
SCIENCE = ("kernels", "theory", "data", "models", "training", "probes", "remedies", "stats")
NAMED = re.compile(r"Source|\b(19|20)\d\d\b|\b[Oo]urs\b")
MODULES = [
    path
    for door in SCIENCE
    for path in sorted((PACKAGE / door).glob("*.py"))
    if path.name != "__init__.py"
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_the_source_is_named(path):
    tree = ast.parse(path.read_text("utf8"))
    if NAMED.search(ast.get_docstring(tree) or ""):
        return
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    silent = [n.name for n in public if not NAMED.search(ast.get_docstring(n) or "")]
    assert not silent, f"name a source (or say that it is ours): {', '.join(silent)}"
