"""Formulas typeset while the book is built: MathJax runs here, in V8, and not in readers' browsers.

What it makes is text in HTML with MathML beside it for screen readers. It needs no script, only the
style that `Typesetter.css` returns and MathJax's fonts.
"""

import base64
import html
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from py_mini_racer import MiniRacer

# in the order in which they need each other; `startup` brings MathJax's own loader
PARTS = (
    "startup", "core", "adaptors/liteDOM", "input/tex-full", "output/chtml",
    "output/chtml/fonts/tex", "a11y/assistive-mml",
)  # fmt: skip
FONTS = "output/chtml/fonts/woff-v2"
# what nearly every formula uses comes with the style: no text moves when a font arrives late
EMBEDDED = ("Main-Regular", "Math-Italic", "Size1-Regular", "Size2-Regular")
# what MathJax expects of its surroundings, and its settings: an error is a fault of the book
START = """
globalThis.window = globalThis.global = globalThis.self = globalThis;
globalThis.console = {log() {}, warn() {}, error() {}};
globalThis.setTimeout = () => 0;
globalThis.MathJax = {
  loader: {load: []},
  tex: {macros: %(macros)s,
        packages: {"[-]": ["noerrors", "noundefined", "autoload", "require"]}},
  chtml: {fontURL: "FONTS"},
  startup: {ready() {}, typeset: false, adaptor: "liteAdaptor"},
};
"""
MAKE = """
MathJax.startup.defaultReady();
globalThis.outer = node => MathJax.startup.adaptor.outerHTML(node);
"""
# a formula in the text of a page: \\( … \\) in a line, \\[ … \\] on display
FORMULA = re.compile(r"\\\((?P<line>.+?)\\\)|\\\[(?P<display>.+?)\\\]", re.DOTALL)
# what holds no text of the page, whole; then any other tag
NO_TEXT = re.compile(
    r"<(?P<tag>script|style|pre|code|textarea|title|svg|mjx-container)\b.*?</(?P=tag)\s*>"
    r"|<!--.*?-->|<[^>]*>",
    re.DOTALL | re.IGNORECASE,
)
ERROR = re.compile(r'data-mjx-error="([^"]*)"')


class BadFormula(ValueError):
    """A formula that MathJax cannot read, and what it says about it."""


class Typesetter:
    """MathJax with the macros of the book.

    Args:
        root: Folder of MathJax's files.
        macros: As in MathJax's settings: name -> TeX, or [TeX, number of arguments].
    """

    def __init__(self, root: Path, macros: Mapping[str, object]) -> None:
        self.root = root
        self.engine = MiniRacer()
        self.engine.eval(START % {"macros": json.dumps(macros)})
        for part in PARTS:
            self.engine.eval((root / f"{part}.js").read_text(encoding="utf8"))
            if part == PARTS[0]:
                self.engine.eval(f"MathJax.loader.preLoad(...{json.dumps(PARTS)})")
        self.engine.eval(MAKE)
        self.formula = cache(self._formula)

    def _formula(self, tex: str, display: bool) -> str:
        """One formula as HTML.

        Raises:
            BadFormula: MathJax cannot read it.
        """
        options = json.dumps({"display": display})
        made = self.engine.eval(f"outer(MathJax.tex2chtml({json.dumps(tex)}, {options}))")
        if wrong := ERROR.search(made):
            raise BadFormula(f"{html.unescape(wrong[1])}: {tex.strip()}")
        return made

    def css(self) -> str:
        """Style of all formulas made so far, with the fonts most of them use."""
        sheet = "MathJax.startup.adaptor.textContent(MathJax.chtmlStylesheet())"
        return re.sub(r'url\("FONTS/MathJax_([\w-]+)\.woff"\)', self._font, self.engine.eval(sheet))

    def _font(self, found: re.Match[str]) -> str:
        if found[1] not in EMBEDDED:
            return f'url("mathjax/MathJax_{found[1]}.woff")'
        data = (self.root / FONTS / f"MathJax_{found[1]}.woff").read_bytes()
        return f'url("data:font/woff;base64,{base64.b64encode(data).decode()}")'

    def page(self, text: str) -> tuple[str, list[str]]:
        """A page with its formulas typeset, and what is wrong with those that are not."""
        wrong: list[str] = []

        def typeset(found: re.Match[str]) -> str:
            display = found["display"] is not None
            try:
                return self.formula(html.unescape(found["display"] or found["line"]), display)
            except BadFormula as error:
                wrong.append(str(error))
                return found[0]

        pieces, end = [], 0
        for tag in NO_TEXT.finditer(text):
            pieces += [FORMULA.sub(typeset, text[end : tag.start()]), tag[0]]
            end = tag.end()
        pieces.append(FORMULA.sub(typeset, text[end:]))
        return "".join(pieces), wrong
