"""A disk that fails, or ends the process, at an exact operation: a SQLite VFS over the default one.

    disk = FaultyDisk("planted")                        # a VFS is registered by name, for the whole process
    ledger = SqliteLedger(path, clock=clock, vfs=disk.name)
    disk.fail(at=3, with_="ENOSPC")                     # the third write, sync or truncation from now, and all after it
    disk.end(at=2, by=signal.SIGKILL, on={"write"}, files={"wal"})    # inside a write transaction
    disk.clear()                                        # the disk works again
    disk.unregister()

`fail` raises what SQLite maps to SQLITE_IOERR (EIO) or SQLITE_FULL (ENOSPC), and goes on doing so: a disk that failed
once is not to be trusted. `end` sends the signal to this very process just before the operation is done. After SIGKILL
the next process finds what was written before. With SIGSTOP the process stands still, holding the ledger's write lock,
until somebody sends SIGCONT. `torn` does the first half of a write before that.

Writes to the -wal file happen between BEGIN IMMEDIATE and COMMIT of a write transaction, which holds the write lock;
the last operation of a commit is the sync of the -wal file. Writes to the main file are a checkpoint's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import apsw

__all__ = ["FaultyDisk", "File", "Operation"]

Operation: TypeAlias = Literal["write", "sync", "truncate"]
File: TypeAlias = Literal["main", "wal", "other"]

_ALL: Final[frozenset[Operation]] = frozenset({"write", "sync", "truncate"})
_FILES: Final[frozenset[File]] = frozenset({"main", "wal", "other"})
_FAILURES: Final[dict[str, type[apsw.Error]]] = {"EIO": apsw.IOError, "ENOSPC": apsw.FullError}


@dataclass(slots=True)
class _Plan:
    left: int
    on: AbstractSet[Operation]
    files: AbstractSet[File]
    failure: type[apsw.Error] | None = None
    by: signal.Signals = signal.SIGKILL
    torn: bool = False


class FaultyDisk(apsw.VFS):
    """See the module. One plan at a time; without one, all operations are done and counted.

    Args:
        name: what the VFS is registered as.

    Attributes:
        done: operations that were done, as (operation, file), oldest first.
        failed: operations that failed.
    """

    def __init__(self, name: str = "faulty-disk") -> None:
        self.name = name
        self.done: list[tuple[Operation, File]] = []
        self.failed: list[tuple[Operation, File]] = []
        self._plan: _Plan | None = None
        self._base = apsw.vfs_names()[0]  # by name: this one may become the default, for a whole command line
        super().__init__(name, base=self._base)

    def fail(
        self,
        *,
        at: int,
        with_: Literal["EIO", "ENOSPC"],
        on: AbstractSet[Operation] = _ALL,
        files: AbstractSet[File] = _FILES,
    ) -> None:
        """Fail the `at`-th operation from now (1-based) among `on` × `files`, and all of them after it."""
        self._plan = _Plan(at - 1, on, files, failure=_FAILURES[with_])

    def end(
        self,
        *,
        at: int,
        by: signal.Signals = signal.SIGKILL,
        on: AbstractSet[Operation] = frozenset({"write"}),
        files: AbstractSet[File] = frozenset({"wal"}),
        torn: bool = False,
    ) -> None:
        """Send `by` to this process just before the `at`-th operation from now (1-based) among `on` × `files`.

        Args:
            torn: a write does the first half of its bytes before.
        """
        self._plan = _Plan(at - 1, on, files, by=by, torn=torn)

    def clear(self) -> None:
        """No plan: everything works."""
        self._plan = None

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802 (SQLite's name)
        """SQLite's; called for every file that it opens."""
        kind: File = "other"
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            kind = "main"
        elif flags[0] & apsw.SQLITE_OPEN_WAL:
            kind = "wal"
        return _FaultyFile(self, kind, name, flags)

    def _about_to(self, operation: Operation, file: File) -> bool:
        """Whether to tear this write and then end. Raises the planned failure, or ends the process."""
        plan = self._plan
        if plan is None or operation not in plan.on or file not in plan.files:
            self.done.append((operation, file))
            return False
        if plan.left > 0:
            plan.left -= 1
            self.done.append((operation, file))
            return False
        if plan.failure is not None:
            self.failed.append((operation, file))
            raise plan.failure(f"planted failure of a {operation} of the {file} file")
        if plan.torn and operation == "write":
            return True
        self._end(plan)
        self.done.append((operation, file))
        return False

    def _end(self, plan: _Plan) -> None:
        self._plan = None  # once: whoever is continued goes on
        os.kill(os.getpid(), plan.by)


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, kind: File, name: Any, flags: list[int]) -> None:
        self._disk, self._kind = disk, kind
        super().__init__(disk._base, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._disk._about_to("write", self._kind):
            plan = self._disk._plan
            super().xWrite(data[: len(data) // 2], offset)
            if plan is not None:
                self._disk._end(plan)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk._about_to("sync", self._kind)
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk._about_to("truncate", self._kind)
        super().xTruncate(size)
