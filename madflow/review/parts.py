"""Large reviews in parts: which files are read together, under a budget of characters.

Files keep their order. Each goes into the first part that has room for it; one that is larger than a part, or that
finds no room in the last allowed part, is left out. Nothing is dropped without a reason: the reason becomes the
file's `left_out`, which is what the review's coverage tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..core.messages import Task, TaskFile
from ..errors import ConfigError

__all__ = ["PART_CHARS_MIN", "Parts", "diff_chars", "split"]

PART_CHARS_MIN = 1_000
FILE_OVERHEAD_CHARS = 200
"""What a file costs beside its diff: its path and its fence."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A task in parts.

    Attributes:
        task: the task, with `left_out` set on files that no part holds.
        paths: the files of each part; every file that is not left out is in exactly one.
        chars: what each part costs.
    """

    task: Task
    paths: tuple[tuple[str, ...], ...]
    chars: tuple[int, ...]


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
    if max_chars_per_part < PART_CHARS_MIN or max_parts < 1:
        raise ConfigError(
            f"a review needs at least one part of at least {PART_CHARS_MIN} characters (parts={max_parts}, "
            f"characters={max_chars_per_part}); raise the budget"
        )
    held: list[list[str]] = []
    chars: list[int] = []
    files: list[TaskFile] = []
    for file in task.files:
        reason = file.left_out or ("binary" if file.binary else "")
        size = cost(file)
        if not reason and size > max_chars_per_part:
            reason = f"its diff takes {size:,} characters, a part has {max_chars_per_part:,}"
        place = -1 if reason else _room(chars, size, max_chars_per_part, max_parts)
        if place == len(held):
            held.append([])
            chars.append(0)
        if place >= 0:
            held[place].append(file.path)
            chars[place] += size
        elif not reason:
            reason = f"no room left in {max_parts} part(s) of {max_chars_per_part:,} characters"
        files.append(file if reason == file.left_out else file.model_copy(update={"left_out": reason}))
    return Parts(task.model_copy(update={"files": tuple(files)}), tuple(map(tuple, held)), tuple(chars))


def _room(chars: list[int], size: int, limit: int, parts_max: int) -> int:
    """The first part with room, a new one's index, or -1."""
    for place, taken in enumerate(chars):
        if taken + size <= limit:
            return place
    return len(chars) if len(chars) < parts_max else -1
