"""Files that this process must never open and close: databases whose locks it holds.

POSIX: whoever closes any descriptor of a file drops every lock (`fcntl`) that the process holds on it, whichever
descriptor took it (SQLite, "How To Corrupt An SQLite Database File", section 2.2). So reading a live ledger, by its
name or by a hard link, lets another process write beneath us, and remove the write-ahead log with acknowledged records.

Who opens a database says so first (`hold`), and who opens a file by a path from elsewhere does it by `open_unheld`.
That looks at the file by a descriptor whose closing drops no locks (`O_PATH`), refuses what is held without opening it,
and otherwise opens the very file it has looked at. `hold` waits for the readers that were there before it. Files are
known by inode (a hard link, a renamed file) and by name: a database, and what SQLite puts beside it, there or not.

The registry is one for the process, as the kernel's locks are: two ledgers, two event loops, two threads of one process
share them. It knows what madflow opens. A host that opens the same file by another SQLite library (Python's sqlite3
beside apsw) drops the locks of both; nothing here can see that.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple

from .errors import EffectError

__all__ = ["ENDINGS", "Held", "find_held", "hold", "open_unheld", "release", "turn"]

ENDINGS: Final = ("", "-wal", "-shm", "-journal")
"""What SQLite adds to a database's name for the files beside it."""

_WAIT_S: Final = 30.0
_PATH_ONLY: Final = getattr(os, "O_PATH", 0) | os.O_NOFOLLOW | os.O_CLOEXEC

Kind = Literal["ledger", "database"]


class Held(NamedTuple):
    """A database that this process has open. `path`: real and absolute; `inode`: device and inode when it was held."""

    path: str
    kind: Kind
    inode: tuple[int, int] | None


_changed = threading.Condition()
_held: Counter[Held] = Counter()
_read: Counter[tuple[int, int]] = Counter()
_turns: dict[tuple[int, int], tuple[threading.Lock, int]] = {}


def hold(path: str | os.PathLike[str], kind: Kind) -> Held:
    """Say that a database is about to be opened; give it back by `release` when it is closed.

    Raises:
        EffectError: "busy": somebody has read the file for half a minute.
    """
    real = os.path.realpath(path)
    mine = Held(real, kind, _inode(real))
    with _changed:
        _held[mine] += 1
        free = _changed.wait_for(lambda: not any(_read[number] for number in _inodes(mine)), _WAIT_S)
    if not free:
        release(mine)
        why = f"{real} has been read by this process for {_WAIT_S:.0f} s; open it when the reading has ended"
        raise EffectError("busy", why, transient=True, applied=False)
    return mine


def release(mine: Held) -> None:
    """The database is closed. Every `hold` is released once."""
    with _changed:
        _held[mine] -= 1
        if _held[mine] <= 0:
            del _held[mine]


def find_held(state: os.stat_result | None, folder: int | None = None, name: str = "") -> Held | None:
    """The held database that a file is, or lies beside as SQLite's own; None where it is free.

    Args:
        state: the file, not followed; None where there is none.
        folder: a descriptor of its folder, and `name` its name in it: for a file that is not there yet.
    """
    with _changed:
        every = list(_held)
    number = (state.st_dev, state.st_ino) if state is not None else None
    for mine in every:
        if number is not None and number in _inodes(mine):
            return mine
        where, base = os.path.split(mine.path)
        if folder is not None and name in [base + end for end in ENDINGS] and _same_folder(folder, where):
            return mine
    return None


@contextmanager
def open_unheld(name: str | Path, flags: int = os.O_RDONLY, *, folder: int | None = None) -> Iterator[int]:
    """A descriptor of a regular file, while the block runs; no database that this process has open.

    Args:
        name: relative to `folder`, a descriptor, where that is given. A symbolic link is not followed.
        flags: for the opening; the file must be there.

    Raises:
        OSError: what the system says. EffectError: "held", before it is opened; "not_a_file".
    """
    file = None
    looked = os.open(name, _PATH_ONLY, dir_fd=folder) if hasattr(os, "O_PATH") else None
    try:
        state = os.fstat(looked) if looked is not None else os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(state.st_mode):
            raise EffectError("not_a_file", f"{str(name)[:200]!r} is no regular file", applied=False)
        number = (state.st_dev, state.st_ino)
        with _changed:
            _read[number] += 1
        try:
            _check_free(state, str(name))
            if looked is not None:  # the file that was looked at, whatever has the name by now
                file = os.open(f"/proc/self/fd/{looked}", flags | os.O_CLOEXEC | os.O_NOCTTY)
            else:
                file = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=folder)
            yield file
        finally:
            if file is not None:
                os.close(file)
            with _changed:
                _read[number] -= 1
                if not _read[number]:
                    del _read[number]
                _changed.notify_all()
    finally:
        if looked is not None:
            os.close(looked)


@contextmanager
def turn(path: str, timeout_s: float) -> Iterator[None]:
    """One user at a time of the database at `path`, which is held while the block runs.

    Raises:
        EffectError: "busy": another thread of this process has it for longer than `timeout_s`. OSError: it is gone.
    """
    state = Path(path).lstat()
    number = (state.st_dev, state.st_ino)
    with _changed:
        lock, users = _turns.get(number, (threading.Lock(), 0))
        _turns[number] = (lock, users + 1)
    try:
        if not lock.acquire(timeout=max(0.0, timeout_s)):
            why = f"another step of this process has used {path} for {timeout_s:.1f} s"
            raise EffectError("busy", why, transient=True, applied=False)
        try:
            mine = hold(path, "database")
            try:
                yield
            finally:
                release(mine)
        finally:
            lock.release()
    finally:
        with _changed:
            users = _turns[number][1] - 1
            if users:
                _turns[number] = (lock, users)
            else:
                del _turns[number]


def _check_free(state: os.stat_result, name: str) -> None:
    mine = find_held(state)
    if mine is not None:
        why = f"{name[:200]!r} is {mine.path}, a {mine.kind} that this process has open, or a file beside it"
        more = "closing it would drop the locks on it; leave it out of the plan"
        raise EffectError("held", f"{why}: {more}", transient=mine.kind == "database", applied=False)


def _inodes(mine: Held) -> set[tuple[int, int]]:
    found = {_inode(mine.path + end) for end in ENDINGS} | {mine.inode}
    return {number for number in found if number is not None}


def _inode(path: str) -> tuple[int, int] | None:
    try:
        state = Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (state.st_dev, state.st_ino)


def _same_folder(folder: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(folder), Path(path).stat())
    except (FileNotFoundError, NotADirectoryError):
        return False
