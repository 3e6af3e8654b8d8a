"""The syntax tree of a text, and a form of it that can be hashed."""

import ast
import gc
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

parsed = cache(ast.parse)  # several trees of modules may have most of their texts in common


@contextmanager
def uncollected() -> Iterator[None]:
    """For the making of many objects that stay.

    Garbage collection would look at all of them, over and over: it takes longer than to parse.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@cache
def syntax(code: str) -> str:
    r"""The syntax tree as text, without docstrings, the same under every version of Python.

    >>> syntax("def f(x):\n    '''Half.'''\n    return x / 2  # half") == syntax(
    ...     "def f(x): return x/2")
    True
    >>> syntax("x / 2") == syntax("x / 3")
    False
    """
    return dumped(parsed(code))


def dumped(node: Any, without: Collection[ast.AST] = ()) -> str:
    """A node, or whatever stands in one, as text; the nodes in `without` are passed over.

    Fields that are absent or empty are left out: newer versions of Python have more of them.
    `ascii` and not `repr`: which characters `repr` escapes changes with the version of Unicode.
    """
    if isinstance(node, ast.JoinedStr):  # Python 3.12.1 ends some with an empty string
        return f"JoinedStr({dumped([v for v in node.values if text_of(v) != ''], without)})"
    if isinstance(node, ast.AST):
        fields = [(name, getattr(node, name, None)) for name in node._fields if name != "kind"]
        inside = [f"{name}={dumped(v, without)}" for name, v in fields if v not in (None, [])]
        return f"{type(node).__name__}({', '.join(inside)})"
    if isinstance(node, list):
        counted = (item for item in node if not is_words(item) and item not in without)
        return f"[{', '.join(dumped(item, without) for item in counted)}]"
    return ascii(node)


def is_words(node: Any) -> bool:
    """Whether this statement is a lone string, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(text_of(node.value), str)


def text_of(node: ast.AST) -> Any:
    """The value of a literal, None of what is none."""
    return node.value if isinstance(node, ast.Constant) else None
