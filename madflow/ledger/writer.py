"""Group commit: one thread writes for everybody, and one fsync serves all who wait for it.

A commit costs one fsync, whatever its size. So requests that arrive while a commit is under way are queued, and the
next transaction takes them all. Inside it, in this order:

    1. BEGIN IMMEDIATE takes the write lock of the file: other processes wait, and what is read next cannot change
    2. the head of the chain is read; if it is not the one this thread wrote last, cached tips are forgotten
    3. fences and slots are read, and each request is staged or refused, by itself (`batch.Batch`)
    4. all rows go in by a few multi-row INSERTs: every call into SQLite gives up the interpreter's lock, and gets it
       back late where another thread computes, so few calls are fast calls
    5. COMMIT, with the fsync; then one wake-up per event loop delivers all results

A request with work of its own (`transact`), and one that prunes, has a transaction to itself: a write that SQLite
interrupts takes its whole transaction with it, and must not take along what others wait for.

A failure in 4 or 5 poisons the writer: after a failed fsync the kernel may have dropped the pages and report success
the next time, so nothing can be promised any more by this handle. What was in flight may or may not be there after
reopening. A write lock that somebody else holds for too long is no such failure: it fails the waiting requests and
nothing else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

import apsw

from ..errors import EffectError, LedgerBusy, LedgerError, LedgerPoisoned
from .batch import Batch, Tips
from .requests import PruneRequest, Request, TransactRequest, encode_event
from .work import Workbench

__all__ = ["GroupWriter"]

BATCH_RECORDS_MAX = 1024
BATCH_BYTES_MAX = 8 * 1024 * 1024


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
        self._tips = Tips()
        self._next: Request | None = None

    def submit(self, request: Request) -> None:
        """Queue a request; it is delivered exactly once, and requests are taken in the order given.

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
            if self._thread is threading.current_thread():
                raise LedgerError(f"the work of a transaction of the ledger {self._name} must not write by itself")
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
        request, self._next = self._next or self._queue.get(), None
        while request is not None:
            if request.alone and batch:
                self._next = request
                return batch, False
            batch.append(request)
            records += len(request.items)
            size += sum(len(data) for _, data, _ in request.items)
            if request.alone or records >= BATCH_RECORDS_MAX or size >= BATCH_BYTES_MAX:
                return batch, False
            try:
                request = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _commit(self, requests: list[Request]) -> None:
        """Give every request its answer or its failure."""
        if self._poison is not None:
            self._fail(requests, self._poisoned)
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            batch = Batch(self._connection, self._tips, self._now_ms())
            (only, *_) = requests
            if isinstance(only, TransactRequest):
                self._work(batch, only)
            elif isinstance(only, PruneRequest):
                self._prune(batch, only)
            else:
                self._group(batch, requests)
        except apsw.BusyError as error:
            reason = str(error)
            self._roll_back()
            locked = (
                f"the ledger {self._name} stayed locked by another writer ({reason}); nothing was recorded, try again"
            )
            self._fail(requests, lambda: LedgerBusy(locked))
        except Exception as error:
            # Anything else, of SQLite or of ours, leaves unknown what is on the disk: fail for good, and say so to all.
            self._set_poison(f"{type(error).__name__}: {error}")
            self._roll_back()
            self._fail(requests, self._poisoned)

    def _group(self, batch: Batch, requests: list[Request]) -> None:
        batch.prepare(requests)
        for request in requests:
            try:
                batch.stage(request)
            except LedgerError as error:  # a record that it needs to read is damaged; nothing of it was staged
                request.failure = error
        self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        if not batch.writes:
            self._connection.execute("ROLLBACK")
            return
        batch.insert()
        self._connection.execute("COMMIT")
        batch.committed()

    def _work(self, batch: Batch, request: TransactRequest) -> None:
        try:
            request.answer = batch.refusal(request)
        except LedgerError as error:
            request.failure = error
        if request.answer is None and request.failure is None:
            bench = Workbench(self._connection, request.timeout_s)
            try:
                item = encode_event(bench.run(request.work))
            except BaseException as error:
                # Whatever the caller's code raises is its own to handle: all it did is rolled back, and it gets it.
                request.failure = _raisable(error)
            if bench.fatal is not None:
                raise bench.fatal
            if request.failure is None:
                batch.finish(request, item)
        if request.failure is None:
            self._finish(batch)
        else:
            self._roll_back()

    def _prune(self, batch: Batch, request: PruneRequest) -> None:
        batch.announce(request)
        batch.insert()
        for first, last in request.ranges:
            self._connection.execute("UPDATE records SET payload = NULL WHERE seq BETWEEN ? AND ?", (first, last))
        self._connection.execute("COMMIT")
        batch.committed()
        request.answer = False
        if request.last:
            try:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                request.answer = True
            except apsw.BusyError:  # somebody reads: the -wal file keeps the old bytes until a later checkpoint
                request.answer = False

    def _roll_back(self) -> None:
        self._tips.forget()
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
            request.failure, request.answer = failure(), None

    def _poisoned(self) -> LedgerPoisoned:
        return LedgerPoisoned(
            f"the ledger {self._name} writes nothing more: a write failed ({self._poison}); what was in flight may or "
            "may not be recorded; free the disk or repair it, then open the ledger again"
        )


def _raisable(error: BaseException) -> BaseException:
    """`error`, or what stands for it where a future would refuse it."""
    if isinstance(error, StopIteration):
        return EffectError("raised", f"the work of a transaction raised StopIteration: {error}", applied=False)
    return error


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
            future.set_result(request.answer)
