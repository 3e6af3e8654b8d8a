"""What the papers claim, by which rule it is judged, and how the verdict is shown.

`catalogue` reads the claims, `judgement` holds the five verdicts and the decorator of rules,
`part1`, `part2` and so on the rules of the parts, `cards` shows a verdict, `evidence` tells which
results and which figure belong to one, `ledger` gathers all. None needs torch.
"""

# fmt: off
from helpers.claims.cards import (
    MIME, NO_EVIDENCE, Verdict, card, card_html, not_tested, verdict, verdict_class)
from helpers.claims.catalogue import (
    FIXED, ORIGINS, OURS, PAPERS, REPORTED, UNRECORDED, Claim, Reported, known, load, maths_html)
from helpers.claims.evidence import Evidence, evidence
from helpers.claims.judgement import RULES, VERDICTS, Judgement, rule
from helpers.claims.ledger import (
    NO_VERDICT, TO_COME, collect, counts, ledger, problems, rule_of)
