"""Exit codes over every ending, as a table."""

from itertools import product
from typing import Any, get_args

import pytest

from madflow.cli.exits import exit_code
from madflow.core.proposal import Decision, Proposal, TallyReport
from madflow.core.stopping import StopReason

TALLY = TallyReport(**{name: 0 for name in TallyReport.model_fields if name != "scores"})


def ended(result: Any, reason: Any, **content: Any) -> Proposal:
    decision = Decision(
        rule="majority",
        threshold=">1/2",
        quorum=1,
        tie="none",
        result=result,
        tally=TALLY,
        stop_reason=reason,
        rounds=1,
    )
    plain = dict.fromkeys(("proposal_id", "task_id", "proposer", "rule", "created_at", "expires_at"), "x")
    hashes = {"subject_digest": "0" * 64, "digest": "0" * 64}
    return Proposal(**plain, **hashes, protocol="review", content=content, panel=(), votes=(), decision=decision)


@pytest.mark.parametrize(
    ("result", "reason"),
    list(product(("approved", "rejected", "no_decision", "quorum_failed"), get_args(StopReason))),
)
def test_every_ending(result: str, reason: str) -> None:
    """Would catch an approval that does not count because the budget ended the debate, and the reverse."""
    expected = 3
    if result == "approved":
        expected = 0
    elif result != "rejected" and reason == "budget_exceeded":
        expected = 4
    assert exit_code(ended(result, reason)) == expected


def test_fail_on_a_verdict() -> None:
    asked = ended("approved", "converged", verdict="request_changes")
    assert exit_code(asked) == 0
    assert exit_code(asked, "request_changes") == 3
    assert exit_code(ended("approved", "converged", verdict="approve"), "request_changes") == 0
    assert exit_code(ended("no_decision", "budget_exceeded", verdict=None), "request_changes") == 4
