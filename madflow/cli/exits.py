"""What the exit codes mean, in one place.

0  done: approved, whatever the stop reason; a review that was decided, whatever its verdict
1  an error
2  usage: whatever can be known before the first call
3  undecided, pending, rejected or refused; with `review --fail-on request_changes` also that verdict
4  undecided because the budget ran out
5  a commit that was compensated, or is in doubt
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..core.proposal import Proposal

__all__ = ["DONE", "ERROR", "OUT_OF_BUDGET", "UNDECIDED", "UNSETTLED", "USAGE", "exit_code"]

DONE: Final = 0
ERROR: Final = 1
USAGE: Final = 2
UNDECIDED: Final = 3
OUT_OF_BUDGET: Final = 4
UNSETTLED: Final = 5


def exit_code(proposal: Proposal, fail_on: str = "") -> int:
    """The exit code of a debate that landed. `fail_on`: a review's verdict that counts as undecided."""
    decision = proposal.decision
    if decision.result == "approved":
        return UNDECIDED if fail_on and proposal.content.get("verdict") == fail_on else DONE
    undecided = decision.result in ("no_decision", "quorum_failed")
    return OUT_OF_BUDGET if undecided and decision.stop_reason == "budget_exceeded" else UNDECIDED
