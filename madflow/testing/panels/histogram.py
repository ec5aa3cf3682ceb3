"""Kinds of question from first replies: a histogram over a fixed grid, by expectation–maximisation.

The grid crosses easiness, temptation and unreadability; only the shares of its points are learned. The likelihood
of a debate's first replies is a mixture over the points, and EM climbs to its maximum: the nonparametric estimate
of a mixing law (N. Laird, "Nonparametric Maximum Likelihood Estimation of a Mixing Distribution", JASA 73 (1978)),
known in item response theory as the empirical histogram (R. D. Bock and M. Aitkin, Psychometrika 46 (1981)). Which
wrong answer tempts is not observed; each is as likely beforehand.

First replies matter only through how many are right, unreadable, and how the wrong ones agree: debates with the
same such `Pattern` are counted together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Final, TypeAlias

from .behaviour import first_chances
from .model import QuestionKind

__all__ = ["Pattern", "histogram", "pattern_of"]

Pattern: TypeAlias = tuple[int, int, tuple[int, ...], int]
"""How many right, how many unreadable, how many for each wrong answer (falling), and how many answers there are."""

_EASINESS: Final = (-4.5, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.5)
_TEMPTATION: Final = (0.0, 0.4, 0.8, 0.98)
_UNREADABLE: Final = (0.0, 0.05, 0.3, 0.7, 0.97)
_ITERATIONS: Final = 200
_SHARE_MIN: Final = 1e-3


def pattern_of(votes: Iterable[str | None], gold: str, answers: int) -> Pattern:
    """The pattern of first replies."""
    counts = Counter(votes)
    right, blank = counts.pop(gold, 0), counts.pop(None, 0)
    return right, blank, tuple(sorted(counts.values(), reverse=True)), answers


def histogram(patterns: Mapping[Pattern, float]) -> tuple[QuestionKind, ...]:
    """The kinds under which patterns, seen so often, are most likely; kinds below a thousandth are left out."""
    grid = [QuestionKind(*point) for point in product(_EASINESS, _TEMPTATION, _UNREADABLE)]
    rows = [(count, [_likelihood(pattern, kind) for kind in grid]) for pattern, count in sorted(patterns.items())]
    whole = sum(patterns.values())
    shares = [1 / len(grid)] * len(grid)
    for _ in range(_ITERATIONS):
        gained = [0.0] * len(grid)
        for count, likely in rows:
            mixed = sum(share * chance for share, chance in zip(shares, likely, strict=True))
            factor = count / mixed
            gained = [have + factor * chance for have, chance in zip(gained, likely, strict=True)]
        shares = [share * factor / whole for share, factor in zip(shares, gained, strict=True)]
    return tuple(replace(kind, share=share) for kind, share in zip(grid, shares, strict=True) if share >= _SHARE_MIN)


def _likelihood(pattern: Pattern, kind: QuestionKind) -> float:
    right, blank, wrong, answers = pattern
    chances = first_chances(kind, 0.0, answers)
    total = sum(wrong)
    unseen = max(0, answers - 1 - len(wrong))
    tempted = sum(chances[1] ** count * chances[2] ** (total - count) for count in (*wrong, *[0] * unseen))
    return float(chances[0] ** right * chances[3] ** blank * tempted)
