"""The simulated submitter's desk: its journal, and the only way to append to the ledger, under one term."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ...core.journal import Journal, slot_of
from ...ports import Appended, Duplicate, Entry, Event, Fenced
from .world import Request, SimCommit

if TYPE_CHECKING:
    from .cluster import Cluster, Member

__all__ = ["Desk", "LedgerSilent", "TermLost"]

TRIES_MAX: Final = 5


class TermLost(Exception):
    """The node no longer leads."""


class LedgerSilent(Exception):
    """The ledger does not say what became of an append."""


@dataclass(slots=True)
class Desk:
    """What everything under one term shares; `append` is the only way to write."""

    cluster: Cluster
    member: Member
    term: int
    journal: Journal
    lost: bool = False

    def check(self) -> None:
        """Raise TermLost once the node has learnt that it no longer leads."""
        if self.lost:
            raise TermLost

    def catch_up(self) -> None:
        """Fold what is new, and let the election know the tip."""
        for record in self.cluster.ledger.records[self.journal.place :]:
            self.journal.add(record)
        self.member.read_tip()

    def append(self, items: Sequence[tuple[str, Mapping[str, Any]]]) -> Generator[int, None, bool]:
        """Append all or none. Returns whether they were; False: a slot is taken, and the journal is up to date."""
        entries = [Entry(Event(kind, payload), slot_of(kind, payload)) for kind, payload in items]
        for _ in range(TRIES_MAX):
            fate = self.cluster.ledger_fate(self.member)
            answer = None if fate == "lost" else self.cluster.ledger.append(self.term, entries)
            if isinstance(answer, Appended):
                self.cluster.note(self.member, "appended", [f"{kind} {slot}" for kind, slot in _slots(entries)])
            yield self.cluster.delay()
            taken = self._take(None if fate != "ok" else answer)
            if taken is not None:
                return taken
        raise LedgerSilent

    def transact(self, slot: str, event: Event, request: Request) -> Generator[int, None, bool]:
        """The effect and its outcome in one transaction."""

        def work() -> Event:
            self.cluster.world.send(request)
            self.cluster.world.land(request)
            return event

        for _ in range(TRIES_MAX):
            fate = self.cluster.ledger_fate(self.member)
            answer = None if fate == "lost" else self.cluster.ledger.transact(self.term, slot, work)
            yield self.cluster.delay()
            taken = self._take(None if fate != "ok" else answer)
            if taken is not None:
                return taken
        raise LedgerSilent

    def _take(self, answer: Appended | Fenced | Duplicate | None) -> bool | None:
        if isinstance(answer, Fenced):
            self.cluster.note(self.member, "fenced", [f"term {self.term} by {answer.term}"])
            self.cluster.counts["fenced"] += 1
            self.lost = True
            raise TermLost
        if answer is None:
            self.cluster.counts["unknown"] += 1
        self.catch_up()
        return None if answer is None else isinstance(answer, Appended)

    def payload(self, commit: SimCommit, **fields: Any) -> dict[str, Any]:
        """Who and what, and `fields`."""
        return {
            "term": self.term,
            "commit_id": commit.commit_id,
            "proposal_id": commit.proposal_id,
            "proposal_digest": commit.proposal_id,
            "agent_id": self.member.name,
            "node": self.member.name,
            **fields,
        }


def _slots(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    return [(entry.event.kind, entry.slot[:8] + entry.slot[64:]) for entry in entries]
