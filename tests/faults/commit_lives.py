"""Commits that are killed at every write and every call of an effect, and recovered by other processes.

    python commit_lives.py CLASS FIRST SEEDS STEP [SAMPLE]    prints one JSON document: figures, and what failed

The seeds are FIRST, FIRST + STEP, …; the seed picks a kind of step of the class, and what stands beside it. With SAMPLE
only so many places are tried for each seed. All processes are forked from one warm parent: for each place that the
commit passes, one that commits is killed there (SIGKILL), perhaps a second one while it recovers, and a last one
recovers until all is quiet, asks again, and lets a human who looked answer what is in doubt. Every place of a recovery
is swept too, after a death that left the step's fate open.
"""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import aiohttp  # noqa: F401 - what the children need is imported before they are forked
from commit_world import CLASS_OF, FILES, IN_MEMORY, KINDS, Judge, Point, World, copied, forked

from madflow.core.invariants import violations
from madflow.core.journal import Journal
from madflow.ports import Record
from madflow.testing.counter import CounterServer

NTH_MAX = 60
ROUNDS_MAX = 5
FORWARD = {"ledger": ("before", "after"), "prepare": ("before", "after"), "do": ("before", "midway", "after")}
AGAIN = {**FORWARD, "settled": ("before", "after"), "probe": ("before", "midway", "after")}


def life(world: World, root: Path, scope: str, point: Point | None, *, recover: bool) -> bool:
    """One process that commits or recovers; whether it was killed."""

    async def live() -> bool:
        committer, ledger = world.committer(root, scope, point, later=recover)
        if recover:
            await committer.recover()
        else:
            for other in list(world.plans)[1:]:
                await committer.submit(other)
            await committer.commit("p1")
        ledger.close()
        return True

    return forked(lambda: asyncio.run(live())) is None


async def finish(world: World, root: Path, scope: str, judge: Judge) -> dict[str, Any]:
    """The last process: recovers until quiet, asks again, answers doubts by what it sees, asks twice more."""
    committer, ledger = world.committer(root, scope, later=True)
    stream = f"commit/{scope}"
    for _ in range(ROUNDS_MAX):
        await committer.recover()
        journal = Journal(ledger.read(stream))
        if all(commit.closed or commit.doubts for commit in journal.commits.values() if commit.admitted):
            break
    else:
        raise AssertionError("recovered again and again, and never quiet")
    admitted = {commit.proposal_id for commit in journal.commits.values() if commit.admitted}
    quiet = {name: committer.receipt(name).to_json() for name in admitted}
    automatic = judge.outside()
    found: dict[str, Any] = {"doubts": doubts(ledger.read(stream)), "asked": {}, "automatic": automatic}
    for name in world.plans:
        asked = (await committer.commit(name)).to_json()
        assert name not in quiet or asked == quiet[name], f"{name}: another receipt than before: {asked} {quiet[name]}"
        found["asked"][name] = asked["status"]
        happened = judge.outside()
        for step in asked["steps"]:
            if step["status"] == "in_doubt":
                own = world.plans[name][step["step_index"]].name
                there = happened[own] if step["direction"] == "do" else own in judge.undone()
                word = "done" if there else "retry"
                said = await committer.resolve(step["idempotency_key"], word, by="who looked")
                assert said.applied and said.by == "who looked"
    receipts = {name: (await committer.commit(name)).to_json() for name in world.plans}
    before, place = judge.outside(), len(ledger.read(stream))
    again = {name: (await committer.commit(name)).to_json() for name in world.plans}
    assert again == receipts, "asked again, it gave another receipt"
    assert (judge.outside(), len(ledger.read(stream))) == (before, place), "asked again, it did something"
    broken = violations(ledger.read(stream))
    assert not broken, broken
    ledger.verify()
    ledger.close()
    return {**found, "receipts": receipts, "terms": journal.term}


def doubts(records: list[Record]) -> list[str]:
    """Every doubt that the table of crashes does not explain, and how many it does."""
    started: dict[tuple[str, int], int] = {}
    classes: dict[str, str] = {}
    found = []
    for record in records:
        said = record.payload
        key, kind = said.get("idempotency_key", ""), record.kind.removeprefix("compensation_")
        if kind == "intent":
            classes[key] = said["effect_class"]
        elif kind == "started":
            started[key, said["attempt"]] = said["term"]
        elif record.kind == "in_doubt":
            lost = said["error_code"] == "submitter_lost" and started[key, said["attempt"]] < said["term"]
            found.append("" if lost and classes[key] == "non_verifiable" else f"{classes[key]}: {said}")
    return found


def run(world: World, base: Path, number: int, deaths: list[Point]) -> tuple[int, Counter[str]]:
    """One run; how many of its deaths were reached, and its figures. Raises AssertionError for a broken promise."""
    root, scope, figures = base / f"run-{number}", f"s{number}", Counter[str]()
    judge = copied(world, root)
    try:
        reached = 0
        for at, point in enumerate(deaths):
            if not life(world, root, scope, point, recover=at > 0):
                break
            reached += 1
        if not deaths:
            life(world, root, scope, None, recover=False)
        end = forked(lambda: asyncio.run(finish(world, root, scope, judge)))
        assert end is not None, "the last process was killed"
        wrong = [doubt for doubt in end["doubts"] if doubt]
        assert not wrong, f"in doubt, though the table does not say so: {wrong}"
        check(world, judge, end)
        figures["doubts"] += len(end["doubts"])
        figures["runs"] += 1
        figures["kills"] += reached
        figures["controls"] += reached == 0
    finally:
        if judge.watch is not None:
            judge.watch.close()
        shutil.rmtree(root)
    return reached, figures


def check(world: World, judge: Judge, end: dict[str, Any]) -> None:
    """Every step of every plan happened exactly once, under its own key; nobody repeated what cannot be told."""
    outside = judge.outside()
    for name, plan in world.plans.items():
        receipt = end["receipts"][name]
        assert receipt["status"] == "committed", f"{name} ended as {receipt}"
        for step, said in zip(plan, receipt["steps"], strict=True):
            if CLASS_OF[step.kind] == "none":
                continue
            expected = sum(other.place == step.place for other in world.planned) if step.kind in FILES else 1
            count = judge.count(step, outside)
            assert count == expected, f"{step.kind} {step.name} happened {count} times, not {expected}: {said}"
            keys = judge.keys(step)
            assert not keys or keys == {said["idempotency_key"]}, f"{step.name} arrived under {keys}"
            if CLASS_OF[step.kind] == "non_verifiable":
                assert end["automatic"].get(step.name, 0) <= 1


def points(world: World) -> Iterator[tuple[list[Point], str]]:
    """Deaths to try next, and the name of the row they stand in: a row ends with the first that is not reached."""
    drawn = world.random
    for where, sides in FORWARD.items():
        for side in sides:
            for nth in range(1, NTH_MAX):
                yield [Point(where, side, nth, _delay(drawn)), *_second(world)], f"1 {where} {side}"
    for where, sides in AGAIN.items():
        for side in sides:
            for nth in range(1, NTH_MAX):
                first = Point("do", drawn.choice(["before", "midway", "after"]), world.target + 1, _delay(drawn))
                yield [first, Point(where, side, nth, _delay(drawn))], f"2 {where} {side}"


def sampled(world: World, size: int) -> list[tuple[list[Point], str]]:
    """Some of the points; each may lie beyond the last place that is passed."""
    near = [
        (deaths, row)
        for deaths, row in points(world)
        if deaths[row.startswith("2")].nth <= (10 if "ledger" in row else 2)
    ]
    return [(deaths, f"{row} {number}") for number, (deaths, row) in enumerate(world.random.sample(near, size))]


def _delay(drawn: Any) -> float:
    return float(drawn.choice([0.0, 0.001, 0.003, 0.01, 0.03]))


def _second(world: World) -> list[Point]:
    """Perhaps a death during the recovery."""
    drawn = world.random
    if drawn.random() < 0.7:
        return []
    where = drawn.choice(list(AGAIN))
    return [Point(where, drawn.choice(AGAIN[where]), drawn.choice([1, 2, 3]), _delay(drawn))]


def sweep(world: World, base: Path, sample: int, figures: Counter[str], failures: list[str]) -> None:
    """Every point of one world, or a sample; a row ends with the first point that is not reached."""
    world.prepare()
    ended, number = set[str](), 0
    for deaths, row in [([], "control"), *(sampled(world, sample) if sample else points(world))]:
        if row in ended:
            continue
        number += 1
        try:
            reached, found = run(world, base, number, deaths)
            figures.update(found)
            wanted = 2 if row.startswith("2") else 1
            if reached < min(wanted, len(deaths)):
                ended.add(row)
        except AssertionError:
            where = f"{world.kind} seed {world.seed}, killed {' then '.join(map(str, deaths)) or 'never'}"
            kinds = [[step.kind for step in plan] for plan in world.plans.values()]
            failures.append(f"{where}; plans {kinds}: {traceback.format_exc()[-3000:]}")
            if len(failures) > 5:
                return


def main(effect_class: str, seeds: range, sample: int) -> dict[str, Any]:
    gc.freeze()
    began, figures, failures = time.perf_counter(), Counter[str](), list[str]()
    base = Path(tempfile.mkdtemp(prefix="madflow-commits-", dir=IN_MEMORY))
    try:
        with CounterServer(base / "judge") as server:
            for seed in seeds:
                kind = KINDS[effect_class][seed % len(KINDS[effect_class])]
                world = World(base / f"{kind}-{seed}", server, kind, seed)
                sweep(world, base, sample, figures, failures)
                shutil.rmtree(world.folder, ignore_errors=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return {"figures": figures, "failures": failures, "seconds": round(time.perf_counter() - began, 1)}


if __name__ == "__main__":
    start, count, step, *size = map(int, sys.argv[2:])
    print(json.dumps(main(sys.argv[1], range(start, start + count * step, step), *(size or [0]))))
