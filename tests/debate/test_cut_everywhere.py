"""A debate that is cut at any call, by any means, lands at once in a valid proposal with one stop reason."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from panels import ANSWER_CALLS, IN_MEMORY, PLAN_CALLS, make_debate, reply, sound

from madflow.core.limits import Limits
from madflow.core.proposal import Proposal
from madflow.debate.run import Progress, replay, run
from madflow.errors import BudgetTooSmall
from madflow.ports import ModelReply, ModelRequest
from madflow.testing.clock import ManualClock
from madflow.testing.models import ScriptedModel

CALLS = {"answer": ANSWER_CALLS, "proposal": PLAN_CALLS}


async def run_fresh(protocol: str, model: Any, **options: Any) -> Proposal:
    values = {key: options.pop(key) for key in ("budget", "stop") if key in options}
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        debate = make_debate(protocol, model, Path(folder), **values)
        proposal = sound(await run(debate, clock=ManualClock(), **options))
        assert replay(debate.ledger, "d1").to_json() == proposal.to_json()
    return proposal


@pytest.mark.parametrize("protocol", ["answer", "proposal"])
async def test_every_cap_on_calls_lands(protocol: str) -> None:
    """Catches a call index at which the landing was not held back, or the cap is passed by one."""
    reasons = {}
    for cap in range(1, CALLS[protocol] + 3):
        model = ScriptedModel(reply)
        try:
            proposal = await run_fresh(protocol, model, budget=Limits(calls=cap))
        except BudgetTooSmall as error:
            assert model.calls == 0
            assert f"calls limit of {cap}" in str(error)
            continue
        assert model.calls <= cap
        reasons[cap] = proposal.decision.stop_reason
        cut = reasons[cap] == "budget_exceeded"
        if not cut:
            assert proposal.approved
        if protocol == "proposal" and cut:
            asked = {vote.decision for vote in proposal.votes}
            assert "missing" not in asked, f"cap {cap}: the final vote was held back for every seat"
    assert reasons[max(reasons)] == "converged"
    assert "budget_exceeded" in reasons.values()


@pytest.mark.parametrize("protocol", ["answer", "proposal"])
async def test_every_cap_on_tokens_lands(protocol: str) -> None:
    """Stepping down from what the whole debate needs to what no debate can be opened with."""
    model = ScriptedModel(reply, usage="full")
    whole = await run_fresh(protocol, model)
    used = whole.usage["prompt_tokens"] + whole.usage["output_tokens"]
    landed, refused = set(), 0
    for cap in range(used * 3 // 2, 100, -max(1, used // 30)):
        model = ScriptedModel(reply, usage="full")
        try:
            proposal = await run_fresh(protocol, model, budget=Limits(tokens=cap))
        except BudgetTooSmall:
            assert model.calls == 0
            refused += 1
            continue
        assert not refused, "a smaller cap opened where a larger one was refused"
        assert proposal.usage["prompt_tokens"] + proposal.usage["output_tokens"] <= cap
        if proposal.decision.stop_reason == "budget_exceeded" and protocol == "proposal":
            assert proposal.decision.tally.missing == 0, f"cap {cap}: {proposal.votes}"
        landed.add(proposal.decision.stop_reason)
    assert landed == {"converged", "budget_exceeded"}
    assert refused


class Cancelling:
    """Sets `cancel` at its n-th call; from then on no call comes back by itself."""

    name = "scripted"

    def __init__(self, at: int) -> None:
        self.inner, self.at, self.cancel = ScriptedModel(reply), at, asyncio.Event()

    def quote(self, request: ModelRequest) -> Any:
        return self.inner.quote(request)

    async def complete(self, request: ModelRequest) -> ModelReply:
        if self.inner.calls + 1 == self.at:
            self.cancel.set()
        if self.cancel.is_set():
            await asyncio.sleep(3600)
        return await self.inner.complete(request)


@pytest.mark.parametrize("protocol", ["answer", "proposal"])
async def test_cancelled_at_every_call_it_lands_at_once(protocol: str) -> None:
    for at in range(1, CALLS[protocol] + 1):
        model = Cancelling(at)
        async with asyncio.timeout(10):
            proposal = await run_fresh(protocol, model, cancel=model.cancel)
        assert proposal.decision.stop_reason == "cancelled", f"call {at}"
        assert model.inner.calls < at


@pytest.mark.parametrize("protocol", ["answer", "proposal"])
async def test_cancelled_at_every_record_it_lands_at_once(protocol: str) -> None:
    """Catches a cancellation that comes while reservations are written, and is then forgotten for a whole stage."""
    at, more = 1, True
    while more:
        model, seen = Cancelling(10**6), 0

        def progress(_: Progress, model: Cancelling = model, at: int = at) -> None:
            nonlocal seen
            seen += 1
            if seen == at:
                model.cancel.set()

        async with asyncio.timeout(10):
            proposal = await run_fresh(protocol, model, cancel=model.cancel, on_progress=progress)
        more = at < seen
        reason = proposal.decision.stop_reason
        last_answers = at > seen - 7  # the last stage's replies are in, and may all be written together
        assert reason == "cancelled" or last_answers, f"record {at} of {seen}: {reason}"
        at += 1
    assert at > CALLS[protocol]
