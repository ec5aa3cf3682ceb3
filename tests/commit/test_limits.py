"""Commits that share a resource wait for each other; the others run together."""

import asyncio
from typing import Any

from commit_bench import Bench, call, policy, until, write

from madflow.commit import Step


class Room:
    """A step that notes who is inside, and stays until it is let out."""

    def __init__(self) -> None:
        self.inside, self.most, self.out = 0, 0, asyncio.Event()

    async def __call__(self, args: Any, ctx: Any) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.out.wait()
        self.inside -= 1


async def test_independent_commits_run_together(bench: Bench) -> None:
    """Would catch a submitter that carries commits through one after the other: nobody would let them out."""
    room = Room()
    step = Step(name="stay", do=room.__call__)
    names = [await bench.approved([write(f"{index}.txt"), call("stay", i=index)]) for index in range(5)]
    committer = bench.committer(step)
    tasks = [asyncio.create_task(committer.commit(name)) for name in names]
    await until(lambda: room.inside == 5)
    room.out.set()
    assert all([(await task).committed for task in tasks])


async def test_commits_of_one_file_wait_for_each_other(bench: Bench) -> None:
    """Would catch two plans that are voted on against the same file and both written: the second is stale by then."""
    room = Room()
    step = Step(name="stay", do=room.__call__)
    plans = [[write("same.txt", f"{index}\n"), call("stay", i=index)] for index in range(2)]
    first, second = [await bench.approved(plan) for plan in plans]
    committer = bench.committer(step)
    tasks = [asyncio.create_task(committer.commit(name)) for name in (first, second)]
    await until(lambda: room.inside == 1)
    waiting = await bench.committer(step).commit(second, wait_s=0.2)
    assert (waiting.status, bench.kinds(second)) == ("pending", [])
    room.out.set()
    receipts = [await task for task in tasks]
    assert (receipts[0].status, bench.read("same.txt"), room.most) == ("committed", "0\n", 1)
    assert receipts[1].status == "rejected" or receipts[1].steps[0].error_code == "precondition_failed"


async def test_the_policy_limits_a_resource(bench: Bench) -> None:
    """Would catch a limit that nobody counts."""
    room = Room()
    step = Step(name="stay", do=room.__call__)
    committer = bench.committer(step, policy=policy(limits={"call:stay": 2}))
    names = [await bench.approved([call("stay", i=index)]) for index in range(5)]
    tasks = [asyncio.create_task(committer.commit(name)) for name in names]
    await until(lambda: room.inside == 2)
    await asyncio.sleep(0.2)
    room.out.set()
    assert all([(await task).committed for task in tasks])
    assert room.most == 2


async def test_a_commit_in_doubt_keeps_its_file(bench: Bench) -> None:
    """Would catch a half-done plan whose file another one writes while a human is still looking."""

    def boom(args: Any, ctx: Any) -> None:
        raise RuntimeError("who knows")

    committer = bench.committer(Step(name="boom", do=boom))
    doubtful = await bench.approved([write("f.txt", "1\n"), call("boom")])
    later = await bench.approved([write("f.txt")])
    doubt = await committer.commit(doubtful)
    assert doubt.status == "in_doubt"
    waiting = await committer.commit(later, wait_s=0.3)
    assert waiting.status == "pending"
    assert "file:out/f.txt is in use by" in waiting.waits_for
    await committer.resolve(doubt.steps[-1].idempotency_key, "failed", by="ann")
    assert (await committer.commit(later)).committed
    assert bench.read("f.txt") == "new\n"
