"""Make the built book self-contained and light: no script for maths or icons, nothing from outside.

Formulas are typeset here (`typeset.py`), and pages get their last touches (`finish.py`).
"""

import importlib.util
import re
import shutil
from pathlib import Path

import nbformat
from finish import Finisher, drawings
from sphinx.errors import SphinxError
from sphinx.util import logging
from typeset import FONTS, Typesetter

LOG = logging.getLogger(__name__)

# MathJax 3.2.2 as shipped by the PyPI package; the module name has hyphens.
PACKAGE = "sphinx-mathjax-offline"
STYLE = "maths.css"
# the theme's styles, and what they hold for a font of icons that no page uses any more
THEME = "styles/pydata-sphinx-theme.css"
ICON_FONT = re.compile(
    r'(?:\.fa-[\w-]+:before,?)+\{content:"[^"]*"\}|@font-face\{[^}]*Font Awesome[^}]*\}'
)
# scripts and styles that no page of this book needs, by a part of their names or texts
UNUSED = ("thebe", "THEBE_JS_URL", "window.MathJax", "mathjax", "design-tabs")


def package_root(name: str) -> Path:
    """Folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ImportError(f"{name} is not installed: it holds scripts of the book's pages.")
    return Path(spec.origin).parent


def drop_unused(app, pagename, templatename, context, doctree) -> None:
    """sphinx-thebe declares its constants twice, an error in the console of every page."""

    def unused(item) -> bool:
        text = getattr(item, "attributes", {}).get("body", "") or ""
        name = str(getattr(item, "filename", item) or "")
        return any(part in text or part in name for part in UNUSED)

    for key in ("script_files", "css_files"):
        context[key] = [item for item in context.get(key, []) if not unused(item)]


def finish(app, error: Exception | None) -> None:
    """Every page as it was written, with its formulas typeset, its images measured and so on."""
    if error is not None or app.builder.format != "html":
        return
    out, root = Path(app.outdir), package_root(PACKAGE) / "static" / "mathjax"
    macros = (app.config.mathjax3_config or {}).get("tex", {}).get("macros", {})
    typesetter = Typesetter(root, macros)
    chapters = [nbformat.read(path, 4) for path in Path(app.srcdir).rglob("*.ipynb")]
    finisher = Finisher(out, drawings(chapters))
    bad = []
    for page in sorted(out.rglob("*.html")):
        if "_static" in page.relative_to(out).parts:
            continue
        text, wrong = typesetter.page(finisher.page(page.read_text(encoding="utf8"), page))
        bad += [f"{page.relative_to(out)}: {one}" for one in wrong]
        page.write_text(text, encoding="utf8")
    static = out / "_static"
    (static / STYLE).write_text(typesetter.css(), encoding="utf8")
    shutil.copytree(root / FONTS, static / "mathjax", dirs_exist_ok=True)
    theme = static / THEME
    theme.write_text(ICON_FONT.sub("", theme.read_text(encoding="utf8")), encoding="utf8")
    for unused in ("scripts/fontawesome.js", "vendor/fontawesome"):
        remove(static / unused)
    if bad:
        raise SphinxError("formulas that MathJax cannot read:\n  " + "\n  ".join(bad))


def remove(path: Path) -> None:
    """A file or a folder, and the maps of scripts beside it."""
    if path.is_dir():
        shutil.rmtree(path)
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def setup(app) -> dict:
    app.add_css_file(STYLE)
    app.add_js_file("book.js", loading_method="defer")
    app.connect("html-page-context", drop_unused, priority=900)
    app.connect("build-finished", finish)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
