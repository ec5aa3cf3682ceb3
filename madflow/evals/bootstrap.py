"""Intervals for measures over questions: the bootstrap, clustered by question and paired.

Every measure is a ratio of two sums over items, and every item belongs to a question. Answers to one question by
several panels are not independent, so questions are drawn, not items: n questions with replacement from the n there
are, all items of a drawn question with it. A comparison draws the same questions for both sides: what makes a question
hard cancels out. The interval is between the percentiles of the drawn values (B. Efron, R. Tibshirani, "An Introduction
to the Bootstrap", 1993, ch. 13; clusters: A. C. Cameron, D. L. Miller, "A practitioner's guide to cluster-robust
inference", J. Human Resources 50, 2015). With few questions it is too narrow; below 2 there is none.

A draw whose denominator is zero has no value and is drawn again; more than half of them, and there is no interval.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ..errors import ConfigError

__all__ = ["DRAWS", "LEVEL", "Interval", "Item", "difference", "estimate", "statistic", "total"]

DRAWS: Final = 2_000
LEVEL: Final = 0.95
_DRAWS_MAX: Final = 100_000
_Case = TypeVar("_Case")


@dataclass(frozen=True, slots=True)
class Item:
    """One contribution to a measure: `part` of `whole`, on a question."""

    question: str
    part: float
    whole: float = 1.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the interval around it.

    Attributes:
        value: the measure itself; nan where nothing was measured (a whole of 0).
        low, high: nan where there is no interval.
        level, draws, seed: how it was made; questions: how many clusters there were.
    """

    value: float
    low: float
    high: float
    level: float
    draws: int
    seed: int
    questions: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero; false where there is none."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def total(items: Iterable[Item]) -> float:
    """Sum of parts over sum of wholes; nan where the wholes are 0."""
    known = list(items)
    return _ratio(math.fsum(item.part for item in known), math.fsum(item.whole for item in known))


def estimate(items: Iterable[Item], *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL) -> Interval:
    """A measure with its interval.

    Raises:
        ConfigError: draws outside 1 to 100,000, or a level not strictly between 0 and 1.
    """
    sums = _sums(items)

    def value(drawn: Sequence[str]) -> float:
        return _ratio(math.fsum(sums[q][0] for q in drawn), math.fsum(sums[q][1] for q in drawn))

    return _interval(sorted(sums), value, seed, draws, level)


def difference(
    items: Iterable[Item],
    others: Iterable[Item],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """How much greater the measure is for `items` than for `others`, drawn together by question. Raises as `estimate`.

    Both sides should hold the same questions; one that only one side has is drawn too, and counts for that side.
    """
    mine, theirs = _sums(items), _sums(others)
    none = (0.0, 0.0)

    def value(drawn: Sequence[str]) -> float:
        a = [mine.get(q, none) for q in drawn]
        b = [theirs.get(q, none) for q in drawn]
        return _ratio(math.fsum(p for p, _ in a), math.fsum(w for _, w in a)) - _ratio(
            math.fsum(p for p, _ in b), math.fsum(w for _, w in b)
        )

    return _interval(sorted(mine.keys() | theirs.keys()), value, seed, draws, level)


def statistic(
    clusters: Mapping[str, Sequence[_Case]],
    value: Callable[[Sequence[_Case]], float],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """The interval of any function of cases, e.g. a calibration error. Raises as `estimate`.

    Args:
        clusters: question to its cases; value: called with the cases of the drawn questions; nan for none.
    """

    def of(drawn: Sequence[str]) -> float:
        return value([case for question in drawn for case in clusters[question]])

    return _interval(sorted(clusters), of, seed, draws, level)


def _sums(items: Iterable[Item]) -> dict[str, tuple[float, float]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.question, []).append(item)
    return {
        question: (math.fsum(item.part for item in group), math.fsum(item.whole for item in group))
        for question, group in found.items()
    }


def _interval(
    questions: Sequence[str],
    value: Callable[[Sequence[str]], float],
    seed: int,
    draws: int,
    level: float,
) -> Interval:
    if not 1 <= draws <= _DRAWS_MAX or not 0 < level < 1:
        raise ConfigError(
            f"a bootstrap has 1 to {_DRAWS_MAX} draws and a level between 0 and 1 "
            f"(draws={draws}, level={level}); fix it"
        )
    whole = value(questions)
    drawn: list[float] = []
    if len(questions) > 1:
        chance = random.Random(seed)  # noqa: S311 - a seeded resampling, no secret
        for _ in range(2 * draws):
            found = value(chance.choices(questions, k=len(questions)))
            if not math.isnan(found):
                drawn.append(found)
            if len(drawn) == draws:
                break
    if len(drawn) < draws:
        return Interval(whole, math.nan, math.nan, level, draws, seed, len(questions))
    drawn.sort()
    tail = (1 - level) / 2
    return Interval(whole, _at(drawn, tail), _at(drawn, 1 - tail), level, draws, seed, len(questions))


def _at(ordered: Sequence[float], quantile: float) -> float:
    """Linear between order statistics: Hyndman and Fan's type 7."""
    place = quantile * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
