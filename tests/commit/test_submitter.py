"""Submitters that come after others: what they find by name, what they leave alone, whose policy counts."""

import asyncio
from typing import Any

import pytest
from commit_bench import POLICY, Bench, call, until, write

from madflow.commit import Committer, Step
from madflow.ledger.sqlite import open_ledger
from madflow.ports import Event


async def abandoned(bench: Bench, kind: Any, calls: list[int]) -> str:
    """A proposal whose submitter went away in the middle of its second step."""

    async def hang(args: Any, ctx: Any) -> None:
        calls.append(ctx.attempt)
        await asyncio.sleep(60)

    hanging = Step(name="mine", do=hang, probe=lambda args, ctx: None, effect_class=kind, nothing_to_undo=True)
    name = await bench.approved([write("a.txt"), call("mine")])
    task = asyncio.create_task(bench.committer(hanging, node="gone").commit(name))
    await until(lambda: calls == [1])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.kinds(name)[-1] == "started"
    return name


async def test_recovery_finds_the_code_by_its_name(bench: Bench) -> None:
    """Would catch a recovery that needs the object that began, and not just its name."""
    calls: list[int] = []
    name = await abandoned(bench, "idempotent", calls)
    mine = Step(name="mine", do=lambda args, ctx: calls.append(ctx.attempt), effect_class="idempotent")
    (receipt,) = await bench.committer(mine).recover()
    assert (receipt.proposal_id, receipt.status, calls) == (name, "committed", [1, 2])


@pytest.mark.parametrize(
    ("found", "ends", "tries"), [(True, "committed", 1), (False, "committed", 2), (None, "in_doubt", 1)]
)
async def test_recovery_asks_the_probe(bench: Bench, found: bool | None, ends: str, tries: int) -> None:
    """Would catch a second attempt of what has happened, or a third answer that is taken for one of two."""
    calls: list[int] = []
    await abandoned(bench, "verifiable", calls)
    mine = Step(
        name="mine",
        do=lambda args, ctx: calls.append(ctx.attempt),
        probe=lambda args, ctx: found,
        effect_class="verifiable",
        nothing_to_undo=True,
    )
    (receipt,) = await bench.committer(mine).recover()
    assert (receipt.status, len(calls)) == (ends, tries)


async def test_what_cannot_be_asked_is_in_doubt_and_never_tried_again(bench: Bench) -> None:
    calls: list[int] = []
    await abandoned(bench, "non_verifiable", calls)
    mine = Step(name="mine", do=lambda args, ctx: calls.append(9), nothing_to_undo=True)
    for _ in range(2):
        (receipt,) = await bench.committer(mine).recover()
        assert (receipt.status, receipt.steps[1].error_code, calls) == ("in_doubt", "submitter_lost", [1])


async def test_a_class_is_what_the_intent_says(bench: Bench) -> None:
    """Would catch a step that is tried again because its class was changed after the crash."""
    calls: list[int] = []
    await abandoned(bench, "non_verifiable", calls)
    mine = Step(name="mine", do=lambda args, ctx: calls.append(9), effect_class="idempotent")
    (receipt,) = await bench.committer(mine).recover()
    assert (receipt.status, receipt.steps[1].effect_class, calls) == ("in_doubt", "non_verifiable", [1])


async def test_a_submitter_without_the_code_leaves_it_alone_and_goes_on(bench: Bench) -> None:
    """Would catch a commit that is given up, or one that stops all others, because one app's code is not there."""
    calls: list[int] = []
    name = await abandoned(bench, "idempotent", calls)
    other = await bench.approved([write("b.txt")])
    stranger = bench.committer(node="stranger")
    before = bench.kinds(name)
    (parked,) = await stranger.recover()
    assert (parked.status, parked.proposal_id) == ("pending", name)
    assert "no step 'mine' is registered here" in parked.waits_for
    assert (await stranger.commit(other)).committed
    assert bench.kinds(name) == before
    mine = Step(name="mine", do=lambda args, ctx: calls.append(ctx.attempt), effect_class="idempotent")
    assert [one.status for one in await bench.committer(mine).recover()] == ["committed"]


async def test_two_submitters_lead_one_after_the_other(bench: Bench) -> None:
    """Would catch a term that is used twice, or records of two terms that interleave."""
    committers = [Committer(bench.root, node=f"n{index}") for index in range(2)]
    names = [await bench.approved([write(f"{index}.txt")]) for index in range(6)]
    for index, name in enumerate(names):
        assert (await committers[index % 2].commit(name)).committed
    sealed = [r.payload for r in bench.ledger.read("commit/root") if r.kind == "term_sealed"]
    terms = [payload["term"] for payload in sealed]
    assert terms == sorted(set(terms)) and [payload["node"] for payload in sealed] == ["n0", "n1"] * 3


async def test_a_policy_is_read_anew_for_each_proposal(bench: Bench) -> None:
    """Would catch a worker that goes on by the policy it began with."""
    stop = asyncio.Event()
    worker = bench.committer(node="w")
    working = asyncio.create_task(worker.work(stop))
    first = await bench.approved([write("a.txt")])
    await until(lambda: worker.receipt(first).committed)
    (bench.root / "policy.toml").write_text(POLICY.replace("out/**", "elsewhere/**"))
    second = await bench.approved([write("b.txt")])
    await until(lambda: worker.receipt(second).status == "rejected")
    stop.set()
    await working
    assert bench.read("b.txt") is None


async def test_a_deposed_submitter_does_and_records_nothing_more(bench: Bench) -> None:
    """Would catch a stale leader whose next step still happens."""
    gate, entered = asyncio.Event(), asyncio.Event()

    async def stay(args: Any, ctx: Any) -> None:
        entered.set()
        await gate.wait()

    name = await bench.approved([call("stay"), write("a.txt")])
    stale = bench.committer(Step(name="stay", do=stay, effect_class="idempotent"), node="stale", lease_s=60)
    task = asyncio.create_task(stale.commit(name, wait_s=0.5))
    await entered.wait()
    with open_ledger(bench.path) as other:
        term = other.fence("root") + 1
        await other.seal("root", term, Event("term_sealed", {"term": term, "agent_id": "new", "node": "new"}))
    gate.set()
    await task
    records = bench.ledger.read("commit/root")
    sealed = next(record.seq for record in records if record.payload.get("node") == "new")
    assert all(record.seq < sealed for record in records if record.payload["term"] < term)
    began = [r.payload["term"] for r in records if r.kind == "started" and r.payload["step_index"] == 1]
    assert all(one > term for one in began), "the next step is begun by a later term, or not at all"
