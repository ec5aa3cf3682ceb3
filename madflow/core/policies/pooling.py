"""What the votes of several rounds come to: which of them count, and how much each.

Which: those of the first round, of the last one held, or of all.

How much: the product of

- `equal`: 1. `confidence`: what the seat stated, 1/2 where it stated nothing. `reliability`: the log-odds
  log(p_s (K − 1) / (1 − p_s)) of the seat (reliability.py).
- `followed` for a vote that merely followed: one with which its seat left its own last answer for a leading answer of
  the round before. Facing the majority's answer and taking it is what a seat does that knows nothing, so such a vote
  says less than an independent one; a seat that keeps its answer or moves against the majority counts in full. Its own
  last answer is that of the last earlier round in which it voted.

A score is the sum of an answer's weights. Sums of log-odds become probabilities by `reliability.posterior`; other
sums are divided by the most they could be, so that a seat that was asked and gave nothing readable lowers the share.

`shares` decides which answer it is; how much to trust it is another question. A sum of log-odds takes every vote for
new evidence, and three seats that hold one model or heard each other are not three witnesses: sums say .99 of answers
that are right half of the time. `trust` therefore takes the mean of the log-odds, over all replies, where `shares`
takes their sum: a logarithmic opinion pool, whose weights add up to one. The order of answers is the same. What a
panel agrees on is trusted as far as one of its seats, and everything that speaks against it lowers that.

Sources: the logarithmic opinion pool: C. Genest and J. V. Zidek, "Combining probability distributions: a critique and
an annotated bibliography", Statistical Science 1 (1986). Self-stated confidence as a weight: J. Chen, S. Saha,
M. Bansal, "ReConcile", ACL 2024. Following the majority as the failure of debates: A. Estornell and Y. Liu, "Multi-LLM
debate", NeurIPS 2024; the factor itself is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal

from .debated import Debated, Said, leaders
from .reliability import Reliabilities, log_odds, posterior

__all__ = ["FOLLOWED", "Pool", "Weighing", "followers", "shares", "trust"]

Pool = Literal["first", "last", "all"]
Weighing = Literal["equal", "confidence", "reliability"]

FOLLOWED: Final = 0.25
"""What a vote that merely followed counts, against 1, where nothing else is said."""

_UNSTATED = 0.5


def followers(debated: Debated, number: int) -> frozenset[str]:
    """The seats whose vote in a round (1-based) merely followed the round before; none in the first."""
    before = set(leaders(debated.votes(number - 1))) if number > 1 else set()
    own: dict[str, str] = {}
    for earlier in range(1, number):
        own.update(debated.votes(earlier))
    return frozenset(
        seat
        for seat, answer in debated.votes(number).items()
        if seat in own and answer != own[seat] and answer in before
    )


def shares(
    debated: Debated,
    learned: Reliabilities,
    pool: Pool = "first",
    weighing: Weighing = "equal",
    followed: float = 1.0,
) -> dict[str, float]:
    """Each answer's share, or probability under `reliability`, by answers in order; empty without votes.

    Args:
        learned: read under `reliability` only.
        followed: the weight of a vote that followed, 0 to 1.
    """
    scores, whole = _scores(debated, learned, pool, weighing, followed)
    if weighing == "reliability":
        return posterior(scores, debated.choices)
    return _normalised(scores, whole)


def trust(
    debated: Debated,
    learned: Reliabilities,
    pool: Pool = "all",
    followed: float = FOLLOWED,
) -> dict[str, float]:
    """How far each answer is to be trusted: its probability in the logarithmic opinion pool of all replies counted.

    In the order of `shares` under `reliability`, by answers in order; at most 1 together, empty without votes. An
    unreadable reply is in the pool and for nothing.
    """
    scores, whole = _scores(debated, learned, pool, "reliability", followed)
    return posterior({answer: score / whole for answer, score in scores.items()} if whole else scores, debated.choices)


def _scores(
    debated: Debated,
    learned: Reliabilities,
    pool: Pool,
    weighing: Weighing,
    followed: float,
) -> tuple[dict[str, float], float]:
    """Each answer's summed weights, and how many replies were counted, those that followed in part."""
    parts: dict[str, list[float]] = {}
    whole: list[float] = []
    for number in _counted(debated, pool):
        late = followers(debated, number)
        for said in debated.rounds[number - 1]:
            weight = followed if said.seat in late else 1.0
            whole.append(weight)
            if said.answer is not None:
                weight *= _weight(said, debated, learned, weighing)
                parts.setdefault(said.answer, []).append(weight)
    return {answer: math.fsum(found) for answer, found in sorted(parts.items())}, math.fsum(whole)


def _counted(debated: Debated, pool: Pool) -> range:
    held = len(debated.rounds)
    if pool == "first":
        return range(1, min(1, held) + 1)
    return range(1 if pool == "all" else max(1, held), held + 1)


def _weight(said: Said, debated: Debated, learned: Reliabilities, weighing: Weighing) -> float:
    if weighing == "reliability":
        return log_odds(learned.of(said.seat), debated.choices)
    if weighing == "confidence":
        return _UNSTATED if said.confidence is None else said.confidence
    return 1.0


def _normalised(scores: Mapping[str, float], whole: float) -> dict[str, float]:
    return {answer: score / whole if whole else 0.0 for answer, score in scores.items()}
