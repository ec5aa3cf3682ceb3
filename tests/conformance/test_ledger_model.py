"""A stateful model: two handles on one ledger file, all that can be asked of it in any order, against a plain list."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from madflow.errors import LedgerConflict, LedgerError
from madflow.ledger.chain import verify_export
from madflow.ledger.sqlite import SqliteLedger
from madflow.ports import Appended, AppendResult, Duplicate, Entry, Event, Execute, Fenced, Record, Sealed, Stale
from madflow.testing.fenced_suite import ListFencedLedger

HANDLES, SCOPES, TERMS = st.integers(0, 1), st.sampled_from(["s", "t"]), st.integers(1, 5)
SLOTS = st.sampled_from(["", "", "x", "y", "z"])


class Clock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


class LedgerAgainstList(RuleBasedStateMachine):
    """Every answer is the list's, and after every step so is every record, slot, fence and effect, by both handles."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.db"
        self.handles = [SqliteLedger(self.path, clock=Clock()) for _ in range(2)]
        self.twin = ListFencedLedger()
        self.effects: list[int] = []
        self.pruned: set[int] = set()
        self.count = 0
        self.other = apsw.Connection(str(self.path))
        self.other.execute("CREATE TABLE effects (n)")

    def event(self) -> Event:
        self.count += 1
        return Event("noted", {"n": self.count, "text": "ü\n"})

    def plain(self, answer: Sealed | Stale | AppendResult) -> tuple[Any, ...]:
        if isinstance(answer, Stale | Fenced):
            return (type(answer).__name__.lower(), answer.term)
        if isinstance(answer, Duplicate):
            self.same(answer.existing)
            return ("duplicate", answer.slot, answer.existing.seq - 1)
        if isinstance(answer, Appended):
            for record in answer.records:
                self.same(record)
            return ("appended", len(answer.records))
        assert isinstance(answer, Sealed)
        self.same(answer.record)
        return ("sealed",)

    def same(self, record: Record) -> None:
        entry = self.twin.log[record.seq - 1]
        assert (record.stream, record.place, record.kind, record.payload) == entry

    @rule(handle=HANDLES, stream=st.sampled_from("ab"), count=st.integers(1, 4), off=st.sampled_from([0, 0, 0, -1, 1]))
    def record(self, handle: int, stream: str, count: int, off: int) -> None:
        after = self.twin.tip(stream) + off
        events = [self.event() for _ in range(count)]
        accepted = self.twin.append(stream, events, after)
        try:
            records = self.handles[handle].record_now(stream, events, after=after)
            assert [record.place for record in records] == list(range(after + 1, after + count + 1))
            assert accepted
        except LedgerConflict:
            assert not accepted

    @rule(handle=HANDLES, scope=SCOPES, term=TERMS)
    def seal(self, handle: int, scope: str, term: int) -> None:
        event = self.event()
        expected = self.twin.seal(scope, term, event)
        assert self.plain(self.handles[handle].seal_now(scope, term, event)) == expected

    @rule(handle=HANDLES, scope=SCOPES, term=TERMS, ahead=st.booleans(), slots=st.lists(SLOTS, min_size=1, max_size=3))
    def append(self, handle: int, scope: str, term: int, ahead: bool, slots: list[str]) -> None:
        term = term if ahead else self.twin.fences.get(scope, term)
        entries = [Entry(self.event(), slot) for slot in slots]
        named = [slot for slot in slots if slot]
        if len(set(named)) != len(named):
            try:
                self.handles[handle].append_now(scope, term, entries)
            except LedgerError:
                return
            raise AssertionError("two entries took one slot")
        expected = self.twin.append_fenced(scope, term, entries)
        assert self.plain(self.handles[handle].append_now(scope, term, entries)) == expected

    @rule(
        handle=HANDLES,
        scope=SCOPES,
        term=TERMS,
        slot=SLOTS.filter(bool),
        ends=st.sampled_from(["well", "raises", "bad"]),
    )
    def transact(self, handle: int, scope: str, term: int, slot: str, ends: str) -> None:
        term = self.twin.fences.get(scope, term)
        event, number = self.event(), self.count
        ran: list[int] = []

        def work(execute: Execute) -> Event:
            ran.append(number)
            execute("INSERT INTO effects VALUES (?)", (number,))
            if ends == "raises":
                raise ValueError("planted")
            return event if ends == "well" else Event("bad", {"x": float("inf")})

        async def call() -> AppendResult:
            return await self.handles[handle].transact(scope, term, slot, work, timeout_s=30)

        free = term == self.twin.fences.get(scope, 0) and (scope, slot) not in self.twin.slots
        if free and ends != "well":
            try:
                asyncio.run(call())
            except (ValueError, LedgerError):
                assert ran == [number]
                return
            raise AssertionError("the failure of work is lost")
        expected = self.twin.append_fenced(scope, term, [Entry(event, slot)])
        assert self.plain(asyncio.run(call())) == expected
        assert ran == ([number] if free else [])
        self.effects += ran

    @rule(handle=HANDLES, remainder=st.integers(0, 6))
    def prune(self, handle: int, remainder: int) -> None:
        gone = [
            seq
            for seq, (stream, _, _, payload) in enumerate(self.twin.log, 1)
            if stream in ("a", "b") and seq not in self.pruned and payload["n"] % 7 == remainder
        ]
        pruned = self.handles[handle].prune(lambda record: record.payload["n"] % 7 != remainder)
        assert [seq for first, last in pruned.ranges for seq in range(first, last + 1)] == gone
        if gone:
            said = Event("pruned", {"count": len(gone), "ranges": [list(pair) for pair in pruned.ranges]})
            self.twin.append("pruned", [said], self.twin.tip("pruned"))
        self.pruned |= set(gone)

    @rule(handle=HANDLES)
    def reopen(self, handle: int) -> None:
        self.handles[handle].close()
        self.handles[handle] = SqliteLedger(self.path, clock=Clock())

    @invariant()
    def agrees(self) -> None:
        expected = [entry for seq, entry in enumerate(self.twin.log, 1) if seq not in self.pruned]
        for handle in self.handles:
            stored = [
                (record.stream, record.place, record.kind, record.payload) for record in handle.scan(pruned="skip")
            ]
            assert stored == expected
            for scope in ("s", "t"):
                assert handle.fence(scope) == self.twin.fences.get(scope, 0)
                for slot in ("x", "y", "z"):
                    found, index = handle.find(scope, slot), self.twin.slots.get((scope, slot))
                    assert (found.seq - 1 if found else None) == index
                stream = f"commit/{scope}"
                assert [r.place for r in handle.read(stream, after=2)] == list(range(3, self.twin.tip(stream) + 1))
        assert self.handles[0].verify() == len(self.twin.log)
        assert verify_export(self.handles[1].export_lines())[0] == len(self.twin.log)
        assert [n for (n,) in self.other.execute("SELECT n FROM effects ORDER BY rowid")] == self.effects

    def teardown(self) -> None:
        self.other.close()
        for handle in self.handles:
            handle.close()
        self.folder.cleanup()


LedgerAgainstList.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestLedgerAgainstList: Callable[..., Any] = LedgerAgainstList.TestCase
