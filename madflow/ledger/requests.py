"""What is asked of the writer, one class a method of the ledger, and who waits for the answer.

A request is checked and encoded by its caller's thread, so that the writer's only stages and writes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..core.plan import TRANSACTION_MS_MAX
from ..errors import LedgerError
from ..ports import Entry, Event, Execute
from .chain import COMMIT, PRUNED, check_name, encode_payload

__all__ = [
    "TRANSACTION_S_MAX",
    "AppendRequest",
    "Item",
    "PruneRequest",
    "RecordRequest",
    "Request",
    "SealRequest",
    "TransactRequest",
    "check_term",
    "encode_event",
    "stream_of",
]

TERM_MAX = 2**63 - 1
TRANSACTION_S_MAX = TRANSACTION_MS_MAX / 1000
"""Seconds that the statements of one `transact` may take at most: meanwhile no process writes to the ledger."""

Item: TypeAlias = tuple[str, bytes, dict[str, Any]]
"""An event: kind, stored bytes, payload as it will be read back."""


def stream_of(scope: str) -> str:
    """The stream of a scope's records. Raises LedgerError for a scope that is no name."""
    if not scope:
        raise LedgerError("the scope is empty: 1 character at least")
    stream = COMMIT + scope
    check_name("scope", stream)
    return stream


def check_term(term: int) -> None:
    """Refuse what is not an integer of 1 to 2⁶³ - 1 (LedgerError)."""
    if isinstance(term, bool) or not isinstance(term, int) or not 1 <= term <= TERM_MAX:
        raise LedgerError(f"the term {term!r} is not usable: an integer of 1 to {TERM_MAX}")


def encode_event(event: Event) -> Item:
    """Check and encode. Raises LedgerError."""
    check_name("kind", event.kind)
    return (event.kind, *encode_payload(event.kind, event.payload))


class Request:
    """Who waits: a future of an event loop, or a thread; and what it gets: `answer` or `failure`.

    Attributes:
        alone: it takes a transaction of its own; else it shares one with what is queued beside it.
        items: what it records, as far as that is known before it is its turn.
    """

    __slots__ = ("answer", "done", "failure", "future", "items", "loop")
    alone = False

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.loop: asyncio.AbstractEventLoop | None = None
        self.future: asyncio.Future[Any] | None = None
        self.done: threading.Event | None = None
        self.answer: Any = None
        self.failure: BaseException | None = None


class RecordRequest(Request):
    """Events for one stream, whose last place must be `after`."""

    __slots__ = ("after", "stream")

    def __init__(self, stream: str, events: Sequence[Event], after: int) -> None:
        check_name("stream", stream)
        if stream.startswith(COMMIT):
            raise LedgerError(
                f"stream {stream!r} is a scope's: only the term that sealed it appends there, by append(); "
                "requests to a submitter go to a stream of their own"
            )
        if stream == PRUNED:
            raise LedgerError(f"stream {PRUNED!r} is written by prune() alone; name another stream")
        if not events:
            raise LedgerError(f"nothing to record in stream {stream!r}: give at least one event")
        super().__init__([encode_event(event) for event in events])
        self.stream, self.after = stream, after


class SealRequest(Request):
    """Take a scope for a term."""

    __slots__ = ("scope", "stream", "term")

    def __init__(self, scope: str, term: int, event: Event) -> None:
        self.scope, self.stream, self.term = scope, stream_of(scope), term
        check_term(term)
        super().__init__([encode_event(event)])


class AppendRequest(Request):
    """Entries under a term. `slots`: one for each item, empty for none."""

    __slots__ = ("scope", "slots", "stream", "term")

    def __init__(self, scope: str, term: int, entries: Sequence[Entry]) -> None:
        self.scope, self.stream, self.term = scope, stream_of(scope), term
        check_term(term)
        if not entries:
            raise LedgerError(f"nothing to append to scope {scope!r}: give at least one entry")
        self.slots = [entry.slot for entry in entries]
        named = [slot for slot in self.slots if slot]
        for slot in named:
            check_name("slot", slot)
        if len(set(named)) != len(named):
            twice = next(slot for slot in named if named.count(slot) > 1)
            raise LedgerError(f"two entries of one append take the slot {twice!r}: one record may")
        super().__init__([encode_event(entry.event) for entry in entries])


class TransactRequest(Request):
    """An append of what `work` returns, in one transaction with what it executes."""

    __slots__ = ("scope", "slot", "stream", "term", "timeout_s", "work")
    alone = True

    def __init__(self, scope: str, term: int, slot: str, work: Callable[[Execute], Event], timeout_s: float) -> None:
        self.scope, self.stream, self.term = scope, stream_of(scope), term
        check_term(term)
        check_name("slot", slot)
        if not 0 < timeout_s < float("inf"):
            raise LedgerError(f"the timeout of a transaction is {timeout_s!r} s: it must be above 0, and bounded")
        self.slot, self.work, self.timeout_s = slot, work, min(timeout_s, TRANSACTION_S_MAX)
        super().__init__(())


class PruneRequest(Request):
    """Remove the payloads of `ranges` of seqs (first and last, both included), which `event` announces.

    Its answer is whether the removed bytes are gone from the file and its -wal too; tried for the `last` request only.
    """

    __slots__ = ("last", "ranges")
    alone = True

    def __init__(self, event: Event, ranges: Sequence[tuple[int, int]], *, last: bool) -> None:
        self.ranges, self.last = ranges, last
        super().__init__([encode_event(event)])
