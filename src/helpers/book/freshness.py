"""Which executed copies show their source as it is now."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from helpers import claims
from helpers.book.sources import (
    INJECTED,
    BookError,
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


def text_hash(nb: NotebookNode) -> str:
    """Hash of all that a notebook shows of its source."""
    return digest(map(repr, shown_cells(nb)))


def shown_cells(nb: NotebookNode) -> list[tuple[str, str, str]]:
    """What a notebook shows of its source: kind, text and lasting metadata of each cell."""
    return [
        (c.cell_type, c.source.strip(), _lasting(c)) for c in nb.cells if INJECTED not in tags(c)
    ]


def _lasting(cell: NotebookNode) -> str:
    """Metadata that a source can hold: tags, caption, alternative text."""
    kept = {key: cell.metadata[key] for key in ("tags", "mystnb") if cell.metadata.get(key)}
    return json.dumps(kept, sort_keys=True)


def edits(copy: Path, source: Path, fresh: NotebookNode | None = None) -> str:
    """What a copy holds that neither its source nor the runner has put there; empty for nothing.

    Args:
        copy: The executed copy.
        source: The text notebook.
        fresh: What `load` makes of it, where that is known already.
    """
    try:
        nb, fresh = nbformat.read(copy, 4), fresh or load(source)
    except (ValueError, AttributeError, nbformat.ValidationError):
        return "is no notebook any more: delete it, then run it."
    made, now, wanted = nb.metadata.get("book") or {}, shown_cells(nb), shown_cells(fresh)
    same = made["text"] == text_hash(nb) if "text" in made else made.get("code") == code_hash(nb)
    if same or now == wanted:
        return ""
    own = [cell for cell in now if cell not in wanted and cell[1]]
    first = repr(own[0][1].splitlines()[0][:60]) if own else "cells that are gone"
    how = f"to {shown(source)} by hand"
    if made.get("text") == text_hash(fresh) and copy.parent == source.parent:
        how = f"with `.venv/bin/jupytext --to md:myst -o {shown(source)} {shown(copy)}`"
    return f"has edits of its own ({first}): carry them over {how}, or delete the copy."


def protect(copies: Mapping[Path, Path]) -> None:
    """Refuse to overwrite what was edited by hand.

    Args:
        copies: Executed copies with their sources.

    Raises:
        BookError: Some have edits of their own, named with the way to keep them.
    """
    found = [
        f"{shown(copy)} {why}"
        for copy, source in copies.items()
        if copy.is_file() and (why := edits(copy, source))
    ]
    if found:
        raise BookError(f"{' '.join(found)} Nothing was overwritten.")


def staleness(copy: Path, source: Path, fresh: NotebookNode | None = None) -> str:
    """Why an executed copy does not show its source as it is now; empty when it does.

    Args:
        copy: The executed copy.
        source: The text notebook.
        fresh: What `load` makes of it, where that is known already.
    """
    if not copy.is_file():
        return "missing: run it"
    fresh = fresh or load(source)
    if why := edits(copy, source, fresh):
        return why
    nb = nbformat.read(copy, 4)
    record = nb.metadata.get("book") or {}
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
    """Put edited prose and tags into a copy whose code has not changed; False when it has.

    Raises:
        BookError: The copy has edits of its own.
    """
    if not copy.is_file():
        return False
    protect({copy: source})
    fresh, old = load(source), nbformat.read(copy, 4)
    if (old.metadata.get("book") or {}).get("code") != code_hash(fresh):
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
    old.cells, old.metadata["book"]["text"] = cells, text_hash(fresh)
    write(tidy(old), copy)
    return True
