"""Who sees whose last turn, in which order, and under which name.

- all: everyone sees everyone. One transcript serves all readers, so a provider's prompt cache does too.
- ring: the seats sit in a circle, and each sees its two neighbours.
- sparse:K: each seat sees K others, and each is seen by K others (never more, never less, while K is below the number
  of others; else it is "all"). Whom it sees changes from round to round, so that what one seat knows gets around.

A reader always sees its own turn. Fewer edges mean fewer prompt tokens and slower agreement (Li et al., "Improving
Multi-Agent Debate with Sparse Communication Topology", 2024). Round 1 is independent: nobody asks who is visible then.

The transcript's order and the seats' names ("A", "B", …) are drawn once for all readers, so that neither shows who
is who or favours one place. Every draw is a sort by SHA-256 over the seed and the ids: the same everywhere,
and never dependent on the order in which agents are listed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from string import ascii_uppercase
from typing import Final, Literal

from ..errors import ConfigError

__all__ = ["Topology", "labels", "order", "parse_topology", "visible"]

_SPARSE: Final = re.compile(r"sparse:([1-9][0-9]{0,3})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Topology:
    """Who sees whom. `k` counts the others that one seat sees, where `kind` is "sparse". `str` is its text."""

    kind: Literal["all", "ring", "sparse"]
    k: int = 0

    def __str__(self) -> str:
        return f"sparse:{self.k}" if self.kind == "sparse" else self.kind


def parse_topology(text: str) -> Topology:
    """Read "all", "ring" or "sparse:K" with K from 1 to 9,999.

    Raises:
        ConfigError: anything else.
    """
    text = text.strip()
    if text == "all":
        return Topology("all")
    if text == "ring":
        return Topology("ring")
    sparse = _SPARSE.fullmatch(text)
    if sparse is None:
        raise ConfigError(f"unknown topology {text!r}; use all, ring, or sparse:K with K from 1 to 9999, e.g. sparse:2")
    return Topology("sparse", int(sparse[1]))


def visible(topology: Topology, agents: Sequence[str], reader: str, round: int, seed: int) -> tuple[str, ...]:
    """The ids whose last turn `reader` sees in `round`, its own included, sorted.

    Raises:
        ConfigError: `reader` is not among `agents`, or an agent is listed twice.
    """
    _check(agents)
    if reader not in agents:
        raise ConfigError(f"reader {reader!r} has no seat among {', '.join(sorted(agents))}; name one that has")
    if topology.kind == "all":
        return tuple(sorted(agents))
    if topology.kind == "ring":
        circle = _drawn(agents, "ring", str(seed))
        steps: Sequence[int] = (-1, 0, 1)
    else:
        circle = _drawn(agents, "sparse", str(seed), str(round))
        steps = range(min(topology.k + 1, len(circle)))
    place = circle.index(reader)
    return tuple(sorted({circle[(place + step) % len(circle)] for step in steps}))


def order(agents: Sequence[str], *, debate_id: str, round: int, seed: int) -> tuple[str, ...]:
    """The order in which a round's turns stand in the transcript, the same for every reader.

    Raises:
        ConfigError: an agent is listed twice.
    """
    _check(agents)
    return tuple(_drawn(agents, "order", debate_id, str(round), str(seed)))


def labels(agents: Sequence[str], *, debate_id: str, seed: int) -> dict[str, str]:
    """Anonymous names by agent: A to Z, then AA, AB, …; the same in every round of a debate.

    Raises:
        ConfigError: an agent is listed twice.
    """
    _check(agents)
    drawn = _drawn(agents, "labels", debate_id, str(seed))
    named = {agent: _letters(place) for place, agent in enumerate(drawn)}
    return {agent: named[agent] for agent in sorted(named)}


def _check(agents: Sequence[str]) -> None:
    if len(set(agents)) != len(agents):
        raise ConfigError(f"an agent is listed twice (agents={sorted(agents)}); every agent needs its own id")


def _drawn(agents: Sequence[str], *salt: str) -> list[str]:
    """The agents in an order that depends on the salt and nothing else."""
    start = sha256("\0".join(salt).encode("utf-8", "surrogatepass"))

    def key(agent: str) -> tuple[bytes, str]:
        state = start.copy()
        state.update(b"\0" + agent.encode("utf-8", "surrogatepass"))
        return state.digest(), agent

    return sorted(agents, key=key)


def _letters(place: int) -> str:
    text = ""
    place += 1
    while place:
        place, letter = divmod(place - 1, 26)
        text = ascii_uppercase[letter] + text
    return text
