"""The `git` program, run so that nothing in the repository runs with it.

A repository is data from somebody else, and its configuration can name programs: hooks, a file system monitor, filters,
a pager, signing, a remote's transport. So only plumbing is called, as an argument list; the environment is made anew;
the system's and the user's configuration are not read, and what the repository's own could start is switched off by
options, which win over it. A missing object is never fetched: no transport is allowed at all. Objects, refs and the
index are flushed (`core.fsync`, git 2.36 and later; an older git flushes refs and packs only).

`GIT_DIR` is the root's own `.git`. A linked worktree or a submodule, whose `.git` is a file that points elsewhere, is
refused, and so is a repository with a symbolic link where git writes: it would write elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..errors import EffectError
from .environment import absolute_path
from .fence import TimeLimit

__all__ = ["OUTPUT_BYTES_MAX", "Git", "check_repository"]

OUTPUT_BYTES_MAX: Final = 8 * 1024 * 1024
"""More output of one git program than this is an error."""

_SAID_CHARS_MAX: Final = 600
_GRACE_S: Final = 1.0
_OPTIONS: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.pager=cat",
    "core.sshCommand=false",
    "core.alternateRefsCommand=false",
    "core.fsync=all",
    "core.fsyncMethod=fsync",
    "protocol.allow=never",
    "commit.gpgSign=false",
    "gpg.program=false",
    "i18n.commitEncoding=UTF-8",
    "gc.auto=0",
    "maintenance.auto=false",
)
_WRITTEN: Final = (
    "HEAD",
    "index",
    "packed-refs",
    "objects",
    "objects/info",
    "objects/pack",
    "refs",
    "refs/heads",
    "logs",
    "logs/HEAD",
    "logs/refs",
    "logs/refs/heads",
)


def check_repository(root: Path, ref: str) -> None:
    """Raise EffectError unless `<root>/.git` is a repository of its own, in which git writes `ref` nowhere else."""
    folder = root / ".git"
    try:
        mode = folder.lstat().st_mode
    except OSError as error:
        why = f"{root} has no .git folder ({error.strerror}); --root is the top of the repository"
        raise EffectError("no_repository", why, applied=False) from error
    if not stat.S_ISDIR(mode):
        why = f"{folder} is no folder: a linked worktree or a submodule; commit at the top of the main repository"
        raise EffectError("no_repository", why, applied=False)
    if os.path.lexists(folder / "commondir"):
        why = f"{folder} shares another repository (it has a file commondir); commit there"
        raise EffectError("no_repository", why, applied=False)
    parts = ref.split("/")
    names = [*_WRITTEN, *("/".join(parts[:end]) for end in range(3, len(parts) + 1))]
    for name in (*names, *(f"logs/{name}" for name in names if name.startswith("refs/"))):
        if (folder / name).is_symlink():
            why = f"{folder / name} is a symbolic link, through which git would write elsewhere"
            raise EffectError("symlink", why, applied=False)


class Git:
    """Runs git in one repository, within one time limit.

    Args:
        root: the top of the repository, checked by `check_repository`.
        home: an empty folder, or one that is none of git's.
        held: a descriptor that every program gets, so that the lock behind it is kept until the last has ended.
        program: git's name, or its path.
    """

    def __init__(self, root: Path, home: Path, limit: TimeLimit, *, held: int, program: str = "git") -> None:
        path = absolute_path(os.environ)
        found = shutil.which(program, path=path)
        if found is None:
            why = f"there is no program {program!r} on PATH ({path[:200]}); install git, or leave git_commit steps out"
            raise EffectError("no_git", why, applied=False)
        self._program, self._root, self._limit, self._held = found, root, limit, held
        self._env = {
            "PATH": path,
            "HOME": str(home),
            "LC_ALL": "C",
            "GIT_DIR": str(root / ".git"),
            "GIT_WORK_TREE": str(root),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": "",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_ADVICE": "0",
        }

    async def text(self, *args: str, feed: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """The output of a program that must succeed, without the white space at its ends."""
        return (await self.run(*args, feed=feed, env=env))[1].decode(errors="replace").strip()

    async def found(self, *args: str) -> str:
        """The output of a program that exits with 1 where there is nothing; "" then."""
        return (await self.run(*args, ok=(0, 1)))[1].decode(errors="replace").strip()

    async def run(
        self,
        *args: str,
        feed: bytes = b"",
        env: Mapping[str, str] | None = None,
        ok: Iterable[int] | None = (0,),
        applied: bool | None = False,
    ) -> tuple[int, bytes, str]:
        """(exit code, output, what it said on stderr).

        Args:
            feed: its stdin; env: beside the fixed environment.
            ok: the exit codes that are no error; None: all.
            applied: what an error tells of the effect, where the program may have been stopped anywhere.

        Raises:
            EffectError: "no_git", "git_failed", "timeout", "too_large".
        """
        self._limit.check()
        command = [self._program, "--no-pager", "--no-optional-locks"]
        for option in _OPTIONS:
            command += ["-c", option]
        ended = await self._run([*command, *args], feed, {**self._env, **(env or {})}, args[0], applied)
        code, out = ended.code, bytes(ended.data[1])
        complaint = ended.data[2].decode(errors="replace").strip()
        if ok is not None and code not in ok:
            short = complaint.replace("\n", " ")[:_SAID_CHARS_MAX]
            raise EffectError("git_failed", f"git {args[0]} exited with {code}: {short}", applied=applied)
        return code, out, complaint

    async def _run(
        self, command: Sequence[str], feed: bytes, env: Mapping[str, str], name: str, applied: bool | None
    ) -> _Ended:
        loop = asyncio.get_running_loop()
        try:
            transport, ended = await loop.subprocess_exec(
                lambda: _Ended(name),
                *command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._root,
                env=env,
                start_new_session=True,
                pass_fds=(self._held,),
            )
        except OSError as error:
            raise EffectError("no_git", f"{self._program} cannot be run: {error}", applied=False) from error
        try:
            stdin = transport.get_pipe_transport(0)
            assert isinstance(stdin, asyncio.WriteTransport)  # noqa: S101 - it was asked for as a pipe
            stdin.write(feed)
            stdin.close()  # once all of it is written; one that ends without reading says why by its exit code
            async with asyncio.timeout(self._limit.left_s):
                await asyncio.shield(ended.all_closed)
        except TimeoutError as error:
            why = f"git {name} did not end in time; it was stopped"
            raise EffectError("timeout", why, transient=True, applied=applied) from error
        finally:
            await asyncio.shield(_end(transport, ended))
        ended.code = transport.get_returncode() or 0
        return ended


class _Ended(asyncio.SubprocessProtocol):
    """What a program printed, bounded, and when it and its pipes are gone.

    Attributes:
        data: by descriptor; code: its exit code, once it has ended.
    """

    def __init__(self, name: str) -> None:
        self._name, self.code = name, 0
        self.data = {1: bytearray(), 2: bytearray()}
        self.all_closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        kept = self.data[fd]
        kept += data[: OUTPUT_BYTES_MAX - len(kept)]
        if len(kept) >= OUTPUT_BYTES_MAX and not self.all_closed.done():
            why = f"git {self._name} printed {OUTPUT_BYTES_MAX} bytes or more; it was stopped"
            self.all_closed.set_exception(EffectError("too_large", why, applied=False))

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.all_closed.done():
            self.all_closed.set_result(None)


async def _end(transport: asyncio.SubprocessTransport, ended: _Ended) -> None:
    """See to it that the program and what it started have ended. SIGTERM first: then git removes its lock files."""
    well = ended.all_closed.done() and ended.all_closed.exception() is None
    for number in () if well else (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(transport.get_pid(), number)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await asyncio.shield(ended.exited)
    transport.close()
