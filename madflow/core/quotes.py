"""Where a quote stands in a changed file.

Quotes are compared after whitespace normalisation: every run of white space is one blank, ends are trimmed. A quote
may be part of a line if it is at least eight characters long; a shorter one must be the whole line, for "x" is in
every file. A quote of several lines must match as many consecutive lines. A leading `+`, `-` or blank that a seat
copied from the diff's margin is dropped where the quote is not found as it is. Of several places the nearest to the
claimed line is taken, the earlier one of two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .messages import TaskFile

__all__ = ["Found", "NewSide"]

PARTIAL_CHARS_MIN = 8
QUOTE_LINES_MAX = 40  # of a longer quote only these are compared: each costs a scan of the file
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")


@dataclass(frozen=True, slots=True)
class Found:
    """A quote's place: a line of the new side; `removed`: the line that the change removes just before or at it."""

    line: int
    removed: bool = False


def _flat(text: str) -> str:
    return " ".join(text.split())


class NewSide:
    """The lines of a file's new side: all of them where its text is known, else those that the diff shows."""

    def __init__(self, file: TaskFile) -> None:
        self.readable = bool(file.text is not None or file.diff) and not file.binary
        self.changed = frozenset(file.added)
        self.whole = file.text is not None
        self.removed: list[tuple[int, str]] = []
        self.lines: dict[int, str] = {}
        self._read_diff(file.diff)
        if file.text is not None:
            self.lines = {number: _flat(line) for number, line in enumerate(file.text.split("\n"), start=1)}
            if self.lines and not self.lines[len(self.lines)]:
                del self.lines[len(self.lines)]  # what follows the last newline is no line
        self.last = max(self.lines, default=0)

    def _read_diff(self, diff: str) -> None:
        number = 0  # no hunk yet: header lines
        for line in diff.split("\n"):
            hunk = _HUNK.match(line)
            if hunk:
                number = max(int(hunk.group(1)), 1)
            elif number and line[:1] in ("+", " "):
                self.lines[number] = _flat(line[1:])
                number += 1
            elif number and line[:1] == "-":
                self.removed.append((number, _flat(line[1:])))

    def beyond(self, line: int) -> bool:
        """Whether the file is known not to have this line."""
        return self.whole and line > self.last

    def find(self, quote: str, line: int) -> Found | None:
        """The quote's place nearest to `line`, new lines before removed ones; None where it is nowhere."""
        bare = "\n".join(part[1:] if part[:1] in ("+", "-", " ") else part for part in quote.strip("\n").split("\n"))
        for text in dict.fromkeys((quote, bare)):
            wanted = [_flat(part) for part in text.strip().split("\n")[:QUOTE_LINES_MAX]]
            if not any(wanted):
                continue
            place = self._nearest(wanted, sorted(self.lines.items()), line)
            if place is not None:
                return Found(place)
            place = self._nearest(wanted, self.removed, line)
            if place is not None:
                return Found(min(place, self.last) if self.last else place, removed=True)
        return None

    @staticmethod
    def _nearest(wanted: list[str], lines: list[tuple[int, str]], line: int) -> int | None:
        flat, height = _flat(" ".join(wanted)), len(wanted)
        part = len(flat) >= PARTIAL_CHARS_MIN
        best: int | None = None
        for index, (number, text) in enumerate(lines):
            if best is not None and abs(number - line) >= abs(best - line):
                continue
            here = text if height == 1 else _flat(" ".join(item for _, item in lines[index : index + height]))
            if flat == here or (part and flat in here):
                best = number
        return best
