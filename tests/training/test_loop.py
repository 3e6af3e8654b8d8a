"""The trainer against a plain loop."""

import pytest
import torch

from helpers import training
from helpers.errors import Diverged
from helpers.training import Recipe


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
def test_training_is_the_plain_loop(loss, task, network):
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


def test_training_ends_at_interpolation(task, network):
    x, y = task()
    recipe = Recipe(epochs=2_000, batch=50, learning_rate=1e-2, stop_loss=0.05)
    net = network()
    history = training.train(net, x, y, recipe, seed=0)
    assert history.epochs < 2_000 and history.loss < 0.05
    assert bool((net(x).argmax(1) == y).all())


def test_a_loss_that_is_no_number_stops_with_its_epoch(task, network):
    x, y = task()
    with pytest.raises(Diverged, match="in epoch 1 of 5.*1e\\+200"):
        recipe = Recipe(epochs=5, batch=10, learning_rate=1e200, loss="mse")
        training.train(network(outputs=1), x, y.double(), recipe, seed=0)


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
def test_options_are_those_of_torch(changes, task, network):
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


def test_noise_has_its_standard_deviation_and_is_drawn_anew(network):
    seen = []
    net = network()
    net.register_forward_pre_hook(lambda net, args: seen.extend(args[: net.training]))
    x, y = torch.zeros(2_000, 6, dtype=torch.float64), torch.zeros(2_000, dtype=torch.int64)
    training.train(net, x, y, Recipe(epochs=2, batch=2_000, noise=0.3), seed=0)
    assert all(float(s.std()) == pytest.approx(0.3, rel=0.05) for s in seen)
    assert not torch.equal(*seen)


def test_the_callback_comes_after_each_epoch_and_not_with_a_checkpoint(tmp_path, task, network):
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


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_decay": 0.1},
        {"optimiser": "sgd", "momentum": 0.9, "weight_decay": 0.1},
        {"clip_norm": 1e-2},
        {"clip_value": 1e-3},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_frozen_layer_is_a_fixed_function_before_the_rest(changes, task, half_frozen):
    x, y = task()
    recipe = Recipe(epochs=3, batch=16, learning_rate=1e-2, **changes)
    (net, head), before = half_frozen(), half_frozen()[0][1].weight
    history = training.train(net, x, y, recipe, seed=5)
    expected = training.train(head, net[:3](x), y, recipe, seed=5)
    assert torch.equal(net[1].weight, before)
    torch.testing.assert_close(net[3].state_dict(), head[1].state_dict())
    assert history.loss == pytest.approx(expected.loss)


def test_a_network_that_is_all_frozen_cannot_be_trained(task, network):
    x, y = task()
    nets = [network(), network().requires_grad_(False)]
    recipe = Recipe(epochs=1, batch=16)
    for train, given in [(training.train, nets[1]), (training.train_many, nets)]:
        with pytest.raises(ValueError, match="Sequential has no parameter with requires_grad"):
            train(given, x, y, recipe, seed=0)


def test_a_batch_larger_than_the_data_is_all_of_them(task, network):
    x, y = task()
    nets = network(), network()
    for net, batch in zip(nets, (50, 10_000), strict=True):
        training.train(net, x, y, Recipe(epochs=2, batch=batch), seed=0)
    assert torch.equal(nets[0][1].weight, nets[1][1].weight)
