"""Which process somebody is, and how to end it without ever ending another.

A number alone names nobody: process ids are reused, and mean something else in another namespace or after a reboot. So
an identity is the id with the boot, the pid namespace and the start time. Before a signal is sent, in this order: a
pidfd is opened, which goes on meaning the same process whatever becomes of the number; then boot, namespace and start
time are compared; then the kernel is asked whether that process holds the lock in question; and the signal goes
through the pidfd. Where any of this cannot be had, nothing is sent and the reason is returned.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Identity", "has_ended", "holds_lock", "identity_of_this_process", "stop"]

EXIT_WAIT_MS: Final = 2_000
_DESCRIPTORS_MAX: Final = 65_536
_STAT_BYTES: Final = 4_096


class Identity(BaseModel):
    """One process of one boot. `started`: clock ticks after the boot; empty or 0 where the system does not tell."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    pid: int = Field(ge=1, lt=1 << 31)
    boot_id: str = Field(max_length=64)
    pid_namespace: int = Field(ge=0, lt=1 << 63)
    started: int = Field(ge=0, lt=1 << 63)

    def is_near(self) -> bool:
        """Whether its process id means the same here: same boot, same pid namespace, both known."""
        return bool(self.boot_id and self.pid_namespace) and (self.boot_id, self.pid_namespace) == _here()


def identity_of_this_process() -> Identity:
    """This process. Without /proc, an identity that nobody can verify."""
    boot_id, namespace = _here()
    return Identity(
        pid=os.getpid(), boot_id=boot_id, pid_namespace=namespace, started=_started("self") if boot_id else 0
    )


def has_ended(identity: Identity) -> bool:
    """Whether this process has certainly ended. False where that cannot be known."""
    if not identity.is_near() or not identity.started:
        return False
    try:
        return _started(str(identity.pid)) != identity.started
    except OSError as error:
        return isinstance(error, FileNotFoundError | ProcessLookupError)


def holds_lock(pid: int, lock: os.stat_result) -> bool:
    """Whether the kernel says that process `pid` has an flock on the file `lock`. False where it does not tell."""
    try:
        names = [entry.name for entry in os.scandir(f"/proc/{pid}/fdinfo")]
    except OSError:
        return False
    for name in names[:_DESCRIPTORS_MAX]:
        try:
            text = Path(f"/proc/{pid}/fdinfo/{name}").read_text("ascii", "replace")
            if "FLOCK" not in text:
                continue
            found = os.stat(f"/proc/{pid}/fd/{name}")  # noqa: PTH116 (follows the kernel's link, not a path)
        except OSError:
            continue  # closed meanwhile
        if (found.st_dev, found.st_ino) == (lock.st_dev, lock.st_ino):
            return True
    return False


async def stop(identity: Identity, lock: os.stat_result, still: Callable[[], bool]) -> str:
    """End the process with SIGKILL, if it is the one that holds `lock`; wait for its end, at most `EXIT_WAIT_MS`.

    Args:
        still: asked last, with everything else verified: whether it still should be.

    Returns:
        "" if it has ended, by this or before; else why it was left alone, or is still there.
    """
    why = _out_of_reach(identity)
    if why:
        return why
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return ""
    except OSError as error:
        return f"a pidfd cannot be had: {error}"
    try:
        return await _stop(identity, descriptor, lock, still)
    except ProcessLookupError:
        return ""
    except PermissionError as error:
        return f"it cannot be stopped: {error}"
    finally:
        os.close(descriptor)


def _out_of_reach(identity: Identity) -> str:
    if sys.platform != "linux" or not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        return "this system has no pidfd, so that it cannot be stopped safely"
    if identity.pid in (os.getpid(), os.getppid(), 1):
        return "it is this process, or the one that started it"
    if not identity.is_near() or not identity.started:
        return "it was started in another boot or pid namespace, or that is not known"
    return ""


async def _stop(identity: Identity, descriptor: int, lock: os.stat_result, still: Callable[[], bool]) -> str:
    """With a pidfd, which means the same process from here on: is it the right one, and shall it end?"""
    if has_ended(identity) or not identity.is_near():
        return ""
    if not holds_lock(identity.pid, lock):
        return "the kernel does not confirm that it holds the lock"
    if not still():
        return "it moved just now"
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    ended = await asyncio.to_thread(_wait_for_exit, descriptor)
    return "" if ended else f"it was sent SIGKILL and has not ended within {EXIT_WAIT_MS} ms"


def _wait_for_exit(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(EXIT_WAIT_MS))


def _here() -> tuple[str, int]:
    """This boot and this pid namespace; ("", 0) where there is no /proc to tell."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return boot_id, Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return "", 0


def _started(pid: str) -> int:
    """Field 22 of /proc/PID/stat (proc_pid_stat(5)); the second, a name in parentheses, may hold anything."""
    descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, _STAT_BYTES)
    finally:
        os.close(descriptor)
    return int(text.rpartition(b")")[2].split()[19])
