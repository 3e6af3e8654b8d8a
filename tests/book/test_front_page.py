"""The front page shows what is stored: its figure, verdicts, numbers and times."""

import csv
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from helpers import claims

BOOK = Path(__file__).resolve().parents[2] / "book"
TABLE = BOOK / "results" / "rare_patterns.csv"


@pytest.fixture(scope="module")
def load():
    """A module of the book's directives by its name."""
    sys.path.insert(0, str(BOOK / "_ext"))
    yield importlib.import_module
    sys.path.remove(str(BOOK / "_ext"))


@pytest.fixture
def slider(load):
    return load("front_slider")


@pytest.fixture
def front(load):
    return load("front_page")


def table_of(path, change):
    """A copy of the stored table, each row as `change` leaves it, without those it drops."""
    with TABLE.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        rows = [new for row in reader if (new := change(dict(row))) is not None]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, reader.fieldnames)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_figure_shows_the_rows_that_are_stored(slider, tmp_path):
    measured = slider.read(TABLE)
    three = measured.stops.index(3)
    with TABLE.open(encoding="utf-8") as stream:
        own = [
            float(row["score"])
            for row in csv.DictReader(stream)
            if all(row[key] == value for key, value in slider.SETTING.items())
            and (row["pattern"], row["spurious"]) == ("R3", "3")
        ]
    assert measured.networks == len(own) == 5
    assert measured.courses["R3"].mean[three] == pytest.approx(sum(own) / 5)
    assert (measured.courses["R3"].low[three], measured.courses["R3"].high[three]) == (
        min(own),
        max(own),
    )

    def halved(row):
        return row | {"score": str(float(row["score"]) / 2)}

    other = slider.read(table_of(tmp_path / "half.csv", halved))
    assert other.courses["R3"].mean[three] == pytest.approx(sum(own) / 10)
    assert slider.drawn(other) != slider.drawn(measured)


def test_rows_of_another_setting_are_none_of_the_figure_s(slider, tmp_path):
    whole = slider.drawn(slider.read(TABLE))

    def spoilt(row):
        own = all(row[key] == value for key, value in slider.SETTING.items())
        return row if own else row | {"score": "0.5", "clean_accuracy": "0.5"}

    assert slider.drawn(slider.read(table_of(tmp_path / "other.csv", spoilt))) == whole


def test_a_table_without_a_pattern_is_refused_by_name(slider, tmp_path):
    lacking = table_of(tmp_path / "no.csv", lambda row: None if row["pattern"] == "S3" else row)
    with pytest.raises(ValueError, match="lacks rows of S3"):
        slider.read(lacking)


def test_the_drawing_holds_every_stop_and_stands_still_without_a_script(slider):
    measured = slider.read(TABLE)
    text = slider.drawn(measured)
    states = json.loads(re.search(r"const states = (\[.*?\]), box", text)[1])
    assert [len(state["ys"]) for state in states] == [3] * len(measured.stops)
    # the still and the start of the slider are the same stop
    start = int(re.search(r'value="(\d+)"', text)[1])
    assert states[start]["says"] in text.split("<script>")[0]
    assert "<label hidden>" in text
    xs = [state["x"] for state in states]
    assert xs == sorted(set(xs))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_larger_share_stands_higher_and_inside(slider, share):
    measured = slider.read(TABLE)
    _, y = slider.place(measured, 0, share)
    assert slider.TOP <= y <= slider.HIGH - slider.BOTTOM
    assert y >= slider.place(measured, 0, 1.0)[1]


def test_the_tally_counts_as_the_ledger_does_and_never_over_both(front):
    rows = claims.ledger(claims.load(), claims.collect(BOOK / "chapters"))
    papers, ours = front.tally(rows).split("Ours: controls")
    for text, own in ((papers, False), (ours, True)):
        for verdict in claims.VERDICTS:
            shown = sum(map(int, re.findall(rf"title='(\d+) {verdict}'", text)))
            counted = [r for r in rows if r["verdict"] == verdict]
            assert shown == sum((r["whose"] == claims.OURS) == own for r in counted), verdict


def test_a_gap_is_training_less_test_at_the_last_epoch(front, tmp_path):
    path = tmp_path / "minority.csv"
    path.write_text(
        "setting,epoch,train_1,test_1\nsky,1,0.1,0.9\nsky,2,1.0,0.5\nsky,2,1.0,0.7\n"
        "faces,9,1.0,0.0\n"
    )
    assert front.group_gap(path, 1) == pytest.approx(0.4)
    with pytest.raises(ValueError, match="no row of shirts"):
        front.group_gap(path, 1, "shirts")


def test_reading_times_count_prose_and_figures_and_no_code(front):
    import nbformat

    v4 = nbformat.v4
    prose = v4.new_markdown_cell(" ".join(["word"] * front.WORDS_A_MINUTE))
    code = v4.new_code_cell("x = 1\n" * 500)
    drawn = v4.new_code_cell("", metadata={"mystnb": {"figure": {"name": "f"}}})
    assert front.reading_minutes(v4.new_notebook(cells=[prose, code])) == pytest.approx(1)
    assert front.reading_minutes(v4.new_notebook(cells=[drawn])) == pytest.approx(front.FIGURE)
    assert [front.in_words(m) for m in (2, 41, 119, 150)] == [
        "5 minutes", "40 minutes", "120 minutes", "2.5 hours",
    ]  # fmt: skip


def test_the_front_page_types_no_measured_number():
    """Its numbers are glued or generated: what stands in its words is a size or a definition."""
    text = (BOOK / "intro.md").read_text("utf8").split("## What was read")[0]
    text = re.sub(r"\{[a-z:-]+\}`[^`]*`", "", text)
    typed = set(re.findall(r"(?<![\w.])\d+\.\d+", text))
    assert typed <= {"0.5", "0.1"}  # chance, and the threshold of the score
    assert "State" not in text


def test_the_rendered_front_page_has_a_picture_verdicts_and_routes(site):
    text = (site / "intro.html").read_text("utf8")
    assert re.search(r"<img src='_images/fig-frames-[0-9a-f]{8}\.(png|svg)'", text)
    assert text.count("<figure") == 2 and text.count("caption-number") == 2
    badges = re.findall(r"class='front-verdict[^>]*#claim-(\w+)'", text)
    assert len(set(badges)) >= 10
    for claim in set(badges):
        assert f'id="claim-{claim}"' in (
            site / re.search(rf"href='([^'#]*)#claim-{claim}'", text)[1]
        ).read_text("utf8")
    for route in ("curious", "a theorist", "a practitioner", "a replicator"):
        assert f"<strong>{route}</strong>" in text


def test_the_keyboard_moves_the_slider_and_the_still_stays_without_javascript(address, chromium):
    page = chromium.new_page()
    page.goto(f"{address}/intro.html")
    slider = page.locator("#odd-images input")
    before, said = slider.get_attribute("aria-valuetext"), page.locator("#odd-images output")
    words = said.text_content()
    slider.focus()
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") != before
    assert said.text_content() != words and "5,000" in said.text_content()
    page.close()
    context = chromium.new_context(java_script_enabled=False)
    still = context.new_page()
    still.goto(f"{address}/intro.html")
    assert still.locator("#odd-images output").text_content() == words
    assert not still.locator("#odd-images label").is_visible()
    assert still.locator("#odd-images svg").is_visible()
    context.close()
