"""The book in `_build/book`: chapters executed here, again only when they have to be."""

import os
import subprocess
from pathlib import Path

import nbformat
import psutil
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

    def execute(source, out, profile, given, data_dir):
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
    assert first.endswith("current") and not second.endswith("current"), "only what is new runs"


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


def test_two_chapters_at_a_time_and_one_that_fails_stops_no_other(project, put, capfd):
    wait = """
import pathlib, time
pathlib.Path(f"begun-{name}").touch()
deadline = time.monotonic() + 60
while len(list(pathlib.Path().glob("begun-*"))) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
print(len(list(pathlib.Path().glob("begun-*"))), "at a time")
"""
    (project / "book" / "results").mkdir()
    put("01-a", "name = 'a'", wait)
    put("02-b", "name = 'b'", wait + "1 / 0")
    put("03-c", "print('last')")
    assert command.main(["stage", "--device", "cpu", "--jobs", "2"]) == 1
    said = capfd.readouterr().out
    assert said.count(" s\n") == 2 and "FAILED  02-b stopped at code cell 4" in said
    made = project / "_build" / "book" / "chapters"
    assert nbformat.read(made / "01-a.ipynb", 4).cells[-1].outputs[0].text == "2 at a time\n"
    assert {path.stem for path in made.glob("*.ipynb")} == {"01-a", "03-c"}
    put("02-b", "print('mended')")
    assert command.main(["stage", "--device", "cpu", "--jobs", "2"]) == 0
    assert capfd.readouterr().out.count("  current\n") == 2


def test_who_stops_waiting_ends_the_chapters_that_run(project, put):
    for name in ("01-a", "02-b"):
        put(name, f"open('begun-{name}', 'w').close()\nimport time\ntime.sleep(300)")
    put("03-c", "print('soon')")
    running = runner.run_apart(["01-a", "03-c", "02-b"], "laptop", {}, project / "out", jobs=2)
    assert next(running) == ("03-c", True)
    children = psutil.Process().children(recursive=True)
    running.close()
    psutil.wait_procs(children, timeout=20)
    assert not any(child.is_running() for child in children)
    assert not (project / "out" / "01-a.ipynb").exists()
