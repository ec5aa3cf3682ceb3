"""What a caller may execute inside the ledger's own transaction, and how it is held to that.

`transact` lets an effect share the fate of its record: both are committed, or neither. The statements come from a plan,
and a plan is hostile, so:

    an authorizer asks, while SQLite compiles, what a statement touches. What is not listed here as allowed is denied:
    of the ledger's tables everything, reading included; attached and temporary databases, pragmas, triggers, views,
    virtual tables, transaction control, functions that load code
    one `execute` is one statement; its values, rows, bytes and time are bounded
    a statement that ends the transaction by itself (an interrupted write, ON CONFLICT ROLLBACK) ends the work: nothing
    runs after it, for it would commit on its own

Triggers and views are denied because their bodies are compiled later, by whoever fires them. What fails in a statement
is an EffectError, which fails this request; what fails in the file is kept as `fatal`, and poisons the ledger.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import apsw

from ..errors import EffectError, LedgerError
from ..ports import Event

__all__ = ["LEDGER_TABLES", "RESULT_BYTES_MAX", "ROWS_MAX", "STATEMENT_CHARS_MAX", "VALUE_BYTES_MAX", "Workbench"]

LEDGER_TABLES: Final = frozenset({"records", "fences", "slots"})
ROWS_MAX: Final = 1_000
RESULT_BYTES_MAX: Final = 1024 * 1024
VALUE_BYTES_MAX: Final = 16 * 1024 * 1024
STATEMENT_CHARS_MAX: Final = 1_000_000

_BLANK: Final = " \t\r\n;"
_STEPS_BETWEEN_LOOKS: Final = 1_000  # of SQLite's virtual machine: well below a millisecond
_LEDGER_INDEX: Final = re.compile(rf"sqlite_autoindex_(?:{'|'.join(sorted(LEDGER_TABLES))})_\d+")
_OWN_INDEX: Final = re.compile(r"sqlite_autoindex_.+_\d+")
_SCHEMA: Final = frozenset({"sqlite_master", "sqlite_schema", "sqlite_sequence"})
_INSPECTORS: Final = frozenset({"bytecode", "dbstat", "tables_used"})
_FUNCTIONS_DENIED: Final = frozenset({"load_extension", "fts3_tokenizer"})

# action → which of its first two arguments name a table, an index, a trigger or a view
_NAMED: Final = {
    apsw.SQLITE_READ: (0,),
    apsw.SQLITE_INSERT: (0,),
    apsw.SQLITE_UPDATE: (0,),
    apsw.SQLITE_DELETE: (0,),
    apsw.SQLITE_CREATE_TABLE: (0,),
    apsw.SQLITE_DROP_TABLE: (0,),
    apsw.SQLITE_CREATE_INDEX: (0, 1),
    apsw.SQLITE_DROP_INDEX: (0, 1),
    apsw.SQLITE_REINDEX: (0,),
    apsw.SQLITE_DROP_TRIGGER: (0, 1),
    apsw.SQLITE_DROP_VIEW: (0,),
    apsw.SQLITE_ALTER_TABLE: (1,),
}
# A statement's own failures. Any other error of SQLite is one of the file, the disk or the memory.
_HARMLESS: Final = (
    apsw.AbortError,
    apsw.AuthError,
    apsw.BindingsError,
    apsw.BusyError,
    apsw.ConstraintError,
    apsw.InterruptError,
    apsw.LockedError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.SQLError,
    apsw.SchemaChangeError,
    apsw.TooBigError,
)


def _own(name: str) -> bool:
    """Whether a table or an index of this (lowercase) name is the ledger's or SQLite's, and not to be touched."""
    if name in LEDGER_TABLES or name in _INSPECTORS or _LEDGER_INDEX.fullmatch(name):
        return True
    return name.startswith(("sqlite_", "pragma_")) and name not in _SCHEMA and not _OWN_INDEX.fullmatch(name)


def _may(action: int, first: str | None, second: str | None, database: str | None) -> bool:
    if action in (apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE):
        return True
    if action == apsw.SQLITE_FUNCTION:
        return (second or "").lower() not in _FUNCTIONS_DENIED
    where = first if action == apsw.SQLITE_ALTER_TABLE else database
    if action not in _NAMED or where not in ("main", None):
        return False
    return not any(_own(((first, second)[index] or "").lower()) for index in _NAMED[action])


class Workbench:
    """Runs one piece of work inside a transaction that is open on `connection`. For one use, in the writer's thread.

    Args:
        timeout_s: for all statements together, in seconds.

    Attributes:
        fatal: the error of the file that a statement met, if any: the ledger is then to be poisoned.
    """

    def __init__(self, connection: apsw.Connection, timeout_s: float) -> None:
        self._connection, self._timeout_s = connection, timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._thread = threading.get_ident()
        self._over: EffectError | None = None
        self._open, self._denied = False, ""
        self.fatal: apsw.Error | None = None

    def run(self, work: Callable[[Callable[..., list[tuple[Any, ...]]]], Event]) -> Event:
        """What `work` returns. Raises what it raises, and EffectError if it went on after a statement ended it."""
        connection = self._connection
        length = connection.limit(apsw.SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)
        connection.set_authorizer(self._authorize)
        connection.set_progress_handler(self._expired, _STEPS_BETWEEN_LOOKS)
        self._open = True
        try:
            event = work(self.execute)
        finally:
            self._open = False
            connection.set_progress_handler(None)
            connection.set_authorizer(None)
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, length)
        if self._over is not None:
            raise self._over
        if not isinstance(event, Event):
            raise LedgerError(f"the work of a transaction returned {type(event).__name__}, not an Event to record")
        return event

    def execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; its rows.

        Raises:
            EffectError: permission_denied, sql_error, too_large or timeout; nothing of the statement has happened.
            LedgerError: called outside of its work, or in another thread.
        """
        if not self._open or threading.get_ident() != self._thread:
            raise LedgerError("execute() works only inside the work it was given to, and in its thread")
        if self._over is not None:
            raise self._over
        if self._expired():
            raise self._end("timeout", f"the transaction's {self._timeout_s:g} s were over before a statement")
        self._denied = ""
        try:
            return self._execute(statement, values)
        except apsw.Error as error:
            raise self._failure(error, statement) from error
        except (TypeError, ValueError, OverflowError, KeyError) as error:
            why = f"its values cannot be bound ({type(error).__name__}: {error})"
            raise EffectError("sql_error", f"{_short(statement)}: {why}", applied=False) from error

    def _execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
        if not isinstance(statement, str) or len(statement) > STATEMENT_CHARS_MAX:
            why = f"a statement is a str of at most {STATEMENT_CHARS_MAX} characters"
            raise EffectError("too_large", f"{_short(statement)}: {why}", applied=False)
        if not statement.strip(_BLANK):
            raise EffectError("sql_error", f"{_short(statement)}: there is no statement in it", applied=False)
        begun: list[str] = []

        def trace(_: apsw.Cursor, first: str, __: Any) -> bool:
            rest = statement[len(first) :].strip(_BLANK)
            if rest or begun:
                why = f"one statement at a time, and this text goes on behind the first with {rest[:60]!r}"
                raise EffectError("sql_error", f"{_short(statement)}: {why}", applied=False)
            begun.append(first)
            return True

        cursor = self._connection.cursor()
        cursor.exec_trace = trace
        rows: list[tuple[Any, ...]] = []
        size = 0
        try:
            # Not cached: a plan's statements are not to push out the ledger's own, which stay compiled.
            for row in cursor.execute(statement, values, can_cache=False):
                rows.append(row)
                size += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
                if len(rows) > ROWS_MAX or size > RESULT_BYTES_MAX:
                    bounds = f"{ROWS_MAX} rows and {RESULT_BYTES_MAX} bytes"
                    raise self._end("too_large", f"{_short(statement)}: its result is above {bounds}; add a LIMIT")
        finally:
            cursor.close(True)
        if not self._connection.in_transaction:
            raise self._end("sql_error", f"{_short(statement)}: it ended the ledger's transaction")
        return rows

    def _failure(self, error: apsw.Error, statement: str) -> EffectError:
        what = f"{_short(statement)}: {type(error).__name__}: {str(error)[:300]}"
        if not isinstance(error, _HARMLESS):
            self.fatal = error
            return self._end("sql_error", what)
        if isinstance(error, apsw.InterruptError):
            return self._end("timeout", f"{_short(statement)}: stopped, the transaction has {self._timeout_s:g} s")
        if not self._connection.in_transaction:
            return self._end("sql_error", f"{what}; that rolled back all that was executed")
        if self._denied:
            why = "a plan's statement touches neither the ledger's tables nor the connection, and makes no trigger"
            return EffectError("permission_denied", f"{what} ({self._denied}): {why}", applied=False)
        code = "too_large" if isinstance(error, apsw.TooBigError) else "sql_error"
        return EffectError(code, what, applied=False)

    def _end(self, code: str, message: str) -> EffectError:
        """From here on nothing is executed, whatever `work` makes of the error."""
        self._over = EffectError(code, message, applied=False)
        return self._over

    def _expired(self) -> bool:
        return time.monotonic() >= self._deadline

    def _authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, inner: str | None
    ) -> int:
        if _may(action, first, second, database):
            return apsw.SQLITE_OK
        name = str(apsw.mapping_authorizer_function.get(action, action)).removeprefix("SQLITE_")
        self._denied = " ".join(str(part) for part in (name, first, second, inner and f"by {inner}") if part)[:200]
        return apsw.SQLITE_DENY


def _short(statement: object) -> str:
    text = " ".join(str(statement)[:200].split())
    return repr(text if len(text) <= 80 else text[:79] + "…")
