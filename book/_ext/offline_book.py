"""Make the built book self-contained: MathJax and plotly come from installed packages."""

import importlib.util
import shutil
from pathlib import Path

from sphinx.util import logging

LOG = logging.getLogger(__name__)

# MathJax 3.2.2 as shipped by the PyPI package; the module name has hyphens.
PACKAGE = "sphinx-mathjax-offline"
ENTRY = "tex-chtml.js"
# what the pages use: 3 MB of the package's 24
KEEP = (
    ENTRY,
    "input/tex/extensions",
    "output/chtml/fonts/woff-v2",
    "a11y/assistive-mml.js",
    "ui/lazy.js",
)
# what helpers.book.sliders marks its figures with, and the script that draws them
MARKER = "interactive-figure"
PLOTLY = "plotly/plotly.min.js"


def package_root(name: str) -> Path:
    """Folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ImportError(f"{name} is not installed: it holds scripts of the book's pages.")
    return Path(spec.origin).parent


def copy_mathjax(app) -> None:
    """Before pages are written, so that Sphinx can add its checksum to the script's address."""
    target = Path(app.outdir) / "_static" / "mathjax"
    if app.builder.format != "html" or target.exists():
        return
    root = package_root(PACKAGE) / "static" / "mathjax"
    for part in KEEP:
        source, dest = root / part, target / part
        dest.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, dest)
        else:
            shutil.copy2(source, dest)
    LOG.info("offline_book: MathJax copied")


def copy_plotly(app) -> None:
    """Before pages are written, as MathJax; 4.9 MB that only pages with such a figure fetch."""
    target = Path(app.outdir) / "_static" / PLOTLY
    if app.builder.format != "html" or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(package_root("plotly") / "package_data" / target.name, target)
    LOG.info("offline_book: plotly copied")


def add_plotly(app, pagename, templatename, context, doctree) -> None:
    """To pages with such a figure. Deferred: the figures wait for DOMContentLoaded."""
    if f'class="{MARKER}"' in context.get("body", ""):
        app.add_js_file(PLOTLY, loading_method="defer")


def use_local_mathjax(app, config) -> None:
    config.mathjax_path = f"mathjax/{ENTRY}"


def drop_unused_scripts(app, pagename, templatename, context, doctree) -> None:
    """sphinx-thebe declares its constants twice, an error in the console of every page."""

    def is_thebe(item) -> bool:
        text = getattr(item, "attributes", {}).get("body", "") or ""
        name = str(getattr(item, "filename", item) or "")
        return "THEBE_JS_URL" in text or "sphinx-thebe" in name

    context["script_files"] = [s for s in context.get("script_files", []) if not is_thebe(s)]


def setup(app) -> dict:
    # MathJax on every page: verdict cards and the ledger hold maths that Sphinx does not see
    app.set_html_assets_policy("always")
    app.connect("config-inited", use_local_mathjax)
    app.connect("builder-inited", copy_mathjax)
    app.connect("builder-inited", copy_plotly)
    # before the scripts of the page are filtered
    app.connect("html-page-context", add_plotly, priority=800)
    app.connect("html-page-context", drop_unused_scripts, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
