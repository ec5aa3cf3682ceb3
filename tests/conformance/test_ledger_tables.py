"""The SQLite ledger's tables beside the records: their upgrade, their agreement with the records, and pruning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw
import pytest

from madflow.errors import LedgerCorrupt, LedgerError
from madflow.ledger.chain import GENESIS, ChainCheck, Row, chain_hash, verify_export
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.ports import Appended, Entry, Event


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


def make_version_1(path: Path) -> None:
    """What madflow wrote before there were fences: the same file without their tables."""
    with open_ledger(path) as ledger:
        ledger.record_now("a", [event(1), event(2)], after=0)
    connection = apsw.Connection(str(path))
    connection.execute("DROP TABLE fences; DROP TABLE slots; PRAGMA user_version=1")
    connection.close()


def test_a_ledger_of_schema_1_is_read_as_it_is_and_upgraded_when_written(tmp_path: Path) -> None:
    """Catches a ledger of before that is refused, or changed by a reader, or that loses its records; and a reader that
    goes on believing in the old schema."""
    path = tmp_path / "ledger.db"
    make_version_1(path)
    before = path.read_bytes()
    with open_ledger(path, readonly=True) as reading:
        assert reading.verify() == 2
        assert (reading.find("s", "x"), reading.fence("s")) == (None, 0)
        assert [record.payload["n"] for record in reading.read("a")] == [1, 2]
        assert path.read_bytes() == before
        with open_ledger(path) as writing:
            writing.seal_now("s", 1, event(3))
            writing.append_now("s", 1, [Entry(event(4), "x")])
            assert reading.find("s", "x") == writing.find("s", "x") is not None
            assert reading.fence("s") == 1
            assert reading.verify() == writing.verify() == 4
    connection = apsw.Connection(str(path))
    assert connection.pragma("user_version") == 2
    connection.close()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM fences", "scope 's' has records (the first is 1), but no fence"),
        ("UPDATE fences SET scope = 'other'", "scope 'other' is fenced by term 1, but nothing sealed it"),
        ("UPDATE slots SET seq = 9", "the slot 'x' of scope 's' points to no record of that scope"),
        ("UPDATE slots SET scope = 'other'", "the slot 'x' of scope 'other' points to no record"),
        ("INSERT INTO slots VALUES ('s', 'y', 2)", "points to a record that another slot points to"),
    ],
)
def test_fences_and_slots_are_verified(ledger: SqliteLedger, statement: str, says: str) -> None:
    """Catches a fence or a slot that says something else than the records."""
    ledger.seal_now("s", 1, event(1))
    ledger.append_now("s", 1, [Entry(event(2), "x")])
    assert ledger.verify() == 2
    alter(ledger, statement)
    with pytest.raises(LedgerCorrupt, match=re.escape(says)):
        ledger.verify()


def test_a_damaged_record_fails_who_asks_for_it_and_nobody_else(ledger: SqliteLedger) -> None:
    """Catches a duplicate of a damaged record that poisons the ledger, or is answered from what is not there."""
    ledger.seal_now("s", 1, event(1))
    ledger.append_now("s", 1, [Entry(event(2), "x")])
    alter(ledger, "UPDATE records SET payload = CAST('{}' AS BLOB) WHERE seq = 2")
    for _ in range(2):
        with pytest.raises(LedgerCorrupt, match="record 2"):
            ledger.append_now("s", 1, [Entry(event(3), "x")])
    assert isinstance(ledger.append_now("s", 1, [Entry(event(3), "y")]), Appended)
    alter(ledger, "DELETE FROM records WHERE seq = 2")
    with pytest.raises(LedgerCorrupt, match="record 2, which is missing"):
        ledger.append_now("s", 1, [Entry(event(3), "x")])


def test_pruned_bytes_are_gone_from_the_files(tmp_path: Path) -> None:
    """Catches a payload that is unlinked but still stands in a free page or in the -wal file. Large and small ones."""
    path = tmp_path / "ledger.db"
    with open_ledger(path) as ledger:
        for size in (1, 5_000):
            events = [Event("noted", {"text": f"secret{number}" * size}) for number in range(20)]
            ledger.record_now(f"s{size}", events, after=0)
        assert any(b"secret1" in file.read_bytes() for file in tmp_path.iterdir())
        pruned = ledger.prune(lambda record: False)
        assert (pruned.count, pruned.ranges, pruned.erased) == (40, ((1, 40),), True)
        assert not any(b"secret1" in file.read_bytes() for file in tmp_path.iterdir())
        other = apsw.Connection(str(path))
        other.execute("BEGIN; SELECT count(*) FROM records")
        ledger.record_now("a", [event(1)], after=0)
    with SqliteLedger(path, clock=Clock(), busy_ms=50) as ledger:
        ledger.record_now("a", [event(2)], after=1)
        assert not ledger.prune(lambda record: False).erased, "somebody reads what was there before"
        other.close()
        assert ledger.verify() == 44


def test_many_are_pruned_in_bounded_transactions(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a part that is left out where a range is cut, and a cut that is announced wrongly."""
    monkeypatch.setattr("madflow.ledger.pruning.RECORDS_PER_REQUEST_MAX", 7)
    ledger.record_now("a", [event(number) for number in range(60)], after=0)
    pruned = ledger.prune(lambda record: record.payload["n"] % 11 == 5)
    assert pruned.count == 55
    assert [record.payload["n"] for record in ledger.read("a", pruned="skip")] == [5, 16, 27, 38, 49]
    said = ledger.read("pruned")
    assert [record.payload["count"] for record in said] == [7] * 7 + [6]
    assert ledger.verify() == 60 + 8
    with pytest.raises(ValueError, match="planted"):
        ledger.prune(lambda record: bool(int("planted")))
    with pytest.raises(LedgerError, match='it must be "raise" or "skip"'):
        ledger.read("a", pruned="no")  # type: ignore[arg-type]


def test_a_payload_that_is_gone_unannounced_is_found(ledger: SqliteLedger) -> None:
    """Catches a payload that somebody removed from the file or an export, as if it had been pruned; and one that a
    reader would take for an empty one."""
    ledger.record_now("a", [event(number) for number in range(1, 7)], after=0)
    lines = list(ledger.export_lines())
    data = json.loads(lines[1])
    forged = lines[1].replace(json.dumps(data["payload"], ensure_ascii=False, separators=(",", ":")), "null")
    with pytest.raises(LedgerCorrupt, match=r"record 2 .* no record of the stream 'pruned' says"):
        verify_export([lines[0], forged, *lines[2:]])
    ledger.prune(lambda record: record.payload["n"] not in (2, 3))
    assert ledger.verify() == verify_export(ledger.export_lines())[0] == 7
    with pytest.raises(LedgerError, match=r"record 2 .* was pruned"):
        ledger.read("a")
    for seq in (6, 4, 1):
        alter(ledger, "UPDATE records SET payload = NULL WHERE seq = ?", seq)
        with pytest.raises(LedgerCorrupt, match=f"record {seq} does not verify: its payload is gone"):
            ledger.verify()


@pytest.mark.parametrize(
    "payload",
    [
        {"count": 1, "ranges": [[3, 3]]},
        {"count": 1, "ranges": [[2, 2]]},
        {"count": 1, "ranges": [[0, 1]]},
        {"count": 1, "ranges": [[1]]},
        {"count": 1, "ranges": [[True, 1]]},
        {"count": 1, "ranges": 1},
        {"count": 1},
        ["ranges"],
    ],
)
def test_an_announcement_is_about_records_before_it(payload: Any) -> None:
    """Catches a record of the stream `pruned` that excuses what is removed later, or says nothing that can be read."""

    def row(seq: int, stream: str, data: bytes, prev: str) -> Row:
        digest = sha256(data).hexdigest()
        this = chain_hash(prev, seq, stream, 1, "noted", 5, digest)
        return Row(seq, stream, 1, "noted", data, digest, 5, prev, this)

    check = ChainCheck()
    check.add(row(1, "a", b"{}", GENESIS))
    with pytest.raises(LedgerCorrupt, match=r"record 2 .* to say which records before it were pruned"):
        check.add(row(2, "pruned", json.dumps(payload).encode(), check.head))
