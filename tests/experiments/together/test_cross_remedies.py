"""Remedies and measures: the data, the deletion, and what is measured."""

import pytest
import torch

from helpers.experiments.together import cross_remedies as experiment
from helpers.experiments.together import cross_setting as setting
from helpers.sweep import Call


@pytest.fixture(scope="module")
def sets():
    return experiment.drawn(120, 0)


def test_the_patch_goes_with_the_label_in_training_alone(sets):
    train, asked = sets
    agree = [float((s.patch == s.labels).double().mean()) for s in sets]
    assert agree[0] > 0.8 and 0.3 < agree[1] < 0.7
    corner = train.framed[(..., *experiment.PATCH)].flatten(1).double().mean(1)
    assert torch.equal(corner == 255, train.patch > 0) and bool(
        (corner[train.patch < 0] == 0).all()
    )
    assert len(asked.carriers) == 0


def test_carriers_are_odd_and_share_one_pattern(sets):
    train, _ = sets
    there = train.framed[train.carriers][(..., *experiment.RARE)]
    assert len(there) == experiment.CARRIERS and bool((there == there[:1]).all())
    assert bool((train.labels[train.carriers] == 1).all())
    shown = experiment.with_rare(train.bare, 0)
    assert torch.equal(shown, train.framed[train.carriers])


def test_balanced_groups_are_of_one_size(sets):
    train, _ = sets
    rows = experiment.balanced(train)
    pairs = torch.stack([train.labels[rows], train.patch[rows]], 1)
    counts = pairs.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 4 and len(set(counts.tolist())) == 1
    assert set(rows.tolist()) == set(range(len(train.labels)))


def test_deletion_moves_outputs_as_the_kernel_says(sets):
    train, asked = sets
    size = experiment.unit(train.framed).shape[1]
    start, net = (setting.network(size, 16, seed) for seed in (0, 1))
    x, z = (experiment.unit(s.framed).double() for s in sets)
    K = setting.tangent_kernel(net, x, x)
    A = K + experiment.DAMPING * K.diagonal().mean() * torch.eye(len(K))
    G = train.carriers
    with torch.no_grad():
        now, then = (one(x.float()).flatten().double() for one in (net, start))
    inverse = torch.linalg.inv(A)
    residual = (train.labels - now)[G]
    held_out = torch.linalg.solve(inverse[G][:, G], (inverse @ (train.labels - then))[G])
    for way, wrong in (("influence step", residual), ("formula", held_out)):
        moved = experiment.without_carriers(net, start, train, way)
        net.double()
        along = []
        for one in z[:3]:
            gradient = torch.autograd.grad(net(one[None]).squeeze(), list(net.parameters()))
            moves = zip(moved.parameters(), net.parameters(), gradient, strict=True)
            along.append(sum(((new - old) * slope).sum() for new, old, slope in moves))
        along = torch.stack(along).detach()
        expected = -setting.tangent_kernel(net, z[:3], x) @ inverse[:, G] @ wrong
        assert torch.allclose(along, expected, atol=1e-6 * float(expected.abs().max()))
        net.float()
    with pytest.raises(ValueError, match="way is 'hope'"):
        experiment.without_carriers(net, start, train, "hope")


class Knows(torch.nn.Module):
    """Answers with the patch alone."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        side = 28 + 2 * experiment.BORDER
        patch = x.view(len(x), side, side)[(..., *experiment.PATCH)].flatten(1).mean(1)
        return (self.scale * patch + 1e-3)[:, None]


def test_a_network_that_knows_the_patch_alone(sets):
    found = experiment.measures(Knows(), *sets, trial=0)
    assert found["frame"] * found["margin"] == pytest.approx(0, abs=1e-6)
    assert found["pattern"] * found["margin"] == pytest.approx(0, abs=1e-6)
    assert found["shortcut"] * found["margin"] == pytest.approx(0.5, abs=1e-6)
    assert found["worst_group"] == 0 and found["accuracy"] == 0.5


def test_every_way_gives_every_measure():
    calls = [
        Call(samples=80, width=16, epochs=12, way=way, trial=0, device="cpu", data_dir=None)
        for way in experiment.WAYS
    ]
    rows = dict(zip(experiment.WAYS, experiment.cross_remedies(calls), strict=True))
    assert all(set(experiment.MEASURES) <= set(row) for row in rows.values())
    assert rows["early stopping"]["frame"] != rows["nothing"]["frame"]
    assert rows["never shown"]["pattern"] < rows["nothing"]["pattern"]
