"""The rendered site: every local link, anchor and image exists, nothing comes from elsewhere."""

import gzip
import html
import inspect
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urldefrag, urlsplit

import nbformat
import pytest

from helpers import claims
from helpers.book import sources
from helpers.dependencies import package_tree

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = sorted((ROOT / "book" / "chapters").glob("*.ipynb"))
LOADING = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """Ids, links, loaded files and images of one page."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = set()
        self.twice: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.images: list[dict[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = {key: value or "" for key, value in attrs}
        self.twice += [values["id"]] if values.get("id") in self.ids else []
        self.ids |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if values.get(LOADING.get(tag, "")):
            self.loads.append(values[LOADING[tag]])
        if tag == "link" and set(values.get("rel", "").split()) & {"stylesheet", "icon", "preload"}:
            self.loads.append(values["href"])
        if tag == "img":
            self.images.append(values)


def pages(root: Path) -> dict[Path, Page]:
    return {
        path: Page(path.read_text(encoding="utf8"))
        for path in sorted(root.rglob("*.html"))
        if "_static" not in path.relative_to(root).parts
    }


def broken_links(root: Path) -> list[str]:
    """Local addresses that lead nowhere, with the page they stand on."""
    found, known = [], pages(root)
    for path, page in known.items():
        for url in page.links + page.loads:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            file, anchor = urldefrag(url)
            file = unquote(urlsplit(file).path)
            target = (path.parent / file).resolve() if file else path
            if not target.is_file():
                found.append(f"{path.relative_to(root)}: no such file: {url}")
            elif anchor and "=" in anchor and target.name == "ledger.html":
                continue  # what is chosen there: test_the_tally_leads_to_as_many_rows_as_it_says
            elif anchor and target in known and unquote(anchor) not in known[target].ids:
                found.append(f"{path.relative_to(root)}: no such anchor: {url}")
    return found


def outside_loads(root: Path) -> list[str]:
    """Scripts, styles, images and fonts that a page would fetch from another host."""
    found = [
        f"{path.relative_to(root)}: {url}"
        for path, page in pages(root).items()
        for url in page.loads
        if urlsplit(url).netloc
    ]
    for style in root.rglob("*.css"):
        text = style.read_text(encoding="utf8")
        found += [
            f"{style.relative_to(root)}: {url}"
            for url in re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)", text)
        ]
    return found


def images_without_text(root: Path) -> list[str]:
    """Images whose alternative text is missing or only the name of a file."""
    return [
        f"{path.relative_to(root)}: {image.get('src')}"
        for path, page in pages(root).items()
        for image in page.images
        # the book's name stands beside its logo
        if "logo__image" not in image.get("class", "")
        if not (alt := image.get("alt", "").strip()) or re.search(r"\.(png|svg|jpe?g)$", alt)
    ]


def test_links_and_anchors_resolve(site):
    assert broken_links(site) == []


def test_nothing_comes_from_another_host(site):
    assert outside_loads(site) == []


def test_every_image_has_alternative_text(site):
    assert images_without_text(site) == []


def test_no_two_elements_of_a_page_have_one_id(site):
    assert {path.name: page.twice for path, page in pages(site).items() if page.twice} == {}


def test_images_keep_their_place_come_late_and_open_alone(site):
    for path, page in pages(site).items():
        images = [image for image in page.images if "_images/" in image["src"]]
        for image in images:
            assert int(image["width"]) > 20 and int(image["height"]) > 20, path.name
            assert image["loading"] == "lazy", path.name
            assert image["src"] in page.links, path.name


def test_bars_over_code_differ_and_say_what_it_does(site):
    bar = re.compile(r'<span class="code-bar">([^<]*)</span>')
    texts = [path.read_text("utf8") for path in pages(site)]
    assert not any("Show the code" in text for text in texts)
    found = [bar.findall(text) for text in texts]
    assert sum(map(len, found)) > 100
    bare = [one for bars in found for one in bars if one in ("Code", "Code: ")]
    same = [one for bars in found for one in set(bars) if bars.count(one) > 1]
    assert (bare, same) == ([], [])


def test_every_explorer_of_the_sources_is_on_its_page(site):
    calls = re.compile(r"^explorers\.(\w+)_explorer\(", re.MULTILINE)
    shown = {source.stem: calls.findall(source.read_text("utf8")) for source in sources.sources()}
    assert sum(map(len, shown.values())) >= 3
    for chapter, kinds in shown.items():
        text = (site / "chapters" / f"{chapter}.html").read_text("utf8")
        for kind in kinds:
            assert f'id="{kind.replace("_", "-")}-explorer" role="group"' in text, chapter


def test_every_chapter_has_a_page_and_a_notebook_to_download(site):
    for path in PUBLISHED:
        page = site / "chapters" / f"{path.stem}.html"
        assert page.is_file(), f"{path.stem} is not in _toc.yml"
        downloads = [
            url
            for url in Page(page.read_text(encoding="utf8")).links
            if url.endswith(f"{path.stem}.ipynb")
        ]
        assert downloads, f"{path.stem} has no link to its notebook"
        # what is offered is a notebook that opens
        nbformat.read((page.parent / downloads[0]).resolve(), 4)


def test_the_ledger_page_and_its_json_show_every_claim(site):
    rows = json.loads((site / "claims.json").read_text(encoding="utf8"))
    known = claims.load()
    assert {row["id"] for row in rows} == set(known)
    text = (site / "ledger.html").read_text(encoding="utf8")
    for row in rows:
        assert f">{row['id']}<" in text
        assert row["verdict"] in (*claims.VERDICTS, claims.TO_COME)


def test_the_status_page_shows_every_chapter_and_none_is_outdated(site):
    text = (site / "status.html").read_text(encoding="utf8")
    assert text.count("class='state state-") == len(sources.sources())
    assert "state-old" not in text


EVIDENCE = re.compile(
    r'<ul class="claim-evidence" aria-label="Evidence for claim ([^"]+)">(.*?)</ul>', re.S
)
ITEM = re.compile(r'<li class="evidence-(\w+)">(.*?)</li>', re.S)


def evidence_on(site, name) -> dict[str, dict[str, list[Path | str]]]:
    """Claim -> kind -> where a page's links lead: files of the site with their anchors, or URLs."""
    path, found = site / name, {}
    for claim, items in EVIDENCE.findall(path.read_text(encoding="utf8")):
        assert claim not in found, f"{name} shows the evidence of {claim} twice"
        found[claim] = {}
        for kind, item in ITEM.findall(items):
            urls = map(html.unescape, re.findall(r'href="([^"]+)"', item))
            found[claim][kind] = [u if "://" in u else place(path, u) for u in urls]
    return found


def place(page, url) -> str:
    """A local address as file and anchor below the site's folder."""
    file, anchor = urldefrag(url)
    target = (page.parent / file).resolve() if file else page
    return f"{target}#{anchor}" if anchor else str(target)


def test_from_every_claim_one_click_leads_to_code_figure_data_paper_and_ledger(site):
    known, rules, experiments = claims.load(), {}, package_tree().experiments
    for part in {claim.part for claim in known.values()}:
        rules |= evidence_on(site, f"rules/part-{part}.html")
    rows = evidence_on(site, "ledger.html")
    assert set(rows) == set(known)
    for chapter in sorted({claim.chapter for claim in known.values()}):
        page = site / "chapters" / f"{chapter}.html"
        cards, ids = evidence_on(site, f"chapters/{chapter}.html"), Page(page.read_text()).ids
        text = page.read_text(encoding="utf8")
        found = claims.evidence(ROOT / "book" / "chapters" / f"{chapter}.ipynb", experiments)
        for claim in (claim.id for claim in known.values() if claim.chapter == chapter):
            card = cards[claim]
            shown = ["figure"] if known[claim].figure or found[claim].figure else []
            assert list(card) == ["rule", *shown, "data", "paper", "ledger"], claim
            assert claim in ids and f'href="#{claim}"' in text, f"no permalink: {claim}"
            assert card["rule"] == [f"{site}/rules/part-{known[claim].part}.html#rule-{claim}"]
            assert card["ledger"] == [f"{site}/ledger.html#row-{claim}"]
            for figure in card.get("figure", ()):
                assert re.search(rf'<figure[^>]* id="{figure.partition("#")[2]}"', text), claim
            assert len(card.get("figure", ())) == len(shown)
            assert all(
                re.match(r"https://(doi\.org/10\.|arxiv\.org/abs/\d)", u) for u in card["paper"]
            )
            for file in map(Path, card["data"]):
                lines = file.read_text(encoding="utf8").splitlines()
                stored = file.parent == site / "results" and len(lines[0].split(",")) > 3
                assert len(lines) > 1 and (stored or file.name == f"{chapter}.ipynb"), file
            # rule and row lead on as the card does: nothing is more than two clicks away
            for kind in (*shown, "data", "paper"):
                assert rules[claim][kind] == rows[claim][kind] == card[kind], claim
            assert rows[claim]["rule"] == card["rule"]
            assert rules[claim]["ledger"] == card["ledger"]


def test_the_pages_of_rules_show_each_rule_as_it_runs(site):
    shown = {}
    for page in sorted((site / "rules").glob("part-*.html")):
        text = page.read_text(encoding="utf8")
        found = dict(re.findall(r'id="rule-([^"]+)">.*?<pre>(.*?)</pre>', text, re.S))
        assert {f"part-{claims.load()[claim].part}" for claim in found} == {page.stem}
        shown |= found
    assert set(shown) == set(claims.load())
    functions = 0
    for claim, code in shown.items():
        code = html.unescape(re.sub(r"<[^>]+>", "", code)).strip()
        try:
            rule = inspect.unwrap(claims.rule_of(claim))
        except ValueError:
            assert f'"{claim}"' in code or "claims." in code, claim
            continue
        functions += 1
        assert code == inspect.getsource(rule).strip(), claim
    assert functions > 80


def test_the_tally_leads_to_as_many_rows_as_it_says(site):
    text = (site / "ledger.html").read_text(encoding="utf8")
    rows = json.loads((site / "claims.json").read_text(encoding="utf8"))
    whose = {claims.PAPERS: "papers", claims.OURS: "ours", claims.UNRECORDED: "unrecorded"}
    links = re.findall(r"<a href='#(part=[^']*|origin=[^']*)'>(\d+)", text)
    assert len(links) > 20
    for address, number in links:
        want = dict(parse_qsl(html.unescape(address)))
        assert set(want) <= {"part", "origin", "verdict"}
        given = [row | {"origin": whose[row["whose"]]} for row in rows]
        fitting = [row for row in given if want.items() <= row.items()]
        assert len(fitting) == int(number), address


def test_the_ledger_shows_the_papers_number_beside_ours_and_how_it_is_known(site):
    text = (site / "ledger.html").read_text(encoding="utf8")
    bodies = dict(re.findall(r"<tbody id='row-([^']+)'(.*?)</tbody>", text, re.S))
    known = claims.load()
    assert set(bodies) == set(known)
    for claim in known.values():
        body = html.unescape(bodies[claim.id])
        assert claim.title in body
        assert (f"rule {claim.rule_fixed}" if claim.rule_fixed else "rule: not recorded") in body
        if claim.reported:
            first = body.partition("ledger-more")[0]
            assert claim.reported.number in first, claim.id
            tag = {"read": "read in the paper", "code": "from the released code"}
            assert tag.get(claim.reported.known, "second-hand") in first, claim.id


def test_the_ledgers_own_files_are_light(site):
    own = (site / "ledger.html", site / "_static" / "ledger.js", site / "_static" / "claims.css")
    assert sum(len(gzip.compress(path.read_bytes())) for path in own) < 300_000


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_chapter_ran_to_its_end_without_a_warning(path):
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code" and c.source.strip()]
    assert all(cell.execution_count for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []


def test_these_checks_find_what_they_look_for(tmp_path):
    (tmp_path / "style.css").write_text("@font-face { src: url('https://fonts.example/a.woff') }")
    (tmp_path / "index.html").write_text(
        '<a href="gone.html">x</a><a href="#nowhere">x</a><a href="#here">x</a><p id="here">'
        '<script src="https://cdn.example/x.js"></script><img src="style.css" alt="fig.png">'
        '<img src="style.css"><a href="https://example.org">fine</a>'
    )
    assert len(broken_links(tmp_path)) == 2
    assert len(outside_loads(tmp_path)) == 2
    assert len(images_without_text(tmp_path)) == 2
