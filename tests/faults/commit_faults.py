"""Sagas that are killed, disks that fail, many that commit at once: the harness behind test_commit_faults.py.

    python commit_faults.py saga SEED STEP          every STEP-th place of a commit whose last step fails
    python commit_faults.py disk FIRST STEP         every STEP-th write and sync of `madflow commit`, from FIRST on
    python commit_faults.py once COMMITS PROCESSES  one proposal, committed COMMITS times by PROCESSES at once

Each prints one JSON document: figures, and what failed. As in commit_lives.py everything is forked from a warm parent.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import aiohttp  # noqa: F401 - what the children need is imported before they are forked
import apsw
from commit_lives import AGAIN, NTH_MAX, check, doubts, finish, life
from commit_world import IN_MEMORY, Judge, Point, World, copied, forked

import madflow.cli.commit  # noqa: F401
from madflow.cli.app import main as command_line
from madflow.commit.kit import ROOT_SCOPE
from madflow.core.journal import Journal
from madflow.ledger.sqlite import open_ledger
from madflow.testing.counter import CounterServer
from madflow.testing.disk import FaultyDisk

SAGA = ("put+undo", "probed+undo", "command+undo", "step+undo", "false")
DISK = ("put", "ledger_sql", "write", "command")


# --- sagas ------------------------------------------------------------------------------------------------------


def saga(base: Path, server: CounterServer, seed: int, step: int, figures: Counter[str]) -> None:
    """The last step fails; a process dies at each place of doing and undoing; perhaps the next one, too."""
    drawn = random.Random(seed)
    kinds = [*drawn.sample(SAGA[:-1], len(SAGA) - 1), SAGA[-1]]
    world = World(base / "saga", server, kinds[0], seed, kinds)
    world.prepare()
    number = 0
    for where, sides in AGAIN.items():
        for side in sides:
            for nth in range(1, NTH_MAX):
                number += 1
                if nth > 1 and number % step:
                    continue
                deaths = [Point(where, side, nth, drawn.choice([0.0, 0.002, 0.02]))]
                if where in ("settled", "probe"):
                    deaths.insert(0, Point("do", "after", drawn.randint(1, 2 * len(kinds) - 1)))
                elif drawn.random() < 0.3:
                    deaths.append(Point("ledger", drawn.choice(["before", "after"]), drawn.randint(1, 6)))
                try:
                    reached = saga_run(world, base / f"run-{number}", f"s{number}", deaths, figures)
                except AssertionError as error:
                    raise AssertionError(f"killed {' then '.join(map(str, deaths))}; plan {kinds}") from error
                if reached < min(len(deaths), 2 if where in ("settled", "probe") else 1):
                    break


def saga_run(world: World, root: Path, scope: str, deaths: list[Point], figures: Counter[str]) -> int:
    judge, reached = copied(world, root), 0
    try:
        for at, point in enumerate(deaths):
            if not life(world, root, scope, point, recover=at > 0):
                break
            reached += 1
        end = forked(lambda: asyncio.run(finish(world, root, scope, judge)))
        wrong = [doubt for doubt in end["doubts"] if doubt]
        assert not wrong, f"in doubt, though the table does not say so: {wrong}"
        receipt, names = end["receipts"]["p1"], [step.name for step in world.plans["p1"]]
        assert (receipt["status"], receipt["rollback"]) == ("compensated", "complete"), receipt
        assert judge.undone() == names[-2::-1], f"taken back: {judge.undone()}, done: {names}"
        happened = judge.outside()
        assert all(happened[name] == 1 for name in names[:-1]), happened
        figures.update(runs=1, kills=reached, doubts=len(end["doubts"]))
    finally:
        assert judge.watch is not None
        judge.watch.close()
        shutil.rmtree(root)
    return reached


# --- disks ------------------------------------------------------------------------------------------------------


def disk(base: Path, server: CounterServer, first: int, step: int, figures: Counter[str]) -> None:
    """The n-th write, sync or truncation of `madflow commit` fails, and all after it; then the disk is repaired."""
    world = World(base / "disk", server, DISK[0], 0, DISK)
    world.prepare()
    write_policy(world)
    for failure in ("EIO", "ENOSPC"):
        for nth in range(first + 1, 10_000, step):
            root = base / f"run-{failure}-{nth}"
            judge = copied(world, root)
            try:
                reached = disk_run(world, judge, nth, failure, figures)
            except AssertionError as error:
                raise AssertionError(f"{failure} at operation {nth}") from error
            finally:
                assert judge.watch is not None
                judge.watch.close()
                shutil.rmtree(root)
            if not reached:
                figures[f"operations {failure}"] = nth - 1
                break


def disk_run(world: World, judge: Judge, nth: int, failure: Any, figures: Counter[str]) -> bool:
    """Whether the failure came. The figures say in which way the command ended."""
    root = judge.root
    code, said, failed = commit_on(root, nth, failure)
    ledger = open_ledger(root / ".madflow/ledger.db")
    records = ledger.read(f"commit/{ROOT_SCOPE}")
    ledger.close()
    begun = {record.payload["step_index"] for record in records if record.kind == "started"}
    closed = any(record.kind == "committed" for record in records)
    happened = judge.outside()
    for index, step in enumerate(world.plans["p1"]):
        count = judge.count(step, happened)
        assert count <= 1, f"{step.kind} happened {count} times"
        assert not count or index in begun, f"{step.kind} happened without a durable `started`"
    if failed:
        lines = said.splitlines()
        assert code == 1 or closed, f"exit code {code}: {said}"
        assert code in (0, 1), f"exit code {code}: {said}"
        if code == 1:
            assert len(lines) == 1, said
            assert lines[0].startswith("madflow: "), said
            assert "ledger.db" in lines[0], said
            poisoned, closing = "writes nothing more" in lines[0], lines[0].startswith("madflow: closing the ledger")
            assert poisoned or closing, said
            figures["poisoned" if poisoned else "closing"] += 1
        figures[f"exit {code}"] += 1
    else:
        assert code == 0, f"exit code {code}, though nothing failed: {said}"
    end = forked(lambda: asyncio.run(finish(world, root, ROOT_SCOPE, judge)))
    wrong = [doubt for doubt in end["doubts"] if doubt]
    assert not wrong, f"in doubt, though the table does not say so: {wrong}"
    check(world, judge, end)
    figures.update(runs=1, doubts=len(end["doubts"]))
    return bool(failed)


def commit_on(root: Path, nth: int, failure: Any) -> tuple[int, str, int]:
    """`madflow commit p1` in a process whose disk fails: its exit code, its stderr, how many operations failed."""
    said, failed = root / "stderr", root / "failed"
    child = os.fork()
    if child == 0:
        code = 99
        try:
            for number, path in ((1, os.devnull), (2, said)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
            own = FaultyDisk("planted")
            apsw.set_default_vfs(own.name)
            own.fail(at=nth, with_=failure)
            try:
                command_line(["commit", "p1", "--root", str(root), "--wait", "20"])
            except SystemExit as error:
                code = int(str(error.code))
            failed.write_text(str(len(own.failed)))
        except BaseException as error:
            said.write_text("".join(traceback.format_exception(error)))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert failed.exists(), said.read_text()
    return os.waitstatus_to_exitcode(status), said.read_text(), int(failed.read_text() or "0")


def write_policy(world: World) -> None:
    """The world's policy as a file, for a command line."""
    lines = []
    for entry in world.policy.allow:
        lines.append("[[allow]]")
        for name, value in entry.model_dump(exclude_defaults=True).items():
            lines.append(f"{name} = {json.dumps(list(value))}")
    lines += ["[http]", f"idempotent_hosts = {json.dumps(list(world.policy.http.idempotent_hosts))}", "[databases]"]
    lines += [f"{name} = {json.dumps(path)}" for name, path in world.policy.databases.items()]
    (world.folder / "policy.toml").write_text("\n".join(lines) + "\n")


# --- many at once -----------------------------------------------------------------------------------------------


def once(base: Path, server: CounterServer, commits: int, processes: int, figures: Counter[str]) -> None:
    """All of them get the same receipt, byte by byte; each step happens once; each key has one terminal record."""
    world = World(base / "once", server, "command", 0, ("put", "command", "write", "ledger_sql", "step", "git"))
    world.prepare()
    root = base / "run"
    judge = copied(world, root)

    async def ask(count: int) -> list[str]:
        committer, ledger = world.committer(root, "s")
        receipts = await asyncio.gather(*(committer.commit("p1") for _ in range(count)))
        ledger.close()
        return [json.dumps(receipt.to_json()) for receipt in receipts]

    shares = [commits // processes + (number < commits % processes) for number in range(processes)]
    children = []
    for number, share in enumerate(shares):
        out = base / f"receipts-{number}"
        child = os.fork()
        if child == 0:
            try:
                out.write_text("\n".join(asyncio.run(ask(share))))
                os._exit(0)
            except BaseException as error:
                traceback.print_exception(error)
            finally:
                os._exit(1)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0, "a process that committed failed, see its trace above"
    receipts = "\n".join((base / f"receipts-{number}").read_text() for number in range(processes)).splitlines()
    assert len(receipts) == commits
    assert len(set(receipts)) == 1, "different receipts"
    assert json.loads(receipts[0])["status"] == "committed", receipts[0]
    ledger = open_ledger(root / ".madflow/ledger.db")
    records = ledger.read("commit/s")
    ledger.close()
    outcomes = Counter(r.payload["idempotency_key"] for r in records if r.kind == "outcome")
    assert set(outcomes.values()) == {1}, outcomes
    assert len(outcomes) == len(world.plans["p1"]), outcomes
    assert not doubts(records)
    check(world, judge, {"receipts": {"p1": json.loads(receipts[0])}, "automatic": judge.outside()})
    figures.update(receipts=commits, processes=processes, terms=Journal(records).term)
    shutil.rmtree(root)


def main(scenario: str, first: int, second: int) -> dict[str, Any]:
    gc.freeze()
    began, figures, failures = time.perf_counter(), Counter[str](), list[str]()
    base = Path(tempfile.mkdtemp(prefix=f"madflow-{scenario}-", dir=IN_MEMORY))
    try:
        with CounterServer(base / "judge") as server:
            {"saga": saga, "disk": disk, "once": once}[scenario](base, server, first, second, figures)
    except AssertionError:
        failures.append(traceback.format_exc()[-6000:])
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return {"figures": figures, "failures": failures, "seconds": round(time.perf_counter() - began, 1)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
