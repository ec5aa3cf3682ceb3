"""policy.toml as a file: found, read and bounded.

A policy that everybody may write to is no policy, so it is refused, as ssh refuses a key. A symlink is followed (a
mounted configuration is one); the gate protects the name and what it leads to.
"""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Final

from ..core.policy import Policy, parse_policy
from ..effects.own import POLICY_NAME
from ..errors import PolicyError

__all__ = ["POLICY_BYTES_MAX", "POLICY_NAME", "load_policy"]

POLICY_BYTES_MAX: Final = 1024 * 1024
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe of that name is refused, not waited for


def load_policy(path: str | Path | None, root: Path) -> tuple[Policy, Path | None]:
    """The policy and the file it is from.

    Args:
        path: the file; None for `<root>/policy.toml`.

    Returns:
        The empty policy, which denies everything, and None, where no path was given and the default is not there.

    Raises:
        PolicyError: the file that was given is not there, cannot be read, is no regular file, may be written by
            everybody, has more than 1 MiB, is no TOML (with the line), or says what no policy says (with the key).
    """
    file = Path(path) if path is not None else root / POLICY_NAME
    try:
        data = _read(file)
    except FileNotFoundError as error:
        if path is None and not file.is_symlink():
            return Policy(), None
        raise PolicyError(f"there is no policy file {file}; name one that is there, or leave --policy out") from error
    except OSError as error:
        raise PolicyError(f"the policy file {file} cannot be read: {error.strerror}") from error
    return _parsed(data, file), file


def _read(file: Path) -> bytes:
    descriptor = os.open(file, _FLAGS)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PolicyError(f"the policy {file} is no regular file; write it to one")
        if found.st_mode & stat.S_IWOTH:
            raise PolicyError(f"everybody may write to the policy {file}; run: chmod o-w {file}")
        with os.fdopen(os.dup(descriptor), "rb") as opened:
            data = opened.read(POLICY_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(data) > POLICY_BYTES_MAX:
        raise PolicyError(
            f"the policy {file} has more than {POLICY_BYTES_MAX} bytes; write patterns, not lists of files"
        )
    return data


def _parsed(data: bytes, file: Path) -> Policy:
    try:
        document = tomllib.loads(data.decode())
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{file}: no TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except RecursionError as error:
        raise PolicyError(f"{file}: nested too deeply for a policy; see docs/reference/policy.md") from error
    return parse_policy(document, str(file))
