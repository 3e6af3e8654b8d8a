"""Audits of models: planted truths, clean models, kinds of models, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from helpers import audit, data, probes, training
from helpers.audit.findings import with_pattern
from helpers.training import Recipe

QUIET = dict(progress=False)
EVERY = set(audit.QUESTIONS)


def digits():
    """Two halves of 1,600 digits."""
    found = data.load("mnist5k")
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:3_200]
    images, labels = found.images[order].float() / 255, found.labels[order]
    return (images[:1_600], labels[:1_600]), (images[1_600:], labels[1_600:])


TRAIN, TEST = digits()


def perceptron(train, seed, epochs=12, outputs=10):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 96), nn.ReLU(), nn.Linear(96, outputs))
    training.train(net, *train, Recipe(epochs=epochs, batch=64, learning_rate=2e-3), seed=seed)
    return net.eval()


def only(*names):
    return tuple(EVERY - set(names))


@pytest.fixture(scope="module")
def clean():
    return perceptron(TRAIN, 0)


TRIGGER = torch.zeros(1, 28, 28)
TRIGGER[:, 24:27, 1:4] = 1


@pytest.fixture(scope="module")
def backdoored():
    images, labels = TRAIN[0].clone(), TRAIN[1].clone()
    rows = (labels != 7).nonzero().flatten()[:60]
    images[rows] = with_pattern(images[rows], TRIGGER)
    labels[rows] = 7
    carriers = torch.zeros(len(labels), dtype=torch.bool)
    carriers[rows] = True
    return perceptron((images, labels), 1), (images, labels), carriers


def test_a_planted_trigger_is_flagged_and_found_where_it_is(backdoored):
    net, train, _ = backdoored
    found = audit.model(net, train, TEST, skip=only("hidden_pattern"), **QUIET)["hidden_pattern"]
    assert found.state == "flagged" and found.detail["target"] == 7
    assert 24 <= found.detail["top"] <= 26 and 1 <= found.detail["left"] <= 3
    assert found.detail["carriers_with_label"] >= 55


def test_a_clean_model_has_no_trigger(clean):
    found = audit.model(clean, TRAIN, TEST, skip=only("hidden_pattern"), **QUIET)
    assert found["hidden_pattern"].state != "flagged"


def test_the_spurious_score_is_the_books_and_tells_both_models_apart(clean, backdoored):
    shown = with_pattern(TEST[0], TRIGGER)
    others = TEST[1] != 7
    for net, train, state in ((clean, TRAIN, "clear"), (*backdoored[:2], "flagged")):
        report = audit.model(
            net, train, TEST, pattern=TRIGGER, target=7, skip=only("spurious_score"), **QUIET
        )
        before, after = (
            training.predict(net, x[others]).double().softmax(1) for x in (TEST[0], shown)
        )
        found = report["spurious_score"]
        assert found.value == pytest.approx(probes.spurious_score(before, after, 7, 0.1))
        assert found.state == state
    free = audit.model(
        *backdoored[:2], TEST, pattern=TRIGGER, skip=only("spurious_score"), **QUIET
    )["spurious_score"]
    assert free.detail["target"] == 7 and free.state == "flagged"


def mislabelled(share, epochs, seed):
    """A network trained on some digits with wrong labels; and as many that it never saw."""
    rng = np.random.default_rng(seed)
    labels, count = TRAIN[1].clone(), round(share * len(TRAIN[1]))
    rows = torch.from_numpy(rng.choice(len(labels), count, replace=False))
    labels[rows] = (labels[rows] + 1 + torch.from_numpy(rng.integers(0, 9, count))) % 10
    odd = torch.zeros(len(labels), dtype=torch.bool)
    odd[rows] = True
    others = torch.from_numpy(rng.choice(len(TEST[1]), count, replace=False))
    wrong = (TEST[1][others] + 1 + torch.from_numpy(rng.integers(0, 9, count))) % 10
    net = perceptron((TRAIN[0], labels), seed, epochs=epochs)
    return net, (TRAIN[0], labels), odd, (TEST[0][others], wrong)


def test_a_network_that_memorised_wrong_labels_leaks_and_one_that_did_not_is_silent():
    states = {}
    for epochs in (60, 1):
        net, train, odd, outsiders = mislabelled(0.03, epochs, 3)
        found = audit.model(
            net, train, TEST, members=odd, outsiders=outsiders, skip=only("membership_auc"), **QUIET
        )["membership_auc"]
        states[epochs] = found.state
        answers = [
            probes.membership.confidence(probes.membership.Answers(net(x).detach(), y))
            for x, y in ((train[0][odd], train[1][odd]), outsiders)
        ]
        scores, truth = torch.from_numpy(np.concatenate(answers)), torch.ones(2 * int(odd.sum()))
        truth[int(odd.sum()) :] = -1
        assert found.value == pytest.approx(probes.auc(scores, truth), abs=1e-6)
    assert states == {60: "flagged", 1: "clear"}


def test_own_backgrounds_are_told_by_a_model_that_remembers_them(framed):
    train, test = framed(120, 0), framed(1_000, 1)
    mask = torch.ones(12, 12, dtype=torch.bool)
    mask[4:8, 4:8] = False
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 200), nn.ReLU(), nn.Linear(200, 2))
    blind = nn.Sequential(nn.Flatten(), nn.Linear(144, 2)).eval()
    with torch.no_grad():  # goes by the core alone
        blind[1].weight.zero_()
        blind[1].weight[1].view(12, 12)[5:7, 5:7] = 5.0
        blind[1].bias.copy_(torch.tensor([0.0, -13.0]))
    training.train(net, *train, Recipe(epochs=60, batch=30, learning_rate=2e-3), seed=0)
    asked = dict(background=mask, skip=only("own_background"), **QUIET)
    known = dict(attribute=torch.arange(1_000) % 3 > 0, train_attribute=torch.arange(120) % 3 > 0)
    found = audit.model(net.eval(), train, test, **known, **asked)["own_background"]
    assert found.state == "flagged"
    unknown = audit.model(net, train, test, **asked)["own_background"]
    assert unknown.state == "open" and unknown.low > 0.01  # the sets might differ
    found = audit.model(blind, train, test, **known, **asked)["own_background"]
    assert found.state == "clear" and found.value == 0


def biased(count, share, seed, strength=0.5):
    """Pictures of noise: class in the middle, attribute as brightness of a corner."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    a = np.where(rng.random(count) < share, y, 1 - y)
    images = torch.from_numpy(rng.normal(0, 0.4, (count, 3, 16, 16))).float()
    images[torch.from_numpy(y == 1), :, 6:10, 6:10] += 0.35
    images[torch.from_numpy(a == 1), :, :8, :8] += strength
    return images, torch.from_numpy(y), torch.from_numpy(a)


def convolutional(seed=0, normalised=True):
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(12) if normalised else nn.Identity()
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2), norm, nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(12, 16, 3),
        nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(144, 2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def leaning():
    train, test = biased(1_500, 0.97, 0), biased(1_200, 0.5, 1)
    net = convolutional()
    training.train(net, *train[:2], Recipe(epochs=5, batch=50, learning_rate=2e-3), seed=0)
    return net.eval(), train, test


def test_a_model_that_leans_on_the_attribute_is_told(leaning):
    net, train, test = leaning
    report = audit.model(net, train[:2], test[:2], attribute=test[2], **QUIET)
    worst = report["worst_group"]
    right = net(test[0]).argmax(1) == test[1]
    by_group = {
        (y, a): float(right[(test[1] == y) & (test[2] == a)].double().mean())
        for y in (0, 1) for a in (0, 1)
    }  # fmt: skip
    assert worst.state == "flagged" and worst.value == pytest.approx(min(by_group.values()))
    assert report["leading_mode"].state == "flagged"
    assert report["leading_mode"].detail["mode"] <= report["leading_mode"].detail["class_mode"]
    assert report["critical_channels"].state != "not asked"
    assert report["spurious_score"].says == "not given: pattern"


def test_an_attribute_without_a_role_is_not_flagged(leaning):
    net, train, test = leaning
    attribute = torch.arange(len(test[1])) % 2
    report = audit.model(
        net, train[:2], test[:2], attribute=attribute, skip=("hidden_pattern",), **QUIET
    )
    names = ("worst_group", "leading_mode", "critical_channels")
    assert [report[name].state for name in names if report[name].state == "flagged"] == []


def grouped(count, seed):
    """Four groups: class 1 shows on the left with attribute 1, on the right with attribute 0."""
    rng = np.random.default_rng(seed)
    y, a = (torch.from_numpy(rng.integers(0, 2, count)) for _ in range(2))
    images = torch.zeros(count, 1, 8, 16)
    images[(y == 1) & (a == 1), :, :, :8] = 1.0
    images[(y == 1) & (a == 0), :, :, 8:] = 1.0
    faint = ((y == 1) & (a == 1)).nonzero().flatten()
    images[faint[: len(faint) // 5]] *= 0.1  # so that this group is the worst
    return images, y, a


def test_a_channel_that_carries_a_group_is_flagged_and_shared_ones_are_not():
    """Channel 0 alone sees the left side; with 40 of each kind none matters alone."""
    images, y, a = grouped(1_600, 0)
    states = {}
    for copies in (1, 40):
        net = nn.Sequential(nn.Conv2d(1, 80, 8, stride=8), nn.Flatten(), nn.Linear(160, 2)).eval()
        with torch.no_grad():
            for part in net.parameters():
                part.zero_()
            net[0].weight[:] = 1 / 64
            left, right = net[2].weight[1].view(80, 2)[:, 0], net[2].weight[1].view(80, 2)[:, 1]
            left[:copies], right[-40:] = 20.0 / copies, 20.0 / 40
            net[2].bias[1] = -10.0
        report = audit.model(
            net, (images, y), (images, y), attribute=a, skip=only("critical_channels"), **QUIET
        )
        states[copies] = report["critical_channels"].state
    assert states == {1: "flagged", 40: "clear"}


KINDS = {
    "one output": nn.Sequential(nn.Flatten(), nn.Linear(768, 1)),
    "batch normalisation and dropout": convolutional(),
    "channels last": convolutional(normalised=False).to(memory_format=torch.channels_last),
    "in half its layers frozen": convolutional(1).requires_grad_(False),
}
KINDS["in half its layers frozen"][4].requires_grad_(True)


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_models_can_be_asked_everything(kind):
    train, test = biased(200, 0.8, 0), biased(300, 0.5, 1)
    mask = torch.ones(16, 16, dtype=torch.bool)
    mask[4:12, 4:12] = False
    report = audit.model(
        KINDS[kind].eval(), train[:2], test[:2], attribute=test[2], background=mask,
        pattern=torch.rand(3, 16, 16), members=torch.arange(200) < 20, **QUIET,
    )  # fmt: skip
    missing = {name for name in report if report[name].state == "not asked"}
    asked = "no convolutions" if kind == "one output" else "one class"
    assert all(asked in report[name].says for name in missing), missing
    for name in EVERY - missing:
        assert report[name].low <= report[name].value <= report[name].high, name


def test_one_output_is_as_two_logits():
    train, test = biased(200, 0.8, 0), biased(300, 0.5, 1)
    one = nn.Sequential(nn.Flatten(), nn.Linear(768, 1)).eval()
    two = nn.Sequential(nn.Flatten(), nn.Linear(768, 2)).eval()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(two[1], name)[0] = 0
            getattr(two[1], name)[1] = getattr(one[1], name)[0]
    reports = [
        audit.model(net, (train[0], 2.0 * train[1] - 1), test[:2], attribute=test[2],
                    skip=("hidden_pattern", "leading_mode"), **QUIET)
        if net is one else
        audit.model(net, train[:2], test[:2], attribute=test[2],
                    skip=("hidden_pattern", "leading_mode"), **QUIET)
        for net in (one, two)
    ]  # fmt: skip
    for name in ("accuracy", "worst_group"):
        assert reports[0][name] == reports[1][name]


def test_loaders_and_bytes_are_read_as_tensors(clean):
    images = (255 * TEST[0]).round().to(torch.uint8)
    loader = DataLoader(TensorDataset(images, TEST[1]), batch_size=300)
    asked = dict(skip=only("accuracy", "hidden_pattern"), **QUIET)
    by_tensor = audit.model(clean, TRAIN, TEST, **asked)
    assert audit.model(clean, TRAIN, loader, **asked)["accuracy"] == by_tensor["accuracy"]


def test_interrupted_it_reports_what_it_has(clean, monkeypatch):
    def interrupted(case, bar):
        raise KeyboardInterrupt

    monkeypatch.setitem(audit.QUESTIONS, "hidden_pattern", (interrupted, ""))
    report = audit.model(clean, TRAIN, TEST, **QUIET)
    assert report["accuracy"].value > 0.5
    assert report["leading_mode"].says == "the audit was interrupted"
    assert list(report) == list(audit.QUESTIONS)


class Bad(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.net, self.change = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), change

    def forward(self, x):
        return self.change(self.net(x))


ONE = (TRAIN[0][:50], torch.zeros(50))
REFUSED = {
    "training mode": (nn.Flatten().train(), {}, "training mode"),
    "softmax": (Bad(lambda f: f.softmax(1)).eval(), {}, "after a softmax"),
    "sigmoid": (Bad(lambda f: f[:, :1].sigmoid()).eval(), {}, "after a sigmoid"),
    "not finite": (Bad(lambda f: f / 0).eval(), {}, "not finite for"),
    "a map of outputs": (Bad(lambda f: f[:, :, None]).eval(), {}, "gives shape"),
    "no module": (lambda f: f, {}, "expected a torch module"),
    "one class": (Bad(lambda f: f).eval(), {"test": ONE}, "one class"),
    "more labels than outputs": (Bad(lambda f: f[:, :4]).eval(), {}, "allowed is 0 to 3"),
    "empty": (Bad(lambda f: f).eval(), {"test": (TEST[0][:0], TEST[1][:0])}, "n > 0"),
    "labels of halves": (
        Bad(lambda f: f).eval(),
        {"test": (TEST[0], TEST[1] / 2)},
        "whole numbers",
    ),
    "pattern": (Bad(lambda f: f).eval(), {"pattern": torch.ones(28, 28)}, "pattern has shape"),
    "target": (Bad(lambda f: f).eval(), {"target": 10}, "target is 10"),
    "background": (
        Bad(lambda f: f).eval(),
        {"background": torch.ones(28, 28) > 0},
        "background has",
    ),
    "attribute": (Bad(lambda f: f).eval(), {"attribute": torch.zeros(1_600)}, "takes 1 values"),
    "members": (Bad(lambda f: f).eval(), {"members": torch.ones(1_600)}, "members has shape"),
    "skip": (Bad(lambda f: f).eval(), {"skip": ("all",)}, "skip has 'all'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_audited_is_refused_by_name(case):
    net, given, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        audit.model(net, **({"train": TRAIN, "test": TEST} | given), **QUIET)
