"""Reading recordings with several processes: most of the time goes into reading answers out of texts.

Lines are checked here, file by file, so that what is wrong with a file is told before the long work. Their replies are
then read in parts, several at once, also those of one file. The rows do not depend on the number of processes, nor on
which part is done first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from .load import ROWS_MAX, parts_of, rows_of, understood
from .pool import Progress, each

if TYPE_CHECKING:
    from .load import Part, Row, Understood

__all__ = ["load_files"]

_WORTH_MORE_PROCESSES: Final = 4  # parts; starting a process takes as long as reading two or three
_Job: TypeAlias = "tuple[int, int, Part]"  # file, part of it, what is to be read


def load_files(
    paths: Sequence[Path],
    workers: int = 1,
    *,
    scored: bool = True,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> list[list[Row]]:
    """The rows of each file, in the order of `paths`.

    Args:
        workers: processes.
        scored: False: without what only scoring may know.
        on_progress: is told of the files that are opened, then of the rows that are read.

    Raises:
        ConfigError: as `load.load_recorded`: what is wrong with the first file in order that does not fit the schema,
            else the first gold that names no option.
    """
    jobs: list[_Job] = []
    room = ROWS_MAX
    for place, path in enumerate(paths):
        on_progress(Progress(place, len(paths), f"opening {path.name}"))
        parts = parts_of(path, room, scored=scored)
        room -= sum(len(part.lines) for part in parts)
        jobs += [(place, number, part) for number, part in enumerate(parts)]
    done, total = 0, ROWS_MAX - room
    found: dict[tuple[int, int], list[Understood]] = {}
    on_progress(Progress(0, total, "reading"))
    with closing(each(_understood, jobs, workers if len(jobs) > _WORTH_MORE_PROCESSES else 1)) as results:
        for (place, number, part), made in results:
            found[place, number] = made
            done += len(made)
            on_progress(Progress(done, total, f"reading {part.file}"))
    files: list[list[tuple[Part, list[Understood]]]] = [[] for _ in paths]
    for place, number, part in jobs:
        files[place].append((part, found[place, number]))
    return [rows_of(parts) for parts in files]


def _understood(job: _Job) -> list[Understood]:
    return understood(job[2])
