"""Debates over HTTP, through a server that refuses, fails, drops and hangs: every one lands."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from panels import sound

from madflow.core.limits import Limits
from madflow.core.messages import Agent
from madflow.core.proposal import Proposal
from madflow.debate.run import run
from madflow.debate.setup import Debate
from madflow.ledger.sqlite import open_ledger
from madflow.models.http_pool import aclose_all
from madflow.testing.clock import ManualClock
from madflow.testing.openai_server import FaultMix, LoopbackServer

QUESTION = {"question": "Which?", "options": ["yes", "no"]}


@pytest.fixture(autouse=True)
async def _pool() -> AsyncIterator[None]:
    yield
    await aclose_all()


def debate(server: LoopbackServer, ledger: object, **values: object) -> Debate:
    agents = [Agent(id=name, model="openai/local", max_output_tokens=100) for name in "abc"]
    given = {"task": QUESTION, "agents": agents, "ledger": ledger, "api_base": server.base_url, "stop": "max_rounds"}
    return Debate(**{**given, "rounds": 2, **values})  # type: ignore[arg-type]


async def test_fifty_debates_of_fifty_land_in_bad_weather(tmp_path: Path) -> None:
    """10 % 429 with Retry-After, 5 % 500, 2 % dropped, one hang. Catches a failure that ends a debate."""
    weather = FaultMix(rate_limit=0.10, server_error=0.05, drop_before=0.01, drop_after=0.01, hang_at=(40,), seed=3)
    ledger = open_ledger(tmp_path / "ledger.db")
    gate = asyncio.Semaphore(10)
    async with LoopbackServer(fault=weather, retry_after_s=0.05) as server:

        async def one(number: int) -> Proposal:
            async with gate:
                budget = Limits(call_seconds=4)
                return sound(await run(debate(server, ledger, id=f"d{number}", budget=budget)))

        proposals = await asyncio.gather(*(one(number) for number in range(50)))
        faults = server.stats.faults
        billed = server.stats.prompt_tokens + server.stats.output_tokens
    ledger.close()
    assert len(proposals) == 50
    assert faults["hang"] == 1
    assert min(faults[name] for name in ("rate_limit", "server_error", "drop_before", "drop_after")) >= 1
    assert Counter(proposal.decision.result for proposal in proposals) == {"approved": 50}
    missing = [vote.notes for proposal in proposals for vote in proposal.votes if vote.decision == "missing"]
    assert set(missing) <= {"timeout"} and len(missing) <= 1, "retries bring back what can be brought back"
    charged = sum(p.usage["prompt_tokens"] + p.usage["output_tokens"] for p in proposals)
    assert billed <= charged, "what was billed and dropped stays charged"


async def test_a_prompt_that_always_fails_is_tried_four_times_and_costs_its_seat(tmp_path: Path) -> None:
    async with LoopbackServer(fault=FaultMix(always="UNLUCKY"), keep_prompts=True) as server:
        agents = [
            Agent(id=name, model="openai/local", max_output_tokens=100, persona="UNLUCKY" if name == "b" else "")
            for name in "abc"
        ]
        made = debate(server, tmp_path / "l.db", agents=agents, rounds=1)
        proposal = sound(await run(made, clock=ManualClock()))
        failed = [one for one in server.served if one.status == 500]
    assert len(failed) == 4
    assert {vote.agent: vote.decision for vote in proposal.votes} == {"a": "A", "b": "missing", "c": "A"}
    assert proposal.usage["by_agent"]["b"]["calls"] == 4, "every attempt was reserved"


async def test_retry_after_is_honoured_by_the_server_s_own_clock(tmp_path: Path) -> None:
    """Catches a retry that comes before the server allowed it, and a wait made up where the server named one."""
    refused = {0, 1}

    def fault(number: int, _body: object) -> str | None:
        return "rate_limit" if number in refused else None

    async with LoopbackServer(fault=fault, retry_after_s=1.0) as server:  # type: ignore[arg-type]
        agents = [Agent(id="a", model="openai/local", max_output_tokens=100)]
        sound(await run(debate(server, tmp_path / "l.db", agents=agents, rounds=1)))
        arrivals = [one.at_s for one in server.served]
    gaps = [after - before for before, after in pairwise(arrivals)]
    assert len(gaps) == 2
    assert all(1.0 <= gap < 1.9 for gap in gaps), gaps
