"""Committers as an app uses them, over the real ledger, elector and effects; nothing is replaced."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from commit_bench import POLICY, Bench, call, policy, until, write

from madflow.commit import Committer, Gate, Rejected, Step
from madflow.commit.receipt import Receipt, commit_document
from madflow.core.gate import Admitted
from madflow.errors import ConfigError, UnknownProposal, UsageError
from madflow.panel.api import check, propose
from madflow.testing.counter import CounterServer

FLAKY = {"step": "test", "cmd": ["sh", "-c", "test -e out/flag || { touch out/flag; exit 1; }"]}


def statuses(receipt: Receipt) -> list[tuple[int, str, str]]:
    return [(step.step_index, step.direction, step.status) for step in receipt.steps]


def attempts(receipt: Receipt, index: int) -> int:
    return next(step.attempts for step in receipt.steps if (step.step_index, step.direction) == (index, "do"))


def codes(verdict: Any) -> list[str]:
    return [reason.code for reason in verdict.reasons]


async def test_a_commit_happens_once_and_every_caller_gets_the_same_receipt(bench: Bench, tmp_path: Path) -> None:
    """Would catch a second commit that does it again, or a receipt that knows who asked."""
    with CounterServer(tmp_path / "judge") as judge:
        post = {"step": "command", "cmd": judge.command("POST", "/effect/x"), "undo": []}
        name = await bench.approved([write("a.txt"), post])
        first = await bench.committer().commit(name)
        written = (bench.root / "out/a.txt").stat().st_mtime_ns
        records = len(bench.kinds())
        proposal = await check(bench.ledger, name)
        others = [await bench.committer(node="other").commit(asked) for asked in (name, proposal, proposal.to_json())]
        assert judge.counts() == {"x": 1}
    assert first.committed and first.status == "committed" and first.waits_for == ""
    assert all(other == first for other in others)
    assert bench.read("a.txt") == "new\n" and (bench.root / "out/a.txt").stat().st_mtime_ns == written
    assert len(bench.kinds()) == records, "a commit that has ended needs no new term"
    assert bench.committer().receipt(name) == first


async def test_looking_records_nothing_and_does_nothing(bench: Bench) -> None:
    name = await bench.approved([write("a.txt")])
    before = list(bench.ledger.scan())
    verdict = bench.committer().check(name)
    assert isinstance(verdict, Admitted)
    assert (verdict.classes, bench.read("a.txt")) == (("verifiable",), None)
    assert Gate(bench.root, ledger=bench.path).check(name) == verdict
    assert bench.committer().receipt(name).status == "pending"
    assert list(bench.ledger.scan()) == before


async def test_every_reason_at_once_and_another_policy_admits_it_later(bench: Bench) -> None:
    """Would catch a refusal that stops at its first reason, one that is not recorded, or one that is for ever."""
    name = await bench.approved([write("a.txt"), {"step": "command", "cmd": ["rm", "-r", "."]}, call("nobody")])
    (bench.root / "policy.toml").write_text('[[allow]]\nstep = ["write"]\npaths = ["elsewhere/**"]\n')
    committer = bench.committer()
    refused = await committer.commit(name)
    assert refused.status == "rejected"
    assert {reason["step"] for reason in refused.reasons} == {0, 1, 2}
    assert bench.read("a.txt") is None
    assert bench.kinds(name) == ["rejected"]
    (bench.root / "policy.toml").write_text(POLICY.replace('"true"', '"rm"'))
    good = await bench.approved([write("b.txt")])
    (bench.root / "policy.toml").write_text("")
    assert (await committer.commit(good)).status == "rejected"
    (bench.root / "policy.toml").write_text(POLICY)
    assert (await committer.commit(good)).status == "committed", "the policy is the file as it is now"
    assert bench.read("b.txt") == "new\n"


async def test_a_policy_that_breaks_allows_nothing_and_says_so(bench: Bench) -> None:
    name = await bench.approved([write("a.txt")])
    given = bench.committer(policy=policy())
    assert codes(given.check(name)) == ["kind_not_allowed"]
    (bench.root / "policy.toml").write_text("[[allow]\n")
    with pytest.raises(UsageError, match=r"policy\.toml"):
        bench.committer().check(name)
    assert bench.read("a.txt") is None


async def test_data_that_differs_from_the_ledger_is_refused_and_the_ledger_s_own_commits(bench: Bench) -> None:
    """Would catch a committer that believes the file it was given."""
    name = await bench.approved([write("a.txt")])
    edited = (await check(bench.ledger, name)).to_json()
    edited["plan"][0]["content"] = "evil\n"
    committer = bench.committer()
    refused = await committer.commit(edited)
    assert refused.status == "rejected"
    assert {reason["code"] for reason in refused.reasons} >= {"edited"}
    assert bench.read("a.txt") is None
    assert (await committer.commit(name)).committed
    assert bench.read("a.txt") == "new\n"
    again = await committer.commit(edited)
    assert again.status == "rejected" and "edited" in {reason["code"] for reason in again.reasons}
    assert (await committer.commit(name)).committed


async def test_what_nobody_knows_is_refused(bench: Bench) -> None:
    with pytest.raises(UnknownProposal, match="no proposal 'nothing'"):
        await bench.committer().commit("nothing")
    assert not bench.ledger.read("requests/root"), "nothing is asked for that nobody knows"
    with pytest.raises(UsageError, match="names no proposal"):
        await bench.committer().commit({"plan": []})
    open_yet = await propose(bench.ledger, [write("a.txt")], panel="a,b", proposer="a", root=bench.root)
    assert (await bench.committer().commit(open_yet)).reasons[0]["code"] == "open"


async def test_a_failing_step_takes_back_what_was_done_in_reverse(bench: Bench) -> None:
    """Would catch compensation in the plan's order, an old file that is not put back, or a new one that stays."""
    said: list[str] = []

    def step(name: str) -> Step:
        return Step(
            name=name,
            do=lambda args, ctx: said.append(f"do {name}"),
            undo=lambda args, ctx: said.append(f"undo {name}"),
            effect_class="idempotent",
        )

    (bench.root / "out/old.txt").write_text("old\n")
    name = await bench.approved(
        [call("one"), write("old.txt"), write("new.txt"), call("two"), {"step": "test", "cmd": ["false"]}, call("one")]
    )
    receipt = await bench.committer(step("one"), step("two")).commit(name)
    assert (receipt.status, receipt.rollback) == ("compensated", "complete")
    assert said == ["do one", "do two", "undo two", "undo one"]
    assert (bench.read("old.txt"), bench.read("new.txt")) == ("old\n", None)
    assert (4, "do", "failed") in statuses(receipt) and 5 not in {step.step_index for step in receipt.steps}


async def test_a_step_that_nobody_can_take_back_asks_a_human(bench: Bench) -> None:
    once = Step(name="once", do=lambda args, ctx: None)
    name = await bench.approved([call("once"), {"step": "test", "cmd": ["false"]}])
    committer = bench.committer(once)
    receipt = await committer.commit(name)
    assert receipt.status == "in_doubt"
    doubt = next(step for step in receipt.steps if step.status == "in_doubt")
    assert (doubt.direction, doubt.error_code) == ("undo", "no_undo")
    left = await committer.resolve(doubt.idempotency_key[:12], "failed", by="ann", note="it may stay")
    assert (left.receipt.status, left.receipt.rollback) == ("compensated", "partial")


@pytest.mark.parametrize(
    ("word", "ends", "did"), [("done", "committed", 1), ("failed", "compensated", 1), ("retry", "committed", 2)]
)
async def test_a_step_in_doubt_waits_for_a_human_and_does_what_it_is_told(
    bench: Bench, word: str, ends: str, did: int
) -> None:
    """Would catch a non-verifiable step that is tried again by itself, or a word that is taken for another."""
    calls: list[int] = []

    def boom(args: Any, ctx: Any) -> None:
        calls.append(ctx.attempt)
        if len(calls) == 1:
            raise RuntimeError("who knows")

    committer = bench.committer(Step(name="boom", do=boom, nothing_to_undo=True))
    name = await bench.approved([write("a.txt"), call("boom"), write("b.txt")])
    doubt = await committer.commit(name)
    assert (doubt.status, doubt.steps[-1].error_code, calls) == ("in_doubt", "raised", [1])
    assert await committer.commit(name) == doubt, "asking again changes nothing"
    assert [receipt.status for receipt in await committer.recover()] == ["in_doubt"]
    assert calls == [1]
    key = doubt.steps[-1].idempotency_key
    settled = await committer.resolve(key, word, by="ann", note="looked")
    assert (settled.applied, settled.by, settled.word) == (True, "ann", word)
    final = await committer.commit(name)
    assert (final.status, len(calls)) == (ends, did)
    assert (bench.read("a.txt") is None) == (ends == "compensated")
    late = await committer.resolve(key, "done", by="bob") if word != "retry" else None
    assert late is None or (late.applied, late.by) == (False, "ann")


async def test_words_that_cannot_count_are_refused(bench: Bench) -> None:
    committer = bench.committer()
    name = await bench.approved([write("a.txt")])
    key = (await committer.commit(name)).steps[0].idempotency_key
    with pytest.raises(UnknownProposal, match="not in doubt: it is done"):
        await committer.resolve(key, "failed", by="ann")
    with pytest.raises(UnknownProposal, match="0 keys that start with"):
        await committer.resolve("feedfacefeedface", "done", by="ann")
    with pytest.raises(ConfigError, match="done, failed, retry"):
        await committer.resolve(key, "yes", by="ann")
    with pytest.raises(ConfigError, match="needs a name"):
        await committer.resolve(key, "done", by=" ")


async def test_a_flaky_test_runs_twice_where_the_proposal_stops_on_two_failures(bench: Bench) -> None:
    """Would catch a stop condition that nobody reads, and a test that is rerun without one."""
    stops = [{"kind": "test_failed_twice", "note": ""}]
    twice = await bench.committer().commit(await bench.approved([write("a.txt"), FLAKY], stop_conditions=stops))
    assert (twice.status, attempts(twice, 1)) == ("committed", 2)
    (bench.root / "out/flag").unlink()
    once = await bench.committer().commit(await bench.approved([write("b.txt"), FLAKY]))
    assert (once.status, attempts(once, 1), bench.read("b.txt")) == ("compensated", 1, None)
    never = [write("c.txt"), {"step": "test", "cmd": ["false"]}]
    failed = await bench.committer().commit(await bench.approved(never, stop_conditions=stops))
    assert (failed.status, attempts(failed, 1), bench.read("c.txt")) == ("compensated", 2, None)


async def test_a_proposal_that_stops_for_a_human_is_confirmed_by_name(bench: Bench) -> None:
    """Would catch a confirmation that is not asked for, or not on record."""
    name = await bench.approved([write("a.txt")], stop_conditions=[{"kind": "human", "note": ""}])
    committer = bench.committer()
    refused = await committer.commit(name)
    assert [reason["code"] for reason in refused.reasons] == ["needs_human"]
    assert isinstance(committer.check(name, confirmed_by="ann"), Admitted)
    assert (await committer.commit(name, confirmed_by="ann")).committed
    intent = next(record for record in bench.ledger.read("commit/root") if record.kind == "intent")
    assert intent.payload["admission"]["confirmed_by"] == "ann"


async def test_a_commit_has_a_deadline_and_is_compensated_when_it_is_over(bench: Bench) -> None:
    """Would catch a plan of many slow steps that runs for ever, and one that is left half done."""
    there: list[int] = []

    async def slow(args: Any, ctx: Any) -> None:
        await asyncio.sleep(0.6)
        there.append(args["i"])

    step = Step(
        name="slow",
        do=slow,
        undo=lambda args, ctx: there.remove(args["i"]),
        probe=lambda args, ctx: args["i"] in there,
        effect_class="verifiable",
    )
    name = await bench.approved([call("slow", i=index) for index in range(4)])
    receipt = await bench.committer(step, policy=policy(time={"commit_s": 1})).commit(name)
    assert (receipt.status, receipt.rollback, there) == ("compensated", "complete", [])
    failed = [(one.step_index, one.error_code) for one in receipt.steps if one.status == "failed"]
    assert failed == [(1, "commit_deadline")], "the steps after it are never begun"


async def test_where_it_lies_does_not_change_what_it_is(bench: Bench, tmp_path: Path) -> None:
    """Would catch keys that change when a tree is moved: everything would be done again."""
    name = await bench.approved([write("a.txt")])
    by_path = Committer(bench.root, ledger=bench.path)
    receipt = await by_path.commit(name)
    assert (by_path.scope, receipt.scope) == ("root", "root")
    assert Committer(bench.root).receipt(name) == receipt, "the default ledger is the root's"
    elsewhere = Committer(bench.root, ledger=tmp_path / "other" / "l.db")
    assert elsewhere.scope == str(bench.root.resolve())


async def test_many_committers_at_once_do_it_once(bench: Bench) -> None:
    """Would catch two leaders, a caller that gives up while another leads, or receipts that differ."""
    counted: list[str] = []

    async def do(args: Any, ctx: Any) -> dict[str, int]:
        await asyncio.sleep(0.05)
        counted.append(ctx.key)
        return {"n": len(counted)}

    step = Step(name="count", do=do)
    name = await bench.approved([call("count"), write("a.txt")])
    committers = [bench.committer(step, node=f"n{index}") for index in range(4)]
    committers += [Committer(bench.root, steps=[step], node=f"m{index}") for index in range(2)]
    receipts = await asyncio.gather(*(committer.commit(name) for committer in committers for _ in range(3)))
    assert len(counted) == 1
    assert all(receipt == receipts[0] for receipt in receipts) and receipts[0].committed


async def test_a_ticket_is_durable_and_waits_elsewhere(bench: Bench) -> None:
    """Would catch a request that is lost with its caller."""
    name = await bench.approved([write("a.txt")])
    ticket = await bench.committer().submit(name)
    assert bench.committer().receipt(name).status == "pending" and bench.kinds() == []
    assert [receipt.status for receipt in await bench.committer().recover()] == ["committed"]
    again = bench.committer().ticket(ticket.proposal_id, ticket.seq)
    assert again == ticket
    assert (await bench.committer().wait(again)).committed


async def test_waiting_is_bounded(bench: Bench) -> None:
    """Would catch a caller that waits for ever for a step, and a commit that is lost when its caller gives up."""
    gate = asyncio.Event()

    async def do(args: Any, ctx: Any) -> None:
        await gate.wait()

    leader, other = bench.committer(Step(name="wait", do=do), node="l"), bench.committer(node="o")
    name = await bench.approved([call("wait")])
    task = asyncio.create_task(leader.commit(name))
    await until(lambda: "started" in bench.kinds())
    began = time.monotonic()
    assert (await other.commit(name, wait_s=0.1)).status == "pending"
    assert time.monotonic() - began < 5
    leading = await other.observe()
    assert leading is not None and (leading.node, leading.alive) == ("l", True)
    gate.set()
    assert (await task).committed


async def test_a_worker_commits_what_is_approved_and_resigns_when_asked(bench: Bench) -> None:
    said: list[str] = []
    stop = asyncio.Event()
    committer = bench.committer(node="w", lease_s=0.3)
    first = await bench.approved([write("a.txt")])
    refused = await bench.approved([{"step": "command", "cmd": ["rm", "x"]}])
    working = asyncio.create_task(committer.work(stop, on_change=said.append))
    await until(lambda: committer.receipt(first).committed and committer.receipt(refused).status == "rejected")
    later = await bench.approved([write("b.txt")])
    await until(lambda: committer.receipt(later).committed)
    await bench.committer().ask_leader(by="ann")
    await until(lambda: "resigned as asked" in said)
    stop.set()
    await working
    assert bench.kinds(refused) == ["rejected"], "a refused proposal is not asked for again and again"


async def test_the_document_of_a_commit_has_its_records(bench: Bench) -> None:
    name = await bench.approved([write("a.txt"), {"step": "test", "cmd": ["true"]}])
    await bench.committer().commit(name)
    document = commit_document(bench.ledger, "root", name)
    kinds = [record["kind"] for record in document["records"]]
    assert kinds == ["intent", "started", "outcome", "intent", "started", "outcome", "committed"]
    assert document["status"] == "committed"


def test_what_cannot_be_a_committer(tmp_path: Path) -> None:
    step = Step(name="s", do=lambda args, ctx: None)
    with pytest.raises(ConfigError, match="is no folder"):
        Committer(tmp_path / "gone")
    with pytest.raises(ConfigError, match="is no folder"):
        Gate(tmp_path / "gone")
    with pytest.raises(ConfigError, match="lease_s=0"):
        Committer(tmp_path, lease_s=0)
    with pytest.raises(ConfigError, match="two steps are registered as 's'"):
        Committer(tmp_path, steps=[step, step])
    assert not (tmp_path / ".madflow").exists(), "making one touches nothing"


async def test_a_gate_without_the_code_says_so(bench: Bench) -> None:
    name = await bench.approved([call("mine")])
    verdict = Gate(bench.root, ledger=bench.ledger).check(name)
    assert isinstance(verdict, Rejected) and codes(verdict) == ["unregistered"]
    step = Step(name="mine", do=lambda args, ctx: None)
    assert isinstance(Gate(bench.root, ledger=bench.ledger, steps=[step]).check(name), Admitted)
