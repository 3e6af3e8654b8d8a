"""Pictures that more than one test of audits needs."""

import pytest
import torch


@pytest.fixture
def framed():
    """Makes noise all over, and a faint class in the middle: who fits it remembers the frame."""

    def make(count, seed):
        rng = torch.Generator().manual_seed(seed)
        images = torch.rand(count, 1, 12, 12, generator=rng)
        labels = torch.arange(count) % 2
        images[labels == 1, :, 5:7, 5:7] += 0.3
        return images, labels

    return make
