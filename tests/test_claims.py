"""The claims file, verdicts by rule, their cards, and the ledger made of them."""

import json
import subprocess
import sys
from html.parser import HTMLParser

import nbformat
import numpy as np
import pytest

from helpers import claims
from helpers.chapter import Run
from helpers.claims import MIME, NO_VERDICT, TO_COME, VERDICTS, collect, ledger, load, problems

LAPTOP = Run("laptop", "cpu", 0, None)
SMOKE = Run("smoke", "cpu", 0, None)

CLAIMS = r"""
papers:
  smith2030: "Smith & Jones, 2030"
claims:
  - id: B1
    part: I
    paper: smith2030
    where: Lemma 4.1
    statement: "Stability is alignment times residual: $S < \\gamma$ & <b>more</b>."
    test: "relative error below $10^{-8}$"
    chapter: 02-stability
  - id: B2
    part: I
    paper: smith2030
    where: Theorem 1
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
FACTS = dict(effect="+0.14 accuracy", interval=(0.1, 0.18), seeds=5, data="MNIST", run=LAPTOP)


@pytest.fixture(autouse=True)
def book(tmp_path, monkeypatch):
    """A book of its own, whose claims are those above."""
    (tmp_path / "book" / "chapters").mkdir(parents=True)
    (tmp_path / "book" / "claims.yml").write_text(CLAIMS)
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path))
    return tmp_path / "book"


# -- the file ------------------------------------------------------------------------------------


def test_load_gives_claims_by_id_in_order():
    loaded = load()
    assert list(loaded) == ["B1", "B2", "Y1"]
    assert loaded["B1"].paper_name == "Smith & Jones, 2030" and loaded["B1"].paper == "smith2030"
    assert loaded["Y1"].paper_name == "doe2031" and loaded["Y1"].chapter is None


def test_a_bare_list_of_claims_will_do(tmp_path):
    path = tmp_path / "list.yml"
    path.write_text("- {id: A, part: I, paper: p, where: w, statement: s, test: t}")
    assert load(path)["A"].statement == "s"


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("id: B2", "id: B1", "claim B1: the id is given twice"),
        ("id: B2", "id: 2", "claim 2: an id is a letter"),
        ("id: B2", 'id: "B 2"', "claim B 2: an id is a letter"),
        ("test: it does", "", "claim B2: missing or empty: test"),
        ("test: it does", "test:", "claim B2: missing or empty: test"),
        ("test: it does", "test: it does\n    tset: 1", r"claim B2: unknown keys \['tset'\]"),
        (r"costs \$5", "costs $5", "claim B2: a '\\$' without its partner in statement"),
        ("papers:\n  smith2030", "papers:\n  - smith2030", "'papers' must map"),
        ("claims:", "clams:", "expected a list of claims"),
        ("claims:", "claims: {", "is not valid YAML"),
        ("  - id: B1", "  - hello\n  - id: B1", "claim 1: expected a mapping, found 'hello'"),
    ],
)
def test_mistakes_in_the_file_are_named(book, old, new, message):
    text = CLAIMS.replace(old, new, 1)
    assert text != CLAIMS
    (book / "claims.yml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load()
    assert "claims.yml" in str(caught.value)


def test_chapters_are_compared_with_the_known_ones():
    load(chapters=["02-stability", "03-features"])
    with pytest.raises(ValueError, match="claim B2: unknown chapter '03-features'"):
        load(chapters=["02-stability"])


# -- verdicts ------------------------------------------------------------------------------------


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
def test_the_rule(checks, word):
    verdict = claims.verdict("B1", checks, **FACTS)
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
def test_what_cannot_be_a_verdict(checks, change, error, message):
    with pytest.raises(error, match=message):
        claims.verdict("B1", checks, **(FACTS | change))


def test_unknown_claims_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown claim 'B9': claims.yml has B1, B2, Y1"):
        claims.verdict("B9", {"a": True}, **FACTS)
    with pytest.raises(ValueError, match="unknown claim 'B9'"):
        claims.not_tested("B9", "no GPU", run=LAPTOP)


@pytest.mark.parametrize("interval", [None, (np.nan, np.nan), (-np.inf, 1.0)])
def test_an_interval_that_does_not_exist_is_none(interval):
    verdict = claims.verdict("B1", {"a": True}, **(FACTS | {"interval": interval}))
    assert verdict.interval is None and "95 % interval: none" in repr(verdict)


def test_not_tested_keeps_its_reason():
    verdict = claims.not_tested("Y1", "needs a GPU", run=LAPTOP)
    assert verdict.verdict == VERDICTS[3]
    assert "needs a GPU" in claims.card(verdict) and "Seeds" not in claims.card(verdict)
    with pytest.raises(ValueError, match="say why"):
        claims.not_tested("Y1", " ", run=LAPTOP)


def test_the_record_is_strict_json_and_holds_everything():
    facts = FACTS | {"interval": (np.float32(0.5), np.float64(1)), "seeds": np.int64(7)}
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


# -- the card ------------------------------------------------------------------------------------


class Tree(HTMLParser):
    """Checks that elements nest; collects text by class, and the classes."""

    def __init__(self, source):
        super().__init__()
        self.open, self.text, self.attributes = [], {}, []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append((tag, dict(attrs).get("class", "")))
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, classes in self.open:
            for name in classes.split():
                self.text[name] = self.text.get(name, "") + data


def test_the_card_says_what_was_claimed_tested_and_found():
    checks = {"error below $10^{-8}$": True, "for <all> seeds": False}
    tree = Tree(claims.card(claims.verdict("B1", checks, **FACTS, note="But $N < d$ & so on.")))
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
    assert tree.text["claim-test"] == r"Test: relative error below \(10^{-8}\)"
    assert tree.text["holds"] == r"✓ holds: error below \(10^{-8}\)"
    assert tree.text["fails"] == "✗ fails: for <all> seeds"
    assert tree.text["claim-facts"] == (
        "Effect +0.14 accuracy95 % interval [0.1, 0.18]Seeds 5Data MNISTProfile laptop"
    )
    assert tree.text["claim-note"] == r"But \(N < d\) & so on."
    assert "claim-smoke" not in tree.text


def test_maths_stands_in_elements_that_mathjax_looks_into():
    tree = Tree(claims.card(claims.verdict("B1", {"a": True}, **FACTS)))
    assert tree.text["math"] == r"\(S < \gamma\)" + r"\(10^{-8}\)"
    assert r"\(" not in claims.card(claims.verdict("B2", {"a": True}, **FACTS))
    assert "It costs $5." in claims.card(claims.verdict("B2", {"a": True}, **FACTS))


def test_nothing_in_a_card_is_taken_for_html():
    evil = "<script>\"&'</script>"
    verdict = claims.verdict(
        "B1", {evil: True}, **(FACTS | {"effect": evil, "data": evil}), note=evil
    )
    tree = Tree(claims.card(verdict))
    assert "script" not in [tag for tag, _ in tree.attributes]
    assert tree.text["claim-note"] == evil


def test_a_smoke_run_is_marked_as_no_evidence():
    verdict = claims.verdict("B1", {"a": True}, **(FACTS | {"run": SMOKE}))
    tree = Tree(claims.card(verdict))
    assert tree.text["claim-smoke"] == "smoke run: not evidence"
    assert tree.attributes[0][1]["class"] == "claim-card verdict-reproduced smoke"
    assert "not evidence" in tree.attributes[0][1]["aria-label"]
    assert "(smoke run: not evidence)" in repr(verdict)
    assert verdict.record()["evidence"] is False


def test_the_bundle_has_a_card_a_text_and_a_record():
    verdict = claims.verdict("B1", {"a": True}, **FACTS)
    bundle = verdict._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", MIME}
    assert bundle["text/html"].startswith('<div class="claim-card')
    assert bundle["text/plain"].splitlines()[0] == "B1: reproduced"
    assert "  ✓ holds: a" in bundle["text/plain"]


# -- the ledger ----------------------------------------------------------------------------------


def publish(book, slug, *verdicts):
    """A published chapter with these verdicts as cell outputs, as Jupyter writes them."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells.append(nbformat.v4.new_markdown_cell("Words."))
    for verdict in verdicts:
        cell = nbformat.v4.new_code_cell("verdict(...)")
        cell.outputs = [
            nbformat.v4.new_output("stream", text="checking\n"),
            nbformat.v4.new_output(
                "execute_result", verdict._repr_mimebundle_(), execution_count=1
            ),
        ]
        notebook.cells.append(cell)
    nbformat.write(notebook, book / "chapters" / f"{slug}.ipynb")


def test_collect_finds_what_verdicts_left_in_the_notebooks(book):
    first = claims.verdict("B1", {"a": True}, **FACTS)
    publish(book, "02-stability", first)
    publish(book, "03-features", claims.not_tested("B2", "no GPU", run=LAPTOP))
    publish(book, "04-words-only")
    records = collect(book / "chapters")
    assert records["B1"] == first.record() | {"chapter": "02-stability"}
    assert records["B2"]["verdict"] == VERDICTS[3]
    assert problems(load(), records) == []


def test_the_ledger_has_a_row_for_every_claim(book):
    publish(book, "02-stability", claims.verdict("B1", {"a": False}, **FACTS))
    rows = ledger(load(), collect(book / "chapters"))
    assert [row["id"] for row in rows] == ["B1", "B2", "Y1"]
    assert [row["verdict"] for row in rows] == ["not reproduced", NO_VERDICT, TO_COME]
    assert rows[0]["where"] == "Lemma 4.1" and rows[0]["interval"] == [0.1, 0.18]
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize("chapters", [["02-stability", "03-features"], ["02-stability"] * 2])
def test_two_verdicts_on_one_claim_are_an_error(book, chapters):
    verdict = claims.verdict("B1", {"a": True}, **FACTS)
    if len(set(chapters)) == 1:
        publish(book, chapters[0], verdict, verdict)
    else:
        for chapter in chapters:
            publish(book, chapter, verdict)
    with pytest.raises(
        ValueError, match=f"B1 has two verdicts: in {chapters[0]} and in {chapters[1]}"
    ):
        collect(book / "chapters")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": [1]}'])
def test_a_file_that_is_no_notebook_is_named(book, text):
    (book / "chapters" / "05-broken.ipynb").write_text(text)
    with pytest.raises(ValueError, match="05-broken.ipynb is not a notebook"):
        collect(book / "chapters")


def test_a_folder_that_is_not_there_is_named(book):
    with pytest.raises(ValueError, match="there is no folder"):
        collect(book / "chaptres")


def test_problems_names_all_that_does_not_fit(book):
    publish(book, "01-setting", claims.verdict("B1", {"a": True}, **FACTS))
    publish(book, "09-later", claims.verdict("Y1", {"a": True}, **(FACTS | {"run": SMOKE})))
    records = collect(book / "chapters")
    known = load()
    assert problems(known, records) == [
        "claim B2: chapter 03-features gives no verdict",
        "claim B1: verdict in chapter 01-setting, but claims.yml says 02-stability",
        "claim Y1: verdict in chapter 09-later, but claims.yml says None",
        "claim Y1: its verdict comes from a smoke run",
    ]
    del known["B1"]
    assert "chapter 01-setting gives a verdict on B1, which is not in claims.yml" in problems(
        known, records
    )


def test_claims_do_not_import_torch():
    script = "import sys, helpers.claims; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
