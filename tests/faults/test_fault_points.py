"""The public fault points and the manual clock do what they say, and nothing else."""

import asyncio
from pathlib import Path
from threading import Thread

import pytest

from madflow.core.messages import Agent
from madflow.debate.run import run
from madflow.debate.setup import Debate
from madflow.errors import TransientModelError
from madflow.ledger.sqlite import open_ledger
from madflow.ports import Event, ModelReply, ModelRequest
from madflow.testing.clock import ManualClock
from madflow.testing.faults import Bill, Charge, Crash, GreedyModel, KillingLedger, KillingModel, Life, Moods
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
