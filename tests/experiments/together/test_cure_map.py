"""Settings on the map: the law's moments are those of what is trained on."""

import numpy as np
import pytest

from helpers.claims import part5
from helpers.experiments.together import cure_map


@pytest.mark.parametrize(
    ("make", "near"),
    [
        (lambda: cure_map.own_frame(100), 0.15),
        (lambda: cure_map.rare_square(400, 40), 0.25),
        (lambda: cure_map.shortcut("patched", 0.8, 600), 0.15),
        (lambda: cure_map.corner("heavy", "often", 600).setting, 0.15),
    ],
)
def test_trained_models_are_near_the_law(make, near):
    one, random = make(), np.random.default_rng(0)
    answers = np.mean([one.trained(3.0, random) for _ in range(6)], 0)
    assert answers[0] / answers[1] == pytest.approx(one.law(one.felt(3.0)), rel=near)
    assert one.law(1e8) == pytest.approx(one.lift, rel=1e-3)
    assert one.felt(3.0) > 3 and one.source


def test_corners_are_where_the_map_has_them():
    for key, name in cure_map.CORNERS.items():
        one = cure_map.corner(*key, 600).setting
        start, end = part5.scalar.CORNERS[name]
        assert np.sign(np.log(one.law(cure_map.WEAK))) == start, name
        assert np.sign(np.log(one.lift)) == end, name


def test_rows_have_each_corner_and_dial():
    rows = cure_map.corner_rows(300, 2, 0)
    assert len(rows) == 4 * 3 * 2 and rows["core"].gt(0).all()
    assert set(rows["dial"]) == {"ridge", "early stopping", "few samples"}
    assert rows.equals(cure_map.corner_rows(300, 2, 0))
