"""An export as a ledger that can be read: so that what reads a ledger reads the file of one, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..errors import LedgerCorrupt, LedgerError
from ..ledger.chain import verify_export_file
from ..ports import Event, Record

__all__ = ["ExportedLedger", "read_export"]


class ExportedLedger:
    """The records of an export, in memory. A payload that was pruned is missing here, too.

    Attributes:
        path: of the file; count, head: as its trailer states them.
    """

    def __init__(self, path: Path, count: int, head: str, records: Sequence[tuple[Record, bool]]) -> None:
        self.path, self.count, self.head = path, count, head
        self._records = records
        self._streams: dict[str, list[tuple[Record, bool]]] = {}
        for record, there in records:
            self._streams.setdefault(record.stream, []).append((record, there))

    async def record(self, stream: str, events: Sequence[Event], *, after: int) -> list[Record]:
        """An export is not written to: LedgerError."""
        raise LedgerError(f"{self.path} is an export: nothing can be recorded in it")

    def read(self, stream: str, *, after: int = 0, pruned: Literal["raise", "skip"] = "raise") -> list[Record]:
        """As `Ledger.read`."""
        return list(_whole(self._streams.get(stream, [])[after:], pruned))

    def scan(self, from_seq: int = 1, *, pruned: Literal["raise", "skip"] = "raise") -> Iterator[Record]:
        """As `Ledger.scan`."""
        return _whole(self._records[from_seq - 1 :], pruned)

    def streams(self) -> list[str]:
        """As `Ledger.streams`."""
        return list(self._streams)

    def verify(self) -> int:
        """The number of records: they were verified as they were read."""
        return self.count

    def close(self) -> None:
        """Nothing is open."""


def _whole(records: Sequence[tuple[Record, bool]], pruned: str) -> Iterator[Record]:
    for record, there in records:
        if there:
            yield record
        elif pruned == "raise":
            raise LedgerError(f"the payload of record {record.seq} was pruned; read on with pruned='skip'")


def read_export(path: Path) -> ExportedLedger:
    """Verify an export, and read it.

    Raises:
        LedgerCorrupt: it does not verify. OSError: it cannot be read.
    """
    with path.open("rb") as file:
        count, head = verify_export_file(file)
        file.seek(0)
        records = [_record(json.loads(next(file))) for _ in range(count)]
        if json.loads(next(file, b"null")) != {"count": count, "head": head}:
            raise LedgerCorrupt(f"{path} changed while it was read; verify a file that nobody writes")
    return ExportedLedger(path, count, head, records)


def _record(fields: Mapping[str, Any]) -> tuple[Record, bool]:
    names = ("seq", "stream", "place", "kind", "at_ms", "prev_hash", "hash")
    own = {name: fields[name] for name in names}
    return Record(**own, payload=fields["payload"] or {}), fields["payload"] is not None
