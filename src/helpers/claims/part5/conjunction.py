"""Claims all of whose parts must hold."""

from dataclasses import dataclass

from helpers.claims.judgement import NOT_REPRODUCED, Judgement


@dataclass(frozen=True)
class Conjunction(Judgement):
    """A judgement of parts that are one claim: rows that exclude one of them exclude the claim.

    Elsewhere the other parts would make it hold *partly*; here they do so only where a part is left
    undecided.
    """

    @property
    def verdict(self) -> str:
        """As of any judgement, but where a part is excluded."""
        if self.excluded and not all(self.checks.values()):
            return NOT_REPRODUCED
        return super().verdict
