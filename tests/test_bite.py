"""The replayed notebooks bite: one deliberate bug in a copy of the package fails the chapter."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import book

ROOT = Path(__file__).resolve().parents[1]
# chapter, module, what stands there, the bug
BUGS = {
    "the sign of the outputs in the AUC": (
        "01-setting",
        "metrics",
        "outputs.cpu().numpy()))",
        "-outputs.cpu().numpy()))",
    ),
    "a sign in the alignment": (
        "02-stability-times-alignment",
        "alignment",
        "return (K_query.double() * self.inverse).sum(1)",
        "return -(K_query.double() * self.inverse).sum(1)",
    ),
    "one Hermite coefficient": (
        "03-random-features",
        "hermite",
        "return (basis_at_nodes(degree) @ (weights * _values(activation, nodes))).numpy()",
        "return (basis_at_nodes(degree) @ (weights * _values(activation, nodes))).numpy() "
        "* np.where(np.arange(degree + 1) == 1, 0.9, 1.0)",
    ),
    "a factor in the law of NTK features": (
        "04-ntk-features",
        "theory",
        "return float(alpha * (shared[0] * rho + higher) / own)",
        "return float((shared[0] * rho + higher) / own)",
    ),
    "the query of another frame": (
        "05-trained-networks",
        "experiments_networks",
        "torch.cat([other.x, block.y], 1)",
        "torch.cat([other.x, other.y], 1)",
    ),
    "the sign of the stability": (
        "06-stability-and-generalisation",
        "alignment",
        "return (self.inverse @ labels.double()) / self.inverse.diagonal()",
        "return -(self.inverse @ labels.double()) / self.inverse.diagonal()",
    ),
    "a term in the law for real cores": (
        "07-how-far",
        "theory",
        "float(q(1 - alpha) + alpha * slope(1 - alpha))",
        "float(q(1 - alpha))",
    ),
    "networks that never see their own samples": (
        "08-spurious-score",
        "lockstep",
        "self.changes[entries.to(device)])",
        "0 * self.changes[entries.to(device)])",
    ),
    "a factor in the linear theory of rare examples": (
        "09-rare-linear",
        "theory",
        "+ P * S * q * (1 - 2 * q)",
        "+ P * S * q * (1 - q)",
    ),
    "the norm that measures patterns": (
        "10-easy-to-learn",
        "patterns",
        "change.flatten(1).double().norm(dim=1).sum()",
        "change.flatten(1).double().norm(p=1, dim=1).sum()",
    ),
    "right and wrong answers that do not differ": (
        "11-consequences",
        "membership",
        "again[:, -1] = others.correct.double().cpu().numpy()",
        "again[:, -1] = asked[:, -1]",
    ),
    "weight decay that is noise": (
        "12-rare-mitigation",
        "experiments_rare_mitigation",
        '"weight decay": "weight_decay"',
        '"weight decay": "noise"',
    ),
    "a group that still counts": (
        "13-deletion",
        "influence",
        "return solution / (samples - removed)",
        "return solution / samples",
    ),
    "a context that stays in the training set": (
        "14-natural-contexts",
        "contexts",
        "train=torch.cat([train[~there], candidates[:n]]),",
        "train=torch.cat([train, candidates[:n]]),",
    ),
    "clusters that all weigh the same": (
        "20-linear-mixtures",
        "experiments_mixtures",
        "weights = np.repeat([weight, rest, rest], 2) / 2",
        "weights = np.repeat([1 / 3, 1 / 3, 1 / 3], 2) / 2",
    ),
    "an amplitude in the place of a variance": (
        "21-speed-and-influence",
        "mixtures",
        "reliance = r * (sigma_c**2 + m_c**2",
        "reliance = r * (sigma_c + m_c**2",
    ),
    "half of a penalty": (
        "22-margin-control",
        "losses",
        "return logistic_slope + 2 * k * u\n",
        "return logistic_slope + k * u\n",
    ),
    "a test set that is the training set": (
        "15-majority-and-minority",
        "experiments_minority",
        "part = made.splits[split]",
        'part = made.splits["train"]',
    ),
    "a lesion that changes nothing": (
        "16-tracing",
        "lesions",
        "return torch.zeros_like(old)",
        "return old.clone()",
    ),
    "a contrast without temperature": (
        "17-mitigation",
        "mitigation",
        "(z @ z.T / temperature)",
        "(z @ z.T)",
    ),
    "a zeroed filter that is not zero": (
        "18-census",
        "census",
        "constant = 0 if module.bias is None else module.bias[index]",
        "constant = 0",
    ),
    "a test that forgets one of its two sides": (
        "19-what-would-convince-us",
        "power",
        "found -= 2 * stats.binom.cdf(found, changed, 0.5) > level",
        "found -= stats.binom.cdf(found, changed, 0.5) > level",
    ),
    "a kernel without its second layer": (
        "23-relu-networks",
        "kernels",
        "tangent = tangent.mul_(angle.div_(math.pi)).add_(u)",
        "tangent = tangent.mul_(angle.div_(math.pi))",
    ),
    "shares that are not squared": (
        "24-resnet",
        "spectra",
        "return (vectors.T @ attribute).square() / attribute.square().sum()",
        "return (vectors.T @ attribute).abs() / attribute.square().sum()",
    ),
    "the sign in the accuracy": (
        "90-performance",
        "metrics",
        "(outputs * labels > 0)",
        "(outputs * labels < 0)",
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_the_helpers_fails_the_replay_of_a_chapter(bug, tmp_path):
    chapter, module, right, wrong = BUGS[bug]
    package = tmp_path / "src" / "helpers"
    shutil.copytree(ROOT / "src" / "helpers", package)
    path = package / f"{module}.py"
    text = path.read_text(encoding="utf8")
    assert text.count(right) == 1, "the line that the bug goes into has changed"
    path.write_text(text.replace(right, wrong), encoding="utf8")
    shutil.copy(book.edition("smoke") / f"{chapter}.ipynb", tmp_path)
    # BOOK_ROOT: the copy of the package uses the claims of the book
    settings = {"PYTHONPATH": str(tmp_path / "src"), "BOOK_ROOT": str(ROOT)}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            os.devnull,
            "--rootdir",
            str(tmp_path),
            "-p",
            "no:cacheprovider",
            "--nbval-lax",
            "--nbval-current-env",
            str(tmp_path / f"{chapter}.ipynb"),
        ],
        env=os.environ | settings,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Notebook cell execution failed" in done.stdout
    assert "Cell outputs differ" in done.stdout or "FAILS" in done.stdout, done.stdout[-3000:]
