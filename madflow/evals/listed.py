"""The options that a question's own text lists, where its row does not.

Looked for are markers in order: "(A) … (B) …", "A) … B) …", "A. … B. …", "A: …, B: …", at the starts of lines or behind
a blank. Options stand last in a question, so the list that ends last counts; of two that end alike the longer one.
"""

from __future__ import annotations

import re
from string import ascii_uppercase
from typing import Final

__all__ = ["listed_options"]

_STYLES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:^|(?<=\s))\(([A-Z])\)\s",
        r"(?:^|(?<=\s))([A-Z])\)\s?",
        r"(?:^|(?<=\s))([A-Z])\.\s",
        r"(?:^|(?<=\s))([A-Z]):\s",
    )
)


def listed_options(question: str) -> tuple[tuple[str, str], ...]:
    """(letter, words) of each option; () where the text lists fewer than two."""
    found = [chain for style in _STYLES for chain in (_chain(question, style, True), _chain(question, style, False))]
    best = max(found, key=lambda chain: (chain[-1][1] if chain else -1, len(chain)))
    if len(best) < 2:
        return ()
    ends = [start for start, _ in best[1:]] + [len(question)]
    return tuple(
        (ascii_uppercase[place], question[start:end].strip().rstrip(",;").strip())
        for place, ((_, start), end) in enumerate(zip(best, ends, strict=True))
    )


def _chain(question: str, style: re.Pattern[str], lines: bool) -> list[tuple[int, int]]:
    """(start, end) of the last markers that run A, B, C, …; with `lines`, of those that open a line."""
    best: list[tuple[int, int]] = []
    chain: list[tuple[int, int]] = []
    for marker in style.finditer(question):
        if lines and question[: marker.start()].rstrip(" \t")[-1:] not in ("", "\n"):
            continue
        if marker[1] == "A":
            chain = []
        if marker[1] == ascii_uppercase[len(chain)]:
            chain.append((marker.start(), marker.end()))
            if len(chain) >= 2:
                best = chain
    return best
