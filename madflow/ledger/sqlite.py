"""The default ledger: one SQLite file, append-only, hash-chained, shared by the processes of one machine.

Writing goes through `writer.GroupWriter` (one thread, group commit, WAL with synchronous=FULL: a record is on the disk
when `record` returns). Reading has a connection of its own, sees what is committed, and goes on working when writing
is poisoned.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias

import apsw

from ..errors import EffectError, LedgerCorrupt, LedgerError
from ..held import hold, release
from ..ports import AppendResult, Entry, Event, Execute, Record, Sealed, Stale
from .chain import ChainCheck, Row, check_name, export_lines, to_record
from .file import SCHEMA_VERSION, SQLITE_MIN, as_ledger_error, check_sqlite, open_reader, open_writer, sqlite_version
from .locks import stream_lock
from .pruning import Pruned, choose, prune_requests
from .requests import (
    TRANSACTION_S_MAX,
    AppendRequest,
    RecordRequest,
    Request,
    SealRequest,
    TransactRequest,
    stream_of,
)
from .writer import GroupWriter

__all__ = ["SQLITE_MIN", "TRANSACTION_S_MAX", "IfPruned", "SqliteLedger", "WallClock", "open_ledger", "sqlite_version"]

BUSY_MS = 5_000
QUEUE_MAX = 10_000
_PAGE_ROWS = 256

IfPruned: TypeAlias = Literal["raise", "skip"]
"""What reading does at a record whose payload was pruned: raise LedgerError, or go on without it."""

# What a ledger must not hold; each names a scope and a slot or a term.
_DISAGREEMENTS = (
    (
        "SELECT s.scope, s.slot FROM slots s LEFT JOIN records r ON r.seq = s.seq"
        " WHERE r.seq IS NULL OR r.stream <> 'commit/' || s.scope LIMIT 1",
        "the slot {1!r} of scope {0!r} points to no record of that scope",
    ),
    (
        "SELECT scope, slot FROM slots GROUP BY seq HAVING count(*) > 1 LIMIT 1",
        "the slot {1!r} of scope {0!r} points to a record that another slot points to",
    ),
    (
        "SELECT f.scope, f.term FROM fences f WHERE f.term < 1 OR NOT EXISTS"
        " (SELECT 1 FROM records r WHERE r.stream = 'commit/' || f.scope) LIMIT 1",
        "scope {0!r} is fenced by term {1}, but nothing sealed it",
    ),
    (
        "SELECT substr(r.stream, 8), r.seq FROM records r WHERE r.place = 1 AND r.stream >= 'commit/'"
        " AND r.stream < 'commit0' AND substr(r.stream, 8) NOT IN (SELECT scope FROM fences) LIMIT 1",
        "scope {0!r} has records (the first is {1}), but no fence",
    ),
)


class WallClock(Protocol):
    """The part of `ports.Clock` that a ledger needs."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch."""
        ...


class _SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class SqliteLedger:
    """`ports.FencedLedger` on one SQLite file; it never answers Unknown.

    One object may be used from any thread and any event loop of the process that made it; not from a forked child.
    Several processes may have the same file open, and write to it.

    Args:
        path: the file; its folder must be there. Created if missing, unless `readonly`.
        clock: stamps `at_ms`.
        readonly: for replay: nothing can be recorded, and the file must be there.
        busy_ms: how long to wait for another process's write lock.
        queue_max: most requests that may wait for the writer.
        vfs: name of a registered SQLite VFS, for fault injection.

    Raises:
        LedgerError: SQLite is too old, the file is not a ledger, or cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: WallClock,
        readonly: bool = False,
        busy_ms: int = BUSY_MS,
        queue_max: int = QUEUE_MAX,
        vfs: str | None = None,
    ) -> None:
        check_sqlite()
        self.path = Path(path)
        self.readonly = readonly
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._writer: GroupWriter | None = None
        self._reader: apsw.Connection | None = None
        self._schema = 0
        try:
            # While it is held nobody in this process opens its files otherwise, which would drop SQLite's locks.
            held = hold(self.path, "ledger")
        except EffectError as error:
            raise LedgerError(str(error)) from error
        self._release = weakref.finalize(self, release, held)
        try:
            if not readonly:
                connection = open_writer(self.path, busy_ms, vfs)
                self._writer = GroupWriter(connection, clock.now_ms, queue_max, str(self.path))
                # A ledger that is dropped without close() must not leave its thread waiting for ever.
                weakref.finalize(self, self._writer.stop).atexit = False
            self._reader = open_reader(self.path, busy_ms, vfs)
        except (apsw.Error, LedgerError) as error:
            if self._writer is not None:
                self._writer.close()
            self._release()
            raise (error if isinstance(error, LedgerError) else as_ledger_error(error, self.path)) from error

    def record(self, stream: str, events: Sequence[Event], *, after: int) -> asyncio.Future[list[Record]]:
        """Append `events` to `stream`, whose last place must be `after`; durable when it is done. All or nothing.

        Call it in a running event loop.

        Calls may be made ahead, each `after` the last place of the one before: they are taken in the order in which
        they were made, and share a commit. If one fails, those after it on its stream fail too (LedgerConflict). A
        caller that is cancelled while it waits takes nothing back: its events are written all the same.

        Raises:
            LedgerConflict: the stream ends at another place. LedgerPoisoned: a write failed, now or earlier.
            LedgerError: a payload is not JSON, the stream is a scope's, the file stayed locked, too many wait, closed,
                read-only, or forked.
        """
        return self._soon(lambda: RecordRequest(stream, events, after))

    def record_now(self, stream: str, events: Sequence[Event], *, after: int) -> list[Record]:
        """`record` for code without an event loop: blocks this thread until the commit. Same errors."""
        records: list[Record] = self._now(RecordRequest(stream, events, after))
        return records

    def seal(self, scope: str, term: int, event: Event) -> asyncio.Future[Sealed | Stale]:
        """Record `event` and take the scope for `term`, if it is greater than every term that sealed it before.

        As with `record`: durable when it is done, calls may be made ahead, a cancelled one is carried out.

        Raises:
            LedgerPoisoned, LedgerError: as `record`; a term below 1 or above 2⁶³ - 1.
        """
        return self._soon(lambda: SealRequest(scope, term, event))

    def seal_now(self, scope: str, term: int, event: Event) -> Sealed | Stale:
        """`seal` for code without an event loop: blocks this thread until the commit. Same errors."""
        answer: Sealed | Stale = self._now(SealRequest(scope, term, event))
        return answer

    def append(self, scope: str, term: int, entries: Sequence[Entry]) -> asyncio.Future[AppendResult]:
        """Append all entries or none: only if `term` is the one that sealed the scope last, and every slot is free.

        Term and slots are checked inside the write transaction; the term first, then the slots in their order.

        Raises:
            LedgerPoisoned, LedgerError: as `record`; two entries that take one slot.
        """
        return self._soon(lambda: AppendRequest(scope, term, entries))

    def append_now(self, scope: str, term: int, entries: Sequence[Entry]) -> AppendResult:
        """`append` for code without an event loop: blocks this thread until the commit. Same errors."""
        answer: AppendResult = self._now(AppendRequest(scope, term, entries))
        return answer

    def transact(
        self, scope: str, term: int, slot: str, work: Callable[[Execute], Event], *, timeout_s: float
    ) -> asyncio.Future[AppendResult]:
        """`append` of what `work` returns; what it executes is committed with it, or not at all.

        `work` runs in the writer's thread, in a transaction of its own, and only where neither fenced nor duplicate:
        it must do nothing but execute, and be quick, for all writing waits for it: a `timeout_s` above
        `TRANSACTION_S_MAX` counts as that. `execute(statement, values)` runs
        one statement against the tables that are not the ledger's; see `work.Workbench` for what is denied.

        Raises:
            whatever `work` raises, and then nothing was written.
            EffectError: a statement that failed, was denied (permission_denied), had too large a result, or ran into
                `timeout_s` (seconds for all statements together); also if `work` caught that and went on.
            LedgerPoisoned, LedgerError: as `record`; `work` returned no event.
        """
        return self._soon(lambda: TransactRequest(scope, term, slot, work, timeout_s))

    def find(self, scope: str, slot: str) -> Record | None:
        """The record that took the slot."""
        stream_of(scope)
        if self._schema_read() < 2:
            return None
        rows = self._query("WHERE seq = (SELECT seq FROM slots WHERE scope = ? AND slot = ?)", (scope, slot))
        return to_record(rows[0]) if rows else None

    def fence(self, scope: str) -> int:
        """The term that sealed the scope last, 0 for none. It may be outdated once it is read: `append` decides."""
        stream_of(scope)
        if self._schema_read() < 2:
            return 0
        rows = self._select("SELECT term FROM fences WHERE scope = ?", (scope,))
        return int(rows[0][0]) if rows else 0

    def prune(self, keep: Callable[[Record], bool]) -> Pruned:
        """Remove the payloads of the records that `keep` does not keep; blocks this thread until that is durable.

        The chain goes on to verify, and a record of the stream `pruned` says what went. Records of `commit/…` and
        `election/…` are not offered: they stay. If it is interrupted, some are pruned, and those are announced; run it
        again.

        Raises:
            what `keep` raises, before anything is removed; LedgerPoisoned, LedgerError as `record`.
        """
        ranges = choose(self._rows(1), keep)
        erased = False
        for request in prune_requests(ranges):
            erased = self._now(request)
        return Pruned(sum(last - first + 1 for first, last in ranges), tuple(ranges), erased)

    def read(self, stream: str, *, after: int = 0, pruned: IfPruned = "raise") -> list[Record]:
        """The stream's records behind place `after`, by place; empty if there are none.

        Raises:
            LedgerError: a payload was pruned (see `pruned`). LedgerCorrupt: a payload is not what was written.
        """
        rows = self._query("WHERE stream = ? AND place > ? ORDER BY place", (stream, after))
        return list(_records(rows, pruned))

    def scan(self, from_seq: int = 1, *, pruned: IfPruned = "raise") -> Iterator[Record]:
        """All records of all streams from `from_seq` on, by seq, also those written meanwhile. Errors: as `read`."""
        return _records(self._rows(from_seq), pruned)

    def streams(self) -> list[str]:
        """The names of all streams, in the order of their first records."""
        return [row[0] for row in self._select("SELECT stream FROM records WHERE place = 1 ORDER BY seq", ())]

    def verify(self) -> int:
        """Check the file's structure, every payload digest, the chain, the places of every stream, fences and slots.

        Returns:
            the number of records.

        Raises:
            LedgerCorrupt: names the first record that does not verify.
        """
        check = ChainCheck()
        for row in self._rows(1):
            check.add(row)
        check.finish()
        if self._schema_read() >= 2:
            for query, what in _DISAGREEMENTS:
                wrong = self._select(query, ())
                if wrong:
                    raise LedgerCorrupt(
                        f"the ledger {self.path} is damaged: {what.format(*wrong[0])}; restore it from a backup"
                    )
        found = self._select("PRAGMA integrity_check(1)", ())
        if found != [("ok",)]:
            raise LedgerCorrupt(f"the ledger {self.path} is damaged: {found[0][0]}; restore it from a backup")
        return check.count

    def export_lines(self) -> Iterator[str]:
        """The ledger as JSON lines, without line ends; the last is the trailer `{"count": n, "head": hash}`."""
        return export_lines(self._rows(1))

    def lock_stream(self, stream: str) -> AbstractContextManager[None]:
        """Hold `stream` for this run alone, by a kernel lock beside the ledger; DebateBusy if somebody holds it."""
        check_name("stream", stream)
        return stream_lock(self.path.resolve().parent / "locks", stream)  # one ledger by two paths is one ledger

    def close(self) -> None:
        """Write what waits, then close the file. May be called again."""
        self._check_process()
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        if self._writer is not None:
            self._writer.close()  # last, so that the file is left without a -wal beside it
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _soon(self, make: Callable[[], Request]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        try:
            self._check_process()
            request = make()
            request.loop, request.future = loop, future
            self._submit(request)
        except LedgerError as error:
            future.set_exception(error)
        return future

    def _now(self, request: Request) -> Any:
        self._check_process()
        request.done = threading.Event()
        self._submit(request)
        request.done.wait()
        if request.failure is not None:
            raise request.failure
        return request.answer

    def _submit(self, request: Request) -> None:
        if self._writer is None:
            raise LedgerError(f"the ledger {self.path} is open for reading only; open it without readonly to record")
        self._writer.submit(request)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise LedgerError(
                f"the ledger {self.path} was opened by process {self._pid}, and this is its forked child "
                f"{os.getpid()}: SQLite does not survive a fork; open the ledger again in the child"
            )

    def _schema_read(self) -> int:
        """The file's schema version; a writer may raise it at any time."""
        if self._schema < SCHEMA_VERSION:
            self._schema = int(self._select("PRAGMA user_version", ())[0][0])
        return self._schema

    def _rows(self, from_seq: int) -> Iterator[Row]:
        while True:
            page = self._query("WHERE seq >= ? ORDER BY seq LIMIT ?", (from_seq, _PAGE_ROWS))
            yield from page
            if len(page) < _PAGE_ROWS:
                return
            from_seq = page[-1].seq + 1

    def _query(self, condition: str, values: tuple[Any, ...]) -> list[Row]:
        return [Row(*row) for row in self._select(f"SELECT * FROM records {condition}", values)]  # noqa: S608

    def _select(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        self._check_process()
        with self._lock:
            if self._reader is None:
                raise LedgerError(f"the ledger {self.path} is closed; open it again to read")
            try:
                return self._reader.execute(query, values).fetchall()
            except (apsw.Error, UnicodeDecodeError) as error:
                raise as_ledger_error(error, self.path) from error


def _records(rows: Iterable[Row], pruned: IfPruned) -> Iterator[Record]:
    if pruned not in ("raise", "skip"):
        raise LedgerError(f'pruned is {pruned!r}; it must be "raise" or "skip"')
    return (to_record(row) for row in rows if pruned == "raise" or row.payload is not None)


def open_ledger(
    path: str | os.PathLike[str], *, clock: WallClock | None = None, readonly: bool = False
) -> SqliteLedger:
    """Open, or create, the ledger at `path` with its folder. A `.madflow` folder gets a .gitignore that covers it all.

    Args:
        clock: stamps the records; the system's by default.

    Raises:
        LedgerError: as `SqliteLedger`.
    """
    path = Path(path)
    folder = path.parent
    if not readonly:
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        ignore = folder / ".gitignore"
        if folder.name == ".madflow" and not ignore.exists():
            ignore.write_text("*\n")
        if new:
            _sync_folder(folder.parent)
    return SqliteLedger(path, clock=clock or _SystemClock(), readonly=readonly)


def _sync_folder(folder: Path) -> None:
    """Make a new entry of `folder` durable: a file in a folder that a power cut takes away is not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
