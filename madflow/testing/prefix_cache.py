"""A provider's prompt cache, as far as a bill shows it.

A prompt's prefix counts as cached for a request that arrives after an earlier request with the same prefix has had its
first token; requests in flight together share nothing. What is shared is counted in whole blocks, from the start.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

__all__ = ["PrefixCache"]


class PrefixCache:
    """The longest warm prefix of a prompt.

    Prompts are kept sorted: a text's longest common prefix with any member of a set is the one with a neighbour in
    sorted order, so that a look-up compares two texts, whatever the number kept.

    Args:
        block_chars: the granularity; 4 is one token, 512 are the 128 tokens of a real provider.
        prompts_max: the oldest is forgotten beyond.
    """

    def __init__(self, *, block_chars: int = 4, prompts_max: int = 10_000) -> None:
        self._block, self._max = block_chars, prompts_max
        self._sorted: list[str] = []
        self._age: deque[str] = deque()

    def warm(self, prompt: str) -> None:
        """The prompt's first token is out: from now on its prefixes are cached."""
        at = bisect_left(self._sorted, prompt)
        if at < len(self._sorted) and self._sorted[at] == prompt:
            return
        insort(self._sorted, prompt)
        self._age.append(prompt)
        if len(self._age) > self._max:
            del self._sorted[bisect_left(self._sorted, self._age.popleft())]

    def cached_chars(self, prompt: str) -> int:
        """How many leading characters of `prompt` are warm, in whole blocks."""
        at = bisect_left(self._sorted, prompt)
        near = self._sorted[max(0, at - 1) : at + 1]
        longest = max((_common(prompt, other) for other in near), default=0)
        return longest - longest % self._block


def _common(left: str, right: str) -> int:
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
