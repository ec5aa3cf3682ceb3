"""Results as they come in: a file, a suite's folder, a mapping, or what is read already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ..errors import ConfigError
from ..evals.results import RESULTS, Results, read_results

__all__ = ["SUITES_MAX", "results_of", "suites_below"]

SUITES_MAX: Final = 1_000


def results_of(given: Results | Mapping[str, Any] | Path) -> Results:
    """One suite's results.

    Raises:
        ConfigError: a file that is absent, too large or no such document, or a mapping that is none; names the field.
    """
    if isinstance(given, Results):
        return given
    if isinstance(given, Path):
        return read_results(given)
    try:
        return Results.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise ConfigError(f"no results of this version ({where}: {first['msg']}); run the suite again") from error


def suites_below(folder: Path) -> list[tuple[str, Results]]:
    """Folder name and results of each suite directly below a folder, in the order of their names.

    Raises:
        ConfigError: the folder cannot be read, holds no suite, or more than 1,000; or one of its files is unreadable.
    """
    try:
        found = sorted(path.parent for path in folder.glob(f"*/{RESULTS}"))
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror or error}); name a folder of results") from error
    if not found:
        raise ConfigError(f"{folder}: no suite has results there; `madflow eval run SUITE --out {folder}` writes them")
    if len(found) > SUITES_MAX:
        raise ConfigError(f"{folder}: {len(found)} suites, the limit is {SUITES_MAX}; name a folder with fewer")
    return [(path.name, read_results(path)) for path in found]
