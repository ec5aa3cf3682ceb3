"""The ledger's file: its schema, its connections, and what SQLite must be for them.

Schema 2 keeps three tables. `records` is the log. `fences` (scope, term) and `slots` (scope, slot, seq) are what a
submitter's append is checked against, in the transaction that inserts: which term sealed the scope last, and which
names are taken. A file of schema 1, which has records only, is read as it is, and brought to schema 2 when it is
opened for writing.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import quote

import apsw

from ..errors import LedgerBusy, LedgerCorrupt, LedgerError

__all__ = [
    "SCHEMA_VERSION",
    "SQLITE_MIN",
    "as_ledger_error",
    "check_sqlite",
    "connect_reader",
    "open_reader",
    "open_writer",
    "sqlite_version",
]

SQLITE_MIN = (3, 51, 3)
"""The first release without the WAL-reset bug, by which two writing connections can corrupt a file (sqlite.org)."""
SCHEMA_VERSION = 2

APPLICATION_ID = 0x6D616466  # "madf", in the file's header

_RECORDS = """
CREATE TABLE records (
    seq INTEGER PRIMARY KEY, stream TEXT NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL, payload BLOB,
    payload_digest TEXT NOT NULL, at_ms INTEGER NOT NULL, prev_hash TEXT NOT NULL, hash TEXT NOT NULL,
    UNIQUE (stream, place)
) STRICT
"""
_FENCES = "CREATE TABLE fences (scope TEXT PRIMARY KEY NOT NULL, term INTEGER NOT NULL) WITHOUT ROWID, STRICT"
_SLOTS = """
CREATE TABLE slots (
    scope TEXT NOT NULL, slot TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (scope, slot)
) WITHOUT ROWID, STRICT
"""


def sqlite_version() -> str:
    """The SQLite that ledgers are written with, checked to be at least `SQLITE_MIN`. Raises LedgerError."""
    check_sqlite()
    return str(apsw.sqlite_lib_version())


def check_sqlite(version: str | None = None) -> None:
    """Refuse an SQLite before `SQLITE_MIN` (LedgerError)."""
    version = version or apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")) < SQLITE_MIN:
        raise LedgerError(
            f"SQLite {version} can corrupt a ledger that two connections write (the WAL-reset bug); "
            f"at least {'.'.join(map(str, SQLITE_MIN))} is needed: pip install 'apsw>=3.51.3'"
        )


def open_writer(path: Path, busy_ms: int, vfs: str | None) -> apsw.Connection:
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
        connection.execute("PRAGMA secure_delete=ON")  # a pruned payload is overwritten, not only unlinked
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
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
    if connection.pragma("user_version") == SCHEMA_VERSION:
        # Without the write lock: who opens a ledger may come to end a submitter that was stopped while it held it.
        _check_header(connection, path, oldest=SCHEMA_VERSION)
        return
    connection.execute("BEGIN IMMEDIATE")  # two processes may create one ledger at once
    try:
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
        application, version = connection.pragma("application_id"), connection.pragma("user_version")
        missing = []
        if tables == 0 and application == 0:
            missing = [_RECORDS, _FENCES, _SLOTS]
        elif application == APPLICATION_ID and version == 1:
            missing = [_FENCES, _SLOTS]
        for table in missing:
            connection.execute(table)
        if missing:
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    _check_header(connection, path, oldest=SCHEMA_VERSION)


def _check_header(connection: apsw.Connection, path: Path, *, oldest: int) -> None:
    application, version = connection.pragma("application_id"), connection.pragma("user_version")
    if application != APPLICATION_ID:
        raise LedgerError(f"{path} is a SQLite file of another program (application id {application}); name another")
    if not oldest <= version <= SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger {path} has schema version {version}, and this madflow knows {oldest} to {SCHEMA_VERSION}; "
            "update madflow"
        )


def open_reader(path: Path, busy_ms: int, vfs: str | None) -> apsw.Connection:
    """A connection that only reads, to a ledger of this schema or an older one."""
    if not path.is_file():
        raise LedgerError(f"there is no ledger at {path}; check the path, or run a debate first")
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    connection = connect_reader(path, vfs, writable=writable)
    try:
        connection.set_busy_timeout(busy_ms)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # writing is the writer's
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        _check_header(connection, path, oldest=1)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, vfs: str | None, *, writable: bool) -> apsw.Connection:
    """A WAL-mode file needs its -shm file even to be read. On a read-only medium there is none, and no writer either:
    then the file is opened as immutable, if no -wal file holds part of it."""
    if writable:
        return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    if path.with_name(path.name + "-wal").exists():
        return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    uri = f"file:{quote(str(path.absolute()))}?immutable=1"
    return apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, vfs=vfs)


def as_ledger_error(error: Exception, path: Path) -> LedgerError:
    """What an error of SQLite means to a caller."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | UnicodeDecodeError):
        return LedgerCorrupt(f"the ledger {path} is damaged ({error}); restore it from a backup or an export")
    if isinstance(error, apsw.BusyError):
        return LedgerBusy(f"the ledger {path} stayed locked by another process ({error}); nothing was done, try again")
    return LedgerError(f"the ledger {path} cannot be used: {type(error).__name__}: {error}")
