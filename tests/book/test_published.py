"""What a published site says of itself, and what readers download from it."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml

import helpers

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "book" / "chapters").glob("*.ipynb"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
READ = [f"chapters/{name}" for name in CHAPTERS] + ["intro", "ledger", "audit", "package"]


@pytest.fixture(scope="module")
def load():
    """A module of the book's directives by its name."""
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "book" / "_ext"))


@pytest.fixture
def published(load, monkeypatch):
    for name in ("BOOK_REPOSITORY", "BOOK_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return load("published")


@pytest.fixture
def downloads(load):
    return load("downloads")


# -- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", READ)
def test_a_page_has_one_description_and_says_how_to_cite(site, page):
    text = (site / f"{page}.html").read_text("utf8")
    (about,) = re.findall(r'<meta name="description" content="([^"]+)"', text)
    assert 40 < len(about) <= 300
    assert text.count('property="og:title"') == text.count('property="og:description"') == 1
    assert text.count("<div class='page-end'>") == 1
    assert f"Version {helpers.__version__}" in text


def test_descriptions_tell_pages_apart(site):
    found = [
        re.search(r'name="description" content="([^"]+)"', (site / f"{p}.html").read_text("utf8"))
        for p in READ
    ]
    assert len({match[1] for match in found}) == len(READ)


def test_the_title_of_the_book_stands_once_on_the_front_page(site):
    title = re.search(r"<title>(.*?)</title>", (site / "intro.html").read_text("utf8"))[1]
    assert title.count("Memorizing the Background") == 1


def test_without_addresses_the_site_names_none(site):
    """As committed, `_config.yml` names none: nothing may then pretend that there is one."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["sphinx"]["config"]
    if config["book_repository"] or config["book_address"]:
        pytest.skip("the addresses are configured")
    text = (site / "chapters" / "01-setting.html").read_text("utf8")
    for word in ("colab.research", "mybinder", 'rel="canonical"', "og:url", "git clone"):
        assert word not in text, word


def test_the_page_for_lost_readers_stands_alone(site):
    text = (site / "404.html").read_text("utf8")
    assert not re.search(r'(src|href)="(?!intro|ledger|search|data:)[^"]', text)
    assert 'content="noindex"' in text


def test_a_lost_reader_finds_back_from_any_depth(address, site, chromium):
    page = chromium.new_page()
    html = (site / "404.html").read_text("utf8")
    for lost in ("chapters/gone.html", "gone.html", "api/old.html"):
        page.route(f"**/{lost}", lambda route: route.fulfill(status=404, body=html,
                                                             content_type="text/html"))  # fmt: skip
        page.goto(f"{address}/{lost}")
        page.get_by_text("The front page").click()
        assert page.url == f"{address}/intro.html"
    page.close()


def test_addresses_come_from_the_environment_first_and_are_checked(published, monkeypatch):
    assert published.address("https://a.example/book/", "BOOK_ADDRESS") == "https://a.example/book"
    monkeypatch.setenv("BOOK_ADDRESS", "https://b.example")
    assert published.address("https://a.example", "BOOK_ADDRESS") == "https://b.example"
    monkeypatch.setenv("BOOK_ADDRESS", "javascript:alert(1)")
    with pytest.raises(ValueError, match="no web address"):
        published.address("", "BOOK_ADDRESS")


def app_with(repository="", site=""):
    config = SimpleNamespace(
        book_repository=repository, book_address=site, copyright="2026", root_doc="intro"
    )
    builder = SimpleNamespace(get_relative_uri=lambda here, there: f"{there}.html")
    return SimpleNamespace(config=config, builder=builder)


def test_one_address_of_the_sources_feeds_every_way_to_run(published):
    ways = published.how_to_run(
        app_with("https://github.com/someone/book"), "chapters/01-setting", "01-setting"
    )
    assert "colab.research.google.com/github/someone/book/blob/notebooks-for-readers/01" in ways
    assert "mybinder.org/v2/gh/someone/book/HEAD?labpath=notebooks%2F01-setting.ipynb" in ways
    assert "git clone https://github.com/someone/book" in ways
    elsewhere = published.how_to_run(
        app_with("https://git.example/book"), "chapters/01-setting", "01-setting"
    )
    assert "colab" not in elsewhere and "git clone https://git.example/book" in elsewhere


def test_an_address_of_the_site_gives_previews_and_citations(published):
    tags = published.metatags('A "title"', "About <it>", "https://a.example", "intro.html")
    assert 'content="https://a.example/intro.html"' in tags
    assert "About &lt;it&gt;" in tags and "A &quot;title&quot;" in tags
    assert "og:url" not in published.metatags("A", "B", "", "intro.html")
    end = published.page_end(app_with(site="https://a.example"), "chapters/01-setting", "T")
    assert "https://a.example/chapters/01-setting.html" in end


def test_the_version_is_the_same_everywhere():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == helpers.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "book" / "changelog.md").read_text("utf8"), re.M)[1]
    assert newest == helpers.__version__


# -- notebooks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_downloaded_chapter_shows_its_numbers_in_plain_jupyter(site, name):
    nb = nbformat.read(site / "_sources" / "chapters" / f"{name}.ipynb", 4)
    nbformat.validate(nb)
    prose = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    assert not re.search(r"\{[a-z:]+\}`|^`{3,}\{|^\([a-z0-9-]+\)=$|^:::", prose, re.MULTILINE)
    original = nbformat.read(ROOT / "book" / "chapters" / f"{name}.ipynb", 4)
    assert sum(c.cell_type == "code" for c in nb.cells) == 1 + sum(
        c.cell_type == "code" for c in original.cells
    )


def test_numbers_in_prose_are_those_of_the_run(downloads):
    nb = nbformat.read(ROOT / "book" / "chapters" / "01-setting.ipynb", 4)
    values = downloads.glued(nb)
    text = downloads.plain("AUC {glue:text}`auc-seen:.2f`.", values, lambda role, target: "?")
    assert text == f"AUC {values['auc-seen']:.2f}."
    with pytest.raises(KeyError):
        downloads.plain("{glue:text}`gone`", values, lambda role, target: "?")


def test_markup_becomes_markdown(downloads):
    text = (
        "(ch-x)=\n# Title\n\n```{admonition} The paper says\n:class: paper-says\nIt is *so*.\n```\n"
        "\n$$\na = b\n$$ (eq-a)\n\nBy {eq}`eq-a` and {ref}`ch-y`, {ref}`this one <ch-z>`.\n"
        "```{prf:lemma} Split\n:label: lem\n\nTwo.\n```\n"
    )
    told = {("eq", "eq-a"): "(3)", ("ref", "ch-y"): "*Y*"}
    found = downloads.plain(text, {}, lambda role, target: told[role, target])
    assert found.startswith("# Title\n\n> **The paper says**\n>\n> It is *so*.\n")
    assert "\\tag{3}" in found and "By (3) and *Y*, this one." in found
    assert "> **Lemma (Split)**\n>\n> Two." in found


def first_cell(downloads, source, folder):
    """Run the first cell of a downloaded chapter where the package is not installed."""
    code = (
        "import importlib.util, subprocess, sys\n"
        "importlib.util.find_spec = lambda name: None\n"
        "subprocess.run = lambda words, check: print('RUN', *map(str, words))\n"
        + downloads.FIRST.format(source=source)
        + "print('IN', os.getcwd())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_first_cell_finds_the_sources_gets_them_or_says_what_to_do(downloads, tmp_path):
    alone = first_cell(downloads, "", tmp_path)
    assert alone.returncode and "put it into their folder" in alone.stderr
    fetched = first_cell(downloads, "https://git.example/book", tmp_path)
    assert "RUN git clone --depth 1 https://git.example/book" in fetched.stdout
    (tmp_path / "src" / "helpers").mkdir(parents=True)
    (tmp_path / "_config.yml").touch()
    (tmp_path / "notebooks").mkdir()
    inside = first_cell(downloads, "", tmp_path / "notebooks")
    assert f"install -q -e {tmp_path}" in inside.stdout and f"IN {tmp_path}" in inside.stdout


# -- workflows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_asks_for_little_and_runs_what_there_is(path):
    flow = yaml.safe_load(path.read_text("utf8"))
    assert flow["permissions"] == {"contents": "read"}
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set(re.findall(r"\bmake ([a-z]+)", path.read_text("utf8")))
    assert called and called <= targets
    for job in flow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))


def test_publishing_takes_the_light_build_and_sets_both_addresses():
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text("utf8"))
    steps = flow["jobs"]["build"]["steps"]
    (render,) = [step for step in steps if step.get("run") == "make html"]
    assert set(render["env"]) == {"BOOK_REPOSITORY", "BOOK_ADDRESS"}
    assert not [step for step in steps if re.search(r"make (book|setup)", step.get("run", ""))]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_finds_nothing(path):
    program = shutil.which("actionlint")
    if program is None:
        pytest.skip("no actionlint on this machine; the workflow of the tests runs it")
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_binder_and_jupyter_have_what_they_need():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras["optional-dependencies"]["lab"] == ["jupyterlab"]
    lines = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    for line in lines:
        if match := re.match(r"-[cr] (.*)", line):
            assert (ROOT / ".binder" / match[1]).is_file()
    assert "jupyterlab" in lines
    runtime = (ROOT / ".binder" / "runtime.txt").read_text().strip()
    low, high = re.findall(r"3\.(\d+)", extras["requires-python"])
    assert int(low) <= int(runtime.rpartition(".")[2]) < int(high)


def test_the_claims_of_programs_and_pages_are_the_same_edition(site):
    rows = json.loads((site / "claims.json").read_text("utf8"))
    assert rows and "Edition" in (site / "ledger.html").read_text("utf8")
