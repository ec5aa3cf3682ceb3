"""The seams: what debate and commit need from the world, as Protocols and the plain values that cross them.

Core never imports this module's implementations; implementations never import each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from .core.messages import Seat, Task
from .core.policy import Policy
from .core.saga import Absent, Done, Failed, Uncertain

__all__ = [
    "AppendResult",
    "Appended",
    "Clock",
    "Duplicate",
    "Effect",
    "EffectContext",
    "Elector",
    "Entry",
    "Event",
    "Execute",
    "Fenced",
    "FencedLedger",
    "Held",
    "Leader",
    "Ledger",
    "Lost",
    "ModelClient",
    "ModelReply",
    "ModelRequest",
    "Quote",
    "Record",
    "Renewed",
    "ReplySchema",
    "Sealed",
    "Stale",
    "Term",
    "TransactionalEffect",
    "TurnView",
    "Unknown",
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
        stage: the stage's kind, e.g. "position", "discuss", "draft", "select", "ballot", "revise", "find", "same",
            "assess", "judge", "mediate".
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
        refused: what the server behind this client has refused in this debate, as words of `ParameterRefused`: go
            without.
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
    refused: frozenset[str] = frozenset()


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

    def read(self, stream: str, *, after: int = 0, pruned: Literal["raise", "skip"] = "raise") -> list[Record]:
        """The stream's records behind place `after`, by place. At a pruned one: LedgerError, or go on without it."""
        ...

    def scan(self, from_seq: int = 1, *, pruned: Literal["raise", "skip"] = "raise") -> Iterator[Record]: ...

    def streams(self) -> list[str]: ...

    def verify(self) -> int:
        """Check the whole chain; the number of records, or LedgerCorrupt naming the first that fails."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A record to append under a term.

    Attributes:
        slot: a name that at most one record of the scope may ever take, e.g. "KEY/terminal"; empty for none.
    """

    event: Event
    slot: str = ""


@dataclass(frozen=True, slots=True)
class Sealed:
    """The scope belongs to the term from this record on: no smaller term appends to it any more."""

    record: Record


@dataclass(frozen=True, slots=True)
class Stale:
    """The scope is sealed by this term already, which is not smaller."""

    term: int


@dataclass(frozen=True, slots=True)
class Appended:
    """All entries are durable."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Fenced:
    """Nothing was appended: the scope is sealed by another term (0: by none)."""

    term: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Nothing was appended: a slot is taken, by this record."""

    slot: str
    existing: Record


@dataclass(frozen=True, slots=True)
class Unknown:
    """The connection was lost while the commit was under way: read the slot to learn what became of it. A ledger in a
    local file never returns this."""

    reason: str


AppendResult: TypeAlias = Appended | Fenced | Duplicate | Unknown
Execute: TypeAlias = Callable[[str, Sequence[Any] | Mapping[str, Any]], list[tuple[Any, ...]]]
"""Runs one SQL statement inside the ledger's transaction; the ledger's own tables are denied."""


class FencedLedger(Ledger, Protocol):
    """A ledger that submitters write to. A scope's records are the stream `commit/<scope>`; `record` refuses it.

    The term is checked inside the write transaction: this check, and nothing else, is authority.
    """

    def seal(self, scope: str, term: int, event: Event) -> Awaitable[Sealed | Stale]:
        """Record `event` and take the scope for `term`, if it is greater than every term that sealed it before."""
        ...

    def append(self, scope: str, term: int, entries: Sequence[Entry]) -> Awaitable[AppendResult]:
        """Append all entries or none: only if `term` is the one that sealed the scope last, and every slot is free."""
        ...

    def transact(
        self, scope: str, term: int, slot: str, work: Callable[[Execute], Event], *, timeout_s: float
    ) -> Awaitable[AppendResult]:
        """`append` of what `work` returns; what it executes is committed with it, or not at all.

        Term and slot are checked first, so `work` never runs for a fenced or a duplicate append. Whatever `work`
        raises is raised here, and nothing was written. Statements that run longer than `timeout_s` are interrupted.
        """
        ...

    def find(self, scope: str, slot: str) -> Record | None:
        """The record that took the slot."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """A node's right to try: the fencing token. Authority is the ledger's `seal` and `append`, never this value."""

    scope: str
    number: int
    node: str


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads a scope, as observed. `alive`: its heartbeat moved within its lease of the observer's running time."""

    scope: str
    node: str
    term: int
    alive: bool


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else leads, and the time to wait for it is over. `why`: what was waited for, for people."""

    leader: Leader | None
    why: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """The lease goes on until `deadline_s` of this process's monotonic clock."""

    deadline_s: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The node no longer leads; it must append nothing more, and could not."""

    why: str


class Elector(Protocol):
    """Chooses one submitter a scope. What it grants is a chance to seal, not authority."""

    def campaign(self, scope: str, node: str, *, ttl_s: float, timeout_s: float) -> Awaitable[Term | Held]:
        """Try for at most `timeout_s` (0: once) to be elected. Terms of a scope only grow, whoever gets them."""
        ...

    def renew(self, term: Term) -> Awaitable[Renewed | Lost]:
        """Prove to be alive for another `ttl_s`."""
        ...

    def resign(self, term: Term) -> Awaitable[None]:
        """Give the scope back; a term that is lost already is no error."""
        ...

    def transfer(self, term: Term, to: str) -> Awaitable[None]:
        """Resign in favour of node `to`: for one lease nobody else is elected."""
        ...

    def observe(self, scope: str) -> Awaitable[Leader | None]:
        """Who leads now, or led last and is not known to have resigned."""
        ...


@dataclass(frozen=True, slots=True)
class EffectContext:
    """What an effect may know and must respect.

    Attributes:
        key: the idempotency key: the same for every attempt of one step and direction.
        direction: "do", or "undo" to compensate.
        timeout_s: the effect must have ended by then, its processes killed.
        run_dir: folder beside the ledger for run locks (`<key>.lock`) and kept content; never beneath a step's reach.
        args: arguments given to a registered step live in the step itself.
    """

    key: str
    term: int
    attempt: int
    commit_id: str
    direction: Literal["do", "undo"]
    timeout_s: float
    root: Path
    run_dir: Path
    policy: Policy


class Effect(Protocol):
    """Performs the steps of one kind. Every method bounds its time, output and size, and none raises for what the world
    does: that comes back as a value. `step` is plain JSON data, validated by `core.plan`."""

    def prepare(self, step: Mapping[str, Any], ctx: EffectContext) -> Awaitable[Mapping[str, Any] | Failed]:
        """What the intent stores before anything happens, as plain JSON: enough to probe and to undo after a crash.
        Checks the preconditions again, beneath the root's directory descriptor."""
        ...

    def do(self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext) -> Awaitable[Done | Failed]:
        """Perform the step, or with `ctx.direction` "undo" compensate it. `facts` is what `prepare` gave for "do"."""
        ...

    def probe(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Awaitable[Done | Absent | Uncertain]:
        """Look whether the effect of this key (in this direction) has happened. Changes nothing."""
        ...

    def settled(self, step: Mapping[str, Any], ctx: EffectContext) -> Awaitable[bool]:
        """Whether nothing that an earlier submitter started for this key is running any more. Waits a bounded time,
        `ctx.timeout_s` at most; False where that cannot be verified."""
        ...


@runtime_checkable
class TransactionalEffect(Protocol):
    """An effect whose steps may run in the ledger's own transaction."""

    def work(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Callable[[Execute], Mapping[str, Any]]:
        """What to run inside the transaction; returns the step's result. Raises EffectError to fail the step."""
        ...
