"""Axes on which no two labels run into each other."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.book import figures


def overlap(labels):
    boxes = [label.get_window_extent() for label in labels]
    return any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


@pytest.mark.parametrize("counts", [[0, 1, 3, 5, 10, 20, 100, 2_000, 5_000], [3, 10], [0], [7]])
def test_ticks_at_counts_begin_with_the_least_and_do_not_touch(counts):
    fig, ax = plt.subplots(figsize=(3.4, 2))  # a narrow panel of a chapter
    ax.plot(counts, counts)
    figures.count_ticks(ax, counts)
    fig.canvas.draw()
    shown = [label for label in ax.get_xticklabels() if label.get_text()]
    assert shown[0].get_text() == str(counts[0]) and not overlap(shown)
    assert {label.get_text().replace(" ", "") for label in shown} <= {str(n) for n in counts}
    plt.close(fig)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_names_at_the_ends_of_lines_keep_their_order_and_distance(values):
    fig, ax = plt.subplots()
    figures.name_ends(ax, {str(k): (1.0, y) for k, y in enumerate(values)}, gap=0.1)
    placed = {int(text.get_text()): text.xy[1] for text in ax.texts}
    heights = [placed[k] for k in np.argsort(values, kind="stable")]
    assert all(b - a >= 0.1 - 1e-12 for a, b in zip(heights, heights[1:], strict=False))
    assert all(placed[k] >= y for k, y in enumerate(values)) and min(placed.values()) == min(values)
    plt.close(fig)


def luminance(colour: str) -> float:
    """Relative luminance, as the Web Content Accessibility Guidelines define it."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (red, green, blue)
    ]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


@pytest.mark.parametrize("colour", sorted({*figures.COLOURS.values(), figures.SKY, figures.YELLOW}))
def test_lines_stand_out_three_to_one_from_light_and_from_dark_paper(colour):
    for paper in ("#fffefb", "#14181b"):
        if colour == figures.BLACK and paper == "#14181b":
            continue  # takes the colour of the text there
        low, high = sorted((luminance(colour), luminance(paper)))
        assert (high + 0.05) / (low + 0.05) >= 3, paper
