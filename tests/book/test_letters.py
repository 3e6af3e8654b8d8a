"""Letters that can be read, in lines that fit."""

import matplotlib.pyplot as plt
import pytest

from helpers.book import letters

pytestmark = pytest.mark.usefixtures("style")


def test_letters_that_are_large_enough_stay():
    fig, ax = plt.subplots(figsize=(6, 3))
    ax.set_title("large", fontsize=14)
    title = letters.legible(fig).axes[0]._left_title
    assert title.get_text() == "large" and title.get_fontsize() == 14


def test_lines_keep_formulas_whole():
    found = letters.folded(r"spurious accuracy, $\alpha = 1 / 2$, over $N$ of them", 19)
    assert found == "spurious accuracy,\n$\\alpha = 1 / 2$, over $N$\nof them"


def test_words_of_axes_that_are_switched_off_are_not_seen():
    fig, ax = plt.subplots(figsize=(12, 3))
    ax.set_title("large", fontsize=30)
    assert {text.get_text() for text in letters.too_small(fig, letters.HAND)[0]} > {"0.0"}
    ax.set_axis_off()
    assert letters.too_small(fig, letters.HAND)[0] == []


@pytest.mark.parametrize(("apart", "met"), [(0.0, True), (0.9, True), (1.02, True), (1.3, False)])
def test_words_that_lie_on_each_other_or_nearly_so_meet(apart, met):
    fig = plt.figure(figsize=(6, 2))
    word = fig.text(0.1, 0.5, "a word")
    width = word.get_window_extent().width / fig.bbox.width
    other = fig.text(0.1 + apart * width, 0.5, "a word")
    assert letters.meet([word, other]) == met
    assert not letters.meet([word, fig.text(0.1, 0.5, " ")])
