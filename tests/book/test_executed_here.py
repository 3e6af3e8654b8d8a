"""The book that `make book` executed on this machine says and shows what the committed one does.

A machine has other data sets than the one that published the book, often none.
"""

import base64
import io

import nbformat
import numpy as np
import pytest
from PIL import Image

from helpers import claims
from helpers.project import project_root

COMMITTED = project_root() / "book" / "chapters"
HERE = project_root() / "_build" / "book" / "chapters"
CHAPTERS = sorted(HERE.glob("*.ipynb"))

pytestmark = pytest.mark.skipif(not CHAPTERS, reason="`make book` has not run here")


def figures(path):
    """Grey levels, float, of each figure of an executed chapter."""
    outputs = (o for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", ()))
    files = (o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", ()))
    images = (Image.open(io.BytesIO(base64.b64decode(file))) for file in files)
    return [np.asarray(image.convert("L"), dtype=float) for image in images]


def test_the_ledger_is_the_committed_one():
    here, committed = claims.collect(HERE), claims.collect(COMMITTED)
    assert {name: record["verdict"] for name, record in here.items()} == {
        name: record["verdict"] for name, record in committed.items()
    }
    assert here == committed


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_figures_show_what_was_published(path):
    here, committed = figures(path), figures(COMMITTED / path.name)
    assert len(here) == len(committed)
    for number, (one, other) in enumerate(zip(here, committed, strict=True), 1):
        assert one.shape == other.shape, number
        # another font rendering changes edges; an empty panel or another picture changes much more
        assert abs(one - other).mean() < 2, number
        assert (one < 250).mean() > 0.005, f"figure {number} is blank"
