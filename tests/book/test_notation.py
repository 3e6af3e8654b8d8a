"""Every symbol of every chapter stands in the tables of notation, in those of its part."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTATION = (ROOT / "book" / "notation.md").read_text("utf8")
CHAPTERS = sorted((ROOT / "notebooks").glob("*.md"))
PARTS = {"I": range(1, 8), "II": range(8, 15), "III": range(15, 20), "IV": range(20, 25)}
GREEK = set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho "
    "varrho sigma tau phi varphi chi psi omega ell Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi "
    "Omega".split()
)
MATHS = re.compile(
    r"\$\$(.+?)\$\$|(?<![\\$\w])\$(?!\s)((?:[^$\n]|\n(?!\s*\n))+?)(?<!\s)\$(?![\w$])", re.DOTALL
)
CODE = re.compile(r"^(`{3,})\{code-cell\}.*?^\1", re.DOTALL | re.MULTILINE)
ROLES = re.compile(r"\{[a-z:]+\}`[^`]*`|`[^`\n]*`")


def letters(formula: str) -> set[str]:
    """The letters of a formula that stand on the line: no words, no indices."""
    formula = re.sub(r"\\(text|mathrm|operatorname\*?|mathtt)\{[^{}]*\}", " ", formula)
    formula = re.sub(r"\\(begin|end)\{[a-z*]+\}(\{[^}]*\})?", " ", formula)
    for _ in range(3):  # braces in braces
        formula = re.sub(r"[_^]\s*\{[^{}]*\}", " ", formula)
    formula = re.sub(r"[_^]\s*(\\[A-Za-z]+|\S)", " ", formula)
    found = set(re.findall(r"\\[A-Za-z]+|[A-Za-z]", formula))
    return {one for one in found if one[0] != "\\" or one[1:] in GREEK}


def symbols(text: str) -> dict[str, str]:
    """Letters of all formulas of a text, each with the first formula that has it."""
    found: dict[str, str] = {}
    for match in MATHS.finditer(ROLES.sub(" ", CODE.sub(" ", text))):
        formula = match[1] or match[2]
        for letter in letters(formula):
            found.setdefault(letter, " ".join(formula.split()))
    return found


def listed() -> dict[str, set[str]]:
    """Letters of the first columns of the tables, by the first word of their heading."""
    tables = defaultdict(set)
    for section in NOTATION.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        name = title.removeprefix("Part ").partition(":")[0]
        for row in re.findall(r"^\| (.*?) \|", body, re.MULTILINE):
            tables[name] |= set(symbols(row))
    return tables


def part_of(chapter: Path) -> str:
    number = int(chapter.stem[:2])
    return next((part for part, numbers in PARTS.items() if number in numbers), "V")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_symbol_is_found(chapter):
    tables, part = listed(), part_of(chapter)
    known = tables["Throughout"] | tables[part]
    missing = {k: v for k, v in symbols(chapter.read_text("utf8")).items() if k not in known}
    assert not missing, f"not in notation.md (Throughout, Part {part}): {missing}"


def test_a_letter_of_two_meanings_is_in_the_last_table():
    """A letter that stands in the tables of three parts or more has changed its meaning."""
    tables = listed()
    often = {
        letter
        for letter in set().union(*tables.values()) - tables["Throughout"]
        if sum(letter in tables[part] for part in (*PARTS, "V")) >= 3
    }
    assert often - tables["Letters that change their meaning"] == set()


def test_what_is_read_off_a_formula():
    assert letters(r"\mathrm{Cov}(f(z_i^s, \theta^{*}_{-1}), g)") == {"f", "z", "\\theta", "g"}
    assert symbols("a `$b$` costs $5 and\n\nmore; $c_d$\n") == {"c": "c_d"}
    assert symbols("```{code-cell} ipython3\n$x$\n```\n$y$") == {"y": "y"}


def test_a_missing_symbol_would_be_noticed():
    assert "\\chi" not in listed()["I"] | listed()["Throughout"]
    assert "\\chi" in symbols("Here $\\chi_2(q)$ is new.")
