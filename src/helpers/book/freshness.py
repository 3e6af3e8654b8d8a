"""Which executed copies show their source as it is now."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from helpers import claims
from helpers.book.sources import (
    INJECTED,
    code_cells,
    load,
    shown,
    sources,
    tags,
    tidy,
    without_magics,
    write,
)
from helpers.dependencies import Tree
from helpers.project import PUBLISHED, project_root

# what makes the copies of an edition anew
MAKE = {"smoke": "baselines", PUBLISHED: "publish"}


def digest(texts: Iterable[str]) -> str:
    """One short hash for some texts; blank space around each does not matter."""
    sha = hashlib.sha256()
    for text in texts:
        sha.update(text.strip().encode() + b"\0")
    return sha.hexdigest()[:16]


def code_hash(nb: NotebookNode) -> str:
    """Hash of a notebook's code."""
    return digest(c.source for c in code_cells(nb))


def package() -> Tree:
    """The modules of the project's package."""
    return Tree.read(project_root() / "src" / "helpers")


def reached(nb: NotebookNode) -> set[str]:
    """The package's modules that a notebook reaches."""
    return package().closure("\n".join(without_magics(c.source) for c in code_cells(nb)))


def helpers_hash(nb: NotebookNode) -> str:
    """Hash of what the package's modules do that a notebook reaches."""
    return package().digest(reached(nb))


def claims_hash(slug: str) -> str:
    """Hash of the words that the chapter's verdict cards take from claims.yml."""
    path = project_root() / "book" / "claims.yml"
    if not path.is_file():
        return digest([])
    return digest(repr(c) for c in claims.load(path).values() if c.chapter == slug)


def edition(profile: str) -> Path | None:
    """Folder of the committed copies made at `profile`; None for a profile without any."""
    root = project_root()
    return {"smoke": root / "notebooks", PUBLISHED: root / "book" / "chapters"}.get(profile)


def shown_cells(nb: NotebookNode) -> list[tuple[str, str, str]]:
    """What a notebook shows of its source: kind, text and lasting metadata of each cell."""
    return [
        (c.cell_type, c.source.strip(), repr(sorted(_lasting(c).items())))
        for c in nb.cells
        if INJECTED not in tags(c)
    ]


def _lasting(cell: NotebookNode) -> dict[str, Any]:
    """Metadata that comes from the source: tags, caption, alternative text."""
    return {k: v for k, v in cell.metadata.items() if k not in ("papermill", "execution") and v}


def staleness(copy: Path, source: Path, fresh: NotebookNode | None = None) -> str:
    """Why an executed copy does not show its source as it is now; empty when it does.

    Args:
        copy: The executed copy.
        source: The text notebook.
        fresh: What `load` makes of it, where that is known already.
    """
    if not copy.is_file():
        return "missing: run it"
    nb, fresh = nbformat.read(copy, 4), fresh or load(source)
    record = nb.metadata.get("book", {})
    if record.get("code") != code_hash(fresh):
        return f"comes from other code than {source.name} has now: run it"
    if shown_cells(nb) != shown_cells(fresh):
        return f"has other text or tags than {source.name} has now: run `make refresh`"
    if record.get("claims") != claims_hash(source.stem):
        return "shows its claims in other words than claims.yml has now: run it"
    if record.get("helpers") != helpers_hash(fresh):
        return "was made with other helpers than there are now: run it"
    return ""


def stale() -> list[str]:
    """Committed copies that do not match their sources, claims or helpers, one line each."""
    problems = []
    chapters = [(source, load(source)) for source in sources()]
    for profile, target in MAKE.items():
        folder = edition(profile)
        for source, fresh in chapters:
            copy = folder / f"{source.stem}.ipynb"
            why = staleness(copy, source, fresh)
            if not why and nbformat.read(copy, 4).metadata["book"].get("profile") != profile:
                why = f"was not made at profile {profile}: run it"
            if why:
                problems.append(f"{shown(copy)} {why.replace('run it', f'run `make {target}`')}")
        problems += [
            f"{shown(copy)} has no source of that name"
            for copy in sorted(folder.glob("*.ipynb"))
            if copy.stem not in {source.stem for source, _ in chapters}
        ]
    return problems


def refresh(copy: Path, source: Path) -> bool:
    """Put edited prose and tags into a copy whose code has not changed; False when it has."""
    if not copy.is_file():
        return False
    fresh, old = load(source), nbformat.read(copy, 4)
    if old.metadata.get("book", {}).get("code") != code_hash(fresh):
        return False
    ran = iter(code_cells(old))
    cells = []
    for cell in fresh.cells:
        if cell.cell_type == "code":
            before = next(ran)
            cell["outputs"], cell["execution_count"] = before.outputs, before.execution_count
        cells.append(cell)
        if "parameters" in tags(cell):
            cells += [c for c in old.cells if INJECTED in tags(c)]
    old.cells = cells
    write(tidy(old), copy)
    return True
