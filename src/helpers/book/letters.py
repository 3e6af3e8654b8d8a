"""Letters of figures: large enough for where a drawing is shown, in lines that fit, not meeting."""

import itertools
import pickle
import re
from collections.abc import Iterable

import matplotlib.pyplot as plt
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

# pixels: of letters, at least; that pages 1280 and 390 pixels wide leave for a figure
LETTERS, DESK, HAND = 9, 672, 350
# inches around a saved figure
PAD = 0.1


def copied(figure: Figure) -> Figure | None:
    """A figure of its own, or None for one that holds what cannot be copied.

    >>> copied(fig := Figure()) is fig
    False
    """
    try:
        made = pickle.loads(pickle.dumps(figure))
    except (AttributeError, TypeError, pickle.PicklingError):
        return None
    plt.close(made)
    return made


def legible(figure: Figure, room: int = DESK) -> Figure:
    """A copy whose smallest letters are nine pixels high where a page has `room` pixels for it.

    >>> fig = Figure(figsize=(12, 3)); _ = fig.subplots().set_title("small", fontsize=5)
    >>> 9 < legible(fig).axes[0].title.get_fontsize() < 12
    True
    """
    return enlarged(copied(figure) or figure, room)


def enlarged(figure: Figure, room: int) -> Figure:
    """The figure itself, changed as :func:`legible` changes its copy.

    >>> enlarged(fig := Figure(), DESK) is fig
    True
    """
    for _ in range(3):  # larger letters may make a drawing wider
        small, least = too_small(figure, room)
        if not small:
            break
        for text in small:
            text.set_fontsize(least)
        for axis in _axes(figure, shown=True):
            if {*axis.get_ticklabels()} & {*small}:
                axis.set_tick_params(labelsize=least)  # of numbers that are still to come, too
    return figure


def too_small(figure: Figure, room: int) -> tuple[list[Text], float]:
    """Words below nine pixels where a page has `room` for a figure, and the points for nine.

    >>> fig = Figure(figsize=(12, 3)); _ = fig.subplots().set_title("small", fontsize=5)
    >>> "small" in {text.get_text() for text in too_small(fig, DESK)[0]}
    True
    """
    width = drawn_width(figure)
    least = LETTERS * max(72 * width / room, 3 / 4)  # drawings are not shown enlarged
    small = [text for text in figure.findobj(Text) if text.get_fontsize() < least - 1e-6]
    unseen = {text for axis in _axes(figure, shown=False) for text in axis.findobj(Text)}
    return [text for text in small if text.get_text().strip() and text not in unseen], least


def _axes(figure: Figure, shown: bool) -> list[Axis]:
    """The x and y axes that are shown, or those that are switched off."""
    return [axis for ax in figure.axes if ax.axison == shown for axis in (ax.xaxis, ax.yaxis)]


def drawn_width(figure: Figure) -> float:
    """Inches from the left to the right of all that is drawn, as it is saved.

    >>> round(drawn_width(Figure(figsize=(3, 2))), 1)
    3.2
    """
    figure.draw_without_rendering()
    return float(figure.get_tightbbox().width) + 2 * PAD


def meet(words: Iterable[Text]) -> bool:
    """Whether any two words of a figure that has been drawn lie on each other, or nearly so.

    >>> fig = Figure(); meet([fig.text(0.5, 0.5, "here"), fig.text(0.5, 0.5, "and here")])
    True
    """
    places = [
        text.get_window_extent().padded(text.get_fontsize() / 4, 0)
        for text in words
        if text.get_text().strip()
    ]
    return any(one.overlaps(other) for one, other in itertools.combinations(places, 2))


def folded(words: str, letters: int) -> str:
    r"""Words in lines; formulas stay whole, and count as what is read of them.

    >>> folded(r"the memory, $\alpha = 1/2$, falls", 18)
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
