"""What callers ask of a scope's submitter: the stream `requests/<scope>`, written by anybody, acted on by the leader.

    commit     {proposal_id, confirmed_by, by}         carry this proposal through, or say why not
    refused    {proposal_id, reasons, by}              a file that is not what the ledger knows: answered by its caller
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
from .streams import REQUESTS

__all__ = ["CommitRequest", "Inbox", "Resolution", "is_node_name", "request", "requests_of"]

TRIES_MAX: Final = 200
NODE_CHARS_MAX: Final = 200
_PAUSE_S: Final = 0.002


def is_node_name(name: str) -> bool:
    """Whether a node can be called this: 1 to 200 printable characters."""
    return 0 < len(name) <= NODE_CHARS_MAX and name.isprintable()


def requests_of(scope: str) -> str:
    """The stream of a scope's requests."""
    return f"{REQUESTS}{scope}"


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
    """A proposal to commit. `seq`: of the record that asks; 0 for a worker's own wish.

    Attributes:
        refusals: what is wrong with the file it came from; such a request is refused at once, by its caller.
    """

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
        commits: requests that are not answered yet, oldest first; resolutions: all words, oldest first.
        transfer: to whom the leader is asked to hand over; resign: whether it is asked to go. Only what is asked
            after `since`, so that an old word does not depose a new leader.
    """

    ledger: Ledger
    scope: str
    since: int = 0
    place: int = 0
    commits: list[CommitRequest] = field(default_factory=list)
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
            by = str(said.get("confirmed_by") or "")
            self.commits.append(CommitRequest(record.seq, str(said["proposal_id"]), confirmed_by=by))
        elif record.kind == "resolve":
            word = Resolution(record.seq, str(said["key"]), str(said["as"]), str(said["by"]), str(said.get("note", "")))
            self.resolutions.append(word)
        elif record.seq > self.since and record.kind == "transfer" and is_node_name(str(said["to"])):
            self.transfer = str(said["to"])
        elif record.seq > self.since and record.kind == "resign":
            self.resign = True
