"""Command line of the audit: `python -m helpers.audit data | model`."""

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helpers import models
from helpers.audit import files
from helpers.audit.after_training import model
from helpers.audit.asked import Images
from helpers.audit.before_training import data, features
from helpers.audit.report import Report, not_asked
from helpers.data import Grouped
from helpers.errors import check_whole

_FAULTS = (ValueError, OSError, ImportError)  # what a user can put right
_CODES = (
    "Exit code: 0 nothing flagged, 3 something flagged, 1 could not be audited, 2 options that are "
    "unknown, missing or of another kind."
)


def main(argv: list[str] | None = None) -> int:
    """Audit what is named, print the report, and write it where asked; returns the exit code.

    0 where nothing is flagged, 3 where something is, 1 for what cannot be audited or written.

    Raises:
        SystemExit: options that are unknown, missing or of another kind, with code 2; help, with 0.
    """
    options = _parser().parse_args(argv)
    try:
        check_whole(size=options.size)
        report = options.command(options)
        print(report)  # first, since an audit is long and a path may be wrong
        if options.html:
            report.html(options.html)
        if options.csv:
            report.table().to_csv(options.csv)
    except _FAULTS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 3 if report.flagged else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.audit",
        description="Does a data set, or a model, lean on what it should not?",
        epilog=_CODES,
    )
    commands = parser.add_subparsers(required=True, metavar="data | model")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--html", default="", help="write the report to this page")
    common.add_argument("--csv", default="", help="write the findings to this table")
    common.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")

    before = commands.add_parser(
        "data", parents=[common], epilog=_CODES, help="a data set, before any training"
    )
    before.add_argument("path", help="CSV of features, or folder (Waterbirds or CelebA layout)")
    before.add_argument("--label", default="label", help="column of the class in a CSV (label)")
    before.add_argument(
        "--attribute", default="attribute", help="column of the attribute in a CSV (attribute)"
    )
    before.add_argument("--size", type=int, default=64, help="side of the pictures (64)")
    before.add_argument(
        "--ridge", type=float, default=0.1,
        help="penalty a sample, in mean variances of an input (0.1)",
    )  # fmt: skip
    before.add_argument("--samples", type=int, help="samples to be trained on (all)")
    before.add_argument(
        "--backbone", choices=("none", "lite0"), default="none",
        help="features of an ImageNet network in place of pixels (none)",
    )  # fmt: skip
    before.set_defaults(command=_data)

    after = commands.add_parser(
        "model", parents=[common], epilog=_CODES, help="a trained classifier"
    )
    after.add_argument("path", help="folder: Waterbirds or CelebA layout, or train/ and test/")
    after.add_argument("--factory", required=True, help="module:function that makes the model")
    after.add_argument("--weights", help="state dict (.pt, .pth) or .safetensors")
    after.add_argument(
        "--size", type=int, required=True, help="side of the pictures that it was trained on"
    )
    for name, what in (("mean", "taken off pixels in [0, 1]"), ("std", "they are then divided by")):
        after.add_argument(
            f"--{name}", type=float, nargs="+", default=(), metavar="X",
            help=f"{what}, as in training: one number, or red, green and blue (nothing)",
        )  # fmt: skip
    after.add_argument("--skip", nargs="*", default=(), help="questions not to ask")
    after.set_defaults(command=_model)
    return parser


def _data(options: argparse.Namespace) -> Report:
    settings = dict(ridge=options.ridge, samples=options.samples, seed=options.seed)
    path = Path(options.path)
    if path.is_file():
        *given, about = files.table(path, options.label, options.attribute)
        return _about(data(*given, **settings), about)
    train = files.pictures(path, size=options.size)["train"]
    inputs, about = _pixels(train.images), f"pictures of {options.size} x {options.size} pixels"
    if options.backbone == "lite0":
        inputs, about = features(models.efficientnet_lite0(), 255 * inputs), f"lite0's of {about}"
    return _about(data(inputs, train.label, train.attribute, **settings), about)


def _model(options: argparse.Namespace) -> Report:
    shift, scale = _normalisation(options.mean, options.std)
    net = files.network(options.factory, options.weights)
    settings = dict(skip=tuple(options.skip), seed=options.seed)
    about = f"pictures of {options.size} x {options.size} pixels in [0, 1]"
    if options.mean:
        about += " less mean {} over std {}".format(
            *(" ".join(f"{x:g}" for x in numbers) for numbers in (options.mean, options.std))
        )

    def read(images: Tensor) -> Tensor:
        return (_pixels(images) - shift) / scale

    path = Path(options.path)
    if (path / "train").is_dir() and (path / "test").is_dir():
        parts = [files.classes(path / part, size=options.size) for part in ("train", "test")]
        if parts[0][2] != parts[1][2]:
            raise ValueError(f"{path}: train and test have different classes")
        train, test = ((read(images), labels) for images, labels, _ in parts)
        return _about(model(net, train, test, **settings), about)
    found = files.pictures(path, size=options.size)
    train, test = (Images(read(found[p].images), found[p].label) for p in ("train", "test"))
    members, others = _rare(found["train"], found["test"], options.seed)
    told = dict(attribute=found["test"].attribute)
    if len(others):
        odd = test.rows(others)
        told |= dict(members=members, outsiders=(odd.inputs, odd.labels))
    report = model(
        net, (train.inputs, train.labels), (test.inputs, test.labels), **told, **settings
    )
    reasons = {}
    if not len(others) and "membership_auc" not in options.skip:
        reasons["membership_auc"] = (
            "no group of the training set is below a quarter of the largest, and in the test set"
        )
    return _about(report, about, reasons)


def _rare(train: Grouped, test: Grouped, seed: int) -> tuple[Tensor, Tensor]:
    """Which training samples are of a rare group, and rows of test samples of the same groups.

    Rare is a group below a quarter of the largest one in training. Of test samples as many are
    taken that the groups have the same shares as in training, else the easier group would tell.
    """
    counts, there = (np.bincount(part.group.numpy(), minlength=4) for part in (train, test))
    rare = np.flatnonzero((0 < counts) & (counts < counts.max() / 4) & (there > 0))
    each = min((there[g] / counts[g] for g in rare), default=0.0)
    rng, rows = np.random.default_rng(seed), [np.array([], dtype=int)]
    for g in rare:
        own = rng.permutation(np.flatnonzero(test.group.numpy() == g))
        rows.append(own[: max(1, round(each * counts[g]))])
    members = np.isin(train.group.numpy(), rare)
    return torch.from_numpy(members), torch.from_numpy(np.sort(np.concatenate(rows)))


def _normalisation(mean: list[float], std: list[float]) -> tuple[Tensor, Tensor]:
    """What is taken off pictures and what they are divided by, `(channels or 1, 1, 1)`.

    Raises:
        ValueError: one without the other; neither one number nor three; a deviation of 0 or less.
    """
    for name, given in (("mean", mean), ("std", std)):
        if bool(mean) != bool(std) or len(given) not in (0, 1, 3):
            raise ValueError(
                f"--{name} has {len(given)} numbers: expected one or three for both --mean and "
                "--std, or neither"
            )
        if not all(math.isfinite(x) and (x > 0 or name == "mean") for x in given):
            raise ValueError(f"--{name} is {given}: expected finite numbers, --std above 0")
    return torch.tensor(mean or [0.0])[:, None, None], torch.tensor(std or [1.0])[:, None, None]


def _about(report: Report, more: str, reasons: Mapping[str, str] | None = None) -> Report:
    """The report with more of what it is about, and reasons for what could not be asked."""
    why = reasons or {}
    found = [not_asked(f.name, why[f.name]) if f.name in why else f for f in report.values()]
    return Report(report.kind, f"{report.about}; {more}", found)


def _pixels(images: Tensor) -> Tensor:
    """Bytes as floats in [0, 1]."""
    return images.float() / 255
