"""Folders beneath a root, opened part by part: what `beneath` stands on.

`walk` opens each part relative to the one before and follows no symbolic link. What the operating system refuses is
raised as EffectError with a short code.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..core.permits import never
from ..core.plan import path_problem
from ..errors import EffectError

__all__ = [
    "checked_parts",
    "flush_folder",
    "naming",
    "open_dir",
    "open_root",
    "refusal",
    "walk",
    "write_all",
]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CODES: Final = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EFBIG: "disk_full",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.EROFS: "permission_denied",
    errno.ENAMETOOLONG: "bad_path",
}


@contextmanager
def naming(path: str, *, applied: bool | None = False) -> Iterator[None]:
    """An OSError of the block as EffectError."""
    try:
        yield
    except OSError as error:
        code = _CODES.get(error.errno or 0, "io_error")
        raise EffectError(code, f"{path[:200]!r}: {error.strerror or error}", applied=applied) from error


def refusal(code: str, path: str, why: str) -> EffectError:
    """The error of a path that is not used: nothing has happened."""
    return EffectError(code, f"{path[:200]!r} {why}", applied=False)


def checked_parts(path: str, protected: Iterable[str]) -> list[str]:
    """The parts of a path that a step may touch. Raises EffectError."""
    if problem := path_problem(path):
        raise refusal("bad_path", path, f"is no path beneath the root: {problem}")
    if problem := never(path, protected):
        raise refusal("protected", path, f"is refused: {problem}")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise refusal("bad_path", path, "holds half of a surrogate pair, which no file name can") from error
    return path.split("/")


def open_root(root: Path) -> int:
    """A descriptor of the root, which may be a link itself. Raises EffectError: "no_root"."""
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise EffectError("no_root", f"the root {root} cannot be opened: {error.strerror}", applied=False) from error


def _enter(folder: int, part: str, path: str) -> int | None:
    """The folder `part` of an open folder; None where there is none. Raises EffectError for anything else there."""
    try:
        return os.open(part, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise _not_a_folder(folder, part, path) from error
        with naming(path):
            raise


def _not_a_folder(folder: int, part: str, path: str) -> EffectError:
    with naming(path):
        mode = os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        return refusal("symlink", path, f"leads through {part!r}, a symbolic link; name the real folder")
    return refusal("not_a_folder", path, f"leads through {part!r}, which is no folder")


def walk(root: int, parts: Sequence[str], path: str, *, create: bool) -> int | None:
    """A descriptor of the folder `parts` beneath an open root; None where it is missing and not to be made."""
    here = os.dup(root)
    try:
        for part in parts:
            inner = _enter(here, part, path)
            if inner is None:
                if not create:
                    os.close(here)
                    return None
                with naming(path):
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=here)
                    os.fsync(here)
                inner = _enter(here, part, path)
                if inner is None:
                    raise refusal("conflict", path, f"lost its folder {part!r} just after it was made")
            os.close(here)
            here = inner
    except BaseException:
        os.close(here)
        raise
    return here


@contextmanager
def open_dir(
    root: Path, parts: Sequence[str], *, create: bool = False, protected: Iterable[str] = ()
) -> Iterator[int | None]:
    """A descriptor of the folder `parts` beneath `root`, while the block runs; None where it is missing.

    Args:
        create: make what is missing, flushed.

    Raises:
        EffectError: a part is a symbolic link, no folder, or not a step's to touch.
    """
    path = "/".join(parts)
    checked = checked_parts(path, protected) if parts else []
    base = open_root(root)
    folder = None
    try:
        folder = walk(base, checked, path, create=create)
        yield folder
    finally:
        for descriptor in (base, folder):
            if descriptor is not None:
                os.close(descriptor)


def write_all(file: int, data: bytes) -> None:
    """Write all of `data` to an open file."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
