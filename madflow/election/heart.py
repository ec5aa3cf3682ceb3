"""A leader's sign of life: one block in a file, with a counter that moves, and who moves it.

The block is rewritten in place by one `pwrite`, without an fsync: after a power cut nobody leads anyway. A reader may
meet a block that is half old and half new, so it carries a checksum, and is read again. What it says is hearsay: it
names whom to look at, and nothing is done to anybody because of it alone (`process.stop` asks the kernel).

*Dead* is a matter of the observer's own running time (`Watch`): the counter has to stand still while the observer looks
at it again and again. Each look adds at most a quarter of the lease, so an observer that was stopped or a machine that
slept adds that much and no more, and no clock that jumps has a say.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .process import Identity

__all__ = ["BLOCK_BYTES", "NAME_CHARS_MAX", "TTL_S_MAX", "TTL_S_MIN", "Heart", "Watch", "read_heart", "write_heart"]

BLOCK_BYTES: Final = 2048
NAME_CHARS_MAX: Final = 200
TTL_S_MIN, TTL_S_MAX = 0.05, 3_600.0
LOOKS_PER_LEASE_MIN: Final = 4
_READS_MAX: Final = 5
_CHECKSUM: Final = 32


class Heart(BaseModel):
    """What the block says.

    Attributes:
        counter: moves with every renewal, and from holder to holder.
        state: campaigning (the lock is held, the vote is not recorded yet), leading, or how it was given up.
        term: of the leader; 0 while campaigning. ttl_ms: the lease that it promised to renew within.
        may_be_killed: the process is madflow's own and wants to be ended when it does not move.
        place: a place of the election's stream to start reading from; a hint that is checked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    counter: int = Field(ge=0, lt=1 << 62)
    state: Literal["campaigning", "leading", "resigned", "transferred"]
    node: str = Field(min_length=1, max_length=NAME_CHARS_MAX)
    term: int = Field(ge=0, lt=1 << 62)
    ttl_ms: int = Field(ge=1, le=int(TTL_S_MAX * 1000))
    identity: Identity
    may_be_killed: bool
    place: int = Field(ge=0, lt=1 << 62)

    @property
    def sign(self) -> tuple[int, int, int, str]:
        """What changes when its writer lives."""
        return (self.counter, self.identity.pid, self.identity.started, self.state)


class Watch:
    """For how long something has not changed: `silent_s`, in seconds of the running time of whoever looks."""

    def __init__(self) -> None:
        self.silent_s = 0.0
        self._sign: object = None
        self._at: float | None = None

    def look(self, sign: object, now_s: float, lease_s: float) -> float:
        """Look at `sign` at `now_s` of the observer's monotonic clock; `silent_s` after it."""
        step = 0.0 if self._at is None else min(max(now_s - self._at, 0.0), lease_s / LOOKS_PER_LEASE_MIN)
        self._at = now_s
        self.silent_s = self.silent_s + step if sign == self._sign else 0.0
        self._sign = sign
        return self.silent_s


def write_heart(descriptor: int, heart: Heart) -> None:
    """Write the block. Raises OSError; ValueError if the block would be too long."""
    body = heart.model_dump_json().encode()
    block = sha256(body).hexdigest()[:_CHECKSUM].encode() + b" " + body
    if len(block) >= BLOCK_BYTES:
        raise ValueError(f"the sign of life of node {heart.node!r} has {len(block)} bytes, the limit is {BLOCK_BYTES}")
    written = os.pwrite(descriptor, block.ljust(BLOCK_BYTES - 1) + b"\n", 0)
    if written != BLOCK_BYTES:
        raise OSError(f"wrote {written} of {BLOCK_BYTES} bytes of the sign of life")


def read_heart(path: str | Path) -> Heart | str | None:
    """What the file at `path` says; None if there is none or it is empty; a string says why it cannot be used."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    try:
        found: Heart | str | None = None
        for _ in range(_READS_MAX):
            found = _parse(os.pread(descriptor, BLOCK_BYTES, 0))
            if not isinstance(found, str):
                break
        return found
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        os.close(descriptor)


def _parse(block: bytes) -> Heart | str | None:
    if not block:
        return None
    checksum, _, body = block.rstrip().partition(b" ")
    if sha256(body).hexdigest()[:_CHECKSUM].encode() != checksum:
        return "its checksum does not match"
    try:
        return Heart.model_validate_json(body)
    except ValidationError as error:
        return f"it has {error.error_count()} fields that make no sense"
