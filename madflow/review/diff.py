"""A diff in, a task out: `read_diff`.

What is hostile here: the diff's size, its paths, what it says in added lines, and links in the tree beneath the root.
What is secret never becomes part of a task: a secret-looking file keeps neither diff nor text, and secret-looking
values are redacted in both, in place, so that line numbers and quotes hold.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath

from ..core.messages import Task, TaskFile
from ..debate.reading import TEXT_BYTES_MAX
from ..debate.secrets import Redactor, redact, secret_path
from ..errors import TaskError
from .languages import language_of
from .patch import FilePatch, Hunk, read_patches
from .tree import new_text, new_texts

__all__ = ["DIFF_BYTES_MAX", "FILES_MAX", "read_diff"]

DIFF_BYTES_MAX = 20 * 1024 * 1024
FILES_MAX = 1_000
PATH_CHARS_MAX = 1_000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SMALLER = "review it in parts, e.g. git diff main...HEAD -- one/folder"


def read_diff(text: str | bytes, *, question: str, root: Path | None = None) -> Task:
    """The review task of a unified diff.

    Args:
        text: what git diff, git show, diff -u or a forge's `.diff` prints; bytes are UTF-8, or UTF-16 with its mark.
            Bytes that are no text become U+FFFD.
        question: what the seats are asked.
        root: the tree after the change (or before it: then the change is applied in memory). Without a root the whole
            new text is known of new files only.

    Returns:
        A task whose id is derived from the diff's SHA-256, one `TaskFile` per file, ordered by path.
        Binary and secret-looking files are `left_out`: a task may hold files that no seat reads, but never only
        binary ones.

    Raises:
        TaskError: the diff is empty, none, larger than 20 MiB, malformed, of more than 1,000 files, only binary, names
            a file twice or by an unsafe path, or does not belong to the root.
    """
    size = len(text)
    if size > DIFF_BYTES_MAX:
        unit = "bytes" if isinstance(text, bytes) else "characters"
        raise TaskError(f"the diff has {size:,} {unit}, the limit is {DIFF_BYTES_MAX:,}; {_SMALLER}")
    body = _decoded(text)
    if not body.strip():
        raise TaskError(
            "the diff is empty: there is nothing to review; check what was compared, e.g. git diff main...HEAD"
        )
    patches = read_patches(body)
    if not patches:
        first = body.strip().split("\n", 1)[0][:80]
        raise TaskError(
            f"not a unified diff: no file header (`diff --git …` or `--- old` above `+++ new`) in it; it starts with "
            f"{first!r}; make one with git diff or diff -u"
        )
    _check_files(patches)
    readable = [patch for patch in patches if not _left_out(patch)]
    if all(patch.binary for patch in patches):
        names = ", ".join(sorted(patch.path for patch in patches)[:3])
        raise TaskError(
            f"the diff holds only binary files ({len(patches)}: {names}): no reviewer can read them; add the change's "
            "text files to the diff"
        )
    texts = {patch.path: new_text(patch) for patch in readable} if root is None else new_texts(readable, root)
    digest = hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()
    files = sorted((_file(patch, texts.get(patch.path)) for patch in patches), key=lambda file: file.path)
    return Task(task_id=f"review-{digest[:16]}", question=question, files=tuple(files))


def _decoded(text: str | bytes) -> str:
    if isinstance(text, str):
        return text.encode("utf-8", "replace").decode().removeprefix("\ufeff")
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):  # what PowerShell's `git diff > x.diff` writes
        return text.decode("utf-16", "replace")
    return text.decode("utf-8", "replace").removeprefix("\ufeff")


def _check_files(patches: list[FilePatch]) -> None:
    if len(patches) > FILES_MAX:
        raise TaskError(f"the diff names {len(patches):,} files, the limit is {FILES_MAX:,}; {_SMALLER}")
    seen: dict[str, int] = {}
    for patch in patches:
        for path in (patch.old, patch.new):
            if path is not None:
                _check_path(path, patch.at)
        if not patch.path:
            raise TaskError(f"line {patch.at} of the diff: a file without a name; make the diff again")
        if patch.path in seen:
            raise TaskError(
                f"the diff names {patch.path} twice, at lines {seen[patch.path]} and {patch.at}: it looks like several "
                "commits one after another; make one diff of them, e.g. git diff main...HEAD"
            )
        seen[patch.path] = patch.at


def _check_path(path: str, at: int) -> None:
    parts = PurePosixPath(path).parts
    why = ""
    if len(path) > PATH_CHARS_MAX:
        why = f"is {len(path)} characters long, the limit is {PATH_CHARS_MAX}"
    elif _CONTROL.search(path):
        why = "holds a control character"
    elif path.startswith(("/", "\\")) or re.match(r"^[A-Za-z]:[\\/]", path):
        why = "is absolute"
    elif ".." in parts or ".." in path.split("\\"):
        why = "leaves the tree by `..`"
    elif not parts:
        why = "is empty"
    if why:
        raise TaskError(
            f"line {at} of the diff: the path {path[:200]!r} {why}; paths are relative to the root: make the diff with "
            "git diff in the repository's root"
        )


def _left_out(patch: FilePatch) -> str:
    if any(secret_path(path) for path in (patch.old, patch.new) if path is not None):
        return "secret" if patch.new is not None else "secret, deleted"
    if patch.binary or any("\0" in text for hunk in patch.hunks for _, text in hunk.lines):
        return "binary"
    return ""


def _file(patch: FilePatch, text: str | None) -> TaskFile:
    why = _left_out(patch)
    if why:
        return TaskFile(path=patch.path, language=language_of(patch.path), diff="", binary=patch.binary, left_out=why)
    if text is not None and len(text) > TEXT_BYTES_MAX:
        text = None
    clean = redact(text) if text is not None else None
    return TaskFile(
        path=patch.path,
        language=language_of(patch.path),
        diff=_diff_text(patch, clean),
        added=tuple(number for hunk in patch.hunks for number in hunk.added),
        text=clean,
    )


def _diff_text(patch: FilePatch, clean: str | None) -> str:
    """The file's diff, rebuilt: without commit messages, with values redacted as they are in its text."""
    lines = list(patch.header)
    if patch.old is not None and patch.new is not None and patch.old != patch.new:
        lines += [f"rename from {patch.old}", f"rename to {patch.new}"]
    lines.append(f"--- a/{patch.old}" if patch.old is not None else "--- /dev/null")
    lines.append(f"+++ b/{patch.new}" if patch.new is not None else "+++ /dev/null")
    known = clean.split("\n") if clean is not None else None
    for hunk in patch.hunks:
        lines += _hunk_text(hunk, known)
    return "".join(f"{line}\n" for line in lines)


def _hunk_text(hunk: Hunk, known: list[str] | None) -> list[str]:
    old, new = Redactor(), Redactor()
    number = max(hunk.new_start, 1)
    section = f" {Redactor().line(hunk.section)}" if hunk.section else ""
    out = [f"@@ -{hunk.old_start},{len(hunk.old)} +{hunk.new_start},{len(hunk.new)} @@{section}"]
    for op, text in hunk.lines:
        clean = old.line(text) if op != "+" else text
        if op != "-":
            seen = new.line(text)
            clean = known[number - 1] if known is not None and number <= len(known) else seen
            number += 1
        out.append(f"{op}{clean}")
    return out
