"""Private training: clipping example by example, noise, batches by chance, and the accountant."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from scipy import integrate, stats
from torch import nn
from torch.nn import functional

from helpers import models, training
from helpers.errors import Diverged
from helpers.training import Recipe, private
from helpers.training.private import clipped_gradients, epsilon

RECIPE = Recipe(epochs=2, batch=16, learning_rate=1e-2)


def examples(n=12, seed=0):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 6, generator=draw, dtype=torch.float64)
    return inputs, torch.randint(3, (n,), generator=draw)


def perceptron(seed=0):
    return models.fully_connected(6, (8, 5), 3, seed=seed).double()


class Wrapped(nn.Module):
    """The same network, which is not recognised as a perceptron."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


def one_by_one(net, inputs, labels, clip):
    """Sum of clipped gradients and their norms from one backward pass an example."""
    total, norms = [torch.zeros_like(p) for p in net.parameters()], []
    for x, y in zip(inputs, labels, strict=True):
        loss = functional.cross_entropy(net(x[None]), y[None])
        own = torch.autograd.grad(loss, list(net.parameters()))
        norms.append(torch.cat([g.flatten() for g in own]).norm())
        for t, g in zip(total, own, strict=True):
            t += g * min(1.0, clip / float(norms[-1]))
    return total, torch.stack(norms)


# -- clipping --------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 10), st.booleans())
def test_the_clipped_sum_is_that_of_the_examples_one_by_one(seed, clip, wrapped):
    net, (inputs, labels) = perceptron(seed), examples(seed=seed)
    found = clipped_gradients(Wrapped(net) if wrapped else net, inputs, labels, clip)
    gradients, norms = one_by_one(net, inputs, labels, clip)
    torch.testing.assert_close(found.norms, norms)
    torch.testing.assert_close(found.gradients, gradients)
    expected = functional.cross_entropy(net(inputs), labels, reduction="none")
    torch.testing.assert_close(found.losses, expected.detach())


def test_without_a_bound_it_is_the_gradient_of_the_summed_loss():
    net, (inputs, labels) = perceptron(), examples()
    loss = functional.cross_entropy(net(inputs), labels, reduction="sum")
    expected = torch.autograd.grad(loss, list(net.parameters()))
    found = clipped_gradients(net, inputs, labels, math.inf)
    torch.testing.assert_close(found.gradients, list(expected))


def test_a_network_of_convolutions_and_dropout_has_gradients_of_examples_too():
    net = models.trades_cnn(10, seed=0)
    nn.init.normal_(
        next(m for m in reversed(list(net.modules())) if isinstance(m, nn.Linear)).weight
    )
    net.eval()
    inputs = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2])
    found = clipped_gradients(net, inputs, labels, 0.5)
    gradients, norms = one_by_one(net, inputs, labels, 0.5)
    torch.testing.assert_close(found.norms, norms, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.gradients, gradients, rtol=1e-3, atol=1e-5)


def test_one_example_moves_the_sum_by_no_more_than_the_bound():
    net, (inputs, labels) = perceptron(), examples()
    odd = torch.cat([inputs, 1e6 * torch.ones(1, 6, dtype=torch.float64)])
    with_it = clipped_gradients(net, odd, torch.cat([labels, torch.tensor([1])]), 0.2)
    without = clipped_gradients(net, inputs, labels, 0.2)
    assert with_it.norms[-1] > 1e4
    moved = [a - b for a, b in zip(with_it.gradients, without.gradients, strict=True)]
    assert float(torch.cat([m.flatten() for m in moved]).norm()) == pytest.approx(0.2, rel=1e-6)


def test_an_example_without_a_gradient_adds_nothing():
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    nn.init.constant_(net[1].weight, 100.0)
    net[1].weight.data[1] = -100.0
    found = clipped_gradients(net, torch.full((1, 2), 50.0), torch.tensor([0]), 1.0)
    assert float(found.norms) == 0 and all(bool((g == 0).all()) for g in found.gradients)


def test_a_batch_of_nobody_has_a_sum_of_zero():
    net = perceptron()
    found = clipped_gradients(
        net, torch.zeros(0, 6, dtype=torch.float64), torch.zeros(0).long(), 1.0
    )
    assert found.norms.shape == (0,)
    assert [g.shape for g in found.gradients] == [p.shape for p in net.parameters()]
    assert not any(bool(g.any()) for g in found.gradients)


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan])
def test_a_bound_that_is_none(clip):
    with pytest.raises(ValueError, match="clip is"):
        clipped_gradients(perceptron(), *examples(), clip)


def test_batch_normalisation_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double()
    with pytest.raises(ValueError, match="batch normalisation"):
        clipped_gradients(net, *examples(), 1.0)


def test_frozen_layers_stay_and_count_in_no_norm(half_frozen):
    (net, head), (inputs, labels) = half_frozen(), examples(40)
    labels, first = labels % 2, net[1].weight.clone()
    found = clipped_gradients(net, inputs, labels, 0.1)
    expected = clipped_gradients(head, net[:3](inputs), labels, 0.1)
    torch.testing.assert_close(found, expected)
    recipe = replace(RECIPE, weight_decay=0.1, optimiser="sgd", momentum=0.9)
    given = dict(clip=0.1, noise_multiplier=1.0, seed=0)
    private.train(net, inputs, labels, recipe, **given)
    private.train(head, net[:3](inputs), labels, recipe, **given)
    assert torch.equal(net[1].weight, first)
    torch.testing.assert_close(net[3].state_dict(), head[1].state_dict())


# -- Opacus ----------------------------------------------------------------------------------------

# our inputs have no gradients, which torch says of the hooks that Opacus puts on a network
HOOKS = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
CLOSE = 3e-6  # Opacus divides by the norm plus 1e-6


def convolutional():
    """Convolutions and a layer norm, on images of 6 pixels in a row."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2), nn.Tanh(), nn.Flatten(),
            nn.LayerNorm(8), nn.Linear(8, 3),
        ).double()  # fmt: skip


NETWORKS = pytest.mark.parametrize(("make", "clip"), [(perceptron, 1.08), (convolutional, 2.9)])


def apart(ours, theirs):
    """Length of the difference over the length."""
    ours, theirs = (torch.cat([p.detach().flatten() for p in each]) for each in (ours, theirs))
    return float((ours - theirs).norm() / theirs.norm())


def private_by_opacus(net, recipe, clip):
    """The network and its optimiser as Opacus makes them private, without noise."""
    make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[recipe.optimiser]
    counted = GradSampleModule(net)
    optimiser = DPOptimizer(
        make(counted.parameters(), lr=recipe.learning_rate), noise_multiplier=0.0,
        max_grad_norm=clip, expected_batch_size=recipe.batch,
    )  # fmt: skip
    return counted, optimiser


@HOOKS
@NETWORKS
@pytest.mark.parametrize("factor", [0.1, 1.0, 1e3])  # every example is clipped, half, none
def test_clipped_gradients_are_those_of_opacus(make, clip, factor):
    inputs, labels = examples()
    clip = factor * clip
    ours = clipped_gradients(make(), inputs, labels, clip)
    assert int((ours.norms > clip).sum()) == {0.1: 12, 1.0: 6, 1e3: 0}[factor]
    counted, optimiser = private_by_opacus(make(), RECIPE, clip)
    functional.cross_entropy(counted(inputs), labels).backward()
    each = [p.grad_sample.flatten(1) for p in counted.parameters()]
    torch.testing.assert_close(ours.norms, torch.cat(each, 1).norm(dim=1))
    optimiser.clip_and_accumulate()
    for mine, p in zip(ours.gradients, counted.parameters(), strict=True):
        assert apart([mine], [p.summed_grad]) < CLOSE


@HOOKS
@NETWORKS
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_steps_without_noise_are_those_of_opacus(make, clip, optimiser):
    inputs, labels = examples(40)
    recipe = replace(RECIPE, optimiser=optimiser)
    net = make()
    private.train(net, inputs, labels, recipe, clip=clip, noise_multiplier=0, seed=5)
    other = make()
    counted, stepper = private_by_opacus(other, recipe, clip)
    chance = torch.Generator().manual_seed(5)
    for _ in range(recipe.epochs * round(40 / 16)):
        taken = torch.rand(40, generator=chance) < 16 / 40
        stepper.zero_grad()
        functional.cross_entropy(counted(inputs[taken]), labels[taken]).backward()
        stepper.step()
    moved, expected = (
        [
            after - before
            for after, before in zip(each.parameters(), make().parameters(), strict=True)
        ]
        for each in (net, other)
    )
    assert apart(moved, expected) < CLOSE


# -- training --------------------------------------------------------------------------------------


def test_with_everyone_in_the_batch_and_no_bound_it_is_plain_gradient_descent():
    inputs, labels = examples()
    recipe = Recipe(epochs=5, batch=12, optimiser="sgd", learning_rate=0.1)
    net, plain = perceptron(), perceptron()
    history = private.train(net, inputs, labels, recipe, clip=1e9, noise_multiplier=0, seed=0)
    expected = training.train(plain, inputs, labels, recipe, seed=0)
    torch.testing.assert_close(list(net.parameters()), list(plain.parameters()))
    assert history.loss == pytest.approx(expected.loss) and not net.training


def test_the_noise_has_the_stated_size():
    # gradients of nearly nothing: all that moves the weights in one step is the noise
    net = models.fully_connected(200, (100,), 10, seed=0)
    before = [p.detach().clone() for p in net.parameters()]
    inputs, labels = torch.rand(50, 200), torch.zeros(50, dtype=torch.int64)
    recipe = Recipe(epochs=1, batch=50, optimiser="sgd", learning_rate=1.0)
    private.train(net, inputs, labels, recipe, clip=1e-6, noise_multiplier=2e6, seed=1)
    moved = torch.cat([(p - b).flatten() for p, b in zip(net.parameters(), before, strict=True)])
    moved = moved.detach().double()
    spread, count = 2e6 * 1e-6 / 50, len(moved)
    assert abs(float(moved.mean())) < 5 * spread / math.sqrt(count)
    assert float(moved.std()) == pytest.approx(spread, rel=5 / math.sqrt(2 * count))


def test_batches_are_drawn_by_chance(monkeypatch):
    sizes = []
    original = private.clipped_gradients

    def counted(model, inputs, labels, clip):
        sizes.append(len(inputs))
        return original(model, inputs, labels, clip)

    monkeypatch.setattr(private, "clipped_gradients", counted)
    inputs, labels = examples(160)
    recipe = replace(RECIPE, epochs=40)
    private.train(perceptron(), inputs, labels, recipe, clip=1.0, noise_multiplier=0, seed=0)
    assert len(sizes) == 40 * 10
    mean, spread = sum(sizes) / 400, torch.tensor(sizes).double().std()
    assert abs(mean - 16) < 4 * math.sqrt(16 * 0.9 / 400)
    assert float(spread) == pytest.approx(math.sqrt(16 * 0.9), rel=0.2)


def test_the_seed_decides_everything():
    inputs, labels = examples(40)
    nets = [perceptron() for _ in range(3)]
    for net, seed in zip(nets, (3, 3, 4), strict=True):
        private.train(net, inputs, labels, RECIPE, clip=1.0, noise_multiplier=0.5, seed=seed)
    first, same, other = (torch.cat([p.flatten() for p in net.parameters()]) for net in nets)
    assert torch.equal(first, same) and not torch.allclose(first, other)


def test_it_learns_what_it_may():
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 6, generator=draw)
    labels = (inputs[:, 0] > 0).long() + (inputs[:, 0] > 1).long()
    net = models.fully_connected(6, (16,), 3, seed=0)
    recipe = Recipe(epochs=30, batch=40, learning_rate=1e-2)
    private.train(net, inputs, labels, recipe, clip=1.0, noise_multiplier=0.5, seed=0)
    accuracy = (training.predict(net, inputs).argmax(1) == labels).double().mean()
    assert accuracy > 0.85  # the largest class has about half


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"noise": 0.1}, "noise"),
        ({"clip_norm": 1.0}, "clip_norm"),
        ({"augment": True}, "augment"),
        ({"loss": "mse"}, "loss='mse'"),
        ({"stop_loss": 0.1}, "stop_loss=0.1"),
        ({"batch": 13}, "batch is 13"),
    ],
)
def test_recipes_that_cannot_be_followed(change, named):
    with pytest.raises(ValueError, match=named):
        private.train(
            perceptron(), *examples(), replace(RECIPE, **({"batch": 4} | change)), clip=1.0,
            noise_multiplier=0, seed=0,
        )  # fmt: skip


def test_negative_noise_and_weights_that_diverge():
    with pytest.raises(ValueError, match="noise_multiplier is -1"):
        private.train(
            perceptron(), *examples(), replace(RECIPE, batch=4), clip=1.0, noise_multiplier=-1,
            seed=0,
        )  # fmt: skip
    wild = Recipe(epochs=3, batch=4, optimiser="sgd", learning_rate=1e300)
    with pytest.raises(Diverged):
        private.train(perceptron(), *examples(), wild, clip=1e9, noise_multiplier=0, seed=0)


# -- the accountant --------------------------------------------------------------------------------


def test_one_step_with_everyone_is_the_gaussian_mechanism():
    """The exact curve of the Gaussian mechanism (Balle & Wang 2018) is a lower bound, and close."""
    sigma, delta = 2.0, 1e-5
    found = epsilon(sigma, samples=100, batch=100, epochs=1, delta=delta)

    def exact_delta(eps):
        return stats.norm.cdf(0.5 / sigma - eps * sigma) - math.exp(eps) * stats.norm.cdf(
            -0.5 / sigma - eps * sigma
        )

    assert exact_delta(found) <= delta < exact_delta(0.8 * found)


def test_steps_by_chance_cost_what_numerical_integration_says():
    """Many steps: epsilon lies at the Renyi divergence of one step, integrated numerically."""
    sigma, share, steps, delta = 1.0, 0.1, 50, 1e-5
    found = epsilon(sigma, samples=100, batch=10, epochs=5, delta=delta)

    def renyi(order):
        base, moved = stats.norm(0, sigma), stats.norm(1, sigma)

        def power(x):
            ratio = (1 - share) + share * moved.pdf(x) / base.pdf(x)
            return base.pdf(x) * ratio**order

        return math.log(integrate.quad(power, -20, 30, limit=400)[0]) / (order - 1)

    def converted(order):  # Canonne, Kamath & Steinke 2020, proposition 12
        return (
            steps * renyi(order)
            + math.log1p(-1 / order)
            - (math.log(delta) + math.log(order)) / (order - 1)
        )

    best = min(converted(order) for order in range(2, 20))
    assert found == pytest.approx(best, rel=1e-3)


def test_more_noise_is_more_private_and_no_noise_is_not():
    levels = [epsilon(s, samples=10_000, batch=128, epochs=10, delta=1e-4) for s in (0.5, 1, 2)]
    assert levels[0] > levels[1] > levels[2] > 0
    assert epsilon(0, samples=10_000, batch=128, epochs=10, delta=1e-4) == math.inf


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"delta": 0.0}, "delta is 0"),
        ({"delta": 1.0}, "delta is 1"),
        ({"batch": 250}, "batch is 250: there are 100 examples"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": 2.5}, "batch is 2.5"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": math.nan}, "samples is nan"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"epochs": True}, "epochs is True"),
    ],
)
def test_guarantees_that_do_not_exist(change, named):
    with pytest.raises(ValueError, match=named):
        epsilon(1.0, **({"samples": 100, "batch": 10, "epochs": 1, "delta": 1e-5} | change))
    with pytest.raises(ValueError, match=named):  # also where there is no noise
        epsilon(0.0, **({"samples": 100, "batch": 10, "epochs": 1, "delta": 1e-5} | change))


@pytest.mark.parametrize("noise", [-2.0, math.nan, math.inf])
def test_noise_that_is_none(noise):
    with pytest.raises(ValueError, match=f"noise_multiplier is {noise}"):
        epsilon(noise, samples=100, batch=10, epochs=1, delta=1e-5)


@pytest.mark.parametrize("labels", [torch.tensor([0, -100, 1]), torch.tensor([0]), torch.zeros(3)])
def test_labels_that_are_no_classes_are_refused(labels):
    with pytest.raises(ValueError, match="one class each"):
        clipped_gradients(
            nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), torch.ones(3, 2), labels, 1.0
        )


@pytest.mark.parametrize("clip", [math.inf, 1e308])
def test_noise_without_end_is_refused(clip):
    net, recipe = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), training.Recipe(epochs=1, batch=3)
    with pytest.raises(ValueError, match="noise of that size"):
        private.train(
            net, torch.ones(3, 2), torch.tensor([0, 1, 0]), recipe,
            clip=clip, noise_multiplier=1.0, seed=0,
        )  # fmt: skip
