"""`ledger verify`: whether a ledger, or an export of one, holds what it promises.

    file        its structure, every payload's digest, the chain, the places of streams (the ledger's own check)
    slots       every commit record that takes a slot is the one that the slot names; the fence is the term sealed last
    commits     the invariants of every scope (`core.invariants`)
    scopes      a proposal is admitted in one scope only, the one that it belongs to
    snapshots   they say what the records say
    elections   terms only grow
    proposals   debates that landed and panels fold again, to what was recorded as landed

All problems are looked for, and named in this order; a ledger whose file is damaged is not looked at further.
Of one proposal, the file is checked whole, and then what belongs to it: its slots, its commits' invariants, the one
scope, its debate or vote. Snapshots and votes of elections are no proposal's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from ..core.invariants import violations
from ..core.journal import slot_of
from ..core.panel import DEBATES_PROPOSAL
from ..errors import LedgerCorrupt, MadflowError
from ..ports import Ledger, Record
from .known import known_proposal
from .named import is_about, scopes_of, subject_named
from .snapshot import check_snapshot, snapshot_of
from .streams import BOUND, COMMITS, DEBATES, ELECTIONS, PANELS

__all__ = ["PROBLEMS_MAX", "Verified", "verify_all", "verify_proposal"]

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
    problems = _listed(_problems(ledger, scopes, proposals, streams))
    return Verified(count, len(scopes), len(proposals), problems)


def verify_proposal(ledger: Ledger, asked: str) -> Verified:
    """Check the whole chain, and then what belongs to one proposal. `records` counts the whole; `scopes`, where it has
    commit records; `proposals`, its debate or vote, if that is there.

    Args:
        asked: as `explain` takes it.

    Raises:
        UnknownProposal: the ledger knows nothing of that name, or several things.
        LedgerError: the ledger cannot be read.
    """
    try:
        count = ledger.verify()
        scopes = scopes_of(ledger)
        name = subject_named(ledger, asked)
    except LedgerCorrupt as error:
        return Verified(0, 0, 0, (str(error),))
    own = {scope: found for scope, records in scopes.items() if (found := _of_proposal(records, name))}
    wanted = (f"{PANELS}{name}", f"{DEBATES}{DEBATES_PROPOSAL.sub('', name)}")
    streams = [stream for stream in ledger.streams() if stream in wanted]
    return Verified(count, len(own), len(streams), _listed(_problems_of(ledger, own, streams)))


def _of_proposal(records: list[Record], name: str) -> list[Record]:
    """The proposal's commit records with the terms that were sealed; nothing where it has none."""
    own = {record.seq for record in records if is_about(str(record.payload.get("proposal_id") or ""), name)}
    return [record for record in records if record.kind == "term_sealed" or record.seq in own] if own else []


def _problems_of(ledger: Ledger, scopes: dict[str, list[Record]], streams: list[str]) -> Iterator[str]:
    for scope, records in scopes.items():
        if isinstance(ledger, _Slots):
            yield from _slots(ledger, scope, records)
        yield from (f"scope {scope!r}, {problem}" for problem in violations(records, scope=scope))
    yield from _bound(ledger, scopes)
    for stream in streams:
        yield from _folds(ledger, stream)


def _listed(problems: Iterator[str]) -> tuple[str, ...]:
    found: list[str] = []
    for problem in problems:
        found.append(problem)
        if len(found) > PROBLEMS_MAX:
            found[-1] = f"more than {PROBLEMS_MAX} problems; restore the ledger from a backup or an export"
            break
    return tuple(found)


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
    try:
        yield from _bound(ledger, scopes_of(ledger))
    except MadflowError as error:
        yield f"the scopes that proposals belong to: {error}"
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


def _bound(ledger: Ledger, scopes: dict[str, list[Record]]) -> Iterator[str]:
    """What was admitted (its first intent is recorded) in two scopes, or not where it belongs."""
    admitted: dict[str, dict[str, int]] = {}
    for scope, records in scopes.items():
        for record in records:
            if record.kind == "intent":
                admitted.setdefault(str(record.payload.get("proposal_id")), {}).setdefault(scope, record.seq)
    for name, where in admitted.items():
        if len(where) > 1:
            told = ", ".join(f"{scope!r} (record {seq})" for scope, seq in where.items())
            yield f"proposal {name!r} was admitted in scopes {told}: what it does may have happened once in each"
        try:
            records = ledger.read(f"{BOUND}{name}")
        except MadflowError as error:
            yield f"{BOUND}{name}: {error}"
            continue
        if len(records) > 1:
            yield f"{BOUND}{name}: {len(records)} records; a proposal belongs to one scope, for good"
        holder = str(records[0].payload.get("scope")) if records else ""
        for scope, seq in where.items():
            if records and scope != holder:
                yield f"scope {scope!r}, record {seq} (intent): proposal {name!r} belongs to scope {holder!r}"


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
