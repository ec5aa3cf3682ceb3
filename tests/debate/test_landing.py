"""What is held back for the final vote is there for every seat."""

from pathlib import Path

from madflow.core.limits import Limits
from madflow.core.messages import Agent
from madflow.core.proposal import Proposal
from madflow.debate.run import run
from madflow.debate.setup import Debate
from madflow.errors import TransientModelError
from madflow.ports import ModelReply, ModelRequest, TurnView
from madflow.testing.clock import ManualClock
from madflow.testing.models import ScriptedModel


async def test_a_retry_in_the_landing_does_not_spend_another_seats_ballot(tmp_path: Path) -> None:
    """Warm-first: the first seat's retry is reserved while the others wait, and must not take their place."""
    failed = False

    async def reply(view: TurnView) -> dict[str, object]:
        nonlocal failed
        if view.stage == "draft":
            return {"summary": f"plan of {view.seat.agent}", "plan": []}
        assert view.stage == "ballot", "two drafts would be selected from, if the budget allowed it"
        if view.seat.agent == "a" and not failed:
            failed = True
            raise TransientModelError("server_error", "before its first token")
        return {"decision": "approve"}

    outcome = await run(
        Debate(
            task="Which plan?",
            agents=[Agent(id=name, role="proposer", model=reply) for name in "ab"],
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


async def test_the_landing_shows_the_plan_it_votes_on(tmp_path: Path) -> None:
    """Three drafts, and no money for the selection: what was rendered to price the vote must not be what is shown."""
    prompts: dict[str, str] = {}

    def reply(view: TurnView) -> dict[str, object]:
        if view.stage == "draft":
            return {"summary": f"plan of {view.seat.agent}", "plan": []}
        assert view.stage == "ballot", "three drafts would be selected from, if the budget allowed it"
        return {"decision": "approve"}

    class Spy(ScriptedModel):
        async def complete(self, request: ModelRequest) -> ModelReply:
            prompts[request.call_id] = request.prompt
            return await super().complete(request)

    outcome = await run(
        Debate(
            task="Which plan?",
            agents=[Agent(id=name, role="proposer", model=Spy(reply)) for name in "abc"],
            protocol="proposal",
            budget=Limits(calls=6),
            ledger=tmp_path / "l.db",
        ),
        clock=ManualClock(),
    )
    assert isinstance(outcome, Proposal)
    assert (outcome.decision.result, outcome.decision.stop_reason) == ("approved", "budget_exceeded")
    ballots = [prompt for call, prompt in prompts.items() if "/ballot/" in call]
    assert len(ballots) == 3
    for prompt in ballots:
        assert outcome.subject_digest in prompt
        assert '"drafts"' not in prompt
