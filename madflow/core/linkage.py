"""Average linkage: groups of numbers by what speaks for each two, with vetoes, a reach, and pairs that are bound.

Theory of operation:

1. The two groups are joined for which most speaks on average over all pairs across them, until no average reaches the
   threshold (R. Sokal, C. Michener, "A statistical method for evaluating systematic relationships", 1958). A number may
   stand for several remarks of the same words; it weighs as many.
2. A *veto* is of two numbers that are never in one group. A *reach* is how far apart the members of a group may be: a
   veto of all pairs beyond it, which nobody has to list.
3. Two numbers that are *bound* are in one group whatever speaks for them. That adds members and takes none away: what
   speaks for further joins is averaged within each side of a bond, as if the other were not there. Vetoes hold across
   bonds: what may not stand with one side joins neither.

Time is O(p log p) for p pairs that something speaks for, where each number has few of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Linkage", "Pair", "average_linkage"]

Pair = tuple[int, int]


def average_linkage(count: int, pull: Mapping[Pair, float], apart: Iterable[Pair], alike: float) -> list[list[int]]:
    """Average linkage of the numbers below `count`, down to a mean of `alike`.

    Ties go to the groups whose first members come first.

    Args:
        pull: what speaks for a pair (i, j), i < j; 0 where it is absent.
        apart: pairs that are never in one group.
    """
    return Linkage(count, apart).groups(pull, alike)


class Linkage:
    """Numbers below `count`, bound first and then grouped; one use.

    Args:
        apart: pairs that are never in one group.
        sizes: what each number weighs; 1 where left out.
        places: where each number is, and `reach`: how far apart members of a group may be; None: any distance.
    """

    def __init__(
        self,
        count: int,
        apart: Iterable[Pair],
        *,
        sizes: Sequence[int] | None = None,
        places: Sequence[int] | None = None,
        reach: int | None = None,
    ) -> None:
        self._count, self._reach = count, reach
        self._size = list(sizes) if sizes is not None else [1] * count
        self._low = list(places) if places is not None else [0] * count
        self._high = self._low.copy()
        self._bundle = list(range(count))  # by number, once it leads a group: the bundle of groups that are bound
        self._members = {number: [number] for number in range(count)}  # by bundle
        self._never: dict[int, set[int]] = {number: set() for number in range(count)}  # by bundle
        for i, j in apart:
            self._never[i].add(j)
            self._never[j].add(i)

    def bind(self, i: int, j: int) -> bool:
        """Hold two numbers in one group. False where a veto forbids it; then nothing changes."""
        one, two = self._bundle[i], self._bundle[j]
        if not self._may(one, two):
            return False
        self._merge(one, two)
        return True

    def with_(self, i: int) -> tuple[int, ...]:
        """The numbers that `i` is held with, itself among them."""
        return tuple(self._members[self._bundle[i]])

    def groups(self, pull: Mapping[Pair, float], alike: float) -> list[list[int]]:
        """The groups, by what speaks for a pair (i, j), i < j; 0 where it is absent."""
        sums: dict[int, dict[int, float]] = {number: {} for number in range(self._count)}
        size, age = self._size.copy(), [0] * self._count
        for (i, j), value in pull.items():
            sums[i][j] = sums[j][i] = value * size[i] * size[j]
        heap = [(-value, i, j, 0, 0) for (i, j), value in pull.items() if value >= alike]
        heapq.heapify(heap)
        while heap:
            _, i, j, age_i, age_j = heapq.heappop(heap)
            one, two = self._bundle[i], self._bundle[j]
            if (age[i], age[j]) != (age_i, age_j) or not self._may(one, two):
                continue
            self._merge(one, two)
            size[i] += size[j]
            age[i] += 1
            age[j] = -1  # it leads no group
            _join(i, j, sums)
            for other, total in sorted(sums[i].items()):
                mean = total / (size[i] * size[other])
                if mean >= alike and self._may(self._bundle[i], self._bundle[other]):
                    first, second = (i, other) if i < other else (other, i)
                    heapq.heappush(heap, (-mean, first, second, age[first], age[second]))
        return list(self._members.values())

    def _may(self, one: int, two: int) -> bool:
        if one == two:
            return True
        if two in self._never[one]:
            return False
        far = max(self._high[one], self._high[two]) - min(self._low[one], self._low[two])
        return self._reach is None or far <= self._reach

    def _merge(self, one: int, two: int) -> None:
        if one == two:
            return
        if two < one:
            one, two = two, one
        gone = self._members.pop(two)
        self._members[one] += gone
        for number in gone:
            self._bundle[number] = one
        self._low[one] = min(self._low[one], self._low[two])
        self._high[one] = max(self._high[one], self._high[two])
        for other in self._never.pop(two):
            self._never[other].discard(two)
            self._never[other].add(one)
            self._never[one].add(other)


def _join(i: int, j: int, sums: dict[int, dict[int, float]]) -> None:
    gone = sums.pop(j)
    sums[i].pop(j, None)
    for other, value in gone.items():
        if other != i:
            del sums[other][j]
            sums[i][other] = sums[other][i] = sums[i].get(other, 0.0) + value
