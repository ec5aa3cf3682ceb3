"""Files of a run: lines that stay, documents that appear whole, one writer at a time.

A line is appended with one write and synced before it counts. What a crash leaves behind the last newline is no line:
it is cut off when the file is opened again. Nothing else is ever repaired; a line that does not parse is an error.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import ConfigError, MadflowError

__all__ = ["Lines", "make_folder", "replace_file", "sole_writer"]


class Lines:
    """A file of JSON lines that is appended to.

    Args:
        path: made where it is missing; its folder is there.

    Raises:
        MadflowError: it cannot be opened or written to, or a line in it is no JSON.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("a+b")
            try:
                _sync_folder(path.parent)
                self.entries = list(self._load())
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise _cannot(path, error) from error

    def append(self, entry: Any) -> None:
        """Write one line; it is on the disk when this returns."""
        try:
            self._file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _cannot(self._path, error) from error

    def close(self) -> None:
        """Close it. Raises MadflowError where that writes what an append could not, and cannot either."""
        try:
            self._file.close()
        except OSError as error:
            raise _cannot(self._path, error) from error

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except MadflowError as second:
            if error is None:
                raise
            error.add_note(str(second))  # what went wrong first is what is to be told

    def _load(self) -> Iterator[Any]:
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                yield json.loads(line)
            except ValueError as error:
                raise MadflowError(
                    f"{self._path}:{number}: no JSON ({error}); the file was changed by somebody else: use --fresh"
                ) from error
        self._file.truncate(whole)


def replace_file(path: Path, text: str) -> None:
    """Put `text` at `path`, whole or not at all; durable when it returns.

    Raises:
        MadflowError: it cannot be written; names the file and why.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105 - the same call, on the path that mkstemp gave
            _sync_folder(path.parent)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _cannot(path, error) from error


def make_folder(path: Path) -> Path:
    """The folder, made where it is missing.

    Raises:
        ConfigError: it cannot be made, or is no folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: no folder can be made here ({error.strerror or error}); name another") from error
    return path


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a folder while the block runs; the kernel lets go of it however this process ends.

    Raises:
        ConfigError: there can be no folder, or no file in it. MadflowError: another process holds it.
    """
    try:
        opened = make_folder(folder).joinpath("lock").open("ab")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written to ({error.strerror or error}); name another --out") from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MadflowError(f"{folder}: another run writes here; wait for it, or use another --out") from error
        yield


def _sync_folder(folder: Path) -> None:
    """A file's name is durable when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot(path: Path, error: OSError) -> MadflowError:
    return MadflowError(f"{path}: cannot be written ({error.strerror or error}); free some space, or use another --out")
