"""The three measures that look at all cases at once, made ready for two thousand draws.

`metrics.interception`, `metrics.auc` and `metrics.calibration_error` are their definitions, over a list of cases. Here
the same is taken apart once, so that a draw only adds up: cases are sorted by suspicion once, and a draw says how often
each counts; confidences are sorted into bins once, and a draw adds up each bin.

Cases come by question: one sequence of them for each, in one order.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import itemgetter, mul
from typing import Any

from .bootstrap import Draw

__all__ = ["Ranked", "binned"]

_Cases = Sequence[Sequence[tuple[float, bool]]]


class Ranked:
    """Cases (suspicion, whether it is wrong), ready for `interception` and `auc` of any draw of questions."""

    def __init__(self, cases: _Cases) -> None:
        self._questions = range(len(cases))
        ranked = sorted(
            ((score, wrong, place) for place, held in enumerate(cases) for score, wrong in held),
            key=lambda case: -case[0],
        )
        self._wrong = _picker([place for _, wrong, place in ranked if wrong])
        self._right = _picker([place for _, wrong, place in ranked if not wrong])
        # For each case, where the right and the wrong cases with its score begin and end in their own orders.
        self._of_wrong: list[tuple[int, int]] = []
        self._of_right: list[tuple[int, int, int, int]] = []
        at = 0
        rights = wrongs = 0
        while at < len(ranked):
            until = at
            while until < len(ranked) and ranked[until][0] == ranked[at][0]:
                until += 1
            tied_wrong = sum(case[1] for case in ranked[at:until])
            tied_right = until - at - tied_wrong
            self._of_wrong += [(rights, rights + tied_right)] * tied_wrong
            self._of_right += [(rights, rights + tied_right, wrongs, wrongs + tied_wrong)] * tied_right
            at, rights, wrongs = until, rights + tied_right, wrongs + tied_wrong
        self._starts = _picker([start for start, _ in self._of_wrong])
        self._ends = _picker([end for _, end in self._of_wrong])

    def interception(self, draw: Draw, false_flags: float) -> float:
        """`metrics.interception` of what was drawn."""
        times = self._times(draw)
        right = [0, *accumulate(self._right(times))]
        wrong = [0, *accumulate(self._wrong(times))]
        if not right[-1] or not wrong[-1]:
            return math.nan
        allowed = false_flags * right[-1]
        first = bisect_right(right, allowed) - 1  # the first right case that is one too many
        if first == len(self._of_right):
            return 1.0
        start, end, wrong_start, wrong_end = self._of_right[first]
        tied = (wrong[wrong_end] - wrong[wrong_start]) * (allowed - right[start]) / (right[end] - right[start])
        return float((wrong[wrong_start] + tied) / wrong[-1])

    def auc(self, draw: Draw) -> float:
        """`metrics.auc` of what was drawn."""
        times = self._times(draw)
        right = [0, *accumulate(self._right(times))]
        wrong = self._wrong(times)
        both = right[-1] * sum(wrong)
        if not both:
            return math.nan
        ahead = sum(map(mul, wrong, self._starts(right))) + sum(map(mul, wrong, self._ends(right)))
        return float(1 - ahead / (2 * both))

    def _times(self, draw: Draw) -> list[int]:
        """How often each question was drawn."""
        times = [0] * len(self._questions)
        for place in draw(self._questions):
            times[place] += 1
        return times


def binned(cases: Sequence[Sequence[tuple[float, float]]], bins: int = 10) -> Callable[[Draw], float]:
    """`metrics.calibration_error` as a function of draws; cases are (confidence, score)."""
    gaps: dict[int, list[list[float]]] = {}
    for place, held in enumerate(cases):
        for confidence, score in held:
            found = gaps.setdefault(max(0, math.ceil(confidence * bins) - 1), [[] for _ in cases])
            found[place].append(confidence - score)
    sums = [[math.fsum(parts) for parts in found] for found in gaps.values()]
    counts = [len(held) for held in cases]

    def value(draw: Draw) -> float:
        count = sum(draw(counts))
        return math.fsum(abs(math.fsum(draw(found))) for found in sums) / count if count else math.nan

    return value


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Picks these places from a sequence; `itemgetter` alone does not do it for none or one."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: [values[place] for place in places]
