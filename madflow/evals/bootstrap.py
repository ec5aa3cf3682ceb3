"""Intervals for measures over questions: the bootstrap, clustered by question and paired.

Every measure is a ratio of two sums over items, and every item belongs to a question. Answers to one question by
several panels are not independent, so questions are drawn, not items: n questions with replacement from the n there
are, all items of a drawn question with it. A comparison draws the same questions for both sides: what makes a question
hard cancels out. The interval is between the percentiles of the drawn values (B. Efron, R. Tibshirani, "An Introduction
to the Bootstrap", 1993, ch. 13; clusters: A. C. Cameron, D. L. Miller, "A practitioner's guide to cluster-robust
inference", J. Human Resources 50, 2015). With few questions it is too narrow; below 2 there is none.

A share of exactly 0 or 1 is the same in every draw, which would leave an interval of no width. For shares
(`share=True`) the other end is then the exact one-sided bound over the n questions that count: 1 − α^(1/n), or α^(1/n)
below 1, about 3 / n for 95 % (C. Clopper, E. Pearson, Biometrika 26, 1934; the rule of three). It bounds the share of
questions with any such case, and so, where questions weigh alike, the share itself.

A draw whose denominator is zero has no value and is drawn again; more than half of them, and there is no interval.

Measures of the same number of questions share their draws, which are remembered as far as a bound on memory allows:
most of the time of a draw is spent on drawing it. Draws beyond the bound are drawn again, and are the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Final, TypeVar

from ..errors import ConfigError

__all__ = ["DRAWS", "LEVEL", "Draw", "Interval", "Item", "difference", "estimate", "resampled", "statistic", "total"]

DRAWS: Final = 2_000
LEVEL: Final = 0.95
_DRAWS_MAX: Final = 100_000
_PLACES_KEPT: Final = 5_000_000  # of one set of draws: 2,000 draws of 2,500 questions
_Case = TypeVar("_Case")

Draw = Callable[[Sequence[Any]], Sequence[Any]]
"""One draw: what it picks from a sequence with an entry for each question, as often as it picks it."""


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


def estimate(
    items: Iterable[Item], *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL, share: bool = False
) -> Interval:
    """A measure with its interval.

    Args:
        share: 0 ≤ part ≤ whole in every item, by chance and not by construction: at 0 and 1 the bound is exact.

    Raises:
        ConfigError: draws outside 1 to 100,000, or a level not strictly between 0 and 1.
    """
    sums = _sums(items)
    questions = sorted(sums)
    found = _interval(len(questions), _ratios([sums[question] for question in questions]), seed, draws, level)
    return _bounded(found, sum(whole > 0 for _, whole in sums.values())) if share else found


def _bounded(found: Interval, counting: int) -> Interval:
    """The interval of a share, with the exact bound where no draw can differ. `counting`: questions with a case."""
    if math.isnan(found.low) or found.value not in (0.0, 1.0):
        return found
    reach = (1 - found.level) ** (1 / counting)
    return replace(found, low=reach) if found.value else replace(found, high=1 - reach)


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
    questions = sorted(mine.keys() | theirs.keys())
    ours, of_others = (_ratios([sums.get(question, (0.0, 0.0)) for question in questions]) for sums in (mine, theirs))
    return _interval(len(questions), lambda drawn: ours(drawn) - of_others(drawn), seed, draws, level)


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

    groups = [clusters[question] for question in sorted(clusters)]

    def of(drawn: Draw) -> float:
        return value(list(chain.from_iterable(drawn(groups))))

    return _interval(len(groups), of, seed, draws, level)


class _Draws:
    """The draws of so many questions from a seed, made as they are asked for; the first of them are kept."""

    def __init__(self, questions: int, seed: int) -> None:
        self._places = list(range(questions))  # one object for each place, however often it is drawn
        self._chance = random.Random(seed)  # noqa: S311 - a seeded resampling, no secret
        self._kept: list[Draw] = []
        self._kept_max = _PLACES_KEPT // questions

    def __iter__(self) -> Iterator[Draw]:
        """The same draws each time, without end: those that are kept, then such as are drawn again."""
        for number in range(self._kept_max):
            if number == len(self._kept):
                self._kept.append(self._drawn(self._chance))
            yield self._kept[number]
        again = random.Random()  # noqa: S311 - goes on where the kept ones end
        again.setstate(self._chance.getstate())
        while True:
            yield self._drawn(again)

    def _drawn(self, chance: random.Random) -> Draw:
        return itemgetter(*chance.choices(self._places, k=len(self._places)))


@lru_cache(maxsize=4)
def _draws(questions: int, seed: int) -> _Draws:
    """At most four sets are kept: 2,000 draws of 400 questions are 6 MB; none has more than 40 MB."""
    return _Draws(questions, seed)


def _everything(groups: Sequence[Any]) -> Sequence[Any]:
    return groups


def _ratios(sums: Sequence[tuple[float, float]]) -> Callable[[Draw], float]:
    """The ratio of sums over what was drawn."""
    parts, wholes = [part for part, _ in sums], [whole for _, whole in sums]
    even = len(set(wholes)) == 1

    def value(drawn: Draw) -> float:
        whole = wholes[0] * len(wholes) if even else math.fsum(drawn(wholes))
        return _ratio(math.fsum(drawn(parts)), whole)

    return value


def resampled(
    questions: int, value: Callable[[Draw], float], *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval:
    """The interval of a function that is given draws themselves: for what would be slow over lists of cases.

    Raises as `estimate`.

    Args:
        questions: how many there are; in every sequence that a draw is applied to, each has one entry, in one order.
    """
    return _interval(questions, value, seed, draws, level)


def _sums(items: Iterable[Item]) -> dict[str, tuple[float, float]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.question, []).append(item)
    return {
        question: (math.fsum(item.part for item in group), math.fsum(item.whole for item in group))
        for question, group in found.items()
    }


def _interval(
    questions: int,
    value: Callable[[Draw], float],
    seed: int,
    draws: int,
    level: float,
) -> Interval:
    if not 1 <= draws <= _DRAWS_MAX or not 0 < level < 1:
        raise ConfigError(
            f"a bootstrap has 1 to {_DRAWS_MAX} draws and a level between 0 and 1 "
            f"(draws={draws}, level={level}); fix it"
        )
    whole = value(_everything)
    drawn: list[float] = []
    if questions > 1:
        for draw in islice(_draws(questions, seed), 2 * draws):
            found = value(draw)
            if not math.isnan(found):
                drawn.append(found)
            if len(drawn) == draws:
                break
    if len(drawn) < draws:
        return Interval(whole, math.nan, math.nan, level, draws, seed, questions)
    drawn.sort()
    tail = (1 - level) / 2
    return Interval(whole, _at(drawn, tail), _at(drawn, 1 - tail), level, draws, seed, questions)


def _at(ordered: Sequence[float], quantile: float) -> float:
    """Linear between order statistics: Hyndman and Fan's type 7."""
    place = quantile * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
