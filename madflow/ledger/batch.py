"""One write transaction being put together: what is read in it, what it will insert.

It is made after BEGIN IMMEDIATE, so that nobody else can change what it reads: the head of the chain, the tips of
streams, the terms that sealed scopes, the slots that are taken. Fences and slots are always read here. Tips may be
remembered from the transaction before, but only if the head is still the one that it left: every change of the ledger
moves the head.

    seal      the scope's fence is smaller than the term       → the fence is the term; a record
    append    the fence is the term, and every slot is free    → the records; each slot points to its record
    record    the stream ends where the caller believes        → the records

A request that meets none of these gets its answer and adds nothing: staging is all or nothing for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import apsw

from ..errors import LedgerConflict, LedgerCorrupt
from ..ports import Appended, Duplicate, Fenced, Record, Sealed, Stale
from .chain import GENESIS, PRUNED, Row, chain_hash, to_record
from .requests import AppendRequest, Item, PruneRequest, RecordRequest, Request, SealRequest, TransactRequest

__all__ = ["Batch", "Tips"]

TIPS_MAX = 10_000
_PER_STATEMENT = (64, 16, 4, 1)  # few sizes, so that every statement stays prepared


class Tips:
    """Last places of streams, as this writer's last transaction left them: true while the head is `head`."""

    def __init__(self) -> None:
        self.head: tuple[int, str] = (-1, "")
        self.places: dict[str, int] = {}

    def forget(self) -> None:
        """Read everything anew next time."""
        self.head = (-1, "")

    def check(self, head: tuple[int, str]) -> None:
        """Forget the places if another writer has moved the head."""
        if head != self.head or len(self.places) > TIPS_MAX:
            self.places.clear()


class Batch:
    """Stages requests. The transaction is the writer's: it begins it before, and commits or rolls back after.

    Attributes:
        writes: whether anything is to be inserted.
    """

    def __init__(self, connection: apsw.Connection, tips: Tips, at_ms: int) -> None:
        self._connection, self._known, self._at_ms = connection, tips, at_ms
        found = self._select("SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1", ())
        self._seq: int = found[0][0] if found else 0
        self._prev: str = found[0][1] if found else GENESIS
        tips.check((self._seq, self._prev))
        self._tips: dict[str, int] = {}
        self._fences: dict[str, int] = {}
        self._sealed: dict[str, int] = {}
        self._taken: dict[tuple[str, str], Record | int] = {}
        self._rows: list[Any] = []
        self._slots: list[Any] = []

    @property
    def writes(self) -> bool:
        """Whether anything was staged."""
        return bool(self._rows)

    def prepare(self, requests: Iterable[Request]) -> None:
        """Look up all their slots by a few queries: each call into SQLite gives up the interpreter's lock."""
        names = [
            name
            for request in requests
            if isinstance(request, AppendRequest)
            for slot in request.slots
            if slot
            for name in (request.scope, slot)
        ]
        for part, marks in _parts(names, 2):
            query = f"SELECT scope, slot, seq FROM slots WHERE (scope, slot) IN (VALUES {marks})"  # noqa: S608
            self._taken.update({(scope, slot): seq for scope, slot, seq in self._select(query, part)})

    def stage(self, request: Request) -> None:
        """Give a request its answer or its failure, and stage what it records."""
        if isinstance(request, RecordRequest):
            tip = self._tip(request.stream)
            if tip == request.after:
                request.answer = self._add(request.stream, request.items)
            else:
                request.failure = LedgerConflict(
                    f"stream {request.stream!r} ends at place {tip}, not at {request.after}: another writer was first; "
                    "read the stream again"
                )
        elif isinstance(request, SealRequest):
            request.answer = self._seal(request)
        elif isinstance(request, AppendRequest):
            request.answer = self._append(request)
        else:
            raise AssertionError(f"{type(request).__name__} is not staged with others")

    def refusal(self, request: TransactRequest) -> Fenced | Duplicate | None:
        """Why its work must not run, if so."""
        self._look_up(request.scope, request.slot)
        return self._refusal(request.scope, request.term, [request.slot])

    def finish(self, request: TransactRequest, item: Item) -> None:
        """Stage the record of work that was run."""
        records = self._add(request.stream, [item])
        self._take(request.scope, [request.slot], records)
        request.answer = Appended(tuple(records))

    def announce(self, request: PruneRequest) -> None:
        """Stage the record that says what is pruned."""
        self._add(PRUNED, request.items)

    def insert(self) -> None:
        """Write what was staged."""
        for part, marks in _parts(self._rows, 9):
            self._connection.execute(f"INSERT INTO records VALUES {marks}", part)  # noqa: S608
        for part, marks in _parts(self._slots, 3):
            self._connection.execute(f"INSERT INTO slots VALUES {marks}", part)  # noqa: S608
        for scope, term in self._sealed.items():
            self._connection.execute("INSERT OR REPLACE INTO fences VALUES (?, ?)", (scope, term))

    def committed(self) -> None:
        """Remember tips and head for the next transaction."""
        self._known.places.update(self._tips)
        self._known.head = (self._seq, self._prev)

    def _seal(self, request: SealRequest) -> Sealed | Stale:
        fence = self._fence(request.scope)
        if request.term <= fence:
            return Stale(fence)
        self._fences[request.scope] = self._sealed[request.scope] = request.term
        (record,) = self._add(request.stream, request.items)
        return Sealed(record)

    def _append(self, request: AppendRequest) -> Appended | Fenced | Duplicate:
        refused = self._refusal(request.scope, request.term, request.slots)
        if refused is not None:
            return refused
        records = self._add(request.stream, request.items)
        self._take(request.scope, request.slots, records)
        return Appended(tuple(records))

    def _refusal(self, scope: str, term: int, slots: Sequence[str]) -> Fenced | Duplicate | None:
        fence = self._fence(scope)
        if term != fence:
            return Fenced(fence)
        for slot in slots:
            taken = self._taken.get((scope, slot)) if slot else None
            if taken is not None:
                return Duplicate(slot, taken if isinstance(taken, Record) else self._record(taken))
        return None

    def _take(self, scope: str, slots: Sequence[str], records: Sequence[Record]) -> None:
        for slot, record in zip(slots, records, strict=True):
            if slot:
                self._taken[scope, slot] = record
                self._slots += (scope, slot, record.seq)

    def _add(self, stream: str, items: Sequence[Item]) -> list[Record]:
        tip, records = self._tip(stream), []
        for place, (kind, data, payload) in enumerate(items, tip + 1):
            self._seq += 1
            payload_digest = sha256(data).hexdigest()
            this = chain_hash(self._prev, self._seq, stream, place, kind, self._at_ms, payload_digest)
            self._rows += (self._seq, stream, place, kind, data, payload_digest, self._at_ms, self._prev, this)
            records.append(Record(self._seq, stream, place, kind, payload, self._at_ms, self._prev, this))
            self._prev = this
        self._tips[stream] = tip + len(items)
        return records

    def _tip(self, stream: str) -> int:
        tip = self._tips.get(stream)
        if tip is None:
            tip = self._known.places.get(stream)
        if tip is None:
            query = "SELECT coalesce(max(place), 0) FROM records WHERE stream = ?"
            tip = self._known.places[stream] = int(self._select(query, (stream,))[0][0])
        return tip

    def _fence(self, scope: str) -> int:
        if scope not in self._fences:
            found = self._select("SELECT term FROM fences WHERE scope = ?", (scope,))
            self._fences[scope] = int(found[0][0]) if found else 0
        return self._fences[scope]

    def _look_up(self, scope: str, slot: str) -> None:
        found = self._select("SELECT seq FROM slots WHERE scope = ? AND slot = ?", (scope, slot))
        if found:
            self._taken[scope, slot] = int(found[0][0])

    def _record(self, seq: int) -> Record:
        found = self._select("SELECT * FROM records WHERE seq = ?", (seq,))
        if not found:
            raise LedgerCorrupt(f"a slot points to record {seq}, which is missing; restore the ledger from a backup")
        return to_record(Row(*found[0]))

    def _select(self, query: str, values: Sequence[Any]) -> list[Any]:
        return self._connection.execute(query, values).fetchall()


def _parts(values: list[Any], width: int) -> Iterable[tuple[list[Any], str]]:
    """`values`, rows of `width` one after the other, cut into the sizes of prepared statements; each with its marks."""
    start, row = 0, f"({','.join('?' * width)})"
    for rows in _PER_STATEMENT:
        size = rows * width
        while len(values) - start >= size:
            yield values[start : start + size], ",".join([row] * rows)
            start += size
