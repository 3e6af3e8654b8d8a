"""The contrast with a pruned copy, against loops written here."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from helpers import remedies, training
from helpers.remedies import Contrast

LABELS = (torch.arange(100) >= 77).long()  # the classes of Waterbirds in a batch


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (torch.eye(2), math.log(1 + 2 * math.exp(-2))),
        (torch.ones(2, 2), 1.09861),
        (torch.full((100, 2), 0.5), 5.29330),
        (torch.eye(2)[LABELS], 4.86722),
        (torch.eye(2)[(torch.arange(100) >= 50).long()], 4.72325),
    ],
)
def test_nt_xent_has_the_known_values(rows, expected):
    assert float(remedies.nt_xent(rows, 7 * rows)) == pytest.approx(expected, abs=1e-5)


@given(st.integers(2, 6), st.integers(1, 4), st.floats(0.1, 3), st.integers(0, 99))
def test_nt_xent_is_the_double_sum(batch, width, temperature, seed):
    draw = torch.Generator().manual_seed(seed)
    u, v = torch.randn(2, batch, width, generator=draw, dtype=torch.float64)
    z = [row / row.norm() for row in (*u, *v)]
    total = 0.0
    for i, own in enumerate(z):
        near = [math.exp(float(own @ other) / temperature) for other in z]
        total -= math.log(near[(i + batch) % (2 * batch)] / (sum(near) - near[i]))
    got = float(remedies.nt_xent(u, v, temperature))
    assert got == pytest.approx(total / (2 * batch), rel=1e-9)


def test_nt_xent_has_the_right_gradient():
    draw = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, 5, 3, generator=draw, dtype=torch.float64).unbind()
    assert torch.autograd.gradcheck(remedies.nt_xent, (u.requires_grad_(), v.requires_grad_(), 0.4))


@pytest.mark.parametrize(
    ("u", "v", "temperature", "message"),
    [
        (torch.eye(2), torch.eye(3), 0.5, r"u has shape \(2, 2\) and v \(3, 3\)"),
        (torch.ones(1, 2), torch.ones(1, 2), 0.5, "at least 2 rows"),
        (torch.eye(2), torch.eye(2), 0.0, "temperature is 0.0: it must be above 0"),
    ],
)
def test_bad_views_are_refused(u, v, temperature, message):
    with pytest.raises(ValueError, match=message):
        remedies.nt_xent(u, v, temperature)


@pytest.mark.parametrize(("statistics", "passes"), [("shared", 2), ("separate", 1)])
def test_fine_tuning_moves_them_as_the_recipe_says(statistics, passes, images, network, silent):
    recipe = Contrast(epochs=2, batch=21, share=0.5, statistics=statistics, augment=False)
    net = remedies.finetune(network(), images(), recipe, seed=0, evaluate=silent).model
    assert int(net[1].num_batches_tracked) == 4 * passes


def by_hand(net, sample, recipe, order, loss_of):
    """A plain loop with torch's scheduler; `loss_of(net, rows, mask)` is a batch's loss."""
    optimiser = torch.optim.Adam(net.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=1)
    sums = []
    for _ in range(recipe.epochs):
        mask = remedies.magnitude_mask(net, recipe.share)
        net.train()
        sums.append(0.0)
        for rows in order().split(recipe.batch):
            loss = loss_of(net, rows, mask)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            sums[-1] += loss.item()
        schedule.step(sums[-1])
    return net.eval(), sums, schedule.get_last_lr()[0]


def double(sample):
    return replace(sample, images=sample.images.double())


@pytest.mark.parametrize("head", ["logits", "softmax"])
@pytest.mark.parametrize("balanced", [False, True])
def test_without_contrast_it_is_a_plain_loop(head, balanced, images, network, silent):
    sample = double(images())
    recipe = Contrast(
        epochs=16, batch=14, learning_rate=0.05, contrast_weight=0, label_weight=1, head=head,
        augment=False, class_weights=balanced,
    )  # fmt: skip
    shuffle = torch.Generator().manual_seed(5)
    weight = torch.tensor([42 / 52, 42 / 32]).double() if balanced else None

    def loss_of(net, rows, mask):
        outputs = net(sample.images[rows])
        outputs = outputs.softmax(1) if head == "softmax" else outputs
        return functional.cross_entropy(outputs, sample.label[rows], weight)

    expected, sums, rate = by_hand(
        network().double(), sample, recipe, lambda: torch.randperm(42, generator=shuffle), loss_of
    )
    assert rate < recipe.learning_rate  # there were plateaus
    got = remedies.finetune(network().double(), sample, recipe, seed=5, evaluate=silent)
    assert [row["epoch"] for row in got.rows] == list(range(1, 17))
    # the copy lies channels-last: its rounding differs, and Adam at a large rate amplifies that
    assert [row["loss"] for row in got.rows] == pytest.approx(sums, rel=1e-5)
    with torch.no_grad():
        assert torch.allclose(got.model(sample.images), expected(sample.images), rtol=1e-4)


def test_the_contrast_is_the_loss_as_released(images, network, silent):
    sample = double(images())
    recipe = Contrast(epochs=3, batch=14, share=0.4, learning_rate=1e-3, augment=False)
    shuffle = torch.Generator().manual_seed(5)

    def loss_of(net, rows, mask):
        masked = {n: p * mask.get(n, 1) for n, p in net.named_parameters()}
        v = torch.func.functional_call(net, masked, (sample.images[rows],)).softmax(1)
        u = net(sample.images[rows]).softmax(1)
        label = functional.one_hot(sample.label[rows], 2)
        told = -(label * u.log_softmax(1)).sum(1).mean()
        contrast = remedies.nt_xent(u.detach(), v) + remedies.nt_xent(u, v.detach())
        return contrast + 0.2 * told

    expected, sums, _ = by_hand(
        network().double(), sample, recipe, lambda: torch.randperm(42, generator=shuffle), loss_of
    )
    got = remedies.finetune(network().double(), sample, recipe, seed=5, evaluate=silent)
    assert [row["loss"] for row in got.rows] == pytest.approx(sums, rel=1e-8)
    with torch.no_grad():
        assert torch.allclose(got.model(sample.images), expected(sample.images), rtol=1e-6)


@pytest.mark.parametrize("mask", remedies.CHOICES["mask"])
@pytest.mark.parametrize("features", ["outputs", "penultimate"])
def test_runs_repeat_and_leave_the_world_as_it_was(mask, features, images, network, silent):
    start, sample = network(), images()
    before, state = copy.deepcopy(start.state_dict()), torch.get_rng_state()
    recipe = Contrast(epochs=2, batch=21, mask=mask, share=0.3, features=features)
    one, again, other = (
        remedies.finetune(start, sample, recipe, seed=seed, evaluate=silent) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    assert one.rows == again.rows != other.rows
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_dropout_comes_from_the_seed_too(images, network, silent):
    sample, recipe = images(), Contrast(epochs=1, batch=21, share=0.3)
    net = nn.Sequential(nn.Dropout(0.2), network())
    state = torch.get_rng_state()
    one, again = (remedies.finetune(net, sample, recipe, seed=0, evaluate=silent) for _ in "12")
    assert torch.equal(torch.get_rng_state(), state) and one.rows == again.rows


def test_two_views_are_drawn_independently(monkeypatch, images, network, silent):
    sample, seen = images(), []
    real = training.augmented

    def watch(*arguments):
        seen.append(real(*arguments))
        return seen[-1]

    monkeypatch.setattr(training, "augmented", watch)
    recipe = Contrast(epochs=1, batch=42, features="penultimate", share=0.3)
    remedies.finetune(network(), sample, recipe, seed=0, evaluate=silent)
    assert len(seen) == 2 and not torch.equal(*seen)
    remedies.finetune(
        network(), sample, replace(recipe, features="outputs"), seed=0, evaluate=silent
    )
    assert len(seen) == 3


def test_a_transformer_can_be_tuned(images, transformer, silent):
    recipe = Contrast(epochs=1, batch=21, mask="both", share=0.2)
    net = transformer()
    got = remedies.finetune(net, images(), recipe, seed=0, evaluate=silent).model
    moved = [
        name for name, p in net.named_parameters() if not torch.equal(p, got.get_parameter(name))
    ]
    assert len(moved) == len(list(net.parameters()))
