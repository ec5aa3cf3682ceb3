"""Requests against a server that is scripted byte by byte: what is sent, and what each answer means."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from effect_worlds import context

from madflow.core.policy import Policy
from madflow.core.saga import Absent, Done, Failed, Uncertain
from madflow.effects.http import BODY_KEPT_BYTES, BODY_READ_BYTES, HttpEffect
from madflow.ports import EffectContext
from madflow.testing.counter import CounterServer

EFFECT = HttpEffect()
HANG = b"<hang>"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers each request with the same bytes, and keeps what it got."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.requests, self.host, self.asked = answer, [], "", asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await reader.readexactly(1) == b"\x16":  # a TLS handshake
                writer.write(self.answer)
                return
            head = "?" + (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = [tuple(line.split(": ", 1)) for line in lines]
            length = int(dict((name.lower(), value) for name, value in headers).get("content-length", "0"))
            self.requests.append((first[1:], headers, await reader.readexactly(length)))
            self.asked.set()
            before, hang, after = self.answer.partition(HANG)
            writer.write(before)
            await writer.drain()
            if hang:
                await asyncio.sleep(0.5)
                writer.write(after)
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer: bytes) -> AsyncIterator[Server]:
    server = Server(answer)
    listening = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    server.host = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()


def allowing(root: Path, host: str, *, methods: tuple[str, ...] = (), honours: bool = False, **more: Any) -> Any:
    allow = {"step": ["http"], "hosts": [host, "taken.back"], "methods": list(methods)}
    policy = {"allow": [allow], "http": {"idempotent_hosts": [host] if honours else []}}
    return context(root, policy=Policy.model_validate(policy), **more)


async def ask(root: Path, answer: bytes, step: dict[str, Any] | None = None, **more: Any) -> Any:
    """What `do` makes of an answer."""
    async with serving(answer) as server:
        ctx = allowing(root, server.host, **more)
        return await EFFECT.do(request(server, **(step or {})), {}, ctx)


def request(server: Server, **more: Any) -> dict[str, Any]:
    return {"step": "http", "method": "POST", "url": f"http://{server.host}/x", **more}


def status(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {line}", "Content-Length: 0", *headers, "", ""]).encode()


async def test_what_is_sent(tmp_path: Path) -> None:
    """Catches a missing or overridden key, a body in another form, a cookie or a proxy of the surroundings."""
    async with serving(OK) as server:
        ctx = allowing(tmp_path, server.host, term=7)
        bodies = (({"a": [1, "é"]}, "application/json"), ("text é", "text/plain; charset=utf-8"))
        for body, kind in bodies:
            done = await EFFECT.do(request(server, body=body, headers={"X-Mine": "1"}), {}, ctx)
            assert isinstance(done, Done)
            first, pairs, sent = server.requests.pop()
            headers = {name.lower(): value for name, value in pairs}
            assert len(pairs) == len(headers) and first == "OST /x HTTP/1.1"
            assert headers["idempotency-key"] == ctx.key and headers["x-madflow-term"] == "7"
            assert (headers["content-type"], headers["x-mine"]) == (kind, "1")
            assert (json.loads(sent) if kind == "application/json" else sent.decode()) == body
            assert not {"cookie", "authorization", "expect"} & set(headers)
        await EFFECT.do(request(server, method="GET"), {}, ctx)
        _, pairs, sent = server.requests.pop()
        assert sent == b"" and "content-type" not in {name.lower() for name, _ in pairs}
        await EFFECT.do(request(server, body="{}", headers={"content-type": "application/json"}), {}, ctx)
        _, pairs, _ = server.requests.pop()
        assert [value for name, value in pairs if name.lower() == "content-type"] == ["application/json"]


async def test_proxies_and_netrc_of_the_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a request that goes where an environment variable says."""
    async with serving(OK) as proxy, serving(OK) as server:
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        assert isinstance(await EFFECT.do(request(server), {}, allowing(tmp_path, server.host)), Done)
        assert (len(server.requests), len(proxy.requests)) == (1, 0)


@pytest.mark.parametrize(
    "headers",
    [
        *({"Host": "x"}, {"idempotency-KEY": "x"}, {"Content-Length": "0"}, {"Transfer-Encoding": "chunked"}),
        *({"Connection": "close"}, {"Expect": "100-continue"}, {"Proxy-Authorization": "x"}, {"X-Madflow-Term": "9"}),
        *({"A": "b\r\nHost: x"}, {"A\r\nB": "c"}, {"": "x"}, {"A B": "c"}, {"A": "\x00"}),
        *({"Accept": "a", "accept": "b"}, {"A": "x" * 9_000}),
    ],
)
async def test_headers_a_step_may_not_set(tmp_path: Path, headers: dict[str, str]) -> None:
    """Catches a header that splits the request, or that replaces what is ours."""
    async with serving(OK) as server:
        ctx = allowing(tmp_path, server.host)
        step = request(server, headers=headers)
        for failed in (await EFFECT.do(step, {}, ctx), await EFFECT.prepare(step, ctx)):
            assert isinstance(failed, Failed) and failed.applied is False
            assert failed.code == "bad_step"
        assert server.requests == []
        assert await EFFECT.prepare(request(server, headers={"Accept": "a"}), ctx) == {}


async def test_the_policy_is_asked_again(tmp_path: Path) -> None:
    """Catches a host, a port or a method that is not allowed, and a URL that two readers take to two places."""
    async with serving(OK) as server:
        port = server.host.rpartition(":")[2]
        wrong = (
            (server.host, "GET", f"http://{server.host}/x", ("POST",)),
            ("127.0.0.1", "POST", f"http://{server.host}/x", ()),
            ("127.0.0.1:1", "POST", f"http://{server.host}/x", ()),
            (server.host, "POST", f"http://localhost:{port}/x", ()),
            (server.host, "POST", f"https://other.example/{server.host}", ()),
            (server.host, "POST", f"http://127.0.0.1:{port}.other.example/", ()),
        )
        for host, method, url, methods in wrong:
            ctx = allowing(tmp_path, host, methods=methods)
            for failed in (
                await EFFECT.do(request(server, method=method, url=url), {}, ctx),
                await EFFECT.prepare(request(server, method=method, url=url), ctx),
            ):
                assert isinstance(failed, Failed) and failed.applied is False, url
                assert failed.code in ("permission_denied", "bad_step"), (url, failed)
        for place in (f"{server.host}\\@other.example", f"user@{server.host}", "127.1:80", f"{server.host}#@x\\"):
            step = request(server, url=f"http://{place}/")
            failed = await EFFECT.do(step, {}, allowing(tmp_path, "**"))
            assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("bad_step", False), (place, failed)
        assert server.requests == []
        step = request(server, undo={"method": "DELETE", "url": f"http://{server.host}/x"})
        undone = await EFFECT.do(step, {}, context(tmp_path, policy=Policy(), direction="undo"))
        assert isinstance(undone, Done) and len(server.requests) == 1, "it was allowed with its step"


ANSWERS: list[tuple[bytes, dict[str, Any], str, bool, bool | None]] = [
    (status("301 Moved", "Location: http://127.0.0.1:1/"), {}, "redirect", False, False),
    (status("302 Found", "Location: http://127.0.0.1:1/"), {}, "redirect", False, None),
    (status("302 Found", "Location: http://127.0.0.1:1/"), {"method": "PUT"}, "redirect", False, False),
    (status("303 See Other", "Location: /x"), {}, "redirect", False, None),
    (status("307 Temporary", "Location: /x"), {}, "redirect", False, False),
    (status("400 Bad"), {}, "http_400", False, False),
    (status("404 Not Found"), {"method": "PUT"}, "http_404", False, False),
    (status("409 Conflict"), {}, "http_409", False, False),
    (status("425 Too Early"), {}, "http_425", True, False),
    (status("429 Slow down"), {}, "http_429", True, False),
    (status("408 Timeout"), {}, "http_408", True, None),
    (status("500 Oops"), {}, "http_500", True, None),
    (status("503 Busy"), {}, "http_503", True, None),
    (status("503 Busy", "Retry-After: 3"), {}, "http_503", True, False),
    (b"", {}, "connection_lost", True, None),
    (b"", {"method": "PUT"}, "connection_lost", True, None),
    (b"HTTP/1.1 200", {"method": "PUT"}, "connection_lost", True, None),
    (b"garbage\r\n\r\n", {}, "connection_lost", True, None),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", {}, "connection_lost", True, None),
]


@pytest.mark.parametrize(("answer", "step", "code", "transient", "applied"), ANSWERS)
async def test_answers(
    tmp_path: Path, answer: bytes, step: dict[str, Any], code: str, transient: bool, applied: bool | None
) -> None:
    """Catches an answer that is believed to mean more than it says; and a second request that nobody ordered, which
    aiohttp sends of its own for a PUT whose connection breaks."""
    async with serving(answer) as server:
        failed = await EFFECT.do(request(server, **step), {}, allowing(tmp_path, server.host))
        assert isinstance(failed, Failed)
        assert (failed.code, failed.transient, failed.applied) == (code, transient, applied), failed
        assert len(server.requests) == 1


async def test_a_conflict_where_keys_are_honoured(tmp_path: Path) -> None:
    """Catches a 409 that says "your first request is under way", taken for a refusal."""
    failed = await ask(tmp_path, status("409 Conflict"), honours=True)
    assert (failed.transient, failed.applied) == (True, None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (["Retry-After: 17"], 17),
        (["Retry-After: 999999999"], 86_400),
        (["Date: Sat, 01 Jan 2028 10:00:00 GMT", "Retry-After: Sat, 01 Jan 2028 10:01:00 GMT"], 60),
        (["Retry-After: soon"], None),
        (["Retry-After: Sat, 01 Jan 2028 10:01:00 GMT"], None),
        ([], None),
    ],
)
async def test_retry_after(tmp_path: Path, headers: list[str], seconds: int | None) -> None:
    """Catches a wait that is not what the server asked for, or that has no end."""
    failed = await ask(tmp_path, status("429 Slow down", *headers))
    assert failed.result.get("retry_after_s") == seconds


async def test_bodies_are_bounded(tmp_path: Path) -> None:
    """Catches a body that is read or kept without end, a digest of something else, and text that is not harmless."""
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * (2 * BODY_READ_BYTES)
    done = await ask(tmp_path, endless)
    assert isinstance(done, Done)
    assert done.result["body_bytes"] == BODY_READ_BYTES and done.result["body"] == "x" * BODY_KEPT_BYTES
    assert done.result["body_sha256"] == hashlib.sha256(b"x" * BODY_READ_BYTES).hexdigest() and done.result["body_cut"]
    done = await ask(tmp_path, b"HTTP/1.1 201 OK\r\nContent-Length: 6\r\nContent-Encoding: gzip\r\n\r\na\x1b[\xff\nz")
    assert isinstance(done, Done) and done.result["body"] == "a␛[\ufffd\nz" and done.result["body_cut"] == ""
    assert done.result["status_code"] == 201


async def test_time(tmp_path: Path) -> None:
    """Catches a request without an end: a server that does not answer, that stops in its headers, or in its body; the
    last has said its status already."""
    for before in (b"", b"HTTP/1.1 200 OK\r\nX: "):
        failed = await ask(tmp_path, before + HANG + OK, timeout_s=0.15)
        assert isinstance(failed, Failed) and (failed.code, failed.transient, failed.applied) == ("timeout", True, None)
    done = await ask(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab" + HANG, timeout_s=0.15)
    assert isinstance(done, Done) and (done.result["body"], done.result["body_cut"]) == ("ab", "TimeoutError")
    done = await ask(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    assert isinstance(done, Done) and done.result["body_cut"] == "ClientPayloadError"


async def test_nothing_was_sent(tmp_path: Path) -> None:
    """Catches a refused connection that leaves a step in doubt, and a server without a certificate that is trusted."""
    step = {"step": "http", "method": "POST", "url": "http://127.0.0.1:1/x"}
    failed = await EFFECT.do(step, {}, allowing(tmp_path, "127.0.0.1:1"))
    assert isinstance(failed, Failed)
    assert (failed.code, failed.transient, failed.applied) == ("connection", True, False)
    async with serving(OK) as server:
        step = {**step, "url": f"https://{server.host}/x"}
        failed = await EFFECT.do(step, {}, allowing(tmp_path, server.host))
        assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("tls", False), failed


@pytest.mark.parametrize(
    ("step", "direction", "probed"),
    [
        ({"method": "GET"}, "do", Absent),
        ({"method": "PUT"}, "do", Uncertain),
        ({"method": "PUT", "undo": False}, "undo", Absent),
        ({"method": "PUT", "undo": {"method": "DELETE", "url": "http://taken.back/"}}, "undo", Uncertain),
    ],
)
async def test_probe(tmp_path: Path, step: dict[str, Any], direction: str, probed: type) -> None:
    """Catches a lost request that is believed to be absent."""
    whole = {"step": "http", "url": "http://taken.back/", **step}
    assert isinstance(await EFFECT.probe(whole, {}, allowing(tmp_path, "x", direction=direction)), probed)


async def test_undo_against_the_counter(tmp_path: Path) -> None:
    """Catches an undo that repeats the request, and effects that the counter sees twice."""
    with CounterServer(tmp_path) as server:
        ctx: Callable[..., EffectContext] = lambda **more: allowing(tmp_path, server.address, **more)  # noqa: E731
        step = {"step": "http", "method": "POST", "url": server.url("/keyed/x")}
        whole = {**step, "undo": {"method": "DELETE", "url": server.url("/effect/x")}}
        for _ in range(2):
            assert isinstance(await EFFECT.do(whole, {}, ctx(key="k-do")), Done)
        assert isinstance(await EFFECT.do(whole, {}, ctx(key="k-undo", direction="undo")), Done)
        assert (server.counts(), server.undone()) == ({"x": 1}, {"x": 1})
        assert server.counts_by_key() == {"k-do": 1, "k-undo": 1} and server.received()[0]["term"] == "1"
        failed = await EFFECT.do(step, {}, ctx(direction="undo"))
        assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("no_undo", False)
        assert isinstance(await EFFECT.do({**step, "undo": False}, {}, ctx(direction="undo")), Done)


async def test_settled_waits(tmp_path: Path) -> None:
    """Catches a successor that does not wait for a request which may be under way."""
    loop = asyncio.get_running_loop()
    for method, least_s in (("POST", 0.1), ("GET", 0.0)):
        before = loop.time()
        step = {"step": "http", "method": method, "url": "http://taken.back/"}
        assert await EFFECT.settled(step, allowing(tmp_path, "x", timeout_s=0.1))
        assert loop.time() - before >= least_s * 0.99


async def test_a_successor_fences_a_request(tmp_path: Path) -> None:
    """Catches a submitter that was stopped before its request, and sends it after its successor has looked."""
    async with serving(OK) as server:
        step = request(server)
        assert await EFFECT.settled(step, allowing(tmp_path, server.host, term=2, timeout_s=0.01))
        late = await EFFECT.do(step, {}, allowing(tmp_path, server.host, term=1))
        assert isinstance(late, Failed) and (late.code, late.applied, late.transient) == ("fenced", False, False)
        assert server.requests == []
        server.answer = HANG + OK
        sending = asyncio.create_task(EFFECT.do(step, {}, allowing(tmp_path, server.host, term=2)))
        await asyncio.wait_for(server.asked.wait(), 10)
        assert not await EFFECT.settled(step, allowing(tmp_path, server.host, term=3, timeout_s=0.05))
        assert isinstance(await sending, Done)


async def test_without_time_nothing_is_sent(tmp_path: Path) -> None:
    """Catches a request that is sent though its time is over."""
    async with serving(OK) as server:
        failed = await EFFECT.do(request(server), {}, allowing(tmp_path, server.host, timeout_s=0.0))
        assert isinstance(failed, Failed) and failed.code == "timeout"
        assert server.requests == []


async def test_steps_of_another_kind(tmp_path: Path) -> None:
    """Catches a step that is not a request, and raises, or counts as absent or settled."""
    for step in ({"step": "nonsense"}, {"step": "command", "cmd": ["true"]}):
        ctx = context(tmp_path)
        for failed in (await EFFECT.prepare(step, ctx), await EFFECT.do(step, {}, ctx)):
            assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("bad_step", False)
        assert isinstance(await EFFECT.probe(step, {}, ctx), Uncertain)
        assert not await EFFECT.settled(step, ctx)
