"""One SQL statement: in the ledger's own transaction, or in a database of the policy's, under a key kept there.

`db:ledger` is `ports.TransactionalEffect`: `work` gives what the ledger runs in the transaction that also records the
outcome. So there is nothing to probe: were it done, the outcome would be there.

Any other `db:NAME` is a SQLite file beneath the root that the policy names. The statement and its key are committed
together, in a table of that file (`madflow_keys`), with the result:

    the key is there       done: the stored result is the answer, whoever asks, however often
    the key is not there   the statement runs in a transaction of its own; what fails in it leaves nothing

Which file `db:NAME` is gets settled once: the intent stores its path and its inode number, and every attempt, probe and
undo goes there, whatever the policy names by then. A file that has been put in the place of that one is not it: the key
would be looked up where it cannot be, and the statement run twice. A human has to say what became of it.

A commit that failed is looked up by its key in a new connection, so that its fate is known. The statement comes from a
plan and is hostile: an authorizer denies it other databases, pragmas, transaction control, virtual tables and
`madflow_keys`; it is one statement, and its time and its result are bounded. The file is reached without following
symbolic links, and is never madflow's: no ledger (by its application id, whatever it is called or linked as) and
nothing that lies beside the ledger. It is opened by SQLite alone, never by a descriptor of ours, and by one step of the
process at a time: closing a descriptor drops the locks of whoever has the file open in this process (see `held`). For
the same reason a host must not open it with another SQLite library (Python's sqlite3) in the process that runs madflow.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

import apsw

from ..core.canonical import INTEGER_MAX
from ..core.plan import LEDGER_DATABASE, SqlStep
from ..core.saga import Absent, Done, Failed, Uncertain
from ..errors import EffectError
from ..held import find_held, turn
from ..ports import EffectContext, Execute
from .fence import TimeLimit, holding, in_thread, settled
from .steps import check_allowed, no_undo, parsed, wrong_kind
from .walk import checked_parts, naming, open_dir, refusal

__all__ = ["LEDGER_APPLICATION_ID", "RESULT_CHARS_MAX", "ROWS_MAX", "SqlEffect"]

LEDGER_APPLICATION_ID: Final = 0x6D616466
"""What the header of a ledger's file says it is."""
ROWS_MAX: Final = 1_000
RESULT_CHARS_MAX: Final = 64 * 1024
"""Of the rows as JSON."""
_VALUE_BYTES_MAX: Final = 16 * 1024 * 1024
_STEPS_BETWEEN_LOOKS: Final = 1_000
_MARGIN: Final = 0.9
"""The part of the time a statement may take; the rest is for the commit, and for being the one who tells."""
_KEYS: Final = "madflow_keys"
_NOTHING: Final = re.compile(r"(?>\s++|;|--[^\n]*+|/\*.*?\*/)*+", re.DOTALL)
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS madflow_keys (key TEXT PRIMARY KEY NOT NULL, result TEXT) STRICT, WITHOUT ROWID"
)
_DENIED: Final = frozenset(
    {
        apsw.SQLITE_ATTACH,
        apsw.SQLITE_CREATE_VTABLE,
        apsw.SQLITE_DETACH,
        apsw.SQLITE_DROP_VTABLE,
        apsw.SQLITE_PRAGMA,
        apsw.SQLITE_SAVEPOINT,
        apsw.SQLITE_TRANSACTION,
    }
)


class SqlEffect:
    """`ports.Effect` and `ports.TransactionalEffect` for the step `sql`.

    Args:
        protected: paths beneath the root that are never a step's: the policy file, the ledger.
    """

    def __init__(self, *, protected: Iterable[str] = ()) -> None:
        self._protected = frozenset(protected)

    async def prepare(self, step: Mapping[str, Any], ctx: EffectContext) -> Mapping[str, Any] | Failed:
        """Permission and database are checked. Stored is which file it is: {"path": beneath the root, "inode": its
        number}; nothing for db:ledger."""

        def check(limit: TimeLimit) -> Mapping[str, Any]:
            sql = _checked(step, ctx)
            _statement(sql, ctx)
            return {} if _in_ledger(sql) else self._named(sql, ctx, limit)

        return await in_thread(check, ctx.timeout_s)

    async def do(self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext) -> Done | Failed:
        """Run the statement, or its undo, once under its key. A step of the ledger's database goes by `work`."""

        def do(limit: TimeLimit) -> Done | Failed:
            sql = _checked(step, ctx)
            if _in_ledger(sql):
                return Failed("transactional", "a step of db:ledger runs in the ledger's transaction", applied=False)
            with holding(ctx, limit):
                path = self._stored(facts, ctx)
                return Done(_keyed(path, *_statement(sql, ctx), ctx.key, limit))

        return await in_thread(do, ctx.timeout_s)

    async def probe(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Done | Absent | Uncertain:
        """Look the key up. While an earlier attempt is under way nobody can tell."""

        def probe(limit: TimeLimit) -> Done | Absent:
            sql = _sql(step)
            if _in_ledger(sql):
                return Absent()
            with holding(ctx, limit):
                found = _look_up(self._stored(facts, ctx), ctx.key, limit)
            return Absent() if found is None else Done(found)

        found = await in_thread(probe, ctx.timeout_s)
        return Uncertain(f"{found.code}: {found.message}") if isinstance(found, Failed) else found

    async def settled(self, step: Mapping[str, Any], ctx: EffectContext) -> bool:
        """Whether no attempt is under way, and none of an earlier term can begin; the ledger fences its own."""
        try:
            return _in_ledger(_sql(step)) or await settled(ctx)
        except EffectError:
            return False

    def work(
        self, step: Mapping[str, Any], facts: Mapping[str, Any], ctx: EffectContext
    ) -> Callable[[Execute], Mapping[str, Any]]:
        """What to run in the ledger's transaction. Raises EffectError, as what it returns does."""
        sql = _checked(step, ctx)
        if not _in_ledger(sql):
            raise EffectError("bad_step", f"{sql.target} is not the ledger's database; use do()", applied=False)
        statement, values = _statement(sql, ctx)

        def run(execute: Execute) -> Mapping[str, Any]:
            return {"rows": _plain(execute(statement, values))}

        return run

    def _named(self, step: SqlStep, ctx: EffectContext, limit: TimeLimit) -> dict[str, Any]:
        """The database that the policy names now, as `prepare` stores it."""
        name = step.target.removeprefix("db:")
        path = ctx.policy.databases.get(name)
        if path is None:
            raise EffectError("unknown_database", f"the policy's [databases] name no {name!r}", applied=False)
        real, inode = _database(path, ctx, self._protected)
        with _connected(real, limit):
            return {"path": path, "inode": inode}

    def _stored(self, facts: Mapping[str, Any], ctx: EffectContext) -> str:
        """The absolute path of the database that the intent stored. Raises EffectError where it is another file now."""
        if not isinstance(facts.get("path"), str):
            raise EffectError("no_facts", "the intent does not say which database it is", applied=False)
        path, inode = _database(facts["path"], ctx, self._protected)
        if inode != facts.get("inode"):
            why = f"is another file (inode {inode}) than the one the step was begun for ({facts.get('inode')})"
            raise refusal("database_changed", facts["path"], f"{why}; put that one back, or resolve the step by hand")
        return path


def _sql(step: Mapping[str, Any]) -> SqlStep:
    sql = parsed(step)
    if not isinstance(sql, SqlStep):
        raise wrong_kind("SqlEffect", "sql", sql)
    return sql


def _checked(step: Mapping[str, Any], ctx: EffectContext) -> SqlStep:
    sql = _sql(step)
    check_allowed(sql, ctx)
    return sql


def _in_ledger(step: SqlStep) -> bool:
    return step.target == f"db:{LEDGER_DATABASE}"


def _statement(step: SqlStep, ctx: EffectContext) -> tuple[str, Sequence[Any]]:
    if ctx.direction == "do":
        return step.statement, step.params
    if step.undo is None:
        raise no_undo()
    return step.undo, step.undo_params


def _database(relative: str, ctx: EffectContext, protected: Iterable[str]) -> tuple[str, int]:
    """Absolute path and inode number of a database, looked at without following symbolic links. Raises EffectError."""
    *parts, last = checked_parts(relative, protected)
    with open_dir(ctx.root, parts) as folder:
        if folder is None:
            raise refusal("no_such_database", relative, "is not there; create it first")
        with naming(relative):
            try:
                state = os.stat(last, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError as error:
                raise refusal("no_such_database", relative, "is not there; create it first") from error
            _check_file(state, folder, relative, ctx)
    return f"{os.path.realpath(ctx.root)}/{relative}", state.st_ino


def _check_file(state: os.stat_result, folder: int, path: str, ctx: EffectContext) -> None:
    """Look at a file that must not be opened but by SQLite: a descriptor of ours, closed, drops SQLite's locks."""
    if not stat.S_ISREG(state.st_mode):
        raise refusal("bad_database", path, "is no regular file; symbolic links are not followed")
    held = find_held(state, folder, path.rpartition("/")[2])
    own = held is not None and held.kind == "database" and held.inode == (state.st_dev, state.st_ino)
    if held is not None and not own:
        raise refusal("held", path, f"is {held.path}, a {held.kind} that this process has open, or a file beside it")
    beside = ctx.run_dir.parent
    if beside.exists() and not beside.samefile(ctx.root):
        for entry in beside.iterdir():
            if os.path.samestat(entry.lstat(), state):
                raise refusal("protected", path, f"is {entry.name!r} beside the ledger")
    if state.st_nlink > 1:
        why = f"has {state.st_nlink} names (hard links), and SQLite would miss the log of the others; leave it one"
        raise refusal("bad_database", path, why)


@contextmanager
def _connected(path: str, limit: TimeLimit) -> Iterator[apsw.Connection]:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
    limit.check()
    stop_at = limit.left_s * (1 - _MARGIN)
    try:
        with naming(path), turn(path, limit.left_s / 2), closing(apsw.Connection(path, flags=flags)) as connection:
            connection.set_busy_timeout(max(1, int(limit.left_s * 500)))
            connection.set_progress_handler(lambda: limit.left_s <= stop_at, _STEPS_BETWEEN_LOOKS)
            connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
            connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
            connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, _VALUE_BYTES_MAX)
            connection.pragma("synchronous", "EXTRA")
            if connection.pragma("application_id") == LEDGER_APPLICATION_ID:
                raise refusal("protected", path, "is a ledger of madflow")
            yield connection
    except apsw.NotADBError as error:
        raise refusal("bad_database", path, "is no SQLite database") from error
    except apsw.Error as error:
        raise _as_effect_error(error) from error


def _as_effect_error(error: Exception) -> EffectError:
    """Nothing of the transaction has happened."""
    what = f"{type(error).__name__}: {str(error)[:400]}"
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return EffectError("busy", f"another holds the database: {what}", transient=True, applied=False)
    if isinstance(error, apsw.InterruptError):
        return EffectError(
            "timeout", f"the statement was stopped at its deadline: {what}", transient=True, applied=False
        )
    if isinstance(error, apsw.AuthError):
        why = "a statement touches its own database alone, and neither madflow_keys nor the transaction"
        return EffectError("permission_denied", f"{what}: {why}", applied=False)
    return EffectError("sql_error", what, applied=False)


def _look_up(path: str, key: str, limit: TimeLimit) -> dict[str, Any] | None:
    with _connected(path, limit) as connection:
        return _stored(connection, key)


def _stored(connection: apsw.Connection, key: str) -> dict[str, Any] | None:
    if connection.table_exists("main", _KEYS):
        for (result,) in connection.execute("SELECT result FROM main.madflow_keys WHERE key = ?", (key,)):
            return dict(json.loads(result))
    return None


def _keyed(path: str, statement: str, values: Sequence[Any], key: str, limit: TimeLimit) -> dict[str, Any]:
    """The statement's result, of this run or of the one that committed the key."""
    with _connected(path, limit) as connection:
        connection.execute("BEGIN IMMEDIATE")
        stored = _stored(connection, key)
        if stored is not None:
            return stored
        connection.execute(_TABLE)
        result = _run(connection, statement, values)
        connection.execute("INSERT INTO main.madflow_keys VALUES (?, ?)", (key, json.dumps(result)))
        limit.check()
        connection.set_progress_handler(None)
        try:
            connection.execute("COMMIT")
        except apsw.Error as error:
            unfinished = error
        else:
            return result
    return _after_failed_commit(path, key, limit, unfinished)


def _after_failed_commit(path: str, key: str, limit: TimeLimit, error: apsw.Error) -> dict[str, Any]:
    """What a new connection finds. The one that failed is closed, and what it had not committed is rolled back."""
    try:
        stored = _look_up(path, key, limit)
    except EffectError as unreadable:
        what = f"the commit failed ({error}), and its key cannot be looked up ({unreadable})"
        raise EffectError("commit_unknown", what, transient=True, applied=None) from error
    if stored is None:
        raise _as_effect_error(error) from error
    return stored


def _run(connection: apsw.Connection, statement: str, values: Sequence[Any]) -> dict[str, Any]:
    """Run the one statement under the authorizer, in the open transaction."""
    if _NOTHING.fullmatch(statement):
        raise EffectError("sql_error", f"there is no statement in {statement[:80]!r}", applied=False)
    before = connection.total_changes()
    begun: list[str] = []

    def trace(_: apsw.Cursor, first: str, __: Any) -> bool:
        rest = statement[len(first) :].strip(" \t\r\n;")
        if rest or begun:
            raise EffectError("sql_error", f"one statement a step; this goes on with {rest[:60]!r}", applied=False)
        begun.append(first)
        return True

    rows: list[tuple[Any, ...]] = []
    connection.set_authorizer(_authorize)
    cursor = connection.cursor()
    cursor.exec_trace = trace
    try:
        for row in cursor.execute(statement, values, can_cache=False):
            rows.append(row)
            if len(rows) > ROWS_MAX:
                break
        plain = _plain(rows)
    except (TypeError, ValueError, OverflowError) as error:
        raise EffectError("sql_error", f"{type(error).__name__}: {str(error)[:400]}", applied=False) from error
    finally:
        cursor.close(True)
        connection.set_authorizer(None)
    if not connection.in_transaction:
        raise EffectError("sql_error", f"{statement[:80]!r} ended the transaction", applied=False)
    return {"rows": plain, "rowcount": connection.total_changes() - before}


def _authorize(action: int, first: str | None, second: str | None, database: str | None, inner: str | None) -> int:
    names = [(name or "").casefold() for name in (first, second)]
    if action in _DENIED or any(_KEYS in name for name in names):
        return apsw.SQLITE_DENY
    if action == apsw.SQLITE_FUNCTION and names[1] in ("load_extension", "fts3_tokenizer"):
        return apsw.SQLITE_DENY
    return apsw.SQLITE_OK


def _plain(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows as plain JSON, within the bounds."""
    plain = [[_value(value) for value in row] for row in rows[: ROWS_MAX + 1]]
    if len(plain) > ROWS_MAX or len(json.dumps(plain)) > RESULT_CHARS_MAX:
        bounds = f"{ROWS_MAX} rows and {RESULT_CHARS_MAX} characters"
        raise EffectError("too_large", f"the result is above {bounds}; add a LIMIT, or name columns", applied=False)
    return plain


def _value(value: Any) -> Any:
    """A value as JSON holds it: bytes as a SQL literal, and numbers that JSON cannot hold exactly as text."""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, float) and (not math.isfinite(value) or abs(value) > INTEGER_MAX):
        return repr(value)
    if isinstance(value, int) and abs(value) > INTEGER_MAX:
        return str(value)
    return value
