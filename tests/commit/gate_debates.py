"""Real debates and panels in real ledgers, for tests of what the gate makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from madflow.commit.facts import gather_facts, protected_paths
from madflow.commit.known import known_proposal
from madflow.commit.policy_file import load_policy
from madflow.core.gate import Rejected, Request, Verdict, admit
from madflow.core.messages import Agent
from madflow.core.proposal import Proposal
from madflow.debate.run import Pending, run
from madflow.debate.setup import Debate
from madflow.ledger.sqlite import SqliteLedger
from madflow.models.scripted import ScriptedModel
from madflow.ports import Record, TurnView
from madflow.testing.clock import ManualClock

POLICY = """
[[allow]]
step = ["read", "write", "patch"]
paths = ["src/**"]
[[allow]]
step = ["test"]
commands = ["pytest"]
"""
BEFORE = "x = 1\n"
WRITE = {
    "step": "write",
    "target": "file:src/a.py",
    "content": "x = 2\n",
    "sha256_before": hashlib.sha256(BEFORE.encode()).hexdigest(),
}


class Clock(ManualClock):
    """Moves a millisecond a reading, so that no two records look alike."""

    def __init__(self) -> None:
        super().__init__(1_790_000_000_000, step_ms=1)


def tree(folder: Path, policy: str | None = POLICY) -> Path:
    """A root with one file and a policy."""
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "a.py").write_text(BEFORE)
    if policy is not None:
        (folder / "policy.toml").write_text(policy)
    return folder


async def debate(
    ledger: SqliteLedger, clock: Clock, says: Mapping[str, str], *, debate_id: str = "d", **draft: Any
) -> Proposal | Pending:
    """A debate over one drafted plan; `says`: each seat's ballot, "a" drafts. Revisions change the summary."""

    def reply(view: TurnView) -> dict[str, Any]:
        plan = {"summary": "plan", "plan": [WRITE], **draft}
        if view.stage == "ballot":
            return {
                "decision": says[view.seat.agent],
                "objections": ["no"] if says[view.seat.agent] == "reject" else [],
            }
        if view.stage == "revise":
            return {**plan, "summary": f"plan of round {view.round}"}
        return plan if view.stage == "draft" else {"claims": ["fine"]}

    roles = {"a": "proposer"}
    agents = [
        Agent(id=name, role=roles.get(name, "critic"), model=ScriptedModel(reply), family=f"f{name}") for name in says
    ]
    setup = Debate(task="?", agents=agents, protocol="proposal", rounds=2, id=debate_id, ledger=ledger)
    return await run(setup, clock=clock)


def ask(
    root: Path, ledger: SqliteLedger, clock: Clock, proposal: str | Mapping[str, Any], *, policy: Path | None = None
) -> Verdict:
    """The whole way of a request through loader, facts and gate."""
    request = Request(proposal) if isinstance(proposal, str) else Request.of_file(proposal)
    now_ms = clock.now_ms()
    rules, file = load_policy(policy, root)
    known = known_proposal(ledger, request.proposal_id, now_ms=now_ms)
    body = known.body if known else None
    own = protected_paths(root, ledger, file)
    facts = gather_facts(body["plan"] if body else (), root, rules, now_ms=now_ms, protected=own, policy_file=file)
    return admit(request, known, rules, facts, {})


def codes(verdict: Verdict) -> list[str]:
    return [reason.code for reason in verdict.reasons] if isinstance(verdict, Rejected) else []


class Altered:
    """A ledger whose records of one kind read differently: what somebody with a disk editor makes of it."""

    def __init__(self, ledger: SqliteLedger, kind: str, change: Any) -> None:
        self._ledger, self._kind, self._change = ledger, kind, change

    def read(self, stream: str, *, after: int = 0) -> list[Record]:
        found = []
        for record in self._ledger.read(stream, after=after):
            payload = self._change(record.payload) if record.kind == self._kind else record.payload
            found.append(
                Record(
                    record.seq,
                    record.stream,
                    record.place,
                    record.kind,
                    payload,
                    record.at_ms,
                    record.prev_hash,
                    record.hash,
                )
            )
        return found
