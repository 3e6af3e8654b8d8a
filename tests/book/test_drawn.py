"""How figures come into notebooks: small, the same each time, and a second time for phones."""

import base64

import matplotlib.pyplot as plt
import numpy as np
import pytest

from helpers.book import drawn, figures, runner
from tests.book import shown


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        figures.use_style()
        yield
        plt.close("all")


def two_panels(**how):
    fig, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, **how)
    for ax in axes:
        ax.plot([0, 1], [0, 1], label="line")
        ax.set(
            title="a title that is much longer than the forty-four letters of a phone", xlabel="x"
        )
    axes[0].set_ylabel("y")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def test_panels_stack_with_names_and_numbers_of_their_own():
    fig = two_panels()
    made = drawn.stacked(fig)
    made.canvas.draw()
    first, second = made.axes
    assert made.get_size_inches()[0] == drawn.PHONE
    assert first.get_position().y0 > second.get_position().y1
    assert [ax.get_ylabel() for ax in made.axes] == ["y", "y"]
    for ax in made.axes:
        assert any(one.label1.get_visible() for one in ax.yaxis.get_major_ticks())
        assert ax.get_title(loc="left").count("\n") == 1
    # the chapter's own figure stays as it was
    assert fig.get_size_inches().tolist() == [8, 3] and fig.axes[1].get_ylabel() == ""


def test_a_place_of_the_grid_that_is_left_over_takes_no_room():
    fig, axes = plt.subplots(2, 2, figsize=(8, 6))
    axes[0, 0].plot([0, 1])
    for ax in axes.flat[1:]:
        ax.set_axis_off()
    axes[0, 1].text(0.5, 0.5, "words alone are a panel")
    made = drawn.stacked(fig)
    assert len(made.axes) == 2 and len(fig.axes) == 4
    assert made.axes[1].texts and made.axes[1].get_position().y0 < 0.2


def test_words_of_a_phones_drawing_are_read_without_a_glass():
    """At least nine pixels high where a page of 390 pixels leaves 350 for a figure."""
    made = drawn.stacked(two_panels())
    made.canvas.draw()
    sizes = [text.get_fontsize() for text in made.findobj(plt.Text) if text.get_text()]
    assert min(sizes) / 72 * 350 / drawn.PHONE >= 9


def named_bars():
    fig, ax = plt.subplots(figsize=(8, 9))
    names = [f"a way of training on with a long name, {k}" for k in range(20)]
    ax.barh(range(20), np.arange(20), label="one")
    ax.set_yticks(range(20), names)
    ax.set(title="a finding in many words,\nwritten in two lines that are too long for a phone")
    fig.legend(loc="outside lower center")
    return fig


def test_a_legend_takes_as_many_columns_as_a_phone_has_room_for():
    fig, axes = plt.subplots(1, 2, figsize=(9, 3))
    names = [f"a series with a name, {k}" for k in range(5)]
    for k, name in enumerate(names):
        axes[0].errorbar([0, 1], [k, k], [0.1, 0.1], label=name)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, title="t")
    made = drawn.stacked(fig)
    made.canvas.draw()
    (legend,) = made.legends
    assert legend.get_window_extent().width <= made.bbox.width
    assert [text.get_text() for text in legend.get_texts()] == names
    assert legend.get_title().get_text() == "t" and legend._ncols == 2
    assert made.get_tightbbox().width <= drawn.PHONE + 0.2


def test_names_along_an_axis_neither_leave_a_phone_nor_run_into_each_other():
    made = drawn.stacked(named_bars())
    made.canvas.draw()
    (ax,) = made.axes
    boxes = sorted((x.get_window_extent() for x in ax.get_yticklabels()), key=lambda box: box.y0)
    assert len(boxes) == 20
    # a fifth of a line may be shared: letters have room above and below them
    assert all(low.y1 <= high.y0 + 3 for low, high in zip(boxes, boxes[1:], strict=False))
    assert made.get_tightbbox().width <= drawn.PHONE + 0.2
    assert all(len(x) <= 34 for x in ax.get_title(loc="left").split("\n"))


@pytest.mark.parametrize("make", [two_panels, named_bars])
def test_small_letters_grow_to_nine_pixels_on_every_page(make, monkeypatch):
    monkeypatch.delenv("BOOK_NARROW", raising=False)
    fig = make()
    ax = fig.axes[0]
    ax.text(0.5, 0.5, "small", fontsize=5)
    ax.tick_params(labelsize=6)
    ax.set_title("a title", fontsize=7)
    data, _ = drawn.bundle(fig)
    for kind, room in (("image/svg+xml", drawn.DESK), (drawn.NARROW, drawn.HAND)):
        letters, width = shown.least_letters(data[kind])
        assert letters * min(room / width, 4 / 3) >= 8.95, kind
    assert ax.texts[0].get_fontsize() == 5  # the chapter's own figure stays as it was


def test_letters_that_are_large_enough_stay():
    fig, ax = plt.subplots(figsize=(6, 3))
    ax.set_title("large", fontsize=14)
    title = drawn.legible(fig).axes[0].get_title
    assert title() == "" and drawn.legible(fig).axes[0]._left_title.get_fontsize() == 14


def test_lines_keep_formulas_whole():
    found = drawn._folded(r"spurious accuracy, $\alpha = 1 / 2$, over $N$ of them", 19)
    assert found == "spurious accuracy,\n$\\alpha = 1 / 2$, over $N$\nof them"


def test_runs_on_a_small_scale_are_spared_the_second_drawing(monkeypatch):
    fig = two_panels()
    monkeypatch.delenv("BOOK_NARROW", raising=False)  # tests run on a small scale themselves
    assert drawn.NARROW in drawn.bundle(fig)[0]
    monkeypatch.setenv("BOOK_NARROW", runner.kernel_environment("smoke")["BOOK_NARROW"])
    assert drawn.NARROW not in drawn.bundle(fig)[0]
    assert "BOOK_NARROW" not in runner.kernel_environment("laptop")


@pytest.mark.parametrize("size", [(4, 3), (4.4, 9)])
def test_what_fits_a_phone_is_drawn_once(size):
    fig, ax = plt.subplots(figsize=size)
    ax.plot([0, 1])
    assert drawn.NARROW not in drawn.bundle(fig)[0]


def test_a_figure_whose_panels_span_cells_is_left_alone():
    fig = plt.figure(figsize=(8, 3))
    grid = fig.add_gridspec(2, 2)
    fig.add_subplot(grid[:, 0])
    fig.add_subplot(grid[0, 1])
    assert drawn.stacked(fig) is None


def test_a_sheet_of_pictures_has_no_paper_and_grey_words():
    fig, axes = plt.subplots(1, 2, figsize=(8, 3))
    for ax in axes:
        ax.imshow(np.eye(3))
        ax.set_axis_off()
        ax.set_title("one")
    data, about = drawn.bundle(fig)
    assert about == {drawn.PICTURES: True} and drawn.NARROW not in data
    sheet = drawn.on_any_paper(fig)
    assert sheet.patch.get_alpha() == 0 and axes[0].title.get_color() != drawn.GREY
    assert {ax.title.get_color() for ax in sheet.axes} == {drawn.GREY}


def test_plots_keep_their_paper():
    data, about = drawn.bundle(two_panels())
    assert about == {} and "image/svg+xml" in data and "image/png" not in data


def test_what_is_large_as_svg_is_a_png_for_fine_screens():
    rng = np.random.default_rng(0)
    fig, ax = plt.subplots(figsize=(6, 4))
    ax.plot(rng.normal(size=20_000), rng.normal(size=20_000), ".")
    data, _ = drawn.bundle(fig)
    assert "image/svg+xml" not in data and drawn.NARROW not in data
    assert base64.b64encode(data["image/png"])[:8] == b"iVBORw0K"


def test_a_second_run_gives_the_same_bytes():
    assert drawn.bundle(two_panels())[0] == drawn.bundle(two_panels())[0] | {
        "text/plain": "<Figure size 880x330 with 2 Axes>"
    }
