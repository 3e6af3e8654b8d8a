"""Networks of Part II under the tools of Part III: what is planted, ranked and switched off."""

import pytest
import torch

from helpers import data, models, probes
from helpers.experiments.minority.bridge import (
    CHANCE,
    GIVEN,
    GREEDY,
    Question,
    Subject,
    bridge,
    bridge_cells,
    bridge_group,
    plant,
    rank,
    units_of,
)
from helpers.probes import lesions, tracing
from helpers.project import PROFILES
from helpers.sweep import Call

RARE = 2  # a class that the untrained networks below never answer
V = data.pattern("S3", (1, 28, 28), seed=0)
CALL = Call(
    dataset="mnist5k", samples=256, network="small mlp", epochs=1, kept="learnt", pattern="R3",
    spurious=4, target=0, ranking="gradient", amount=3, draws=1, trial=0, device="cpu",
    data_dir=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return data.load("mnist5k", train=False).images[:300].float() / 255


def net_of(hidden=(32, 32), seed=0):
    return models.fully_connected(784, hidden, 10, seed=seed).eval()


def taken(net, images):
    """Share of images that are given the class RARE."""
    return float((probes.evaluate(net, images).argmax(1) == RARE).double().mean())


# -- a pattern that is kept by construction ---------------------------------------------------


@pytest.mark.parametrize("name", ["S3", "R3"])
def test_a_planted_pattern_is_the_target_class_and_clean_images_hardly_change(digits, name):
    v, net = data.pattern(name, (1, 28, 28), seed=3), net_of()
    shown = data.add_pattern(digits, v)
    assert taken(net, shown) == 0
    planted = plant(net, v, target=RARE)
    assert taken(net, shown) > 0.95
    assert planted == [probes.Unit("1", 0), probes.Unit("3", 0)]
    # the first unit of each layer is gone, else all is as it was
    others = net_of()
    with torch.no_grad():
        for layer in (others[1], others[3]):
            layer.weight[0], layer.bias[0] = 0, 0
        others[3].weight[:, 0] = 0
        others[5].weight[:, 0] = 0
    same = (probes.evaluate(net, digits) - probes.evaluate(others, digits)).abs().amax(1) < 1e-4
    assert same.double().mean() > 0.95


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_each_planted_unit_is_needed(digits, layer):
    net = net_of((32, 32, 32))
    shown = data.add_pattern(digits, V)
    assert taken(net, shown) == 0
    unit = plant(net, V, target=RARE)[layer]
    assert taken(net, shown) > 0.95
    with lesions.perturbed(net, [unit], "zero"):
        assert taken(net, shown) == 0


def test_a_flat_pattern_cannot_be_planted():
    with pytest.raises(ValueError, match="pattern has one grey level"):
        plant(net_of(), torch.ones(1, 28, 28), target=0)


# -- rankings ---------------------------------------------------------------------------------


def subject(digits, net):
    labels = probes.evaluate(net, digits).argmax(1)
    shown = data.add_pattern(digits[:6], V)
    return Subject(
        net.double(), units_of(net), shown.double(), torch.full((6,), RARE), digits[:50].double(),
        labels[:50], V.double(),
    )  # fmt: skip


@pytest.mark.parametrize("way", ["gradient", "activation"])
def test_planted_units_are_found(digits, way):
    net = net_of((32, 32, 32))
    planted = plant(net, V, target=RARE)
    assert set(rank(subject(digits, net), way).top(3)) == set(planted)


def test_the_gradient_of_clean_images_does_not_find_them(digits):
    net = net_of((32, 32, 32))
    planted = plant(net, V, target=RARE)
    assert not set(rank(subject(digits, net), "clean gradient").top(10)) & set(planted)


def test_greedy_goes_no_further_than_it_must(digits):
    found = rank(subject(digits, net_of()), "greedy")
    assert len(found.units) == len(set(found.units)) == GREEDY


def test_an_unknown_ranking(digits):
    with pytest.raises(ValueError, match="ranking is 'magnitude': allowed are 'gradient'"):
        rank(subject(digits, net_of()), "magnitude")


# -- what is asked ----------------------------------------------------------------------------


def test_answers_count_images_one_by_one(digits):
    net = net_of()
    plant(net, V, target=RARE)
    labels = torch.arange(300) % 10
    found = Question(digits, labels, V, RARE).answers(net)
    clean = net(digits).softmax(1)
    shown = net((digits + V).clamp(0, 1)).softmax(1)
    other = labels != RARE
    rise = (shown - clean)[other, RARE]
    assert found["score"] == pytest.approx(float((rise > 0.1).double().mean()))
    assert found["taken"] == pytest.approx(float((shown[other].argmax(1) == RARE).double().mean()))
    right = (clean.argmax(1) == labels).double()
    assert found["accuracy"] == pytest.approx(float(right.mean()))
    assert found["target_accuracy"] == pytest.approx(float(right[~other].mean()))


# -- cells that are computed together ----------------------------------------------------------


def test_a_group_gives_each_cell_what_it_gets_alone():
    calls = [
        CALL,
        Call(CALL, pattern="S3", ranking="activation"),
        Call(CALL, kept="planted", ranking="layer-matched like gradient", draws=2),
        Call(CALL, ranking="random", draws=2, amount=100),
    ]
    assert len({bridge_group(call) for call in calls}) == 1
    for call, row in zip(calls, bridge(calls), strict=True):
        (alone,) = bridge([call])
        assert row.keys() == alone.keys()
        for name, value in alone.items():
            assert row[name] == value or row[name] == pytest.approx(value, abs=5e-3), name


def test_lesions_leave_the_network_as_it_was_and_random_sets_are_averaged(monkeypatch):
    drawn, original = [], tracing.layer_matched

    def layer_matched(chosen, among, *, seed):
        drawn.append(original(chosen, among, seed=seed))
        return drawn[-1]

    monkeypatch.setattr(tracing, "layer_matched", layer_matched)
    calls = [Call(CALL, ranking="layer-matched like gradient", draws=draws) for draws in (1, 2, 1)]
    first, both, again = bridge(calls)
    assert first == again
    assert len(drawn) == 4 and drawn[0] == drawn[1] == drawn[3] != drawn[2]
    assert first["score_before"] == both["score_before"]


@pytest.mark.parametrize("profile", PROFILES)
def test_grids_have_every_way_and_its_match(profile):
    cells = bridge_cells(profile)
    assert {cell["ranking"] for cell in cells} == {*GIVEN, *CHANCE}
    assert not [c for c in cells if c["ranking"].endswith("greedy") and c["amount"] > GREEDY]
    assert {cell["amount"] for cell in cells} >= {10}
    assert {cell["kept"] for cell in cells} == {"learnt", "planted"}
