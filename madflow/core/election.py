"""Raft's election: who may try to submit, in which term. No log replication, no I/O, no clock, no randomness.

Theory of operation (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014, §5.1, §5.2 and
§5.4.1; leadership transfer and the leader's own check for a majority: Ongaro's thesis, 2014, §3.10 and §6.2):

- Time is cut into *terms*, numbered upwards. A node that meets a higher term takes it over and follows.
- A follower that hears no leader for a randomised election timeout raises the term, becomes a candidate and asks
  every *voter* for its vote. A voter gives one vote a term, first come, first served, and only to a candidate whose
  *tip* (term and number of its log's last record) is not behind the voter's own. A majority of the voters makes a
  leader: two majorities share a voter, and that one voted once, so a term has one leader at most.
- A leader sends heartbeats. Those of a smaller term are refused, and the refusal carries the higher term. A leader
  that has not heard from a majority within an election timeout steps down.
- A transfer tells one node to time out at once. It asks for votes as everybody does; if nothing came of it within an
  election timeout, the leader goes on.

A node need not be a voter. On one machine all processes share one fate, so the ledger is the only voter and the
submitters are candidates beside it (`election/local.py`); in simulation three or five nodes vote for each other.

*Persist before you send.* A vote that is forgotten in a crash is given twice. So everything that is due comes as one
value, `Ready`, and `perform` is the order in which it is done: hard state to the disk, then messages, then the rest of
the program learns of the new role. A node that comes back is made from its hard state, as a follower.

What an election does *not* give is authority. A leader learns late that it was deposed: between two heartbeats there
may be two nodes that both believe to lead, each in its term. What a submitter writes is checked against the term by
the ledger, in the transaction that writes it (`FencedLedger.seal` and `append`); the term won here is only the token.

Left out on purpose: pre-votes and leader stickiness (thesis §9.6, §4.2.3). Without them a node that was cut off may
depose a working leader when it comes back; that costs an election, never safety.

The transition table is `TRANSITIONS`; which message is for which role is `HANDLERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from ..errors import ConfigError

__all__ = [
    "HANDLERS",
    "NOTHING",
    "TRANSITIONS",
    "HardState",
    "Heartbeat",
    "HeartbeatAck",
    "Message",
    "Node",
    "Ready",
    "RequestVote",
    "Role",
    "TimeoutNow",
    "Tip",
    "Turn",
    "Vote",
    "Voter",
    "Why",
    "perform",
]

Role: TypeAlias = Literal["follower", "candidate", "leader"]
Why: TypeAlias = Literal[
    "timed_out", "campaigned", "told_to", "won", "heard_leader", "saw_higher_term", "lost_majority", "resigned"
]

TRANSITIONS: Final[Mapping[tuple[Role, Why], Role]] = MappingProxyType(
    {
        ("follower", "timed_out"): "candidate",
        ("follower", "campaigned"): "candidate",
        ("follower", "told_to"): "candidate",
        ("follower", "heard_leader"): "follower",
        ("follower", "saw_higher_term"): "follower",
        ("candidate", "timed_out"): "candidate",
        ("candidate", "campaigned"): "candidate",
        ("candidate", "won"): "leader",
        ("candidate", "heard_leader"): "follower",
        ("candidate", "saw_higher_term"): "follower",
        ("leader", "saw_higher_term"): "follower",
        ("leader", "lost_majority"): "follower",
        ("leader", "resigned"): "follower",
    }
)
"""(role, what happened) → role. What is not listed cannot happen."""

_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True, order=True)
class Tip:
    """The end of a log: the term of its last record, and that record's number. (0, 0): an empty log."""

    term: int = 0
    seq: int = 0


@dataclass(frozen=True, slots=True)
class HardState:
    """What must survive a crash: the highest term seen, and whom this node voted for in it ("": nobody yet)."""

    term: int = 0
    voted_for: str = ""


@dataclass(frozen=True, slots=True)
class RequestVote:
    """A candidate asks a voter for its vote in `term`. `tip`: the end of the candidate's log."""

    term: int
    sender: str
    to: str
    tip: Tip


@dataclass(frozen=True, slots=True)
class Vote:
    """A voter's answer. `term`: the voter's own, so that a refused candidate learns of a higher one."""

    term: int
    sender: str
    to: str
    granted: bool


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The leader of `term` is there."""

    term: int
    sender: str
    to: str


@dataclass(frozen=True, slots=True)
class HeartbeatAck:
    """A heartbeat arrived. `term`: the receiver's own; a higher one deposes the sender."""

    term: int
    sender: str
    to: str


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader of `term` asks this node to campaign at once."""

    term: int
    sender: str
    to: str


Message: TypeAlias = RequestVote | Vote | Heartbeat | HeartbeatAck | TimeoutNow


@dataclass(frozen=True, slots=True)
class Turn:
    """A node took `role` in `term` (maybe the role it had), because of `why`."""

    role: Role
    term: int
    why: Why


@dataclass(frozen=True, slots=True)
class Ready:
    """What is due, in the order of the fields; `perform` does it.

    Attributes:
        hard: to be made durable before anything else is done; None: unchanged.
        messages: to be sent after that, in any order. They may be lost, delayed, repeated or reordered.
        turns: the roles this node took, oldest first. It has none of them before `hard` is durable.
    """

    hard: HardState | None = None
    messages: tuple[Message, ...] = ()
    turns: tuple[Turn, ...] = ()


NOTHING: Final = Ready()


def perform(
    ready: Ready,
    *,
    persist: Callable[[HardState], None],
    send: Callable[[Message], None],
    turn: Callable[[Turn], None] | None = None,
) -> None:
    """Do what is due, persisting before sending. An error on the way leaves the rest undone: drop the node then, and
    make it again from what is on the disk."""
    if ready.hard is not None:
        persist(ready.hard)
    for message in ready.messages:
        send(message)
    if turn is not None:
        for taken in ready.turns:
            turn(taken)


class Voter:
    """How a voter decides, without any state of its own: nodes and the local elector ask this."""

    __slots__ = ()

    def is_free(self, hard: HardState, request: RequestVote) -> bool:
        """One vote a term: not yet given, or given to this very candidate (whose vote was lost on the way)."""
        return request.term == hard.term and hard.voted_for in ("", request.sender)

    def is_up_to_date(self, tip: Tip, request: RequestVote) -> bool:
        """The candidate's log is not behind this one: later term, or the same and at least as long (§5.4.1)."""
        return request.tip >= tip

    def consider(self, hard: HardState, tip: Tip, request: RequestVote) -> tuple[HardState, bool]:
        """The hard state after the request, to be durable before the answer is sent, and whether it is granted."""
        if request.term > hard.term:
            hard = HardState(request.term)
        if self.is_free(hard, request) and self.is_up_to_date(tip, request):
            return HardState(request.term, request.sender), True
        return hard, False


_VOTER: Final = Voter()


class Node:
    """One node of an election. Each method takes one event, changes the node, and returns what is due.

    Args:
        name: this node's id.
        voters: the ids of all voters, the same at every node; this node may be among them.
        hard: what was persisted last; a new node has the default.
        tip: the end of the log that this node would append to; tell `grew` when it grows.
        peers: nodes beside the voters that want to hear from the leader, because they stand for election too.
        election_ticks: an election timeout is drawn from [election_ticks, 2 · election_ticks); `heartbeat_ticks`:
            a leader sends at this interval.
        seed: of the timeouts; nodes with different seeds draw different ones.
        stands: whether it campaigns when it hears no leader. False for a voter that is only that.
        voter: how it votes.

    Attributes:
        term, voted_for: the hard state; role; leader: who leads the term, "" if not known.
        won_with: the tip with which it asked for votes last: a leader won with it, and appends behind it.
        transferee: to whom a leader is handing over; it should start nothing new meanwhile.

    Raises:
        ConfigError: no voters, an empty or a double name, or an election timeout that heartbeats cannot keep up.
    """

    __slots__ = (
        "_active",
        "_elapsed",
        "_hard_changed",
        "_random",
        "_since_heartbeat",
        "_timeout",
        "_transfer_left",
        "_turns",
        "_votes",
        "election_ticks",
        "heartbeat_ticks",
        "leader",
        "majority",
        "name",
        "others",
        "role",
        "stands",
        "term",
        "tip",
        "transferee",
        "voted_for",
        "voter",
        "voters",
        "won_with",
    )

    def __init__(
        self,
        name: str,
        voters: Sequence[str],
        *,
        hard: HardState | None = None,
        tip: Tip | None = None,
        peers: Sequence[str] = (),
        election_ticks: int = 10,
        heartbeat_ticks: int = 2,
        seed: int = 0,
        stands: bool = True,
        voter: Voter = _VOTER,
    ) -> None:
        _check(name, voters, election_ticks, heartbeat_ticks)
        hard = hard or HardState()
        self.name, self.voters, self.majority = name, frozenset(voters), len(voters) // 2 + 1
        self.others = tuple(sorted({*voters, *peers} - {name}))
        self.election_ticks, self.heartbeat_ticks = election_ticks, heartbeat_ticks
        self.stands, self.voter = stands, voter
        self.term, self.voted_for, self.tip = hard.term, hard.voted_for, tip or Tip()
        self.role: Role = "follower"
        self.leader = self.transferee = ""
        self.won_with = Tip()
        self._random = (seed * 0x9E3779B97F4A7C15 + int.from_bytes(name.encode()[-8:], "big")) & _MASK
        self._votes: set[str] = set()
        self._active: set[str] = set()
        self._hard_changed = False
        self._turns: list[Turn] = []
        self._elapsed = self._timeout = self._since_heartbeat = self._transfer_left = 0
        self._restart_timeout()

    @property
    def hard(self) -> HardState:
        """What must be durable."""
        return HardState(self.term, self.voted_for)

    def grew(self, tip: Tip) -> None:
        """The log that this node would append to ends at `tip` now. Raises ConfigError if it went back."""
        if tip < self.tip:
            raise ConfigError(f"the log of node {self.name!r} went back from {self.tip} to {tip}; a log only grows")
        self.tip = tip

    def tick(self) -> Ready:
        """One unit of this node's own running time went by."""
        if self.role == "leader":
            return self._lead()
        if not self.stands:
            return NOTHING
        self._elapsed += 1
        return self._stand("timed_out") if self._elapsed >= self._timeout else NOTHING

    def campaign(self) -> Ready:
        """Stand for election now. Nothing happens if this node leads already."""
        return NOTHING if self.role == "leader" else self._stand("campaigned")

    def transfer(self, to: str) -> Ready:
        """Ask node `to` to take over. The leader goes on leading until it sees a higher term; nothing happens if this
        node does not lead. Raises ConfigError for a node that is not known here."""
        if to not in self.others:
            raise ConfigError(f"cannot transfer to {to!r}; {self.name!r} knows {', '.join(self.others) or 'nobody'}")
        if self.role != "leader":
            return NOTHING
        self.transferee, self._transfer_left = to, self.election_ticks
        return Ready(messages=(TimeoutNow(self.term, self.name, to),))

    def resign(self) -> Ready:
        """Stop leading, in favour of nobody in particular. Nothing happens if this node does not lead."""
        if self.role != "leader":
            return NOTHING
        self._become("resigned")
        return self._ready(())

    def step(self, message: Message) -> Ready:
        """A message arrived; it may be old, repeated or meant for another role.

        Raises:
            ConfigError: it is addressed to another node.
        """
        if message.to != self.name:
            raise ConfigError(f"node {self.name!r} was given a message to {message.to!r}; deliver it there")
        if message.term < self.term:
            return self._refuse(message)
        if message.term > self.term:
            self.term, self.voted_for, self._hard_changed = message.term, "", True
            self._become("saw_higher_term")
        handler = HANDLERS.get((self.role, type(message)))
        return self._ready(handler(self, message) if handler is not None else ())

    def _refuse(self, message: Message) -> Ready:
        """The sender is of a smaller term: it learns of this one, if it waits for an answer."""
        if isinstance(message, RequestVote):
            return Ready(messages=(Vote(self.term, self.name, message.sender, False),))
        if isinstance(message, Heartbeat):
            return Ready(messages=(HeartbeatAck(self.term, self.name, message.sender),))
        return NOTHING

    def _consider(self, request: RequestVote) -> tuple[Message, ...]:
        if self.name not in self.voters:
            return (Vote(self.term, self.name, request.sender, False),)
        before = self.hard
        after, granted = self.voter.consider(before, self.tip, request)
        if after != before:
            self.term, self.voted_for, self._hard_changed = after.term, after.voted_for, True
        if granted:
            self._restart_timeout()
        return (Vote(self.term, self.name, request.sender, granted),)

    def _count(self, vote: Vote) -> tuple[Message, ...]:
        if vote.granted and vote.sender in self.voters:
            self._votes.add(vote.sender)
        return self._win() if len(self._votes) >= self.majority else ()

    def _win(self) -> tuple[Message, ...]:
        self._active = {self.name}
        self._become("won")
        self.leader = self.name
        return self._beat()

    def _follow(self, heartbeat: Heartbeat) -> tuple[Message, ...]:
        if self.role != "follower" or self.leader != heartbeat.sender:
            if self.leader not in ("", heartbeat.sender):
                raise AssertionError(f"term {self.term} has two leaders, {self.leader!r} and {heartbeat.sender!r}")
            self._become("heard_leader")
            self.leader = heartbeat.sender
        self._restart_timeout()
        return (HeartbeatAck(self.term, self.name, heartbeat.sender),)

    def _two_leaders(self, heartbeat: Heartbeat) -> tuple[Message, ...]:
        raise AssertionError(f"term {self.term} has two leaders, {self.name!r} and {heartbeat.sender!r}")

    def _heard(self, ack: HeartbeatAck) -> tuple[Message, ...]:
        self._active.add(ack.sender)
        return ()

    def _told(self, _message: TimeoutNow) -> tuple[Message, ...]:
        return self._ask("told_to") if self.stands else ()

    def _stand(self, why: Why) -> Ready:
        return self._ready(self._ask(why))

    def _ask(self, why: Why) -> tuple[Message, ...]:
        """Raise the term, vote for oneself if one may, and ask the others."""
        self.term, self.voted_for, self._hard_changed = self.term + 1, "", True
        self._votes, self.won_with = set(), self.tip
        self._become(why)
        if self.name in self.voters:
            self.voted_for = self.name
            self._votes.add(self.name)
        if len(self._votes) >= self.majority:
            return self._win()
        others = sorted(self.voters - {self.name})
        return tuple(RequestVote(self.term, self.name, other, self.tip) for other in others)

    def _lead(self) -> Ready:
        """A leader's tick: is a majority still there, and is a heartbeat due?"""
        if self.transferee:
            self._transfer_left -= 1
            if self._transfer_left <= 0:
                self.transferee = ""
        self._elapsed += 1
        if self._elapsed >= self.election_ticks:
            self._elapsed = 0
            if len(self._active & self.voters) < self.majority:
                self._become("lost_majority")
                return self._ready(())
            self._active = {self.name}
        self._since_heartbeat += 1
        return Ready(messages=self._beat()) if self._since_heartbeat >= self.heartbeat_ticks else NOTHING

    def _beat(self) -> tuple[Message, ...]:
        self._since_heartbeat = 0
        return tuple(Heartbeat(self.term, self.name, other) for other in self.others)

    def _become(self, why: Why) -> None:
        self.role = TRANSITIONS[self.role, why]
        self.leader = self.transferee = ""
        self._turns.append(Turn(self.role, self.term, why))
        self._restart_timeout()

    def _restart_timeout(self) -> None:
        """Draw the next election timeout, by splitmix64 (Steele et al., 2014): a run is a function of its seeds."""
        self._elapsed = 0
        self._random = (self._random + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((self._random ^ (self._random >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        self._timeout = self.election_ticks + (mixed ^ (mixed >> 31)) % self.election_ticks

    def _ready(self, messages: tuple[Message, ...]) -> Ready:
        turns = tuple(self._turns)
        self._turns.clear()
        hard = self.hard if self._hard_changed else None
        self._hard_changed = False
        return Ready(hard, messages, turns) if hard is not None or messages or turns else NOTHING


HANDLERS: Final[Mapping[tuple[Role, type], Callable[..., tuple[Message, ...]]]] = MappingProxyType(
    {
        ("follower", RequestVote): Node._consider,
        ("candidate", RequestVote): Node._consider,
        ("leader", RequestVote): Node._consider,
        ("candidate", Vote): Node._count,
        ("follower", Heartbeat): Node._follow,
        ("candidate", Heartbeat): Node._follow,
        ("leader", Heartbeat): Node._two_leaders,
        ("leader", HeartbeatAck): Node._heard,
        ("follower", TimeoutNow): Node._told,
    }
)
"""What a role does with a message of its own term; what is not listed comes late and means nothing any more."""


def _check(name: str, voters: Sequence[str], election_ticks: int, heartbeat_ticks: int) -> None:
    if not name or not all(voters):
        raise ConfigError("a node of an election has an empty name; name it")
    if not voters or len(set(voters)) != len(voters):
        raise ConfigError(f"an election needs voters, each named once; it was given {list(voters)}")
    if not 1 <= heartbeat_ticks < election_ticks:
        raise ConfigError(
            f"heartbeat_ticks={heartbeat_ticks} must be at least 1 and less than election_ticks={election_ticks}; "
            "a tenth to a third of it is usual"
        )
