"""`ledger verify`: whether a ledger, or an export of one, holds what it promises.

    file        its structure, every payload's digest, the chain, the places of streams (the ledger's own check)
    slots       every commit record that takes a slot is the one that the slot names; the fence is the term sealed last
    commits     the invariants of every scope (`core.invariants`)
    snapshots   they say what the records say
    elections   terms only grow
    proposals   debates that landed and panels fold again, to what was recorded as landed

All problems are looked for, and named in this order; a ledger whose file is damaged is not looked at further.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from ..core.invariants import violations
from ..core.journal import slot_of
from ..errors import LedgerCorrupt, MadflowError
from ..ports import Ledger, Record
from .known import known_proposal
from .snapshot import check_snapshot, snapshot_of
from .streams import COMMITS, DEBATES, ELECTIONS, PANELS

__all__ = ["PROBLEMS_MAX", "Verified", "verify_all"]

PROBLEMS_MAX: Final = 100
"""How many problems are listed; the list then ends with a line that says so."""


@runtime_checkable
class _Slots(Protocol):
    """The part of a ledger that an export has not: what a submitter's append is checked against."""

    def find(self, scope: str, slot: str) -> Record | None: ...
    def fence(self, scope: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and what is wrong with it, in the order of the list above."""

    records: int
    scopes: int
    proposals: int
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        counts = {"records": self.records, "scopes": self.scopes, "proposals": self.proposals}
        return {"ok": not self.problems, **counts, "problems": list(self.problems)}


def verify_all(ledger: Ledger) -> Verified:
    """Check all of it; nothing is written, and no damage is raised: it is in the answer.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    try:
        count = ledger.verify()
        streams = ledger.streams()
    except LedgerCorrupt as error:
        return Verified(0, 0, 0, (str(error),))
    scopes = [name.removeprefix(COMMITS) for name in streams if name.startswith(COMMITS)]
    proposals = [name for name in streams if name.startswith((DEBATES, PANELS))]
    problems: list[str] = []
    for problem in _problems(ledger, scopes, proposals, streams):
        problems.append(problem)
        if len(problems) > PROBLEMS_MAX:
            problems[-1] = f"more than {PROBLEMS_MAX} problems; restore the ledger from a backup or an export"
            break
    return Verified(count, len(scopes), len(proposals), tuple(problems))


def _problems(ledger: Ledger, scopes: list[str], proposals: list[str], streams: list[str]) -> Iterator[str]:
    for scope in scopes:
        try:
            records = ledger.read(f"{COMMITS}{scope}")
            if isinstance(ledger, _Slots):
                yield from _slots(ledger, scope, records)
            yield from (f"scope {scope!r}, {problem}" for problem in violations(records, scope=scope))
            if snapshot_of(scope) in streams:
                yield from check_snapshot(ledger, scope)
        except MadflowError as error:
            yield f"scope {scope!r}: {error}"
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # The fold takes records that keep the invariants; `violations` has said what is wrong with these.
            yield f"scope {scope!r}: its records cannot be folded ({type(error).__name__}: {str(error)[:200]})"
    for name in streams:
        if name.startswith(ELECTIONS):
            yield from _terms(name, ledger.read(name))
    for name in proposals:
        yield from _folds(ledger, name)


def _slots(ledger: _Slots, scope: str, records: list[Record]) -> Iterator[str]:
    """Batches are read by the ledger; here each record asks for its own slot."""
    term = 0
    for record in records:
        if record.kind == "term_sealed":
            term = record.payload.get("term", 0)
            continue
        try:
            slot = slot_of(record.kind, record.payload)
        except (KeyError, TypeError) as error:
            yield f"scope {scope!r}, record {record.seq} ({record.kind[:40]}): it lacks {error}"
            continue
        taken = ledger.find(scope, slot) if slot else record
        if taken is None or taken.seq != record.seq:
            by = "nobody" if taken is None else f"record {taken.seq}"
            yield f"scope {scope!r}, record {record.seq} ({record.kind}): its slot {slot!r} is taken by {by}"
    if records and ledger.fence(scope) != term:
        yield f"scope {scope!r}: fenced by term {ledger.fence(scope)}, but term {term} sealed it last"


def _terms(stream: str, records: list[Record]) -> Iterator[str]:
    last = 0
    for record in records:
        if record.kind != "vote":
            continue
        term = record.payload.get("term")
        if not isinstance(term, int) or term <= last:
            yield f"{stream}, record {record.seq}: a vote of term {str(term)[:40]} after term {last}; terms only grow"
        else:
            last = term


def _folds(ledger: Ledger, stream: str) -> Iterator[str]:
    name = stream.removeprefix(PANELS) if stream.startswith(PANELS) else f"{stream.removeprefix(DEBATES)}-p1"
    try:
        known = known_proposal(ledger, name, now_ms=0)
    except MadflowError as error:
        yield f"{stream}: {error}"
        return
    for problem in known.problems if known else ():
        if problem.code == "ledger_differs":
            yield f"{stream}: {problem.message}"
