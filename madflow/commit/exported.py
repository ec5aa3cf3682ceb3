"""An export as a ledger that can be read: so that what reads a ledger reads the file of one, too.

An excerpt is the records of one proposal, each line as the whole export has it, and a trailer that says so:

    {"count": 12, "excerpt": true, "of_count": 340, "of_head": "…", "proposal_id": "p1"}

`count` are its own records; `of_count` and `of_head` are the trailer of the whole export at that moment. It is for
reading and handing on. Nothing shows what is missing between its lines, so nothing takes it for an export.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from os import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Protocol

from ..errors import ConfigError, LedgerCorrupt, LedgerError
from ..ledger.chain import verify_export_file
from ..ports import Event, Ledger, Record
from .story import records_of

__all__ = ["ExportedLedger", "ExportingLedger", "excerpt_lines", "read_export"]

_TAIL_BYTES: Final = 4_096  # a trailer is shorter


class ExportingLedger(Ledger, Protocol):
    """A ledger that can be exported."""

    def export_lines(self) -> Iterator[str]:
        """JSON lines without line ends, the last being the trailer."""
        ...


def excerpt_lines(ledger: ExportingLedger, proposal_id: str) -> Iterator[str]:
    """The lines of an excerpt, without line ends. Records whose payloads were pruned are left out.

    Args:
        proposal_id: of a proposal, or of a debate: all that `ledger log --accounts` tells of it.
    """
    wanted = {record.seq for record in records_of(ledger, proposal_id=proposal_id, accounts=True)}
    count = 0
    for line in ledger.export_lines():
        fields = json.loads(line)
        if "head" in fields:
            of = {"of_count": fields["count"], "of_head": fields["head"]}
            trailer = {"count": count, "excerpt": True, **of, "proposal_id": proposal_id}
            yield json.dumps(trailer, separators=(",", ":"))
        elif fields["seq"] in wanted:
            count += 1
            yield line


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
        LedgerCorrupt: it does not verify. ConfigError: it is an excerpt. OSError: it cannot be read.
    """
    with path.open("rb") as file:
        _refuse_excerpt(path, file)
        count, head = verify_export_file(file)
        file.seek(0)
        records = [_record(json.loads(next(file))) for _ in range(count)]
        if json.loads(next(file, b"null")) != {"count": count, "head": head}:
            raise LedgerCorrupt(f"{path} changed while it was read; verify a file that nobody writes")
    return ExportedLedger(path, count, head, records)


def _refuse_excerpt(path: Path, file: BinaryIO) -> None:
    file.seek(max(0, file.seek(0, SEEK_END) - _TAIL_BYTES))
    lines = file.read().splitlines()
    file.seek(0)
    try:
        trailer = json.loads(lines[-1]) if lines else None
    except (ValueError, RecursionError):
        return  # no trailer at all: whoever verifies it says so
    if isinstance(trailer, dict) and trailer.get("excerpt") is True:
        raise ConfigError(
            f"{path} is an excerpt, the records of one proposal: it has no chain that could be verified; run `madflow "
            "ledger verify --proposal ID` on the ledger, or on an export that was made without --proposal"
        )


def _record(fields: Mapping[str, Any]) -> tuple[Record, bool]:
    names = ("seq", "stream", "place", "kind", "at_ms", "prev_hash", "hash")
    own = {name: fields[name] for name in names}
    return Record(**own, payload=fields["payload"] or {}), fields["payload"] is not None
