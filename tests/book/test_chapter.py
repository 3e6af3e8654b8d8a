"""The settings of a chapter, the numbers it promises, the table of its profiles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.book.chapter import (
    ChapterRun,
    check,
    plus_minus,
    profile_table,
    put,
    setup,
    with_interval,
)

finite = st.floats(-1e6, 1e6)


def test_defaults_are_a_smoke_run_without_a_store():
    run = setup()
    assert (run.profile, run.seed, run.data_dir, run.store) == ("smoke", 0, None, None)
    assert run.device in ("cpu", "cuda")
    assert run.context == {"device": run.device, "data_dir": None}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"profile": "laptob"}, "'laptob'.*smoke, laptop, paper"),
        ({"profile": None}, "unknown profile None"),
        ({"device": "gpu"}, "'gpu'.*cuda"),
        ({"device": "cuda:x"}, "'cuda:x'"),
        ({"device": None}, "unknown device None"),
        ({"device": "cuda:99"}, "'cuda:99' asked for.*CUDA device"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 1.0}, "seed 1.0"),
        ({"seed": True}, "seed True"),
        ({"seed": "0"}, "seed '0'"),
        ({"data_dir": "/no/such/folder"}, "'/no/such/folder' is not a folder"),
        ({"data_dir": 3}, "data_dir 3"),
    ],
)
def test_wrong_settings_are_named_in_one_paragraph(settings, words):
    with pytest.raises(ValueError, match=words) as error:
        setup(**settings)
    assert "\n" not in str(error.value)


def test_data_dir_is_kept_and_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert setup(data_dir=str(tmp_path)).data_dir == str(tmp_path)
    assert setup(data_dir="~").data_dir == str(tmp_path)


@given(value=finite, expect=finite, within=st.floats(0, 1e6))
def test_check_holds_exactly_inside_the_range(value, expect, within):
    assert check("x", value, expect=expect, within=within) is (abs(value - expect) <= within)


def test_the_line_of_a_check_does_not_depend_on_the_value_inside(capsys):
    for value in (0.95, np.float32(1.05), torch.tensor(1.0), np.float64(1)):
        assert check("ratio", value, expect=1, within=0.1)
    assert set(capsys.readouterr().out.splitlines()) == {"ratio: expected 1 +- 0.1: holds"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.2, np.float64("nan")])
def test_a_check_outside_its_range_says_what_it_got(value, capsys):
    assert check("ratio", value, expect=1, within=0.1) is False
    assert capsys.readouterr().out == f"ratio: expected 1 +- 0.1: FAILS, got {float(value):.6g}\n"


@pytest.mark.parametrize(("expect", "within"), [(1, -0.1), (math.nan, 1), (1, math.inf)])
def test_a_range_that_is_none_is_an_error(expect, within):
    with pytest.raises(ValueError, match="no range"):
        check("x", 1, expect=expect, within=within)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float64(0.47), "0.47"),
        (np.int64(3), "3"),
        (torch.tensor(2.5), "2.5"),
        (7, "7"),
        (0.1, "0.1"),
        ("0.3 to 0.5", "0.3 to 0.5"),
        (np.str_("word"), "word"),
        ("20,000", "'20,000'"),  # as it stands it reads as two numbers
        ("[1, 2]", "'[1, 2]'"),
    ],
)
def test_put_writes_plain_numbers_for_the_prose(value, text, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **more: shown.append((data, more)))
    put("name", value)
    ((data, more),) = shown
    assert data == {"application/papermill.record/text/plain": text}
    assert more["metadata"]["scrapbook"]["name"] == "name"


def test_the_table_marks_the_current_profile_and_escapes_text():
    table = ChapterRun("laptop", "cpu", 0, None).sizes(
        {"k < N": {"smoke": 10, "laptop": 100_000, "paper": [1, 2]}, "alpha": {"laptop": 0.25}}
    )
    page = table._repr_html_()
    assert "k &lt; N" in page and "100\u202f000" in page and "1, 2" in page
    assert page.count('class="this-run"') == 3
    assert "laptop (this run)" in page and "in the paper" not in page


def test_the_papers_own_numbers_get_a_column_when_given():
    table = profile_table({"N": {"smoke": 1, "original": 3}})
    assert table.columns == ("smoke", "laptop", "paper", "original")
    assert repr(table).splitlines()[0].split() == ["smoke", "laptop", "paper", "in", "the", "paper"]


def test_an_unknown_column_is_an_error():
    with pytest.raises(ValueError, match="'N' names .'large'."):
        profile_table({"N": {"large": 3}})


def test_an_interval_in_words_has_one_format_for_mean_and_ends():
    assert with_interval((1.0, -2.04, 3.0)) == "1.0 [-2.0, 3.0]"
    assert with_interval((1.0, -2.04, 3.0), "{:+.2f}", " %") == "+1.00 % [-2.04, +3.00]"
    assert with_interval((-0.01, -0.04, 0.2), "{:z.1f}") == "0.0 [0.0, 0.2]"


def test_without_an_interval_only_the_mean_is_said():
    assert with_interval((1.0, math.nan, math.nan), unit=" points") == "1.0 points"
    assert plus_minus(0.25, math.nan) == "0.250"
    assert plus_minus(-0.25, 0.5, "{:.1f}") == "-0.2 ± 0.5"
