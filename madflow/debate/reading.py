"""One file beneath a root, read for a seat or for evidence: bounded, never outside of it, never a secret.

Paths come from a diff or from a model and are hostile: each is resolved, must stay beneath the root, and is then opened
part by part without following links, so that nothing swapped in between leads elsewhere. Only regular files are read,
and never a database that this process has open (`held` says why).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import EffectError, TaskError
from ..held import open_unheld
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
        with (
            open_unheld(parts[-1], os.O_RDONLY | os.O_NONBLOCK, folder=handle) as file,
            os.fdopen(file, "rb", closefd=False) as stream,
        ):
            if os.fstat(file).st_size > TEXT_BYTES_MAX:
                return "too large"
            data = stream.read(TEXT_BYTES_MAX + 1)
    except OSError as error:
        return f"not readable: {error.strerror}"
    except EffectError as error:
        return "not a regular file" if error.code == "not_a_file" else f"not readable: {error}"
    finally:
        os.close(handle)
    return data if len(data) <= TEXT_BYTES_MAX else "too large"
