"""Pruning: the payloads of chosen records go, what the chain needs of them stays.

    1. every record is offered to the caller's `keep`; those of `commit/…`, `election/…` and `pruned` are not: what
       was done, who was elected, and what was removed, stays readable
    2. in one transaction, a record of the stream `pruned` says which seqs, and their payloads become NULL
    3. the -wal file, which still holds the old pages, is emptied into the ledger and truncated

Free pages are overwritten (secure_delete), so after step 3 the bytes are gone from the ledger's files. Copies, backups
and the disk's own spare blocks are another matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..ports import Event, Record
from .chain import COMMIT, PRUNED, Row, to_record
from .requests import PruneRequest

__all__ = ["Pruned", "choose", "prune_requests"]

RECORDS_PER_REQUEST_MAX = 4_096
_STAYS = (COMMIT, "election/")  # without its votes, a scope could elect nobody any more


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune` did.

    Attributes:
        count: payloads removed; ranges: of which seqs, (first, last), both included.
        erased: whether the bytes are gone from the -wal file too; False while another process is reading.
    """

    count: int
    ranges: tuple[tuple[int, int], ...]
    erased: bool


def choose(rows: Iterable[Row], keep: Callable[[Record], bool]) -> list[tuple[int, int]]:
    """The seqs whose payloads are to go, as ranges. Raises what `keep` raises, and LedgerCorrupt."""
    ranges: list[tuple[int, int]] = []
    for row in rows:
        if row.payload is None or row.stream == PRUNED or row.stream.startswith(_STAYS) or keep(to_record(row)):
            continue
        first = ranges.pop()[0] if ranges and ranges[-1][1] == row.seq - 1 else row.seq
        ranges.append((first, row.seq))
    return ranges


def prune_requests(ranges: Iterable[tuple[int, int]]) -> Iterator[PruneRequest]:
    """Requests of a bounded number of records each, for `ranges`, which are not empty."""
    parts: list[list[tuple[int, int]]] = [[]]
    room = RECORDS_PER_REQUEST_MAX
    for start, last in ranges:
        first = start
        while first <= last:
            end = min(last, first + room - 1)
            parts[-1].append((first, end))
            room -= end - first + 1
            first = end + 1
            if room == 0:
                parts.append([])
                room = RECORDS_PER_REQUEST_MAX
    full = [part for part in parts if part]
    for number, part in enumerate(full, 1):
        count = sum(last - first + 1 for first, last in part)
        event = Event("pruned", {"count": count, "ranges": [list(pair) for pair in part]})
        yield PruneRequest(event, part, last=number == len(full))
