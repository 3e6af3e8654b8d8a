"""How figures come into notebooks: small, the same each time, and a second time for phones."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from PIL import Image

from helpers.book import drawn, figures, letters, phones, runner
from tests.book import shown
from tests.book.drawings import named_bars, sheet, two_panels

NARROW = drawn.NARROW["image/svg+xml"]


pytestmark = pytest.mark.usefixtures("style")


@pytest.mark.parametrize("make", [two_panels, named_bars])
def test_small_letters_grow_to_nine_pixels_on_every_page(make, monkeypatch):
    monkeypatch.delenv("BOOK_NARROW", raising=False)
    fig = make()
    ax = fig.axes[0]
    ax.text(0.5, 0.5, "small", fontsize=5)
    ax.tick_params(labelsize=6)
    ax.set_title("a title", fontsize=7)
    data, _ = drawn.bundle(fig)
    for kind, room in (("image/svg+xml", letters.DESK), (NARROW, letters.HAND)):
        size, width = shown.least_letters(data[kind])
        assert size * min(room / width, 4 / 3) >= 8.95, kind
    assert ax.texts[0].get_fontsize() == 5  # the chapter's own figure stays as it was


def test_runs_on_a_small_scale_are_spared_the_second_drawing(monkeypatch):
    fig = two_panels()
    monkeypatch.delenv("BOOK_NARROW", raising=False)  # tests run on a small scale themselves
    assert NARROW in drawn.bundle(fig)[0]
    monkeypatch.setenv("BOOK_NARROW", runner.kernel_environment("smoke")["BOOK_NARROW"])
    assert NARROW not in drawn.bundle(fig)[0]
    assert "BOOK_NARROW" not in runner.kernel_environment("laptop")


def test_a_sheet_of_pictures_has_no_paper_and_grey_words(monkeypatch):
    monkeypatch.delenv("BOOK_NARROW", raising=False)
    fig = sheet(1, 2, (8, 3))
    fig.colorbar(fig.axes[0].images[0], ax=fig.axes)
    data, about = drawn.bundle(fig)
    assert about == {drawn.PICTURES: True} and NARROW in data
    made = drawn.on_any_paper(fig)
    assert made.patch.get_alpha() == 0 and fig.axes[0].title.get_color() != drawn.GREY
    assert {text.get_color() for text in made.findobj(plt.Text)} == {drawn.GREY}
    made.canvas.draw()
    assert {line.get_markeredgecolor() for line in made.axes[2].yaxis.get_ticklines()} == {
        drawn.GREY
    }


def test_maps_keep_their_colours_on_dark_paper_and_axes_turn_grey(monkeypatch):
    monkeypatch.delenv("BOOK_NARROW", raising=False)
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    left.pcolormesh(np.eye(3))
    left.plot([0, 3], [0, 3], color="black")
    left.text(1, 1, "inside", color="white")
    right.plot([0, 1], color=figures.BLUE, label="curve")
    right.minorticks_on()
    fig.legend(loc="outside lower center")
    data, about = drawn.bundle(fig)
    assert about == {drawn.PICTURES: True} and NARROW in data
    for made in (drawn.on_any_paper(fig), drawn.on_any_paper(phones.narrow(fig))):
        colours = {t.get_text(): t.get_color() for t in made.findobj(plt.Text) if t.get_text()}
        assert colours.pop("inside") == "white" and set(colours.values()) == {drawn.GREY}
        grey = to_rgba(drawn.GREY)
        assert all(s.get_edgecolor() == grey for ax in made.axes for s in ax.spines.values())
        assert [ax.patch.get_alpha() for ax in made.axes] == [None, 0]
        made.canvas.draw()
        ticks = [line for line in made.axes[1].yaxis.get_minorticklines() if line.get_visible()]
        assert {line.get_markeredgecolor() for line in ticks} == {drawn.GREY}


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: ax.plot([1, 0], color="k"),
        lambda ax: ax.scatter([1], [0], color="#101010"),
        lambda ax: ax.bar([1], [2], color="0.1"),
        lambda ax: ax.vlines([1], 0, 1, color="black"),
    ],
)
def test_what_is_black_beside_a_map_would_not_be_seen_on_dark_paper(draw):
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    left.imshow(np.eye(3))
    right.plot([0, 1], color=figures.BLUE)
    assert drawn.keeps_colours(fig) and not drawn.keeps_colours(two_panels())
    draw(right)
    assert not drawn.keeps_colours(fig) and drawn.bundle(fig)[1] == {}


def test_plots_keep_their_paper():
    data, about = drawn.bundle(two_panels())
    assert about == {} and "image/svg+xml" in data and "image/png" not in data


def test_what_is_large_as_svg_is_a_png_for_fine_screens_and_for_phones(monkeypatch):
    monkeypatch.delenv("BOOK_NARROW", raising=False)
    rng = np.random.default_rng(0)
    fig, ax = plt.subplots(figsize=(6, 4))
    ax.plot(rng.normal(size=20_000), rng.normal(size=20_000), ".")
    data, _ = drawn.bundle(fig)
    assert sorted(data) == [drawn.NARROW["image/png"], "image/png", "text/plain"]
    for kind, inches in (("image/png", 6), (drawn.NARROW["image/png"], phones.PHONE)):
        with Image.open(io.BytesIO(base64.b64decode(data[kind]))) as image:
            assert image.format == "PNG" and abs(image.width / drawn.DOTS - inches) < 0.4


def test_a_second_run_gives_the_same_bytes():
    assert drawn.bundle(two_panels())[0] == drawn.bundle(two_panels())[0] | {
        "text/plain": "<Figure size 880x330 with 2 Axes>"
    }
