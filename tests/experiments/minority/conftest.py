"""Networks of few digits, kept out of the project, and what is told of one by counting images."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from helpers.experiments.minority import networks, patient

SIZES = {"train": (60, 24, 16, 40), "val": (15,) * 4, "test": (20,) * 4}


@pytest.fixture(scope="module", autouse=True)
def own_folder(tmp_path_factory):
    """No network is known yet, and those that are trained here are kept apart; settings more."""
    digits = networks.SETTINGS["digits"]
    more = {
        "few digits": replace(digits, sizes=SIZES),
        "digits with identifiers": replace(digits, planted=True),
    }
    caches = (networks.trained, patient.patient)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOK_ROOT", str(tmp_path_factory.mktemp("root")))
        for name, setting in more.items():
            patch.setitem(networks.SETTINGS, name, setting)
        for cache in caches:
            cache.cache_clear()
        yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture(scope="module")
def where():
    """A network of few images, for which 50 of each group are enough to look at."""
    named = dict(setting="few digits", epochs=4, trial=0, device="cpu", data_dir=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patient, "LARGEST", 50)
        yield named


@pytest.fixture(scope="module")
def who(where):
    return patient.patient(**where)


def zeroed(model, units):
    """A copy of the network whose filters are zeroed one by one."""
    net = copy.deepcopy(model)
    for unit in units:
        net.get_submodule(unit.layer).weight.data[unit.index] = 0
    return net


@torch.no_grad()
def logits(net, part):
    return net.eval()(part.images)


def right(net, part):
    """Whether each answer is right: one forward pass."""
    return logits(net, part).argmax(1) == part.label


def by_group(values, part):
    return np.array([values[part.group == g].double().mean().item() for g in range(4)])


def gradients(who, rows):
    """Gradient by layer of the mean loss of rows of the training set: one backward pass."""
    net, train = copy.deepcopy(who.made.model).eval(), who.made.splits["train"]
    functional.cross_entropy(net(train.images[rows]), train.label[rows]).backward()
    layers = {unit.layer for unit in who.units}
    return {layer: net.get_submodule(layer).weight.grad.double() for layer in layers}


@pytest.fixture(scope="session")
def by_hand():
    return SimpleNamespace(
        zeroed=zeroed, logits=logits, right=right, by_group=by_group, gradients=gradients
    )
