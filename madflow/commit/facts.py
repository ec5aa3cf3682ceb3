"""Facts for the gate: what is at the paths of a plan now.

Facts are gathered once, before the first effect, and may be out of date a moment later: the gate's answer is for people
and for the record. Every effect looks again when it happens.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..core.gate import Facts, PathFact
from ..core.plan import STEPS_MAX, CommandStep, Step, TestStep, parse_step, path_problem, step_paths
from ..core.policy import Policy
from ..effects.beneath import inspect, open_dir
from ..effects.own import POLICY_NAME, protected_paths
from ..errors import EffectError, PlanError

__all__ = ["HASHED_BYTES_MAX", "PATHS_MAX", "gather_facts", "protected_paths"]

PATHS_MAX: Final = 2_000
HASHED_BYTES_MAX: Final = 1024 * 1024 * 1024
"""What is read to be hashed for one plan; what a single file may have, `effects.beneath` says."""


def gather_facts(
    plan: Sequence[Mapping[str, Any]],
    root: Path,
    policy: Policy,
    *,
    now_ms: int,
    protected: Iterable[str] = (),
    policy_file: Path | None = None,
    ledger: str = "this ledger",
) -> Facts:
    """What the gate has to know of the world to judge `plan`. Reads files; bounded, and blocking.

    Args:
        plan: steps as plain JSON; what cannot be read as a step has no facts, and the gate says why.
        now_ms: wall clock, milliseconds since the epoch.
        protected: as `protected_paths` gives them.
        policy_file: where the policy is from; None where there is none, or it was given as a value.
    """
    own = tuple(sorted(protected))
    files: dict[str, PathFact] = {}
    folders: dict[str, PathFact] = {}
    read = 0
    for step in _steps(plan):
        known = folders if isinstance(step, CommandStep | TestStep) else files
        for name in (name for name in step_paths(step) if name not in known):
            if len(files) + len(folders) >= PATHS_MAX:
                known[name] = PathFact(name, f"the plan names more than {PATHS_MAX} paths; split it")
                break
            if read > HASHED_BYTES_MAX:
                known[name] = PathFact(name, f"the plan's files have more than {HASHED_BYTES_MAX} bytes; split it")
            else:
                known[name] = PathFact(name, *inspect(root, name, protected=own, folder=known is folders))
                read += known[name].size
    files |= {path: _database(root, path) for path in policy.databases.values() if not path_problem(path)}
    return Facts(
        now_ms=now_ms,
        paths=files,
        folders=folders,
        protected=own,
        ledger=ledger,
        policy_file=str(policy_file or root / POLICY_NAME),
        has_policy=policy_file is not None or policy != Policy(),
    )


def _steps(plan: Sequence[Mapping[str, Any]]) -> list[Step]:
    found = []
    for index, data in enumerate(plan[:STEPS_MAX]):
        try:
            found.append(parse_step(data, index))
        except PlanError:
            continue  # the gate parses it too, and says what is wrong
    return found


def _database(root: Path, path: str) -> PathFact:
    """A database: a regular file or nothing yet, reached without a symlink. Its content is not read."""
    *above, name = path.split("/")
    try:
        with open_dir(root, above) as folder:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False) if folder is not None else None
    except FileNotFoundError:
        return PathFact(path)
    except (EffectError, OSError) as error:
        return PathFact(path, str(error)[:500])
    if found is not None and not stat.S_ISREG(found.st_mode):
        return PathFact(path, "it is no regular file")
    return PathFact(path, exists=found is not None, size=found.st_size if found else 0)
