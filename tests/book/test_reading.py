"""How fast and for whom pages can be read: slow lines, screen readers, no JavaScript, paper."""

import functools
import gzip
import http.server
import os
import re
import threading
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
# a page of every kind, and the longest ones
PAGES = (
    "intro.html", "ledger.html", "notation.html", "audit.html", "chapters/01-setting.html",
    "chapters/07-how-far.html", "chapters/09-rare-linear.html", "chapters/12-rare-mitigation.html",
    "chapters/26-one-scalar.html",
)  # fmt: skip
SLOWEST = ("ledger.html", "chapters/09-rare-linear.html", "chapters/16-tracing.html")
TEXTS = {".html", ".css", ".js", ".svg", ".json"}
LIMIT = 900_000
OBSERVE = """
window.blocked = 0; window.shifted = 0;
new PerformanceObserver(list => list.getEntries().forEach(
  one => { blocked += Math.max(0, one.duration - 50); })
).observe({type: "longtask", buffered: true});
new PerformanceObserver(list => list.getEntries().forEach(
  one => { if (!one.hadRecentInput) shifted += one.value; })
).observe({type: "layout-shift", buffered: true});
"""
LOADED = "(performance.timing.loadEventStart - performance.timing.navigationStart) / 1000"


class Zipped(http.server.SimpleHTTPRequestHandler):
    """A server as publishers have them: connections stay open, texts are compressed."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Say nothing."""

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        if path.suffix in TEXTS:
            data = gzip.compress(data, 6)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture(scope="module")
def zipped(site):
    handler = functools.partial(Zipped, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def carried(path: Path) -> int:
    """Bytes of a file on the line."""
    data = path.read_bytes()
    return len(gzip.compress(data, 6)) if path.suffix in TEXTS else len(data)


def test_no_page_weighs_more_than_900_kilobytes_with_all_its_images(site):
    weigh = functools.cache(carried)
    heavy = {}
    for page in sorted(site.rglob("*.html")):
        if "_static" in page.relative_to(site).parts:
            continue
        text = page.read_text("utf8")
        used = re.findall(r'<(?:script|img)\b[^>]*?\ssrc="([^"#?:]+)', text)
        used += re.findall(r'<link\b[^>]*?\shref="([^"#?:]+\.css)', text)
        parts = {(page.parent / one).resolve() for one in used}
        total = weigh(page) + sum(weigh(part) for part in parts)
        if total > LIMIT:
            heavy[str(page.relative_to(site))] = total
    assert heavy == {}


@pytest.mark.parametrize("name", SLOWEST)
def test_pages_are_there_soon_on_a_slow_line_and_a_slow_machine(chromium, zipped, name):
    """9 Mbit/s, 170 ms, a processor four times as slow; two of three visits are good ones.

    On a machine that computes something else, times are allowed as much more as it is overloaded.
    """
    seen, good = [], 0
    while good < 2 and len(seen) < 3:
        context = chromium.new_context(viewport=DESK)
        page = context.new_page()
        page.add_init_script(OBSERVE)
        wire, sizes = context.new_cdp_session(page), []
        wire.send("Network.enable")
        wire.on("Network.loadingFinished", lambda e, s=sizes: s.append(e["encodedDataLength"]))
        speed = {"latency": 170, "downloadThroughput": 9e6 / 8, "uploadThroughput": 9e6 / 8}
        wire.send("Network.emulateNetworkConditions", {"offline": False, **speed})
        wire.send("Emulation.setCPUThrottlingRate", {"rate": 4})
        page.goto(f"{zipped}/{name}", wait_until="load", timeout=60_000)
        load = page.evaluate(LOADED)
        page.wait_for_timeout(1500)
        blocked, shifted = page.evaluate("[blocked / 1000, shifted]")
        busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        seen.append((busy, load, blocked, shifted, sum(sizes)))
        in_time = load < 5 * busy and blocked < 1.5 * busy
        good += in_time and shifted < 0.05 and sum(sizes) <= LIMIT
        context.close()
    assert good == 2, seen


@pytest.fixture(scope="module")
def axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text("utf8")


@pytest.fixture(scope="module")
def looks(chromium):
    """A page of each colour scheme and width: what all pages share is loaded once."""
    made = {
        (scheme, viewport["width"]): chromium.new_context(viewport=viewport, color_scheme=scheme)
        for scheme in ("light", "dark")
        for viewport in (DESK, PHONE)
    }
    yield {look: context.new_page() for look, context in made.items()}
    for context in made.values():
        context.close()


@pytest.mark.parametrize("name", PAGES)
def test_nothing_hinders_readers_with_a_screen_reader_or_without_a_mouse(looks, address, axe, name):
    """Where what all pages share is, in all looks; the others in two, by turns.

    A light desk and a dark phone, or a dark desk and a light phone.
    """
    found, turn = {}, PAGES.index(name) % 2 == 0
    for (scheme, width), page in looks.items():
        own = ((scheme == "light") == (width == DESK["width"])) == turn
        if not own and name not in ("intro.html", "chapters/01-setting.html"):
            continue
        page.goto(f"{address}/{name}", wait_until="load")
        page.evaluate(axe)
        seen = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert seen["passes"], "axe has looked at nothing"
        for fault in seen["violations"]:
            if fault["impact"] in ("serious", "critical"):
                found[scheme, width, fault["id"]] = [one["target"] for one in fault["nodes"][:3]]
    assert found == {}


def test_pages_are_whole_without_javascript(chromium, address):
    context = chromium.new_context(viewport=DESK, java_script_enabled=False)
    page = context.new_page()
    for name in PAGES:
        page.goto(f"{address}/{name}")
        body = page.locator("main")
        assert not re.search(
            r"\\[(\[]", re.sub(r"(?s)<(pre|code|script).*?</\1>", "", body.inner_html())
        )
        for box in body.locator("div.math mjx-math").all()[:5]:
            assert box.bounding_box()["height"] > 8, name
        for image in body.locator("figure img").all()[:3]:
            image.scroll_into_view_if_needed()
            assert image.bounding_box()["height"] > 100, name
    context.close()


def test_the_three_voices_have_their_colours_without_javascript(chromium, address):
    context = chromium.new_context(viewport=DESK, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/chapters/09-rare-linear.html")
    style = "e => getComputedStyle(e).borderLeftColor + ' ' + getComputedStyle(e).backgroundColor"
    seen = {}
    for voice in ("paper-says", "we-do", "we-find"):
        for box in page.locator(f"div.admonition.{voice}").all()[:1]:
            seen[voice] = box.evaluate(style)
    context.close()
    assert len(seen) >= 2 and len(set(seen.values())) == len(seen)
    assert not any("rgba(0, 0, 0, 0)" in colours for colours in seen.values())


@pytest.mark.parametrize("name", [page for page in PAGES if page.startswith("chapters/")])
def test_paper_has_the_whole_chapter_and_nothing_to_click(chromium, address, name):
    context = chromium.new_context(viewport={"width": 718, "height": 1000})  # A4 without margins
    page = context.new_page()
    page.goto(f"{address}/{name}")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not(.above-input):not([open])").count() == 0
    for hidden in ("details.above-input:not([open])", ".bd-sidebar-primary", "input[type=range]"):
        assert not any(one.is_visible() for one in page.locator(hidden).all()), hidden
    for solution in page.locator(".solution").all():
        assert solution.locator(".section, p").last.is_visible()
    wide = page.evaluate("""() => [...document.querySelectorAll(".bd-article :is(table, img, pre)")]
      .filter(one => one.getClientRects().length
        && one.getBoundingClientRect().right > innerWidth + 1)
      .map(one => one.textContent.slice(0, 40))""")
    assert wide == []
    context.close()
