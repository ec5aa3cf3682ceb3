"""Which option a text settles on: a letter, or None.

A text is read as a person skims it: for the places where it *states* an answer. The last statement wins, so that a
correction overrules what it corrects. Statements are

- a cue and then an option: "the answer is (C)", "Answer: C", "I choose option C", "\\boxed{C}", "(X) C" (the "(X)" of
  prompts that ask for that form, echoed);
- a cue and then the words of exactly one option, without its letter;
- an option that is called the answer: "(C) is the most accurate choice";
- an option that is a line of its own, or follows the last sentence: "… is unaffected. (C)".

Where there is none, and the text is whole, weaker signs count in this order: an option that is said to be right; one
that opens the text, or ends it; the only one that the last paragraph names; the only one that the text names.

A statement does not count where it is denied ("not (A)", "(A) is incorrect"), where it is somebody else's ("Agent 2
says (A)"), or where it only opens a list that weighs one option after the other. Two options in one statement ("(A) or
(B)") and "none of these" are statements without a letter: where the last one is such, there is no answer. A letter
counts only where it cannot be a word: "A good answer is" names nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from .marks import Place, another, cleaned, cue_before, denied, places, plain_words, verdicts, whole_line

__all__ = ["read_letter"]

_Stated = tuple[Place, str]
_PLACES_MAX: Final = 1_000
_WHOLE: Final = frozenset(".!?)]}\"'>")
_LINE: Final = re.compile(r"(?:^|(?<=\n))[ \t>+•-]{0,8}(?:\d{1,2}[.)] ?)?")
_CUE: Final = re.compile(
    r"\b(?:answer|option|choice|diagnosis|conclusion|response)\b[^.?!\n:]{0,140}?(?:\b(?:is|be|remains)\b|:)"
    r"|\b(?:therefore|thus|hence)\b[^.?!\n:]{0,160}?(?:\b(?:is|be)\b|:)"
    r"|\(X\)",
    re.IGNORECASE,
)
_LEADS: Final = ("", "the ", "a ", "an ", "that ", "indeed ", "option ", "likely ", "most likely ", "x ", "both ")
_NONE: Final = re.compile(
    r"(?:indeed |x )*(?:none of |not among |not listed|not provided|not given|cannot be |unable to |impossible to )"
)
_MARKED: Final = re.compile(r"[\s:\"'(\[>•+-]{0,12}([A-Z])[).:\]]")
_STOP: Final = re.compile(r"(?<=\w\w)[)\"']?[.!?](?=\s|$)|\n")
_PREPOSITION: Final = re.compile(
    r"\b(?:in|by|than|from|like|to|under|per|with|of|for|and|or|option|unlike)\s?$", re.IGNORECASE
)


def read_letter(text: str, options: Sequence[tuple[str, str]]) -> tuple[str | None, str]:
    """The letter and how it was found, or None and why not.

    Args:
        text: bounded by the caller. options: (letter, the option's words); the words may be empty.
    """
    clean = cleaned(text)
    return _Reader(clean, options).read() if clean else (None, "empty")


class _Reader:
    """One text, its options, and where it names them."""

    def __init__(self, text: str, options: Sequence[tuple[str, str]]) -> None:
        self.text = text
        self.words = dict(options)
        self.letters = "".join(self.words)
        every, named = places(text, self.letters)
        self.every, self.named = every[-_PLACES_MAX:], named[-_PLACES_MAX:]
        self.listed = self._listed()

    def read(self) -> tuple[str | None, str]:
        cued, hinted = self._cued()
        judged = verdicts(self.text, self.named, self.words)
        called = [(place, "verdict") for place, strong in judged if strong and not self._in_list(place)]
        stated = [*cued, *self._worded(), *called, *self._alone()]
        if stated:
            place, how = max(stated, key=lambda one: (one[0].end, -one[0].start, one[0].letter))
            return (place.letter, how) if place.letter else (None, "hedge")
        if self.text[-1] not in _WHOLE:
            return None, "cut"
        return self._hint([place for place, _ in judged], hinted)

    def _hint(self, judged: list[Place], hinted: list[Place]) -> tuple[str | None, str]:
        """The weaker signs, the first of them that names one option."""
        praised = [place for place in judged if not self._in_list(place)]
        first, last = self.named[:1], self.named[-1:]
        opening = first if first and not self.text[: first[0].start].strip("(X) \n") else []
        ending = last if last and not self.text[last[0].end :].strip(" .\"')!\n") else []
        paragraph = self.text.rfind("\n") + 1
        signs = (
            ("verdict", praised[-1:]),
            ("verdict in a list", judged),
            ("hint", hinted[-1:]),
            ("opening", [place for place in opening if not self._in_list(place)]),
            ("end", [place for place in ending if not _PREPOSITION.search(self.text[: place.start][-12:])]),
            (
                "last paragraph",
                [place for place in self.named if place.start >= paragraph and not self._in_list(place)],
            ),
            ("only one named", self.named),
            ("first sentence", self._first_sentence()),
        )
        refused = {place.letter for place in self.named if self._denied(place)}
        for how, found in signs:
            kept = {place.letter for place in found} - refused
            if len(kept) == 1 and not any(self._other(place) for place in found):
                return kept.pop(), how
        return None, "several named" if self.named else "none named"

    def _first_sentence(self) -> list[Place]:
        """The bracketed options in the text's first sentence."""
        end = _STOP.search(self.text)
        limit = min(end.start() if end else len(self.text), 400)
        return [place for place in self.named if place.end <= limit and self.text[place.start] == "("]

    def _listed(self) -> list[tuple[int, int]]:
        """(start, end) of the lines that weigh one option after the other: "A: …", "B: …"; their letters ascend."""
        starts = {place.start: place for place in self.named}
        items = [starts[line.end()] for line in _LINE.finditer(self.text) if line.end() in starts]
        found = []
        for at, item in enumerate(items):
            climbs = at + 1 < len(items) and items[at + 1].letter > item.letter
            if climbs or (at > 0 and items[at - 1].letter < item.letter):
                newline = self.text.find("\n", item.start)
                found.append((item.start, len(self.text) if newline < 0 else newline))
        return found

    def _in_list(self, place: Place) -> bool:
        at = bisect_right(self.listed, (place.start, len(self.text))) - 1
        return at >= 0 and place.start <= self.listed[at][1]

    def _opens_list(self, place: Place) -> bool:
        """Whether it stands at the start of a listed line that another one follows."""
        at = bisect_right(self.listed, (place.start, len(self.text))) - 1
        return 0 <= at < len(self.listed) - 1 and self.listed[at][0] == place.start

    def _other(self, place: Place) -> Place | None:
        return another(self.text, place, self.letters, self.words[place.letter]) if place.letter else None

    def _denied(self, place: Place, *, behind: bool = True) -> bool:
        return denied(self.text, place, self.words.get(place.letter, ""), behind=behind)

    def _cued(self) -> tuple[list[_Stated], list[Place]]:
        """(statements, what only something leads up to)."""
        strong, weak = [], []
        for place in self.every:
            cue = cue_before(self.text, place)
            if cue is None or self._opens_list(place) or self._denied(place, behind=not cue.linked):
                continue
            if cue.echoed and "X" in self.letters:
                continue
            if cue.strong:
                other = self._other(place)
                if other is None or not self._denied(other):
                    strong.append((other or place, "cue"))
            else:
                weak.append(place)
        return strong, weak

    def _worded(self) -> list[_Stated]:
        """Cues that the words of one option follow, or that say "none of these"."""
        plain = {letter: plain_words(words) for letter, words in self.words.items()}
        known = [(words, letter) for letter, words in plain.items() if len(words) > 1]
        found = []
        for cue in _CUE.finditer(self.text):
            marked = _MARKED.match(self.text, cue.end())
            if (cue[0] == "(X)" and "X" in self.letters) or (marked and marked[1] in self.letters):
                continue
            said = plain_words(self.text[cue.end() : cue.end() + 400])
            here = Place(cue.start(), cue.end(), "")
            hits = [(len(words), letter) for words, letter in known if _opens(said, words)]
            if hits and not self._in_list(here) and not self._denied(Place(cue.end(), cue.end(), "")):
                longest = max(hits)[0]
                best = [letter for length, letter in hits if length == longest]
                tail = said[said.find(plain[best[0]]) + longest :]
                joined = any(_opens(tail.strip(), f"{word} {words}") for word in ("and", "or") for words, _ in known)
                found.append((Place(cue.start(), cue.end() + 1, "" if joined or len(best) > 1 else best[0]), "words"))
            elif not hits and _NONE.match(said):
                found.append((Place(cue.start(), cue.end() + 1, ""), "none of these"))
        return found

    def _alone(self) -> list[_Stated]:
        """Options that are a line of their own, and the one behind the last sentence."""
        found, start = [], 0
        for line in self.text.split("\n"):
            if 0 < len(line) <= 24 and line[-1] not in ":,":
                bare = (line if "X" in self.letters else line.replace("(X)", "")).strip(" ()[]\"'.;-=<>")
                if len(bare) == 1 and bare.upper() in self.letters:
                    found.append((Place(start, start + len(line), bare.upper()), "line"))
            start += len(line) + 1
        found += [
            (place, "line")
            for place in self.named
            if not self._in_list(place) and whole_line(self.text, place, self.words[place.letter])
        ]
        last = self.named[-1] if self.named else None
        if last is not None and not self.text[last.end :].strip(" .\"')!\n"):
            before = self.text[max(0, last.start - 12) : last.start].rstrip(" (")
            follows = not before or before[-1] in '.!?\n:")' or before.endswith("(X")
            if follows and not self._denied(last):
                found.append((self._other(last) or last, "end"))
        return found


def _opens(said: str, words: str) -> bool:
    """Whether what was said begins with an option's words, up to an article or two."""
    for lead in _LEADS:
        if said.startswith(lead + words):
            rest = said[len(lead) + len(words) :]
            return not rest or not rest[0].isalnum()
    return False
