"""What the experiments of Part II have in common: data, networks, training, and what is asked."""

import math

import numpy as np
import pytest
import torch

from helpers import data, sweep, training
from helpers.experiments.rare import setup
from helpers.experiments.rare.setup import recipe, scores, training_set
from helpers.sweep import Call

CALL = Call(
    dataset="mnist5k", samples=256, network="small mlp", epochs=1, pattern="S3", spurious=0,
    target=0, trial=0, device="cpu", data_dir=None,
)  # fmt: skip


# -- data -----------------------------------------------------------------------------------------


def test_more_samples_than_there_are():
    with pytest.raises(ValueError, match="mnist5k has 4000 training images, 4001 were asked for"):
        training_set("mnist5k", 4_001, 0, None)


def test_training_sets_are_drawn_by_the_trial_and_stay_in_order_where_all_fit():
    first, again, other = (training_set("mnist5k", 300, trial, None) for trial in (0, 0, 1))
    assert torch.equal(first.images, again.images) and len(first) == 300
    assert not torch.equal(first.images, other.images)
    every = training_set("mnist5k", 4_000, 1, None)
    assert torch.equal(every.images, data.load("mnist5k").images)


def test_a_spurious_set_is_drawn_by_the_trial_and_its_images_carry_the_pattern():
    call = Call(CALL, pattern="R3", spurious=4, target=3, trial=5)
    train, test = setup.sets(call)
    assert (len(train), len(test)) == (256, 1_000)
    pattern, (rows, images) = setup.spurious_set(call, train)
    assert set(train.labels[rows].tolist()) == {3} and len(rows.unique()) == 4
    clean = train.images[rows].numpy() / 255
    np.testing.assert_allclose(images, np.clip(clean + pattern.numpy(), 0, 1), atol=1e-6)
    other, (others, _) = setup.spurious_set(Call(call, trial=6), train)
    assert not torch.equal(pattern, other) and not torch.equal(rows, others)


def test_images_with_the_pattern_take_the_places_of_others_in_a_copy():
    inputs = torch.rand(6, 1, 2, 2)
    whole, images = inputs.clone(), torch.ones(2, 1, 2, 2)
    found = setup.carrying(inputs, (torch.tensor([4, 1]), images))
    assert torch.equal(inputs, whole)
    assert [i for i in range(6) if not torch.equal(found[i], inputs[i])] == [1, 4]
    assert torch.equal(found[[1, 4]], images)


@pytest.mark.parametrize("name", ["rare_patterns", "rare_conditions"])
def test_smoke_has_enough_images_of_the_class(name):
    for cell in sweep.get(name).cells("smoke"):
        train = training_set(cell["dataset"], cell["samples"], cell["trial"], None)
        assert int((train.labels == cell["target"]).sum()) >= cell["spurious"]


# -- networks and their training ------------------------------------------------------------------


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
     ("resnet20", 269_722), ("small_resnet", 77_000)],
)  # fmt: skip
def test_networks_have_the_sizes_of_the_papers(name, parameters):
    net = setup.network(name, seed=0)
    assert abs(sum(p.numel() for p in net.parameters()) - parameters) < 0.02 * parameters


def test_an_unknown_network():
    with pytest.raises(ValueError, match="network is 'vgg': allowed are 'small mlp', 'mlp'"):
        setup.network("vgg", seed=0)


def test_calls_that_differ_in_what_a_clean_network_cannot_know_share_it():
    """The order of the networks is that in which the calls ask for them."""
    calls = [Call(CALL, **change) for change in (
        {"pattern": "R3", "target": 4}, {"spurious": 3}, {}, {"pattern": "R3", "spurious": 3},
        {"spurious": 3, "target": 1}, {"spurious": 3},
    )]  # fmt: skip
    train, _ = setup.sets(CALL)
    found = setup.trained(calls, train, lambda call: recipe(call.epochs))
    nets = [id(own.net) for own in found]
    assert [nets.index(net) for net in nets] == [0, 1, 0, 3, 4, 1]
    assert [len(own.spurious.rows) for own in found] == [0, 3, 0, 3, 3, 3]
    assert set(train.labels[found[4].spurious.rows].tolist()) == {1}
    alone = setup.network("small mlp", 0)
    inputs = setup.carrying(train.images.float() / 255, found[3].spurious)
    training.train(alone, inputs, train.labels, recipe(1), seed=0)
    x = setup.sets(CALL)[1].images[:50].float() / 255
    torch.testing.assert_close(found[3].net(x), alone(x), atol=1e-3, rtol=1e-2)


def test_networks_answer_to_bytes_as_to_floats():
    net, images = setup.network("mlp", 0), setup.sets(CALL)[1].images[:20]
    torch.testing.assert_close(setup.outputs(net, images), setup.outputs(net, images / 255))
    expected = np.exp(net(images / 255).detach().numpy())
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(setup.probabilities(net, images), expected, atol=1e-6)


def test_a_network_that_diverges_has_no_numbers_and_keeps_the_others():
    def one_diverged(nets, *args, **kwargs):
        return [training.History(1, float("nan") if k else 0.1) for k in range(len(nets))]

    calls = [Call(CALL, spurious=count) for count in (0, 3)]
    whole, lost = setup.asked(calls, lambda call: recipe(call.epochs), one_diverged)
    assert whole.keys() == lost.keys() and whole["clean_accuracy"] >= 0
    assert all(value != value for name, value in lost.items() if name != "data_source")


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


def test_importance_is_the_largest_signed_weight_on_a_pixel():
    net = setup.network("mlp", seed=0)
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[3, 28 + 5] = 7.0
        net[1].weight[4, 28 + 5] = 2.0
        net[1].weight[:, 6] = -5.0
    pixels = setup.importance(net)
    assert pixels.shape == (28, 28)
    assert (float(pixels[1, 5]), float(pixels[0, 6]), float(pixels.sum())) == (7.0, -5.0, 2.0)
    found = setup.importance_by_place(net, "mlp")
    assert found["corner"] == 0 and found["elsewhere"] == pytest.approx(2 / (784 - 25))
    missing = setup.importance_by_place(setup.network("cnn", seed=0), "cnn")
    assert missing.keys() == found.keys() and all(map(math.isnan, missing.values()))
