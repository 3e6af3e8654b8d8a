"""What a reader of the chapters' sources can rely on: short cells, nothing written twice."""

import ast
from collections import defaultdict

import pytest

from helpers.book import sources

LONGEST = 25
CHAPTERS = sources.sources()


def code(source):
    """Code cells as their numbers and texts, without magics and outer blank lines."""
    cells = sources.code_cells(sources.load(source))
    return [(n, sources.without_magics(cell.source).strip("\n")) for n, cell in enumerate(cells, 1)]


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_a_cell_fits_on_a_screen(source):
    long = {
        f"cell {n} ({text.splitlines()[0]})": len(text.splitlines())
        for n, text in code(source)
        if len(text.splitlines()) > LONGEST
    }
    assert not long, f"more than {LONGEST} lines: one idea a cell"


def test_what_two_chapters_define_alike_belongs_into_the_package():
    """Compared are bodies of more than one line: a name may mean something else elsewhere."""
    defined = defaultdict(set)
    for source in CHAPTERS:
        for _, text in code(source):
            for node in ast.parse(text).body:
                if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno > 1:
                    defined[ast.dump(ast.Module(node.body, []))].add((source.stem, node.name))
    twice = [sorted(places) for places in defined.values() if len(places) > 1]
    assert not twice, twice
