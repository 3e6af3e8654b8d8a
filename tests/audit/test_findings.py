"""Single findings on models whose answers can be computed by hand: what is and is not flagged."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from helpers import training
from helpers.audit import findings, inside
from helpers.audit.asked import Asked, Images
from helpers.audit.search import LEAST
from helpers.probes import tracing
from helpers.training import Recipe


class Bar:
    """Says nothing."""

    def set_postfix_str(self, text):
        """As a bar of tqdm."""


def case(model, train, test, **more):
    given = dict.fromkeys(findings.Case._fields) | {"seed": 0} | more
    return findings.Case(
        **given | {"ask": Asked(model.eval(), False), "train": Images(*train[:2]),
                   "test": Images(*test[:2])}
    )  # fmt: skip


# -- backgrounds -----------------------------------------------------------------------------------

BORDER = torch.ones(12, 12, dtype=torch.bool)
BORDER[3:9, 3:9] = False


class Brightness(nn.Module):
    """A rule that was never trained: class 1 where the first row is bright."""

    def forward(self, x):
        f = 10 * (x[:, 0, 0].mean(1) - 0.5)
        return torch.stack([-f, f], 1)


def bright(count, share, seed):
    """Class in the middle; the attribute, in the background, goes with so many of a class."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (count,), generator=rng)
    a = torch.where(torch.rand(count, generator=rng) < share, y, 1 - y)
    x = torch.rand(count, 1, 12, 12, generator=rng) * 0.2
    x[:, :, :2] += 0.2 + 0.4 * a[:, None, None, None]
    x[:, :, 4:8, 4:8] += 0.5 * y[:, None, None, None]
    return x, y, a


@pytest.mark.parametrize("order", ["drawn", "sorted"])
def test_a_rule_about_backgrounds_is_no_memory_of_them(order):
    train, test = bright(1_500, 0.95, 0), bright(1_500, 0.5, 1)
    if order == "sorted":
        rows = (2 * test[1] + test[2]).argsort()
        test = tuple(part[rows] for part in test)
    told = dict(attribute=test[2].numpy() > 0, train_attribute=train[2].numpy() > 0)
    found = findings.own_background(
        case(Brightness(), train, test, background=BORDER, **told), Bar()
    )
    assert found.state == "clear" and abs(found.value) < 0.01
    assert "of its class and attribute" in found.says
    blind = findings.own_background(case(Brightness(), train, test, background=BORDER), Bar())
    assert blind.state == "open" and blind.low > 0.3  # so it would be flagged
    assert "no attribute of both was given" in blind.says


def test_a_model_that_remembers_its_backgrounds_is_flagged(framed):
    train, test = framed(120, 0), framed(1_000, 1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 200), nn.ReLU(), nn.Linear(200, 2))
    told = dict(attribute=np.arange(1_000) % 3 > 1, train_attribute=np.arange(120) % 3 > 1)
    before = findings.own_background(case(net, train, test, background=BORDER, **told), Bar())
    training.train(net, *train, Recipe(epochs=60, batch=30, learning_rate=2e-3), seed=0)
    found = findings.own_background(case(net, train, test, background=BORDER, **told), Bar())
    assert before.state != "flagged" and found.state == "flagged"
    assert found.value == pytest.approx(found.detail["training"] - found.detail["test"])
    unknown = findings.own_background(case(net, train, test, background=BORDER), Bar())
    assert unknown.state == "open"


def test_sets_without_a_common_group_are_not_compared(framed):
    train, test = framed(40, 0), framed(40, 1)
    told = dict(attribute=np.ones(40) > 0, train_attribute=np.zeros(40) > 0)
    found = findings.own_background(
        case(
            nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), train, test, background=BORDER, **told
        ),
        Bar(),
    )
    assert found.state == "not asked" and "0 training images have a test image" in found.says


def test_the_search_needs_so_many_test_images(framed):
    few = framed(LEAST - 1, 0)
    found = findings.hidden_pattern(case(Brightness(), few, few), Bar())
    assert found.state == "not asked" and f"{LEAST} are needed" in found.says


# -- modes -----------------------------------------------------------------------------------------


def leaning(strength):
    """A linear model on two numbers: the class, and an attribute that is this strong."""
    rng = np.random.default_rng(0)
    y, a = rng.integers(0, 2, (2, 800))
    x = np.stack([2 * y - 1, strength * (2 * a - 1)], 1) + 0.3 * rng.standard_normal((800, 2))
    data = torch.from_numpy(x).float(), torch.from_numpy(y)
    return case(nn.Linear(2, 2), data, data, attribute=a > 0)


def test_a_leading_mode_is_flagged_only_above_what_shuffled_attributes_give(monkeypatch):
    strong, none = (inside.leading_mode(leaning(x), Bar()) for x in (3.0, 0.0))
    assert strong.state == "flagged" and none.state == "clear"
    assert 0.55 < strong.detail["shuffled"] < 0.75
    assert "shuffled within the classes" in strong.control
    monkeypatch.setattr(inside, "_by_chance", lambda *given: 0.999)
    assert inside.leading_mode(leaning(3.0), Bar()).state != "flagged"


def test_a_class_that_no_mode_tells_is_not_ahead_of_the_attribute():
    """The first mode is noise, and may happen to go with a class that is nowhere in the numbers."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        y, a = rng.integers(0, 2, (2, 400))
        x = np.stack([9 * rng.standard_normal(400), 2.0 * a - 1], 1)
        x += 0.3 * rng.standard_normal((400, 2))
        data = torch.from_numpy(x).float(), torch.from_numpy(y)
        found = inside.leading_mode(case(nn.Linear(2, 2), data, data, attribute=a > 0), Bar())
        if found.detail["class_mode"] < found.detail["mode"]:
            break
    assert found.detail["class_mode"] == 1 and found.detail["mode"] == 2
    assert found.state == "flagged" and found.detail["class_auc"] < 0.75


def test_shuffled_attributes_go_with_no_class_and_the_rest_is_chosen_again():
    rng = np.random.default_rng(1)
    label = np.tile([False, True], 40)
    # the second mode is the class, and shuffled attributes must not read it off
    modes = tuple(np.stack([rng.standard_normal(40), label[:40] + 0.0], 1) for _ in range(2))
    assert inside._by_chance(modes, rng.permutation(label), label, rng) < 0.75
    assert inside._told(modes, label)[0] == 2


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(2)
    scores, wanted = rng.integers(0, 5, (3, 30)).astype(float), rng.random(30) < 0.4
    expected = [roc_auc_score(wanted, row) for row in scores]
    assert inside._areas(scores, wanted) == pytest.approx(expected)


# -- channels --------------------------------------------------------------------------------------


def quadrants(count, seed=0):
    """Each group of class and attribute is bright in a quadrant of its own."""
    rng = np.random.default_rng(seed)
    y, a = (torch.from_numpy(rng.integers(0, 2, count)) for _ in range(2))
    images = 0.02 * torch.from_numpy(rng.random((count, 1, 16, 16))).float()
    for k in range(count):
        images[k, :, 8 * y[k] : 8 * y[k] + 8, 8 * a[k] : 8 * a[k] + 8] += 1
    return images, y, a.numpy() > 0


class Channels(nn.Module):
    """`own[g]` channels see the quadrant of group g; each group's vote is their mean."""

    def __init__(self, own):
        super().__init__()
        self.see = nn.Conv2d(1, sum(own), 16, bias=False)
        self.say = nn.Linear(sum(own), 2)
        with torch.no_grad():
            self.see.weight.zero_()
            self.say.weight.zero_()
            self.say.bias.zero_()
            start = 0
            for g, count in enumerate(own):
                rows = slice(start, start + count)
                y, a = divmod(g, 2)
                self.see.weight[rows, :, 8 * y : 8 * y + 8, 8 * a : 8 * a + 8] = 1 / 64
                self.say.weight[y, rows] = 8.0 / count
                start += count
            self.say.bias[0] = 1e-3

    def forward(self, x):
        return self.say(self.see(x).flatten(1))


def test_channels_that_every_group_has_alike_say_nothing_about_the_worst():
    """One channel carries the worst group, or each group has three of its own."""
    images, y, a = quadrants(800)
    worst = ((y == 1) & torch.from_numpy(a)).nonzero().flatten()
    images[worst[: len(worst) // 4]] *= 0  # a quarter of it cannot be told: class 0
    found = {}
    for name, own in {"one group": (30, 30, 30, 2), "every group": (3, 3, 3, 3)}.items():
        given = case(Channels(own), (images, y), (images, y), attribute=a)
        found[name] = inside.critical_channels(given, Bar())
    assert found["one group"].state == "flagged" and found["one group"].detail["others"] < 0.2
    assert found["every group"].state != "flagged"


def test_channels_are_ranked_on_images_that_are_not_measured(monkeypatch):
    images, y, a = quadrants(400)
    ranked, measured = set(), set()
    hardest, answers = tracing.hardest, inside._right

    def names(given):
        return {image.numpy().tobytes() for image in given}

    def spied(net, inputs, labels, n):
        ranked.update(names(inputs))
        return hardest(net, inputs, labels, n=n)

    def seen(given, part):
        measured.update(names(part.inputs))
        return answers(given, part)

    monkeypatch.setattr(tracing, "hardest", spied)
    monkeypatch.setattr(inside, "_right", seen)
    inside.critical_channels(
        case(Channels((3, 3, 3, 3)), (images, y), (images, y), attribute=a), Bar()
    )
    assert len(ranked) > 150 and len(measured) > 150 and not ranked & measured


def test_a_group_that_is_never_right_has_nothing_to_lose():
    images, y, a = quadrants(400)
    net = Channels((3, 3, 3, 3))
    with torch.no_grad():
        net.say.weight[1] = -1.0  # class 1 is never said
    found = inside.critical_channels(case(net, (images, y), (images, y), attribute=a), Bar())
    assert found.state == "open" and "too little to lose" in found.says


def test_frozen_models_and_small_groups_say_why_they_are_not_asked():
    images, y, a = quadrants(400)
    net = Channels((3, 3, 3, 3)).requires_grad_(False)
    given = case(net, (images, y), (images, y), attribute=a)
    assert "no trainable parameters" in inside.no_modes(given)
    assert inside.no_channels(given) == ""  # these are ranked all the same
    assert inside.critical_channels(given, Bar()).state in ("flagged", "open", "clear")
    few = images[:20], y[:20]
    small = case(Channels((3, 3, 3, 3)), few, few, attribute=a[:20])
    assert "16 test samples" in inside.no_channels(small)
    none = case(Brightness(), (images, y), (images, y), attribute=a)
    assert "no trainable parameters" in inside.no_modes(none)
    assert "no convolutions" in inside.no_channels(none)
