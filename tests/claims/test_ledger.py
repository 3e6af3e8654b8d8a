"""The ledger that is made of claims and verdicts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from helpers import claims
from helpers.claims import (
    NO_VERDICT,
    OURS,
    PAPERS,
    TO_COME,
    UNRECORDED,
    VERDICTS,
    collect,
    counts,
    ledger,
    load,
    problems,
    rule_of,
)
from helpers.claims.judgement import NOT_TESTED
from helpers.project import Run

ROOT = Path(__file__).resolve().parents[2]
LAPTOP = Run("laptop", "cpu", 0, None)
SMOKE = Run("smoke", "cpu", 0, None)
pytestmark = pytest.mark.usefixtures("book")


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


def test_collect_finds_what_verdicts_left_in_the_notebooks(book, facts):
    first = claims.verdict("B1", {"a": True}, **facts)
    publish(book, "02-stability", first)
    publish(book, "03-features", claims.not_tested("B2", "no GPU", run=LAPTOP))
    publish(book, "04-words-only")
    records = collect(book / "chapters")
    assert records["B1"] == first.record() | {"chapter": "02-stability"}
    assert records["B2"]["verdict"] == NOT_TESTED
    assert problems(load(), records) == []


def test_the_ledger_has_a_row_for_every_claim(book, facts):
    publish(book, "02-stability", claims.verdict("B1", {"a": False}, **facts))
    rows = ledger(load(), collect(book / "chapters"))
    assert [row["id"] for row in rows] == ["B1", "B2", "Y1"]
    assert [row["verdict"] for row in rows] == ["not reproduced", NO_VERDICT, TO_COME]
    assert rows[0]["where"] == "Lemma 4.1" and rows[0]["interval"] == [0.1, 0.18]
    assert rows[0]["source"] == "a reviewer, on $S < 1$"
    assert [row["whose"] for row in rows] == [PAPERS, PAPERS, UNRECORDED]
    json.dumps(rows, allow_nan=False)


def row(part, whose, verdict, origin=""):
    return {"part": part, "whose": whose, "verdict": verdict, "origin": origin}


def test_claims_of_the_papers_and_ours_are_counted_apart():
    rows = [
        row("I", PAPERS, "reproduced", "read"),
        row("I", PAPERS, "reproduced", "inferred"),
        row("I", PAPERS, "inconclusive", "inferred"),
        row("I", OURS, "reproduced", "ours"),
        row("II", UNRECORDED, "not tested"),
    ]
    none = dict.fromkeys(VERDICTS, 0)
    papers = none | {"reproduced": 2, "inconclusive": 1, "all": 3, "inferred": 2}
    ours = none | {"reproduced": 1, "all": 1, "inferred": 0}
    unrecorded = none | {"not tested": 1, "all": 1, "inferred": 0}
    expected = [
        {"part": "I", "whose": PAPERS, **papers},
        {"part": "I", "whose": OURS, **ours},
        {"part": "II", "whose": UNRECORDED, **unrecorded},
        {"part": "", "whose": PAPERS, **papers},
        {"part": "", "whose": UNRECORDED, **unrecorded},
        {"part": "", "whose": OURS, **ours},
    ]
    assert counts(rows) == expected
    assert counts(iter(rows)) == expected


def test_a_claim_without_a_verdict_is_counted_and_none_is_lost():
    rows = ledger(load(), {})
    table = counts(rows)
    total = [line for line in table if not line["part"]]
    assert sum(line["all"] for line in total) == len(rows) == 3
    for line in table:
        named = [line[key] for key in (*VERDICTS, NO_VERDICT, TO_COME)]
        assert sum(named) == line["all"] > 0
    assert [line[NO_VERDICT] for line in total] == [2, 0]
    assert [line[TO_COME] for line in total] == [0, 1]
    assert counts([]) == []


@pytest.mark.parametrize("chapters", [["02-stability", "03-features"], ["02-stability"] * 2])
def test_two_verdicts_on_one_claim_are_an_error(book, chapters, facts):
    verdict = claims.verdict("B1", {"a": True}, **facts)
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


def test_problems_names_all_that_does_not_fit(book, facts):
    publish(book, "01-setting", claims.verdict("B1", {"a": True}, **facts))
    publish(book, "09-later", claims.verdict("Y1", {"a": True}, **(facts | {"run": SMOKE})))
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


def test_the_rule_of_a_claim(book, monkeypatch):
    from helpers.claims import RULES, part1, part2  # noqa: F401

    monkeypatch.delitem(RULES, "Y1")
    assert rule_of("B1") is part1.product_identity
    with pytest.raises(ValueError, match="claim Y1 has no rule of its own"):
        rule_of("Y1")
    with pytest.raises(ValueError, match="unknown claim 'B9'"):
        rule_of("B9")


def test_the_rules_of_every_part_are_found_without_being_named():
    """A part that is added needs no entry in a list."""
    script = (
        "import pathlib, helpers.claims as c; found = c.rule_of('B1').__module__\n"
        "parts = {p.stem for p in pathlib.Path(c.__file__).parent.glob('part*')}\n"
        "here = {rule.__module__.split('.')[2] for rule in c.RULES.values()}\n"
        "assert parts == here and len(parts) >= 4, (parts, here)"
    )
    environment = os.environ | {"BOOK_ROOT": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
