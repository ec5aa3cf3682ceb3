"""A suggested patch: one file's unified diff, read strictly, written anew, and merged with others.

The rules:

1. A suggestion changes one file that exists, and names it on both sides (`a/` and `b/` are optional). It creates,
   deletes, renames and copies nothing, changes no mode, and is no binary patch.
2. Its hunks are in order and do not overlap; each has as many lines as its header promises. The old side's line number
   counts; the new side's follows from it, and is written anew.
3. It is not applied here: whether it fits is for the effect that applies patches to say (effects/patch.py).
4. Suggestions for the same state of one file *merge* where none touches a line that another removes, adds or stands
   next to; the first in the caller's order wins, and a later one that collides is named, never bent.

Lines keep their line end; only a file's last line may lack one. A patch is a stranger's text: what it cannot be is a
`PlanError` that says where.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import PlanError

__all__ = [
    "PATCH_CHARS_MAX",
    "Hunk",
    "file_lines",
    "merge_hunks",
    "read_hunks",
    "write_patch",
]

PATCH_CHARS_MAX: Final = 16 * 1024
"""Characters of one suggested patch."""

_HUNK: Final = re.compile(r"@@ -(\d{1,8})(?:,(\d{1,8}))? \+(\d{1,8})(?:,(\d{1,8}))? @@(?: .*)?", re.ASCII)
_INDEX: Final = re.compile(r"index [0-9a-f]{4,64}\.\.[0-9a-f]{4,64}(?: 100(?:644|755))?", re.ASCII)
_NO_NEWLINE: Final = "\\ No newline at end of file"


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines in their place.

    Attributes:
        at: how many of the old file's lines stand before.
        lines: (op, text), op one of " ", "-", "+".
    """

    at: int
    lines: tuple[tuple[str, str], ...]

    @property
    def old(self) -> tuple[str, ...]:
        """The old side's lines."""
        return tuple(text for op, text in self.lines if op != "+")

    @property
    def new(self) -> tuple[str, ...]:
        """The new side's lines."""
        return tuple(text for op, text in self.lines if op != "-")

    @property
    def end(self) -> int:
        """The old file's first line (0-based) behind the hunk."""
        return self.at + len(self.old)


def file_lines(text: str) -> tuple[str, ...]:
    """A text's lines with their `\\n`, which is the only line end; the last may lack it."""
    parts = text.split("\n")
    last = parts.pop()
    return (*(f"{part}\n" for part in parts), *((last,) if last else ()))


def read_hunks(patch: str, path: str) -> tuple[Hunk, ...]:
    """The hunks of a suggested patch of `path`. Raises PlanError naming the line and what is wrong there."""
    if len(patch) > PATCH_CHARS_MAX:
        raise _refused(f"the patch has {len(patch)} characters, the limit is {PATCH_CHARS_MAX}")
    if "\0" in patch:
        raise _refused("the patch holds a NUL character: it is no text")
    lines = patch.split("\n")
    if not lines[-1]:
        lines.pop()
    at = _read_header(lines, path)
    hunks: list[Hunk] = []
    while at < len(lines):
        hunk, at = _read_hunk(lines, at)
        if hunks and hunk.at < hunks[-1].end:
            raise _refused(f"hunk {len(hunks) + 1} starts before the one above ends")
        hunks.append(hunk)
    if not hunks:
        raise _refused("the patch has no hunk (`@@ -a,b +c,d @@`)")
    return tuple(hunks)


def _refused(why: str) -> PlanError:
    return PlanError(why, step=None)


def _read_header(lines: Sequence[str], path: str) -> int:
    """The index of the line behind the two names."""
    at = 0
    if at < len(lines) and lines[at].startswith("diff --git "):
        if lines[at] not in (f"diff --git a/{path} b/{path}", f"diff --git {path} {path}"):
            raise _refused(f"line {at + 1} of the patch names another file than {path}")
        at += 1
        if at < len(lines) and _INDEX.fullmatch(lines[at]):
            at += 1
    names = tuple(line[4:].split("\t")[0] for line in lines[at : at + 2])
    if len(names) < 2 or not lines[at].startswith("--- ") or not lines[at + 1].startswith("+++ "):
        shown = lines[at][:60] if at < len(lines) else "the end"
        raise _refused(
            f"line {at + 1} of the patch: {shown!r} where `--- a/{path}` and `+++ b/{path}` must stand; a suggested "
            "patch changes text, and neither modes nor names"
        )
    if "/dev/null" in names:
        raise _refused("the patch creates or deletes a file; a suggestion changes one that is there")
    if names[0] not in (path, f"a/{path}") or names[1] not in (path, f"b/{path}"):
        raise _refused(f"the patch is of {names[0][:120]!r} and {names[1][:120]!r}, not of {path}")
    return at + 2


def _read_hunk(lines: Sequence[str], at: int) -> tuple[Hunk, int]:
    header = _HUNK.fullmatch(lines[at])
    if header is None:
        raise _refused(f"line {at + 1} of the patch: {lines[at][:60]!r} is no hunk header (`@@ -a,b +c,d @@`)")
    start, old, new = (int(header.group(group) or "1") for group in (1, 2, 4))
    if old and not start:
        raise _refused(f"line {at + 1} of the patch: a hunk with old lines starts at line 1 or behind, not at 0")
    place = start - 1 if old else start
    first, body = at + 1, list[tuple[str, str]]()
    at += 1
    while old > 0 or new > 0:
        op, text = _body_line(lines, at)
        old, new = old - (op != "+"), new - (op != "-")
        if old < 0 or new < 0:
            raise _refused(f"line {at + 1} of the patch: the hunk at line {first} has more lines than it promises")
        at += 1
        if at < len(lines) and lines[at].startswith("\\"):
            text, at = text.removesuffix("\n"), at + 1
        body.append((op, text))
    if all(op == " " for op, _ in body):
        raise _refused(f"line {first} of the patch: the hunk changes nothing")
    return Hunk(place, tuple(body)), at


def _body_line(lines: Sequence[str], at: int) -> tuple[str, str]:
    if at >= len(lines):
        raise _refused("the patch is cut short: its last hunk has fewer lines than it promises")
    line = lines[at] or " "  # an empty context line that lost its blank, as mail and chat make of it
    if line[0] not in " -+":
        raise _refused(f"line {at + 1} of the patch: {line[:60]!r} is neither context, removed nor added")
    return line[0], f"{line[1:]}\n"


def write_patch(path: str, hunks: Sequence[Hunk]) -> str:
    """The hunks as a unified diff of `path`, with the numbers of the new side as they follow."""
    out = [f"--- a/{path}\n+++ b/{path}\n"]
    shift = 0
    for hunk in hunks:
        old, new = len(hunk.old), len(hunk.new)
        start = hunk.at + (1 if old else 0)
        behind = hunk.at + shift + (1 if new else 0)
        out.append(f"@@ -{start},{old} +{behind},{new} @@\n")
        out += (f"{op}{text}" if text.endswith("\n") else f"{op}{text}\n{_NO_NEWLINE}\n" for op, text in hunk.lines)
        shift += new - old
    return "".join(out)


# --- merge


@dataclass(frozen=True, slots=True)
class _Edit:
    at: int
    removed: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def end(self) -> int:
        return self.at + len(self.removed)


def merge_hunks(patches: Mapping[str, Sequence[Hunk]]) -> tuple[tuple[Hunk, ...], dict[str, str]]:
    """Patches of the same state of one file as one patch.

    Args:
        patches: hunks by name; the mapping's order says who comes first.

    Returns:
        The merged hunks, and by name the earlier patch that a left-out one collides with.
    """
    taken: list[tuple[_Edit, str]] = []
    kept: list[Hunk] = []
    collided: dict[str, str] = {}
    for name, hunks in patches.items():
        edits = [edit for hunk in hunks for edit in _edits(hunk)]
        other = next((by for edit in edits for held, by in taken if _touch(edit, held)), None)
        if other is not None:
            collided[name] = other
            continue
        taken += [(edit, name) for edit in edits]
        kept += hunks
    return tuple(_clusters(kept, sorted((edit for edit, _ in taken), key=lambda edit: edit.at))), collided


def _touch(one: _Edit, two: _Edit) -> bool:
    return one.at <= two.end and two.at <= one.end


def _edits(hunk: Hunk) -> Iterator[_Edit]:
    at, start = hunk.at, hunk.at
    removed: list[str] = []
    added: list[str] = []
    for op, text in (*hunk.lines, (" ", "")):
        if op == "-":
            removed.append(text)
        elif op == "+":
            added.append(text)
        else:
            if removed or added:
                yield _Edit(start, tuple(removed), tuple(added))
                removed, added = [], []
            start = at + 1
        at += op != "+"


def _clusters(hunks: Sequence[Hunk], edits: Sequence[_Edit]) -> Iterator[Hunk]:
    """Hunks whose ranges meet become one; between them every line is known, for one of them shows it."""
    spans: list[list[int]] = []
    known: dict[int, str] = {}
    for hunk in sorted(hunks, key=lambda hunk: (hunk.at, hunk.end)):
        known.update(enumerate(hunk.old, start=hunk.at))
        if spans and hunk.at <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], hunk.end)
        else:
            spans.append([hunk.at, hunk.end])
    for low, high in spans:
        lines: list[tuple[str, str]] = []
        at = low
        for edit in (edit for edit in edits if low <= edit.at <= high):
            lines += [(" ", known[place]) for place in range(at, edit.at)]
            lines += [("-", text) for text in edit.removed]
            lines += [("+", text) for text in edit.added]
            at = edit.end
        lines += [(" ", known[place]) for place in range(at, high)]
        yield Hunk(low, tuple(lines))
