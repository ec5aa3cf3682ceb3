"""What callers ask of a scope's submitter: the stream `requests/<scope>`, written by anybody, acted on by the leader.

    commit     {proposal_id, refusals, confirmed_by}   carry this proposal through, or say why not
    resolve    {key, as, by, note}                     a human's word on a key in doubt
    transfer   {to}          resign {}                 for the leader itself

A request is no authority: the leader reads proposals from the ledger, and the gate decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import LedgerConflict
from ..ports import Clock, Event, Ledger, Record

__all__ = ["CommitRequest", "Inbox", "Resolution", "request", "requests_of"]

TRIES_MAX: Final = 200
_PAUSE_S: Final = 0.002


def requests_of(scope: str) -> str:
    """The stream of a scope's requests."""
    return f"requests/{scope}"


async def request(ledger: Ledger, scope: str, event: Event, clock: Clock, *, after: int = 0) -> Record:
    """Record a request; durable when it returns. Raises LedgerConflict when too many others were faster each time.

    Args:
        after: a place of the stream that is known to be taken, to look for its end from there.
    """
    stream, place = requests_of(scope), after
    for attempt in range(1, TRIES_MAX + 1):
        records = ledger.read(stream, after=place)
        place = records[-1].place if records else place
        try:
            return (await ledger.record(stream, [event], after=place))[0]
        except LedgerConflict:
            if attempt == TRIES_MAX:
                raise
            await clock.sleep(_PAUSE_S)
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """A proposal to commit. `refusals`: what its caller found wrong with the file it came from."""

    seq: int
    proposal_id: str
    refusals: tuple[Mapping[str, Any], ...] = ()
    confirmed_by: str = ""


@dataclass(frozen=True, slots=True)
class Resolution:
    """A human's word on a key."""

    seq: int
    key: str
    word: str
    by: str
    note: str


@dataclass(slots=True)
class Inbox:
    """A scope's requests as far as they are read, in their order.

    Attributes:
        commits: the latest request for each proposal; resolutions: all words, oldest first.
        transfer: to whom the leader is asked to hand over; resign: whether it is asked to go. Only what is asked
            after `since`, so that an old word does not depose a new leader.
    """

    ledger: Ledger
    scope: str
    since: int = 0
    place: int = 0
    commits: dict[str, CommitRequest] = field(default_factory=dict)
    resolutions: list[Resolution] = field(default_factory=list)
    transfer: str = ""
    resign: bool = False

    def catch_up(self) -> bool:
        """Read what is new; whether there was anything."""
        records = self.ledger.read(requests_of(self.scope), after=self.place)
        for record in records:
            self._take(record)
        return bool(records)

    def _take(self, record: Record) -> None:
        self.place, said = record.place, record.payload
        if record.kind == "commit":
            refusals, name = tuple(said.get("refusals") or ()), str(said["proposal_id"])
            self.commits[name] = CommitRequest(record.seq, name, refusals, str(said.get("confirmed_by") or ""))
        elif record.kind == "resolve":
            word = Resolution(record.seq, str(said["key"]), str(said["as"]), str(said["by"]), str(said.get("note", "")))
            self.resolutions.append(word)
        elif record.seq > self.since and record.kind == "transfer":
            self.transfer = str(said["to"])
        elif record.seq > self.since and record.kind == "resign":
            self.resign = True
