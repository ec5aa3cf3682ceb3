"""The SQLite ledger on a disk that fails: what was acknowledged stays, and after a failure nothing more is written."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from madflow.errors import LedgerError, LedgerPoisoned
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.ports import Event


class Clock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


class FailingDisk(apsw.VFS):
    """A VFS over the default one whose n-th write, sync or truncation fails (counted from `arm`), and all after it."""

    def __init__(self, name: str) -> None:
        self.name, self.left, self.failure = name, -1, apsw.IOError
        self.failed: list[str] = []
        super().__init__(name, base="")

    def arm(self, left: int, failure: type[apsw.Error]) -> None:
        self.left, self.failure = left, failure

    def tick(self, what: str) -> None:
        if self.left > 0:
            self.left -= 1
        elif self.left == 0:
            self.failed.append(what)
            raise self.failure(f"planted failure of a {what}")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        return FailingFile(self, name, flags)


class FailingFile(apsw.VFSFile):
    def __init__(self, disk: FailingDisk, name: Any, flags: list[int]) -> None:
        self.disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.tick("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self.disk.tick("sync")
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:
        self.disk.tick("truncate")
        super().xTruncate(size)


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    vfs = FailingDisk("failing-disk")
    yield vfs
    vfs.unregister()
    gc.collect()


def event(number: int) -> Event:
    return Event("noted", {"n": number, "text": "x" * 3000})


@pytest.mark.parametrize("failure", [apsw.IOError, apsw.FullError])
async def test_every_write_and_sync_may_fail(tmp_path: Path, disk: FailingDisk, failure: type[apsw.Error]) -> None:
    """The n-th write or sync fails, for every n of a run. Catches a failed write that is acknowledged, a retry after a
    failed fsync, an acknowledged record that is gone, and a chain that no longer verifies after reopening.
    """
    kinds: set[str] = set()
    for left in range(200):
        path = tmp_path / f"{failure.__name__}-{left}.db"
        ledger = SqliteLedger(path, clock=Clock(), vfs=disk.name)
        disk.arm(left, failure)
        acknowledged = 0
        try:
            for number in range(3):
                await ledger.record("a", [event(number)], after=number)
                acknowledged += 1
        except LedgerPoisoned as error:
            assert "planted" in str(error) or failure.__name__ in str(error)
        else:
            break
        kinds |= set(disk.failed)
        writes = len(disk.failed)
        with pytest.raises(LedgerPoisoned, match=failure.__name__):
            await ledger.record("b", [event(0)], after=0)
        with pytest.raises(LedgerPoisoned):
            ledger.record_now("c", [event(0)], after=0)
        assert len(disk.failed) == writes, "a poisoned ledger does not even try"
        assert len(ledger.read("a")) == acknowledged, "reading still works, and shows what was acknowledged"
        ledger.close()
        assert len(disk.failed) == writes, "nor does it when it closes"
        disk.arm(-1, failure)
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
    disk.arm(-1, failure)
    with SqliteLedger(path, clock=Clock()) as again:
        assert again.verify() == 3


async def test_all_who_wait_learn_of_the_failure(tmp_path: Path, disk: FailingDisk) -> None:
    """Catches a waiter of the failed group, or of the queue behind it, that is never woken."""
    ledger = SqliteLedger(tmp_path / "l.db", clock=Clock(), vfs=disk.name)
    await ledger.record("warm", [event(0)], after=0)
    disk.arm(3, apsw.IOError)
    calls = [ledger.record(f"s{number}", [event(number)], after=0) for number in range(50)]
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
    assert any(isinstance(result, LedgerPoisoned) for result in results)
    assert all(isinstance(result, list | LedgerPoisoned) for result in results)
    disk.arm(-1, apsw.IOError)
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
    with pytest.raises(LedgerError, match="stayed locked by another writer") as caught:
        await ledger.record("a", [event(1)], after=0)
    assert not isinstance(caught.value, LedgerPoisoned)
    other.execute("ROLLBACK")
    await ledger.record("a", [event(1)], after=0)
    assert ledger.verify() == 1
    ledger.close()
    other.close()
