"""The command line of the audit: from files to a report, a page and an exit code."""

import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from helpers.audit import QUESTIONS, files
from helpers.audit.command import main

CHANNELS = (0.5, 0.5, 0.25)

FACTORY = """
import torch
from torch import nn
def small(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
def sized(width): return nn.Linear(width, 2)
def number(): return 3
class Certain(nn.Module):
    'Class by red; surer where there is blue, and of the pictures that it has stored.'
    def __init__(self):
        super().__init__()
        self.register_buffer("stored", torch.zeros(20, 192))
    def forward(self, x):
        f = 6 * (x[:, 0].mean((1, 2)) - 0.46) * (1 + 9 * x[:, 2].mean((1, 2)))
        known = torch.cdist(x.flatten(1), self.stored).min(1).values < 0.01
        f = f + 20 * known * f.sign()
        return torch.stack([-f, f], 1)
def certain(): return Certain()
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
    code = main(
        [
            "model",
            str(tmp_path),
            "--factory",
            factory,
            "--weights",
            str(tmp_path / "w.pt"),
            "--size",
            "8",
            "--skip",
            "hidden_pattern",
            "--html",
            str(tmp_path / "model.html"),
        ]
    )
    out = capsys.readouterr().out
    assert code in (0, 3)
    assert "worst_group" in out and "the model has no convolutions" in out
    assert "worst group" in (tmp_path / "model.html").read_text()
    assert "inputs of 3 x 8 x 8 numbers" in out
    assert "pictures of 8 x 8 pixels in [0, 1]\n" in out


def test_pictures_are_normalised_as_asked_and_the_report_says_so(tmp_path, factory, capsys):
    waterbirds(tmp_path, 0)
    reports = {}
    for numbers in (["0.5"], ["0.5", "0.5", "0.25"]):
        main(["model", str(tmp_path), "--factory", factory, "--size", "8", "--skip", *QUESTIONS,
              "--mean", *numbers, "--std", "0.5"])  # fmt: skip
        reports[len(numbers)] = capsys.readouterr().out
    pixels = files.pictures(tmp_path, size=8)["test"].images / 255
    for count, mean in (
        (1, torch.full((3, 1, 1), 0.5)),
        (3, torch.tensor(CHANNELS)[:, None, None]),
    ):
        seen = (pixels - mean) / 0.5
        ends = f"from {float(seen.min()):.3g} to {float(seen.max()):.3g}"
        assert ends in reports[count]
    assert "in [0, 1] less mean 0.5 over std 0.5" in reports[1]
    assert "in [0, 1] less mean 0.5 0.5 0.25 over std 0.5" in reports[3]


def test_a_model_of_another_size_is_told_the_shape(tmp_path, factory, capsys):
    waterbirds(tmp_path, 0)
    code = main(["model", str(tmp_path), "--factory", factory, "--size", "16"])
    error = capsys.readouterr().err
    assert code == 1 and "shape (3, 16, 16)" in error and "multiplied" in error


def test_the_size_must_be_named_for_a_model_and_wrong_options_exit_with_2(factory, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["model", "somewhere", "--factory", factory])
    assert ended.value.code == 2 and "--size" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["model", "--help"])
    assert "2 options that are" in " ".join(capsys.readouterr().out.split())


def grouped(folder, seed, train, test):
    """Noisy pictures, so many of each group: red is the class, blue the attribute."""
    rng, rows = np.random.default_rng(seed), []
    for split, counts in ((0, train), (1, (2, 2, 2, 2)), (2, test)):
        for group, count in enumerate(counts):
            for _ in range(count):
                y, place = divmod(group, 2)
                pixels = rng.integers(0, 80, (8, 8, 3)) + np.array([60, 0, 0])
                pixels = pixels + np.array([60 * y + rng.integers(-9, 10), 0, 120 * place])
                name = f"{len(rows)}.png"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
                rows.append((name, y, place, split))
    pd.DataFrame(rows, columns=["img_filename", "y", "place", "split"]).to_csv(
        folder / "metadata.csv", index=False
    )
    return files.pictures(folder, size=8)


COUNTS = {
    "one rare group": ((120, 0, 120, 20), (60, 40, 60, 60)),
    "two, in other shares than in training": ((140, 2, 140, 18), (60, 100, 60, 20)),
}


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("remembers", [False, True])
def test_rare_groups_are_compared_with_the_same_groups(
    tmp_path, factory, capsys, counts, remembers
):
    """Rare groups are easier, one most: only as many of the same groups tell that from memory."""
    train = grouped(tmp_path, 1, *COUNTS[counts])["train"]
    rare = np.bincount(train.group, minlength=4)[train.group] <= 20
    stored = train.images[torch.from_numpy(rare)].flatten(1) / 255
    state = {"stored": stored if remembers else torch.zeros(20, 192)}
    torch.save(state, tmp_path / "w.pt")
    code = main(["model", str(tmp_path), "--factory", "audited_factory:certain", "--size", "8",
                 "--weights", str(tmp_path / "w.pt"), "--csv", str(tmp_path / "told.csv"),
                 "--skip", *(set(QUESTIONS) - {"membership_auc"})])  # fmt: skip
    told = pd.read_csv(tmp_path / "told.csv", index_col=0).loc["membership_auc"]
    assert told["state"] == "flagged" if remembers else told["state"] in ("clear", "open"), told
    assert code == 3 * remembers and "20 odd images against" in told["assumes"]


def test_without_rare_groups_to_compare_the_reason_is_told(tmp_path, factory, capsys):
    grouped(tmp_path, 0, (40, 0, 40, 8), (20, 20, 20, 0))
    main(["model", str(tmp_path), "--factory", factory, "--size", "8",
          "--skip", *(set(QUESTIONS) - {"membership_auc"})])  # fmt: skip
    assert "no group of the training set is below a quarter" in capsys.readouterr().out


def test_a_page_that_cannot_be_written_leaves_the_report(features, tmp_path, capsys):
    code = main(["data", str(features), "--label", "bird", "--attribute", "place",
                 "--html", str(tmp_path)])  # fmt: skip
    told = capsys.readouterr()
    assert code == 1 and "flip_share" in told.out and told.err.startswith("error: ")


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
    code = main(["model", str(tmp_path), "--factory", factory, "--weights", str(tmp_path / "w.pt"),
                 "--size", "8"])  # fmt: skip
    assert code == 1 and "no file of weights alone" in capsys.readouterr().err


MODEL = ["model", "FOLDER", "--size", "8", "--factory"]
REFUSED = {
    "no file": (["data", "nowhere.csv"], "holds neither|not there|is not"),
    "no column": (["data", "FEATURES", "--label", "fish"], "no column 'fish'"),
    "words": (["data", "FEATURES", "--label", "bird", "--attribute", "p"], "place"),
    "no side": (["data", "FOLDER", "--size", "0"], "size is 0"),
    "a mean without a deviation": (
        [*MODEL, "f:f", "--mean", "0.5"], "both --mean and",
    ),
    "two numbers": (
        [*MODEL, "f:f", "--mean", "0", "0",
         "--std", "1", "1"], "--mean has 2 numbers",
    ),
    "no deviation": (
        [*MODEL, "f:f", "--mean", "0", "--std", "0"],
        "--std above 0",
    ),
    "no factory": ([*MODEL, "audited_factory"], "module:function"),
    "unknown factory": ([*MODEL, "audited_factory:big"], "no function"),
    "factory of something": ([*MODEL, "audited_factory:sized"], "width"),
    "no model": ([*MODEL, "audited_factory:number"], "gives int"),
    "no module": ([*MODEL, "no_such_module:f"], "no_such_module"),
    "no weights": (
        [*MODEL, "audited_factory:small", "--weights", "w.pt"], "not there"
    ),
    "empty folder": ([*MODEL, "audited_factory:small"], "neither"),
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


def test_a_table_is_told_in_the_words_of_the_file(features):
    table = files.table(features, "bird", "place")
    rows = pd.read_csv(features)
    assert table.features.shape == (800, 4)
    assert np.array_equal(table.labels, rows["bird"] == "water")
    assert np.array_equal(table.attribute, rows["place"] == "wood")
    assert table.about == (
        "class bird (-1 is land, +1 is water), attribute place (-1 is sea, +1 is wood), "
        "4 columns of numbers (p, q, r, s)"
    )


def changed(file, how):
    """The text of the table of features after a change."""
    rows = pd.read_csv(file)
    if how == "index":
        return rows.to_csv()
    if how == "index, written twice":
        return rows.rename_axis("Unnamed: 0").to_csv()
    if how == "more cells than names":
        return rows.to_csv(index=False).replace("\n", ",\n").replace("place,", "place", 1)
    if how == "a name twice":
        return rows.to_csv(index=False).replace("p,q", "p,p", 1)
    if how == "labels missing":
        rows.loc[:5, "bird"] = None
    if how == "one label, else missing":
        rows.loc[rows["bird"] == "land", "bird"] = None
    if how == "features missing":
        rows.loc[[3, 5], "r"] = None
    if how == "three values":
        rows.loc[:3, "place"] = "desert"
    if how == "one value":
        rows["place"] = "sea"
    return rows.to_csv(index=False)


UNFIT = {
    "index": "column 1 of 7 has no name",
    "index, written twice": "column 1 of 7 has no name",
    "more cells than names": "more cells than the 6",
    "a name twice": "'p' more than once",
    "labels missing": r"6 cells without a value among 800 rows \(6 in 'bird'\)",
    "one label, else missing": r"cells without a value among 800 rows \(\d+ in 'bird'\)",
    "features missing": r"2 cells without a value among 800 rows \(2 in 'r'\)",
    "three values": r"'place' has 3 values \('desert', 'sea', 'wood'\)",
    "one value": r"'place' has 1 values \('sea'\)",
}


@pytest.mark.parametrize("how", UNFIT)
def test_tables_that_would_be_misread_are_refused(features, how):
    features.write_text(changed(features, how))
    with pytest.raises(ValueError, match=UNFIT[how]):
        files.table(features, "bird", "place")
