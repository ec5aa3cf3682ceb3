"""Statements under a key, in databases of their own and in the ledger's transaction."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from effect_worlds import context, kill, own_locks, submitter, until

from madflow.clock import SystemClock
from madflow.core.policy import Policy
from madflow.core.saga import Absent, Done, Failed, Uncertain
from madflow.effects.sql import LEDGER_APPLICATION_ID, SqlEffect
from madflow.errors import EffectError
from madflow.ledger.sqlite import open_ledger
from madflow.ports import Appended, EffectContext, Event, Execute
from madflow.testing.effect_suite import EffectSuite

EFFECT = SqlEffect()
POLICY = Policy.model_validate(
    {"allow": [{"step": ["sql"], "databases": ["app", "ledger"]}], "databases": {"app": "data/app.db"}}
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    with apsw.Connection(str(tmp_path / "data" / "app.db")) as db:
        db.execute("CREATE TABLE t (a UNIQUE ON CONFLICT ABORT, b)")
    return tmp_path


def ctx(root: Path, **more: Any) -> EffectContext:
    return context(root, **{"policy": POLICY, **more})


def step(statement: str, *params: Any, **more: Any) -> dict[str, Any]:
    return {"step": "sql", "target": "db:app", "statement": statement, "params": list(params), **more}


def rows(root: Path, query: str = "SELECT a FROM t ORDER BY 1") -> list[Any]:
    db = apsw.Connection(str(root / "data" / "app.db"))
    try:
        return [row[0] if len(row) == 1 else row for row in db.execute(query)]
    finally:
        db.close()


def there(name: str) -> bool:
    return Path(name).exists()


async def do(root: Path, told: dict[str, Any], **more: Any) -> Done | Failed:
    """Prepare, then do; only the first is asked about the policy's databases."""
    facts = await EFFECT.prepare(told, ctx(root, **{**more, "timeout_s": 20.0}))
    return facts if isinstance(facts, Failed) else await EFFECT.do(told, facts, ctx(root, **more))


def facts(root: Path) -> dict[str, Any]:
    """What `prepare` stores of db:app."""
    return {"path": "data/app.db", "inode": (root / "data" / "app.db").stat().st_ino}


class SqlWorld:
    """A table that gets a row."""

    def __init__(self, root: Path) -> None:
        self.root, self.run_dir, self.policy = root, root / ".madflow" / "run", POLICY
        self.step = step("INSERT INTO t VALUES (1, 'x')", undo="DELETE FROM t WHERE a = ?", undo_params=[1])

    def effect(self) -> SqlEffect:
        return SqlEffect()

    def state(self) -> list[Any]:
        return rows(self.root)

    def interfere(self) -> None:
        raise NotImplementedError("a statement has no precondition but its own")


class TestSqlSuite(EffectSuite):
    """What every effect has to hold."""

    lacks = frozenset({"conflict"})

    @pytest.fixture
    def world(self, root: Path) -> SqlWorld:
        return SqlWorld(root)


async def test_the_stored_result_is_the_answer(root: Path) -> None:
    """Catches a second run, and an answer that differs from the first, though the table has changed since."""
    told = step("INSERT INTO t VALUES (?, ?), (2, NULL) RETURNING a, b, x'00ff', 9e999, 9007199254740993", 1, "ü")
    first = await do(root, told)
    assert isinstance(first, Done)
    tail = ["x'00ff'", "inf", "9007199254740993"]
    assert first.result == {"rows": [[1, "ü", *tail], [2, None, *tail]], "rowcount": 2}
    assert isinstance(await do(root, step("DELETE FROM t"), key="other"), Done)
    assert await do(root, told, attempt=2) == first
    assert await EFFECT.probe(told, facts(root), ctx(root)) == first and rows(root) == []


async def test_what_fails_leaves_nothing(root: Path) -> None:
    """Catches half a statement, or the key of a failed one, that is kept."""
    await do(root, step("INSERT INTO t VALUES (1, 1)"), key="before")
    for told in (
        step("INSERT INTO t VALUES (2, 2), (1, 1)"),
        step("INSERT OR FAIL INTO t VALUES (2, 2), (1, 1)"),
        step("INSERT OR ROLLBACK INTO t VALUES (2, 2), (1, 1)"),
        step("INSERT INTO nowhere VALUES (1)"),
        step("INSERT INTO t VALUES (?)"),
        step("not sql"),
        step("-- nothing"),
        step(" ; /* nothing */" + "/**/" * 10_000 + "-- at all"),
        step("/**/" * 10_000 + "/*"),
        step("INSERT INTO t VALUES (?, 1)", 2**70),
        step("INSERT INTO t VALUES (5, CAST(x'ff' AS TEXT)) RETURNING b"),
    ):
        failed = await do(root, told)
        assert isinstance(failed, Failed), told
        assert (failed.code, failed.applied, failed.transient) == ("sql_error", False, False), failed
        assert rows(root) == [1] and await EFFECT.probe(told, facts(root), ctx(root)) == Absent()


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO t VALUES (1, 1); DELETE FROM t", "SELECT 1; SELECT 2", "SELECT 1; -- more", "SELECT 1;\0DELETE"],
)
async def test_one_statement(root: Path, statement: str) -> None:
    """Catches a second statement behind the first; one semicolon at the end is fine."""
    failed = await do(root, step(statement))
    assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("sql_error", False)
    assert rows(root) == [] and isinstance(await do(root, step("SELECT ';' ; ")), Done)


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH 'other.db' AS other",
        "DETACH main",
        "PRAGMA user_version = 5",
        "SELECT * FROM pragma_table_info('t')",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "VACUUM INTO 'other.db'",
        "VACUUM",
        "CREATE VIRTUAL TABLE v USING fts5(x)",
        "DELETE FROM madflow_keys",
        "SELECT * FROM Madflow_Keys",
        "INSERT INTO madflow_keys VALUES ('k', '{}')",
        "DROP TABLE madflow_keys",
        "ALTER TABLE madflow_keys RENAME TO gone",
        "CREATE TRIGGER steal AFTER INSERT ON madflow_keys BEGIN DELETE FROM t; END",
        "CREATE INDEX i ON madflow_keys (result)",
        "UPDATE sqlite_master SET sql = 'x'",
        "INSERT INTO sqlite_dbpage VALUES (1, x'00', 'main')",
        "SELECT load_extension('x')",
    ],
)
async def test_what_a_statement_may_not(root: Path, statement: str) -> None:
    """Catches a statement that leaves its database or its transaction, or that touches the keys."""
    await do(root, step("INSERT INTO t VALUES (1, 1)"), key="before")
    failed = await do(root, step(statement))
    assert isinstance(failed, Failed) and failed.code in ("permission_denied", "sql_error"), failed
    assert failed.applied is False and rows(root) == [1]
    assert rows(root, "SELECT key FROM madflow_keys") == ["before"] and not there("other.db")
    assert isinstance(await do(root, step("CREATE TRIGGER fine AFTER INSERT ON t BEGIN SELECT 1; END")), Done)


async def test_a_trigger_does_not_reach_the_keys(root: Path) -> None:
    """Catches a statement that does later, by a trigger, what it may not do itself."""
    trigger = "CREATE TRIGGER late AFTER INSERT ON t BEGIN DELETE FROM madflow_keys; END"
    made = await do(root, step(trigger), key="trigger")
    failed = await do(root, step("INSERT INTO t VALUES (1, 1)"), key="fire")
    assert isinstance(failed, Failed) and failed.applied is False, (made, failed)
    assert rows(root) == [] and "fire" not in rows(root, "SELECT key FROM madflow_keys")


async def test_bounds(root: Path) -> None:
    """Catches a statement without an end, and a result that fills the ledger."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    slow = await do(root, step(endless + "INSERT INTO t SELECT max(i), 0 FROM n"), timeout_s=0.3)
    assert isinstance(slow, Failed) and (slow.code, slow.applied, slow.transient) == ("timeout", False, True), slow
    for big in (endless + "SELECT i FROM n", "SELECT hex(zeroblob(100000))"):
        failed = await do(root, step(big))
        assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("too_large", False), failed
    assert isinstance(await do(root, step(endless + "SELECT i FROM n LIMIT 1000")), Done)


async def test_a_busy_database(root: Path) -> None:
    """Catches a wait without an end for another's lock, or one that is taken for a failure for good."""
    other = apsw.Connection(str(root / "data" / "app.db"))
    other.execute("BEGIN EXCLUSIVE")
    failed = await do(root, step("INSERT INTO t VALUES (1, 1)"), timeout_s=0.4)
    assert isinstance(failed, Failed) and (failed.code, failed.applied, failed.transient) == ("busy", False, True)
    other.execute("COMMIT")
    other.close()
    assert isinstance(await do(root, step("INSERT INTO t VALUES (1, 1)")), Done)


async def test_a_commit_that_fails(root: Path) -> None:
    """Catches a failed commit whose fate is guessed: a reader keeps SQLite from committing (no WAL), and leaves."""
    reader = apsw.Connection(str(root / "data" / "app.db"))
    cursor = reader.execute("SELECT 1 FROM sqlite_master")
    failed = await do(root, step("INSERT INTO t VALUES (1, 1)"), timeout_s=0.4)
    assert isinstance(failed, Failed) and (failed.code, failed.applied, failed.transient) == ("busy", False, True)
    cursor.close()
    reader.close()
    assert rows(root) == [] and isinstance(await do(root, step("INSERT INTO t VALUES (1, 1)")), Done)


async def test_files_that_are_no_database_of_a_step(root: Path) -> None:
    """Catches the ledger behind another name, a symbolic link, a file that is made by looking for it, and a look that
    opens and closes the ledger's file, which drops SQLite's locks on it."""
    told = step("CREATE TABLE mine (a)")
    (root / ".madflow" / "run").mkdir(parents=True)
    ledger = open_ledger(root / ".madflow" / "ledger.db", clock=SystemClock())
    await ledger.record("s", [Event("k", {})], after=0)
    os.link(root / ".madflow" / "ledger.db", root / "data" / "hard.db")
    os.link(root / ".madflow" / "ledger.db-shm", root / "data" / "hard-shm.db")
    apsw.Connection(str(root / "data" / "one-name.db")).execute("CREATE TABLE x (a)")
    os.link(root / "data" / "one-name.db", root / "data" / "two-names.db")
    apsw.Connection(str(root / ".madflow" / "other.db")).execute("CREATE TABLE x (a)")
    os.link(root / ".madflow" / "other.db", root / "data" / "other.db")
    (root / "data" / "soft.db").symlink_to(root / "data" / "app.db")
    (root / "linked").symlink_to(root / "data")
    (root / "data" / "text.db").write_text("no database at all" * 100)
    open_ledger(root / "data" / "elsewhere.db", clock=SystemClock()).close()
    held = own_locks()
    for path, code in (
        ("data/elsewhere.db", "protected"),
        ("data/hard.db", "held"),
        ("data/hard-shm.db", "held"),
        ("data/two-names.db", "bad_database"),
        ("data/other.db", "protected"),
        (".madflow/ledger.db", "protected"),
        ("data/soft.db", "bad_database"),
        ("linked/app.db", "symlink"),
        ("data/missing.db", "no_such_database"),
        ("missing/app.db", "no_such_database"),
        ("data/text.db", "bad_database"),
        ("data", "bad_database"),
        ("../app.db", "bad_path"),
    ):
        policy = POLICY.model_copy(update={"databases": {"app": path}})
        # As an intent would have it that was stored when this was allowed.
        begun = {"path": path, "inode": (root / path).lstat().st_ino if (root / path).exists() else 0}
        for failed in (
            await EFFECT.do(told, begun, ctx(root)),
            await EFFECT.prepare(told, ctx(root, policy=policy)),
        ):
            assert isinstance(failed, Failed) and (failed.code, failed.applied) == (code, False), (path, failed)
            assert own_locks() == held and held, path
    assert not (root / "data" / "missing.db").exists()
    ledger.close()
    for policy in (POLICY.model_copy(update={"databases": {}}), Policy()):
        failed = await do(root, told, policy=policy)
        assert isinstance(failed, Failed) and failed.code in ("unknown_database", "permission_denied")
    (root / "data" / "empty.db").touch()
    policy = POLICY.model_copy(update={"databases": {"app": "data/empty.db"}})
    assert isinstance(await do(root, told, policy=policy), Done)


async def test_preparing_a_step_leaves_the_transaction_of_another_its_locks(root: Path) -> None:
    """Catches a look at the database that drops the locks of the statement that runs in it: another program writes."""
    endless = "INSERT INTO t WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT i, i FROM c"
    known = await EFFECT.prepare(step(endless), ctx(root))
    assert not isinstance(known, Failed)
    slow = asyncio.create_task(EFFECT.do(step(endless), known, ctx(root, timeout_s=2.0)))
    await asyncio.to_thread(until, lambda: bool(own_locks()))
    refused = await EFFECT.prepare(step("INSERT INTO t VALUES (2, 2)"), ctx(root, key="other", timeout_s=0.2))
    assert isinstance(refused, Failed) and (refused.code, refused.transient) == ("busy", True)
    told = f"import sqlite3; sqlite3.connect({str(root / 'data' / 'app.db')!r}, timeout=0).execute('DELETE FROM t')"
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", told, stderr=asyncio.subprocess.PIPE)
    assert b"locked" in (await other.communicate())[1]
    assert own_locks() and not slow.done()
    stopped = await slow
    assert isinstance(stopped, Failed) and stopped.code == "timeout" and rows(root) == []


def test_the_ledger_is_known_by_its_number(tmp_path: Path) -> None:
    """Catches a ledger that calls itself something else one day."""
    open_ledger(tmp_path / "ledger.db", clock=SystemClock()).close()
    header = (tmp_path / "ledger.db").read_bytes()[:100]
    assert int.from_bytes(header[68:72], "big") == LEDGER_APPLICATION_ID


async def test_in_the_ledgers_transaction(root: Path) -> None:
    """Catches a statement whose fate is not its record's, and one that reaches the ledger's own tables."""
    ledger = open_ledger(root / "ledger.db", clock=SystemClock())
    try:
        await ledger.seal("s", 1, Event("term_sealed", {}))

        async def commit(statement: str, slot: str, *params: Any) -> Any:
            told = step(statement, *params, target="db:ledger")
            work = EFFECT.work(told, {}, ctx(root))
            record: Callable[[Execute], Event] = lambda execute: Event("outcome", dict(work(execute)))  # noqa: E731
            return await ledger.transact("s", 1, slot, record, timeout_s=5.0)

        await commit("CREATE TABLE mine (a)", "one")
        added = await commit("INSERT INTO mine VALUES (?) RETURNING a, x'01'", "two", 7)
        assert isinstance(added, Appended) and added.records[0].payload == {"rows": [[7, "x'01'"]]}
        for wrong in ("DELETE FROM records", "SELECT * FROM slots", "INSERT INTO mine VALUES (8); SELECT 1", "no sql"):
            with pytest.raises(EffectError):
                await commit(wrong, "three")
        with pytest.raises(EffectError, match="above"):
            await commit("INSERT INTO mine SELECT 9 RETURNING hex(zeroblob(100000))", "three")
        left = await commit("SELECT a FROM mine", "three")
        assert isinstance(left, Appended) and left.records[0].payload == {"rows": [[7]]}
    finally:
        ledger.close()


async def test_what_is_only_the_ledgers(root: Path) -> None:
    """Catches a step of the ledger's database that is done outside its transaction, and the other way round."""
    told = step("SELECT 1", target="db:ledger")
    failed = await EFFECT.do(told, {}, ctx(root))
    assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("transactional", False)
    assert await EFFECT.prepare(told, ctx(root)) == {} and await EFFECT.probe(told, {}, ctx(root)) == Absent()
    assert await EFFECT.settled(told, ctx(root))
    for wrong, more in ((step("SELECT 1"), {}), (told, {"policy": Policy()}), (told, {"direction": "undo"})):
        with pytest.raises(EffectError):
            EFFECT.work(wrong, {}, ctx(root, **more))


async def test_a_key_whose_table_is_another(root: Path) -> None:
    """Catches a table of the same name that is trusted; the probe cannot tell then."""
    db = apsw.Connection(str(root / "data" / "app.db"))
    db.execute("CREATE TABLE madflow_keys (x)")
    db.close()
    failed = await do(root, step("INSERT INTO t VALUES (1, 1)"))
    assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("sql_error", False)
    assert isinstance(await EFFECT.probe(step("SELECT 1"), facts(root), ctx(root)), Uncertain) and rows(root) == []


def test_a_submitter_killed_while_it_writes(root: Path) -> None:
    """Catches an effect without its key, a key without its effect, and a successor that does it again."""
    told = step("INSERT INTO t SELECT coalesce(max(a), 0) + 1, 0 FROM t")
    for number in range(12):
        key = f"key-{number}"
        with submitter(lambda key=key: EFFECT.do(told, facts(root), ctx(root, key=key))) as pid:
            signal.sigtimedwait([], number * 0.002)
            kill(pid)
        settled = ctx(root, key=key, term=2)
        assert asyncio.run(EFFECT.settled(told, settled))
        before = len(rows(root))
        found = asyncio.run(EFFECT.probe(told, facts(root), settled))
        assert isinstance(found, Done | Absent)
        assert isinstance(asyncio.run(EFFECT.do(told, facts(root), settled)), Done)
        assert len(rows(root)) == number + 1 == before + isinstance(found, Absent)
    assert len(rows(root, "SELECT key FROM madflow_keys")) == 12


def test_a_stopped_submitter_keeps_its_successor_out(root: Path) -> None:
    """Catches a successor that goes ahead while a stopped submitter is inside its transaction."""
    told = step("INSERT INTO t VALUES (1, 1)")
    other = apsw.Connection(str(root / "data" / "app.db"))
    other.execute("BEGIN EXCLUSIVE")  # so that it waits inside
    lock = ctx(root).run_dir / f"{ctx(root).key}.lock"
    with submitter(lambda: EFFECT.do(told, facts(root), ctx(root, timeout_s=20.0))) as pid:
        until(lock.exists)
        signal.sigtimedwait([], 0.05)
        kill(pid, signal.SIGSTOP)
        assert not asyncio.run(EFFECT.settled(told, ctx(root, term=2, timeout_s=0.1)))
        kill(pid)
        assert asyncio.run(EFFECT.settled(told, ctx(root, term=2, timeout_s=5.0)))
    other.execute("COMMIT")
    assert rows(root) == []


async def test_which_file_it_is_stays(root: Path) -> None:
    """Catches a name that is looked up again: repointed, the key is sought where it cannot be, and it runs twice."""
    told = step("INSERT INTO t VALUES (1, 'x')", undo="DELETE FROM t")
    begun = await EFFECT.prepare(told, ctx(root))
    assert begun == facts(root)
    shutil.copy(root / "data" / "app.db", root / "data" / "b.db")
    for elsewhere in (POLICY.model_copy(update={"databases": {"app": "data/b.db"}}), Policy()):
        repointed = ctx(root, policy=elsewhere)
        assert await EFFECT.probe(told, begun, repointed) == Absent()
        undone = await EFFECT.do(told, begun, ctx(root, policy=elsewhere, direction="undo", key=elsewhere.digest()))
        assert isinstance(undone, Done), "an undo was allowed with its step"
    done = await EFFECT.do(told, begun, ctx(root, policy=POLICY.model_copy(update={"databases": {"app": "data/b.db"}})))
    assert isinstance(done, Done) and rows(root) == [1]
    failed = await EFFECT.do(told, begun, ctx(root, policy=Policy(), key="other"))
    assert isinstance(failed, Failed) and failed.code == "permission_denied"


async def test_a_file_in_the_place_of_the_one_it_was(root: Path) -> None:
    """Catches an attempt that goes on in a restored copy, where its key was never written."""
    told = step("INSERT INTO t VALUES (1, 'x')")
    begun = await EFFECT.prepare(told, ctx(root))
    shutil.copy(root / "data" / "app.db", root / "data" / "copy.db")
    assert not isinstance(begun, Failed) and isinstance(await EFFECT.do(told, begun, ctx(root)), Done)
    (root / "data" / "copy.db").rename(root / "data" / "app.db")
    failed = await EFFECT.do(told, begun, ctx(root, attempt=2))
    assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("database_changed", False)
    assert isinstance(await EFFECT.probe(told, begun, ctx(root)), Uncertain) and rows(root) == []
    without = await EFFECT.do(told, {}, ctx(root))
    assert isinstance(without, Failed) and without.code == "no_facts"
