"""What a reader sees of an executed copy: its words, and the panels of its figures."""

import html
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import nbformat

NARROW = "application/x-narrow+svg"
NARROW_PNG = "application/x-narrow+png"
GLUE = "application/papermill.record/text/plain"
HIDDEN = {"remove-cell", "remove-output"}
SVG = "{http://www.w3.org/2000/svg}"
# of a panel's parts; bands stand around lines of their colour
DRAWN = {"line2d", "PathCollection", "LineCollection", "patch"}
GUIDE = 1.25  # black lines up to this width are guides: a diagonal, a level, a law


def texts(nb: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    """(place, words) of captions, outputs and numbers in prose, without formulas and code."""
    for number, cell in enumerate(nb.cells):
        if caption := cell.metadata.get("mystnb", {}).get("figure", {}).get("caption"):
            yield f"caption of cell {number}", plain(caption)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if GLUE in data:
                yield f"number in cell {number}", plain("".join(data[GLUE]))
            elif not HIDDEN & set(cell.metadata.get("tags", [])):
                yield from ((f"{kind} of cell {number}", words) for kind, words in said(output))


def said(output: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    """(kind, words) of one output; a listing of code has none."""
    data = output.get("data", {})
    drawn = ["".join(data[kind]) for kind in ("image/svg+xml", NARROW) if kind in data]
    for drawing in drawn:
        # matplotlib draws letters as paths, and leaves each text as a comment
        for text in re.findall(r"(?s)<!--(.*?)-->", drawing):
            yield "figure", plain(html.unescape(text))
    if "text/html" in data:
        text = re.sub(r"(?s)<(style|script|code|pre)\b.*?</\1>", "", "".join(data["text/html"]))
        yield "table", plain(html.unescape(re.sub(r"<[^>]+>", " \n ", text)))
    elif "text/plain" in data and not drawn and "image/png" not in data:
        yield "text", plain("".join(data["text/plain"]))
    elif output.output_type == "stream" and not re.search(r"(?m)^(def|class) \w+\(", output.text):
        yield "text", plain(output.text)


def plain(text: str) -> str:
    """Words without formulas and without what is marked as code."""
    text = re.sub(r"(?s)\\\(.*?\\\)|`[^`]*`", "", text)
    return re.sub(r"(?s)(?<![\\\w])\$[^$]+\$", "", text)


def drawings(nb: nbformat.NotebookNode, kind: str = "image/svg+xml") -> Iterator[tuple[str, str]]:
    """(name of the figure, drawing) of every SVG of a kind."""
    for number, cell in enumerate(nb.cells):
        for output in cell.get("outputs", []):
            if kind in output.get("data", {}):
                name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
                yield name or f"cell {number}", "".join(output.data[kind])


def series(drawing: str) -> list[int]:
    """How many things each panel of a matplotlib SVG shows: entries of its legend, or colours.

    Whichever is more. Lines of one colour, full, dashed, or many and thin, are one thing, told
    apart by the caption; grey is for what stands behind, unless a legend names it.
    """
    found = []
    for panel in ElementTree.fromstring(drawing).iter(f"{SVG}g"):
        if re.fullmatch(r"axes_\d+", panel.get("id", "")):
            parts = [(kind_of(part), part) for part in panel]
            entries = sum(entries_of(part) for kind, part in parts if kind == "legend")
            colours = set().union(*(colours_of(part) for kind, part in parts if kind in DRAWN))
            found.append(max(entries, len(colours)))
    return found


def kind_of(part: ElementTree.Element) -> str:
    """What matplotlib calls a group, without its number."""
    return re.sub(r"_\d+$", "", part.get("id", ""))


def entries_of(legend: ElementTree.Element) -> int:
    """Names in a legend that stand beside a sign: its title does not."""
    kinds = [kind_of(part) for part in legend]
    signs = len(kinds) - kinds.count("text") - kinds.count("patch")
    boxes = max(kinds.count("patch") - 1, 0)  # one is the frame
    return min(kinds.count("text"), signs + boxes) if signs + boxes else kinds.count("text")


def colours_of(part: ElementTree.Element) -> set[str]:
    """Colours in which a line, its dots or a bar are drawn; none for guides and for frames."""
    found = set()
    if not any("clip-path" in one.attrib for one in part.iter()):
        return found
    for one in part.iter():
        style = dict(re.findall(r"([\w-]+):\s*([^;]+)", one.get("style", "")))
        colour = style.get("fill", "none")
        colour = style.get("stroke", "none") if colour == "none" else colour
        if one.tag not in (f"{SVG}path", f"{SVG}use") or not colour.startswith("#"):
            continue
        thin = one.tag == f"{SVG}path" and float(style.get("stroke-width", 1)) <= GUIDE
        if not is_grey(colour) and not (colour == "#000000" and thin):
            found.add(colour)
    return found


def is_grey(colour: str) -> bool:
    """Whether a colour is between black and white, or white."""
    parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return max(parts) - min(parts) < 16 and min(parts) > 0x20


def least_letters(drawing: str) -> tuple[float, float]:
    """(size of the smallest label, width of the drawing), both in units of a matplotlib SVG.

    Exponents and indices are part of a label whose size counts.
    """
    root = ElementTree.fromstring(drawing)
    sizes = [
        100 * float(scale)
        for one in root.iter(f"{SVG}g")
        for scale in re.findall(r"scale\(([\d.]+) -", one.get("transform", ""))
    ]
    return min(sizes, default=float("inf")), float(root.get("viewBox").split()[2])
