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


def reads_data(node):
    """Calls below this node that look into the reader's data folder for more than digits."""
    found = []
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            shipped = any(isinstance(x, ast.Constant) and x.value in SHIPPED for x in given)
            if any(ast.unparse(x) == "run.data_dir" for x in given) and not shipped:
                found.append(ast.unparse(call))
    return found


SHIPPED = ("mnist5k", "digits")  # come with the package


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_no_output_depends_on_which_data_sets_are_here(source):
    """Numbers come from stored experiments, pictures from a function that can fail."""
    tree = ast.parse("\n".join(text for _, text in code(source)))
    makers = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pictures.made_or_stored":
            makers |= {x.id for x in ast.walk(call.args[2]) if isinstance(x, ast.Name)}
    open_to_data = [
        text
        for node in tree.body
        if not (isinstance(node, ast.FunctionDef) and node.name in makers)
        for text in reads_data(node)
    ]
    assert not open_to_data, "use an experiment, or pictures.made_or_stored"


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_a_figure_cell_has_one_output(source):
    """The sentence about stored pictures would get the figure's name, too."""
    for cell in sources.code_cells(sources.load(source)):
        if "figure" in cell.metadata.get("mystnb", {}):
            assert "made_or_stored" not in cell.source
