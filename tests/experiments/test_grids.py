"""The grids of all experiments: what they hold, and that it is what the results files hold."""

import pickle
from functools import cache

import pytest
from cloudpickle import dumps

from helpers import sweep
from helpers.project import PROFILES, project_root
from helpers.sweep.store import as_cell, key_of

NAMES = sweep.names()


@cache
def stored(name):
    return sweep.stored_rows(sweep.get(name), project_root() / "book" / "results")


def keys(cells):
    return {key_of(as_cell(cell)) for cell in cells}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", NAMES)
def test_a_grid_has_cells_of_the_same_parameters_and_none_twice(name, profile):
    experiment = sweep.get(name)
    cells = experiment.cells(profile)
    assert len(keys(cells)) == len(cells) > 0
    for cell in cells:
        assert experiment.call(cell, {"device": "cpu"}).keys() == {*cell, *sweep.CONTEXT}
        assert isinstance(experiment.cheap(cell), bool)


@pytest.mark.parametrize("name", NAMES)
def test_the_smoke_grid_is_the_smallest_and_the_paper_grid_the_largest(name):
    smoke, laptop, paper = (len(sweep.get(name).cells(profile)) for profile in PROFILES)
    assert smoke < laptop <= paper


@pytest.mark.parametrize("name", NAMES)
def test_the_results_file_holds_the_whole_laptop_grid(name):
    experiment, rows = sweep.get(name), stored(name)
    assert experiment.parameters < rows[0].keys()
    cells = [{n: row[n] for n in experiment.parameters} for row in rows]
    assert keys(experiment.cells("laptop")) <= keys(cells)


@pytest.mark.parametrize("name", NAMES)
def test_stored_cells_have_a_group_and_are_cheap_or_not(name):
    experiment = sweep.get(name)
    for row in stored(name):
        cell = {n: row[n] for n in experiment.parameters}
        assert isinstance(experiment.cheap(cell), bool)
        if experiment.group is not None:
            assert hash(experiment.group(cell)) == hash(experiment.group(dict(cell)))


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_travels_to_a_worker(name):
    experiment = sweep.get(name)
    there = pickle.loads(dumps(experiment))
    assert there.cells("smoke") == experiment.cells("smoke")
    assert there.trial is experiment.trial, "by its name, so that workers share its caches"
