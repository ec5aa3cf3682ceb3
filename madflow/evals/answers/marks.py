"""How options, and what is said about them, look in a text: the patterns behind `letters`.

Every gap in a pattern is bounded, and what stands before an option is read word by word from a window of `WINDOW`
characters, so that reading takes time linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = [
    "WINDOW",
    "Cue",
    "Place",
    "another",
    "cleaned",
    "cue_before",
    "denied",
    "places",
    "plain_words",
    "verdicts",
    "whole_line",
]

WINDOW: Final = 260
"""Characters before an option in which its cue is looked for."""

_MARKUP: Final = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|rm|bf|mbox)\b|\\[()\[\],;!]|[*`${}#\\]|__")
_BOXED: Final = re.compile(r"\\(?:boxed|fbox)\b")
_TAGGED: Final = re.compile(r"<(?:final[_ ]?)?answer>", re.IGNORECASE)
_BLANKS: Final = re.compile(r"[^\S\n]+")
_QUOTES: Final = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "\r": "\n"})


@dataclass(frozen=True, slots=True)
class Place:
    """An option named in a text.

    Attributes:
        start, end: where; letter: which, "" for a statement that leaves it open which.
        bare: it is a letter without brackets or a word like "option" before it.
    """

    start: int
    end: int
    letter: str
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Cue:
    """What leads up to an option.

    Attributes:
        strong: it says that this is the answer; else only that something follows.
        linked: it ends in "is" or a colon: what follows is part of the answer, not said about it. echoed: in "(X)".
    """

    strong: bool
    linked: bool = False
    echoed: bool = False


@lru_cache(maxsize=64)
def _pattern(letters: str) -> re.Pattern[str]:
    """Options in the order of their certainty: (C), C), option C, "C: …" or "C. …", (C: …), C."""
    end = r"(?=\s*(?:[.,;:!?)\]\"'<]|-\s|$|\n)|\s(?:because|since|as|which|with|for|due|and|or|is|based|given)\b)"
    word = letters.replace("A", "").replace("I", "") or letters
    forms = (
        rf"[(\[]\s?([{letters}{letters.lower()}])\s?[)\]]",
        rf"(?<![\w'(])([{letters}])\)",
        r"\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer|OPTION|CHOICE|ANSWER)\s(?:\"\s?)?"
        rf"(?:([{word}])(?![\w'-])|([{letters}])\b{end})",
        rf"(?<![\w'.(/-])([{letters}])[.:](?=\s?[\w\"'$(-]|\s*$)(?!\w\.)",
        rf"[(\[]\s?([{letters}])\b(?=\s?[.:,-]|\s\w)",
        rf"(?<![\w'/-])([{letters}])(?![\w'-]){end}",
        rf"(?<![\w'/-])([{letters.lower()}])(?=\s?[).]?\s*(?:$|\n))",
    )
    return re.compile("|".join(forms))


@lru_cache(maxsize=64)
def _also(letters: str) -> re.Pattern[str]:
    return re.compile(
        r"\s?[\"']?\s?(?:,?\s?(?:or|and|and/or|nor|followed by|combined with)\b|[,/&+])"
        r"\s?(?:also\s|both\s|option\s|choice\s|then\s|possibly\s)?"
        rf"(?:[(\[]\s?([{letters}])\s?[)\]]|([{letters}])(?![\w'])(?=\)|[\s.,;:]|$))",
        re.IGNORECASE,
    )


def cleaned(text: str) -> str:
    """Without what only marks up: emphasis, mathematics, typographer's quotes. A box or a tag is "the answer is: "."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text).translate(_QUOTES)
    plain = _TAGGED.sub(" the answer is: ", _BOXED.sub(" the answer is: ", plain))
    return _BLANKS.sub(" ", _MARKUP.sub("", plain)).strip()


def places(text: str, letters: str) -> tuple[list[Place], list[Place]]:
    """(all that may be options, those that name one wherever they stand)."""
    every, named = [], []
    for found in _pattern(letters).finditer(text):
        form, letter = found.lastindex or 0, found[found.lastindex or 0].upper()
        place = Place(found.start(), found.end(), letter, bare=form >= 7)
        if form == 2 and text.rfind("(", max(0, place.start - 60), place.start) > text.rfind(
            ")", max(0, place.start - 60), place.start
        ):
            continue  # the end of a remark in brackets: "(vitamin D)"
        every.append(place)
        if form <= 4 or (form == 5 and _opens_line(text, place.start)):
            named.append(place)
    return every, named


def whole_line(text: str, place: Place, words: str) -> bool:
    """Whether the option and its own words are a line, up to punctuation."""
    if not _opens_line(text, place.start):
        return False
    at = _behind_words(text, place.end, words)
    newline = text.find("\n", at)
    rest = text[at : newline if newline >= 0 else len(text)]
    return at > place.end and not rest.strip(" .!\"')")


def another(text: str, place: Place, letters: str, words: str) -> Place | None:
    """The other option that is stated in the same breath, behind the option itself or its words."""
    found = _also(letters).match(text, _behind_words(text, place.end, words))
    if found is None or (found[1] or found[2]).upper() == place.letter:
        return None
    return Place(place.start, found.end(), "")


def _behind_words(text: str, at: int, words: str) -> int:
    """The end of the option's words where they follow; `at` where they do not."""
    if not words:
        return at
    ahead = text[at : at + 6]
    start = at + len(ahead) - len(ahead.lstrip(" .:,)-\"'\n"))
    said = text[start : start + len(words)]
    return start + len(words) if said.casefold() == words.casefold() else at


def _opens_line(text: str, at: int) -> bool:
    start = text.rfind("\n", max(0, at - 12), at) + 1
    return (start > 0 or at <= 12) and not text[start:at].strip(" \t>+•-0123456789.)")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOKEN: Final = re.compile(r"\(X\)|[\w'-]+|[^\w\s]")
_JOINED: Final = re.compile(r"((?:[:=]|\bis|\bare|\bbe|\bthat|\(X\)|\banswer)[ \"']{0,3})\n[\n ]*")
_EDGE: Final = re.compile(r"(?<!\b[A-Za-z])[.?!][\"')]?\s|\n")
_NOUNS: Final = _words(
    "answer answers option choice selection conclusion solution response diagnosis statement one holding"
)
_LINKS: Final = _words("is are be was remains remain stays becomes being : = as")
_SO: Final = _words("therefore thus hence so accordingly consequently conclusion summary overall")
_PLURALS: Final = frozenset({"options", "choices", "statements", "possibilities"})
_EQUALS: Final = frozenset({"is", "are", "be"})
_POINTS: Final = _NOUNS | _SO | {"(X)"}
_OWN: Final = _words("my correct right best final updated original initial previous chosen own same")
_SAYS: Final = _words(
    """choose chose chosen select selected selecting pick picked propose suggest recommend go going stick sticking opt
    vote settle settled stand agree lean leaning maintain believe think concluded conclude change changed switch
    switched say"""
)
_SHOWS: Final = _words("leads points corresponds matches supports aligns favors favours")
_FILLERS: Final = _words(
    """(X) therefore thus hence so accordingly consequently indeed still also most likely probably definitely clearly
    again actually now simply that is are be was as it it's the an option choice answer answers letter correct right"""
) | _words(
    """best only final updated follows remains remain stays original initial previous my our own solution same with form
    consistent in of to for on towards toward by would should will must accurate appropriate both either statement
    number one : = , - " ' ( < >"""
)
_FILLERS_MAX: Final = 14
_TOKENS_MAX: Final = 60


def cue_before(text: str, place: Place) -> Cue | None:
    """What leads up to an option in its own sentence; None where nothing does."""
    window = _JOINED.sub(r"\1 ", text[max(0, place.start - WINDOW) : place.start])
    edge = max((found.end() for found in _EDGE.finditer(window)), default=0)
    tokens = [word if word == "(X)" else word.casefold() for word in _TOKEN.findall(window[edge:])[-_TOKENS_MAX:]]
    at = len(tokens)
    while at > 0 and len(tokens) - at < _FILLERS_MAX and tokens[at - 1] in _FILLERS:
        at -= 1
    before, tail = tokens[:at], tokens[at:]
    if "(X)" in tail[-3:]:
        return Cue(strong=True, linked=True, echoed=True)
    linked, equated = not _LINKS.isdisjoint(tail), not _EQUALS.isdisjoint(tail)
    said = bool(before) and before[-1] in _SAYS
    listing = bool(before) and before[-1] in _PLURALS and _NOUNS.isdisjoint(tail)
    pointed = linked and not listing and ((equated and ":" in tail) or not _POINTS.isdisjoint(tokens))
    if said or pointed:
        return Cue(strong=True, linked=equated)
    own = not _NOUNS.isdisjoint(tail[-3:]) and not _OWN.isdisjoint(tail)
    if not place.bare and (own or (not before and not _SO.isdisjoint(tail[:2]))):
        return Cue(strong=True)
    shown = bool(before) and before[-1] in _SHOWS
    return Cue(strong=False) if not place.bare and (linked or shown) else None


_DENIED_BEFORE: Final = re.compile(
    r"(?:\bnot|n't|\bneither|\bnever|\bincorrect|\bwrong|\brather than|\binstead of|\bunlike|\brul(?:e|ed|es|ing) out"
    r"|\beliminat\w{1,5}|\bother than"
    r"|\bexcept|\bdisagree\w{0,2}(?: with)?|\bchanged?(?: \w{1,20}){0,4} from|\bcannot be)"
    r"(?: \w{1,20}){0,3}[\s(\"':,]{0,6}$",
    re.IGNORECASE,
)
_DENIED_BEHIND: Final = re.compile(
    r"[\s\"',)]{0,4}(?:(?:\w{1,20}\s){0,2}(?:is|was|are|were|seems|appears|would be|could be|might be)\s"
    r"(?:\w{1,20}ly\s|also\s|indeed\s|both\s|all\s)?(?:not\b|incorrect|wrong|inaccurate|false"
    r"|ruled out|less)|isn't|wasn't|cannot|can't|does\snot|doesn't|incorrectly)",
    re.IGNORECASE,
)
_OTHERS: Final = re.compile(
    r"\b(?:agent(?:'s)?(?: solution)? #?\d|(?:one|another|the first|the second|the third|first|second|third) agent)\b",
    re.IGNORECASE,
)
_MINE: Final = re.compile(
    r"\b(?:i|i'm|i'll|i've|my|we|our|both|all|therefore|thus|hence|so|consensus|conclusion|consistent|agree[sd]?"
    r"|correctly|updated)\b",
    re.IGNORECASE,
)


def denied(text: str, place: Place, words: str, *, behind: bool = True) -> bool:
    """Whether the text says that an option is not the answer, or that somebody else says it is.

    Args:
        words: the option's own, which are no denial where they follow it. behind: look behind the option, too.
    """
    window = text[max(0, place.start - WINDOW) : place.start]
    edge = max((found.end() for found in _EDGE.finditer(window)), default=0)
    said = window[edge:]
    if _DENIED_BEFORE.search(said[-80:]):
        return True
    at = _behind_words(text, place.end, words)
    if behind and (at > place.end or text[at - 1] not in ".:") and _DENIED_BEHIND.match(text, at):
        return True
    return bool(_OTHERS.search(said)) and not _MINE.search(said)


_PRAISE: Final = (
    r"correct|right|best|accurate|appropriate|suitable|fitting|relevant|plausible|proper|likely|only|final|closest"
    r"|applicable|reasonable|logical|precise|true|preferred|comprehensive|direct"
)
_VERDICT: Final = re.compile(
    r"(?:\b(?:is|are|be|as|remains|was|seems?|appears?|being|making|makes)|(?<=[)\]]))\s"
    r"(?:to be |being )?(?:indeed |therefore |still |thus |clearly |likely |also )?"
    rf"(?:(?:the|my|our) (?:most |single |only |more )?(?:{_PRAISE}|answer)(?: and \w{{1,20}})?"
    r"|(?:correct|right|answer)\b|best(?= answer))"
    r"(?: (?:correct|valid|possible|updated|accurate|appropriate|relevant))?"
    r"(?: (answer|option|choice|selection|solution|response|conclusion|diagnosis))?",
    re.IGNORECASE,
)
_BETWEEN: Final = re.compile(r"\b(?:not|incorrect|wrong|if)\b|n't\b|\w[.?!]\s|\n")


def verdicts(text: str, named: list[Place], words: Mapping[str, str]) -> list[tuple[Place, bool]]:
    """(the option, whether it is called the answer) for each that is said to be right in its own sentence."""
    found, at = [], 0
    for verdict in _VERDICT.finditer(text):
        while at < len(named) and named[at].end <= verdict.start():
            at += 1
        if not at or verdict.start() - named[at - 1].end > WINDOW:
            continue
        place = named[at - 1]
        if not _BETWEEN.search(text[place.end : verdict.start()]) and not denied(text, place, words[place.letter]):
            found.append((Place(place.start, verdict.end(), place.letter), verdict[1] is not None))
    return found


def plain_words(text: str) -> str:
    """Words to compare: case-folded, without punctuation."""
    return " ".join(re.sub(r"[^\w%$.+-]+", " ", text.casefold()).replace(". ", " ").split()).strip(". ")
