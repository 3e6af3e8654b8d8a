"""A figure drawn a second time, for a page 390 pixels wide, where a row of panels is too small.

Plots come below each other, pictures among them in rows. A sheet of pictures keeps its arrangement
where letters that can be read have room in it, and comes in fewer columns where they have not.
"""

import math
import re
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.legend import Legend
from matplotlib.text import Text

from helpers.book.letters import (
    HAND,
    PAD,
    copied,
    drawn_width,
    enlarged,
    folded,
    meet,
    too_small,
)

# inches: of a drawing, and those that a line of words needs
PHONE, _LINE = 4.4, 0.2
# letters in a line of a phone's drawing: the most that fit are taken
_LINES = (44, 34, 26)
# more plots than this below each other are a page, not a figure
_MOST = 9
# pictures side by side, among plots: the most whose titles have room; parts into which rows divide
_TOGETHER, _PARTS = (4, 2, 1), 12


def narrow(figure: Figure) -> Figure | None:
    """A copy of a figure for phones; None where the figure itself can be read there.

    None as well for panels of several grids, for more than nine plots, and for a sheet on which no
    arrangement has room for letters.

    >>> fig = Figure(figsize=(8, 3)); _ = fig.subplots(1, 2)
    >>> narrow(fig).get_size_inches().tolist()
    [4.4, 6.0]
    """
    return rearranged(figure) if is_sheet(figure) else stacked(figure)


def is_sheet(figure: Figure) -> bool:
    """Whether a figure shows pictures alone, and bars that explain their colours.

    >>> is_sheet(Figure())
    False
    """
    panels = _panels(figure)
    return bool(panels) and all(_is_picture(ax) for ax in panels)


def rearranged(figure: Figure) -> Figure | None:
    """A copy of a sheet of pictures whose words a phone can show.

    The columns of a grid come in blocks below each other, as few as are needed.

    >>> fig = Figure(figsize=(9, 1), layout="constrained")
    >>> for ax in fig.subplots(1, 8):
    ...     _ = ax.imshow([[0]]), ax.set_title("one of eight"), ax.set_axis_off()
    >>> {ax.get_subplotspec().rowspan.start for ax in rearranged(fig).axes}
    {0, 1}
    """
    if not too_small(figure, HAND)[0] or (kept := copied(figure)) is None:
        return None
    if not _titles_meet(kept := enlarged(kept, HAND)):
        return kept
    grid = _grid(figure)
    if grid is None or any(_is_bar(ax) for ax in figure.axes):
        return None
    for blocks in range(2, grid.ncols + 1):
        if not _titles_meet(made := _in_blocks(figure, math.ceil(grid.ncols / blocks))):
            return made
    return None


def _in_blocks(figure: Figure, across: int) -> Figure:
    """A copy of a sheet on one grid, so many columns in each block."""
    made = copied(figure)
    rows, columns = _grid(made).get_geometry()
    blocks = math.ceil(columns / across)
    where = {ax: ax.get_subplotspec() for ax in _panels(made)}
    heights = [0.0] * rows
    for ax, spec in where.items():
        row = spec.rowspan.start
        heights[row] = max(heights[row], _picture_height([ax], PHONE / across))
    made.set_size_inches(PHONE, blocks * sum(heights))
    places = GridSpec(rows * blocks, across, figure=made, height_ratios=heights * blocks)
    for ax in {*made.axes} - {*where}:
        ax.remove()
    for ax, spec in where.items():
        block, column = divmod(spec.colspan.start, across)
        ax.set_subplotspec(places[block * rows + spec.rowspan.start, column])
    return enlarged(made, HAND)


def stacked(figure: Figure) -> Figure | None:
    """A copy of a figure with its panels below each other, as wide as a phone; None where it fits.

    >>> fig = Figure(figsize=(8, 3)); _ = fig.subplots(1, 2)
    >>> stacked(fig).get_size_inches().tolist()
    [4.4, 6.0]
    """
    width, height = figure.get_size_inches()
    grid = _grid(figure)
    if width <= PHONE or grid is None or len(_rows(_panels(figure), 1)) > _MOST:
        return None
    step = height / grid.nrows * (1 if grid.ncols > 1 else 0.9)
    for together in _TOGETHER:
        made = _in_rows(figure, together, step)
        if made is None or not _titles_meet(made):
            break
    return made


def _in_rows(figure: Figure, together: int, step: float) -> Figure | None:
    """A copy with plots and rows of pictures below each other; places were `step` inches high.

    None for a figure that cannot be copied.
    """
    if (made := copied(figure)) is None:
        return None
    shown = _panels(made)
    for ax in [ax for ax in made.axes if ax not in shown and not _is_bar(ax)]:
        ax.remove()
    made.draw_without_rendering()  # numbers and names of axes are there only then
    plots = [ax for ax in shown if not _is_picture(ax)]
    for ax in plots:
        _stand_alone(ax, plots)
    rows = _rows(shown, together)
    high = [step * len(row[0].get_subplotspec().rowspan) for row in rows]
    places = GridSpec(len(rows), _PARTS, figure=made)
    for place, row in enumerate(rows):
        wide = _PARTS // len(row)
        for at, ax in enumerate(row):
            ax.set_subplotspec(places[place, at * wide : (at + 1) * wide])
    for legend in made.legends:
        _lay_out(legend, made)
    for letters in _LINES:
        _fold(made, plots, letters)
        heights = [_height(row, panel) for row, panel in zip(rows, high, strict=True)]
        places.set_height_ratios(heights)
        made.set_size_inches(PHONE, sum(heights))
        if drawn_width(made) <= PHONE + 2 * PAD:
            break
    return enlarged(made, HAND)


def _is_bar(ax: Axes) -> bool:
    """Whether axes belong to a bar of colours; it stays beside the panels that it explains."""
    return hasattr(ax, "_colorbar")


def _is_picture(ax: Axes) -> bool:
    return not ax.axison and bool(ax.images)


def _left_over(ax: Axes) -> bool:
    """Whether a place of the grid has no panel: switched off, and nothing drawn in it."""
    return not (ax.axison or ax.has_data() or ax.texts or ax.get_legend())


def _panels(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if not _is_bar(ax) and ax.get_visible() and not _left_over(ax)]


def _grid(figure: Figure) -> GridSpec | None:
    """The one grid in which all panels lie; None where there is none, or several."""
    specs = [ax.get_subplotspec() for ax in figure.axes if not _is_bar(ax)]
    if not specs or None in specs:
        return None
    grids = {id(spec.get_gridspec()): spec.get_gridspec() for spec in specs}
    return next(iter(grids.values())) if len(grids) == 1 else None


def _rows(panels: Sequence[Axes], together: int) -> list[list[Axes]]:
    """Panels below each other, as they come; of pictures, so many side by side."""
    rows: list[list[Axes]] = []
    for ax in panels:
        last = rows[-1] if rows else []
        if last and _is_picture(ax) and _is_picture(last[0]) and len(last) < together:
            last.append(ax)
        else:
            rows.append([ax])
    return rows


def _height(row: Sequence[Axes], panel: float) -> float:
    """Inches of a row: of its pictures, or of a plot, where panels were `panel` inches high."""
    if _is_picture(row[0]):
        return _picture_height(row, PHONE / len(row))
    return max(min(panel, 3.4), _names_height(row[0]))


def _picture_height(row: Sequence[Axes], wide: float) -> float:
    """Inches of pictures side by side with their titles, each so many inches `wide`."""
    sizes = [ax.images[0].get_array().shape[:2] for ax in row]
    lines = max(
        1.5 * (text.get_text().count("\n") + 1) * bool(text.get_text())
        for ax in row
        for text in _titles(ax)
    )
    return wide * max(high / across for high, across in sizes) + _LINE * lines + PAD / 2


def _titles(ax: Axes) -> list[Text]:
    return [ax.title, ax._left_title, ax._right_title]


def _titles_meet(figure: Figure) -> bool:
    """Whether titles of pictures lie on each other, or on those of the whole figure."""
    pictures = [ax for ax in _panels(figure) if _is_picture(ax)]
    if not pictures and len(figure.texts) < 2:
        return False
    figure.draw_without_rendering()
    return meet([*(text for ax in pictures for text in _titles(ax)), *figure.texts])


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
            handles, [folded(name, _LINES[-1]) for name in names], fontsize=size,
            loc="outside lower center", ncols=columns, title=title or None,
        )  # fmt: skip
        if legend.get_window_extent().width <= PHONE * figure.dpi:
            break


def _fold(figure: Figure, shown: list[Axes], letters: int) -> None:
    """Titles and names of axes in lines of at most so many letters."""
    for ax in shown:
        for side in ("left", "center"):
            if title := ax.get_title(loc=side):
                ax.set_title(folded(title, letters), loc=side)
        ax.set_xlabel(folded(ax.get_xlabel(), letters))
        ax.set_ylabel(folded(ax.get_ylabel(), _LINES[1]))
        if names := [folded(label.get_text(), max(letters // 2, 18)) for label in _named(ax)]:
            ax.set_yticks(ax.get_yticks(), names)
    if figure._suptitle is not None:
        figure.suptitle(folded(figure._suptitle.get_text(), letters))
