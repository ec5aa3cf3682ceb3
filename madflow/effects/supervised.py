"""The submitter's side of a supervised command: start it, keep a bounded part of what it prints, learn how it ended.

See `supervisor` for the rules. Whatever happens here (an error, a cancellation, the end of the process), the pipe to
the supervisor closes, and the supervisor ends what it started. `run` waits for that, within a bound.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import IO, Any, Final

from .supervisor import encode_job

__all__ = ["END_S", "GRACE_S", "KEPT_BYTES", "Ended", "Invocation", "Kept", "NotStarted", "run", "visible"]

KEPT_BYTES: Final = 16 * 1024
"""How much of a command's output is kept of its start, and as much again of its end."""
GRACE_S: Final = 1.0
"""Between SIGTERM and SIGKILL, at most."""
END_S: Final = 5.0
"""How long to wait for a supervisor that was told to end everything. What does not die by then (a process in an
uninterruptible wait, or another user's) keeps the lock."""
_START_S: Final = 10.0
_SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")


@dataclass(frozen=True, slots=True)
class Invocation:
    """What to run.

    Attributes:
        program: absolute path; argv: arguments, with the program's name first; env: the whole environment.
        folder: descriptor of the working folder.
        lock_path: the key's lock; term: fences smaller ones.
        timeout_s: everything has ended by then, counted from the call of `run`.
    """

    program: str
    argv: Sequence[str]
    env: Mapping[str, str]
    folder: int
    lock_path: str
    term: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The command certainly did not start. `code`: "busy", "fenced", "lock_garbled", "timeout", "cannot_start",
    "no_supervisor", "stopped"."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The command was started.

    Attributes:
        why: "ended" by itself; "deadline", "stopped"; "lost" (the supervisor was killed), "stuck" (it cannot end
            what it started).
        exit_code: as in `subprocess`, negative for a signal; None where it is not known.
        left_behind: processes that outlived the command, and were ended.
    """

    why: str
    exit_code: int | None
    left_behind: int
    stdout: Kept
    stderr: Kept


class Kept(asyncio.Protocol):
    """The first and the last bytes of a stream, and how many there were; the rest is read and dropped."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.total, self._limit = 0, limit
        self._head, self._tail = bytearray(), bytearray()
        self.closed = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self.total += len(data)
        room = self._limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data[-self._limit :]
        if len(self._tail) > self._limit:
            del self._tail[: -self._limit]

    def connection_lost(self, exc: Exception | None) -> None:
        """All writers have closed it."""
        if not self.closed.done():
            self.closed.set_result(exc)

    def text(self) -> str:
        """What was kept, with a note where bytes are left out; control and format characters are made visible."""
        left_out = self.total - len(self._head) - len(self._tail)
        if not left_out:
            return visible(bytes(self._head + self._tail))
        return f"{visible(bytes(self._head))}\n[{left_out} bytes left out]\n{visible(bytes(self._tail))}"


def visible(data: bytes) -> str:
    """`data` as text that does nothing to a terminal: bad UTF-8, control and format characters are replaced."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return text if text.isprintable() else "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


async def run(invocation: Invocation) -> Ended | NotStarted:
    """Run the command to its end, or to its deadline, and end everything it started.

    A cancellation ends the command too; that is waited for, `END_S` at most.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + invocation.timeout_s
    grace_s = min(GRACE_S, invocation.timeout_s / 4)
    kept = Kept(), Kept()
    try:
        started = _spawn(invocation, grace_s)
    except OSError as error:
        return NotStarted("no_supervisor", f"{sys.executable!r} could not be started: {error}")
    async with _attended(started, kept) as (control, status):
        control.write(started.job)
        first = await _line(status, min(deadline, loop.time() + _START_S))
        if first.get("state") != "ready":
            return _not_started(first)
        left_s = deadline - loop.time()
        if left_s <= 0:
            return NotStarted("timeout", f"{invocation.timeout_s:g} s passed before the command could start")
        control.write(b"go %d\n" % max(1, int((left_s - grace_s) * 1000)))
        last = await _line(status, deadline + END_S)
        if last.get("state") == "refused" or last.get("errno"):
            return _not_started(last)
        if last.get("state") == "ended":  # so nobody writes any more, and what was written can be read to its end
            await asyncio.wait([stream.closed for stream in kept], timeout=END_S)
    return Ended(str(last["why"]), last.get("exit_code"), int(last.get("left_behind", 0)), *kept)


@dataclass(frozen=True, slots=True)
class _Started:
    process: Popen[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]
    job: bytes


def _spawn(invocation: Invocation, grace_s: float) -> _Started:
    with ExitStack() as on_failure, ExitStack() as theirs:
        ends = []
        for _ in range(2):
            mine, other = os.pipe()
            ends.append((on_failure.enter_context(os.fdopen(mine, "rb", buffering=0)), other))
            theirs.callback(os.close, other)
        (stdout, out), (stderr, err) = ends
        job = encode_job(
            submitter=os.getpid(),
            term=invocation.term,
            grace_ms=int(grace_s * 1000),
            descriptors=(out, err, invocation.folder),
            lock_path=invocation.lock_path,
            program=invocation.program,
            argv=invocation.argv,
            env=invocation.env,
        )
        process = Popen(
            [sys.executable, "-I", "-S", str(_SUPERVISOR)],
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            pass_fds=(out, err, invocation.folder),
            env=dict(invocation.env),
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
        on_failure.pop_all()
        return _Started(process, stdout, stderr, job)


@asynccontextmanager
async def _attended(
    started: _Started, kept: tuple[Kept, Kept]
) -> AsyncIterator[tuple[asyncio.WriteTransport, asyncio.StreamReader]]:
    """The supervisor's two pipes. At the end they are closed, which ends the command, and the supervisor is awaited."""
    loop, process = asyncio.get_running_loop(), started.process
    status = asyncio.StreamReader()
    with ExitStack() as open_pipes:
        for file in (process.stdin, process.stdout, started.stdout, started.stderr):
            open_pipes.callback(file.close)  # type: ignore[union-attr]
        for file, protocol in zip((started.stdout, started.stderr), kept, strict=True):
            transport, _ = await loop.connect_read_pipe(lambda made=protocol: made, file)  # type: ignore[misc]
            open_pipes.callback(transport.close)
        lines, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(status), process.stdout)
        open_pipes.callback(lines.close)
        control, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        try:
            yield control, status
        finally:
            if not control.is_closing():  # else the supervisor went first
                control.abort()
            await _reap(process)


async def _reap(process: Popen[bytes]) -> None:
    """Wait for the supervisor's end. One that cannot end what it started goes on trying, and keeps the lock."""
    loop = asyncio.get_running_loop()
    until, pause_s = loop.time() + END_S, 0.001
    while process.poll() is None and loop.time() < until:
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.02)


async def _line(status: asyncio.StreamReader, until: float) -> dict[str, Any]:
    """The supervisor's next word; other lines are a failing interpreter's, and become the detail."""
    said: list[str] = []
    try:
        async with asyncio.timeout_at(until):
            while line := await status.readline():
                if line.startswith(b"{"):
                    return dict(json.loads(line))
                said.append(line.decode(errors="replace").strip())
    except TimeoutError:
        return {"why": "stuck", "code": "no_supervisor", "detail": "the supervisor gave no answer in time"}
    detail = "; ".join(said[-3:])[-400:] or "without a word"
    return {"why": "lost", "code": "no_supervisor", "detail": f"the supervisor has ended: {detail}"}


def _not_started(said: dict[str, Any]) -> NotStarted:
    if said.get("errno"):
        return NotStarted("cannot_start", os.strerror(int(said["errno"])))
    return NotStarted(str(said.get("code", "no_supervisor")), str(said.get("detail", "")))
