"""A loopback server that speaks OpenAI's chat completions, bills honestly and fails on purpose.

In a test, `async with LoopbackServer(...) as server:` and point a client at `server.base_url`. For a benchmark, whose
own CPU must not be measured along with the server's, run it as a process:

    python -m madflow.testing.openai_server --port 0 --latency-ms 200 --p-429 0.1

which prints its base URL on the first line and serves until it is told to stop. `GET /stats` returns what was billed.

Tokens are characters / 4, rounded up. What happens to a request is decided by its number, in order of arrival, and a
seed: the same traffic meets the same faults.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from subprocess import PIPE, Popen
from typing import Any, Final, Literal

from aiohttp import web

from .prefix_cache import PrefixCache

__all__ = ["FAULTS", "Fault", "FaultMix", "LoopbackServer", "Served", "Stats", "loopback_process", "smallest_reply"]

Fault = Literal[
    "rate_limit",  # 429 with Retry-After
    "server_error",  # 500
    "drop_before",  # connection closed, nothing billed
    "drop_after",  # billed, then the connection is closed
    "hang",  # no answer at all
    "bad_body",  # 200 and no JSON, billed
    "no_usage",  # a good answer without a usage object, billed
    "fill",  # max_tokens of output, billed
    "bad_key",
    "quota",
    "overflow",
    "content_filter",
    "unknown_model",
    "no_schema",  # 400 that names response_format
]
FAULTS: Final[tuple[str, ...]] = Fault.__args__  # type: ignore[attr-defined]
_CHARS_A_TOKEN: Final = 4
_REJECTS: Final[Mapping[str, tuple[int, str, str]]] = {
    "rate_limit": (429, "rate_limit_exceeded", "slow down"),
    "no_schema": (400, "invalid_request_error", "response_format is not supported"),
    "server_error": (500, "server_error", "the server had an error"),
    "bad_key": (401, "invalid_api_key", "incorrect API key provided"),
    "quota": (429, "insufficient_quota", "you exceeded your current quota"),
    "overflow": (400, "context_length_exceeded", "this model's maximum context length is 8 tokens"),
    "unknown_model": (404, "model_not_found", "the model does not exist"),
}


@dataclass(frozen=True, slots=True)
class FaultMix:
    """Faults at random, by request number: shares of all requests, 0 to 1, tried in this order.

    `hang_at`: numbers (from 0) of requests that hang. `always`: a request whose prompt holds this text always gets 500.
    """

    rate_limit: float = 0.0
    server_error: float = 0.0
    drop_before: float = 0.0
    drop_after: float = 0.0
    hang: float = 0.0
    fill: float = 0.0
    hang_at: tuple[int, ...] = ()
    always: str = ""
    seed: int = 0

    def __call__(self, number: int, body: Mapping[str, Any]) -> Fault | None:
        if self.always and self.always in _prompt(body):
            return "server_error"
        if number in self.hang_at:
            return "hang"
        drawn = random.Random(f"{self.seed}/{number}").random()  # noqa: S311  repeatable, not secret
        names: tuple[Fault, ...] = ("rate_limit", "server_error", "drop_before", "drop_after", "hang", "fill")
        for name in names:
            drawn -= getattr(self, name)
            if drawn < 0:
                return name
        return None


@dataclass(slots=True)
class Served:
    """One request: when it came (monotonic seconds), what became of it, and what it was billed, in tokens."""

    number: int
    at_s: float
    model: str
    fault: str = ""
    status: int = 0
    billed: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    prompt: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Stats:
    """Sums over everything served. `uncached_tokens`: prompt tokens that no cache held."""

    requests: int
    billed: int
    prompt_tokens: int
    cached_tokens: int
    uncached_tokens: int
    output_tokens: int
    concurrent_max: int
    faults: Mapping[str, int]


def _tokens(chars: int) -> int:
    return -(-chars // _CHARS_A_TOKEN)


def _prompt(body: Mapping[str, Any]) -> str:
    return "\n".join(str(message.get("content", "")) for message in body.get("messages", ()))


def smallest_reply(body: Mapping[str, Any]) -> str:
    """A valid reply to a request: the smallest instance of its JSON schema, or `Answer: A` where it names none.

    Words are the first of their enumeration, numbers the least allowed, texts `A`, optional arrays empty.
    """
    form = body.get("response_format") or {}
    if form.get("type") != "json_schema":
        return "Answer: A"
    return json.dumps(_instance(form["json_schema"]["schema"]))


def _instance(schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    if "anyOf" in schema:
        return _instance(schema["anyOf"][-1])
    kind = schema.get("type")
    if kind == "object":
        return {name: _instance(schema["properties"][name]) for name in schema.get("required", ())}
    if kind == "array":
        return [_instance(schema["items"])] * int(schema.get("minItems", 0))
    least = schema.get("minimum", 0)
    values: dict[Any, Any] = {"string": "A", "integer": least, "number": least, "boolean": False}
    return values.get(kind)


class LoopbackServer:
    """An OpenAI-compatible server on 127.0.0.1.

    Args:
        reply: the text of a reply, from the request's body; a str is always the reply.
        latency_s: until the whole reply; the first token comes at `first_token_s` (default: with the whole).
        fault: what goes wrong with a request, by its number and body; a `FaultMix`, or a function of one's own.
        retry_after_s: what a 429 asks for; sent as whole seconds where whole, else as `retry-after-ms`.
        schemas: which response_format the server takes; others get a 400 that names it.
        limit: "max_completion_tokens" refuses max_tokens with a 400, as reasoning models do.
        cache_block_chars: granularity of the prefix cache, 0 for none.
        keep_prompts: keep each request's prompt in `served` (memory grows with traffic).
        api_key: refuse any other bearer token with 401; empty takes all.

    Attributes:
        served: every request in order of arrival.
    """

    def __init__(
        self,
        reply: str | Callable[[Mapping[str, Any]], str] = smallest_reply,
        *,
        latency_s: float = 0.0,
        first_token_s: float | None = None,
        fault: Callable[[int, Mapping[str, Any]], Fault | None] | None = None,
        retry_after_s: float = 1.0,
        schemas: Sequence[str] = ("json_schema", "json_object"),
        limit: str = "",
        cache_block_chars: int = 0,
        keep_prompts: bool = False,
        api_key: str = "",
    ) -> None:
        self._answer: Callable[[Mapping[str, Any]], str] = (lambda body: reply) if isinstance(reply, str) else reply
        self._latency_s = latency_s
        self._first_token_s = latency_s if first_token_s is None else min(first_token_s, latency_s)
        self._fault, self._retry_after_s, self._schemas, self._limit = fault, retry_after_s, tuple(schemas), limit
        self._cache = PrefixCache(block_chars=cache_block_chars) if cache_block_chars else None
        self._keep_prompts, self._api_key = keep_prompts, api_key
        self._runner: web.ServerRunner | None = None
        self._stopping = asyncio.Event()
        self._open = self._open_max = 0
        self.served: list[Served] = []
        self.base_url = ""

    async def __aenter__(self) -> LoopbackServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> str:
        """Listen, and return the base URL. Port 0: any free one."""
        server = web.Server(self._handle, access_log=None, keepalive_timeout=60.0, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, backlog=2048)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self.base_url

    async def stop(self) -> None:
        """Close every connection; requests that hang are let go."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def stats(self) -> Stats:
        """What was served and billed so far."""
        faults: dict[str, int] = {}
        for one in self.served:
            if one.fault:
                faults[one.fault] = faults.get(one.fault, 0) + 1
        billed = [one for one in self.served if one.billed]
        prompt, cached = sum(one.prompt_tokens for one in billed), sum(one.cached_tokens for one in billed)
        return Stats(
            requests=len(self.served),
            billed=len(billed),
            prompt_tokens=prompt,
            cached_tokens=cached,
            uncached_tokens=prompt - cached,
            output_tokens=sum(one.output_tokens for one in billed),
            concurrent_max=self._open_max,
            faults=faults,
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET" and request.path.endswith("/stats"):
            return _json(asdict(self.stats))
        if request.method == "POST" and request.path.endswith("/reset"):
            self.served.clear()
            self._open_max = self._open
            return _json({"reset": True})
        if request.method != "POST" or not request.path.endswith("/chat/completions"):
            return _error(404, "not_found", f"no {request.method} {request.path} here")
        at_s = time.monotonic()
        body = json.loads(await request.read())
        one = Served(number=len(self.served), at_s=at_s, model=str(body.get("model", "")))
        self.served.append(one)
        self._open += 1
        self._open_max = max(self._open_max, self._open)
        try:
            response = await self._serve(request, body, one)
            one.status = response.status
            return response
        finally:
            self._open -= 1

    async def _serve(self, request: web.BaseRequest, body: Mapping[str, Any], one: Served) -> web.StreamResponse:
        refused = self._refusal(request, body)
        if refused is not None:
            return refused
        one.fault = (self._fault(one.number, body) if self._fault is not None else None) or ""
        if one.fault == "drop_before":
            return _dropped(request)
        if one.fault == "hang":
            await self._stopping.wait()
            return _dropped(request)
        if one.fault in _REJECTS:
            status, code, message = _REJECTS[one.fault]
            wait = _retry_after(self._retry_after_s) if one.fault == "rate_limit" else None
            return _error(status, code, message, wait, param="response_format" if one.fault == "no_schema" else None)
        return await self._complete(request, body, one)

    def _refusal(self, request: web.BaseRequest, body: Mapping[str, Any]) -> web.Response | None:
        if self._api_key and request.headers.get("Authorization") != f"Bearer {self._api_key}":
            return _error(401, "invalid_api_key", "incorrect API key provided")
        form = (body.get("response_format") or {}).get("type", "text")
        if form not in (*self._schemas, "text"):
            return _error(
                400, "invalid_request_error", f"response_format {form} is not supported", param="response_format"
            )
        if self._limit == "max_completion_tokens" and "max_tokens" in body:
            message = (
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
            )
            return _error(400, "unsupported_parameter", message, param="max_tokens")
        return None

    async def _complete(self, request: web.BaseRequest, body: Mapping[str, Any], one: Served) -> web.StreamResponse:
        prompt = _prompt(body)
        cap = int(body.get("max_completion_tokens") or body.get("max_tokens") or 1024)
        cached = self._cache.cached_chars(prompt) if self._cache is not None else 0  # as of its arrival
        text = self._answer(body)
        if one.fault == "fill":
            text = (text + " word" * cap)[: cap * _CHARS_A_TOKEN]
        finish = "stop"
        if len(text) > cap * _CHARS_A_TOKEN or one.fault == "fill":
            text, finish = text[: cap * _CHARS_A_TOKEN], "length"
        if one.fault == "content_filter":
            text, finish = "", "content_filter"
        if self._keep_prompts:
            one.prompt = prompt
        usage: dict[str, Any] = {
            "prompt_tokens": _tokens(len(prompt)),
            "completion_tokens": _tokens(len(text)),
            "total_tokens": _tokens(len(prompt)) + _tokens(len(text)),
            "prompt_tokens_details": {"cached_tokens": cached // _CHARS_A_TOKEN},
        }
        one.billed, one.prompt_tokens, one.output_tokens = True, usage["prompt_tokens"], usage["completion_tokens"]
        one.cached_tokens = cached // _CHARS_A_TOKEN
        if body.get("stream") and one.fault != "bad_body":
            asked = (body.get("stream_options") or {}).get("include_usage") and one.fault != "no_usage"
            return await self._stream(request, one, prompt, [text, finish, usage if asked else None])
        await self._wait(prompt)
        if one.fault == "drop_after":
            return _dropped(request)
        if one.fault == "bad_body":
            return web.Response(body=b'{"choices": [', content_type="application/json")
        message = {"role": "assistant", "content": text}
        reply = {
            "id": f"chatcmpl-{one.number}",
            "object": "chat.completion",
            "created": 0,
            "model": one.model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        }
        return _json(reply if one.fault == "no_usage" else {**reply, "usage": usage})

    async def _wait(self, prompt: str) -> None:
        if self._first_token_s > 0:
            await asyncio.sleep(self._first_token_s)
        if self._cache is not None:
            self._cache.warm(prompt)
        if self._latency_s > self._first_token_s:
            await asyncio.sleep(self._latency_s - self._first_token_s)

    async def _stream(
        self, request: web.BaseRequest, one: Served, prompt: str, said: Sequence[Any]
    ) -> web.StreamResponse:
        text, finish, usage = said
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if self._first_token_s > 0:
            await asyncio.sleep(self._first_token_s)
        if self._cache is not None:
            self._cache.warm(prompt)
        half = len(text) // 2
        await response.write(_event(one, {"role": "assistant", "content": text[:half]}, None))
        if self._latency_s > self._first_token_s:
            await asyncio.sleep(self._latency_s - self._first_token_s)
        if one.fault == "drop_after":
            return _dropped(request)
        await response.write(_event(one, {"content": text[half:]}, None) + _event(one, {}, finish))
        if usage is not None:
            await response.write(_event(one, None, None, usage))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def _event(one: Served, delta: Mapping[str, Any] | None, finish: str | None, usage: Any = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": f"chatcmpl-{one.number}", "object": "chat.completion.chunk", "created": 0, "model": one.model}
    return b"data: " + json.dumps({**head, "choices": choices, "usage": usage}).encode() + b"\n\n"


def _json(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=json.dumps(data).encode(), status=status, headers=headers, content_type="application/json")


def _error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None, *, param: str | None = None
) -> web.Response:
    return _json({"error": {"message": message, "type": code, "code": code, "param": param}}, status, headers)


def _retry_after(seconds: float) -> dict[str, str]:
    if seconds == int(seconds):
        return {"Retry-After": str(int(seconds))}
    return {"retry-after-ms": str(round(seconds * 1000))}


def _dropped(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=499)


@asynccontextmanager
async def _until_signal() -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    yield stop


@contextmanager
def loopback_process(*options: str) -> Iterator[str]:
    """The server as a process of its own, while the block runs; yields its base URL. `options`: its command line's."""
    process = Popen([sys.executable, "-m", "madflow.testing.openai_server", *options], stdout=PIPE, text=True)
    try:
        url = process.stdout.readline().strip() if process.stdout is not None else ""
        if not url:
            raise RuntimeError(f"the loopback server did not start: exit code {process.wait(timeout=5)}")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=5)
        if process.stdout is not None:
            process.stdout.close()


async def _main(options: argparse.Namespace) -> None:
    mix = FaultMix(
        rate_limit=options.p_429,
        server_error=options.p_500,
        drop_before=options.p_drop_before,
        drop_after=options.p_drop_after,
        fill=options.p_fill,
        hang_at=tuple(options.hang_at),
        always=options.always,
        seed=options.seed,
    )
    server = LoopbackServer(
        options.reply or smallest_reply,
        latency_s=options.latency_ms / 1000,
        first_token_s=None if options.first_token_ms is None else options.first_token_ms / 1000,
        fault=mix,
        retry_after_s=options.retry_after_s,
        schemas=() if options.no_schema else ("json_schema", "json_object"),
        cache_block_chars=options.cache_block_chars,
    )
    print(await server.start(options.port), flush=True)
    async with _until_signal() as stop:
        await stop.wait()
    await server.stop()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m madflow.testing.openai_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--first-token-ms", type=float, default=None)
    parser.add_argument("--reply", default="", help="always this text (default: the smallest valid reply)")
    parser.add_argument("--retry-after-s", type=float, default=1.0)
    parser.add_argument("--cache-block-chars", type=int, default=0)
    parser.add_argument("--hang-at", type=int, nargs="*", default=[])
    parser.add_argument("--always", default="", help="a request whose prompt holds this text always gets a 500")
    parser.add_argument("--no-schema", action="store_true", help="refuse any response_format with a 400")
    parser.add_argument("--seed", type=int, default=0)
    for name in ("429", "500", "drop-before", "drop-after", "fill"):
        parser.add_argument(f"--p-{name}", type=float, default=0.0, help="share of requests, 0 to 1")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_main(_options()))
