"""How a review's claims become findings: by the rule that the debate was opened with.

A review of the rule `same` tells of it in `content.merge`: how many claims became how many findings, and how many found
no room to be compared. One of the rule `overlap` tells nothing: ledgers that were written without a rule fold to the
bytes they had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..findings import Finding, Raised, merge
from ..merging import Compared, compare
from ..state import Closed, State

__all__ = ["merge_record", "merged_claims"]


def merged_claims(state: State, found: Closed, raised: Sequence[Raised]) -> tuple[Finding, ...]:
    """The findings that the claims of a closed stage come to."""
    if state.config.merge.rule == "overlap":
        return merge(raised)
    return _compared(state, found, raised).findings()


def merge_record(state: State, found: Closed, raised: Sequence[Raised], findings: int) -> dict[str, Any]:
    """What the review's content says of the merge; empty where there is nothing to say."""
    if state.config.merge.rule == "overlap":
        return {}
    beyond = _compared(state, found, raised).beyond
    return {"rule": "same", "claims": len(raised), "findings": findings, "uncompared": beyond}


def _compared(state: State, found: Closed, raised: Sequence[Raised]) -> Compared:
    key = ("compared", found.stage.number)
    if key not in state.memo:
        state.memo[key] = compare(raised)
    compared: Compared = state.memo[key]
    return compared
