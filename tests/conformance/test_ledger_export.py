"""A torn or altered export: every byte counts."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from madflow.errors import LedgerCorrupt
from madflow.ledger.chain import verify_export, verify_export_file
from madflow.ledger.sqlite import SqliteLedger
from madflow.ports import Entry, Event


class Clock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Seven records, the last two a pruned one and the one that says so. Payloads that could be spelled otherwise."""
    path = tmp_path_factory.mktemp("export") / "l.db"
    with SqliteLedger(path, clock=Clock()) as ledger:
        ledger.seal_now("s", 1, Event("sealed", {}))
        ledger.append_now("s", 1, [Entry(Event("intent", {"n": number}), f"k{number}") for number in range(3)])
        ledger.record_now("a", [Event("ü", {"x": 1e21, "y": -0.0, "z": 0.1, "text": 'ü\u2028\n"\\/\x7f'})], after=0)
        ledger.record_now("a", [Event("gone", {"private": True})], after=1)
        ledger.prune(lambda record: record.kind != "gone")
        return ("\n".join(ledger.export_lines()) + "\n").encode()


def damaged(export: bytes) -> Iterator[tuple[str, bytes]]:
    """Every truncation in and every bit flip of the last three records and the trailer."""
    parts = export.split(b"\n")
    begin = len(b"\n".join(parts[:-5])) + 1
    for at in range(begin, len(export)):
        yield f"cut at byte {at}", export[:at]
        for bit in range(8):
            flipped = bytearray(export)
            flipped[at] ^= 1 << bit
            yield f"bit {bit} of byte {at}", bytes(flipped)


def test_every_byte_of_the_last_records_counts(export: bytes) -> None:
    """Catches a check of what a line means instead of what it is: a space, another spelling, a missing line end."""
    count, head = verify_export_file(io.BytesIO(export))
    assert (count, len(head)) == (7, 64)
    found = 0
    for what, data in damaged(export):
        try:
            verify_export_file(io.BytesIO(data))
        except LedgerCorrupt:
            found += 1
            continue
        pytest.fail(f"{what} was not found")
    assert found > 5000


def test_every_record_boundary_counts(export: bytes) -> None:
    """Catches an export that verifies without its last records: only the trailer shows that they are missing."""
    lines = export.decode().split("\n")[:-1]
    for end in range(len(lines)):
        with pytest.raises(LedgerCorrupt, match="without its trailer"):
            verify_export(lines[:end])
        with pytest.raises(LedgerCorrupt, match=r"missing before it|the trailer states|without its trailer"):
            verify_export([*lines[:end], *lines[end + 1 :]])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seq":1,', '"seq":1.0,'),
        ('"seq":1,', '"seq":true,'),
        ('"seq":1,', '"seq":1 ,'),
        ('"place":1,', '"place":1,"place":1,'),
        ('"n":1', '"n":1.0'),
        ('"n":1', '"n":9,"n":1'),
        ("ü", "\\u00fc"),
        ("-0.0", "-0.00"),
        ('"count":7', '"count":7.0'),
        ('"count":7', '"count":7,"more":1'),
    ],
)
def test_the_same_by_another_spelling_is_not_the_same(export: bytes, old: str, new: str) -> None:
    lines = export.decode().split("\n")[:-1]
    assert any(old in line for line in lines)
    with pytest.raises(LedgerCorrupt):
        verify_export([line.replace(old, new) for line in lines])


def test_a_file_is_read_by_bounded_lines_of_utf8(
    export: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a file without line ends that is read into memory whole, and other line ends."""
    path = tmp_path / "export.jsonl"
    path.write_bytes(export.replace(b"\n", b"\r\n"))
    with pytest.raises(LedgerCorrupt, match="to the byte"):
        verify_export_file(path)
    path.write_bytes(b"\xff" + export)
    with pytest.raises(LedgerCorrupt, match="not UTF-8"):
        verify_export_file(path)
    monkeypatch.setattr("madflow.ledger.chain.LINE_BYTES_MAX", 100)
    path.write_bytes(b"x" * 1000)
    with pytest.raises(LedgerCorrupt, match="longer than 100 bytes"):
        verify_export_file(path)
