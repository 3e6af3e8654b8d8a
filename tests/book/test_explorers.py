"""The explorers: their curves are those of the theory, and the same each time."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from helpers import theory
from helpers.book import explorers, figures, sliders
from helpers.book.explorers import (
    ALPHAS,
    AMPLITUDES,
    AXES_CURVES,
    AXES_FIXED,
    BALANCES,
    CORE_NOISES,
    LAWS,
    RARE_CURVES,
    RARE_FIXED,
    RATIOS,
    RIDGES,
    SHARES,
    STOPS,
    STRENGTHS,
)
from helpers.book.sliders import Interactive

COUNT = len(LAWS)


@pytest.fixture(scope="module")
def explorer() -> Interactive:
    return explorers.alignment_explorer()


@pytest.fixture(scope="module")
def page(explorer) -> str:
    return explorer._repr_html_()


@pytest.fixture(scope="module")
def rare() -> Interactive:
    return explorers.rare_explorer()


@pytest.fixture(scope="module")
def axes() -> Interactive:
    return explorers.two_axis_explorer()


class Tags(HTMLParser):
    """Attributes of the elements of a text, by name of element."""

    def __init__(self, text: str):
        super().__init__()
        self.found: dict[str, list[dict]] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.setdefault(tag, []).append(dict(attrs))


def test_a_second_run_gives_the_same_bytes(page, rare, axes):
    assert explorers.alignment_explorer()._repr_html_() == page
    assert explorers.rare_explorer()._repr_html_() == rare._repr_html_()
    assert explorers.two_axis_explorer()._repr_html_() == axes._repr_html_()


def test_the_figures_are_small(page, rare, axes):
    assert len(page) < 400_000 and len(rare._repr_html_()) < 200_000
    assert len(axes._repr_html_()) < 200_000


@pytest.mark.parametrize("which", ("explorer", "rare", "axes"))
def test_it_is_what_plotly_takes(which, request):
    import plotly.graph_objects as go

    figure = request.getfixturevalue(which)
    # raises ValueError for a property that plotly does not know
    go.Figure(figure.data, figure.layout)
    assert figure.wide.keys() == figure.narrow.keys()
    for key in figure.wide:
        assert key == "height" or re.match(r"\w+", key)[0] in figure.layout


@pytest.mark.parametrize("which", ("explorer", "rare", "axes"))
@pytest.mark.parametrize("places", ("wide", "narrow"))
def test_nothing_lies_outside_the_drawing_or_on_its_neighbour(which, places, request):
    figure = request.getfixturevalue(which)
    where = getattr(figure, places)
    # drawing area between the margins; sliders and legends may start at its lower end at most
    assert all(0 <= y <= 1.1 for key, y in where.items() if key.endswith(".y"))
    boxes = [
        (where[f"xaxis{nth}.domain"], where[f"yaxis{nth}.domain"])
        for nth in ("", "2", "3")[: len(figure.layout["sliders"])]
    ]
    assert all(0 <= low < high <= 1 for box in boxes for low, high in box)
    for i, (x, y) in enumerate(boxes):
        for other_x, other_y in boxes[:i]:
            assert x[0] > other_x[1] or y[1] < other_y[0]


@pytest.mark.parametrize("panel", (0, 1))
def test_curves_are_those_of_the_theory_at_any_stop(explorer, panel):
    random = np.random.default_rng(panel)
    slider, stops = explorer.layout["sliders"][panel], (ALPHAS, STOPS)[panel]
    assert [float(step["label"]) for step in slider["steps"]] == list(stops)
    for stop in random.choice(len(stops), 4, replace=False):
        [change, traces] = slider["steps"][stop]["args"]
        for key, trace, y in zip(LAWS, traces, change["y"], strict=True):
            x = explorer.data[trace]["x"]
            rf = key in ("phi2", "phi4", "relu", "tanh")
            law = theory.gamma_staircase if rf else theory.gamma_staircase_ntk
            point = random.integers(len(x))
            place = (stops[stop], x[point]) if panel == 0 else (x[point], stops[stop])
            assert len(y) == len(x)
            share, samples = place[0], place[1] * explorers.DIM
            assert y[point] == pytest.approx(law(key, share, samples, explorers.DIM), abs=5.1e-5)


@pytest.mark.parametrize(
    ("which", "count"),
    (("explorer", COUNT), ("rare", len(RARE_CURVES)), ("axes", len(AXES_CURVES))),
)
def test_sliders_touch_their_own_panel_alone(which, count, request):
    figure = request.getfixturevalue(which)
    for slider, axis in zip(figure.layout["sliders"], ("x", "x2", "x3"), strict=False):
        own = [i for i, trace in enumerate(figure.data) if trace["xaxis"] == axis]
        for step in slider["steps"]:
            change, traces = step["args"]
            assert (step["method"], traces, set(change)) == ("restyle", own, {"y"})
            assert len(change["y"]) == count


@pytest.mark.parametrize("panel", (0, 1, 2))
def test_rare_curves_are_those_of_the_theory_at_any_stop(rare, panel):
    random = np.random.default_rng(panel)
    slider, stops = rare.layout["sliders"][panel], (STRENGTHS, RIDGES, SHARES)[panel]
    assert [float(step["label"]) for step in slider["steps"]] == list(stops)
    for stop in random.choice(len(stops), 4, replace=False):
        [change, traces] = slider["steps"][stop]["args"]
        x = rare.data[traces[0]]["x"]
        point = random.integers(len(x))
        # gamma, S/vs, lambda: axis and slider of this panel, and what is fixed in it
        gamma, strength, lam = (
            (x[point], stops[stop], 0),
            (0.1, x[point], stops[stop]),
            (stops[stop], 50, x[point]),
        )[panel]
        S = strength * RARE_FIXED["var_sp"]
        law = theory.rare_linear(S=S, gamma=gamma, lam=lam, **RARE_FIXED)
        assert [y[point] for y in change["y"]] == pytest.approx(list(law), abs=5.1e-5)


def test_rare_sliders_start_where_they_are_asked_to():
    moved = explorers.rare_explorer(strength=1e3, lam=1.0, gamma=0.02)
    for number, (slider, label) in enumerate(
        zip(moved.layout["sliders"], ("1000", "1", "0.02"), strict=True)
    ):
        step = slider["steps"][slider["active"]]
        assert step["label"] == label
        drawn = moved.data[3 * number : 3 * number + 3]
        assert [trace["y"] for trace in drawn] == step["args"][0]["y"]
    for start in ({"strength": 51}, {"lam": 0.5}, {"gamma": 0}):
        with pytest.raises(ValueError, match="the slider has"):
            explorers.rare_explorer(**start)


@pytest.mark.parametrize("panel", (0, 1, 2))
def test_two_axis_curves_are_least_squares_at_any_stop(axes, panel):
    """Weights from the normal equations, not from the closed form."""
    random = np.random.default_rng(panel)
    slider, stops = axes.layout["sliders"][panel], (AMPLITUDES, BALANCES, CORE_NOISES)[panel]
    assert [float(step["label"]) for step in slider["steps"]] == list(stops)
    names = (("rho", "m_s"), ("sigma_c", "rho"), ("sigma_s", "sigma_c"))[panel]
    for stop in random.choice(len(stops), 4, replace=False):
        [change, traces] = slider["steps"][stop]["args"]
        x = axes.data[traces[0]]["x"]
        point = random.integers(len(x))
        one = AXES_FIXED | dict(zip(names, (x[point], stops[stop]), strict=True))
        r, cross = 2 * one["rho"] - 1, (2 * one["rho"] - 1) * one["m_s"] * one["m_c"]
        M = [
            [one["m_s"] ** 2 + one["sigma_s"] ** 2, cross],
            [cross, one["m_c"] ** 2 + one["sigma_c"] ** 2],
        ]
        s, c = np.linalg.solve(M, [r * one["m_s"], one["m_c"]]) * [one["m_s"], one["m_c"]]
        values = np.linalg.eigvalsh(M)
        shown = dict(zip(AXES_CURVES, (y[point] for y in change["y"]), strict=True))
        assert shown["shortcut"] == pytest.approx(s / (s + c), abs=1e-4)
        assert shown["spectrum"] == pytest.approx(values[1] / values.sum(), abs=1e-4)
        if abs(s - c) > 1e-3:
            assert (shown["conflicting"] < 0.5) == (s > c)
        assert shown["aligned"] >= shown["conflicting"]


def test_two_axis_sliders_start_where_they_are_asked_to():
    moved = explorers.two_axis_explorer(m_s=0.5, rho=0.8, sigma_c=1.5)
    labels = [slider["steps"][slider["active"]]["label"] for slider in moved.layout["sliders"]]
    assert labels == ["0.5", "0.8", "1.5"]
    for start in ({"m_s": 4}, {"rho": 0.94}, {"sigma_c": -1}):
        with pytest.raises(ValueError, match="the slider has"):
            explorers.two_axis_explorer(**start)


def test_curves_are_drawn_where_the_sliders_stand(monkeypatch):
    monkeypatch.setattr(explorers, "table", lambda key: np.add.outer(ALPHAS, RATIOS))
    moved = explorers.alignment_explorer(alpha=0.25, ratio=10.0)
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
    assert box["class"] == sliders.MARKER
    assert drawing["id"] == "alignment-explorer" and "hidden" in drawing and "hidden" not in image


@pytest.mark.parametrize("start", ({"alpha": 0.33}, {"alpha": 0}, {"ratio": 2}, {"ratio": 1.47}))
def test_a_start_between_the_stops_is_refused(start):
    with pytest.raises(ValueError, match="the slider has"):
        explorers.alignment_explorer(**start)
