"""Evidence checked: what a finding or a plan quotes, against the diff and the tree.

A reviewer's claims are checked by `core.findings.check_claims`. A plan's evidence names a place as
`file:PATH`, `file:PATH:LINE`, `diff:PATH` or `diff:PATH:LINE`; the rules are the same:

- a quote found: verified; `ref` names the line where it stands. Not found: not verified.
- no quote: a place that exists is verified, one that does not is not.
- what cannot be checked (a URL, a note, a secret-looking file, no root given) stays None: neither true nor false.

References come from a model. A path that leaves the root is evidence that does not hold, never an error of the user and
never read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..core.messages import Evidence, Task, TaskFile
from ..core.quotes import NewSide
from ..errors import TaskError
from .reading import read_beneath
from .secrets import redact

__all__ = ["check_evidence"]

_REF = re.compile(r"^(?:(?P<kind>file|diff):)?(?P<path>.+?)(?::(?P<line>[1-9][0-9]{0,7}))?$", re.DOTALL)


def check_evidence(
    evidence: Iterable[Evidence], *, root: Path | None = None, task: Task | None = None
) -> tuple[Evidence, ...]:
    """The same evidence with `verified` set, and `ref` corrected where a quote stands on another line.

    Args:
        root: the tree that `file:` references are read from. Without it they are looked up in the task's files.
        task: the task whose diff `diff:` references name.
    """
    sides: dict[tuple[str, str], NewSide | bool | None] = {}
    return tuple(_checked(item, root, task, sides) for item in evidence)


def _checked(
    item: Evidence, root: Path | None, task: Task | None, sides: dict[tuple[str, str], NewSide | bool | None]
) -> Evidence:
    place = _REF.match(item.ref.strip())
    if item.kind not in ("file", "diff") or place is None:
        return item.model_copy(update={"verified": None})
    path, kind = place["path"].removeprefix("./"), place["kind"] or item.kind
    if (kind, path) not in sides:
        in_tree = kind == "file" and root is not None
        sides[kind, path] = _tree_side(path, root) if in_tree and root is not None else _task_side(path, task)
    side = sides[kind, path]
    if not isinstance(side, NewSide):
        return item.model_copy(update={"verified": side})
    line = int(place["line"] or "1")
    if not item.quote.strip():
        return item.model_copy(update={"verified": not side.beyond(line) or (line == 1 and not place["line"])})
    found = side.find(item.quote, line)
    if found is None:
        return item.model_copy(update={"verified": False})
    return item.model_copy(update={"verified": True, "ref": f"{kind}:{path}:{found.line}"})


def _tree_side(path: str, root: Path) -> NewSide | bool | None:
    """The file's lines; False where it cannot be there, None where it may not be looked at."""
    try:
        data = read_beneath(root, path)
    except TaskError:
        return False
    if isinstance(data, str):
        return False if data == "missing" else None
    text = redact(data.decode("utf-8", "replace"))
    return NewSide(TaskFile(path=path, language="", diff="", text=text))


def _task_side(path: str, task: Task | None) -> NewSide | bool | None:
    if task is None:
        return None
    for file in task.files:
        if file.path == path:
            return None if file.left_out or file.binary else NewSide(file)
    return False
