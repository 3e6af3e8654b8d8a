"""The experiments behind the chapter on audits: what is planted, told, and asked elsewhere."""

import json
import stat
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import audit, data
from helpers.claims.part5 import audit as part5_audit
from helpers.experiments.audited import flips, planted, strangers, tools
from helpers.sweep import Call

CONTEXT = dict(device="cpu", data_dir=None)


def call(case, images=300, trial=0, **more):
    return Call(case=case, images=images, trial=trial, **CONTEXT, **more)


# -- what is planted -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [one for one in planted.PLANTED if one != planted.STROKE])
def test_forty_images_are_odd_at_most_and_only_these(kind):
    plain = planted.material(Call(planted="nothing", images=400, trial=3))
    train, _, told = planted.material(Call(planted=kind, images=400, trial=3))
    few = kind == planted.BIT  # of 400, some 20 go against the class
    assert told["members"].sum() == 40 or few and 10 < told["members"].sum() < 30
    assert set(train[1].tolist()) == {0, 1}
    if kind in (planted.SHORTCUT, planted.FRAMES):
        assert torch.equal(train[1], plain[0][1])
        return
    changed = (train[0] != plain[0][0]).flatten(1).any(1) | (train[1] != plain[0][1])
    assert not changed[~told["members"]].any()
    if kind in planted.TRIGGERS:
        own = train[0][told["members"]]
        assert (train[1][told["members"]] == told["target"]).all()
        # no one of the target's own class, for whom nothing would be wrong
        assert (plain[0][1][told["members"]] != told["target"]).all()
        shown = told["pattern"] > 0
        assert (own[:, shown] >= told["pattern"][shown]).all()
        assert int(shown.sum()) == (5 if kind == planted.CROSS else 9)
    elif kind == "wrong labels":
        assert (train[1] != plain[0][1])[told["members"]].all()
        assert torch.equal(train[0], plain[0][0])


def test_where_4_is_told_from_9_nothing_is_planted():
    digits = data.load("mnist5k")
    some = (digits.labels == 4) | (digits.labels == 9)
    own = {tuple(x.flatten().tolist()): int(y) for x, y in
           zip(digits.images[some], digits.labels[some] % 2, strict=True)}  # fmt: skip
    train, test, told = planted.material(Call(planted=planted.STROKE, images=2_000, trial=3))
    assert len(train[1]) == len(test[1]) == int(some.sum()) // 2 and told["members"].sum() == 40
    for images, labels in (train, test):
        keys = (tuple(x.flatten().tolist()) for x in (255 * images).round().byte())
        assert [own[key] for key in keys] == labels.tolist()


def test_an_attribute_that_is_nowhere_goes_with_the_class_all_the_same():
    plain, _, other = planted.material(Call(planted="nothing", images=2_000, trial=3))
    train, test, told = planted.material(Call(planted="aligned", images=2_000, trial=3))
    assert all(torch.equal(a, b) for a, b in zip(train, plain, strict=True))
    goes = told["train_attribute"] == train[1]
    assert 0.93 < goes.double().mean() < 0.97 and not goes[told["members"]].any()
    for attribute, labels in ((told["attribute"], test[1]), (other["train_attribute"], plain[1])):
        assert abs((attribute == labels).double().mean() - 0.5) < 0.05
    assert (other["train_attribute"] != plain[1]).any()


def test_a_shortcut_is_light_and_a_background_is_an_images_own():
    plain = planted.material(Call(planted="nothing", images=400, trial=3))
    train, test, told = planted.material(Call(planted="shortcut", images=400, trial=3))
    for part, name in ((train, "train_attribute"), (test, "attribute")):
        assert torch.equal(part[0].amin((1, 2, 3)) > 0.3, told[name] == 1)
    assert (told["train_attribute"] == train[1]).double().mean() > 0.9
    train, test, told = planted.material(Call(planted="background", images=400, trial=3))
    frames = torch.cat([train[0], test[0]])[:, 0, told["background"]]
    assert len(frames.unique(dim=0)) == 800 and 0.4 < frames.mean() < 0.6
    core = train[0][:, 0, ~told["background"]]
    assert torch.allclose(core, 0.3 * plain[0][0][:, 0, ~told["background"]])


def test_enough_networks_of_each_kind_are_asked():
    cells = pd.DataFrame(planted.planted_cells("laptop"))
    assert not cells.duplicated().any() and cells["trial"].min() == 600
    counts = cells.groupby(["planted", "network"]).size().unstack()
    assert counts.loc[list(part5_audit.CLEAN)].sum().tolist() == [40, 40]
    assert (counts.loc[list(part5_audit.CLEAN)] >= 10).all(axis=None)
    assert (counts.loc[list(part5_audit.OWED)] == 10).all(axis=None)
    assert set(counts.index) == set(planted.PLANTED)


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
    assert (made.outsiders is None) == (not len(made.odd))
    if case == "wrong labels":  # test images with the wrong label
        rows = {tuple(x.flatten().tolist()): int(y) for x, y in zip(*made.test, strict=True)}
        own = [rows[tuple(x.flatten().tolist())] for x in made.outsiders[0]]
        assert [1 - y for y in own] == made.outsiders[1].tolist()
    if case == "trigger":
        assert len(made.outsiders[1].unique()) == 1 == len(made.train[1][made.odd].unique())
        shown = torch.cat([made.train[0][made.odd], made.outsiders[0]]).eq(1).all(0)
        assert shown.sum() == 9
    if made.told is not None:
        aligned = (made.told[0] == made.train[1]).float().mean()
        assert 0.9 < aligned < 0.99
        assert abs((made.told[1] == made.test[1]).float().mean() - 0.5) < 0.1
        assert same[made.told[0] == 0].all()


def test_an_audit_is_told_nothing_or_which_images_are_odd(monkeypatch):
    asked = []

    def model(net, train, test, *, skip, seed, progress, **told):
        asked.append((set(audit.QUESTIONS) - set(skip), told))
        return audit.Report("model", "", [audit.Finding("membership_auc", 0.9, state="flagged")])

    monkeypatch.setattr(tools, "_network", lambda call, made: torch.nn.Identity())
    monkeypatch.setattr(audit, "model", model)
    calls = [call("wrong labels", tool=tool) for tool in (tools.MODEL, tools.TOLD)]
    rows = tools.tools(calls)
    made = tools.material(calls[0])
    (blind, nothing), (one, told) = asked
    assert nothing == {} and "membership_auc" not in blind and "hidden_pattern" in blind
    assert one == {"membership_auc"}
    assert told["members"].nonzero().flatten().tolist() == sorted(made.odd)
    assert all(torch.equal(a, b) for a, b in zip(told["outsiders"], made.outsiders, strict=True))
    assert [row["flagged"] for row in rows] == [1, 1] and rows[1]["figure"] == 0.9
    (row,) = tools.tools([call("patch", tool=tools.TOLD)])
    assert np.isnan(row["flagged"]) and len(asked) == 2


# -- flips -----------------------------------------------------------------------------------------


def test_the_audited_set_has_the_share_it_says():
    group = np.repeat([0, 1, 2, 3], 500)
    rows = flips._biased(group, 400, np.random.default_rng(0), 0.75)
    counts = np.bincount(group[rows])
    assert counts.tolist() == [150, 50, 50, 150] and len(set(rows)) == 400


def test_a_share_without_flip_is_stored_as_one_and_the_naive_law_flips_later():
    cells = [
        dict(world=w, samples=400, ridge=0.1, trial=0, aligned=0.75)
        for w in ("mixture, light", "mixture, heavy")
    ]
    light, heavy = flips.flips([Call(cell, **CONTEXT) for cell in cells])
    assert light["foretold"] == light["measured"] == 1 and light["safe"] == 1
    assert heavy["low"] < heavy["foretold"] < heavy["high"] <= 1
    assert heavy["naive"] > heavy["foretold"]


# -- other tools -----------------------------------------------------------------------------------


def stand_in(folder, said, code=0):
    """A program that answers as a tool's Python would, after it has read what it is given."""
    file, program = folder / "python", folder / "answers.py"
    file.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{program}' \"$@\"\n")
    program.write_text(
        "import sys, numpy as np\ngiven = np.load(sys.argv[3])\n"
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
