"""The conformance suite of `ports.Ledger`: every backend runs it.

    class TestMyLedger(LedgerSuite):
        @pytest.fixture
        def make_ledger(self, tmp_path):
            return lambda: MyLedger(tmp_path / "ledger")

`make_ledger()` opens the same ledger each time it is called, from any thread. What a backend cannot do is declared in
`lacks`, and the tests that need it return at once; nothing is lacking silently. Nothing here imports pytest.

Capabilities:
    processes   other processes may write to the same ledger: needs `open_in_child`
    tamper      `tamper(ledger, seq)` can alter the stored payload of a record behind the ledger's back
"""

# ruff: noqa: S101 (its assertions are what this file is for)

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..errors import LedgerConflict, LedgerCorrupt, LedgerError
from ..ports import Event, Ledger, Record

__all__ = ["LedgerSuite", "ListLedger", "write_until_killed"]

MakeLedger = Callable[[], Ledger]


class ListLedger:
    """The dumb twin: streams in a dict of lists, no chain. What a real ledger must agree with."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, str, Any]] = []

    def tip(self, stream: str) -> int:
        """The last place of `stream`, 0 if there is none."""
        return sum(1 for entry in self.log if entry[0] == stream)

    def append(self, stream: str, events: Sequence[Event], after: int) -> bool:
        """Whether `events` were appended: only if `after` is the tip."""
        if self.tip(stream) != after:
            return False
        for place, event in enumerate(events, after + 1):
            self.log.append((stream, place, event.kind, event.payload))
        return True


def _plain(records: Sequence[Record]) -> list[tuple[str, int, str, Any]]:
    return [(record.stream, record.place, record.kind, dict(record.payload)) for record in records]


def _event(number: int, kind: str = "noted") -> Event:
    return Event(kind, {"n": number, "text": "line\nü \u2028 \U0001f600", "list": [1, None, True, 0.5]})


def write_until_killed(ledger: Ledger, stream: str) -> None:
    """Record one event after the other and print each place once it is durable, until this process is killed."""

    async def run() -> None:
        place = len(ledger.read(stream))
        while True:
            place = (await ledger.record(stream, [_event(place)], after=place))[-1].place
            print(place, flush=True)

    asyncio.run(run())


async def _raises(kind: type[Exception], call: Awaitable[Any]) -> Exception:
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


class LedgerSuite:
    """Subclass it, and give it a `make_ledger` fixture."""

    lacks: frozenset[str] = frozenset()

    def open_in_child(self, ledger: Ledger) -> str:
        """Python source that binds `ledger` to the same ledger in another process."""
        raise NotImplementedError("declare lacks = frozenset({'processes'}), or say how a child opens the ledger")

    def tamper(self, ledger: Ledger, seq: int) -> None:
        """Alter the stored payload of record `seq`."""
        raise NotImplementedError("declare lacks = frozenset({'tamper'}), or say how to alter a record")

    async def test_what_is_recorded_is_read_back(self, make_ledger: MakeLedger) -> None:
        """Catches a lost field, a changed payload, or a return value that differs from what is stored."""
        ledger = make_ledger()
        first = await ledger.record("a", [_event(1), _event(2, "other")], after=0)
        second = await ledger.record("b", [_event(3)], after=0)
        third = await ledger.record("a", [_event(4)], after=2)
        assert ledger.read("a") == first + third
        assert list(ledger.scan()) == first + second + third
        assert list(ledger.scan(3)) == second + third
        assert ledger.streams() == ["a", "b"]
        assert ledger.read("none") == []
        assert [record.seq for record in ledger.scan()] == [1, 2, 3, 4]
        assert dict(first[0].payload) == _event(1).payload
        assert ledger.verify() == 4
        ledger.close()

    async def test_a_copy_is_recorded(self, make_ledger: MakeLedger) -> None:
        """Catches a record that changes with the caller's dict, and one that differs from what a reader gets."""
        ledger = make_ledger()
        payload: dict[str, Any] = {"list": [1], "tuple": (1, 2)}
        (record,) = await ledger.record("a", [Event("noted", payload)], after=0)
        payload["list"].append(2)
        assert record.payload == {"list": [1], "tuple": [1, 2]} == ledger.read("a")[0].payload
        ledger.close()

    async def test_it_is_there_after_reopening(self, make_ledger: MakeLedger) -> None:
        ledger = make_ledger()
        records = await ledger.record("a", [_event(1), _event(2)], after=0)
        ledger.close()
        again = make_ledger()
        assert again.read("a") == records
        assert (await again.record("a", [_event(3)], after=2))[0].prev_hash == records[-1].hash
        assert again.verify() == 3
        again.close()

    async def test_a_taken_place_is_refused_and_nothing_is_written(self, make_ledger: MakeLedger) -> None:
        """Catches a lost update: two writers that both continue after the same place; and a half-written group."""
        ledger = make_ledger()
        await ledger.record("a", [_event(1)], after=0)
        for after in (0, 2, -1):
            await _raises(LedgerConflict, ledger.record("a", [_event(2), _event(3)], after=after))
        assert _plain(ledger.read("a")) == [("a", 1, "noted", _event(1).payload)]
        assert ledger.verify() == 1
        ledger.close()

    async def test_a_bad_payload_is_refused_by_the_name_of_its_kind(self, make_ledger: MakeLedger) -> None:
        """Catches a silent coercion (the key 1 becomes "1") and a group of which the good half is written."""
        ledger = make_ledger()
        bad: list[Any] = [
            {1: 1},
            {"x": float("nan")},
            {"x": {1}},
            {"x": "\ud800"},
            {"\udfff": 1},
            {"x": b""},
            [1],
            "text",
        ]
        for payload in bad:
            error = await _raises(LedgerError, ledger.record("a", [_event(1), Event("odd", payload)], after=0))
            assert "'odd'" in str(error), payload
        await _raises(LedgerError, ledger.record("a", [], after=0))
        await _raises(LedgerError, ledger.record("a\nb", [_event(1)], after=0))
        await _raises(LedgerError, ledger.record("", [_event(1)], after=0))
        await _raises(LedgerError, ledger.record("a", [Event("k\n", {})], after=0))
        assert list(ledger.scan()) == []
        ledger.close()

    async def test_a_conflict_fails_alone(self, make_ledger: MakeLedger) -> None:
        """Catches one loser that takes down those who were committed together with it."""
        ledger = make_ledger()
        calls = [ledger.record(f"s{number}", [_event(number)], after=number % 2) for number in range(40)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        for number, result in enumerate(results):
            assert isinstance(result, LedgerConflict) if number % 2 else not isinstance(result, BaseException)
        assert sorted(ledger.streams()) == sorted(f"s{number}" for number in range(0, 40, 2))
        assert ledger.verify() == 20
        ledger.close()

    async def test_calls_made_ahead_keep_their_order(self, make_ledger: MakeLedger) -> None:
        """Catches requests of one stream that overtake each other: here each counts on the place of the one before."""
        ledger = make_ledger()
        results = await asyncio.gather(*(ledger.record("a", [_event(n)], after=n) for n in range(100)))
        assert [record.place for (record,) in results] == list(range(1, 101))
        assert [record.payload["n"] for record in ledger.read("a")] == list(range(100))
        ledger.close()

    async def test_one_winner_per_place(self, make_ledger: MakeLedger) -> None:
        ledger = make_ledger()
        results = await asyncio.gather(
            *(ledger.record("a", [_event(n)], after=0) for n in range(20)), return_exceptions=True
        )
        winners = [result for result in results if not isinstance(result, BaseException)]
        assert len(winners) == 1
        assert all(isinstance(result, list | LedgerConflict) for result in results)
        assert ledger.read("a") == winners[0]
        ledger.close()

    async def test_large_and_many(self, make_ledger: MakeLedger) -> None:
        """Catches a group that is split, reordered or cut at some internal size."""
        ledger = make_ledger()
        events = [_event(number) for number in range(1500)] + [Event("big", {"text": "x" * 1_000_000})]
        records = await ledger.record("a", events, after=0)
        assert [record.place for record in records] == list(range(1, 1502))
        assert ledger.read("a") == records == list(ledger.scan())
        assert ledger.verify() == 1501
        ledger.close()

    async def test_it_agrees_with_a_list(self, make_ledger: MakeLedger) -> None:
        """A fixed pseudo-random schedule of good and stale appends, against the dumb twin."""
        ledger, twin, state = make_ledger(), ListLedger(), 12345
        for _ in range(150):
            state = (state * 1103515245 + 12345) % 2**31
            stream = f"s{state % 5}"
            after = max(0, twin.tip(stream) - (state // 5 % 4 == 0))
            events = [_event(state + extra) for extra in range(1 + state // 20 % 3)]
            try:
                await ledger.record(stream, events, after=after)
                accepted = True
            except LedgerConflict:
                accepted = False
            assert accepted == twin.append(stream, events, after)
        assert _plain(list(ledger.scan())) == twin.log
        assert ledger.verify() == len(twin.log)
        ledger.close()

    def test_threads_with_event_loops_of_their_own(self, make_ledger: MakeLedger) -> None:
        """Catches a result that is delivered to the wrong loop, and a chain that forks between threads."""
        ledger, failures = make_ledger(), []

        async def write(name: str) -> None:
            for place in range(25):
                (record,) = await ledger.record(name, [_event(place)], after=place)
                assert record.place == place + 1

        def run(name: str) -> None:
            try:
                asyncio.run(write(name))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(f"t{number}",)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert ledger.verify() == 150
        ledger.close()

    async def test_two_handles_see_each_other(self, make_ledger: MakeLedger) -> None:
        """Catches a cached tip or head that another writer has made stale."""
        one, two = make_ledger(), make_ledger()
        await one.record("a", [_event(1)], after=0)
        await two.record("a", [_event(2)], after=1)
        await one.record("b", [_event(3)], after=0)
        await _raises(LedgerConflict, one.record("a", [_event(4)], after=1))
        await one.record("a", [_event(4)], after=2)
        assert two.read("a") == one.read("a")
        assert one.verify() == two.verify() == 4
        one.close()
        two.close()

    def test_two_processes_write_one_chain(self, make_ledger: MakeLedger) -> None:
        """Catches a chain that forks because the previous hash was read outside the write transaction."""
        if "processes" in self.lacks:
            return
        ledger = make_ledger()
        children = [self._child(ledger, self._COUNTED.format(stream=f"p{number}")) for number in range(2)]
        for child in children:
            assert child.wait(60) == 0
        assert [len(ledger.read(f"p{number}")) for number in range(2)] == [60, 60]
        assert ledger.verify() == 120
        ledger.close()

    def test_what_was_acknowledged_survives_a_kill(self, make_ledger: MakeLedger) -> None:
        """kill -9 of a writer in full flight: every place that it printed is there, and the chain verifies."""
        if "processes" in self.lacks:
            return
        ledger = make_ledger()
        for _ in range(3):
            before = len(ledger.read("killed"))
            child = self._child(ledger, "suite.write_until_killed(ledger, 'killed')", stdout=subprocess.PIPE)
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(30)]
            child.kill()
            lines += child.stdout.readlines()
            child.wait(60)
            child.stdout.close()
            acknowledged = int([line for line in lines if line.endswith(b"\n")][-1])
            assert acknowledged >= before + 30
            assert acknowledged <= len(ledger.read("killed")) <= acknowledged + 1
            ledger.verify()
        ledger.close()

    async def test_an_altered_record_is_found(self, make_ledger: MakeLedger) -> None:
        if "tamper" in self.lacks:
            return
        ledger = make_ledger()
        await ledger.record("a", [_event(number) for number in range(5)], after=0)
        assert ledger.verify() == 5
        self.tamper(ledger, 3)
        error = await _raises(LedgerCorrupt, asyncio.to_thread(ledger.verify))
        assert "record 3 " in str(error)
        ledger.close()

    async def test_a_closed_ledger_refuses(self, make_ledger: MakeLedger) -> None:
        """Catches a request that waits for ever, or is dropped silently, after close; and a close that loses writes."""
        ledger = make_ledger()
        waiting = [asyncio.ensure_future(ledger.record(f"s{n}", [_event(n)], after=0)) for n in range(30)]
        await asyncio.sleep(0)
        ledger.close()
        ledger.close()
        assert all(len(records) == 1 for records in await asyncio.gather(*waiting))
        await _raises(LedgerError, ledger.record("a", [_event(1)], after=0))
        await _raises(LedgerError, asyncio.to_thread(ledger.read, "a"))
        again = make_ledger()
        assert again.verify() == 30
        again.close()

    _COUNTED = """
import asyncio
async def run():
    for place in range(60):
        await ledger.record({stream!r}, [suite._event(place)], after=place)
asyncio.run(run())
ledger.close()
"""

    def _child(self, ledger: Ledger, source: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        head = f"from madflow.testing import ledger_suite as suite\n{self.open_in_child(ledger)}\n"
        return subprocess.Popen([sys.executable, "-c", head + source], stdout=stdout)
