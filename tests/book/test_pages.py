"""What pages show as code runs."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import audit, claims
from helpers.sweep import registry

BOOK = Path(__file__).resolve().parents[2] / "book"
ROW = re.compile(r"^\| (I|II|III|IV) \|(.*)\|$", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_snippets_of_the_page_on_the_package_run_in_their_order(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    blocks = BLOCK.findall((BOOK / "package.md").read_text("utf8"))
    assert len(blocks) >= 5
    names: dict = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "package.md", "exec"), names)
    assert names["fitted"].alignment(names["K"]).numpy() == pytest.approx(1)
    assert names["toy"](registry.Call(width=10, trial=1)) == {"score": 11}


def test_the_snippet_of_the_page_on_audits_runs_as_a_newcomer_would_paste_it():
    (block,) = BLOCK.findall((BOOK / "audit.md").read_text("utf8"))
    names: dict = {"__name__": "page"}
    exec(compile(block, "audit.md", "exec"), names)
    assert set(names["told"]) == set(audit.QUESTIONS)
    assert names["report"]["flip_share"].state in ("flagged", "clear", "open")


def test_the_page_on_audits_names_every_finding():
    text = (BOOK / "audit.md").read_text("utf8")
    rng = np.random.default_rng(0)
    y, a = rng.integers(0, 2, (2, 200))
    found = [*audit.data(rng.standard_normal((200, 5)), y, a), *audit.QUESTIONS]
    assert not [name for name in found if f"`{name}`" not in text]


def test_the_page_on_the_package_names_every_door():
    doors = {path.parent.name for path in (BOOK.parent / "src" / "helpers").glob("*/__init__.py")}
    for page in (BOOK / "package.md", BOOK.parent / "README.md"):
        text = page.read_text("utf8")
        assert not [door for door in doors if f"`{door}`" not in text], page


def test_the_introduction_says_of_each_paper_what_was_read():
    text = (BOOK / "intro.md").read_text("utf8").split("## What was read")[1].split("\n## ")[0]
    rows = dict(ROW.findall(text))
    known = claims.load(BOOK / "claims.yml").values()
    parts = {claim.part for claim in known if claim.whose != claims.OURS}
    assert set(rows) == parts
    for part, row in rows.items():
        read, _, not_read = (cell.strip() for cell in row.split("|"))
        assert read and not_read, part


@pytest.fixture
def tables(monkeypatch):
    """The module of the book's directives."""
    monkeypatch.setattr(sys, "path", [str(BOOK / "_ext"), *sys.path])
    import book_tables

    return book_tables


def test_a_plan_is_one_row_of_the_table_of_grids(tables):
    plan = {"experiment": "a<b", "profile": "paper", "cells": "12", "groups": "3", "missing": "4"}
    plan |= {"seconds": "7200", "whole": "9000.0", "own": "0.25", "device": "X, 2 cores"}
    assert tables.plan_row(plan | {"size": "2500"}) == [
        "<code>a&lt;b</code>", "12", "3 groups", "4", "2", "2.5", "25%", "2 kB", "X, 2 cores",
    ]  # fmt: skip
    unknown = tables.plan_row(plan | {"groups": "12", "seconds": "", "whole": "", "size": ""})
    assert unknown[2] == "one by one" and unknown[4:8] == ["unknown", "unknown", "–", "unknown"]


def row(part, whose, verdict, origin):
    return {"part": part, "whose": whose, "verdict": verdict, "origin": origin}


ROWS = [
    row("I", claims.PAPERS, "reproduced", "read"),
    row("I", claims.PAPERS, "inconclusive", "inferred"),
    row("I", claims.OURS, "reproduced", "ours"),
]


def test_the_ledger_counts_claims_of_the_papers_and_ours_apart(tables):
    shown = re.sub(r"<[^>]+>", " ", tables.counted(ROWS)).split()
    assert " ".join(shown) == (
        "claims reproduced partly not reproduced inconclusive not tested all "
        "Part I of the papers (1 of them inferred by us) 1 0 0 1 0 2 "
        "Part I ours 1 0 0 0 0 1 "
        "all parts of the papers (1 of them inferred by us) 1 0 0 1 0 2 "
        "all parts ours 1 0 0 0 0 1"
    )


def test_the_ledger_has_a_button_for_what_occurs_and_no_sum_over_both(tables):
    verdicts = tables.buttons(ROWS, "verdict", claims.VERDICTS)
    assert re.findall(r"value='([^']*)'", verdicts) == ["", "reproduced", "inconclusive"]
    whose = tables.buttons(ROWS, "whose", (claims.PAPERS, claims.UNRECORDED, claims.OURS))
    assert re.findall(r"value='([^']*)'", whose) == ["", claims.PAPERS, claims.OURS]
    assert not re.search(r">[^<]*\d", verdicts + whose)
