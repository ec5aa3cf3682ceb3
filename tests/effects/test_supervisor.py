"""Submitters that are killed, stopped or replaced while a command runs: real processes, real signals."""

import asyncio
import fcntl
import os
import random
import signal
import sys
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
from effect_worlds import appears, context, kill, living, said, submitter, until

from madflow.core.saga import Done, Failed
from madflow.effects import supervisor
from madflow.effects.command import CommandEffect
from madflow.effects.supervisor import Refused, encode_job, take_lock
from madflow.errors import EffectError
from madflow.ports import EffectContext

EFFECT = CommandEffect()
STEP = {"step": "command", "cmd": ["sh", "-c", "echo $$ >> ran; exec sleep 60"]}


def settled(ctx: EffectContext, timeout_s: float = 0.0, term: int = 2) -> bool:
    """What a new leader of `term` learns."""
    asking = context(ctx.root, key=ctx.key, term=term, timeout_s=timeout_s)
    return asyncio.run(EFFECT.settled(STEP, asking))


def runs(root: Path) -> int:
    """How often the command started."""
    return len(said(root / "ran").splitlines())


def busy(ctx: EffectContext) -> Any:
    return lambda: runs(ctx.root) or None


def test_a_killed_submitter_leaves_nothing_running(tmp_path: Path) -> None:
    """Catches a command, a background job or a daemon that outlives its submitter, and a lock that ends before them."""
    script = "echo $$ >> ran; trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 60 & wait' &); sleep 60 & wait"
    ctx = context(tmp_path)
    with submitter(lambda: EFFECT.do({"step": "command", "cmd": ["sh", "-c", script]}, {}, ctx)) as pid:
        until(busy(ctx))
        until(lambda: len(living(ctx.key)) >= 5)  # the supervisor and four shells and sleeps
        assert not settled(ctx)
        kill(pid)
        assert not settled(ctx), "all of them ignore SIGTERM: the lock must outlast the grace"
        assert settled(ctx, timeout_s=10.0)
        assert living(ctx.key) == [] or until(lambda: living(ctx.key) == [], within_s=0.5)


@pytest.mark.parametrize("seed", range(3))
def test_a_submitter_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    """Catches a moment (before the spawn, between lock and go, while executing) after which something runs on though
    the key is settled; or after which the successor cannot run the command."""
    draw = random.Random(seed)
    for number in range(8):
        root = tmp_path / str(number)
        root.mkdir()
        ctx = context(root, key=f"{tmp_path.name}-{number}")
        with submitter(lambda ctx=ctx: EFFECT.do(STEP, {}, ctx)) as pid:
            signal.sigtimedwait([], draw.uniform(0.0, 0.06))
            kill(pid)
            assert settled(ctx, timeout_s=10.0)
            before = runs(root)
            assert before <= 1
            until(lambda key=ctx.key: living(key) == [], within_s=2.0)
            again = context(root, key=ctx.key, term=2, attempt=2)
            done = asyncio.run(EFFECT.do({"step": "command", "cmd": ["sh", "-c", "echo x >> ran"]}, {}, again))
            assert isinstance(done, Done) and runs(root) == before + 1


def test_a_stopped_submitter_is_alive(tmp_path: Path) -> None:
    """Catches a successor that takes over a command which is still running, and a command that a stop ends."""
    ctx = context(tmp_path, timeout_s=1.2)
    with submitter(lambda: EFFECT.do(STEP, {}, ctx)) as pid:
        until(busy(ctx))
        kill(pid, signal.SIGSTOP)
        assert not settled(ctx, timeout_s=0.2)
        assert len(living(ctx.key)) == 2
        assert settled(ctx, timeout_s=10.0), "the deadline is the supervisor's, and needs no submitter"
        kill(pid, signal.SIGCONT)


def test_a_successor_fences_a_submitter_that_has_not_started_yet(tmp_path: Path) -> None:
    """Catches a submitter that was stopped between its record and its command, and starts it after its successor has
    looked. A supervisor that has the lock already keeps the successor waiting instead."""
    ctx = context(tmp_path)
    assert settled(ctx, term=2)
    late = asyncio.run(EFFECT.do(STEP, {}, ctx))
    assert isinstance(late, Failed) and (late.code, late.applied, late.transient) == ("fenced", False, False)
    assert not settled(ctx, term=1), "and it cannot vouch for anything any more"
    fresh = asyncio.run(EFFECT.do({"step": "command", "cmd": ["true"]}, {}, context(tmp_path, term=2)))
    assert isinstance(fresh, Done)


def started(ctx: EffectContext, **changes: Any) -> Popen[bytes]:
    """A supervisor by hand, that has its job and was not told to go."""
    folder, *others = (os.open(ctx.root, os.O_RDONLY) for _ in range(3))
    ctx.run_dir.mkdir(parents=True, exist_ok=True)
    usual: dict[str, Any] = {
        "submitter": os.getpid(),
        "term": ctx.term,
        "grace_ms": 200,
        "descriptors": (*others, folder),
        "lock_path": str(ctx.run_dir / f"{ctx.key}.lock"),
        "program": "/bin/sh",
        "argv": ["sh", "-c", "touch started"],
        "env": {"PATH": os.defpath, "MADFLOW_IDEMPOTENCY_KEY": ctx.key},
    }
    job = encode_job(**{**usual, **changes})
    env = {"MADFLOW_IDEMPOTENCY_KEY": ctx.key}
    argv = [sys.executable, "-I", "-S", supervisor.__file__]
    process = Popen(argv, stdin=PIPE, stdout=PIPE, pass_fds=[folder, *others], env=env, bufsize=0)
    for descriptor in (folder, *others):
        os.close(descriptor)
    process.stdin.write(job)  # type: ignore[union-attr]
    return process


@pytest.mark.parametrize("end", ["close", "stop", "other_parent", "nonsense"])
def test_nothing_starts_without_a_go(tmp_path: Path, end: str) -> None:
    """Catches a supervisor that starts when its pipe closes, after a SIGTERM, for another's child, or on garbage; and
    a lock that is not held while it could still start."""
    ctx = context(tmp_path)
    with started(ctx, submitter=os.getppid() if end == "other_parent" else os.getpid()) as process:
        assert process.stdout.readline() == b'{"state": "ready"}\n'  # type: ignore[union-attr]
        assert not settled(ctx)
        if end == "stop":
            process.send_signal(signal.SIGTERM)
        if end != "close":
            process.stdin.write(b"gone\n" if end == "nonsense" else b"go 5000\n")  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]
        assert process.wait(10) == 0
    assert settled(ctx) and not (tmp_path / "started").exists()


def test_by_hand_the_command_starts(tmp_path: Path) -> None:
    """The positive control of the tests around it; and the lock is free when the end is told."""
    ctx = context(tmp_path)
    with started(ctx) as process:
        assert process.stdout.readline() == b'{"state": "ready"}\n'  # type: ignore[union-attr]
        process.stdin.write(b"go 5000\n")  # type: ignore[union-attr]
        assert b'"why": "ended", "exit_code": 0' in process.stdout.readline()  # type: ignore[union-attr]
        os.close(take_lock(f"{ctx.run_dir}/{ctx.key}.lock", 2))
    assert (tmp_path / "started").exists()


def test_a_job_that_breaks_off(tmp_path: Path) -> None:
    """Catches half a job that is run."""
    ctx = context(tmp_path)
    with started(ctx, argv=["sh", "-c", "touch started", "x" * 1000]) as whole:
        whole.kill()
    half = Popen([sys.executable, "-I", "-S", supervisor.__file__], stdin=PIPE, stdout=PIPE)
    assert half.communicate(b"500\n1\x001\x00", timeout=10)[0] == b"" and half.returncode == 0


def test_another_process_may_hold_the_pipe(tmp_path: Path) -> None:
    """Catches a supervisor that learns of its submitter's end from the pipe alone: a process that the submitter forked
    without executing has a copy of it."""
    ctx = context(tmp_path)

    async def work() -> None:
        task = asyncio.create_task(EFFECT.do(STEP, {}, ctx))
        await appears(tmp_path / "ran")
        holder = os.fork()
        if holder == 0:
            signal.pause()
        (tmp_path / "holder").write_text(f"{holder} ")
        await task

    with submitter(work) as pid:
        holder = int(until(lambda: said(tmp_path / "holder")))
        kill(pid)
        try:
            assert settled(ctx, timeout_s=10.0)
        finally:
            kill(holder)


def test_a_killed_supervisor_takes_the_command_along(tmp_path: Path) -> None:
    """Catches a command that runs on, without a lock, when its supervisor is killed; that is in doubt, not failed."""
    ctx = context(tmp_path, timeout_s=10.0)

    async def work() -> Done | Failed:
        task = asyncio.create_task(EFFECT.do(STEP, {}, ctx))
        command = int(await appears(tmp_path / "ran"))
        (keeper,) = (pid for pid in living(ctx.key) if pid != command)
        kill(keeper)
        return await task

    failed = asyncio.run(work())
    assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("supervisor_lost", None)
    until(lambda: living(ctx.key) == [], within_s=2.0)


def test_a_terminated_supervisor_ends_all_first(tmp_path: Path) -> None:
    """Catches a SIGTERM, as a shutdown sends it to everybody, that ends the supervisor before the command."""
    ctx = context(tmp_path)

    async def work() -> Done | Failed:
        task = asyncio.create_task(EFFECT.do(STEP, {}, ctx))
        command = int(await appears(tmp_path / "ran"))
        for pid in living(ctx.key):
            if pid != command:
                kill(pid, signal.SIGTERM)
        return await task

    failed = asyncio.run(work())
    assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("supervisor_lost", None)
    assert failed.result["exit_code"] == -signal.SIGTERM and living(ctx.key) == []


def test_a_busy_key(tmp_path: Path) -> None:
    """Catches a second command under one key while the first runs; another key is free."""
    ctx = context(tmp_path)
    with submitter(lambda: EFFECT.do(STEP, {}, ctx)):
        until(busy(ctx))
        second = asyncio.run(EFFECT.do(STEP, {}, context(tmp_path, term=2)))
        assert isinstance(second, Failed) and (second.code, second.applied, second.transient) == (
            "still_running",
            None,
            True,
        )
        other = asyncio.run(EFFECT.do({"step": "command", "cmd": ["true"]}, {}, context(tmp_path, key="another")))
        assert isinstance(other, Done) and runs(tmp_path) == 1


def test_the_lock(tmp_path: Path) -> None:
    """Catches a lock that can be had twice, that forgets its term, that a subprocess inherits, or that is a symlink."""
    path = str(tmp_path / "key.lock")
    held = take_lock(path, 3)
    assert not os.get_inheritable(held)
    with pytest.raises(Refused) as refused:
        take_lock(path, 4)
    assert refused.value.code == "busy"
    fcntl.flock(held, fcntl.LOCK_UN)
    with pytest.raises(Refused) as refused:
        take_lock(path, 2)
    assert refused.value.code == "fenced"
    os.close(take_lock(path, 3))
    os.close(held)
    Path(path).write_text("not a term")
    with pytest.raises(Refused) as refused:
        take_lock(path, 3)
    assert refused.value.code == "lock_garbled"
    Path(path).unlink()
    Path(path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        take_lock(path, 3)
    assert not (tmp_path / "elsewhere").exists()


def test_keys_are_names_of_files(tmp_path: Path) -> None:
    """Catches a key that leads out of the run folder."""
    ctx = context(tmp_path, key="../../elsewhere")
    with pytest.raises(EffectError, match="no key"):
        settled(ctx)
    failed = asyncio.run(EFFECT.do(STEP, {}, ctx))
    assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("bad_key", False)
