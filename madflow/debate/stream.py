"""One debate's stream in the ledger: record first, then fold.

The stream is the only source of a debate's state. Events become part of `state` after they are durable, in the order
of their places, so that a process that dies between the two rebuilds exactly what this one would have had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..core.budget import Account, Amount, Reservation, Settlement
from ..core.config import Config
from ..core.debate import apply
from ..core.state import State
from ..errors import LedgerCorrupt, LedgerError
from ..models.wellformed import from_record
from ..ports import Clock, Event, Ledger, Record

__all__ = ["DebateStream", "elapsed_of", "stream_name"]

_DEBATE_EVENTS = frozenset({"opened", "answered", "cut", "human", "landed", "late", "resumed"})
_CALL_EVENTS = frozenset({"reserved", "settled", "note"})


def stream_name(debate_id: str) -> str:
    """The ledger stream of a debate."""
    return f"debate/{debate_id}"


LINGER_S = 0.002


@dataclass(slots=True)
class _Batch:
    """Events that share one write. `waiters` are woken once it is `over`: folded, or failed with `failure`."""

    events: list[Event] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    over: bool = False
    failure: BaseException | None = None


class DebateStream:
    """State, budget and place of one debate, kept in step with the ledger.

    Attributes:
        state: the debate's state; account: its budget; place: the last place taken in the stream.
        attempts: reservations so far by call id, so that a resumed call never reuses a key.
        replies: text by call id of what a dead process was answered and had not used: paid, and not asked again.
        refused: by agent, the words for what its server has refused of it in this debate (`ParameterRefused`).
    """

    def __init__(self, ledger: Ledger, config: Config, clock: Clock) -> None:
        self.ledger, self.clock = ledger, clock
        self.name = stream_name(config.debate_id)
        self.state = State(config)
        self.account = Account(config.limits)
        self.attempts: dict[str, int] = {}
        self.replies: dict[str, str] = {}
        self.refused: dict[str, frozenset[str]] = {}
        self.landed: Mapping[str, Any] | None = None
        self.before_landing: State | None = None
        self.prompt_chars = self.prefix_chars = self.cached_tokens = 0
        self.place = self.before_ms = 0
        self.observers: list[Callable[[Record, State], None]] = []
        self._asked: dict[str, str] = {}  # agent by key of the attempts in flight
        self._folded = 0
        self._broken: BaseException | None = None
        self._batch: _Batch | None = None
        self._started = clock.monotonic()

    @classmethod
    def load(cls, ledger: Ledger, debate_id: str, clock: Clock) -> DebateStream:
        """Rebuild from the ledger alone. Raises LedgerError where it holds no such debate."""
        records = ledger.read(stream_name(debate_id))
        if not records:
            known = [name.removeprefix("debate/") for name in ledger.streams() if name.startswith("debate/")]
            shown = ", ".join(known[-5:]) or "none"
            raise LedgerError(f"this ledger has no debate {debate_id!r}; the latest it has: {shown}")
        if records[0].kind != "opened":
            raise LedgerCorrupt(f"debate {debate_id!r} does not begin with its opening (found {records[0].kind!r})")
        stream = cls(ledger, Config.model_validate(records[0].payload["config"]), clock)
        for record in records:
            stream._fold(record, live=False)
        stream.place = records[-1].place
        stream.before_ms = elapsed_of(records)
        return stream

    def elapsed_ms(self) -> int:
        """Running time of the debate over all its processes, in milliseconds."""
        return self.before_ms + int((self.clock.monotonic() - self._started) * 1000)

    async def record(self, *events: Event, linger: bool = False) -> None:
        """Make `events` durable, all or none, then fold them.

        With `linger` they wait at most 2 ms for what others record, and share its write: an answer that others will
        follow loses no time by that, and a write costs more than a call. Without it they are written at once, together
        with what waits.

        A caller that is cancelled meanwhile still waits for the write and its fold, then raises CancelledError: the
        place is taken, and a state that lacked what the ledger has could not be continued.
        """
        batch = self._batch
        if batch is None:
            batch = self._batch = _Batch()
        batch.events.extend(events)
        loop = asyncio.get_running_loop()
        if not linger:
            self._flush(batch)
        elif batch.timer is None:
            batch.timer = loop.call_later(LINGER_S, self._flush, batch)
        cancelled: asyncio.CancelledError | None = None
        while not batch.over:
            waiter = loop.create_future()
            batch.waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError as error:
                cancelled = error
        if batch.failure is not None:
            raise batch.failure
        if cancelled is not None:
            raise cancelled

    def _flush(self, batch: _Batch) -> None:
        if batch is not self._batch:
            return
        self._batch = None
        if batch.timer is not None:
            batch.timer.cancel()
        after, self.place = self.place, self.place + len(batch.events)
        write = asyncio.ensure_future(self.ledger.record(self.name, batch.events, after=after))
        write.add_done_callback(partial(self._written, batch))

    def _written(self, batch: _Batch, write: asyncio.Future[list[Record]]) -> None:
        """Fold what a write made durable. A callback, not a task: writes end in the order of their places."""
        failure = self._broken
        if failure is None:
            try:
                for record in write.result():
                    self._fold(record, live=True)
            except BaseException as error:  # raised by every caller of `record` from here on; nobody may wait for ever
                failure = self._broken = error
        elif not write.cancelled():
            write.exception()  # the first failure stands; asyncio wants to see that this one was noticed
        batch.over, batch.failure = True, failure
        for waiter in batch.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def reserve(
        self, call_id: str, amount: Amount, hold: Amount, *, utf8_bytes: int, about: Mapping[str, Any]
    ) -> tuple[str, Event]:
        """Take the worst case of one attempt out of the budget; the event must be durable before the call is made.

        Raises BudgetExceeded; the account is then as before.
        """
        number = self.attempts.get(call_id, 0) + 1
        key = f"{call_id}#{number}"
        entry = self.account.reserve(
            key,
            amount,
            hold=hold,
            landing=self.state.cut is not None,
            agent=about["agent"],
            purpose=about["purpose"],
            model=about["model"],
            utf8_bytes=utf8_bytes,
        )
        self.attempts[call_id] = number
        return key, Event("reserved", {"entry": entry.to_json(), "call_id": call_id, "attempt": number, **about})

    def settle(self, key: str, usage: Amount | None, about: Mapping[str, Any], *, refused: bool = False) -> Event:
        """Settle one attempt from its reported usage; None keeps the reservation charged, but for one `refused`."""
        return Event("settled", {"entry": self.account.settle(key, usage, refused=refused).to_json(), **about})

    def abandon_open(self) -> list[Event]:
        """Settle what a dead process left open, each at its worst case: nobody will ever report it."""
        return [
            Event("settled", {"entry": entry.to_json(), "status": "abandoned"}) for entry in self.account.abandon_open()
        ]

    def _fold(self, record: Record, *, live: bool) -> None:
        if record.place != self._folded + 1:
            raise LedgerCorrupt(f"{self.name}: place {record.place} arrived after {self._folded}")
        self._folded = record.place
        payload = record.payload
        if record.kind == "landed":
            self.landed, self.before_landing = payload["proposal"], self.state
        if record.kind == "reserved":
            self.prompt_chars += payload["prompt_chars"]
            self.prefix_chars += payload["prefix_chars"]
            self._asked[payload["entry"]["key"]] = payload["agent"]
        elif record.kind == "settled":
            self.cached_tokens += payload.get("cached_tokens", 0)
            agent = self._asked.pop(payload["entry"]["key"], "")
            if "refused" in payload:
                self.refused[agent] = self.refused.get(agent, frozenset()) | {payload["refused"]}
        if record.kind in _DEBATE_EVENTS:
            self.state = apply(self.state, record.kind, payload, record.at_ms)
            if record.kind == "resumed":
                self.account.raise_limits(self.state.config.limits)
        elif record.kind not in _CALL_EVENTS:
            raise LedgerCorrupt(f"{self.name}: unknown record kind {record.kind!r} at seq {record.seq}")
        elif not live:
            self._refold(record.kind, payload)
        for observer in self.observers:
            observer(record, self.state)

    def _refold(self, kind: str, payload: Mapping[str, Any]) -> None:
        if kind == "reserved":
            self.account.apply(Reservation.from_json(payload["entry"]))
            self.attempts[payload["call_id"]] = payload["attempt"]
        elif kind == "settled":
            self.account.apply(Settlement.from_json(payload["entry"]))
            if payload.get("status") == "ok" and "text" in payload:
                self.replies[payload["entry"]["key"].rpartition("#")[0]] = from_record(payload)


def elapsed_of(records: Sequence[Record]) -> int:
    """Running time seen in a stream: each process's first to last record, in milliseconds."""
    total, start, last = 0, records[0].at_ms, records[0].at_ms
    for record in records[1:]:
        if record.kind == "resumed":
            total, start = total + max(0, last - start), record.at_ms
        last = record.at_ms
    return total + max(0, last - start)
