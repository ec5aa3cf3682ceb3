"""What is outside: the targets of effects, the counter that judges them, and the humans who speak about doubts.

The world counts by *place* (commit, step, direction), whatever key an effect came with: a submitter that uses a new key
for each attempt is found out. What a target does with a request is its class's definition:

    idempotent       a key that was seen is ignored
    verifiable       each request takes place, and the target remembers its key for probes
    non_verifiable   each request takes place, and nobody can tell
    transactional    takes place when the ledger stores the outcome
    none             nothing takes place
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeAlias

from ...core.journal import Direction
from ...core.plan import EffectClass, Undoable
from ...core.saga import Failed

__all__ = ["Fate", "Place", "Request", "SimCommit", "SimStep", "World"]

Place: TypeAlias = tuple[str, int, Direction]
Fate: TypeAlias = Literal[
    "answered", "flaky", "answer_lost", "request_lost", "late", "dies_before", "dies_after", "dies_late"
]

_FATES: tuple[Fate, ...] = (
    *("answered",) * 10,
    *("flaky",) * 2,
    *("answer_lost",) * 2,
    "request_lost",
    *("late",) * 2,
    "dies_before",
    "dies_after",
    "dies_late",
)


@dataclass(frozen=True, slots=True)
class SimStep:
    """One step of a simulated plan. `fails`, `undo_fails`: how it (or its undo) fails for good, where it does."""

    classes: dict[Direction, EffectClass]
    undoable: Undoable
    target: str
    fails: Failed | None = None
    undo_fails: Failed | None = None


@dataclass(frozen=True, slots=True)
class SimCommit:
    """One proposal to commit."""

    commit_id: str
    proposal_id: str
    steps: tuple[SimStep, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One effect on its way to its target."""

    place: Place
    key: str
    effect_class: EffectClass


@dataclass(slots=True)
class World:
    """The targets, and what they were asked.

    Attributes:
        effects: how often each place took effect; sent: how often a submitter sent it.
        locks: the highest term that asked for each key's lock, where there are locks.
        seen: keys that took effect; granted: retries that humans granted; spoken: places that a human spoke about.
    """

    rng: Random
    wrong: Callable[[str], None]
    effects: dict[Place, int] = field(default_factory=dict)
    sent: dict[Place, int] = field(default_factory=dict)
    locks: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    granted: dict[Place, int] = field(default_factory=dict)
    spoken: set[Place] = field(default_factory=set)
    fates: dict[str, int] = field(default_factory=dict)

    def fate(self, *, quiet: bool) -> Fate:
        """What becomes of a request."""
        fate: Fate = "answered" if quiet else _FATES[int(self.rng.random() * len(_FATES))]
        self.fates[fate] = self.fates.get(fate, 0) + 1
        return fate

    def lock(self, key: str, term: int) -> bool:
        """Ask for a key's lock; refused once a greater term has asked."""
        self.locks[key] = highest = max(term, self.locks.get(key, 0))
        return highest == term

    def send(self, request: Request) -> None:
        """A submitter sends a request; whether it arrives is another question."""
        place = request.place
        self.sent[place] = count = self.sent.get(place, 0) + 1
        if request.effect_class == "non_verifiable" and count > 1 + self.granted.get(place, 0):
            self.wrong(f"{_named(place)} cannot be verified and was attempted {count} times")

    def land(self, request: Request) -> None:
        """The request reaches its target."""
        place, kind = request.place, request.effect_class
        if kind == "none" or (kind == "idempotent" and request.key in self.seen):
            return
        self.seen.add(request.key)
        self.effects[place] = count = self.effects.get(place, 0) + 1
        allowed = 1 if kind in ("idempotent", "transactional") else 1 + self.granted.get(place, 0)
        if count > allowed:
            self.wrong(f"{_named(place)} ({kind}) took effect {count} times")
        if place[2] == "undo":
            self._undone(place)

    def _undone(self, place: Place) -> None:
        done: Place = (place[0], place[1], "do")
        if not self.effects.get(done) and done not in self.spoken:
            self.wrong(f"{_named(place)} took effect, but the step never did")
        for commit, index, direction in self.effects:
            other: Place = (commit, index, direction)
            if direction == "undo" and commit == place[0] and index < place[1] and not self._answered_for(place):
                self.wrong(f"{_named(place)} took effect after {_named(other)}: compensation goes backward")

    def _answered_for(self, place: Place) -> bool:
        return place in self.spoken

    def has(self, key: str) -> bool:
        """What a probe sees."""
        return key in self.seen


def _named(place: Place) -> str:
    return f"step {place[1]} ({place[2]}) of {place[0]}"
