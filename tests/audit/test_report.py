"""Reports: a mapping that prints, becomes a table, and a page without anything from elsewhere."""

import json
import math
import re

import pytest

from helpers.audit import Finding, Report
from helpers.audit.report import FLAG, not_asked

FOUND = [
    Finding("flip_share", 0.9, 0.85, 0.93, "It <flips> & fails.", "at ½: +0.5", "linear", FLAG),
    Finding("knee", math.inf, 12.0, math.inf, "Never."),
    not_asked("spurious_score", "not given: pattern"),
]


@pytest.fixture
def report():
    return Report("data", "60 samples", FOUND)


def test_it_is_a_mapping_in_the_order_of_the_findings(report):
    assert list(report) == ["flip_share", "knee", "spurious_score"]
    assert report["flip_share"].low == 0.85
    assert [f.name for f in report.flagged] == ["flip_share"]


def test_a_name_that_is_not_there_is_told_what_is(report):
    with pytest.raises(KeyError, match="it has flip_share, knee, spurious_score"):
        report["worst_group"]


def test_it_prints_every_sentence(report):
    text = str(report)
    assert all(f.says in text for f in FOUND)
    assert "0.9 [0.85, 0.93]" in text and "∞ [12, ∞]" in text


def test_the_table_has_a_row_a_finding(report):
    table = report.table()
    assert table.loc["flip_share", "value"] == 0.9
    assert table["state"].tolist() == ["flagged", "open", "not asked"]


def test_the_page_needs_nothing_from_elsewhere_and_escapes(report, tmp_path):
    page = report.html(tmp_path / "audit.html")
    assert (tmp_path / "audit.html").read_text(encoding="utf-8") == page
    assert not re.search(r"""(?:src|href)\s*=|https?://|@import""", page)
    assert "It &lt;flips&gt; &amp; fails." in page
    numbers = json.loads(re.search(r'id="findings">(.*?)</script>', page).group(1))
    assert numbers["knee"] == {
        "value": "inf", "low": 12.0, "high": "inf", "state": "open", "detail": {}
    }  # fmt: skip
    assert numbers["spurious_score"]["value"] is None


@pytest.mark.parametrize("value", [-3.0, 0.0, 0.2, 1.0, 12_345.6, math.inf])
def test_a_bar_stays_inside_its_picture(value):
    page = Report("data", "", [Finding("knee", value, value, value)]).html()
    places = [float(x) for x in re.findall(r'\b(?:cx|x1|x2|x)="([^"]+)"', page)]
    assert all(0 <= x <= 400 for x in places)


def test_two_findings_of_one_name_and_unknown_states_are_refused():
    with pytest.raises(ValueError, match="one name"):
        Report("data", "", [FOUND[0], FOUND[0]])
    with pytest.raises(ValueError, match="state is 'maybe'"):
        Finding("knee", state="maybe")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(999.4, "999"), (999.5, "1,000"), (999.7, "1,000"), (-999.7, "-1,000"), (99_999.0, "99,999"),
     (0.99951, "1"), (12.34, "12.3"), (math.inf, "∞")],
)  # fmt: skip
def test_numbers_have_three_digits_and_ordinary_ones_no_exponent(value, shown):
    assert Finding("knee", value).interval == shown
