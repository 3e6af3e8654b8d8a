"""What an audit takes for samples, masks and models, and what it refuses by name."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
)

from helpers.audit.asked import Images, asked, gathered, in_order, mask_of

X = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3
PAIRS = TensorDataset(X, Y)
BYTES = (255 * X).round().to(torch.uint8)
READ_ONLY = X.numpy().copy()
READ_ONLY.flags.writeable = False
FLAT = pd.DataFrame(X.flatten(1).numpy())

ALIKE = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "a list of labels": (X, Y.tolist()),
    "read-only, of another byte order": (READ_ONLY.astype(">f4"), Y.numpy().astype(np.uint16)),
    "steps backwards": (X.numpy()[::-1], Y.numpy()[::-1]),
    "a column": (X, pd.Series(Y.numpy())),
    "a column with an index of its own": (X, pd.Series(Y.numpy(), index=range(11, -1, -1))),
    "a column of nullable numbers": (X, pd.Series(Y.numpy(), dtype="Int64")),
    "a table of one column": (X, pd.DataFrame({"y": Y.numpy()})),
    "whole floats": (X, Y.double()),
    "a loader": DataLoader(PAIRS, batch_size=5),
    "a list of batches of arrays": [(X[:7].numpy(), Y[:7].numpy()), (X[7:].numpy(), Y[7:].numpy())],
    "batches with more": [(X, Y, torch.zeros(12, 3))],
}


@pytest.mark.parametrize("kind", ALIKE)
def test_samples_are_read_alike_in_whatever_they_come(kind):
    found = gathered("train", ALIKE[kind])
    turned = kind == "steps backwards"
    assert torch.equal(found.inputs, X.flip(0) if turned else X)
    assert torch.equal(found.labels, Y.flip(0) if turned else Y)
    assert found.labels.dtype == torch.int64


@pytest.mark.parametrize("given", [(BYTES, Y), (BYTES.numpy(), Y), [(BYTES[:5], Y[:5])]])
def test_bytes_are_numbers_up_to_one(given):
    found = gathered("test", given).inputs
    assert torch.equal(found, BYTES[: len(found)].float() / 255)


def test_a_table_of_inputs_is_read_by_its_rows():
    rows = FLAT.sample(frac=1.0, random_state=0)
    found = gathered("train", (rows, pd.Series(Y.numpy())[rows.index]))
    assert torch.equal(found.inputs, X.flatten(1)[rows.index.tolist()])
    assert torch.equal(found.labels, Y[rows.index.tolist()])


class Elsewhere(Tensor):
    """A tensor that says it lies on another device until it is asked to the CPU."""

    def cpu(self, *given, **named):
        return self.as_subclass(Tensor)


@pytest.mark.parametrize("loader", [False, True])
def test_inputs_and_labels_are_brought_to_the_cpu(loader):
    pair = X.as_subclass(Elsewhere), Y.as_subclass(Elsewhere)
    found = gathered("train", [pair, pair] if loader else pair)
    assert type(found.inputs) is Tensor and type(found.labels) is Tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_what_lies_on_a_gpu_is_brought_to_the_cpu():
    found = gathered("train", (X.cuda(), Y.cuda()))
    assert found.inputs.device.type == found.labels.device.type == "cpu"
    assert mask_of("members", (Y > 0).cuda(), 12).tolist() == (Y > 0).tolist()


UNREADABLE = {
    "dicts": ([{"image": X, "label": Y}], "train gives dict of image, label: expected batches"),
    "a dict": ({"image": X, "label": Y}, "train is dict: expected a pair"),
    "a data set in place of a loader": (PAIRS, "train is TensorDataset: expected a pair"),
    "samples one by one": (list(PAIRS), r"labels \(\): .*; of a data set, give a loader"),
    "three tensors": ((X, Y, Y), "train gives Tensor: expected batches"),
    "inputs alone": (X, "train gives Tensor: expected batches"),
    "a number": (3, "train is int"),
    "nothing": ([], "empty loader"),
    "words": ((X, ["cat"] * 12), "labels such as 'cat': expected whole numbers from 0 on"),
    "a column of words": ((X, pd.Series(["cat"] * 12)), "labels such as 'cat'"),
    "gaps": ((X, pd.Series([1, None] * 6, dtype="Int64")), "no whole numbers"),
    "not a number": ((X, np.array([0.0, np.nan] * 6)), "no whole numbers"),
    "halves": ((X, Y / 2), "no whole numbers"),
    "another length": ((X, Y[:5]), r"labels \(5,\): expected"),
    "whole numbers for inputs": ((BYTES.long(), Y), "inputs of train: kind int64, expected floats"),
    "words for inputs": ((np.array([["a"]] * 12), Y), "inputs of train: kind <U1, expected floats"),
    "infinite": ((X / 0, Y), "inputs of train: 192 of 192 numbers are not finite"),
    "rags": (([[1.0], [1.0, 2.0]], Y[:2]), "train gives|no array"),
    "batches of two shapes": ([(X, Y), (X[..., :3], Y)], "inputs of 2 shapes"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_are_no_samples_is_refused_by_name(case):
    given, message = UNREADABLE[case]
    with pytest.raises(ValueError, match=message):
        gathered("train", given)


class Backwards(Sampler):
    """Batches in an order of their own."""

    def __iter__(self):
        return iter([[2, 1, 0]])

    def __len__(self):
        return 1


ORDERED = {
    "tensors": (X, Y),
    "a loader": DataLoader(PAIRS, batch_size=5),
    "one by one": DataLoader(PAIRS, batch_size=None),
    "batches in order": DataLoader(
        PAIRS, batch_sampler=BatchSampler(SequentialSampler(PAIRS), 5, False)
    ),
    "no sampler": [(X, Y)],
}
SHUFFLED = {
    "shuffle": (DataLoader(PAIRS, batch_size=5, shuffle=True), "RandomSampler"),
    "a part": (DataLoader(PAIRS, sampler=SubsetRandomSampler(range(9))), "SubsetRandomSampler"),
    "a list of rows": (DataLoader(PAIRS, sampler=[3, 2, 1]), "list"),
    "shuffled batches": (
        DataLoader(PAIRS, batch_sampler=BatchSampler(RandomSampler(PAIRS), 5, False)),
        "RandomSampler",
    ),
    "batches of their own order": (DataLoader(PAIRS, batch_sampler=Backwards()), "Backwards"),
    "one by one": (DataLoader(PAIRS, batch_size=None, shuffle=True), "RandomSampler"),
}


@pytest.mark.parametrize("kind", ORDERED)
def test_loaders_in_order_are_accepted(kind):
    in_order("test", ORDERED[kind], "attribute")


@pytest.mark.parametrize("kind", SHUFFLED)
def test_loaders_that_shuffle_are_refused(kind):
    loader, name = SHUFFLED[kind]
    with pytest.raises(ValueError, match=f"test is a loader with {name}, and attribute is told"):
        in_order("test", loader, "attribute")


MASK = np.arange(12) < 3
MASKS = {
    "tensor": torch.from_numpy(MASK),
    "list": MASK.tolist(),
    "column": pd.Series(MASK, index=range(11, -1, -1)),
    "column of objects": pd.Series(MASK, dtype=object),
    "nullable": pd.Series(MASK, dtype="boolean"),
    "table": pd.DataFrame({"odd": MASK}),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_are_read_alike_in_whatever_they_come(kind):
    assert np.array_equal(mask_of("members", MASKS[kind], 12), MASK)


@pytest.mark.parametrize(
    "given",
    [MASK[:5], MASK.astype(int), np.where(MASK, "yes", "no"), torch.ones(12, dtype=torch.bfloat16),
     pd.Series([True, None] * 6), [[True], [True, False]]],
)  # fmt: skip
def test_what_is_no_mask_is_refused_by_name(given):
    with pytest.raises(ValueError, match="members"):
        mask_of("members", given, 12)


def net(change=lambda f: f, inputs=16):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 3))

        def forward(self, x):
            return change(self.layers(x))

    return Net().eval()


SAMPLES = Images(X, Y)


def test_a_model_that_cannot_take_the_inputs_is_told_their_shape():
    with pytest.raises(ValueError, match=r"test inputs of shape \(1, 4, 4\): RuntimeError: .*mult"):
        asked(net(inputs=9), SAMPLES, SAMPLES)
    other = Images(torch.rand(12, 1, 3, 3), Y)
    with pytest.raises(ValueError, match=r"training inputs of shape \(1, 3, 3\): RuntimeError"):
        asked(net(), other, SAMPLES)


def picky(f):
    assert len(f) < 0, "Input height doesn't match model"
    return f


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda f: {"logits": f}, "the model gives dict, no tensor"),
     (lambda f: (f, f), "the model gives tuple, no tensor"),
     (picky, r"shape \(1, 4, 4\): AssertionError: Input height doesn't match"),
     (lambda f: f.repeat(2, 1), r"gives shape \(24, 3\) for 12 inputs")],
)  # fmt: skip
def test_models_that_give_something_else_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        asked(net(change), SAMPLES, SAMPLES)


def test_all_test_outputs_are_looked_at_before_any_question():
    """Only the last of 300 is not finite."""
    many = Images(torch.rand(300, 1, 4, 4), torch.arange(300) % 3)

    def broken(f):
        bad = torch.zeros(len(f), 1)
        if len(f) == 50:  # the second batch
            bad[-1] = torch.inf
        return f + bad

    with pytest.raises(ValueError, match="not finite for 1 of 300"):
        asked(net(broken), SAMPLES, many)


def test_outsiders_are_fitted_as_the_others_are():
    signs = Images(X, 2 * (Y > 0).long() - 1)
    one = Images(X[:2], torch.ones(2).long())
    two = net(lambda f: f[:, :2])
    _, train, _, outsiders = asked(two, signs, signs, Images(X[:2], -torch.ones(2).long()))
    assert train.labels.tolist() == (Y > 0).long().tolist() and outsiders.labels.tolist() == [0, 0]
    assert asked(two, signs, signs, one)[3].labels.tolist() == [1, 1]
    with pytest.raises(ValueError, match="outsiders has labels from 3 to 3"):
        asked(net(), SAMPLES, SAMPLES, Images(X[:2], torch.full((2,), 3)))
    with pytest.raises(ValueError, match=r"outsiders have inputs of shape \(1, 4, 2\)"):
        asked(net(), SAMPLES, SAMPLES, Images(X[..., :2], Y))
