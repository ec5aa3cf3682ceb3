"""SIGKILL inside a write transaction, and a -wal file that lost its tail: real processes, every place.

A child is forked from this process, which holds no ledger then, opens one on a `FaultyDisk`, carries out the same
requests each time, says on a pipe what was acknowledged, and is ended at the n-th operation.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from madflow.ledger.sqlite import SqliteLedger
from madflow.ports import Appended, Entry, Event, Execute, Fenced, Sealed
from madflow.testing.disk import FaultyDisk, File, Operation


class Clock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


def event(number: int) -> Event:
    return Event("noted", {"n": number, "text": "x" * 1500})


def entry(number: int) -> Entry:
    return Entry(event(number), f"k{number}")


def effect(execute: Execute) -> Event:
    execute("CREATE TABLE IF NOT EXISTS effects (x)", ())
    execute("INSERT INTO effects VALUES (8)", ())
    return event(8)


async def requests(ledger: SqliteLedger, done: Callable[[str], None]) -> None:
    """Five commits; `done` after each. Ten records, numbered 0 to 9 by their `n`."""
    await ledger.seal("s", 1, event(0))
    done("1")
    await asyncio.gather(*(ledger.append("s", 1, [entry(2 * n + 1), entry(2 * n + 2)]) for n in range(3)))
    done("7")
    await ledger.record("a", [event(7)], after=0)
    done("8")
    await ledger.transact("s", 1, "k8", effect, timeout_s=10)
    done("9")
    await ledger.seal("s", 2, event(9))
    done("10")


BOUNDS = (0, 1, 7, 8, 9, 10)  # a commit is all or nothing


def check(path: Path, acknowledged: int) -> int:
    """What is in the ledger at `path`: a prefix of the requests, whole commits, everything that was acknowledged."""
    with SqliteLedger(path, clock=Clock()) as ledger:
        there = [record.payload["n"] for record in ledger.scan()]
        assert there == list(range(len(there)))
        assert len(there) in BOUNDS
        assert len(there) >= acknowledged
        assert ledger.verify() == len(there)
        term = 2 if len(there) == 10 else 1 if there else 0
        assert ledger.fence("s") == term
        for number in (*range(1, 7), 8):
            found = ledger.find("s", f"k{number}")
            assert (found is not None) == (number in there)
            assert found is None or found.payload["n"] == number
        assert effects(path) == (1 if 8 in there else 0)
        assert ledger.append_now("s", term + 1, [entry(50)]) == Fenced(term)
        assert isinstance(ledger.seal_now("s", term + 1, event(len(there))), Sealed)
        assert isinstance(ledger.append_now("s", term + 1, [entry(50)]), Appended)
        assert ledger.verify() == len(there) + 2
    return len(there)


def effects(path: Path) -> int:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return int(connection.execute("SELECT count(*) FROM effects").fetchall()[0][0])
    except apsw.SQLError:
        return 0
    finally:
        connection.close()


def in_child(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """Run `work` in a forked child; its pid and the reading end of what it says."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            work(lambda text: os.write(writing, text.encode() + b" ") and None)
            os._exit(0)
        finally:
            os._exit(9)  # nothing of the test runner may run on in the child
    os.close(writing)
    return pid, reading


def said(reading: int) -> list[str]:
    """All that a child said until it ended."""
    parts = bytearray()
    while part := os.read(reading, 4096):
        parts += part
    os.close(reading)
    return parts.decode().split()


def write_all(path: Path, plan: dict[str, Any]) -> Callable[[Callable[[str], None]], None]:
    def work(done: Callable[[str], None]) -> None:
        disk = FaultyDisk("killing")
        ledger = SqliteLedger(path, clock=Clock(), vfs=disk.name)
        disk.end(**plan)
        asyncio.run(requests(ledger, done))
        ledger.close()

    return work


@pytest.mark.parametrize(
    ("on", "files", "torn"),
    [({"write"}, {"wal"}, False), ({"write"}, {"wal"}, True), ({"write", "sync", "truncate"}, {"main", "wal"}, False)],
)
def test_killed_at_every_write(tmp_path: Path, on: set[Operation], files: set[File], torn: bool) -> None:
    """SIGKILL at the n-th write of the -wal file, for every n, whole and torn; and at every write, sync and truncation
    of both files, the checkpoint on close included. Catches an acknowledged record that is gone, half of a commit, a
    slot, a fence or an effect that disagrees with the records, and a chain that no longer verifies.
    """
    counts: list[int] = []
    for at in range(1, 200):
        path = tmp_path / f"{at}.db"
        pid, reading = in_child(write_all(path, {"at": at, "on": on, "files": files, "torn": torn}))
        acknowledged = [0, *map(int, said(reading))][-1]
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert check(path, 10) == 10
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        counts.append(check(path, acknowledged))
        for file in tmp_path.iterdir():
            file.unlink()
    else:
        raise AssertionError("the run never got through")
    assert set(counts) >= {0, 1, 7, 8, 9}
    assert counts == sorted(counts)


def test_stopped_inside_a_write_transaction(tmp_path: Path) -> None:
    """SIGSTOP at a write of the -wal file, then SIGCONT. Catches a stopped writer that others overtake, a wait for it
    that has no bound (opening the ledger does not wait at all), and one that does not go on where it stood: what it
    had begun counts before the next term.
    """
    path = tmp_path / "l.db"

    def work(done: Callable[[str], None]) -> None:
        disk = FaultyDisk("stopping")
        ledger = SqliteLedger(path, clock=Clock(), vfs=disk.name)
        ledger.seal_now("s", 1, event(0))
        disk.end(at=2, by=signal.SIGSTOP)
        done(type(ledger.append_now("s", 1, [entry(1)])).__name__)
        done(repr(ledger.append_now("s", 1, [entry(2)])))
        ledger.close()

    pid, reading = in_child(work)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    with SqliteLedger(path, clock=Clock(), busy_ms=50) as other:
        with pytest.raises(Exception, match="stayed locked by another writer"):
            other.seal_now("s", 2, event(9))
        assert [record.payload["n"] for record in other.read("commit/s")] == [0]
    with SqliteLedger(path, clock=Clock()) as other:
        sealing = other_thread(lambda: other.seal_now("s", 2, event(9)))
        time.sleep(0.05)
        os.kill(pid, signal.SIGCONT)
        assert isinstance(sealing(), Sealed)
        first, second = said_pair(reading)
        os.waitpid(pid, 0)
        ns = [record.payload["n"] for record in other.read("commit/s")]
        assert first == "Appended"
        assert (second, ns) in [("Fenced(term=2)", [0, 1, 9]), ("Appended", [0, 1, 2, 9])]
        other.verify()


def other_thread(call: Callable[[], Any]) -> Callable[[], Any]:
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)

    def result() -> Any:
        pool.shutdown(wait=True)
        return future.result()

    return result


def said_pair(reading: int) -> tuple[str, str]:
    first, second = said(reading)[:2]
    return first, second.split("(")[0] if second.startswith("Appended") else second


def unfinished(tmp_path: Path) -> tuple[Path, int]:
    """A ledger of small pages that was copied before it was closed, and where its last commit begins in the -wal."""
    path, copy = tmp_path / "l.db", tmp_path / "copy.db"
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA page_size=512; VACUUM")
    connection.close()
    with SqliteLedger(path, clock=Clock()) as ledger:
        ledger.seal_now("s", 1, Event("sealed", {}))
        ledger.append_now("s", 1, [Entry(Event("noted", {}), "k1")])
        begin = wal_of(path).stat().st_size
        ledger.append_now("s", 1, [Entry(Event("noted", {}), "k2"), Entry(Event("noted", {}), "k3")])
        shutil.copy(path, copy)
        shutil.copy(wal_of(path), wal_of(copy))
    return copy, begin


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def seen(path: Path) -> tuple[int, int]:
    """How many records and slots there are, by SQLite's own recovery."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    try:
        ((records, slots),) = connection.execute(
            "SELECT (SELECT count(*) FROM records), (SELECT count(*) FROM slots)"
        ).fetchall()
    finally:
        connection.close()
    return int(records), int(slots)


def test_a_torn_tail_of_the_wal_costs_the_last_commit_and_no_more(tmp_path: Path) -> None:
    """The -wal file truncated at every byte of its last commit, and a bit of every third byte flipped. Catches half of
    a commit, and records whose slots are gone. (The commit was acknowledged; a disk that keeps its flushes does not
    lose it. That it is gone shows only against the trailer of an export.)
    """
    path, begin = unfinished(tmp_path)
    main, wal = path.read_bytes(), wal_of(path).read_bytes()
    assert 1000 < len(wal) - begin < 8000

    def put(tail: bytes) -> tuple[int, int]:
        path.write_bytes(main)
        wal_of(path).write_bytes(tail)
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        return seen(path)

    assert put(wal) == (4, 3)
    for end in range(begin, len(wal)):
        assert put(wal[:end]) == (2, 1), end
        if end % 97 == 0:
            with SqliteLedger(path, clock=Clock()) as ledger:
                assert ledger.verify() == 2
                assert ledger.find("s", "k2") is None
                assert isinstance(ledger.append_now("s", 1, [Entry(Event("noted", {}), "k2")]), Appended)
    for at in range(begin, len(wal), 3):
        flipped = bytearray(wal)
        flipped[at] ^= 1 << at % 8
        assert put(bytes(flipped)) == (2, 1), at
