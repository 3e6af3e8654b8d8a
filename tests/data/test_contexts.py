"""Pictures in contexts: what rendering does, the protocol of a rare context."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data
from helpers.data import contexts
from helpers.data.contexts import CONTEXTS, Pool, read_off, render, trial_split

# -- rendering ------------------------------------------------------------------------------------


def photographs(n=24, size=32, seed=0):
    """Smooth random colours: like a photograph in brightness and saturation, if in nothing else."""
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


@given(st.sampled_from(CONTEXTS), st.integers(8, 40), st.integers(8, 40), st.sampled_from([0, 1]))
@settings(max_examples=15)
def test_pictures_stay_pictures_whatever_goes_in(context, height, width, colour):
    shown = render(torch.full((2, 3, height, width), float(colour)), context, seed=height)
    assert shown.shape == (2, 3, height, width) and shown.dtype == torch.float32
    assert bool(torch.isfinite(shown).all()) and 0 <= shown.min() and shown.max() <= 1


@pytest.mark.parametrize("context", CONTEXTS)
def test_rendering_hangs_on_its_seed_alone(context):
    images = photographs(3)
    torch.manual_seed(0)
    first = render(images, context, seed=4)
    torch.manual_seed(1)
    assert torch.equal(first, render(images, context, seed=4))
    assert not torch.equal(first, render(images, context, seed=5))
    each = [render(images[:1].expand(2, -1, -1, -1), context, seed=4)[i] for i in (0, 1)]
    assert not torch.equal(*each), "every picture has a context of its own"


def test_contexts_look_like_what_they_are_called():
    images = photographs()
    shown = {name: render(images, name, seed=0) for name in CONTEXTS}
    mean = {name: picture.mean((0, 2, 3)) for name, picture in shown.items()}
    plain = images.mean((0, 2, 3))
    warmth = {name: float(colour[0] - colour[2]) for name, colour in mean.items()}
    assert max(warmth, key=warmth.get) == "autumn" and min(warmth, key=warmth.get) == "water"
    assert warmth["autumn"] > 0.1 and warmth["water"] < -0.1
    assert mean["dim"].sum() < 0.5 * plain.sum()
    assert all(mean[name].sum() > 0.7 * plain.sum() for name in CONTEXTS if name != "dim")
    green = {name: picture[:, 1] - picture[:, [0, 2]].mean(1) for name, picture in shown.items()}
    assert max(green, key=lambda name: green[name].mean()) == "grass"
    assert green["grass"][:, -10:].mean() > green["grass"][:, :10].mean() + 0.05  # blades below
    colourful = {name: float(picture.std(1).mean()) for name, picture in shown.items()}
    assert colourful["rock"] < 0.6 * float(images.std(1).mean())
    change = {name: float((picture - images).abs().mean()) for name, picture in shown.items()}
    assert min(change, key=change.get) == "outdoor"


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_object_can_still_be_seen(context):
    images = photographs(16, seed=3)
    shown = render(images, context, seed=0).mean(1).flatten(1)
    grey = images.mean(1).flatten(1)
    own = [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(shown, grey, strict=True)]
    other = [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(shown, grey.roll(1, 0), strict=True)]
    assert np.mean(own) > np.mean(other) + 0.2


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ("autumn", "64630990d6689160"),
        ("dim", "e005d6403aade563"),
        ("grass", "fdcbcfc83da35c4d"),
        ("outdoor", "67288edd40d7db83"),
        ("rock", "13ef6eb4537626dd"),
        ("water", "c75d5e3559ff15d6"),
    ],
)
def test_renderings_are_the_ones_of_all_results(fingerprint, context, expected):
    images = photographs(2, size=16)
    assert fingerprint(render(images, context, seed=1)) == expected


def test_what_render_does_not_take():
    with pytest.raises(ValueError, match="context is 'snow': allowed are 'autumn', 'dim'"):
        render(photographs(1), "snow", seed=0)
    with pytest.raises(ValueError, match=r"dtype torch.uint8 and shape \(2, 3, 8, 8\)"):
        render(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "dim", seed=0)
    with pytest.raises(ValueError, match=r"shape \(2, 1, 8, 8\)"):
        render(torch.zeros(2, 1, 8, 8), "dim", seed=0)


# -- the surrogate --------------------------------------------------------------------------------


@pytest.fixture
def greys(monkeypatch):
    """100 pictures of each of ten objects; all pixels of object o are 25 o."""
    label = torch.arange(1_000) % 10
    images = (25 * label).to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    made = data.Dataset(images, label, data.OBJECTS, "cifar10", "greys", True)
    monkeypatch.setattr(contexts, "load", lambda name, **_: made)


def test_a_pool_has_equal_numbers_of_all_and_labels_that_fit_the_pictures(greys):
    pool = contexts.rendered("cifar10", 7, 16, 0, None)
    assert pool.inputs.shape == (420, 3, 16, 16) and pool.inputs.dtype == torch.uint8
    assert torch.equal(pool.counts(), torch.full((6, 10), 7))
    for k, _ in enumerate(CONTEXTS):
        bright = [
            float(pool.inputs[(pool.context == k) & (pool.label == o)].float().mean())
            for o in range(10)
        ]
        assert np.corrcoef(bright, np.arange(10))[0, 1] > 0.95
    mean = [float(pool.inputs[pool.context == k].float().mean()) for k in range(6)]
    assert np.argmin(mean) == CONTEXTS.index("dim")
    assert "surrogate" in pool.source


def test_pools_are_drawn_by_their_seed(greys):
    first, again, other = (contexts.rendered("cifar10", 3, 16, seed, None) for seed in (0, 0, 1))
    assert torch.equal(first.inputs, again.inputs) and torch.equal(first.label, again.label)
    assert not torch.equal(first.inputs, other.inputs)


def test_pools_are_the_ones_of_all_results(fingerprint):
    pool = contexts.rendered("mnist5k", 1, 12, 0, None)
    assert len(pool) == 60 and pool.label[:10].tolist() == [5, 9, 4, 9, 7, 0, 1, 2, 0, 1]
    assert pool.context[:10].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 1, 1]
    assert fingerprint(pool.inputs / 255) == "4773226775f8fda9"


@pytest.mark.parametrize("samples", [1, 16])
def test_from_one_picture_to_all_there_are(greys, samples):
    assert len(contexts.rendered("cifar10", samples, 8, 0, None)) == 60 * samples


@pytest.mark.parametrize("samples", [0, 17])
def test_more_pictures_than_there_are(greys, samples):
    with pytest.raises(ValueError, match=f"samples is {samples}: cifar10 has pictures for 1 to 16"):
        contexts.rendered("cifar10", samples, 16, 0, None)


def test_grey_images_become_dark_on_white():
    digit = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    digit[..., 1:3, 1:3] = 255
    shown = contexts.enlarged(digit, 4)
    assert shown.shape == (1, 3, 4, 4)
    assert torch.equal(shown[0, 0], 1 - digit[0, 0].float() / 255)
    colour = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(contexts.enlarged(colour, 8), colour.float() / 255)


# -- the protocol ---------------------------------------------------------------------------------


def made_pool(seed, n=400, kinds=4, places=3):
    draw = torch.Generator().manual_seed(seed)
    label, context = (torch.randint(0, m, (n,), generator=draw) for m in (kinds, places))
    names = ("cat", "dog", "cow", "owl")[:kinds], ("dim", "grass", "rock")[:places]
    return Pool(torch.rand(n, 5, generator=draw), label, context, *names, "made")


@given(st.integers(0, 50), st.integers(0, 3), st.integers(0, 2), st.integers(0, 12))
def test_a_split_is_the_protocol_of_the_paper(seed, o, k, n):
    pool = made_pool(seed)
    split = trial_split(pool, pool.contexts[k], pool.objects[o], n, seed)
    parts = {name: set(rows.tolist()) for name, rows in split._asdict().items()}
    assert all(len(parts[name]) == len(rows) for name, rows in split._asdict().items())
    where, what = pool.context.tolist(), pool.label.tolist()
    half = set(contexts.halves(len(pool), seed)[0].tolist())
    assert len(half) == 280  # 70 % of 400
    assert parts["added"] == {i for i in parts["train"] if where[i] == k} and len(split.added) == n
    assert all(what[i] == o for i in parts["added"]) and parts["added"] <= half
    assert parts["train"] - parts["added"] == {i for i in half if where[i] != k}
    rest = set(range(len(pool))) - half
    assert parts["test"] == {i for i in rest if where[i] == k and what[i] != o}
    assert parts["own"] == {i for i in rest if where[i] == k and what[i] == o}
    assert parts["elsewhere"] == {i for i in rest if where[i] != k}


def test_fewer_pictures_are_part_of_more_and_nothing_else_changes():
    pool = made_pool(0)
    few, more = (trial_split(pool, "grass", "cow", n, seed=3) for n in (2, 9))
    assert torch.equal(few.added, more.added[:2])
    assert torch.equal(few.train[:-2], more.train[:-9])
    assert torch.equal(few.test, more.test)
    none = [trial_split(pool, "grass", name, 0, seed=3) for name in pool.objects]
    assert all(torch.equal(none[0].train, split.train) for split in none)


def test_what_the_protocol_does_not_take():
    pool = made_pool(0)
    with pytest.raises(ValueError, match="context is 'snow': the pictures have 'dim', 'grass'"):
        trial_split(pool, "snow", "cat", 1, seed=0)
    with pytest.raises(ValueError, match="object is 'emu': the pictures have 'cat', 'dog'"):
        trial_split(pool, "dim", "emu", 1, seed=0)
    there = len(trial_split(pool, "dim", "cat", 0, seed=0).train)
    with pytest.raises(ValueError, match=r"n is 300: there are \d+ training pictures of 'cat'"):
        trial_split(pool, "dim", "cat", 300, seed=0)
    every = pool.context[split := contexts.halves(len(pool), 0)[0]] == 0
    count = int((every & (pool.label[split] == 0)).sum())
    assert len(trial_split(pool, "dim", "cat", count, seed=0).added) == count
    with pytest.raises(ValueError, match=f"n is {count + 1}: there are {count} "):
        trial_split(pool, "dim", "cat", count + 1, seed=0)
    with pytest.raises(ValueError, match="n is -1"):
        trial_split(pool, "dim", "cat", -1, seed=0)
    assert there < 280
    alone = made_pool(0, kinds=1)
    with pytest.raises(ValueError, match="'dim' has no test picture of anything but 'cat'"):
        trial_split(alone, "dim", "cat", 1, seed=0)


@given(st.integers(0, 20))
def test_scores_are_what_a_loop_counts(seed):
    pool = made_pool(seed)
    split = trial_split(pool, "rock", "dog", 2, seed)
    draw = torch.Generator().manual_seed(seed + 1)
    probabilities = torch.rand(len(pool), 4, generator=draw).softmax(1)
    row = read_off(pool, split, "dog", probabilities)
    test = [i for i in split.test.tolist()]
    answers = [max(range(4), key=lambda o: float(probabilities[i, o])) for i in range(len(pool))]
    assert row["rate"] == pytest.approx(sum(answers[i] == 1 for i in test) / len(test))
    assert row["probability"] == pytest.approx(
        sum(float(probabilities[i, 1]) for i in test) / len(test)
    )
    for name, rows in (("accuracy", split.test), ("own_accuracy", split.own),
                       ("clean_accuracy", split.elsewhere)):  # fmt: skip
        right = [answers[i] == int(pool.label[i]) for i in rows.tolist()]
        assert row[name] == pytest.approx(sum(right) / len(right))
    other = [i for i in split.elsewhere.tolist() if pool.label[i] != 1]
    assert row["elsewhere_rate"] == pytest.approx(sum(answers[i] == 1 for i in other) / len(other))
    assert row["test_images"] == len(test)


def test_probabilities_that_do_not_fit_are_refused():
    pool = made_pool(0)
    split = trial_split(pool, "rock", "dog", 2, seed=0)
    known = torch.full((len(pool), 4), float("nan"))
    asked = torch.cat([split.test, split.own, split.elsewhere])
    known[asked] = torch.rand(len(asked), 4).softmax(1)
    assert 0 < read_off(pool, split, "dog", known)["accuracy"] < 1  # other rows may be NaN
    for part in (split.test, split.own, split.elsewhere):
        bad = known.clone()
        bad[part[0], 2] = float("nan")
        with pytest.raises(ValueError, match="finite"):
            read_off(pool, split, "dog", bad)
    for bad in (known[:, :3], known[:-1], known[:, 0]):
        with pytest.raises(ValueError, match=r"expected \(400, 4\)"):
            read_off(pool, split, "dog", bad)


@pytest.mark.parametrize(
    ("label", "context", "message"),
    [
        ([0, 2], [0, 1], "label has 2: allowed is 0 and 1"),
        ([0, 1], [-1, 1], "context has -1"),
        ([0], [0, 1], r"label has shape \(1,\)"),
        ([0, 1], [[0], [1]], r"context has shape \(2, 1\)"),
    ],
)
def test_pools_have_one_object_and_context_a_picture(label, context, message):
    for inputs in (torch.zeros(2, 5), ["one.jpg", "two.jpg"]):
        with pytest.raises(ValueError, match=message):
            Pool(inputs, torch.tensor(label), torch.tensor(context), ("a", "b"), ("c", "d"), "")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float32])
def test_indices_of_any_type_are_counted(dtype):
    label, context = (torch.arange(300) % 60).to(dtype), (torch.arange(300) % 6).to(dtype)
    names = tuple(map(str, range(60)))
    pool = contexts.Pool(torch.zeros(300, 1), label, context, names, contexts.CONTEXTS, "")
    assert pool.counts().sum() == 300 and pool.counts().max() == 5
