"""The audit beside other tools: who speaks up about sets with one thing wrong, or nothing."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from torch import Tensor, nn

from helpers import audit, data, models, training
from helpers.audit.findings import with_pattern
from helpers.audit.report import FLAG
from helpers.experiments.audited import other_tools
from helpers.experiments.audited.planted import square
from helpers.sweep import Call, Cell, experiment, grid, pick

DATA, MODEL, TOLD, GROUPS = OURS = (
    "audit of the data", "audit of the model", "audit of the model, told which", "table of groups"
)  # fmt: skip
# other tools, and the variable that names the Python in which each is installed
OTHERS = {"Datalab": "DATALAB_PYTHON", "deepchecks": "DEEPCHECKS_PYTHON"}
CASES = (
    "nothing", "patch", "faint patch", "darker", "darker, nobody told", "trigger", "wrong labels",
    "photographs",
)  # fmt: skip
GAP = 0.1  # by which the worst group lags behind the rest where a table of groups is called bad
ALIGNED, _ODD, _PATCH = 0.95, 40, 4
_SKY = (950, 50, 50, 950)  # of the groups, aligned alike
_BLIND = ("worst_group", "hidden_pattern")  # asked of a model without knowing of odd images


class Material(NamedTuple):
    """What a case is made of: training and test pictures, and what the audit is told of them.

    train, test: pictures `(n, c, h, w)` in [0, 1], and labels 0 and 1. told: the attribute of
    both, or None where nobody knows of it. odd: rows of the training set with wrong labels or the
    trigger. outsiders: test pictures made as odd, with their labels, or None where none are odd.
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    told: tuple[Tensor, Tensor] | None
    odd: np.ndarray
    outsiders: tuple[Tensor, Tensor] | None
    source: str


def tool_cells(profile: str) -> list[Cell]:
    """Each tool on each case; small sizes have what needs no files and no other installation.

    An audit of the model is asked twice, and the second time told which images are odd.
    """
    tools = OURS if profile == "smoke" else (*OURS, *OTHERS)
    cases = CASES[:-1] if profile != "smoke" else ("patch",)
    count, trials = pick(profile, (300, 1), (2_000, 3), (2_000, 20))
    cells = grid(case=cases, images=[count], trial=range(trials), tool=tools)
    if profile != "smoke":
        cells += grid(case=CASES[-1:], images=[count], trial=range(trials), tool=tools)
    return cells


def material(call: Call) -> Material:
    """The pictures of a case, drawn by the trial.

    Raises:
        DatasetNotFound: photographs without CIFAR-10.
    """
    if call.case == "photographs":
        found = data.sky_birds(
            seed=call.trial, sizes={"train": _SKY, "test": (400,) * 4}, data_dir=call.data_dir
        )
        pairs = [(part.images.float() / 255, part.label) for part in found.values()]
        told = tuple(part.attribute for part in found.values())
        return Material(*pairs, told, np.array([], dtype=int), None, found["train"].source)
    digits = data.load("mnist5k")
    rng = np.random.default_rng(call.trial)
    order = torch.from_numpy(rng.permutation(len(digits)))[: 2 * call.images]
    images, labels = digits.images[order].float() / 255, digits.labels[order] % 2
    parts = [(x.clone(), y.clone()) for x, y in zip(images.chunk(2), labels.chunk(2), strict=True)]
    half, told, odd, outsiders = call.images, None, np.array([], dtype=int), None
    if call.case in ("patch", "faint patch", "darker", "darker, nobody told"):
        aligned = torch.from_numpy(rng.random(half) < ALIGNED)
        own = torch.where(aligned, parts[0][1], 1 - parts[0][1])
        told = own, torch.from_numpy(rng.integers(0, 2, half))  # in the test set it goes with none
        for (x, _), carries in zip(parts, told, strict=True):
            x[carries == 1] = _marked(x[carries == 1], call.case, rng)
    elif call.case in ("trigger", "wrong labels"):
        pattern, target = square(rng), int(rng.integers(0, 2))
        odd, others = (
            rng.permutation(np.flatnonzero(y != target) if call.case == "trigger" else half)[:count]
            for (_, y), count in zip(parts, (_ODD, 5 * _ODD), strict=True)
        )
        outsiders = parts[1][0][others], 1 - parts[1][1][others]
        if call.case == "trigger":
            parts[0][0][odd] = with_pattern(parts[0][0][odd], pattern)
            outsiders = with_pattern(outsiders[0], pattern), outsiders[1]
        parts[0][1][odd] = 1 - parts[0][1][odd]
    told = None if "nobody" in call.case else told
    return Material(*parts, told, odd, outsiders, digits.source)


def _marked(images: Tensor, case: str, rng: np.random.Generator) -> Tensor:
    """Half as bright, or with a corner of noise."""
    if case.startswith("darker"):
        return images / 2
    images = images.clone()
    noise = torch.from_numpy(rng.random((len(images), 1, _PATCH, _PATCH))).float()
    images[:, :, :_PATCH, :_PATCH] = (0.5 if case == "patch" else 0.05) * noise
    return images


@experiment(
    "audited_tools",
    cells=tool_cells,
    # networks are trained, and what is said of them is yes or no
    tolerance={"default": 1.0, "figure": float("inf")},
    cheap=lambda cell: False,
    group=lambda cell: (cell["case"], cell["images"], cell["trial"]),
)
def tools(calls: list[Call]) -> list[dict[str, float | str]]:
    """Does a tool speak up about a set of pictures, or about a network trained on it?

    `flagged` is 1 where it does, NaN where it could not be asked (no attribute was told, no image
    is odd). `figure` is what it decides by: flip share; number of flagged findings; area under the
    curve of membership; lag of the worst group; lowest score of a property; highest predictive
    power of a property. `doubted`: share of the odd pictures among the labels that Datalab doubts.

    Raises:
        ValueError: another tool is asked for and its Python is not named.
    """
    made = material(calls[0])
    net = None
    rows = []
    for call in calls:
        if call.tool in OTHERS:
            row = _elsewhere(call, made)
        elif call.tool == DATA:
            row = _of_data(made)
        elif call.tool == TOLD and made.outsiders is None:
            row = _NOT_TOLD
        else:
            net = net or _network(call, made)
            row = {MODEL: _of_model, TOLD: _of_odd, GROUPS: _of_groups}[call.tool](net, made, call)
        rows.append({"doubted": np.nan} | row | {"data_source": made.source})
    return rows


def _network(call: Call, made: Material) -> nn.Module:
    images, labels = made.train
    net = models.small_cnn(*images.shape[1:3], 2, seed=call.trial).to(call.device)
    recipe = training.Recipe(epochs=15, batch=50, learning_rate=1e-3)
    training.train(net, images.to(call.device), labels.to(call.device), recipe, seed=call.trial)
    return net.eval()


_NOT_TOLD = {"figure": np.nan, "flagged": np.nan}


def _of_data(made: Material) -> dict[str, float]:
    if made.told is None:
        return _NOT_TOLD
    found = audit.data(*made.train, made.told[0])["flip_share"]
    return {"figure": min(found.value, 1.0), "flagged": float(found.state == FLAG)}


def _of_model(net: nn.Module, made: Material, call: Call) -> dict[str, float]:
    told = {} if made.told is None else {"attribute": made.told[1]}
    report = _report(net, made, call, _BLIND, told)
    return {"figure": float(len(report.flagged)), "flagged": float(bool(report.flagged))}


def _of_odd(net: nn.Module, made: Material, call: Call) -> dict[str, float]:
    members = torch.zeros(len(made.train[1]), dtype=torch.bool)
    members[made.odd] = True
    told = {"members": members, "outsiders": made.outsiders}
    found = _report(net, made, call, ("membership_auc",), told)["membership_auc"]
    return {"figure": found.value, "flagged": float(found.state == FLAG)}


def _report(
    net: nn.Module, made: Material, call: Call, asked: tuple[str, ...], told: dict[str, Any]
) -> audit.Report:
    skip = tuple(set(audit.QUESTIONS) - set(asked))
    return audit.model(
        net, made.train, made.test, skip=skip, seed=call.trial, progress=False, **told
    )


def _of_groups(net: nn.Module, made: Material, call: Call) -> dict[str, float]:
    if made.told is None:
        return _NOT_TOLD
    images, labels = made.test
    right = training.predict(net, images.to(call.device)).cpu().argmax(1) == labels
    group = 2 * labels + made.told[1]
    lags = [float(right[group != g].double().mean() - right[group == g].double().mean())
            for g in range(4)]  # fmt: skip
    return {"figure": max(lags), "flagged": float(max(lags) > GAP)}


def _elsewhere(call: Call, made: Material) -> dict[str, float]:
    """Ask a tool that is installed beside another Python."""
    python = os.environ.get(OTHERS[call.tool])
    if not python:
        raise ValueError(
            f"{call.tool} needs packages that this book does not: install it beside a Python of "
            f"its own and name that in ${OTHERS[call.tool]}"
        )
    images, labels = made.train
    flat = images.flatten(1).numpy()
    guessed = cross_val_predict(
        LogisticRegression(max_iter=200), flat, labels.numpy(), cv=5, method="predict_proba"
    )
    pictures = (255 * images).round().byte().permute(0, 2, 3, 1).numpy()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "set.npz")
        given = dict(images=pictures.squeeze(-1) if pictures.shape[-1] == 1 else pictures)
        np.savez(file, labels=labels.numpy(), probabilities=guessed, **given)
        said = subprocess.run(
            [python, other_tools.__file__, call.tool, str(file)],
            capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""},
        )  # fmt: skip
    if said.returncode:
        raise RuntimeError(f"{call.tool} failed: {said.stderr.strip().splitlines()[-1]}")
    told = json.loads(said.stdout.splitlines()[-1])
    row = {name: float(told[name]) for name in ("figure", "flagged")}
    if len(made.odd) and "doubted" in told:
        row["doubted"] = float(np.isin(made.odd, told["doubted"]).mean())
    return row
