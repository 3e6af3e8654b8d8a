"""What executed copies show: names as the book's notation has them, and panels that can be read."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from helpers.book import drawn, figures, letters
from tests.book import shown

ROOT = Path(__file__).resolve().parents[2]
COPIES = sorted((ROOT / "book" / "chapters").glob("*.ipynb"))
# Identifiers, and names of activations, letters, data sets and networks as they stand in code.
# `sigma-damp` and `mnist5k` are the names by which a loss and a data set are known.
RAW = re.compile(
    r"\b[A-Za-z]\w*_\w+|\bphi\d\b|\bh\d+(?:\+h\d+)+\b|\b(?:relu|alpha|rho|kappa|lambda|"
    r"sigma(?!-damp)|gamma|ntk|rf|auc|mnist|cifar10|mlp|cnn|resnet\d*|True|False|NaN|nan)\b"
)
MOST = 5
# one ordered quantity in the colours of a bar, which is read as an axis
BARS = {"fig-product": "training samples"}
# pixels that a page leaves for a figure, and what is short of nine by rounding
ROOM, NINE = {"image/svg+xml": letters.DESK, shown.NARROW: letters.HAND}, 8.95


def copy_with(data, **metadata) -> nbformat.NotebookNode:
    cell = new_code_cell("", outputs=[new_output("display_data", data=data)], metadata=metadata)
    return new_notebook(cells=[cell])


@pytest.mark.parametrize("copy", COPIES, ids=lambda path: path.stem)
def test_readers_see_symbols_and_words_not_the_names_of_code(copy):
    found = {
        place: sorted(set(RAW.findall(text)))
        for place, text in shown.texts(nbformat.read(copy, 4))
        if RAW.search(text)
    }
    assert found == {}


@pytest.mark.parametrize(
    "data",
    [
        {"text/html": "<table><tr><th>phi2</th><td>0.1</td></tr></table>"},
        {"text/html": "<th>train_accuracy</th>"},
        {"text/html": "<li>✓ holds: NTK, h0+h3, k = 100</li>"},
        {"text/plain": "relu    0.5"},
        {"image/svg+xml": "<svg><!-- cifar10 --></svg>"},
        {shown.GLUE: "'phi4, zero'"},
    ],
)
def test_a_name_of_code_is_found_wherever_it_is_shown(data):
    assert any(RAW.search(text) for _, text in shown.texts(copy_with(data)))


@pytest.mark.parametrize(
    "data",
    [
        {"text/html": r"<td>\(m_s\)</td><td>h₀+h₃</td><td>ReLU, φ₂, α = 0.5</td>"},
        {"text/html": "<th><code>worst_group</code></th>"},
        {"image/svg+xml": r"<svg><!-- $\phi_2 = h_1 + h_2$ --></svg>"},
        {"text/plain": "mnist5k: sigma-damp, SD"},
    ],
)
def test_formulas_code_and_names_of_their_own_are_left_alone(data):
    assert not any(RAW.search(text) for _, text in shown.texts(copy_with(data)))


@pytest.mark.parametrize("copy", COPIES, ids=lambda path: path.stem)
def test_no_words_of_a_table_are_cut(copy):
    tables = [words for place, words in shown.texts(nbformat.read(copy, 4)) if "table" in place]
    assert not [table for table in tables if re.search(r"\w\.\.\. *\n", table)]


def test_what_no_page_shows_may_have_any_name():
    nb = copy_with({"text/plain": "train_accuracy"}, tags=["remove-cell"])
    assert not any(RAW.search(text) for _, text in shown.texts(nb))


# -- figures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", COPIES, ids=lambda path: path.stem)
def test_no_panel_shows_more_than_five_things(copy):
    crowded = {
        name: counts
        for name, drawing in shown.drawings(nbformat.read(copy, 4))
        if max(counts := shown.series(drawing), default=0) > MOST and name not in BARS
    }
    assert crowded == {}


@pytest.fixture
def panel():
    with plt.rc_context():
        figures.use_style()
        fig, ax = plt.subplots(figsize=(5, 4))
        yield ax
        plt.close(fig)


def counted(ax) -> list[int]:
    return shown.series(drawn.svg(ax.figure))


def test_lines_dots_bands_and_laws_of_one_colour_are_one_thing(panel):
    for height, colour in enumerate((figures.RED, figures.BLUE)):
        for more in range(3):
            panel.plot([0, 1], [height, height + more], color=colour)
        panel.plot([0, 1], [height, height], "s--", color=colour)
        panel.fill_between([0, 1], 0, [height, height], color=colour, alpha=0.2)
        panel.errorbar([0, 1], [height, 2], [0.1, 0.1], color=colour, capsize=3)
    assert counted(panel) == [2]


def test_guides_are_not_counted_and_titles_of_legends_neither(panel):
    panel.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    panel.axhline(0.5, color="#777777", linestyle=":")
    for slope in range(3):
        panel.plot([0, 1], [0, slope], color=f"C{slope}", label=str(slope))
    panel.legend(title="slope")
    assert counted(panel) == [3]


def test_entries_of_a_legend_count_when_colours_are_fewer(panel):
    for height, style in enumerate(("-", "--", ":", "-.")):
        panel.plot([0, 1], [height, height], style, color="#777777", label=style)
    panel.legend()
    assert counted(panel) == [4]


@pytest.mark.parametrize(
    "draw", [lambda ax, *x, **how: ax.plot(*x, "o", **how), plt.Axes.bar, plt.Axes.scatter]
)
def test_six_colours_are_too_many_however_they_are_drawn(panel, draw):
    for height in range(6):
        draw(panel, [height], [height + 1], color=f"C{height}")
    assert counted(panel) == [6] and counted(panel)[0] > MOST


@pytest.mark.parametrize("kind", ROOM)
@pytest.mark.parametrize("copy", COPIES, ids=lambda path: path.stem)
def test_letters_of_figures_are_nine_pixels_high(copy, kind):
    small = {}
    for name, drawing in shown.drawings(nbformat.read(copy, 4), kind):
        letters, width = shown.least_letters(drawing)
        pixels = letters * min(ROOM[kind] / width, 4 / 3)
        if pixels < NINE:
            small[name] = round(pixels, 1)
    assert small == {}


def test_phones_show_every_figure_in_letters_to_read():
    """What has no drawing for phones is read there as it is; a PNG stands for a large SVG."""
    small = {}
    for copy in COPIES:
        for cell in nbformat.read(copy, 4).cells:
            for data in (output.get("data", {}) for output in cell.get("outputs", [])):
                kinds = {"image/svg+xml", "image/png"} & set(data)
                if not kinds or {shown.NARROW, shown.NARROW_PNG} & set(data):
                    continue
                letters, width = 0.0, 1.0
                if "image/svg+xml" in data:
                    letters, width = shown.least_letters(data["image/svg+xml"])
                pixels = letters * min(ROOM[shown.NARROW] / width, 4 / 3)
                if pixels < NINE:
                    small[cell.metadata["mystnb"]["figure"]["name"]] = round(pixels, 1)
    assert small == {}


def test_the_smallest_label_is_measured(panel):
    panel.set(title="a title", xlabel="$x_i$")
    panel.text(0.5, 0.5, "small", fontsize=6)
    letters, width = shown.least_letters(drawn.svg(panel.figure))
    assert np.isclose(letters, 6) and 300 < width < 400
