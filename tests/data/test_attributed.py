"""The container of sets with an attribute: groups under both codings, rows, draws."""

import pytest
import torch

from helpers import data


def test_a_draw_has_the_counts_asked_for():
    label = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    attribute = torch.tensor([0, 1, 1, 0, 0, 1, 1])
    sample = data.Grouped(torch.arange(7.0)[:, None], label, attribute, "made up")
    drawn = sample.draw((1, 2, 1, 0), seed=0)
    assert drawn.counts() == (1, 2, 1, 0) and len(drawn.images.unique()) == 4
    with pytest.raises(ValueError, match="group 0 has 1 samples: 2"):
        sample.draw((2, 0, 0, 0), seed=0)
    with pytest.raises(ValueError, match="four numbers"):
        sample.draw((1, 1), seed=0)


def test_both_codings_have_the_same_groups():
    label, attribute = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    images = torch.arange(8.0).view(4, 1, 1, 2)
    plain = data.Grouped(images, label, attribute)
    signed = data.Grouped(images, 2.0 * label - 1, 2.0 * attribute - 1)
    for sample in (plain, signed):
        assert sample.group.dtype == torch.int64 and sample.group.tolist() == [0, 1, 2, 3]
        assert sample.aligned.tolist() == [True, False, False, True]
        assert len(sample) == 4 and sample.counts() == (1, 1, 1, 1)
        assert torch.equal(sample.flat, torch.arange(8.0).view(4, 2))


def test_rows_are_taken_of_everything():
    label, attribute = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    sample = data.Grouped(torch.arange(4.0).view(4, 1), label, attribute, "made up")
    some = sample.rows(torch.tensor([3, 1]))
    assert (some.flat[:, 0].tolist(), some.group.tolist()) == ([3, 1], [3, 1])
    assert some.source == "made up"
    assert sample.rows(sample.aligned).group.tolist() == [0, 3]


@pytest.mark.parametrize("by", [1, 1.0])
@pytest.mark.parametrize(
    ("label", "attribute", "message"),
    [
        ([1, 1, 1, 1], [-1, 1, 0, 1], "attribute has 0(.0)?: allowed is -1 and 1"),
        ([0, 1, 0, 1], [0, 1, 2, 1], "attribute has 2(.0)?: allowed is 0 and 1"),
        ([0, 1, 0, 1], [-1, 1, -1, 1], "label has 0"),
        ([0, 1, 3, 1], [0, 1, 0, 1], "label has 3"),
        ([-1, 1, -2, 1], [-1, 1, 1, 1], "label has -2"),
        ([0, 1, 0, 1], [0, 1, 0.5, 1], "attribute has 0.5"),
        ([0, 1, 0, 1], [0, 1, float("nan"), 1], "attribute has nan"),
        ([0, 1, 0], [0, 1, 0], r"expected one number for each of 4 images"),
        ([0, 1, 0, 1], [0], r"shapes \(4,\) and \(1,\)"),
        ([[0], [1], [0], [1]], [0, 1, 0, 1], r"shapes \(4, 1\) and \(4,\)"),
    ],
)
def test_values_outside_the_two_are_refused(by, label, attribute, message):
    with pytest.raises(ValueError, match=message):
        data.Grouped(torch.zeros(4, 1), by * torch.tensor(label), by * torch.tensor(attribute))
