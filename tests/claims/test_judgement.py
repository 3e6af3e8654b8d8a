"""Judgements and the decorator of rules."""

import pandas as pd
import pytest

from helpers.claims.judgement import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    RULES,
    Judgement,
    rule,
)

SOME = ("+0.1", (0.05, 0.15), 5, "MNIST")


@pytest.mark.parametrize(
    ("checks", "interval", "further", "word"),
    [
        ({"a": True, "b": True}, (0.1, 0.2), {}, REPRODUCED),
        ({"a": True, "b": False}, (0.1, 0.2), {}, PARTLY),
        ({"a": False}, (-0.2, -0.1), {}, NOT_REPRODUCED),
        ({"a": False}, (0.1, 0.2), {}, NOT_REPRODUCED),
        ({"a": False}, (-0.2, 0.1), {}, INCONCLUSIVE),
        ({"a": False}, None, {}, INCONCLUSIVE),
        ({"a": False}, (float("nan"), 0.1), {}, INCONCLUSIVE),
        ({"a": False}, (-0.2, 0.1), {"boundary": -0.5}, NOT_REPRODUCED),
        ({"a": False}, (-0.6, -0.4), {"boundary": -0.5}, INCONCLUSIVE),
        ({"a": False}, None, {"excluded": True}, NOT_REPRODUCED),
        ({"a": False}, (-0.2, -0.1), {"excluded": False}, INCONCLUSIVE),
        ({"a": True}, (0.1, 0.2), {"side": {"s": True}}, REPRODUCED),
        ({"a": True}, (0.1, 0.2), {"side": {"s": False}}, PARTLY),
        ({"a": False}, (-0.2, -0.1), {"side": {"s": True}}, NOT_REPRODUCED),
    ],
)
def test_the_five_words(checks, interval, further, word):
    assert Judgement(checks, "effect", interval, 5, "MNIST", **further).verdict == word


def test_side_checks_are_shown_with_the_others():
    found = Judgement({"a": True}, *SOME, side={"s": False})
    assert found.all_checks == {"a": True, "s": False}


@pytest.fixture
def judge(monkeypatch):
    """A rule of a claim that no paper has."""
    monkeypatch.setitem(RULES, "Q1", None)

    @rule("Q1", needs=("score", "trial"))
    def above(rows, least=0.0):
        """Whether the scores are high enough."""
        return Judgement({"high": rows["score"].min() > least}, *SOME)

    return above


def test_a_rule_is_registered_and_names_its_claim(judge):
    found = judge(pd.DataFrame({"score": [0.2], "trial": [0]}), least=0.1)
    assert found.claim == "Q1" and found.verdict == REPRODUCED
    assert RULES["Q1"] is judge and judge.__name__ == "above"


def test_rows_that_are_missing_or_lack_a_column_are_refused(judge):
    with pytest.raises(ValueError, match="claim Q1: the rows lack trial; they have score"):
        judge(pd.DataFrame({"score": [0.2]}))
    with pytest.raises(ValueError, match="claim Q1: there are no rows"):
        judge(pd.DataFrame({"score": [], "trial": []}))


def test_errors_of_a_judgement_name_the_claim(monkeypatch):
    monkeypatch.setitem(RULES, "Q2", None)

    @rule("Q2", needs=("score",))
    def nothing(rows):
        return Judgement({}, *SOME)

    with pytest.raises(ValueError, match="claim Q2: a verdict needs at least one check"):
        nothing(pd.DataFrame({"score": [1]}))
