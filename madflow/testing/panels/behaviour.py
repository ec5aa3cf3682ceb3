"""What a seat says, given what it saw: the two formulas of model.py, for the simulation and for calibration alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import repeat

from .model import AgentModel, Persuasion, QuestionKind

__all__ = ["Choice", "Sight", "chances_of", "choices", "first_chances", "later_scores"]

_UNSEEN = [each.name for each in fields(Persuasion)].index("unseen")


@dataclass(frozen=True, slots=True)
class Sight:
    """What a seat knows before a later round.

    Attributes:
        own: its own last answer, None if it could not be read.
        others: (answer, whether that seat misleads) of the others in sight.
    """

    own: str | None
    others: tuple[tuple[str | None, bool], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer that can be given next, or `many` answers that nothing tells apart.

    Attributes:
        answer: None for an unreadable reply and for the unseen wrong ones.
        features: what speaks for it, in the order of `Persuasion`'s fields.
    """

    answer: str | None
    many: int
    features: tuple[float, ...]


def first_chances(kind: QuestionKind, competence: float, answers: int) -> tuple[float, float, float, float]:
    """The chances of a first reply: right, the tempting wrong answer, any one other wrong answer, unreadable."""
    right = 1 / (1 + math.exp(-(kind.easiness + competence)))
    wrong = (1 - right) / (answers - 1)
    read = 1 - kind.unreadable
    other = wrong * (1 - kind.temptation)
    return right * read, ((1 - right) * kind.temptation + other) * read, other * read, kind.unreadable


def choices(sight: Sight, gold: str, answers: int) -> list[Choice]:
    """What can be said next, by answers in order: those in sight, the right one, the unseen wrong ones, unreadable."""
    count = len(sight.others) or 1
    said = Counter(answer for answer, _ in sight.others)
    misled = Counter(answer for answer, misleads in sight.others if misleads)
    seen = {answer for answer in (*said, sight.own) if answer is not None}
    found = []
    for answer in sorted({*seen, gold}):
        own, right = answer == sight.own, answer == gold
        features = (
            float(own),
            said[answer] / count,
            float(said[answer] == count),
            misled[answer] / count,
            float(right and own),
            float(right and not own and answer in seen),
            float(right and answer not in seen),
            float(answer not in seen),
            0.0,
            0.0,
            0.0,
        )
        found.append(Choice(answer, 1, features))
    if answers > len(found):
        found.append(Choice(None, answers - len(found), (*repeat(0.0, _UNSEEN), 1.0, 0.0, 0.0, 0.0)))
    blank = (1.0, float(sight.own is None), said[None] / count)
    found.append(Choice(None, 0, (*repeat(0.0, _UNSEEN + 1), *blank)))
    return found


def later_scores(offered: Sequence[Choice], persuasion: Persuasion, agent: AgentModel) -> list[float]:
    """What speaks for each choice, U, and the log of how many answers it stands for."""
    weights = list(persuasion.weights())
    weights[0] += agent.stubbornness
    weights[1] *= agent.conformity
    return [
        math.log(choice.many or 1) + sum(w * x for w, x in zip(weights, choice.features, strict=True) if x)
        for choice in offered
    ]


def chances_of(scores: Sequence[float]) -> list[float]:
    """The conditional logit: how likely each score is the greatest once Gumbel noise is added."""
    most = max(scores)
    powers = [math.exp(score - most) for score in scores]
    whole = sum(powers)
    return [power / whole for power in powers]
