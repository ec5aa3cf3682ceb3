"""The tree a diff belongs to: reading changed files beneath a root, and telling which side of the change it holds.

Paths come from the diff and are hostile; `debate.reading` reads them.

The root should be the tree after the change. If its files hold the old side instead, the change is applied in memory,
strictly: every context and removed line must stand where the hunk says (only a `\r` at a line's end may differ, for
checkouts on Windows). A tree that is neither, or half of each, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..debate.reading import read_beneath
from ..errors import TaskError
from .patch import FilePatch

__all__ = ["TEXT_BYTES_TOTAL_MAX", "new_text", "new_texts"]

TEXT_BYTES_TOTAL_MAX = 32 * 1024 * 1024
"""Texts beyond this sum are not read, in the diff's order."""

_SYMLINK, _SUBMODULE = "120000", "160000"
_NAMED_MAX = 3


def new_text(patch: FilePatch) -> str | None:
    """The whole new text as the diff alone tells it: of a new file, else None."""
    if patch.old is not None or patch.new is None or patch.binary or patch.mode in (_SYMLINK, _SUBMODULE):
        return None
    return "".join(f"{line}\n" for hunk in patch.hunks for line in hunk.new)


def new_texts(patches: Sequence[FilePatch], root: Path) -> dict[str, str | None]:
    """The whole new text of each file, by path; None where it is not known (deleted, a link, too large).

    Args:
        patches: text files that may be read: no binary or secret-looking ones.

    Raises:
        TaskError: the root is no directory, lacks files, holds neither side, or holds a mixture.
    """
    if not root.is_dir():
        raise TaskError(f"the root {root} is not a directory; give --root the tree that the diff belongs to")
    texts: dict[str, str | None] = {}
    sides: dict[str, str] = {}
    missing: list[str] = []
    added: list[FilePatch] = []
    spent = 0
    for patch in patches:
        if patch.new is None or patch.mode in (_SYMLINK, _SUBMODULE):
            texts[patch.path] = None
            continue
        side, text = _side(patch, root)
        if side == "missing":
            (added if patch.old is None else missing).append(patch if patch.old is None else patch.path)  # type: ignore[arg-type]
            text = new_text(patch)
        elif side:
            sides[patch.path] = side
        spent += len(text or "")
        texts[patch.path] = text if spent <= TEXT_BYTES_TOTAL_MAX else None
    if set(sides.values()) != {"old"}:  # a tree before the change has no file that the change adds
        missing += [patch.path for patch in added]
    _whole_tree(missing, sides, root)
    return texts


def _whole_tree(missing: Sequence[str], sides: dict[str, str], root: Path) -> None:
    if missing:
        more = f" and {len(missing) - _NAMED_MAX} more" if len(missing) > _NAMED_MAX else ""
        raise TaskError(
            f"the diff names {len(missing)} file(s) that {root} does not have: "
            f"{', '.join(sorted(missing)[:_NAMED_MAX])}{more}; give --root the tree after the change, or leave it out"
        )
    if len(set(sides.values())) > 1:
        first = {side: next(path for path, held in sorted(sides.items()) if held == side) for side in ("new", "old")}
        raise TaskError(
            f"{root} is half way through the change: it holds the new side of {first['new']} and the old side of "
            f"{first['old']}; give --root the tree after the change"
        )


def _side(patch: FilePatch, root: Path) -> tuple[str, str | None]:
    """(new | old | missing | "" for either, the new text)."""
    data = read_beneath(root, patch.path)
    renamed = patch.old is not None and patch.old != patch.new
    if data == "missing" and renamed and patch.old is not None:
        data = read_beneath(root, patch.old)
        if isinstance(data, bytes):
            return "old", _applied(patch, _lines(data), patch.old)
    if isinstance(data, str):
        if data.startswith("not readable"):
            raise TaskError(f"{patch.path} beneath {root} is {data}; check its permissions, or leave --root out")
        return ("missing" if data == "missing" else ""), None
    lines = _lines(data)
    wrong_new = _mismatch(patch, lines, new=True)
    if patch.old is None or renamed:
        if wrong_new:
            raise _neither(patch, wrong_new)
        return "new", data.decode("utf-8", "replace")
    wrong_old = _mismatch(patch, lines, new=False)
    if not wrong_new:
        return ("new" if wrong_old else ""), data.decode("utf-8", "replace")
    if wrong_old:
        raise _neither(patch, wrong_new)
    return "old", _applied(patch, lines, patch.path)


def _neither(patch: FilePatch, line: int) -> TaskError:
    return TaskError(
        f"{patch.path}:{line}: the tree holds neither the new nor the old side of the change here; give --root the "
        "tree after exactly this change, or leave it out"
    )


def _lines(data: bytes) -> list[str]:
    lines = data.decode("utf-8", "replace").split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _mismatch(patch: FilePatch, lines: Sequence[str], *, new: bool) -> int:
    """The first line where the tree differs from a side of the hunks; 0 if it does not."""
    for hunk in patch.hunks:
        start = max(hunk.new_start if new else hunk.old_start, 1)
        for number, text in enumerate(hunk.new if new else hunk.old, start=start):
            if number > len(lines) or lines[number - 1].rstrip("\r") != text.rstrip("\r"):
                return number
    if patch.old is None and new:
        extra = sum(len(hunk.new) for hunk in patch.hunks)
        return extra + 1 if len(lines) > extra else 0
    return 0


def _applied(patch: FilePatch, lines: Sequence[str], path: str) -> str:
    wrong = _mismatch(patch, lines, new=False)
    if wrong:
        raise TaskError(
            f"{path}:{wrong}: the tree before the change does not hold what the diff changes here; give --root the "
            "tree after exactly this change, or leave it out"
        )
    out: list[str] = []
    at = 0
    keep: Callable[[str], str] = str
    if lines and all(line.endswith("\r") for line in lines):
        keep = lambda line: line if line.endswith("\r") else f"{line}\r"  # noqa: E731 - the checkout's own line ends
    for hunk in patch.hunks:
        start = hunk.old_start - 1 if hunk.old else hunk.old_start
        out += lines[at:start]
        out += [keep(line) for line in hunk.new]
        at = start + len(hunk.old)
    out += lines[at:]
    return "".join(f"{line}\n" for line in out)
