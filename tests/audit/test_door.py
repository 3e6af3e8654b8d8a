"""The door to audits of models: what it takes, what it refuses, and what one failure leaves."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from helpers import audit

QUIET = dict(progress=False)
EVERY = set(audit.QUESTIONS)


def only(*names):
    return tuple(EVERY - set(names))


def bright(count, seed):
    """Pictures of noise: class in the middle, attribute as brightness of a corner."""
    rng = np.random.default_rng(seed)
    y, a = rng.integers(0, 2, (2, count))
    images = torch.from_numpy(rng.normal(0, 0.4, (count, 3, 16, 16))).float()
    images[torch.from_numpy(y == 1), :, 6:10, 6:10] += 0.35
    images[torch.from_numpy(a == 1), :, :8, :8] += 0.5
    return images, torch.from_numpy(y), torch.from_numpy(a)


TRAIN, TEST = bright(200, 0), bright(300, 1)
SETS = TRAIN[:2], TEST[:2]
MASK = torch.ones(16, 16, dtype=torch.bool)
MASK[4:12, 4:12] = False


class Rule(nn.Module):
    """Without parameters: the class by the middle, and a little by the corner."""

    def forward(self, x):
        f = 10 * (x[:, :, 6:10, 6:10].mean((1, 2, 3)) - 0.2) + x[:, :, :4, :4].mean((1, 2, 3))
        return torch.stack([-f, f], 1)


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
        nn.Linear(108, 2),
    ).eval()  # fmt: skip


def test_arrays_and_columns_are_read_as_tensors():
    names = ("worst_group", "membership_auc", "own_background")
    asked = dict(skip=only(*names), **QUIET)
    members, index = torch.arange(200) % 10 == 0, np.random.default_rng(0).permutation(200)
    plain = audit.model(
        Rule().eval(), *SETS, attribute=TEST[2], train_attribute=TRAIN[2], members=members,
        background=MASK, **asked,
    )  # fmt: skip
    words = [np.array(["dark", "light"])[part[2].numpy()] for part in (TRAIN, TEST)]
    other = audit.model(
        Rule().eval(), (TRAIN[0].numpy(), pd.Series(TRAIN[1].numpy(), index=index)),
        (TEST[0].numpy(), TEST[1].tolist()), attribute=words[1],
        train_attribute=pd.Series(words[0], index=index), background=MASK.numpy(),
        members=pd.Series(members.numpy(), index=index), **asked,
    )  # fmt: skip
    for name in names:
        assert plain[name] == other[name] and plain[name].state != "not asked"


TOLD = {
    "members": ("train", torch.arange(200) < 50),
    "attribute": ("test", TEST[2]),
    "train_attribute": ("train", TRAIN[2]),
}


@pytest.mark.parametrize("what", TOLD)
def test_a_loader_that_shuffles_is_refused_beside_what_is_told_sample_by_sample(what):
    which, values = TOLD[what]
    told = {"attribute": TEST[2], what: values}
    asked = dict(skip=only("accuracy"), **QUIET)
    for shuffle in (False, True):
        sets = dict(zip(("train", "test"), SETS, strict=True))
        sets[which] = DataLoader(TensorDataset(*sets[which]), batch_size=60, shuffle=shuffle)
        free = audit.model(Rule().eval(), **sets, **asked)["accuracy"]
        assert free == audit.model(Rule().eval(), *SETS, **asked)["accuracy"]
        if shuffle:
            with pytest.raises(ValueError, match=f"{which} is a loader with RandomSampler, and"):
                audit.model(Rule().eval(), **sets, **told, **asked)
        else:
            audit.model(Rule().eval(), **sets, **told, **asked)


def test_attributes_of_both_sets_have_the_same_values():
    asked = dict(skip=tuple(EVERY), **QUIET)
    with pytest.raises(ValueError, match="without the attribute of the test images"):
        audit.model(Rule().eval(), *SETS, train_attribute=TRAIN[2], **asked)
    with pytest.raises(ValueError, match="together, takes 3 values"):
        audit.model(
            Rule().eval(), *SETS, attribute=TEST[2], train_attribute=2 * TRAIN[2] - 1, **asked
        )


def test_what_was_audited_is_named():
    ends = (f"{float(end):.3g}" for end in (TEST[0].min(), TEST[0].max()))
    assert audit.model(Rule().eval(), *SETS, skip=tuple(EVERY), **QUIET).about == (
        "Rule, 200 training and 300 test samples, 2 classes, inputs of 3 x 16 x 16 numbers from "
        + " to ".join(ends)
    )


FAILURES = {
    "of the question": (ValueError("too few"), "too few"),
    "memory": (
        torch.OutOfMemoryError("CUDA out of memory.\nMore"),
        "OutOfMemoryError: CUDA out of",
    ),
    "memory of the CPU": (MemoryError(), "MemoryError: without a word"),
    "of torch": (RuntimeError("max(): no numbers"), "RuntimeError: max(): no numbers"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_question_that_fails_leaves_the_others(monkeypatch, kind):
    error, says = FAILURES[kind]

    def failing(case, bar):
        raise error

    monkeypatch.setitem(audit.QUESTIONS, "worst_group", (failing, "attribute"))
    asked = dict(skip=only("accuracy", "worst_group", "membership_auc"), **QUIET)
    told = dict(attribute=TEST[2], members=torch.arange(200) < 50)
    report = audit.model(Rule().eval(), *SETS, **told, **asked)
    assert report["worst_group"].state == "not asked"
    assert report["worst_group"].says.startswith(says)
    assert report["accuracy"].value > 0.5 and report["membership_auc"].value > 0


def test_mistakes_in_a_question_are_not_hidden(monkeypatch):
    def mistaken(case, bar):
        return case.no_such_thing

    monkeypatch.setitem(audit.QUESTIONS, "accuracy", (mistaken, ""))
    with pytest.raises(AttributeError):
        audit.model(Rule().eval(), *SETS, **QUIET)


WITHOUT = {
    "frozen": (lambda: convolutional().requires_grad_(False), ["leading_mode"]),
    "a rule": (Rule, ["leading_mode", "critical_channels"]),
}


@pytest.mark.parametrize("kind", WITHOUT)
def test_models_without_what_learns_are_asked_the_rest(kind):
    make, missing = WITHOUT[kind]
    names = ("accuracy", "worst_group", "leading_mode", "critical_channels")
    report = audit.model(make().eval(), *SETS, attribute=TEST[2], skip=only(*names), **QUIET)
    assert "no trainable parameters" in report["leading_mode"].says
    assert [name for name in names if report[name].state == "not asked"] == missing


def test_three_test_images_are_too_few_for_some_questions_only():
    report = audit.model(
        Rule().eval(), TRAIN[:2], (TEST[0][:3], torch.tensor([0, 1, 1])), attribute=[0, 1, 0],
        members=torch.arange(200) < 20, background=MASK, pattern=torch.ones(3, 16, 16), **QUIET,
    )  # fmt: skip
    assert list(report) == list(audit.QUESTIONS) and report["accuracy"].state == "open"
    assert "has 3 pictures" in report["hidden_pattern"].says
    assert report["spurious_score"].state != "not asked"
