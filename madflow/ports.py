"""The seams: what the debate needs from the world, as Protocols and the plain values that cross them.

Core never imports this module's implementations; implementations never import each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from .core.messages import Seat, Task

__all__ = [
    "Clock",
    "Event",
    "Ledger",
    "ModelClient",
    "ModelReply",
    "ModelRequest",
    "Quote",
    "Record",
    "ReplySchema",
    "TurnView",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class ReplySchema:
    """The JSON schema a reply must meet, by a name that providers accept (`[a-z_]+`)."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TurnView:
    """What one seat is asked, as data: for clients that are code rather than language models.

    Attributes:
        stage: the stage's kind, e.g. "position", "discuss", "draft", "select", "ballot", "revise", "find", "judge",
            "mediate".
        round: 1-based round.
        seat: the seat that is asked; task: what is debated.
        part: which part of the task (files of a large review), 0-based, of `parts`.
        options: what may be chosen, as (id, text); empty where nothing may.
        transcript: turns of earlier rounds that this seat sees, oldest first: (round, label, rendered text).
        subject: the frozen thing that is voted on (a plan, findings), as JSON data; empty where there is none.
        schema: the reply's JSON schema name.
    """

    debate_id: str
    stage: str
    round: int
    seat: Seat
    task: Task
    part: int = 0
    parts: int = 1
    options: tuple[tuple[str, str], ...] = ()
    transcript: tuple[tuple[int, str, str], ...] = ()
    subject: Mapping[str, Any] = field(default_factory=dict)
    schema: str = ""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request to one model.

    Attributes:
        call_id: unique in the debate; the same for every attempt of one call.
        system, prompt: the two messages. `prompt` grows only at its end from round to round.
        prefix_ends: character offsets in `prompt` where a block ends; blocks are the unit of prefix accounting.
        timeout_s: deadline of this attempt.
        on_first_token: called once when the provider starts to answer (only then is its cache warm), where supported.
    """

    call_id: str
    model: str
    system: str
    prompt: str
    max_output_tokens: int
    timeout_s: float
    schema: ReplySchema | None = None
    prefix_ends: tuple[int, ...] = ()
    temperature: float | None = None
    seed: int | None = None
    view: TurnView | None = None
    on_first_token: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used, as the provider reports it. `usd_nanos`: 10⁻⁹ US dollars, None where the price is unknown."""

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    usd_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class ModelReply:
    """One reply. `usage` is None where the provider reported none: the reservation then stays."""

    text: str
    usage: Usage | None = None
    latency_ms: int = 0
    finish_reason: str = "stop"
    model: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """The worst case of a request. `exact`: counted with the model's own tokenizer rather than by UTF-8 bytes."""

    prompt_tokens: int
    output_tokens: int
    usd_nanos: int | None
    exact: bool


@runtime_checkable
class ModelClient(Protocol):
    """Answers requests. One call is one attempt: retries and budget are the caller's.

    `quote` is pure and does no I/O beyond loading a tokenizer. `complete` raises TransientModelError or
    PermanentModelError, never anything else but cancellation, which it must let through: its round waits for it. A
    client that is code, not a model, quotes zero tokens.
    """

    def quote(self, request: ModelRequest) -> Quote: ...

    async def complete(self, request: ModelRequest) -> ModelReply: ...


class Clock(Protocol):
    """Time, injected."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        ...

    def sleep(self, seconds: float) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class Event:
    """Something to record: `payload` is plain JSON data."""

    kind: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """An event as recorded. `at_ms`: wall clock when it was written; `place`: its 1-based place in its stream."""

    seq: int
    stream: str
    place: int
    kind: str
    payload: Mapping[str, Any]
    at_ms: int
    prev_hash: str
    hash: str


class Ledger(Protocol):
    """An append-only, hash-chained log of streams. `record` is durable when it returns."""

    def record(self, stream: str, events: Sequence[Event], *, after: int) -> Awaitable[list[Record]]:
        """Append `events` to `stream`, whose last place must be `after` (else LedgerConflict). All or nothing."""
        ...

    def read(self, stream: str) -> list[Record]: ...

    def scan(self, from_seq: int = 1) -> Iterator[Record]: ...

    def streams(self) -> list[str]: ...

    def verify(self) -> int:
        """Check the whole chain; the number of records, or LedgerCorrupt naming the first that fails."""
        ...

    def close(self) -> None: ...
