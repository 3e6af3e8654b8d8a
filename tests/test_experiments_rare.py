"""The experiments of Part II: which networks are trained, and what is read off them."""

import math

import pytest
import torch

from helpers import chapter, data, experiments_rare, sweep, training
from helpers.experiments_rare import (
    HIDDEN,
    importance,
    rare,
    rare_group,
    rare_many,
    recipe,
    remove_pixels,
    scores,
    training_set,
)

NAMES = ("rare_patterns", "rare_conditions", "pixel_removal")
PLAIN = dict(
    dataset="mnist5k", samples=256, network="small mlp", optimiser="adam", epochs=1,
    weight_decay=0.0, noise=0.0, clip_value=math.inf, clip_norm=math.inf, augment=False,
    pattern="S3", spurious=0, target=0, trial=0, device="cpu", data_dir=None,
)  # fmt: skip


@pytest.fixture
def built(monkeypatch):
    """Names of the networks that have been made."""
    made, original = [], experiments_rare.network

    def network(name, seed):
        made.append(name)
        return original(name, seed)

    monkeypatch.setattr(experiments_rare, "network", network)
    return made


# -- how networks are trained ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "milestones"), [(70, (40, 50, 60)), (10, (6, 7, 9)), (7, (4, 5, 6))]
)
def test_a_shorter_schedule_keeps_the_proportions_of_the_papers(epochs, milestones):
    made = recipe(epochs)
    assert made.milestones == milestones and made.epochs == epochs
    assert made.rate(0) == 0.01 and made.rate(epochs - 1) == pytest.approx(1e-5)


def test_momentum_is_for_sgd_alone():
    assert recipe(3).momentum == 0 and recipe(3, optimiser="sgd").momentum == 0.9


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("small mlp", 203_530), ("mlp", 335_114), ("large mlp", 932_362), ("cnn", 312_202),
     ("resnet20", 269_722)],
)  # fmt: skip
def test_networks_have_the_sizes_of_the_papers(name, parameters):
    net = experiments_rare.network(name, seed=0)
    assert abs(sum(p.numel() for p in net.parameters()) - parameters) < 0.02 * parameters


def test_an_unknown_network():
    with pytest.raises(ValueError, match="network is 'vgg': allowed are 'small mlp', 'mlp'"):
        experiments_rare.network("vgg", seed=0)


def test_more_samples_than_there_are():
    with pytest.raises(ValueError, match="mnist5k has 4000 training images, 4001 were asked for"):
        training_set("mnist5k", 4_001, 0, None)


def test_training_sets_are_drawn_by_the_trial_and_stay_in_order_where_all_fit():
    first, again, other = (training_set("mnist5k", 300, trial, None) for trial in (0, 0, 1))
    assert torch.equal(first.images, again.images) and len(first) == 300
    assert not torch.equal(first.images, other.images)
    every = training_set("mnist5k", 4_000, 1, None)
    assert torch.equal(every.images, data.load("mnist5k").images)


# -- cells that are computed together -------------------------------------------------------------

GROUP = [
    {},
    {"spurious": 20},
    {"spurious": 20, "pattern": "R3"},
    {"spurious": 3, "pattern": "R3"},
    {"pattern": "R3"},
    {"spurious": 20, "clip_value": 1e-4},
    {"spurious": 20, "noise": 0.5},
]


def assert_rows_agree(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, str):
            assert found[name] == value
        else:  # single precision, and sums in another order
            assert found[name] == pytest.approx(value, abs=5e-3, nan_ok=True), name


def test_a_group_gives_each_cell_what_it_gets_alone():
    calls = [PLAIN | change for change in GROUP]
    assert len({rare_group(call) for call in calls}) == 1
    rows = rare_many(calls)
    for call, row in zip(calls, rows, strict=True):
        assert_rows_agree(row, rare(**call))
    assert len({row["rise"] for row in rows}) == len(calls), "no two cells are alike"


def test_networks_that_never_saw_a_pattern_are_one_network(built):
    calls = [PLAIN | {"pattern": name} for name in data.PATTERNS] + [PLAIN | {"spurious": 5}]
    rows = rare_many(calls)
    assert built == ["small mlp"] * 2
    assert len({row["clean_accuracy"] for row in rows[:-1]}) == 1
    assert len({row["rise"] for row in rows[:-1]}) == len(rows) - 1, "each is shown its pattern"
    assert [math.isnan(row["spurious_loss"]) for row in rows] == [True] * 7 + [False]


def test_one_convolutional_network_serves_a_group(built):
    calls = [PLAIN | {"network": "cnn", "samples": 60, "pattern": name} for name in ("S3", "R3")]
    assert rare_group(calls[0]) == rare_group(calls[1])
    rows = rare_many(calls)
    assert built == ["cnn"]
    assert all(math.isnan(row["corner"]) and math.isnan(row["elsewhere"]) for row in rows)
    assert rows[0]["clean_accuracy"] == rows[1]["clean_accuracy"]


@pytest.mark.parametrize("profile", chapter.PROFILES)
@pytest.mark.parametrize("name", NAMES)
def test_the_trial_takes_every_cell(name, profile):
    experiment = sweep.get(name)
    cells = experiment.cells(profile)
    for cell in cells:
        sweep._arguments(experiment, cell, {"device": "cpu", "data_dir": None})
    keys = {tuple(sorted((n, str(v)) for n, v in cell.items())) for cell in cells}
    assert len(keys) == len(cells) > 0, "a cell twice"
    names = {cell["network"] for cell in cells}
    assert names <= set(experiments_rare.NETWORKS)


@pytest.mark.parametrize("profile", chapter.PROFILES)
@pytest.mark.parametrize("name", NAMES[:2])
def test_linear_networks_go_together_and_others_only_where_one_serves_all(name, profile):
    experiment = sweep.get(name)
    groups = {}
    for cell in experiment.cells(profile):
        groups.setdefault(experiment.group(cell), []).append(cell)
    for cells in groups.values():
        trained = {experiments_rare._setting(cell) for cell in cells}
        if cells[0]["network"] in HIDDEN:
            assert len(trained) > 1
        else:
            assert len(trained) == 1


def test_smoke_has_enough_images_of_the_class():
    for name in NAMES[:2]:
        for cell in sweep.get(name).cells("smoke"):
            train = training_set(cell["dataset"], cell["samples"], cell["trial"], None)
            assert int((train.labels == cell["target"]).sum()) >= cell["spurious"]


# -- what is read off the probabilities -----------------------------------------------------------


def probabilities(rows):
    """Three classes; rows of (target's probability, class that has the rest)."""
    probs = torch.zeros(len(rows), 3, dtype=torch.float64)
    for i, (target, rest) in enumerate(rows):
        probs[i, 0], probs[i, rest] = target, 1 - target
    return probs


def test_scores_by_hand():
    #         rise    0.06      0.6       0.04       0.06      -0.15     0.15       0.35     -0.3
    labels = torch.tensor([0, 1, 1, 2, 2, 1, 2, 0])
    clean = [(0.9, 1), (0.1, 1), (0.3, 1), (0.0, 2), (0.2, 1), (0.2, 1), (0.2, 2), (0.6, 1)]
    after = [(0.96, 1), (0.7, 1), (0.34, 1), (0.06, 2), (0.05, 2), (0.35, 1), (0.55, 2), (0.3, 1)]
    found = scores(probabilities(clean), probabilities(after), labels, target=0)
    expected = {
        "score_0.01": 6 / 8,
        "score_0.05": 5 / 8,
        "score": 3 / 8,
        "score_0.2": 2 / 8,
        "score_0.5": 1 / 8,
        "score_others": 3 / 6,
        "headroom": 4 / 8,  # the first gains 0.06 of 0.1
        "relative": 5 / 8,  # the third gains 0.04 to 0.3, the fourth something to nothing
        "rise": 0.81 / 8,
        "taken": 2 / 6,
        "clean_accuracy": 7 / 8,
        "spurious_accuracy": 4 / 6,
    }
    assert found == pytest.approx(expected)


def test_scores_of_another_target():
    """With the classes renamed, nothing but the target moves."""
    draw = torch.Generator().manual_seed(0)
    clean, after = (torch.rand(50, 3, generator=draw).softmax(1) for _ in range(2))
    labels = torch.randint(3, (50,), generator=draw)
    found = scores(clean, after, labels, target=0)
    moved = scores(clean.roll(1, 1), after.roll(1, 1), (labels + 1) % 3, target=1)
    assert moved == pytest.approx(found)
    assert scores(clean, after, labels, target=1) != pytest.approx(found)


# -- importance, pixels removed -------------------------------------------------------------------


def test_importance_is_the_largest_signed_weight_on_a_pixel():
    net = experiments_rare.network("mlp", seed=0)
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[3, 28 + 5] = 7.0
        net[1].weight[4, 28 + 5] = 2.0
        net[1].weight[:, 6] = -5.0
    pixels = importance(net)
    assert pixels.shape == (28, 28)
    assert (float(pixels[1, 5]), float(pixels[0, 6]), float(pixels.sum())) == (7.0, -5.0, 2.0)
    found = experiments_rare._importance(net, "mlp")
    assert found["corner"] == 0 and found["elsewhere"] == pytest.approx(2 / (784 - 25))


def test_removed_pixels_are_gone_from_all_channels():
    images = torch.rand(200, 3, 28, 28) + 0.5
    shown = remove_pixels(images, 0.3, seed=0)
    gone = shown == 0
    assert torch.equal(gone.any(1), gone.all(1)), "a pixel goes in all channels at once"
    assert torch.equal(shown[~gone], images[~gone])
    # five standard deviations of the mean over independent pixels
    assert abs(float(gone.double().mean()) - 0.3) < 5 * math.sqrt(0.21 / (200 * 784))
    assert not torch.equal(gone[0], gone[1]), "each image loses pixels of its own"


def test_none_and_all_pixels_removed():
    images = torch.rand(5, 1, 28, 28) + 0.5
    assert torch.equal(remove_pixels(images, 0, seed=0), images)
    assert not remove_pixels(images, 1, seed=0).any()


def test_more_removed_pixels_include_the_fewer_ones():
    images = torch.ones(5, 1, 28, 28)
    few, many = (remove_pixels(images, share, seed=3) for share in (0.2, 0.6))
    assert bool((many <= few).all()) and not torch.equal(few, many)
    assert not torch.equal(remove_pixels(images, 0.2, seed=4), few)


@pytest.mark.parametrize("share", [-0.01, 1.01, math.nan])
def test_a_share_of_pixels_outside_its_range(share):
    with pytest.raises(ValueError, match="allowed is 0 to 1"):
        remove_pixels(torch.ones(1, 1, 2, 2), share, seed=0)


def test_pixel_removal_asks_one_network_at_every_level(built):
    cell = dict(dataset="mnist5k", samples=600, network="small mlp", epochs=2, trial=0,
                device="cpu", data_dir=None)  # fmt: skip
    calls = [cell | {"removed": share} for share in (0.0, 0.5, 1.0)]
    rows = experiments_rare.removal_many(calls)
    assert built == ["small mlp"]
    probabilities = [row["true_probability"] for row in rows]
    assert probabilities[0] > 0.5 and probabilities[0] > probabilities[1] > probabilities[2]
    alone = experiments_rare.pixel_removal(**calls[1])
    assert alone["true_probability"] == pytest.approx(probabilities[1], abs=1e-3)


def test_a_network_that_diverges_has_no_numbers_and_keeps_the_others(monkeypatch):
    def one_diverged(nets, *args, **kwargs):
        return [training.History(1, float("nan") if k else 0.1) for k in range(len(nets))]

    monkeypatch.setattr(experiments_rare.training, "train_many", one_diverged)
    calls = [PLAIN | {"spurious": count} for count in (0, 3)]
    whole, lost = experiments_rare.rare_many(calls)
    assert whole.keys() == lost.keys() and whole["clean_accuracy"] >= 0
    assert all(value != value for name, value in lost.items() if name != "data_source")
