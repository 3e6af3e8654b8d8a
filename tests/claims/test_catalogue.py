"""The claims file."""

from pathlib import Path

import pytest

from helpers.claims import FIXED, ORIGINS, OURS, PAPERS, UNRECORDED, Claim, Reported, load

THE_BOOK = Path(__file__).resolve().parents[2] / "book" / "claims.yml"
# of these parts nobody has recorded yet where the statements come from; each change that looks into
# a part takes it out, here and in claims.yml
NOT_LOOKED_INTO: set[str] = set()
pytestmark = pytest.mark.usefixtures("book")


def test_load_gives_claims_by_id_in_order():
    loaded = load()
    assert list(loaded) == ["B1", "B2", "Y1"]
    assert loaded["B1"].paper_name == "Smith & Jones, 2030" and loaded["B1"].paper == "smith2030"
    assert loaded["Y1"].paper_name == "doe2031" and loaded["Y1"].chapter is None


def test_a_bare_list_of_claims_will_do(tmp_path):
    path = tmp_path / "list.yml"
    path.write_text(
        "- {id: A, part: I, paper: p, where: w, statement: s, test: t, origin: ours, "
        "rule_fixed: before}"
    )
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
        ("origin: inferred", "origin: hearsay", "origin is 'hearsay': expected one of"),
        ("fixed: after a", "fixed: later than a", "rule_fixed is 'later than a pilot': expected"),
        ("on $S < 1$", "on $S < 1", "claim B1: a '\\$' without its partner in source"),
        # nobody says so, or nobody but us
        ("origin: inferred", "", "claim B2: missing or empty: origin .only the parts"),
        ("    rule_fixed: before", "", "claim B1: missing or empty: rule_fixed .only the parts"),
        ('source: "a reviewer, on $S < 1$"', "", "claim B1: origin is 'second-hand': source must"),
        ("origin: inferred", "origin: code", "claim B2: origin is 'code': source must name"),
        ("origin: second-hand", "origin: ours", "claim B1: a source makes no sense with .* 'ours'"),
        ("test: score", "source: x\n    test: score", "claim Y1: a source makes no sense with"),
        ("unrecorded: [II]", "", "claim Y1: missing or empty: origin, rule_fixed"),
        ("unrecorded: [II]", "unrecorded: [I]", "claim Y1: missing or empty: origin, rule_fixed"),
        ("unrecorded: [II]", "unrecorded: II", "'unrecorded' must list parts"),
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


def test_a_claim_says_where_it_comes_from_and_when_its_rule_was_fixed():
    loaded = load()
    first, second, last = loaded["B1"], loaded["B2"], loaded["Y1"]
    assert (first.origin, first.source, first.rule_fixed) == (
        ORIGINS[1], "a reviewer, on $S < 1$", FIXED[0],
    )  # fmt: skip
    assert first.told == ["second-hand: a reviewer, on $S < 1$", "rule fixed before the result"]
    assert second.told == ["inferred by us, not read", "rule fixed after a pilot"]
    assert last.origin == last.source == last.rule_fixed == "" and last.told == []


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_claim_is_one_of_the_papers_or_ours_never_both(origin):
    claim = Claim("B1", "I", "p", "s", "our control", "t", origin=origin, paper_name="Smith 2030")
    assert claim.whose == (OURS if origin == "ours" else PAPERS)
    assert claim.place.startswith("ours, beside") == (origin == "ours")
    assert len(claim.told) == 1


def test_who_says_so_is_recorded_for_every_claim_of_the_parts_that_were_looked_into():
    known = load(THE_BOOK).values()
    assert {claim.part for claim in known if claim.whose == UNRECORDED} == NOT_LOOKED_INTO
    looked_into = [claim for claim in known if claim.part not in NOT_LOOKED_INTO]
    assert {claim.part for claim in looked_into} == {"I", "II", "III", "IV", "V"}
    assert not [claim.id for claim in looked_into if not claim.rule_fixed]
    # what we read, inferred or were told: from whom or from what
    assert not [c.id for c in looked_into if c.whose == PAPERS and not c.source]


def test_what_calls_itself_ours_is_counted_as_ours():
    known = load(THE_BOOK).values()
    ours = {claim.id for claim in known if claim.where.startswith("our ")}
    assert ours <= {claim.id for claim in known if claim.whose == OURS}


REPORTED = "reported:\n  B1: {number: '0.5', known: second-hand, source: a note}\nclaims:"


def test_what_a_paper_reports_stands_beside_its_claim(book):
    path = book / "claims.yml"
    plain = load()["B1"]
    path.write_text(path.read_text().replace("claims:", REPORTED))
    found = load()
    assert found["B1"].reported == Reported("0.5", "second-hand", "a note")
    assert found["B1"].reported.told == "second-hand: a note"
    assert found["B2"].reported is None
    # executed copies show neither: they need not be made again for it
    assert repr(found["B1"]) == repr(plain)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("B1: {", "B9: {", "reported for claim B9: there is no such claim"),
        ("known: second-hand", "known: inferred", "known is 'inferred': expected one of read"),
        ("number: '0.5', ", "", "B1: expected number, known and source"),
        ("source: a note", "source: ''", "B1: expected number, known and source"),
        ("{number: '0.5', known: second-hand, source: a note}", "0.5", "B1: expected number"),
        ("B1: {", "B2: {", "the claim is ours: no paper reports a number for it"),
    ],
)
def test_a_number_that_nobody_is_known_to_report_is_refused(book, old, new, message):
    path = book / "claims.yml"
    ours = path.read_text().replace("origin: inferred", "origin: ours")
    path.write_text(ours.replace("claims:", REPORTED.replace(old, new)))
    with pytest.raises(ValueError, match=message):
        load()


def test_the_papers_numbers_in_the_book_say_how_they_are_known():
    found = {c.id: c.reported for c in load(THE_BOOK).values() if c.reported}
    assert len(found) >= 10
    assert {one.known for one in found.values()} == {"read", "second-hand", "code"}
    # nobody has read the third paper's tables
    assert all(one.known != "read" for claim, one in found.items() if claim.startswith("M"))
