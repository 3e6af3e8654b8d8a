"""Formulas are typeset when the book is built: readable text, MathML, and no fault goes unseen."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from tests.book.extensions import extension

ROOT = Path(__file__).resolve().parents[2]
typeset = extension("typeset")


@pytest.fixture(scope="module")
def setter():
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    macros = config["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    return typeset.Typesetter(Path(package.origin).parent / "static" / "mathjax", macros)


def mathml(made: str) -> str:
    return re.search(r"<math.*</math>", made)[0]


def test_a_formula_has_glyphs_and_mathml(setter):
    made = setter.formula(r"\frac{x}{2}", True)
    assert made.startswith("<mjx-container") and 'display="true"' in made
    assert "<mfrac><mi>x</mi><mn>2</mn></mfrac>" in mathml(made)
    assert "mjx-c1D465" in made  # an italic x, drawn by the style


def test_macros_of_the_book_are_known(setter):
    assert '<mi mathvariant="double-struck">E</mi>' in mathml(setter.formula(r"\E x", False))


def test_text_of_a_page_is_typeset_and_code_is_not(setter):
    page = (
        r'<p title="\(a\)">so \(x &lt; y\), and</p><div class="math">\[z\]</div>'
        r"<pre>\(raw\)</pre><code>\(code\)</code><script>'\(s\)'</script>"
    )
    made, wrong = setter.page(page)
    assert wrong == [] and made.count("<mjx-container") == 2
    assert "<mo>&lt;</mo>" in made
    for kept in (r'title="\(a\)"', r"<pre>\(raw\)</pre>", r"<code>\(code\)</code>", r"'\(s\)'"):
        assert kept in made


def test_a_page_that_is_typeset_stays_as_it_is(setter):
    once, _ = setter.page(r"<p>\(x\)</p>")
    assert setter.page(once) == (once, [])


@pytest.mark.parametrize("tex", [r"\nosuchmacro", r"\frac{1}{", r"x^2^3"])
def test_what_cannot_be_read_is_told_and_left(setter, tex):
    with pytest.raises(typeset.BadFormula):
        setter.formula(tex, False)
    page = rf"<p>\({tex}\)</p>"
    made, wrong = setter.page(page)
    assert made == page and len(wrong) == 1 and tex in wrong[0]


def test_the_style_has_the_glyphs_in_use_and_the_common_fonts(setter):
    setter.formula(r"\Re", False)
    style = setter.css()
    assert ".mjx-c211C" in style and 'url("FONTS' not in style
    assert style.count("data:font/woff;base64,") == len(typeset.EMBEDDED)
    assert 'url("mathjax/MathJax_AMS-Regular.woff")' in style
