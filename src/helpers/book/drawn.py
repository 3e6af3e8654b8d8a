"""What a cell shows of a figure: SVG where that is small, and a second drawing for phones.

Letters are made large enough for where a drawing is shown.
"""

import base64
import gzip
import io
import os
import warnings
from typing import Any

import matplotlib.pyplot as plt
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from helpers.book.letters import PAD, copied, legible
from helpers.book.phones import narrow

# the drawing for phones in an output, beside the one that notebooks show
NARROW = {"image/svg+xml": "application/x-narrow+svg", "image/png": "application/x-narrow+png"}
# in an output's metadata: pictures and maps, whose colours dark pages leave as they are
PICTURES = "pictures"
# stands out from light and from dark paper
GREY = "#777777"
# no part of red, green and blue above this: not seen on dark paper
DARK = 0.25
# compressed size of an SVG from which a PNG is better; dots per inch of that PNG
LARGEST, DOTS = 45_000, 160


def show_in_notebooks() -> None:
    """Make Jupyter show figures as `bundle` has them; nothing outside of Jupyter.

    >>> show_in_notebooks()
    """
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return
    from matplotlib_inline.config import InlineBackend

    plt.get_backend()  # chosen now: it would put its own formats back later
    InlineBackend.instance(parent=shell).figure_formats = set()
    shell.display_formatter.mimebundle_formatter.for_type(Figure, bundle)


def bundle(figure: Figure, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The drawings of a figure by type, and what is to be known about them.

    >>> fig = Figure(figsize=(4, 3)); _ = fig.subplots()
    >>> sorted(bundle(fig)[0])
    ['image/svg+xml', 'text/plain']
    """
    # pages are made from published copies: a run on a small scale is spared the second drawing
    small = narrow(figure) if os.environ.get("BOOK_NARROW") != "0" else None
    wide, about = legible(figure), {}
    if keeps_colours(figure):
        wide, about = on_any_paper(wide), {PICTURES: True}
        small = on_any_paper(small) if small else None
    found: dict[str, Any] = {"text/plain": repr(figure)} | _drawing(wide)
    if small is not None:
        found |= {NARROW[kind]: data for kind, data in _drawing(small).items()}
    return found, about


def _drawing(figure: Figure) -> dict[str, str]:
    """A figure as SVG, or in base 64 as PNG, whichever suits it, by its type."""
    drawn = svg(figure)
    if len(gzip.compress(drawn.encode())) <= LARGEST:
        return {"image/svg+xml": drawn}
    return {"image/png": base64.b64encode(png(figure)).decode()}


def svg(figure: Figure) -> str:
    """A figure as SVG, the same each time.

    >>> fig = Figure(); svg(fig) == svg(fig)
    True
    """
    with plt.rc_context({"svg.hashsalt": "book"}):
        return _saved(figure, format="svg", metadata={"Date": None, "Creator": None}).decode()


def png(figure: Figure) -> bytes:
    """A figure as PNG of 256 colours, a third of the bytes of one with all; the same each time.

    >>> png(Figure())[1:4]
    b'PNG'
    """
    drawn = io.BytesIO(_saved(figure, format="png", dpi=DOTS))
    small = io.BytesIO()
    with Image.open(drawn, formats=["PNG"]) as image:
        few = image.quantize(256, method=Image.Quantize.FASTOCTREE)
        few.save(small, format="PNG", optimize=True, dpi=(DOTS, DOTS))
    return small.getvalue()


def keeps_colours(figure: Figure) -> bool:
    """Whether pictures or maps of a figure can be shown on dark paper as they are.

    What is drawn beside them must not be nearly black then.

    >>> keeps_colours(Figure())
    False
    """
    painted = [ax for ax in figure.axes if _is_painted(ax)]
    beside = [ax for ax in figure.axes if ax not in painted]
    colours = [
        *(line.get_color() for ax in beside for line in ax.lines),
        *(patch.get_facecolor() for ax in beside for patch in ax.patches),
        *(row for ax in beside for one in ax.collections
          for row in (*one.get_facecolor(), *one.get_edgecolor())),
    ]  # fmt: skip
    return bool(painted) and all(max(to_rgba(colour)[:3]) > DARK for colour in colours)


def on_any_paper(figure: Figure) -> Figure:
    """A copy without a background, its words and axes in a grey that any paper can carry.

    Words on maps keep the colour that they have there.

    >>> on_any_paper(Figure()).patch.get_alpha()
    0
    """
    figure = copied(figure) or figure
    figure.patch.set_alpha(0)
    inside = {text for ax in figure.axes if _is_painted(ax) and ax.axison for text in ax.texts}
    for text in figure.findobj(Text):
        if text not in inside:
            text.set_color(GREY)
    for ax in figure.axes:
        if not _is_painted(ax):  # a place of a map without a colour stays white
            ax.patch.set_alpha(0)
        ax.tick_params(which="both", colors=GREY)
        for spine in ax.spines.values():
            spine.set_edgecolor(GREY)
    return figure


def _is_painted(ax: Axes) -> bool:
    """Whether axes are filled with a picture or a map, or with the colours of a bar."""
    return bool(ax.images) or any(isinstance(one, QuadMesh) for one in ax.collections)


def _saved(figure: Figure, **how: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # a phone's panel may be too small for what the chapter fits into a wide one
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(buffer, bbox_inches="tight", pad_inches=PAD, **how)
    return buffer.getvalue()
