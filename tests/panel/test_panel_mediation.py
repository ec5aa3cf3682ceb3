"""Mediation over a vote that came to nothing: what the mediator is told, and what is made of its answer."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from madflow.cli.resolve_conflict import mediate, modified
from madflow.core.messages import Agent
from madflow.core.panel_request import PlanFile
from madflow.core.proposal import Proposal
from madflow.debate.run import run
from madflow.debate.setup import Debate
from madflow.errors import ConfigError, UnknownProposal
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.panel.api import propose, vote
from madflow.panel.history import history
from madflow.panel.resolve import find_conflict, mediable
from madflow.ports import TurnView

WRITE = {"step": "write", "target": "file:a.txt", "content": "x"}
TEST = {"step": "test", "cmd": ["true"]}
BETTER = {"summary": "Both", "plan": [{**WRITE, "sha256_before": "0" * 64}, TEST]}
Mediator = Callable[[TurnView], Awaitable[Any]]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with open_ledger(tmp_path / "ledger.db") as opened:
        yield opened


def answers(reply: Any, seen: list[TurnView] | None = None) -> Mediator:
    async def mediator(view: TurnView) -> Any:
        if seen is not None:
            seen.append(view)
        return reply

    return mediator


async def divided(ledger: SqliteLedger, **fields: Any) -> str:
    """A plan that a approves and b rejects; mediator has not voted yet."""
    asked = {"panel": "a:2,b,mediator", "proposer": "x", "rule": "supermajority:2/3", **fields}
    name = await propose(ledger, fields.pop("plan", [WRITE]), **{k: v for k, v in asked.items() if k != "plan"})
    await vote(ledger, name, agent="a", decision="approve", notes="good")
    await vote(ledger, name, agent="b", decision="reject", notes="nothing tests step 0")
    return name


async def test_the_mediator_hears_both_sides_and_nothing_else(ledger: SqliteLedger) -> None:
    """Would catch seats that are made to say what they did not, and a mediator that is asked twice."""
    seen: list[TurnView] = []
    conflict = find_conflict(ledger, await divided(ledger))
    mediator = answers({"kind": "modified_proposal", "text": "both", "draft": BETTER}, seen)
    said = await mediate(ledger, conflict, model=mediator)
    again = await mediate(ledger, conflict, model=mediator)
    assert said == again and len(seen) == 1
    heard = str(seen[0].transcript)
    assert "nothing tests step 0" in heard and "good" in heard
    assert [step["target"] for step in seen[0].subject["plan"]] == ["file:a.txt"]
    plan = modified(said)
    assert isinstance(plan, PlanFile)
    assert "sha256_before" not in plan.plan[0]
    assert history(ledger).found == 1  # the debate that carried the mediation is no proposal of its own
    landed = next(r for r in ledger.read(f"debate/{said['debate']}") if r.kind == "landed")
    decisions = [v["decision"] for v in landed.payload["proposal"]["votes"]]
    assert decisions == ["missing"] * 3 and landed.payload["proposal"]["decision"]["result"] == "quorum_failed"


async def test_another_ballot_makes_it_another_conflict(ledger: SqliteLedger) -> None:
    """Would catch an old answer that is given for a vote that went on."""
    seen: list[TurnView] = []
    name = await divided(ledger)
    mediator = answers({"kind": "common_ground", "text": "both want it"}, seen)
    await mediate(ledger, find_conflict(ledger, name), model=mediator)
    await vote(ledger, name, agent="mediator", decision="abstain")
    await mediate(ledger, find_conflict(ledger, name), model=mediator)
    assert len(seen) == 2


@pytest.mark.parametrize(
    "reply",
    [
        {"kind": "common_ground", "text": "both want it"},
        {"kind": "modified_proposal", "text": "", "draft": None},
        {"kind": "modified_proposal", "text": "x", "draft": {**BETTER, "plan": []}},
        {"kind": "modified_proposal", "text": "x", "draft": {**BETTER, "plan": [{**WRITE, "target": "file:../x"}]}},
        {"kind": "modified_proposal", "text": "x", "draft": {**BETTER, "plan": [{"step": "command", "cmd": []}]}},
        "I approve of everything",
        "",
        None,
    ],
)
async def test_what_offers_no_usable_plan_modifies_nothing(ledger: SqliteLedger, reply: Any) -> None:
    """Would catch a hostile or garbled reply that becomes a proposal."""
    conflict = find_conflict(ledger, await divided(ledger))
    why = modified(await mediate(ledger, conflict, model=answers(reply)))
    assert isinstance(why, str) and why


async def test_a_debates_proposal_is_mediated_too(ledger: SqliteLedger) -> None:
    async def says(view: TurnView) -> Mapping[str, Any]:
        if view.stage == "draft":
            return {"summary": "a plan", "plan": [WRITE]}
        return {"decision": "reject", "objections": ["no test"]}

    debate = Debate(
        task="Which?", agents=[Agent(n, says) for n in "ab"], protocol="proposal", rounds=1, id="d1", ledger=ledger
    )
    landed = await run(debate)
    assert isinstance(landed, Proposal)
    conflict = find_conflict(ledger, landed.proposal_id)
    assert [item.text for item in conflict.advice.general] == ["no test", "no test"]
    seen: list[TurnView] = []
    mediator = answers({"kind": "modified_proposal", "text": "both", "draft": BETTER}, seen)
    assert isinstance(modified(await mediate(ledger, conflict, model=mediator)), PlanFile)
    assert "no test" in str(seen[0].transcript) and seen[0].task.question == "Which?"
    with pytest.raises(UnknownProposal, match="landed with 'd1-p1'"):
        find_conflict(ledger, "d1-p9")


async def test_where_nobody_can_mediate(ledger: SqliteLedger) -> None:
    """Would catch a mediation that approves by itself what only time would approve."""
    one = await propose(ledger, [WRITE], panel="a,b,c", proposer="x")
    assert "too few seats" in mediable(find_conflict(ledger, one))
    leads = await propose(ledger, [WRITE], panel="a,b,c,d,e", proposer="x", rule="plurality")
    for agent, decision in (("a", "approve"), ("b", "approve"), ("c", "reject")):
        await vote(ledger, leads, agent=agent, decision=decision)
    assert "approved when it expires" in mediable(find_conflict(ledger, leads))
    steps = [{"step": "command", "cmd": ["true"]}] * 51
    large = await divided(ledger, plan=steps)
    with pytest.raises(ConfigError, match="51 steps"):
        await mediate(ledger, find_conflict(ledger, large), model=answers({}))
    await vote(ledger, one, agent="a", decision="approve")
    await vote(ledger, one, agent="b", decision="approve")
    with pytest.raises(ConfigError, match="is approved"):
        find_conflict(ledger, one)
