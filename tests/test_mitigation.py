"""The contrast with a pruned copy, its masks and the baselines, against loops written here."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

from helpers import mitigation, models, training
from helpers.groups import Grouped
from helpers.mitigation import Contrast

LABELS = (torch.arange(100) >= 77).long()  # the classes of Waterbirds in a batch


def images(counts=(20, 6, 4, 12), size=8, seed=0):
    """Noise; the first channel tells the class, the second the attribute."""
    draw = torch.Generator().manual_seed(seed)
    group = torch.arange(4).repeat_interleave(torch.tensor(counts))
    group = group[torch.randperm(len(group), generator=draw)]
    pixels = 0.3 * torch.randn(len(group), 3, size, size, generator=draw)
    pixels[:, 0] += 0.3 * (group // 2)[:, None, None]
    pixels[:, 1] += 0.8 * (group % 2)[:, None, None]
    return Grouped(pixels, group // 2, group % 2, "noise")


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
        )  # fmt: skip


def transformer():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = torchvision.models.VisionTransformer(
            image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16,
            num_classes=2,
        )  # fmt: skip
        nn.init.normal_(vit.heads.head.weight)
    return nn.Sequential(models.Normalise([0.5] * 3, [0.25] * 3), vit)


def silent(model, epoch):
    return {}


def zeroed(model, mask):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, kept in mask.items():
            other.get_parameter(name)[~kept] = 0
    return other


def dropped(mask):
    return sum(int((~kept).sum()) for kept in mask.values())


# -- NT-Xent ---------------------------------------------------------------------------------------


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
    assert float(mitigation.nt_xent(rows, 7 * rows)) == pytest.approx(expected, abs=1e-5)


@given(st.integers(2, 6), st.integers(1, 4), st.floats(0.1, 3), st.integers(0, 99))
def test_nt_xent_is_the_double_sum(batch, width, temperature, seed):
    draw = torch.Generator().manual_seed(seed)
    u, v = torch.randn(2, batch, width, generator=draw, dtype=torch.float64)
    z = [row / row.norm() for row in (*u, *v)]
    total = 0.0
    for i, own in enumerate(z):
        near = [math.exp(float(own @ other) / temperature) for other in z]
        total -= math.log(near[(i + batch) % (2 * batch)] / (sum(near) - near[i]))
    got = float(mitigation.nt_xent(u, v, temperature))
    assert got == pytest.approx(total / (2 * batch), rel=1e-9)


def test_nt_xent_has_the_right_gradient():
    draw = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, 5, 3, generator=draw, dtype=torch.float64).unbind()
    assert torch.autograd.gradcheck(
        mitigation.nt_xent, (u.requires_grad_(), v.requires_grad_(), 0.4)
    )


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
        mitigation.nt_xent(u, v, temperature)


# -- masks -----------------------------------------------------------------------------------------


def test_filters_and_matrices_of_blocks_may_be_pruned():
    assert mitigation.prunable(network()) == ["0.weight", "3.weight"]
    resnet = models.resnet(18, 2, stem="small", width=8, seed=0)
    assert len(mitigation.prunable(resnet)) == 20  # 17 in the body, 3 in shortcuts
    names = mitigation.prunable(transformer())
    assert len(names) == 8 and all(name.startswith("1.encoder.layers.") for name in names)
    assert {name.split(".", 4)[4] for name in names} == {
        "self_attention.in_proj_weight", "self_attention.out_proj.weight", "mlp.0.weight",
        "mlp.3.weight",
    }  # fmt: skip
    with pytest.raises(ValueError, match="nothing to prune"):
        mitigation.prunable(nn.Linear(3, 2))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("make", [network, transformer])
def test_magnitude_masks_drop_exactly_the_smallest(make, share):
    net = make()
    mask = mitigation.magnitude_mask(net, share)
    weights = {name: net.get_parameter(name).detach().abs() for name in mask}
    assert list(mask) == mitigation.prunable(net)
    assert dropped(mask) == round(share * sum(w.numel() for w in weights.values()))
    largest_dropped = max(float(w[~mask[n]].max()) for n, w in weights.items() if (~mask[n]).any())
    smallest_kept = min(float(w[mask[n]].min()) for n, w in weights.items() if mask[n].any())
    assert largest_dropped <= smallest_kept


def test_counts_are_exact_with_ties():
    net = network()
    nn.init.ones_(net[0].weight)
    nn.init.ones_(net[3].weight)
    assert dropped(mitigation.magnitude_mask(net, 0.25)) == round(0.25 * (8 * 27 + 16 * 72))


@pytest.mark.parametrize("head", ["logits", "softmax"])
@pytest.mark.parametrize("make", [network, transformer])
def test_gradient_masks_drop_the_units_with_the_largest_gradients(make, head):
    net, sample = make().train(), images()
    before = copy.deepcopy(net.state_dict())
    units = mitigation.gradient_mask(net, sample.images, sample.label, 0.2, head=head)
    singles = mitigation.gradient_mask(
        net, sample.images, sample.label, 0.2, unit="weight", head=head
    )
    assert net.training and all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

    net.eval()
    outputs = net(sample.images)
    chance = outputs.softmax(1) if head == "softmax" else outputs
    (-chance.log_softmax(1)[torch.arange(len(sample)), sample.label]).mean().backward()
    gradient = {name: net.get_parameter(name).grad for name in units}
    ranked = sorted(
        (
            (float(g[row].norm()), name, row)
            for name, g in gradient.items()
            for row in range(len(g))
        ),
        reverse=True,
    )
    found = {
        (name, row) for name, kept in units.items() for row, each in enumerate(kept)
        if not bool(each.any())
    }  # fmt: skip
    assert found == {place[1:] for place in ranked[: round(0.2 * len(ranked))]}
    assert all(bool(each.all()) or not bool(each.any()) for kept in units.values() for each in kept)
    sizes = torch.cat([g.abs().flatten() for g in gradient.values()])
    limit = sizes.sort(descending=True).values[round(0.2 * len(sizes)) - 1]
    assert dropped(singles) == round(0.2 * len(sizes))
    assert all(bool((gradient[n][~kept].abs() >= limit).all()) for n, kept in singles.items())


def test_random_masks_have_the_density_of_the_others():
    net = network()
    one, again, other = (mitigation.random_mask(net, 0.1, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert dropped(one) == dropped(mitigation.magnitude_mask(net, 0.1))
    filters = mitigation.random_mask(net, 0.5, 0, unit="filter")
    whole = [each for kept in filters.values() for each in kept]
    assert sum(not bool(each.any()) for each in whole) == 12
    assert sum(bool(each.all()) for each in whole) == 12


@pytest.mark.parametrize("share", [0.0, 1e-9, 1.0, math.nan])
def test_masks_drop_something_and_leave_something(share):
    with pytest.raises(ValueError, match="of 1,368 that may be dropped, at least 1 must be"):
        mitigation.magnitude_mask(network(), share)


def test_both_masks_are_intersected_where_the_release_keeps_one():
    net, sample = network(), images()
    recipe = Contrast(mask="both", share=0.2, head="logits")
    both = mitigation._mask(net, sample, recipe, 0, 1)
    first = mitigation.magnitude_mask(net, 0.2)
    worst = mitigation.poorest(net, sample)
    second = mitigation.gradient_mask(net, worst.images, worst.label, 0.2)
    assert all(torch.equal(both[name], first[name] & second[name]) for name in both)
    assert dropped(both) > dropped(second) > 0


def test_poorest_are_the_worst_fitted_unless_as_released():
    net, sample = network().eval(), images()
    with torch.no_grad():
        chance = net(sample.images).softmax(1)[torch.arange(len(sample)), sample.label]
    worst = chance.argsort()
    got = mitigation.poorest(net, sample, 5)
    assert torch.equal(got.images, sample.images[worst[:5]])
    released = mitigation.poorest(net, sample, 5, as_released=True)
    assert torch.equal(released.images, sample.images[worst.flip(0)[:5]])
    assert len(mitigation.poorest(net, sample)) == len(sample)
    with pytest.raises(ValueError, match="n is 0"):
        mitigation.poorest(net, sample, 0)


# -- the pruned branch -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [network, transformer])
def test_the_pruned_branch_is_the_network_with_weights_zeroed(make):
    net, sample = make(), images()
    mask = mitigation.magnitude_mask(net, 0.5)
    for mode in (True, False):
        net.train(mode)
        expected = zeroed(net, mask)(sample.images)
        got = mitigation.pruned_outputs(net, mask, sample.images)
        assert torch.allclose(got, expected, atol=1e-5)
        assert not torch.allclose(got, copy.deepcopy(net)(sample.images), atol=1e-3)


def test_shared_weights_get_the_gradients_of_both_branches():
    net, sample = network().eval(), images()
    mask = mitigation.magnitude_mask(net, 0.5)
    names, weights = zip(*net.named_parameters(), strict=True)
    other = zeroed(net, mask)
    alone = torch.autograd.grad(net(sample.images)[:, 0].sum(), weights)
    beside = torch.autograd.grad(other(sample.images)[:, 1].sum(), list(other.parameters()))
    both = mitigation.pruned_outputs(net, mask, sample.images)[:, 1].sum()
    together = torch.autograd.grad(both + net(sample.images)[:, 0].sum(), weights)
    for name, total, one, two in zip(names, together, alone, beside, strict=True):
        expected = one + two * mask.get(name, torch.ones_like(two))
        assert torch.allclose(total, expected, atol=1e-4), name


def test_running_statistics_move_with_one_branch_or_with_both():
    net, sample = network().train(), images()
    mask = mitigation.magnitude_mask(net, 0.5)
    start = net[1].running_mean.clone()
    batch = functional.conv2d(sample.images, zeroed(net, mask)[0].weight, padding=1)
    moved = 0.9 * start + 0.1 * batch.mean((0, 2, 3)).detach()

    own = mitigation.own_statistics(net)
    mitigation.pruned_outputs(net, mask, sample.images, own)
    assert torch.equal(net[1].running_mean, start) and int(net[1].num_batches_tracked) == 0
    assert torch.allclose(own["1.running_mean"], moved, atol=1e-6)
    assert int(own["1.num_batches_tracked"]) == 1
    mitigation.pruned_outputs(net, mask, sample.images)
    assert torch.allclose(net[1].running_mean, moved, atol=1e-6)


@pytest.mark.parametrize(("statistics", "passes"), [("shared", 2), ("separate", 1)])
def test_fine_tuning_moves_them_as_the_recipe_says(statistics, passes):
    recipe = Contrast(epochs=2, batch=21, share=0.5, statistics=statistics, augment=False)
    net = mitigation.finetune(network(), images(), recipe, seed=0, evaluate=silent).model
    assert int(net[1].num_batches_tracked) == 4 * passes


# -- fine-tuning -----------------------------------------------------------------------------------


def by_hand(net, sample, recipe, order, loss_of):
    """A plain loop with torch's scheduler; `loss_of(net, rows, mask)` is a batch's loss."""
    optimiser = torch.optim.Adam(net.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=1)
    sums = []
    for _ in range(recipe.epochs):
        mask = mitigation.magnitude_mask(net, recipe.share)
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
def test_without_contrast_it_is_a_plain_loop(head, balanced):
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
    got = mitigation.finetune(network().double(), sample, recipe, seed=5, evaluate=silent)
    assert [row["epoch"] for row in got.rows] == list(range(1, 17))
    # the copy lies channels-last: its rounding differs, and Adam at a large rate amplifies that
    assert [row["loss"] for row in got.rows] == pytest.approx(sums, rel=1e-5)
    with torch.no_grad():
        assert torch.allclose(got.model(sample.images), expected(sample.images), rtol=1e-4)


def test_the_contrast_is_the_loss_as_released():
    sample = double(images())
    recipe = Contrast(epochs=3, batch=14, share=0.4, learning_rate=1e-3, augment=False)
    shuffle = torch.Generator().manual_seed(5)

    def loss_of(net, rows, mask):
        masked = {n: p * mask.get(n, 1) for n, p in net.named_parameters()}
        v = torch.func.functional_call(net, masked, (sample.images[rows],)).softmax(1)
        u = net(sample.images[rows]).softmax(1)
        label = functional.one_hot(sample.label[rows], 2)
        told = -(label * u.log_softmax(1)).sum(1).mean()
        contrast = mitigation.nt_xent(u.detach(), v) + mitigation.nt_xent(u, v.detach())
        return contrast + 0.2 * told

    expected, sums, _ = by_hand(
        network().double(), sample, recipe, lambda: torch.randperm(42, generator=shuffle), loss_of
    )
    got = mitigation.finetune(network().double(), sample, recipe, seed=5, evaluate=silent)
    assert [row["loss"] for row in got.rows] == pytest.approx(sums, rel=1e-8)
    with torch.no_grad():
        assert torch.allclose(got.model(sample.images), expected(sample.images), rtol=1e-6)


@pytest.mark.parametrize("mask", mitigation.CHOICES["mask"])
@pytest.mark.parametrize("features", ["outputs", "penultimate"])
def test_runs_repeat_and_leave_the_world_as_it_was(mask, features):
    start, sample = network(), images()
    before, state = copy.deepcopy(start.state_dict()), torch.get_rng_state()
    recipe = Contrast(epochs=2, batch=21, mask=mask, share=0.3, features=features)
    one, again, other = (
        mitigation.finetune(start, sample, recipe, seed=seed, evaluate=silent) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    assert one.rows == again.rows != other.rows
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_dropout_comes_from_the_seed_too():
    sample, recipe = images(), Contrast(epochs=1, batch=21, share=0.3)
    net = nn.Sequential(nn.Dropout(0.2), network())
    state = torch.get_rng_state()
    one, again = (mitigation.finetune(net, sample, recipe, seed=0, evaluate=silent) for _ in "12")
    assert torch.equal(torch.get_rng_state(), state) and one.rows == again.rows


def test_each_epoch_has_a_random_mask_of_its_own():
    recipe = Contrast(mask="random", share=0.3)
    masks = [
        mitigation._mask(network(), images(), recipe, seed, epoch)["3.weight"]
        for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1))
    ]
    assert [torch.equal(masks[0], mask) for mask in masks] == [True, True, False, False]


def test_two_views_are_drawn_independently(monkeypatch):
    sample, seen = images(), []
    real = training.crop_and_flip

    def watch(*arguments):
        seen.append(real(*arguments))
        return seen[-1]

    monkeypatch.setattr(training, "crop_and_flip", watch)
    recipe = Contrast(epochs=1, batch=42, features="penultimate", share=0.3)
    mitigation.finetune(network(), sample, recipe, seed=0, evaluate=silent)
    assert len(seen) == 2 and not torch.equal(*seen)
    mitigation.finetune(
        network(), sample, replace(recipe, features="outputs"), seed=0, evaluate=silent
    )
    assert len(seen) == 3


def test_evaluation_sees_the_model_in_eval_mode_after_each_epoch():
    def watch(model, epoch):
        assert not model.training
        return {"seen": epoch, "slope": float(model[8].weight.detach().norm())}

    recipe = Contrast(epochs=3, batch=21, share=0.1)
    got = mitigation.finetune(network(), images(), recipe, seed=0, evaluate=watch)
    assert [row["seen"] for row in got.rows] == [1, 2, 3]
    assert len({row["slope"] for row in got.rows}) == 3
    assert got.rows[-1]["slope"] == pytest.approx(float(got.model[8].weight.detach().norm()))


def test_groups_are_balanced_by_sampling():
    group = torch.arange(4).repeat_interleave(torch.tensor([3498, 184, 56, 1057]))
    shares = mitigation._balanced(group)
    drawn = mitigation._order(len(group), shares, torch.Generator().manual_seed(0))
    counts = group[drawn].bincount(minlength=4)
    # four equal chances: a standard deviation of 30
    assert int(counts.sum()) == 4795 and bool(((counts - 4795 / 4).abs() < 120).all())


def test_a_transformer_can_be_tuned():
    recipe = Contrast(epochs=1, batch=21, mask="both", share=0.2)
    net = transformer()
    got = mitigation.finetune(net, images(), recipe, seed=0, evaluate=silent).model
    moved = [
        name for name, p in net.named_parameters() if not torch.equal(p, got.get_parameter(name))
    ]
    assert len(moved) == len(list(net.parameters()))


def test_a_single_left_over_sample_is_left_out():
    sample = images((20, 7, 4, 12))
    recipe = Contrast(epochs=1, batch=21, share=0.1)
    net = mitigation.finetune(network(), sample, recipe, seed=0, evaluate=silent).model
    assert int(net[1].num_batches_tracked) == 4


def test_divergence_is_reported():
    net = network()
    nn.init.constant_(net[8].weight, math.inf)
    with pytest.raises(training.Diverged, match="the training loss is nan in epoch 1 of 21"):
        mitigation.finetune(net, images(), Contrast(share=0.1), seed=0, evaluate=silent)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0: it must be at least 1"),
        ({"batch": 1}, "batch is 1: it must be at least 2"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"share": 1.0}, "share is 1.0: allowed is between 0 and 1"),
        ({"factor": 1.5}, "factor is 1.5"),
        ({"label_weight": -1}, "label_weight is -1"),
        ({"contrast_weight": 0, "label_weight": 0}, "nothing is minimised"),
        ({"mask": "largest"}, "mask is 'largest': allowed are 'magnitude', 'gradient'"),
        ({"head": "sigmoid"}, "head is 'sigmoid'"),
        ({"sampling": "twice"}, "sampling is 'twice'"),
    ],
)
def test_bad_recipes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Contrast(**settings)


def test_bad_data_and_networks_are_refused():
    sample, recipe = images(), Contrast(share=0.1)
    cases = [
        (network(), replace(sample, images=sample.images.to(torch.uint8)), recipe, "torch.uint8"),
        (network(), replace(sample, label=sample.label + 1), recipe, r"labels \[1, 2\]"),
        (nn.Sequential(network(), nn.Softmax(1)), sample, recipe, "ends with Softmax"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), sample, recipe, "has 3 outputs"),
        (network(), sample.rows(sample.label == 0), replace(recipe, class_weights=True),
         r"classes have \[26, 0\]"),
        (network(), sample.rows(sample.group != 1), replace(recipe, sampling="group-balanced"),
         r"groups have \[20, 0, 4, 12\]"),
    ]  # fmt: skip
    for net, data, settings, message in cases:
        with pytest.raises(ValueError, match=message):
            mitigation.finetune(net, data, settings, seed=0, evaluate=silent)


# -- baselines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [21, 3])  # two steps, and fourteen with groups that are absent
def test_group_weights_follow_the_steps_by_hand(batch):
    sample = double(images())
    recipe = Contrast(epochs=1, batch=batch, learning_rate=1e-3, head="logits", augment=False)
    net = network().double().train()
    shares = torch.tensor([1 / 20, 1 / 6, 1 / 4, 1 / 12]).double()[sample.group]
    order = torch.multinomial(
        shares, 42, replacement=True, generator=torch.Generator().manual_seed(3)
    )
    q, total = [0.25] * 4, 0.0
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    for rows in order.split(batch):
        chances = net(sample.images[rows]).softmax(1)
        loss = [torch.zeros(())] * 4
        for g in set(sample.group[rows].tolist()):
            members = sample.group[rows] == g
            loss[g] = -chances[members, g // 2].log().mean()
        grown = [q[g] * math.exp(0.5 * float(loss[g].detach())) for g in range(4)]
        q = [each / sum(grown) for each in grown]
        weighted = sum(q[g] * loss[g] for g in range(4))
        optimiser.zero_grad()
        weighted.backward()
        optimiser.step()
        total += float(weighted.detach())
    got = mitigation.group_dro(
        network().double(), sample, recipe, step_size=0.5, seed=3, evaluate=silent
    )
    assert [got.rows[0][f"weight_{g}"] for g in range(4)] == pytest.approx(q, rel=1e-8)
    assert got.rows[0]["loss"] == pytest.approx(total, rel=1e-8)
    for ours, theirs in zip(got.model.parameters(), net.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6)


def test_group_dro_needs_every_group_and_a_step():
    sample, recipe = images(), Contrast(epochs=1)
    with pytest.raises(ValueError, match="none may be empty"):
        mitigation.group_dro(
            network(), sample.rows(sample.group != 2), recipe, seed=0, evaluate=silent
        )
    with pytest.raises(ValueError, match="step_size is -1"):
        mitigation.group_dro(network(), sample, recipe, step_size=-1, seed=0, evaluate=silent)


@pytest.mark.parametrize("make", [network, transformer])
def test_penultimate_features_explain_the_outputs(make):
    net, sample = make().eval(), images()
    last = net[-1] if make is network else net[1].heads.head
    assert mitigation.last_linear(net) is last
    features = mitigation.penultimate(net, sample.images)
    assert features.shape == (42, last.in_features) and not features.requires_grad
    with torch.no_grad():
        assert torch.allclose(last(features), net(sample.images), atol=1e-5)
    assert not last._forward_pre_hooks


@pytest.mark.parametrize("draws", [1, 4])
def test_the_last_layer_is_the_mean_of_direct_fits(draws):
    net, sample = network().eval(), images((10, 10, 10, 10))  # balanced: all draws are all samples
    got = mitigation.last_layer_retraining(net, sample, seed=0, draws=draws, strength=0.7)
    with torch.no_grad():
        x = net[:-1](sample.images).double().numpy()
        outputs = got(sample.images)
    x = StandardScaler().fit_transform(x)
    fit = LogisticRegression(C=0.7, tol=1e-10, max_iter=10_000).fit(x, sample.label.numpy())
    assert np.allclose(outputs.softmax(1)[:, 1], fit.predict_proba(x)[:, 1], atol=2e-3)
    assert not torch.equal(got[8].weight, net[8].weight) and torch.equal(
        got[0].weight, net[0].weight
    )


def test_draws_have_as_many_of_every_group(monkeypatch):
    seen, real = [], Grouped.draw

    def watch(self, counts, seed):
        seen.append(real(self, counts, seed))
        return seen[-1]

    monkeypatch.setattr(Grouped, "draw", watch)
    one, again, other = (
        mitigation.last_layer_retraining(network(), images(), seed=seed, draws=3)
        for seed in (0, 0, 1)
    )
    assert [part.counts() for part in seen] == [(4, 4, 4, 4)] * 9
    assert not torch.equal(seen[0].images, seen[1].images)
    assert torch.equal(one[8].weight, again[8].weight)
    assert not torch.equal(one[8].weight, other[8].weight)


def test_the_strength_is_chosen_on_the_other_half():
    # the label is one coordinate, amid noise that a weak penalty fits
    sample = images((100, 100, 100, 100))
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(400, 180, generator=draw, dtype=torch.float64)
    x[:, 0] += 4 * sample.label
    features = replace(sample, images=x)
    for strengths in ((1e4, 1e-2), (1e-2, 1e4)):
        assert mitigation._strength(features, strengths, seed=0) == 1e-2
    assert mitigation._strength(features, (1e4, 1e-9), seed=0) == 1e4  # penalised to one class


@pytest.mark.parametrize("settings", [{"draws": 0}, {"strength": 0.0}, {"strength": []}])
def test_bad_fits_are_refused(settings):
    with pytest.raises(ValueError, match="both must be above 0"):
        mitigation.last_layer_retraining(network(), images(), seed=0, **settings)


# -- free outputs ----------------------------------------------------------------------------------


def test_the_contrast_alone_splits_a_batch_in_halves():
    got = mitigation.free_outputs(LABELS, label_weight=0, seed=0, steps=500)
    assert got.contrast == pytest.approx(4.7233, abs=3e-3) and got.confidence > 0.99
    assert got.share == pytest.approx(0.5, abs=0.05)
    assert got.contrast < 4.8672  # what the true classes would give


@pytest.mark.parametrize(
    ("label_weight", "head", "expected"),
    [(0.2, "logits", (0.70, 1.0)), (1.0, "softmax", (0.82, 1.0)), (1.0, "logits", (1.0, 1.0))],
)
def test_labels_count_as_the_weights_say(label_weight, head, expected):
    got = mitigation.free_outputs(LABELS, label_weight=label_weight, head=head, seed=1, steps=500)
    assert got.accuracy == pytest.approx(expected, abs=0.03)


def test_the_released_weights_leave_labels_near_chance():
    found = [mitigation.free_outputs(LABELS, seed=seed, steps=400).accuracy for seed in range(3)]
    assert np.mean(found, axis=0) == pytest.approx([0.52, 0.52], abs=0.12)


def test_chance_is_a_local_minimum_and_not_the_best():
    """Of outputs without doubt, those that move 22 samples of class 0 over have the least loss."""

    def released(moved, right=True):
        said = LABELS.clone()
        said[:moved] = 1
        u = functional.one_hot(said, 2).float()
        return float(mitigation.nt_xent(u, u) + 0.2 * functional.cross_entropy(u, LABELS))

    best = min(range(60), key=released)
    assert best == 22 and released(best) < released(0) - 0.09
    at_chance = mitigation.free_outputs(LABELS, seed=0, steps=500)
    wrong = 1 - np.dot(at_chance.accuracy, (0.77, 0.23))
    told = 0.2 * (math.log(1 + math.exp(-1)) + wrong)
    assert at_chance.contrast + told > released(best) + 0.02


def test_outputs_that_have_fitted_the_labels_stay():
    got = mitigation.free_outputs(LABELS, seed=0, lean=8.0, steps=400)
    assert got.accuracy == pytest.approx((1.0, 1.0), abs=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"steps": 0}, "steps is 0"), ({"spread": 0.0}, "spread is 0"), ({"head": "x"}, "head is")],
)
def test_bad_free_outputs_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        mitigation.free_outputs(LABELS, seed=0, **settings)
    with pytest.raises(ValueError, match=r"classes have \[0, 5\]"):
        mitigation.free_outputs(torch.ones(5, dtype=torch.long), seed=0)
