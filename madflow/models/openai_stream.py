"""A streamed chat completion put together again, chunk by chunk, without I/O.

The wire format is server-sent events: lines `data: {json}`, ended by `data: [DONE]`. Chunks split anywhere, also within
a character. The first event that carries any choice is the first token: from then on a provider's prompt cache holds
this prompt.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..errors import PermanentModelError, TransientModelError
from .openai_errors import error_in_body

__all__ = ["StreamedReply"]


class StreamedReply:
    """Feed it bytes, then `end()`.

    Args:
        on_first_token: called once, at the first event with a choice.
    """

    def __init__(self, model: str, on_first_token: Callable[[], None] | None, *, secret: str = "") -> None:
        self._model, self._first, self._secret = model, on_first_token, secret
        self._rest = b""
        self._texts: list[str] = []
        self._finish = ""
        self._usage: Any = None
        self._name = ""
        self._done = False

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes. Raises TransientModelError("bad_body") or an error the stream carries."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())

    def end(self) -> tuple[str, str, Any, str]:
        """(text, finish reason, usage as sent or None, model).

        Raises TransientModelError("connection") for a stream cut short, PermanentModelError("content_filter").
        """
        if self._rest.startswith(b"data:"):
            self._event(self._rest[5:].strip())
        if not self._done and not self._finish:
            raise TransientModelError("connection", f"{self._model}: the stream ended before the reply did", status=200)
        if self._finish == "content_filter":
            raise PermanentModelError("content_filter", f"{self._model}: the provider's filter withheld the reply")
        return "".join(self._texts), self._finish or "stop", self._usage, self._name

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._done = True
            return
        try:
            event = json.loads(data)
            hidden = error_in_body(event, model=self._model, secret=self._secret)
            choices = event.get("choices") or ()
            self._usage = event.get("usage") or self._usage
            self._name = self._name or str(event.get("model") or "")
            for choice in choices[:1]:
                delta = choice.get("delta") or {}
                text = delta.get("content") or delta.get("refusal") or ""
                self._texts.append(text if isinstance(text, str) else "")
                self._finish = str(choice.get("finish_reason") or self._finish)
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise TransientModelError(
                "bad_body", f"{self._model}: a stream event is not JSON of the expected shape ({error})", status=200
            ) from None
        if hidden is not None:
            raise hidden
        if choices and self._first is not None:
            first, self._first = self._first, None
            first()
