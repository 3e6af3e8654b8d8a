"""What a cell shows of a figure: SVG where that is small, and a second drawing for phones.

On a page 390 pixels wide, panels side by side cannot be read. So each figure is drawn twice: as the
chapter made it, and with its panels below each other. Sheets of pictures keep their arrangement.
Letters are made large enough for where a drawing is shown.
"""

import gzip
import io
import os
import pickle
import re
import warnings
from typing import Any

import matplotlib.pyplot as plt
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.legend import Legend
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
# pixels: of letters, at least; that pages 1280 and 390 pixels wide leave for a figure
LETTERS, DESK, HAND = 9, 672, 350
# inches around a saved figure, and those that a line of words needs
_PAD, _LINE = 0.1, 0.2
# letters in a line of a phone's drawing: the most that fit are taken
_LINES = (44, 34, 26)


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
    wide = legible(figure)
    drawn = svg(wide)
    if len(gzip.compress(drawn.encode())) > LARGEST:
        found["image/png"] = png(wide)
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


def legible(figure: Figure, room: int = DESK) -> Figure:
    """A copy whose smallest letters are nine pixels high where a page has `room` pixels for it.

    >>> fig = Figure(figsize=(12, 3)); _ = fig.subplots().set_title("small", fontsize=5)
    >>> 9 < legible(fig).axes[0].title.get_fontsize() < 12
    True
    """
    figure = _copied(figure) or figure
    for _ in range(3):  # larger letters may make a drawing wider
        width = _drawn_width(figure)
        least = LETTERS * max(72 * width / room, 3 / 4)  # drawings are not shown enlarged
        words = [text for text in figure.findobj(Text) if text.get_text().strip()]
        small = [text for text in words if text.get_fontsize() < least - 1e-6]
        if not small:
            break
        for text in small:
            text.set_fontsize(least)
        for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
            if {*axis.get_ticklabels()} & {*small}:
                axis.set_tick_params(labelsize=least)  # of numbers that are still to come, too
    return figure


def _drawn_width(figure: Figure) -> float:
    """Inches from the left to the right of all that is drawn, as it is saved."""
    figure.draw_without_rendering()
    return float(figure.get_tightbbox().width) + 2 * _PAD


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
    shown = [ax for ax in made.axes if ax.get_visible() and not _left_over(ax)]
    for ax in {*made.axes} - {*shown}:
        ax.remove()
    panel = height / grid.nrows * (1 if grid.ncols > 1 else 0.9)
    made.draw_without_rendering()  # numbers and names of axes are there only then
    rows = GridSpec(len(shown), 1, figure=made)
    for place, ax in enumerate(shown):
        _stand_alone(ax, shown)
        ax.set_subplotspec(rows[place])
    for legend in made.legends:
        _lay_out(legend, made)
    for letters in _LINES:
        _fold(made, shown, letters)
        heights = [max(min(panel, 3.4), _names_height(ax)) for ax in shown]
        rows.set_height_ratios(heights)
        made.set_size_inches(PHONE, sum(heights))
        if _drawn_width(made) <= PHONE + 2 * _PAD:
            break
    return legible(made, HAND)


def _left_over(ax: Axes) -> bool:
    """Whether a place of the grid has no panel: switched off, and nothing drawn in it."""
    return not (ax.axison or ax.has_data() or ax.texts or ax.get_legend())


def _stand_alone(ax: Axes, others: list[Axes]) -> None:
    """Numbers and names of both axes, which panels in a row share."""
    ax.tick_params(labelleft=ax.yaxis.get_visible(), labelbottom=ax.xaxis.get_visible())
    if not ax.get_ylabel() and ax.get_shared_y_axes().joined(ax, others[0]):
        ax.set_ylabel(others[0].get_ylabel())
    if not ax.get_xlabel() and ax.get_shared_x_axes().joined(ax, others[-1]):
        ax.set_xlabel(others[-1].get_xlabel())


def _named(ax: Axes) -> list[Text]:
    """Names along the y axis, where it has names instead of numbers."""
    labels = ax.get_yticklabels() if ax.yaxis.get_visible() else []
    named = any(re.search(r"[^\W\d_]{2}", label.get_text()) for label in labels)
    return labels if named and not any("mathdefault" in x.get_text() for x in labels) else []


def _names_height(ax: Axes) -> float:
    """Inches of a panel that names along its y axis need not to run into each other."""
    names = [label.get_text() for label in _named(ax)]
    return _LINE * (5 + len(names) * max((1 + name.count("\n") for name in names), default=0))


def _lay_out(legend: Legend, figure: Figure) -> None:
    """Put a legend below all panels, in as many columns as fit: made anew, for they are fixed."""
    known = {
        name: handle
        for ax in figure.axes
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    names = [text.get_text() for text in legend.get_texts()]
    handles = [
        known.get(name, handle) for name, handle in zip(names, legend.legend_handles, strict=True)
    ]
    title, size = legend.get_title().get_text(), legend.get_texts()[0].get_fontsize()
    for columns in range(legend._ncols, 0, -1):
        legend.remove()
        legend = figure.legend(
            handles, [_folded(name, _LINES[-1]) for name in names], fontsize=size,
            loc="outside lower center", ncols=columns, title=title or None,
        )  # fmt: skip
        if legend.get_window_extent().width <= PHONE * figure.dpi:
            break


def _fold(figure: Figure, shown: list[Axes], letters: int) -> None:
    """Titles and names of axes in lines of at most so many letters."""
    for ax in shown:
        for side in ("left", "center"):
            if title := ax.get_title(loc=side):
                ax.set_title(_folded(title, letters), loc=side)
        ax.set_xlabel(_folded(ax.get_xlabel(), letters))
        ax.set_ylabel(_folded(ax.get_ylabel(), _LINES[1]))
        if names := [_folded(label.get_text(), max(letters // 2, 18)) for label in _named(ax)]:
            ax.set_yticks(ax.get_yticks(), names)
    if figure._suptitle is not None:
        figure.suptitle(_folded(figure._suptitle.get_text(), letters))


def _folded(words: str, letters: int) -> str:
    r"""Words in lines; formulas stay whole, and count as what is read of them.

    >>> _folded(r"the memory, $\alpha = 1/2$, falls", 18)
    'the memory,\n$\\alpha = 1/2$, falls'
    """
    lines = [""]
    for word in re.findall(r"(?:\$[^$]*\$|[^\s$])+(?: = \S+)?", words):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and len(re.sub(r"\\[a-zA-Z]+", "x", re.sub(r"[${}^_]", "", longer))) > letters:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


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
        figure.savefig(buffer, bbox_inches="tight", pad_inches=_PAD, **how)
    return buffer.getvalue()
