"""What a door of the package hands on, and where the book uses it.

All of it is read from source files; nothing of the package is imported, so that pages are made
without torch.
"""

import ast
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jupytext

# the longest call that is shown as an example, in lines
LONGEST = 12


@dataclass(frozen=True)
class Handed:
    """A name of a door: what readers write, and where it is defined."""

    name: str
    path: str


@dataclass(frozen=True)
class Use:
    """A statement that uses a name, and the chapter or file in which it stands."""

    place: str
    text: str


def is_module(root: Path, path: str) -> bool:
    """Whether a dotted path is a module or a package of the project."""
    file = root / "src" / Path(*path.split("."))
    return file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()


def handed_on(root: Path, door: str) -> list[Handed]:
    """The names of a door in the order of its imports."""
    text = (root / "src" / "helpers" / door / "__init__.py").read_text(encoding="utf-8")
    return [
        Handed(alias.asname or alias.name, f"{node.module}.{alias.name}")
        for node in ast.parse(text).body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ]


def public(root: Path, module: str) -> list[str]:
    """Names of the functions and classes of a module that do not start with an underscore."""
    file = (root / "src" / Path(*module.split("."))).with_suffix(".py")
    return [
        node.name
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]


def assigned(root: Path, path: str) -> ast.stmt | None:
    """The statement that gives `path` its value, if it is no function or class."""
    module, _, name = path.rpartition(".")
    file = (root / "src" / Path(*module.split("."))).with_suffix(".py")
    for node in ast.parse(file.read_text("utf-8")).body if file.is_file() else ():
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in {
            one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)
        }:
            return node
    return None


def is_value(root: Path, path: str) -> bool:
    """Whether a name stands for a constant, or for a type by another name."""
    return assigned(root, path) is not None


def value(root: Path, path: str) -> str:
    """The code that sets a value, cut where it is long."""
    text = ast.unparse(assigned(root, path))
    return text if len(text) <= 100 else f"{text[:96]} ..."


@cache
def places(root: Path) -> dict[str, str]:
    """Where what can be written is defined: `helpers.data.load` → `helpers.data.images.load`."""
    found = {}
    for file in (root / "src" / "helpers").glob("*/__init__.py"):
        door = file.parent.name
        for handed in handed_on(root, door):
            written = f"helpers.{door}.{handed.name}"
            if is_module(root, handed.path):
                names = public(root, handed.path)
                found |= {f"{written}.{name}": f"{handed.path}.{name}" for name in names}
            else:
                found[written] = handed.path
    return found


def imported(tree: ast.AST) -> dict[str, str]:
    """What each name that a piece of code imports from the package stands for."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "helpers"
        for alias in node.names
    }


def dotted(node: ast.AST) -> str:
    """`a.b.c` of names and attributes; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (front := dotted(node.value)):
        return f"{front}.{node.attr}"
    return ""


def pieces(tree: ast.AST) -> Iterator[tuple[int, int, list[ast.AST]]]:
    """(first line, last line, expressions) of statements, and of the heads of those with a body.

    Those of which an error is expected are left out.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.With) and "raises" in ast.dump(node.items[0]):
            continue
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            yield node.lineno, node.end_lineno or node.lineno, [node]
            continue
        heads = [*getattr(node, "items", ()), *getattr(node, "decorator_list", ())]
        if heads:
            start = min(getattr(one, "context_expr", one).lineno for one in heads)
            yield start, max(start, node.body[0].lineno - 1), heads
        yield from pieces(node)


def uses(root: Path, code: str, place: str) -> Iterator[tuple[str, Use]]:
    """Every use of something that the package defines, as (where it is defined, use)."""
    tree, lines = ast.parse(code), code.splitlines()
    known = imported(tree)
    for first, last, nodes in pieces(tree) if known else ():
        chains = (dotted(inner).partition(".") for one in nodes for inner in ast.walk(one))
        if named := [(known[name], rest) for name, _, rest in chains if name in known]:
            use = Use(place, textwrap.dedent("\n".join(lines[first - 1 : last])))
            for parts in named:
                written = ".".join(filter(None, parts))
                yield places(root).get(written, written), use


def cells(path: Path) -> str:
    """The code of a chapter's source."""
    found = [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code"]
    return "\n\n".join(found)


@cache
def used(root: Path) -> dict[str, list[Use]]:
    """All uses by where the thing is defined: in chapters, then in tests and in the package."""
    found: dict[str, list[Use]] = {}
    sources = [(cells(path), path.stem) for path in sorted((root / "notebooks").glob("*.md"))]
    files = [*(root / "tests").rglob("test_*.py"), *(root / "src" / "helpers").rglob("*.py")]
    sources += [
        (path.read_text("utf-8"), path.relative_to(root).as_posix()) for path in sorted(files)
    ]
    for code, place in sources:
        for target, use in uses(root, code, place):
            found.setdefault(target, []).append(use)
    return found


def chapters(root: Path, path: str) -> list[str]:
    """The chapters that use what is defined at `path`, each once."""
    found = [use.place for use in used(root).get(path, []) if "/" not in use.place]
    return list(dict.fromkeys(found))


def example(root: Path, path: str) -> Use | None:
    """The shortest statement that calls it: in a chapter, else in a test, else in the package."""
    calls = [
        use
        for use in used(root).get(path, [])
        if f"{path.rpartition('.')[2]}(" in use.text and use.text.count("\n") < LONGEST
    ]

    def order(use: Use) -> tuple[int, int]:
        folder = use.place.partition("/")[0] if "/" in use.place else ""
        return ("", "tests", "src").index(folder), len(use.text)

    return min(calls, key=order, default=None)
