"""One commit's trouble is its own: what goes wrong in one neither ends the submitter nor reaches another commit."""

import asyncio
import threading
import time
from typing import Any

import pytest
from commit_bench import Bench, call, policy, until, write

from madflow.commit.steps import Step
from madflow.errors import CommitError, ConfigError, EffectError, LedgerCorrupt, PolicyError
from madflow.panel.api import check
from madflow.ports import Event
from madflow.testing.clock import ManualClock


def step(name: str, do: Any = lambda args, ctx: None, **fields: Any) -> Step:
    return Step(name=name, do=do, **{"nothing_to_undo": "undo" not in fields, **fields})


async def test_a_broken_policy_leaves_the_scope_to_others(bench: Bench) -> None:
    """Would catch a lock that is kept when the policy cannot be read: nobody could commit any more."""
    name = await bench.approved([write("a.txt")])
    file = bench.root / "policy.toml"
    text = file.read_text()
    file.write_text("[[allow")
    with pytest.raises(PolicyError, match=r"policy\.toml"):
        await bench.committer().commit(name)
    file.write_text(text)
    assert (await bench.committer().commit(name, wait_s=5)).committed


async def test_what_listens_may_fail_without_keeping_the_lock(bench: Bench) -> None:
    """Would catch a lock that outlives an on_change of the host's that raises."""
    name = await bench.approved([write("a.txt")])

    def broken(said: str) -> None:
        raise RuntimeError(said)

    with pytest.raises(RuntimeError, match="leading"):
        await bench.committer().work(asyncio.Event(), on_change=broken)
    assert (await bench.committer().commit(name, wait_s=5)).committed


@pytest.mark.parametrize("node", ["b" * 201, "b\nc"])
async def test_nobody_is_asked_to_hand_over_to_a_node_that_cannot_be(bench: Bench, node: str) -> None:
    """Would catch a transfer request that ends the leader with an error, in the caller or straight from the ledger."""
    with pytest.raises(ConfigError, match="no node is called"):
        await bench.committer().ask_leader(transfer_to=node)
    name = await bench.approved([call("slow")])
    going = threading.Event()
    slow = step("slow", lambda args, ctx: going.wait(5) and None)
    running = asyncio.create_task(bench.committer(slow).commit(name))
    await until(lambda: "started" in bench.kinds(name))
    tip = len(bench.ledger.read("requests/root"))
    await bench.ledger.record("requests/root", [Event("transfer", {"to": node})], after=tip)
    going.set()
    assert (await running).committed


async def test_a_request_for_what_cannot_be_folded_is_refused_and_the_next_one_carried_out(bench: Bench) -> None:
    """Would catch one damaged stream of which every leader dies."""
    await bench.ledger.record("proposal/bad", [Event("bogus", {"x": 1})], after=0)
    name = await bench.approved([write("a.txt")])
    bad = await bench.committer().commit("bad", wait_s=5)
    assert (bad.status, bad.reasons[0]["code"]) == ("rejected", "ledger_differs")
    assert (await bench.committer().commit(name, wait_s=5)).committed


async def test_work_that_cannot_be_made_fails_its_step_and_not_the_submitter(bench: Bench) -> None:
    """Would catch an error of an effect's `work` that leaks out of the commit, and ends every other one."""

    class Broken:
        async def prepare(self, step: Any, ctx: Any) -> Any:
            return {}

        async def settled(self, step: Any, ctx: Any) -> bool:
            return True

        def work(self, step: Any, facts: Any, ctx: Any) -> Any:
            raise EffectError("no_way", "it cannot be made")

        do = probe = prepare

    bad = await bench.approved([{"step": "sql", "target": "db:ledger", "statement": "SELECT 1"}])
    good = await bench.approved([call("ok")])
    from madflow.commit.steps import CallEffect, registry

    steps = [step("ok")]
    committer = bench.committer(*steps, effects={"sql": Broken(), "call": CallEffect(registry(steps))})
    first, second = await asyncio.gather(committer.commit(bad), committer.commit(good))
    assert (first.status, first.steps[0].error_code) == ("compensated", "no_way")
    assert second.committed


async def test_an_undo_after_the_commits_time_is_a_humans_and_ends_nobody(bench: Bench) -> None:
    """Would catch a transaction that is asked for with no time left, which the ledger refuses with an error."""
    clock = ManualClock(time.time_ns() // 1_000_000)

    async def slow(args: Any, ctx: Any) -> None:
        await clock.sleep(50)

    def wrong(args: Any, ctx: Any) -> None:
        raise EffectError("nope", "wrong", applied=False)

    sql = {"step": "sql", "target": "db:ledger", "statement": "CREATE TABLE t (x)", "undo": "DROP TABLE t"}
    name = await bench.approved([{**sql, "timeout_ms": 1_000}, call("slow"), call("wrong")])
    rules = policy(time={"commit_s": 20, "step_s": 20}).model_copy(update={"allow": bench.rules().allow})
    steps = [step("slow", undo=slow), step("wrong", wrong)]
    receipt = await bench.committer(*steps, policy=rules, clock=clock).commit(name, wait_s=1_000)
    undone = {one.step_index: (one.status, one.error_code) for one in receipt.steps if one.direction == "undo"}
    assert (receipt.status, undone[0]) == ("in_doubt", ("in_doubt", "commit_deadline"))


async def test_every_request_is_answered_for_itself(bench: Bench) -> None:
    """Would catch a good request that is refused for an edited file that was tried after it, or the reverse."""
    name = await bench.approved([write("a.txt")])
    edited = (await check(bench.ledger, name)).to_json()
    edited["plan"][0]["content"] = "evil\n"
    committer = bench.committer()
    good, bad = await committer.submit(name), await committer.submit(edited)
    assert (await committer.wait(good)).committed
    refused = await committer.wait(bad)
    assert (refused.status, {reason["code"] for reason in refused.reasons} >= {"edited"}) == ("rejected", True)
    assert bench.read("a.txt") == "new\n"


async def test_a_word_of_confirmation_counts_for_the_request_it_came_with(bench: Bench) -> None:
    """Would catch a later request without a name that takes the confirmation from an earlier one."""
    name = await bench.approved([write("a.txt")], stop_conditions=[{"kind": "human", "note": ""}])
    committer = bench.committer()
    confirmed = await committer.submit(name, confirmed_by="ann")
    await committer.submit(name)
    assert (await committer.wait(confirmed)).committed


async def test_a_new_request_shows_no_old_refusal(bench: Bench) -> None:
    """Would catch a receipt that says rejected, with the reasons of another day, while nobody has looked yet."""
    name = await bench.approved([write("a.txt")])
    assert (await bench.committer(policy=policy()).commit(name)).status == "rejected"
    ticket = await bench.committer().submit(name)
    assert (await bench.committer().wait(ticket, wait_s=0)).status == "pending"
    assert (await bench.committer().commit(name)).committed


async def test_who_lacks_a_steps_code_refuses_nothing_and_makes_room(bench: Bench) -> None:
    """Would catch a submitter that rejects, or sits on, what another one has the code for."""
    name = await bench.approved([call("theirs")])
    stop = asyncio.Event()
    worker = asyncio.create_task(bench.committer(lease_s=0.2).work(stop))
    try:
        receipt = await bench.committer(step("theirs"), lease_s=0.2).commit(name, wait_s=20)
    finally:
        stop.set()
        await worker
    assert receipt.committed
    assert "rejected" not in bench.kinds(name)


async def test_the_time_to_wait_bounds_a_leader_that_is_kept_busy(bench: Bench) -> None:
    """Would catch a caller that leads for as long as others ask."""

    async def slow(args: Any, ctx: Any) -> None:
        await asyncio.sleep(0.3)

    committer = bench.committer(step("slow", slow), policy=policy(limits={"call:slow": 1}))
    names = [await bench.approved([call("slow", n=n)]) for n in range(8)]
    for name in names[1:]:
        await committer.submit(name)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await committer.commit(names[0], wait_s=0.5)
    ended = sum(committer.receipt(name).committed for name in names)
    assert ended < len(names), f"it went on until all were done, {loop.time() - began:.1f} s"


async def test_code_that_swallows_its_cancellation_is_left_behind(bench: Bench) -> None:
    """Would catch a commit that waits for ever for a coroutine that nothing ends."""
    let_go = asyncio.Event()

    async def deaf(args: Any, ctx: Any) -> None:
        while not let_go.is_set():
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                continue

    name = await bench.approved([{**call("deaf"), "timeout_ms": 200}])
    try:
        async with asyncio.timeout(30):
            receipt = await bench.committer(step("deaf", deaf)).commit(name, wait_s=1)
    finally:
        let_go.set()
    assert receipt.status == "in_doubt"


async def test_a_slot_that_the_journal_does_not_know_of_is_said_not_spun_on(bench: Bench) -> None:
    """Would catch a hot loop where the journal and the slots disagree."""
    name = await bench.approved([call("ok")])
    committer = bench.committer(step("ok"))
    assert (await committer.commit(name)).committed
    last = bench.ledger.read("commit/root")[-1]
    forged = {"version": 1, "from": 0, "place": last.place, "head": last.hash, "term": 1, "commits": [], "requests": 0}
    await bench.ledger.record("snapshot/root", [Event("snapshot", forged)], after=0)
    async with asyncio.timeout(20):
        try:
            receipt = await bench.committer(step("ok")).commit(name, wait_s=1)
        except LedgerCorrupt as error:
            assert "slot" in str(error) or "snapshot" in str(error)
        else:
            assert receipt.committed


async def test_a_transient_failure_to_prepare_is_tried_again(bench: Bench) -> None:
    """Would catch a plan that is given up because its target was busy for a moment."""
    from madflow.commit.steps import CallEffect, registry
    from madflow.core.saga import Failed

    steps = [step("ok")]

    class Busy(CallEffect):
        left = 2

        async def prepare(self, step: Any, ctx: Any) -> Any:
            self.left -= 1
            return {} if self.left < 0 else Failed("busy", "come back", transient=True, applied=False)

    name = await bench.approved([call("ok")])
    receipt = await bench.committer(*steps, effects={"call": Busy(registry(steps))}).commit(name)
    assert (receipt.status, receipt.steps[0].attempts) == ("committed", 1)


async def test_a_step_that_fails_half_way_is_told_as_partial(bench: Bench) -> None:
    """Would catch a receipt that says nothing was to be taken back, where a command left its half behind."""
    half = {"step": "command", "cmd": ["sh", "-c", "touch out/made; exit 1"], "undo": ["true"]}
    receipt = await bench.committer().commit(await bench.approved([half]))
    assert (receipt.status, receipt.rollback, (bench.root / "out" / "made").exists()) == (
        "compensated",
        "partial",
        True,
    )


async def test_recover_that_is_asked_to_resign_is_not_done(bench: Bench) -> None:
    """Would catch "nothing to recover" from a recovery that stopped before it began."""
    name = await bench.approved([call("ok")])
    ticket = await bench.committer(step("ok")).submit(name)

    class Asks:
        """Asks the leader to go as soon as it has sealed its first term."""

        def __init__(self, inner: Any) -> None:
            self._inner, self._asked = inner, False

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        async def seal(self, *args: Any) -> Any:
            sealed = await self._inner.seal(*args)
            if not self._asked:
                self._asked = True
                tip = len(self._inner.read("requests/root"))
                await self._inner.record("requests/root", [Event("resign", {})], after=tip)
            return sealed

    await bench.committer(step("ok"), ledger=Asks(bench.ledger), scope="root").recover(wait_s=10)
    assert (await bench.committer(step("ok")).wait(ticket, wait_s=0)).committed


async def test_two_roots_have_two_scopes(bench: Bench) -> None:
    """Would catch a plan frozen against one tree that is carried out in another which holds the first one's ledger."""
    inner = bench.root / "out"
    above, below = bench.committer(), bench.committer(scope="")
    assert above.scope == below.scope == "root"
    from madflow.commit.api import Committer

    assert Committer(inner, ledger=bench.ledger).scope != "root"
    (inner / ".madflow").mkdir()
    assert Committer(bench.root, ledger=inner / ".madflow" / "l.db").scope == str(bench.root.resolve())


async def test_an_old_word_that_nobody_applied_is_said(bench: Bench) -> None:
    """Would catch a resolve that hangs where no leader can apply it."""

    def lost(args: Any, ctx: Any) -> None:
        raise RuntimeError("who knows")

    name = await bench.approved([call("lost")])
    receipt = await bench.committer(step("lost", lost)).commit(name)
    key = receipt.steps[0].idempotency_key
    with pytest.raises(CommitError, match="no leader applied"):
        await bench.committer(step("lost", lost)).resolve(key, "done", by="ann", wait_s=0)
    assert (await bench.committer(step("lost", lost)).recover())[0].committed


async def test_a_proposal_belongs_to_one_scope(bench: Bench) -> None:
    """Would catch an approval that is good for one execution in each scope."""
    name = await bench.approved([call("ok")])
    done: list[str] = []
    mine = step("ok", lambda args, ctx: done.append(ctx.key))
    assert (await bench.committer(mine).commit(name)).committed
    again = await bench.committer(mine, scope="again").commit(name)
    assert (again.status, again.reasons[0]["code"], len(done)) == ("rejected", "other_scope", 1)


async def test_scopes_that_admit_at_once_agree_on_one(bench: Bench) -> None:
    """Would catch two leaders, each of its scope, that both find the proposal free."""
    name = await bench.approved([call("ok")])
    done: list[str] = []
    mine = step("ok", lambda args, ctx: done.append(ctx.key))
    scopes = [f"scope-{n}" for n in range(8)]
    receipts = await asyncio.gather(*(bench.committer(mine, scope=scope).commit(name) for scope in scopes))
    assert sorted(receipt.status for receipt in receipts) == ["committed"] + ["rejected"] * 7
    assert len(done) == 1


async def test_a_worker_leaves_a_saga_to_its_own_scope(bench: Bench) -> None:
    """Would catch a worker that carries out, once more, what a saga has had approved for itself."""
    from madflow.saga import Saga

    done: list[str] = []
    charge = step("charge", lambda args, ctx: done.append(ctx.key))
    stop = asyncio.Event()
    worker = asyncio.create_task(bench.committer(charge, lease_s=0.2).work(stop))
    try:
        for number in range(3):
            assert (await Saga([charge], root=bench.root, ledger=bench.ledger).run(f"order-{number}")).committed
        await asyncio.sleep(1.5)
    finally:
        stop.set()
        await worker
    assert len(done) == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "my step"}, "cannot call a step"),
        ({"effect_class": "idempotnt"}, "no effect class 'idempotnt'"),
        ({"do": lambda args: None}, "called as do"),
        ({"do": "charge"}, "is a str"),
    ],
)
def test_a_step_that_could_only_fail_is_refused_when_it_is_made(fields: dict[str, Any], said: str) -> None:
    """Would catch a typo in the most safety-relevant word of a step, found as a step in doubt much later."""
    with pytest.raises(ConfigError, match=said):
        Step(**{"name": "s", "do": lambda args, ctx: None, **fields})


async def test_a_saga_without_a_name_is_refused(bench: Bench) -> None:
    """Would catch an empty order id that gets a random name, and so happens as often as it is asked for."""
    from madflow.saga import Saga

    with pytest.raises(ConfigError, match="under a name"):
        await Saga([step("ok")], root=bench.root, ledger=bench.ledger).run(" ")


async def test_the_receipt_names_the_digest_that_was_admitted(bench: Bench) -> None:
    """Would catch a receipt that keeps the digest of a proposal that was still being voted on when it was refused."""
    from madflow.panel.api import propose, vote

    name = await propose(bench.ledger, {"plan": [write("a.txt")]}, panel="ann,bo", proposer="eve", root=bench.root)
    assert (await bench.committer().commit(name)).status == "rejected"
    for agent in ("ann", "bo"):
        await vote(bench.ledger, name, agent=agent, decision="approve")
    receipt = await bench.committer().commit(name)
    assert (receipt.status, receipt.proposal_digest) == ("committed", (await check(bench.ledger, name)).digest)


async def test_a_policy_that_cannot_be_read_for_a_moment_loses_no_plan(bench: Bench) -> None:
    """Would catch a worker that drops an approved plan for good, for a typo in the policy that was mended."""
    file = bench.root / "policy.toml"
    text, stop = file.read_text(), asyncio.Event()
    worker = asyncio.create_task(bench.committer(lease_s=0.3).work(stop))
    try:
        await until(lambda: bench.ledger.fence("root") > 0)
        file.write_text("x=")
        name = await bench.approved([write("a.txt")])
        await asyncio.sleep(2.5)
        file.write_text(text)
        await until(lambda: bench.read("a.txt") is not None)
    finally:
        stop.set()
        await worker
    assert "rejected" not in bench.kinds(name)
