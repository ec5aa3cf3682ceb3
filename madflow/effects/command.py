"""Commands and tests: a program with arguments, no shell, in a clean environment, under a supervisor.

A command is attempted once, unless a `probe` can tell what came of it. What `do` answers:

    exit 0                        done
    another exit code             failed, `exit_code`: it ran, and says that it failed
    killed by a signal            failed, `signal`: nobody can say how far it came
    the deadline                  failed, `timeout`: the same
    not started                   failed, and certainly without an effect: `no_such_program`, `cannot_start`,
                                  `permission_denied`, `busy` and `no_supervisor` (both may pass), `fenced`, …

A `test` changes nothing by its own word, so that each of its failures is one without an effect, and it may run again.

`probe` runs the step's probe: exit 0 says that the effect is there, 1 that it is not, anything else that it cannot
tell. After an undo the answers swap places: 1 says that it was taken back.

`settled` asks for the key's lock (see `supervisor`), which an earlier submitter's supervisor holds until the last of
its processes is gone. Asking also leaves the asker's term in the lock file, so that a submitter that was stopped on its
way here can no longer start anything. The lock files stay: their names are what holds apart.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..core.plan import CommandStep, TestStep, parse_step
from ..core.saga import Absent, Done, Failed, Uncertain
from ..ports import EffectContext
from .environment import clean_environment, command_denied, find_program, open_folder
from .supervised import Ended, Invocation, NotStarted, run
from .supervisor import Refused, take_lock

__all__ = ["CommandEffect"]

_KEY: Final = re.compile(r"[A-Za-z0-9_\-]{1,128}", re.ASCII)
_MAY_PASS: Final = frozenset({"busy", "no_supervisor", "timeout", "stopped"})
_PAUSE_S: Final = 0.02


class CommandEffect:
    """`ports.Effect` for the steps `command` and `test`."""

    async def prepare(self, step: Mapping[str, Any], ctx: EffectContext) -> Mapping[str, Any] | Failed:
        """Permission, program and folder are checked; the intent stores the program's path."""
        parsed = _parsed(step)
        argv = _argv(parsed, ctx)
        if isinstance(argv, Failed):
            return argv
        if not argv:
            return {}
        found = _find(parsed, argv, ctx)
        if isinstance(found, Failed):
            return found
        program, folder = found
        os.close(folder)
        return {"program": program}

    async def do(self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext) -> Done | Failed:
        """Run the command, or its undo. A cancellation ends it and everything it started."""
        parsed = _parsed(step)
        argv = _argv(parsed, ctx)
        if isinstance(argv, Failed):
            return argv
        if not argv:
            return Done({"note": "there is nothing to take back"})
        harmless = isinstance(parsed, TestStep)
        ended = await _run(parsed, argv, ctx)
        if isinstance(ended, Failed):
            return ended
        result = _result(ended)
        if ended.why == "ended" and ended.exit_code == 0:
            return Done(result)
        code, message = _failure(ended, argv, ctx)
        applied = False if harmless else True if code == "exit_code" else None
        transient = harmless and code != "exit_code"
        return Failed(code, message, transient=transient, applied=applied, result=result)

    async def probe(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Done | Absent | Uncertain:
        """Run the step's probe. A test has no effect to be found: it is always absent."""
        parsed = _parsed(step)
        if isinstance(parsed, TestStep):
            return Absent()
        if parsed.probe is None:
            return Uncertain("the step has no probe")
        ended = await _run(parsed, parsed.probe, ctx)
        if isinstance(ended, Failed):
            return Uncertain(f"the probe did not run: {ended.code}: {ended.message}")
        if ended.why != "ended" or ended.exit_code not in (0, 1):
            code, message = _failure(ended, parsed.probe, ctx)
            return Uncertain(f"the probe cannot tell: {code}: {message}")
        there = ended.exit_code == 0
        return Done({"probe": _result(ended)}) if there == (ctx.direction == "do") else Absent()

    async def settled(self, step: Mapping[str, Any], ctx: EffectContext) -> bool:
        """Whether no process of an earlier attempt is left, and none can start any more."""
        path, loop = _lock_path(ctx), asyncio.get_running_loop()
        deadline = loop.time() + ctx.timeout_s
        while True:
            try:
                os.close(take_lock(str(path), ctx.term))
            except Refused as refused:
                if refused.code != "busy" or loop.time() >= deadline:
                    return False
            else:
                return True
            await asyncio.sleep(min(_PAUSE_S, max(0.0, deadline - loop.time())))


def _parsed(step: Mapping[str, Any]) -> CommandStep | TestStep:
    parsed = parse_step(step)
    if not isinstance(parsed, CommandStep | TestStep):
        raise TypeError(f"CommandEffect performs command and test, not {parsed.step}")
    return parsed


def _argv(step: CommandStep | TestStep, ctx: EffectContext) -> Sequence[str] | Failed:
    """What to run in this direction; empty where there is nothing to take back."""
    if ctx.direction == "do":
        return step.cmd
    if isinstance(step, TestStep):
        return ()
    if step.undo is None:
        return Failed("no_undo", "the step names no undo, so only a human can take it back", applied=False)
    return step.undo


def _find(step: CommandStep | TestStep, argv: Sequence[str], ctx: EffectContext) -> tuple[str, int] | Failed:
    """The program's path and a descriptor of the working folder, which the caller closes."""
    denied = command_denied(step.step, argv[0], ctx.policy)
    if denied is not None:
        return denied
    program = find_program(argv[0], clean_environment(ctx, os.environ), ctx.root)
    if isinstance(program, Failed):
        return program
    try:
        return program, open_folder(ctx.root, step.cwd)
    except OSError as error:
        where = step.cwd or "the root"
        message = f"cannot work in {where}: {error.strerror}; it must be a folder beneath the root, without symlinks"
        return Failed("no_such_folder", message, applied=False)


def _lock_path(ctx: EffectContext) -> Path:
    if not _KEY.fullmatch(ctx.key):
        raise ValueError(f"{ctx.key[:80]!r} is no key: 1 to 128 of letters, digits, - and _")
    ctx.run_dir.mkdir(parents=True, exist_ok=True)
    return ctx.run_dir / f"{ctx.key}.lock"


async def _run(step: CommandStep | TestStep, argv: Sequence[str], ctx: EffectContext) -> Ended | Failed:
    """How it ended; Failed where it certainly did not start."""
    found = _find(step, argv, ctx)
    if isinstance(found, Failed):
        return found
    program, folder = found
    try:
        ended = await run(
            Invocation(
                program=program,
                argv=argv,
                env=clean_environment(ctx, os.environ),
                folder=folder,
                lock_path=_lock_path(ctx),
                term=ctx.term,
                timeout_s=ctx.timeout_s,
            )
        )
    finally:
        os.close(folder)
    if isinstance(ended, NotStarted):
        message = f"{argv[0][:200]!r} was not started: {ended.detail}"
        return Failed(ended.code, message, transient=ended.code in _MAY_PASS, applied=False)
    return ended


def _failure(ended: Ended, argv: Sequence[str], ctx: EffectContext) -> tuple[str, str]:
    name, code = argv[0][:200], ended.exit_code
    if ended.why in ("deadline", "stuck"):
        left = "" if ended.why == "deadline" else "; it could not be ended, and may still run"
        return "timeout", f"{name!r} did not end within {ctx.timeout_s:g} s{left}"
    if ended.why != "ended" or code is None:
        return "supervisor_lost", f"the supervisor of {name!r} was ended from outside ({ended.why})"
    if code < 0:
        return "signal", f"{name!r} was killed by {signal.Signals(-code).name}"
    return "exit_code", f"{name!r} exited with {code}"


def _result(ended: Ended) -> dict[str, Any]:
    result: dict[str, Any] = {"exit_code": ended.exit_code}
    for name, kept in (("stdout", ended.stdout), ("stderr", ended.stderr)):
        result[name], result[f"{name}_bytes"] = kept.text(), kept.total
    if ended.left_behind:
        result["left_behind"] = ended.left_behind
    return result
