"""The rules of Part V: what ties the four papers together (claims of ours, prefix S).

Rows are those that a chapter computes, or of the experiments of the same part.
"""

# fmt: off
from helpers.claims.part5.identities import (
    accounts, apart, further_direction, identity, leaving_out, one_equation, sensitivity)
