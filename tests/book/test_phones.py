"""The second drawing of a figure: what a phone can show of it."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from helpers.book import phones
from helpers.book.letters import HAND, too_small
from tests.book.drawings import named_bars, sheet, two_panels

pytestmark = pytest.mark.usefixtures("style")


def test_panels_stack_with_names_and_numbers_of_their_own():
    fig = two_panels()
    made = phones.stacked(fig)
    made.canvas.draw()
    first, second = made.axes
    assert made.get_size_inches()[0] == phones.PHONE
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
    made = phones.stacked(fig)
    assert len(made.axes) == 2 and len(fig.axes) == 4
    assert made.axes[1].texts and made.axes[1].get_position().y0 < 0.2


def test_words_of_a_phones_drawing_are_read_without_a_glass():
    """At least nine pixels high where a page of 390 pixels leaves 350 for a figure."""
    made = phones.stacked(two_panels())
    made.canvas.draw()
    sizes = [text.get_fontsize() for text in made.findobj(plt.Text) if text.get_text()]
    assert min(sizes) / 72 * 350 / phones.PHONE >= 9


def test_a_legend_takes_as_many_columns_as_a_phone_has_room_for():
    fig, axes = plt.subplots(1, 2, figsize=(9, 3))
    names = [f"a series with a name, {k}" for k in range(5)]
    for k, name in enumerate(names):
        axes[0].errorbar([0, 1], [k, k], [0.1, 0.1], label=name)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, title="t")
    made = phones.stacked(fig)
    made.canvas.draw()
    (legend,) = made.legends
    assert legend.get_window_extent().width <= made.bbox.width
    assert [text.get_text() for text in legend.get_texts()] == names
    assert legend.get_title().get_text() == "t" and legend._ncols == 2
    assert made.get_tightbbox().width <= phones.PHONE + 0.2


def test_names_along_an_axis_neither_leave_a_phone_nor_run_into_each_other():
    made = phones.stacked(named_bars())
    made.canvas.draw()
    (ax,) = made.axes
    boxes = sorted((x.get_window_extent() for x in ax.get_yticklabels()), key=lambda box: box.y0)
    assert len(boxes) == 20
    # a fifth of a line may be shared: letters have room above and below them
    assert all(low.y1 <= high.y0 + 3 for low, high in zip(boxes, boxes[1:], strict=False))
    assert made.get_tightbbox().width <= phones.PHONE + 0.2
    assert all(len(x) <= 34 for x in ax.get_title(loc="left").split("\n"))


@pytest.mark.parametrize("size", [(4, 3), (4.4, 9)])
def test_what_fits_a_phone_is_drawn_once(size):
    fig, ax = plt.subplots(figsize=size)
    ax.plot([0, 1])
    assert phones.narrow(fig) is None


def places(fig):
    """Where panels stand, from the top left, in inches."""
    fig.canvas.draw()
    width, height = fig.get_size_inches()
    boxes = [ax.get_position() for ax in fig.axes]
    return [(box.x0 * width, (1 - box.y1) * height) for box in boxes]


def test_pictures_among_plots_stand_side_by_side_and_plots_below_them():
    fig = plt.figure(figsize=(10, 4))
    grid = fig.add_gridspec(2, 4)
    for k in range(4):
        ax = fig.add_subplot(grid[k // 2, k % 2])
        ax.imshow(np.eye(8))
        ax.set_title(f"{k}", loc="center")
        ax.set_axis_off()
    for k in (2, 3):
        fig.add_subplot(grid[:, k]).plot([0, 1])
    made = phones.stacked(fig)
    where = places(made)
    assert np.ptp([y for _, y in where[:4]]) < 0.01 and [x for x, _ in where[:4]] == sorted(
        x for x, _ in where[:4]
    )
    assert where[3][1] + 0.5 < where[4][1] < where[5][1] and len(made.axes) == 6
    # titles with no room for four beside each other
    for ax in fig.axes[:4]:
        ax.set_title("three words long", loc="center")
    where = places(phones.stacked(fig))
    assert where[0][1] == pytest.approx(where[1][1]) and where[1][1] + 1 < where[2][1]


def test_a_panel_over_several_places_stays_as_high():
    fig = plt.figure(figsize=(9, 4))
    grid = fig.add_gridspec(2, 2)
    for place in (grid[:, 0], grid[0, 1], grid[1, 1]):
        fig.add_subplot(place).plot([0, 1])
    made = phones.stacked(fig)
    made.canvas.draw()
    heights = [ax.get_tightbbox().height for ax in made.axes]
    assert heights[0] > 1.5 * heights[1] == pytest.approx(1.5 * heights[2], rel=0.1)


@pytest.mark.parametrize("shared", [True, False])
def test_bars_of_colours_stay_beside_their_panels(shared):
    fig, axes = plt.subplots(1, 2, figsize=(9, 4))
    drawn = [ax.imshow(np.eye(10), aspect="auto") for ax in axes]
    if shared:
        fig.colorbar(drawn[0], ax=axes, label="of both")
    else:
        for ax, image in zip(axes, drawn, strict=True):
            fig.colorbar(image, ax=ax)
    made = phones.stacked(fig)
    made.canvas.draw()
    panels, bars = made.axes[:2], made.axes[2:]
    assert len(bars) == (1 if shared else 2)
    for panel, bar in zip(panels, bars * 2 if shared else bars, strict=True):
        assert bar.get_position().x0 > panel.get_position().x1
    beside = [box.get_position() for box in (*panels, *bars)]
    if shared:  # as high as both
        assert beside[2].height > 1.5 * beside[0].height
    else:
        assert beside[2].y0 == pytest.approx(beside[0].y0, abs=0.02)
    assert made.get_tightbbox().width <= phones.PHONE + 0.2


def test_a_sheet_keeps_its_columns_where_its_words_have_room():
    fig = sheet(2, 6, (9, 3), "ab {}")
    made = phones.narrow(fig)
    assert made.get_size_inches().tolist() == [9, 3] and not too_small(made, HAND)[0]
    assert [len({round(x, 3) for x, _ in places(one)}) for one in (made, fig)] == [6, 6]


def test_a_sheet_whose_words_would_meet_comes_in_blocks_of_columns():
    made = phones.narrow(sheet(2, 6, (9, 3), "a longer title {}"))
    assert not too_small(made, HAND)[0] and made.get_size_inches()[0] == phones.PHONE
    x, y = np.round(np.array(places(made)), 2).T
    assert len(set(x)) == 3 and len(set(y)) == 4
    # the second row of the first block stands above the first row of the second block
    assert max(y[6:9]) < min(y[3:6]) < max(y[9:])


def test_a_place_of_a_sheet_that_is_left_over_is_no_panel():
    fig = sheet(1, 6, (9, 2), "a longer title {}")
    fig.axes[5].images[0].remove()
    fig.axes[5].set_title("")
    assert phones.is_sheet(fig) and len(phones.narrow(fig).axes) == 5


def test_a_sheet_on_several_grids_keeps_them():
    fig = plt.figure(figsize=(9, 4))
    for part in fig.subfigures(2):
        part.suptitle("some words over a row", x=0, ha="left")
        for ax in part.subplots(1, 6):
            ax.imshow(np.eye(4))
            ax.set_axis_off()
    made = phones.narrow(fig)
    assert not too_small(made, HAND)[0] and len(made.axes) == 12
    # and is not for phones where no arrangement is known in which its words have room
    for ax in fig.axes:
        ax.set_title("far too long a title", loc="center")
    assert phones.narrow(fig) is None


def test_a_bar_explains_a_sheet_and_is_no_plot_of_its_own():
    fig = sheet(2, 3, (8, 4))
    fig.colorbar(fig.axes[0].images[0], ax=fig.axes[:3])
    assert phones.is_sheet(fig) and len(phones.narrow(fig).axes) == 7


@pytest.mark.parametrize("size", [(4, 3), (9, 3)])
def test_a_sheet_without_small_words_is_drawn_once(size):
    assert phones.narrow(sheet(1, 2, size, "" if size[0] > 4 else "{}")) is None


def test_an_invisible_panel_takes_no_room():
    fig, axes = plt.subplots(2, 2, figsize=(9, 4))
    for ax in axes.flat:
        ax.plot([0, 1])
    axes[1, 1].set_visible(False)
    made = phones.stacked(fig)
    assert len(made.axes) == 3 and min(ax.get_position().y0 for ax in made.axes) < 0.1


def test_three_pictures_fill_a_row():
    fig, axes = plt.subplots(1, 4, figsize=(9, 3))
    for ax in axes[:3]:
        ax.imshow(np.eye(8))
        ax.set_axis_off()
    axes[3].plot([0, 1])
    where = places(phones.stacked(fig))
    assert where[2][0] - where[1][0] == pytest.approx(where[1][0] - where[0][0], rel=0.05)
    assert where[2][0] > 0.6 * phones.PHONE


def test_ten_plots_are_not_stacked():
    fig, axes = plt.subplots(2, 5, figsize=(9, 4))
    for ax in axes.flat:
        ax.plot([0, 1])
    assert phones.narrow(fig) is None
    axes[1, 4].remove()
    assert len(phones.narrow(fig).axes) == 9
