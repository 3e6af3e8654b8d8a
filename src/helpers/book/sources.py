"""The chapters' text sources: reading them, their parameters, their code."""

import ast
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from helpers.project import project_root

INJECTED = "injected-parameters"


class BookError(Exception):
    """Something the user can put right; the message is one paragraph."""


def sources(names: Iterable[str] = ()) -> list[Path]:
    """Text notebooks by name; `01` will do for `01-setting`. All of them when none is named.

    Raises BookError for a name that fits none or several, and where there is no folder of them.
    """
    folder = project_root() / "notebooks"
    if not folder.is_dir():
        raise BookError(
            f"{folder} is not there: work in the book's folder, or set $BOOK_ROOT to it."
        )
    found = sorted(folder.glob("*.md"))
    return [_one(name, found) for name in names] or found


def _one(name: str, found: list[Path]) -> Path:
    name = Path(name).name.removesuffix(".md").removesuffix(".ipynb")
    fits = [s for s in found if s.stem == name] or [s for s in found if s.stem.startswith(name)]
    if len(fits) != 1 or not name:
        known = ", ".join(s.stem for s in found) or "none: notebooks/ has no .md file"
        raise BookError(
            f"{'no' if not fits else 'more than one'} chapter is called {name!r}. "
            f"Chapters: {known}."
        )
    return fits[0]


def load(source: Path) -> NotebookNode:
    """The notebook of a text source, without outputs, its cell ids made from its text alone."""
    import jupytext

    nb = jupytext.reads(source.read_text("utf-8-sig"), "md")  # some editors begin with a mark
    nb.metadata.pop("jupytext", None)
    seen: dict[str, int] = {}
    for cell in nb.cells:
        key = hashlib.sha1(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:10]
        seen[key] = seen.get(key, 0) + 1
        cell["id"] = key if seen[key] == 1 else f"{key}-{seen[key]}"
    return nb


def tags(cell: NotebookNode) -> list[str]:
    """Tags of a cell."""
    return cell.metadata.get("tags", [])


def parameters(nb: NotebookNode) -> dict[str, Any]:
    """Names and defaults in the cell tagged `parameters`, which holds plain assignments only."""
    for cell in nb.cells:
        if "parameters" in tags(cell):
            return {
                line.targets[0].id: ast.literal_eval(line.value)
                for line in ast.parse(cell.source).body
                if isinstance(line, ast.Assign)
            }
    return {}


def checked(source: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that differ from the chapter's defaults, in the types of the defaults.

    papermill accepts a misspelt name and then does nothing with it, so names are checked here.
    Raises BookError for an unknown name, profile or device and for a value of the wrong type.
    """
    defaults = parameters(load(source))
    result = {}
    for name, value in given.items():
        if name not in defaults:
            raise BookError(
                f"{source.stem} has no parameter {name!r}. Its parameters: "
                f"{', '.join(defaults) or 'none'}."
            )
        value = _typed(name, value, defaults[name])
        if value != defaults[name]:
            result[name] = value
    return result


def _typed(name: str, value: Any, default: Any) -> Any:
    if isinstance(value, str) and not isinstance(default, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            pass  # stays text, which the next test names
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise BookError(
            f"parameter {name} = {value!r} is not usable: expected "
            f"{type(default).__name__}, such as {default!r}."
        )
    return value


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    """The code of the chapter itself, without the parameters that papermill put in."""
    return [c for c in nb.cells if c.cell_type == "code" and INJECTED not in tags(c)]


def without_magics(cell: str) -> str:
    """A cell without IPython's magics, so that it can be parsed."""
    return "\n".join(
        "" if line.lstrip().startswith(("%", "!")) else line for line in cell.splitlines()
    )


def write(nb: NotebookNode, out: Path) -> None:
    """Replace `out` in one step: a reader sees the old copy or the new one, never half of one."""
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, part)
        os.replace(part, out)
    except OSError as error:
        raise BookError(
            f"cannot write {shown(out)}: {error.strerror or error}. Nothing was replaced."
        ) from error
    finally:
        if part.exists():
            part.unlink()


def shown(path: Path) -> str:
    """`path` as the user would type it at the project's root."""
    root = project_root()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def tidy(nb: NotebookNode) -> NotebookNode:
    """Drop what changes from run to run; hide the cell papermill put in."""
    for key in ("papermill", "widgets"):
        nb.metadata.pop(key, None)
    for cell in nb.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if INJECTED in tags(cell):
            cell["id"] = INJECTED
            cell.metadata["tags"] = sorted({*tags(cell), "remove-cell"})
        elif not tags(cell):
            cell.metadata.pop("tags", None)
    return nb
