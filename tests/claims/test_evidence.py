"""Which rows and which figure belong to a verdict, read from the text of a chapter."""

import ast
import json
import re
from pathlib import Path

import pytest

from helpers.claims import MIME, evidence, load
from helpers.dependencies import package_tree

BOOK = Path(__file__).resolve().parents[2] / "book"
KNOWN = {"doses", "nulls", "others"}


def chapter(folder, *cells):
    """A chapter of cells: code; a claim's card after ``|``, a figure's name after ``#``."""
    made = []
    for text in cells:
        if text.startswith("## "):
            made.append({"cell_type": "markdown", "source": [text], "metadata": {}})
            continue
        code, _, claim = text.partition("|")
        code, _, figure = code.partition("#")
        shown = [{"output_type": "execute_result", "data": {MIME: {"id": claim}}}] if claim else []
        metadata = {"mystnb": {"figure": {"name": figure}}} if figure else {}
        made.append({"cell_type": "code", "source": [code], "metadata": metadata, "outputs": shown})
    path = folder / "07-made.ipynb"
    path.write_text(json.dumps({"cells": made}))
    return path


def rows_behind(folder, *cells):
    return evidence(chapter(folder, *cells), KNOWN)["B1"].experiments


DOSES, NULLS = 'a = sweep.results("doses", run)', 'b = sweep.results("nulls", run)'


@pytest.mark.parametrize(
    "cells, rows",
    [
        ((DOSES, NULLS, "card(a)|B1"), ("doses",)),
        ((DOSES, NULLS, "card(a, b)|B1"), ("doses", "nulls")),
        # through other names, and by a function that takes its table from outside
        ((DOSES, NULLS, "c = a.mean()", "d, e = c, 1", "card(d)|B1"), ("doses",)),
        ((DOSES, NULLS, "def f(x):\n    return a + x", "card(f(1))|B1"), ("doses",)),
        # a name that has got a new value says nothing of its old one, but to what read it before
        ((DOSES, NULLS.replace("b =", "a ="), "card(a)|B1"), ("nulls",)),
        ((DOSES, "c = a", NULLS.replace("b =", "a ="), "card(c)|B1"), ("doses",)),
        ((DOSES, "def f():\n    return a", NULLS.replace("b", "a", 1), "card(f())|B1"), ("nulls",)),
        # changed in place, or only if something holds: both belong to it
        ((DOSES, NULLS, "a['x'] = b['x']", "card(a)|B1"), ("doses", "nulls")),
        ((DOSES, NULLS, "a.update(b)", "card(a)|B1"), ("doses", "nulls")),
        ((DOSES, NULLS, "if run:\n    a = b", "card(a)|B1"), ("doses", "nulls")),
        ((DOSES, NULLS, "a += b", "card(a)|B1"), ("doses", "nulls")),
        # what a loop calls by the name of a table is not the table
        ((DOSES, NULLS, "c = [b for b in range(3)]", "card(a, c)|B1"), ("doses",)),
        ((DOSES, NULLS, "for b in a:\n    c = b", "card(c)|B1"), ("doses",)),
        # a module is not what its functions were given
        (("import claims", DOSES, NULLS, "claims.show(b)", "claims.card(a)|B1"), ("doses",)),
        # names that are no literals
        (('c = {n: sweep.results(n, run) for n in ("doses", "nulls", "x")}', "card(c)|B1"),
         ("doses", "nulls")),
        (("def f(n):\n    return sweep.results(n, run)", 'c = f("others")', "card(c)|B1"),
         ("others",)),
        # an experiment's name may be a word of another meaning; a chapter may compute by itself
        ((DOSES, 'c = a["nulls"]', "card(c)|B1"), ("doses",)),
        (("c = 1", "card(c)|B1"), ()),
        (("%%bash\nls", DOSES, "card(a)|B1"), ("doses",)),
    ],
)  # fmt: skip
def test_rows_of_a_verdict_are_those_that_its_names_come_from(tmp_path, cells, rows):
    assert rows_behind(tmp_path, *cells) == rows


@pytest.mark.parametrize(
    "cells, figure",
    [
        (("plot()#fig-a", "plot()#fig-b", "card(1)|B1", "plot()#fig-c"), "fig-b"),
        (("card(1)|B1", "plot()#fig-c"), "fig-c"),
        (("card(1)|B1",), ""),
        # the section of the card first, then what shows the same rows; the nearest if it has none
        (("plot()#fig-a", "## next", "card(1)|B1", "plot()#fig-c"), "fig-c"),
        ((DOSES, "plot(a)#fig-a", "plot(1)#fig-b", "## next", "card(a)|B1"), "fig-a"),
        ((DOSES, "plot(2)#fig-a", "plot(1)#fig-b", "## next", "card(a)|B1"), ""),
        ((DOSES, "plot(a)#fig-a", "plot(1)#fig-b", "## next", "card(2)|B1"), "fig-b"),
    ],
)
def test_the_figure_of_a_verdict(tmp_path, cells, figure):
    assert evidence(chapter(tmp_path, *cells), KNOWN)["B1"].figure == figure


def test_evidence_names_chapter_and_cell(tmp_path):
    found = evidence(chapter(tmp_path, DOSES, "card(a)|B1", "card(a, 2)|B2"), KNOWN)
    assert list(found) == ["B1", "B2"]
    assert (found["B2"].chapter, found["B2"].cell) == ("07-made", "card(a, 2)")


def test_what_is_no_notebook_is_named(tmp_path):
    (tmp_path / "x.ipynb").write_text("[]")
    with pytest.raises(ValueError, match=r"x\.ipynb is not a notebook"):
        evidence(tmp_path / "x.ipynb", KNOWN)


IN_TABLES = {"Y11", "S18", "S19"}  # tables show what was found on these, and no figure


def test_every_claim_of_the_book_has_a_figure_and_stored_rows_or_computes_them_itself():
    experiments = package_tree().experiments
    found = {}
    for path in sorted((BOOK / "chapters").glob("*.ipynb")):
        found |= evidence(path, experiments)
    known = load(BOOK / "claims.yml")
    assert set(found) == {claim.id for claim in known.values() if claim.chapter}
    for claim_id, one in found.items():
        assert one.chapter == known[claim_id].chapter, claim_id
        assert bool(one.figure) is (claim_id not in IN_TABLES), claim_id
        for name in one.experiments:
            assert (BOOK / "results" / f"{name}.csv").is_file(), claim_id
        names = {node.id for node in ast.walk(ast.parse(one.cell)) if isinstance(node, ast.Name)}
        assert "claims" in names or re.search(r"_card\b", one.cell), claim_id
    # chapters that ask for no stored rows are the only ones whose claims may have none
    asking = {
        p.stem for p in (BOOK / "chapters").glob("*.ipynb") if "sweep.results" in p.read_text()
    }
    without = {one.chapter for one in found.values() if not one.experiments}
    assert {c for c in without if c in asking} <= {
        "02-stability-times-alignment", "20-linear-mixtures", "21-speed-and-influence",
        "22-margin-control", "25-one-smoother", "26-one-scalar",
    }  # fmt: skip
