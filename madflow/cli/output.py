"""Where results go: stdout as bytes, files by a rename."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import MadflowError

__all__ = ["note", "print_text", "write_atomically", "write_lines"]


def print_text(text: str) -> None:
    """Write `text` to stdout as UTF-8, whatever the locale, and flush it.

    Raises:
        SystemExit: whoever read stdout has seen enough (`| head`). It ends without a word, with the status that a shell
            shows for a program that SIGPIPE ended: not everything was written.
        MadflowError: it cannot be written, e.g. the disk is full; says why.
    """
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        _drop_stdout()
        raise SystemExit(128 + signal.SIGPIPE) from error
    except OSError as error:
        _drop_stdout()
        raise MadflowError(f"standard output cannot be written ({error.strerror}); write to another place") from error


def _drop_stdout() -> None:
    """What is still buffered goes nowhere: Python would complain about it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """One line on stderr: something the user should know that is no result."""
    print(f"madflow: {text}", file=sys.stderr, flush=True)


def write_atomically(path: Path, text: str) -> None:
    """Put `text` at `path` whole or not at all; durable when it returns. Keeps the mode of a file that is replaced.

    Raises:
        MadflowError: it cannot be written; names the file and why.
    """
    _replace(path, [text], "the ledger has the result: run `madflow replay ID --out FILE`")


def write_lines(path: Path | None, lines: Iterable[str]) -> int:
    """Write lines one by one, each ended by a newline; how many. None: to stdout. A file appears whole or not at all.

    Raises:
        MadflowError: it cannot be written; names the file and why. What making the lines raises.
    """
    count = 0

    def ended() -> Iterator[str]:
        nonlocal count
        for line in lines:
            count += 1
            yield f"{line}\n"

    if path is None:
        for line in ended():
            print_text(line)
    else:
        _replace(path, ended(), "name another file")
    return count


def _replace(path: Path, parts: Iterable[str], instead: str) -> None:
    target = path.resolve()
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for part in parts:
                    file.write(part.encode())
                file.flush()
                os.fchmod(file.fileno(), _mode(target))
                os.fsync(file.fileno())
            os.replace(temporary, target)  # noqa: PTH105 - the same call, on the path that mkstemp gave
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise MadflowError(f"{path}: cannot be written ({error.strerror or error}); {instead}") from error


def _mode(target: Path) -> int:
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
