"""The conformance suite of `ports.FencedLedger`: every backend that submitters write to runs it.

    class TestMyLedger(FencedLedgerSuite):
        @pytest.fixture
        def make_ledger(self, tmp_path):
            return lambda: MyLedger(tmp_path / "ledger")

It includes `LedgerSuite`; read there what `make_ledger` and `lacks` are. More capabilities:
    transact    work can execute SQL beside the records: CREATE TABLE, INSERT and SELECT of a table of its own
    prune       `prune(keep)` removes payloads and announces it
"""

# ruff: noqa: S101 (its assertions are what this file is for)

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import LedgerError
from ..ports import Appended, Duplicate, Entry, Event, Execute, Fenced, FencedLedger, Record, Sealed, Stale
from .ledger_suite import LedgerSuite, ListLedger, _event, _raises

__all__ = ["FencedLedgerSuite", "ListFencedLedger", "contend", "take_over"]

MakeFenced = Callable[[], FencedLedger]


class ListFencedLedger(ListLedger):
    """The dumb twin of a fenced ledger: a list, a dict of terms, a dict of slots."""

    def __init__(self) -> None:
        super().__init__()
        self.fences: dict[str, int] = {}
        self.slots: dict[tuple[str, str], int] = {}

    def seal(self, scope: str, term: int, event: Event) -> tuple[Any, ...]:
        """("sealed",) or ("stale", term)."""
        if term <= self.fences.get(scope, 0):
            return ("stale", self.fences[scope])
        self.fences[scope] = term
        self._write(scope, event)
        return ("sealed",)

    def append_fenced(self, scope: str, term: int, entries: Sequence[Entry]) -> tuple[Any, ...]:
        """("appended", how many), ("fenced", term) or ("duplicate", slot, index in the log)."""
        if term != self.fences.get(scope, 0):
            return ("fenced", self.fences.get(scope, 0))
        for entry in entries:
            if (scope, entry.slot) in self.slots:
                return ("duplicate", entry.slot, self.slots[scope, entry.slot])
        for entry in entries:
            if entry.slot:
                self.slots[scope, entry.slot] = len(self.log)
            self._write(scope, entry.event)
        return ("appended", len(entries))

    def _write(self, scope: str, event: Event) -> None:
        self.append(f"commit/{scope}", [event], self.tip(f"commit/{scope}"))


def contend(ledger: FencedLedger, scope: str, node: str, terms: int) -> int:
    """Seal `terms` terms of `scope`, each the next that nobody has, and append two records under each until fenced.

    Every record says its node and term. Returns how many appends were fenced.
    """

    async def run() -> int:
        term = fenced = 0
        for _ in range(terms):
            while isinstance(answer := await ledger.seal(scope, term + 1, _said(node, term + 1)), Stale):
                term = answer.term
            term += 1
            for _ in range(2):
                result = await ledger.append(scope, term, [Entry(_said(node, term))])
                fenced += isinstance(result, Fenced)
        return fenced

    return asyncio.run(run())


def take_over(ledger: FencedLedger, scope: str, term: int) -> list[str]:
    """Seal `scope` for `term` and take its slot "x"; the names of the two answers."""

    async def run() -> list[str]:
        answers = [await ledger.seal(scope, term, _event(5)), await ledger.append(scope, term, [_entry(6, "x")])]
        return [type(answer).__name__ for answer in answers]

    return asyncio.run(run())


def _said(node: str, term: int) -> Event:
    return Event("said", {"node": node, "term": term})


def _entry(number: int, slot: str = "") -> Entry:
    return Entry(_event(number), slot)


def _insert(number: int) -> Callable[[Execute], Event]:
    def work(execute: Execute) -> Event:
        execute(f"INSERT INTO effects VALUES ({number})", ())  # noqa: S608
        return _event(number)

    return work


class FencedLedgerSuite(LedgerSuite):
    """Subclass it, and give it a `make_ledger` fixture."""

    async def test_a_scope_is_sealed_by_growing_terms_only(self, make_ledger: MakeFenced) -> None:
        """Catches a fence that goes back or stands still, and one that is shared by two scopes."""
        ledger = make_ledger()
        first = await ledger.seal("s", 3, _event(1))
        assert isinstance(first, Sealed)
        assert await ledger.seal("s", 3, _event(2)) == Stale(3)
        assert await ledger.seal("s", 1, _event(2)) == Stale(3)
        other = await ledger.seal("t", 1, _event(2))
        second = await ledger.seal("s", 2**63 - 1, _event(3))
        assert isinstance(other, Sealed)
        assert isinstance(second, Sealed)
        assert ledger.read("commit/s") == [first.record, second.record]
        assert ledger.read("commit/s", after=1) == [second.record]
        assert ledger.read("commit/t") == [other.record]
        assert first.record.payload == _event(1).payload
        assert ledger.verify() == 3
        ledger.close()

    async def test_only_the_term_that_sealed_last_appends(self, make_ledger: MakeFenced) -> None:
        """Catches a deposed leader that appends, and a term that nobody sealed, be it larger."""
        ledger = make_ledger()
        assert await ledger.append("s", 1, [_entry(0)]) == Fenced(0)
        await ledger.seal("s", 2, _event(1))
        for term in (1, 3):
            assert await ledger.append("s", term, [_entry(0)]) == Fenced(2)
        assert isinstance(await ledger.append("s", 2, [_entry(2)]), Appended)
        await ledger.seal("s", 5, _event(3))
        assert await ledger.append("s", 2, [_entry(0)]) == Fenced(5)
        assert await ledger.append("other", 5, [_entry(0)]) == Fenced(0)
        appended = await ledger.append("s", 5, [_entry(4), _entry(5)])
        assert isinstance(appended, Appended)
        assert ledger.read("commit/s", after=3) == list(appended.records)
        assert [record.payload["n"] for record in ledger.read("commit/s")] == [1, 2, 3, 4, 5]
        ledger.close()

    async def test_a_slot_is_taken_once(self, make_ledger: MakeFenced) -> None:
        """Catches a second outcome of a key, and a duplicate that does not say what is there."""
        ledger = make_ledger()
        await ledger.seal("s", 1, _event(0))
        appended = await ledger.append("s", 1, [_entry(1), _entry(2, "k/terminal")])
        assert isinstance(appended, Appended)
        taken = appended.records[1]
        assert await ledger.append("s", 1, [_entry(3, "k/terminal")]) == Duplicate("k/terminal", taken)
        assert ledger.find("s", "k/terminal") == taken
        assert ledger.find("s", "k/other") is None
        assert ledger.find("t", "k/terminal") is None
        await ledger.seal("s", 2, _event(4))
        assert await ledger.append("s", 2, [_entry(5, "k/terminal")]) == Duplicate("k/terminal", taken)
        assert await ledger.append("s", 1, [_entry(5, "k/terminal")]) == Fenced(2)
        await ledger.seal("t", 1, _event(6))
        assert isinstance(await ledger.append("t", 1, [_entry(7, "k/terminal")]), Appended)
        assert ledger.verify() == len(list(ledger.scan())) == 6
        ledger.close()

    async def test_all_entries_or_none(self, make_ledger: MakeFenced) -> None:
        """Catches a refused append that leaves its first records, or keeps the slots that were free."""
        ledger = make_ledger()
        await ledger.seal("s", 1, _event(0))
        await ledger.append("s", 1, [_entry(1, "taken")])
        before = list(ledger.scan())
        refused = await ledger.append("s", 1, [_entry(2, "free"), _entry(3), _entry(4, "taken"), _entry(5, "more")])
        assert isinstance(refused, Duplicate)
        assert refused.slot == "taken"
        assert list(ledger.scan()) == before
        assert ledger.find("s", "free") is None
        assert isinstance(await ledger.append("s", 1, [_entry(6, "free"), _entry(7, "more")]), Appended)
        ledger.close()

    async def test_bad_requests_are_refused(self, make_ledger: MakeFenced) -> None:
        """Catches a term 0 that equals "never sealed", a slot that two entries take, and a name that is none."""
        ledger = make_ledger()
        await ledger.seal("s", 1, _event(0))
        for term in (0, -1, True, 2**63, 1.0):
            await _raises(LedgerError, ledger.seal("s", term, _event(1)))  # type: ignore[arg-type]
            await _raises(LedgerError, ledger.append("s", term, [_entry(1)]))  # type: ignore[arg-type]
        bad: list[list[Entry]] = [[], [_entry(1, "x"), _entry(2), _entry(3, "x")], [_entry(1, "a\nb")]]
        bad += [[Entry(Event("k", {1: 1}))], [Entry(Event("", {}))]]  # type: ignore[dict-item]
        for entries in bad:
            await _raises(LedgerError, ledger.append("s", 1, entries))
        for scope in ("", "a\nb", "x" * 300):
            await _raises(LedgerError, ledger.seal(scope, 1, _event(1)))
            await _raises(LedgerError, ledger.append(scope, 1, [_entry(1)]))
        assert isinstance(await ledger.append("s", 1, [_entry(1, "x")]), Appended), "and nobody is harmed"
        assert ledger.verify() == 2
        ledger.close()

    async def test_nothing_else_writes_to_a_scope(self, make_ledger: MakeFenced) -> None:
        """Catches a record that reaches a scope's stream without a term."""
        ledger = make_ledger()
        await ledger.seal("s", 1, _event(0))
        for stream, after in (("commit/s", 1), ("commit/new", 0), ("commit/", 0), ("pruned", 0)):
            await _raises(LedgerError, ledger.record(stream, [_event(1)], after=after))
        assert len(await ledger.record("commits", [_event(1)], after=0)) == 1
        assert ledger.verify() == 2
        ledger.close()

    async def test_calls_made_ahead_are_decided_in_their_order(self, make_ledger: MakeFenced) -> None:
        """Catches a group of requests that is checked against what was there before the group."""
        ledger = make_ledger()
        results = await asyncio.gather(
            ledger.append("s", 1, [_entry(0)]),
            ledger.seal("s", 1, _event(1)),
            ledger.append("s", 1, [_entry(2, "x")]),
            ledger.record("a", [_event(3)], after=0),
            ledger.append("s", 1, [_entry(4, "x")]),
            ledger.seal("s", 2, _event(5)),
            ledger.append("s", 1, [_entry(6)]),
            ledger.seal("s", 2, _event(7)),
            ledger.append("s", 2, [_entry(8, "y"), _entry(9)]),
        )
        assert [type(result) for result in results] == [
            *(Fenced, Sealed, Appended, list, Duplicate, Sealed, Fenced, Stale, Appended),
        ]
        assert [record.payload["n"] for record in ledger.scan()] == [1, 2, 3, 5, 8, 9]
        assert isinstance(results[4], Duplicate)
        assert results[4].existing == ledger.find("s", "x")
        assert ledger.verify() == 6
        ledger.close()

    async def test_one_winner_per_slot(self, make_ledger: MakeFenced) -> None:
        ledger = make_ledger()
        await ledger.seal("s", 1, _event(0))
        calls = [ledger.append("s", 1, [_entry(n, f"k{n % 10}")]) for n in range(100)]
        results = await asyncio.gather(*calls)
        assert sum(isinstance(result, Appended) for result in results) == 10
        assert all(ledger.find("s", f"k{n}") == ledger.read("commit/s")[n + 1] for n in range(10))
        ledger.close()

    async def test_fences_and_slots_are_there_after_reopening(self, make_ledger: MakeFenced) -> None:
        """Catches a fence or a slot that was kept in memory."""
        ledger = make_ledger()
        await ledger.seal("s", 7, _event(0))
        await ledger.append("s", 7, [_entry(1, "x")])
        ledger.close()
        again = make_ledger()
        assert await again.seal("s", 7, _event(2)) == Stale(7)
        assert await again.append("s", 6, [_entry(2)]) == Fenced(7)
        assert isinstance(await again.append("s", 7, [_entry(2, "x")]), Duplicate)
        assert isinstance(await again.append("s", 7, [_entry(3, "y")]), Appended)
        again.close()

    async def test_two_handles_fence_each_other(self, make_ledger: MakeFenced) -> None:
        """Catches a fence, a slot or a tip that one writer remembers while another has moved it."""
        one, two = make_ledger(), make_ledger()
        await one.seal("s", 1, _event(0))
        await one.append("s", 1, [_entry(1)])
        await two.seal("s", 2, _event(2))
        assert await one.append("s", 1, [_entry(3)]) == Fenced(2)
        await two.append("s", 2, [_entry(4, "x")])
        assert isinstance(await one.append("s", 2, [_entry(5, "x")]), Duplicate)
        await one.seal("s", 3, _event(6))
        assert await two.append("s", 2, [_entry(7)]) == Fenced(3)
        assert [record.payload["n"] for record in two.read("commit/s")] == [0, 1, 2, 4, 6]
        assert one.verify() == two.verify() == 5
        one.close()
        two.close()

    def test_contending_threads_never_interleave(self, make_ledger: MakeFenced) -> None:
        """Catches terms that repeat or go back, and records of two terms that are mixed, over several handles."""
        ledgers = [make_ledger() for _ in range(4)]
        names = [f"n{number}" for number in range(len(ledgers))]
        threads = [
            threading.Thread(target=contend, args=(ledger, "s", name, 12))
            for ledger, name in zip(ledgers, names, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._check_terms(ledgers[0].read("commit/s"), set(names))
        ledgers[0].verify()
        for ledger in ledgers:
            ledger.close()

    def test_contending_processes_never_interleave(self, make_ledger: MakeFenced) -> None:
        """As above, over processes: catches a check that is made before the write lock is held."""
        if "processes" in self.lacks:
            return
        ledger = make_ledger()
        source = (
            "from madflow.testing.fenced_suite import contend\nprint(contend(ledger, 's', {!r}, 25))\nledger.close()"
        )
        names = ["n0", "n1"]
        children = [self._child(ledger, source.format(name), stdout=subprocess.PIPE) for name in names]
        assert [child.communicate(timeout=60) and child.returncode for child in children] == [0, 0]
        self._check_terms(ledger.read("commit/s"), set(names))
        ledger.verify()
        ledger.close()

    def test_a_loser_in_another_process_is_fenced(self, make_ledger: MakeFenced) -> None:
        """Catches a leader that goes on after another process has taken its scope."""
        if "processes" in self.lacks:
            return
        ledger = make_ledger()

        async def lead() -> list[Any]:
            answers: list[Any] = [await ledger.seal("s", 1, _event(0)), await ledger.append("s", 1, [_entry(1)])]
            child = self._child(ledger, self._TAKES_OVER, stdout=subprocess.PIPE)
            out, _ = await asyncio.to_thread(child.communicate, timeout=60)
            assert out.split() == [b"Sealed", b"Appended"]
            return [*answers, await ledger.append("s", 1, [_entry(2)]), await ledger.append("s", 2, [_entry(3, "x")])]

        answers = asyncio.run(lead())
        assert answers[2] == Fenced(2)
        assert isinstance(answers[3], Duplicate)
        assert ledger.verify() == 4
        ledger.close()

    async def test_work_happens_exactly_once(self, make_ledger: MakeFenced) -> None:
        """Catches work that runs for a fenced or a duplicate append, and a row that is there without its record."""
        if "transact" in self.lacks:
            return
        ledger, ran = make_ledger(), list[int]()

        def counted(number: int) -> Callable[[Execute], Event]:
            def work(execute: Execute) -> Event:
                ran.append(number)
                return _insert(number)(execute)

            return work

        assert await ledger.transact("s", 1, "x", counted(0), timeout_s=10) == Fenced(0)
        await self._with_table(ledger)
        first = await ledger.transact("s", 1, "x", counted(1), timeout_s=10)
        assert isinstance(first, Appended)
        assert await ledger.transact("s", 1, "x", counted(2), timeout_s=10) == Duplicate("x", first.records[0])
        assert isinstance(await ledger.append("s", 1, [_entry(2, "x")]), Duplicate)
        await ledger.seal("s", 2, _event(2))
        assert await ledger.transact("s", 1, "y", counted(3), timeout_s=10) == Fenced(2)
        results = await asyncio.gather(
            *(ledger.transact("s", 2, f"k{n % 3}", counted(10 + n % 3), timeout_s=10) for n in range(9))
        )
        assert sum(isinstance(result, Appended) for result in results) == 3
        assert ran == [1, 10, 11, 12]
        assert await self._rows(ledger, 2) == [1, 10, 11, 12]
        ledger.close()

    async def test_work_that_fails_leaves_nothing_and_harms_nobody(self, make_ledger: MakeFenced) -> None:
        """Catches half of an effect, a slot that stays taken, and neighbours that fail along."""
        if "transact" in self.lacks:
            return
        ledger = make_ledger()
        await self._with_table(ledger)

        def raising(error: BaseException) -> Callable[[Execute], Event]:
            def work(execute: Execute) -> Event:
                _insert(99)(execute)
                raise error

            return work

        odd: Callable[[Execute], Event] = lambda execute: _insert(99)(execute).kind  # type: ignore[assignment, return-value]  # noqa: E731
        works = [raising(ValueError("planted")), raising(StopIteration()), odd]
        works += [lambda execute: Event("bad", {"x": float("nan")}), lambda execute: Event("", {})]
        calls: list[Any] = []
        for number, work in enumerate(works):
            calls.append(ledger.append("s", 1, [_entry(number, f"before{number}")]))
            calls.append(ledger.transact("s", 1, "x", work, timeout_s=10))
            calls.append(ledger.record(f"other{number}", [_event(number)], after=0))
        results = await asyncio.gather(*calls, return_exceptions=True)
        failed = results[1::3]
        assert isinstance(failed[0], ValueError)
        assert all(isinstance(result, Exception) for result in failed)
        assert all(isinstance(result, LedgerError) for result in failed[2:])
        assert all(isinstance(result, Appended) for result in results[0::3])
        assert all(isinstance(result, list) for result in results[2::3])
        assert ledger.find("s", "x") is None
        assert isinstance(await ledger.transact("s", 1, "x", _insert(1), timeout_s=10), Appended)
        assert await self._rows(ledger, 1) == [1]
        ledger.verify()
        ledger.close()

    async def test_what_is_pruned_is_announced_and_the_chain_holds(self, make_ledger: MakeFenced) -> None:
        """Catches a chain that breaks, a pruned record that reads as an empty one, and one gone that a scope needs."""
        if "prune" in self.lacks:
            return
        ledger: Any = make_ledger()
        await ledger.record("a", [_event(number) for number in range(10)], after=0)
        await ledger.seal("s", 1, _event(10))
        await ledger.append("s", 1, [_entry(11, "x")])
        await ledger.record("b", [_event(12)], after=0)
        await ledger.record("election/s", [_event(13)], after=0)
        offered: list[str] = []

        def keep(record: Record) -> bool:
            offered.append(record.stream)
            return record.stream != "a" or record.payload["n"] in (0, 5, 6)

        pruned = await asyncio.to_thread(ledger.prune, keep)
        assert (pruned.count, pruned.ranges) == (7, ((2, 5), (8, 10)))
        assert set(offered) == {"a", "b"}
        assert ledger.verify() == 15
        (said,) = ledger.read("pruned")
        assert said.payload == {"count": 7, "ranges": [[2, 5], [8, 10]]}
        await _raises(LedgerError, asyncio.to_thread(ledger.read, "a"))
        await _raises(LedgerError, asyncio.to_thread(lambda: list(ledger.scan())))
        assert [record.payload["n"] for record in ledger.read("a", pruned="skip")] == [0, 5, 6]
        assert [record.seq for record in ledger.scan(3, pruned="skip")] == [6, 7, 11, 12, 13, 14, 15]
        assert ledger.find("s", "x").payload == _event(11).payload
        assert len(await ledger.record("a", [_event(14)], after=10)) == 1
        again = await asyncio.to_thread(ledger.prune, lambda record: record.stream != "b")
        assert (again.count, again.ranges) == (1, ((13, 13),))
        assert (await asyncio.to_thread(ledger.prune, lambda record: True)).count == 0
        assert ledger.verify() == 17
        ledger.close()
        make_ledger().close()

    _TAKES_OVER = """
from madflow.testing.fenced_suite import take_over
print(*take_over(ledger, "s", 2), flush=True)
ledger.close()
"""

    @staticmethod
    async def _with_table(ledger: FencedLedger) -> None:
        def work(execute: Execute) -> Event:
            execute("CREATE TABLE effects (n INTEGER)", ())
            return Event("made", {})

        await ledger.seal("s", 1, _event(0))
        assert isinstance(await ledger.transact("s", 1, "table", work, timeout_s=10), Appended)

    @staticmethod
    async def _rows(ledger: FencedLedger, term: int) -> list[int]:
        def work(execute: Execute) -> Event:
            return Event("seen", {"rows": [row[0] for row in execute("SELECT n FROM effects ORDER BY n", ())]})

        seen = await ledger.transact("s", term, "seen", work, timeout_s=10)
        assert isinstance(seen, Appended)
        rows: list[int] = seen.records[0].payload["rows"]
        return rows

    @staticmethod
    def _check_terms(records: Sequence[Record], names: set[str]) -> None:
        terms = [record.payload["term"] for record in records]
        assert terms == sorted(terms)
        by_term: dict[int, list[str]] = {}
        for record in records:
            by_term.setdefault(record.payload["term"], []).append(record.payload["node"])
        assert list(by_term) == list(range(1, len(by_term) + 1))
        assert all(len(set(nodes)) == 1 and len(nodes) <= 3 for nodes in by_term.values())
        assert {nodes[0] for nodes in by_term.values()} == names
