"""Figures with sliders: what is drawn, what their script knows, what is refused."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from helpers.book import figures
from helpers.book.sliders import Curve, Interactive, Panel

PANEL = Panel(
    "A <title>", "S/v<sub>s</sub>", np.array([1.0, 10, 100]), (1, 100), True, "λ", (0.0, 0.5, 2.0),
    ("lam", 0.5), lambda stop: [[stop / 2, 0, 1], [0.5, 0.5, stop / 4]],
)  # fmt: skip
CURVES = (Curve("first", figures.BLACK), Curve("sec & ond", figures.BLUE, "dash"))
MADE = Interactive("it", 'less < "more"', (PANEL, replace(PANEL, title="</script>")), CURVES, "y")


def drawings(figure=MADE):
    found = re.findall(r"<svg viewBox.*?</svg>", figure._repr_html_(), re.DOTALL)
    return [ElementTree.fromstring(one) for one in found]


def moves(figure=MADE):
    text = re.search(r"^  (\[\{.*\}\])\.forEach", figure._repr_html_(), re.MULTILINE)[1]
    return json.loads(text.replace(r"<\/", "</"))


def test_the_script_knows_every_curve_at_every_stop():
    [first, second] = moves()
    assert first == second and first["stops"] == ["0", "0.5", "2"]
    x, y = MADE.place(PANEL, PANEL.x, np.array(PANEL.draw(2.0)))
    assert first["x"] == x.tolist() and first["y"][2] == (10 * y).round().astype(int).tolist()


def test_curves_stand_where_the_slider_starts():
    for drawing in drawings():
        lines = [one.get("d") for one in drawing.iter("path") if one.get("data-curve")]
        for line, y in zip(lines, PANEL.draw(0.5), strict=True):
            across, down = MADE.place(PANEL, PANEL.x, np.array(y))
            places = [f"{a} {b}" for a, b in zip(across, down, strict=True)]
            assert line == f"M{'L'.join(places)}"


def test_a_logarithmic_axis_has_equal_steps_for_equal_ratios():
    x, y = MADE.place(PANEL, PANEL.x, [0, 0.5, 1])
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.11) and y[0] > y[1] > y[2]
    assert [words for _, words in PANEL.ticks()] == ["1", "10", "100"]
    wide = replace(PANEL, limits=(1e-4, 1e4))
    assert [words for _, words in wide.ticks()] == ["10⁻⁴", "0.01", "1", "100", "10⁴"]
    linear = replace(PANEL, limits=(0.5, 1), log=False)
    assert [words for _, words in linear.ticks()] == ["0.5", "0.6", "0.7", "0.8", "0.9", "1"]


def test_words_are_escaped_and_nothing_ends_the_script_early():
    page = MADE._repr_html_()
    assert page.count("</script>") == 1 and page.count("&lt;/script&gt;") == 1
    assert 'aria-label="less &lt; &quot;more&quot;"' in page and "A &lt;title&gt;" in page
    assert "sec &amp; ond" in page
    assert drawings()[0].find("text/tspan").text == "s"


def test_black_takes_the_colour_of_the_text():
    lines = [one.get("stroke") for one in drawings()[0].iter("path") if one.get("data-curve")]
    assert lines == ["currentColor", figures.BLUE]


def test_levels_and_diagonals_are_dotted():
    more = replace(MADE, level=0.5, diagonals=(1,))
    dotted = [sum(one.get("stroke-dasharray") == "2 3" for one in drawing.iter("path"))
              for drawing in drawings(more)]  # fmt: skip
    assert dotted == [1, 2]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda stop: [[stop, 0, float("nan")], [0, 0, 0]], "no number"),
        (lambda stop: [[0, 0, 0]], "1 curves"),
        (lambda stop: [[0, 0], [0, 0]], "of another length"),
    ],
)
def test_curves_that_cannot_be_drawn_are_refused(draw, words):
    with pytest.raises(ValueError, match=words):
        replace(MADE, panels=(replace(PANEL, draw=draw),))._repr_html_()


@pytest.mark.parametrize("name", ("", "Two", "two words", '"', "1st"))
def test_a_name_that_is_no_id_is_refused(name):
    with pytest.raises(ValueError, match="letters, digits and hyphens"):
        replace(MADE, name=name)


def test_a_figure_without_words_is_refused():
    with pytest.raises(ValueError, match="alt is empty"):
        replace(MADE, alt=" ")


def test_a_line_of_no_kind_and_a_start_between_stops_are_refused():
    with pytest.raises(ValueError, match="solid, dash, dot"):
        Curve("a", figures.BLUE, "wavy")
    with pytest.raises(ValueError, match=r"lam is 1\.0: the slider has 0\.0, 0\.5, 2\.0"):
        replace(PANEL, start=("lam", 1.0))
