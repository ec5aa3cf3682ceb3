"""Which option a text settles on: a letter, or None.

A text is read as a person skims it: for the places where it *states* an answer. Each way of stating one finds its
places in the text; the last place wins, so that a correction overrules what it corrects. The ways:

- a cue and then an option: "the answer is (C)", "Answer: C", "I choose option C", "\\boxed{C}", "(X) C" (the "(X)" of
  prompts that ask for that form, echoed);
- an option and then a verdict: "(C) is the most accurate choice", "making (C) the correct answer";
- an option that stands alone on a line, opens the text, or ends it: "… is unaffected. (C)";
- a cue and then the words of exactly one option, without its letter.

Only where no place states an answer: the one option that the last paragraph names, then the one that the whole text
names.

A statement is dropped where it is denied ("not (A)", "(A) is incorrect") or is somebody else's ("Agent 2 says (A)").
Two options in one statement ("(A) or (B)") are a hedge: where the last statement is one, there is no answer. A letter
counts only where it cannot be a word: "A good answer is" names nothing.

All patterns have bounded gaps, so reading takes time linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["read_letter"]

_MARKUP: Final = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|rm|bf|mbox)\b|[*`${}#\\]|__")
_BOXED: Final = re.compile(r"\\(?:boxed|fbox)\b")
_BLANKS: Final = re.compile(r"[^\S\n]+")
_HEDGES: Final = ("or", "and", "and/or", "/", ",", "&", "nor")


@dataclass(frozen=True, slots=True)
class _Place:
    """An option named: where, and which."""

    start: int
    end: int
    letter: str


@dataclass(frozen=True, slots=True)
class _Patterns:
    """What depends on which letters there are."""

    named: re.Pattern[str]
    cued: re.Pattern[str]
    also: re.Pattern[str]


def read_letter(text: str, options: Sequence[tuple[str, str]]) -> tuple[str | None, str]:
    """The letter and how it was found, or None and why not.

    Args:
        text: bounded by the caller. options: (letter, the option's words); the words may be empty.
    """
    letters = tuple(letter.upper() for letter, _ in options)
    clean = _clean(text)
    if not clean:
        return None, "empty"
    reader = _Reader(clean, _patterns(letters), tuple(options), "X" not in letters)
    return reader.read()


def _clean(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text) if not text.isascii() else text
    plain = plain.translate(_QUOTES)
    plain = _BOXED.sub(" the answer is: ", plain)
    return _BLANKS.sub(" ", _MARKUP.sub("", plain)).strip()


_QUOTES: Final = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "\r": "\n"})


@lru_cache(maxsize=64)
def _patterns(letters: tuple[str, ...]) -> _Patterns:
    upper = "".join(re.escape(letter) for letter in letters)
    lower = upper.lower()
    wrapped = rf"[(\[]\s?([{upper}{lower}])\s?[)\]]"
    half = rf"(?<![\w'(])([{upper}])\)"
    called = rf"\b(?:[Oo]ption|[Cc]hoice|OPTION|CHOICE)\s?:?\s?[(\[\"']?([{upper}])\b(?!['-]\w)"
    listed = rf"(?<![\w'.(])([{upper}])[.:](?=\s?[\w\"'$(-]|\s*$)(?!\w\.)"
    named = re.compile("|".join((wrapped, half, called, listed)))
    ends = r"(?=\s*(?:[.,;:!?)\]\"']|-\s|$|\n)|\s+(?:because|since|as|which|with|for|due"
    ends += r"|and|or|is|based|in|from|given|-)\b)"
    bare = rf"(?<![\w'])([{upper}])(?!\w)(?!'\w){ends}"
    opened = rf"[(\[]\s?([{upper}])\b(?=\s?[.:,\-]|\s\w)"
    lone = rf"([{lower}])(?=\s?[).]?\s*(?:$|\n))"
    cued = re.compile("|".join((wrapped, half, called, listed, bare, opened, lone)))
    also = re.compile(
        rf"\s?[\"']?\s?(?:,?\s?(?:or|and|and/or|nor)\b|[,/&])\s?(?:also\s|both\s|option\s|choice\s)?"
        rf"(?:[(\[]\s?([{upper}{lower}])\s?[)\]]|([{upper}])(?![\w']))"
    )
    return _Patterns(named, cued, also)


_NOUNS: Final = (
    "answer option choice selection conclusion solution response diagnosis statement explanation one holding"
)
_LINKS: Final = "is are be was remains? stays? becomes? being as to with than"
_VERBS: Final = (
    "choose|chose|select|pick|propose|suggest|recommend|go with|going with|stick with|sticking with|opt for|vote for",
    "settle on|stand by|conclude that|agree that|agree with|lean towards?|leads? to|points? to|maintain that",
    "believe that|think that|think|believe|corresponds to|matches|aligns with|supports?|answer",
)
_CUE: Final = re.compile(
    rf"\b(?:{'|'.join(_NOUNS.split())})s?\b[^.?!\n:]{{0,140}}?(?:\b(?:{'|'.join(_LINKS.split())})\b|[:=]|->)"
    r"|\banswer\b(?: (?:here|choice|option|letter))?\s?[:=-]"
    r"|\b(?:answer|option|choice|selection|solution|conclusion|response|position|stance)\s?[,-]?"
    rf"|\b(?:{'|'.join(_VERBS)})"
    r"|\b(?:therefore|thus|hence|so|conclusion|accordingly|consequently)\b\s?[,:]"
    r"|\b(?:therefore|thus|hence|so|in conclusion|in summary|overall)\b[^.?!\n:]{0,160}?(?:\b(?:is|are|be)\b|:)"
    r"|\(X\)\s?[:.=-]?",
    re.IGNORECASE,
)
_FILLERS: Final = (
    "indeed|therefore|thus|still|also|most likely|likely|probably|definitely|clearly|the same|again|actually|now",
    "simply|that|is|be|to|as|it|it's|the|option|choice|answer|letter|correct|best|only|final|updated|follows|remains",
    "original|initial|my|our|solution|same|consistent|with|form|in|of",
)
_FILLER: Final = re.compile(
    rf"(?:[\s\"'=:,-]|\b(?:{'|'.join(_FILLERS)})\b|\(X\)|</?\w{{1,12}}>){{0,14}}", re.IGNORECASE
)
_PRAISE: Final = (
    "correct|right|best|accurate|appropriate|suitable|fitting|relevant|plausible|proper|likely|only|final|answer|closest",
    "applicable|reasonable|logical|valid|precise|true|preferred",
)
_VERDICT: Final = re.compile(
    r"(?:\b(?:is|are|be|as|remains?|was|seems?|appears?|being|making|makes)\b|,)\s"
    r"(?:to be )?(?:indeed |therefore |still |thus |clearly |likely |also )?(?:(?:the|a|my|our) )?(?:\w+ )?"
    rf"(?:{'|'.join(_PRAISE)})"
    r"(?: (?:and \w+ )?(?:correct |valid |possible |updated |accurate |appropriate |relevant )?"
    rf"(?:{'|'.join(_NOUNS.split())}))",
    re.IGNORECASE,
)
_DENIED_BEFORE: Final = re.compile(
    r"(?:\bnot|n't|\bneither|\bnever|\bincorrect|\bwrong|\brather than|\binstead of|\bunlike|\brule[sd]? out"
    r"|\beliminat\w+|\bother than|\bexcept|\bdisagree\w*(?: with)?|\bchanged?(?: \w+){0,4} from|\bcannot be)"
    r"(?: \w+){0,3}[\s(\"':,]*$",
    re.IGNORECASE,
)
_DENIED_BEHIND: Final = re.compile(
    r"[\s\"',)]{0,4}(?:(?:\w+\s){0,2}(?:is|was|are|were|isn't|wasn't|seems|appears|would be|could be|might be)\s"
    r"(?:\w+ly\s|also\s|indeed\s)?(?:not\b|incorrect|wrong|inaccurate|false|ruled out|less)|isn't|wasn't|cannot|can't"
    r"|does\snot|doesn't|incorrectly|is not)",
    re.IGNORECASE,
)
_OTHERS: Final = re.compile(
    r"\b(?:agents?\s(?:solution\s)?\d|(?:one|another|first|second|third|other|some|the|each|1st|2nd)\s(?:of\sthe\s)?(?:other\s)?agents?"
    r"|agent's|they|their)\b",
    re.IGNORECASE,
)
_MINE: Final = re.compile(
    r"\b(?:i|i'm|i'll|i've|my|we|our|both|all|therefore|thus|hence|so|consensus|conclusion|consistent|agree[sd]?|correctly)\b",
    re.IGNORECASE,
)


class _Reader:
    def __init__(self, text: str, patterns: _Patterns, options: tuple[tuple[str, str], ...], placeholder: bool) -> None:
        self.text, self.patterns, self.options, self.placeholder = text, patterns, options, placeholder
        self.places = [self._place(found) for found in patterns.named.finditer(text)]

    @staticmethod
    def _place(found: re.Match[str]) -> _Place:
        index = found.lastindex or 0
        return _Place(found.start(), found.end(), found[index].upper())

    def read(self) -> tuple[str | None, str]:
        stated = [*self._cued(), *self._judged(), *self._alone()]
        if stated:
            place, how = max(stated, key=lambda one: (one[0].end, -one[0].start, one[0].letter))
            return (place.letter, how) if place.letter else (None, "hedge")
        worded = self._worded()
        if worded is not None:
            return worded, "words"
        opening = self._opening()
        if opening is not None:
            return opening, "opening"
        return self._sole()

    def _cued(self) -> list[tuple[_Place, str]]:
        found = []
        for cue in _CUE.finditer(self.text):
            if cue[0] == "(X)" and not self.placeholder:
                continue
            at = cue.end()
            filler = _FILLER.match(self.text, at)
            at = filler.end() if filler else at
            named = self.patterns.cued.match(self.text, at)
            if named is not None:
                place = self._place(named)
                if not self._dropped(place, cue.start()):
                    found.append((self._hedged(place), "cue"))
        return found

    def _judged(self) -> list[tuple[_Place, str]]:
        found = []
        for verdict in _VERDICT.finditer(self.text):
            place = self._last_before(verdict.start())
            if place is not None and not self._dropped(place, place.start):
                gap = self.text[place.end : verdict.start()]
                if not re.search(r"\b(?:not|n't|incorrect|wrong)\b|\w[.?!]\s|\n", gap):
                    found.append((_Place(place.start, verdict.end(), place.letter), "verdict"))
        return found

    def _last_before(self, at: int) -> _Place | None:
        low, high = 0, len(self.places)
        while low < high:
            middle = (low + high) // 2
            if self.places[middle].end <= at:
                low = middle + 1
            else:
                high = middle
        place = self.places[low - 1] if low else None
        return place if place is not None and at - place.end <= 300 else None

    def _alone(self) -> list[tuple[_Place, str]]:
        """Options that are a whole line, and the one that the text ends with."""
        found, start = [], 0
        for line in self.text.split("\n"):
            if 0 < len(line) <= 24:
                bare = (
                    line.replace("(X)", "").strip(" ()[]\"'.:,;-=<>") if self.placeholder else line.strip(" ()[].:\"'")
                )
                if len(bare) == 1 and bare.upper() in {letter for letter, _ in self.options}:
                    found.append((_Place(start, start + len(line), bare.upper()), "line"))
            start += len(line) + 1
        last = self.places[-1] if self.places else None
        if last is not None and not self.text[last.end :].strip(" .\"')!\n") and not self._dropped(last, last.start):
            found.append((self._hedged(last), "end"))
        return found

    def _dropped(self, place: _Place, since: int) -> bool:
        clause = self._clause(since)
        before = self.text[max(clause, place.start - 60) : place.start]
        if _DENIED_BEFORE.search(before) or _DENIED_BEHIND.match(self.text, place.end):
            return True
        said = self.text[clause : place.start]
        return bool(_OTHERS.search(said)) and not _MINE.search(said)

    def _clause(self, at: int) -> int:
        """Where the sentence that `at` is in begins, at most 200 characters back."""
        low = max(0, at - 200)
        window = self.text[low:at]
        edge = max(window.rfind(". "), window.rfind("\n"), window.rfind("? "), window.rfind("! "))
        return low + edge + 1 if edge >= 0 else low

    def _hedged(self, place: _Place) -> _Place:
        """The place itself, or one without a letter where another option is stated in the same breath."""
        other = self.patterns.also.match(self.text, place.end)
        if other is not None and (other[1] or other[2]).upper() != place.letter:
            return _Place(place.start, other.end(), "")
        return place

    def _worded(self) -> str | None:
        """The option whose words follow the last cue, where the words are of no other option."""
        words = [(letter, _plain(text)) for letter, text in self.options]
        for cue in reversed(list(_CUE.finditer(self.text))):
            if cue[0] == "(X)":
                continue
            said = _plain(self.text[cue.end() : cue.end() + 400])
            hits = [(len(text), letter) for letter, text in words if len(text) > 1 and _opens(said, text)]
            if hits and not _DENIED_BEFORE.search(self.text[max(0, cue.end() - 60) : cue.end()]):
                longest = max(hits)
                return longest[1] if sum(length == longest[0] for length, _ in hits) == 1 else None
        return None

    def _opening(self) -> str | None:
        """The option that the text opens with, where it goes on about it: not a list of options being weighed."""
        first = self.patterns.named.match(self.text)
        if first is None:
            return None
        place = self._place(first)
        if self._dropped(place, 0) or not self._hedged(place).letter:
            return None
        opened = re.findall(r"(?:^|\n)\W{0,3}([A-Z])[).:]", self.text[:20_000])
        return place.letter if len(set(opened)) <= 1 else None

    def _sole(self) -> tuple[str | None, str]:
        """The one option that the last paragraph names, else the one that the text names."""
        if self._cut():
            return None, "cut"
        start = self.text.rfind("\n", 0, len(self.text)) + 1
        for since, how in ((start, "last paragraph"), (0, "only one named")):
            kept = {p.letter for p in self.places if p.start >= since and not self._dropped(p, p.start)}
            if len(kept) == 1:
                return next(iter(kept)), how
        return None, "several named" if self.places else "none named"

    def _cut(self) -> bool:
        """Whether the text stops inside a sentence."""
        return self.text[-1] not in ".!?)]\"'}:;>" and not self.text[-1].isdigit()


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w%$.+-]+", " ", text.casefold()).replace(". ", " ").split()).strip(". ")


def _opens(said: str, option: str) -> bool:
    """Whether what was said begins with the option's words, up to an article or two."""
    for skip in ("", "the ", "a ", "an ", "that ", "indeed ", "option ", "likely ", "most likely "):
        if said.startswith(skip + option):
            rest = said[len(skip) + len(option) :]
            return not rest or not rest[0].isalnum()
    return False
