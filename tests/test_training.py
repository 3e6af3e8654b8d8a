"""The trainer against a plain loop, and against being killed."""

import math

import pytest
import torch

from helpers import models, training
from helpers.training import Recipe


def task(n=50, d=6, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=draw, dtype=dtype)
    return x, (x[:, 0] > 0).long()


def network(dtype=torch.float64, outputs=2):
    return models.fully_connected(6, (16,), outputs, seed=3).to(dtype)


def expected_loss(recipe, outputs, wanted):
    if recipe.loss == "cross_entropy":
        return torch.nn.functional.cross_entropy(outputs, wanted)
    f, strength = outputs[:, 0], recipe.loss_strength
    if recipe.loss == "mse":
        return torch.nn.functional.mse_loss(f, wanted)
    extra = {"logistic": 0, "sd": f**2, "marg_log": (1 + f**2).log()}[recipe.loss]
    return (-torch.sigmoid(wanted * f).log() + strength * extra).mean()


def plain_loop(model, x, y, recipe, seed):
    """What a tutorial would write, with the scheduler of torch."""
    optimiser = torch.optim.Adam(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, recipe.decay_every, recipe.decay)
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(x), generator=shuffle)
        for start in range(0, len(x), recipe.batch):
            chosen = order[start : start + recipe.batch]
            loss = expected_loss(recipe, model(x[chosen]), y[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()


@pytest.mark.parametrize("loss", training.LOSSES)
def test_training_is_the_plain_loop(loss):
    x, y = task()
    y = y if loss == "cross_entropy" else 2.0 * y.double() - 1
    outputs = 2 if loss == "cross_entropy" else 1
    strength = 0.3 if loss in ("sd", "marg_log") else 0.0
    recipe = Recipe(
        epochs=9, batch=16, loss=loss, loss_strength=strength, weight_decay=1e-2, decay=0.5,
        decay_every=4,
    )  # fmt: skip
    ours, theirs = network(outputs=outputs), network(outputs=outputs)
    history = training.train(ours, x, y, recipe, seed=5)
    plain_loop(theirs, x, y, recipe, seed=5)
    assert history.epochs == 9 and not ours.training
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_training_ends_at_interpolation():
    x, y = task()
    recipe = Recipe(epochs=2_000, batch=50, learning_rate=1e-2, stop_loss=0.05)
    net = network()
    history = training.train(net, x, y, recipe, seed=0)
    assert history.epochs < 2_000 and history.loss < 0.05
    assert bool((net(x).argmax(1) == y).all())


class Interrupted(Exception):
    """Stands for a kill."""


def interrupt_after(net, calls):
    def hook(*_):
        nonlocal calls
        calls -= 1
        if calls < 0:
            raise Interrupted

    return net.register_forward_pre_hook(hook)


@pytest.mark.parametrize("calls", [0, 9, 17])
def test_a_killed_training_goes_on_to_the_same_result(tmp_path, calls):
    x, y = task()
    recipe = Recipe(epochs=8, batch=16, decay=0.5, decay_every=3)
    whole = network()
    expected = training.train(whole, x, y, recipe, seed=1)
    net, file = network(), tmp_path / "folder" / "state.pt"
    given = dict(seed=1, checkpoint=file, checkpoint_seconds=0)
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


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    x, y = task()
    file = tmp_path / "state.pt"
    net = network()
    hook = interrupt_after(net, 5)
    recipe = Recipe(epochs=8, batch=16)
    with pytest.raises(Interrupted):
        training.train(net, x, y, recipe, seed=1, checkpoint=file, checkpoint_seconds=0)
    hook.remove()
    with pytest.raises(ValueError, match="belongs to another training"):
        training.train(net, x, y, recipe, seed=2, checkpoint=file)
    assert file.exists()


def test_prediction_is_batched_in_eval_mode_and_restores_the_mode():
    net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(6, 2)).double()
    x, _ = task()
    expected = net[1](x)
    assert net.training
    for batch in (1, 7, 1_000):
        assert torch.allclose(training.predict(net, x, batch=batch), expected)
    assert net.training


def test_a_loss_that_is_no_number_stops_with_its_epoch():
    x, y = task()
    with pytest.raises(training.Diverged, match="in epoch 1 of 5.*1e\\+200"):
        recipe = Recipe(epochs=5, batch=10, learning_rate=1e200, loss="mse")
        training.train(network(outputs=1), x, y.double(), recipe, seed=0)


X, Y = task(4)


@pytest.mark.parametrize(
    ("inputs", "labels", "loss", "message"),
    [
        (X, Y[:2], "cross_entropy", "one label for each"),
        (X[:0], Y[:0], "cross_entropy", "at least one sample"),
        (X * math.nan, Y, "cross_entropy", "finite floats"),
        (X.to(torch.complex128), Y, "cross_entropy", "complex128 must be finite floats"),
        (X, Y.double(), "cross_entropy", "int64 class indices"),
        (X, Y - 1, "cross_entropy", "int64 class indices"),
        (X, Y, "mse", "must be finite and torch.float64"),
        (X, Y * math.inf, "mse", "must be finite"),
    ],
)
def test_data_that_cannot_be_learned_are_named(inputs, labels, loss, message):
    with pytest.raises(ValueError, match=message):
        training.train(network(), inputs, labels, Recipe(epochs=1, batch=1, loss=loss), seed=0)


@pytest.mark.parametrize(
    "bad",
    [
        dict(epochs=0),
        dict(batch=0),
        dict(loss="hinge"),
        dict(learning_rate=0),
        dict(learning_rate=math.nan),
        dict(weight_decay=-1),
        dict(stop_loss=-0.1),
    ],
)
def test_recipes_that_make_no_sense_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Recipe(**{"epochs": 1, "batch": 1} | bad)


def test_tiny_numbers_are_zero_during_training_and_not_afterwards():
    def tiny():
        return float(torch.tensor(1e-39) * 0.5)

    assert tiny()
    with training.randomness(0, torch.device("cpu")):
        assert not tiny()
        with training.randomness(0, torch.device("cpu")):
            pass
        assert not tiny()
    assert tiny()


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": "sgd", "momentum": 0.9},
        {"clip_value": 1e-3},
        {"clip_norm": 1e-2},
        {"decay": 0.1, "milestones": (2, 3)},
        {"cosine": True},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_options_are_those_of_torch(changes):
    x, y = task()
    recipe = Recipe(epochs=4, batch=50, learning_rate=1e-2, **changes)
    ours, theirs = network(), network()
    training.train(ours, x, y, recipe, seed=0)
    optimiser = torch.optim.Adam(theirs.parameters(), lr=1e-2)
    if recipe.optimiser == "sgd":
        optimiser = torch.optim.SGD(theirs.parameters(), lr=1e-2, momentum=0.9)
    milestones = changes.get("milestones", (99,))
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, recipe.decay)
    if recipe.cosine:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs)
    for _ in range(4):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(theirs(x), y).backward()
        if "clip_value" in changes:
            torch.nn.utils.clip_grad_value_(theirs.parameters(), 1e-3)
        if "clip_norm" in changes:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1e-2)
        optimiser.step()
        schedule.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_noise_has_its_standard_deviation_and_is_drawn_anew():
    seen = []
    net = network()
    net.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x, y = torch.zeros(2_000, 6, dtype=torch.float64), torch.zeros(2_000, dtype=torch.int64)
    training.train(net, x, y, Recipe(epochs=2, batch=2_000, noise=0.3), seed=0)
    assert all(float(s.std()) == pytest.approx(0.3, rel=0.05) for s in seen)
    assert not torch.equal(*seen)


def test_crops_are_windows_of_the_framed_image_and_half_are_mirrored():
    image = torch.arange(1.0, 37).reshape(1, 6, 6)
    framed = torch.nn.functional.pad(image, (4,) * 4)
    windows = {
        tuple(framed[:, i : i + 6, j : j + 6].flatten().tolist()): (i, j)
        for i in range(9)
        for j in range(9)
    }
    draw = torch.Generator().manual_seed(0)
    crops = training.crop_and_flip(image.expand(4_000, 1, 6, 6), draw)
    plain = [windows.get(tuple(crop.flatten().tolist())) for crop in crops]
    mirrored = [windows.get(tuple(crop.flip(2).flatten().tolist())) for crop in crops]
    assert all((a is None) != (b is None) for a, b in zip(plain, mirrored, strict=True))
    assert sum(a is not None for a in plain) == pytest.approx(2_000, abs=150)
    assert {a or b for a, b in zip(plain, mirrored, strict=True)} == set(windows.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": "lion"}, {"noise": -1.0}, {"clip_value": 0.0}, {"clip_norm": math.nan},
        {"momentum": 0.9}, {"decay": 0.5, "decay_every": 2, "milestones": (1,)}, {"decay": 0.0},
        {"cosine": True, "milestones": (1,)},
    ],
)  # fmt: skip
def test_bad_recipes_are_named(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes)).split('_')[0]}"):
        Recipe(epochs=1, batch=1, **changes)


def test_the_callback_comes_after_each_epoch_and_not_with_a_checkpoint(tmp_path):
    x, y = task()
    net, seen = network(), []
    training.train(
        net, x, y, Recipe(epochs=3, batch=20), seed=0,
        after_epoch=lambda epoch: seen.append((epoch, float(net[1].weight.detach().sum()))),
    )  # fmt: skip
    assert [epoch for epoch, _ in seen] == [1, 2, 3] and len({total for _, total in seen}) == 3
    assert seen[-1][1] == float(net[1].weight.detach().sum())
    with pytest.raises(ValueError, match="after_epoch and checkpoint"):
        training.train(net, x, y, Recipe(epochs=1, batch=20), seed=0, after_epoch=seen.append,
                       checkpoint=tmp_path / "state.pt")  # fmt: skip
