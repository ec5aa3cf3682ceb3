"""What policies make of panels: accuracy and tokens by size of the panel, topology and share of bad agents.

Every setting is put the same questions with the same seed, so settings differ by what they are and hardly by luck (see
draws.py). Policies are held against whole debates by `core.policies.replay`, which shows them what they ask for. Tokens
are characters / 4 of the prompts and replies that were asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from ...core.policies import Debated, Policy, policy_named, replay
from ...errors import ConfigError
from .model import AgentModel, PanelModel
from .simulate import Simulated, simulate

__all__ = ["REPLIES_MAX", "Explored", "explore"]

REPLIES_MAX: Final = 20_000_000
"""How many replies one call simulates at most; a million take about a minute."""

_CHARS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Explored:
    """One policy in one setting.

    Attributes:
        seats, bad: how many seats, and how many of them mislead.
        accuracy: ties split; error: its standard error over questions.
        collapses: by how much right first rounds were lost, per debate (`evals.metrics.collapses`).
        calls, tokens: asked for, per question. rounds: held, per question.
    """

    policy: str
    topology: str
    seats: int
    bad: int
    accuracy: float
    error: float
    collapses: float
    calls: float
    tokens: float
    rounds: float


def explore(
    panel: PanelModel,
    policies: Sequence[str | Policy] = ("vote", "debate", "robust"),
    *,
    seats: Sequence[int] = (3, 5, 7),
    bad: Sequence[float] = (0.0,),
    topologies: Sequence[str] = ("all",),
    misleading: AgentModel | None = None,
    questions: int = 400,
    run_questions: int = 50,
    seed: int = 0,
) -> list[Explored]:
    """Hold policies against every combination of topology, panel size and share of bad agents.

    Args:
        panel: its honest seats are repeated or left out to make up the size; its course's topology is replaced.
        bad: shares of the seats that mislead, 0 to 1, rounded to whole seats, halves up.
        misleading: what a bad agent is; default: the panel's own, or an adversary.
        run_questions: how many questions one run has: what a policy that learns in a run learns from.

    Raises:
        ConfigError: a share outside 0 to 1, no policy of a name, a panel without honest seats, or more than
            `REPLIES_MAX` replies.
    """
    chosen = [policy_named(policy) if isinstance(policy, str) else policy for policy in policies]
    replies = questions * panel.course.rounds * sum(seats) * len(bad) * len(topologies)
    if not 0 < replies <= REPLIES_MAX or run_questions < 1:
        raise ConfigError(
            f"exploring simulates 1 to {REPLIES_MAX} replies in runs of 1 question or more (replies={replies}, "
            f"run_questions={run_questions}); ask fewer questions or settings"
        )
    if any(not 0 <= share <= 1 for share in bad):
        raise ConfigError(f"a share of bad agents is 0 to 1 (bad={tuple(bad)}); fix it")
    found: list[Explored] = []
    for topology, size, share in product(topologies, seats, bad):
        wrong = math.floor(size * share + 0.5)
        course = replace(panel.course, topology=topology)
        held = replace(panel, agents=_agents(panel, size, wrong, misleading), course=course)
        runs = list(_runs(held, questions, run_questions, seed))
        found += [_measured(policy, runs, topology, size, wrong) for policy in chosen]
    return found


def _agents(panel: PanelModel, size: int, wrong: int, misleading: AgentModel | None) -> tuple[AgentModel, ...]:
    honest = [agent for agent in panel.agents if not agent.misleads]
    if not honest:
        raise ConfigError(f"none of the {len(panel.agents)} seats is honest; give one to make up panels from")
    own = next((agent for agent in panel.agents if agent.misleads), AgentModel(role="adversary"))
    return (*(honest[place % len(honest)] for place in range(size - wrong)), *[misleading or own] * wrong)


def _runs(panel: PanelModel, questions: int, run_questions: int, seed: int) -> Iterator[list[Simulated]]:
    for start in range(0, questions, run_questions):
        names = [f"q{place}" for place in range(start, min(questions, start + run_questions))]
        yield simulate(panel, names, seed=seed, run=f"run-{start // run_questions}")


def _measured(policy: Policy, runs: Sequence[Sequence[Simulated]], topology: str, size: int, wrong: int) -> Explored:
    scores, lost, calls, chars, rounds = [], [], 0, 0, 0
    for run in runs:
        for one, made in zip(run, replay(policy, [one.debated for one in run]), strict=True):
            tied = made.verdict.tied
            score = 1 / len(tied) if one.gold in tied else 0.0
            scores.append(score)
            lost.append(max(0.0, _first(one) - score))
            calls += made.calls
            chars += _chars(one, made.seen)
            rounds += len(made.seen.rounds)
    count = len(scores)
    mean = math.fsum(scores) / count
    spread = math.fsum((score - mean) ** 2 for score in scores) / max(1, count - 1)
    return Explored(
        policy=policy.name,
        topology=topology,
        seats=size,
        bad=wrong,
        accuracy=mean,
        error=math.sqrt(spread / count),
        collapses=math.fsum(lost) / count,
        calls=calls / count,
        tokens=chars / _CHARS_PER_TOKEN / count,
        rounds=rounds / count,
    )


def _first(one: Simulated) -> float:
    votes = list(one.debated.votes(1).values())
    most = max(map(votes.count, votes), default=0)
    leading = {vote for vote in votes if votes.count(vote) == most}
    return 1 / len(leading) if one.gold in leading else 0.0


def _chars(one: Simulated, seen: Debated) -> int:
    return sum(
        len(said.text) + one.prompt_chars.get((number, said.seat), 0)
        for number, spoken in enumerate(seen.rounds, start=1)
        for said in spoken
    )
