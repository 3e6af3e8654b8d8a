"""The explorers: their curves are those of the theory, and the same each time."""

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
    RARE_FIXED,
    RATIOS,
    RIDGES,
    SHARES,
    STOPS,
    STRENGTHS,
)
from helpers.book.sliders import Interactive


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
    assert max(len(page), len(rare._repr_html_()), len(axes._repr_html_())) < 60_000


@pytest.mark.parametrize("which", ("explorer", "rare", "axes"))
def test_every_curve_at_every_stop_lies_in_the_drawing(which, request):
    figure = request.getfixturevalue(which)
    for panel in figure.panels:
        (left, right), (bottom, top) = figure.place(panel, panel.limits, (0, 1))
        for curves in panel.curves:
            x, y = figure.place(panel, np.tile(panel.x, (len(curves), 1)), np.array(curves))
            assert left <= x.min() and x.max() <= right
            assert top - 1 <= y.min() and y.max() <= bottom + 1


@pytest.mark.parametrize("panel", (0, 1))
def test_curves_are_those_of_the_theory_at_any_stop(explorer, panel):
    random = np.random.default_rng(panel)
    drawn, stops = explorer.panels[panel], (ALPHAS, STOPS)[panel]
    assert drawn.stops == stops
    for stop in random.choice(len(stops), 4, replace=False):
        for key, y in zip(LAWS, drawn.curves[stop], strict=True):
            x = drawn.x
            rf = key in ("phi2", "phi4", "relu", "tanh")
            law = theory.gamma_staircase if rf else theory.gamma_staircase_ntk
            point = random.integers(len(x))
            place = (stops[stop], x[point]) if panel == 0 else (x[point], stops[stop])
            assert len(y) == len(x)
            share, samples = place[0], place[1] * explorers.DIM
            assert y[point] == pytest.approx(law(key, share, samples, explorers.DIM), abs=5.1e-5)


@pytest.mark.parametrize("panel", (0, 1, 2))
def test_rare_curves_are_those_of_the_theory_at_any_stop(rare, panel):
    random = np.random.default_rng(panel)
    drawn, stops = rare.panels[panel], (STRENGTHS, RIDGES, SHARES)[panel]
    assert drawn.stops == stops
    for stop in random.choice(len(stops), 4, replace=False):
        x = drawn.x
        point = random.integers(len(x))
        # gamma, S/vs, lambda: axis and slider of this panel, and what is fixed in it
        gamma, strength, lam = (
            (x[point], stops[stop], 0),
            (0.1, x[point], stops[stop]),
            (stops[stop], 50, x[point]),
        )[panel]
        S = strength * RARE_FIXED["var_sp"]
        law = theory.rare_linear(S=S, gamma=gamma, lam=lam, **RARE_FIXED)
        assert [y[point] for y in drawn.curves[stop]] == pytest.approx(list(law), abs=5.1e-5)


def test_rare_sliders_start_where_they_are_asked_to():
    moved = explorers.rare_explorer(strength=1e3, lam=1.0, gamma=0.02)
    assert [panel.active for panel in moved.panels] == [
        STRENGTHS.index(1e3), RIDGES.index(1.0), SHARES.index(0.02)
    ]  # fmt: skip
    for panel in moved.panels:
        assert panel.shown == panel.curves[panel.active]
    for start in ({"strength": 51}, {"lam": 0.5}, {"gamma": 0}):
        with pytest.raises(ValueError, match="the slider has"):
            explorers.rare_explorer(**start)


@pytest.mark.parametrize("panel", (0, 1, 2))
def test_two_axis_curves_are_least_squares_at_any_stop(axes, panel):
    """Weights from the normal equations, not from the closed form."""
    random = np.random.default_rng(panel)
    drawn, stops = axes.panels[panel], (AMPLITUDES, BALANCES, CORE_NOISES)[panel]
    assert drawn.stops == stops
    names = (("rho", "m_s"), ("sigma_c", "rho"), ("sigma_s", "sigma_c"))[panel]
    for stop in random.choice(len(stops), 4, replace=False):
        x = drawn.x
        point = random.integers(len(x))
        one = AXES_FIXED | dict(zip(names, (x[point], stops[stop]), strict=True))
        r, cross = 2 * one["rho"] - 1, (2 * one["rho"] - 1) * one["m_s"] * one["m_c"]
        M = [
            [one["m_s"] ** 2 + one["sigma_s"] ** 2, cross],
            [cross, one["m_c"] ** 2 + one["sigma_c"] ** 2],
        ]
        s, c = np.linalg.solve(M, [r * one["m_s"], one["m_c"]]) * [one["m_s"], one["m_c"]]
        values = np.linalg.eigvalsh(M)
        shown = dict(zip(AXES_CURVES, (y[point] for y in drawn.curves[stop]), strict=True))
        assert shown["shortcut"] == pytest.approx(s / (s + c), abs=1e-4)
        assert shown["spectrum"] == pytest.approx(values[1] / values.sum(), abs=1e-4)
        if abs(s - c) > 1e-3:
            assert (shown["conflicting"] < 0.5) == (s > c)
        assert shown["aligned"] >= shown["conflicting"]


def test_two_axis_sliders_start_where_they_are_asked_to():
    moved = explorers.two_axis_explorer(m_s=0.5, rho=0.8, sigma_c=1.5)
    assert [panel.stops[panel.active] for panel in moved.panels] == [0.5, 0.8, 1.5]
    for start in ({"m_s": 4}, {"rho": 0.94}, {"sigma_c": -1}):
        with pytest.raises(ValueError, match="the slider has"):
            explorers.two_axis_explorer(**start)


def test_curves_are_drawn_where_the_sliders_stand(monkeypatch):
    monkeypatch.setattr(explorers, "table", lambda key: np.add.outer(ALPHAS, RATIOS) / 101)
    moved = explorers.alignment_explorer(alpha=0.25, ratio=10.0)
    for panel, stop in zip(moved.panels, (0.25, 10.0), strict=True):
        assert panel.stops[panel.active] == stop
        assert panel.shown[0] == pytest.approx((panel.x + stop) / 101)


def test_curves_of_one_activation_have_one_colour_and_the_look_of_their_features(explorer):
    assert [curve.colour for curve in explorer.curves] == [figures.COLOURS[key] for key in LAWS]
    assert [curve.dash for curve in explorer.curves] == ["solid"] * 4 + ["dash"] * 4
    assert len({curve.group for curve in explorer.curves}) == 2


def test_each_panel_has_a_slider_with_a_name_that_says_where_it_stands(explorer, page):
    found = Tags(page).found
    sliders_of = [one for one in found["input"] if one["type"] == "range"]
    labels = {one["for"] for one in found["label"] if "for" in one}
    assert {one["id"] for one in sliders_of} == labels and len(labels) == len(explorer.panels)
    assert [one["aria-valuetext"] for one in sliders_of] == ["0.5", "1"]
    [box, *_] = found["div"]
    assert box["class"] == sliders.MARKER and box["id"] == "alignment-explorer"
    assert box["aria-label"] == explorer.alt and "alpha = 0.5" in explorer.alt


@pytest.mark.parametrize("start", ({"alpha": 0.33}, {"alpha": 0}, {"ratio": 2}, {"ratio": 1.47}))
def test_a_start_between_the_stops_is_refused(start):
    with pytest.raises(ValueError, match="the slider has"):
        explorers.alignment_explorer(**start)
