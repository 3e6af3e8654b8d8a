"""The last touches to a page that Sphinx has written: icons, images, scripts, ids, bars of code.

Everything here takes HTML and returns HTML, so that pages need no script for what is known when
they are built.
"""

import hashlib
import html
import os
import re
import struct
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from code_bars import label

# a figure of one inch is this wide where there is room (`figures.use_style`)
PIXELS = 110
# a figure's drawing for phones in an output (`helpers.book.drawn`, which needs matplotlib)
NARROW = {"svg": "application/x-narrow+svg", "png": "application/x-narrow+png"}
ICON = re.compile(
    r'<(?P<tag>i|span) class="(?P<css>[^"]*\bfa-(?P<name>(?!solid|lg)[\w-]+)\b[^"]*)"'
    r"(?P<more>[^>]*)></(?P=tag)>"
)
IMAGE = re.compile(r'<img\b(?P<head>[^>]*?)\bsrc="(?P<src>[^"]*_images/[^"]+)"(?P<tail>[^>]*?)/?>')
BAR = re.compile(
    r'(<details class="admonition hide above-input">\s*)<summary aria-label="[^"]*">\s*'
    r'<p class="collapsed admonition-title">[^<]*</p>\s*'
    r'<p class="expanded admonition-title">[^<]*</p>\s*</summary>'
    r"(?P<cell>.*?<pre>(?P<code>.*?)</pre>.*?</details>)",
    re.DOTALL,
)
FIGURE = re.compile(r'<span class="caption-number">(?P<number>Fig\. [\d.]+) </span>')
SCRIPT = re.compile(r'<script(?P<rest>(?: data-[\w-]+="[^"]*")* src="[^"]*\.js[^"]*")></script>')
ID = re.compile(r'(<[a-z][^<>]*?\sid=")([^"]+)(")')
# characters of what a cell shows that may lie before its caption
LONGEST = 150_000
LATER = 'loading="lazy" decoding="async"'
HIDDEN = re.compile(r"(<(?:script|pre|style)\b.*?</(?:script|pre|style)>)", re.DOTALL)


@dataclass(frozen=True)
class Drawing:
    """What a notebook says of an image beside the image itself.

    Attributes:
        pictures: Whether it keeps its colours on dark pages.
        narrow: The same figure for phones, as a file, or nothing.
        kind: The end of that file's name.
    """

    pictures: bool = False
    narrow: bytes = b""
    kind: str = ""


def drawings(notebooks: Iterable) -> dict[str, Drawing]:
    """What is known of the images in notebooks, by the names that myst-nb gives their files."""
    found = {}
    for nb in notebooks:
        for output in (out for cell in nb.cells for out in cell.get("outputs", ())):
            data = output.get("data", {})
            if "image/svg+xml" in data:
                content = "\n".join(data["image/svg+xml"].splitlines()).encode()
            elif "image/png" in data:
                content = b64decode(data["image/png"])
            else:
                continue
            pictures = bool(output.get("metadata", {}).get("pictures"))
            small = {"svg": data.get(NARROW["svg"], "").encode(),
                     "png": b64decode(data.get(NARROW["png"], ""))}  # fmt: skip
            kind = next((kind for kind, file in small.items() if file), "")
            known = Drawing(pictures, small.get(kind, b""), kind)
            found[hashlib.sha256(content).hexdigest()] = known
    return found


def size(path: Path) -> tuple[int, int]:
    """Width and height, in pixels of a page, at which an image is shown where there is room.

    Raises:
        ValueError: neither PNG nor SVG with a size.
    """
    data = path.read_bytes()
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        width, height = struct.unpack(">II", data[16:24])
        at = data.find(b"pHYs", 0, 4096)
        per_metre = struct.unpack(">I", data[at + 4 : at + 8])[0] if at > 0 else 0
        scale = PIXELS / (per_metre * 0.0254) if per_metre else 1.0
        return round(width * scale), round(height * scale)
    head = re.search(rb"<svg[^>]*>", data)
    sides = dict(re.findall(rb'\s(width|height)="([\d.]+)pt"', head[0])) if head else {}
    if len(sides) < 2:
        raise ValueError(f"{path.name} is neither PNG nor SVG with a size in points")
    return tuple(round(float(sides[key]) * PIXELS / 72) for key in (b"width", b"height"))


class Finisher:
    """What all pages share.

    Args:
        out: Folder of the site.
        known: What notebooks say of their images, by the names of the files.
    """

    def __init__(self, out: Path, known: Mapping[str, Drawing]) -> None:
        self.out = out
        self.known = known

    def page(self, text: str, path: Path) -> str:
        """A page, and where it lies."""
        text = re.sub(r"\s*<script[^>]*fontawesome\.js[^>]*></script>", "", text)
        # the theme writes the line three times
        text = re.sub(r'<meta name="viewport"[^>]*>', "", text).replace(
            '<meta charset="utf-8" />',
            '<meta charset="utf-8" /><meta name="viewport" content="width=device-width, '
            'initial-scale=1" />', 1,
        )  # fmt: skip
        # a page without JavaScript has the light colours; with it, the first colours are right
        text = text.replace('data-theme="auto"', 'data-theme="light"', 1).replace(
            'localStorage.getItem("theme") || "auto"',
            'localStorage.getItem("theme") || (matchMedia("(prefers-color-scheme: dark)").matches'
            ' ? "dark" : "light")',
        )
        # in the contents, what opens a page's own pages is an arrow without a word
        text = text.replace(
            '<summary><span class="toctree-toggle"',
            '<summary aria-label="pages below"><span class="toctree-toggle"',
        )
        text = SCRIPT.sub(self.deferred, text)
        text = ICON.sub(self.icon, text)
        text = BAR.sub(self.bar, text)
        text = IMAGE.sub(lambda found: self.image(found, path), text)
        return own_ids(text)

    @staticmethod
    def deferred(found: re.Match[str]) -> str:
        """Scripts run in order when the page is there; one is read by a line inside the page."""
        if "documentation_options" in found["rest"]:
            return found[0]
        return f"<script defer{found['rest']}></script>"

    @cached_property
    def shapes(self) -> dict[str, tuple[str, str, str]]:
        """Width, height and outline of the icons in the theme's script, which no page loads.

        Of brands, then outlined, then solid ones, the last counts.
        """
        script = (self.out / "_static/scripts/fontawesome.js").read_text(encoding="utf8")
        shape = r'[,{]"?([\w-]+)"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"'
        return {name: told for name, *told in re.findall(shape, script)}

    def icon(self, found: re.Match[str]) -> str:
        """An icon as a drawing in the page: the theme would load 1.5 MB of script for ten."""
        if found["name"] not in self.shapes:
            return found[0]
        width, height, path = self.shapes[found["name"]]
        css = " ".join(
            one for one in found["css"].split() if not re.fullmatch(r"fa[srb]?|fa-(?!lg).*", one)
        ).replace("fa-lg", "icon-large")
        return (
            f'<{found["tag"]} class="{css} icon"{found["more"]}>'
            f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">'
            f'<path fill="currentColor" d="{path}"/></svg></{found["tag"]}>'
        )

    @staticmethod
    def bar(found: re.Match[str]) -> str:
        """A bar that says what the code under it does."""
        code = html.unescape(re.sub(r"<[^>]+>", "", found["code"]))
        # what the cell itself shows: up to the next bar, cell or heading
        rest = found.string[found.end() : found.end() + LONGEST]
        after = re.split(r'<details|<div class="cell |<h[1-4]>|<p>(?!<span)', rest)[0]
        figure = FIGURE.search(after)
        heads = re.findall(r"<th\b[^>]*>([^<]+)</th>", re.split(r"</thead>", after)[0])
        columns = [html.unescape(head).strip() for head in heads if "<table" in after]
        words = html.escape(label(code, figure["number"] if figure else "", columns))
        return f'{found[1]}<summary><span class="code-bar">{words}</span></summary>{found["cell"]}'

    def image(self, found: re.Match[str], page: Path) -> str:
        """An image that keeps its place before it is there, comes late, and opens alone."""
        file = (page.parent / found["src"]).resolve()
        known = self.known.get(file.stem, Drawing())
        source = os.path.relpath(file, page.parent)
        kind = "pictures" if known.pictures else "plot"
        image = f'<img{found["head"]} src="{source}"{found["tail"]} {measures(file)} {LATER}>'
        if known.narrow:
            small = file.with_name(f"{file.stem}-narrow.{known.kind}")
            small.write_bytes(known.narrow)
            where = os.path.relpath(small, page.parent)
            image = (
                f'<picture><source media="(max-width: 600px)" srcset="{where}" {measures(small)}>'
                f"{image}</picture>"
            )
        return f'<a class="enlarge {kind}" href="{source}">{image}</a>'


def measures(file: Path) -> str:
    """Attributes with the size of an image."""
    width, height = size(file)
    return f'width="{width}" height="{height}"'


def own_ids(text: str) -> str:
    """A page on which no two elements have the same id: sphinx-proof gives all boxes one."""
    seen: dict[str, int] = {}

    def fresh(found: re.Match[str]) -> str:
        name = found[2]
        seen[name] = seen.get(name, 0) + 1
        return found[0] if seen[name] == 1 else f"{found[1]}{name}-{seen[name]}{found[3]}"

    parts = HIDDEN.split(text)
    return "".join(part if i % 2 else ID.sub(fresh, part) for i, part in enumerate(parts))
