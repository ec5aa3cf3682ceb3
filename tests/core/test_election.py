"""Raft's election over a network that loses, repeats, delays and reorders, with nodes that crash and come back.

The world is a function of its seed. Whatever happens in it: a term has one leader at most, a voter votes once a term
(counting what it *sent*, so a vote that was forgotten in a crash counts too), and no node's term goes back. The same
world with a rule left out must break that: otherwise it would prove nothing.
"""

import random
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.election import (
    NOTHING,
    TRANSITIONS,
    HardState,
    Heartbeat,
    HeartbeatAck,
    Message,
    Node,
    Ready,
    RequestVote,
    TimeoutNow,
    Tip,
    Turn,
    Vote,
    Voter,
    perform,
)
from madflow.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "election.md"


class Crash(Exception):
    """The node dies between two things it has to do."""


def sends_first(ready: Ready, *, persist: Callable, send: Callable, turn: Callable) -> None:
    """The mutant of `perform` that sends before it persists."""
    for message in ready.messages:
        send(message)
    perform(Ready(ready.hard, (), ready.turns), persist=persist, send=send, turn=turn)


class VotesTwice(Voter):
    """The mutant that does not look whether its vote is still there."""

    def is_free(self, hard: HardState, request: RequestVote) -> bool:
        return request.term == hard.term


class IgnoresTips(Voter):
    """The mutant without the up-to-date check."""

    def is_up_to_date(self, tip: Tip, request: RequestVote) -> bool:
        return True


class World:
    """`voters` voters and `apart` candidates beside them, under faults drawn from `seed`."""

    def __init__(
        self, seed: int, voters: int, apart: int, *, voter: Voter | None = None, do: Callable[..., None] = perform
    ) -> None:
        self.random, self.voter, self.do = random.Random(seed), voter or Voter(), do
        self.voters = [f"v{number}" for number in range(voters)]
        self.apart = [f"c{number}" for number in range(apart)]
        self.disks: dict[str, HardState] = {}
        self.tips: dict[str, Tip] = {}
        self.network: list[Message] = []
        self.leaders: dict[int, set[str]] = {}
        self.votes: dict[tuple[str, int], set[str]] = {}
        self.crash_at = ""
        self.elected = 0
        self.turns: set[tuple[str, str, str]] = set()
        self.nodes = {name: self.made(name) for name in [*self.voters, *self.apart]}

    def made(self, name: str) -> Node:
        return Node(
            name,
            self.voters,
            peers=self.apart,
            seed=self.random.randrange(1 << 32),
            hard=self.disks.get(name),
            tip=self.tips.get(name),
            election_ticks=6,
            stands=len(self.voters) > 1 or name in self.apart or not self.apart,
            voter=self.voter,
        )

    def happened(self, name: str, ready: Ready, role: str) -> None:
        """Do what is due; the node dies on the way if this is the moment for it."""

        def persist(hard: HardState) -> None:
            if self.crash_at == "persist":
                raise Crash
            assert hard.term >= self.disks.get(name, HardState()).term, f"{name}'s term went back"
            self.disks[name] = hard

        def send(message: Message) -> None:
            self.network.append(message)
            if isinstance(message, Vote) and message.granted:
                self.votes.setdefault((message.sender, message.term), set()).add(message.to)
            if isinstance(message, RequestVote) and message.sender in self.voters:
                self.votes.setdefault((message.sender, message.term), set()).add(message.sender)
            if self.crash_at == "send":
                raise Crash

        def turn(taken: Turn) -> None:
            nonlocal role
            self.turns.add((role, taken.why, taken.role))
            role = taken.role
            if taken.role == "leader":
                self.leaders.setdefault(taken.term, set()).add(name)
                self.elected += 1

        try:
            self.do(ready, persist=persist, send=send, turn=turn)
        except Crash:
            self.nodes[name] = self.made(name)
        self.crash_at = ""

    def event(self) -> None:
        draw = self.random.random()
        name = self.random.choice(list(self.nodes))
        if draw < 0.02:
            self.nodes[name] = self.made(name)
        elif draw < 0.05 and self.network:
            self.network.pop(self.random.randrange(len(self.network)))
        elif draw < 0.07 and self.network:
            self.network.append(self.random.choice(self.network))
        elif draw < 0.60 and self.network:
            message = self.network.pop(self.random.randrange(min(8, len(self.network))))
            self.crash_at = self.random.choice(["persist", "send", *[""] * 60])
            role = self.nodes[message.to].role
            self.happened(message.to, self.nodes[message.to].step(message), role)
        else:
            self.other(name, draw)
        del self.network[:-200]

    def other(self, name: str, draw: float) -> None:
        node = self.nodes[name]
        self.crash_at = self.random.choice(["persist", "send", *[""] * 200])
        role = node.role
        if draw < 0.605:
            self.happened(name, node.campaign(), role)
        elif draw < 0.612 and node.others:
            self.happened(name, node.transfer(self.random.choice(node.others)), role)
        elif draw < 0.615:
            self.happened(name, node.resign(), role)
        elif draw < 0.62:
            for _ in range(8):  # it runs ahead of the others, as if the network had stopped
                node = self.nodes[name]
                role = node.role
                self.happened(name, node.tick(), role)
        elif draw < 0.65:
            self.tips[name] = Tip(max(node.term, node.tip.term), node.tip.seq + 1)
            node.grew(self.tips[name])
        else:
            self.happened(name, node.tick(), role)

    def check(self) -> None:
        for term, names in self.leaders.items():
            assert len(names) == 1, f"term {term} has the leaders {sorted(names)}"
        for (name, term), given_to in self.votes.items():
            assert len(given_to) == 1, f"{name} voted in term {term} for {sorted(given_to)}"


def run(seed: int, voters: int, apart: int, events: int = 600, **mutant: object) -> World:
    world = World(seed, voters, apart, **mutant)  # type: ignore[arg-type]
    for _ in range(events):
        world.event()
        for node in world.nodes.values():
            assert world.disks.get(node.name, HardState()) == node.hard, "a node goes on with what it did not persist"
    world.check()
    return world


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 5]), st.integers(0, 3))
def test_one_leader_a_term_and_no_vote_twice(seed: int, voters: int, apart: int) -> None:
    run(seed, voters, apart)


def test_leaders_are_elected_on_the_way() -> None:
    """Catches a world in which nothing happens, and a transition of the table that nothing makes."""
    worlds = [run(seed, voters, apart) for seed in range(40) for voters, apart in ((1, 3), (3, 0), (5, 2))]
    assert sum(world.elected for world in worlds) > 100
    made = {turn for world in worlds for turn in world.turns}
    assert made == {(role, why, to) for (role, why), to in TRANSITIONS.items()}


@pytest.mark.parametrize("mutant", [{"voter": VotesTwice()}, {"do": sends_first}], ids=["votes twice", "sends first"])
def test_a_world_without_the_rule_breaks(mutant: dict[str, object]) -> None:
    """The checks can fail: a rule left out shows within some seeds."""
    with pytest.raises(AssertionError, match=r"voted in term|two leaders|has the leaders"):
        for seed, (voters, apart) in product(range(400), ((1, 3), (3, 2))):
            run(seed, voters, apart, **mutant)


def test_a_leader_s_log_is_not_behind_its_voters() -> None:
    """Leader completeness, as far as an election alone can give it; the mutant without the check breaks it."""

    def behind(voter: Voter) -> bool:
        node = Node("a", ["a", "b", "c"], tip=Tip(2, 9), hard=HardState(2), voter=voter)
        for tip in (Tip(2, 8), Tip(1, 100), Tip()):
            (answer,) = node.step(RequestVote(3, "b", "a", tip)).messages
            if isinstance(answer, Vote) and answer.granted:
                return True
        return False

    assert not behind(Voter())
    assert behind(IgnoresTips())


def test_a_healthy_majority_elects_and_stays() -> None:
    """Liveness: from any state, with messages delivered, some node leads and goes on leading."""
    for seed in range(20):
        world = run(seed, 3, 1)
        for _ in range(40):
            ticks(world)
        leaders = [name for name, node in world.nodes.items() if node.role == "leader"]
        terms = {node.term for node in world.nodes.values()}
        for _ in range(20):
            ticks(world)
        assert len(leaders) == 1 and len(terms) == 1
        assert world.nodes[leaders[0]].role == "leader" and {node.term for node in world.nodes.values()} == terms


def ticks(world: World) -> None:
    """One tick for everybody, then every message."""
    for name, node in world.nodes.items():
        role = node.role
        world.happened(name, node.tick(), role)
        while world.network:
            message = world.network.pop(0)
            to = world.nodes[message.to]
            role = to.role
            world.happened(message.to, to.step(message), role)


def test_what_is_late_changes_nothing() -> None:
    """A vote, an ack or a request to time out from a smaller term, and one for a role that the node has left."""
    node = Node("a", ["a", "b", "c"], hard=HardState(4, "b"))
    for message in (Vote(3, "b", "a", True), HeartbeatAck(3, "b", "a"), TimeoutNow(3, "b", "a")):
        assert node.step(message) is NOTHING
    assert node.step(Vote(4, "b", "a", True)) is NOTHING
    assert node.step(HeartbeatAck(4, "b", "a")) is NOTHING
    assert node.step(Heartbeat(3, "b", "a")) == Ready(messages=(HeartbeatAck(4, "a", "b"),))


def test_votes_of_strangers_are_not_counted() -> None:
    node = Node("a", ["a", "b", "c"], peers=["x", "y"])
    node.campaign()
    for name in ("x", "y"):
        node.step(Vote(1, name, "a", True))
    assert node.role == "candidate"
    assert node.step(Vote(1, "c", "a", True)).turns == (Turn("leader", 1, "won"),)
    (answer,) = Node("x", ["a"]).step(RequestVote(1, "a", "x", Tip())).messages
    assert answer == Vote(1, "x", "a", False)


def test_a_majority_is_one_of_voters() -> None:
    """A leader that hears only candidates without a vote steps down. Catches acks of strangers that are counted."""
    for name, role in (("x", "follower"), ("c", "leader")):
        node = Node("a", ["a", "b", "c"], peers=["x", "y"])
        node.campaign()
        node.step(Vote(1, "b", "a", True))
        for _ in range(node.election_ticks):
            node.step(HeartbeatAck(1, name, "a"))
            node.tick()
        assert node.role == role


def test_who_votes_waits_for_the_candidate() -> None:
    """A granted vote starts the timeout anew, or the voter would soon stand against whom it voted for; a refusal does
    not, or candidates that cannot win would keep everybody quiet."""

    def ticks_until_it_stands(tip: Tip) -> int:
        node = Node("a", ["a", "b"], tip=Tip(1, 1), hard=HardState(1))
        for _ in range(9):
            node.tick()
        node.step(RequestVote(1, "b", "a", tip))
        return next(number for number in range(1, 100) if node.tick().turns)

    assert ticks_until_it_stands(Tip(1, 1)) >= 10
    assert ticks_until_it_stands(Tip()) <= 10


def test_two_leaders_of_one_term_are_never_taken_for_one() -> None:
    node = Node("a", ["a"])
    node.campaign()
    with pytest.raises(AssertionError, match="term 1 has two leaders, 'a' and 'b'"):
        node.step(Heartbeat(1, "b", "a"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Node("", ["a"]), "empty name"),
        (lambda: Node("a", []), "needs voters"),
        (lambda: Node("a", ["a", "a"]), "each named once"),
        (lambda: Node("a", ["a"], election_ticks=3, heartbeat_ticks=3), "heartbeat_ticks=3"),
        (lambda: Node("a", ["a"]).step(Vote(1, "b", "c", True)), "a message to 'c'"),
        (lambda: Node("a", ["a", "b"]).transfer("z"), "knows b"),
        (lambda: Node("a", ["a"], tip=Tip(2, 1)).grew(Tip(1, 5)), "went back"),
    ],
)
def test_nonsense_is_refused_by_name(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_the_page_draws_the_table() -> None:
    """docs/explanation/election.md shows every transition that there is, and none that there is not."""
    drawn = re.findall(r"^\s*(\w+) --> (\w+): (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    shown = {(role, why.strip(), to) for role, to, whys in drawn for why in whys.split(",") if role in ROLES}
    assert shown == {(role, why, to) for (role, why), to in TRANSITIONS.items()}


ROLES = ("follower", "candidate", "leader")
