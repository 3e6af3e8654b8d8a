"""Maps of the first layer: what a row holds, and how it is read."""

import numpy as np
import pandas as pd
import pytest

from helpers import sweep
from helpers.experiments.rare import first_layer, setup


def test_maps_show_the_corner_and_say_the_same_as_the_scores_of_the_same_network():
    experiment = sweep.get("importance_maps")
    cells = [cell | {"samples": 500, "epochs": 3} for cell in experiment.cells("smoke")]
    cells = [cell | {"spurious": min(cell["spurious"], 20)} for cell in cells]
    rows = experiment.compute([experiment.call(cell, {}) for cell in cells])
    found = first_layer.maps(pd.DataFrame([c | r for c, r in zip(cells, rows, strict=True)])[::-1])
    assert list(found) == [0, 20]
    corners = [image[setup.IMPORTANCE_CORNER].mean() for image in found.values()]
    assert corners[1] > 1.2 * corners[0]
    patterns = sweep.get("rare_patterns")
    whole = patterns.cells("smoke")[0] | {"pattern": "S3"}
    asked = [patterns.call(whole | {name: cell[name] for name in whole if name in cell}, {})
             for cell in cells]  # fmt: skip
    for row, corner in zip(patterns.compute(asked), corners, strict=True):
        assert row["corner"] == pytest.approx(corner, abs=1e-3)


def test_a_map_is_read_row_by_row():
    row = {name: float(i) for i, name in enumerate(first_layer.PIXELS)} | {"spurious": 3}
    image = first_layer.maps(pd.DataFrame([row]))[3]
    np.testing.assert_array_equal(image[1, :3], [28, 29, 30])
