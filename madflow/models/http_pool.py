"""One pooled HTTP session per process and event loop.

A session belongs to its loop: sockets of one loop cannot be awaited on another. So sessions are kept by loop, found
again by whoever runs on it, and closed with it: each is held open by an async generator, which `asyncio.run` (and any
runner that calls `loop.shutdown_asyncgens()`, as all do) closes before the loop. `aclose_all()` closes earlier.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Final
from weakref import WeakKeyDictionary

import aiohttp

__all__ = ["CONNECTIONS_MAX", "aclose_all", "session"]

CONNECTIONS_MAX: Final = 768
"""Open connections of one session: 100 debates of seven seats fit, and the usual limit of 1,024 descriptors holds."""
_KEEPALIVE_S: Final = 30.0

_Holder = AsyncGenerator[aiohttp.ClientSession, None]
# The process's pool: sessions by loop, forgotten with it. A forked child must not share its parent's sockets: the pid.
_POOL: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[int, aiohttp.ClientSession, _Holder]] = WeakKeyDictionary()


async def session() -> aiohttp.ClientSession:
    """The running loop's session, opened at the first call."""
    loop = asyncio.get_running_loop()
    held = _POOL.get(loop)
    if held is not None and held[0] == os.getpid() and not held[1].closed:
        return held[1]
    holder = _hold()
    opened = await anext(holder)
    _POOL[loop] = (os.getpid(), opened, holder)
    return opened


async def _hold() -> _Holder:
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, limit_per_host=0, keepalive_timeout=_KEEPALIVE_S)
    opened = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
    )
    try:
        yield opened
    finally:
        await opened.close()


async def aclose_all() -> None:
    """Close the running loop's session, if it has one. The next call opens another."""
    held = _POOL.pop(asyncio.get_running_loop(), None)
    if held is not None:
        await held[2].aclose()
