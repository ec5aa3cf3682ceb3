"""Which numbers a worked solution concludes with, read with its question in view.

A text is cut into sentences and lines, and each into numbers, words and signs. A number is *stated* where it stands on
its own or at the right end of a chain of equations. It is not stated as an operand ("65 - 24", "9s"), left of an equals
sign, or right of an equation that is still to be solved ("x + y = 360"): those are the working.

The answer is in the last sentence that states something; what only checks or explains it afterwards ("Check: …", "To
get this, …") is left out. In that sentence, numbers that the question gives are what the answer is about ("to get 10
liters of 18 %"), and the others are the answer; where it states no others, given ones are, first those that it gives of
something else. Of several, the one counts whose clause shares most words with what is asked, the first of equals; so it
is with two ways to say one amount ("0.75 dollars or 75 cents"). What stands in brackets is an aside, and what stands
behind a colon is what the words before it announce.

Where several numbers are asked for and that sentence has fewer, the rest come from what was concluded before it, from
the end backwards: sentences that draw a conclusion ("so …"), and values that a variable was solved for ("x = 24"). How
many are asked for is read from the question ("three integers", three question marks); without a sign, two.

A text that concludes that there is no answer, or breaks off in a formula without a conclusion, has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .normal import normal_answer

__all__ = ["read_concluded"]

_TEXT_CHARS_MAX: Final = 20_000
_SENTENCE_CHARS_MAX: Final = 2_000
_ASKED_MAX: Final = 6
_UNIT_WORDS_MAX: Final = 4
_WORDS_MAX: Final = 12
_AGAIN_TOKENS_MAX: Final = 3

_NUMBER_WORDS: Final = frozenset(
    """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million
    """.split()  # noqa: SIM905
)
_SENTENCE: Final = re.compile(r"(?<=[!?])\s+|(?<=\.)\s+(?=[^a-z\s(])|\n+")
_ANNOTATED: Final = re.compile(
    r"<<[^<>]{0,200}>>|\(\s?(?:equation|eq\.?)\s?\d{1,2}\s?\)|\b(?:equation|step)\s\d{1,2}\b", re.I
)
_FRAC: Final = re.compile(r"\\[dtc]?frac\s?\{\s?(-?\d{1,20})\s?\}\s?\{\s?(\d{1,20})\s?\}")
_LIST: Final = re.compile(r"^\s*(?:[-*•]\s+|\(?\d{1,2}[.)]\s+)+")
_TOKEN: Final = re.compile(
    r"(?P<number>(?:(?<![\w.)%\]])[-−–](?=\$?\.?\d))?\$?(?:\d{1,6}\s\d{1,6}/\d{1,6}|\d{1,20}/\d{1,20}(?!\.?\d)"
    r"|(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,30})?|\.\d{1,30})(?![\d^(]|[A-Za-fh-kn-zA-KM-Z](?![A-Za-z])))"
    r"|(?P<term>\d[\d.,]{0,30}(?:[A-Za-z](?![A-Za-z])|(?=\()))"
    r"|(?P<word>[A-Za-z]+(?:['’][a-z]+|\d{1,3})?)"
    r"|(?P<equal>=|≈)"
    r"|(?P<hyphen>(?<=\w)-(?=[A-Za-z]{2})|/(?=\s?[A-Za-z]{2}))"
    r"|(?P<sign>[-−–+*×÷·/^])"
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])"
    r"|(?P<stop>[,;:.!?])"
)
_CUE: Final = re.compile(
    r"^\W*(?:and\s)?(?:so|therefore|thus|hence|finally|consequently|in conclusion|th(?:is|at) means|we (?:get|have))\b"
    r"|\b(?:answer|solution)s?\b[^.?!]{0,60}(?:\bis\b|\bare\b|:|=)|,\s(?:so|therefore|thus|hence)\b",
    re.I,
)
_CHECK: Final = re.compile(
    r"^\W*(?:(?:to|let'?s|we can)\s(?:also\s)?)?(?:double[ -]?)?(?:check(?:ing)?|verif(?:y|ying|ication)|confirm)\b",
    re.I,
)
_WHY: Final = re.compile(
    r"^\W*(?:to\s(?:get|find|solve|see|arrive at|calculate|determine)\s(?:this|that|it|why|the answer)"
    r"|here'?s (?:how|why)|this is because)\b",
    re.I,
)
_NONE: Final = re.compile(
    r"\b(?:cannot|can't|can not|could not|unable to|not possible to|impossible to)\s(?:be\s)?(?:\w+\s)?"
    r"(?:solved?|determined?|find|found|answered?|calculated?)\b"
    r"|\b(?:not enough|insufficient|more) information\b|\bno (?:valid |real |possible )?solution\b",
    re.I,
)
_BROKEN: Final = tuple("=+*/×÷(")
_SEVERAL: Final = re.compile(
    r"\b(two|three|four|five|six|2|3|4|5|6)\s(?:\w+\s){0,2}?(?:numbers|integers|angles|sides|digits|parts|pieces)\b",
    re.I,
)
_ASKS: Final = re.compile(r"\b(?:how|what|which|find|who|when)\b", re.I)
_COMMON: Final = frozenset(
    "the how many much would will can does did has have had are was were and for that there".split()  # noqa: SIM905
)
_BE: Final = frozenset({"is", "are", "was", "were", "be"})
_ORDINAL: Final = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")


@dataclass(frozen=True, slots=True)
class _Value:
    """A stated number: its normal form, the word behind it, its place, its clause's words, if it is a word itself."""

    number: str
    unit: str
    at: int
    about: frozenset[str] = frozenset()
    worded: bool = False


@dataclass(frozen=True, slots=True)
class _Sentence:
    """What a sentence states, what it solves a variable for, and what kind of sentence it is."""

    values: tuple[_Value, ...] = ()
    solved: tuple[str, ...] = ()
    concludes: bool = False
    equation: bool = False
    denies: bool = False


_Token = tuple[str, str]


def read_concluded(text: str, question: str, several: bool) -> tuple[str | None, str]:
    """The numbers that a text concludes with, in their normal form, and how they were found; or None and why not.

    Args:
        text: the reply; of more than 20,000 characters the end is read.
        question: what it answers; "" where that is not known.
        several: more than one number may be asked for; otherwise one is read.
    """
    given = _given(question)
    said = _sentences(text[-_TEXT_CHARS_MAX:], given)
    if said and said[-1].denies:
        return None, "no solution"
    at = next((at for at in range(len(said) - 1, -1, -1) if said[at].values), None)
    if at is None:
        return None, "no number"
    if text.rstrip().endswith(_BROKEN) and not said[at].concludes:
        return None, "cut"
    new = _new(said[at].values, given)
    if not several:
        return normal_answer(_one(new, question).number), "concluded"
    found = _several(said[: at + 1], new, given, _asked(question))
    return normal_answer(";".join(found)), "concluded"


def _sentences(text: str, given: set[tuple[str, str]]) -> list[_Sentence]:
    """What counts of a text, in order; one that concludes that there is no answer makes void what came before."""
    made: list[_Sentence] = []
    stated = explains = False
    for raw in _SENTENCE.split(text):
        line = _LIST.sub("", _plain(raw[:_SENTENCE_CHARS_MAX]))
        if not line.strip():
            continue
        concludes = bool(_CUE.search(line))
        stated = stated or bool(made and made[-1].values)
        if stated and _CHECK.search(line):
            break
        explains = explains or bool(stated and _opened(made, given) and _WHY.search(line))
        if explains and not concludes:
            continue
        made.append(_sentence(line, concludes))
        if _NONE.search(line) and (concludes or not stated):
            made, stated = [_Sentence(denies=True)], False
    return made


def _opened(made: Sequence[_Sentence], given: set[tuple[str, str]]) -> bool:
    """Whether the text has opened with its answer and said no more."""
    opening = made[0].values if len(made) == 1 and not made[0].equation else ()
    return any((value.number.lstrip("-"), "") not in given for value in opening)


def _plain(text: str) -> str:
    text = _ANNOTATED.sub(" ", text.replace("\\$", "$").replace("**", ""))
    text = _FRAC.sub(r" \1/\2 ", text).replace("\\times", "×").replace("\\div", "÷").replace("\\cdot", "·")
    text = text.replace("\\approx", "≈").replace("\\%", "%").replace("\\", " ")
    return _ORDINAL.sub("", text)


def _tokens(line: str) -> list[_Token]:
    return [(found.lastgroup or "", found[0]) for found in _TOKEN.finditer(line)]


def _sentence(line: str, concludes: bool) -> _Sentence:
    tokens = _tokens(line)
    working = _working(tokens)
    values: list[_Value] = []
    aside: list[_Value] = []
    depth = 0
    about = _about(tokens)
    for at, (kind, word) in enumerate(tokens):
        depth += {"open": 1, "close": -1}.get(kind, 0)
        if kind == "number" and at not in working and (number := _number(word)) is not None:
            kept = aside if depth > 0 else values
            if not (kept and _again(tokens, kept[-1].at, at)):
                kept.append(_Value(number, _unit(tokens, at), at, about[at]))
    behind = len(_tokens(line[: line.rfind(": ") + 1]))
    values = [value for value in values if value.at >= behind] or values or aside
    if not values and not any(kind == "number" for kind, _ in tokens):
        values = [
            _Value(number, _unit(tokens, end - 1), at, about[at], worded=True) for at, end, number in _worded(tokens)
        ]
    solved = tuple(value.number for value in values if value.at >= 1 and tokens[value.at - 1][0] == "equal")
    return _Sentence(tuple(values), solved, concludes, any(kind == "equal" for kind, _ in tokens))


def _again(tokens: Sequence[_Token], first: int, second: int) -> bool:
    """Whether the second number says the first in another way: "0.75 dollars or 75 cents"."""
    return second - first <= _AGAIN_TOKENS_MAX and any(word.lower() == "or" for _, word in tokens[first:second])


def _about(tokens: Sequence[_Token]) -> list[frozenset[str]]:
    clauses: list[set[str]] = [set()]
    of = []
    for kind, word in tokens:
        if kind == "stop" or word.lower() in ("and", "while", "which", "but"):
            clauses.append(set())
        elif kind == "word" and len(word) > 2 and word.lower() not in _COMMON:
            clauses[-1].add(_stem(word))
        of.append(len(clauses) - 1)
    return [frozenset(clauses[place]) for place in of]


def _stem(word: str) -> str:
    return word.lower().removesuffix("'s").removesuffix("s")


def _unit(tokens: Sequence[_Token], at: int) -> str:
    follows = tokens[at + 1] if at + 1 < len(tokens) else ("", "")
    if follows[0] == "hyphen" and at + 2 < len(tokens):
        follows = tokens[at + 2]
    return follows[1].lower().rstrip("s") if follows[0] == "word" else ""


def _variable(token: _Token) -> bool:
    if token[0] == "term":
        return token[1][-1].isalpha()
    return token[0] == "word" and token[1] not in "aAI" and len(token[1].rstrip("0123456789")) == 1


def _unknown(tokens: Sequence[_Token], at: int) -> bool:
    """Whether a variable stands there; a letter right behind a number, other than x, y, z and n, is a unit."""
    unit = at > 0 and tokens[at - 1][0] == "number" and tokens[at][1] not in "xyzn"
    return _variable(tokens[at]) and not unit and not _sign(tokens, at)


def _sign(tokens: Sequence[_Token], at: int) -> bool:
    """Whether an arithmetic sign stands there; an "x" between two numbers is one."""
    if not 0 <= at < len(tokens):
        return False
    kind, word = tokens[at]
    if kind == "sign":
        return at > 0
    return word in ("x", "X") and 0 < at < len(tokens) - 1 and tokens[at + 1][0] in ("number", "open")


def _working(tokens: Sequence[_Token]) -> set[int]:
    """The places of numbers that are part of the working and not stated."""
    out: set[int] = set()
    unsolved: dict[int, bool] = {}
    for at, (kind, _) in enumerate(tokens):
        if kind == "number" and (_sign(tokens, at + 1) or _sign(tokens, at - 1)):
            out.add(at)
        if kind != "equal":
            continue
        start = _left_edge(tokens, at)
        out.update(range(start, at))
        if start > 0 and tokens[start - 1][0] == "equal":
            unsolved[at] = unsolved[start - 1] and any(_unknown(tokens, place) for place in range(start, at))
        else:
            left = tokens[start:at]
            unsolved[at] = (
                any(_unknown(tokens, place) for place in range(start, at))
                and any(kind in ("sign", "term", "open") for kind, _ in left)
                and not (start > 0 and tokens[start - 1][1].lower() in _BE)
            )
        if unsolved[at]:
            end = at + 1
            while end < len(tokens) and tokens[end][0] not in ("equal", "stop"):
                end += 1
            out.update(range(at, end))
    return out


def _left_edge(tokens: Sequence[_Token], equal: int) -> int:
    """Where the expression left of an equals sign begins."""
    at, words, edge, depth = equal - 1, 0, equal, 0
    while at >= 0:
        kind = tokens[at][0]
        depth += {"close": 1, "open": -1}.get(kind, 0)
        if depth < 0:
            break
        if kind in ("number", "term"):
            edge, words = at, 0
            before = tokens[at - 1][0] if at else ""
            if not (_sign(tokens, at - 1) or before in ("open", "close")):
                break
        elif kind == "word" and not _sign(tokens, at):
            words += 1
            if _variable(tokens[at]):
                edge = at
            if words > _UNIT_WORDS_MAX:
                break
        elif kind in ("sign", "open", "close", "hyphen") or _sign(tokens, at):
            words = 0
            edge = at
        else:
            break
        at -= 1
    return edge


def _given(question: str) -> set[tuple[str, str]]:
    """The numbers in a question, each alone ("") and with the word behind it."""
    tokens = _tokens(_plain(question[-_TEXT_CHARS_MAX:]))
    found: set[tuple[str, str]] = set()
    for _, end, number in _worded(tokens):
        found |= {(number, ""), (number, _unit(tokens, end - 1))}
    for at, (kind, word) in enumerate(tokens):
        if kind == "number" and (said := _number(word)) is not None:
            number = said.lstrip("-")
            found |= {(number, ""), (number, _unit(tokens, at))}
    return found


def _number(word: str) -> str | None:
    return normal_answer(word.replace("−", "-").replace("–", "-"))


def _worded(tokens: Sequence[_Token]) -> list[tuple[int, int, str]]:
    """The numbers written in words: where each begins and ends, and its normal form."""
    found, at = [], 0
    while at < len(tokens):
        end = at
        while end < len(tokens) and end - at < _WORDS_MAX and tokens[end][1].lower() in _NUMBER_WORDS:
            end += 2 if end + 2 < len(tokens) and tokens[end + 1][0] == "hyphen" else 1
        words = " ".join(word for kind, word in tokens[at:end] if kind == "word")
        if words and (number := normal_answer(words)) is not None and number[0].isdigit():
            found.append((at, end, number))
        at = max(end, at + 1)
    return found


def _new(values: Iterable[_Value], given: set[tuple[str, str]]) -> tuple[_Value, ...]:
    """Those that the question does not give; else those that it gives of something else; else all."""
    all_of = tuple(values)
    others = tuple(value for value in all_of if (value.number.lstrip("-"), "") not in given)
    elsewhere = tuple(value for value in all_of if (value.number.lstrip("-"), value.unit) not in given)
    return others or elsewhere or all_of


def _one(values: Sequence[_Value], question: str) -> _Value:
    start = max((found.start() for found in _ASKS.finditer(question)), default=len(question))
    words = {_stem(word) for kind, word in _tokens(question[start:]) if kind == "word"}
    return max(values, key=lambda value: len(value.about & words))


def _asked(question: str) -> int:
    found = _SEVERAL.search(question)
    if found:
        return min(_ASKED_MAX, int(normal_answer(found[1]) or "2"))
    return max(2, min(_ASKED_MAX, question.count("?")))


def _several(said: Sequence[_Sentence], new: Sequence[_Value], given: set[tuple[str, str]], asked: int) -> list[str]:
    found = list(dict.fromkeys(value.number for value in new))[:asked]
    if len(new) >= asked:
        return found
    last = said[-1]
    stated = [value.number for value in last.values]
    solved = [number for one in reversed(said) for number in reversed(one.solved)]
    for number in stated:
        if len(found) < asked and number in solved and number not in found:
            found.append(number)
    for one in reversed(said[:-1]):
        fresh = [
            value.number for value in one.values if (value.number.lstrip("-"), "") not in given and not value.worded
        ]
        for number in fresh if one.concludes else one.solved:
            if len(found) < asked and number not in found:
                found.append(number)
    return found
