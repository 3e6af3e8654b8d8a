"""The rules of the scalar on rows whose truth is known: four kinds of rows for each, and more."""

import inspect
import math

import numpy as np
import pandas as pd
import pytest

from helpers import claims
from helpers.claims.judgement import INCONCLUSIVE, NOT_REPRODUCED, PARTLY, REPRODUCED
from helpers.claims.part5 import scalar

TRIALS = 8
LAWS = {"S6": scalar.simulated, "S7": scalar.images}


def spread(seed=0, size=TRIALS, sd=0.02):
    """Noise of a draw, with mean 0, so that a mean is what a test says."""
    noise = np.random.default_rng(seed).normal(0, sd, size)
    return noise - noise.mean()


# error of the felt ridge's law in two cells, and of the two wrong scalars
LAW_KINDS = {
    "true": ([0.01, -0.02], [-0.5, -0.05], [0.03, 0.8]),
    "false": ([0.4, 0.3], [-0.5, -0.3], [0.9, 0.8]),
    "nothing": ([math.nan, math.nan], [-0.5, -0.5], [0.9, 0.8]),
    "one cell": ([0.01, 0.25], [-0.5, -0.5], [0.9, 0.8]),  # cancels in the mean over cells
    "blind": ([0.01, 0.02], [0.01, 0.03], [0.9, 0.8]),  # the ridge itself is as good
    "flat is as good": ([0.01, 0.02], [0.5, 0.3], [0.02, 0.05]),
    "uncertain": ([0.09, 0.1], [-0.5, -0.5], [0.9, 0.8]),
}


def law_rows(kind, worlds=("digits",), quantities=("τ", "Δ")):
    tables = []
    for world in worlds:
        for quantity in quantities:
            for cell, errors in enumerate(zip(*LAW_KINDS[kind], strict=True)):
                felt, raw, flat = errors
                measured = 1 + spread(cell)
                table = {"world": world, "quantity": quantity, "samples": 100 * (cell + 1)}
                table |= {"ridge": 0.1, "trial": range(TRIALS), "measured": measured}
                table |= {"felt": 1 / (1 + felt), "raw": 1 / (1 + raw), "flat": 1 / (1 + flat)}
                tables.append(pd.DataFrame(table))
    return pd.concat(tables)


@pytest.mark.parametrize("claim", LAWS)
@pytest.mark.parametrize(
    ("kind", "verdict"),
    [("true", REPRODUCED), ("false", NOT_REPRODUCED), ("nothing", INCONCLUSIVE)]
    + [("one cell", NOT_REPRODUCED), ("blind", INCONCLUSIVE), ("flat is as good", INCONCLUSIVE)]
    + [("uncertain", INCONCLUSIVE)],
)
def test_one_scalar_on_rows_whose_truth_is_known(claim, kind, verdict):
    judgement = LAWS[claim](law_rows(kind), "data")
    assert judgement.claim == claim and claims.RULES[claim] is LAWS[claim]
    assert judgement.verdict == verdict, judgement
    assert judgement.seeds == TRIALS


def test_a_world_that_decides_nothing_is_a_restriction_and_one_that_fails_refutes():
    both = pd.concat([law_rows("true"), law_rows("false", worlds=("photographs",))])
    judgement = scalar.images(both, "data")
    assert judgement.verdict == NOT_REPRODUCED and sum(judgement.checks.values()) == 2
    open_ = law_rows("flat is as good", worlds=("photographs",))
    assert scalar.images(pd.concat([law_rows("true"), open_]), "data").verdict == PARTLY


def test_a_single_draw_decides_nothing():
    one = law_rows("true").query("trial == 0")
    assert scalar.simulated(one, "data").verdict == INCONCLUSIVE


# errors of the arms: broken, matched, repaired
LIMIT_KINDS = {
    "true": (0.5, 0.01, 0.0),
    "false": (0.02, 0.01, 0.0),  # the law does not fail there
    "nothing": (math.nan, 0.0, 0.0),
    "another reason": (0.5, 0.4, 0.0),  # it fails as much without the named reason
    "no repair": (0.5, 0.01, 0.3),
}


def limit_rows(kind, limits=("lengths", "twins")):
    tables = [
        pd.DataFrame({"limit": limit, "arm": arm, "trial": range(TRIALS), "error": e + spread(i)})
        for limit in limits
        for i, (arm, e) in enumerate(
            zip(("broken", "matched", "repaired"), LIMIT_KINDS[kind], strict=True)
        )
    ]
    return pd.concat(tables)


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [("true", REPRODUCED), ("false", NOT_REPRODUCED), ("nothing", INCONCLUSIVE)]
    + [("another reason", NOT_REPRODUCED), ("no repair", PARTLY)],
)
def test_limits_on_rows_whose_truth_is_known(kind, verdict):
    judgement = scalar.limits(limit_rows(kind), "data")
    assert judgement.claim == "S8" and claims.RULES["S8"] is scalar.limits
    assert judgement.verdict == verdict, judgement


def test_a_limit_needs_its_matched_arm():
    with pytest.raises(ValueError, match="claim S8: the rows have nothing for 'matched'"):
        scalar.limits(limit_rows("true").query("arm != 'matched'"), "data")


# corner -> R at the weak and at the strong end
RIGHT = {"cure": (2, 0.2), "poison": (0.6, 2), "no remedy": (2, 3), "no harm": (0.6, 0.1)}
MAP_KINDS = {
    "true": RIGHT,
    "false": {name: (end, start) for name, (start, end) in RIGHT.items()},
    "nothing": dict.fromkeys(RIGHT, (math.nan, math.nan)),
    "dials that do nothing": {name: (start, start) for name, (start, _) in RIGHT.items()},
    "right direction only": RIGHT | {"cure": (2, 1.3), "poison": (0.6, 0.8)},
    "hardly across": RIGHT | {"cure": (1.05, 0.5), "poison": (0.5, 1.05)},
    "everything falls": dict.fromkeys(RIGHT, (2, 0.2)),
}


def map_rows(kind, core=0.3, dials=("ridge", "few samples")):
    tables = []
    for corner, ends in MAP_KINDS[kind].items():
        for dial in dials:
            weak, strong = (end * np.exp(spread(i)) for i, end in enumerate(ends))
            table = {"corner": corner, "dial": dial, "trial": range(TRIALS), "core": core}
            tables.append(pd.DataFrame(table | {"weak": weak, "strong": strong}))
    return pd.concat(tables)


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [("true", REPRODUCED), ("false", NOT_REPRODUCED), ("nothing", INCONCLUSIVE)]
    + [("dials that do nothing", NOT_REPRODUCED), ("right direction only", NOT_REPRODUCED)]
    + [("everything falls", NOT_REPRODUCED), ("hardly across", INCONCLUSIVE)],
)
def test_the_map_on_rows_whose_truth_is_known(kind, verdict):
    judgement = scalar.lift_decides(map_rows(kind), "data")
    assert judgement.claim == "S9" and claims.RULES["S9"] is scalar.lift_decides
    assert judgement.verdict == verdict, judgement


def test_a_core_that_is_gone_proves_nothing():
    assert scalar.lift_decides(map_rows("true", core=0.0), "data").verdict == INCONCLUSIVE


def test_a_corner_that_is_missing_is_named():
    with pytest.raises(ValueError, match="claim S9: the rows have nothing for 'poison by ridge'"):
        scalar.lift_decides(map_rows("true").query("corner != 'poison'"), "data")


@pytest.mark.parametrize("claim", ("S6", "S7", "S8", "S9"))
def test_rows_that_cannot_be_judged_are_refused_by_name(claim):
    others = [None] * (len(inspect.signature(claims.RULES[claim]).parameters) - 1)
    with pytest.raises(ValueError, match=rf"claim {claim}: the rows lack"):
        claims.RULES[claim](pd.DataFrame({"other": [1]}), *others)


# what stands there, the fault, the claim, and the rows that notice
FAULTS = [
    (
        "= all(map(holds, errors)) and tells",
        "= any(map(holds, errors)) and tells",
        "S7",
        "one cell",
    ),
    ("= all(map(holds, errors)) and tells", "= all(map(holds, errors))", "S7", "blind"),
    ("tells = all(any(map", "tells = any(any(map", "S7", "flat is as good"),
    ("and holds(matched)", "", "S8", "another reason"),
    ('holds(arms["repaired"])', "True", "S8", "no repair"),
    ("all(end.low > CLEAR for end in ends)", "ends[0].low > CLEAR", "S9", "right direction only"),
    ("bool(alive and all(", "bool(all(", "S9", "gone"),
]


@pytest.mark.parametrize(("text", "fault", "claim", "kind"), FAULTS)
def test_a_planted_fault_is_noticed(planted, text, fault, claim, kind):
    made = {"S7": law_rows, "S8": limit_rows, "S9": map_rows}[claim]
    rows = map_rows("true", core=0.0) if kind == "gone" else made(kind)
    right = claims.RULES[claim](rows, "data").verdict
    planted(scalar, text, fault)
    assert claims.RULES[claim](rows, "data").verdict != right
