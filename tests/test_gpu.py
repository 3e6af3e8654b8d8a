"""Everything that takes a device, on a GPU that is not there: no tensor is left behind."""

import copy
import doctest
import importlib
import inspect
import io
import math
import pkgutil
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

import helpers
from helpers.sweep import registry

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from pretended_gpu import pretended_gpu  # noqa: E402

# -- the pretended GPU itself ----------------------------------------------------------------------


def test_outside_nothing_has_changed():
    with pretended_gpu():
        assert torch.cuda.is_available()
    assert torch.autograd.grad.__module__ == "torch.autograd"
    x = torch.ones(3, requires_grad=True)
    assert torch.autograd.grad(x.sum(), x)[0].tolist() == [1, 1, 1]


MEETINGS = {
    "sum": lambda a, b: a + b,
    "product of matrices": lambda a, b: a @ b,
    "layer": lambda a, b: nn.Linear(2, 2)(a),
    "in place": lambda a, b: a.add_(b),
    "concatenation": lambda a, b: torch.cat([a, b]),
    "choice": lambda a, b: torch.where(a > 0, a, b),
    "loss": lambda a, b: nn.functional.mse_loss(a, b),
    "numpy": lambda a, b: a.numpy(),
}


@pytest.mark.parametrize("kind", MEETINGS)
def test_tensors_of_two_devices_do_not_meet(kind):
    with pretended_gpu():
        a, b = torch.ones(2, 2, device="cuda"), torch.ones(2, 2)
        with pytest.raises((RuntimeError, TypeError), match="cuda"):
            MEETINGS[kind](a, b)


FRIENDS = {
    "a number": lambda a: a + 1.0,
    "a tensor without dimensions": lambda a: a * torch.tensor(2.0),
    "indices": lambda a: a[torch.tensor([0])],
    "moved": lambda a: a + torch.ones(2, 2).to(a.device),
    "made there": lambda a: a + torch.zeros_like(a),
    "a layer there": lambda a: nn.Linear(2, 2).to("cuda")(a),
    "a copy of a layer": lambda a: copy.deepcopy(nn.Linear(2, 2).to("cuda"))(a),
    "a gradient": lambda a: torch.func.grad(lambda x: (x**2).sum())(a) + a,
    "samples one by one": lambda a: torch.func.vmap(lambda x: x.sum())(a) + a[0],
}


@pytest.mark.parametrize("kind", FRIENDS)
def test_what_a_real_gpu_allows_is_allowed_and_stays_there(kind):
    with pretended_gpu():
        found = FRIENDS[kind](torch.ones(2, 2, device="cuda"))
        assert found.is_cuda and found.device.type == "cuda" and not found.cpu().is_cuda


def test_training_there_moves_what_was_trained_and_files_come_back(tmp_path):
    with pretended_gpu():
        torch.manual_seed(0)
        net = nn.Linear(3, 1).to("cuda")
        before = net.weight.detach().clone()
        x = torch.ones(8, 3, device="cuda")
        step = torch.optim.Adam(net.parameters(), 0.1)
        net(x).square().mean().backward()
        step.step()
        assert net.weight.is_cuda and (net.weight != before).all()
        torch.save(net.state_dict(), tmp_path / "net.pt")
        found = torch.load(tmp_path / "net.pt", map_location="cuda", weights_only=True)
        assert found["weight"].is_cuda
    found = torch.load(tmp_path / "net.pt", weights_only=True)
    assert type(found["weight"]) is torch.Tensor


# -- experiments -----------------------------------------------------------------------------------

DEVICED = [name for name in registry.names() if registry.get(name).on_device]


@pytest.mark.parametrize("name", DEVICED)
def test_an_experiment_says_the_same_on_the_gpu(name, tmp_path, monkeypatch):
    """The first small cell, two epochs of it: the processor's numbers, up to the order of sums."""
    experiment = registry.get(name)
    cell = dict(experiment.cells("smoke")[0])
    if "epochs" in cell:
        cell["epochs"] = min(cell["epochs"], 2)
    rows = {}
    for device in ("cpu", "cuda"):
        monkeypatch.setenv("BOOK_ROOT", str(tmp_path / device))  # networks that are kept
        (tmp_path / device).mkdir()
        call = experiment.call(cell, {"device": device, "data_dir": None, "precision": "float32"})
        if device == "cpu":
            (rows[device],) = experiment.compute([call])
        else:
            with pretended_gpu():
                (rows[device],) = experiment.compute([call])
    assert rows["cpu"].keys() == rows["cuda"].keys()
    for column, value in rows["cpu"].items():
        other = rows["cuda"][column]
        if isinstance(value, str) or math.isnan(value):
            assert other == value or math.isnan(other), column
        else:
            assert other == pytest.approx(value, rel=1e-3, abs=1e-3), column


def test_those_that_stay_on_the_processor_do_not_ask_for_a_device():
    """An experiment that takes no device does not run on one by accident."""
    for name in set(registry.names()) - set(DEVICED):
        trial = registry.get(name).trial
        assert "call.device" not in inspect.getsource(trial), name


# -- every public function that takes tensors ------------------------------------------------------


def examples():
    """Examples in docstrings that make tensors or models."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = (m.name for m in pkgutil.walk_packages(helpers.__path__, "helpers."))
    for name in names:
        if name.endswith("__main__"):
            continue
        for found in finder.find(importlib.import_module(name), name):
            if any("torch." in e.source or "models." in e.source for e in found.examples):
                yield found


ELSEWHERE = {  # make tensors of their own, or compute on the processor whatever they are given
    "helpers.kernels.hermite.basis": "one rounding apart",
    "helpers.kernels.krylov.krylov_filters": "small steps in double, on the processor",
    "helpers.kernels.modes.top_modes": "scipy, from a start on the processor",
    "helpers.probes.accuracy.accuracy_by_alignment": "answers go where labels are, the processor",
    "helpers.training.lockstep.train_side_by_side": "the order is drawn on the processor",
    "helpers.remedies.free_outputs.free_outputs": "logits without a network, on the processor",
}


@pytest.mark.parametrize("example", list(examples()), ids=lambda found: found.name)
def test_an_example_says_the_same_there(example):
    """All its tensors are made on the GPU."""
    said = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    with pretended_gpu(default=True):
        failed = runner.run(example, out=said.write, clear_globs=False).failed
    assert bool(failed) == (example.name in ELSEWHERE), said.getvalue()


# -- chapters --------------------------------------------------------------------------------------

CELL = re.compile(
    r"^```\{code-cell\}[^\n]*\n(?:---\n.*?^---\n|(?::[^\n]*\n)*)(.*?)^```", re.M | re.S
)
CHAPTERS = ["02-stability-times-alignment", "05-trained-networks"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_runs_there(name, monkeypatch):
    """The cells of a small run with `device = "cuda"`, as the runner's DEVICE=cuda starts them."""
    monkeypatch.setattr(plt, "show", lambda *args: plt.close("all"))
    text = (ROOT / "notebooks" / f"{name}.md").read_text("utf8")
    cells = CELL.findall(text)
    assert len(cells) > 5 and 'device = "auto"' in cells[0]
    names = {"__name__": "chapter"}
    with pretended_gpu():
        for cell in [cells[0].replace('device = "auto"', 'device = "cuda"'), *cells[1:]]:
            exec(compile(cell, name, "exec"), names)
    assert names["run"].device == "cuda"
