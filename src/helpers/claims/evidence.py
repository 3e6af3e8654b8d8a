"""What a published chapter shows for a verdict: the rows behind it and its figure.

Read from the text of an executed chapter, so that nothing is computed and no chapter has to say it
twice. The cell that shows a claim's card is followed back through the names that it uses: every
statement that gives one of them a value belongs to the claim, and so do the experiments that these
statements ask for. Where a text does not tell (a table that is changed in place, a name that two
cells use), more experiments are found rather than fewer.
"""

import ast
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.claims.cards import MIME

# calls whose first argument is an experiment: sweep.results("lesions", run)
_SWEEP = "sweep"


@dataclass(frozen=True)
class Evidence:
    """Where a claim's evidence is.

    Attributes:
        claim: its id.
        chapter: slug of the chapter that shows the card.
        cell: source of the cell that does.
        figure: name of the figure that shows the measurement; empty where a table does.
        experiments: names of the stored results behind the verdict; none where the chapter computes
            all of it by itself.
    """

    claim: str
    chapter: str
    cell: str
    figure: str = ""
    experiments: tuple[str, ...] = ()


@dataclass
class _Step:
    """One top-level statement of a chapter."""

    cell: int
    node: ast.stmt
    binds: set[str] = field(default_factory=set)
    sets: set[str] = field(default_factory=set)  # of those: without regard to what was before
    uses: set[str] = field(default_factory=set)


def evidence(chapter: Path | str, experiments: Iterable[str]) -> dict[str, Evidence]:
    """Evidence of every verdict that an executed chapter shows, by claim.

    Args:
        chapter: the executed notebook.
        experiments: names of all experiments.

    Raises:
        ValueError: the file is no notebook.

    >>> from helpers.project import project_root
    >>> chapter = project_root() / "book" / "chapters" / "03-random-features.ipynb"
    >>> evidence(chapter, ["rf_gaussian", "rf_images"])["B7"].experiments
    ('rf_gaussian',)
    """
    path, known = Path(chapter), set(experiments)
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(c["source"]) if c["cell_type"] == "code" else "" for c in cells]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a notebook: {error}") from error
    steps = list(_steps(sources))
    asked = {id(step): _asked(step.node, steps, known) for step in steps}
    figures = {at: name for at, c in enumerate(cells) if (name := _figure(c))}
    sections = list(itertools.accumulate(map(_starts_section, cells)))

    def behind(cell: int) -> set[str]:
        return set().union(*(asked[id(step)] for step in _upstream(steps, cell)))

    found = {}
    for at, claim in ((at, claim) for at, c in enumerate(cells) for claim in _claims(c)):
        rows = behind(at)
        here = {f for f in figures if sections[f] == sections[at]}
        same = {f for f in figures if behind(f) & rows} if rows else set(figures)
        figure = _nearest(at, here, same)
        found[claim] = Evidence(
            claim, path.stem, sources[at], figures.get(figure, ""), tuple(sorted(rows))
        )
    return found


def _claims(cell: Mapping[str, Any]) -> list[str]:
    outputs = (output.get("data", {}) for output in cell.get("outputs", ()))
    return [data[MIME]["id"] for data in outputs if MIME in data]


def _figure(cell: Mapping[str, Any]) -> str:
    return cell.get("metadata", {}).get("mystnb", {}).get("figure", {}).get("name", "")


def _starts_section(cell: Mapping[str, Any]) -> bool:
    text = "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""
    return any(line.startswith("## ") for line in text.splitlines())


def _nearest(at: int, *candidates: set[int]) -> int:
    """Of the first figures that there are: the last before a card, or else the first; or -1.

    >>> _nearest(5, {1, 3, 9}, {4}), _nearest(5, set(), {7, 9}), _nearest(5, set())
    (3, 7, -1)
    """
    these = next(filter(None, candidates), {-1})
    return max((f for f in these if f < at), default=min(these))


def _steps(sources: Iterable[str]) -> Iterator[_Step]:
    modules: set[str] = set()
    for cell, source in enumerate(sources):
        try:
            body = ast.parse(source).body
        except SyntaxError:  # a cell in another language, such as %%bash
            continue
        for node in body:
            step = _Step(cell, node)
            for part in ast.walk(node):
                _note(part, step)
            step.uses -= _inner(node)
            # a function of a module changes the module's tables, not the module
            modules |= step.binds if isinstance(node, ast.Import | ast.ImportFrom) else set()
            step.binds -= modules if isinstance(node, ast.Expr) else set()
            step.sets = _set_outright(node)
            yield step


def _note(part: ast.AST, step: _Step) -> None:
    """Names that a part of a statement binds or uses; what it changes in place, it does both to."""
    match part:
        case ast.Name(ctx=ast.Load()):
            step.uses.add(part.id)
        case ast.Name():
            step.binds.add(part.id)
        case ast.FunctionDef() | ast.ClassDef():
            step.binds.add(part.name)
        case ast.alias():
            step.binds.add((part.asname or part.name).partition(".")[0])
        case ast.AugAssign():
            step.uses.add(_base(part.target))
        case ast.Subscript(ctx=ast.Store()) | ast.Attribute(ctx=ast.Store()):
            step.binds.add(_base(part))
        case ast.Expr(value=ast.Call(func=ast.Attribute() as called)):
            step.binds.add(_base(called))  # rows.append(…) as a statement


def _base(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return getattr(node, "id", "")


def _inner(node: ast.AST) -> set[str]:
    """Names that a statement binds for itself: of loops and comprehensions, inside functions."""
    targets = [n.target for n in ast.walk(node) if isinstance(n, ast.For | ast.comprehension)]
    arguments = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
    inside = [node] if isinstance(node, ast.FunctionDef) else []
    names = (n for part in (*targets, *inside) for n in ast.walk(part) if isinstance(n, ast.Name))
    return arguments | {name.id for name in names if isinstance(name.ctx, ast.Store)}


def _set_outright(node: ast.stmt) -> set[str]:
    """Names whose earlier values no longer count after this statement."""
    match node:
        case ast.Assign():
            parts = [p for t in node.targets for p in getattr(t, "elts", [t])]
            return {p.id for p in parts if isinstance(p, ast.Name)}
        case ast.FunctionDef() | ast.ClassDef():
            return {node.name}
    return set()


def _upstream(steps: list[_Step], cell: int) -> list[_Step]:
    """The statements of a cell, and all before it that give value to what these use."""
    chosen = {at for at, step in enumerate(steps) if step.cell == cell}
    todo, seen = [(at, name) for at in chosen for name in steps[at].uses], set()
    while todo:
        use = todo.pop()
        if use in seen:
            continue
        seen.add(use)
        for at in _given(steps, *use):
            chosen.add(at)
            # what a function uses has the value of the moment when it is called
            moment = use[0] if isinstance(steps[at].node, ast.FunctionDef) else at
            todo += [(moment, name) for name in steps[at].uses]
    return [steps[at] for at in sorted(chosen)]


def _given(steps: list[_Step], before: int, name: str) -> Iterator[int]:
    """Statements that give a name the value that it has before one of them."""
    for at in reversed(range(before)):
        if name in steps[at].binds:
            yield at
            if name in steps[at].sets:
                return


def _asked(node: ast.stmt, steps: list[_Step], known: set[str]) -> set[str]:
    """Experiments that a statement asks the sweep for.

    A name that is no literal is one of those in the statement, or else in the calls of the function
    that the statement defines.
    """
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and _sweeps(n)]
    told = {_text(call.args[0]) for call in calls if call.args}
    if not told - known:
        return told
    found = (told | _texts(node)) & known
    if isinstance(node, ast.FunctionDef):
        places = [s.node for s in steps if node.name in s.uses]
        found |= set().union(*(_texts(place) for place in places)) & known
    return found


def _sweeps(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and _base(call.func) == _SWEEP


def _text(node: ast.AST) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def _texts(node: ast.AST) -> set[str]:
    return {text for n in ast.walk(node) if isinstance(text := _text(n), str)}
