"""The book in `_build/book`: chapters executed here, again only when they have to be."""

import os
import subprocess
from pathlib import Path

import nbformat
import pytest

from helpers.book import command, runner, site, sources


def test_staging_leaves_the_committed_book_alone_and_keeps_finished_rows(project):
    results = project / "book" / "results"
    results.mkdir()
    (results / "a.csv").write_text("x\n1\n")
    (results / "b.csv").write_text("x\n1\n")
    (project / "book" / "intro.md").write_text("# Intro")
    target = site.stage()
    (target / "results" / "a.csv").write_text("x\n1\n2\n")
    (target / "results" / "b.csv").write_text("x\n7\n2\n")
    (target / "stray.md").write_text("")
    target = site.stage()
    assert (target / "results" / "a.csv").read_text() == "x\n1\n2\n", "continues what is committed"
    assert (target / "results" / "b.csv").read_text() == "x\n1\n", "comes from another history"
    assert not (target / "stray.md").exists()
    assert (results / "a.csv").read_text() == "x\n1\n"


def test_building_what_is_not_staged_is_one_paragraph(project, capsys):
    assert command.main(["build", "--staged"]) == 2
    assert "run `stage` first" in capsys.readouterr().err


@pytest.fixture
def staged(project, put, capfd, monkeypatch):
    """Stage a chapter of two cells; returns a function that says whether a further stage ran it.

    Executing is left out: what it writes does not matter here.
    """

    def execute(source, out, profile, *more):
        nb = sources.load(source)
        nb.metadata["book"] = runner.provenance(source, profile, "cpu")
        sources.write(nb, out)
        return out

    monkeypatch.setattr(runner, "execute", execute)
    (project / "book" / "results").mkdir()
    (project / "book" / "results" / "toy.csv").write_text("x\n1\n")
    (project / "book" / "results" / "foreign.csv").write_text("x\n1\n")
    put("01-a", "from helpers import sweep", "if False:\n    sweep.results('toy')")

    def ran(*arguments: str) -> bool:
        capfd.readouterr()
        assert command.main(["stage", "--device", "cpu", *arguments]) == 0
        (line,) = capfd.readouterr().out.splitlines()
        assert line.startswith("_build/book/chapters/01-a.ipynb  ")
        return not line.endswith("current")

    assert ran()
    return ran


def test_what_has_not_changed_is_not_executed_again(staged, project, put, capfd):
    copy = project / "_build" / "book" / "chapters" / "01-a.ipynb"
    before = copy.read_bytes()
    assert not staged()
    assert copy.read_bytes() == before
    # nor is a chapter whose words alone are others, or whose helpers have other words
    source = project / "notebooks" / "01-a.md"
    source.write_text(source.read_text().replace("Some prose.", "Better prose."))
    package = project / "src" / "helpers"
    (package / "trial.py").write_text("# words\n" + (package / "trial.py").read_text())
    (package / "other.py").write_text("y = 2\n")
    (project / "book" / "results" / "foreign.csv").write_text("x\n2\n")
    assert not staged()
    assert "Better prose." in nbformat.read(copy, 4).cells[0].source
    put("02-b", "print(1)")
    assert command.main(["stage", "--device", "cpu"]) == 0
    first, second = capfd.readouterr().out.splitlines()
    assert not first.endswith("current") and second.endswith("current"), "only what is new runs"


@pytest.mark.parametrize(
    "change", ["code", "helper", "result", "claim", "data", "packages", "copy"]
)
def test_what_a_page_depends_on_executes_it_again(staged, project, change, monkeypatch, tmp_path):
    arguments = ()
    if change == "code":
        source = project / "notebooks" / "01-a.md"
        source.write_text(source.read_text().replace("if False", "if 0"))
    elif change == "helper":
        module = project / "src" / "helpers" / "trial.py"
        module.write_text(module.read_text().replace("1)", "2)"))
    elif change == "result":
        (project / "book" / "results" / "toy.csv").write_text("x\n2\n")
    elif change == "claim":
        (project / "book" / "claims.yml").write_text(
            "unrecorded: [I]\nclaims:\n"
            "- {id: B1, part: I, paper: p, where: w, test: t, statement: s, chapter: 01-a}\n"
        )
    elif change == "data":
        (tmp_path / "data" / "MNIST").mkdir(parents=True)
        arguments = ("--data-dir", "data")
    elif change == "packages":
        monkeypatch.setattr(site, "_installed", lambda: ["torch 99"])
    elif change == "copy":
        (project / "_build" / "book" / "chapters" / "01-a.ipynb").unlink()
    assert staged(*arguments)
    assert not staged(*arguments), "and once is enough"


def test_an_edit_in_a_staged_chapter_is_not_overwritten(staged, project, capfd):
    copy = project / "_build" / "book" / "chapters" / "01-a.ipynb"
    nb = nbformat.read(copy, 4)
    nb.cells[0].source = "Mine."
    nbformat.write(nb, copy)
    before = copy.read_bytes()
    assert command.main(["stage", "--device", "cpu"]) == 2
    assert (
        "_build/book/chapters/01-a.ipynb has edits of its own ('Mine.')" in capfd.readouterr().err
    )
    assert copy.read_bytes() == before


def test_a_chapter_that_reads_the_project_depends_on_the_whole_book(staged, project, put):
    put("01-a", "from helpers.project import project_root\nproject_root()")
    assert staged() and not staged()
    (project / "book" / "results" / "foreign.csv").write_text("x\n2\n")
    assert staged() and not staged()


def test_a_site_is_rendered_once_for_the_same_files(project, monkeypatch):
    rendered = []

    def render(command, **more):
        (made := project / "_build" / ".html-work" / "_build" / "html").mkdir(parents=True)
        (made / "index.html").write_text("")
        rendered.append(command)
        assert os.environ["PYTHONPATH"] == str(Path(site.__file__).parents[2])
        return subprocess.CompletedProcess(command, 0, "")

    monkeypatch.setattr(site.subprocess, "run", render)
    monkeypatch.setenv("PYTHONPATH", "foreign")
    book, out = project / "book", project / "_build" / "html"
    (book / "intro.md").write_text("# Intro")
    for text in ("# Intro", "# Other", "# Other"):
        (book / "intro.md").write_text(text)
        assert site.build(book, out) == 0
    assert len(rendered) == 2
    (project / "src" / "helpers" / "one.py").write_text("x = 3\n")  # a page shows what is stale
    assert site.build(book, out) == 0
    (out / "index.html").unlink()
    assert site.build(book, out) == 0
    assert len(rendered) == 4
