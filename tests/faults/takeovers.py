"""Leaders that are stopped, killed or put to sleep, as forked processes: the harness behind test_takeover.py.

    python takeovers.py SCENARIO RUNS SEED         prints one JSON document: a list with what each run came to

Scenarios (a leader renews from a thread and appends without a pause; a follower waits to take over):

    killed      a SIGSTOP from outside, at any moment, past the lease; then SIGCONT
    inside      the same, but the leader stops itself inside a write transaction, in its own work
    disk        the same, at some write or sync of SQLite's -wal file, before it is done or halfway through
    standing    the same, but it stops before its vote is recorded: it holds the lock and leads nothing yet
    fence       the leader stops itself, another is elected behind its back (another lock folder), then it goes on and
                appends: the ledger alone has to refuse
    host        the leader is a host application (may_be_killed=False): it is waited for, and goes on
    asleep      leader and contenders are stopped all at once for several leases, then continued in any order
    clocks      wall clocks that jump by an hour, either way, all the time; monotonic ones that leap ahead
    contenders  RUNS terms by 16 contenders; some die while they lead

Everything is forked from this process, which holds no ledger; the children open theirs. What they appended is read
from the ledger at the end of each run, by a child too.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from madflow.clock import SystemClock
from madflow.election.heartbeat import Heartbeat
from madflow.election.local import LocalElector
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.ports import Appended, Entry, Event, Execute, Fenced, Held, Sealed, Term
from madflow.testing.disk import FaultyDisk

SCOPE = "s"
LEASE_S = 0.3
LONG_S = 30.0
HOUR_MS = 3_600_000
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class JumpingClock(SystemClock):
    """A wall clock that is an hour off, either way, at each reading; now and then the monotonic one leaps ahead."""

    def __init__(self, seed: int) -> None:
        self.random, self.leapt_s = random.Random(seed), 0.0

    def now_ms(self) -> int:
        return super().now_ms() + self.random.choice([-HOUR_MS, 0, HOUR_MS])

    def monotonic(self) -> float:
        if self.random.random() < 0.02:
            self.leapt_s += 3_600.0
        return super().monotonic() + self.leapt_s


class StopsBeforeItVotes:
    """A ledger that stops its process at the first write."""

    def __init__(self, ledger: Any) -> None:
        self.read = ledger.read

    def record(self, *_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGSTOP)
        raise AssertionError("it was to be killed")


class Child:
    """A forked process that reports lines of JSON."""

    def __init__(self, work: Callable[[Callable[..., None]], Coroutine[Any, Any, None]]) -> None:
        reader, writer = os.pipe()
        self.pid, self.status, self.buffer = os.fork(), None, b""
        self.status: int | None
        if self.pid == 0:
            os.close(reader)
            code = 0
            try:
                asyncio.run(work(lambda **said: os.write(writer, json.dumps(said).encode() + b"\n") and None))
            except BaseException as error:
                os.write(writer, json.dumps({"error": "".join(traceback.format_exception(error))}).encode() + b"\n")
                code = 1
            os._exit(code)
        os.close(writer)
        self.reader = reader

    def hear(self, name: str, timeout_s: float = LONG_S) -> Any:
        """The next report that says `name`; others before it are dropped. An error of the child is raised here."""
        deadline = time.monotonic() + timeout_s
        while True:
            line, end, rest = self.buffer.partition(b"\n")
            if end:
                self.buffer = rest
                said = json.loads(line)
                if "error" in said:
                    raise AssertionError(said["error"])
                if name in said:
                    return said[name]
                continue
            ready, _, _ = select.select([self.reader], [], [], max(0.0, deadline - time.monotonic()))
            block = os.read(self.reader, 65_536) if ready else b""
            if not block:
                raise AssertionError(f"process {self.pid} did not say {name!r} ({'it ended' if ready else 'in time'})")
            self.buffer += block

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait_stopped(self) -> None:
        """Until it is stopped."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.status = status
            self.hear("anything")

    def is_running(self) -> bool:
        """Whether it has not ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is None

    def end(self) -> int:
        """Its exit status; it is killed if it goes on. Negative: the signal."""
        if self.is_running():
            self.signal(signal.SIGKILL)
            _, self.status = os.waitpid(self.pid, 0)
        assert self.status is not None
        return os.waitstatus_to_exitcode(self.status)

    def wait(self) -> int:
        """Its exit status, when it ends by itself."""
        if self.is_running():
            _, self.status = os.waitpid(self.pid, 0)
        assert self.status is not None
        return os.waitstatus_to_exitcode(self.status)


# --- what children do ------------------------------------------------------------------------------------------------


async def _elect(
    folder: Path,
    node: str,
    *,
    locks: str = "locks",
    timeout_s: float = LONG_S,
    clock: Any = None,
    own: bool = True,
    disk: FaultyDisk | None = None,
) -> tuple[Any, LocalElector, Term | Held]:
    clock = clock or SystemClock()
    ledger = SqliteLedger(folder / "ledger.db", clock=clock, vfs=disk.name if disk else None)
    votes: Any = StopsBeforeItVotes(ledger) if node == "standing" else ledger
    elector = LocalElector(votes, lock_dir=folder / locks, clock=clock, may_be_killed=own)
    return ledger, elector, await elector.campaign(SCOPE, node, ttl_s=LEASE_S, timeout_s=timeout_s)


async def _seal(ledger: Any, term: Term) -> None:
    payload = {"term": term.number, "node": term.node}
    found = await ledger.seal(SCOPE, term.number, Event("term_sealed", payload))
    assert isinstance(found, Sealed), found


async def _note(ledger: Any, term: Term, number: int) -> Any:
    return await ledger.append(SCOPE, term.number, [Entry(Event("noted", {"term": term.number, "n": number}))])


def leader(
    folder: Path, node: str, how: str, *, own: bool = True, clock: Any = None, seed: int = 0
) -> Callable[..., Any]:
    """Lead and append until fenced or killed. `how`: "" | "inside" | "disk" | "between", where it stops itself at its
    fifth."""

    async def run(say: Callable[..., None]) -> None:
        disk, draw = FaultyDisk() if how == "disk" else None, random.Random(seed)
        ledger, elector, term = await _elect(folder, node, clock=clock, own=own, disk=disk)
        assert isinstance(term, Term), term
        await _seal(ledger, term)
        say(elected=term.number)

        def stopping(_execute: Execute) -> Event:
            os.kill(os.getpid(), signal.SIGSTOP)
            return Event("noted", {"term": term.number, "n": 5})

        with Heartbeat(elector.beat, term, ttl_s=LEASE_S):
            for number in range(10**9):
                if number == 5 and how == "inside":
                    found = await ledger.transact(SCOPE, term.number, "stopping", stopping, timeout_s=60.0)
                else:
                    if number == 5 and disk is not None:
                        disk.end(
                            at=draw.randint(1, 8),
                            by=signal.SIGSTOP,
                            on={"write", "sync"},
                            files={"wal"},
                            torn=draw.random() < 0.5,
                        )
                    if number == 5 and how == "between":
                        os.kill(os.getpid(), signal.SIGSTOP)
                    found = await _note(ledger, term, number)
                if isinstance(found, Fenced):
                    say(fenced=found.term)
                    return
                assert isinstance(found, Appended), found
                say(appended=number)
                await asyncio.sleep(0.002)

    return run


def follower(folder: Path, node: str, *, locks: str = "locks") -> Callable[..., Any]:
    """Take over as soon as one can, append a little, resign."""

    async def run(say: Callable[..., None]) -> None:
        ledger, elector, term = await _elect(folder, node, locks=locks)
        assert isinstance(term, Term), term
        await _seal(ledger, term)
        say(took_over=time.monotonic())
        for number in range(5):
            assert isinstance(await _note(ledger, term, number), Appended)
        say(wrote=term.number)
        await elector.resign(term)
        ledger.close()

    return run


def waiting(folder: Path, node: str) -> Callable[..., Any]:
    """Stand in vain for some leases; report why."""

    async def run(say: Callable[..., None]) -> None:
        _, _, found = await _elect(folder, node, timeout_s=3 * LEASE_S)
        say(why=found.why if isinstance(found, Held) else "")

    return run


def contender(folder: Path, node: str, last: int, seed: int) -> Callable[..., Any]:
    """Lead for two records, resign or die, stand again; until term `last`."""

    async def run(say: Callable[..., None]) -> None:
        clock, draw = SystemClock(), random.Random(seed)
        ledger = open_ledger(folder / "ledger.db", clock=clock)
        elector = LocalElector(ledger, lock_dir=folder / "locks", clock=clock, may_be_killed=True)
        won = 0
        while True:
            term = await elector.campaign(SCOPE, node, ttl_s=1.0, timeout_s=120.0)
            assert isinstance(term, Term), term
            if term.number > last:
                say(won=won)
                await elector.resign(term)
                return
            await _seal(ledger, term)
            for number in range(2):
                found = await _note(ledger, term, number)
                assert isinstance(found, Appended), found
            won += 1
            if node in ("n1", "n2", "n3") and draw.random() < 0.05:
                say(won=won)
                os.kill(os.getpid(), signal.SIGKILL)
            await elector.resign(term)
            await clock.sleep(draw.uniform(0.0, 0.05))  # or whoever has just resigned is always the first again

    return run


def reader(folder: Path) -> Callable[..., Any]:
    """Check the ledger and report the terms that sealed, and how many records came under each."""

    async def run(say: Callable[..., None]) -> None:
        ledger = open_ledger(folder / "ledger.db")
        ledger.verify()
        terms: list[list[int]] = []
        for record in ledger.read(f"commit/{SCOPE}"):
            term = record.payload["term"]
            if record.kind == "term_sealed":
                assert not terms or term > terms[-1][0], f"term {term} sealed after {terms[-1][0]}"
                terms.append([term, 0])
            else:
                assert term == terms[-1][0], f"a record of term {term} among those of term {terms[-1][0]}"
                terms[-1][1] += 1
        votes = [record.payload["term"] for record in ledger.read(f"election/{SCOPE}") if record.kind == "vote"]
        assert votes == sorted(set(votes)), votes
        say(terms=terms)
        ledger.close()

    return run


def read(folder: Path) -> list[list[int]]:
    """[term, records] of each seal, by a child."""
    child = Child(reader(folder))
    try:
        return list(child.hear("terms"))
    finally:
        child.end()


# --- scenarios: each gives what one run came to -----------------------------------------------------------------


def killed(folder: Path, draw: random.Random, how: str = "") -> dict[str, Any]:
    old = Child(leader(folder, "old", how, seed=draw.randrange(1 << 30)))
    new = None
    try:
        first = old.hear("elected")
        new = Child(follower(folder, "new"))
        if how:
            old.wait_stopped()
        else:
            time.sleep(draw.uniform(0.0, 0.1))
            old.signal(signal.SIGSTOP)
            old.wait_stopped()
        stopped_at = time.monotonic()
        took_s = new.hear("took_over") - stopped_at
        if old.is_running():
            old.signal(signal.SIGCONT)
        second = new.hear("wrote")
        assert new.wait() == 0
        assert old.wait() == -signal.SIGKILL, "the stopped leader was left alone"
        terms = read(folder)
        assert [term for term, _ in terms] == [first, second]
        return {"took_s": took_s, "stale_appends": 0}
    finally:
        old.end()
        if new is not None:
            new.end()


def standing(folder: Path, _draw: random.Random) -> dict[str, Any]:
    old = Child(leader(folder, "standing", ""))
    new = None
    try:
        old.wait_stopped()
        stopped_at = time.monotonic()
        new = Child(follower(folder, "new"))
        took_s = new.hear("took_over") - stopped_at
        assert new.wait() == 0
        assert old.wait() == -signal.SIGKILL, "the stopped candidate was left alone"
        assert [term for term, _ in read(folder)] == [1]
        return {"took_s": took_s, "stale_appends": 0}
    finally:
        old.end()
        if new is not None:
            new.end()


def fence(folder: Path, _draw: random.Random) -> dict[str, Any]:
    old = Child(leader(folder, "old", "between"))
    new = None
    try:
        first = old.hear("elected")
        old.wait_stopped()
        new = Child(follower(folder, "new", locks="elsewhere"))
        second = new.hear("wrote")
        assert new.wait() == 0
        old.signal(signal.SIGCONT)
        assert old.hear("fenced") == second
        assert old.wait() == 0
        terms = read(folder)
        assert [term for term, _ in terms] == [first, second]
        assert terms[1][1] == 5, f"{terms[1][1] - 5} records too many"
        return {"stale_appends": 0}
    finally:
        old.end()
        if new is not None:
            new.end()


def host(folder: Path, draw: random.Random) -> dict[str, Any]:
    old = Child(leader(folder, "host", "", own=False))
    new = None
    try:
        old.hear("elected")
        time.sleep(draw.uniform(0.0, 0.1))
        old.signal(signal.SIGSTOP)
        old.wait_stopped()
        new = Child(waiting(folder, "new"))
        why = new.hear("why")
        assert old.is_running(), "the host was killed"
        old.signal(signal.SIGCONT)
        before = old.hear("appended")
        while old.hear("appended") <= before + 20:
            pass
        again = Child(waiting(folder, "new"))
        later = again.hear("why")
        again.end()
        old.end()
        assert len(read(folder)) == 1
        return {"why": why, "later": later}
    finally:
        old.end()
        if new is not None:
            new.end()


def _crowd(folder: Path, draw: random.Random, jump: bool) -> list[Child]:
    """Three processes of madflow's own, one of which leads."""
    clocks = [JumpingClock(draw.randrange(1 << 30)) if jump else None for _ in range(3)]
    return [Child(leader(folder, f"n{number}", "", clock=clock)) for number, clock in enumerate(clocks)]


def _until_led(folder: Path) -> None:
    deadline = time.monotonic() + LONG_S
    while not read(folder):
        assert time.monotonic() < deadline, "nobody was elected"
        time.sleep(0.02)


def asleep(folder: Path, draw: random.Random) -> dict[str, Any]:
    crowd = _crowd(folder, draw, jump=draw.random() < 0.5)
    try:
        _until_led(folder)
        time.sleep(LEASE_S * draw.uniform(0.5, 1.5))
        for signals in (signal.SIGSTOP, signal.SIGCONT):
            for child in draw.sample(crowd, len(crowd)):
                if child.is_running():
                    child.signal(signals)
            time.sleep(LEASE_S * 3)
        return {"elections": len(read(folder)) - 1}
    finally:
        for child in crowd:
            child.end()


def clocks(folder: Path, draw: random.Random) -> dict[str, Any]:
    crowd = _crowd(folder, draw, jump=True)
    try:
        _until_led(folder)
        time.sleep(LEASE_S * 5)
        return {"elections": len(read(folder)) - 1}
    finally:
        for child in crowd:
            child.end()


def contenders(folder: Path, terms: int, draw: random.Random) -> dict[str, Any]:
    began = time.monotonic()
    crowd = [Child(contender(folder, f"n{number}", terms, draw.randrange(1 << 30))) for number in range(16)]
    try:
        won = [child.hear("won", timeout_s=600) for child in crowd]
        dead = sum(child.wait() == -signal.SIGKILL for child in crowd)
        found = read(folder)
        assert [term for term, _ in found] == list(range(1, terms + 1))
        assert {count for _, count in found} == {2}
        assert sum(won) == terms
        return {"terms": terms, "won": won, "died": dead, "seconds": round(time.monotonic() - began, 1)}
    finally:
        for child in crowd:
            child.end()


SCENARIOS: dict[str, Callable[[Path, random.Random], dict[str, Any]]] = {
    "killed": killed,
    "inside": lambda folder, draw: killed(folder, draw, "inside"),
    "disk": lambda folder, draw: killed(folder, draw, "disk"),
    "standing": standing,
    "fence": fence,
    "host": host,
    "asleep": asleep,
    "clocks": clocks,
}


def main(scenario: str, runs: int, seed: int) -> list[dict[str, Any]]:
    found = []
    for run in range(1 if scenario == "contenders" else runs):
        draw = random.Random(f"{scenario}/{seed}/{run}")
        folder = Path(tempfile.mkdtemp(prefix="madflow-takeover-", dir=IN_MEMORY))
        try:
            if scenario == "contenders":
                found.append(contenders(folder, runs, draw))
            else:
                found.append(SCENARIOS[scenario](folder, draw))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
