"""What a bar over folded code says: which figure or table the code makes, or what it defines."""

import ast
from collections.abc import Sequence


def label(code: str, figure: str = "", columns: Sequence[str] = ()) -> str:
    """Words for a bar, from the code under it and what it shows.

    Args:
        code: Source of the cell.
        figure: Number of the figure that it shows, if any: "Fig. 3.2".
        columns: Heads of the table that it shows, if any.
    """
    if figure:
        return f"Code of {figure}"
    comment = code.lstrip().partition("\n")[0]
    if comment.startswith("#") and len(comment) < 90:
        return f"Code: {_lower(comment.lstrip('# ').rstrip('.'))}"
    try:
        body = ast.parse(code).body
    except SyntaxError:  # a magic command
        return "Code"
    doing = _doing(body, columns)
    return f"Code: {doing}" if doing else "Code"


def _doing(body: list[ast.stmt], columns: Sequence[str]) -> str:
    """The first that applies: imports, sizes, a docstring, a table, stored rows, names."""
    if body and isinstance(body[0], ast.Import | ast.ImportFrom):
        return "what is imported, and the settings of this run"
    calls = [node for part in body for node in ast.walk(part) if isinstance(node, ast.Call)]
    names = [_name(call.func) for call in calls]
    if "run.sizes" in names:
        return "sizes of the experiments in each profile"
    defined = [part for part in body if isinstance(part, ast.FunctionDef | ast.ClassDef)]
    if len(defined) == 1 and (said := ast.get_docstring(defined[0])):
        return _lower(said.partition("\n")[0].rstrip("."))
    if heads := [head for head in dict.fromkeys(columns) if len(head) < 30][:3]:
        return f"table of {', '.join(heads)}"
    stored = dict.fromkeys(
        str(call.args[0].value)
        for call, name in zip(calls, names, strict=True)
        if name == "sweep.results" and call.args and isinstance(call.args[0], ast.Constant)
    )
    if stored:
        return f"stored results of {', '.join(stored)}"
    shown = [
        ast.unparse(call.args[0])
        for call, name in zip(calls, names, strict=True)
        if name == "inspect.getsource" and call.args
    ]
    if shown:
        return f"source of {', '.join(shown)}"
    made = [*(f"{part.name}()" for part in defined), *_assigned(body)]
    if made:
        return ", ".join(made[:3])
    if names and set(names) <= {"print", "dict", "len", "chapter.put"}:
        return "the lines printed below"
    return f"{names[-1]}()" if names else ""


def _assigned(body: list[ast.stmt]) -> list[str]:
    """Names that a cell gives to what it computes, the last ones first."""
    made = [
        node.id
        for part in body
        for target in getattr(part, "targets", [])
        for node in ast.walk(target)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and len(node.id) > 1
    ]
    return list(dict.fromkeys(reversed(made)))


def _name(node: ast.expr) -> str:
    """`a.b.c` of a chain of attributes, else its last parts."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    return ".".join(reversed(parts))


def _lower(words: str) -> str:
    """The first letter small, unless the first word is one letter or has capitals inside."""
    first = words.split(" ", 1)[0]
    if len(first) < 2 or first[1:] != first[1:].lower():
        return words
    return words[0].lower() + words[1:]
