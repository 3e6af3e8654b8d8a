"""A training that is killed."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import training
from helpers.training import Recipe, checkpoint
from helpers.training.checkpoint import digest


@pytest.mark.parametrize("calls", [0, 9, 17])
def test_a_killed_training_goes_on_to_the_same_result(tmp_path, calls, task, network, interrupted):
    x, y = task()
    recipe = Recipe(epochs=8, batch=16, decay=0.5, decay_every=3)
    whole = network()
    expected = training.train(whole, x, y, recipe, seed=1)
    net, file = network(), tmp_path / "folder" / "state.pt"
    given = dict(seed=1, checkpoint=file, checkpoint_seconds=0)
    Interrupted, interrupt_after = interrupted
    hook = interrupt_after(net, calls)
    with pytest.raises(Interrupted):
        training.train(net, x, y, recipe, **given)
    hook.remove()
    assert file.exists() == (calls >= 4)
    fresh = network()
    assert training.train(fresh, x, y, recipe, **given) == expected
    for a, b in zip(whole.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not list(file.parent.glob("*"))


def frozen(net):
    net[1].bias.requires_grad_(False)
    return net


def other_weights(net):
    net[3].bias.data[0] += 1e-9
    return net


RECIPE = Recipe(epochs=8, batch=16)


@pytest.mark.parametrize(
    ("named", "changes"),
    [
        ("seed was 1, is 2", {"seed": lambda seed: 2}),
        ("batch was 16, is 17", {"recipe": lambda recipe: replace(recipe, batch=17)}),
        ("inputs", {"inputs": lambda x: x + 1e-9}),
        ("inputs", {"inputs": lambda x: x.roll(1, 0)}),
        ("labels", {"labels": lambda y: 1 - y}),
        ("first weights", {"model": other_weights}),
        ("frozen", {"model": frozen}),
        ("architecture", {"model": lambda net: net.append(torch.nn.Identity())}),
        ("code", {}),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path, monkeypatch, named, changes, many, task, network
):
    x, y = task()
    file = tmp_path / "state.pt"
    given = dict(model=network(), inputs=x, labels=y, recipe=RECIPE, seed=1)
    changed = {n: change(given[n]) for n, change in changes.items() if n != "model"}
    changed |= {"model": changes.get("model", lambda net: net)(network())}

    def train(model, inputs, labels, recipe, seed):
        run, asked = (training.train_many, [model]) if many else (training.train, model)
        run(asked, inputs, labels, recipe, seed=seed, checkpoint=file, checkpoint_seconds=0)

    with monkeypatch.context() as left:
        left.setattr(training.Checkpoint, "remove", lambda self: None)
        train(**given)
    kept = file.read_bytes()
    if named == "code":
        monkeypatch.setattr(checkpoint, "code_of", lambda *modules: "other")
    with pytest.raises(ValueError, match=f"belongs to another training .*{named}"):
        train(**given | changed)
    assert file.read_bytes() == kept


class Unloadable:
    """Of a class that a file may not name."""


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "foreign", "list", "no identity"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, damage, task, network):
    file = tmp_path / "state.pt"
    training.save_whole({"identity": {}}, file)
    if damage in ("foreign", "list", "no identity"):
        kept = {"foreign": Unloadable(), "list": [1], "no identity": {"weights": 1}}[damage]
        torch.save(kept, file)
    else:
        file.write_bytes({"empty": b"", "cut": file.read_bytes()[:200], "text": b"weights"}[damage])
    with pytest.raises(ValueError, match=f"{file} (is|has)"):
        training.train(network(), *task(), RECIPE, seed=1, checkpoint=file)


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, r=real: (done.append(n), r(*a))[1])
    training.save_whole({"a": 1}, tmp_path / "folder" / "state.pt")
    assert done == ["fsync", "replace"]
    assert training.load_whole(tmp_path / "folder" / "state.pt", dict) == {"a": 1}
    with pytest.raises(AttributeError, match="local object"):  # no file can hold it
        training.save_whole(lambda: 0, tmp_path / "state.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"], "no part is left behind"


def test_numbers_of_numpy_go_into_a_checkpoint_and_come_back(tmp_path, task, network, interrupted):
    x, y = task()
    Interrupted, interrupt_after = interrupted
    how = dict(epochs=np.int64(4), batch=np.int64(25), learning_rate=np.float64(1e-2))
    given = dict(seed=1, checkpoint=tmp_path / "state.pt", checkpoint_seconds=0)
    net = network()
    interrupt_after(net, 5)
    with pytest.raises(Interrupted):
        training.train(net, x, y, Recipe(**how), **given)
    assert training.train(network(), x, y, Recipe(**how), **given).epochs == 4


def test_tensors_of_any_layout_are_told_apart_by_their_numbers():
    images = torch.rand(2, 3, 4, 4)
    last = images.contiguous(memory_format=torch.channels_last)
    assert digest(images) == digest(last) == digest(torch.stack([*images]))
    one = torch.tensor([5])
    assert digest(one.expand(3)) == digest(torch.tensor([5, 5, 5])) != digest(one.expand(1))
    made = [one, one[0], one.int(), torch.zeros(0, 3), torch.zeros(2, dtype=torch.bfloat16)]
    assert len({digest(), *map(digest, made)}) == 6


def test_home_folders_are_known(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert training.Checkpoint("~/state.pt", dict, 60).file == tmp_path / "state.pt"


def test_every_identity_has_a_file_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path))
    file = training.checkpoint_file(("mnist", 3))
    assert file.parent == tmp_path / "_build" / "checkpoints"
    assert file == training.checkpoint_file(("mnist", 3))
    assert file not in {training.checkpoint_file(("mnist", n)) for n in (4, "3", 3.0)}
    assert training.checkpoint_file(("mnist", 3), "models").parent.name == "models"


def test_a_file_that_ends_anywhere_is_named(tmp_path):
    file = tmp_path / "state.pt"
    content = {
        str(k): torch.arange(30.0) for k in range(12)
    }  # torch seeks before the beginning then
    checkpoint.save_whole(content, file)
    whole = file.read_bytes()
    for end in range(0, len(whole), 37):
        file.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"state\.pt is damaged"):
            checkpoint.load_whole(file, dict)
