"""One at a time under one key, and nobody late: the key's lock and the time an attempt has.

The lock is the one commands use (see `supervisor`): a kernel lock on `<run_dir>/<key>.lock`, whose file holds the
highest term that has used or checked the key. Whoever performs an effect here holds it. So a successor that asks
(`settled`) learns whether an attempt is still under way, in this process, in a stopped one, or in a program that was
started with the lock's descriptor; and once it has asked, an attempt of a smaller term that has not begun never will.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from ..core.saga import Failed
from ..errors import EffectError
from ..ports import EffectContext
from .supervisor import Refused, take_lock

__all__ = ["MESSAGE_CHARS_MAX", "TimeLimit", "failed", "holding", "holding_async", "in_thread", "lock_path", "settled"]

T = TypeVar("T")

MESSAGE_CHARS_MAX: Final = 2_000
_KEY: Final = re.compile(r"[A-Za-z0-9_\-]{1,128}", re.ASCII)
_PAUSE_S: Final = 0.02
_BRIEF_S: Final = 1.0
"""How long an attempt waits for the lock of its key: another holds it for as long as an effect takes."""


class TimeLimit:
    """When an attempt must have begun its last step. Thread-safe."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s, self._end = timeout_s, time.monotonic() + timeout_s
        self._called_off = False

    @property
    def left_s(self) -> float:
        """Seconds left, never less than 0."""
        return 0.0 if self._called_off else max(0.0, self._end - time.monotonic())

    def call_off(self) -> None:
        """Nothing is begun from now on."""
        self._called_off = True

    def check(self) -> None:
        """Raise EffectError where there is no time left: nothing has happened yet."""
        if self.left_s <= 0:
            why = "it was cancelled" if self._called_off else f"it took longer than {self._timeout_s:g} s"
            raise EffectError("timeout", f"{why}; nothing was changed", transient=True, applied=False)


def failed(error: EffectError) -> Failed:
    """The value for an error."""
    return Failed(error.code, str(error)[:MESSAGE_CHARS_MAX], transient=error.transient, applied=error.applied)


def lock_path(run_dir: Path, key: str) -> str:
    """Where the lock of a key is; its folder is made. Raises EffectError: "bad_key"."""
    if not _KEY.fullmatch(key):
        raise EffectError("bad_key", f"{key[:80]!r} is no key: 1 to 128 of letters, digits, - and _", applied=False)
    run_dir.mkdir(parents=True, exist_ok=True)
    return f"{run_dir}/{key}.lock"


@contextmanager
def holding(ctx: EffectContext, limit: TimeLimit) -> Iterator[int]:
    """Hold the key's lock while the block runs; gives its descriptor, for programs started meanwhile.

    Raises:
        EffectError: "still_running" (an attempt before this one holds it; `applied` None: it may be writing),
            "fenced" (a greater term has taken the key over), "lock_garbled", "io_error".
    """
    until = time.monotonic() + min(_BRIEF_S, limit.left_s / 2)
    while (descriptor := _take(ctx, last=time.monotonic() >= until)) is None:
        time.sleep(_PAUSE_S)
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # not unlocked: a program that has the descriptor, too, keeps the lock until it ends


@asynccontextmanager
async def holding_async(ctx: EffectContext, limit: TimeLimit) -> AsyncIterator[int]:
    """`holding`, for an effect that runs programs rather than a thread."""
    until = time.monotonic() + min(_BRIEF_S, limit.left_s / 2)
    while (descriptor := _take(ctx, last=time.monotonic() >= until)) is None:  # noqa: ASYNC110 - another process has it
        await asyncio.sleep(_PAUSE_S)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _take(ctx: EffectContext, *, last: bool) -> int | None:
    """The held lock's descriptor; None where another try may succeed."""
    try:
        return take_lock(lock_path(ctx.run_dir, ctx.key), ctx.term)
    except Refused as refused:
        if refused.code != "busy":
            raise EffectError(refused.code, str(refused), applied=False) from refused
        if last:
            why = "an earlier attempt of this step is still under way"
            raise EffectError("still_running", why, transient=True, applied=None) from refused
        return None
    except OSError as error:
        raise EffectError("io_error", f"the lock of the key: {error}", applied=False) from error


async def in_thread(work: Callable[[TimeLimit], T], timeout_s: float) -> T | Failed:
    """`work(limit)` in a thread of its own; an EffectError it raises as Failed.

    After the time, or a cancellation, the thread is left behind: it changes nothing any more once it looks at the
    limit, and holds its key's lock until then. Until it is known what it did, `applied` is None.
    """
    limit = TimeLimit(timeout_s)
    try:
        limit.check()
        async with asyncio.timeout(timeout_s):
            return await asyncio.to_thread(work, limit)
    except EffectError as error:
        return failed(error)
    except TimeoutError:
        return Failed("timeout", f"no end after {timeout_s:g} s", transient=True)
    finally:
        limit.call_off()


async def settled(ctx: EffectContext) -> bool:
    """Whether no attempt of the key is under way any more, and none of a smaller term can begin. Waits for
    `ctx.timeout_s` at most."""
    until = time.monotonic() + ctx.timeout_s
    while True:
        try:
            os.close(take_lock(lock_path(ctx.run_dir, ctx.key), ctx.term))
        except Refused as refused:
            if refused.code != "busy" or time.monotonic() >= until:
                return False
        except OSError:
            return False  # the lock cannot even be asked for: it cannot be verified
        else:
            return True
        await asyncio.sleep(_PAUSE_S)
