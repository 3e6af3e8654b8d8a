"""The site as readers meet it: in Chromium, wide and narrow, light and dark, without a network."""

import json
import re
from urllib.parse import urlsplit

import pytest

from helpers.book import dial, sliders

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
# pages that Sphinx makes by itself and that have no place in the order of reading
EXTRA = {"genindex.html", "search.html", "prf-prf.html"}
LEFT_RAW = r"""() => {
  const walker = document.createTreeWalker(
    document.querySelector("main") ?? document.body, NodeFilter.SHOW_TEXT);
  const raw = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (/\\[(\[]|\\(frac|alpha|gamma|mathbb)\b/.test(node.data)
        && !node.parentElement.closest("pre, code, script, mjx-container")) raw.push(node.data);
  }
  return raw;
}"""
WIDE = """() => [...document.querySelectorAll(".bd-article *")].filter(element => {
  const box = element.getBoundingClientRect();
  return box.width > 0 && box.right > innerWidth + 1
    && !element.closest("pre, table, .math, mjx-container, .cell_output, .table-scroll");
}).slice(0, 5).map(element => element.tagName + "." + element.className)"""

# folded solutions and asides, which have equations and tables too
UNFOLD = """() => {
  document.querySelectorAll(".toggle-hidden").forEach(one => one.classList.remove("toggle-hidden"));
  document.querySelectorAll("details").forEach(one => { one.open = true; });
  dispatchEvent(new Event("resize"));
}"""
# equations of which a part cannot be seen: above or below their box, or beside it and no cue
CUT_EQUATIONS = """() => [...document.querySelectorAll(".bd-article div.math")].filter(box =>
  box.getClientRects().length && (box.scrollHeight > box.clientHeight + 1
    || (box.scrollWidth > box.clientWidth + 1 && !(box.matches(".scrolls") && box.tabIndex === 0)))
).map(box => box.id || box.textContent.slice(0, 40))"""
SCROLLED_EQUATIONS = """() => [...document.querySelectorAll(".bd-article div.math.scrolls")]
  .map(box => box.id || box.textContent.slice(0, 40))"""
# tables that reach beyond a box around them that neither scrolls by keyboard nor shows that it does
CUT_TABLES = """() => [...document.querySelectorAll(".bd-article table")].filter(table => {
  const right = table.getBoundingClientRect().right;
  if (!table.getClientRects().length) return false;
  for (let box = table.parentElement; !box.matches(".bd-article"); box = box.parentElement) {
    if (getComputedStyle(box).overflowX === "visible") continue;
    if (right > box.getBoundingClientRect().right + 1)
      return !(box.matches(".scrolls") && box.tabIndex === 0);
  }
  return right > innerWidth + 1;
}).map(table => table.textContent.trim().slice(0, 40))"""
SIDEWAYS_FIGURES = """() => [...document.querySelectorAll(".bd-article figure")].filter(figure =>
  figure.scrollWidth > figure.clientWidth + 1
  || [...figure.querySelectorAll("img, svg, input")].some(
    one => one.getBoundingClientRect().right > innerWidth + 1)
).map(figure => figure.id)"""
AROUND = """() => ({
  before: document.querySelectorAll("a.left-prev").length,
  after: document.querySelectorAll("a.right-next").length,
  source: document.querySelector("a.btn-download-source-button")?.getAttribute("href"),
})"""
COUNTED = """() => Object.fromEntries(Object.entries({
  formulas: "main .math", typeset: "main mjx-container", wrong: "mjx-merror",
}).map(([name, selector]) => [name, document.querySelectorAll(selector).length]))"""
COLOURS = """() => ({
  paper: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.querySelector("main p, main h1")).color,
})"""
SLIDERS = ", ".join(f".{marker} input[type=range]" for marker in (sliders.MARKER, dial.MARKER))
DRAWN = """input => [...input.closest("[data-panel], .range-figure").querySelectorAll("path, g")]
  .map(one => one.getAttribute("d") + one.getAttribute("transform")).join()"""


@pytest.fixture(scope="module")
def names(site) -> list[str]:
    """Addresses of all pages but the first, which only leads to the introduction."""
    return sorted(
        str(path.relative_to(site))
        for path in site.rglob("*.html")
        if "_static" not in path.parts and path != site / "index.html"
    )


@pytest.fixture(scope="module")
def marked(site, names) -> list[str]:
    """Addresses of the pages that have a figure with sliders."""
    marks = [f'class="{marker}"' for marker in (sliders.MARKER, dial.MARKER)]
    texts = {name: (site / name).read_text(encoding="utf8") for name in names}
    found = [name for name, text in texts.items() if any(mark in text for mark in marks)]
    assert found, "no page has a figure with sliders"
    return found


class Visit:
    """One open page, and what went wrong on it."""

    def __init__(self, browser, viewport, scheme="light"):
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme)
        self.page = self.context.new_page()
        self.trouble: list[str] = []
        self.page.on("pageerror", lambda e: self.trouble.append(f"script error: {e}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("console", self._console)
        self.page.on("request", self._request)
        self.page.on("response", self._response)

    def _failed(self, request):
        if request.failure != "net::ERR_ABORTED":  # as what is under way when a page is left
            self.trouble.append(f"request failed: {request.url}")

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.trouble.append(f"console: {message.text}")

    def _request(self, request):
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.trouble.append(f"request to another host: {request.url}")

    def _response(self, response):
        if response.status >= 400:
            self.trouble.append(f"{response.status} {response.url}")

    def go(self, url):
        self.page.goto(url, wait_until="load")
        return self.page


@pytest.fixture
def visit(chromium):
    """Opens visits and closes them when the test is over."""
    opened = []

    def start(viewport, scheme="light"):
        opened.append(Visit(chromium, viewport, scheme))
        return opened[-1]

    yield start
    for one in opened:
        one.context.close()


@pytest.fixture(scope="module")
def survey(chromium, address, names) -> dict[tuple[str, str], dict]:
    """What is to be seen on every page, on a light desk and on a dark phone: one visit each."""
    found = {}
    for setting, viewport, scheme in [("desk", DESK, "light"), ("phone", PHONE, "dark")]:
        one = Visit(chromium, viewport, scheme)
        for name in names:
            one.trouble = []
            page = one.go(f"{address}/{name}")
            solution = first_unfolded(page) if setting == "desk" else None
            page.evaluate(UNFOLD)
            found[setting, name] = {
                "solution": solution,
                **page.evaluate(COUNTED),
                "raw": [] if name in EXTRA else page.evaluate(LEFT_RAW),
                "width": page.evaluate("document.documentElement.scrollWidth"),
                "wide": page.evaluate(WIDE),
                **{name: brightness(colour) for name, colour in page.evaluate(COLOURS).items()},
                "cut equations": page.evaluate(CUT_EQUATIONS),
                "scrolled equations": page.evaluate(SCROLLED_EQUATIONS),
                "cut tables": page.evaluate(CUT_TABLES),
                "sideways figures": page.evaluate(SIDEWAYS_FIGURES),
                "scripts": page.evaluate("[...document.scripts].map(one => one.src)"),
                "around": page.evaluate(AROUND),
                "trouble": one.trouble,
            }
        one.context.close()
    return found


def first_unfolded(page) -> dict | None:
    """Whether the first solution opens, and how many there are with a button: one script does all.

    None where there is no solution.
    """
    solutions = page.locator(".solution.dropdown")
    if not solutions.count():
        return None
    buttons = solutions.locator("button.toggle-button")
    buttons.first.click()
    shown = solutions.first.locator(".section, p").first.is_visible()
    return {"opens": shown, "solutions": solutions.count(), "buttons": buttons.count()}


def brightness(colour: str) -> float:
    """Mean of red, green and blue, 0 to 255, of a computed colour."""
    return sum(float(part) for part in colour.strip("rgba()").split(",")[:3]) / 3


def test_no_page_has_an_error_or_asks_another_host(survey):
    assert {where: seen["trouble"] for where, seen in survey.items() if seen["trouble"]} == {}


def test_equations_are_typeset_and_none_is_left_raw(survey):
    for where, seen in survey.items():
        assert seen["typeset"] >= seen["formulas"], where
        assert (seen["wrong"], seen["raw"]) == (0, []), where
    assert sum(seen["typeset"] for seen in survey.values()) > 0, "the book has no formula at all"


def test_no_page_has_a_script_for_maths_icons_or_plots(survey):
    for where, seen in survey.items():
        heavy = [
            src for src in seen["scripts"] if re.search(r"(?i)mathjax|fontawesome|plotly", src)
        ]
        assert heavy == [], where


def test_equations_are_whole_and_wide_ones_show_that_they_scroll(survey):
    assert {where: seen["cut equations"] for where, seen in survey.items()
            if seen["cut equations"]} == {}  # fmt: skip
    # on a desk none has to
    assert {where: seen["scrolled equations"] for where, seen in survey.items()
            if where[0] == "desk" and seen["scrolled equations"]} == {}  # fmt: skip


def test_no_table_is_cut_without_a_cue(survey):
    assert {where: seen["cut tables"] for where, seen in survey.items() if seen["cut tables"]} == {}


def test_no_figure_scrolls_sideways(survey):
    assert {where: seen["sideways figures"] for where, seen in survey.items()
            if seen["sideways figures"]} == {}  # fmt: skip


def test_no_sideways_scroll_and_nothing_sticks_out(survey):
    for (setting, name), seen in survey.items():
        allowed = (PHONE if setting == "phone" else DESK)["width"]
        assert seen["width"] <= allowed, (setting, name)
        assert seen["wide"] == [], (setting, name)


def test_pages_follow_the_colour_scheme_of_the_system(survey):
    for (setting, name), seen in survey.items():
        dark = setting == "phone"
        assert (seen["paper"] < 80) is dark and (seen["ink"] > 150) is dark, (setting, name)


def test_the_first_page_leads_to_the_introduction(visit, address):
    page = visit(DESK).page
    page.goto(f"{address}/index.html")
    page.wait_for_url("**/intro.html")


def test_colours_can_be_switched_by_hand(visit, address):
    page = visit(DESK).go(f"{address}/intro.html")
    seen = set()
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
        seen.add(page.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}


def test_search_finds_a_word_of_the_book(visit, address):
    one = visit(DESK)
    page = one.go(f"{address}/search.html?q=papermill")
    page.wait_for_selector("#search-results li a", timeout=15_000)
    hits = page.locator("#search-results li a").all_inner_texts()
    assert any("Rerun" in hit for hit in hits), hits
    assert one.trouble == []


def test_the_search_field_opens_by_keyboard(visit, address):
    page = visit(DESK).go(f"{address}/intro.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("verdict")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=verdict*")
    page.wait_for_selector("#search-results li a", timeout=15_000)


def test_chapters_have_previous_next_and_a_download(site, survey):
    chapters = {name: seen["around"] for (_, name), seen in survey.items() if "chapters/" in name}
    assert chapters
    for name, around in chapters.items():
        assert around["before"] == around["after"] == 1 and around["source"], name
        stored = (site / name).parent / around["source"]
        assert json.loads(stored.read_text("utf8"))["nbformat"] == 4, name


def test_folded_solutions_open(site, names, survey):
    seen = {name: found["solution"] for (_, name), found in survey.items() if found["solution"]}
    for name, solution in seen.items():
        assert solution["opens"] and solution["buttons"] == solution["solutions"], name
    folded = re.compile(r'class="[^"]*\bsolution\b')
    assert {*seen} == {name for name in names if folded.search((site / name).read_text("utf8"))}
    assert len(seen) > 20


ROWS = """() => [...document.querySelectorAll(".claims-ledger tbody")]
  .filter(row => row.checkVisibility())
  .map(row => ({id: row.id.slice(4), text: row.textContent.toLowerCase(), ...row.dataset}))"""


def test_the_ledger_is_filtered_and_the_address_keeps_it(visit, address):
    one = visit(DESK)
    page = one.go(f"{address}/ledger.html")
    total = len(page.evaluate(ROWS))
    for name in ("part", "origin", "verdict"):
        menu = page.locator(f"#ledger-filters select[name={name}]")
        for value in menu.locator("option").evaluate_all("all => all.map(one => one.value)"):
            menu.select_option(value)
            rows = page.evaluate(ROWS)
            assert all(value in ("", row[name], row.get("whose")) for row in rows)
            assert len(rows) == total if not value else 0 < len(rows) < total, value
        menu.select_option("")
    page.locator("select[name=part]").select_option("II")
    page.locator("select[name=verdict]").select_option("partly")
    page.locator("#ledger-filters input[name=q]").press_sequentially("Noise")
    rows = page.evaluate(ROWS)
    assert rows and all("noise" in row["text"] and row["part"] == "II" for row in rows)
    assert f"{len(rows)} of {total} claims" == page.locator("#ledger-count").inner_text()
    assert page.url.endswith("#part=II&verdict=partly&q=Noise")
    # another reader, another time
    assert visit(PHONE).go(page.url).evaluate(ROWS) == rows
    # there and back again; the letters were one step together
    page.locator(".claims-ledger tbody:not([hidden]) a").first.click()
    page.wait_for_url("**/chapters/**")
    page.go_back()
    page.wait_for_function("() => document.querySelector('#ledger-filters').q.value === 'Noise'")
    assert page.evaluate(ROWS) == rows
    page.go_back()
    page.wait_for_function("() => document.querySelector('#ledger-filters').verdict.value === ''")
    assert {row["part"] for row in page.evaluate(ROWS)} == {"II"}
    page.locator("#ledger-filters button[type=reset]").click()
    assert len(page.evaluate(ROWS)) == total
    assert one.trouble == []


def test_the_ledger_is_sorted_by_keyboard(visit, address):
    page = visit(DESK).go(f"{address}/ledger.html")
    order = [row["id"] for row in page.evaluate(ROWS)]
    menu = page.locator("select[name=verdict] option").evaluate_all("all => all.map(o => o.value)")
    head = page.locator("th[data-sort=verdict]")
    head.locator("button").focus()
    for state, way in (("ascending", 1), ("descending", -1)):
        page.keyboard.press("Enter")
        page.wait_for_function(f"() => document.querySelector('th[aria-sort={state}]')")
        rows = page.evaluate(ROWS)
        ranks = [way * menu.index(row["verdict"]) for row in rows]
        assert ranks == sorted(ranks) and len(set(ranks)) > 2
        assert sorted(row["id"] for row in rows) == sorted(order)
    page.locator("select[name=sort]").select_option("")
    assert [row["id"] for row in page.evaluate(ROWS)] == order


def test_a_row_of_the_ledger_has_an_address_and_opens(visit, address):
    page = visit(DESK).go(f"{address}/ledger.html#verdict=partly")
    assert not page.locator("#row-B1").is_visible()
    page.evaluate("location.hash = '#row-B1'")
    page.wait_for_function("() => document.querySelector('#row-B1 details').open")
    row = page.locator("#row-B1")
    assert row.locator("dt", has_text="Rule").is_visible()
    assert 0 <= row.bounding_box()["y"] < DESK["height"] / 2
    assert page.locator("#row-B2 dt").first.is_visible() is False


def test_the_ledger_without_scripts_shows_every_row(chromium, address):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/ledger.html")
    bodies = page.locator(".claims-ledger tbody")
    assert bodies.count() > 100
    assert all(body.is_visible() for body in bodies.all()[::10])
    assert not page.locator("#ledger-filters").is_visible()
    page.locator("#row-Y15 summary").click()
    assert page.locator("#row-Y15 .claim-evidence").is_visible()
    context.close()


def test_on_a_phone_rows_of_the_ledger_are_cards_and_nothing_is_cut(visit, address):
    page = visit(PHONE, "dark").go(f"{address}/ledger.html#row-Y15")
    cut = page.locator(":is(.claims-ledger, .claims-tally) :is(th, td, a)").evaluate_all(
        """all => all.filter(one => one.checkVisibility() && !one.closest("thead"))
          .map(one => one.getBoundingClientRect())
          .filter(box => box.width > 0 && (box.left < 0 || box.right > innerWidth)).length"""
    )
    assert cut == 0
    tops = page.locator("#row-Y15 tr:first-child > *").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().top)"
    )
    assert len(tops) == 5 and tops == sorted(set(tops)), "cells stand below each other"


def test_the_tally_of_the_ledger_fits_on_one_screen(visit, address):
    page = visit(DESK).go(f"{address}/ledger.html")
    box = page.locator(".claims-tally").bounding_box()
    assert box["y"] > 0 and box["y"] + box["height"] < DESK["height"]


def test_search_finds_a_claim_by_its_number(visit, address):
    page = visit(DESK).go(f"{address}/search.html?q=B13")
    page.wait_for_selector("#search-results li a", timeout=15_000)
    hits = page.locator("#search-results li > a").evaluate_all("all => all.map(one => one.href)")
    first = {re.sub(r".*/|\?[^#]*", "", hit) for hit in hits[:2]}
    assert first == {"05-trained-networks.html#claim-B13", "ledger.html#row-B13"}


def test_pages_work_from_a_folder_without_a_server(visit, site, names):
    one = visit(DESK)
    one.trouble = []
    for name in [n for n in names if n.startswith("chapters/")][:1] + ["ledger.html"]:
        page = one.go((site / name).as_uri())
        assert page.locator("mjx-container").count() >= page.locator("main .math").count()
        elsewhere = [t for t in one.trouble if "another host: http" in t or "script error" in t]
        assert elsewhere == [], name


def test_every_slider_is_moved_by_keyboard_and_says_where_it_stands(visit, address, marked):
    for name in marked:
        one = visit(PHONE)
        page = one.go(f"{address}/{name}")
        for slider in page.locator(SLIDERS).all():
            assert slider.evaluate("e => e.tabIndex >= 0 && !e.disabled && !!e.labels[0]"), name
            slider.focus()
            page.keyboard.press("Home")
            first, said = slider.evaluate(DRAWN), slider.get_attribute("aria-valuetext")
            page.keyboard.press("End")
            page.keyboard.press("ArrowLeft")
            assert slider.evaluate(DRAWN) != first, name
            assert slider.get_attribute("aria-valuetext") not in ("", said), name
        assert one.trouble == [], name


def test_a_name_in_a_legend_hides_its_curve(visit, address, site, names):
    for name in names:
        if f'class="{sliders.MARKER}"' in (site / name).read_text("utf8"):
            page = visit(DESK).go(f"{address}/{name}")
            figure = page.locator(f".{sliders.MARKER}").first
            curve = figure.locator("[data-curve='0']").first
            assert curve.evaluate("e => getComputedStyle(e).display") != "none"
            figure.locator("[data-shows='0']").uncheck()
            assert curve.evaluate("e => getComputedStyle(e).display") == "none"


def test_every_figure_with_a_slider_has_a_number_and_a_caption(visit, address, marked):
    for name in marked:
        page = visit(DESK).go(f"{address}/{name}")
        for figure in page.locator(f".{sliders.MARKER}, .{dial.MARKER}").all():
            caption = figure.locator("xpath=ancestor::figure//figcaption")
            assert "Fig." in caption.inner_text(), name
