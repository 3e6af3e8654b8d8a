"""The runner and the executed copies: made from the sources, replaced only by something better."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from helpers import book

ROOT = Path(__file__).resolve().parents[1]
BASELINES = sorted((ROOT / "notebooks").glob("*.ipynb"))

HEAD = "---\nkernelspec: {display_name: Python 3, language: python, name: python3}\n---\n"
PARAMETERS = """```{code-cell} ipython3
:tags: [parameters, remove-cell]

profile = "smoke"
device = "auto"
seed = 0
data_dir = ""
rate = 0.5
```
"""


def cell(code: str, tags: str = "") -> str:
    return f"```{{code-cell}} ipython3\n:tags: [{tags}]\n\n{code}\n```\n"


def chapter(*cells: str, prose: str = "Some prose.") -> str:
    return f"{HEAD}\n# A title\n\n{prose}\n\n{PARAMETERS}\n" + "\n".join(cells)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project of its own: the runner's root is a parameter, not a place."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    package = tmp_path / "src" / "helpers"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from helpers.two import x\n")
    (package / "two.py").write_text("x = 1\n")
    (package / "other.py").write_text("y = 1\n")
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(project: Path, name: str, text: str) -> Path:
    path = project / "notebooks" / f"{name}.md"
    path.write_text(text)
    return path


# --- what is committed -----------------------------------------------------------------------


def test_committed_copies_were_made_from_the_sources():
    problems, _ = book.stale()
    assert problems == []


def test_every_chapter_takes_the_four_parameters():
    for source in book.sources():
        assert list(book.parameters(book.load(source)))[:4] == [
            "profile",
            "device",
            "seed",
            "data_dir",
        ], source.name


@pytest.mark.parametrize("path", BASELINES, ids=lambda p: p.stem)
def test_baseline_has_checked_cells_with_stored_text(path):
    """nbval passes a checked cell that has no stored output, so look for the output here."""
    nb = nbformat.read(path, 4)
    marked = [c for c in nb.cells if "nbval-check-output" in book.tags(c)]
    assert marked, "no cell is tagged nbval-check-output"
    for one in marked:
        assert [(o.output_type, o.get("name")) for o in one.outputs] == [("stream", "stdout")]
        assert "FAILS" not in one.outputs[0].text
    assert not [c for c in nb.cells if book.INJECTED in book.tags(c)]
    assert not [o for c in book.code_cells(nb) for o in c.outputs if o.output_type == "error"]


# --- running ---------------------------------------------------------------------------------


def test_a_chapter_runs_into_both_editions_and_then_nothing_is_stale(project, capsys):
    put(project, "01-a", chapter(cell('print(profile)\nprint("x")', "nbval-check-output")))
    assert book.main(["run"]) == 0
    assert book.main(["run", "--profile", "laptop"]) == 0
    smoke = nbformat.read(project / "notebooks" / "01-a.ipynb", 4)
    full = nbformat.read(project / "book" / "chapters" / "01-a.ipynb", 4)
    assert [c for c in smoke.cells if book.INJECTED in book.tags(c)] == []
    (injected,) = [c for c in full.cells if book.INJECTED in book.tags(c)]
    assert "remove-cell" in book.tags(injected) and 'profile = "laptop"' in injected.source
    assert smoke.cells[-1].outputs[0].text == "smoke\nx\n"
    assert full.cells[-1].outputs[0].text == "laptop\nx\n"
    assert "seconds" not in smoke.metadata.book and "date" not in smoke.metadata.book
    assert full.metadata.book.keys() >= {
        "code",
        "helpers",
        "profile",
        "device",
        "processor",
        "torch",
        "numpy",
        "python",
        "date",
        "seconds",
    }
    before = (project / "notebooks" / "01-a.ipynb").read_bytes()
    capsys.readouterr()
    assert book.main(["stale"]) == 0
    assert capsys.readouterr().out == "every copy is current\n"
    # a second run on the same machine changes no byte of a baseline
    assert book.main(["run", "01"]) == 0
    assert (project / "notebooks" / "01-a.ipynb").read_bytes() == before
    assert sorted(p.name for p in (project / "notebooks").iterdir()) == ["01-a.ipynb", "01-a.md"]


def test_a_failing_cell_gives_one_paragraph_and_keeps_the_copy_before(project, capsys):
    put(project, "01-a", chapter(cell("# first\nvalue = 1 / 0")))
    put(project, "02-b", chapter(cell("print(1)")))
    kept = project / "notebooks" / "01-a.ipynb"
    kept.write_text("the copy before")
    assert book.main(["run"]) == 1
    out, err = capsys.readouterr()
    assert kept.read_text() == "the copy before"
    assert len(err.splitlines()) == 1 and len(err) < 500
    assert "01-a stopped at code cell 2 ('value = 1 / 0') with ZeroDivisionError" in err
    assert (project / "_build" / "failed" / "01-a.ipynb").is_file()
    assert "02-b.ipynb" in out, "the other chapters still run"


def test_parameters_reach_the_chapter_in_their_types(project):
    put(project, "01-a", chapter(cell("print(profile, device, seed, rate)")))
    assert (
        book.main(
            [
                "run",
                "01-a",
                "--profile",
                "paper",
                "--device",
                "cpu",
                "--seed",
                "3",
                "-p",
                "rate",
                "2",
                "--out",
                "_build/x",
            ]
        )
        == 0
    )
    nb = nbformat.read(project / "_build" / "x" / "01-a.ipynb", 4)
    assert nb.cells[-1].outputs[0].text == "paper cpu 3 2.0\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["03-c"], "no chapter is called '03-c'. Chapters: 01-a, 01-b"),
        (["01"], "more than one chapter is called '01'"),
        (
            ["--profile", "full", "--out", "x"],
            "unknown profile 'full': expected one of smoke, laptop",
        ),
        (["--profile", "full"], "unknown profile 'full'"),
        (["--device", "gpu", "--out", "x"], "unknown device 'gpu'"),
        (["-p", "sed", "1", "--out", "x"], "no parameter 'sed'. Its parameters: profile, device"),
        (["--seed", "one", "--out", "x"], "seed = 'one' is not usable: expected int"),
        (["--seed", "1"], "seed=1 say where to put the result with --out"),
        (["--device", "cpu"], "device=cpu say where"),
        (["--profile", "paper"], "profile=paper say where"),
        (["--data-dir", "/no/such/folder"], "'/no/such/folder' is not there"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(project, capsys, arguments, words):
    put(project, "01-a", chapter())
    put(project, "01-b", chapter())
    assert book.main(["run", *arguments]) == 2
    out, err = capsys.readouterr()
    assert words in err and len(err.splitlines()) == 1 and out == ""
    assert list(project.rglob("*.ipynb")) == []


def test_a_place_that_cannot_be_written_is_one_paragraph(project, capsys):
    put(project, "01-a", chapter())
    (project / "file").write_text("")
    assert book.main(["run", "--out", "file/below"]) == 1
    err = capsys.readouterr().err
    assert "cannot write file/below/01-a.ipynb" in err and len(err.splitlines()) == 1


def test_an_interrupt_stops_the_kernel_and_leaves_no_litter(project):
    put(project, "01-a", chapter(cell("import time\nopen('started', 'w')\ntime.sleep(300)")))
    (project / "notebooks" / "01-a.ipynb").write_text("the copy before")
    runner = subprocess.Popen(
        [sys.executable, "-m", "helpers.book", "run"],
        cwd=project,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore Ctrl-C, and so would everything that they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while not (project / "started").exists() and time.monotonic() < until:
        time.sleep(0.1)
    kernels = psutil.Process(runner.pid).children(recursive=True)
    assert kernels, "the kernel runs in a process of its own"
    runner.send_signal(signal.SIGINT)
    _, err = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert err.strip().splitlines()[-1].startswith("Interrupted")
    assert "Traceback" not in err
    assert psutil.wait_procs(kernels, timeout=10)[1] == []
    assert (project / "notebooks" / "01-a.ipynb").read_text() == "the copy before"
    assert list((project / "_build" / "running").iterdir()) == []


def test_smoke_runs_have_one_thread_and_no_run_draws_progress_bars(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert book.kernel_environment("smoke")["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in book.kernel_environment("laptop")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert book.kernel_environment("laptop")["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert book.kernel_environment("laptop")["OMP_WAIT_POLICY"] == "active"
    assert book.kernel_environment("paper")["BOOK_PROGRESS"] == "0"
    with book.environment({"OMP_NUM_THREADS": "1"}):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in os.environ


# --- staleness -------------------------------------------------------------------------------


def copy_of(source: Path, profile: str = "smoke") -> Path:
    """An executed copy as the runner would leave it, without running anything."""
    nb = book.load(source)
    for one in book.code_cells(nb):
        one["execution_count"] = 1
    nb.metadata["book"] = book.provenance(source, profile, "cpu", None)
    out = book.edition(profile) / f"{source.stem}.ipynb"
    book.write(nb, out)
    return out


@pytest.fixture
def current(project):
    source = put(project, "01-a", chapter(cell("from helpers import one")))
    copy_of(source)
    copy_of(source, "laptop")
    assert book.stale() == ([], [])
    return source


def test_changed_code_is_a_problem_in_both_editions(current):
    current.write_text(current.read_text().replace("import one", "import two"))
    problems, notes = book.stale()
    assert len(problems) == 2 and all("other code" in p and "run it" in p for p in problems)
    assert notes == []
    assert book.main(["stale"]) == 1


def test_changed_prose_and_tags_are_refreshed_without_running(current, capsys):
    text = current.read_text().replace("Some prose.", "Better prose.")
    current.write_text(text.replace(":tags: []", ":tags: [hide-input]"))
    problems, _ = book.stale()
    assert len(problems) == 2 and all("refresh it" in p for p in problems)
    assert book.main(["refresh"]) == 0
    assert book.stale() == ([], [])
    nb = nbformat.read(book.edition("smoke") / "01-a.ipynb", 4)
    assert "Better prose." in nb.cells[0].source
    assert [c.execution_count for c in book.code_cells(nb)] == [1, 1]


def test_refresh_leaves_a_copy_of_other_code_alone(current, capsys):
    copy = book.edition("smoke") / "01-a.ipynb"
    before = copy.read_bytes()
    current.write_text(current.read_text().replace("import one", "import two"))
    assert book.main(["refresh"]) == 1
    assert copy.read_bytes() == before


@pytest.mark.parametrize(("module", "counts"), [("one", True), ("two", True), ("other", False)])
def test_only_helpers_that_the_chapter_needs_count(current, project, module, counts):
    path = project / "src" / "helpers" / f"{module}.py"
    path.write_text(path.read_text() + "z = 2\n")
    problems, notes = book.stale()
    assert bool(problems) is counts and bool(notes) is counts
    if counts:
        assert "other helpers" in problems[0] and "notebooks" in problems[0]
        assert "chapters" in notes[0], "for a published chapter it is only noted"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from helpers import one", {"one"}),
        ("from helpers.two import x as y", {"two"}),
        ("import helpers.two as t, numpy", {"two"}),
        ("def f():\n    from helpers import other", {"other"}),
        ("from helpers import *", {"one", "two", "other"}),
        ("import importlib\nimportlib.import_module('helpers.one')", {"one", "two", "other"}),
        ("from importlib.metadata import version", set()),
        ("from helpersome import one\nimport one", set()),
    ],
)
def test_imports_are_read_from_the_code(code, found):
    modules = dict.fromkeys(["one", "two", "other", "book"], Path("x"))
    assert book.imported(code, modules) == found


def test_imports_within_the_package_may_be_relative():
    modules = dict.fromkeys(["one", "two"], Path("x"))
    assert book.imported("from . import one\nfrom .two import x", modules, inside=True) == {
        "one",
        "two",
    }


def test_a_copy_without_a_source_and_a_missing_copy_are_problems(current, project):
    copy = book.edition("smoke") / "01-a.ipynb"
    shutil.copy(copy, copy.with_name("09-gone.ipynb"))
    (book.edition("laptop") / "01-a.ipynb").unlink()
    problems, _ = book.stale()
    assert any("09-gone.ipynb has no source" in p for p in problems)
    assert any("chapters/01-a.ipynb missing" in p for p in problems)


def test_new_words_for_a_claim_are_a_problem_where_the_claim_is_tested(current, project):
    def write(statement):
        (project / "book" / "claims.yml").write_text(
            f"- {{id: B1, part: I, paper: p, where: w, test: t, statement: {statement}, "
            "chapter: 01-a}\n- {id: B2, part: I, paper: p, where: w, test: t, statement: x}\n"
        )

    write("old")
    copy_of(current)
    copy_of(current, "laptop")
    assert book.stale() == ([], [])
    write("new")
    problems, _ = book.stale()
    assert len(problems) == 2 and all("claims.yml" in p for p in problems)


def test_a_published_copy_made_at_smoke_is_a_problem(current):
    shutil.copy(book.edition("smoke") / "01-a.ipynb", book.edition("laptop") / "01-a.ipynb")
    problems, _ = book.stale()
    assert [p for p in problems if "not made at profile laptop" in p]


# --- staging ---------------------------------------------------------------------------------


def test_staging_leaves_the_committed_book_alone_and_keeps_finished_rows(project):
    results = project / "book" / "results"
    results.mkdir()
    (results / "a.csv").write_text("x\n1\n")
    (results / "b.csv").write_text("x\n1\n")
    (project / "book" / "intro.md").write_text("# Intro")
    target = book.stage()
    (target / "results" / "a.csv").write_text("x\n1\n2\n")
    (target / "results" / "b.csv").write_text("x\n7\n2\n")
    (target / "stray.md").write_text("")
    target = book.stage()
    assert (target / "results" / "a.csv").read_text() == "x\n1\n2\n", "continues what is committed"
    assert (target / "results" / "b.csv").read_text() == "x\n1\n", "comes from another history"
    assert not (target / "stray.md").exists()
    assert (results / "a.csv").read_text() == "x\n1\n"


def test_building_what_is_not_staged_is_one_paragraph(project, capsys):
    assert book.main(["build", "--staged"]) == 2
    assert "run `stage` first" in capsys.readouterr().err
