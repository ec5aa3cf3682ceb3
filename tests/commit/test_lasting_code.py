"""An app's code that outlives its attempt, undos under a narrower policy, and time in the ledger's own transaction."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commit_bench import Bench, call, policy

from madflow.commit import Receipt, Step
from madflow.commit.desk import Desk
from madflow.commit.kit import heartbeat
from madflow.core.plan import TRANSACTION_MS_MAX
from madflow.ledger.requests import TRANSACTION_S_MAX, TransactRequest
from madflow.ports import Event, Lost, Renewed, Term

SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


class Slow:
    """Code that is under way until it is let go, and what it has done by then."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.effects: list[int] = []

    def do(self, args: Any, ctx: Any) -> None:
        self.begun.set()
        assert self.go.wait(20)
        self.effects.append(ctx.attempt)

    def step(self, kind: Any = "verifiable") -> Step:
        def probe(args: Any, ctx: Any) -> bool:
            return bool(self.effects)

        return Step(name="s", do=self.do, probe=probe, effect_class=kind, nothing_to_undo=True)


async def told(said: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not said():  # noqa: ASYNC110 - a thread says it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["verifiable", "idempotent"])
async def test_code_that_outlives_its_time_keeps_the_next_attempt_out(bench: Bench, kind: Any) -> None:
    """Would catch a probe that says "absent" of what is still under way, so that it is done a second time."""
    slow = Slow()
    name = await bench.approved([{**call("s"), "timeout_ms": 200}])
    try:
        receipt = await bench.committer(slow.step(kind), policy=policy(retry={"attempts": 2})).commit(name)
        (step,) = receipt.steps
        said = (step.result or {})["message"]
        assert (receipt.status, step.status) == ("in_doubt", "in_doubt")
        assert ("still under way" in said) and slow.effects == []
    finally:
        slow.go.set()
    await told(lambda: slow.effects)
    answer = await bench.committer(slow.step(kind)).resolve(step.idempotency_key, "done", by="ann")
    assert answer.receipt.status == "committed" and slow.effects == [1]


async def test_a_probe_waits_for_what_is_under_way(bench: Bench) -> None:
    """Would catch a human who is asked what half a second more would have told."""
    slow = Slow()
    name = await bench.approved([{**call("s"), "timeout_ms": 600}])
    asyncio.get_running_loop().call_later(0.7, slow.go.set)
    receipt = await bench.committer(slow.step()).commit(name)
    assert (receipt.status, slow.effects) == ("committed", [1])
    assert (receipt.steps[0].result or {})["learnt_by"] == "probe"


async def test_a_commit_that_is_cancelled_leaves_no_second_effect(bench: Bench) -> None:
    """Would catch a successor that begins a step while the cancelled one's code still does it."""
    slow = Slow()
    name = await bench.approved([call("s")])
    first = asyncio.create_task(bench.committer(slow.step()).commit(name))
    await told(slow.begun.is_set)
    first.cancel()
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], asyncio.CancelledError)
    second = asyncio.create_task(bench.committer(slow.step()).commit(name))
    await asyncio.sleep(0.3)
    assert not second.done()
    slow.go.set()
    receipt: Receipt = await second
    assert (receipt.status, slow.effects) == ("committed", [1])


async def test_a_coroutine_that_does_not_let_itself_be_cancelled_is_left_behind(bench: Bench) -> None:
    """Would catch a commit that waits for it for ever, and one that goes on under its key meanwhile."""
    go, ended = asyncio.Event(), asyncio.Event()

    async def stubborn(args: Any, ctx: Any) -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        ended.set()

    step = Step(name="s", do=stubborn, probe=lambda args, ctx: False, effect_class="verifiable", nothing_to_undo=True)
    name = await bench.approved([{**call("s"), "timeout_ms": 100}])
    async with asyncio.timeout(15):
        receipt = await bench.committer(step).commit(name)
    said = (receipt.steps[0].result or {})["message"]
    assert receipt.status == "in_doubt" and "still under way" in said
    go.set()
    await ended.wait()
    plain = Step(name="s", do=stubborn, nothing_to_undo=True)
    go.clear()
    receipt = await bench.committer(plain).commit(await bench.approved([{**call("s"), "timeout_ms": 100}]))
    assert "left behind" in (receipt.steps[0].result or {})["message"]
    go.set()


@pytest.mark.parametrize(
    ("is_async", "error"),
    [  # of the other two Python makes another error in a coroutine, or ends the loop that belongs to the app
        (False, TimeoutError("no answer from db")),
        (True, TimeoutError("no answer from db")),
        (False, StopIteration("empty")),
        (False, SystemExit(3)),
    ],
)
async def test_what_code_raises_is_its_own(bench: Bench, is_async: bool, error: BaseException) -> None:
    """Would catch a step's TimeoutError that is told as the submitter's, and code that ends the submitter."""

    def plain(args: Any, ctx: Any) -> None:
        raise error

    async def later(args: Any, ctx: Any) -> None:
        raise error

    step = Step(name="s", do=later if is_async else plain, nothing_to_undo=True)
    receipt = await bench.committer(step).commit(await bench.approved([call("s")]))
    assert (receipt.status, receipt.steps[0].error_code) == ("in_doubt", "raised")
    assert type(error).__name__ in (receipt.steps[0].result or {})["message"]


async def test_code_that_cancels_itself_is_no_cancelled_commit(bench: Bench) -> None:
    """Would catch a CancelledError of the app's own tasks that looks as if the submitter were told to stop."""

    async def do(args: Any, ctx: Any) -> None:
        raise asyncio.CancelledError

    receipt = await bench.committer(Step(name="s", do=do, nothing_to_undo=True)).commit(
        await bench.approved([call("s")])
    )
    assert (receipt.status, receipt.steps[0].error_code) == ("in_doubt", "raised")


async def test_the_ledger_is_nobodys_for_long(bench: Bench) -> None:
    """Would catch a statement that keeps every other process from the ledger for as long as it likes."""
    step = {"step": "sql", "target": "db:ledger", "statement": SLOW}
    receipt = await bench.committer().commit(await bench.approved([step]))
    assert (receipt.status, receipt.steps[0].error_code) == ("compensated", "timeout")
    started = [record.payload["timeout_ms"] for record in bench.ledger.read("commit/root") if record.kind == "started"]
    assert started == [TRANSACTION_MS_MAX], "not the policy's step_s"
    refused = await bench.committer().commit(await bench.approved([{**step, "timeout_ms": TRANSACTION_MS_MAX + 1}]))
    assert [reason["code"] for reason in refused.reasons] == ["timeout_too_long"]
    own = Step(name="t", do=lambda args, ctx: None, effect_class="transactional", nothing_to_undo=True)
    long = await bench.approved([{**call("t"), "timeout_ms": TRANSACTION_MS_MAX + 1}])
    refused = await bench.committer(own).commit(long)
    assert [reason["code"] for reason in refused.reasons] == ["timeout_too_long"]
    short = await bench.approved([{**call("t"), "timeout_ms": TRANSACTION_MS_MAX}])
    assert (await bench.committer(own).commit(short)).status == "committed"


def test_a_transaction_has_two_seconds_whatever_is_asked() -> None:
    """Would catch a caller of the ledger itself that keeps all others out for as long as it likes."""
    assert [
        TransactRequest("s", 1, "slot", lambda execute: Event("k", {}), seconds).timeout_s for seconds in (1.5, 60.0)
    ] == [1.5, TRANSACTION_S_MAX]


class Unreachable:
    """An elector that cannot be asked again, and has no `beat`."""

    def __init__(self) -> None:
        self.asked = 0

    async def renew(self, term: Term) -> Renewed | Lost:
        self.asked += 1
        if self.asked > 1:
            raise ConnectionError("gone")
        return Renewed(0)


async def test_a_lease_that_cannot_be_renewed_is_lost_at_once(bench: Bench, tmp_path: Path) -> None:
    """Would catch a submitter that goes on to begin effects after its heartbeat has ended."""
    elector: Any = Unreachable()
    desk: Any = _desk(bench, tmp_path)
    async with heartbeat(elector, desk.term, 0.1, desk):
        await told(lambda: desk.lost)
        assert "ConnectionError: gone" in desk.lost and elector.asked == 2


def _desk(bench: Bench, run_dir: Path) -> Desk:
    committer = bench.committer()
    return Desk(
        ledger=bench.ledger,
        scope="root",
        term=Term("root", 1, "a"),
        clock=committer.clock,
        root=bench.root,
        run_dir=run_dir,
        policy=policy(),
        effects={},
        steps={},
    )
