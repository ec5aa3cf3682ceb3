"""What litellm ships as data, found without importing litellm (whose import costs seconds)."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

__all__ = ["bundled_file"]


@cache
def bundled_file(name: str) -> Path | None:
    """A file or folder inside the installed litellm package, or None where it is not there."""
    spec = importlib.util.find_spec("litellm")  # locates a top-level package without running it
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / name
    return path if path.exists() else None
