"""Files beneath a root, reached by directory descriptors alone.

A path of a plan is hostile, and the tree changes while we look at it. So a path is never handed to the kernel as a
whole: from a descriptor of the root each part is opened in turn, relative to the one before, and no symbolic link is
followed, be it in the middle or at the end, be it swapped in a moment ago. What is open cannot be exchanged any more;
what is exchanged later is not what was opened. (The root itself may be a link: whoever names the root, means it.)

Only regular files are read and replaced; a pipe, a device or a socket is refused before it is opened, and without
waiting. So is a database that this process has open, the ledger above all, and what lies beside it (`held` says why).

A file is replaced by a new one that is complete and flushed before it takes the name (`rename`), so that a reader, and
whoever comes after a crash, finds the old content or the new, never a mixture; the folder is flushed afterwards, and
every folder that had to be made. Just before the name is taken, whoever has it must still be the file that was looked
at. Another writer between these two system calls is not noticed; no file system offers that.

A name that is one of several of a file (a hard link) comes to mean the new file; the other names keep the old content,
wherever they are. Permissions are kept, and owner and group, or else it is refused. Extended attributes are not kept.

What is in the way is raised as EffectError, whose `applied` says whether the name may already have been taken.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import EffectError
from ..held import find_held, open_unheld
from .walk import checked_parts, naming, open_dir, open_root, refusal, walk, write_all

__all__ = [
    "FILE_BYTES_MAX",
    "Content",
    "Inspected",
    "Place",
    "inspect",
    "open_dir",
    "open_place",
    "read_file",
    "remove_file",
    "replace_file",
]

FILE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Largest file that is read or written, in bytes."""

_FILE: Final = os.O_RDONLY | os.O_NONBLOCK
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Inspected(NamedTuple):
    """What is at a path. `problem`: why it cannot be used, empty where it can; `sha256`: hex, None where there is no
    file; `size`: bytes."""

    problem: str
    exists: bool
    sha256: str | None
    size: int


Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, mtime and ctime (ns): two that are equal are one file, unchanged."""


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it was read. `mode`: its permission bits."""

    data: bytes
    mode: int
    uid: int
    gid: int
    stamp: Stamp

    @property
    def sha256(self) -> str:
        """SHA-256 of the data, hex."""
        return hashlib.sha256(self.data).hexdigest()


def _stamp(state: os.stat_result) -> Stamp:
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


class Place:
    """A file's name in an open folder beneath the root; made by `open_place`.

    Attributes:
        missing: the folders on the way that were not there when it was opened, outermost first, as paths.
    """

    def __init__(self, root: int, parts: Sequence[str], path: str) -> None:
        self.path, self._root, self._parts, self._name = path, root, tuple(parts[:-1]), parts[-1]
        self._folder = walk(root, self._parts, path, create=False)
        self.missing = () if self._folder is not None else self._missing()

    def _missing(self) -> tuple[str, ...]:
        for count in range(1, len(self._parts) + 1):
            found = walk(self._root, self._parts[:count], self.path, create=False)
            if found is None:
                return tuple("/".join(self._parts[:end]) for end in range(count, len(self._parts) + 1))
            os.close(found)
        return ()

    def close(self) -> None:
        """Give the descriptor back."""
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def _state(self) -> os.stat_result | None:
        """What has the name: a regular file, or nothing. Raises EffectError for anything else."""
        if self._folder is None:
            return None
        with naming(self.path):
            try:
                state = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
            except FileNotFoundError:
                state = None
            held = find_held(state, self._folder, self._name)
        if held is not None:
            why = f"is {held.path}, a {held.kind} that this process has open, or a file beside it; leave it out"
            raise EffectError("held", f"{self.path[:200]!r} {why}", transient=held.kind == "database", applied=False)
        if state is None:
            return None
        for is_kind, kind in _KINDS:
            if is_kind(state.st_mode):
                code = "symlink" if stat.S_ISLNK(state.st_mode) else "not_a_file"
                raise refusal(code, self.path, f"is {kind}, not a regular file")
        return state

    def read(self, limit: int = FILE_BYTES_MAX) -> Content | None:
        """The file, None where there is none. Raises EffectError: larger than `limit` bytes, not a regular file."""
        if self._state() is None:
            return None
        with naming(self.path):
            try:
                with open_unheld(self._name, _FILE, folder=self._folder) as file:
                    state = os.fstat(file)
                    data = _read_up_to(file, limit + 1)
                    after = os.fstat(file)
            except FileNotFoundError:
                return None
        if len(data) > limit:
            size = max(state.st_size, len(data))
            raise refusal("too_large", self.path, f"has {size} bytes, the limit is {limit}; use a command for it")
        if _stamp(after) != _stamp(state):
            raise EffectError(
                "conflict", f"{self.path[:200]!r} is being written to; try again", transient=True, applied=False
            )
        return Content(data, stat.S_IMODE(state.st_mode) & 0o777, state.st_uid, state.st_gid, _stamp(state))

    def sync(self) -> None:
        """Flush the file, if there is one, and its folder: what is seen now is there after a power cut, too."""
        state = self._state()
        if self._folder is None:
            return
        with naming(self.path, applied=None):
            if state is not None:
                with open_unheld(self._name, _FILE, folder=self._folder) as file:
                    os.fsync(file)
            os.fsync(self._folder)

    def replace(
        self,
        data: bytes,
        *,
        token: str,
        seen: Content | None,
        mode: int | None = None,
        proceed: Callable[[], None] = lambda: None,
    ) -> None:
        """Put a complete, flushed file with `data` in the place of `seen`, which must be what has the name still.

        Args:
            token: makes the temporary file's name; one left over from an earlier attempt of the token is cleared away.
            seen: what `read` gave; its permissions, owner and group are kept.
            mode: permission bits where `seen` is None; None: as the process's umask says.
            proceed: called when all is ready, just before the name is taken; raises to call it off.

        Raises:
            EffectError: "conflict" where the name has another file by now; "moved" (applied None) where the folder
                was moved away while the file was put into it; and what the file system says.
        """
        if len(data) > FILE_BYTES_MAX:
            raise refusal("too_large", self.path, f"would have {len(data)} bytes, the limit is {FILE_BYTES_MAX}")
        folder = self._make_folder()
        temporary = _temporary(token)
        self.clear(token)
        with naming(self.path):
            file = os.open(temporary, _NEW, 0o666 if seen is None and mode is None else 0o600, dir_fd=folder)
        try:
            try:
                with naming(self.path):
                    write_all(file, data)
                    self._dress(file, seen, mode)
                    os.fsync(file)
                    made = os.fstat(file)
            finally:
                os.close(file)
            proceed()
            self._check_unchanged(seen)
            with naming(self.path):
                os.rename(temporary, self._name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell; a next attempt clears this away
                os.unlink(temporary, dir_fd=folder)
            raise
        with naming(self.path, applied=None):
            os.fsync(folder)
        self._check_reached(made)

    def clear(self, token: str) -> None:
        """Remove what an attempt of `token` left over when it was killed. Raises EffectError."""
        if self._folder is not None:
            with naming(self.path), suppress(FileNotFoundError):
                os.unlink(_temporary(token), dir_fd=self._folder)

    def remove(self, *, seen: Content, proceed: Callable[[], None] = lambda: None) -> None:
        """Remove the file, which must be `seen` still, and flush its folder. Raises EffectError as `replace` does."""
        proceed()
        self._check_unchanged(seen)
        folder = self._make_folder()
        with naming(self.path):
            os.unlink(self._name, dir_fd=folder)
        with naming(self.path, applied=None):
            os.fsync(folder)

    def remove_folders(self, folders: Sequence[str]) -> list[str]:
        """Remove those of `folders` (paths, outermost first) that are empty; those that were removed."""
        gone: list[str] = []
        for folder in reversed(folders):
            parts = folder.split("/")
            parent = walk(self._root, parts[:-1], folder, create=False)
            if parent is None:
                continue
            try:
                os.rmdir(parts[-1], dir_fd=parent)
                os.fsync(parent)
                gone.append(folder)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                    with naming(folder, applied=None):
                        raise
            finally:
                os.close(parent)
        return gone

    def _make_folder(self) -> int:
        if self._folder is None:
            self._folder = walk(self._root, self._parts, self.path, create=True)
            assert self._folder is not None  # noqa: S101 - it was to be made
        return self._folder

    def _dress(self, file: int, seen: Content | None, mode: int | None) -> None:
        """Permissions, owner and group of the new file."""
        if seen is not None:
            made = os.fstat(file)
            if (made.st_uid, made.st_gid) != (seen.uid, seen.gid):
                try:
                    os.fchown(file, seen.uid, seen.gid)
                except PermissionError as error:
                    why = f"belongs to user {seen.uid}, group {seen.gid}; replaced by this user it would change hands"
                    raise refusal("permission_denied", self.path, why) from error
            mode = seen.mode
        if mode is not None:
            os.fchmod(file, mode & 0o777)

    def _check_unchanged(self, seen: Content | None) -> None:
        state = self._state()
        if (state and _stamp(state)) != (seen and seen.stamp):
            raise refusal("conflict", self.path, "was changed by somebody else just now; nothing was written")

    def _check_reached(self, made: os.stat_result) -> None:
        """The new file is to be found by its path: its folder was not moved away, nor the file replaced."""
        try:
            folder = walk(self._root, self._parts, self.path, create=False)
        except EffectError as error:
            raise EffectError("moved", f"{error}, since it was written", applied=None) from error
        try:
            with naming(self.path, applied=None):
                state = None if folder is None else os.stat(self._name, dir_fd=folder, follow_symlinks=False)
        finally:
            if folder is not None:
                os.close(folder)
        if state is None or (state.st_dev, state.st_ino) != (made.st_dev, made.st_ino):
            raise EffectError("moved", f"{self.path[:200]!r} was moved or replaced as it was written", applied=None)


def _temporary(token: str) -> str:
    return f".madflow-{hashlib.sha256(token.encode()).hexdigest()[:24]}.tmp"


def _read_up_to(file: int, most: int) -> bytes:
    chunks: list[bytes] = []
    left = most
    while left and (chunk := os.read(file, min(left, 1024 * 1024))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


@contextmanager
def open_place(root: Path, path: str, *, protected: Iterable[str] = ()) -> Iterator[Place]:
    """The place of `path` beneath `root`, while the block runs. Makes nothing.

    Args:
        protected: paths beneath the root that are never a step's, beside `.madflow` and `.git` at any depth.

    Raises:
        EffectError: "bad_path", "protected", "symlink", "not_a_folder", "no_root", "permission_denied".
    """
    parts = checked_parts(path, protected)
    base = open_root(root)
    place = None
    try:
        place = Place(base, parts, path)
        yield place
    finally:
        if place is not None:
            place.close()
        os.close(base)


def read_file(root: Path, path: str, limit: int = FILE_BYTES_MAX, *, protected: Iterable[str] = ()) -> bytes | None:
    """The file's bytes; None where there is no file. Raises EffectError."""
    with open_place(root, path, protected=protected) as place:
        found = place.read(limit)
    return None if found is None else found.data


def replace_file(
    root: Path, path: str, data: bytes, mode: int | None = None, *, token: str, protected: Iterable[str] = ()
) -> None:
    """Write the whole file, whatever it holds, its missing folders made. Durable when it returns. Raises EffectError.

    Args:
        mode: permission bits of a new file; one that is there keeps its own.
        token: one at a time may write to a folder under one token.
    """
    with open_place(root, path, protected=protected) as place:
        place.replace(data, token=token, seen=place.read(), mode=mode)


def remove_file(root: Path, path: str, *, protected: Iterable[str] = ()) -> bool:
    """Remove the file; whether there was one. Durable when it returns. Raises EffectError."""
    with open_place(root, path, protected=protected) as place:
        seen = place.read()
        if seen is not None:
            place.remove(seen=seen)
    return seen is not None


def inspect(
    root: Path, path: str, *, protected: Iterable[str] = (), limit: int = FILE_BYTES_MAX, folder: bool = False
) -> Inspected:
    """What is at `path`, as plain values; raises nothing for what the tree holds.

    Args:
        limit: a larger file is a problem.
        folder: a folder is expected, not a file.
    """
    try:
        if folder:
            with open_dir(root, path.split("/"), protected=protected) as found:
                return Inspected("", found is not None, None, 0)
        with open_place(root, path, protected=protected) as place:
            content = place.read(limit)
    except EffectError as error:
        return Inspected(str(error), False, None, 0)
    if content is None:
        return Inspected("", False, None, 0)
    return Inspected("", True, content.sha256, len(content.data))
