"""Figures with sliders: what their script says."""

import json
import re

import pytest

from helpers.book.sliders import Interactive


def test_the_script_holds_the_figure_and_cannot_be_closed_by_it():
    tricky = Interactive("it", [{"name": "</script>"}], {}, {}, {}, b"", 'less < "more"')
    text = tricky._repr_html_()
    assert text.count("</script>") == 1
    held = re.search(r"\} = (\{.*\});\n", text)[1]
    assert json.loads(held)["data"] == tricky.data
    assert 'alt="less &lt; &quot;more&quot;">' in text


def test_no_number_is_missing_from_a_figure():
    broken = Interactive("it", [{"y": [float("nan")]}], {}, {}, {}, b"", "A curve.")
    with pytest.raises(ValueError, match="JSON"):
        broken._repr_html_()


@pytest.mark.parametrize("name", ("", "Two", "two words", '"', "1st"))
def test_a_name_that_is_no_id_is_refused(name):
    with pytest.raises(ValueError, match="letters, digits and hyphens"):
        Interactive(name, [], {}, {}, {}, b"", "A curve.")


def test_a_figure_without_words_is_refused():
    with pytest.raises(ValueError, match="alt is empty"):
        Interactive("it", [], {}, {}, {}, b"", " ")
