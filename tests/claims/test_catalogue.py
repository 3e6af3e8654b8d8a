"""The claims file."""

import pytest

from helpers.claims import FIXED, ORIGINS, load

pytestmark = pytest.mark.usefixtures("book")


def test_load_gives_claims_by_id_in_order():
    loaded = load()
    assert list(loaded) == ["B1", "B2", "Y1"]
    assert loaded["B1"].paper_name == "Smith & Jones, 2030" and loaded["B1"].paper == "smith2030"
    assert loaded["Y1"].paper_name == "doe2031" and loaded["Y1"].chapter is None


def test_a_bare_list_of_claims_will_do(tmp_path):
    path = tmp_path / "list.yml"
    path.write_text("- {id: A, part: I, paper: p, where: w, statement: s, test: t}")
    assert load(path)["A"].statement == "s"


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("id: B2", "id: B1", "claim B1: the id is given twice"),
        ("id: B2", "id: 2", "claim 2: an id is a letter"),
        ("id: B2", 'id: "B 2"', "claim B 2: an id is a letter"),
        ("test: it does", "", "claim B2: missing or empty: test"),
        ("test: it does", "test:", "claim B2: missing or empty: test"),
        ("test: it does", "test: it does\n    tset: 1", r"claim B2: unknown keys \['tset'\]"),
        (r"costs \$5", "costs $5", "claim B2: a '\\$' without its partner in statement"),
        ("papers:\n  smith2030", "papers:\n  - smith2030", "'papers' must map"),
        (
            "test: it does",
            "test: it does\n    origin: hearsay",
            "origin is 'hearsay': expected one of",
        ),
        ("test: it does", "test: x\n    rule_fixed: later", "rule_fixed is 'later': expected one"),
        ("claims:", "clams:", "expected a list of claims"),
        ("claims:", "claims: {", "is not valid YAML"),
        ("  - id: B1", "  - hello\n  - id: B1", "claim 1: expected a mapping, found 'hello'"),
    ],
)
def test_mistakes_in_the_file_are_named(book, old, new, message):
    before = (book / "claims.yml").read_text()
    text = before.replace(old, new, 1)
    assert text != before
    (book / "claims.yml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load()
    assert "claims.yml" in str(caught.value)


def test_chapters_are_compared_with_the_known_ones():
    load(chapters=["02-stability", "03-features"])
    with pytest.raises(ValueError, match="claim B2: unknown chapter '03-features'"):
        load(chapters=["02-stability"])


def test_a_claim_says_where_it_comes_from_and_when_its_rule_was_fixed(book):
    text = (book / "claims.yml").read_text()
    fields = "\n    title: It costs\n    origin: second-hand\n    rule_fixed: after a pilot"
    (book / "claims.yml").write_text(text.replace("test: it does", "test: it does" + fields))
    loaded = load()
    claim = loaded["B2"]
    assert (claim.title, claim.origin, claim.rule_fixed) == ("It costs", ORIGINS[1], FIXED[1])
    assert loaded["B1"].title == loaded["B1"].origin == loaded["B1"].rule_fixed == ""
