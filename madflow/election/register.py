"""The durable voter of one machine: the ledger's stream `election/<scope>`, read incrementally, voted in by place.

    vote          term, candidate, tip of the scope's log, and for the audit: process, lease, and who led before
    transferred   term, node, to, ttl_ms: for one lease only `to` may stand

How the voter decides is `core.election.Voter`. What makes it one vote a term is the ledger: a record is written *after
a place*, so of two that read the same state only one gets through, and the other reads again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..core.election import HardState, RequestVote, Tip, Voter
from ..errors import LedgerConflict, LedgerCorrupt
from ..ports import Event, Ledger, Record
from .heart import TTL_S_MAX

__all__ = ["ATTEMPTS_MAX", "Register", "Transfer", "stream_of"]

ATTEMPTS_MAX: Final = 16
_VOTER: Final = "ledger"


@dataclass(frozen=True, slots=True)
class Transfer:
    """The scope was handed to `to`; for `ttl_s` nobody else may stand."""

    place: int
    to: str
    ttl_s: float


def stream_of(scope: str) -> str:
    """The stream that the votes of a scope are recorded in."""
    return f"election/{scope}"


class Register:
    """The votes of one scope.

    Attributes:
        hard: the voter's hard state; place: up to where the stream was read; transfer: the last, if no vote follows it.
        tip: the end of the scope's log of commit records, up to where it was read.
    """

    def __init__(self, ledger: Ledger, scope: str, voter: Voter) -> None:
        self._ledger, self._scope, self._voter = ledger, scope, voter
        self.hard, self.place, self.tip = HardState(), 0, Tip()
        self.transfer: Transfer | None = None
        self._tip_hint = 0

    def catch_up(self, hint: int = 0) -> None:
        """Read what is new. `hint`: a place to start from if nothing was read yet; used only if a vote is there, and a
        vote is all that matters of what came before it."""
        records: list[Record] = []
        if self.place == 0 and hint > 1:
            records = self._ledger.read(stream_of(self._scope), after=hint - 1)
            if not records or records[0].kind != "vote":
                records = []
        for record in records or self._ledger.read(stream_of(self._scope), after=self.place):
            self._fold(record)

    def read_tip(self) -> Tip:
        """The end of the scope's log now; read from where the last vote found it, not from its beginning."""
        stream = f"commit/{self._scope}"
        records: list[Record] = []
        if self.tip.seq == 0 and self._tip_hint > 1:
            records = self._ledger.read(stream, after=self._tip_hint - 1)
        for record in records or self._ledger.read(stream, after=self.tip.seq):
            term = record.payload.get("term")  # a record whose payload was pruned has none
            self.tip = Tip(term if isinstance(term, int) else self.tip.term, record.place)
        return self.tip

    async def vote(self, node: str, audit: Mapping[str, Any]) -> int:
        """Ask for the vote of the next term, as often as somebody else gets in between, at most `ATTEMPTS_MAX` times.

        Returns:
            the term, granted and durable.

        Raises:
            LedgerConflict: others got in between every time. LedgerError.
        """
        tip = self.read_tip()
        for _ in range(ATTEMPTS_MAX):
            self.catch_up()
            request = RequestVote(self.hard.term + 1, node, _VOTER, tip)
            hard, granted = self._voter.consider(self.hard, self.read_tip(), request)
            if not granted:
                tip = self.read_tip()
                continue
            said = {"term": hard.term, "candidate": node, "tip": {"term": tip.term, "seq": tip.seq}, **audit}
            try:
                (record,) = await self._ledger.record(stream_of(self._scope), [Event("vote", said)], after=self.place)
            except LedgerConflict:
                continue
            self._fold(record)
            return hard.term
        raise LedgerConflict(
            f"scope {self._scope!r}: other candidates took each of {ATTEMPTS_MAX} votes in a row; somebody writes to "
            f"{stream_of(self._scope)!r} without holding its lock; use one lock folder for one ledger"
        )

    async def hand_over(self, term: int, node: str, to: str, ttl_s: float) -> None:
        """Record a transfer, unless a later vote makes it void."""
        said = {"term": term, "node": node, "to": to, "ttl_ms": round(ttl_s * 1000)}
        for _ in range(ATTEMPTS_MAX):
            self.catch_up()
            if self.hard.term != term:
                return
            try:
                (record,) = await self._ledger.record(
                    stream_of(self._scope), [Event("transferred", said)], after=self.place
                )
            except LedgerConflict:
                continue
            self._fold(record)
            return

    def _fold(self, record: Record) -> None:
        if record.place <= self.place:
            return  # two tasks of one process read at the same time
        if record.kind == "vote":
            term = _integer(record, "term")
            if term <= self.hard.term:
                raise LedgerCorrupt(
                    f"record {record.seq}: a vote of term {term} after one of term {self.hard.term}; terms only grow"
                )
            tip = record.payload.get("tip")
            if isinstance(tip, Mapping) and isinstance(tip.get("seq"), int):
                self._tip_hint = tip["seq"]
            self.hard, self.transfer = HardState(term, str(record.payload.get("candidate", ""))), None
        elif record.kind == "transferred" and _integer(record, "term") == self.hard.term:
            ttl_s = min(_integer(record, "ttl_ms") / 1000, TTL_S_MAX)
            self.transfer = Transfer(record.place, str(record.payload.get("to", "")), ttl_s)
        self.place = record.place


def _integer(record: Record, name: str) -> int:
    value = record.payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise LedgerCorrupt(f"record {record.seq} ({record.kind!r} in {record.stream!r}) has no {name}: {value!r}")
    return value
