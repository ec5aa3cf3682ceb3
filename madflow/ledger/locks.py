"""One runner per stream: a kernel lock that ends with its process, however that ends.

A row that says "locked" outlives a killed process; a kernel lock does not. The lock file stays (unlinking it would let
two processes lock two different files of one name); the process id in it is for the message only, never trusted.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from ..errors import DebateBusy

__all__ = ["stream_lock"]

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


@contextmanager
def stream_lock(folder: Path, stream: str) -> Iterator[None]:
    """Hold the exclusive lock of `stream` while the block runs; not waited for.

    The lock is an flock on `<folder>/<first 16 hex digits of sha256(stream)>.lock`. It is close-on-exec, so that no
    subprocess keeps it. A second lock in the same process is refused too.

    Raises:
        DebateBusy: somebody holds it; the message names the process id found in the file.
    """
    path = f"{folder}/{sha256(stream.encode()).hexdigest()[:16]}.lock"
    try:
        descriptor = os.open(path, _FLAGS, 0o666)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, _FLAGS, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise DebateBusy(
                f"{stream!r} is being run by process {holder}; wait for it to end, or stop it and run this again"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            # Not by close alone: a subprocess that is just being started still has the descriptor until it execs.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
