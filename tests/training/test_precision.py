"""Half precision: the same numbers but for rounding, and never where it was not asked for."""

import pytest
import torch

from helpers import models, training
from helpers.training import precision
from helpers.training.stacked import Rows, StackedMLPs, Vmapped


def test_precisions_are_checked_where_they_are_given():
    with pytest.raises(ValueError, match="precision is 'half': allowed are 'float32', 'bfloat16'"):
        training.Recipe(epochs=1, batch=1, precision="half")
    with pytest.raises(ValueError, match="precision is None"):
        precision.resolve(None)


@pytest.mark.parametrize(
    "rates, expected",
    [((1.0, 1.29), "float32"), ((1.0, 1.31), "bfloat16"), ((2.0, 1.0), "float32")],
)
def test_auto_takes_half_precision_only_where_it_wins(monkeypatch, rates, expected):
    precision._faster.cache_clear()
    by_type = dict(zip((torch.float32, torch.bfloat16), rates, strict=True))
    monkeypatch.setattr(precision, "_rate", lambda kind, dtype: by_type[dtype])
    try:
        assert precision.resolve("auto") == expected
        assert precision.resolve("float32") == "float32"
        assert precision.resolve("auto", "mps") == "float32"
    finally:
        precision._faster.cache_clear()


def test_rates_are_measured_in_a_tenth_of_a_second():
    import time

    start = time.perf_counter()
    assert precision._rate("cpu", torch.float32) > 0 and precision._rate("cpu", torch.bfloat16) > 0
    assert time.perf_counter() - start < 2  # twice .05 s, on any machine that is not frozen


@pytest.fixture
def few():
    draw = torch.Generator().manual_seed(0)
    inputs = torch.rand(40, 1, 6, 6, generator=draw)
    inputs[:, :, 0] = 0  # pixels that are never lit
    return inputs, torch.randint(3, (40,), generator=draw)


def nets(count):
    return [models.fully_connected(36, (32, 16), 3, seed=seed) for seed in range(count)]


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("stack", [StackedMLPs, Vmapped])
def test_gradients_in_half_precision_are_those_in_full_but_for_rounding(few, stack, noise):
    inputs, labels = few
    rows = [None, (torch.tensor([3, 5]), torch.ones(2, 1, 6, 6)), None]
    found = {}
    for kind in ("float32", "bfloat16"):
        recipes = [training.Recipe(epochs=1, batch=40, noise=noise, precision=kind)] * 3
        side = stack(nets(3), recipes, inputs, labels, Rows(rows, inputs))
        with training.randomness(0, inputs.device) as draw:
            (batch,) = side.batches(torch.arange(40), 40)
            losses = side.gradients(batch, draw)
        assert losses.dtype == torch.float32
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in side.learned)
        found[kind] = [losses, *(p.grad.clone() for p in side.learned)]
    for full, half in zip(*found.values(), strict=True):
        assert not torch.equal(full, half)  # so that half precision really was used
        assert (
            float((full - half).norm() / full.norm()) < 0.05
        )  # 2 ** -8 a product, and a slope or two


def test_weights_follow_the_copies_that_products_take(few):
    """A stale copy would make every step the first: the loss would not fall as it does."""
    inputs, labels = few
    recipe = training.Recipe(epochs=60, batch=20, learning_rate=1e-2)
    losses = {}
    for kind in ("float32", "bfloat16"):
        group = nets(4)
        how = training.Recipe(**{**vars(recipe), "precision": kind})
        histories = training.train_many(group, inputs, labels, how, seed=0)
        losses[kind] = [history.loss for history in histories]
    assert max(losses["float32"]) < 0.7  # from 1.1
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.05)
    assert losses["bfloat16"] != losses["float32"]


def test_one_network_with_convolutions_trains_in_half_precision_too(few):
    inputs, labels = few
    images = torch.nn.functional.interpolate(inputs, size=32).expand(-1, 3, -1, -1)
    losses = {}
    for kind in ("float32", "bfloat16"):
        net = models.small_resnet(3, seed=0)
        recipe = training.Recipe(epochs=4, batch=10, learning_rate=1e-3, precision=kind)
        losses[kind] = training.train(net, images, labels, recipe, seed=0).loss
        assert all(p.dtype == torch.float32 for p in net.parameters())
        assert net(images[:2]).dtype == torch.float32
    assert losses["float32"] != losses["bfloat16"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.1)


def test_networks_in_lock_step_share_their_precision(few):
    recipes = [training.Recipe(epochs=1, batch=8, precision=kind) for kind in precision.PRECISIONS]
    with pytest.raises(ValueError, match="precision is 'bfloat16' for network 1 and 'float32'"):
        training.train_many(nets(3), *few, recipes, seed=0)


def test_a_checkpoint_of_auto_is_one_of_what_auto_came_to(few, tmp_path, monkeypatch):
    """Another machine, on which half precision does not win, must not go on with it."""
    file, told = tmp_path / "kept", "bfloat16"
    monkeypatch.setattr(precision, "_faster", lambda kind: told)
    recipe = training.Recipe(epochs=3, batch=8, precision="auto")

    def stop(self, models):
        raise KeyboardInterrupt

    def run():
        training.train_many(nets(2), *few, recipe, seed=0, checkpoint=file, checkpoint_seconds=0.0)

    with monkeypatch.context() as patched:
        patched.setattr("helpers.training.lockstep.LockstepRun.write_back", stop)
        with pytest.raises(KeyboardInterrupt):
            run()
    told = "float32"
    with pytest.raises(ValueError, match="precision of network 0 was 'bfloat16', is 'float32'"):
        run()
    told = "bfloat16"
    run()
    assert not file.exists()


def test_private_training_refuses_half_precision(few):
    recipe = training.Recipe(epochs=1, batch=8, precision="bfloat16")
    with pytest.raises(ValueError, match="precision='bfloat16'.*private training has no such"):
        training.private.train(nets(1)[0], *few, recipe, clip=1.0, noise_multiplier=1.0, seed=0)
