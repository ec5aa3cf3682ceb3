"""Draws that depend on a seed and on what they are for, and on nothing else.

A draw is a digest of its names read as a number, so that it is the same in every process and whatever was drawn before:
two panels that differ in one seat hear the same from all others in round 1, and their difference is not noise (common
random numbers).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from statistics import NormalDist

__all__ = ["Draws"]

_NORMAL = NormalDist()


class Draws:
    """A source of draws, each by its names.

    Args:
        seed: any whole number.
    """

    def __init__(self, seed: int) -> None:
        self._start = sha256(str(seed).encode())

    def uniform(self, *names: object) -> float:
        """In (0, 1), 53 bits of it."""
        state = self._start.copy()
        for name in names:
            state.update(b"\0" + str(name).encode("utf-8", "surrogatepass"))
        return ((int.from_bytes(state.digest()[:8], "big") >> 11) + 0.5) / 2**53

    def normal(self, *names: object) -> float:
        """Standard normal."""
        return _NORMAL.inv_cdf(self.uniform(*names))

    def place(self, weights: Sequence[float], *names: object) -> int:
        """A place of `weights`, each as likely as its share of their sum, which is above 0."""
        left = self.uniform(*names) * sum(weights)
        for place, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return place
        return max(place for place, weight in enumerate(weights) if weight > 0)

    def shuffled(self, items: Sequence[str], *names: object) -> list[str]:
        """All items, in an order that does not depend on the one they come in."""
        return sorted(items, key=lambda item: (self.uniform(*names, item), item))
