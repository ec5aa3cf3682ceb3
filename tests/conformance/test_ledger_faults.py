"""The SQLite ledger on a disk that fails: what was acknowledged stays, and after a failure nothing more is written."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import apsw
import pytest

from madflow.errors import EffectError, LedgerBusy, LedgerError, LedgerPoisoned
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.ports import Appended, Entry, Event, Execute
from madflow.testing.disk import FaultyDisk


class Clock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    vfs = FaultyDisk("failing-disk")
    yield vfs
    vfs.unregister()
    gc.collect()


def event(number: int) -> Event:
    return Event("noted", {"n": number, "text": "x" * 3000})


@pytest.mark.parametrize("failure", ["EIO", "ENOSPC"])
async def test_every_write_and_sync_may_fail(
    tmp_path: Path, disk: FaultyDisk, failure: Literal["EIO", "ENOSPC"]
) -> None:
    """The n-th write or sync fails, for every n of a run. Catches a failed write that is acknowledged, a retry after a
    failed fsync, an acknowledged record that is gone, and a chain that no longer verifies after reopening.
    """
    kinds: set[str] = set()
    name = {"EIO": "IOError", "ENOSPC": "FullError"}[failure]
    for at in range(1, 200):
        path = tmp_path / f"{failure}-{at}.db"
        ledger = SqliteLedger(path, clock=Clock(), vfs=disk.name)
        disk.failed.clear()
        disk.fail(at=at, with_=failure)
        acknowledged = 0
        try:
            for number in range(3):
                await ledger.record("a", [event(number)], after=number)
                acknowledged += 1
        except LedgerPoisoned as error:
            assert "planted" in str(error) or name in str(error)
        else:
            break
        kinds |= {operation for operation, _ in disk.failed}
        writes = len(disk.failed)
        with pytest.raises(LedgerPoisoned, match=name):
            await ledger.record("b", [event(0)], after=0)
        with pytest.raises(LedgerPoisoned):
            ledger.record_now("c", [event(0)], after=0)
        assert len(disk.failed) == writes, "a poisoned ledger does not even try"
        assert len(ledger.read("a")) == acknowledged, "reading still works, and shows what was acknowledged"
        ledger.close()
        assert len(disk.failed) == writes, "nor does it when it closes"
        disk.clear()
        with SqliteLedger(path, clock=Clock()) as again:
            there = again.read("a")
            assert acknowledged <= len(there) <= acknowledged + 1
            assert again.verify() == len(there)
            again.record_now("a", [event(9)], after=len(there))
    else:
        raise AssertionError("the run never got through")
    assert {"write", "sync"} <= kinds
    with pytest.raises(LedgerError, match="what was recorded is safe"):  # now it is the checkpoint on close that fails
        ledger.close()
    disk.clear()
    with SqliteLedger(path, clock=Clock()) as again:
        assert again.verify() == 3


async def test_all_who_wait_learn_of_the_failure(tmp_path: Path, disk: FaultyDisk) -> None:
    """Catches a waiter of the failed group, or of the queue behind it, that is never woken."""
    ledger = SqliteLedger(tmp_path / "l.db", clock=Clock(), vfs=disk.name)
    await ledger.record("warm", [event(0)], after=0)
    disk.fail(at=4, with_="EIO")
    calls = [ledger.record(f"s{number}", [event(number)], after=0) for number in range(50)]
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
    assert any(isinstance(result, LedgerPoisoned) for result in results)
    assert all(isinstance(result, list | LedgerPoisoned) for result in results)
    disk.clear()
    good = [f"s{number}" for number, result in enumerate(results) if isinstance(result, list)]
    assert sorted(ledger.streams()) == sorted(["warm", *good])
    ledger.close()


async def test_a_lock_held_too_long_fails_the_call_and_nothing_else(tmp_path: Path) -> None:
    """Catches a busy file that poisons the ledger, or is waited for without bound."""
    path = tmp_path / "l.db"
    open_ledger(path).close()
    ledger = SqliteLedger(path, clock=Clock(), busy_ms=50)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerBusy, match="stayed locked by another writer"):
        await ledger.record("a", [event(1)], after=0)
    other.execute("ROLLBACK")
    await ledger.record("a", [event(1)], after=0)
    assert ledger.verify() == 1
    ledger.close()
    other.close()


def insert(execute: Execute) -> Event:
    execute("INSERT INTO effects VALUES (?)", ("x" * 3000,))
    return event(1)


@pytest.mark.parametrize("failure", ["EIO", "ENOSPC"])
async def test_a_fenced_write_that_fails_is_all_or_nothing(
    tmp_path: Path, disk: FaultyDisk, failure: Literal["EIO", "ENOSPC"]
) -> None:
    """The n-th write or sync of a transaction or an append fails, for every n. Catches a slot without its record, an
    effect without its record, and a transaction whose failure is taken for one of its statement and not of the disk.
    """
    for at in range(1, 100):
        path = tmp_path / f"{failure}-{at}.db"
        with SqliteLedger(path, clock=Clock()) as ready:
            ready.seal_now("s", 1, event(0))
            await ready.transact("s", 1, "table", made, timeout_s=10)
        ledger = SqliteLedger(path, clock=Clock(), vfs=disk.name)
        disk.fail(at=at, with_=failure)
        acknowledged: list[str] = []
        try:
            await ledger.transact("s", 1, "one", insert, timeout_s=10)
            acknowledged.append("one")
            await ledger.append("s", 1, [Entry(event(2), "two"), Entry(event(3), "three")])
            acknowledged += ["two", "three"]
        except LedgerPoisoned:
            with pytest.raises(LedgerPoisoned):
                await ledger.seal("s", 2, event(4))
            ledger.close()
        else:
            break
        disk.clear()
        with SqliteLedger(path, clock=Clock()) as again:
            again.verify()
            there = [slot for slot in ("one", "two", "three") if again.find("s", slot)]
            assert there[: len(acknowledged)] == acknowledged
            assert there in ([], ["one"], ["one", "two", "three"])
            assert effects(path) == ("one" in there)
            assert isinstance(await again.append("s", 1, [Entry(event(5))]), Appended)
    else:
        raise AssertionError("the run never got through")
    disk.clear()
    ledger.close()


def made(execute: Execute) -> Event:
    execute("CREATE TABLE effects (x)", ())
    return Event("made", {})


def effects(path: Path) -> int:
    connection = apsw.Connection(str(path))
    count: int = connection.execute("SELECT count(*) FROM effects").fetchall()[0][0]
    connection.close()
    return count


async def test_a_disk_that_fails_under_a_statement_poisons(tmp_path: Path, disk: FaultyDisk) -> None:
    """Catches work that swallows the error of a write that SQLite makes early, and is then committed."""

    def large(execute: Execute) -> Event:
        for _ in range(400):
            with contextlib.suppress(EffectError):
                execute("INSERT INTO effects VALUES (?)", ("x" * 16_000,))
        return event(1)

    with SqliteLedger(tmp_path / "l.db", clock=Clock(), vfs=disk.name) as ledger:
        ledger.seal_now("s", 1, event(0))
        await ledger.transact("s", 1, "table", made, timeout_s=10)
        disk.fail(at=1, with_="ENOSPC", on={"write"})
        with pytest.raises(LedgerPoisoned, match="FullError"):
            await ledger.transact("s", 1, "one", large, timeout_s=30)
        disk.clear()
        with pytest.raises(LedgerPoisoned):
            await ledger.seal("s", 2, event(1))
    with SqliteLedger(tmp_path / "l.db", clock=Clock()) as again:
        assert again.verify() == 2
        assert again.find("s", "one") is None
        assert effects(tmp_path / "l.db") == 0
