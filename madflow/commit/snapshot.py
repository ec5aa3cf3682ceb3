"""Snapshots of a scope's journal: where its commits stand, so that a long stream is not folded from its beginning.

A snapshot is a chain of parts in the stream `snapshot/<scope>`. Each part takes up the commit records behind the part
before it, and says where the commits that they touch stand then; a later part's word on a commit replaces an earlier
one's. So a part is written once, and none is written twice:

    from, place   the part covers the commit records behind place `from`, up to `place`
    head          the hash of the record at `place`: a part fits no other stream
    term          that sealed the scope last
    commits       what `Journal.dump` gives of the commits that are touched
    requests      up to which place of `requests/<scope>` all requests were answered

A snapshot is no authority. Commit records are never pruned: `ledger verify` folds them all and compares, and whoever
appends is still checked against slots and term. It saves time, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..core.journal import Journal, commit_id
from ..errors import LedgerConflict, LedgerCorrupt
from ..ports import Event, Ledger, Record
from .requests import requests_of
from .streams import SNAPSHOTS, stream_of

__all__ = ["SNAPSHOT_EVERY", "check_snapshot", "load_journal", "snapshot_of", "take_snapshot"]

SNAPSHOT_EVERY: Final = 4_096
"""Commit records behind the last snapshot after which a submitter takes the next one, when it resigns."""

_VERSION: Final = 1
_PART_RECORDS_MAX: Final = 4_096
_PART_CHARS_MAX: Final = 8 * 1024 * 1024


def snapshot_of(scope: str) -> str:
    """The stream of a scope's snapshots."""
    return f"{SNAPSHOTS}{scope}"


def load_journal(ledger: Ledger, scope: str, journal: Journal | None = None) -> Journal:
    """The journal of a scope as the ledger is now: from its snapshot, where it has one, and the records behind that.

    Args:
        journal: one to go on with; what it has is not read again. It is what is returned.

    Raises:
        LedgerCorrupt: the snapshot does not fit the scope's records.
    """
    journal = Journal() if journal is None else journal
    if journal.place == 0:
        _restore(ledger, scope, journal)
    for record in ledger.read(stream_of(scope), after=journal.place):
        journal.add(record)
    return journal


def _restore(ledger: Ledger, scope: str, journal: Journal) -> int:
    """Restore an empty journal; how many parts there were. Who adds one adds it behind these, and no others."""
    place, head = 0, ""
    parts = ledger.read(snapshot_of(scope))
    for part in parts:
        said = part.payload
        try:
            if said["version"] != _VERSION:
                raise ValueError(f"it is of version {said['version']}, and this madflow knows {_VERSION}")
            if said["from"] != place or said["place"] <= place:
                raise ValueError(f"it covers places {said['from']} to {said['place']}, the one before ends at {place}")
            place, head = said["place"], said["head"]
            journal.restore(said["commits"], term=said["term"], place=place)
            journal.requests = said["requests"]
        except (KeyError, TypeError, ValueError) as error:
            raise _corrupt(part.seq, scope, f"{type(error).__name__}: {str(error)[:300]}") from error
    if place:
        at = next(iter(ledger.read(stream_of(scope), after=place - 1)), None)
        if at is None or at.hash != head:
            raise _corrupt(0, scope, f"the record at place {place} of {stream_of(scope)!r} is another one")
    return len(parts)


def _corrupt(seq: int, scope: str, why: str) -> LedgerCorrupt:
    where = f"record {seq}: a" if seq else "the"
    return LedgerCorrupt(
        f"{where} snapshot of scope {scope!r} cannot be used: {why}; restore the ledger from a backup or an export"
    )


async def take_snapshot(ledger: Ledger, scope: str) -> int:
    """Record the parts that are missing up to now; how many commit records they cover.

    Where another process is at it, too, its parts are as good: this one stops.
    """
    stream, covered = snapshot_of(scope), 0
    journal = Journal()
    tip = _restore(ledger, scope, journal)
    requests = ledger.read(requests_of(scope), after=journal.requests)
    for chunk in _chunks(ledger.read(stream_of(scope), after=journal.place)):
        since, touched = journal.place, dict.fromkeys(str(r.payload.get("commit_id") or "") for r in chunk)
        for record in chunk:
            journal.add(record)
        answered = _answered(requests, journal, scope, up_to=chunk[-1].seq)
        requests = requests[answered:]
        journal.requests += answered
        payload = {
            "version": _VERSION,
            "from": since,
            "place": journal.place,
            "head": chunk[-1].hash,
            "term": journal.term,
            "commits": journal.dump(name for name in touched if name in journal.commits),
            "requests": journal.requests,
        }
        try:
            tip = (await ledger.record(stream, [Event("snapshot", payload)], after=tip))[-1].place
        except LedgerConflict:
            break
        covered += len(chunk)
    return covered


def _chunks(records: Sequence[Record]) -> Iterator[list[Record]]:
    """The records in parts that fit into one payload: what a commit comes to is no longer than what is said of it."""
    part: list[Record] = []
    size = 0
    for record in records:
        part.append(record)
        size += len(str(record.payload))
        if len(part) >= _PART_RECORDS_MAX or size >= _PART_CHARS_MAX:
            yield part
            part, size = [], 0
    if part:
        yield part


def _answered(requests: Sequence[Record], journal: Journal, scope: str, *, up_to: int) -> int:
    """How many of the first requests, recorded before `up_to`, ask for nothing any more."""
    count = 0
    for record in requests:
        if record.seq > up_to or not _is_answered(record, journal, scope):
            break
        count += 1
    return count


def _is_answered(record: Record, journal: Journal, scope: str) -> bool:
    said = record.payload
    if record.kind == "commit":
        state = journal.commits.get(commit_id(scope, str(said["proposal_id"])))
        if state is None:
            return False
        return state.admitted or any(found["result"]["request"] >= record.seq for found in state.rejections)
    if record.kind == "resolve":
        key = journal.keys.get(str(said["key"]))
        return key is None or key.status != "in_doubt" or record.seq <= key.doubt_seq
    return True  # to hand over or to resign is asked of the leader of that time only


def check_snapshot(ledger: Ledger, scope: str) -> list[str]:
    """What the snapshot says otherwise than all the records do; empty where it is as they are."""
    restored = Journal()
    _restore(ledger, scope, restored)
    if restored.place == 0:
        return []
    whole = Journal(record for record in ledger.read(stream_of(scope)) if record.place <= restored.place)
    found = []
    if (restored.term, restored.place) != (whole.term, whole.place):
        found.append(f"scope {scope!r}: the snapshot ends in term {restored.term}, its records in term {whole.term}")
    for name in {**whole.commits, **restored.commits}:
        own, theirs = (_shown(journal, name) for journal in (restored, whole))
        if own != theirs:
            found.append(f"scope {scope!r}: the snapshot and the records differ on where commit {name} stands")
    return found


def _shown(journal: Journal, name: str) -> Mapping[str, Any] | None:
    return journal.dump([name])[0] if name in journal.commits else None
