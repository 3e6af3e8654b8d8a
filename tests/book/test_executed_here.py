"""The book that `make book` executed on this machine says and shows what the committed one does.

A machine has other data sets than the one that published the book, often none.
"""

import base64
import io
import json
import re

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
    images = (Image.open(io.BytesIO(base64.b64decode(file))).convert("RGBA") for file in files)
    on_paper = (Image.alpha_composite(Image.new("RGBA", one.size, "white"), one) for one in images)
    return [np.asarray(image.convert("L"), dtype=float) for image in on_paper]


def drawings(path):
    """Words of each figure of an executed chapter that is drawn in lines, and how many lines."""
    outputs = (o for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", ()))
    texts = [o["data"]["image/svg+xml"] for o in outputs if "image/svg+xml" in o.get("data", ())]
    return [(re.findall(r"<!-- (.*?) -->", one), one.count("<path")) for one in texts]


def unrounded(record):
    """What is recorded of a verdict, without what another processor rounds otherwise."""
    plain = json.dumps({k: v for k, v in record.items() if k != "interval"}, sort_keys=True)
    return re.sub(r"\b\d(\.\d+)?e-(0[89]|[1-9]\d)\b", "rounding", plain)


def test_the_ledger_is_the_committed_one():
    here, committed = claims.collect(HERE), claims.collect(COMMITTED)
    assert {name: record["verdict"] for name, record in here.items()} == {
        name: record["verdict"] for name, record in committed.items()
    }
    for name, record in here.items():
        assert unrounded(record) == unrounded(committed[name]), name
        ends, published = record.get("interval"), committed[name].get("interval")
        assert ends == pytest.approx(published, rel=1e-6) if ends else ends == published, name


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_figures_show_what_was_published(path):
    here, committed = figures(path), figures(COMMITTED / path.name)
    assert len(here) == len(committed)
    for number, (one, other) in enumerate(zip(here, committed, strict=True), 1):
        assert one.shape == other.shape, number
        # another font rendering changes edges; an empty panel or another picture changes much more
        assert abs(one - other).mean() < 2, number
        assert (one < 250).mean() > 0.005, f"figure {number} is blank"
    for (words, lines), (told, drawn) in zip(
        drawings(path), drawings(COMMITTED / path.name), strict=True
    ):
        assert lines and abs(lines - drawn) <= 0.2 * drawn
        assert len(set(words) ^ set(told)) <= 0.2 * len(told), path.stem
