"""Reading recordings with several processes: most of the time goes into reading answers out of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .load import load_recorded
from .pool import each

if TYPE_CHECKING:
    from .load import Row

__all__ = ["load_files"]


def load_files(paths: Sequence[Path], workers: int = 1) -> list[list[Row]]:
    """The rows of each file, in the order of `paths`.

    Raises:
        ConfigError: as `load.load_recorded`, of the first file in order that has something wrong.
    """
    found: dict[Path, list[Row]] = {}
    for path, rows in each(load_recorded, sorted(paths, key=lambda path: -path.stat().st_size), workers):
        found[path] = rows
    return [found[path] for path in paths]
