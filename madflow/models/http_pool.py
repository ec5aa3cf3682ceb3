"""One pooled HTTP session per process and event loop.

A session belongs to its loop: sockets of one loop cannot be awaited on another. So sessions are kept by loop, found
again by whoever runs on it, and closed with it: each is held open by an async generator, which `asyncio.run` (and any
runner that calls `loop.shutdown_asyncgens()`, as all do) closes before the loop. `aclose_all()` closes earlier.
What else must end with the loop (a library's own clients) is told here by `on_close`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

import aiohttp

__all__ = ["CONNECTIONS_MAX", "aclose_all", "on_close", "session"]

CONNECTIONS_MAX: Final = 768
"""Open connections of one session: 100 debates of seven seats fit, and the usual limit of 1,024 descriptors holds."""
_KEEPALIVE_S: Final = 30.0

Closer = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Held:
    """What one loop holds open, and the generator that closes it."""

    pid: int
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    closers: set[Closer] = field(default_factory=set)
    opened: aiohttp.ClientSession | None = None
    holder: AsyncGenerator[None, None] | None = None


# The process's pool: sessions by loop, forgotten with it. A forked child must not share its parent's sockets: the pid.
_POOL: WeakKeyDictionary[asyncio.AbstractEventLoop, _Held] = WeakKeyDictionary()


async def session() -> aiohttp.ClientSession:
    """The running loop's session, opened at the first call."""
    held = _POOL.get(asyncio.get_running_loop())
    if held is not None and held.opened is not None and held.pid == os.getpid():
        return held.opened
    held = await _held()
    if held.opened is None:
        held.opened = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, limit_per_host=0, keepalive_timeout=_KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        )
        held.stack.push_async_callback(held.opened.close)
    return held.opened


async def on_close(closer: Closer) -> None:
    """Have `closer` awaited when the running loop's session is closed; the same one is kept once."""
    held = await _held()
    if closer not in held.closers:
        held.closers.add(closer)
        held.stack.push_async_callback(closer)


async def aclose_all() -> None:
    """Close what the running loop holds, if anything. The next call opens anew."""
    held = _POOL.pop(asyncio.get_running_loop(), None)
    if held is not None and held.holder is not None:
        await held.holder.aclose()


async def _held() -> _Held:
    loop = asyncio.get_running_loop()
    held = _POOL.get(loop)
    if held is None or held.pid != os.getpid():
        held = _POOL[loop] = _Held(os.getpid())
        held.holder = _until_closed(held.stack)
        await anext(held.holder)
    return held


async def _until_closed(stack: AsyncExitStack) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await stack.aclose()  # every closer runs, also behind one that raises
