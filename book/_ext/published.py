"""What a published site says of itself: description, address, version, how to cite and run it.

Two addresses feed all of it, `book_repository` and `book_address` in `_config.yml`, or the
variables `$BOOK_REPOSITORY` and `$BOOK_ADDRESS`, which the publishing workflow sets. Without them
the site works as well; it then names no address that does not exist.

`{get-the-book}` shows how to get the sources and set them up.
"""

import html
import os
import re
from pathlib import Path
from typing import Any

import downloads
import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from helpers import __version__
from helpers.project import project_root

NAME = "Memorizing the Background"
# search engines show about as much
LONGEST = 200
# where the workflow that publishes the site keeps the notebooks as they are downloaded
NOTEBOOKS = "notebooks-for-readers"
FOLDER = "memorizing-the-background"


def address(value: str, variable: str) -> str:
    """A web address from the environment or the configuration, without a slash at its end.

    Raises:
        ValueError: it is no address of the web.
    """
    found = (os.environ.get(variable) or value or "").strip().rstrip("/")
    if found and not re.fullmatch(r"https?://[^\s<>\"']+", found):
        raise ValueError(f"{variable} (or its line in _config.yml) is {found!r}: no web address")
    return found


def configure(app, config) -> None:
    """Hand both addresses to Sphinx and to the theme."""
    config.book_repository = address(config.book_repository, "BOOK_REPOSITORY")
    config.book_address = address(config.book_address, "BOOK_ADDRESS")
    if config.book_address:
        config.html_baseurl = config.book_address + "/"
    if config.book_repository:
        config.html_theme_options = config.html_theme_options | {
            "repository_url": config.book_repository,
            "repository_branch": "main",
            "path_to_docs": "book",
            "use_repository_button": True,
            "use_source_button": True,
        }


def description(doctree: nodes.document | None) -> str:
    """The first paragraph of a page outside boxes, cut at a word."""
    for node in doctree.findall(nodes.paragraph) if doctree else ():
        text = " ".join(node.astext().split())
        if isinstance(node.parent, nodes.section | nodes.document) and len(text) > 60:
            if len(text) <= LONGEST:
                return text
            return text[:LONGEST].rsplit(" ", 1)[0].rstrip(",;:") + " …"
    return f"{NAME}: four papers on spurious features, executed."


def citation() -> dict[str, Any]:
    """CITATION.cff as a mapping."""
    return yaml.safe_load((project_root() / "CITATION.cff").read_text(encoding="utf-8"))


def bibtex(title: str, url: str, year: str) -> str:
    """An entry for the book, or for a page of it, as BibTeX."""
    book = citation()
    authors = " and ".join(f"{{{one['name']}}}" for one in book["authors"])
    fields = {"author": authors, "title": f"{{{book['title']}}}", "year": year}
    if title:
        fields["note"] = f"{{Chapter: {title}. Version {__version__}}}"
    else:
        fields["note"] = f"{{Version {__version__}}}"
    if url:
        fields["url"] = f"{{{url}}}"
    lines = "".join(f"  {key:6} = {text},\n" for key, text in fields.items())
    return f"@software{{{FOLDER},\n{lines}}}"


def metatags(title: str, about: str, site: str, page: str) -> str:
    """What search engines and previews read; a picture only where it has an address."""
    tags = {
        "description": about,
        "og:title": title,
        "og:type": "article",
        "og:site_name": NAME,
        "og:description": about,
    }
    if site:
        tags |= {"og:url": f"{site}/{page}", "og:image": f"{site}/_images/{PREVIEW}"}
    return "".join(
        f'<meta {"property" if key.startswith("og:") else "name"}="{key}" '
        f'content="{html.escape(text, quote=True)}" />\n'
        for key, text in tags.items()
    )


PREVIEW = "preview.png"


def add_to_page(app, pagename, templatename, context, doctree) -> None:
    """Metadata to every page, how to cite and run it to those that readers read."""
    if doctree is None:
        return
    config, title = app.config, re.sub(r"<[^>]+>", "", context.get("title", NAME))
    tags = metatags(title, description(doctree), config.book_address, f"{pagename}.html")
    context["metatags"] = context.get("metatags", "") + tags
    if pagename == config.root_doc:
        context["docstitle"] = ""  # the title of the book once, not twice
    if not pagename.startswith("api/"):
        context["body"] = context.get("body", "") + page_end(app, pagename, title)


def page_end(app, pagename: str, title: str) -> str:
    """The boxes below a page: how to run a chapter, how to cite."""
    chapter = pagename.removeprefix("chapters/") if pagename.startswith("chapters/") else ""
    site = app.config.book_address
    page = f"{site}/{pagename}.html" if site else ""
    entry = bibtex(title if chapter else "", page, str(app.config.copyright))
    boxes = ""
    if chapter:
        boxes += box("Run this chapter", how_to_run(app, pagename, chapter))
    boxes += box(
        "Cite this" + (" chapter" if chapter else " book"),
        "<p>And the paper whose claim you rely on "
        f"(<a href='{app.builder.get_relative_uri(pagename, 'references')}'>references</a>).</p>"
        f"<pre tabindex='0'>{html.escape(entry)}</pre>",
    )
    return f"<div class='page-end'>{boxes}<p>Edition {__version__}.</p></div>"


def box(title: str, inside: str) -> str:
    return f"<details><summary>{title}</summary>{inside}</details>"


def how_to_run(app, pagename: str, chapter: str) -> str:
    """Ways to run a chapter, those that need an address only where there is one."""
    ways = [
        f"<a href='../_sources/{pagename}.ipynb' download>Download the notebook</a>: as it ran "
        "here, with its numbers in the text. Its first cell says what it needs."
    ]
    repository = app.config.book_repository
    if repository.startswith("https://github.com/"):
        place = repository.removeprefix("https://github.com/")
        ways += [
            f"<a href='https://colab.research.google.com/github/{place}/blob/{NOTEBOOKS}/"
            f"{chapter}.ipynb'>Open in Colab</a>: a GPU, and a Google account.",
            f"<a href='https://mybinder.org/v2/gh/{place}/HEAD?labpath=notebooks%2F{chapter}.ipynb'>"
            "Open in Binder</a>: in the browser, at smoke size; the first start takes minutes.",
        ]
    lines = "\n".join([*get_lines(repository), f"make chapter NB={chapter}"])
    ways.append(f"Or on your own machine:<pre tabindex='0'>{html.escape(lines)}</pre>")
    return "<ul>" + "".join(f"<li>{way}</li>" for way in ways) + "</ul>"


def get_lines(repository: str) -> list[str]:
    """Commands that get the sources and set them up."""
    if repository:
        return [f"git clone {repository} {FOLDER}", f"cd {FOLDER}", "make setup"]
    return [f"cd {FOLDER}     # your copy of the book's sources", "make setup"]


class GetTheBook(SphinxDirective):
    """`{get-the-book}`: these commands as a block of code."""

    def run(self) -> list[nodes.Node]:
        text = "\n".join(get_lines(self.env.config.book_repository))
        return [nodes.literal_block(text, text, language="bash")]


NOT_FOUND = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Page not found: {name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><link rel="icon" href="data:,">
<style>body {{ font-family: sans-serif; max-width: 34rem; margin: 15vh auto; padding: 0 1rem;
line-height: 1.6; color: #22282d; background: #fffefb }} a {{ color: #0e5a66 }}
@media (prefers-color-scheme: dark) {{ body {{ color: #dde2e5; background: #14181b }}
a {{ color: #86d0da }} }}
</style></head><body><main><h1>There is no such page</h1>
<p>Chapters may have been renamed since this link was made.</p>
<ul><li><a href="{root}intro.html">The front page</a></li>
<li><a href="{root}ledger.html">All claims</a></li>
<li><a href="{root}search.html">Search</a></li></ul></main>
<script>
// a server shows this page under any address: without one of its own, links start at the folder
// in which the book lies, which is the one above chapters/, api/ or rules/
const here = location.pathname.replace(/(chapters|api|rules)\\/[^]*$|[^/]*$/, "");
if (!"{root}") document.querySelectorAll("a").forEach(a => a.href = here + a.getAttribute("href"));
</script></body></html>
"""


def finish(app, error: Exception | None) -> None:
    """The page for addresses that lead nowhere, a picture for previews, notebooks for readers."""
    if error is not None or app.builder.format != "html":
        return
    site, out = app.config.book_address, Path(app.outdir)
    root = f"{site}/" if site else ""
    (out / "404.html").write_text(NOT_FOUND.format(name=NAME, root=root), encoding="utf-8")
    # no Jekyll: it would leave out all folders whose names start with _
    (out / ".nojekyll").touch()
    for picture in sorted((out / "_images").glob("fig-frames-*.png"))[:1]:
        (out / "_images" / PREVIEW).write_bytes(picture.read_bytes())
    downloads.write(app, out / "_sources" / "chapters")


def setup(app) -> dict:
    app.add_config_value("book_repository", "", "html", (str,))
    app.add_config_value("book_address", "", "html", (str,))
    app.add_directive("get-the-book", GetTheBook)
    app.connect("config-inited", configure)
    app.connect("html-page-context", add_to_page, priority=700)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
