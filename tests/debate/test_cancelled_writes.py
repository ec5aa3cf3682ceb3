"""A seat that is cancelled while its record is being written: the record counts, and the debate lands."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from madflow.core.messages import Agent
from madflow.debate.run import replay, run
from madflow.debate.setup import Debate
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.models.scripted import ScriptedModel
from madflow.ports import Event, Record


class LateAcknowledgement:
    """A ledger whose writes are durable a while before their caller hears of it."""

    def __init__(self, inner: SqliteLedger) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def record(self, stream: str, events: Sequence[Event], *, after: int) -> list[Record]:
        records = await self.inner.record(stream, events, after=after)
        await asyncio.sleep(0.02)
        return records


async def test_a_cancelled_write_is_folded(tmp_path: Path) -> None:
    """Would catch: a place taken by a write whose caller was cancelled, so that every later record is out of order."""
    ledger = LateAcknowledgement(open_ledger(tmp_path / "ledger.db"))
    cancel, asked = asyncio.Event(), 0

    def answer(_view: Any) -> dict[str, str]:
        nonlocal asked
        asked += 1
        if asked == 4:
            asyncio.get_running_loop().call_later(0.005, cancel.set)  # all four answers are being written then
        return {"answer": "A"}

    agents = [Agent(f"a{n}", ScriptedModel(answer)) for n in range(1, 5)]
    task = {"question": "Q?", "options": ["x", "y"]}
    debate = Debate(task=task, agents=agents, rule="unanimity", stop="stable:2", id="d", ledger=ledger)
    proposal = await run(debate, cancel=cancel)
    assert proposal.decision.tally.valid == 4
    assert proposal.to_json() == replay(ledger.inner, "d").to_json()
    assert ledger.inner.verify() > 0
    ledger.inner.close()
