"""What a reply says its answer is: text, JSON or broken JSON in; an option's letter, a normal form or nothing out.

The rule is what a person reading the text would say. A refusal, a hedge between two options and a text that stops
before its answer have none, and none is invented: what counts is a statement, not the first letter that turns up.
docs/reference/eval-data.md tells how a text is read; `letters`, `opens` and `normal` tell it for their own part.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Final

from ...errors import ConfigError
from .fields import field_answer, stated_confidence
from .letters import read_letter
from .normal import ANSWER_CHARS_MAX, normal_answer
from .opens import Kind, read_open

__all__ = ["ANSWER_CHARS_MAX", "TEXT_CHARS_MAX", "Kind", "Read", "lettered", "normal_answer", "read_answer"]

TEXT_CHARS_MAX: Final = 50_000
"""Of a longer text the end is read."""


@dataclass(frozen=True, slots=True)
class Read:
    """What was read from one text.

    Attributes:
        answer: the option's letter, or the normal form of an open answer; None where the text states none.
        how: what it was read from ("cue", "field", "boxed", …), or why there is none ("hedge", "cut", "none named", …).
        confidence: 0 to 1 where the text states one.
    """

    answer: str | None
    how: str
    confidence: float | None = None


def read_answer(
    text: str,
    options: Sequence[tuple[str, str]] | int | None = None,
    kind: Kind = "number",
    question: str = "",
) -> Read:
    """Read one reply.

    Args:
        text: the whole reply; of more than `TEXT_CHARS_MAX` characters the end is read.
        options: (letter, words) of each option, or how many there are (lettered from A); None or 0: an open question.
        kind: what an open question asks for; options make it "choice".
        question: what an open question says: numbers that it gives are told from those that answer it.

    Raises:
        ConfigError: options that are not 2 to 26 single letters.
    """
    text = _unquoted(text[-TEXT_CHARS_MAX:])
    confidence = stated_confidence(text)
    field = field_answer(text)
    if not options:
        if field is not None and (answer := normal_answer(field)) is not None:
            return Read(answer, "field", confidence)
        answer, how = read_open(text, kind, question)
        return Read(answer, how, confidence)
    choices = lettered(options)
    if field is not None:
        return Read(_chosen(field, choices), "field", confidence)
    if (alone := _worded(text, choices)) is not None:
        return Read(alone, "alone", confidence)
    answer, how = read_letter(text, choices)
    return Read(answer, how, confidence)


def _unquoted(text: str) -> str:
    """The text of a reply that is one JSON string; any other as it is."""
    bare = text.strip()
    if len(bare) < 2 or bare[0] != '"' or bare[-1] != '"':
        return text
    try:
        value = json.loads(bare)
    except ValueError:
        return text
    return value if isinstance(value, str) else text


def lettered(options: Sequence[tuple[str, str]] | int) -> tuple[tuple[str, str], ...]:
    """The options with letters, or as many wordless ones as are asked for. Raises as `read_answer`."""
    if isinstance(options, int):
        options = [(letter, "") for letter in ascii_uppercase[:options]] if 2 <= options <= 26 else []
    letters = [letter for letter, _ in options]
    if not 2 <= len(letters) <= 26 or len(set(letters)) < len(letters) or not set(letters) <= set(ascii_uppercase):
        raise ConfigError(f"a choice has 2 to 26 options with their own letters A to Z (letters={letters}); fix them")
    return tuple(options)


def _chosen(field: str, options: Sequence[tuple[str, str]]) -> str | None:
    """The option that a field's value names: a letter, a letter and words, or the words."""
    letters = {letter for letter, _ in options}
    bare = field.strip(" \t\n()[]{}.:\"'*").upper()
    if bare in letters:
        return bare
    return _worded(field, options) or read_letter(f"Answer: {field}", options)[0]


def _worded(text: str, options: Sequence[tuple[str, str]]) -> str | None:
    """The one option whose words are all that a text says."""
    said = normal_answer(text.strip(" \t\n*.!_"))
    same = [letter for letter, words in options if words and said is not None and normal_answer(words) == said]
    return same[0] if len(same) == 1 else None
