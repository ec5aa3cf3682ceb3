"""Reports as files, each written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import MadflowError
from ..evals.results import Results
from .index import PAGE, index_page, summary
from .page import page
from .reading import results_of, suites_below
from .sheets import SHEETS, sheets
from .view import View

__all__ = ["INDEX", "SUMMARY", "render", "render_all", "render_index"]

INDEX: Final = "index.html"
SUMMARY: Final = "summary.md"


def render(results: Results | Mapping[str, Any] | Path, out: Path) -> list[Path]:
    """Write one suite's report: `report.html`, and a stand-alone SVG for each kind of plot that has data.

    Args:
        results: a results.json, a suite's folder that holds one, or what it says.
        out: the folder for the files; it is made. A drawing of an earlier report that has no data now is removed.

    Returns:
        What was written, the page first.

    Raises:
        ConfigError: no results of this version. MadflowError: a file cannot be written; names it and why.
    """
    read = results_of(results)
    drawn = sheets(View(read))
    written = [_write(out / PAGE, page(read)), *(_write(out / name, text) for name, text in drawn.items())]
    for name in SHEETS.keys() - drawn.keys():
        (out / name).unlink(missing_ok=True)
    return written


def render_index(folder: Path, out: Path | None = None) -> list[Path]:
    """Write `index.html`, which links the report of every suite below `folder`, and `summary.md`.

    Args:
        folder: holds a folder with a results.json for each suite; out: where to write, `folder` if not given.

    Raises: as `render`; ConfigError also where there is no suite.
    """
    suites = suites_below(folder)
    target = out or folder
    return [_write(target / INDEX, index_page(suites)), _write(target / SUMMARY, summary(suites))]


def render_all(folder: Path, out: Path | None = None) -> list[Path]:
    """Write the report of every suite below `folder` and the index above them; as `render` and `render_index`."""
    target = out or folder
    written = [path for name, results in suites_below(folder) for path in render(results, target / name)]
    return [*render_index(folder, target), *written]


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                os.fchmod(file.fileno(), 0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise MadflowError(f"{path}: cannot be written ({error.strerror or error}); name another folder") from error
    return path
