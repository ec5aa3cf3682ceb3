"""The local elector's parts under a manual clock and a ledger in memory: silence, hearsay, locks and forks, votes."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from madflow.core.election import HardState, RequestVote, Tip, Voter
from madflow.election.heart import BLOCK_BYTES, Heart, Watch, read_heart, write_heart
from madflow.election.heartbeat import Heartbeat
from madflow.election.local import LocalElector
from madflow.election.process import Identity, has_ended, holds_lock, identity_of_this_process, stop
from madflow.election.register import ATTEMPTS_MAX, Register
from madflow.errors import LedgerConflict, LedgerCorrupt
from madflow.ledger.sqlite import open_ledger
from madflow.ports import Event, Held, Lost, Record, Renewed, Term
from madflow.testing.clock import ManualClock

TTL_S = 2.0


class Streams:
    """Streams in memory, as much of a ledger as an election needs. `before_record` and `after_record` run at
    each write."""

    def __init__(self) -> None:
        self.streams: dict[str, list[Record]] = {}
        self.reads: list[tuple[str, int]] = []
        self.before_record: Callable[[], None] = lambda: None
        self.after_record: Callable[[], None] = lambda: None

    def read(self, stream: str, *, after: int = 0) -> list[Record]:
        found = self.streams.get(stream, [])[after:]
        self.reads.append((stream, len(found)))
        return found

    async def record(self, stream: str, events: Sequence[Event], *, after: int) -> list[Record]:
        self.before_record()
        records = self.put(stream, events, after)
        self.after_record()
        return records

    def put(self, stream: str, events: Sequence[Event], after: int | None = None) -> list[Record]:
        known = self.streams.setdefault(stream, [])
        if after is not None and after != len(known):
            raise LedgerConflict(f"{stream!r} ends at {len(known)}, not at {after}")
        new = [
            Record(0, stream, place, event.kind, dict(event.payload), 0, "", "")
            for place, event in enumerate(events, len(known) + 1)
        ]
        known.extend(new)
        return new


class Machine:
    """Electors of one machine, all in this process, with one clock."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.ledger = folder, ManualClock(), Streams()

    def elector(self, **options: Any) -> LocalElector:
        return LocalElector(self.ledger, lock_dir=self.folder / "locks", clock=self.clock, **options)  # type: ignore[arg-type]

    async def elected(self, elector: LocalElector, node: str) -> Term:
        found = await elector.campaign("s", node, ttl_s=TTL_S, timeout_s=0)
        assert isinstance(found, Term), found
        return found

    async def held(self, elector: LocalElector, node: str, timeout_s: float = 0) -> str:
        found = await elector.campaign("s", node, ttl_s=TTL_S, timeout_s=timeout_s)
        assert isinstance(found, Held), found
        return found.why

    @property
    def heart(self) -> Path:
        (path,) = (self.folder / "locks").glob("*.heart")
        return path

    @property
    def lock(self) -> Path:
        (path,) = (self.folder / "locks").glob("*.leader")
        return path


def started(code: str, *words: object, **options: Any) -> "subprocess.Popen[bytes]":
    """A Python process with its stdout in a pipe."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, **options)


def identity_of(pid: int) -> Identity:
    """The true identity of a process of this machine."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return identity_of_this_process().model_copy(update={"pid": pid, "started": ticks})


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# --- silence ---------------------------------------------------------------------------------------------------------


def test_silence_is_the_observer_s_own_running_time() -> None:
    """Catches a difference of two clock readings: an observer that slept an hour, or whose clock went back, has seen
    one look's worth of silence, and no more."""
    watch = Watch()
    assert watch.look("x", 100.0, 2.0) == 0
    assert watch.look("x", 100.3, 2.0) == pytest.approx(0.3)
    assert watch.look("x", 3_700.0, 2.0) == pytest.approx(0.8)  # an hour: at most a quarter of the lease
    assert watch.look("x", 100.0, 2.0) == pytest.approx(0.8)  # and back
    assert watch.look("y", 101.0, 2.0) == 0
    for _ in range(4):
        assert watch.silent_s < 2.0
        watch.look("y", watch.silent_s + 1e6, 2.0)
        watch.look("y", 0.0, 2.0)
    assert watch.silent_s == pytest.approx(2.0)


async def test_a_host_that_is_silent_is_waited_for(machine: Machine) -> None:
    """It holds the lock and is not madflow's own: nobody leads beside it, and the reason names it."""
    host, other = machine.elector(), machine.elector(may_be_killed=True)
    term = await machine.elected(host, "host")
    why = await machine.held(other, "x", timeout_s=5 * TTL_S)
    assert f"process {os.getpid()} (node host) has not renewed for" in why
    assert "holds the lock" in why and "not madflow's own to stop" in why
    assert isinstance(await host.renew(term), Renewed)
    assert "leads in term 1" in await machine.held(other, "x")


async def test_a_process_never_kills_itself(machine: Machine) -> None:
    """Two electors in one process: the silent one says that it may be killed, and that would be us."""
    one, two = machine.elector(may_be_killed=True), machine.elector(may_be_killed=True)
    await machine.elected(one, "a")
    assert "it is this process" in await machine.held(two, "b", timeout_s=3 * TTL_S)


async def test_wall_clocks_have_no_say(machine: Machine) -> None:
    """Neither an hour forward nor back, on any side, ends a lease or makes one last."""

    class Jumps(ManualClock):
        def now_ms(self) -> int:
            raise AssertionError("the wall clock was asked")

    machine.clock = Jumps()
    one, two = machine.elector(), machine.elector()
    term = await machine.elected(one, "a")
    for _ in range(50):
        machine.clock.advance(TTL_S / 4)
        assert isinstance(await one.renew(term), Renewed)
        assert "leads in term 1" in await machine.held(two, "b")


async def test_a_monotonic_jump_ends_no_lease(machine: Machine) -> None:
    """A machine that slept an hour: the observer's first look afterwards does not bury a leader that slept, too."""
    one, two = machine.elector(), machine.elector()
    term = await machine.elected(one, "a")
    await machine.held(two, "b")
    machine.clock.advance(3_600)
    assert "leads in term 1" in await machine.held(two, "b")
    assert isinstance(await one.renew(term), Renewed)


# --- hearsay ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (b"", "it is empty"),
        (b"garbage\n", "checksum"),
        (b"\xff" * BLOCK_BYTES, "checksum"),
        (b"x" * 100_000, "checksum"),
    ],
)
async def test_a_malformed_file_kills_nobody(machine: Machine, block: bytes, said: str) -> None:
    holder, other = machine.elector(may_be_killed=True), machine.elector(may_be_killed=True)
    await machine.elected(holder, "a")
    machine.heart.write_bytes(block)
    why = await machine.held(other, "b", timeout_s=5 * TTL_S)
    assert "somebody holds the lock" in why and said in why


def _heart(machine: Machine, **fields: Any) -> Heart:
    known = read_heart(machine.heart)
    assert isinstance(known, Heart)
    return known.model_copy(update=fields)


async def test_an_innocent_process_is_never_killed(machine: Machine) -> None:
    """The file names a living process of ours, all true but one thing: that it holds the lock. Catches a takeover that
    believes the file; then start time, boot and namespace, each wrong alone."""
    holder, other = machine.elector(may_be_killed=True), machine.elector(may_be_killed=True)
    await machine.elected(holder, "a")
    with started("import time; time.sleep(60)") as bystander:
        true = identity_of(bystander.pid)
        wrong = [
            (true, "does not confirm that it holds the lock"),
            (true.model_copy(update={"boot_id": "another"}), "another boot or pid namespace"),
            (true.model_copy(update={"pid_namespace": 1}), "another boot or pid namespace"),
            (true.model_copy(update={"started": 0}), "not known"),
        ]
        try:
            for identity, said in wrong:
                with machine.heart.open("r+b") as file:
                    write_heart(file.fileno(), _heart(machine, identity=identity))
                assert said in await machine.held(other, "b", timeout_s=3 * TTL_S)
                assert bystander.poll() is None
            identity = true.model_copy(update={"started": true.started + 1})
            assert has_ended(identity) and not has_ended(true)
            assert await stop(identity, machine.lock.stat(), lambda: True) == ""
            assert bystander.poll() is None
        finally:
            bystander.kill()


async def test_the_kernel_is_asked_who_holds_the_lock(tmp_path: Path) -> None:
    path, other = tmp_path / "a.lock", tmp_path / "b.lock"
    for each in (path, other):
        each.touch()
    with path.open("r+b") as file:
        assert not holds_lock(os.getpid(), path.stat())
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holds_lock(os.getpid(), path.stat())
        assert not holds_lock(os.getpid(), other.stat())
    assert not holds_lock(2**30, path.stat())


async def test_only_the_silent_are_stopped(tmp_path: Path) -> None:
    """`still` is asked last: a holder that moved in the meantime lives."""
    code = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
    path = tmp_path / "a.lock"
    with started(code, path) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        identity = identity_of(holder.pid)
        assert await stop(identity, path.stat(), lambda: False) == "it moved just now"
        assert holder.poll() is None
        assert await stop(identity, path.stat(), lambda: True) == ""
        assert holder.wait() == -signal.SIGKILL
        assert has_ended(identity)


def test_a_torn_block_is_found(tmp_path: Path) -> None:
    """Every prefix of a new block over an old one is either the old one, the new one, or refused."""
    path = tmp_path / "x.heart"
    identity = Identity(pid=1, boot_id="b", pid_namespace=1, started=1)
    hearts = [
        Heart(
            counter=n, state="leading", node=f"node-{n}" * n, term=n, ttl_ms=1, identity=identity,
            may_be_killed=True, place=1,
        )
        for n in (1, 2)
    ]  # fmt: skip
    blocks = []
    for heart in hearts:
        with path.open("w+b") as file:
            write_heart(file.fileno(), heart)
        blocks.append(path.read_bytes())
    assert {len(block) for block in blocks} == {BLOCK_BYTES}
    seen = set()
    for cut in range(0, 600, 7):
        path.write_bytes(blocks[1][:cut] + blocks[0][cut:])
        found = read_heart(path)
        assert isinstance(found, str) or found in hearts
        seen.add(type(found))
    assert seen == {str, Heart}
    assert read_heart(tmp_path / "none") is None


async def test_who_gave_the_scope_up_is_not_stopped(machine: Machine) -> None:
    """Somebody took the lock and stopped before saying who it is: the one who was there before is not to blame."""
    one, two = machine.elector(may_be_killed=True), machine.elector(may_be_killed=True)
    await one.resign(await machine.elected(one, "a"))
    with machine.lock.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        why = await machine.held(two, "b", timeout_s=3 * TTL_S)
    assert f"process {os.getpid()} (node a) gave the scope up, and somebody" in why


async def test_the_counter_moves_from_term_to_term(machine: Machine) -> None:
    """Or a process that leads again could look like the same silence going on."""
    elector, counters = machine.elector(), []
    for _ in range(3):
        term = await machine.elected(elector, "a")
        counters.append(_heart(machine).counter)
        await elector.resign(term)
    assert counters == sorted(set(counters))


# --- locks -----------------------------------------------------------------------------------------------------------


async def test_a_forked_child_keeps_no_lock(tmp_path: Path) -> None:
    """A child that outlives its parent must not hold the scope, and does not lead either."""
    code = """
import asyncio, os, sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_elector_parts import Machine
async def main():
    machine = Machine(Path(sys.argv[1]))
    elector = machine.elector()
    term = await machine.elected(elector, "parent")
    if os.fork() == 0:
        print(type(elector.beat(term)).__name__, flush=True)
        time.sleep(60)
    time.sleep(0.2)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    with started(code, tmp_path, Path(__file__).parent, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"Lost\n"
            assert await asyncio.to_thread(parent.wait) == -signal.SIGKILL
            machine = Machine(tmp_path)
            assert isinstance(await machine.elector().campaign("s", "b", ttl_s=TTL_S, timeout_s=0), Term)
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


async def test_a_removed_lock_file_ends_the_term(machine: Machine) -> None:
    """Two files of one name would be two leaders: whoever finds its own gone stops."""
    elector = machine.elector()
    term = await machine.elected(elector, "a")
    machine.lock.unlink()
    found = elector.beat(term)
    assert isinstance(found, Lost) and "removed or replaced" in found.why
    assert isinstance(elector.beat(term), Lost)
    assert (await machine.elected(elector, "a")).number == 2


async def test_a_later_term_in_the_ledger_ends_an_earlier_one(machine: Machine) -> None:
    """Another lock folder for the same ledger: the lock does not help, the term does."""
    one = machine.elector()
    other = LocalElector(machine.ledger, lock_dir=machine.folder / "elsewhere", clock=machine.clock)  # type: ignore[arg-type]
    term = await machine.elected(one, "a")
    assert (await machine.elected(other, "b")).number == 2
    found = await one.renew(term)
    assert isinstance(found, Lost) and "term 2 was given to node 'b'" in found.why


async def test_a_cancelled_candidate_gives_the_lock_back(machine: Machine) -> None:
    elector, other = machine.elector(), machine.elector()

    def cancelled() -> None:
        raise asyncio.CancelledError

    machine.ledger.before_record = cancelled
    with pytest.raises(asyncio.CancelledError):
        await machine.elected(elector, "a")
    machine.ledger.before_record = lambda: None
    assert (await machine.elected(other, "b")).number == 1


def test_a_heartbeat_tells_why_it_ended() -> None:
    """From its own thread, once; an error in a beat is a lost term, not a thread that dies silently."""
    told, done = [], threading.Event()

    def on_lost(why: str) -> None:
        told.append(why)
        done.set()

    def broken(_term: Term) -> Renewed | Lost:
        raise OSError("no disk")

    with Heartbeat(broken, Term("s", 1, "a"), ttl_s=0.02, on_lost=on_lost) as heartbeat:
        assert done.wait(10)
    assert told == [heartbeat.lost] == ["the renewal failed: OSError: no disk"]
    heartbeat.stop()


# --- votes -----------------------------------------------------------------------------------------------------------


async def test_the_ledger_gives_one_vote_a_term(machine: Machine) -> None:
    """Two candidates past the lock at once (as if it were broken): a conflict, and the second reads again."""
    register = Register(machine.ledger, "s", Voter())  # type: ignore[arg-type]
    rival = Register(machine.ledger, "s", Voter())  # type: ignore[arg-type]
    raced = []

    def race() -> None:
        machine.ledger.before_record = lambda: None
        rival.catch_up()
        machine.ledger.put("election/s", [Event("vote", {"term": rival.hard.term + 1, "candidate": "b"})])
        raced.append(rival.hard.term + 1)

    machine.ledger.before_record = race
    assert await register.vote("a", {}) == 2
    assert raced == [1]
    assert [record.payload["term"] for record in machine.ledger.read("election/s")] == [1, 2]


async def test_a_vote_is_counted_once(machine: Machine) -> None:
    """Another task of the process reads the vote before the candidate gets its answer."""
    register = Register(machine.ledger, "s", Voter())  # type: ignore[arg-type]
    machine.ledger.after_record = register.catch_up
    assert [await register.vote("a", {}) for _ in range(3)] == [1, 2, 3]


async def test_a_vote_that_is_never_had_is_an_error(machine: Machine) -> None:
    """Bounded: somebody always gets in between."""
    tries = []

    def steal() -> None:
        tries.append(1)
        machine.ledger.put("election/s", [Event("vote", {"term": len(tries), "candidate": "x"})])

    machine.ledger.before_record = steal
    with pytest.raises(LedgerConflict, match=f"each of {ATTEMPTS_MAX} votes"):
        await machine.elected(machine.elector(), "a")
    assert len(tries) == ATTEMPTS_MAX


async def test_the_voter_s_rule_is_core_s(machine: Machine) -> None:
    """The tip is in the request: a candidate that read the log before it grew is refused, and reads again."""
    seen: list[tuple[Tip, Tip]] = []

    class Noting(Voter):
        def consider(self, hard: HardState, tip: Tip, request: RequestVote) -> tuple[HardState, bool]:
            seen.append((tip, request.tip))
            found = super().consider(hard, tip, request)
            assert found[1] == (request.tip >= tip)
            return found

    def overtaken() -> None:
        machine.ledger.before_record = lambda: None
        machine.ledger.put("election/s", [Event("vote", {"term": 4, "candidate": "b"})])
        machine.ledger.put("commit/s", [Event("term_sealed", {"term": 4})])

    machine.ledger.before_record = overtaken
    machine.ledger.put("commit/s", [Event("intent", {"term": 3}), Event("noted", {})])
    assert (await machine.elected(machine.elector(voter=Noting()), "a")).number == 5
    old, new = Tip(3, 2), Tip(4, 3)
    assert seen == [(old, old), (new, old), (new, new)]
    assert machine.ledger.read("election/s")[-1].payload["tip"] == {"term": 4, "seq": 3}


async def test_only_what_is_new_is_read(machine: Machine) -> None:
    """Catches a campaign that reads the whole history each time, also in a process that has just started."""
    elector = machine.elector()
    for number in range(50):
        machine.ledger.put("commit/s", [Event("intent", {"term": number})] * 20)
        await elector.resign(await machine.elected(elector, "a"))
    machine.ledger.reads.clear()
    fresh = machine.elector()
    assert (await machine.elected(fresh, "b")).number == 51
    assert sum(count for _, count in machine.ledger.reads) < 10


@pytest.mark.parametrize("place", [1, 3, 5, 6, 7, 8, 10**6])
async def test_a_wrong_hint_is_no_harm(machine: Machine, place: int) -> None:
    """The place in the sign of life is hearsay, too. The last record, at place 6, is no vote."""
    elector = machine.elector()
    for _ in range(4):
        await elector.resign(await machine.elected(elector, "a"))
    await elector.transfer(await machine.elected(elector, "a"), "b")
    with machine.heart.open("r+b") as file:
        write_heart(file.fileno(), _heart(machine, place=place))
    assert (await machine.elected(machine.elector(), "b")).number == 6


async def test_pruning_a_ledger_leaves_its_votes(machine: Machine) -> None:
    """A scope whose votes were pruned could elect nobody any more."""
    with open_ledger(machine.folder / "ledger.db", clock=machine.clock) as ledger:

        def elector() -> LocalElector:
            return LocalElector(ledger, lock_dir=machine.folder / "locks", clock=machine.clock)

        first = elector()
        await first.resign(await machine.elected(first, "a"))
        ledger.prune(lambda _record: False)
        assert (await machine.elected(elector(), "b")).number == 2


@pytest.mark.parametrize("payloads", [[{"term": "1"}], [{"term": True}], [{}], [{"term": 2}, {"term": 2}]])
async def test_votes_that_make_no_sense_are_named(machine: Machine, payloads: list[dict[str, Any]]) -> None:
    machine.ledger.put("election/s", [Event("vote", {"candidate": "a", **payload}) for payload in payloads])
    with pytest.raises(LedgerCorrupt, match="record 0"):
        await machine.elected(machine.elector(), "a")
