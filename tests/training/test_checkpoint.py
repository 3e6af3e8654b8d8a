"""A training that is killed."""

import pytest
import torch

from helpers import training
from helpers.training import Recipe


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


def test_a_checkpoint_of_another_run_is_refused(tmp_path, task, network, interrupted):
    x, y = task()
    file = tmp_path / "state.pt"
    net = network()
    Interrupted, interrupt_after = interrupted
    hook = interrupt_after(net, 5)
    recipe = Recipe(epochs=8, batch=16)
    with pytest.raises(Interrupted):
        training.train(net, x, y, recipe, seed=1, checkpoint=file, checkpoint_seconds=0)
    hook.remove()
    with pytest.raises(ValueError, match="belongs to another training"):
        training.train(net, x, y, recipe, seed=2, checkpoint=file)
    assert file.exists()


def test_every_identity_has_a_file_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path))
    file = training.checkpoint_file(("mnist", 3))
    assert file.parent == tmp_path / "_build" / "checkpoints"
    assert file == training.checkpoint_file(("mnist", 3))
    assert file not in {training.checkpoint_file(("mnist", n)) for n in (4, "3", 3.0)}
    assert training.checkpoint_file(("mnist", 3), "models").parent.name == "models"
