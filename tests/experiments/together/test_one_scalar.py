"""Worlds: their moments are those of what they draw; rows are what direct computation gives."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

from helpers import sweep
from helpers.claims import part5
from helpers.experiments.together import backgrounds, one_scalar, scalar_grids
from helpers.experiments.together.one_scalar import QUANTITIES
from helpers.theory import cure

MARKS = cure.Marks(0.1, 1.0, 0.05, 0.6, 0.3)


@pytest.fixture
def small_features(monkeypatch):
    """The pretrained network replaced by random numbers that know picture and background."""
    random = np.random.default_rng(0)
    shared, own = torch.from_numpy(random.standard_normal((2, 400, 120)))
    shared[:200] += 0.5
    scalar_grids.world_of.cache_clear()
    monkeypatch.setattr(backgrounds, "seen", lambda *_, **__: (shared + own, shared, "made up"))


def worlds():
    return {
        "simulated": one_scalar.simulated(40),
        "digits": one_scalar.digits(),
        "photographs": one_scalar.photographs("cifar10", 400, 64),
    }


@pytest.mark.parametrize("name", ("simulated", "digits", "photographs"))
def test_moments_are_those_of_draws(name, small_features):
    world = worlds()[name]
    x, queries, g = world.draw(
        30_000 if name == "simulated" else 6_000, np.random.default_rng(1), True
    )
    scale = np.abs(world.moment).max()
    np.testing.assert_allclose(x.T @ x / len(g), world.moment, atol=0.1 * scale)
    cross = x.T @ queries / len(g)
    np.testing.assert_allclose((cross + cross.T) / 2, world.cross, atol=0.1 * scale)
    np.testing.assert_allclose(g @ x / len(g), world.label, atol=0.1 * np.sqrt(scale))
    assert abs(g.mean()) < 0.05


def test_no_picture_comes_twice_unless_it_may(small_features):
    world = one_scalar.photographs("cifar10", 400, 64)
    once, often = (world.draw(200, np.random.default_rng(2), repeat)[0] for repeat in (False, True))
    assert len(np.unique(once, axis=0)) == 200 > len(np.unique(often, axis=0))


def test_a_query_shares_the_background_alone():
    x, queries, _ = one_scalar.digits().draw(20, np.random.default_rng(3), False)
    assert (queries[:, :784] == 0).all() and (queries[:, 784:] == x[:, 784:]).all()
    assert np.abs(x[:, 784:]).max() <= 0.5


def test_measurements_are_those_of_refits(monkeypatch):
    monkeypatch.setattr(one_scalar, "REDRAWS", 3)
    world, ridge, n = one_scalar.simulated(40), 0.05, 30
    drawn = world.draw(n, np.random.default_rng(4), False)
    found = one_scalar.measured(world, drawn, ridge, MARKS, np.random.default_rng(5))
    x, queries, g = drawn
    inverse, random = np.linalg.inv(x @ x.T + n * ridge * np.eye(n)), np.random.default_rng(5)
    answers = []
    for _ in range(3):
        longer = np.c_[x, MARKS.draw(g, random)]
        w = Ridge(alpha=n * ridge, fit_intercept=False).fit(longer, g).coef_
        size = np.sqrt([MARKS.strength, MARKS.weight])
        answers.append([*(w[-2:] * size), w[:-2] @ world.label])
    own = np.mean([queries[i] @ x.T @ inverse[i] for i in range(n)])
    expected = [own, ridge * np.trace(inverse), *np.mean(answers, 0)]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_the_law_is_near_and_wrong_scalars_are_not():
    world = one_scalar.simulated(200)
    by_law, found = one_scalar.predicted(world, MARKS), []
    for trial in range(6):
        random = np.random.default_rng([7, trial])
        drawn = world.draw(80, random, False)
        found.append(one_scalar.measured(world, drawn, 0.05, MARKS, random))
    laws = by_law(0.05, 80)
    off = {name: np.abs(np.mean(found, 0) / law - 1) for name, law in laws.items()}
    assert (off["felt"][:2] < 0.03).all() and (off["felt"] < 0.3).all()
    assert off["raw"][1] > 0.1 and off["flat"][1] > 0.1


def test_stored_rows_are_what_is_measured_and_have_their_forms_for_the_rules(small_features):
    cells = [
        cell for cell in scalar_grids.one_scalar_cells("smoke") if cell["world"] == "simulated"
    ]
    made = sweep.get("one_scalar")
    calls = [made.call(cell, {}) for cell in cells[:2]]
    found = made.compute(calls)
    rows = scalar_grids.long(pd.DataFrame([c | f for c, f in zip(cells, found, strict=False)]))
    assert len(rows) == 2 * len(QUANTITIES)
    world, marks = one_scalar.simulated(), scalar_grids.WORLDS["simulated"][0]
    call = calls[1]
    random = np.random.default_rng([scalar_grids.SEED, call.trial, call.samples])
    drawn = world.draw(call.samples, random, True)
    expected = one_scalar.measured(world, drawn, call.ridge, marks, random)
    own = rows[rows["trial"] == call.trial].set_index("quantity")["measured"]
    np.testing.assert_allclose(own[list(QUANTITIES)], expected, rtol=1e-9)
    part5.simulated(rows, "data")


def test_limits_have_the_arms_that_there_are(small_features):
    made = sweep.get("scalar_limits")
    cells = [c for c in scalar_grids.scalar_limits_cells("smoke") if c["limit"] != "early stopping"]
    tables = []
    for limit in ("lengths that differ", "images that come twice"):
        own = [cell for cell in cells if cell["limit"] == limit]
        found = made.compute([made.call(cell, {}) for cell in own])
        tables += [cell | row for cell, row in zip(own, found, strict=True)]
    rows = scalar_grids.arms(pd.DataFrame(tables))
    assert len(rows) == 2 * 3 + 2 * 2 and rows["error"].notna().all()
    part5.limits(rows, "data")
    with pytest.raises(ValueError, match="world is 'moon': allowed are"):
        scalar_grids.world_of("moon", "none", 0, 64, "cpu", None)


def test_limits_fail_where_they_should(small_features):
    made = one_scalar.simulated(100)
    lengths = one_scalar.lengths_rows(made, 60, 0.003, 0.4, range(4), 0)
    photos = one_scalar.photographs("cifar10", 400, 64)
    twins = one_scalar.twins_rows(photos, 40, 0.001, range(12), 0)
    stopping = one_scalar.stopping_rows(made, 400, 1.0, range(4), 0)
    for rows, arms in ((lengths, 3), (twins, 2), (stopping, 2)):
        mean = rows.groupby("arm")["error"].mean()
        assert len(mean) == arms and abs(mean["broken"]) > 0.1 > abs(mean["matched"]), rows
    assert abs(lengths.groupby("arm")["error"].mean()["repaired"]) < 0.03
    even = one_scalar.real_lengths_rows(photos, 40, 0.1, range(4), 0, 400)
    assert set(even["arm"]) == {"broken", "matched", "repaired"} and even["error"].abs().max() < 1


def test_backgrounds_are_kept_and_refuse_what_they_cannot_do(monkeypatch, tmp_path):
    calls = []

    def features(images, size, device):
        calls.append(size)
        return images.float().mean((1, 2, 3))[:, None]

    monkeypatch.setattr(backgrounds, "_features", features)
    monkeypatch.setattr(backgrounds.training, "checkpoint_file", lambda *_: tmp_path / "kept.pt")
    whole, background, source = backgrounds.seen("mnist5k", 20, 48)
    again = backgrounds.seen("mnist5k", 20, 48)
    assert calls == [48, 48] and torch.equal(again[0], whole) and "MNIST" in source
    assert whole.shape == (20, 1) and not torch.equal(whole, background)
    with pytest.raises(ValueError, match="dataset is 'faces': allowed are"):
        backgrounds.seen("faces", 20, 48)
    with pytest.raises(ValueError, match="pool is 10000: a class has"):
        backgrounds.seen("mnist5k", 10_000, 48)
