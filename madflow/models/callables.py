"""An app's own agent in a debate: any async callable that takes a `TurnView`."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel

from ..errors import ConfigError, ModelError, PermanentModelError
from ..ports import ModelReply, ModelRequest, Quote, TurnView, Usage
from .scripted import as_text

__all__ = ["AgentCallable", "CallableModel"]

AgentCallable: TypeAlias = Callable[[TurnView], Awaitable[str | Mapping[str, Any] | BaseModel | None]]
_NOTHING = Usage(prompt_tokens=0, output_tokens=0, usd_nanos=0)


@dataclass(frozen=True, slots=True)
class CallableModel:
    """A `ModelClient` around an async callable (a function, a bound method, or an object with an async `__call__`).

    What it returns becomes the reply: text as it is, a mapping or pydantic model as JSON, None as an empty text (which
    counts as an invalid ballot). It costs the debate nothing: what it spends on models is its own affair.

    Raises:
        ConfigError: the callable is not async; it would stop every other seat while it runs.
    """

    function: AgentCallable
    name: str = ""

    def __post_init__(self) -> None:
        target = self.function
        if not callable(target):
            raise ConfigError(f"an agent's model is a name, a ModelClient or an async callable, not {target!r}")
        call = getattr(target, "__call__", None)  # noqa: B004  an object whose __call__ is async is welcome
        if not (inspect.iscoroutinefunction(inspect.unwrap(target)) or inspect.iscoroutinefunction(call)):
            label = getattr(target, "__qualname__", repr(target))
            raise ConfigError(
                f"{label} is not async, so it would stop every other seat while it runs; "
                "write `async def`, and use `await asyncio.to_thread(...)` inside for blocking work"
            )
        if not self.name:
            object.__setattr__(self, "name", getattr(target, "__qualname__", type(target).__qualname__))

    def quote(self, request: ModelRequest) -> Quote:
        """Nothing."""
        return Quote(prompt_tokens=0, output_tokens=0, usd_nanos=0, exact=True)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """What the callable says.

        Raises PermanentModelError("callable") naming what it raised; a ModelError of its own passes as it is.
        """
        if request.view is None:
            raise PermanentModelError("callable", f"{self.name}: the request carries no view to answer from")
        began = time.perf_counter()
        saying = asyncio.ensure_future(self.function(request.view))
        try:
            await asyncio.wait((saying,))
        except asyncio.CancelledError:
            saying.cancel()  # and not waited for: an app's code that swallows it must not hold up the round
            raise
        try:
            text = as_text(saying.result())
        except ModelError:
            raise
        except Exception as error:
            raise PermanentModelError("callable", f"{self.name} raised {type(error).__name__}: {error}") from error
        latency = round((time.perf_counter() - began) * 1000)
        return ModelReply(text=text, usage=_NOTHING, latency_ms=latency, model=self.name)
