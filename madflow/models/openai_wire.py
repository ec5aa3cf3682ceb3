"""OpenAI-compatible chat completions, spoken to directly over the process's pooled session.

One `complete` is one HTTP request: no retry, no redirect (a key must not travel on), no cookie. What a server cannot
take is learnt, not guessed: a 400 that names an optional parameter makes this client remember it and fail the attempt
with a ParameterRefused("schema_rejected" or "parameter_rejected"), so that the next attempt, which the caller reserves
like any other, goes without. So does a request that brings what was refused before (`ModelRequest.refused`).
response_format steps down json_schema → json_object → none; max_completion_tokens and max_tokens stand for each other;
temperature, seed and stream_options are left out.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from multidict import CIMultiDict

from ..errors import ConfigError, ParameterRefused, PermanentModelError, TransientModelError
from ..ports import ModelReply, ModelRequest, Quote, ReplySchema, Usage
from .dialect import Dialect, response_format
from .http_pool import aclose_all, session
from .openai_errors import error_detail, error_in_body, from_response, rejected_parameter, tells_of_work
from .openai_stream import StreamedReply
from .prices import Price
from .quoting import quote_request, read_usage
from .tokens import TokenCounter
from .wellformed import well_formed

__all__ = ["BODY_BYTES_MAX", "OpenAIWireClient", "aclose_all"]

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
_CHUNK_BYTES: Final = 65_536
_LABEL_CHARS: Final = 200


class OpenAIWireClient:
    """A `ModelClient` for one model on one OpenAI-compatible endpoint.

    Args:
        model: the name as the server knows it, without a provider's prefix.
        api_base: up to and including the version, e.g. `"http://127.0.0.1:8000/v1"`.
        api_key: sent as a bearer token; empty where the server wants none.
        name: what the user calls it, in messages and records; the model's name by default.
        limit_parameter: "max_completion_tokens" for servers whose models refuse max_tokens; learnt otherwise.
        headers: sent along with every request.
        counter, price: how tokens are counted and what one costs; None prices nothing.
    """

    def __init__(
        self,
        model: str,
        api_base: str,
        api_key: str = "",
        *,
        name: str = "",
        limit_parameter: str = "max_tokens",
        headers: Mapping[str, str] | None = None,
        counter: TokenCounter | None = None,
        price: Price | None = None,
    ) -> None:
        parts = urlsplit(api_base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"api_base {api_base!r} is no http(s) URL; give one such as http://127.0.0.1:8000/v1")
        self.model, self.name, self.api_base = model, name or model, api_base.rstrip("/")
        self._url = f"{self.api_base}/chat/completions"
        self._key = api_key
        self._headers = CIMultiDict(
            {
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "madflow",
                **(headers or {}),
            }
        )
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._dialect = Dialect(limit_parameter)
        self._counter = counter or TokenCounter(model)
        self._price = price
        self._proxy = _proxy(parts.scheme, parts.hostname)
        self._formats: dict[tuple[str, str], dict[str, Any]] = {}

    def __repr__(self) -> str:
        return f"OpenAIWireClient({self.model!r}, {self.api_base!r})"

    def quote(self, request: ModelRequest) -> Quote:
        """The worst case of `request`; see `quoting.quote_request`."""
        return quote_request(request, self._counter, self._price)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """One request, one reply.

        Raises:
            TransientModelError: rate_limited, timeout, connection, server_error, conflict, bad_body.
            ParameterRefused: schema_rejected, parameter_rejected.
            PermanentModelError: bad_key, quota, context_overflow, content_filter, unknown_model, bad_request,
                redirect, too_long.
        """
        if request.timeout_s <= 0:  # aiohttp would take 0 for "no timeout"
            raise TransientModelError("timeout", f"{self.name}: no time left ({request.timeout_s:g} s)")
        dialect = self._dialect.without(request.refused)
        body = _encoded(self._body(request, dialect))
        timeout = aiohttp.ClientTimeout(total=request.timeout_s)
        began = time.perf_counter()
        try:
            pool = await session()
            async with pool.post(
                self._url,
                data=body,
                headers=self._headers,
                timeout=timeout,
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                if response.status == 200:
                    if request.on_first_token is not None:
                        reply = await self._streamed(request, response)
                    else:
                        reply = self._reply(await self._read(response))
                else:
                    content = await self._read(response)
                    self._refused(response.status, response.headers, content, dialect)
        except TimeoutError:
            raise TransientModelError(
                "timeout", f"{self.name}: no whole answer within {request.timeout_s:g} s from {self.api_base}"
            ) from None
        except aiohttp.InvalidURL as error:
            raise PermanentModelError("bad_request", f"{self.name}: the URL {error} is not valid") from None
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise TransientModelError(
                "connection", f"{self.name}: {self.api_base}: {type(error).__name__}: {error}"
            ) from error
        return replace(reply, latency_ms=round((time.perf_counter() - began) * 1000))

    def _body(self, request: ModelRequest, dialect: Dialect) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": request.system},
                {"role": "user", "content": request.prompt},
            ],
            dialect.limit: request.max_output_tokens,
        }
        if not request.system:
            del body["messages"][0]
        if request.temperature is not None and dialect.takes("temperature"):
            body["temperature"] = request.temperature
        if request.seed is not None and dialect.takes("seed"):
            body["seed"] = request.seed
        if request.schema is not None and dialect.schema != "none":
            body["response_format"] = self._format(request.schema, dialect.schema)
        if request.on_first_token is not None:
            body["stream"] = True
            if dialect.takes("stream_options"):
                body["stream_options"] = {"include_usage": True}
        return body

    def _format(self, schema: ReplySchema, mode: str) -> dict[str, Any]:
        form = self._formats.get((schema.name, mode))
        if form is None:
            form = self._formats[schema.name, mode] = response_format(schema, mode)
        return form

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        length = response.content_length
        if length is not None and length <= BODY_BYTES_MAX and "Content-Encoding" not in response.headers:
            return await response.read()
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            size += len(chunk)
            if size > BODY_BYTES_MAX:
                response.close()
                raise self._too_long(size)
            chunks.append(chunk)
        return b"".join(chunks)

    def _too_long(self, size: int) -> PermanentModelError:
        return PermanentModelError(
            "too_long", f"{self.name}: the answer is larger than {BODY_BYTES_MAX} bytes ({size} read)", status=200
        )

    def _reply(self, content: bytes) -> ModelReply:
        try:
            data = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._bad_body(f"not JSON ({error})") from None
        hidden = error_in_body(data, model=self.name, secret=self._key)
        if hidden is not None:
            raise hidden
        try:
            choice = data["choices"][0]
            message = choice["message"]
            finish = choice.get("finish_reason") or "stop"
            text = _text(message)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._bad_body("without choices[0].message.content") from None
        if finish == "content_filter":
            raise PermanentModelError("content_filter", f"{self.name}: the provider's filter withheld the reply")
        usage = read_usage(data.get("usage"), self._price)
        return self._told(text, usage, str(finish), str(data.get("model") or self.model))

    @staticmethod
    def _told(text: str, usage: Usage | None, finish: str, model: str) -> ModelReply:
        return ModelReply(
            text=well_formed(text),
            usage=usage,
            finish_reason=well_formed(finish, chars_max=_LABEL_CHARS),
            model=well_formed(model, chars_max=_LABEL_CHARS),
        )

    def _bad_body(self, what: str) -> TransientModelError:
        return TransientModelError("bad_body", f"{self.name}: HTTP 200 with a body {what}", status=200)

    async def _streamed(self, request: ModelRequest, response: aiohttp.ClientResponse) -> ModelReply:
        if "event-stream" not in response.headers.get("Content-Type", ""):  # the server ignores `stream`
            content = await self._read(response)
            if request.on_first_token is not None:
                request.on_first_token()
            return self._reply(content)
        stream = StreamedReply(self.name, request.on_first_token, secret=self._key)
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > BODY_BYTES_MAX:
                response.close()
                raise self._too_long(size)
            stream.feed(chunk)
        text, finish, raw, model = stream.end()
        usage: Usage | None = read_usage(raw, self._price)
        return self._told(text, usage, finish, model or self.model)

    def _refused(self, status: int, headers: Mapping[str, str], content: bytes, sent: Dialect) -> NoReturn:
        """Raise what a response other than 200 means, learning from it first."""
        if 300 <= status < 400:
            raise PermanentModelError(
                "redirect",
                f"{self.name}: {self._url} redirects to {headers.get('location', '?')!r}; give that as api_base",
                status=status,
            )
        parameter = rejected_parameter(status, *error_detail(content, self._key))
        if word := sent.word(parameter):
            self._dialect = self._dialect.without({word})
            code = "schema_rejected" if parameter == "response_format" else "parameter_rejected"
            text = f"{self.name}: the server does not take {parameter}; later attempts go without"
            unbilled = not tells_of_work(content.decode("utf-8", "replace"))
            raise ParameterRefused(code, text, word=word, unbilled=unbilled, status=status)
        raise from_response(status, headers, content, model=self.name, secret=self._key)


def _encoded(body: Mapping[str, Any]) -> bytes:
    """A request's body as JSON. orjson takes a tenth of json's time for a long prompt, but refuses lone surrogates and
    integers beyond 64 bits, which json can write."""
    try:
        return orjson.dumps(body)
    except TypeError:
        return json.dumps(body).encode("ascii")


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if content is None:
        content = message.get("refusal") or ""
    if isinstance(content, list):  # parts, as some servers send them
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise TypeError(type(content).__name__)
    return content


def _proxy(scheme: str, host: str) -> str | None:
    if host in ("localhost", "127.0.0.1", "::1") or proxy_bypass(host):
        return None
    return getproxies().get(scheme)
