"""The supervisor of one command: a small process between the submitter and what it runs.

It is run as a file, `python -I -S supervisor.py`, and imports nothing but a little of the standard library, so that it
is there within milliseconds. Its rules:

1. Nothing starts before the submitter says so, and it says so only after the supervisor reported that it holds the
   lock of the key. So whenever a command runs, or may still start, the lock is held.
2. The lock is a kernel lock on `<run_dir>/<key>.lock`, close-on-exec: the command does not keep it, and it ends with
   the supervisor however that ends. It is released after the last process is gone, never before.
3. The lock file holds the highest term that has used or checked the key. A smaller term is refused: a submitter that
   was stopped before it got here cannot start anything once its successor has looked.
4. Everything the command started is ended when the submitter's end of the pipe closes, when the submitter is gone
   (another process may hold a copy of that pipe), at the deadline, on SIGTERM to the supervisor, and when the command
   itself has ended and left processes behind. SIGTERM first, SIGKILL after a grace.
5. A process that leaves its group or its session (a daemon) does not get away: as the subreaper of its descendants
   (Linux) the supervisor becomes the parent of each orphan. It signals only its own children, whose numbers cannot be
   reused before it has waited for them; killing a parent makes its children ours.

If the supervisor itself is killed by SIGKILL, the kernel kills the command (parent-death signal), but not what the
command started. Without Linux there is no subreaper: then only the command's process group is ended.

The submitter writes `LENGTH\\n` and as many bytes of fields, separated by NUL (see `encode_job`), and later
`go MILLISECONDS\\n`. The supervisor answers in lines of JSON on its stdout: `{"state": "ready"}` or
`{"state": "refused", "code": …, "detail": …}`, and at the end `{"state": "ended", …}`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is a quarter of what its start would cost, before every command
    from collections.abc import Callable, Mapping, Sequence
    from typing import Final, NoReturn

__all__ = ["Refused", "encode_job", "main", "take_lock"]

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
LOCK_TRIES: Final = 50
LOCK_PAUSE_S: Final = 0.005
SWEEP_MS: Final = 5
SWEEP_MS_MAX: Final = 100
_SIGNALS: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_DEFAULTS: Final = (*_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ)
_JOB_FIELDS: Final = 9


class Refused(Exception):
    """The key cannot be used now. `code`: "busy" (something still runs for it), "fenced" (a greater term has it), or
    "lock_garbled"."""

    def __init__(self, code: str, detail: str) -> None:
        self.code, self.detail = code, detail
        super().__init__(f"{code}: {detail}")


def take_lock(path: str, term: int, *, tries: int = 1) -> int:
    """The descriptor of the key's lock, held, with `term` written to it. Unlock or close it to give it back.

    Raises:
        Refused: it is held, or a greater term was here.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        for left in range(tries, 0, -1):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if left == 1:
                    raise Refused("busy", "what an earlier attempt started is still running") from None
                time.sleep(LOCK_PAUSE_S)
        said = os.pread(descriptor, 64, 0).strip(b"\0 \n")
        if said and not said.isdigit():
            raise Refused("lock_garbled", f"the lock file holds {said[:20].hex()} (hex), not a term; move it away")
        if int(said or b"0") > term:
            raise Refused("fenced", f"term {int(said)} has taken this key over from term {term}")
        os.pwrite(descriptor, b"%20d\n" % term, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def encode_job(
    *,
    submitter: int,
    term: int,
    grace_ms: int,
    descriptors: tuple[int, int, int],
    lock_path: str,
    program: str,
    argv: Sequence[str],
    env: Mapping[str, str],
) -> bytes:
    """The job as the supervisor reads it. `descriptors`: the command's stdout, stderr and working folder."""
    numbers = (submitter, term, grace_ms, *descriptors, len(argv))
    fields = [str(number) for number in numbers] + [lock_path, program, *argv]
    fields += [f"{name}={value}" for name, value in env.items()]
    body = b"\0".join(os.fsencode(field) for field in fields)
    return b"%d\n%s" % (len(body), body)


class _Job:
    def __init__(self, body: bytes) -> None:
        fields = body.split(b"\0")
        numbers = [int(field) for field in fields[: _JOB_FIELDS - 2]]
        self.submitter, self.term, self.grace_ms, self.out, self.err, self.folder, argc = numbers
        self.lock_path, self.program = os.fsdecode(fields[_JOB_FIELDS - 2]), fields[_JOB_FIELDS - 1]
        self.argv = fields[_JOB_FIELDS : _JOB_FIELDS + argc]
        self.env = dict(field.split(b"=", 1) for field in fields[_JOB_FIELDS + argc :])
        for descriptor in (self.out, self.err, self.folder):
            os.set_inheritable(descriptor, False)


def _read_line() -> bytes:
    """A line of the submitter, without its end; empty when the submitter has closed the pipe."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return line[:-1]


def _read_job() -> _Job | None:
    length = _read_line()
    if not length:
        return None
    left, parts = int(length), []
    while left:
        part = os.read(0, min(left, 65_536))
        if not part:
            return None
        parts.append(part)
        left -= len(part)
    return _Job(b"".join(parts))


def _say(line: str) -> None:
    try:
        os.write(1, line.encode() + b"\n")
    except BrokenPipeError:
        return  # the submitter is gone: nobody is left to tell


def _refuse(code: str, detail: str) -> None:
    _say(f'{{"state": "refused", "code": "{code}", "detail": "{detail}"}}')


class _Group:
    """The command and everything that descends from it."""

    def __init__(self, prctl: Callable[[int, int], int] | None) -> None:
        self.adopts = prctl is not None
        self._prctl = prctl
        self.pid = 0
        self.left_behind: set[int] = set()
        self._termed: set[int] = set()

    def start(self, job: _Job) -> int:
        """Start the command; a descriptor on which the number of a failed exec's error can be read in the end."""
        failure, failed = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(job, nothing, failed, parent)
        try:  # noqa: SIM105  contextlib costs start-up time
            os.setpgid(self.pid, self.pid)  # the child does it too: whoever comes first
        except (PermissionError, ProcessLookupError):
            pass  # it has executed, or ended, already
        for descriptor in (failed, nothing, job.out, job.err, job.folder):
            os.close(descriptor)
        return failure

    def _become(self, job: _Job, nothing: int, failed: int, parent: int) -> NoReturn:
        try:
            os.setpgid(0, 0)
            if self._prctl is not None:
                self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(127)
            os.dup2(nothing, 0)
            os.dup2(job.out, 1)
            os.dup2(job.err, 2)
            os.fchdir(job.folder)
            signal.set_wakeup_fd(-1)
            for number in _DEFAULTS:
                signal.signal(number, signal.SIG_DFL)
            os.execve(job.program, job.argv, job.env)  # noqa: S606  no shell, by design
        except (OSError, ValueError) as error:
            os.write(failed, b"%d" % (getattr(error, "errno", 0) or errno.EINVAL))
        finally:
            os._exit(127)

    def reap(self) -> bool:
        """Wait for every child that has ended but the command itself; whether that has ended."""
        while True:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return False
            if found.si_pid == self.pid:
                return True
            os.waitpid(found.si_pid, 0)

    def end(self, grace_s: float, wake: int) -> int:
        """End all that lives, and return the command's wait status. Takes as long as it takes."""
        kill_at, pause_ms = time.monotonic() + grace_s, SWEEP_MS
        status: int | None = None
        while True:
            ended = status is not None or self._has_ended()
            others = [pid for pid in self._children() if pid != self.pid and not _reaped(pid)]
            if ended and others:
                self.left_behind.update(others)
            elif ended and status is None:
                status = self._last_words()
            if status is not None and _childless():
                return status
            late = time.monotonic() >= kill_at
            self._signal([*([] if status is not None else [-self.pid]), *others], kill=late)
            pause_ms = min(pause_ms * 2, SWEEP_MS_MAX) if late else SWEEP_MS
            if select.select([wake], [], [], pause_ms / 1000)[0]:
                os.read(wake, 512)

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _last_words(self) -> int:
        """The command's wait status. From here on its number, and with it its group's, may be another's."""
        try:
            os.killpg(self.pid, signal.SIGKILL)  # matters only where orphans are not adopted
        except (ProcessLookupError, PermissionError):
            return os.waitpid(self.pid, 0)[1]
        return os.waitpid(self.pid, 0)[1]

    def _signal(self, pids: Sequence[int], *, kill: bool) -> None:
        number = signal.SIGKILL if kill else signal.SIGTERM
        for pid in pids:
            if kill or pid not in self._termed:
                self._termed.add(pid)
                try:
                    os.kill(pid, number)
                except (ProcessLookupError, PermissionError):
                    continue  # gone, or another user's by now: the lock stays held until it ends

    def _children(self) -> list[int]:
        if not self.adopts:
            return [self.pid]
        me = os.getpid()
        try:
            with open(f"/proc/{me}/task/{me}/children", "rb") as file:  # noqa: PTH123  no pathlib: start-up time
                return [int(pid) for pid in file.read().split()]
        except FileNotFoundError:
            return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(name) == me]  # noqa: PTH208


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0  # it has ended meanwhile


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _childless() -> bool:
    """Whether no child is left, by the kernel's own word; what has ended meanwhile is waited for."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def _prctl() -> Callable[[int, int], int] | None:
    """Linux's prctl(2) with this process made the reaper of its orphaned descendants; None elsewhere."""
    if not sys.platform.startswith("linux") or not os.path.isdir("/proc/self"):  # noqa: PTH112
        return None
    library = ctypes.CDLL(None, use_errno=True)

    def call(option: int, value: int) -> int:
        return int(library.prctl(option, ctypes.c_ulong(value), 0, 0, 0))

    if call(PR_SET_CHILD_SUBREAPER, 1) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
    return call


def _submitter(pid: int) -> int | None:
    """A descriptor that becomes readable when the submitter ends; None where the kernel has none (the pipe tells)."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _wait(group: _Group, submitter: int | None, wake: int, stopped: list[int], deadline: float) -> str:
    """Why the command's time is over: ended, deadline, told (the pipe has closed), submitter_gone or stopped."""
    poller = select.poll()
    for descriptor in (0, wake) if submitter is None else (0, wake, submitter):
        poller.register(descriptor, select.POLLIN)
    while True:
        if group.reap():
            return "ended"
        if stopped:
            return "stopped"
        left = deadline - time.monotonic()
        if left <= 0:
            return "deadline"
        ready = [descriptor for descriptor, _ in poller.poll(min(left, 3600) * 1000 + 1)]
        if submitter in ready:
            return "submitter_gone"
        if wake in ready:
            os.read(wake, 512)
        if 0 in ready and not os.read(0, 512):
            return "told"


def _run(job: _Job, lock: int) -> None:
    """From "ready" to the end of all that the command started."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    stopped: list[int] = []
    for number in _SIGNALS:
        signal.signal(number, lambda caught, _: stopped.append(caught) if caught != signal.SIGCHLD else None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    group, submitter = _Group(_prctl()), _submitter(job.submitter)
    _say('{"state": "ready"}')
    go = _read_line()
    if not go.startswith(b"go ") or os.getppid() != job.submitter or stopped:
        _refuse("stopped", "the supervisor was told to end before the command started")
        return
    deadline = time.monotonic() + int(go[3:]) / 1000
    try:
        failure = group.start(job)
        why = _wait(group, submitter, wake, stopped, deadline)
    finally:
        if group.pid:
            status = group.end(job.grace_ms / 1000, wake)
        fcntl.flock(lock, fcntl.LOCK_UN)  # only now; and before the submitter learns of it
    code = os.waitstatus_to_exitcode(status)
    failed = int(os.read(failure, 16) or b"0")
    left = len(group.left_behind) if why == "ended" else 0
    _say(f'{{"state": "ended", "why": "{why}", "exit_code": {code}, "left_behind": {left}, "errno": {failed}}}')


def main() -> int:
    """Serve one job; 0, also where it was refused or called off."""
    job = _read_job()
    if job is None:
        return 0
    try:
        lock = take_lock(job.lock_path, job.term, tries=LOCK_TRIES)
    except Refused as refused:
        _refuse(refused.code, refused.detail)
        return 0
    _run(job, lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
