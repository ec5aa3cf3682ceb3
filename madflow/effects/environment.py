"""What a command gets from the submitter's surroundings: a few variables, a program, a working folder. No more.

The environment is made from nothing: PATH, LANG and LC_ALL where the submitter has them, what the policy's
`[commands] env` names, and the attempt's own MADFLOW_* variables, which nothing overrides. Relative entries of PATH are
dropped: a program must not depend on the folder a command happens to run in.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..core.plan import path_problem
from ..core.policy import Policy, any_match
from ..core.saga import Failed
from ..ports import EffectContext

__all__ = ["clean_environment", "command_denied", "find_program", "open_folder"]

_PASSED_ON: Final = ("LANG", "LC_ALL")
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def clean_environment(ctx: EffectContext, surroundings: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a command. `surroundings`: the submitter's own."""
    path = surroundings.get("PATH", os.defpath)
    made = {"PATH": os.pathsep.join(part for part in path.split(os.pathsep) if part.startswith("/"))}
    for name in (*_PASSED_ON, *ctx.policy.commands.env):
        if name != "PATH" and name in surroundings:
            made[name] = surroundings[name]
    made["MADFLOW_IDEMPOTENCY_KEY"] = ctx.key
    made["MADFLOW_TERM"] = str(ctx.term)
    made["MADFLOW_ATTEMPT"] = str(ctx.attempt)
    return made


def command_denied(kind: str, program: str, policy: Policy) -> Failed | None:
    """The refusal of a program that no entry of the policy allows for this kind of step; None where one does."""
    if any(kind in entry.step and any_match(entry.commands, program) for entry in policy.allow):
        return None
    message = f"the policy allows no {kind} to run {program[:200]!r}; add it to `commands` of an [[allow]] entry"
    return Failed("permission_denied", message, applied=False)


def find_program(name: str, env: Mapping[str, str], root: Path) -> str | Failed:
    """The absolute path of a program: a bare name from PATH, a name with a slash from beneath the root.

    Symlinks are not followed beneath the root. Absolute paths are refused: a policy names programs, not places.
    """
    if "/" not in name:
        found = shutil.which(name, path=env["PATH"])
        if found is None:
            return _no_program(name, f"no such program on PATH ({env['PATH'][:200]})")
        return found
    relative = name.removeprefix("./")
    if problem := path_problem(relative):
        return _no_program(name, f"{problem}; name a program on PATH, or a file beneath the root")
    folder, _, last = relative.rpartition("/")
    try:
        parent = open_folder(root, folder or None)
        try:
            found_mode = os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode
            runs = stat.S_ISREG(found_mode) and os.access(last, os.X_OK, dir_fd=parent)
        finally:
            os.close(parent)
    except OSError as error:
        return _no_program(name, f"{error.strerror}, beneath the root and without following symlinks")
    if not runs:
        return _no_program(name, "not an executable file; symlinks are not followed")
    return f"{os.path.realpath(root)}/{relative}"


def _no_program(name: str, why: str) -> Failed:
    return Failed("no_such_program", f"{name[:200]!r} cannot be run: {why}", applied=False)


def open_folder(root: Path, relative: str | None) -> int:
    """A descriptor of a folder beneath the root, or of the root itself; no symlink is followed on the way.

    Raises:
        OSError: a part is missing, is no folder, or is a symlink.
    """
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in relative.split("/") if relative else ():
        try:
            below = os.open(part, _FOLDER, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here
