"""Every provider that does not speak OpenAI's protocol, through litellm: the one module that imports it.

The import costs seconds, so it happens at the first call, in a thread, and with LITELLM_LOCAL_MODEL_COST_MAP set so
that it reads its own price list instead of the network. litellm's retries and those of the SDKs beneath it are off: one
layer retries, and every attempt is reserved. `drop_params` is on: what a provider has no word for (a seed, a
temperature) is left out by litellm before anything is sent; refusing instead would burn a reserved attempt each.

litellm wraps causes in causes: a missing key and a refused connection both surface as "InternalServerError 500". So the
chain of causes is read, and the first link that says something definite decides.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from ..errors import ModelError, ParameterRefused, PermanentModelError, TransientModelError
from ..ports import ModelReply, ModelRequest, Quote
from .dialect import Dialect, response_format
from .http_pool import on_close
from .openai_errors import classify, rejected_parameter, tells_of_work
from .prices import Price
from .quoting import quote_request, read_usage
from .tokens import TokenCounter
from .wellformed import well_formed

__all__ = ["LiteLLMClient"]

_TEXT_CHARS_MAX = 4 * 1024 * 1024
_LABEL_CHARS = 200
_LOCAL_MAP = "LITELLM_LOCAL_MODEL_COST_MAP"
# A class of litellm's (or of what it wraps) that settles the matter by itself.
_BY_CLASS = {
    "ContextWindowExceededError": "context_overflow",
    "ContentPolicyViolationError": "content_filter",
    "AuthenticationError": "bad_key",
    "PermissionDeniedError": "bad_key",
    "PaymentRequiredError": "quota",
    "NotFoundError": "unknown_model",
    "LiteLLMUnknownProvider": "unknown_model",
}
_TIMEOUTS = frozenset({"Timeout", "APITimeoutError", "TimeoutError", "TimeoutException"})
_CONNECTION = frozenset({"APIConnectionError", "ConnectError", "ReadError", "RemoteProtocolError", "ClientError"})
_BROKEN = frozenset({"APIResponseValidationError", "JSONDecodeError"})
_NO_KEY = ("api_key client option must be set", "missing credentials", "missing api key", "api key is missing")


_LOCK = threading.Lock()  # around the environment variable that litellm reads while it is imported


def _load() -> Any:
    with _LOCK:
        before = os.environ.get(_LOCAL_MAP)
        os.environ[_LOCAL_MAP] = "True"
        try:
            import litellm
        finally:
            if before is None:
                del os.environ[_LOCAL_MAP]
            else:
                os.environ[_LOCAL_MAP] = before
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm


async def _close_clients() -> None:
    litellm = _load()
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


class LiteLLMClient:
    """A `ModelClient` for one model name as litellm takes it, e.g. `"anthropic/claude-sonnet-4-5"`.

    Args:
        model: provider/model.
        api_base: another endpoint than the provider's own.
        api_key: the key; None leaves it to litellm, which reads the provider's environment variables.
    """

    def __init__(
        self,
        model: str,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        counter: TokenCounter | None = None,
        price: Price | None = None,
    ) -> None:
        self.model = self.name = model
        self._api_base, self._api_key, self._price = api_base, api_key, price
        self._counter = counter or TokenCounter(model.rsplit("/", 1)[-1])
        self._dialect = Dialect()
        self._litellm: Any = None

    def __repr__(self) -> str:
        return f"LiteLLMClient({self.model!r})"

    def quote(self, request: ModelRequest) -> Quote:
        """The worst case of `request`; see `quoting.quote_request`."""
        return quote_request(request, self._counter, self._price)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """One request, one reply. Raises the wire client's errors, with its codes."""
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(_load)
        await on_close(_close_clients)
        sent = self._dialect.without(request.refused)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(request.timeout_s):
                answer = await self._litellm.acompletion(**self._arguments(request, sent))
                text, finish, raw, name = await _whole(answer, request)
        except TimeoutError:
            raise TransientModelError(
                "timeout", f"{self.model}: no whole answer within {request.timeout_s:g} s"
            ) from None
        except ModelError:
            raise
        except Exception as error:
            raise self._meaning(error, sent) from error
        if finish == "content_filter":
            raise PermanentModelError("content_filter", f"{self.model}: the provider's filter withheld the reply")
        usage = read_usage(raw, self._price)
        latency = round((time.perf_counter() - began) * 1000)
        return ModelReply(
            text=well_formed(text),
            usage=usage,
            latency_ms=latency,
            finish_reason=well_formed(finish, chars_max=_LABEL_CHARS),
            model=well_formed(name or self.model, chars_max=_LABEL_CHARS),
        )

    def _arguments(self, request: ModelRequest, dialect: Dialect) -> dict[str, Any]:
        messages = [{"role": "system", "content": request.system}] if request.system else []
        arguments: dict[str, Any] = {
            "model": self.model,
            "messages": [*messages, {"role": "user", "content": request.prompt}],
            dialect.limit: request.max_output_tokens,
            "timeout": request.timeout_s,
            "max_retries": 0,
            "num_retries": 0,
            "drop_params": True,
        }
        if self._api_base is not None:
            arguments["api_base"] = self._api_base
        if self._api_key is not None:
            arguments["api_key"] = self._api_key
        if request.temperature is not None and dialect.takes("temperature"):
            arguments["temperature"] = request.temperature
        if request.seed is not None and dialect.takes("seed"):
            arguments["seed"] = request.seed
        if request.schema is not None and dialect.schema != "none":
            arguments["response_format"] = response_format(request.schema, dialect.schema)
        if request.on_first_token is not None:
            arguments |= {"stream": True}
            if dialect.takes("stream_options"):
                arguments["stream_options"] = {"include_usage": True}
        return arguments

    def _meaning(self, error: Exception, sent: Dialect) -> ModelError:
        """What a failure of litellm's stands for, learning from it first."""
        message = " ".join(str(error).split())[:400]
        if self._api_key:
            message = message.replace(self._api_key, "***")
        status = _status(error)
        parameter = rejected_parameter(status, "", "", message)
        if word := sent.word(parameter):
            self._dialect = self._dialect.without({word})
            code = "schema_rejected" if parameter == "response_format" else "parameter_rejected"
            text = f"{self.model}: the provider does not take {parameter}; later attempts go without"
            return ParameterRefused(code, text, word=word, unbilled=not tells_of_work(str(error)), status=status)
        known, kind = _final_cause(error), _passing_cause(error)
        if known:
            return PermanentModelError(known, f"{self.model}: {message}", status=status or None)
        if kind:
            return TransientModelError(kind, f"{self.model}: {message}", status=status or None)
        if status:
            return classify(status, "", message, _headers(error), model=self.model)
        return PermanentModelError("client", f"{self.model}: litellm raised {type(error).__name__}: {message}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _status(error: BaseException) -> int:
    for link in _chain(error):
        status = getattr(link, "status_code", None)
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return 0


def _final_cause(error: BaseException) -> str:
    for link in _chain(error):
        said = str(link).lower()
        if any(words in said for words in _NO_KEY):
            return "bad_key"
        if "llm provider not provided" in said:
            return "unknown_model"
        code = _BY_CLASS.get(type(link).__name__)
        if code:
            return code
    return ""


def _passing_cause(error: BaseException) -> str:
    for link in _chain(error):
        names = {kind.__name__ for kind in type(link).__mro__}
        if names & _TIMEOUTS:
            return "timeout"
        if isinstance(link, OSError) or names & _CONNECTION:
            return "connection"
        if names & _BROKEN:
            return "bad_body"
    return ""


def _headers(error: BaseException) -> Mapping[str, str]:
    for link in _chain(error):
        for headers in (getattr(link, "litellm_response_headers", None), getattr(link, "headers", None)):
            if headers:
                return {str(name).lower(): str(value) for name, value in dict(headers).items()}
        found = getattr(getattr(link, "response", None), "headers", None)
        if found:
            return {str(name).lower(): str(value) for name, value in dict(found).items()}
    return {}


async def _whole(answer: Any, request: ModelRequest) -> tuple[str, str, Any, str]:
    """(text, finish reason, usage, model) of a reply, streamed or not."""
    if request.on_first_token is not None and isinstance(answer, AsyncIterator):
        return await _streamed(answer, request)
    choice = answer.choices[0]
    usage = getattr(answer, "usage", None)
    text = choice.message.content or ""
    return text, str(choice.finish_reason or "stop"), _plain(usage), str(answer.model or "")


async def _streamed(chunks: AsyncIterator[Any], request: ModelRequest) -> tuple[str, str, Any, str]:
    texts: list[str] = []
    size, finish, usage, name, first = 0, "stop", None, "", request.on_first_token
    async for chunk in chunks:
        name = name or str(chunk.model or "")
        usage = getattr(chunk, "usage", None) or usage
        for choice in chunk.choices[:1]:
            if first is not None:
                first()
                first = None
            texts.append(choice.delta.content or "")
            size += len(texts[-1])
            finish = str(choice.finish_reason or finish)
        if size > _TEXT_CHARS_MAX:
            raise PermanentModelError("too_long", f"{request.model}: more than {_TEXT_CHARS_MAX} characters of reply")
    return "".join(texts), finish, _plain(usage), name


def _plain(usage: Any) -> Any:
    return usage.model_dump() if hasattr(usage, "model_dump") else usage
