"""What is held back for the final vote is there for every seat."""

from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from panels import make_debate, reply

from madflow.core.limits import Limits
from madflow.core.messages import Agent
from madflow.core.proposal import Proposal
from madflow.debate.graph import DebateContext, build_debate_graph
from madflow.debate.run import open_session, replay, run
from madflow.debate.setup import Debate
from madflow.errors import TransientModelError
from madflow.ledger.sqlite import open_ledger
from madflow.ports import ModelReply, ModelRequest, TurnView
from madflow.testing.clock import ManualClock
from madflow.testing.faults import Crash, KillingLedger
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


async def test_a_landing_that_is_taken_up_does_not_land_twice(tmp_path: Path) -> None:
    """The process dies when the proposal is durable and LangGraph's checkpoint still says "land". Catches a second
    `landed` in the ledger, after which the debate can never be read again."""
    graph = build_debate_graph(checkpointer=InMemorySaver())
    config: dict[str, Any] = {"configurable": {"thread_id": "d1"}}
    clock = ManualClock()
    with open_ledger(tmp_path / "l.db", clock=clock) as inner:

        async def live(after: int, given: dict[str, str] | None) -> Any:
            ledger = KillingLedger(inner, after=after)
            debate = make_debate("answer", ScriptedModel(reply), ledger)
            session = await open_session(debate, ledger, debate_id="d1", clock=clock)
            return await graph.ainvoke(given, config, context=DebateContext(session), durability="sync")

        counted = KillingLedger(open_ledger(tmp_path / "other.db", clock=clock))
        await run(make_debate("answer", ScriptedModel(reply), counted), clock=clock)
        counted.close()
        with pytest.raises(Crash):
            await live(counted.writes, {"debate_id": "d1"})
        assert inner.read("debate/d1")[-1].kind == "landed"
        done = await live(0, None)
        assert done["digest"] == replay(inner, "d1").digest
        assert [record.kind for record in inner.read("debate/d1")].count("landed") == 1
