"""Ranked units beside matched random ones: by zeroing filters by hand and counting images."""

import copy

import numpy as np
import pytest
import torch

from helpers.data import Grouped
from helpers.experiments.minority import paired
from helpers.probes import tracing
from helpers.sweep import Call

AMOUNT, NEAREST = 50, 3
KINDS = ("lost", "test", "refit", "offset", "matched", "raw")


@pytest.fixture(scope="module")
def call(where):
    def made(ranking="gradient 2", amount=AMOUNT, draws=2, **more):
        return Call(where | more, ranking=ranking, amount=amount, draws=draws)

    return made


@pytest.fixture(scope="module")
def row(call):
    """Of so many filters that something happens, looked at closely, with matches of three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paired, "CLOSELY", AMOUNT)
        patch.setattr(paired, "NEAREST", NEAREST)
        return next(iter(paired.paired_lesions([call()])))


def margins(by_hand, net, part):
    a, b = by_hand.logits(net, part).double().T
    return (b - a).tolist()


def accuracy(margin, part, offset=0.0):
    """By group, counted one by one."""
    right = [(m + offset > 0) == bool(y) for m, y in zip(margin, part.label, strict=True)]
    groups = part.group.tolist()
    return np.array([np.mean([r for r, g in zip(right, groups, strict=True) if g == h])
                     for h in range(4)])  # fmt: skip


def best_offset(margin, part):
    """Of the best mean over groups, by trying one between any two margins; the smallest such."""
    at = sorted(margin)
    tried = [0.0, 1 - at[0], -at[-1] - 1, *(-(a + b) / 2 for a, b in zip(at, at[1:], strict=False))]
    return min(tried, key=lambda x: (-round(accuracy(margin, part, x).mean(), 9), abs(x)))


def against_test(who, before, after, group):
    """Each right training image, and the right test images of its group nearest in margin."""
    right = {}
    for name in ("train", "test"):
        part = who.parts[name]
        signs = [1 if y else -1 for y in part.label.tolist()]
        was, now = ([m * s for m, s in zip(x[name], signs, strict=True)] for x in (before, after))
        right[name] = [(m, float(n <= 0)) for m, n, g in zip(was, now, part.group.tolist(),
                                                             strict=True)
                       if g == group and m > 0]  # fmt: skip
    if not right["train"] or len(right["test"]) < NEAREST:
        return np.nan, np.nan
    limit = 0.25 * np.std([m for m, _ in right["test"]], ddof=1)
    kept = []
    for margin, lost in right["train"]:
        close = sorted(right["test"], key=lambda pair: abs(pair[0] - margin))[:NEAREST]
        if abs(margin - np.mean([m for m, _ in close])) <= limit:
            kept.append(lost - np.mean([x for _, x in close]))
    raw = np.mean([x for _, x in right["train"]]) - np.mean([x for _, x in right["test"]])
    return np.mean(kept) if kept else np.nan, raw


def counted(who, units, by_hand):
    """All columns of one lesion."""
    nets = who.made.model, by_hand.zeroed(who.made.model, units)
    before, after = ({k: margins(by_hand, n, p) for k, p in who.parts.items()} for n in nets)
    train, val, test = (who.parts[name] for name in ("train", "val", "test"))
    start = accuracy(before["train"], train)
    shift = np.mean(after["train"]) - np.mean(before["train"])
    refit = [accuracy(x["train"], train, best_offset(x["val"], val)) for x in (before, after)]
    found = {
        "lost": start - accuracy(after["train"], train),
        "test": accuracy(before["test"], test) - accuracy(after["test"], test),
        "refit": refit[0] - refit[1],
        "offset": start - accuracy(before["train"], train, shift),
    }
    found["matched"], found["raw"] = np.transpose(
        [against_test(who, before, after, g) for g in range(4)]
    )
    return found


def as_row(found, prefix):
    return {f"{prefix}_{name}_{g}": found[name][g] for name in found for g in range(4)}


def of(row, prefix, names=KINDS):
    return {f"{prefix}_{name}_{g}": row[f"{prefix}_{name}_{g}"] for name in names for g in range(4)}


def test_ranked_columns_are_what_counting_gives(who, row, by_hand):
    found = counted(who, who.ranked("gradient 2").top(AMOUNT), by_hand)
    assert of(row, "ranked") == pytest.approx(as_row(found, "ranked"), abs=1e-6, nan_ok=True)
    assert any(found["lost"]) and any(found["refit"]) and any(found["offset"])
    assert np.isfinite(found["matched"]).sum() >= 2  # or nothing would be compared
    hit, kept = max(found["lost"][[1, 2]]), max(found["lost"][[0, 3]])
    assert row["ranked_selective"] == float(hit >= 0.1 and kept <= 0.02)


def test_matched_columns_are_means_over_sets_of_the_same_layers(who, row, by_hand):
    chosen, several = who.ranked("gradient 2").top(AMOUNT), []
    seeds = np.random.SeedSequence(0).generate_state(2).tolist()
    for seed in seeds:
        units = tracing.layer_matched(chosen, who.units, seed=seed)
        assert sorted(u.layer for u in units) == sorted(u.layer for u in chosen)
        several.append(counted(who, units, by_hand))
    mean = {name: np.mean([one[name] for one in several], axis=0) for name in KINDS}
    assert of(row, "like") == pytest.approx(as_row(mean, "like"), abs=1e-6, nan_ok=True)
    anywhere = [counted(who, tracing.random(who.units, seed=s).top(AMOUNT), by_hand)["lost"]
                for s in seeds]  # fmt: skip
    expected = as_row({"lost": np.mean(anywhere, axis=0)}, "any")
    assert of(row, "any", ["lost"]) == pytest.approx(expected, abs=1e-6)
    assert np.ptp(anywhere, axis=0).any()


def test_gaps_are_what_the_matches_leave(who, row, by_hand):
    for g in range(4):
        part, test = who.parts["train"], who.parts["test"]
        own, other = (
            [abs(m) for m, y, h in zip(margins(by_hand, who.made.model, p), p.label, p.group,
                                       strict=True) if h == g and (m > 0) == bool(y)]
            for p in (part, test)
        )  # fmt: skip
        if len(other) < NEAREST or not own:
            assert np.isnan(row[f"gap_{g}"]) and row[f"near_{g}"] == 0
            continue
        means = [np.mean(sorted(other, key=lambda x: abs(x - m))[:NEAREST]) for m in own]
        gaps = np.array(own) - means
        near = abs(gaps) <= 0.25 * np.std(other, ddof=1)
        assert row[f"near_{g}"] == pytest.approx(near.mean())
        expected = gaps[near].mean() if near.any() else np.nan
        assert row[f"gap_{g}"] == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_groups_with_too_few_right_test_images_have_no_match(who, monkeypatch):
    monkeypatch.setattr(paired, "NEAREST", 21)
    assert paired.nearest(who, 0) is None
    assert np.isnan(paired.train_against_test(who, None, who.before)).all()


def test_networks_share_no_draw_and_one_repeats_its_own(who):
    chosen = who.ranked("gradient 1").top(3)
    for what in (chosen, 3):
        draws = {t: [tuple(u) for u in paired.drawn(who, what, 4, t)] for t in range(8)}
        assert len({units for several in draws.values() for units in several}) > 24
        again = [tuple(u) for u in paired.drawn(who, what, 4, 5)]
        assert again == draws[5] and draws[5] != draws[6]
        assert all(len(set(units)) == 3 for several in draws.values() for units in several)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [((0.02, 0.1, 0.0, 0.0), True), ((0.0, 0.0, 0.3, -0.1), True), ((0.021, 0.5, 0.5, 0), False),
     ((0.0, 0.09, 0.09, 0.0), False), ((0.5, 0.0, 0.0, 0.5), False)],
)  # fmt: skip
def test_a_selective_set_harms_a_rare_group_and_spares_the_others(who, losses, expected):
    assert paired.selective(who, losses) is expected


def test_larger_sets_are_looked_at_on_training_images_alone(who, call):
    before = copy.deepcopy(who.made.model.state_dict())
    small, large = paired.paired_lesions([call(amount=3), call(amount=4)])
    for name in KINDS:
        missing = np.isnan([large[f"{kind}_{name}_{g}"] for kind in ("ranked", "like")
                            for g in range(4)])  # fmt: skip
        assert missing.all() == (name != "lost")
    assert np.isfinite([small[f"ranked_refit_{g}"] for g in range(4)]).all()
    assert small["data_source"] == who.train.source
    after = who.made.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_together_and_alone_agree(call):
    calls = [call("gradient 1", 2), call("magnitude", 2), call("gradient 1", 5, draws=3)]
    for together, one in zip(paired.paired_lesions(calls), calls, strict=True):
        alone = next(iter(paired.paired_lesions([one])))
        assert together == pytest.approx(alone, nan_ok=True)


def test_a_caliper_of_nothing_leaves_no_match(who, monkeypatch):
    monkeypatch.setattr(paired, "NEAREST", NEAREST)
    monkeypatch.setattr(paired, "CALIPER", -1.0)
    pairs = paired.nearest(who, 0)
    assert isinstance(who.train, Grouped) and not len(pairs.own) and len(pairs.all_own)
    matched, raw = paired.train_against_test(who, pairs, who.before)
    assert np.isnan(matched) and raw == 0
