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
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

import apsw

from ..errors import LedgerCorrupt, LedgerError
from ..ports import Event, Record
from .chain import ChainCheck, Row, check_name, encode_payload, export_lines, to_record
from .locks import stream_lock
from .writer import GroupWriter, Request

__all__ = ["SQLITE_MIN", "SqliteLedger", "WallClock", "open_ledger", "sqlite_version"]

SQLITE_MIN = (3, 51, 3)
"""The first release without the WAL-reset bug, by which two writing connections can corrupt a file (sqlite.org)."""

APPLICATION_ID = 0x6D616466  # "madf", in the file's header
SCHEMA_VERSION = 1
BUSY_MS = 5_000
QUEUE_MAX = 10_000
_PAGE_ROWS = 256

_SCHEMA = """
CREATE TABLE records (
    seq INTEGER PRIMARY KEY, stream TEXT NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL, payload BLOB,
    payload_digest TEXT NOT NULL, at_ms INTEGER NOT NULL, prev_hash TEXT NOT NULL, hash TEXT NOT NULL,
    UNIQUE (stream, place)
) STRICT
"""


class WallClock(Protocol):
    """The part of `ports.Clock` that a ledger needs."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch."""
        ...


class _SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class SqliteLedger:
    """`ports.Ledger` on one SQLite file.

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
        _check_sqlite()
        self.path = Path(path)
        self.readonly = readonly
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._writer: GroupWriter | None = None
        self._reader: apsw.Connection | None = None
        try:
            if not readonly:
                connection = _prepare(self.path, busy_ms, vfs)
                self._writer = GroupWriter(connection, clock.now_ms, queue_max, str(self.path))
                # A ledger that is dropped without close() must not leave its thread waiting for ever.
                weakref.finalize(self, self._writer.stop).atexit = False
            self._reader = _open_reader(self.path, busy_ms, vfs)
        except (apsw.Error, LedgerError) as error:
            if self._writer is not None:
                self._writer.close()
            raise (error if isinstance(error, LedgerError) else _as_ledger_error(error, self.path)) from error

    def record(self, stream: str, events: Sequence[Event], *, after: int) -> asyncio.Future[list[Record]]:
        """Append `events` to `stream`, whose last place must be `after`; durable when it is done. All or nothing.

        Call it in a running event loop.

        Calls may be made ahead, each `after` the last place of the one before: they are taken in the order in which
        they were made, and share a commit. If one fails, those after it on its stream fail too (LedgerConflict). A
        caller that is cancelled while it waits takes nothing back: its events are written all the same.

        Raises:
            LedgerConflict: the stream ends at another place. LedgerPoisoned: a write failed, now or earlier.
            LedgerError: a payload is not JSON, the file stayed locked, too many wait, closed, read-only, or forked.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Record]] = loop.create_future()
        try:
            request = self._request(stream, events, after)
            request.loop, request.future = loop, future
            self._submit(request)
        except LedgerError as error:
            future.set_exception(error)
        return future

    def record_now(self, stream: str, events: Sequence[Event], *, after: int) -> list[Record]:
        """`record` for code without an event loop: blocks this thread until the commit. Same errors."""
        request = self._request(stream, events, after)
        request.done = threading.Event()
        self._submit(request)
        request.done.wait()
        if request.failure is not None:
            raise request.failure
        return request.records

    def read(self, stream: str) -> list[Record]:
        """All records of one stream, by place; empty if there is no such stream."""
        return [to_record(row) for row in self._query("WHERE stream = ? ORDER BY place", (stream,))]

    def scan(self, from_seq: int = 1) -> Iterator[Record]:
        """All records of all streams from `from_seq` on, by seq; those that are written meanwhile too."""
        return map(to_record, self._rows(from_seq))

    def streams(self) -> list[str]:
        """The names of all streams, in the order of their first records."""
        return [row[0] for row in self._select("SELECT stream FROM records WHERE place = 1 ORDER BY seq", ())]

    def verify(self) -> int:
        """Check the file's structure, every payload digest, the chain and the places of every stream.

        Returns:
            the number of records.

        Raises:
            LedgerCorrupt: names the first record that does not verify.
        """
        check = ChainCheck()
        for row in self._rows(1):
            check.add(row)
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, stream: str, events: Sequence[Event], after: int) -> Request:
        self._check_process()
        check_name("stream", stream)
        if not events:
            raise LedgerError(f"nothing to record in stream {stream!r}: give at least one event")
        items = []
        for event in events:
            check_name("kind", event.kind)
            items.append((event.kind, *encode_payload(event.kind, event.payload)))
        return Request(stream, items, after)

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
                raise _as_ledger_error(error, self.path) from error


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


def sqlite_version() -> str:
    """The SQLite that ledgers are written with, checked to be at least `SQLITE_MIN`. Raises LedgerError."""
    _check_sqlite()
    return str(apsw.sqlite_lib_version())


def _sync_folder(folder: Path) -> None:
    """Make a new entry of `folder` durable: a file in a folder that a power cut takes away is not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_sqlite(version: str | None = None) -> None:
    version = version or apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")) < SQLITE_MIN:
        raise LedgerError(
            f"SQLite {version} can corrupt a ledger that two connections write (the WAL-reset bug); "
            f"at least {'.'.join(map(str, SQLITE_MIN))} is needed: pip install 'apsw>=3.51.3'"
        )


def _prepare(path: Path, busy_ms: int, vfs: str | None) -> apsw.Connection:
    """The writing connection, to a file that is a ledger of this version, in WAL mode."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
    try:
        connection.set_busy_timeout(busy_ms)
        _switch_to_wal(connection, path, time.monotonic() + busy_ms / 1000)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA fullfsync=ON")  # macOS: fsync alone does not reach the platter; elsewhere no effect
        connection.execute("PRAGMA journal_size_limit=67108864")
        connection.execute("PRAGMA trusted_schema=OFF")
        _create_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: apsw.Connection, path: Path, deadline: float) -> None:
    """Two processes that create one ledger at once meet here, where SQLite does not wait by itself."""
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchall()[0][0]
            break
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise LedgerError(
            f"the file system of {path} does not support SQLite's WAL mode (it stays in mode {mode!r}); "
            "put the ledger on a local disk"
        )


def _create_schema(connection: apsw.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")  # two processes may create one ledger at once
    try:
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
        if tables == 0 and connection.pragma("application_id") == 0:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    _check_header(connection, path)


def _check_header(connection: apsw.Connection, path: Path) -> None:
    application, version = connection.pragma("application_id"), connection.pragma("user_version")
    if application != APPLICATION_ID:
        raise LedgerError(f"{path} is a SQLite file of another program (application id {application}); name another")
    if version != SCHEMA_VERSION:
        raise LedgerError(f"the ledger {path} has schema version {version}, not {SCHEMA_VERSION}; update madflow")


def _open_reader(path: Path, busy_ms: int, vfs: str | None) -> apsw.Connection:
    if not path.is_file():
        raise LedgerError(f"there is no ledger at {path}; check the path, or run a debate first")
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    connection = _connect_reader(path, vfs, writable=writable)
    try:
        connection.set_busy_timeout(busy_ms)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # writing is the writer's
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        _check_header(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_reader(path: Path, vfs: str | None, *, writable: bool) -> apsw.Connection:
    """A WAL-mode file needs its -shm file even to be read. On a read-only medium there is none, and no writer either:
    then the file is opened as immutable, if no -wal file holds part of it."""
    if writable:
        return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    if path.with_name(path.name + "-wal").exists():
        return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    uri = f"file:{quote(str(path.absolute()))}?immutable=1"
    return apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, vfs=vfs)


def _as_ledger_error(error: Exception, path: Path) -> LedgerError:
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | UnicodeDecodeError):
        return LedgerCorrupt(f"the ledger {path} is damaged ({error}); restore it from a backup or an export")
    return LedgerError(f"the ledger {path} cannot be used: {type(error).__name__}: {error}")
