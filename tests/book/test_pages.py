"""What pages show as code runs."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

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


def test_the_snippet_on_pictures_of_ones_own_runs_for_grey_and_colour_pictures():
    (block,) = [b for b in BLOCK.findall((BOOK / "rerun.md").read_text("utf8")) if "mine" in b]
    for channels in (1, 3):
        images = torch.arange(6 * channels * 30 * 20).reshape(6, channels, 30, 20).to(torch.uint8)
        names = {"images": images, "labels": torch.tensor([0, 1, 1, 0, 1, 0])}
        exec(compile(block, "rerun.md", "exec"), names)
        assert names["signs"].tolist() == [-1, 1, 1, -1, 1, -1]
        assert names["framed"].shape == (6, channels, 50, 40)
        assert torch.equal(names["framed"][..., 10:-10, 10:-10], names["pictures"])
        assert not names["blanked"][..., 10:-10, 10:-10].any()


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
    facts = {"part": part, "whose": whose, "verdict": verdict, "origin": origin}
    return facts | {"paper_name": "P"}


ROWS = [
    row("I", claims.PAPERS, "reproduced", "read"),
    row("I", claims.PAPERS, "inconclusive", "inferred"),
    row("I", claims.OURS, "reproduced", "ours"),
]


@pytest.fixture
def ledger(tables):
    """The module of the ledger's directive."""
    import claims_ledger

    return claims_ledger


def test_the_tally_counts_claims_of_the_papers_and_ours_apart(ledger):
    shown = ledger.tally(ROWS)
    told = " ".join(
        re.sub(r"<[^>]+>", " ", re.sub(r"<span class='for-ph.*?</span>", "", shown)).split()
    )
    assert told == (
        "paper reproduced partly not reproduced inconclusive not tested all "
        "Claims of the papers P Part I 1 0 0 1 0 2 1 inferred by us "
        "Claims of our own, beside P Part I 1 0 0 0 0 1"
    )
    # every number leads to its rows
    links = re.findall(r"href='([^']*)'>(\d+)", shown)
    assert links[0] == ("#part=I&amp;origin=papers&amp;verdict=reproduced", "1")
    assert links[-1] == ("#part=I&amp;origin=ours", "1")


def test_a_tally_of_several_papers_has_a_line_for_all(ledger):
    more = [*ROWS, ROWS[0] | {"part": "II", "paper_name": "Q"}]
    shown = " ".join(re.sub(r"<[^>]+>", " ", ledger.tally(more)).split())
    assert "all 2 reproduced 0 0 1 inconclusive 0 3 1 inferred by us" in shown


def test_the_ledger_filters_by_what_occurs(ledger):
    values = re.findall(r"option value='([^']*)'", ledger.filters(ROWS))
    assert values == [
        "", "I", "", "papers", "read", "inferred", "ours", "", "reproduced", "inconclusive",
        "", "verdict", "origin", "fixed",
    ]  # fmt: skip


def test_a_row_shows_the_first_of_many_numbers(ledger):
    assert ledger.short("one; two") == "one; two"
    assert ledger.short(f"one; {'x' * 120}; two") == "one; …"
    assert ledger.short("y" * 200) == "y" * 200


def test_rules_of_a_part_are_found_where_it_is_a_file_or_a_folder(ledger, tmp_path):
    import claims_evidence

    text = '@rule("M1", needs=("a",))\ndef gap(rows):\n    return 1\n'
    (tmp_path / "part3.py").write_text(f"import x\n\n\n{text}")
    (tmp_path / "part6").mkdir()
    (tmp_path / "part6" / "more.py").write_text(text.replace("M1", "Z1"))
    found = dict(claims_evidence.rules(tmp_path))
    assert found == {
        "M1": ("part3.py", "part3.gap", text.rstrip()),
        "Z1": ("part6/more.py", "part6.gap", text.rstrip().replace("M1", "Z1")),
    }


def test_a_paper_is_found_by_doi_or_arxiv_and_all_four_are(ledger):
    import claims_evidence

    chain = claims_evidence.Chain(BOOK, claims.load(BOOK / "claims.yml"))
    assert chain.papers["bombari2024spurious"][0] == "https://arxiv.org/abs/2305.12100"
    assert chain.papers["you2025silent"][0] == "https://doi.org/10.1038/s41467-025-61531-5"
    together = next(c for c in chain.known.values() if c.paper == "together")
    assert len(chain.written(together)) == 4


def test_references_carry_an_address(ledger):
    import claims_evidence
    from pybtex.database import parse_file

    entries = parse_file(BOOK / "references.bib", "bibtex").entries
    without = {k for k, entry in entries.items() if not claims_evidence.paper_link(entry.fields)}
    # no DOI or arXiv number is known to us for these
    assert without <= {
        "rahimi2007random", "cho2009kernel", "paul2007asymptotics", "golub2013matrix"
    }  # fmt: skip
    for key, entry in entries.items():
        assert re.fullmatch(r"10\.\d{4,5}/\S+", entry.fields.get("doi", "10.1234/x")), key
        number = r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}"
        assert re.fullmatch(number, entry.fields.get("eprint", "1234.56789")), key
        # where a field can tell it, no text does, as a text makes no link
        assert not re.search(r"arXiv:|doi:", "".join(entry.fields.values())), key
