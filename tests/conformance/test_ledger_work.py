"""Work inside the ledger's transaction: what it may execute, its bounds, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from madflow.errors import EffectError, LedgerError
from madflow.ledger.sqlite import SqliteLedger
from madflow.ports import Appended, Entry, Event, Execute

ENDLESS = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) "


class Clock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with SqliteLedger(tmp_path / "ledger.db", clock=Clock()) as opened:
        opened.seal_now("s", 1, Event("sealed", {}))
        opened.append_now("s", 1, [Entry(Event("noted", {}), "taken")])
        run(opened, lambda execute: execute("CREATE TABLE mine (a INTEGER PRIMARY KEY, b UNIQUE)", ()))
        run(opened, lambda execute: execute("INSERT INTO mine VALUES (1, 1), (2, 2)", ()))
        yield opened


def run(ledger: SqliteLedger, do: Callable[[Execute], Any], *, timeout_s: float = 20) -> Any:
    """What `do` returns, run by `transact` under a free slot; raises what that raises."""

    def work(execute: Execute) -> Event:
        got.append(do(execute))
        return Event("done", {})

    async def transact() -> Any:
        slot = f"slot{len(ledger.read('commit/s'))}"
        return await ledger.transact("s", 1, slot, work, timeout_s=timeout_s)

    got: list[Any] = []
    assert isinstance(asyncio.run(transact()), Appended)
    return got[0]


def one(statement: str, values: Any = ()) -> Callable[[Execute], Any]:
    return lambda execute: execute(statement, values)


def in_spite_of(statement: str) -> Callable[[Execute], None]:
    def do(execute: Execute) -> None:
        with pytest.raises(EffectError):
            execute(statement, ())

    return do


def everything(ledger: SqliteLedger) -> list[Any]:
    connection = apsw.Connection(str(ledger.path))
    tables = ("records", "slots", "fences", "mine", "sqlite_schema")
    rows = [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]
    rows.append((connection.pragma("user_version"), connection.pragma("application_id")))
    connection.close()
    return rows


@pytest.mark.parametrize(
    ("statement", "values", "rows"),
    [
        ("SELECT b FROM mine WHERE a = ?", (2,), [(2,)]),
        ("SELECT b FROM mine WHERE a = :a ;", {"a": 2}, [(2,)]),
        ("INSERT INTO mine(b) VALUES (9) RETURNING a", (), [(3,)]),
        ("INSERT INTO mine VALUES (1, 7) ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING b", (), [(7,)]),
        ("UPDATE mine SET b = 5 WHERE a = 1", [], []),
        ("DELETE FROM mine", (), []),
        ("CREATE TABLE other AS SELECT * FROM mine", (), []),
        ("CREATE TABLE keyed (a TEXT PRIMARY KEY, b ANY UNIQUE) STRICT", (), []),
        ("CREATE INDEX by_b ON mine (b)", (), []),
        ("ALTER TABLE mine ADD COLUMN c DEFAULT 3", (), []),
        ("DROP TABLE mine", (), []),
        ("WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t LIMIT 3) SELECT max(x) FROM t", (), [(3,)]),
        ("SELECT value FROM json_each('[1, 2]') -- two", (), [(1,), (2,)]),
    ],
)
def test_what_an_app_does_to_its_own_tables(ledger: SqliteLedger, statement: str, values: Any, rows: list[Any]) -> None:
    """The positive controls. Catches a denial of all."""
    assert run(ledger, one(statement, values)) == rows
    ledger.verify()


DENIED = """
SELECT * FROM records
SELECT count(*) FROM main.Records
SELECT 1 WHERE EXISTS (SELECT 1 FROM "fences")
WITH r AS (SELECT * FROM slots) SELECT * FROM r
INSERT INTO slots VALUES ('s', 'x', 1)
UPDATE fences SET term = 0
UPDATE records SET payload = NULL
DELETE FROM records
DELETE FROM slots WHERE slot = 'taken'
REPLACE INTO fences VALUES ('s', 9)
INSERT INTO mine(b) SELECT hash FROM records
INSERT INTO mine(b) VALUES ((SELECT max(seq) FROM records))
CREATE TABLE copy AS SELECT * FROM slots
DROP TABLE fences
CREATE INDEX i ON records (kind)
CREATE INDEX i ON records (1 + 1)
CREATE UNIQUE INDEX i ON slots (seq)
ALTER TABLE records RENAME TO older
ALTER TABLE slots ADD COLUMN x
CREATE TABLE IF NOT EXISTS records (a)
CREATE TRIGGER g AFTER INSERT ON records BEGIN DELETE FROM slots; END
CREATE TRIGGER g AFTER INSERT ON mine BEGIN DELETE FROM slots; END
CREATE VIEW v AS SELECT * FROM records
CREATE TEMP TABLE x (a)
CREATE TEMP VIEW records AS SELECT 1
CREATE TEMP TRIGGER g AFTER INSERT ON main.records BEGIN SELECT 1; END
CREATE VIRTUAL TABLE f USING fts5(a)
ATTACH ':memory:' AS other
ATTACH 'other.db' AS other
DETACH main
PRAGMA user_version = 9
PRAGMA user_version
PRAGMA writable_schema = ON
PRAGMA wal_checkpoint
PRAGMA synchronous = OFF
SELECT * FROM pragma_table_info('records')
SELECT * FROM dbstat
BEGIN
COMMIT
END
ROLLBACK
SAVEPOINT x
RELEASE x
ROLLBACK TO x
ANALYZE
REINDEX
REINDEX records
SELECT load_extension('x')
EXPLAIN SELECT * FROM records
"""
# What SQLite or we refuse for what it is, whatever it touches.
REFUSED = """
DROP INDEX sqlite_autoindex_records_1
VACUUM
VACUUM INTO 'other.db'
INSERT INTO sqlite_master VALUES (1, 2, 3, 4, 5)
UPDATE sqlite_schema SET sql = ''
DELETE FROM sqlite_master
SELECT 1; SELECT 2
SELECT 1; DELETE FROM records
INSERT INTO mine VALUES (7, 7); SELECT 1
;
SELEC
SELECT * FROM nowhere
"""


@pytest.mark.parametrize(
    ("code", "statement"),
    [
        *(("permission_denied", statement) for statement in DENIED.strip().splitlines()),
        *(("sql_error", statement) for statement in REFUSED.strip().splitlines()),
    ],
)
def test_what_is_denied(ledger: SqliteLedger, code: str, statement: str) -> None:
    """Every way we know to reach the ledger's tables, the connection or the transaction. Catches an authorizer that is
    not asked, forgets an action or compares names by case; and a denial that leaves something behind.
    """
    before = everything(ledger)
    with pytest.raises(EffectError) as caught:
        run(ledger, one(statement))
    assert caught.value.code == code
    assert caught.value.applied is False
    assert everything(ledger) == before
    run(ledger, in_spite_of(statement))
    assert everything(ledger)[3:] == before[3:], "also where the work goes on"
    assert run(ledger, one("SELECT count(*) FROM mine")) == [(2,)], "the ledger goes on"
    assert ledger.record_now("a", [Event("noted", {})], after=0), "nothing of the denial stays on the connection"
    assert ledger.verify() == 7


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TRIGGER g AFTER INSERT ON mine BEGIN DELETE FROM slots; END",
        "CREATE TRIGGER g AFTER INSERT ON mine BEGIN UPDATE fences SET term = 9; END",
        "CREATE TRIGGER g AFTER INSERT ON mine WHEN (SELECT count(*) FROM records) BEGIN SELECT 1; END",
    ],
)
def test_a_trigger_that_others_made_is_denied_when_it_fires(ledger: SqliteLedger, made: str) -> None:
    """Catches an authorizer that looks at the statement only. A trigger that keeps to its own tables works."""
    connection = apsw.Connection(str(ledger.path))
    connection.execute(made)
    with pytest.raises(EffectError, match="by g") as caught:
        run(ledger, one("INSERT INTO mine(b) VALUES (9)"))
    assert caught.value.code == "permission_denied"
    connection.execute("DROP TRIGGER g")
    connection.execute("CREATE TRIGGER g AFTER INSERT ON mine BEGIN UPDATE mine SET b = 0 WHERE a = 1; END")
    connection.close()
    run(ledger, one("INSERT INTO mine(b) VALUES (9)"))
    assert run(ledger, one("SELECT b FROM mine ORDER BY a")) == [(0,), (2,), (9,)]


def test_a_view_that_others_made_shows_nothing_of_the_ledger(ledger: SqliteLedger) -> None:
    connection = apsw.Connection(str(ledger.path))
    connection.execute("CREATE VIEW v AS SELECT hash FROM records")
    connection.close()
    with pytest.raises(EffectError, match="prohibited"):
        run(ledger, one("SELECT * FROM v"))


@pytest.mark.parametrize(
    ("statement", "values", "code"),
    [
        ("INSERT INTO mine(b) VALUES (?)", (object(),), "sql_error"),
        ("INSERT INTO mine(b) VALUES (?)", (2**70,), "sql_error"),
        ("INSERT INTO mine(b) VALUES (?)", ("\ud800",), "sql_error"),
        ("INSERT INTO mine(b) VALUES (?)", (1, 2), "sql_error"),
        ("INSERT INTO mine(b) VALUES (:b)", {}, "sql_error"),
        ("INSERT INTO mine(b) VALUES (2)", (), "sql_error"),
        ("INSERT INTO mine(b) VALUES (zeroblob(17000000))", (), "too_large"),
        ("SELECT ?", ("x" * 1_100_000,), "too_large"),
        (ENDLESS + "SELECT x FROM t", (), "too_large"),
        (ENDLESS + "SELECT x FROM t LIMIT 1001", (), "too_large"),
        ("SELECT 1" + " " * 1_000_000, (), "too_large"),
    ],
)
def test_values_and_results_are_bounded(ledger: SqliteLedger, statement: str, values: Any, code: str) -> None:
    with pytest.raises(EffectError) as caught:
        run(ledger, one(statement, values))
    assert caught.value.code == code
    assert len(str(caught.value)) < 1000
    assert len(run(ledger, one(ENDLESS + "SELECT x FROM t LIMIT 1000"))) == 1000


@pytest.mark.parametrize(
    "statement", [ENDLESS + "SELECT count(*) FROM t", ENDLESS + "INSERT INTO mine SELECT x + 9, x + 9 FROM t"]
)
@pytest.mark.parametrize("caught", [False, True])
def test_time_is_bounded(ledger: SqliteLedger, statement: str, caught: bool) -> None:
    """Catches a statement that holds the ledger for ever, one that poisons it, and work that goes on after the
    interruption: SQLite has rolled back by then, and what follows would be committed without its record.
    """

    def do(execute: Execute) -> None:
        execute("INSERT INTO mine(b) VALUES ('before')", ())
        if not caught:
            execute(statement, ())
        with contextlib.suppress(EffectError):
            execute(statement, ())
        with contextlib.suppress(EffectError):
            execute("INSERT INTO mine(b) VALUES ('after')", ())

    with pytest.raises(EffectError) as stopped:
        run(ledger, do, timeout_s=0.1)
    assert stopped.value.code == "timeout"
    records = ledger.record_now("a", [Event("noted", {})] * 1500, after=0)
    assert len(records) == 1500, "the ledger's own writes know no such bound"
    assert run(ledger, one("SELECT count(*) FROM mine")) == [(2,)]
    ledger.verify()


def test_a_statement_that_rolls_back_ends_the_work(ledger: SqliteLedger) -> None:
    """Catches statements that run outside of the transaction, and commit by themselves."""

    def do(execute: Execute) -> None:
        execute("INSERT INTO mine(b) VALUES ('before')", ())
        for statement in ("INSERT OR ROLLBACK INTO mine VALUES (1, 1)", "INSERT INTO mine(b) VALUES ('after')"):
            with contextlib.suppress(EffectError):
                execute(statement, ())

    with pytest.raises(EffectError, match="rolled back all"):
        run(ledger, do)
    assert run(ledger, one("SELECT count(*) FROM mine")) == [(2,)]


def test_a_statement_that_fails_alone_may_be_caught(ledger: SqliteLedger) -> None:
    """A failed statement leaves nothing of itself, and work may go on. Catches a failure that takes all with it."""

    def do(execute: Execute) -> None:
        execute("INSERT INTO mine(b) VALUES ('before')", ())
        for statement in ("INSERT INTO mine VALUES (8, 8), (1, 1)", "SELECT * FROM records"):
            with contextlib.suppress(EffectError):
                execute(statement, ())
        execute("INSERT INTO mine(b) VALUES ('after')", ())

    run(ledger, do)
    assert run(ledger, one("SELECT b FROM mine WHERE a > 2")) == [("before",), ("after",)]


def test_execute_is_for_its_work_alone(ledger: SqliteLedger) -> None:
    """Catches an `execute` that is kept, or handed to another thread; and work that waits for its own thread."""
    kept: list[Execute] = []
    run(ledger, kept.append)
    with pytest.raises(LedgerError, match="only inside the work"):
        kept[0]("SELECT 1", ())
    with pytest.raises(LedgerError, match="only inside the work"):
        run(ledger, lambda _: kept[0]("SELECT 1", ()))

    def elsewhere(execute: Execute) -> list[str]:
        said: list[str] = []

        def call() -> None:
            try:
                execute("SELECT 1", ())
            except LedgerError as error:
                said.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return said

    assert "in its thread" in run(ledger, elsewhere)[0]
    for write in (
        lambda _: ledger.record_now("a", [Event("noted", {})], after=0),
        lambda _: ledger.append_now("s", 1, [Entry(Event("noted", {}))]),
    ):
        with pytest.raises(LedgerError, match="must not write by itself"):
            run(ledger, write)


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_a_time_without_bound_is_refused(ledger: SqliteLedger, timeout_s: float) -> None:
    with pytest.raises(LedgerError, match="must be above 0, and bounded"):
        run(ledger, one("SELECT 1"), timeout_s=timeout_s)


def test_what_is_compiled_for_the_ledger_does_not_serve_work(ledger: SqliteLedger) -> None:
    """Catches a cached statement: the writer's own query, by its very text, past the authorizer."""
    for statement in (
        "SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1",
        "SELECT term FROM fences WHERE scope = ?",
    ):
        with pytest.raises(EffectError, match="READ"):
            run(ledger, one(statement, ("s",) if "?" in statement else ()))
    ledger.append_now("s", 1, [Entry(Event("noted", {}), "x")])
