"""Group commit: one thread writes for everybody, and one fsync serves all who wait for it.

A commit costs one fsync, whatever its size. So requests that arrive while a commit is under way are queued, and the
next transaction takes them all. Inside it, in this order:

    1. BEGIN IMMEDIATE takes the write lock of the file: other processes wait, and what is read next cannot change
    2. the head of the chain is read; if it is not the one this thread wrote last, cached tips are forgotten
    3. each request's `after` is compared with its stream's tip; a mismatch fails this request alone (LedgerConflict)
    4. all rows go in by a few multi-row INSERTs: every call into SQLite gives up the interpreter's lock, and gets it
       back late where another thread computes, so few calls are fast calls
    5. COMMIT, with the fsync; then one wake-up per event loop delivers all results

A failure in 4 or 5 poisons the writer: after a failed fsync the kernel may have dropped the pages and report success
the next time, so nothing can be promised any more by this handle. What was in flight may or may not be there after
reopening. A write lock that somebody else holds for too long is no such failure: it fails the waiting requests and
nothing else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from hashlib import sha256
from queue import Empty, SimpleQueue
from typing import Any

import apsw

from ..errors import LedgerConflict, LedgerError, LedgerPoisoned
from ..ports import Record
from .chain import GENESIS, chain_hash

__all__ = ["GroupWriter", "Request"]

BATCH_RECORDS_MAX = 1024
BATCH_BYTES_MAX = 8 * 1024 * 1024
TIPS_MAX = 10_000
_COLUMNS = 9
_ROWS_PER_INSERT = (64, 16, 4, 1)  # few sizes, so that every statement stays prepared


class Request:
    """Events for one stream, encoded, and who waits for them: a future of an event loop, or a thread."""

    __slots__ = ("after", "done", "failure", "future", "items", "loop", "records", "stream")

    def __init__(self, stream: str, items: list[tuple[str, bytes, dict[str, Any]]], after: int) -> None:
        self.stream, self.items, self.after = stream, items, after
        self.loop: asyncio.AbstractEventLoop | None = None
        self.future: asyncio.Future[list[Record]] | None = None
        self.done: threading.Event | None = None
        self.records: list[Record] = []
        self.failure: Exception | None = None


class GroupWriter:
    """Owns the writing connection and its thread, which starts with the first request.

    Args:
        queue_max: most requests that may wait; one more is refused.
    """

    def __init__(self, connection: apsw.Connection, now_ms: Callable[[], int], queue_max: int, name: str) -> None:
        self._connection, self._now_ms, self._queue_max, self._name = connection, now_ms, queue_max, name
        self._queue: SimpleQueue[Request | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._poison: str | None = None
        self._close_failure: apsw.Error | None = None
        self._head: tuple[int, str] = (-1, "")
        self._tips: dict[str, int] = {}

    def submit(self, request: Request) -> None:
        """Queue a request; it is delivered exactly once, and requests of one stream are taken in the order given.

        Once queued it is written, even if nobody waits any more: later requests may count on its place.

        Raises:
            LedgerError: closed, or too many wait. LedgerPoisoned: a write failed before.
        """
        with self._gate:
            if self._closed:
                raise LedgerError(f"the ledger {self._name} is closed; open it again to record")
            if self._poison is not None:
                raise self._poisoned()
            if self._queue.qsize() >= self._queue_max:
                raise LedgerError(
                    f"{self._queue.qsize()} requests wait for the ledger {self._name}, the limit is {self._queue_max}; "
                    "record from fewer tasks at a time"
                )
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="madflow-ledger", daemon=True)
                self._thread.start()
            self._queue.put(request)

    def stop(self) -> None:
        """Take no more requests; the thread ends after those that wait. Does not block."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)

    def close(self) -> None:
        """Write what waits, then close the connection. Returns when both are done.

        Raises:
            LedgerError: the last checkpoint failed. What was recorded is in the -wal file, and is found on reopening.
        """
        self.stop()
        if self._thread is None:
            self._close_connection()
        else:
            self._thread.join()
        failure, self._close_failure = self._close_failure, None
        if failure is not None:
            raise LedgerError(
                f"closing the ledger {self._name} failed ({type(failure).__name__}: {failure}); what was recorded is "
                "safe in its -wal file: keep the two files together, repair the disk, and open the ledger again"
            ) from failure

    def _close_connection(self) -> None:
        try:
            self._connection.close()
        except apsw.Error as error:
            self._close_failure = error

    def _run(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._collect()
            if batch:
                self._commit(batch)
                _deliver(batch)
        self._close_connection()

    def _collect(self) -> tuple[list[Request], bool]:
        """Wait for one request, then take along what else is queued; and whether to end after these."""
        batch: list[Request] = []
        records = size = 0
        request = self._queue.get()
        while request is not None:
            batch.append(request)
            records += len(request.items)
            size += sum(len(data) for _, data, _ in request.items)
            if records >= BATCH_RECORDS_MAX or size >= BATCH_BYTES_MAX:
                return batch, False
            try:
                request = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[Request]) -> None:
        """Give every request of the batch its records or its failure."""
        if self._poison is not None:
            self._fail(batch, self._poisoned)
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._transact(batch)
        except apsw.BusyError as error:
            reason = str(error)
            self._roll_back()
            locked = (
                f"the ledger {self._name} stayed locked by another writer ({reason}); nothing was recorded, try again"
            )
            self._fail(batch, lambda: LedgerError(locked))
        except Exception as error:
            # Anything else, of SQLite or of ours, leaves unknown what is on the disk: fail for good, and say so to all.
            self._set_poison(f"{type(error).__name__}: {error}")
            self._roll_back()
            self._fail(batch, self._poisoned)

    def _transact(self, batch: list[Request]) -> None:
        rows: list[Any] = self._connection.execute("SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1").fetchall()
        seq, prev = rows[0] if rows else (0, GENESIS)
        if (seq, prev) != self._head or len(self._tips) > TIPS_MAX:
            self._tips.clear()
        at_ms = self._now_ms()
        tips: dict[str, int] = {}
        values: list[Any] = []
        for request in batch:
            stream = request.stream
            tip = tips[stream] if stream in tips else self._tip(stream)
            if tip != request.after:
                request.failure = LedgerConflict(
                    f"stream {stream!r} ends at place {tip}, not at {request.after}: another writer was first; "
                    "read the stream again"
                )
                continue
            for place, (kind, data, payload) in enumerate(request.items, tip + 1):
                seq += 1
                payload_digest = sha256(data).hexdigest()
                this = chain_hash(prev, seq, stream, place, kind, at_ms, payload_digest)
                values += (seq, stream, place, kind, data, payload_digest, at_ms, prev, this)
                request.records.append(Record(seq, stream, place, kind, payload, at_ms, prev, this))
                prev = this
            tips[stream] = tip + len(request.items)
        if not values:
            self._connection.execute("ROLLBACK")
            return
        self._insert(values)
        self._connection.execute("COMMIT")
        self._tips.update(tips)
        self._head = (seq, prev)

    def _tip(self, stream: str) -> int:
        tip = self._tips.get(stream)
        if tip is None:
            query = "SELECT coalesce(max(place), 0) FROM records WHERE stream = ?"
            rows: list[Any] = self._connection.execute(query, (stream,)).fetchall()
            tip = int(rows[0][0])
            self._tips[stream] = tip
        return tip

    def _insert(self, values: list[Any]) -> None:
        start = 0
        for rows in _ROWS_PER_INSERT:
            width = rows * _COLUMNS
            while len(values) - start >= width:
                marks = ",".join(["(?,?,?,?,?,?,?,?,?)"] * rows)
                self._connection.execute(f"INSERT INTO records VALUES {marks}", values[start : start + width])  # noqa: S608
                start += width

    def _roll_back(self) -> None:
        self._head = (-1, "")
        if not self._connection.in_transaction:
            return
        try:
            self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            self._set_poison(f"rollback failed: {type(error).__name__}: {error}")

    def _set_poison(self, reason: str) -> None:
        with self._gate:
            self._poison = self._poison or reason
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # closing must not write either

    def _fail(self, batch: list[Request], failure: Callable[[], Exception]) -> None:
        for request in batch:
            request.failure, request.records = failure(), []

    def _poisoned(self) -> LedgerPoisoned:
        return LedgerPoisoned(
            f"the ledger {self._name} writes nothing more: a write failed ({self._poison}); what was in flight may or "
            "may not be recorded; free the disk or repair it, then open the ledger again"
        )


def _deliver(batch: list[Request]) -> None:
    """Wake whoever waits: every event loop once, every thread by its own event."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Request]] = {}
    for request in batch:
        if request.loop is not None:
            by_loop.setdefault(request.loop, []).append(request)
        elif request.done is not None:
            request.done.set()
    for loop, requests in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, requests)
        except RuntimeError:
            if not loop.is_closed():  # a closed loop has nobody left who waits
                raise


def _resolve(requests: list[Request]) -> None:
    for request in requests:
        future = request.future
        if future is None or future.done():
            continue
        if request.failure is not None:
            future.set_exception(request.failure)
        else:
            future.set_result(request.records)
