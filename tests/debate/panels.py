"""Two debates that run their whole course, and always the same: material for the tests of this folder.

`answer_reply`: three agents disagree for two rounds and settle in the third: 9 calls. `plan_reply`: a plan is voted
down, revised, not decided, mediated and passed: 14 calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from madflow.core.canonical import canonical
from madflow.core.limits import Limits
from madflow.core.messages import Agent
from madflow.core.proposal import Proposal, check_digests
from madflow.debate.run import Pending, run
from madflow.debate.setup import Debate
from madflow.ports import Event, Record, TurnView
from madflow.testing.clock import ManualClock
from madflow.testing.models import ScriptedModel

ANSWER_CALLS, PLAN_CALLS = 9, 14
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where ledgers of these tests go: they are about what is written, not about the disk."""


def answer_reply(view: TurnView) -> dict[str, Any]:
    """Own position for two rounds; in round 3 everybody but c says what a said first."""
    if view.stage == "position":
        return {"answer": f"idea {view.seat.agent}", "reasoning": f"because of {view.seat.agent}", "claims": ["x"]}
    own = {"a": "o1", "b": "o2", "c": "o3"}[view.seat.agent]
    return {"answer": own if view.round < 3 or view.seat.agent == "c" else "o1", "reasoning": f"round {view.round}"}


def plan_reply(view: TurnView) -> dict[str, Any]:
    """v1 is rejected, v2 divides the panel, the mediator's v3 passes."""
    step = {"step": "write", "target": "file:src/a.py", "content": "x = 1\n"}
    version = str(view.subject.get("proposal_id", ""))[-2:]
    said = {
        "p1": {"p": "approve", "b": "reject", "c": "reject"},
        "p2": {"p": "approve", "b": "reject", "c": "abstain"},
        "p3": {"p": "approve", "b": "approve", "c": "approve"},
    }
    match view.stage:
        case "draft":
            return {"summary": "v1", "plan": [step]}
        case "concern":
            return {"claims": [f"{view.seat.agent} is worried"]}
        case "ballot":
            decision = said[version][view.seat.agent]
            return {"decision": decision, "objections": [f"{version} lacks a test"] if decision == "reject" else []}
        case "revise":
            return {"summary": "v2", "plan": [step, {"step": "test", "cmd": ["pytest"]}]}
        case _:
            draft = {"summary": "v3", "plan": [{"step": "read", "target": "file:src/a.py"}]}
            return {"kind": "modified_proposal", "text": "read first", "draft": draft}


def reply(view: TurnView) -> dict[str, Any]:
    """Whichever of the two debates is asking."""
    return answer_reply(view) if view.stage in ("position", "discuss") else plan_reply(view)


def make_debate(shape: str, models: Mapping[str, Any] | Any, ledger: Any, **values: Any) -> Debate:
    """The debate of that shape, answer or proposal; `models`: one client for all, or by agent id."""
    ids = {"answer": ("a", "b", "c"), "proposal": ("p", "b", "c", "m")}[shape]
    roles = {"p": "proposer", "m": "mediator", "b": "critic" if shape == "proposal" else "debater"}
    if shape == "proposal":
        roles["c"] = "auditor"

    def model(agent: str) -> Any:
        return models[agent] if isinstance(models, Mapping) else models

    given: dict[str, Any] = {
        "task": "Which?",
        "agents": [
            Agent(id=agent, role=roles.get(agent, "debater"), model=model(agent), max_output_tokens=200)
            for agent in ids
        ],
        "protocol": shape,
        "rounds": 3 if shape == "answer" else 2,
        "fallback": () if shape == "answer" else ("mediator",),
        "id": "d1",
        "ledger": ledger if not isinstance(ledger, Path) else ledger / "ledger.db",
        "budget": Limits(),
    }
    return Debate(**{**given, **values})


def sound(outcome: Proposal | Pending) -> Proposal:
    """The proposal, after a look at its schema, digests and ballots."""
    assert isinstance(outcome, Proposal)
    data = outcome.to_json()
    assert check_digests(data) == []
    tally = outcome.decision.tally
    assert tally.eligible == tally.valid + tally.abstain + tally.invalid + tally.missing == len(outcome.votes)
    canonical(data)
    return outcome


class ListLedger:
    """Records in a list: no file, no thread, no hashes. For a process that is going to fork."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def record(self, stream: str, events: Sequence[Event], *, after: int) -> list[Record]:
        made = [
            Record(len(self.records) + i, stream, after + i, event.kind, event.payload, 0, "", "")
            for i, event in enumerate(events, 1)
        ]
        self.records += made
        return made

    def read(self, stream: str) -> list[Record]:
        return [record for record in self.records if record.stream == stream]


def warm_up() -> None:
    """Load and compile in this process what its forked children would otherwise load one by one."""
    for shape in ("answer", "proposal"):
        asyncio.run(run(make_debate(shape, ScriptedModel(reply), ListLedger()), clock=ManualClock()))
