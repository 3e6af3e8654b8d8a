"""Chapters as readers download them: what the site's markup shows, in words and numbers.

A chapter is written in MyST, which Jupyter does not know. In the copy that readers get, glued
numbers are numbers, references say what they refer to, boxes are quotations, and a first cell
explains what the notebook needs and sees to it.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat

from helpers import __version__

GLUE = "application/papermill.record/text/plain"
ROLE = re.compile(r"\{([a-z:]+)\}`([^`]*)`")
FENCE = re.compile(r"^(`{3,}|:{3,})\{([a-z:-]+)\}[ ]*(.*?)\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
LABEL = re.compile(r"^\([a-z0-9-]+\)=\n", re.MULTILINE)
EQUATION = re.compile(r"^\$\$(.*?)^\$\$ \((eq-[\w-]+)\)", re.MULTILINE | re.DOTALL)
KINDS = {"prf": "", "exercise": "Exercise", "solution": "Solution"}

FIRST = """# Makes the book's package available; where it is installed already, nothing happens.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

SOURCE = {source!r}
FOLDER = "memorizing-the-background"


def is_book(folder):
    return (folder / "_config.yml").is_file() and (folder / "src" / "helpers").is_dir()


if importlib.util.find_spec("helpers") is None:
    here = Path.cwd()
    book = next(filter(is_book, (here / FOLDER, here, *here.parents)), None)
    if book is None and SOURCE:
        subprocess.run(["git", "clone", "--depth", "1", SOURCE, FOLDER], check=True)
        book = here / FOLDER
    if book is None:
        raise ModuleNotFoundError(
            "This notebook needs the book's sources: put it into their folder, run `make setup` "
            "there, and open it with the Python of .venv (make lab)."
        )
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", str(book)], check=True)
    sys.path.insert(0, str(book / "src"))
    os.chdir(book)  # stored results are found from here
"""
ABOUT = """\
*A chapter of **Memorizing the Background**, edition {version}, as published{where}. It needs Python
3.11 to 3.13 and the book's package; the cell below looks for it{gets}. With stored results it runs
in minutes; set `profile = "smoke"` in the cell of parameters for seconds.*"""


def glued(nb: nbformat.NotebookNode) -> dict[str, Any]:
    """Numbers and texts that a chapter's code has put, by their names."""
    found = {}
    for cell in nb.cells:
        for output in cell.get("outputs", ()):
            if GLUE in output.get("data", {}) and "scrapbook" in output.metadata:
                text = "".join(output.data[GLUE])
                try:
                    found[output.metadata["scrapbook"]["name"]] = float(text)
                except ValueError:
                    # a text that would read as a list of numbers is quoted
                    quoted = text[:1] in "'\"" and text[-1:] == text[:1]
                    found[output.metadata["scrapbook"]["name"]] = text[1:-1] if quoted else text
    return found


def number(values: Mapping[str, Any], text: str) -> str:
    """A glued value in its format: `alpha:.3f`.

    >>> number({"a": 0.25, "b": 3.0}, "a:.1f"), number({"a": 0.25, "b": 3.0}, "b")
    ('0.2', '3')
    """
    name, _, form = text.partition(":")
    value = values[name]
    if form:
        return format(value, form)
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def plain(text: str, values: Mapping[str, Any], told: Callable[[str, str], str]) -> str:
    """A cell of MyST as Markdown that Jupyter shows."""
    text = LABEL.sub("", text)
    text = EQUATION.sub(lambda m: f"$${m[1]}\\tag{{{told('eq', m[2]).strip('()')}}}\n$$", text)
    for _ in range(3):  # boxes in boxes
        text = FENCE.sub(lambda m: quoted(m[2], m[3], m[4]), text)

    def said(match: re.Match[str]) -> str:
        role, inside = match.groups()
        if role == "glue:text":
            return number(values, inside)
        own = re.fullmatch(r"(.*?)\s*<(.+)>", inside)
        return own[1] if own else told(role, inside)

    return ROLE.sub(said, text)


def quoted(kind: str, title: str, body: str) -> str:
    """A box as a quotation under its title; options of the box go."""
    body = re.sub(r"^:[a-z-]+:.*\n", "", body, flags=re.MULTILINE).strip()
    front, _, name = kind.partition(":")
    head = title if kind in ("admonition", "dropdown") else (name or KINDS.get(front, front))
    if name and title:
        head = f"{name.capitalize()} ({title})"
    lines = [f"**{head.capitalize() if head.islower() else head}**", "", *body.splitlines()]
    return "\n".join(f"> {line}".rstrip() for line in lines) + "\n"


def references(env) -> Callable[[str, str], str]:
    """What references say on the site: titles, numbers of figures and equations, names."""
    labels = env.domains["std"].labels
    equations = env.domains["math"].equations
    figures = {
        (doc, name): ".".join(map(str, numbers))
        for doc, kinds in env.toc_fignumbers.items()
        for name, numbers in kinds.get("figure", {}).items()
    }

    def told(role: str, target: str) -> str:
        if role == "eq" and target in equations:
            return f"({equations[target][1]})"
        if role == "numref" and target in env.domains["std"].anonlabels:
            where = env.domains["std"].anonlabels[target]
            return f"Fig. {figures.get(where, target)}"
        if role == "ref" and target in labels:
            return f"*{labels[target][2]}*"
        if role == "doc":
            title = env.titles.get(target.strip("/"))
            return f"*{title.astext()}*" if title else target
        if role.startswith("cite"):
            return f"[{', '.join(key.strip() for key in target.split(','))}]"
        return f"*{target}*"

    return told


def for_readers(
    nb: nbformat.NotebookNode, told: Callable[[str, str], str], source: str = "", page: str = ""
) -> nbformat.NotebookNode:
    """A copy of an executed chapter that explains itself outside the book."""
    values, cells = glued(nb), []
    for cell in nb.cells:
        cell = nbformat.from_dict(cell)
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, values, told)
        cells.append(cell)
    about = ABOUT.format(
        version=__version__,
        where=f" at {page}" if page else "",
        gets=f" and gets it from {source}" if source else "",
    )
    v4 = nbformat.v4
    # after the title: a notebook starts with its own first line
    start = [v4.new_markdown_cell(about), v4.new_code_cell(FIRST.format(source=source))]
    for count, cell in enumerate(start):
        cell["id"] = f"readers-{count}"
    copy = nbformat.from_dict({**nb, "cells": [cells[0], *start, *cells[1:]]})
    copy.metadata.pop("book", None)
    return copy


def write(app, folder: Path) -> None:
    """Put these copies in the place of the sources that the site offers."""
    told, config = references(app.env), app.config
    for path in sorted((Path(app.srcdir) / "chapters").glob("*.ipynb")):
        target = folder / path.name
        if target.is_file():
            site = config.book_address
            page = f"{site}/chapters/{path.stem}.html" if site else ""
            nb = for_readers(nbformat.read(path, 4), told, config.book_repository, page)
            nbformat.write(nb, target)
