"""The replayed notebooks bite: one deliberate bug in a copy of the package fails the chapter."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.book import freshness
from tests.book.replays import replay

ROOT = Path(__file__).resolve().parents[2]


class Bug(NamedTuple):
    """What a function gives instead.

    In `instead`, ``do()`` is what it gives, ``do(x=…)`` what it gives for another argument, and
    ``given["x"]`` an argument.
    """

    chapter: str
    module: str
    function: str
    instead: str


# In most slow chapters the bug is in what judges rows, not in an experiment: then those that the
# replay by nbval has computed are used, and the checks are shown to notice a wrong judge alone.
# Those of 02, 05, 14, 15, 18, 20 to 22, 24, 26 to 28 and 90 notice a wrong experiment.
BUGS = {
    "the sign of the outputs in the AUC": Bug(
        "01-setting", "probes.accuracy", "auc", "1 - do()"
    ),
    "a sign in the alignment": Bug(
        "02-stability-times-alignment", "kernels.alignment", "Interpolation.alignment", "-do()"
    ),
    "a variance in the place of a spread": Bug(
        "03-random-features", "claims.part1.features", "spread_slopes",
        "do(rows=given['rows'].assign(**{given['column']: given['rows'][given['column']] ** 2}))",
    ),
    "a spread in the place of a mean": Bug(
        "04-ntk-features", "claims.part1.features", "alignment_table",
        "do(rows=given['rows'].assign(resample_mean=given['rows']['resample_sd']))",
    ),
    "the query of another sample": Bug(
        "05-trained-networks", "experiments.framed.networks", "_gaussian",
        "([x.roll(i % 2, 0) for i, x in enumerate(do()[0])], *do()[1:])",
    ),
    "memory and its bound the wrong way round": Bug(
        "06-stability-and-generalisation", "claims.part1.memory", "with_bound",
        "do().assign(over_bound=-do()['over_bound'])",
    ),
    "a factor in the law of the staircase": Bug(
        "07-how-far", "theory.staircase", "gamma_staircase", "0.9 * do()"
    ),
    "a rise that is a fall": Bug(
        "08-spurious-score", "claims.part2.score", "change", "-do()"
    ),
    "a factor in the linear theory of rare examples": Bug(
        "09-rare-linear", "theory.yang2022", "rare_linear",
        "do()._replace(prediction_difference=0.9 * do().prediction_difference)",
    ),
    "half of an area": Bug(
        "10-easy-to-learn", "claims.part2.easy", "areas", "do().assign(area=do()['area'] / 2)"
    ),
    "a neighbour in the place of the member": Bug(
        "11-consequences", "claims.part2.in_out", "_members", "do(shift=given['shift'] + 1)"
    ),
    "the score of a clean network in the place of what exceeds it": Bug(
        "12-rare-mitigation", "claims.part2.prevention", "compared",
        "do().assign(excess=do()['calm'])",
    ),
    "what is gone in the place of what is left": Bug(
        "13-deletion", "claims.part2.deletion", "what_is_left",
        "do().assign(left=1 - do()['left'])",
    ),
    "a context that stays in the training set": Bug(
        "14-natural-contexts", "data.contexts", "trial_split",
        "(lambda all_rows: do()._replace(train=torch.cat([all_rows, do().added])))"
        "(halves(len(given['pool']), given['seed'])[0])",
    ),
    "a test set that is the training set": Bug(
        "15-majority-and-minority", "experiments.minority.networks", "trained_of",
        "(lambda made: made._replace(splits=made.splits | {'test': made.splits['train']}))(do())",
    ),
    "the other groups in the place of these": Bug(
        "16-tracing", "claims.part3.groups", "of_groups",
        "do(groups=[g for g in range(4) if g not in given['groups']])",
    ),
    "rare and frequent groups the wrong way round": Bug(
        "17-mitigation", "claims.part3.tuning", "memorisation", "-do()"
    ),
    "the lesion of the neighbour": Bug(
        "18-census", "probes.census", "census", "do().roll(1, 0)"
    ),
    "a test that forgets one of its two sides": Bug(
        "19-what-would-convince-us", "stats.power", "_largest_few",
        "do(level=2 * given['level'])",
    ),
    "clusters that all weigh the same": Bug(
        "20-linear-mixtures", "experiments.shortcut.linear_mixtures", "sample_moment",
        "do(weights=np.full(len(given['weights']), 1 / len(given['weights'])))",
    ),
    "an amplitude in the place of a variance": Bug(
        "21-speed-and-influence", "theory.lim2025", "two_axis",
        "do()._replace(reliance=do(sigma_c=np.sqrt(given['sigma_c'])).reliance)",
    ),
    "half of a penalty": Bug(
        "22-margin-control", "training.margin_losses", "MarginLoss.slope",
        "do() - (given['self'].name == 'sd') * given['self'].strength * given['u']",
    ),
    "a sum in the place of a mean": Bug(
        "23-relu-networks", "stats.intervals", "mean_ci", "do()._replace(mean=sum(given['values']))"
    ),
    "shares that are not squared": Bug(
        "24-resnet", "kernels.eigenfeatures", "mode_alignment",
        "do().sqrt() / given['attribute'].to(do()).norm()",
    ),
    "a residual in the place of a held-out one": Bug(
        "25-one-smoother", "theory.smoother", "Smoother.held_out",
        "given['self'].residual(given['labels'])[given['group']]",
    ),
    "a removal that is one step": Bug(
        "27-cross-examinations", "theory.smoother", "Smoother.removal",
        "given['self'].weights(given['K_query'])[:, given['group']]"
        " @ given['self'].residual(given['labels'])[given['group']]",
    ),
    "a ridge in the place of the felt one": Bug(
        "26-one-scalar", "theory.cure", "Population.felt", "given['ridge'] + 0 * do()"
    ),
    "a factor in the flip share": Bug(
        "28-audit", "audit.linear", "Directions.flip", "tuple(0.9 * share for share in do())"
    ),
    "filters in another order": Bug(
        "90-performance", "probes.census", "census", "do().flip(0)"
    ),
}  # fmt: skip

PLANTED = """

def _planted(right):
    import functools
    import inspect

    import numpy as np
    import torch

    signature = inspect.signature(right)

    @functools.wraps(right)
    def wrong(*args, **more):
        bound = signature.bind(*args, **more)
        bound.apply_defaults()
        given = bound.arguments

        def do(**other):
            return right(**(given | other))

        return INSTEAD

    return wrong


FUNCTION = _planted(FUNCTION)
"""


def plant(bug: Bug, package: Path) -> None:
    """Put the bug into a copy of the package."""
    path = package / f"{bug.module.replace('.', '/')}.py"
    wrong = PLANTED.replace("INSTEAD", bug.instead).replace("FUNCTION", bug.function)
    path.write_text(path.read_text(encoding="utf8") + wrong, encoding="utf8")


def test_every_chapter_has_a_bug():
    assert {bug.chapter for bug in BUGS.values()} == {
        path.stem for path in (ROOT / "notebooks").glob("*.md")
    }


def packed(folder: Path, chapter: str) -> tuple[Path, Path]:
    """A copy of the package and of a chapter in a folder of their own; both paths."""
    package, notebook = folder / "src" / "helpers", folder / f"{chapter}.ipynb"
    shutil.copytree(ROOT / "src" / "helpers", package)
    shutil.copy(freshness.edition("smoke") / notebook.name, notebook)
    (folder / "book").symlink_to(ROOT / "book")  # the claims
    return package, notebook


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_in_the_helpers_changes_what_the_checks_of_a_chapter_say(name, tmp_path):
    package, notebook = packed(tmp_path, BUGS[name].chapter)
    plant(BUGS[name], package)
    cells = replay(notebook, package.parent)
    assert any(cell.now not in (None, cell.stored) for cell in cells), cells


# cheap ones: that the others hold is what the replays by nbval say
@pytest.mark.parametrize("chapter", ["01-setting", "25-one-smoother"])
def test_without_a_bug_they_say_what_is_stored(chapter, tmp_path):
    package, notebook = packed(tmp_path, chapter)
    cells = replay(notebook, package.parent)
    assert cells and all(cell.now == cell.stored != "" for cell in cells), cells


def test_what_the_checks_say_fails_the_replay_by_nbval(tmp_path):
    package, notebook = packed(tmp_path, "01-setting")
    plant(BUGS["the sign of the outputs in the AUC"], package)
    options = ("-q", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--nbval-lax", "--nbval-current-env", notebook],
        env=os.environ | {"PYTHONPATH": str(package.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Notebook cell execution failed" in done.stdout
    assert "Cell outputs differ" in done.stdout or "FAILS" in done.stdout, done.stdout[-3000:]
