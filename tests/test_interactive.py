"""Figures with sliders: what their script says, and that it says the same each time."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from helpers import figures, interactive, theory
from helpers.interactive import ALPHAS, LAWS, RATIOS, STOPS, Interactive

COUNT = len(LAWS)


@pytest.fixture(scope="module")
def explorer() -> Interactive:
    return interactive.alignment_explorer()


@pytest.fixture(scope="module")
def page(explorer) -> str:
    return explorer._repr_html_()


class Tags(HTMLParser):
    """Attributes of the elements of a text, by name of element."""

    def __init__(self, text: str):
        super().__init__()
        self.found: dict[str, list[dict]] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.setdefault(tag, []).append(dict(attrs))


def test_a_second_run_gives_the_same_bytes(page):
    assert interactive.alignment_explorer()._repr_html_() == page


def test_the_figure_is_small(page):
    assert len(page) < 400_000


def test_it_is_what_plotly_takes(explorer):
    import plotly.graph_objects as go

    # raises ValueError for a property that plotly does not know
    go.Figure(explorer.data, explorer.layout)
    assert explorer.wide.keys() == explorer.narrow.keys()
    for key in explorer.wide:
        assert key == "height" or re.match(r"\w+", key)[0] in explorer.layout


@pytest.mark.parametrize("panel", (0, 1))
def test_curves_are_those_of_the_theory_at_any_stop(explorer, panel):
    random = np.random.default_rng(panel)
    slider, stops = explorer.layout["sliders"][panel], (ALPHAS, STOPS)[panel]
    assert [float(step["label"]) for step in slider["steps"]] == list(stops)
    for stop in random.choice(len(stops), 4, replace=False):
        [change, traces] = slider["steps"][stop]["args"]
        for key, trace, y in zip(LAWS, traces, change["y"], strict=True):
            x = explorer.data[trace]["x"]
            law = theory.gamma_rf if key in ("phi2", "phi4", "relu", "tanh") else theory.gamma_ntk
            point = random.integers(len(x))
            place = (stops[stop], x[point]) if panel == 0 else (x[point], stops[stop])
            assert len(y) == len(x)
            assert y[point] == pytest.approx(law(key, *place), abs=5.1e-5)


def test_sliders_touch_their_own_panel_alone(explorer):
    for panel, axis in enumerate(("x", "x2")):
        own = [i for i, trace in enumerate(explorer.data) if trace["xaxis"] == axis]
        for step in explorer.layout["sliders"][panel]["steps"]:
            change, traces = step["args"]
            assert (step["method"], traces, set(change)) == ("restyle", own, {"y"})
            assert len(change["y"]) == COUNT


def test_curves_are_drawn_where_the_sliders_stand(monkeypatch):
    monkeypatch.setattr(interactive, "table", lambda key: np.add.outer(ALPHAS, RATIOS))
    moved = interactive.alignment_explorer(alpha=0.25, ratio=10.0)
    for panel, label in enumerate(("0.25", "10")):
        slider = moved.layout["sliders"][panel]
        step = slider["steps"][slider["active"]]
        assert step["label"] == label
        drawn = moved.data[panel * COUNT : (panel + 1) * COUNT]
        assert [trace["y"] for trace in drawn] == step["args"][0]["y"]


def test_an_entry_of_the_legend_toggles_a_curve_in_both_panels(explorer):
    for first, second in zip(explorer.data[:COUNT], explorer.data[COUNT:], strict=True):
        assert first["legendgroup"] == second["legendgroup"]
        assert (first["showlegend"], second["showlegend"]) == (True, False)
        assert first["line"] == second["line"]
    assert {trace["line"]["color"] for trace in explorer.data} <= set(figures.COLOURS.values())


def test_there_is_an_image_with_words_and_the_drawing_waits_for_the_script(explorer, page):
    found = Tags(page).found
    [image] = found["img"]
    assert image["alt"] == explorer.alt and "alpha = 0.5" in image["alt"]
    assert base64.b64decode(image["src"].partition(",")[2]).startswith(b"\x89PNG")
    [box, drawing] = found["div"]
    assert box["class"] == interactive.MARKER
    assert drawing["id"] == "alignment-explorer" and "hidden" in drawing and "hidden" not in image


def test_the_script_holds_the_figure_and_cannot_be_closed_by_it():
    tricky = Interactive("it", [{"name": "</script>"}], {}, {}, {}, b"", 'less < "more"')
    text = tricky._repr_html_()
    assert text.count("</script>") == 1
    held = re.search(r"\} = (\{.*\});\n", text)[1]
    assert json.loads(held)["data"] == tricky.data
    assert Tags(text).found["img"][0]["alt"] == 'less < "more"'


def test_no_number_is_missing_from_a_figure():
    broken = Interactive("it", [{"y": [float("nan")]}], {}, {}, {}, b"", "A curve.")
    with pytest.raises(ValueError, match="JSON"):
        broken._repr_html_()


@pytest.mark.parametrize("name", ("", "Two", "two words", '"', "1st"))
def test_a_name_that_is_no_id_is_refused(name):
    with pytest.raises(ValueError, match="letters, digits and hyphens"):
        Interactive(name, [], {}, {}, {}, b"", "A curve.")


def test_a_figure_without_words_is_refused():
    with pytest.raises(ValueError, match="alt is empty"):
        Interactive("it", [], {}, {}, {}, b"", " ")


@pytest.mark.parametrize("start", ({"alpha": 0.33}, {"alpha": 0}, {"ratio": 2}, {"ratio": 1.47}))
def test_a_start_between_the_stops_is_refused(start):
    with pytest.raises(ValueError, match="the slider has"):
        interactive.alignment_explorer(**start)
