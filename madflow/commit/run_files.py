"""What `ledger prune` removes beside the ledger: files in its `run` folder that nothing can come back to any more.

    run/<key>.lock          of a key whose commit ended: nobody may hold it
    run/<key>.index…        what a killed git step left under such a key
    run/kept/<sha256>       the old content of a file that a step replaced, wanted by no commit that is open, in doubt,
                            or ended too recently; and temporary files that a killed step left there

All of it is older than the given time, and than a day: the longest that an attempt may take, so none of a commit that
ended is under way. A step keeps the old content before its intent is recorded, so contents go only while nobody leads
any scope that was ever led here: the locks of all leaders are held meanwhile. (A scope that is led for the first time
in that very moment, for a step that replaces that very content, would find it lost, and ask a human.)

Two ledgers in one folder share its `run`, and neither knows what the other needs: then all of it stays.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..core.journal import Journal
from ..errors import LedgerBusy, LedgerError
from ..ports import Ledger
from .named import scopes_of

__all__ = ["RUN_FILE_AGE_MS", "RunFiles", "remove_run_files", "run_files"]

RUN_FILE_AGE_MS: Final = 86_400_000
"""Nothing younger is removed, whatever time is given; milliseconds."""

_KEPT: Final = re.compile(r"[0-9a-f]{64}(\.[0-9]+\.[0-9a-f]+\.tmp)?", re.ASCII)
_BESIDE: Final = (".index", ".index.lock")
_LEADER: Final = ".leader"
_SQLITE: Final = ("-wal", "-shm", "-journal")


@dataclass(slots=True)
class RunFiles:
    """What may go, or what went.

    Attributes:
        keys: whose locks; contents: names in `run/kept`; size: of the contents, in bytes.
        left: how many stay that are there, by reason.
        before_ms: nothing that was modified later goes.
    """

    folder: Path | None
    before_ms: int
    keys: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    size: int = 0
    left: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data: counts."""
        counts = {"locks": len(self.keys), "kept_contents": len(self.contents), "kept_bytes": self.size}
        return {**counts, "left": dict(sorted(self.left.items()))}

    def leave(self, why: str, count: int = 1) -> None:
        """Count what stays."""
        if count:
            self.left[why] = self.left.get(why, 0) + count


def run_files(ledger: Ledger, *, before_ms: int, now_ms: int) -> RunFiles:
    """What `remove_run_files` would remove; of a ledger that is no file, nothing.

    Args:
        before_ms: only what was used last before, and whose commit ended before; milliseconds since the epoch.
        now_ms: the wall clock.

    Raises:
        LedgerError: the records, or the folder, cannot be read.
    """
    path: Path | None = getattr(ledger, "path", None)
    found = RunFiles(path.resolve().parent / "run" if path else None, min(before_ms, now_ms - RUN_FILE_AGE_MS))
    if path is None or found.folder is None or not found.folder.is_dir():
        return found
    ended, wanted, contents = _needs(ledger, found.before_ms)
    try:
        locks = _listed(found.folder, ".lock")
        kept = _listed(found.folder / "kept", "")
        if other := _other_ledger(path.resolve()):
            found.leave(f"shared with {other}", len(locks) + len(kept))
            return found
    except OSError as error:
        raise LedgerError(f"{found.folder}: cannot be read ({error.strerror or error})") from error
    for name, state in locks.items():
        key = name.removesuffix(".lock")
        if key not in ended:
            found.leave("open or in doubt" if key in wanted else "too young" if key in contents else "unknown")
        elif state.st_mtime * 1000 >= found.before_ms:
            found.leave("too young")
        else:
            found.keys.append(key)
    for name, state in kept.items():
        if not _KEPT.fullmatch(name):
            found.leave("unknown")
        elif name in contents:
            found.leave("wanted by a commit")
        elif state.st_mtime * 1000 >= found.before_ms:
            found.leave("too young")
        else:
            found.contents.append(name)
            found.size += state.st_size
    return found


def remove_run_files(ledger: Ledger, *, before_ms: int, now_ms: int) -> RunFiles:
    """Remove what `run_files` finds, but for what is in use; what went.

    Raises:
        LedgerError: the records cannot be read, or a file cannot be removed; some may be gone. Run it again.
    """
    path: Path | None = getattr(ledger, "path", None)
    locks = path.resolve().parent / "locks" if path else None
    try:
        with _nobody_leads(locks) as free:
            found = run_files(ledger, before_ms=before_ms, now_ms=now_ms)
            gone = RunFiles(found.folder, found.before_ms, left=dict(found.left))
            if found.folder is None:
                return gone
            for key in found.keys:
                _remove_lock(found.folder, key, gone)
            if not free:
                gone.leave("a submitter leads", len(found.contents))
                return gone
            for name in found.contents:
                kept = found.folder / "kept" / name
                gone.size += kept.lstat().st_size
                kept.unlink()
                gone.contents.append(name)
    except OSError as error:
        raise LedgerError(f"{error.filename or path}: cannot be removed ({error.strerror or error})") from error
    return gone


@contextmanager
def _nobody_leads(folder: Path | None) -> Iterator[bool]:
    """Whether no scope has a leader; none gets one while the block runs."""
    with ExitStack() as stack:
        names = sorted(folder.glob(f"*{_LEADER}")) if folder is not None else []
        yield all([stack.enter_context(_locked(name)) is not None for name in names])


def _needs(ledger: Ledger, before_ms: int) -> tuple[set[str], set[str], set[str]]:
    """Keys of commits that ended before; keys of those that have not ended; contents and keys that are to stay."""
    ended: set[str] = set()
    open_: set[str] = set()
    stay: set[str] = set()
    for records in scopes_of(ledger).values():
        for commit in Journal(records).commits.values():
            old = bool(commit.closed) and commit.last_ms < before_ms
            keys = {key.key for key in commit.keys.values()}
            if old:
                ended |= keys
                continue
            stay |= keys | {str(key.facts.get("kept")) for key in commit.keys.values()}
            if not commit.closed:
                open_ |= keys
    return ended - stay, open_, stay


def _listed(folder: Path, suffix: str) -> dict[str, os.stat_result]:
    """The regular files of a folder by name, and their states; empty where there is no folder."""
    if not folder.is_dir():
        return {}
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            is_index = suffix == ".lock" and entry.name.endswith(_BESIDE)
            if entry.is_file(follow_symlinks=False) and entry.name.endswith(suffix) and not is_index:
                found[entry.name] = entry.stat(follow_symlinks=False)
    return found


def _other_ledger(path: Path) -> str:
    """The name of another ledger in the folder, or the empty string. Opened by the ledger's own library: whoever opens
    and closes a database otherwise drops the locks that this process has on it."""
    from ..ledger.sqlite import open_ledger

    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    for name in sorted(names):
        if name == path.name or name.startswith(".") or name.endswith(_SQLITE):
            continue
        try:
            open_ledger(path.parent / name, readonly=True).close()
        except LedgerBusy:
            return name
        except LedgerError:
            continue  # of another program, or no database
        return name
    return ""


def _remove_lock(folder: Path, key: str, gone: RunFiles) -> None:
    """Unlinked while it is held: whoever waits for it finds in it a term that is not smaller than its own."""
    path = folder / f"{key}.lock"
    with _locked(path) as descriptor:
        if descriptor is None:
            gone.leave("in use")
        elif os.fstat(descriptor).st_mtime * 1000 >= gone.before_ms:
            gone.leave("too young")
        else:
            for name in _BESIDE:
                (folder / f"{key}{name}").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            gone.keys.append(key)


@contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """The descriptor, locked while the block runs; None where somebody else holds it. Not waited for."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)
