"""The rules of chapter 10 on rows whose truth is known: four kinds of rows for each.

True rows have the effect that is claimed, false ones its opposite; rows without information are
noise alone; and the nearest thing looks like the claim and is not.
"""

import itertools

import numpy as np
import pandas as pd
import pytest

from helpers import claims
from helpers.claims.judgement import INCONCLUSIVE, NOT_REPRODUCED, PARTLY, REPRODUCED
from helpers.claims.part2 import easy

PATTERNS = ("S1", "S2", "S3", "R1", "R2", "R3", "Inv")
SETS = ("mnist", "fashion_mnist", "cifar10")


def table(**axes):
    rows = pd.DataFrame(itertools.product(*axes.values()), columns=list(axes))
    return rows.assign(data_source="images")


def trained(networks, **axes):
    """Eight trials of each network, on the images that it is for: grey, or the three in colour."""
    rows = table(dataset=SETS, **axes, network=networks, trial=range(8))
    colour = rows["network"].isin(["resnet20", "resnet32", "vgg16"])
    return rows[colour == (rows["dataset"] == "cifar10")]


def noise(rows, kind, size=0.01, seed=2):
    size = 3.0 if kind == "nothing" else size
    return np.random.default_rng(seed).normal(0, size, len(rows))


def norms(kind):
    rows = table(dataset=SETS, pattern=PATTERNS)
    rows["norm"] = np.concatenate([easy.PRINTED[name] for name in SETS])
    if kind == "false":
        rows["norm"] *= 1.1
    if kind == "nothing":
        rows["norm"] = np.nan
    if kind == "near":  # of another noise seed: the table is seed 4 alone
        rows.loc[(rows["dataset"] == "mnist") & (rows["pattern"] == "R3"), "norm"] = 15.022
    return easy.printed_norms(rows)


def correlations(kind):
    rows = table(dataset=SETS, pattern=PATTERNS, trial=range(8))
    sizes = {(d, p): n for d in SETS for p, n in zip(PATTERNS, easy.PRINTED[d], strict=True)}
    rows["norm"] = [sizes[key] for key in zip(rows["dataset"], rows["pattern"], strict=True)]
    score = {"false": -rows["norm"] / 15, "nothing": 0}.get(kind, rows["norm"] / 15)
    if kind == "near":  # the same scores, of patterns in another order
        score = rows["pattern"].map(dict(zip(PATTERNS, (3, 1, 6, 2, 7, 4, 5), strict=True))) / 7
    return easy.norm_and_score(rows.assign(score=score + noise(rows, kind)))


LEVELS = {"small mlp": 0.5, "mlp": 0.5, "large mlp": 0.5, "cnn": 0.1, "resnet20": 0.1,
          "resnet32": 0.1, "vgg16": 0.0}  # fmt: skip


def kinds(kind):
    rows = trained(tuple(LEVELS), pattern=("S3", "R3"))
    level = rows["network"].map(LEVELS)
    if kind == "false":  # size counts, the kind does not
        level = rows["network"].map({"small mlp": 0.1, "large mlp": 0.9, "resnet32": 0.5,
                                     "vgg16": 0.6, "cnn": 0.9}).fillna(0.3)  # fmt: skip
    if kind == "near":  # the CNN below the mean of the MLPs, but not below each
        level = level.where(rows["network"] != "small mlp", 0.05)
    return easy.kind_not_size(rows.assign(score=level + noise(rows, kind)))


def few(kind):
    rows = trained(("mlp", "cnn", "resnet20", "vgg16"))
    excess = rows["network"].map({"mlp": 0.2, "cnn": 0.02}).fillna(0.0)
    if kind == "false":
        excess = rows["network"].map({"mlp": 0.0, "cnn": 0.3}).fillna(0.4)
    if kind == "near":  # hundred images teach the ResNet as well: the mean is below, no bound
        excess = excess + np.where(rows["network"] == "resnet20", 0.045, 0.0)
    return easy.few_and_small(rows.assign(excess=excess + noise(rows, kind, 0.02)))


def sensitivity(kind, areas=(0.7, 0.5)):
    rows = table(dataset=SETS[:2], network=("mlp", "cnn"), what=("area", "excess"), trial=range(8))
    level = rows["network"].map(dict(zip(("mlp", "cnn"), areas, strict=True)))
    excess = rows["network"].map({"mlp": 0.1, "cnn": 0.3})  # the CNN suffers more and learns more
    if kind == "false":
        excess = 0.4 - excess
    if kind == "near":  # on one data set alone
        excess = excess.where(rows["dataset"] == "mnist", 0.4 - excess)
    value = np.where(rows["what"] == "area", level, excess)
    return easy.sensitive_and_susceptible(rows.assign(value=value + noise(rows, kind)))


def counted(kind):
    rows = trained(("small mlp", "cnn", "resnet20", "vgg16"))
    score = rows["network"].map({"small mlp": 0.3, "cnn": 0.1}).fillna(0.2)
    score = 0.4 - score if kind == "false" else score
    counts = dict(easy.TABLE2)
    if kind == "near":  # two hidden layers, as the text has it, are another network
        counts["MLP"] = 269_322
    return easy.parameters(rows.assign(score=score + noise(rows, kind)), counts)


def ways(kind, sets=SETS):
    rows = table(dataset=sets, pattern=("S3", "R3"), spurious=(3, 10), trial=range(8),
                 way=easy.WAYS)  # fmt: skip
    score = 0.5 - 0.07 * (rows["way"] == "SGD")
    if kind == "false":
        score = 0.5 + 0.3 * (rows["way"] != "Adam")
    if kind == "near":  # in the right direction, and by far too much
        score = 0.5 - 0.33 * (rows["way"] == "SGD")
    return rows.assign(score=score + noise(rows, kind))


def adam(kind):
    return easy.optimisers(ways(kind))


def clips(kind):
    rows = ways("true" if kind == "near" else kind)
    if kind == "near":  # half of the cases is not most
        changed = rows["way"].str.contains("clipped") & (rows["pattern"] == "R3")
        rows["score"] += 0.3 * changed
    return easy.clipping_little(rows)


def test_one_data_set_of_two_that_excludes_leaves_the_optimisers_open():
    rows = ways("true", SETS[:2])
    on, sgd = rows["dataset"] == "mnist", rows["way"] == "SGD"
    wide = rows["trial"].map(lambda trial: 0.3 * (-1) ** trial)  # Fashion-MNIST: unknown
    rows["score"] += sgd * np.where(on, -0.3, wide)
    assert easy.optimisers(rows).verdict == INCONCLUSIVE
    rows["score"] -= 0.3 * sgd * ~on + sgd * np.where(on, 0.0, wide)
    found = easy.optimisers(rows)
    assert found.verdict == NOT_REPRODUCED and "Fashion-MNIST +0.3" in found.effect


ROWS = {
    "Y18": norms, "Y19": correlations, "Y20": kinds, "Y21": few, "Y22": sensitivity,
    "Y23": counted, "Y24": adam, "Y25": clips,
}  # fmt: skip


@pytest.mark.parametrize("claim", ROWS)
@pytest.mark.parametrize(
    ("kind", "verdict"), [("false", NOT_REPRODUCED), ("nothing", INCONCLUSIVE)]
)
def test_rows_whose_truth_is_known(claim, kind, verdict):
    judgement = ROWS[claim](kind)
    assert judgement.claim == claim
    assert judgement.verdict == verdict, judgement


@pytest.mark.parametrize("claim", ROWS)
def test_true_rows_pass(claim):
    assert ROWS[claim]("true").verdict == REPRODUCED, ROWS[claim]("true")


@pytest.mark.parametrize("claim", ROWS)
def test_the_nearest_thing_does_not_pass(claim):
    assert ROWS[claim]("near").verdict != REPRODUCED


def test_networks_equally_sensitive_decide_nothing():
    found = sensitivity("true", areas=(0.5, 0.5))
    assert found.verdict == INCONCLUSIVE


def test_a_bound_is_not_a_mean_below_the_limit():
    found = few("near")
    assert [name for name, holds in found.checks.items() if not holds] == [
        "CIFAR-10: ResNet-20 below 0.05"
    ]


def test_what_was_not_run_keeps_a_claim_from_being_whole():
    rows = ways("true", SETS[:2])
    assert easy.clipping_little(rows).verdict == PARTLY
    assert easy.optimisers(rows).verdict == REPRODUCED, "two of three data sets are the claim"


def scores(**changes):
    plain = dict(dataset="mnist", samples=100, network="mlp", epochs=1, optimiser="adam",
                 clip_value=np.inf, clip_norm=np.inf, pattern="S3", spurious=0, target=0, trial=0,
                 score=0.1)  # fmt: skip
    return plain | changes


def test_the_excess_is_over_the_clean_network_of_the_same_seed_and_way():
    rows = pd.DataFrame([
        scores(), scores(trial=1, score=0.2), scores(optimiser="sgd", score=0.05),
        scores(spurious=10, score=0.5), scores(spurious=10, trial=1, score=0.9),
        scores(spurious=10, optimiser="sgd", score=0.1), scores(spurious=10, score=0.5),
    ])  # fmt: skip
    found = easy.with_excess(rows)
    assert found["excess"].round(6).tolist() == [0.4, 0.7, 0.05]
    assert easy.with_ways(found)["way"].tolist() == ["Adam", "Adam", "SGD"]


def test_welch_needs_two_values_a_side_and_knows_equal_ones():
    assert np.isnan(easy.welch([1.0], [0.5, 0.6]).low)
    assert easy.welch([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert easy.welch([1.0, 1.1], [0.5, 0.4]).low < 0.6 < easy.welch([1.0, 1.1], [0.5, 0.4]).high


def test_areas_do_not_depend_on_the_order_of_rows():
    rows = pd.DataFrame(dict(dataset="mnist", network="mlp", trial=0, removed=[1.0, 0.0, 0.5],
                             true_probability=[0.0, 1.0, 1.0]))  # fmt: skip
    assert easy.areas(rows)["area"].item() == 0.75


def test_means_leave_out_one_and_clean():
    rows = pd.DataFrame(dict(dataset="mnist", pattern="S1", trial=0, spurious=[0, 1, 3, 10],
                             score_others=[0.1, 9.0, 0.2, 0.4], data_source="d"))  # fmt: skip
    found = easy.pattern_means(rows, {("mnist", "S1"): 1.0})
    assert found[["score", "clean", "norm"]].to_numpy().round(6).tolist() == [[0.3, 0.1, 1.0]]


@pytest.mark.parametrize(
    ("text", "fault", "claim", "kind"),
    [
        ("equal > most", "equal >= most", "Y25", "near"),
        ("bar(-lead, -ALIKE)]", "bar(lead, -ALIKE)]", "Y24", "near"),
        ("bar(-cell.of[net], -NOTHING)", "bar(cell.of[net], -NOTHING)", "Y21", "near"),
        ('welch(cell.of[name], cell.of["cnn"]) for name in MLPS',
         'welch(cell.of[name], cell.of["cnn"]) for name in MLPS[1:]', "Y20", "near"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_noticed(monkeypatch, planted, text, fault, claim, kind):
    right = ROWS[claim](kind)
    planted(easy, text, fault)
    monkeypatch.setattr(easy, claims.RULES[claim].__name__, claims.RULES[claim])
    assert ROWS[claim](kind).checks != right.checks
