"""The ledger as a plain list: what `ports.FencedLedger` promises, without files, threads or awaiting.

`admits` and `is_free` are the two checks that a real ledger makes inside its write transaction; planted mutants replace
them. `stored` is told of every append that got through, and judges it by what was sealed, not by `admits`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...ports import Appended, Duplicate, Entry, Event, Fenced, Record, Sealed, Stale

__all__ = ["ModelLedger"]


class ModelLedger:
    """One scope's records.

    Args:
        scope: the stream is `commit/<scope>`.
        now: the time of the simulation; stored: called with the term of every append that is stored.
        believes: whether some node thinks that it leads in this term. The ledger does not ask; a mutant does.
    """

    def __init__(
        self,
        scope: str,
        *,
        now: Callable[[], int],
        stored: Callable[[int, int], None],
        believes: Callable[[int], bool],
    ) -> None:
        self.stream, self.term = f"commit/{scope}", 0
        self.records: list[Record] = []
        self.slots: dict[str, Record] = {}
        self.believes = believes
        self._now, self._stored = now, stored

    def admits(self, term: int) -> bool:
        """Whether `term` is the one that sealed the scope last."""
        return term == self.term

    def is_free(self, slot: str) -> bool:
        """Whether no record has taken the slot."""
        return slot not in self.slots

    def seal(self, term: int, event: Event) -> Sealed | Stale:
        """Take the scope for `term`, if it is greater than every term before."""
        if term <= self.term:
            return Stale(self.term)
        self.term = term
        return Sealed(self._store(event, f"term/{term}"))

    def append(self, term: int, entries: Sequence[Entry]) -> Appended | Fenced | Duplicate:
        """Append all entries or none."""
        refused = self._refused(term, [entry.slot for entry in entries])
        if refused is not None:
            return refused
        self._stored(term, self.term)
        return Appended(tuple(self._store(entry.event, entry.slot) for entry in entries))

    def transact(self, term: int, slot: str, work: Callable[[], Event]) -> Appended | Fenced | Duplicate:
        """`append` of what `work` returns; it does nothing where that is refused."""
        refused = self._refused(term, [slot])
        if refused is not None:
            return refused
        event = work()
        self._stored(term, self.term)
        return Appended((self._store(event, slot),))

    def find(self, slot: str) -> Record | None:
        """The record that took the slot."""
        return self.slots.get(slot)

    def _refused(self, term: int, slots: Sequence[str]) -> Fenced | Duplicate | None:
        if not self.admits(term):
            return Fenced(self.term)
        for slot in slots:
            if slot and not self.is_free(slot):
                return Duplicate(slot, self.slots[slot])
        return None

    def _store(self, event: Event, slot: str) -> Record:
        payload: Any = event.payload
        seq = len(self.records) + 1
        record = Record(seq, self.stream, seq, event.kind, payload, self._now(), "", "")
        self.records.append(record)
        if slot:
            self.slots[slot] = record
        return record
