"""Elections as readable scripts with golden output (tests/golden/election/*.txt).

A script is blocks of a command, a line `----`, and what it brings about; `#` starts a comment. Commands:

    add-nodes a b c [election=10] [heartbeat=2] [candidates=x,y] [voters-stand=no]
                         voters, and candidates that have no vote
    tip a 2.7          the log of a ends at record 7, of term 2
    tick a 10 | tick all 10          stops for nothing; what is sent waits in the network
    campaign a | resign a | transfer a b
    deliver | deliver a>b | deliver-last a>b | drop | drop a>b | repeat a>b
    partition a b | c    messages between the groups are lost from now on; `heal` ends it
    restart a            a comes back with what it persisted
    status

`MADFLOW_REWRITE=1 pytest tests/core/test_election_golden.py` writes the output anew: read the difference before you
commit it. Catches any change of who votes for whom, of what is persisted before what is sent, and of who leads.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from madflow.core.election import (
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
    perform,
)

SCRIPTS = sorted((Path(__file__).parents[1] / "golden" / "election").glob("*.txt"))
DELIVERIES_MAX = 1_000


def told(message: Message) -> str:
    """A message in one line."""
    route = f"{message.sender}>{message.to}"
    if isinstance(message, RequestVote):
        return f"{route} RequestVote term {message.term} tip {message.tip.term}.{message.tip.seq}"
    if isinstance(message, Vote):
        return f"{route} Vote term {message.term} {'granted' if message.granted else 'refused'}"
    assert isinstance(message, Heartbeat | HeartbeatAck | TimeoutNow)
    return f"{route} {type(message).__name__} term {message.term}"


class World:
    """Nodes, their disks, and a network that does only what the script says."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.made: dict[str, Callable[[], Node]] = {}
        self.disks: dict[str, HardState] = {}
        self.tips: dict[str, Tip] = {}
        self.network: list[Message] = []
        self.groups: list[set[str]] = []
        self.said: list[str] = []

    def run(self, line: str) -> list[str]:
        """Perform one command; what it brought about."""
        self.said = []
        command, *words = line.split()
        getattr(self, "do_" + command.replace("-", "_"))(*words)
        return self.said or ["nothing"]

    def do_add_nodes(self, *words: str) -> None:
        options = dict(word.split("=") for word in words if "=" in word)
        voters = [word for word in words if "=" not in word]
        candidates = [name for name in options.get("candidates", "").split(",") if name]
        ticks = {
            "election_ticks": int(options.get("election", 10)),
            "heartbeat_ticks": int(options.get("heartbeat", 2)),
        }
        stand = options.get("voters-stand", "yes") == "yes"
        for number, name in enumerate([*voters, *candidates]):
            self.made[name] = lambda name=name, number=number: Node(
                name,
                voters,
                peers=candidates,
                seed=number,
                hard=self.disks.get(name),
                tip=self.tips.get(name),
                stands=stand or name in candidates,
                **ticks,
            )
            self.nodes[name] = self.made[name]()
            self.said.append(f"{name} is {self.nodes[name].role} of term 0")

    def do_tip(self, name: str, tip: str) -> None:
        term, _, seq = tip.partition(".")
        self.tips[name] = Tip(int(term), int(seq))
        self.nodes[name].grew(self.tips[name])
        self.said.append(f"{name}'s log ends at {tip}")

    def do_tick(self, who: str, times: str = "1") -> None:
        for _ in range(int(times)):
            for name in self.nodes if who == "all" else who.split(","):
                self.happened(name, self.nodes[name].tick())

    def do_campaign(self, name: str) -> None:
        self.happened(name, self.nodes[name].campaign())

    def do_resign(self, name: str) -> None:
        self.happened(name, self.nodes[name].resign())

    def do_transfer(self, name: str, to: str) -> None:
        self.happened(name, self.nodes[name].transfer(to))

    def do_deliver(self, route: str = "") -> None:
        """All that waits and all that follows from it; with a route, the oldest message on it."""
        for _ in range(1 if route else DELIVERIES_MAX):
            if not self.deliver_one(route, newest=False):
                return
        assert route, f"still messages after {DELIVERIES_MAX} deliveries"

    def do_deliver_last(self, route: str) -> None:
        self.deliver_one(route, newest=True)

    def do_drop(self, route: str = "") -> None:
        for message in [message for message in self.network if self.on(message, route)]:
            self.network.remove(message)
            self.said.append(f"lost: {told(message)}")

    def do_repeat(self, route: str) -> None:
        message = next(message for message in self.network if self.on(message, route))
        self.network.append(message)
        self.said.append(f"twice: {told(message)}")

    def do_partition(self, *words: str) -> None:
        self.groups = [set(group.split()) for group in " ".join(words).split("|")]
        self.said.append("cut: " + " | ".join(" ".join(sorted(group)) for group in self.groups))

    def do_heal(self) -> None:
        self.groups = []
        self.said.append("healed")

    def do_restart(self, name: str) -> None:
        self.nodes[name] = self.made[name]()
        node = self.nodes[name]
        self.said.append(f"{name} is {node.role} of term {node.term}, vote {node.voted_for or '-'}")

    def do_status(self) -> None:
        for name, node in self.nodes.items():
            extra = f", won with {node.won_with.term}.{node.won_with.seq}" if node.role == "leader" else ""
            extra += f", handing over to {node.transferee}" if node.transferee else ""
            self.said.append(
                f"{name}: {node.role} of term {node.term}, vote {node.voted_for or '-'}, "
                f"leader {node.leader or '-'}{extra}"
            )
        self.said += [f"waiting: {told(message)}" for message in self.network]

    def deliver_one(self, route: str, *, newest: bool) -> bool:
        for message in list(reversed(self.network)) if newest else list(self.network):
            if self.on(message, route):
                self.network.remove(message)
                if self.is_cut(message):
                    self.said.append(f"lost: {told(message)}")
                else:
                    self.said.append(told(message))
                    self.happened(message.to, self.nodes[message.to].step(message))
                return True
        return False

    def on(self, message: Message, route: str) -> bool:
        return not route or route == f"{message.sender}>{message.to}"

    def is_cut(self, message: Message) -> bool:
        return bool(self.groups) and not any({message.sender, message.to} <= group for group in self.groups)

    def happened(self, name: str, ready: Ready) -> None:
        def persist(hard: HardState) -> None:
            self.disks[name] = hard
            self.said.append(f"  {name} persists term {hard.term} vote {hard.voted_for or '-'}")

        def send(message: Message) -> None:
            self.network.append(message)
            self.said.append(f"  {told(message)}")

        def turn(taken: Turn) -> None:
            self.said.append(f"  {name} is {taken.role} of term {taken.term}: {taken.why}")

        perform(ready, persist=persist, send=send, turn=turn)


def run_script(text: str) -> str:
    """The script with the output it has now."""
    world, out = World(), []
    for block in text.rstrip("\n").split("\n\n"):
        head = block.split("\n----")[0].split("\n")
        command = [line for line in head if not line.startswith("#")]
        out.append("\n".join([*head, "----", *world.run(command[0])] if command else head))
    return "\n\n".join(out) + "\n"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_has_its_golden_output(path: Path) -> None:
    text = path.read_text("utf-8")
    found = run_script(text)
    if os.environ.get("MADFLOW_REWRITE") == "1":
        path.write_text(found, "utf-8")
        return
    assert found == text, f"{path.name} differs; MADFLOW_REWRITE=1 rewrites it, if the change is meant"


def test_every_case_has_its_script() -> None:
    cases = """
        campaign checkquorum higher_term lost_and_reordered partition restart single_voter split_vote stale_log
        transfer voter_apart
    """
    assert set(cases.split()) <= {path.stem for path in SCRIPTS}
