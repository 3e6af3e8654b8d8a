"""What a cell shows of a figure: SVG where that is small, and a second drawing for phones.

On a page 390 pixels wide, panels side by side cannot be read. So each figure is drawn twice: as the
chapter made it, and with its panels below each other. Sheets of pictures keep their arrangement.
"""

import gzip
import io
import os
import pickle
import textwrap
import warnings
from typing import Any

import matplotlib.pyplot as plt
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text
from PIL import Image

# the drawing for phones in an output, beside the one that notebooks show
NARROW = "application/x-narrow+svg"
# in an output's metadata: pictures, whose colours dark pages leave as they are
PICTURES = "pictures"
# stands out from light and from dark paper
GREY = "#777777"
# width in inches; compressed size of an SVG from which a PNG is better; dots per inch of that PNG
PHONE, LARGEST, DOTS = 4.4, 45_000, 160


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
    about: dict[str, Any] = {}
    if is_sheet(figure):
        figure, about = on_any_paper(figure), {PICTURES: True}
    found: dict[str, Any] = {"text/plain": repr(figure)}
    drawn = svg(figure)
    if len(gzip.compress(drawn.encode())) > LARGEST:
        found["image/png"] = png(figure)
    else:
        found["image/svg+xml"] = drawn
    # pages are made from published copies: a run on a small scale is spared the second drawing
    narrow = stacked(figure) if os.environ.get("BOOK_NARROW") != "0" else None
    if narrow is not None:
        small = svg(narrow)
        if len(gzip.compress(small.encode())) <= LARGEST:
            found[NARROW] = small
    return found, about


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


def is_sheet(figure: Figure) -> bool:
    """Whether a figure shows pictures alone: no panel has axes, each has an image.

    >>> is_sheet(Figure())
    False
    """
    return bool(figure.axes) and all(not ax.axison and ax.images for ax in figure.axes)


def on_any_paper(figure: Figure) -> Figure:
    """A copy without a background, its words in a grey that light and dark paper can carry.

    >>> on_any_paper(Figure()).patch.get_alpha()
    0
    """
    figure = _copied(figure) or figure
    figure.patch.set_alpha(0)
    for text in figure.findobj(Text):
        text.set_color(GREY)
    return figure


def stacked(figure: Figure) -> Figure | None:
    """A copy of a figure with its panels below each other, as wide as a phone; None where it fits.

    None as well for sheets of pictures, and for figures whose panels are no simple grid.

    >>> fig = Figure(figsize=(8, 3)); _ = fig.subplots(1, 2)
    >>> stacked(fig).get_size_inches().tolist()
    [4.4, 6.0]
    """
    width, height = figure.get_size_inches()
    specs = [ax.get_subplotspec() for ax in figure.axes]
    if width <= PHONE or not specs or is_sheet(figure) or None in specs:
        return None
    grids = {id(spec.get_gridspec()): spec.get_gridspec() for spec in specs}
    grid = next(iter(grids.values()))
    crowded = len(specs) > 9 or any(spec.num1 != spec.num2 for spec in specs)
    if len(grids) > 1 or crowded or (made := _copied(figure)) is None:
        return None
    shown = [ax for ax in made.axes if ax.get_visible()]
    panel = height / grid.nrows * (1 if grid.ncols > 1 else 0.9)
    rows = GridSpec(len(shown), 1, figure=made)
    for place, ax in enumerate(shown):
        _stand_alone(ax, shown)
        ax.set_subplotspec(rows[place])
    made.set_size_inches(PHONE, min(panel, 3.4) * len(shown))
    for legend in made.legends:
        legend.set_ncols(min(legend._ncols, 2))
    if made._suptitle is not None:
        made.suptitle(_folded(made._suptitle.get_text()))
    return made


def _stand_alone(ax: Axes, others: list[Axes]) -> None:
    """Numbers and names of both axes, which panels in a row share, and a title that fits."""
    ax.tick_params(labelleft=ax.yaxis.get_visible(), labelbottom=ax.xaxis.get_visible())
    if not ax.get_ylabel() and ax.get_shared_y_axes().joined(ax, others[0]):
        ax.set_ylabel(others[0].get_ylabel())
    if not ax.get_xlabel() and ax.get_shared_x_axes().joined(ax, others[-1]):
        ax.set_xlabel(others[-1].get_xlabel())
    for side in ("left", "center"):
        if title := ax.get_title(loc=side):
            ax.set_title(_folded(title), loc=side)


def _folded(words: str) -> str:
    """Words in lines that a phone has room for; formulas stay whole."""
    if "$" in words or "\n" in words:
        return words
    return textwrap.fill(words, 44)


def _copied(figure: Figure) -> Figure | None:
    """A figure of its own, or None for one that holds what cannot be copied."""
    try:
        made = pickle.loads(pickle.dumps(figure))
    except (AttributeError, TypeError, pickle.PicklingError):
        return None
    plt.close(made)
    return made


def _saved(figure: Figure, **how: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # a phone's panel may be too small for what the chapter fits into a wide one
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(buffer, bbox_inches="tight", **how)
    return buffer.getvalue()
