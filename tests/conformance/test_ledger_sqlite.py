"""What is the SQLite ledger's own: its file, its chain and exports, its locks, its thread, and its processes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw
import pytest

from madflow.errors import DebateBusy, LedgerCorrupt, LedgerError
from madflow.ledger import file as module
from madflow.ledger.chain import GENESIS, ChainCheck, Row, chain_hash, verify_export
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.ports import Event, FencedLedger, Ledger


class Clock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with SqliteLedger(tmp_path / "ledger.db", clock=Clock()) as opened:
        yield opened


def event(number: int = 0) -> Event:
    return Event("noted", {"n": number, "text": "ü\n"})


def alter(ledger: SqliteLedger, statement: str, *values: Any) -> None:
    connection = apsw.Connection(str(ledger.path))
    connection.execute(statement, values)
    connection.close()


# --- the file


def test_it_is_a_ledger_by_the_port(ledger: SqliteLedger) -> None:
    port: Ledger = ledger
    fenced: FencedLedger = ledger
    assert port.streams() == fenced.streams() == []


def test_pragmas_and_stored_bytes(ledger: SqliteLedger) -> None:
    """Catches a commit that is not synced, and a payload whose bytes are not the digested ones."""
    ledger.record_now("a", [Event("noted", {"b": 1, "a": "ü"})], after=0)
    writing = ledger._writer._connection  # type: ignore[union-attr]
    assert (writing.pragma("journal_mode"), writing.pragma("synchronous")) == ("wal", 2)
    connection = apsw.Connection(str(ledger.path))
    assert connection.execute("SELECT payload FROM records").fetchall() == [('{"a":"ü","b":1}'.encode(),)]
    connection.close()


def test_the_default_folder_hides_itself_from_git(tmp_path: Path) -> None:
    open_ledger(tmp_path / ".madflow" / "ledger.db").close()
    assert (tmp_path / ".madflow" / ".gitignore").read_text() == "*\n"
    open_ledger(tmp_path / "elsewhere" / "ledger.db").close()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["ledger.db"]


def test_an_old_sqlite_is_refused_by_its_version() -> None:
    module.check_sqlite("3.51.3")
    module.check_sqlite("3.100.0")
    for version in ("3.51.2", "3.40.1", "3.7.0"):
        with pytest.raises(LedgerError, match=f"SQLite {version} can corrupt.*3.51.3"):
            module.check_sqlite(version)


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Catches a ledger that is written into somebody else's database or text file."""
    other = tmp_path / "other.db"
    connection = apsw.Connection(str(other))
    connection.execute("CREATE TABLE precious (x)")
    connection.close()
    with pytest.raises(LedgerError, match="another program"):
        open_ledger(other)
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be taken for a page of one\n" * 100)
    with pytest.raises(LedgerCorrupt, match=r"notes\.txt"):
        open_ledger(text)
    assert text.read_text().startswith("not a database")
    with pytest.raises(LedgerError, match="cannot be used"):
        SqliteLedger(tmp_path / "missing" / "ledger.db", clock=Clock())
    newer = tmp_path / "newer.db"
    open_ledger(newer).close()
    connection = apsw.Connection(str(newer))
    connection.execute("PRAGMA user_version=3")
    connection.close()
    with pytest.raises(LedgerError, match="schema version 3, and this madflow knows 2 to 2; update madflow"):
        open_ledger(newer)


def test_reading_only(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with pytest.raises(LedgerError, match="there is no ledger at"):
        open_ledger(path, readonly=True)
    assert list(tmp_path.iterdir()) == []
    with open_ledger(path) as writing:
        writing.record_now("a", [event()], after=0)
        with open_ledger(path, readonly=True) as reading:
            assert reading.read("a") == writing.read("a")
            with pytest.raises(LedgerError, match="for reading only"):
                reading.record_now("a", [event()], after=1)
            writing.record_now("a", [event()], after=1)
            assert reading.verify() == 2


def test_reading_from_a_read_only_medium(tmp_path: Path) -> None:
    """Catches a replay that needs to write beside the file it reads."""
    path = tmp_path / "led ger?.db"
    with open_ledger(path) as writing:
        writing.record_now("a", [event()], after=0)
    connection = module.connect_reader(path, None, writable=False)
    assert connection.execute("SELECT stream FROM records").fetchall() == [("a",)]
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    connection.close()


# --- the chain


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE records SET payload = CAST('{}' AS BLOB) WHERE seq = 3", 3),
        ("UPDATE records SET payload_digest = hash WHERE seq = 2", 2),
        ("UPDATE records SET at_ms = at_ms + 1 WHERE seq = 4", 4),
        ("UPDATE records SET kind = 'other' WHERE seq = 1", 1),
        ("UPDATE records SET stream = 'c' WHERE seq = 5", 5),
        ("UPDATE records SET place = 9 WHERE seq = 5", 5),
        ("UPDATE records SET hash = prev_hash WHERE seq = 2", 2),
        ("UPDATE records SET prev_hash = hash WHERE seq = 3", 3),
        ("DELETE FROM records WHERE seq = 3", 4),
        ("DELETE FROM records WHERE seq = 1", 2),
    ],
)
def test_every_alteration_is_found_at_its_record(ledger: SqliteLedger, statement: str, seq: int) -> None:
    """Catches a column that the chain does not cover."""
    for number in range(3):
        ledger.record_now("a", [event(number)], after=number)
        ledger.record_now("b", [event(number)], after=number)
    assert ledger.verify() == 6
    alter(ledger, statement)
    with pytest.raises(LedgerCorrupt, match=f"record {seq} does not verify"):
        ledger.verify()
    with pytest.raises(LedgerCorrupt, match=f"record {seq} does not verify"):
        list(ledger.export_lines())


def test_an_altered_payload_is_never_handed_out(ledger: SqliteLedger) -> None:
    """Catches a replay or a resume that decides again from what somebody wrote into the file."""
    ledger.record_now("a", [event(1), event(2)], after=0)
    alter(ledger, "UPDATE records SET payload = CAST('{\"n\": 9}' AS BLOB) WHERE seq = 2")
    with pytest.raises(LedgerCorrupt, match=r"record 2 .* is not what was written"):
        ledger.read("a")


def test_a_chain_is_checked_for_its_order_too() -> None:
    """Catches a writer's own mistake: rows whose hashes fit, but whose seq or place leaves a gap or repeats."""
    for seq, place in ((2, 1), (0, 1), (1, 2), (1, 0)):
        digest = sha256(b"{}").hexdigest()
        this = chain_hash(GENESIS, seq, "a", place, "noted", 5, digest)
        with pytest.raises(LedgerCorrupt, match=f"record {seq} does not verify"):
            ChainCheck().add(Row(seq, "a", place, "noted", b"{}", digest, 5, GENESIS, this))


def test_an_export_verifies_and_shows_every_change(ledger: SqliteLedger) -> None:
    """Catches an export of which a line can be altered, dropped, added or cut off unseen."""
    ledger.record_now("a", [event(1), Event("float", {"x": 1e21, "y": 0.1, "z": -0.0})], after=0)
    ledger.record_now("b", [event(3)], after=0)
    lines = list(ledger.export_lines())
    head = ledger.read("b")[-1].hash
    assert json.loads(lines[-1]) == {"count": 3, "head": head}
    assert verify_export(lines) == (3, head)
    broken = [
        lines[:-1],
        lines[:1] + lines[2:],
        lines[:2] + lines[3:],
        [*lines, lines[0]],
        [lines[0].replace('"n":1', '"n":7'), *lines[1:]],
        [*lines[:-1], lines[-1].replace("3", "2", 1)],
        ["not json", *lines],
        ["[]", *lines],
        [lines[0].replace("place", "plaice"), *lines[1:]],
        [],
    ]
    for number, altered in enumerate(broken):
        with pytest.raises(LedgerCorrupt):
            pytest.fail(f"export {number} verified: {verify_export(altered)}")
    assert verify_export(['{"count":0,"head":"' + "0" * 64 + '"}']) == (0, "0" * 64)


def test_a_damaged_index_is_found(ledger: SqliteLedger) -> None:
    """Catches a verify that walks the table only, while read() uses an index from which a record is missing."""
    ledger.record_now("a", [event(number) for number in range(50)], after=0)
    connection = apsw.Connection(str(ledger.path))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.execute("PRAGMA writable_schema=ON")
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'index'").fetchall()[0]
    twin = "CREATE TABLE t (a, b, c, PRIMARY KEY (a, b, c)) WITHOUT ROWID"  # has an index's layout on the disk
    connection.execute("INSERT INTO sqlite_schema VALUES ('table', 't', 't', ?, ?)", (root, twin))
    connection.close()
    connection = apsw.Connection(str(ledger.path))
    connection.execute("DELETE FROM t WHERE b = 7")
    connection.close()
    with pytest.raises(LedgerCorrupt, match="damaged"):
        ledger.verify()


# --- one runner per stream


def test_a_stream_is_run_by_one(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Catches a second runner in this process or another, and a lock that outlives its holder."""
    held = f"'debate-1' is being run by process {os.getpid()}"
    with (
        ledger.lock_stream("debate-1"),
        ledger.lock_stream("debate-2"),
        pytest.raises(DebateBusy, match=held),
        ledger.lock_stream("debate-1"),
    ):
        pytest.fail("held twice")
    holder = (
        "import sys, time; from madflow.ledger.sqlite import open_ledger\n"
        f"with open_ledger({str(ledger.path)!r}).lock_stream('debate-1'): print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(DebateBusy, match=f"process {child.pid}"):
        ledger.lock_stream("debate-1").__enter__()
    child.kill()
    child.wait(30)
    child.stdout.close()
    with ledger.lock_stream("debate-1"):
        # A subprocess that outlives its parent's lock must not keep it.
        sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    with ledger.lock_stream("debate-1"):
        pass
    sleeper.communicate(b"\n")


# --- threads, loops, processes


async def test_groups_share_commits(ledger: SqliteLedger) -> None:
    """Catches one transaction per request: 200 at once must take far fewer commits."""
    await ledger.record("warm", [event()], after=0)
    commits = 0

    def count() -> bool:
        nonlocal commits
        commits += 1
        return False

    ledger._writer._connection.set_commit_hook(count)  # type: ignore[union-attr]
    await asyncio.gather(*(ledger.record(f"s{number}", [event(number)], after=0) for number in range(200)))
    assert commits <= 20
    assert ledger.verify() == 201


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path, clock=Clock(), queue_max=5, busy_ms=3000)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    calls = [asyncio.ensure_future(ledger.record(f"s{number}", [event()], after=0)) for number in range(30)]
    done, _ = await asyncio.wait(calls, timeout=0.3)
    assert done
    assert all("the limit is 5" in str(call.exception()) for call in done)
    other.execute("ROLLBACK")
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert len([result for result in results if isinstance(result, list)]) == 30 - len(done)
    ledger.close()
    other.close()


async def test_a_cancelled_waiter_harms_nobody(tmp_path: Path) -> None:
    """Catches a result set on a cancelled future, which would kill the delivery of its whole group; and a cancelled
    request that is not written, by which the places that others counted on would be wrong.
    """
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path, clock=Clock(), busy_ms=5000)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    calls = [asyncio.ensure_future(ledger.record(f"s{number}", [event()], after=0)) for number in range(10)]
    await asyncio.sleep(0.05)
    for call in calls[::2]:
        call.cancel()
    await asyncio.sleep(0)
    other.execute("ROLLBACK")
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, list) for result in results[1::2])
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert ledger.verify() == len(ledger.streams()) == 10
    ledger.close()
    other.close()


def test_a_loop_that_is_gone_does_not_stop_the_writer(ledger: SqliteLedger) -> None:
    """Catches a writer thread that dies of a closed event loop, and with it every later record."""

    async def abandon() -> None:
        waiting = asyncio.ensure_future(ledger.record("gone", [event()], after=0))
        await asyncio.sleep(0)
        assert not waiting.done()

    other = apsw.Connection(str(ledger.path))
    other.execute("BEGIN IMMEDIATE")
    asyncio.run(abandon())
    other.execute("ROLLBACK")
    other.close()
    ledger.record_now("a", [event()], after=0)  # may share the abandoned request's group
    recorded = threading.Thread(target=ledger.record_now, args=("a", [event()]), kwargs={"after": 1}, daemon=True)
    recorded.start()
    recorded.join(20)
    assert not recorded.is_alive(), "the writer has died"
    assert ledger.verify() == 3


def test_a_forked_child_is_refused(ledger: SqliteLedger) -> None:
    """Catches a child that waits for a thread that does not exist there, or writes through inherited file locks."""
    ledger.record_now("a", [event()], after=0)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = []

        async def recorded() -> object:
            return await ledger.record("a", [event()], after=1)

        calls: list[Callable[[], object]] = [
            lambda: ledger.record_now("a", [event()], after=1),
            lambda: asyncio.run(recorded()),
            lambda: ledger.read("a"),
            ledger.close,
        ]
        for call in calls:
            try:
                call()
                said.append("accepted")
            except LedgerError as error:
                said.append("refused" if "forked child" in str(error) else str(error))
            except BaseException as error:
                said.append(repr(error))
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    assert json.loads(os.read(reading, 10_000)) == ["refused"] * 4
    os.close(reading)
    assert len(ledger.record_now("a", [event()], after=1)) == 1


def test_a_dropped_ledger_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    dropped = SqliteLedger(tmp_path / "ledger.db", clock=Clock())
    dropped.record_now("a", [event()], after=0)
    (thread,) = set(threading.enumerate()) - before
    del dropped
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_an_open_ledger_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    source = (
        "from madflow.ledger.sqlite import open_ledger; from madflow.ports import Event\n"
        f"ledger = open_ledger({str(tmp_path / 'ledger.db')!r})\n"
        "ledger.record_now('a', [Event('noted', {})], after=0)"
    )
    done = subprocess.run([sys.executable, "-c", source], timeout=30, capture_output=True, check=True)
    assert done.stderr == b""
    with open_ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.verify() == 1


def test_opening_waits_for_another_creator(tmp_path: Path) -> None:
    """Catches "database is locked" from the switch to WAL, for which SQLite does not wait by itself."""
    path = tmp_path / "ledger.db"
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE t (x); DROP TABLE t; BEGIN IMMEDIATE")
    timer = threading.Timer(0.2, other.execute, ("ROLLBACK",))
    timer.start()
    with open_ledger(path) as ledger:
        ledger.record_now("a", [event()], after=0)
    timer.join()
    other.close()


def test_many_processes_create_one_ledger(tmp_path: Path) -> None:
    """Catches a race of two creators: "database is locked", or a table that is there already."""
    path, start = tmp_path / "ledger.db", time.time() + 0.5
    source = (
        "import time; from madflow.ledger.sqlite import open_ledger; from madflow.ports import Event\n"
        f"time.sleep(max(0, {start} - time.time()))\n"
        f"ledger = open_ledger({str(path)!r})\n"
        "import os; ledger.record_now(str(os.getpid()), [Event('noted', {})], after=0); ledger.close()"
    )
    children = [subprocess.Popen([sys.executable, "-c", source]) for _ in range(5)]
    assert [child.wait(60) for child in children] == [0] * 5
    with open_ledger(path) as ledger:
        assert ledger.verify() == 5
