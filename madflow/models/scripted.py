"""A model that says what it is told to say: for tests and examples, and open to both.

Everything a provider can do to a debate it can do on purpose and repeatably: answer, answer badly, refuse, hang until
the deadline, drop the connection, cut a reply at its token limit, report no usage. Tokens are characters / 4, rounded
up, so that a quote is exact and a bill never exceeds it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from ..errors import ConfigError, ModelError, PermanentModelError, TransientModelError
from ..ports import ModelReply, ModelRequest, Quote, TurnView, Usage
from .wellformed import well_formed

__all__ = ["DROP", "HANG", "Mishap", "ReplyScript", "ScriptedModel", "as_text", "chars_as_tokens"]


class Mishap(Enum):
    """What a script can have happen instead of a reply."""

    HANG = "hang"
    DROP = "drop"


HANG = Mishap.HANG
"""No answer until the request's own timeout: a TransientModelError("timeout") then."""
DROP = Mishap.DROP
"""A lost connection: TransientModelError("connection") at once."""

Reply: TypeAlias = str | Mapping[str, Any] | BaseModel | ModelError | Mishap | None
ReplyScript: TypeAlias = Mapping[Any, Any] | Sequence[Any] | Callable[[TurnView], Any]


def chars_as_tokens(text: str) -> int:
    """Characters / 4, rounded up."""
    return -(-len(text) // 4)


class ScriptedModel:
    """A `ModelClient` that answers from a script.

    Args:
        replies: where the next reply comes from.
            A mapping: looked up by (stage, round, agent), then (stage, round), then stage, then `"*"`.
            A sequence: one entry a call, in the order of calls; a call too many is an error.
            A callable: gets the `TurnView`, returns the reply.
            A reply is text, a mapping or pydantic model (sent as JSON), None (empty text), a `ModelError` (raised),
            `HANG` or `DROP`.
        latency_s: seconds until the whole reply; the first token comes at `first_token_s` (default: the same time).
        usage: "chars" reports characters / 4; "full" reports every call as if it filled max_output_tokens; None
            reports nothing; a `Usage` is reported as it is.
        sleep: how to wait, `asyncio.sleep` by default; give a manual clock's to make time a value.

    Attributes:
        calls: requests begun. asked: (stage, round, agent) of each, in order.
    """

    def __init__(
        self,
        replies: ReplyScript,
        *,
        latency_s: float = 0.0,
        first_token_s: float | None = None,
        usage: Usage | Literal["chars", "full"] | None = "chars",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        name: str = "scripted",
    ) -> None:
        if isinstance(replies, str):
            raise ConfigError('replies is a string; give a list of replies, or {"*": text} for the same one always')
        self._replies, self._usage, self._sleep, self.name = replies, usage, sleep, name
        self._latency_s = latency_s
        self._first_token_s = latency_s if first_token_s is None else min(first_token_s, latency_s)
        self.asked: list[tuple[str, int, str]] = []

    @property
    def calls(self) -> int:
        """How many requests were begun, mishaps included."""
        return len(self.asked)

    def quote(self, request: ModelRequest) -> Quote:
        """Exact: tokens are characters / 4 here."""
        prompt = chars_as_tokens(request.system + request.prompt)
        return Quote(prompt_tokens=prompt, output_tokens=request.max_output_tokens, usd_nanos=0, exact=True)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The next scripted reply. Raises the scripted ModelError, or PermanentModelError("not_scripted")."""
        place = len(self.asked)
        view = request.view
        self.asked.append((view.stage, view.round, view.seat.agent) if view else ("", 0, ""))
        reply = self._next(place, view)
        if reply is HANG:
            await self._sleep(request.timeout_s)
            raise TransientModelError("timeout", f"no answer within {request.timeout_s} s (scripted)")
        await self._wait(request)
        if reply is DROP:
            raise TransientModelError("connection", "the connection was dropped (scripted)")
        if isinstance(reply, ModelError):
            raise reply
        return self._reply(request, as_text(reply))

    async def _wait(self, request: ModelRequest) -> None:
        if self._first_token_s > 0:
            await self._sleep(self._first_token_s)
        if request.on_first_token is not None:
            request.on_first_token()
        if self._latency_s > self._first_token_s:
            await self._sleep(self._latency_s - self._first_token_s)

    def _next(self, place: int, view: TurnView | None) -> Any:
        script = self._replies
        if isinstance(script, Sequence):
            if place < len(script):
                return script[place]
            raise PermanentModelError("not_scripted", f"call {place + 1} of a script of {len(script)} replies")
        if view is None:
            raise PermanentModelError("not_scripted", "the request carries no view, which this script chooses by")
        if callable(script):
            return script(view)
        keys = ((view.stage, view.round, view.seat.agent), (view.stage, view.round), view.stage, "*")
        for key in keys:
            if key in script:
                return script[key]
        raise PermanentModelError(
            "not_scripted", f"no reply for stage {view.stage!r}, round {view.round}, agent {view.seat.agent!r}"
        )

    def _reply(self, request: ModelRequest, text: str) -> ModelReply:
        limit = request.max_output_tokens * 4
        cut = len(text) > limit
        text = text[:limit]
        usage = self._usage
        if isinstance(usage, str):
            output = request.max_output_tokens if usage == "full" else chars_as_tokens(text)
            usage = Usage(chars_as_tokens(request.system + request.prompt), output, usd_nanos=0)
        return ModelReply(
            text=text,
            usage=usage,
            latency_ms=round(self._latency_s * 1000),
            finish_reason="length" if cut else "stop",
            model=self.name,
        )


def as_text(reply: Any) -> str:
    """What an app or a script answered, as the text a model would have sent.

    Text stays text, None becomes the empty text, a mapping or a pydantic model becomes JSON.
    Raises TypeError naming the type of anything else, and ValueError for data that is not JSON.
    """
    if reply is None:
        return ""
    if isinstance(reply, str):
        return well_formed(reply)
    if isinstance(reply, BaseModel):
        return reply.model_dump_json()
    if isinstance(reply, Mapping):
        return well_formed(json.dumps(dict(reply), ensure_ascii=False, allow_nan=False))
    raise TypeError(f"a reply is text, a mapping, a pydantic model or None, not {type(reply).__name__}")
