"""Large reviews in parts: which files, or which hunks of a file, are read together.

Files keep their order. A part is filled until the next file does not fit; a file that fits no part is cut at its
hunks; a hunk that fits no part is left out. What comes after the last allowed part is left out too. Nothing is
dropped without a reason, and the reasons are data for the review's coverage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..core.messages import Task, TaskFile
from ..errors import ConfigError

__all__ = ["LeftOut", "Part", "Parts", "diff_chars", "split"]

FILE_OVERHEAD_CHARS = 200
"""What a file costs beside its diff: its path and its fence."""

_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file, or some hunks of it (first new line, last new line), that no part holds."""

    path: str
    reason: str
    hunks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Files that are read together. A file that was cut has a diff and `added` of some of its hunks only."""

    index: int
    files: tuple[TaskFile, ...]
    chars: int

    def of(self, task: Task) -> Task:
        """The task as this part's readers see it: same id, question and context, these files."""
        return task.model_copy(update={"files": self.files})


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a task and what they leave out."""

    parts: tuple[Part, ...]
    left_out: tuple[LeftOut, ...]

    def data(self) -> dict[str, Any]:
        """As plain JSON: `{"parts": [{"part", "files", "chars"}], "left_out": [{"file", "reason", "hunks"}]}`."""
        return {
            "parts": [
                {"part": part.index, "files": [file.path for file in part.files], "chars": part.chars}
                for part in self.parts
            ],
            "left_out": [
                {"file": item.path, "reason": item.reason, "hunks": [list(hunk) for hunk in item.hunks]}
                for item in self.left_out
            ],
        }

    def unread(self) -> dict[str, str]:
        """Path → reason, of files that no part holds even in part."""
        held = {file.path for part in self.parts for file in part.files}
        return {item.path: item.reason for item in self.left_out if item.path not in held}


def diff_chars(file: TaskFile) -> int:
    """What a file costs in a prompt that shows its diff."""
    return len(file.diff) + len(file.path) + FILE_OVERHEAD_CHARS


def split(
    task: Task, max_chars_per_part: int, max_parts: int, *, cost: Callable[[TaskFile], int] = diff_chars
) -> Parts:
    """Split a task's files into parts.

    Args:
        max_chars_per_part: limit of the summed `cost` of a part's files; at least 1,000.
        max_parts: limit of the number of parts; at least 1.
        cost: characters that a file takes in a prompt.

    Raises:
        ConfigError: a limit is too small.
    """
    if max_chars_per_part < 1_000 or max_parts < 1:
        raise ConfigError(
            f"a review's parts need at least 1,000 characters each and at least one part; got {max_chars_per_part} "
            f"characters and {max_parts} parts; raise the budget"
        )
    filling = _Filling(max_chars_per_part, max_parts, cost)
    for file in task.files:
        if file.left_out or file.binary:
            filling.leave(file, file.left_out or "binary", ())
        elif cost(file) <= max_chars_per_part:
            filling.place(file)
        else:
            _place_hunks(file, filling)
    filling.close()
    merged: dict[tuple[str, str], LeftOut] = {}
    for item in filling.left_out:
        key = (item.path, item.reason)
        known = merged.get(key)
        merged[key] = LeftOut(item.path, item.reason, (known.hunks if known else ()) + item.hunks)
    return Parts(tuple(filling.parts), tuple(merged.values()))


@dataclass(slots=True)
class _Filling:
    chars_max: int
    parts_max: int
    cost: Callable[[TaskFile], int]
    parts: list[Part] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    files: list[TaskFile] = field(default_factory=list)
    chars: int = 0

    def place(self, file: TaskFile, hunks: tuple[tuple[int, int], ...] = ()) -> None:
        chars = self.cost(file)
        if self.files and self.chars + chars > self.chars_max:
            self.close()
        if len(self.parts) >= self.parts_max:
            self.leave(file, f"beyond the limit of {self.parts_max} parts of {self.chars_max} characters", hunks)
            return
        self.files.append(file)
        self.chars += chars

    def close(self) -> None:
        if self.files:
            self.parts.append(Part(len(self.parts), tuple(self.files), self.chars))
        self.files, self.chars = [], 0

    def leave(self, file: TaskFile, reason: str, hunks: tuple[tuple[int, int], ...]) -> None:
        self.left_out.append(LeftOut(file.path, reason, hunks))


def _place_hunks(file: TaskFile, filling: _Filling) -> None:
    """Cut a file at its hunks, as many in a piece as fit."""
    head, hunks = _hunks(file.diff)
    if not hunks:
        filling.leave(
            file, f"{filling.cost(file)} characters, the limit is {filling.chars_max}, and no hunk to cut at", ()
        )
        return
    held: list[tuple[tuple[int, int], str]] = []
    for hunk in hunks:
        if held and filling.cost(_piece(file, head, [*held, hunk])) > filling.chars_max:
            filling.place(_piece(file, head, held), tuple(span for span, _ in held))
            held = []
        chars = filling.cost(_piece(file, head, [hunk]))
        if chars > filling.chars_max:
            filling.leave(file, f"a hunk of more than the {filling.chars_max} characters of a part", (hunk[0],))
            continue
        held.append(hunk)
    if held:
        filling.place(_piece(file, head, held), tuple(span for span, _ in held))


def _piece(file: TaskFile, head: str, hunks: list[tuple[tuple[int, int], str]]) -> TaskFile:
    added = tuple(line for line in file.added if any(first <= line <= last for (first, last), _ in hunks))
    return file.model_copy(update={"diff": head + "".join(text for _, text in hunks), "added": added})


def _hunks(diff: str) -> tuple[str, list[tuple[tuple[int, int], str]]]:
    """The diff's header, and each hunk's span on the new side and text."""
    head = "".join(line for line in _until_hunk(diff))
    found: list[tuple[tuple[int, int], list[str]]] = []
    for line in diff[len(head) :].split("\n"):
        opened = _HUNK.match(line)
        if opened:
            start, count = int(opened.group(1)), int(opened.group(2) or "1")
            found.append(((max(start, 1), max(start + count - 1, start, 1)), [f"{line}\n"]))
        elif line:
            found[-1][1].append(f"{line}\n")
    return head, [(span, "".join(lines)) for span, lines in found]


def _until_hunk(diff: str) -> Iterator[str]:
    for line in diff.split("\n"):
        if _HUNK.match(line):
            return
        if line:
            yield f"{line}\n"
