"""A unified diff as data: `read_patches(text)`.

File headers are read here, hunks by unidiff. unidiff 1.0 does not read git's quoted paths (its issues 81, 89 and 119),
takes a removed line `-- x` or a mail's signature for a header in places, and does not say in which line a hunk is
wrong; so the diff is cut into files by counting the lines that each hunk's header promises, and unidiff sees one
file's hunks at a time, under plain names. Lines end at `\\n` only: a form feed, U+0085, U+2028 or a lone `\\r` inside a
line is part of it.

What stands between files (a commit's message, a mail's header, `Index:` lines) is no part of the change and is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchSet

from ..errors import TaskError

__all__ = ["FilePatch", "Hunk", "read_patches"]

_HUNK = re.compile(r"^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(.*)$")
_BASE85 = re.compile(r"^(?:(?:literal|delta) \d+|[A-Za-z][!-~]{0,70})\r?$")
_EPOCH = re.compile(r"\t(?:1970-01-01|1969-12-31)")  # how diff -N dates the side that does not exist
_MODES = ("old mode ", "new mode ", "deleted file mode ", "new file mode ")
_MOVES = {"rename from ": "old", "copy from ": "old", "rename to ": "new", "copy to ": "new"}
_OTHER = ("similarity index ", "dissimilarity index ", "index ")
_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
_NULL = "/dev/null"


@dataclass(frozen=True, slots=True)
class Hunk:
    """One hunk. `lines` are (op, text), op one of " ", "+", "-"; starts are 1-based, 0 where that side is empty."""

    old_start: int
    new_start: int
    section: str
    lines: tuple[tuple[str, str], ...]
    at: int

    @property
    def old(self) -> list[str]:
        """The old side's lines."""
        return [text for op, text in self.lines if op != "+"]

    @property
    def new(self) -> list[str]:
        """The new side's lines."""
        return [text for op, text in self.lines if op != "-"]

    @property
    def added(self) -> list[int]:
        """Numbers of the added lines on the new side."""
        number, found = max(self.new_start, 1), []
        for op, _ in self.lines:
            if op == "+":
                found.append(number)
            if op != "-":
                number += 1
        return found


@dataclass(slots=True)
class FilePatch:
    """One file of a diff. `old`, `new`: its paths, None where that side does not exist; `at`: line of its header."""

    at: int
    old: str | None = None
    new: str | None = None
    mode: str = ""
    binary: bool = False
    header: list[str] = field(default_factory=list)
    hunks: list[Hunk] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The new path, or the old one of a deleted file."""
        return self.new or self.old or ""


def read_patches(text: str) -> list[FilePatch]:
    """The files of a unified diff, in its order.

    Raises:
        TaskError: not a unified diff, a combined or context diff, a malformed hunk; the message names the line.
    """
    return _Scan(text).files()


class _Scan:
    """One pass over the lines of a diff."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        if self.lines and not self.lines[-1]:
            self.lines.pop()
        if any(line.endswith("\r") and line.startswith(("diff --git ", "+++ ", "@@ -")) for line in self.lines[:2000]):
            self.lines = [line.removesuffix("\r") for line in self.lines]  # the diff itself went through a CRLF editor
        self.at = 0

    def line(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.lines[place] if place < len(self.lines) else ""

    def files(self) -> list[FilePatch]:
        found: list[FilePatch] = []
        while self.at < len(self.lines):
            line = self.line()
            if line.startswith(("diff --cc ", "diff --combined ", "@@@ ")):
                raise TaskError(
                    f"line {self.at + 1} of the diff: {line[:80]!r} opens a combined diff of a merge, which has "
                    "several old sides; make a two-sided one, e.g. git diff main...HEAD"
                )
            if line.startswith("diff --git "):
                found.append(self.git_file())
            elif self.plain_header():
                found.append(self.plain_file(FilePatch(at=self.at + 1)))
            elif line.startswith("Binary files ") and line.endswith(" differ"):
                found.append(self.binary_file())
            elif _HUNK.match(line):
                raise TaskError(
                    f"line {self.at + 1} of the diff: a hunk without a file header; the lines `--- old` and `+++ new` "
                    "must stand before it"
                )
            elif line.startswith("@@"):
                raise TaskError(
                    f"line {self.at + 1} of the diff: {line[:80]!r} is no hunk header (`@@ -a,b +c,d @@`); make the "
                    "diff again"
                )
            elif line.startswith("***************") and self.line(1).startswith("*** "):
                raise TaskError(f"line {self.at + 1} of the diff: a context diff; make a unified one with diff -u")
            else:
                self.at += 1
        return found

    def plain_header(self) -> bool:
        return self.line().startswith("--- ") and self.line(1).startswith("+++ ")

    def git_file(self) -> FilePatch:
        patch = FilePatch(at=self.at + 1)
        patch.old, patch.new = _git_names(self.line()[len("diff --git ") :], self.at + 1)
        self.at += 1
        while self.at < len(self.lines):
            line = self.line()
            move = next((prefix for prefix in _MOVES if line.startswith(prefix)), "")
            if move:
                setattr(patch, _MOVES[move], _unquoted(line[len(move) :], self.at + 1))
            elif line.startswith(_MODES):
                patch.mode = line.rsplit(" ", 1)[1] if not line.startswith("old") else patch.mode
                if line.startswith("new file"):
                    patch.old = None
                elif line.startswith("deleted"):
                    patch.new = None
            elif line.startswith("index "):
                patch.mode = patch.mode or (line.split(" ")[2] if line.count(" ") == 2 else "")
            elif line.startswith("GIT binary patch") or (line.startswith("Binary files ") and line.endswith(" differ")):
                patch.binary = True
                self.skip_binary()
                return patch
            elif not line.startswith(_OTHER):
                break
            if not line.startswith("index ") and not move:
                patch.header.append(line)
            self.at += 1
        return self.plain_file(patch) if self.plain_header() else patch

    def skip_binary(self) -> None:
        self.at += 1
        if self.line(-1).startswith("Binary"):
            return
        while self.at < len(self.lines) and (not self.line().strip() or _BASE85.match(self.line())):
            self.at += 1

    def binary_file(self) -> FilePatch:
        old, _, new = self.line()[len("Binary files ") : -len(" differ")].partition(" and ")
        patch = FilePatch(at=self.at + 1, binary=True)
        patch.old, patch.new = _sides(old, new, self.at + 1)
        self.at += 1
        return patch

    def plain_file(self, patch: FilePatch) -> FilePatch:
        git = bool(patch.path)
        old, new = _sides(self.line()[4:], self.line(1)[4:], self.at + 1)
        if git and ((old and patch.old and old != patch.old) or (new and patch.new and new != patch.new)):
            raise TaskError(
                f"line {self.at + 1} of the diff: the names {old!r} and {new!r} are not those of the header at line "
                f"{patch.at} ({patch.old!r}, {patch.new!r}); make the diff again with git diff"
            )
        if not git:
            old, new = _stripped(old, new)
            old = None if _EPOCH.search(self.line()) else old
            new = None if _EPOCH.search(self.line(1)) and old else new
        patch.old, patch.new = old, new
        self.at += 2
        first = self.at
        while _HUNK.match(self.line()) and self.at < len(self.lines):
            self.skip_hunk(patch.path)
        if self.at == first:
            raise TaskError(f"line {first + 1} of the diff: {patch.path}: no hunk (`@@ -a,b +c,d @@`) after the header")
        patch.hunks = _hunks(self.lines[first : self.at], patch.path, first + 1)
        return patch

    def skip_hunk(self, path: str) -> None:
        start = self.at + 1
        header = _HUNK.match(self.line())
        if header is None:
            raise TaskError(f"line {start} of the diff: {path}: no hunk header")
        want_old, want_new = (int(header.group(group) or "1") for group in (2, 4))
        old, new = want_old, want_new
        self.at += 1
        while old > 0 or new > 0:
            op = self.line()[:1] if self.at < len(self.lines) else "end"
            if op not in ("", "\r", " ", "+", "-", "\\", "end") or op == "end" or old < 0 or new < 0:
                break
            old -= op in ("", "\r", " ", "-")
            new -= op in ("", "\r", " ", "+")
            self.at += 1
        if old or new:
            raise TaskError(
                f"line {self.at + 1} of the diff: {path}: the hunk at line {start} promises {want_old} old and "
                f"{want_new} new lines, but has {want_old - old} and {want_new - new} here; the diff is cut short or "
                "was edited: make it again"
            )
        if self.line().startswith("\\"):
            self.at += 1
        follows = self.line()
        if follows.startswith(("+", " ")) or (follows.startswith("-") and not self.is_end(follows)):
            raise TaskError(
                f"line {self.at + 1} of the diff: {path}: the hunk at line {start} has more lines than the {want_old} "
                f"old and {want_new} new ones it promises; the diff was edited: make it again"
            )

    def is_end(self, line: str) -> bool:
        return self.plain_header() or line in ("-- ", "--", "-- \r")


def _hunks(lines: list[str], path: str, at: int) -> list[Hunk]:
    marked = ["\\ No newline at end of file" if line.startswith("\\") else line for line in lines]
    text = "--- a/file\n+++ b/file\n" + "".join(f"{line}\n" for line in marked)
    try:
        parsed = PatchSet(text)[0]
    except UnidiffParseError as error:
        raise TaskError(f"line {at} of the diff: {path}: its hunks do not parse: {error}") from error
    _in_order(parsed, path, at)
    starts = [at + index for index, line in enumerate(lines) if _HUNK.match(line)]
    return [
        Hunk(
            old_start=hunk.source_start,
            new_start=hunk.target_start,
            section=hunk.section_header.strip(),
            lines=tuple(
                ("+" if line.is_added else "-" if line.is_removed else " ", line.value.removesuffix("\n"))
                for line in hunk
                if line.is_added or line.is_removed or line.is_context
            ),
            at=start,
        )
        for hunk, start in zip(parsed, starts, strict=True)
    ]


def _in_order(hunks: Iterable[Any], path: str, at: int) -> None:
    end = 0
    for hunk in hunks:
        if hunk.target_start < end:
            raise TaskError(
                f"line {at} of the diff: {path}: the hunk for new line {hunk.target_start} starts before the one above "
                f"ends (line {end - 1}); the diff was edited: make it again"
            )
        end = hunk.target_start + hunk.target_length


def _sides(old: str, new: str, at: int) -> tuple[str | None, str | None]:
    before, after = (_bare(_unquoted(name.split("\t")[0].rstrip("\r"), at)) for name in (old, new))
    # Prefixes come in pairs; a name that only happens to start with `a/` keeps it.
    pairs = (("a/", "b/"), ("b/", "a/"), ("i/", "w/"), ("c/", "i/"), ("c/", "w/"), ("o/", "w/"), ("1/", "2/"))
    for left, right in pairs:
        if all(name == _NULL or name.startswith(prefix) for name, prefix in ((before, left), (after, right))):
            before, after = (name if name == _NULL else name[2:] for name in (before, after))
            break
    return (None if before == _NULL else before), (None if after == _NULL else after)


def _stripped(old: str | None, new: str | None) -> tuple[str | None, str | None]:
    # diff -ru before after: the first folders differ, the rest is the path.
    if old and new and old != new and old.partition("/")[2] and old.partition("/")[2] == new.partition("/")[2]:
        return old.partition("/")[2], new.partition("/")[2]
    return old, new


def _bare(name: str) -> str:
    return name[2:] if name.startswith("./") else name


def _git_names(rest: str, at: int) -> tuple[str | None, str | None]:
    if rest.startswith('"'):
        end = re.match(r'"(?:[^"\\]|\\.)*"', rest)
        if end:
            return _sides(end.group(), rest[end.end() :].strip(), at)
    elif rest.endswith('"') and ' "' in rest:
        old, _, new = rest.partition(' "')
        return _sides(old, '"' + new, at)
    # Unquoted names may hold blanks: both halves name the same file, or it is renamed and later lines say so.
    middle = len(rest) // 2
    if (
        len(rest) % 2
        and rest[middle] == " "
        and rest[:middle].partition("/")[2] == rest[middle + 1 :].partition("/")[2]
    ):
        return _sides(rest[:middle], rest[middle + 1 :], at)
    if len(rest) % 2 and rest[middle] == " " and rest[:middle] == rest[middle + 1 :]:
        return _sides(rest[:middle], rest[middle + 1 :], at)
    old, _, new = rest.partition(" b/") if " b/" in rest else rest.partition(" ")
    return _sides(old, f"b/{new}" if " b/" in rest else new, at)


def _unquoted(name: str, at: int) -> str:
    """git's C-style quoting undone: `"\\346\\226.py"` → UTF-8."""
    name = name.rstrip("\r")
    if not (len(name) >= 2 and name.startswith('"') and name.endswith('"')):
        return name
    out, rest = bytearray(), name[1:-1]
    for part in re.finditer(r"\\([0-7]{3})|\\(.)|([^\\]+)", rest, re.DOTALL):
        octal, escape, plain = part.groups()
        if octal:
            out.append(int(octal, 8) & 255)
        elif escape:
            if escape not in _ESCAPES:
                raise TaskError(f"line {at} of the diff: {name}: the path has an unknown escape \\{escape}")
            out.append(_ESCAPES[escape])
        else:
            out += plain.encode()
    try:
        return out.decode()
    except UnicodeDecodeError as error:
        raise TaskError(
            f"line {at} of the diff: the path {name} is not UTF-8 (byte {error.start}); rename the file first"
        ) from error
