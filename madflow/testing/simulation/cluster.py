"""The machines: nodes that elect, their clocks and network, the faults that befall them, and one queue of events.

Time is a count of ticks that nobody sees. A node's own clock runs up to a tenth fast or slow. A node that is *stopped*
(SIGSTOP, a suspended machine) does nothing, and goes on later where it was; one that *crashed* comes back with what it
had made durable. Everything is drawn from one seeded generator, so a seed is a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Any, Final, Literal

from ...core.election import NOTHING, HardState, Message, Node, Ready, RequestVote, Tip, Turn, perform
from ...core.journal import CommitState
from .model_ledger import ModelLedger
from .mutants import Seams
from .people import People
from .scenario import REQUESTS_TO, Scenario, scenario
from .submitter import SCOPE, Submitter, Waiting, specs_of
from .world import Request, World

__all__ = ["Cluster", "Member", "Wrong"]

TICK: Final = 4
"""Ticks of the simulation to one tick of a node's election."""

CHAOS_TICKS: Final = 420
QUIET_TICKS_MAX: Final = 12_000
CHECK_TICKS: Final = 30


class Wrong(AssertionError):
    """A promise is broken; the simulation stops there."""


@dataclass(slots=True)
class Member:
    """One node: its election, its clock, and whether it is up, stopped or cut off.

    Attributes:
        rate: the length of a tick of its clock, in hundredths of a true one.
        life: counts its restarts; what was begun in an earlier life is gone.
        asked_tip: the highest tip that a majority of voters had when it stood for election last.
    """

    name: str
    cluster: Cluster
    node: Node
    rate: int
    hard: HardState
    asked_tip: Tip
    up: bool = True
    life: int = 0
    stopped_until: int = 0
    cut_until: int = 0
    submitter: Submitter | None = None

    def clock(self) -> int:
        """Its own running time."""
        return self.cluster.now * 100 // self.rate

    def true_ticks(self, own: int) -> int:
        """How long `own` ticks of its clock take."""
        return own * self.rate // 100

    def read_tip(self) -> None:
        """Learn how far the ledger has grown, if it can be reached."""
        ledger = self.cluster.ledger
        if self.cut_until <= self.cluster.now and len(ledger.records) > self.node.tip.seq:
            self.node.grew(Tip(ledger.records[-1].payload["term"], len(ledger.records)))

    def resign(self, term: int) -> None:
        """Stop leading, if it is still in this term."""
        if self.node.role == "leader" and self.node.term == term:
            self.cluster.perform(self, self.node.resign())


@dataclass(slots=True)
class _Process:
    member: Member
    life: int
    steps: Waiting


class Cluster:
    """Everything of one run; `run` is the run.

    Attributes:
        quiet: whether the faults are over; trace: what happened, oldest first.
        leaders: who won each term; requested: the commits that were asked for, in that order.
    """

    def __init__(self, rng: Random, seams: Seams) -> None:
        self.rng, self.seams, self.now, self.quiet = rng, seams, 0, False
        self.trace: list[tuple[int, str, str, Sequence[Any]]] = []
        self.counts: Counter[str] = Counter()
        self.leaders: dict[int, str] = {}
        self.requested: dict[str, None] = {}
        self.receipts: dict[str, Any] = {}
        self._queue: list[tuple[int, int, Callable[..., None], Any]] = []
        self._pushed = 0
        self._sides: dict[str, bool] = {}
        self._sides_until = 0
        self.ledger: ModelLedger = self.seams.ledger(
            SCOPE, now=lambda: self.now, stored=self._stored, believes=self._believes
        )
        self.world = World(self.rng, self.fail)
        self.scenario: Scenario = scenario(self.rng)
        self.commits = {commit.commit_id: commit for commit in self.scenario.commits}
        self.specs = {name: specs_of(commit) for name, commit in self.commits.items()}
        self.people = People(self)
        self.members = {name: self._member(name) for name in self.scenario.nodes}

    def _member(self, name: str) -> Member:
        return Member(name, self, self._node(name, HardState(), Tip()), self.rng.randint(90, 110), HardState(), Tip())

    def _node(self, name: str, hard: HardState, tip: Tip) -> Node:
        plan = self.scenario
        return Node(
            name,
            plan.voters,
            hard=hard,
            tip=tip,
            peers=plan.submitters,
            election_ticks=6,
            heartbeat_ticks=3,
            seed=self.rng.getrandbits(32),
            stands=name in plan.submitters,
            voter=self.seams.voter,
        )

    # --- the queue ----------------------------------------------------------------------------------------------

    def after(self, ticks: int, do: Callable[..., None], what: Any = None) -> None:
        """Call `do(what)` in so many ticks."""
        self._pushed += 1
        heappush(self._queue, (self.now + ticks, self._pushed, do, what))

    def note(self, member: Member | None, what: str, said: Sequence[Any] = ()) -> None:
        """Keep a line of the trace."""
        self.trace.append((self.now, member.name if member else "", what, said))

    def fail(self, what: str) -> None:
        """A promise is broken."""
        raise Wrong(what)

    def spawn(self, member: Member, steps: Waiting, ticks: int = 0) -> None:
        """Run a process of a node, as long as it lives."""
        self.after(ticks, self._resume, _Process(member, member.life, steps))

    def _resume(self, process: _Process) -> None:
        member = process.member
        if member.life != process.life:
            return
        if member.stopped_until > self.now:
            self.after(member.stopped_until - self.now + self.rng.randrange(3), self._resume, process)
            return
        for own in process.steps:
            if own or not member.up:
                self.after(member.true_ticks(own), self._resume, process)
                return
            if member.stopped_until > self.now:
                self.after(0, self._resume, process)
                return

    def run(self) -> None:
        """Faults for a while, then quiet until everything has ended or waits for an absent human."""
        for member in self.members.values():
            self.after(self.rng.randrange(TICK), self._tick, member)
        for name, times in self.scenario.requests:
            for at in times:
                self.after(at, self._request, name)
        for at, fault in self.scenario.faults:
            self.after(at, self._fault, fault)
        self.after(CHAOS_TICKS, self._calm)
        self.after(REQUESTS_TO, self._over)
        queue = self._queue
        while queue:
            self.now, _, do, what = heappop(queue)
            if do is _stop:
                return
            do(what)

    def _over(self, _: None) -> None:
        """Whether everything has ended; then time for what may still be on its way."""
        if self.people.ended():
            self.after(2 * CHECK_TICKS, _stop)
        elif self.now > CHAOS_TICKS + QUIET_TICKS_MAX:
            open_ones = sorted(set(self.requested) - set(self.people.closed()))
            self.fail(f"no progress for {QUIET_TICKS_MAX} quiet ticks: {', '.join(open_ones)} did not end")
        else:
            self.after(CHECK_TICKS, self._over)

    # --- elections ----------------------------------------------------------------------------------------------

    def _tick(self, member: Member) -> None:
        self.after(max(1, TICK * member.rate // 100 + (self.rng.random() < 0.2)), self._tick, member)
        if member.up and member.stopped_until <= self.now:
            if self.rng.random() < 0.4:
                member.read_tip()
            ready = member.node.tick()
            if ready is not NOTHING:
                self.perform(member, ready)

    def _do(self, member: Member, event: Callable[..., Ready], *args: Any) -> None:
        try:
            ready = event(*args)
        except AssertionError as error:
            raise Wrong(str(error)) from error
        if ready is not NOTHING:
            self.perform(member, ready)

    def perform(self, member: Member, ready: Ready) -> None:
        """What an election asks for, in its order."""

        def persist(hard: HardState) -> None:
            if hard.term < member.hard.term:
                self.fail(f"the term of {member.name} went back from {member.hard.term} to {hard.term}")
            if self.seams.persists:
                member.hard = hard

        perform(ready, persist=persist, send=self._send, turn=lambda turn: self._turn(member, turn))

    def _turn(self, member: Member, turn: Turn) -> None:
        self.note(member, turn.role, [f"term {turn.term}", turn.why])
        if member.submitter is not None:
            member.submitter.desk.lost = True
            member.submitter = None
        if turn.role == "candidate":
            tips = sorted((self.members[name].node.tip for name in self.scenario.voters), reverse=True)
            member.asked_tip = tips[len(tips) // 2]
        if turn.role == "leader":
            self._leads(member, turn)

    def _leads(self, member: Member, turn: Turn) -> None:
        other = self.leaders.setdefault(turn.term, member.name)
        if other != member.name:
            self.fail(f"term {turn.term} has two leaders, {other} and {member.name}")
        if member.node.won_with < member.asked_tip:
            self.fail(
                f"{member.name} leads term {turn.term} with {member.node.won_with}, a majority knew {member.asked_tip}"
            )
        member.submitter = Submitter(self, member, turn.term)
        self.spawn(member, member.submitter.serve(), 1)

    def _send(self, message: Message) -> None:
        times = 1
        if not self.quiet:
            if self._parted(message.sender, message.to) or self.rng.random() < 0.06:
                return
            times += self.rng.random() < 0.03
        for _ in range(times):
            drawn = self.rng.random()
            slow = drawn < 0.1 and not self.quiet
            self.after(5 + int(drawn * 350) if slow else 1 + int(drawn * 3), self._deliver, message)

    def _deliver(self, message: Message) -> None:
        member = self.members[message.to]
        if member.stopped_until > self.now:
            self.after(member.stopped_until - self.now + self.rng.randrange(3), self._deliver, message)
        elif member.up:
            if isinstance(message, RequestVote):
                self.counts["vote_requests"] += 1
            self._do(member, member.node.step, message)

    def _parted(self, one: str, other: str) -> bool:
        return self._sides_until > self.now and self._sides[one] != self._sides[other]

    # --- faults -------------------------------------------------------------------------------------------------

    def _fault(self, fault: tuple[str, str, int]) -> None:
        kind, name, ticks = fault
        member = self.members[name]
        self.note(member, kind, [ticks])
        self.counts[kind] += 1
        if kind == "crash":
            self.crash(member, ticks)
        elif kind == "stop":
            member.stopped_until = max(member.stopped_until, self.now + ticks)
        elif kind == "cut":
            member.cut_until = self.now + ticks
        elif kind == "part":
            self._sides = {other: self.rng.random() < 0.5 for other in self.members}
            self._sides_until = self.now + ticks
        elif kind == "transfer" and member.up and member.stopped_until <= self.now:
            self._do(member, member.node.transfer, self.rng.choice(member.node.others) if member.node.others else name)

    def _calm(self, _: None) -> None:
        self.quiet = True
        self._sides_until = 0
        for member in self.members.values():
            member.cut_until = 0
            member.stopped_until = min(member.stopped_until, self.now + 1)

    def crash(self, member: Member, ticks: int = 0) -> None:
        """The node dies here, and comes back later."""
        if not member.up:
            return
        member.up, member.submitter = False, None
        member.life += 1
        self.counts["died"] += 1
        self.after(ticks or self.rng.randrange(5, 90), self._restart, member)

    def _restart(self, member: Member) -> None:
        member.up, member.stopped_until = True, 0
        member.node = self._node(member.name, member.hard, member.node.tip)
        self.note(member, "restarted", [f"term {member.hard.term}"])

    def maybe_stop(self, member: Member) -> None:
        """Sometimes a node is stopped at the worst place: between a durable `started` and its effect."""
        if not self.quiet and self.rng.random() < 0.06:
            member.stopped_until = self.now + self.rng.randrange(10, 220)
            self.counts["stopped_before_effect"] += 1
            self.note(member, "stopped", [member.stopped_until - self.now])

    # --- what submitters ask ------------------------------------------------------------------------------------

    def delay(self) -> int:
        """How long something near takes."""
        return 1 if self.rng.random() < 0.8 else 3

    def gap(self, member: Member) -> int:
        """The time between deciding and doing; sometimes the node is stopped in it."""
        if not self.quiet and self.rng.random() < 0.01:
            member.stopped_until = self.now + self.rng.randrange(10, 220)
        return 0 if self.rng.random() < 0.7 else 1

    def ledger_fate(self, member: Member) -> Literal["ok", "lost", "silent"]:
        """Whether an append arrives, and whether its answer does."""
        if self.quiet:
            return "ok"
        if member.cut_until > self.now:
            return "lost"
        drawn = self.rng.random()
        return "ok" if drawn > 0.05 else "silent" if drawn > 0.025 else "lost"

    def land(self, request: Request, ticks: int) -> None:
        """The request reaches its target in so many ticks, whoever lives then."""
        if ticks:
            self.counts["late"] += 1
            self.after(ticks, self._landed, request)
        else:
            self._landed(request)

    def _landed(self, request: Request) -> None:
        self.note(None, "effect", ["{} {} {}".format(*request.place)])
        self.world.land(request)

    def _request(self, name: str) -> None:
        self.requested[name] = None

    def answered(self, name: str, state: CommitState) -> None:
        """A caller gets its receipt: the same for all."""
        receipt = (state.closed, tuple((key.key, key.status, key.attempt) for key in state.keys.values()))
        if self.receipts.setdefault(name, receipt) != receipt:
            self.fail(f"two receipts for {name}: {self.receipts[name]} and {receipt}")

    def _stored(self, term: int, sealed: int) -> None:
        self.counts["appends"] += 1
        if term != sealed:
            self.fail(f"term {term} appended, and term {sealed} had sealed the scope")

    def _believes(self, term: int) -> bool:
        return any(m.up and m.node.role == "leader" and m.node.term == term for m in self.members.values())


def _stop(_: None) -> None:
    raise AssertionError("the loop ends before it")
