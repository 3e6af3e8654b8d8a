"""A book of its own for the tests of claims: three claims, two chapters."""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from helpers import claims
from helpers.project import Run

CLAIMS = r"""
papers:
  smith2030: "Smith & Jones, 2030"
unrecorded: [II]
claims:
  - id: B1
    part: I
    paper: smith2030
    where: Lemma 4.1
    origin: second-hand
    source: "a reviewer, on $S < 1$"
    rule_fixed: before
    statement: "Stability is alignment times residual: $S < \\gamma$ & <b>more</b>."
    test: "relative error below $10^{-8}$"
    chapter: 02-stability
  - id: B2
    part: I
    paper: smith2030
    where: Theorem 1
    origin: inferred
    rule_fixed: after a pilot
    statement: It costs \$5.
    test: it does
    chapter: 03-features
  - id: Y1
    part: II
    paper: doe2031
    where: Section 2
    statement: Rare patterns are learned.
    test: score above $0$
"""
FACTS = dict(
    effect="+0.14 accuracy",
    interval=(0.1, 0.18),
    seeds=5,
    data="MNIST",
    run=Run("laptop", "cpu", 0, None),
)


@pytest.fixture
def facts():
    """What stands behind a verdict."""
    return dict(FACTS)


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A folder `book` whose claims are those above."""
    (tmp_path / "book" / "chapters").mkdir(parents=True)
    (tmp_path / "book" / "claims.yml").write_text(CLAIMS)
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path))
    return tmp_path / "book"


@pytest.fixture
def planted(monkeypatch) -> Callable[[ModuleType, str, str], dict[str, Any]]:
    """Run a file of rules with a fault in its text; returns its names.

    The broken rules take the places of the right ones in `claims.RULES` until the test ends.
    """

    def broken(module: ModuleType, text: str, fault: str) -> dict[str, Any]:
        source = inspect.getsource(module)
        assert source.count(text) == 1
        for name in list(claims.RULES):
            monkeypatch.setitem(claims.RULES, name, claims.RULES[name])
        names = dict(module.__dict__)
        exec(compile(source.replace(text, fault), module.__file__, "exec"), names)
        return names

    return broken
