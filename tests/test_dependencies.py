"""What a text reaches in the package, on small made-up trees and on the real one."""

import ast
import contextlib
import functools
import gc
import io
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from helpers import sweep
from helpers.book import sources
from helpers.dependencies import Tree, code_of
from helpers.syntax import syntax, uncollected

ROOT = Path(__file__).resolve().parents[1]

# a package with two doors, a door of a door, and experiments
TOY = {
    "helpers": '__version__ = "1"',
    "helpers.errors": "class Wrong(Exception): pass",
    "helpers.a": "from helpers.a import two\nfrom helpers.a.one import f, same\n",
    "helpers.a.one": "from helpers.errors import Wrong\ndef f(): ...\ndef same(): ...",
    "helpers.a.two": "def g(): ...",
    "helpers.a.same": "def h(): ...",
    "helpers.a.hidden": "def k(): ...",
    "helpers.b": "from helpers.b.user import use\nfrom helpers.b.inner import deep",
    "helpers.b.user": "from helpers import a\ndef use(): return a.two.g()",
    "helpers.b.inner": "from helpers.b.inner.deep import deep",
    "helpers.b.inner.deep": "from helpers.a import two as second\ndef deep(): return second.g()",
    "helpers.sweep": "from helpers.sweep.registry import get, results",
    "helpers.sweep.registry": "import importlib\nimport helpers.experiments as package\n"
    "def get(name): importlib.import_module(package.x + name)\ndef results(name, run): get(name)",
    "helpers.experiments": "",
    "helpers.experiments.part": "",
    "helpers.experiments.part.red": 'from helpers import a\nregister(Experiment("red", a.f))',
    "helpers.experiments.part.blue": '@experiment("blue", size=1)\ndef trial(): ...',
}
A = {"a.one", "a.two", "a.same", "a.hidden", "a", "errors"}
SWEEP = {"sweep.registry"}
RED, BLUE = {"experiments.part.red", "a.one", "errors"}, {"experiments.part.blue"}


def reached(code: str, **more: str) -> set[str]:
    """Modules that the code reaches, without the name of the package."""
    return {name.removeprefix("helpers.") for name in Tree(TOY | more).closure(code)}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import numpy, helpersome\nfrom os import path", set()),
        ("from helpers import a\na.f()", {"a.one", "errors"}),
        ("from helpers import a as other\nother.f()", {"a.one", "errors"}),
        ("from helpers.a import f as other\nother()", {"a.one", "errors"}),
        ("import helpers.a.two as t, numpy\nt.g()", {"a.two"}),
        ("import helpers.a.two\nhelpers.a.two.g()", {"a.two"}),
        ("import helpers.a.two\nhelpers.errors.Wrong", {"a.two", "errors"}),
        ("import helpers\nhelpers.a.two.g()", {"a.two"}),
        ("from helpers.a import two\ntwo.g()", {"a.two"}),
        ("from helpers.a import hidden\nhidden.k()", {"a.hidden"}),
        ("from helpers import a\na.hidden.k()", {"a.hidden"}),
        # a function and a module of the same name: either may be meant
        ("from helpers import a\na.same()", {"a.one", "a.same", "errors"}),
        ("from helpers.a import same\nsame()", {"a.one", "a.same", "errors"}),
        # through doors of doors, and through what another module has imported
        ("from helpers import b\nb.deep()", {"b.inner.deep", "a.two"}),
        ("from helpers.b import inner\ninner.deep()", {"b.inner.deep", "a.two"}),
        ("from helpers.b import user\nuser.use()", {"b.user", "a.two"}),
        ("from helpers.b import user\nuser.a.f()", {"b.user", "a.one", "a.two", "errors"}),
        ("from helpers.b.user import a\na.f()", {"b.user", "a.one", "a.two", "errors"}),
        ("from helpers.b.inner.deep import second\nsecond.g", {"b.inner.deep", "a.two"}),
        # imports anywhere, and two under one name
        ("def f():\n    from helpers.a import two\n    two.g()", {"a.two"}),
        (
            "def f():\n    from helpers.a import two as m\n    m.g()\n"
            "def g():\n    from helpers import errors as m\n    m.Wrong",
            {"a.two", "errors"},
        ),
        ("from helpers import a\n[f(a.f) for a in a.two]", {"a.one", "a.two", "errors"}),
        # whole doors
        ("from helpers import a", A),
        ("from helpers.a import *", A),
        ("from helpers import a\ngetattr(a, name)", A),
        ("from helpers import a\nother = a\nother.f()", A),
        ("from helpers import a\ndef f(a): return a", A),
        ("from helpers import a\na.f()\nprint(a)", A),
        # what is for type hints alone
        (
            "if TYPE_CHECKING:\n    from helpers import a\nelse:\n    from helpers.a import two",
            {"a.two"},
        ),
        # imports by name
        ('import importlib\nimportlib.import_module("helpers.a.two")', {"a.two"}),
        ('import importlib\nimportlib.import_module("torch._decomp")', set()),
        ('import sys\nsys.modules["helpers.a.two"]', {"a.two"}),
        ("import importlib, pkgutil", set()),
        ("from importlib.metadata import version\nversion('torch')", set()),
        ("net.eval()\nframe.query('x')", set()),
    ],
)
def test_modules_behind_names(code, found):
    assert reached(code) == found


@pytest.mark.parametrize(
    "code",
    [
        "from helpers import *",
        "import helpers\nprint(helpers)",
        'import importlib\nimportlib.import_module(f"helpers.{x}")',
        "from importlib import import_module\nimport_module(name)",
        'from importlib import import_module as load\nload("helpers.a.two")',
        'import importlib\nimportlib.import_module(".two", "helpers.a")',
        "__import__(name)",
        'exec("import " + name)',
    ],
)
def test_what_the_text_does_not_tell_is_everything(code):
    assert Tree(TOY).closure(code) == set(TOY)


def test_imports_within_the_package_may_be_relative():
    relative = {
        "helpers.b.user": "from . import inner\nfrom .. import a\nfrom ..a.two import g\n"
        "a.f(), inner.deep()"
    }
    found = {"b.user", "b.inner.deep", "a.one", "a.two", "errors"}
    assert reached("from helpers.b import use", **relative) == found
    door = {"helpers.b": "from .user import use"}
    assert reached("from helpers import b\nb.use()", **door) == {"b.user", "a.two"}


def test_a_door_that_does_something_itself_counts():
    door = {"helpers.a": TOY["helpers.a"] + "f = f or two.g"}
    assert {"a", "a.one", "a.two"} <= reached("from helpers import a\na.hidden.k()", **door)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('sweep.results("red", run)', RED),
        ('sweep.results(name="blue")', BLUE),
        ('sweep.get("blue").cells("red")', BLUE),
        ('for name in ("red", "other"):\n    sweep.results(name, run)', RED),
        ('sweep.results("red" if x else "blue", run)', RED | BLUE),
        ('names = {"r": "red"}\nsweep.results(names[x], run)', RED),
        ('study = sweep.get("blue")\nsweep.sweep(study)\nprint("red")', BLUE),
        ('study = sweep.get("blue")\nstudy = "red"\nsweep.sweep(study)', RED | BLUE),
        ("def f(name): sweep.results(name, run)", RED | BLUE),
        ('sweep.results(f"r{x}", run)\nprint("blue")', RED | BLUE),
        ('name = "r" + x\nsweep.results(name, run)\nprint("blue")', RED | BLUE),
        ('list(map(sweep.results, ["red"]))', RED),
        ('chapter.put("red", 1)\nsweep.results("blue", run)', BLUE),
        ('sweep.results("unknown", run)', set()),
    ],
)
def test_experiments_behind_their_names(code, found):
    # the toy sweep has no `sweep.sweep`: that its door is asked for more does not matter here
    assert reached("from helpers import sweep\n" + code) - {"sweep"} == found | SWEEP
    plain = code.replace("sweep.results", "results").replace("sweep.get", "get")
    if "sweep.sweep" not in code:
        assert reached("from helpers.sweep import get, results\n" + plain) == found | SWEEP


@pytest.mark.parametrize(
    "code",
    [
        '@experiment("a", cells=b)\ndef f(call): 0', 'x = Experiment ("a", f)',
        'sweep.Experiment \\\n ("a")', '(experiment)("a")', '(experiment # why\n ("a"))',
    ],
)  # fmt: skip
def test_an_experiment_is_found_however_it_is_written(code):
    """In its own module alone, and one that is broken hinders nobody who does not need it."""
    texts = {"helpers.a": code, "helpers.b": "def a(x): 0", "helpers.c": "def ("}
    assert Tree(texts).experiments == {"a": "helpers.a"}
    assert Tree(texts).closure("import helpers.b") == {"helpers.b"}
    with pytest.raises(SyntaxError):
        Tree(texts).closure("import helpers.c")


@pytest.mark.parametrize("before", [True, False])
def test_garbage_is_collected_afterwards_as_before(before):
    (gc.enable if before else gc.disable)()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() == before
        with pytest.raises(SyntaxError), uncollected():
            syntax("def (")
        assert gc.isenabled() == before
    finally:
        gc.enable()


def test_the_hash_takes_no_notice_of_words_and_layout():
    code = 'def f(x: int):\n    """Half."""\n    y = x / 2  # half\n    return y\n'
    same = 'X = 1\n"""About X."""\nclass A:\n    """A."""\n    b = 1'
    assert syntax(code) == syntax("def f(x : int) :\n  y=(x/2)\n  return y")
    assert syntax(same) == syntax("X = 1\nclass A:\n    b = 1")
    assert syntax(code) != syntax(code.replace("/", "*"))
    assert syntax("f('a')") != syntax("f('b')")
    assert syntax("x = [1]") != syntax("x = (1,)")


def test_the_hash_is_that_of_every_other_version_of_python():
    """Written out once: newer versions of Python have more fields, empty ones here."""
    code = 'def f(*, x: int = 1):\n    return f"{x!r:>{y}} µ" "b", u"c", ..., 2.50, None, b"\\xff"'
    assert syntax(code) == (
        "Module(body=[FunctionDef(name='f', args=arguments(kwonlyargs=[arg(arg='x', "
        "annotation=Name(id='int', ctx=Load()))], kw_defaults=[Constant(value=1)]), "
        "body=[Return(value=Tuple(elts=[JoinedStr([FormattedValue(value=Name(id='x', ctx=Load()), "
        "conversion=114, format_spec=JoinedStr([Constant(value='>'), FormattedValue(value=Name("
        "id='y', ctx=Load()), conversion=-1)])), Constant(value=' \\xb5b')]), Constant(value='c'), "
        "Constant(value=Ellipsis), Constant(value=2.5), Constant(), Constant(value=b'\\xff')], "
        "ctx=Load()))])])"
    )


GRID = """
from helpers.sweep import experiment
def sizes(profile): return [1]
def listed(profile): return [{"n": n} for n in sizes(profile)]
def shared(profile): return [{"n": 2}]
def idle(profile): return 3
@experiment("first", cells=listed, cheap=lambda cell: cell["n"] < 4, tolerance=5)
def first(call): return {"y": call.n * 6}
@experiment("second", cells=shared)
def second(call): return {"y": shared("laptop")}
"""


@pytest.mark.parametrize(
    ("number", "same"),
    [('{"n": n}', True), ("4", True), ("1", False), ("2", False), ("3", False), ("6", False)],
)
def test_a_grid_is_no_part_of_what_a_cell_computes(number, same):
    """One function serves a trial, too; one serves nothing: neither is a grid alone."""
    before = {"helpers.x": GRID}
    after = {"helpers.x": GRID.replace(number, f"-{number}")}
    assert Tree(before).digest(before) != Tree(after).digest(after)
    assert same == (
        Tree(before).digest(before, grids=False) == Tree(after).digest(after, grids=False)
    )


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("helpers.y", "from helpers.x import listed"),
        ("helpers.y", "from helpers import x\nx.listed"),
        ("helpers.y", "from helpers.x import *\nlisted('laptop')"),
        ("helpers.y", "from helpers import x\ngetattr(x, 'listed')('laptop')"),
        ("helpers.x.z", "from . import *\nlisted('laptop')"),
        ("helpers.x.y.z", "from .. import \\\n    *\nlisted('laptop')"),
    ],
)
def test_a_grid_that_others_use_counts(name, other):
    before = {"helpers.x": GRID, name: other}
    after = before | {"helpers.x": GRID.replace('{"n": n}', '{"n": -n}')}
    assert Tree(before).digest(before, grids=False) != Tree(after).digest(after, grids=False)


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        ("def listed(", "@cache\ndef listed("),
        ("def listed(profile)", "def listed(profile, also=sizes(0))"),
        ("def listed(profile): ", "def listed(profile):\n global N; N = 2\n "),
        ("call.n * 6", "globals()['listed']('smoke')"),
        ("cells=listed", "cells=(listed)([])"),
        ("cells=listed", "cells=(other := listed)"),
    ],
)
def test_a_grid_that_does_something_else_counts(plain, other):
    before = {"helpers.x": GRID.replace(plain, other)}
    after = {"helpers.x": before["helpers.x"].replace('{"n": n}', '{"n": -n}')}
    assert before["helpers.x"] != GRID
    assert Tree(before).digest(before, grids=False) != Tree(after).digest(after, grids=False)


# -- the real tree ---------------------------------------------------------------------------------

REAL = Tree.read(ROOT / "src" / "helpers")
CHAPTERS = sorted((ROOT / "notebooks").glob("*.md"))
# what a chapter cannot do without: by hand, from the formulas that its text shows
USES = {
    "01-setting": {"kernels.alignment", "kernels.hermite", "data.frames", "probes.accuracy"},
    "02-stability-times-alignment": {"kernels.alignment", "experiments.framed.memory"},
    "13-deletion": {"probes.influence", "experiments.rare.deletion"},
    "16-tracing": {"probes.tracing", "probes.lesions", "experiments.minority.paired"},
    "24-resnet": {"experiments.shortcut.resnet", "models.resnets", "training.loop"},
}


@functools.cache
def code_of_chapter(path: Path) -> str:
    cells = sources.code_cells(sources.load(path))
    return "\n".join(sources.without_magics(cell.source) for cell in cells)


@functools.cache
def real(path: Path) -> frozenset[str]:
    return frozenset(REAL.closure(code_of_chapter(path)))


def other_operator(module: str) -> Tree:
    """The real tree with the first operator of a module replaced."""
    tree = ast.parse(REAL.texts[module])
    one = next(node for node in ast.walk(tree) if isinstance(node, ast.BinOp))
    one.op = ast.Sub() if isinstance(one.op, ast.Add) else ast.Add()
    return Tree({**REAL.texts, module: ast.unparse(tree)})


def stale(tree: Tree) -> set[str]:
    """Chapters that another tree makes stale, by number."""
    return {
        path.stem[:2]
        for path in CHAPTERS
        if tree.digest(tree.closure(code_of_chapter(path))) != REAL.digest(real(path))
    }


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_reaches_what_it_uses_and_less_than_half_of_the_package(path):
    assert {f"helpers.{name}" for name in USES.get(path.stem, ())} <= real(path)
    assert "helpers.book.chapter" in real(path)
    assert len(real(path)) < len(REAL.texts) / 2


def test_every_experiment_is_found_where_its_trial_is():
    assert set(REAL.experiments) == set(sweep.names())
    for name, module in REAL.experiments.items():
        assert module.startswith("helpers.experiments."), name


def test_doors_hand_on_and_do_nothing():
    packages = {path.parent for path in (ROOT / "src" / "helpers").rglob("*.py")}
    assert len(REAL._doors) == len(packages), (
        "a door with code of its own makes all behind it count"
    )


def test_what_runs_is_among_what_is_reached():
    """The first chapter's code at smoke, every function of the package that it calls noted."""
    path, ran = CHAPTERS[0], set()
    package = str(ROOT / "src" / "helpers")

    def note(frame, event, argument):
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(package) and file not in ran:
            if not importing(frame):
                ran.add(file)

    def importing(frame) -> bool:
        """Whether a module is being executed: importing one is no use of it."""
        while frame is not None and frame.f_code.co_filename.startswith(package):
            if frame.f_code.co_name == "<module>":
                return True
            frame = frame.f_back
        return False

    code = compile(code_of_chapter(path), path.name, "exec")
    with contextlib.redirect_stdout(io.StringIO()), plt.rc_context():
        sys.setprofile(note)
        try:
            exec(code, {"__name__": "__main__"})
        finally:
            sys.setprofile(None)
            plt.close("all")
    modules = {".".join(Path(file).relative_to(ROOT / "src").with_suffix("").parts) for file in ran}
    assert {"helpers.kernels.alignment", "helpers.data.frames"} <= modules
    assert modules <= real(path)


def test_grids_of_the_package_are_found():
    listing = {m: REAL._listing(m) for m in set(REAL.experiments.values())}
    found = {node.name for nodes in listing.values() for node in nodes if hasattr(node, "name")}
    grids = {sweep.get(name).cells.__name__ for name in REAL.experiments}
    assert found == grids


def test_no_trial_asks_for_a_grid():
    """Its rows would not name what it depends on."""
    for module, text in REAL.texts.items():
        if module.startswith("helpers.experiments."):
            asked = {getattr(node, "attr", "") for node in ast.walk(ast.parse(text))}
            assert not asked & {"cells", "cheap"}, module


def test_words_make_nothing_stale():
    def reworded(text: str) -> str:
        text = re.sub(r"(?m)^(\s*)#(?!:).*$", r"\1# other", text) + "\n# the end\n"
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                if ast.get_docstring(node) is not None:
                    node.body[0].value.value = "Other words."
        return ast.unparse(tree)

    tree = Tree({module: reworded(text) for module, text in REAL.texts.items()})
    assert tree.texts != REAL.texts
    assert stale(tree) == set()


ALL = {path.stem[:2] for path in CHAPTERS}
# module -> chapters that depend on it, by hand
DEPENDENT = {
    # the features and the laws of Part I, and the explorers, which draw its laws too
    "kernels.hermite": {
        "01",
        "02",
        "03",
        "04",
        "05",
        "06",
        "07",
        "09",
        "21",
        "25",
        "27",
        "90",
    },
    # every chapter but those that measure nothing more than once, or need no interval
    "stats.intervals": ALL - {"25"},
    "experiments.minority.changed": {"16", "18"},
    "experiments.rare.equal_norms": {"10"},
    "remedies.bias": {"17"},
}


@pytest.mark.parametrize("module", DEPENDENT)
def test_an_operator_makes_exactly_the_chapters_stale_that_depend_on_it(module):
    assert stale(other_operator(f"helpers.{module}")) == DEPENDENT[module]


def test_code_of_changes_with_what_a_module_reaches(monkeypatch):
    before = code_of("helpers.kernels.random_features")
    assert before == code_of("helpers.kernels.random_features") != code_of("helpers.kernels.modes")
    tree = other_operator("helpers.kernels.hermite")
    monkeypatch.setattr(Tree, "read", lambda folder: tree)
    assert code_of("helpers.kernels.random_features") != before
    with pytest.raises(KeyError):
        code_of("helpers.no_such_module")


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path):
    chapter = min((ROOT / "notebooks").glob("*.md"))
    for name, text in (("x.py", b"import torch"), (chapter.name, chapter.read_bytes())):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text)
    assert list(Tree.read(tmp_path).texts.values()) == ["import torch"]
    assert sources.load(tmp_path / chapter.name) == sources.load(chapter)
