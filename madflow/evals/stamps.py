"""What decided a result, as digests: the bytes of the data, the code of madflow, the commit of a checkout."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import ConfigError
from .results import Code

__all__ = ["code_stamp", "digest_of", "file_digest"]

_CHUNK = 1 << 20


def digest_of(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        ConfigError: it cannot be read.
    """
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    return found.hexdigest()


def code_stamp(package: Path | None = None) -> Code:
    """The digest over all modules of madflow, by path and bytes; the commit where they lie in a git checkout.

    The commit says where the code came from; only the digest says what it was, local changes included.
    """
    root = package or Path(__file__).resolve().parent.parent
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root).as_posix()}\0{file_digest(path)}\n".encode())
    return Code(digest=found.hexdigest(), commit=_commit(root.parent / ".git"))


def _commit(git: Path) -> str | None:
    """The commit a checkout is on, read without git; None where it is packed away, or this is no checkout."""
    try:
        head = (git / "HEAD").read_text(encoding="ascii").strip()
        if head.startswith("ref: "):
            head = (git / head.removeprefix("ref: ")).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return head if len(head) == 40 else None
