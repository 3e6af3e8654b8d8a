"""Command line of the audit: `python -m helpers.audit data | model`."""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helpers import models
from helpers.audit import files
from helpers.audit.after_training import model
from helpers.audit.before_training import data, features
from helpers.audit.report import Report

_FAULTS = (ValueError, FileNotFoundError, ImportError)  # what a user can put right


def main(argv: list[str] | None = None) -> int:
    """Audit what is named, print the report, and write it where asked; returns the exit code.

    0 where nothing is flagged, 3 where something is, 1 for what cannot be audited.
    """
    options = _parser().parse_args(argv)
    try:
        report = options.command(options)
        if options.html:
            report.html(options.html)
        if options.csv:
            report.table().to_csv(options.csv)
    except _FAULTS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report)
    return 3 if report.flagged else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.audit",
        description="Does a data set, or a model, lean on what it should not?",
        epilog="Exit code: 0 nothing flagged, 3 something flagged, 1 could not be audited.",
    )
    commands = parser.add_subparsers(required=True, metavar="data | model")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--html", default="", help="write the report to this page")
    common.add_argument("--csv", default="", help="write the findings to this table")
    common.add_argument("--size", type=int, default=64, help="side of the pictures (64)")
    common.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")

    before = commands.add_parser("data", parents=[common], help="a data set, before any training")
    before.add_argument("path", help="CSV of features, or folder (Waterbirds or CelebA layout)")
    before.add_argument("--label", default="label", help="column of the class in a CSV (label)")
    before.add_argument(
        "--attribute", default="attribute", help="column of the attribute in a CSV (attribute)"
    )
    before.add_argument("--ridge", type=float, default=0.1, help="penalty a sample (0.1)")
    before.add_argument("--samples", type=int, help="samples to be trained on (all)")
    before.add_argument(
        "--backbone", choices=("none", "lite0"), default="none",
        help="features of an ImageNet network in place of pixels (none)",
    )  # fmt: skip
    before.set_defaults(command=_data)

    after = commands.add_parser("model", parents=[common], help="a trained classifier")
    after.add_argument("path", help="folder: Waterbirds or CelebA layout, or train/ and test/")
    after.add_argument("--factory", required=True, help="module:function that makes the model")
    after.add_argument("--weights", help="state dict (.pt, .pth) or .safetensors")
    after.add_argument("--skip", nargs="*", default=(), help="questions not to ask")
    after.set_defaults(command=_model)
    return parser


def _data(options: argparse.Namespace) -> Report:
    settings = dict(ridge=options.ridge, samples=options.samples, seed=options.seed)
    path = Path(options.path)
    if path.is_file():
        return data(*files.table(path, options.label, options.attribute), **settings)
    train = files.pictures(path, size=options.size)["train"]
    inputs = _pixels(train.images)
    if options.backbone == "lite0":
        inputs = features(models.efficientnet_lite0(), 255 * inputs)
    return data(inputs, train.label, train.attribute, **settings)


def _model(options: argparse.Namespace) -> Report:
    net = files.network(options.factory, options.weights)
    settings = dict(skip=tuple(options.skip), seed=options.seed)
    path = Path(options.path)
    if (path / "train").is_dir() and (path / "test").is_dir():
        parts = [files.classes(path / part, size=options.size) for part in ("train", "test")]
        if parts[0][2] != parts[1][2]:
            raise ValueError(f"{path}: train and test have different classes")
        train, test = ((_pixels(images), labels) for images, labels, _ in parts)
        return model(net, train, test, **settings)
    found = files.pictures(path, size=options.size)
    train, test = ((_pixels(found[part].images), found[part].label) for part in ("train", "test"))
    rare = found["train"].group.numpy()
    counts = np.bincount(rare, minlength=4)
    members = torch.from_numpy(counts[rare] < counts.max() / 4)
    return model(
        net, train, test, attribute=found["test"].attribute,
        members=members if 0 < members.sum() < len(members) else None, **settings,
    )  # fmt: skip


def _pixels(images: Tensor) -> Tensor:
    """Bytes as floats in [0, 1]."""
    return images.float() / 255
