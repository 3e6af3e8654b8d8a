"""Experiments by name, what they refuse, and what a trial is told."""

import importlib
import pickle

import pytest

from helpers.sweep import Experiment, experiment, get, grid, names, register, registry


def test_register_and_get(registry, toy):
    found = register(toy())
    assert get("toy") is found and names() == ["toy"]
    register(toy())  # a module that is loaded again
    with pytest.raises(ValueError, match="unknown experiment 'tox': known are toy"):
        get("tox")
    with pytest.raises(ValueError, match="two experiments are called 'toy'"):
        register(Experiment("toy", lambda call: {}, list, 0.0, bool))


def test_the_decorator_registers_and_leaves_the_trial_as_it_was(registry):
    def trial(call):
        return {"y": call.x}

    options = dict(cells=lambda profile: grid(x=[1, 2]), tolerance=0.1, cheap=lambda cell: True)
    twice = experiment("one", **options)(experiment("two", **options, audited=False)(trial))
    assert twice is trial and names() == ["one", "two"]
    assert get("one").trial is get("two").trial is trial
    assert get("one").audited and not get("two").audited
    with pytest.raises(ValueError, match="two experiments are called 'one'"):
        experiment("one", **options)(lambda call: {})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "a/b"}, "experiment name 'a/b'"),
        ({"name": ""}, "experiment name ''"),
        ({"tolerance": {"y": 1.0}}, "lacks the key 'default'"),
        ({"tolerance": -1e-9}, "tolerance 'default' is -1e-09, not a number from 0"),
        ({"tolerance": float("nan")}, "'default' is nan"),
        ({"tolerance": None}, "'default' is None"),
        ({"tolerance": {"default": 1.0, "y": "0.1"}}, "tolerance 'y' is '0.1'"),
        ({"tolerance": {"default": 1.0, "y": -1}}, "tolerance 'y' is -1,"),
        (
            {"cells": lambda profile: grid(x=1, data_dir="")},
            r"\['data_dir'\] are of",
        ),
        ({"cells": lambda profile: grid(device="", seconds=1)}, r"\['device', 'seconds'\] are of"),
    ],
)
def test_experiments_that_cannot_work_are_refused(change, message):
    usual = dict(name="e", trial=lambda call: {}, cells=list, tolerance=0.0, cheap=bool)
    with pytest.raises(ValueError, match=message):
        Experiment(**(usual | change)).call({}, {})


def test_a_call_has_the_parameters_by_name_and_says_which_there_are(toy):
    call = toy().call({"x": 3}, {"device": "mps"})
    assert (call.x, call["x"], call.device, call.data_dir) == (3, 3, "mps", None)
    assert call.precision == "float32"
    given = "'data_dir', 'device', 'precision', 'x'"
    with pytest.raises(AttributeError, match=f"has no 'y': it has .{given}"):
        _ = call.y
    assert pickle.loads(pickle.dumps(call)) == call


def test_the_decorator_without_brackets_is_refused():
    with pytest.raises(TypeError, match="takes a name and settings in brackets"):

        @experiment
        def trial(call):
            return {}


@pytest.mark.parametrize("part", ["cells", "cheap", "group"])
def test_what_must_be_a_function_is_checked_at_the_door(part):
    settings = dict(cells=lambda p: [{"x": 1}], tolerance=1e-9, cheap=lambda cell: True)
    with pytest.raises(TypeError, match=f"experiment odd: {part} is \\[\\], not a function"):
        Experiment("odd", lambda call: {}, **(settings | {part: []}))


def test_a_context_that_no_trial_knows_is_refused():
    made = Experiment("plain", lambda call: {"y": 1}, cells=lambda p: [{"x": 1}], tolerance=1e-9,
                      cheap=lambda cell: True)  # fmt: skip
    with pytest.raises(ValueError, match=r"the context has \['devise'\]: it may have device"):
        made.call({"x": 1}, {"devise": "cpu"})


def test_a_module_that_cannot_be_imported_hides_no_experiment(monkeypatch):
    """`run --all` tells of those in it, and goes on to the others."""
    known, real = registry.names(), importlib.import_module
    broken = registry.package_tree().experiments["mixture_weight"]

    def import_module(name):
        if name == broken:
            raise ImportError("no module named so")
        return real(name)

    monkeypatch.setattr(registry.importlib, "import_module", import_module)
    monkeypatch.setattr(registry, "_REGISTRY", {})
    assert "mixture_weight" in registry.names() and set(registry.names()) <= set(known)
    with pytest.raises(ImportError, match="no module named so"):
        registry.get("mixture_weight")
    with pytest.raises(ValueError, match="unknown experiment 'mixture'"):
        registry.get("mixture")
