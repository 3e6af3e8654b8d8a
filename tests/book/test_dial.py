"""The map with a slider: what is drawn, what moves, and what is refused."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from helpers.book.dial import MARKER, Dial, Point

MADE = Dial(
    "the-map", 'A map with "one" & <two> points.', "ridge", ("none", "some", "much"), 1,
    ("across", "up"), ((0.1, 10), (0.01, 100)),
    (Point("one", "#123456", 0.5, (0.1, 1, 10), (0.2, 3)),
     Point("</two>", "#654321", 20, (1,) * 3)),
    (("zone", 1, 1),),
)  # fmt: skip


def svg(dial=MADE):
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", dial._repr_html_(), re.DOTALL)[0])


def test_places_are_logarithmic():
    left, bottom = MADE.place(0.1, 0.01)
    right, top = MADE.place(10, 100)
    assert MADE.place(1, 1) == pytest.approx(((left + right) / 2, (top + bottom) / 2))
    assert left < right and top < bottom


def test_it_stands_where_the_slider_starts_and_knows_all_stops():
    page = MADE._repr_html_()
    groups = [one for one in svg().iter("g")]
    where = "{},{}".format(*MADE.place(1, 0.5))
    assert groups[0].get("transform") == f"translate({where})"
    moves = json.loads(re.search(r"= (\{.*\});", page)[1].replace(r"<\/", "</"))
    assert moves["points"][0] == ["{},{}".format(*MADE.place(x, 0.5)) for x in (0.1, 1, 10)]
    assert moves["stops"] == ["none", "some", "much"]
    assert 'type="range" min="0" max="2" step="1" value="1"' in page
    assert page.startswith(f'<div class="{MARKER}" id="the-map">')


def test_texts_are_escaped_and_the_drawing_is_named():
    assert svg().get("aria-label") == MADE.alt == repr(MADE)
    assert "</two>" in [one.text for one in svg().iter("text")]
    # nothing that was given ends the script early
    assert MADE._repr_html_().count("</script>") == 1


def test_measurements_are_rings_that_stay():
    rings = [one for one in svg().iter("circle") if one.get("r") == "5"]
    assert [float(one.get("cx")) for one in rings] == [MADE.place(x, 1)[0] for x in (0.2, 3)]


def boxes(dial):
    """(left, right, top, bottom) of names and of courses, in pixels."""
    names = {}
    for one in svg(dial).iter("text"):
        if one.text in {point.name for point in dial.points}:
            x, y = float(one.get("x")), float(one.get("y"))
            names[one.text] = (x, x + 0.5 * 15 * len(one.text), y - 11, y + 3)
    courses = {}
    for point in dial.points:
        (left, y), (right, _) = (dial.place(end(point.xs), point.y) for end in (min, max))
        courses[point.name] = (left - 6, right + 6, y - 6, y + 6)
    return names, courses


def apart(one, other):
    return one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]


def test_names_lie_neither_on_each_other_nor_on_courses_nor_outside():
    """Wherever the slider stands: names stay. Courses side by side, close above each other."""
    long = (0.2, 0.5, 4)
    points = [
        Point(f"name {k}", "#123456", y, long if k % 2 else (0.2, 0.3, 0.4))
        for k, y in enumerate((60, 40, 8, 7, 6.5, 0.5, 0.45, 0.05))
    ]
    names, courses = boxes(replace(MADE, points=tuple(points), zones=()))
    assert len(names) == 8
    for name, box in names.items():
        assert box[0] > MADE.place(0.1, 1)[0] and box[1] < MADE.place(10, 1)[0], name
        assert all(apart(box, other) for key, other in names.items() if key != name), name
        assert all(apart(box, other) for other in courses.values()), name


def test_names_do_not_move_with_their_points():
    assert all(one.find("text") is None for one in svg().iter("g"))
    other = boxes(replace(MADE, start=2))[0]
    assert boxes(MADE)[0] == other and len(other) == 2


def test_a_name_keeps_clear_of_the_diagonal_and_of_the_words_of_a_zone():
    at = Point("a name", "#123456", 1.0, (0.3, 0.3, 0.95))  # the diagonal lies to its right
    box = boxes(replace(MADE, points=(at,), zones=()))[0]["a name"]
    assert box[1] < MADE.place(0.3, 1)[0]
    left = ("words", 0.2, 1.0)
    moved = boxes(replace(MADE, points=(at,), zones=(left,)))[0]["a name"]
    assert moved[2] != box[2]


def test_a_name_without_room_is_refused_by_name():
    long = Point("far too long a name for a map " * 3, "#123456", 1.0, (0.1, 1, 10))
    with pytest.raises(ValueError, match=r"'far too long .* has no room on the map"):
        replace(MADE, points=(long,))._repr_html_()


def test_nothing_has_a_colour_of_one_page_only():
    """Words and lines take the colour of the text: no white plate on dark pages."""
    drawn = {one.get(key) for one in svg().iter() for key in ("fill", "stroke")} - {None, "none"}
    assert drawn == {"currentColor", *(point.colour for point in MADE.points)}


def test_a_second_run_gives_the_same_bytes():
    assert MADE._repr_html_() == replace(MADE)._repr_html_()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "Two Words"}, "name is 'Two Words'"),
        ({"alt": " "}, "alt is empty"),
        ({"start": 3}, "start is 3: there are 3 stops"),
        ({"points": (Point("few", "#000", 1, (1, 1)),)}, "few has 2 places: there are 3 stops"),
        ({"points": (Point("far", "#000", 1, (1, 1, 11)),)}, "far lies outside the limits"),
        ({"points": (Point("low", "#000", 0.001, (1, 1, 1)),)}, "low lies outside the limits"),
        ({"points": (Point("off", "#000", 1, (1, 1, 1), (20,)),)}, "off lies outside"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        replace(MADE, **changed)
