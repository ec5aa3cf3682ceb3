"""The answer of an open question, as its text states it: a number, several numbers, a formula or a few words.

In this order, the last of each: a "\\boxed{…}", "#### …", a cue ("the answer is …", for formulas and words), and then
the numbers that the text concludes with, as `concluded` reads them. Where the question is not known these are the
numbers of the last sentence that has some: the last one of them, or all where several are asked for.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from .concluded import read_concluded
from .normal import normal_answer, number_of

__all__ = ["Kind", "read_open"]

Kind = Literal["choice", "number", "numbers", "expression", "text"]

_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s?")
_BOXES_MAX: Final = 50
_HASHES: Final = re.compile(r"####\s{0,4}([^\n]{1,200})")
_CUE: Final = re.compile(
    r"\banswer\b[^.?!\n:]{0,80}?(?:\bis\b|\bwould be\b|:|=)[\s:]{0,4}([^\n]{1,200})", re.IGNORECASE
)
_FORMULA: Final = re.compile(r"\b(?:is|are|equals|be)\s{0,3}:?\s{0,3}\$([^$]{1,200})\$")
_WORD_IN: Final = re.compile(r"(?<!\\)\b[A-Za-z]{3}|^\d[\d,.]*\s")
_AMOUNT: Final = re.compile(
    r"(?<![\w.,/^])-?[$£€]?\s?(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,30})?(?:\s?/\s?\d{1,20})?(?![\w^])"
    r"|(?<![\w.])-?\.\d{1,30}"
)
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD: Final = re.compile(
    r"\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?)"
    r"(?:\s(?:hundred|thousand|million))?\b",
    re.IGNORECASE,
)


def read_open(text: str, kind: Kind, question: str = "") -> tuple[str | None, str]:
    """The normal form of the answer and how it was found, or None and why not."""
    boxed = _boxed(text)
    if boxed is not None:
        return normal_answer(boxed), "boxed"
    hashes = _HASHES.findall(text)
    if hashes:
        return normal_answer(hashes[-1]), "hashes"
    if kind in ("text", "expression"):
        cues = _CUE.findall(text)
        if cues:
            return normal_answer(re.split(r"(?<=[^\d\s])[.!?](?:\s|$)|[.!?]$", cues[-1].strip(" *`\"'$"))[0]), "cue"
        if kind == "text":
            return (normal_answer(text), "whole") if len(text) <= 200 else (None, "no conclusion")
        formulas = [said for said in _FORMULA.findall(text) if not _WORD_IN.search(said)]
        if formulas:
            return normal_answer(formulas[-1]), "formula"
    return read_concluded(text, question, kind == "numbers") if question else _numbers(text, kind)


def _boxed(text: str) -> str | None:
    """What the last whole box holds; braces may be nested."""
    for found in reversed(list(_BOX.finditer(text))[-_BOXES_MAX:]):
        if text[found.end() : found.end() + 1] != "{":
            continue
        depth, start = 0, found.end()
        for at in range(start, min(len(text), start + 400)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                return text[start + 1 : at] or None
    return None


def _numbers(text: str, kind: Kind) -> tuple[str | None, str]:
    for sentence in reversed(_SENTENCE.split(text[-20_000:])):
        values = _amounts(sentence)
        if values and kind == "numbers":
            return normal_answer(";".join(values)), "last sentence"
        if values:
            return normal_answer(values[-1]), "last sentence"
    return None, "no number"


def _amounts(sentence: str) -> list[str]:
    plain = sentence.replace("\\$", "$").replace("**", "")
    found = [(m.start(), m[0].replace(" ", "")) for m in _AMOUNT.finditer(plain)]
    if not found:
        found = [(m.start(), m[0]) for m in _WORD.finditer(plain)]
    return [said for _, said in sorted(found) if number_of(said) is not None]
