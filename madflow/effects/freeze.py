"""Freezing a plan: saying of each file what it holds before the step that changes it.

Only a plan that says what it overwrites can be voted on: a voter has seen that content, and nobody else's is ever lost.
The steps are gone through in order over a picture of the tree in memory, so that a step may patch what the step before
wrote. Nothing is written. What other steps do to files (a command, a commit) is not foreseen: a file that a command
changes between two steps of the plan fails the later one's precondition.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..core.plan import ABSENT, PatchStep, WriteStep, parse_plan
from ..errors import EffectError, PlanError
from .beneath import FILE_BYTES_MAX, read_file
from .patch import content_after

__all__ = ["FROZEN_BYTES_MAX", "freeze_plan"]

FROZEN_BYTES_MAX: Final = 64 * 1024 * 1024
"""Most bytes of file content that are held while one plan is frozen."""


def freeze_plan(
    plan: Sequence[Mapping[str, Any]], root: Path, *, protected: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """The plan with `sha256_before` filled in for every write and patch step that lacks it. Reads files.

    A `sha256_before` that is given is kept, also where it differs from the tree: the gate refuses that, by name.

    Args:
        root: the tree; protected: paths beneath it that are never a step's, beside `.madflow` and `.git`.

    Raises:
        PlanError: a step that cannot be used as it is written, a path that is refused, a patch that does not apply,
            more than `FROZEN_BYTES_MAX` bytes. `step` is its index.
    """
    own = frozenset(protected)
    frozen: list[dict[str, Any]] = []
    overlay: dict[str, bytes | None] = {}
    for index, (data, step) in enumerate(zip(plan, parse_plan(plan), strict=True)):
        filled = dict(data)
        if isinstance(step, WriteStep | PatchStep):
            path = step.target.removeprefix("file:")
            try:
                _check_folders(path, overlay)
                before = overlay[path] if path in overlay else read_file(root, path, protected=own)
                overlay[path] = after = content_after(step, before)
                _check_size(path, after, overlay)
            except EffectError as error:
                raise PlanError(f"step {index} ({step.step} {path!r}): {error}", step=index) from error
            if step.sha256_before is None:
                filled["sha256_before"] = ABSENT if before is None else hashlib.sha256(before).hexdigest()
        frozen.append(filled)
    return frozen


def _check_folders(path: str, overlay: Mapping[str, bytes | None]) -> None:
    """An earlier step has not made a file where this path needs a folder, nor files beneath it."""
    for other, content in overlay.items():
        if content is not None and (path.startswith(f"{other}/") or other.startswith(f"{path}/")):
            raise EffectError("not_a_folder", f"an earlier step makes {other!r}, so one of the two has to be a folder")


def _check_size(path: str, after: bytes | None, overlay: Mapping[str, bytes | None]) -> None:
    if after is not None and len(after) > FILE_BYTES_MAX:
        raise EffectError("too_large", f"{path!r} would have {len(after)} bytes, the limit is {FILE_BYTES_MAX}")
    held = sum(len(content) for content in overlay.values() if content is not None)
    if held > FROZEN_BYTES_MAX:
        raise EffectError(
            "too_large", f"the plan's files hold {held} bytes, the limit is {FROZEN_BYTES_MAX}; split the plan"
        )
