"""The experiment on natural contexts: which networks are trained on what."""

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from helpers import data, models, sweep, training
from helpers.data import contexts
from helpers.data.contexts import Pool, trial_split
from helpers.errors import DatasetNotFound
from helpers.experiments.rare import contexts as experiment
from helpers.experiments.rare.contexts import novel_contexts
from helpers.project import PROFILES
from helpers.sweep import Call

CALL = Call(
    dataset="mnist5k", samples=20, model="linear", epochs=1, context="grass", target="1",
    spurious=3, trial=0, device="cpu", data_dir=None,
)  # fmt: skip


# -- cells ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_the_fine_tuned_network_goes_with_the_photographs(profile):
    cells = sweep.get("contexts").cells(profile)
    assert {(c["dataset"] == "nicopp") == (c["model"] == "resnet50") for c in cells} == {True}


@pytest.mark.parametrize(
    ("profile", "model", "trials"),
    [("smoke", "linear", 2), ("laptop", "linear", 5), ("paper", "linear", 10),
     ("paper", "resnet50", 5)],
)  # fmt: skip
def test_nine_trials_of_the_paper_with_and_without_rare_pictures(profile, model, trials):
    cells = [c for c in sweep.get("contexts").cells(profile) if c["model"] == model]
    dataset, samples = cells[0]["dataset"], max(c["samples"] for c in cells)
    for context in ("autumn", "dim", "grass"):
        for target in experiment.TARGETS[dataset]:
            chosen = [
                (c["spurious"], c["trial"])
                for c in cells
                if (c["context"], c["target"], c["samples"]) == (context, target, samples)
            ]
            counts = {n for n, _ in chosen}
            assert len(counts) >= 3 and 0 in counts and (10 in counts or profile == "smoke")
            assert sorted(chosen) == [(n, r) for n in sorted(counts) for r in range(trials)]


# -- what is trained, and on what -----------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch):
    """Numbers of training images of the networks that have been trained."""
    sizes, original = [], training.train

    def train(model, inputs, labels, recipe, **rest):
        sizes.append(len(inputs))
        return original(model, inputs, labels, recipe, **rest)

    monkeypatch.setattr(training, "train", train)
    return sizes


def test_a_group_gives_each_cell_what_it_gets_alone(trained):
    calls = [Call(CALL, target=target, spurious=n) for target in ("1", "8") for n in (0, 3, 6)]
    assert len({sweep.get("contexts").group(call) for call in calls}) == 1
    rows = novel_contexts(calls)
    # the network without pictures of the context serves both targets
    without = trained[0]
    assert trained == [without, without + 3, without + 6, without + 3, without + 6]
    for call, row in zip(calls, rows, strict=True):
        assert row["training_images"] == without + call["spurious"]
        (alone,) = novel_contexts([call])
        assert row.pop("data_source") == alone.pop("data_source")
        assert row == pytest.approx(alone, rel=1e-6)


def test_models_and_trials_differ(trained):
    calls = [Call(CALL, **change) for change in ({}, {"model": "mlp"}, {"model": "small resnet"},
                                          {"trial": 1}, {"context": "dim"})]  # fmt: skip
    assert len({sweep.get("contexts").group(call) for call in calls}) == len(calls)
    found = [novel_contexts([call])[0]["probability"] for call in calls]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"model": "vgg"}, "model is 'vgg': allowed are 'linear', 'mlp', 'small resnet', 'resnet50'"),
     ({"dataset": "mnist"}, "dataset is 'mnist': allowed are 'mnist5k', 'cifar10', 'nicopp'"),
     ({"model": "resnet50"}, "'resnet50' goes with 'nicopp' alone"),
     ({"dataset": "nicopp"}, "'resnet50' goes with 'nicopp' alone"),
     ({"spurious": 99}, "n is 99: there are .* training pictures of '1' in 'grass'")],
)  # fmt: skip
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        novel_contexts([Call(CALL, **change)])


def mixture(n=900, d=6):
    """Three Gaussian classes in two contexts; the second context shifts the last coordinate."""
    draw = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (n,), generator=draw)
    context = torch.randint(0, 2, (n,), generator=draw)
    inputs = torch.randn(n, d, generator=draw) + torch.eye(d)[label]
    inputs[:, -1] += 2 * context
    return Pool(inputs, label, context, ("a", "b", "c"), ("dim", "rock"), "made")


def test_a_linear_head_is_a_logistic_regression():
    pool = mixture()
    split = trial_split(pool, "rock", "b", 40, seed=0)
    found = experiment.probabilities(pool, split, "linear", 500, 0, "cpu")
    expected = LogisticRegression(C=1e4).fit(pool.inputs[split.train], pool.label[split.train])
    asked = torch.cat([split.test, split.own, split.elsewhere])
    probabilities = expected.predict_proba(pool.inputs[asked])
    off = np.abs(found[asked].numpy() - probabilities)
    assert off.mean() < 0.04 and off.max() < 0.15
    assert bool(found[split.train].isnan().all()), "only test pictures are answered for"


def test_novelty_is_that_of_a_known_shift():
    pool = mixture()
    train = contexts.halves(len(pool), 3)[0].numpy()
    x, k = pool.inputs.numpy().astype(float), pool.context.numpy()
    others, inside = (x[train][k[train] == value] for value in (0, 1))
    scaled = others / others.std(0, ddof=1)
    shift = (inside.mean(0) - others.mean(0)) / others.std(0, ddof=1)
    found = experiment.novelty(pool, "rock", seed=3)
    assert found["strength"] == pytest.approx(shift @ shift, rel=1e-4)
    direction = shift / np.linalg.norm(shift)
    assert found["spread"] == pytest.approx((scaled @ direction).var(ddof=1), rel=1e-4)
    # 2 of a unit normal, but for chance
    assert found["strength"] == pytest.approx(4, abs=1)


# -- features of the backbone ----------------------------------------------------------------------


class Brightness(nn.Module):
    calls = 0

    def forward(self, pixels):
        type(self).calls += len(pixels)
        return pixels.mean((2, 3))


def test_features_are_kept(tmp_path, monkeypatch):
    label = torch.arange(120) % 10
    images = (20 * label).to(torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32)
    made = data.Dataset(images, label, data.OBJECTS, "cifar10", "greys", True)
    monkeypatch.setattr(data, "load", lambda name, **_: made)
    monkeypatch.setattr(contexts, "load", data.load)
    monkeypatch.setattr(models, "efficientnet_lite0", Brightness)
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path))
    pools = []
    for _ in range(2):
        experiment._rendered.cache_clear()
        pools.append(experiment.pool_for("cifar10", 2, "linear", "cpu", None))
    assert Brightness.calls == len(pools[0]) == 120
    assert len(list((tmp_path / "_build" / "features").glob("*.pt"))) == 1
    assert torch.equal(pools[0].inputs, pools[1].inputs) and pools[0].inputs.shape == (120, 3)
    # features are of the very pictures that the small network sees in small
    small = experiment.pool_for("cifar10", 2, "small resnet", "cpu", None)
    assert small.inputs.shape == (120, 3, 32, 32)
    torch.testing.assert_close(255 * small.inputs.mean((2, 3)), pools[0].inputs, atol=0.6, rtol=0)
    assert torch.equal(small.label, pools[1].label)
    experiment._rendered.cache_clear()


# -- NICO++ ---------------------------------------------------------------------------------------


def test_nicopp_goes_the_same_way(tmp_path, monkeypatch):
    from PIL import Image

    for context in ("dim", "grass"):
        for name, colour in (("bicycle", (200, 30, 30)), ("dog", (30, 30, 200))):
            (tmp_path / context / name).mkdir(parents=True)
            for i in range(10):
                picture = Image.new("RGB", (40, 36), tuple(value + i for value in colour))
                picture.save(tmp_path / context / name / f"{i}.jpg")
    monkeypatch.setattr(
        models, "resnet50", lambda outputs: models.small_resnet(outputs, width=8, seed=0)
    )
    quick = functools.partial(training.fine_tuned, size=32, workers=0)
    monkeypatch.setattr(training, "fine_tuned", quick)
    call = Call(CALL, dataset="nicopp", samples=math.inf, model="resnet50", context="dim",
                target="bicycle", spurious=2, data_dir=str(tmp_path), epochs=2)  # fmt: skip
    (row,) = novel_contexts([call])
    assert 0 <= row["rate"] <= 1 and math.isnan(row["strength"])
    assert row["data_source"] == "NICO++, 40 pictures of 2 objects"
    with pytest.raises(DatasetNotFound):
        novel_contexts([Call(call, data_dir=str(tmp_path / "dim"))])
