"""One file beneath a root, read for a seat or for evidence: bounded, never outside of it, never a secret.

Paths come from a diff or from a model and are hostile: each is resolved, must stay beneath the root, and is then opened
part by part without following links, so that nothing swapped in between leads elsewhere. Only regular files are read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ..errors import TaskError
from .secrets import secret_path

__all__ = ["TEXT_BYTES_MAX", "read_beneath"]

TEXT_BYTES_MAX = 2 * 1024 * 1024
"""Largest file whose whole text is read; of a larger one only the diff is known."""


def read_beneath(root: Path, path: str) -> bytes | str:
    """A file's bytes, or why it is not read: missing, secret, not a regular file, too large, or `not readable: …`.

    Raises:
        TaskError: the path leaves the root.
    """
    base = root.resolve()
    try:
        real = (base / path).resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name that is too long, a NUL
        return f"not readable: {error}"
    if not real.is_relative_to(base) or real == base:
        raise TaskError(
            f"{path} leads out of the root {root}, to {real}: a link in the tree points there; leave --root out, or "
            "take the file out of the diff"
        )
    inside = real.relative_to(base)
    if secret_path(inside.as_posix()):
        return "secret"
    return _read(base, inside.parts)


def _read(base: Path, parts: Sequence[str]) -> bytes | str:
    handle = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
    except OSError as error:
        return f"not readable: {error.strerror}"
    finally:
        os.close(handle)
    with open(file, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode):
            return "not a regular file"
        data = stream.read(TEXT_BYTES_MAX + 1) if state.st_size <= TEXT_BYTES_MAX else b""
        return data if state.st_size <= TEXT_BYTES_MAX and len(data) <= TEXT_BYTES_MAX else "too large"
