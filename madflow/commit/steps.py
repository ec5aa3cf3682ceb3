"""An app's own steps: registered by name up front, so that a submitter that recovers finds their code.

A plan names a step with `{"step": "call", "name": NAME, "args": {…}}`. The class says what may be done about it after a
crash, and is a promise of whoever registers it; `non_verifiable`, which promises nothing, is the default.

Code cannot be stopped from outside. So whatever runs for a key holds the key's lock (see `effects.fence`) until it
returns, however long that takes:

    the time is over    the attempt failed, `timeout`, and what it did is unknown. A coroutine is cancelled; a thread,
                        or a coroutine that does not end by then, is left behind with the lock
    the caller is gone  the same, with nobody to tell; what has not begun never will
    probe, next try     wait for the lock; while it is held nobody can tell what the attempt will have done
    settled             the lock is free, and no attempt of an earlier term can begin

A transactional step holds no lock: the ledger's transaction is its fence.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import re
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, get_args

from ..core.canonical import canonical
from ..core.plan import EffectClass, Undoable
from ..core.saga import Absent, Done, Failed, Uncertain
from ..effects.fence import TimeLimit, failed, holding, holding_async, settled
from ..errors import ConfigError, EffectError, LedgerError
from ..ports import EffectContext, Execute

__all__ = ["CallEffect", "Step", "StepContext", "registry"]

RESULT_BYTES_MAX: Final = 64_000
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,99}", re.ASCII)
"""Of what a step's code returns, as JSON."""

STOP_S: Final = 1.0
"""How long a coroutine that is cancelled at its deadline may take to end, before it is left behind."""

_RETURNED: Final = "returned"  # what the app's code gave has a place of its own beside what the record says


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step's code gets beside its arguments.

    Attributes:
        key: the idempotency key, the same for every attempt: pass it on to whatever deduplicates by one.
        term: the submitter's term: pass it on to whatever can refuse an older one.
        attempt: from 1.
        timeout_s: how long this attempt may take.
        result: what `do` returned, for `undo`; empty where it is not known, as after a probe.
        execute: runs a statement in the ledger's transaction; only for transactional steps.
    """

    key: str
    term: int
    attempt: int
    timeout_s: float
    result: Mapping[str, Any] = field(default_factory=dict)
    execute: Execute | None = None


Code: TypeAlias = Callable[[Mapping[str, Any], StepContext], Any | Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A named step.

    Args:
        do: `do(args, context)` performs it, and returns a JSON object or None; a receipt has it as
            `steps[i].result["returned"]`. Raise EffectError to say how it failed;
            any other exception leaves unknown whether it happened. A plain function runs in a thread of its own (in
            the ledger's writer for `transactional`, where it must be a plain function and quick: its statements have
            2 s together). Code that goes on after its timeout keeps its key: nothing else is done under it meanwhile.
        undo: takes it back; called with the same arguments, a key of its own, and `do`'s result.
        probe: `probe(args, context)` returns True where it happened, False where it has not, None where it cannot
            tell. Needed for `verifiable`; after an undo it is asked again.
        effect_class: none | idempotent | verifiable | transactional | non_verifiable.
        nothing_to_undo: a step that leaves nothing to take back.
    """

    name: str
    do: Code
    undo: Code | None = None
    probe: Code | None = None
    effect_class: EffectClass = "non_verifiable"
    nothing_to_undo: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"a plan cannot call a step {self.name[:60]!r}; use letters, digits, _ . - (a letter first)"
            )
        if self.effect_class not in get_args(EffectClass):
            known = ", ".join(get_args(EffectClass))
            raise ConfigError(f"step {self.name!r}: no effect class {self.effect_class!r}; there are {known}")
        for what, code in (("do", self.do), ("undo", self.undo), ("probe", self.probe)):
            if code is not None:
                _check_code(self.name, what, code)
        if self.effect_class == "verifiable" and self.probe is None:
            raise ConfigError(f"step {self.name!r} is verifiable without a probe; give probe=, or another class")
        if self.effect_class == "transactional" and any(
            inspect.iscoroutinefunction(code) for code in (self.do, self.undo) if code is not None
        ):
            raise ConfigError(f"step {self.name!r} is transactional: its code runs in a thread, so it is not async")
        if self.undo is not None and self.nothing_to_undo:
            raise ConfigError(f"step {self.name!r} has an undo and nothing_to_undo; give one of the two")

    @property
    def undoable(self) -> Undoable:
        """Whether it can be taken back."""
        if self.undo is not None:
            return "yes"
        return "nothing" if self.nothing_to_undo or self.effect_class == "none" else "no"


def _check_code(name: str, what: str, code: Any) -> None:
    """Refuse, when it is registered, code that could only fail when it is called."""
    if not callable(code):
        raise ConfigError(f"step {name!r}: {what} is a {type(code).__name__}, not a function of (args, context)")
    try:
        inspect.signature(code).bind({}, None)
    except TypeError as error:
        raise ConfigError(f"step {name!r}: {what} is called as {what}(args, context): {error}") from error
    except ValueError:
        return  # some functions of C have no signature to look at


def registry(steps: Sequence[Step]) -> dict[str, Step]:
    """Steps by name. Raises ConfigError for two of one name."""
    found: dict[str, Step] = {}
    for step in steps:
        if step.name in found:
            raise ConfigError(f"two steps are registered as {step.name!r}; give each a name of its own")
        found[step.name] = step
    return found


class CallEffect:
    """Performs the `call` steps of a plan."""

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self._steps = steps
        self._left: set[asyncio.Future[Any]] = set()  # an event loop alone does not keep its tasks alive

    async def prepare(self, step: Mapping[str, Any], ctx: EffectContext) -> Mapping[str, Any] | Failed:
        """Nothing to store: the step's arguments are in the plan."""
        return {}

    async def do(self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext) -> Done | Failed:
        """Call `do` or `undo`. Failed: what the code raised (EffectError's own code, else "raised"), "timeout",
        "bad_result", "still_running" (an earlier attempt has not returned), "fenced"."""
        known = self._steps[step["name"]]
        code = known.do if ctx.direction == "do" else known.undo
        assert code is not None  # noqa: S101 - the saga begins no undo that is not there
        try:
            result = await self._call(code, step, facts, ctx)
        except _Overdue as overdue:
            return Failed("timeout", f"step {known.name!r} {overdue}", transient=True)
        except EffectError as error:
            return failed(error)
        except LedgerError:
            raise
        except Exception as error:
            return Failed("raised", f"step {known.name!r} raised {type(error).__name__}: {error}"[:2000])
        return _done(known.name, result)

    async def probe(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Done | Absent | Uncertain:
        """Call `probe`, once no attempt is under way any more, for which it waits half of its time. In the undo
        direction its answer is turned round: gone is done."""
        known = self._steps[step["name"]]
        if known.probe is None:
            return Uncertain(f"step {known.name!r} has no probe")
        half = replace(ctx, timeout_s=ctx.timeout_s / 2)
        if not await settled(half):
            return Uncertain(f"an earlier attempt of step {known.name!r} is still under way")
        try:
            happened = await self._call(known.probe, step, facts, half)
        except _Overdue as overdue:
            return Uncertain(f"the probe of step {known.name!r} {overdue}")
        except Exception as error:
            return Uncertain(f"the probe of step {known.name!r} raised {type(error).__name__}: {error}"[:2000])
        if happened is not True and happened is not False:
            return Uncertain(f"the probe of step {known.name!r} cannot tell")
        return Done() if happened is (ctx.direction == "do") else Absent()

    async def settled(self, step: Mapping[str, Any], ctx: EffectContext) -> bool:
        """Whether the code of no earlier attempt runs any more, and none of an earlier term can begin; what it started
        elsewhere is the step's own affair."""
        return self._steps[step["name"]].effect_class == "transactional" or await settled(ctx)

    def work(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Callable[[Execute], Mapping[str, Any]]:
        """The code of a transactional step, to run in the ledger's transaction."""
        known = self._steps[step["name"]]
        code = known.do if ctx.direction == "do" else known.undo
        assert code is not None  # noqa: S101 - as above

        def run(execute: Execute) -> Mapping[str, Any]:
            result = _done(known.name, code(step.get("args") or {}, _context(facts, ctx, execute)))
            if isinstance(result, Failed):
                raise EffectError(result.code, result.message, applied=False)
            return result.result

        return run

    async def _call(self, code: Code, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext) -> Any:
        """What the code returns, or raises. Raises _Overdue where it takes too long."""
        args, context, limit = step.get("args") or {}, _context(facts, ctx, None), TimeLimit(ctx.timeout_s)

        def plain() -> Any:
            with holding(ctx, limit):
                limit.check()
                return code(args, context)

        async def coroutine() -> Any:
            async with holding_async(ctx, limit):
                limit.check()
                return await code(args, context)

        in_loop = inspect.iscoroutinefunction(code)
        running = asyncio.ensure_future(coroutine()) if in_loop else _in_own_thread(plain, ctx.key)
        self._left.add(running)
        running.add_done_callback(self._ended)
        try:
            await asyncio.wait({running}, timeout=ctx.timeout_s)
            if not running.done():
                limit.call_off()
                raise await _overdue(running, ctx, can_be_cancelled=in_loop)
        finally:
            limit.call_off()
            running.cancel()  # of a thread only the waiting for it
        if running.cancelled():
            raise EffectError("raised", "the step's code was cancelled from within", applied=None)
        return running.result()

    def _ended(self, running: asyncio.Future[Any]) -> None:
        """What it raised is looked at, so that asyncio does not report it: `_call` raises it, or has given up on it."""
        self._left.discard(running)
        if not running.cancelled():
            running.exception()


class _Overdue(Exception):
    """The time of an attempt is over, and not by what its code raised."""


async def _overdue(running: asyncio.Future[Any], ctx: EffectContext, *, can_be_cancelled: bool) -> _Overdue:
    """What to say of code whose time is over; a coroutine is cancelled, and waited for briefly."""
    took = f"took longer than {ctx.timeout_s:g} s"
    if can_be_cancelled:
        running.cancel()
        await asyncio.wait({running}, timeout=STOP_S)
        if running.done():
            return _Overdue(f"{took}, and was cancelled")
    return _Overdue(f"{took}, and was left behind: it may still run, and nothing is begun under its key until it ends")


def _in_own_thread(work: Callable[[], Any], name: str) -> asyncio.Future[Any]:
    """`work` in a thread of its own. Not one of the loop's pool: code that hangs would keep one from everybody else,
    and the process from ending."""
    source: Future[Any] = Future()
    source.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except Exception as error:
            source.set_exception(error if not isinstance(error, StopIteration) else RuntimeError("StopIteration"))
        except BaseException as error:  # an exit that is asked for in a thread is none of the process
            source.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
        else:
            source.set_result(result)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name=f"step {name[:16]}", daemon=True).start()
    return asyncio.wrap_future(source)


def _context(facts: Mapping[str, Any], ctx: EffectContext, execute: Execute | None) -> StepContext:
    return StepContext(
        ctx.key, ctx.term, ctx.attempt, ctx.timeout_s, (facts.get("result") or {}).get(_RETURNED) or {}, execute
    )


def _done(name: str, result: Any) -> Done | Failed:
    """A step's return value as its result; what does not fit the record is a failure that says so."""
    if result is None:
        return Done()
    if not isinstance(result, Mapping):
        shown = type(result).__name__
        return Failed("bad_result", f"step {name!r} returned a {shown}; return a JSON object or None")
    try:
        text = canonical(dict(result))
    except ConfigError as error:
        return Failed("bad_result", f"step {name!r} returned what is no JSON: {error}")
    if len(text) > RESULT_BYTES_MAX:
        return Failed(
            "bad_result", f"step {name!r} returned {len(text)} bytes, more than {RESULT_BYTES_MAX}; return less"
        )
    return Done({_RETURNED: dict(result)})
