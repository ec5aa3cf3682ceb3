"""What a client hands back, held to its contract before anything is recorded or counted.

A client may be the app's own code. Whatever it raises or returns becomes a `ModelReply` that a record can hold, or one
`ModelError`; only a cancellation that somebody asked for passes as such.
"""

from __future__ import annotations

import asyncio

from ..core.ballots import OUTSTANDING
from ..core.canonical import INTEGER_MAX
from ..errors import ModelError, ParameterRefused, PermanentModelError
from ..models.dialect import REFUSABLE
from ..models.wellformed import well_formed
from ..ports import ModelClient, ModelReply, ModelRequest, Usage

__all__ = ["DETAIL_CHARS_MAX", "LABEL_CHARS_MAX", "checked_usage", "complete"]

LABEL_CHARS_MAX = 100
DETAIL_CHARS_MAX = 500
_SECONDS_MAX = 10**9


async def complete(client: ModelClient, request: ModelRequest) -> ModelReply:
    """One attempt at one request.

    Raises:
        ModelError: as the client raised it, its code fit for a record; PermanentModelError("client") for anything else
            it raised, a cancellation of its own making among it, for the refusal of a parameter that is none of
            `models.dialect.REFUSABLE`, and for a result that is no reply.
        TimeoutError: as the client raised it.
    """
    try:
        reply = await client.complete(request)
    except ModelError as error:
        error.code, error.retry_after_s = _label(error.code), _seconds(error.retry_after_s)
        if isinstance(error, ParameterRefused) and not (isinstance(error.word, str) and error.word in REFUSABLE):
            word, known = well_formed(str(error.word), chars_max=LABEL_CHARS_MAX), ", ".join(sorted(REFUSABLE))
            raise PermanentModelError("client", f"nothing goes without {word!r}; there are {known}") from error
        raise
    except TimeoutError:
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise PermanentModelError("client", "it cancelled itself") from error
    except Exception as error:
        detail = well_formed(f"{type(error).__name__}: {error}", chars_max=DETAIL_CHARS_MAX)
        raise PermanentModelError("client", detail) from error
    if not isinstance(reply, ModelReply) or not isinstance(reply.text, str):
        what = type(reply.text if isinstance(reply, ModelReply) else reply).__name__
        raise PermanentModelError("client", f"it returned {what}, not a ModelReply with text")
    return reply


def checked_usage(usage: object) -> Usage | None:
    """The usage, or None where it is absent or cannot be one: not whole, below 0, or beyond what JSON holds exactly."""
    if not isinstance(usage, Usage):
        return None
    counts = [usage.prompt_tokens, usage.output_tokens, usage.cached_tokens]
    if usage.usd_nanos is not None:
        counts.append(usage.usd_nanos)
    return usage if all(type(count) is int and 0 <= count <= INTEGER_MAX for count in counts) else None


def _label(code: object) -> str:
    text = well_formed(str(code), chars_max=LABEL_CHARS_MAX).strip()
    return text if text and text != OUTSTANDING else "unnamed"


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= _SECONDS_MAX else None
