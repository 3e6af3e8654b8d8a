"""Group DRO against steps by hand."""

import math
from dataclasses import replace

import pytest
import torch

from helpers import remedies
from helpers.remedies import Contrast


def double(sample):
    return replace(sample, images=sample.images.double())


@pytest.mark.parametrize("batch", [21, 3])  # two steps, and fourteen with groups that are absent
def test_group_weights_follow_the_steps_by_hand(batch, images, network, silent):
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
    got = remedies.group_dro(
        network().double(), sample, recipe, step_size=0.5, seed=3, evaluate=silent
    )
    assert [got.rows[0][f"weight_{g}"] for g in range(4)] == pytest.approx(q, rel=1e-8)
    assert got.rows[0]["loss"] == pytest.approx(total, rel=1e-8)
    for ours, theirs in zip(got.model.parameters(), net.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6)


def test_group_dro_needs_every_group_and_a_step(images, network, silent):
    sample, recipe = images(), Contrast(epochs=1)
    with pytest.raises(ValueError, match="none may be empty"):
        remedies.group_dro(
            network(), sample.rows(sample.group != 2), recipe, seed=0, evaluate=silent
        )
    with pytest.raises(ValueError, match="step_size is -1"):
        remedies.group_dro(network(), sample, recipe, step_size=-1, seed=0, evaluate=silent)
