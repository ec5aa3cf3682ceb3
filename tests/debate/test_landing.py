"""What is held back for the final vote is there for every seat."""

from pathlib import Path

from madflow.core.limits import Limits
from madflow.core.messages import Agent
from madflow.core.proposal import Proposal
from madflow.debate.run import run
from madflow.debate.setup import Debate
from madflow.errors import TransientModelError
from madflow.ports import TurnView
from madflow.testing.clock import ManualClock
from madflow.testing.models import ScriptedModel


async def test_a_retry_in_the_landing_does_not_spend_another_seats_ballot(tmp_path: Path) -> None:
    """Warm-first: the first seat's retry is reserved while the others wait, and must not take their place."""
    failed = False

    def reply(view: TurnView) -> object:
        nonlocal failed
        if view.stage == "draft":
            return {"summary": f"plan of {view.seat.agent}", "plan": []}
        assert view.stage == "ballot", "two drafts would be selected from, if the budget allowed it"
        if view.seat.agent == "a" and not failed:
            failed = True
            return TransientModelError("server_error", "once")
        return {"decision": "approve"}

    model = ScriptedModel(reply, usage="full")
    outcome = await run(
        Debate(
            task="Which plan?",
            agents=[Agent(id=name, role="proposer", model=model, max_output_tokens=100) for name in "ab"],
            protocol="proposal",
            warm_first=True,
            budget=Limits(calls=4),
            ledger=tmp_path / "l.db",
        ),
        clock=ManualClock(),
    )
    assert isinstance(outcome, Proposal)
    assert outcome.decision.stop_reason == "budget_exceeded"
    assert {vote.agent: (vote.decision, vote.notes) for vote in outcome.votes} == {
        "a": ("missing", "budget_exceeded: calls"),
        "b": ("approve", ""),
    }
