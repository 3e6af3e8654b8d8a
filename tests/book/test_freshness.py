"""Freshness: which executed copies show their sources, claims and helpers as they are now."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from helpers.book import command, freshness, sources

ROOT = Path(__file__).resolve().parents[2]
BASELINES = sorted((ROOT / "notebooks").glob("*.ipynb"))

# --- what is committed -----------------------------------------------------------------------


def test_committed_copies_were_made_from_the_sources():
    problems = freshness.stale()
    assert problems == []


def test_every_chapter_takes_the_four_parameters():
    for source in sources.sources():
        assert list(sources.parameters(sources.load(source)))[:4] == [
            "profile",
            "device",
            "seed",
            "data_dir",
        ], source.name


@pytest.mark.parametrize("path", BASELINES, ids=lambda p: p.stem)
def test_baseline_has_checked_cells_with_stored_text(path):
    """nbval passes a checked cell that has no stored output, so look for the output here."""
    nb = nbformat.read(path, 4)
    marked = [c for c in nb.cells if "nbval-check-output" in sources.tags(c)]
    assert marked, "no cell is tagged nbval-check-output"
    for one in marked:
        assert [(o.output_type, o.get("name")) for o in one.outputs] == [("stream", "stdout")]
        assert "FAILS" not in one.outputs[0].text
    assert not [c for c in nb.cells if sources.INJECTED in sources.tags(c)]
    assert not [o for c in sources.code_cells(nb) for o in c.outputs if o.output_type == "error"]


@pytest.fixture
def current(project, put, copy_of):
    source = put("01-a", "from helpers import one")
    copy_of(source)
    copy_of(source, "laptop")
    assert freshness.stale() == []
    return source


def test_changed_code_is_a_problem_in_both_editions(current):
    current.write_text(current.read_text().replace("import one", "import two"))
    problems = freshness.stale()
    assert len(problems) == 2 and all("other code" in p for p in problems)
    assert "run `make baselines`" in problems[0] and "run `make publish`" in problems[1]
    assert command.main(["stale"]) == 1


def test_changed_prose_and_tags_are_refreshed_without_running(current, capsys):
    text = current.read_text().replace("Some prose.", "Better prose.")
    current.write_text(text.replace(":tags: []", ":tags: [hide-input]"))
    problems = freshness.stale()
    assert len(problems) == 2 and all("make refresh" in p for p in problems)
    assert command.main(["refresh"]) == 0
    assert freshness.stale() == []
    nb = nbformat.read(freshness.edition("smoke") / "01-a.ipynb", 4)
    assert "Better prose." in nb.cells[0].source
    assert [c.execution_count for c in sources.code_cells(nb)] == [1, 1]


def test_an_outdated_copy_without_edits_is_made_again(current, capsys):
    current.write_text(current.read_text().replace("import one", "import errors"))
    assert command.main(["run"]) == 0
    assert all("chapters" in problem for problem in freshness.stale())


EDITS = {
    "code": lambda nb: nb.cells[-1].update(source="mine = 1"),
    "prose": lambda nb: nb.cells[0].update(source="My own prose."),
    "tag": lambda nb: nb.cells[-1].metadata.update(tags=["hide-input"]),
    "new cell": lambda nb: nb.cells.append(nbformat.v4.new_code_cell("mine = 1")),
    "cell gone": lambda nb: nb.cells.pop(),
}


def edit(copy, change):
    nb = nbformat.read(copy, 4)
    change(nb)
    nbformat.write(nb, copy)
    return copy.read_bytes()


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("source_changed", (False, True))
@pytest.mark.parametrize("profile", ("smoke", "laptop"))
def test_an_edit_in_an_executed_copy_is_named_and_never_overwritten(
    current, capsys, change, source_changed, profile
):
    copy = freshness.edition(profile) / "01-a.ipynb"
    edited = edit(copy, change)
    if source_changed:
        current.write_text(current.read_text().replace("Some prose.", "Better prose."))
    assert [p for p in freshness.stale() if f"{copy.parent.name}/01-a.ipynb has edits of" in p]
    for arguments in (["refresh"], ["run", "--profile", profile]):
        assert command.main(arguments) == 2
        err = capsys.readouterr().err
        assert "01-a.ipynb has edits of its own" in err and len(err.splitlines()) == 1
    with pytest.raises(sources.BookError, match="edits of its own"):
        freshness.refresh(copy, current)
    assert copy.read_bytes() == edited


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_an_edit_is_carried_over_as_the_refusal_says(current, project, change):
    copy = freshness.edition("smoke") / "01-a.ipynb"
    edit(copy, change)
    (line,) = [p for p in freshness.stale() if "edits of its own" in p]
    said = line.split("`")[1].split()
    assert said[0] == ".venv/bin/jupytext"
    command_here = [str(Path(sys.executable).with_name("jupytext")), *said[1:]]
    subprocess.run(command_here, cwd=project, check=True, capture_output=True)
    assert freshness.edits(copy, current) == ""
    assert freshness.shown_cells(sources.load(current)) == freshness.shown_cells(
        nbformat.read(copy, 4)
    )


def test_what_an_editor_notes_for_itself_is_no_edit(current):
    copy = freshness.edition("smoke") / "01-a.ipynb"
    edit(copy, lambda nb: nb.cells[-1].metadata.update(collapsed=True, vscode={"languageId": "x"}))
    assert freshness.stale() == []


def test_an_edit_made_while_the_chapter_runs_stays(current, project, put, capsys):
    put(
        "01-a",
        "import nbformat\np = 'notebooks/01-a.ipynb'\nnb = nbformat.read(p, 4)\n"
        "nb.cells[0].source = 'Mine.'\nnbformat.write(nb, p)",
    )
    assert command.main(["run"]) == 1
    err = capsys.readouterr().err
    assert "has edits of its own ('Mine.')" in err and "_build/failed/01-a.ipynb" in err
    assert "Mine." in (project / "notebooks" / "01-a.ipynb").read_text()


@pytest.mark.parametrize("text", ("", "<<<<<<< HEAD\n{}", "[]", "{}"))
def test_what_is_no_notebook_any_more_is_named(current, capsys, text):
    copy = freshness.edition("smoke") / "01-a.ipynb"
    copy.write_text(text)
    (problem,) = freshness.stale()
    assert problem == (
        "notebooks/01-a.ipynb is no notebook any more: delete it, then run `make baselines`."
    )
    assert command.main(["run"]) == command.main(["refresh"]) == 2
    assert copy.read_text() == text


def test_edited_code_shows_where_the_record_has_no_hash_of_the_text(current):
    copy = freshness.edition("smoke") / "01-a.ipynb"
    edit(copy, lambda nb: nb.metadata["book"].pop("text"))
    assert freshness.stale() == []
    edit(copy, EDITS["code"])
    assert "has edits of its own ('mine = 1')" in freshness.edits(copy, current)


def test_a_notebook_that_the_runner_did_not_make_is_not_overwritten(current):
    copy = freshness.edition("smoke") / "01-a.ipynb"
    edit(copy, lambda nb: nb.metadata.pop("book"))
    assert freshness.edits(copy, current) == "", "nothing in it is lost"
    edit(copy, EDITS["prose"])
    assert "by hand" in freshness.edits(copy, current)


def test_refresh_leaves_a_copy_of_other_code_alone(current, capsys):
    copy = freshness.edition("smoke") / "01-a.ipynb"
    before = copy.read_bytes()
    current.write_text(current.read_text().replace("import one", "import two"))
    assert command.main(["refresh"]) == 1
    assert copy.read_bytes() == before


@pytest.mark.parametrize(("module", "counts"), [("one", True), ("two", True), ("other", False)])
def test_only_helpers_that_the_chapter_needs_count(current, project, module, counts):
    path = project / "src" / "helpers" / f"{module}.py"
    path.write_text(path.read_text() + "z = 2\n")
    problems = freshness.stale()
    assert len(problems) == (2 if counts else 0)
    assert all("other helpers" in p for p in problems)
    assert command.main(["stale"]) == counts


def test_words_of_helpers_do_not_count(current, project):
    path = project / "src" / "helpers" / "two.py"
    path.write_text('"""Words."""\n\n# and more\n' + path.read_text())
    assert freshness.stale() == []


def test_a_reader_who_has_seen_enough_is_no_trouble(current, project):
    current.write_text(current.read_text().replace("import one", "import two"))
    listing = subprocess.Popen(
        [sys.executable, "-m", "helpers.book", "stale"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    listing.stdout.close()
    assert listing.stderr.read() == ""
    assert listing.wait(timeout=60) == 1
    listing.stderr.close()


def test_a_copy_without_a_source_and_a_missing_copy_are_problems(current, project):
    copy = freshness.edition("smoke") / "01-a.ipynb"
    shutil.copy(copy, copy.with_name("09-gone.ipynb"))
    (freshness.edition("laptop") / "01-a.ipynb").unlink()
    problems = freshness.stale()
    assert any("09-gone.ipynb has no source" in p for p in problems)
    assert any("chapters/01-a.ipynb missing" in p for p in problems)


def test_new_words_for_a_claim_are_a_problem_where_the_claim_is_tested(current, project, copy_of):
    def write(statement):
        (project / "book" / "claims.yml").write_text(
            f"unrecorded: [I]\nclaims:\n- {{id: B1, part: I, paper: p, where: w, test: t, "
            f"statement: {statement}, chapter: 01-a}}\n"
            "- {id: B2, part: I, paper: p, where: w, test: t, statement: x}\n"
        )

    write("old")
    copy_of(current)
    copy_of(current, "laptop")
    assert freshness.stale() == []
    write("new")
    problems = freshness.stale()
    assert len(problems) == 2 and all("claims.yml" in p for p in problems)


def test_a_published_copy_made_at_smoke_is_a_problem(current):
    shutil.copy(
        freshness.edition("smoke") / "01-a.ipynb", freshness.edition("laptop") / "01-a.ipynb"
    )
    problems = freshness.stale()
    assert [p for p in problems if "not made at profile laptop" in p]


def test_a_record_that_is_empty_is_none(current, capsys):
    copy = current.with_suffix(".ipynb")
    edit(copy, lambda nb: nb.metadata.update(book=None))
    assert "run it" in freshness.staleness(copy, current)
