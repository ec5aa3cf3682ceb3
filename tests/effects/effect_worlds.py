"""What the tests of commands, requests and statements share: contexts, forked submitters, and a look at processes."""

import asyncio
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from madflow.core.policy import Policy
from madflow.ports import EffectContext

ANY_COMMAND = Policy.model_validate({"allow": [{"step": ["command", "test"], "commands": ["**"], "paths": ["**"]}]})


def context(root: Path, **changes: Any) -> EffectContext:
    """A context beneath `root`; its ledger's folder is `<root>/.madflow`."""
    usual: dict[str, Any] = {
        "key": sha256(str(root).encode()).hexdigest(),  # another in each test: `living` finds processes by it
        "term": 1,
        "attempt": 1,
        "commit_id": "c-1",
        "direction": "do",
        "timeout_s": 20.0,
        "root": root,
        "run_dir": root / ".madflow" / "run",
        "policy": ANY_COMMAND,
    }
    return EffectContext(**{**usual, **changes})


@contextmanager
def submitter(work: Callable[[], Any]) -> Iterator[int]:
    """A forked process that runs `work` in an event loop; killed in the end if it still lives. Yields its id."""
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(work())
        finally:
            traceback.print_exc()
            os._exit(0)
    try:
        yield pid
    finally:
        kill(pid)
        os.waitpid(pid, 0)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send the signal, if the process is there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def real(path: Path) -> str:
    """The path without symlinks."""
    return str(path.resolve())


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def said(path: Path) -> str:
    """What the file holds; nothing if it is not there."""
    return path.read_text() if path.exists() else ""


async def appears(path: Path, *, within_s: float = 10.0) -> str:
    """Wait until the file holds something, and return that."""
    async with asyncio.timeout(within_s):
        while not said(path):  # noqa: ASYNC110  another process makes it
            await asyncio.sleep(0.01)
    return said(path)


def living(key: str) -> list[int]:
    """Processes, other than zombies, that were started for this key: the supervisor, the command, its descendants."""
    wanted, found = f"MADFLOW_IDEMPOTENCY_KEY={key}".encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def own_locks() -> set[tuple[str, str, str]]:
    """The locks by `fcntl` that this process holds: kind, inode number, first byte."""
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return {
        (kind, place.rpartition(":")[2], first)
        for _, family, _, kind, pid, place, first, *_ in (line for line in lines if "->" not in line)
        if family == "POSIX" and int(pid) == os.getpid()
    }


def until(holds: Callable[[], Any], *, within_s: float = 10.0) -> Any:
    """What `holds` returns once it is true; fails the test if that takes longer."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.01)
    raise AssertionError(f"did not become true within {within_s} s")
