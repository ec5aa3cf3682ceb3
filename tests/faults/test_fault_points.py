"""The public fault points and the manual clock do what they say, and nothing else."""

import asyncio
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from madflow.core.messages import Agent
from madflow.core.saga import Absent, Done, Failed
from madflow.debate.run import run
from madflow.debate.setup import Debate
from madflow.errors import TransientModelError
from madflow.ledger.sqlite import open_ledger
from madflow.ports import Entry, Event, ModelReply, ModelRequest
from madflow.testing.clock import ManualClock
from madflow.testing.faults import (
    Bill,
    Charge,
    Crash,
    GreedyModel,
    KillingEffect,
    KillingLedger,
    KillingModel,
    Life,
    LosingEffect,
    Moods,
)
from madflow.testing.models import ScriptedModel

REQUEST = ModelRequest("1/position/a/0", "greedy", "system", "prompt", 100, 10.0)


@pytest.mark.parametrize(("side", "durable"), [("before", 1), ("after", 2)])
async def test_a_ledger_dies_at_its_write_and_stays_dead(tmp_path: Path, side: str, durable: int) -> None:
    inner = open_ledger(tmp_path / "l.db")
    ledger = KillingLedger(inner, **{side: 2})
    await ledger.record("s", [Event("one", {})], after=0)
    for _ in range(2):
        with pytest.raises(Crash):
            await ledger.record("s", [Event("two", {})], after=1)
    assert len(ledger.read("s")) == durable
    inner.close()


async def test_clients_of_one_life_count_together_and_die_together(tmp_path: Path) -> None:
    life, count = Life(), [0]
    inner = [ScriptedModel({"*": "x"}), ScriptedModel(["y"])]
    first, second = (KillingModel(model, before=2, life=life, count=count) for model in inner)
    with pytest.raises(Exception, match="view"):
        await first.complete(REQUEST)
    for model in (second, first):
        with pytest.raises(Crash):
            await model.complete(REQUEST)
    assert [model.calls for model in inner] == [1, 0]
    with pytest.raises(Crash):
        await KillingLedger(open_ledger(tmp_path / "l.db"), life=life).record("s", [Event("one", {})], after=0)


async def test_a_call_that_dies_afterwards_was_made(tmp_path: Path) -> None:
    inner = ScriptedModel(["done"])
    with pytest.raises(Crash):
        await KillingModel(inner, after=1).complete(REQUEST)
    assert inner.calls == 1


async def test_a_bill_in_a_file_is_complete_and_a_greedy_model_bills_what_it_quotes(tmp_path: Path) -> None:
    bill = Bill(tmp_path / "bill.jsonl")
    model = GreedyModel(lambda _: "x", bill, Moods(drop=1.0), price_nanos=3)
    quote = model.quote(REQUEST)
    with pytest.raises(TransientModelError, match="after billing"):
        await model.complete(REQUEST)
    assert Bill(tmp_path / "bill.jsonl").charges == [
        Charge(REQUEST.call_id, "greedy", quote.prompt_tokens, 100, quote.usd_nanos or 0)
    ]
    refusing = GreedyModel(lambda _: "x", bill, Moods(refuse=1.0))
    with pytest.raises(TransientModelError):
        await refusing.complete(REQUEST)
    assert len(bill.charges) == 1, "a refusal is not billed"
    garbling = GreedyModel(lambda _: "x", Bill(), Moods(garble=1.0))
    assert isinstance(await garbling.complete(REQUEST), ModelReply)


async def test_time_moves_by_sleeping_and_never_back() -> None:
    clock = ManualClock(1_000, step_ms=5)
    assert [clock.now_ms(), clock.now_ms()] == [1_005, 1_010]
    await asyncio.gather(clock.sleep(1), clock.sleep(2))
    assert clock.monotonic() == pytest.approx(3.01)
    assert clock.slept == [1, 2]
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


def test_a_ledger_that_dies_at_any_write_ends_the_run_and_leaves_nobody_waiting(tmp_path: Path) -> None:
    """Catches a seat that waits for ever for a write that ended in neither a result nor an Exception.

    In a thread: such a seat cannot be cancelled either, and would hang the test with it.
    """
    ended: list[bool] = []

    async def live(at: int) -> None:
        inner = open_ledger(tmp_path / f"{at}.db")
        model = ScriptedModel(lambda view: {"answer": f"{view.seat.agent}{view.round}"})
        agents = [Agent(id=name, model=model) for name in "abc"]
        debate = Debate(task="?", agents=agents, ledger=KillingLedger(inner, after=at), rounds=2)
        try:
            await run(debate, clock=ManualClock())
            ended.append(False)
        except Crash:
            ended.append(True)
        inner.close()

    for at in range(1, 12):
        thread = Thread(target=lambda at=at: asyncio.run(live(at)), daemon=True)  # type: ignore[misc]
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), f"after write {at} somebody waits for ever"
        if not ended[-1]:
            break
    assert ended.count(True) >= 4


class Recording:
    """An effect that notes what was asked of it; each call takes a few turns of the loop."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def _note(self, name: str) -> None:
        self.calls.append(f"{name} began")
        await asyncio.sleep(0.05)
        self.calls.append(f"{name} ended")

    async def prepare(self, step: Any, ctx: Any) -> Any:
        await self._note("prepare")
        return {}

    async def do(self, step: Any, facts: Any, ctx: Any) -> Any:
        await self._note("do")
        return Done({"n": 1})

    async def probe(self, step: Any, facts: Any, ctx: Any) -> Any:
        await self._note("probe")
        return Absent()

    async def settled(self, step: Any, ctx: Any) -> bool:
        await self._note("settled")
        return True


CTX: Any = None


@pytest.mark.parametrize(
    ("side", "happened"), [("before", []), ("midway", ["do began"]), ("after", ["do began", "do ended"])]
)
async def test_an_effect_dies_before_in_the_middle_of_or_after_its_second_call(side: Any, happened: list[str]) -> None:
    """Counts over the effects that share `count`, and nothing happens after the death."""
    count, life = [0], Life()
    first, second = Recording(), Recording()
    effects = [KillingEffect(e, at="do", side=side, nth=2, count=count, life=life) for e in (first, second)]
    assert await effects[1].prepare({}, CTX) == {}
    assert await effects[0].do({}, {}, CTX) == Done({"n": 1})
    with pytest.raises(Crash):
        await effects[1].do({}, {}, CTX)
    with pytest.raises(Crash):
        await effects[0].probe({}, {}, CTX)
    assert first.calls == ["do began", "do ended"]
    assert second.calls == ["prepare began", "prepare ended", *happened]


async def test_an_answer_is_lost_and_the_effect_has_happened() -> None:
    inner = Recording()
    losing = LosingEffect(inner, nth=2)
    assert await losing.do({}, {}, CTX) == Done({"n": 1})
    lost = await losing.do({}, {}, CTX)
    assert isinstance(lost, Failed)
    assert (lost.applied, lost.transient, lost.code) == (None, True, "connection_lost")
    assert await losing.do({}, {}, CTX) == Done({"n": 1})
    assert inner.calls.count("do ended") == 3


@pytest.mark.parametrize("call", ["seal", "append", "transact"])
async def test_a_fenced_ledger_dies_at_any_kind_of_write(tmp_path: Path, call: str) -> None:
    """All kinds of writes are counted together; before the death nothing of it is durable, after it all is."""
    for side in ("before", "after"):
        inner = open_ledger(tmp_path / f"{side}.db")
        killing = {"before": 0, "after": 0, side: {"seal": 1, "append": 2, "transact": 2}[call]}
        ledger = KillingLedger(inner, **killing)

        async def write(ledger: Any) -> None:
            await ledger.seal("s", 1, Event("term_sealed", {}))
            if call == "append":
                await ledger.append("s", 1, [Entry(Event("x", {}), "slot")])
            else:
                await ledger.transact("s", 1, "slot", lambda _: Event("x", {}), timeout_s=5)

        with pytest.raises(Crash):
            await write(ledger)
        assert len(inner.read("commit/s")) == (call != "seal") + (side == "after")
        assert (ledger.find("s", "slot") is not None) == (side == "after" and call != "seal")
        assert ledger.path == inner.path
        inner.close()
