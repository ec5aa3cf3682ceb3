"""Snapshots of a scope's journal: where its commits stand, so that a long stream is not folded from its beginning.

A snapshot is a chain of parts in the stream `snapshot/<scope>`. Each part takes up the commit records behind the part
before it, and says where the commits that they touch stand then; a later part's word on a commit replaces an earlier
one's. So a part is written once, and none is written twice:

    from, place   the part covers the commit records behind place `from`, up to `place`
    head          the hash of the record at `place`: a part fits no other stream
    term          that sealed the scope last
    commits       what `Journal.dump` gives of the commits that are touched
    requests      up to which place of `requests/<scope>` all requests were answered

Two processes may take a snapshot at once, and their parts may meet in one stream: a part that lies wholly behind what
is covered says nothing new, and one from place 0 starts over.

A snapshot is no authority. Commit records are never pruned: `ledger verify` folds them all and compares, and whoever
appends is still checked against slots and term. It saves time, nothing else. So one that cannot be used, since it is of
another version or does not fit, is not used: the records are folded from their beginning, `check_snapshot` says why,
and the next snapshot starts over behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
        LedgerCorrupt: the snapshot cannot be used, and the records are not all there.
    """
    journal = Journal() if journal is None else journal
    useless = ""
    if journal.place == 0:
        useless = _restore(ledger, scope, journal).useless
    if not useless:
        for record in ledger.read(stream_of(scope), after=journal.place):
            journal.add(record)
        return journal
    for record in ledger.read(stream_of(scope), pruned="skip"):
        if record.place != journal.place + 1:
            raise LedgerCorrupt(
                f"the snapshot of scope {scope!r} cannot be used ({useless}), and {stream_of(scope)!r} lacks the "
                f"record at place {journal.place + 1}; restore the ledger from a backup or an export"
            )
        journal.add(record)
    return journal


@dataclass(frozen=True, slots=True)
class _Restored:
    """What one reading of the parts gave. tip: the place of the last part; useless: why the parts were not used."""

    tip: int
    useless: str = ""


def _restore(ledger: Ledger, scope: str, journal: Journal) -> _Restored:
    """Put the parts into an empty journal, or nothing where they cannot be used."""
    parts = ledger.read(snapshot_of(scope), pruned="skip")
    tip, useless = parts[-1].place if parts else 0, ""
    while True:
        folded, last, why = _folded(parts)
        if last is None:
            return _Restored(tip, useless or why)
        at = next(iter(ledger.read(stream_of(scope), after=folded.place - 1, pruned="skip")), None)
        if at is not None and (at.place, at.hash) == (folded.place, last.payload["head"]):
            vars(journal).update(vars(folded))
            return _Restored(tip)
        useless = f"its record {last.seq}: the record at place {folded.place} of {stream_of(scope)!r} is another one"
        parts.remove(last)


def _folded(parts: Sequence[Record]) -> tuple[Journal, Record | None, str]:
    """A journal of the parts, the last that it is made of, and why there is none."""
    folded, last, useless = Journal(), None, ""
    for part in parts:
        said = part.payload
        try:
            if _covers(said, folded.place):
                if said["from"] == 0:
                    folded = Journal()
                folded.restore(said["commits"], term=said["term"], place=said["place"])
                folded.requests, last, useless = int(said["requests"]), part, ""
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            folded, last = Journal(), None
            useless = f"its record {part.seq}: {type(error).__name__}: {str(error)[:300]}"
    return folded, last, useless


def _covers(said: Mapping[str, Any], covered: int) -> bool:
    """Whether a part goes on from `covered` places, or starts over; False where it says nothing new. Raises ValueError
    for one that does neither, KeyError or TypeError for one that is none."""
    if said["version"] != _VERSION:
        raise ValueError(f"it is of version {said['version']}, and this madflow knows {_VERSION}")
    since, place, _ = said["from"], said["place"], said["head"]
    if not 0 <= since < place:
        raise ValueError(f"it covers places {since} to {place}")
    if place <= covered:
        return False
    if since not in (0, covered):
        raise ValueError(f"it covers places {since} to {place}, the one before ends at {covered}")
    return True


async def take_snapshot(ledger: Ledger, scope: str) -> int:
    """Record the parts that are missing up to now; how many commit records they cover.

    Where another process is at it, too, its parts are as good: this one stops.
    """
    stream, covered = snapshot_of(scope), 0
    journal = Journal()
    tip = _restore(ledger, scope, journal).tip
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
    """What the snapshot says otherwise than all the records do, or why it cannot be used; empty where it is as they
    are."""
    restored = Journal()
    if useless := _restore(ledger, scope, restored).useless:
        return [f"scope {scope!r}: the snapshot cannot be used, and the records are read instead: {useless}"]
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
