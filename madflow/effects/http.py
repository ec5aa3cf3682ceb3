"""One HTTP request, as it is written: no redirect followed, no proxy, no cookie, no second try behind our back.

What an answer means, for a request that may have had an effect:

    2xx                                    done, whatever becomes of its body
    3xx                                    failed, `redirect`; whether the server acted is unknown for a 303, and for
                                           the 302 that some send after a POST
    425, 429, 503 with Retry-After         refused: nothing happened, and it may pass
    408, 5xx, 409 from a host that         may pass; whether the server acted is not known
    honours keys (the first is under way)
    other 4xx                              refused for good
    no connection (refused, no such name)  nothing was sent; may pass. A bad certificate does not pass
    lost or late after connecting          not known; may pass

Every request carries `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header; the bare key, as most servers take
it) and `X-Madflow-Term`. A host can be asked nothing: what a lost request did, only its idempotence or a human decides.

A request may be under way on the network after its submitter died. It is over when its timeout is, so `settled` waits
for as long as it is told: the caller passes what is left of the attempt's time. A submitter that still lives, perhaps
stopped, holds the key's lock (see `fence`), and one that has not begun never will.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from ..core.plan import HttpRequest, HttpStep, url_host
from ..core.policy import Policy
from ..core.saga import Absent, Done, Failed, Uncertain
from ..errors import EffectError
from ..ports import EffectContext
from .fence import TimeLimit, failed, holding_async, settled
from .steps import check_allowed, no_undo, parsed, wrong_kind
from .supervised import visible

__all__ = ["BODY_KEPT_BYTES", "BODY_READ_BYTES", "HttpEffect"]

BODY_KEPT_BYTES: Final = 64 * 1024
"""How much of an answer's body is kept."""
BODY_READ_BYTES: Final = 1024 * 1024
"""How much of it is read, for its digest; then the connection is closed."""
_HEADER_CHARS: Final = 1024
_RETRY_AFTER_S_MAX: Final = 86_400
_SAFE: Final = ("GET", "HEAD")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class HttpEffect:
    """`ports.Effect` for the step `http`."""

    async def prepare(self, step: Mapping[str, Any], ctx: EffectContext) -> Mapping[str, Any] | Failed:
        """The request is checked; there is nothing to store."""
        try:
            _request(step, ctx)
            check_allowed(parsed(step), ctx)
        except EffectError as error:
            return failed(error)
        return {}

    async def do(self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext) -> Done | Failed:
        """Send the request, or its undo, once."""
        try:
            request, limit = _request(step, ctx), TimeLimit(ctx.timeout_s)
            check_allowed(parsed(step), ctx)
            if request is None:
                return Done({"note": "there is nothing to take back"})
            if request.method in _SAFE:
                return await _send(request, ctx, limit)
            async with holding_async(ctx, limit):
                return await _send(request, ctx, limit)
        except EffectError as error:
            return failed(error)

    async def probe(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Done | Absent | Uncertain:
        """A request that changes nothing is always absent; of any other nobody can be asked."""
        try:
            request = _request(step, ctx)
        except EffectError as error:
            return Uncertain(f"{error.code}: {error}"[:2_000])
        if request is None or request.method in _SAFE:
            return Absent()
        return Uncertain("an http request cannot be asked what became of it")

    async def settled(self, step: Mapping[str, Any], ctx: EffectContext) -> bool:
        """Whether no submitter is sending any more; True only after `ctx.timeout_s`, for what is on the network: pass
        what is left of the time of the attempt that may be under way."""
        loop = asyncio.get_running_loop()
        until = loop.time() + ctx.timeout_s
        try:
            request = _request(step, ctx)
        except EffectError:
            return False
        if request is None or request.method in _SAFE:
            return True
        if not await settled(ctx):
            return False
        await asyncio.sleep(max(0.0, until - loop.time()))
        return True


def _request(step: Mapping[str, Any], ctx: EffectContext) -> HttpRequest | None:
    """What to send in this direction; None where there is nothing to take back. Raises EffectError."""
    http = parsed(step)
    if not isinstance(http, HttpStep):
        raise wrong_kind("HttpEffect", "http", http)
    if ctx.direction == "do":
        return http
    if isinstance(http.undo, HttpRequest):
        return http.undo
    if http.undo is False or http.method in _SAFE:
        return None
    raise no_undo()


def _refused(message: str) -> EffectError:
    return EffectError("bad_request", message, applied=False)


class _Lost(aiohttp.ClientError):
    """The connection broke after it was made. aiohttp sends PUT and DELETE a second time for the errors it knows."""


@dataclass(slots=True)
class _Progress:
    """How far an attempt came."""

    connected: bool = False


def _session(request: HttpRequest, progress: _Progress) -> aiohttp.ClientSession:
    async def connected(session: aiohttp.ClientSession, scope: SimpleNamespace, made: object) -> None:
        progress.connected = True

    async def once(outgoing: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        wanted = urlsplit(request.url)
        place = wanted.scheme, wanted.hostname, wanted.port or _DEFAULT_PORTS[wanted.scheme]
        if place != (outgoing.url.scheme, outgoing.url.raw_host, outgoing.url.port):
            raise aiohttp.InvalidURL(request.url, "it is read as two different places")
        try:
            return await handler(outgoing)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise _Lost(str(error)) from error

    watch = aiohttp.TraceConfig()
    watch.on_connection_create_end.append(connected)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1, force_close=True, use_dns_cache=False),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        trust_env=False,
        trace_configs=[watch],
        middlewares=(once,),
        skip_auto_headers=("Content-Type",),
    )


async def _send(request: HttpRequest, ctx: EffectContext, limit: TimeLimit) -> Done | Failed:
    progress = _Progress()
    deadline = asyncio.get_running_loop().time() + limit.left_s
    headers, body = _outgoing(request, ctx)
    try:
        async with _session(request, progress) as session:
            async with asyncio.timeout_at(deadline):
                answer = await session.request(
                    request.method, request.url, headers=headers, data=body, allow_redirects=False
                )
            async with answer:
                return _judge(request, answer.status, await _result(answer, deadline), ctx.policy)
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        return Failed("tls", f"no trusted connection: {str(error)[:400]}", applied=False)
    except aiohttp.InvalidURL as error:
        return failed(_refused(f"{request.url[:200]!r}: {error}"))
    except TimeoutError:
        message = f"no answer within {ctx.timeout_s:g} s" if progress.connected else "no connection in time"
        return Failed("timeout", message, transient=True, applied=None if progress.connected else False)
    except (aiohttp.ClientError, OSError) as error:
        said = f"{type(error).__name__}: {str(error)[:400]}"
        if not progress.connected:
            return Failed("connection", f"nothing was sent: {said}", transient=True, applied=False)
        return Failed("connection_lost", f"no answer that can be used: {said}", transient=True)


def _outgoing(request: HttpRequest, ctx: EffectContext) -> tuple[dict[str, str], bytes | None]:
    body, kind = None, ""
    if isinstance(request.body, str):
        body, kind = request.body.encode(), "text/plain; charset=utf-8"
    elif request.body is not None:
        body, kind = json.dumps(request.body, ensure_ascii=False).encode(), "application/json"
    made = {"user-agent": "madflow", "accept": "*/*", "accept-encoding": "identity"}
    if body is not None:
        made["content-type"] = kind
    made.update({name.lower(): value for name, value in request.headers.items()})
    return {**made, "Idempotency-Key": ctx.key, "X-Madflow-Term": str(ctx.term)}, body


async def _result(answer: aiohttp.ClientResponse, deadline: float) -> dict[str, Any]:
    """What is recorded of an answer. Its body may break off, never end, or not fit: the status was said already."""
    kept, read, digest, cut = bytearray(), 0, hashlib.sha256(), ""
    try:
        async with asyncio.timeout_at(deadline):
            async for came in answer.content.iter_any():
                part = came[: BODY_READ_BYTES - read]
                kept += part[: BODY_KEPT_BYTES - len(kept)]
                read += len(part)
                digest.update(part)
                if read == BODY_READ_BYTES:
                    cut = f"only {BODY_READ_BYTES} bytes are read"
                    break
    except (aiohttp.ClientError, OSError) as error:
        cut = type(error).__name__
    if cut:
        answer.close()
    said = {name: answer.headers.get(name) for name in ("content-type", "location", "retry-after")}
    result: dict[str, Any] = {
        "status_code": answer.status,
        "headers": {name: visible(value.encode())[:_HEADER_CHARS] for name, value in said.items() if value is not None},
        "body": visible(bytes(kept)),
        "body_bytes": read,
        "body_sha256": digest.hexdigest(),
        "body_cut": cut,
    }
    retry_after = _retry_after_s(answer.headers)
    return result if retry_after is None else {**result, "retry_after_s": retry_after}


def _retry_after_s(headers: Mapping[str, str]) -> int | None:
    """Retry-After in seconds; a date counts from the answer's own Date, so that no clock of ours is asked."""
    said = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", said, re.ASCII):
        return min(int(said), _RETRY_AFTER_S_MAX)
    try:
        wait = parsedate_to_datetime(said) - parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):
        return None
    return min(max(0, int(wait.total_seconds())), _RETRY_AFTER_S_MAX)


def _judge(request: HttpRequest, status: int, result: dict[str, Any], policy: Policy) -> Done | Failed:
    if 200 <= status < 300:
        return Done(result)
    message = f"{request.method} {request.url[:300]} was answered with {status}"
    if 300 <= status < 400:
        acted = status == 303 or (status == 302 and request.method in ("POST", "PATCH"))
        where = result["headers"].get("location", "nowhere")[:200]
        return Failed(
            "redirect",
            f"{message}, to {where}; redirects are not followed: write the final URL into the step",
            applied=None if acted else False,
            result=result,
        )
    under_way = status == 409 and policy.honours_keys(url_host(request.url))
    refused = status in (425, 429) or (status == 503 and "retry_after_s" in result)
    unknown = (status == 408 or status >= 500 or under_way) and not refused
    return Failed(
        f"http_{status}",
        message,
        transient=refused or unknown,
        applied=None if unknown else False,
        result=result,
    )
