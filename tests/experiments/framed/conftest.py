"""What the tests of Part I's experiments share."""

import pandas as pd
import pytest

from helpers.experiments.framed import grams
from helpers.project import project_root


@pytest.fixture
def clear():
    """Empties the caches of kernel blocks."""

    def now():
        for cached in (grams.gaussian_grams, grams.image_grams, grams.alignment_grams):
            cached.cache_clear()

    return now


@pytest.fixture
def published():
    """``published(name)``: the stored results of an experiment."""
    return lambda name: pd.read_csv(project_root() / "book" / "results" / f"{name}.csv")
