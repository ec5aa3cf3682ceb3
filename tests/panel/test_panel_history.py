"""Every proposal of a ledger, debates and panels together, and what they show."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from madflow.core.messages import Agent
from madflow.core.proposal import Proposal
from madflow.debate.run import run
from madflow.debate.setup import Debate
from madflow.errors import ConfigError
from madflow.ledger.sqlite import SqliteLedger
from madflow.panel.api import propose, vote
from madflow.panel.history import history
from madflow.panel.resolve import find_conflict, replace_with
from madflow.ports import TurnView
from madflow.testing.clock import ManualClock

PLAN = [{"step": "command", "cmd": ["true"], "undo": []}]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock) -> Iterator[SqliteLedger]:
    with SqliteLedger(tmp_path / "ledger.db", clock=clock) as opened:
        yield opened


async def put(ledger: SqliteLedger, clock: ManualClock, *said: str, **fields: Any) -> str:
    """A proposal to a, b and c, who vote as `said` ("" does not), ten seconds apart; reject says why."""
    name = await propose(ledger, PLAN, **{"panel": "a,b,c", "proposer": "x", "clock": clock, **fields})
    for agent, decision in zip("abc", said, strict=False):
        clock.advance(10)
        if decision:
            notes = "No way back!" if decision == "reject" else ""
            await vote(ledger, name, agent=agent, decision=decision, notes=notes, clock=clock)
    clock.advance(1)
    return name


async def rejected_debate(ledger: SqliteLedger, debate_id: str = "d1") -> Proposal:
    async def says(view: TurnView) -> dict[str, Any]:
        if view.stage == "draft":
            return {"summary": "a plan", "plan": PLAN}
        no = {"decision": "reject", "notes": "n", "objections": [" no  way back "]}
        return no if view.seat.agent != "a" else {"decision": "approve"}

    agents = [Agent(name, says) for name in "abc"]
    debate = Debate(task="which?", agents=agents, protocol="proposal", rounds=1, id=debate_id, ledger=ledger)
    landed = await run(debate)
    assert isinstance(landed, Proposal) and landed.decision.result == "rejected"
    return landed


async def test_rows_and_trends(ledger: SqliteLedger, clock: ManualClock) -> None:
    """Would catch a pair that is counted where one abstained, a time that counts open votes, an objection lost."""
    one = await put(ledger, clock, "approve", "approve")
    two = await put(ledger, clock, "reject", "abstain", "reject")
    three = await put(ledger, clock, "approve", proposer="y")
    debate = await rejected_debate(ledger)
    found = history(ledger, clock=clock)
    assert {row.proposal_id: row.status for row in found.rows} == {
        one: "approved",
        two: "rejected",
        three: "open",
        debate.proposal_id: "rejected",
    }
    assert [row.created_ms for row in found.rows] == sorted((row.created_ms for row in found.rows), reverse=True)
    assert {pair.agents: (pair.agree, pair.n) for pair in found.alignment} == {
        ("a", "b"): (1, 2),
        ("a", "c"): (1, 2),
        ("b", "c"): (1, 1),
    }
    assert found.objections == (("no way back", 4),)
    assert (found.decided, found.median_ms) == (3, 20_000)
    assert found.p90_ms == 30_000
    assert dict(found.statuses) == {"open": 1, "approved": 1, "rejected": 2}
    assert found.to_json()["trends"]["time_to_decide"] == {"decided": 3, "median_ms": 20_000, "p90_ms": 30_000}


async def test_what_was_asked_for(ledger: SqliteLedger, clock: ManualClock) -> None:
    names = [await put(ledger, clock, "approve", "approve", proposer=who) for who in ("x", "y", "x")]
    opened = await put(ledger, clock)
    assert [row.proposal_id for row in history(ledger, proposer="x", status="approved", clock=clock).rows] == [
        names[2],
        names[0],
    ]
    assert [row.proposal_id for row in history(ledger, status="open", clock=clock).rows] == [opened]
    assert history(ledger, status="no_decision", clock=clock).rows == ()
    cut = history(ledger, limit=1, clock=clock)
    assert (cut.found, len(cut.rows), cut.decided) == (4, 1, 3)
    since = history(ledger, since_ms=history(ledger, clock=clock).rows[1].created_ms, clock=clock)
    assert since.found == 2
    with pytest.raises(ConfigError, match="use one of open, approved"):
        history(ledger, status="fine")
    with pytest.raises(ConfigError, match="1 to 10000"):
        history(ledger, limit=0)


async def test_what_became_of_them(ledger: SqliteLedger, clock: ManualClock) -> None:
    """Would catch an approval that hides that its commit was refused, compensated or waits for a human."""
    kinds = {"committed": "committed", "compensated": "compensated", "rejected": "rejected_by_gate"}
    names = {kind: await put(ledger, clock, "approve", "approve") for kind in kinds}
    await ledger.seal("root", 1, _event("term_sealed", term=1))
    for kind, name in names.items():
        entry = _event(kind, term=1, commit_id=f"c-{kind}", proposal_id=name, proposal_digest="0" * 64)
        await ledger.append("root", 1, [_entry(entry)])
    found = history(ledger, status="approved", clock=clock)
    assert {row.proposal_id: row.status for row in found.rows} == {names[kind]: kinds[kind] for kind in kinds}
    assert history(ledger, status="committed", clock=clock).found == 1


def _event(kind: str, **payload: Any) -> Any:
    from madflow.ports import Event

    return Event(kind, payload)


def _entry(event: Any) -> Any:
    from madflow.ports import Entry

    return Entry(event)


async def test_superseded_proposals_are_linked(ledger: SqliteLedger, clock: ManualClock) -> None:
    panel, debate = await put(ledger, clock, "reject", "reject"), (await rejected_debate(ledger)).proposal_id
    for old in (panel, debate):
        conflict = find_conflict(ledger, old, clock=clock)
        assert await replace_with(ledger, conflict, f"{old}.next", clock=clock) == f"{old}.next"
        assert await replace_with(ledger, conflict, "another", clock=clock) == f"{old}.next"
        assert find_conflict(ledger, old, clock=clock).superseded_by == f"{old}.next"
    rows = {row.proposal_id: row for row in history(ledger, clock=clock).rows}
    assert {rows[old].status for old in (panel, debate)} == {"superseded"}
    assert rows[debate].superseded_by == f"{debate}.next"
    assert history(ledger, status="rejected", clock=clock).found == 2  # what its vote came to is not forgotten


def test_an_empty_ledger_has_no_history(tmp_path: Path) -> None:
    with SqliteLedger(tmp_path / "ledger.db", clock=ManualClock()) as opened:
        found = history(opened)
    assert (found.found, found.median_ms, found.p90_ms, found.alignment) == (0, None, None, ())
