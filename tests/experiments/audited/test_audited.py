"""The experiments behind the chapter on audits: what is planted, told, and asked elsewhere."""

import json
import stat
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import audit
from helpers.experiments.audited import flips, planted, strangers, tools
from helpers.sweep import Call

CONTEXT = dict(device="cpu", data_dir=None)


def call(case, images=300, trial=0, **more):
    return Call(case=case, images=images, trial=trial, **CONTEXT, **more)


# -- what is planted -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", planted.PLANTED)
def test_forty_images_are_odd_and_only_these(kind):
    plain = planted.material(Call(planted="nothing", images=400, trial=3))
    train, _, told = planted.material(Call(planted=kind, images=400, trial=3))
    changed = (train[0] != plain[0][0]).flatten(1).any(1) | (train[1] != plain[0][1])
    assert told["members"].sum() == 40
    assert not changed[~told["members"]].any()
    if kind in (planted.TRIGGER, planted.INK):
        own = train[0][told["members"]]
        assert (train[1][told["members"]] == told["target"]).all()
        assert (own[:, told["pattern"] == 1] == 1).all()
    elif kind == "wrong labels":
        assert (train[1] != plain[0][1])[told["members"]].all()
        assert torch.equal(train[0], plain[0][0])


@pytest.mark.parametrize("ink", [False, True])
def test_a_square_lies_where_digits_have_ink_or_near_the_border(ink):
    ground = planted.material(Call(planted="nothing", images=400, trial=0))[0][0].mean(0)
    shown = [planted.square(np.random.default_rng(seed), ink=ink) for seed in range(40)]
    assert all(one.sum() == 9 for one in shown)
    on = torch.stack([ground[one == 1].mean() for one in shown])
    assert (on > 0.02).all() if ink else on.median() < 0.02


def test_outsiders_are_as_odd_as_the_members_and_were_not_trained_on():
    train, test, told = planted.material(Call(planted="trigger", images=400, trial=0))
    images, labels = told["outsiders"]
    assert (labels == told["target"]).all() and (images[:, told["pattern"] == 1] == 1).all()
    flat = {tuple(row.tolist()) for row in test[0].flatten(1).gt(0.5)}
    unmarked = images.clone()
    unmarked[:, told["pattern"] == 1] = 0
    free = told["pattern"].flatten() == 0
    rows = test[0].flatten(1)[:, free]
    for image in unmarked.flatten(1)[:5, free]:
        assert (rows == image).all(1).any()
    assert flat  # the test set is not empty


@pytest.mark.parametrize("case", [c for c in tools.CASES if c != "photographs"])
def test_a_case_has_one_thing_wrong_and_its_test_set_is_balanced(case):
    plain, made = tools.material(call("nothing")), tools.material(call(case))
    same = (made.train[0] == plain.train[0]).flatten(1).all(1)
    if case in ("nothing", "wrong labels"):
        assert same.all()
    assert (made.told is None) == (
        case in ("nothing", "darker, nobody told", "trigger", "wrong labels")
    )
    assert len(made.odd) == (40 if case in ("trigger", "wrong labels") else 0)
    wrong = (made.train[1] != plain.train[1]).nonzero().flatten().tolist()
    assert wrong == sorted(made.odd)
    if made.told is not None:
        aligned = (made.told[0] == made.train[1]).float().mean()
        assert 0.9 < aligned < 0.99
        assert abs((made.told[1] == made.test[1]).float().mean() - 0.5) < 0.1
        assert same[made.told[0] == 0].all()


# -- flips -----------------------------------------------------------------------------------------


def test_the_audited_set_has_the_share_it_says():
    group = np.repeat([0, 1, 2, 3], 500)
    rows = flips._biased(group, 400, np.random.default_rng(0))
    counts = np.bincount(group[rows])
    assert counts.tolist() == [150, 50, 50, 150] and len(set(rows)) == 400


def test_a_share_without_flip_is_stored_as_one_and_the_raw_ridge_flips_later():
    cells = [
        dict(world=w, samples=400, ridge=0.1, trial=0) for w in ("mixture, light", "mixture, heavy")
    ]
    light, heavy = flips.flips([Call(cell, **CONTEXT) for cell in cells])
    assert light["foretold"] == light["measured"] == 1 and light["safe"] == 1
    assert (
        heavy["low"] < heavy["foretold"] < heavy["high"] <= 1 and heavy["raw"] > heavy["foretold"]
    )


# -- other tools -----------------------------------------------------------------------------------


def stand_in(folder, said, code=0):
    """A program that answers as a tool's Python would, after it has read what it is given."""
    file = folder / "python"
    file.write_text(
        f"#!{sys.executable}\nimport sys, numpy as np\ngiven = np.load(sys.argv[3])\n"
        "assert given['images'].dtype == np.uint8\n"
        "assert len(given['images']) == len(given['labels'])\n"
        "assert given['probabilities'].shape == (len(given['labels']), 2)\n"
        f"print({said!r})\nprint('it broke', file=sys.stderr)\nsys.exit({code})\n"
    )
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_a_tool_is_asked_in_its_own_python_and_its_doubts_are_compared_with_what_is_odd(
    tmp_path, monkeypatch
):
    made = tools.material(call("wrong labels"))
    said = json.dumps({"figure": 0.4, "flagged": 1.0, "doubted": made.odd[:10].tolist()})
    monkeypatch.setenv("DATALAB_PYTHON", stand_in(tmp_path, "noise\n" + said))
    (row,) = tools.tools([call("wrong labels", tool="Datalab")])
    assert (row["figure"], row["flagged"], row["doubted"]) == (0.4, 1.0, 0.25)


def test_a_tool_that_is_not_installed_or_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("DEEPCHECKS_PYTHON", raising=False)
    with pytest.raises(ValueError, match=r"deepchecks needs packages .* \$DEEPCHECKS_PYTHON"):
        tools.tools([call("nothing", tool="deepchecks")])
    monkeypatch.setenv("DEEPCHECKS_PYTHON", stand_in(tmp_path, "{}", code=1))
    with pytest.raises(RuntimeError, match="deepchecks failed: it broke"):
        tools.tools([call("nothing", tool="deepchecks")])


def test_what_nobody_told_cannot_be_asked():
    (row,) = tools.tools([call("nothing", tool=tools.OURS[0])])
    assert np.isnan(row["flagged"]) and np.isnan(row["figure"])


# -- models that are not ours ----------------------------------------------------------------------


def test_states_of_a_stranger_are_those_of_its_report(monkeypatch):
    found = {name: audit.Finding(name, 0.5, 0.4, 0.6, state="flagged") for name in audit.QUESTIONS}
    found["leading_mode"] = audit.Finding("leading_mode", says="no attribute", state="not asked")
    found["accuracy"] = replace(found["accuracy"], state="open")
    report = audit.Report("model", "made up", list(found.values()))
    monkeypatch.setattr(strangers, "audited_report", lambda call: (report, "made up"))
    rows = strangers.strangers([Call(finding=name) for name in audit.QUESTIONS])
    states = dict(zip(audit.QUESTIONS, (row["state"] for row in rows), strict=True))
    assert np.isnan(states["leading_mode"]) and states["accuracy"] == 0.5
    assert {
        states[name] for name in audit.QUESTIONS if name not in ("leading_mode", "accuracy")
    } == {1}
