"""A book of its own for the tests of claims: three claims, two chapters."""

import functools
import inspect
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from helpers import claims
from helpers.claims.judgement import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
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
    if "MUTANT_UNDER_TEST" in os.environ:  # the text has each function many times
        pytest.skip("mutmut plants faults of its own")

    def broken(module: ModuleType, text: str, fault: str) -> dict[str, Any]:
        source = inspect.getsource(module)
        assert source.count(text) == 1
        for name in list(claims.RULES):
            monkeypatch.setitem(claims.RULES, name, claims.RULES[name])
        names = dict(module.__dict__)
        exec(compile(source.replace(text, fault), module.__file__, "exec"), names)
        return names

    return broken


# -- what every rule is asked ----------------------------------------------------------------------

KNOWN = {"true": REPRODUCED, "false": NOT_REPRODUCED, "nothing": INCONCLUSIVE}


def _known(claim: str, judged: Callable, kind: str) -> None:
    judgement = judged(kind)
    assert judgement.claim == claim
    assert judgement.verdict == KNOWN[kind], judgement


def _nearest(claim: str, judged: Callable) -> None:
    assert judged("near").verdict != REPRODUCED


def _refuses(claim: str) -> None:
    rule = claims.RULES[claim]
    given = list(inspect.signature(rule).parameters.values())[1:]
    others = [None for parameter in given if parameter.default is parameter.empty]
    with pytest.raises(ValueError, match=rf"claim {claim}: the rows lack"):
        rule(pd.DataFrame({"other": [1]}), *others)
    needs = inspect.getclosurevars(rule).nonlocals["needs"]
    with pytest.raises(ValueError, match=rf"claim {claim}: there are no rows"):
        rule(pd.DataFrame(columns=list(needs)), *others)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with the argument `asked` once for each question to each rule in its file's ROWS.

    ROWS maps a claim to what its rule says of rows of a kind: true, false, nothing (no
    information) or near (the nearest thing that must not pass)::

        def test_the_rule_answers(asked):
            asked()
    """
    if "asked" not in metafunc.fixturenames:
        return
    cases = {}
    for claim, judged in metafunc.module.ROWS.items():
        cases |= {f"{claim}-{kind}": functools.partial(_known, claim, judged, kind)
                  for kind in KNOWN}  # fmt: skip
        cases[f"{claim}-near"] = functools.partial(_nearest, claim, judged)
        cases[f"{claim}-refused"] = functools.partial(_refuses, claim)
    metafunc.parametrize("asked", list(cases.values()), ids=list(cases))
