"""What a seed stands for: which nodes vote and submit, what is to be committed, and which faults come when."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from ...core.journal import Direction, commit_id
from ...core.plan import EffectClass, Undoable
from ...core.saga import Failed
from .world import SimCommit, SimStep

__all__ = ["FAULTS_FROM", "FAULTS_TO", "REQUESTS_TO", "Scenario", "scenario"]

_CLASSES: Final[tuple[EffectClass, ...]] = (
    "none",
    *("idempotent",) * 3,
    *("verifiable",) * 4,
    *("transactional",) * 2,
    *("non_verifiable",) * 2,
)
_UNDO_CLASSES: Final[tuple[EffectClass, ...]] = ("idempotent", "verifiable", "verifiable", "non_verifiable")
_FAULTS: Final = ("crash", "crash", "stop", "stop", "part", "part", "cut", "transfer")
_TARGETS: Final = ("file:a", "file:b", "file:c")
FAULTS_FROM: Final = 10
FAULTS_TO: Final = 400
REQUESTS_TO: Final = 250


@dataclass(frozen=True, slots=True)
class Scenario:
    """Drawn once, before anything runs.

    Attributes:
        nodes: all of them; voters: those who vote; submitters: those who stand for election.
        requests: (commit, the times at which somebody asks for it); faults: (time, (kind, node, how long)).
        locks: whether effects begin under locks that carry the term, as on one machine; else there is only time.
        humans: whether doubts are answered; careless: how often a human speaks without having looked.
    """

    nodes: tuple[str, ...]
    voters: tuple[str, ...]
    submitters: tuple[str, ...]
    commits: tuple[SimCommit, ...]
    requests: tuple[tuple[str, tuple[int, ...]], ...]
    faults: tuple[tuple[int, tuple[str, str, int]], ...]
    locks: bool
    humans: bool
    careless: float


def scenario(rng: Random) -> Scenario:
    """The scenario of a generator's next draws."""
    voters = tuple(f"v{number}" for number in range(rng.choice((1, 3, 3, 5))))
    if rng.random() < 0.5 and len(voters) > 1:
        submitters = voters
    else:
        beside = tuple(f"s{number}" for number in range(rng.randint(2, 3)))
        submitters = beside if rng.random() < 0.5 else (*beside, voters[0])
    nodes = tuple(sorted({*voters, *submitters}))
    commits = tuple(_commit(rng, number) for number in range(rng.randint(1, 3)))
    requests = tuple(
        (commit.commit_id, tuple(rng.randrange(REQUESTS_TO) for _ in range(rng.randint(1, 3)))) for commit in commits
    )
    faults = tuple(
        (
            rng.randrange(FAULTS_FROM, FAULTS_TO),
            (rng.choice(_FAULTS), rng.choice(submitters if rng.random() < 0.7 else nodes), rng.randrange(5, 130)),
        )
        for _ in range(rng.randint(2, 8))
    )
    locks, humans, careless = rng.random() < 0.5, rng.random() < 0.85, rng.choice((0.0, 0.3))
    return Scenario(nodes, voters, submitters, commits, requests, faults, locks, humans, careless)


def _commit(rng: Random, number: int) -> SimCommit:
    steps = tuple(_step(rng) for _ in range(rng.randint(1, 4)))
    if rng.random() < 0.4:
        fails = Failed("exit_code", "it fails", applied=rng.random() < 0.3)
        last = steps[-1]
        steps = (*steps[:-1], SimStep(last.classes, last.undoable, last.target, fails, last.undo_fails))
    proposal = f"p{number}"
    targets = tuple(sorted({step.target for step in steps}))
    return SimCommit(commit_id("sim", proposal), proposal, steps, targets)


def _step(rng: Random) -> SimStep:
    do, undo = rng.choice(_CLASSES), rng.choice(_UNDO_CLASSES)
    undoable: Undoable = "nothing" if do == "none" else rng.choice(("yes", "yes", "yes", "yes", "no", "nothing"))
    classes: dict[Direction, EffectClass] = {"do": do, "undo": "transactional" if do == "transactional" else undo}
    undo_fails = Failed("gone", "it cannot be taken back", applied=False) if rng.random() < 0.08 else None
    return SimStep(classes, undoable, rng.choice(_TARGETS), None, undo_fails)
