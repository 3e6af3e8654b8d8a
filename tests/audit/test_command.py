"""The command line of the audit: from files to a report, a page and an exit code."""

import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from helpers.audit import files
from helpers.audit.command import main

FACTORY = """
from torch import nn
def small(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
def sized(width): return nn.Linear(width, 2)
def number(): return 3
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "audited_factory.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "audited_factory:small"
    sys.modules.pop("audited_factory", None)


@pytest.fixture
def features(tmp_path):
    """A table in which the attribute is heavy and goes with nine of ten classes."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 800)
    a = np.where(rng.random(800) < 0.9, y, 1 - y)
    X = rng.standard_normal((800, 4)) + np.outer(2 * y - 1, [0.4, 0, 0, 0])
    X += np.outer(2 * a - 1, [0, 1.5, 0, 0])
    table = pd.DataFrame(X, columns=list("pqrs")).assign(
        bird=np.where(y, "water", "land"), place=np.where(a, "sea", "wood")
    )
    file = tmp_path / "features.csv"
    table.to_csv(file, index=False)
    return file


def waterbirds(folder, seed, count=60):
    """Pictures of one colour and their table, as Waterbirds has them."""
    rng, rows = np.random.default_rng(seed), []
    for k in range(3 * count):
        y = int(rng.integers(0, 2))
        place = y if rng.random() < 0.8 else 1 - y
        pixels = rng.integers(0, 60, (8, 8, 3)) + 60 * y + np.array([0, 0, 120 * place])
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{k}.png")
        rows.append((f"{k}.png", y, place, k % 3))
    pd.DataFrame(rows, columns=["img_filename", "y", "place", "split"]).to_csv(
        folder / "metadata.csv", index=False
    )


def test_a_table_of_features_is_flagged_with_exit_code_3(features, tmp_path, capsys):
    page, table = tmp_path / "audit.html", tmp_path / "audit.csv"
    code = main(
        ["data", str(features), "--label", "bird", "--attribute", "place", "--html", str(page),
         "--csv", str(table)]
    )  # fmt: skip
    assert code == 3
    assert "flip_share" in capsys.readouterr().out and "flip share" in page.read_text()
    assert pd.read_csv(table, index_col=0).loc["flip_share", "state"] == "flagged"


def test_the_attribute_alone_for_a_label_is_not_flagged(features, capsys):
    """The heavy direction is the class, the light one the attribute: nothing flips."""
    code = main(["data", str(features), "--label", "place", "--attribute", "bird"])
    assert "flip_share" in capsys.readouterr().out and code in (0, 3)


@pytest.mark.parametrize("backbone", ["none", "lite0"])
def test_a_folder_in_the_layout_of_waterbirds_is_read(tmp_path, capsys, backbone):
    waterbirds(tmp_path, 0)
    code = main(["data", str(tmp_path), "--size", "32" if backbone == "lite0" else "8",
                 "--backbone", backbone])  # fmt: skip
    out = capsys.readouterr().out
    assert code in (0, 3) and "60 samples" in out
    assert ("1,280 numbers" if backbone == "lite0" else "192 numbers") in out


def test_a_model_is_made_loaded_and_audited_on_groups(tmp_path, factory, capsys):
    waterbirds(tmp_path, 0)
    torch.manual_seed(0)
    torch.save({"1." + k: v for k, v in nn.Linear(192, 2).state_dict().items()}, tmp_path / "w.pt")
    code = main(["model", str(tmp_path), "--factory", factory, "--weights", str(tmp_path / "w.pt"),
                 "--size", "8", "--skip", "hidden_pattern"])  # fmt: skip
    out = capsys.readouterr().out
    assert code in (0, 3)
    assert "worst_group" in out and "the model has no convolutions" in out


def test_folders_of_classes_are_read(tmp_path, factory, capsys):
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("cats", "dogs"):
            (tmp_path / part / name).mkdir(parents=True)
            for k in range(12):
                pixels = rng.integers(0, 256, (9, 8, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{k}.png")
    code = main(["model", str(tmp_path), "--factory", factory, "--size", "8"])
    out = capsys.readouterr().out
    assert code in (0, 3) and "24 training and 24 test samples" in out
    images, labels, names = files.classes(tmp_path / "train", size=8)
    assert images.shape == (24, 3, 8, 8) and names == ["cats", "dogs"]
    assert labels.tolist() == [0] * 12 + [1] * 12


class Opens:
    """What a planted file would run."""

    def __reduce__(self):
        return (open, ("/tmp/audit_was_here", "w"))


def test_a_file_that_would_run_code_is_refused(tmp_path, factory, capsys):
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Opens(), protocol=2))
    waterbirds(tmp_path, 0)
    code = main(["model", str(tmp_path), "--factory", factory, "--weights", str(tmp_path / "w.pt")])
    assert code == 1 and "no file of weights alone" in capsys.readouterr().err


REFUSED = {
    "no file": (["data", "nowhere.csv"], "holds neither|not there|is not"),
    "no column": (["data", "FEATURES", "--label", "fish"], "no column 'fish'"),
    "words": (["data", "FEATURES", "--label", "bird", "--attribute", "p"], "place"),
    "no factory": (["model", "FOLDER", "--factory", "audited_factory"], "module:function"),
    "unknown factory": (["model", "FOLDER", "--factory", "audited_factory:big"], "no function"),
    "factory of something": (["model", "FOLDER", "--factory", "audited_factory:sized"], "width"),
    "no model": (["model", "FOLDER", "--factory", "audited_factory:number"], "gives int"),
    "no module": (["model", "FOLDER", "--factory", "no_such_module:f"], "no_such_module"),
    "no weights": (
        ["model", "FOLDER", "--factory", "audited_factory:small", "--weights", "w.pt"], "not there"
    ),
    "empty folder": (["model", "FOLDER", "--factory", "audited_factory:small"], "neither"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_user_can_put_right_is_said_in_one_line(case, features, tmp_path, factory, capsys):
    arguments, message = REFUSED[case]
    (tmp_path / "empty").mkdir()
    places = {"FEATURES": str(features), "FOLDER": str(tmp_path / "empty")}
    code = main([places.get(word, word) for word in arguments])
    error = capsys.readouterr().err
    assert code == 1 and error.startswith("error: ") and "Traceback" not in error
    assert any(part in error for part in message.split("|"))


def test_weights_that_do_not_fit_and_whole_models_are_refused(tmp_path, factory):
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match="does not fit"):
        files.network(factory, tmp_path / "other.pt")
    torch.save(nn.Linear(3, 2), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match="no file of weights alone"):
        files.network(factory, tmp_path / "whole.pt")
