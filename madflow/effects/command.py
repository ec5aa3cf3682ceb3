"""Commands and tests: a program with arguments, no shell, in a clean environment, under a supervisor.

A command is attempted once, unless a `probe` can tell what came of it. What `do` answers:

    exit 0                        done
    another exit code             failed, `exit_code`: it ran, and says that it failed
    killed by a signal            failed, `signal`: nobody can say how far it came
    the deadline                  failed, `timeout`: the same
    not started                   failed, and certainly without an effect: `no_such_program`, `cannot_start`,
                                  `permission_denied`, `fenced`, `no_supervisor` (may pass), …
    an earlier attempt runs       failed, `still_running`: may pass; what that one does is not known

A `test` changes nothing by its own word, so that each of its failures is one without an effect, and it may run again.

`probe` runs the step's probe: exit 0 says that the effect is there, 1 that it is not, anything else that it cannot
tell. After an undo the answers swap places: 1 says that it was taken back.

`settled` asks for the key's lock (see `supervisor` and `fence`), which an earlier submitter's supervisor holds until
the last of its processes is gone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..core.plan import CommandStep, TestStep
from ..core.saga import Absent, Done, Failed, Uncertain
from ..errors import EffectError
from ..ports import EffectContext
from .environment import clean_environment, find_program
from .fence import failed, lock_path, settled
from .steps import check_allowed, no_undo, parsed, wrong_kind
from .supervised import Ended, Invocation, NotStarted, run
from .walk import open_dir

__all__ = ["CommandEffect"]

_MAY_PASS: Final = frozenset({"no_supervisor", "timeout", "stopped"})


class CommandEffect:
    """`ports.Effect` for the steps `command` and `test`."""

    async def prepare(self, step: Mapping[str, Any], ctx: EffectContext) -> Mapping[str, Any] | Failed:
        """Permission, program and folder are checked; the intent stores the program's path."""
        try:
            command = _parsed(step)
            check_allowed(command, ctx)
            argv = _argv(command, ctx)
            if not argv:
                return {}
            with open_dir(ctx.root, _parts(command)) as folder:
                _check_folder(command, folder)
            return {"program": find_program(argv[0], clean_environment(ctx, os.environ), ctx.root)}
        except EffectError as error:
            return failed(error)

    async def do(self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext) -> Done | Failed:
        """Run the command, or its undo. A cancellation ends it and everything it started."""
        try:
            command = _parsed(step)
            check_allowed(command, ctx)
            argv = _argv(command, ctx)
            if not argv:
                return Done({"note": "there is nothing to take back"})
            ended = await _run(command, argv, ctx)
        except EffectError as error:
            return failed(error)
        result = _result(ended)
        if ended.why == "ended" and ended.exit_code == 0:
            return Done(result)
        code, message = _failure(ended, argv, ctx)
        if isinstance(command, TestStep):
            return Failed(code, message, transient=code != "exit_code", applied=False, result=result)
        return Failed(code, message, applied=True if code == "exit_code" else None, result=result)

    async def probe(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Done | Absent | Uncertain:
        """Run the step's probe. A test has no effect to be found: it is always absent."""
        try:
            command = _parsed(step)
            if isinstance(command, TestStep):
                return Absent()
            if command.probe is None:
                return Uncertain("the step has no probe")
            ended = await _run(command, command.probe, ctx)
        except EffectError as error:
            return Uncertain(f"the probe did not run: {error.code}: {error}"[:2_000])
        if ended.why != "ended" or ended.exit_code not in (0, 1):
            code, message = _failure(ended, command.probe, ctx)
            return Uncertain(f"the probe cannot tell: {code}: {message}")
        there = ended.exit_code == 0
        return Done({"probe": _result(ended)}) if there == (ctx.direction == "do") else Absent()

    async def settled(self, step: Mapping[str, Any], ctx: EffectContext) -> bool:
        """Whether no process of an earlier attempt is left, and none can start any more."""
        return await settled(ctx)


def _parsed(step: Mapping[str, Any]) -> CommandStep | TestStep:
    command = parsed(step)
    if not isinstance(command, CommandStep | TestStep):
        raise wrong_kind("CommandEffect", "command and test", command)
    return command


def _argv(step: CommandStep | TestStep, ctx: EffectContext) -> Sequence[str]:
    """What to run in this direction; empty where there is nothing to take back."""
    if ctx.direction == "do":
        return step.cmd
    if isinstance(step, TestStep):
        return ()
    if step.undo is None:
        raise no_undo()
    return step.undo


def _parts(step: CommandStep | TestStep) -> list[str]:
    return step.cwd.split("/") if step.cwd else []


def _check_folder(step: CommandStep | TestStep, folder: int | None) -> int:
    if folder is None:
        raise EffectError("no_such_folder", f"{step.cwd!r} is no folder beneath the root", applied=False)
    return folder


async def _run(step: CommandStep | TestStep, argv: Sequence[str], ctx: EffectContext) -> Ended:
    """How it ended. Raises EffectError where it certainly did not start."""
    env = clean_environment(ctx, os.environ)
    with open_dir(ctx.root, _parts(step)) as found:
        folder = _check_folder(step, found)
        ended = await run(
            Invocation(
                program=find_program(argv[0], env, ctx.root),
                argv=argv,
                env=env,
                folder=folder,
                lock_path=lock_path(ctx.run_dir, ctx.key),
                term=ctx.term,
                timeout_s=ctx.timeout_s,
            )
        )
    if not isinstance(ended, NotStarted):
        return ended
    message = f"{argv[0][:200]!r} was not started: {ended.detail}"
    if ended.code == "busy":
        unknown = None if isinstance(step, CommandStep) else False
        raise EffectError("still_running", message, transient=True, applied=unknown)
    raise EffectError(ended.code, message, transient=ended.code in _MAY_PASS, applied=False)


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
