"""Verdicts, and the cards that show them."""

import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from helpers import claims
from helpers.claims import MIME, RULES, VERDICTS, Judgement, rule
from helpers.claims.judgement import NOT_TESTED
from helpers.project import Run

LAPTOP = Run("laptop", "cpu", 0, None)
SMOKE = Run("smoke", "cpu", 0, None)
pytestmark = pytest.mark.usefixtures("book")


@pytest.mark.parametrize(
    "checks, word",
    [
        ({"a": True, "b": np.True_}, "reproduced"),
        ({"a": True, "b": np.False_}, "partly"),
        ({"a": np.array(False), "b": False}, "not reproduced"),
        ({"a": True}, "reproduced"),
        ({"a": False}, "not reproduced"),
    ],
)
def test_the_rule(checks, word, facts):
    verdict = claims.verdict("B1", checks, **facts)
    assert verdict.verdict == word and word in VERDICTS
    assert all(type(holds) is bool for holds in verdict.checks.values())


@pytest.mark.parametrize(
    "checks, change, error, message",
    [
        ({}, {}, ValueError, "at least one check"),
        ({"a": 1.0}, {}, TypeError, "check 'a' is 1.0"),
        ({"a": None}, {}, TypeError, "check 'a' is None"),
        ({"a": np.array([True])}, {}, TypeError, "check 'a' is array"),
        ({"a": True}, {"interval": (2, 1)}, ValueError, "upside down"),
        ({"a": True}, {"seeds": 0}, ValueError, "seeds is 0"),
        ({"a": True}, {"seeds": 2.5}, ValueError, "seeds is 2.5"),
    ],
)
def test_what_cannot_be_a_verdict(checks, change, error, message, facts):
    with pytest.raises(error, match=message):
        claims.verdict("B1", checks, **(facts | change))


def test_unknown_claims_are_refused_with_the_known_ones(facts):
    with pytest.raises(ValueError, match="unknown claim 'B9': claims.yml has B1, B2, Y1"):
        claims.verdict("B9", {"a": True}, **facts)
    with pytest.raises(ValueError, match="unknown claim 'B9'"):
        claims.not_tested("B9", "no GPU", run=LAPTOP)


@pytest.mark.parametrize("interval", [None, (np.nan, np.nan), (-np.inf, 1.0)])
def test_an_interval_that_does_not_exist_is_none(interval, facts):
    verdict = claims.verdict("B1", {"a": True}, **(facts | {"interval": interval}))
    assert verdict.interval is None and "95 % interval: none" in repr(verdict)


def test_not_tested_keeps_its_reason():
    verdict = claims.not_tested("Y1", "needs a GPU", run=LAPTOP)
    assert verdict.verdict == NOT_TESTED
    assert "needs a GPU" in claims.card_html(verdict) and "Seeds" not in claims.card_html(verdict)
    with pytest.raises(ValueError, match="say why"):
        claims.not_tested("Y1", " ", run=LAPTOP)


def test_the_record_is_strict_json_and_holds_everything(facts):
    facts = facts | {"interval": (np.float32(0.5), np.float64(1)), "seeds": np.int64(7)}
    record = claims.verdict("B1", {"a": np.True_}, **facts, note="n").record()
    assert (
        json.loads(json.dumps(record, allow_nan=False))
        == record
        == {
            "id": "B1",
            "verdict": "reproduced",
            "checks": {"a": True},
            "effect": "+0.14 accuracy",
            "interval": [0.5, 1.0],
            "seeds": 7,
            "data": "MNIST",
            "profile": "laptop",
            "device": "cpu",
            "note": "n",
            "evidence": True,
        }
    )


class Tree(HTMLParser):
    """Checks that elements nest; collects text by class, and the classes."""

    def __init__(self, source):
        super().__init__()
        self.open, self.text, self.attributes, self.links = [], {}, [], []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append((tag, dict(attrs).get("class", "")))
        self.attributes.append((tag, dict(attrs)))
        self.links += [(tag, dict(attrs))] if tag == "a" else []

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, classes in self.open:
            for name in classes.split():
                self.text[name] = self.text.get(name, "") + data


def test_the_card_says_what_was_claimed_tested_and_found(facts):
    checks = {"error below $10^{-8}$": True, "for <all> seeds": False}
    tree = Tree(
        claims.card_html(claims.verdict("B1", checks, **facts, note="But $N < d$ & so on."))
    )
    assert tree.attributes[0] == (
        "div",
        {
            "class": "claim-card verdict-partly",
            "id": "claim-B1",
            "role": "group",
            "aria-label": "Claim B1: partly",
        },
    )
    assert tree.text["claim-head"].split("\n") == ["B1 Smith & Jones, 2030, Lemma 4.1 partly"]
    assert tree.text["claim-statement"] == (
        r"Stability is alignment times residual: \(S < \gamma\) & <b>more</b>."
    )
    assert tree.text["claim-origin"] == (
        r"Statement: second-hand: a reviewer, on \(S < 1\); rule fixed before the result."
    )
    assert tree.text["claim-test"] == r"Test: relative error below \(10^{-8}\)"
    assert tree.text["holds"] == r"✓ holds: error below \(10^{-8}\)"
    assert tree.text["fails"] == "✗ not shown: for <all> seeds"
    assert tree.text["claim-facts"] == (
        "Effect +0.14 accuracy95 % interval [0.1, 0.18]Seeds 5Data MNISTProfile laptop"
    )
    assert tree.text["claim-note"] == r"But \(N < d\) & so on."
    assert "claim-smoke" not in tree.text


def test_a_card_says_that_nobody_read_the_claim_and_that_it_is_ours(book, facts):
    tree = Tree(claims.card_html(claims.verdict("B2", {"a": True}, **facts)))
    assert "inferred by us, not read" in tree.text["origin-inferred"]
    assert "inferred by us, not read" in repr(claims.verdict("B2", {"a": True}, **facts))
    ours = (book / "claims.yml").read_text().replace("origin: inferred", "origin: ours")
    (book / "claims.yml").write_text(ours)
    tree = Tree(claims.card_html(claims.verdict("B2", {"a": True}, **facts)))
    assert "our own claim, not the paper's" in tree.text["origin-ours"]
    assert tree.text["claim-paper"] == "ours, beside Smith & Jones, 2030, Theorem 1"
    tree = Tree(claims.card_html(claims.not_tested("Y1", "no GPU", run=LAPTOP)))
    assert "claim-origin" not in tree.text


def test_maths_stands_in_elements_that_mathjax_looks_into(facts):
    tree = Tree(claims.card_html(claims.verdict("B1", {"a": True}, **facts)))
    assert tree.text["math"] == r"\(S < \gamma\)" + r"\(S < 1\)" + r"\(10^{-8}\)"
    assert r"\(" not in claims.card_html(claims.verdict("B2", {"a": True}, **facts))
    assert "It costs $5." in claims.card_html(claims.verdict("B2", {"a": True}, **facts))


def test_nothing_in_a_card_is_taken_for_html(facts):
    evil = "<script>\"&'</script>"
    verdict = claims.verdict(
        "B1", {evil: True}, **(facts | {"effect": evil, "data": evil}), note=evil
    )
    tree = Tree(claims.card_html(verdict))
    assert "script" not in [tag for tag, _ in tree.attributes]
    assert tree.text["claim-note"] == evil


def test_a_smoke_run_is_marked_as_no_evidence(facts):
    verdict = claims.verdict("B1", {"a": True}, **(facts | {"run": SMOKE}))
    tree = Tree(claims.card_html(verdict))
    assert tree.text["claim-smoke"] == "smoke run: not evidence"
    assert tree.attributes[0][1]["class"] == "claim-card verdict-reproduced smoke"
    assert "not evidence" in tree.attributes[0][1]["aria-label"]
    assert "(smoke run: not evidence)" in repr(verdict)
    assert verdict.record()["evidence"] is False


def test_the_bundle_has_a_card_a_text_and_a_record(facts):
    verdict = claims.verdict("B1", {"a": True}, **facts)
    bundle = verdict._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", MIME}
    assert bundle["text/html"].startswith('<div class="claim-card')
    assert bundle["text/plain"].splitlines()[0] == "B1: reproduced"
    assert "  ✓ holds: a" in bundle["text/plain"]


def test_the_card_of_a_rule_leaves_links_to_the_site(monkeypatch):
    monkeypatch.setitem(RULES, "B1", None)

    @rule("B1", needs=("score",))
    def high(rows):
        return Judgement({"high": True}, "+0.1", (0.05, 0.15), 5, "MNIST")

    made = claims.card(high(pd.DataFrame({"score": [1]})), LAPTOP)
    assert made.verdict == "reproduced" and made.profile == "laptop"
    # in Jupyter they would lead nowhere
    assert Tree(claims.card_html(made)).links == []


def test_a_judgement_without_a_rule_or_with_an_unknown_claim_makes_no_card():
    loose = Judgement({"a": True}, "+0.1", (0.05, 0.15), 5, "MNIST")
    with pytest.raises(ValueError, match="does not come from a rule"):
        claims.card(loose, LAPTOP)
    with pytest.raises(ValueError, match="unknown claim 'B9'"):
        claims.card(Judgement({"a": True}, "+0.1", None, 5, "MNIST", claim="B9"), LAPTOP)


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        ((0.1, 0.18), "[0.1, 0.18]"),
        ((-1.00455, -1.00449), "[-1.005, -1.004]"),
        ((2, 2), "[2, 2]"),
    ],
)
def test_an_interval_shows_enough_digits_to_tell_its_ends_apart(facts, interval, shown):
    verdict = claims.verdict("B1", {"a": True}, **(facts | {"interval": interval}))
    assert f"95 % interval: {shown}" in repr(verdict)
