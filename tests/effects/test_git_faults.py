"""git_commit in bad weather: a git that hangs or floods, SIGKILL anywhere, a git that outlives its submitter."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from git_repository import Repository, done, prepared

from madflow.core.saga import Absent, Done, Failed, Uncertain
from madflow.effects.git import GitEffect


async def test_git_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    """Catches a program that outlives its time limit."""
    world = Repository(tmp_path)
    fake = tmp_path / "git"
    fake.write_text(f"#!/bin/sh\ntrap '' TERM\nsleep 1000 &\necho $$ $! > {tmp_path}/pids\nwait\nsleep 1000\n")
    fake.chmod(0o755)
    found = await GitEffect(program=str(fake)).prepare(world.step, world.context(timeout_s=1.5))
    assert isinstance(found, Failed)
    assert found.code == "timeout"
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    for _ in range(500):  # what was killed takes a moment to be gone
        if all(_state_of(pid) in ("", "Z") for pid in pids):
            break
        await asyncio.sleep(0.01)
    assert [_state_of(pid) for pid in pids if _state_of(pid) not in ("", "Z")] == []


def _state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return ""


async def test_git_that_prints_without_end_is_ended(tmp_path: Path) -> None:
    """Catches output that fills the memory."""
    world = Repository(tmp_path)
    fake = tmp_path / "git"
    fake.write_text("#!/bin/sh\nexec yes\n")
    fake.chmod(0o755)
    found = await GitEffect(program=str(fake)).prepare(world.step, world.context())
    assert isinstance(found, Failed)
    assert found.code == "too_large"


def test_killed_anywhere_the_ref_tells(tmp_path: Path) -> None:
    """Catches a commit that is half there after SIGKILL, and one that a git of the dead submitter makes too late."""
    seen = set()
    for number in range(10):
        world = Repository(tmp_path / str(number), branch="work")
        facts = asyncio.run(prepared(world))
        _kill_within(world, facts, 0.007 * number)
        found, later, tip = asyncio.run(_look(world, facts))
        assert found == (Done({"commit": facts["new"]}) if tip == facts["new"] else Absent())
        assert later == found
        seen.add(type(found))
        for leftover in (world.root / ".git").rglob("*.lock"):
            leftover.unlink()  # of a git that was killed itself, as its user would
        asyncio.run(done(world, facts, term=2, attempt=2))
        assert world.git("status", "--porcelain") == "M other"
        assert world.git("fsck", "--strict") == ""
    assert Absent in seen


def _kill_within(world: Repository, facts: Mapping[str, Any], delay_s: float) -> None:
    """Do the step in a real process, and kill that some time after it has taken the key."""
    lock = world.run_dir / f"{world.context().key}.lock"
    os.utime(lock, (0, 0))
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(world.effect().do(world.step, facts, world.context()))
        finally:
            os._exit(0)
    while lock.stat().st_mtime == 0:
        time.sleep(0.001)
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


async def _look(world: Repository, facts: Mapping[str, Any]) -> tuple[Any, Any, str]:
    assert await world.effect().settled(world.step, world.context(term=2, timeout_s=10.0))
    tip = world.tip()
    found = await world.effect().probe(world.step, facts, world.context(term=2, attempt=2))
    await asyncio.sleep(0.02)
    return found, await world.effect().probe(world.step, facts, world.context(term=2, attempt=2)), tip


def test_a_git_that_outlives_its_submitter_is_waited_for(tmp_path: Path) -> None:
    """Catches a successor that probes while a git of its dead predecessor is about to move the ref."""
    world = Repository(tmp_path, branch="work")
    facts = asyncio.run(prepared(world))
    slow, started = tmp_path / "slow-git", tmp_path / "started"
    real = shutil.which("git")
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *update-ref*) touch {started}; sleep 0.5;; esac\nexec {real} "$@"\n',
    )
    slow.chmod(0o755)
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(GitEffect(program=str(slow)).do(world.step, facts, world.context()))
        finally:
            os._exit(0)
    while not started.exists():
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    effect = world.effect()
    assert not asyncio.run(effect.settled(world.step, world.context(term=2, timeout_s=0.05)))
    assert isinstance(asyncio.run(effect.probe(world.step, facts, world.context(term=2, timeout_s=0.1))), Uncertain)
    assert asyncio.run(effect.settled(world.step, world.context(term=2, timeout_s=10.0)))
    assert isinstance(asyncio.run(effect.probe(world.step, facts, world.context(term=2))), Done)
