"""The options that a question's own text lists, where its row does not.

Looked for are markers in order: "(A) … (B) …", "A) … B) …", "A. … B. …", "A: …, B: …", at the starts of lines or behind
a blank. Options stand last in a question, so the list that ends last counts; of two that end alike the longer one.
"""

from __future__ import annotations

import re
from string import ascii_uppercase
from typing import Final

__all__ = ["listed_options"]

_MARKERS: Final = (r"\(([A-Z])\)\s", r"([A-Z])\)\s?", r"([A-Z])\.\s", r"([A-Z]):\s")
_STYLES: Final = tuple(
    re.compile(before + marker) for marker in _MARKERS for before in (r"(?m:^)[ \t]*", r"(?:^|(?<=\s))")
)  # of each, those that open a line, and all


def listed_options(question: str) -> tuple[tuple[str, str], ...]:
    """(letter, words) of each option; () where the text lists fewer than two."""
    found = [_chain(question, style) for style in _STYLES]
    best = max(found, key=lambda chain: (chain[-1][1] if chain else -1, len(chain)))
    if len(best) < 2:
        return ()
    ends = [start for start, _ in best[1:]] + [len(question)]
    return tuple(
        (ascii_uppercase[place], question[start:end].strip().rstrip(",;").strip())
        for place, ((_, start), end) in enumerate(zip(best, ends, strict=True))
    )


def _chain(question: str, style: re.Pattern[str]) -> list[tuple[int, int]]:
    """(start, end) of the last markers that run A, B, C, …"""
    best: list[tuple[int, int]] = []
    chain: list[tuple[int, int]] = []
    for marker in style.finditer(question):
        if marker[1] == "A":
            chain = []
        if marker[1] == ascii_uppercase[len(chain) : len(chain) + 1]:
            chain.append((marker.start(), marker.end()))
            if len(chain) >= 2:
                best = chain
    return best
