"""The form in which two open answers count as the same.

- Numbers are exact: "1,234" is "1234", "12.0" is "12", "3.1925e+06" is "3192500", "0.75", "3/4", "\\frac{3}{4}" are all
  "0.75". A fraction without a finite decimal of at most 12 places stays one, in lowest terms: "64/30" is "32/15".
- Currency and percent signs and units go: "$5", "5 dollars", "5%" and "5\\text{ cm}" are "5". A single letter is no
  unit but a variable: "2k" stays.
- Number words to the millions count: "twenty-five" is "25".
- "a; b" is a set of numbers, as the answer of a system of equations: each in its own form, sorted, joined with ";".
- Anything else: LaTeX is stripped of what only spaces it; then `core.protocols.base.normalise`, or, for a formula, no
  blanks and nothing else.

To write a normal form again gives itself. Two roundings of one number ("0.33", "1/3") are different answers.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from fractions import Fraction
from typing import Final

from ...core.protocols.base import normalise

__all__ = ["ANSWER_CHARS_MAX", "normal_answer", "number_of"]

ANSWER_CHARS_MAX: Final = 400
"""A longer answer is no answer but a text."""
_DIGITS_MAX: Final = 40
_PLACES_MAX: Final = 12
_PASSES_MAX: Final = 6

_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][+-]?\d{1,2})?")
_RATIO: Final = re.compile(r"([+-]?)\s?(\d{1,20})\s?/\s?(\d{1,20})")
_MIXED: Final = re.compile(r"([+-]?)(\d{1,12})\s(\d{1,12})/(\d{1,12})")
_UNIT: Final = re.compile(
    r"(?:[^\W\d_]{3,}|cm|mm|km|kg|mg|ml|ft|in|mi|lb|oz|hr|am|pm|°)[23]?(?:[\s/^*.-]{1,2}[^\W\d_]+[23]?){0,8}\.?",
    re.ASCII,
)
_FRAC: Final = re.compile(r"\\[dtc]?frac\s?(?:\{\s?(-?\d{1,20})\s?\}|(\d))\s?(?:\{\s?(-?\d{1,20})\s?\}|(\d))")
_NAMED: Final = re.compile(r"^\s?[A-Za-z]\s?=\s?(?=[^=]{0,400}$)")
_WORD: Final = re.compile(r"[^\W\d_]{3}")
_COMMAND: Final = re.compile(r"\\[A-Za-z]{1,20}")
_SPACING: Final = re.compile(r"\\(?:left|right|displaystyle|!|,|;|:|\s)|~")
_WRAP: Final = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|rm)\s?\{([^{}]{0,200})\}")
_ONES: Final = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen"""
_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS: Final = {word: n for n, word in enumerate(_ONES.split())} | {
    word: 10 * n for n, word in enumerate(_TENS.split(), start=2)
}
_SCALES: Final = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}


def normal_answer(text: str) -> str | None:
    """The normal form of an open answer; None where nothing is left of it, or it is longer than `ANSWER_CHARS_MAX`."""
    for _ in range(_PASSES_MAX):
        before, text = text, _once(text) or ""
        if text in ("", before):
            break
    return text or None


def _once(text: str) -> str | None:
    if len(text) > ANSWER_CHARS_MAX:
        return None
    text = unicodedata.normalize("NFKC", text)
    if ";" in text.replace("\\;", " "):
        parts = [_once(part) for part in text.replace("\\;", " ").split(";") if part.strip()]
        known = [part for part in parts if part]
        numbers = {part: value for part in known if (value := number_of(part)) is not None}
        if len(numbers) == len(set(known)):
            return ";".join(sorted(numbers, key=lambda part: numbers[part])) or None
        return ";".join(known) or None
    plain = _unwrapped(text)
    value = number_of(plain)
    if value is not None:
        return _written(value)
    if _WORD.search(_COMMAND.sub("", plain)):
        return normalise(plain) or None
    formula = "".join(plain.split()).rstrip(".,;:")
    value = number_of(formula)
    return (_written(value) if value is not None else formula) or None


def number_of(text: str) -> Fraction | None:
    """The number that a text is, with what may stand around one; None where it is not one number."""
    text = text.strip().strip("$£€¥ ").rstrip(".,;:! ").replace("\\%", "%").replace("\\$", "").strip()
    if len(text) > ANSWER_CHARS_MAX:
        return None
    text = re.sub(r"^([+-]?)\s?[$£€¥]\s?", r"\1", text)
    words = _from_words(text)
    if words is not None:
        return words
    for pattern, make in ((_MIXED, _mixed), (_RATIO, _ratio), (_NUMBER, _plain)):
        found = pattern.match(text)
        if found and found[0] and len(found[0]) <= _DIGITS_MAX:
            rest = text[found.end() :].strip(" %$£€¥")
            if not rest or _UNIT.fullmatch(rest):
                return make(found)
    return None


def _unwrapped(text: str) -> str:
    """Without what LaTeX says about looks; simple fractions as a/b, mixed ones as "n a/b"."""
    plain = text.strip().strip("$").replace("\\(", " ").replace("\\)", " ").replace("\\[", " ").replace("\\]", " ")
    plain = _WRAP.sub(r" \1 ", plain)
    plain = _SPACING.sub(" ", plain)
    plain = re.sub(r"\{,\}", ",", plain).replace("^\\circ", "").replace("^{\\circ}", "")
    plain = _NAMED.sub("", _FRAC.sub(_fraction, plain))
    return " ".join(plain.split()).strip()


def _fraction(found: re.Match[str]) -> str:
    before = found.string[: found.start()]
    gap = " " if before[-1:].isdigit() else ""
    return f"{gap}{found[1] or found[2]}/{found[3] or found[4]}"


def _mixed(found: re.Match[str]) -> Fraction | None:
    if not int(found[4]):
        return None
    value = int(found[2]) + Fraction(int(found[3]), int(found[4]))
    return -value if found[1] == "-" else value


def _ratio(found: re.Match[str]) -> Fraction | None:
    if not int(found[3]):
        return None
    value = Fraction(int(found[2]), int(found[3]))
    return -value if found[1] == "-" else value


def _plain(found: re.Match[str]) -> Fraction | None:
    text = found[0].replace(",", "")
    if not any(sign.isdigit() for sign in text.lower().split("e")[0]):
        return None
    return Fraction(Decimal(text))


def _from_words(text: str) -> Fraction | None:
    words = text.casefold().replace("-", " ").split()
    if not words or len(words) > 12 or not (words[0] in _WORDS or words[0] in ("minus", "negative")):
        return None
    sign = -1 if words[0] in ("minus", "negative") else 1
    total, group, taken = 0, 0, 0
    for word in words[sign < 0 :]:
        if word in _WORDS:
            group += _WORDS[word]
        elif word == "hundred":
            group = max(group, 1) * 100
        elif word in _SCALES:
            total, group = total + max(group, 1) * _SCALES[word], 0
        elif word != "and":
            break
        taken += 1
    rest = words[sign < 0 :][taken:]
    if not taken or (rest and not _UNIT.fullmatch(" ".join(rest))):
        return None
    return Fraction(sign * (total + group))


def _written(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10**_PLACES_MAX
    if scaled.denominator == 1:
        digits = f"{abs(scaled.numerator):0{_PLACES_MAX + 1}d}"
        text = f"{digits[:-_PLACES_MAX]}.{digits[-_PLACES_MAX:]}".rstrip("0")
        return f"-{text}" if value < 0 else text
    return f"{value.numerator}/{value.denominator}"
