"""What a command gets from the submitter's surroundings: a few variables, and a program. No more.

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

from ..core.permits import program_problem
from ..errors import EffectError
from ..ports import EffectContext
from .walk import naming, open_dir

__all__ = ["absolute_path", "clean_environment", "find_program"]

_PASSED_ON: Final = ("LANG", "LC_ALL")


def absolute_path(surroundings: Mapping[str, str]) -> str:
    """PATH without its relative entries, which would name programs of whatever folder something runs in."""
    path = surroundings.get("PATH", os.defpath)
    return os.pathsep.join(part for part in path.split(os.pathsep) if part.startswith("/"))


def clean_environment(ctx: EffectContext, surroundings: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a command. `surroundings`: the submitter's own."""
    made = {"PATH": absolute_path(surroundings)}
    for name in (*_PASSED_ON, *ctx.policy.commands.env):
        if name != "PATH" and name in surroundings:
            made[name] = surroundings[name]
    made["MADFLOW_IDEMPOTENCY_KEY"] = ctx.key
    made["MADFLOW_TERM"] = str(ctx.term)
    made["MADFLOW_ATTEMPT"] = str(ctx.attempt)
    return made


def find_program(name: str, env: Mapping[str, str], root: Path) -> str:
    """The absolute path of a program: a bare name from PATH, a name with a slash from beneath the root.

    Symbolic links are not followed beneath the root. Absolute paths are refused: a policy names programs, not places.

    Raises:
        EffectError: "no_such_program", or what is in the way beneath the root.
    """
    if problem := program_problem(name):
        raise _no_program(name, f"{problem}; name a program on PATH, or a file beneath the root")
    if "/" not in name:
        found = shutil.which(name, path=env["PATH"])
        if found is None:
            raise _no_program(name, f"no such program on PATH ({env['PATH'][:200]})")
        return found
    *parts, last = name.split("/")
    with open_dir(root, parts) as folder:
        if folder is None:
            raise _no_program(name, "no such folder beneath the root")
        try:
            with naming(name):
                mode = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
        except EffectError as error:
            raise _no_program(name, str(error)) from error
        if not stat.S_ISREG(mode) or not os.access(last, os.X_OK, dir_fd=folder):
            raise _no_program(name, "not an executable file; symbolic links are not followed")
    return f"{os.path.realpath(root)}/{name}"


def _no_program(name: str, why: str) -> EffectError:
    return EffectError("no_such_program", f"{name[:200]!r} cannot be run: {why}", applied=False)
