"""A unified diff of one file, applied exactly: `apply_patch(before, patch, path)`.

No fuzz and no search: every context and removed line must stand at the line its hunk names, byte for byte, the `\\r`
before a `\\n` and a missing newline at the end included; the counts and both starts in a hunk's header must be true.
The diff is of the target and of nothing else: no second file, no rename, no mode, nothing before or behind it. So there
is one way at most in which a patch fits, and it either fits whole or not at all.

    --- a/src/app.py          or `src/app.py`; /dev/null: the file is made, and must not be there
    +++ b/src/app.py          or `src/app.py`; /dev/null: the file is removed, and nothing of it may be left
    @@ -3,2 +3,3 @@ anything
     context
    -removed
    +added
    +added, too
    \\ No newline at end of file

git's `diff --git`, `index`, `new file mode 100644` and `deleted file mode` may stand before it, and a timestamp behind
a tab after each name. Lines end at `\\n` only; an empty line in a hunk is an empty context line whose blank an editor
removed. unidiff is not used: it reads text and forgets how lines end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..core.plan import PatchStep, WriteStep
from ..errors import EffectError

__all__ = ["PatchMismatch", "apply_patch", "content_after"]

_HUNK: Final = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(?: [^\r]*)?", re.ASCII)
_INDEX: Final = re.compile(r"index [0-9a-f]{4,64}\.\.[0-9a-f]{4,64}(?: 100(?:644|755))?", re.ASCII)
_MODE: Final = re.compile(r"(?:new file mode 100644|deleted file mode 100(?:644|755))", re.ASCII)
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE: Final = re.compile(r'\\(?:([0-3][0-7]{2})|([abfnrtv"\\]))|([^\\]+)', re.ASCII | re.DOTALL)
_ESCAPES: Final = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
_NULL: Final = "/dev/null"
_SHOWN: Final = 80


class PatchMismatch(EffectError):
    """The patch is not of this file, or does not fit it.

    Attributes:
        hunk: 1-based, 0 where it is not about a hunk.
        line: 1-based line of the patch.
    """

    def __init__(self, message: str, *, hunk: int, line: int) -> None:
        self.hunk, self.line = hunk, line
        super().__init__("patch_mismatch", message, applied=False)


@dataclass(frozen=True, slots=True)
class _Hunk:
    """Lines are bytes with their newline, where they have one."""

    number: int
    at: int
    old_start: int
    new_start: int
    old: tuple[bytes, ...]
    new: tuple[bytes, ...]


def content_after(step: WriteStep | PatchStep, before: bytes | None) -> bytes | None:
    """What the file holds after the step, None where it is removed; `before`: what it holds, None where there is none.

    Raises:
        PatchMismatch: the patch does not fit.
        EffectError: "bad_content": the text has no UTF-8.
    """
    if isinstance(step, PatchStep):
        return apply_patch(before, step.patch, step.target.removeprefix("file:"))
    return _encoded(step.content, "the content")


def apply_patch(before: bytes | None, patch: str, path: str) -> bytes | None:
    """The file after the patch, None where it removes the file.

    Args:
        before: the file; None where there is none.
        path: the file's path, as the patch must name it.

    Raises:
        PatchMismatch: naming the hunk, the line of the patch and what is wrong. EffectError: "bad_content".
    """
    lines = _encoded(patch, "the patch").decode().split("\n")
    if not lines[-1]:
        lines.pop()
    made, removed, at = _header(lines, path)
    if made and before is not None:
        raise PatchMismatch(f"the patch makes {path!r}, which is there already", hunk=0, line=1)
    if before is None and not made:
        raise PatchMismatch(f"the patch changes {path!r}, which is not there", hunk=0, line=1)
    after = _applied(before or b"", _hunks(lines, at), path)
    if removed and after:
        count = after.count(b"\n") + (not after.endswith(b"\n"))
        raise PatchMismatch(f"the patch removes {path!r}, but {count} lines of it would be left", hunk=0, line=1)
    return None if removed else after


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise EffectError(
            "bad_content", f"{what} has half of a surrogate pair at character {error.start}", applied=False
        ) from error


def _header(lines: Sequence[str], path: str) -> tuple[bool, bool, int]:
    """(whether it makes the file, whether it removes it, where the hunks begin)."""
    at, modes = 0, ""
    while at < len(lines) and not lines[at].startswith("--- "):
        line = lines[at]
        if line.startswith("diff --git ") and at == 0:
            _check_git_names(line.removeprefix("diff --git "), path)
        elif _MODE.fullmatch(line):
            modes += line.partition(" ")[0]
        elif not _INDEX.fullmatch(line):
            raise PatchMismatch(_unexpected(at, line, "the line `--- a/FILE` of a plain unified diff"), hunk=0, line=at)
        at += 1
    if at + 1 >= len(lines) or not lines[at + 1].startswith("+++ "):
        raise PatchMismatch(
            "the patch has no `--- a/FILE` and `+++ b/FILE`; an empty file, a rename or a mode is no unified diff: "
            "use a write step",
            hunk=0,
            line=at + 1,
        )
    old, new = (_name(lines[at + ahead][4:], at + ahead + 1) for ahead in (0, 1))
    if not _names_fit(old, new, path):
        raise PatchMismatch(
            f"line {at + 1} of the patch: it is of {old[:_SHOWN]!r} and {new[:_SHOWN]!r}, the step's target is "
            f"{path!r}; one step patches one file",
            hunk=0,
            line=at + 1,
        )
    made, removed = old == _NULL, new == _NULL
    if modes not in ("", "new" * made, "deleted" * removed):
        raise PatchMismatch("the patch's `file mode` line and its names disagree", hunk=0, line=at)
    return made, removed, at + 2


def _names_fit(old: str, new: str, path: str) -> bool:
    pairs = ((path, path), (f"a/{path}", f"b/{path}"))
    return any((old, new) in (pair, (_NULL, pair[1]), (pair[0], _NULL)) for pair in pairs)


def _check_git_names(rest: str, path: str) -> None:
    quoted = [_unquoted(found.group(1), 1) for found in _QUOTED.finditer(rest)] if rest.startswith('"') else []
    if rest not in (f"a/{path} b/{path}", f"{path} {path}") and quoted != [f"a/{path}", f"b/{path}"]:
        raise PatchMismatch(
            f"line 1 of the patch: {rest[:_SHOWN]!r} names another file than the step's target {path!r}", hunk=0, line=1
        )


def _name(text: str, at: int) -> str:
    name = text.partition("\t")[0]
    found = _QUOTED.fullmatch(name)
    return _unquoted(found.group(1), at) if found else name


def _unquoted(text: str, at: int) -> str:
    """git's quoting of a name undone."""
    out, end = bytearray(), 0
    for part in _ESCAPE.finditer(text):
        octal, escape, plain = part.groups()
        out += bytes([int(octal, 8)]) if octal else bytes([_ESCAPES[escape]]) if escape else plain.encode()
        end = part.end()
    try:
        name = out.decode()
    except UnicodeDecodeError as error:
        raise PatchMismatch(f"line {at} of the patch: the name is not UTF-8", hunk=0, line=at) from error
    if end != len(text):
        raise PatchMismatch(f"line {at} of the patch: {text[end : end + 4]!r} is no escape git uses", hunk=0, line=at)
    return name


def _unexpected(at: int, line: str, wanted: str) -> str:
    return f"line {at + 1} of the patch: {line[:_SHOWN]!r} stands where {wanted} must"


def _hunks(lines: Sequence[str], at: int) -> list[_Hunk]:
    found: list[_Hunk] = []
    last = max((number for number, line in enumerate(lines) if line), default=0)
    while at <= last:  # empty lines at the end are nothing
        hunk, at = _hunk(lines, at, len(found) + 1)
        found.append(hunk)
    if not found:
        raise PatchMismatch("the patch has no hunk, so it changes nothing", hunk=0, line=at)
    return found


def _hunk(lines: Sequence[str], at: int, number: int) -> tuple[_Hunk, int]:
    header = _HUNK.fullmatch(lines[at])
    if header is None:
        wanted = "a hunk's header `@@ -a,b +c,d @@`" if number == 1 else "the next hunk's header, or nothing,"
        raise PatchMismatch(_unexpected(at, lines[at], wanted), hunk=number, line=at + 1)
    old_start, new_start = int(header.group(1)), int(header.group(3))
    old_left, new_left = (int(header.group(group) or "1") for group in (2, 4))
    start, promised, ops = at, (old_left, new_left), []
    if promised == (0, 0):
        raise PatchMismatch(f"hunk {number} (line {at + 1} of the patch) is empty", hunk=number, line=at + 1)
    at += 1
    while old_left > 0 or new_left > 0:
        if at >= len(lines):
            raise PatchMismatch(
                f"hunk {number} promises {promised[0]} old and {promised[1]} new lines; the patch ends before that",
                hunk=number,
                line=at,
            )
        op, text = lines[at][:1] or " ", lines[at][1:]
        if op not in " +-" or (op != "+" and not old_left) or (op != "-" and not new_left):
            raise PatchMismatch(
                f"line {at + 1} of the patch: hunk {number} promises {promised[0]} old and {promised[1]} new lines; "
                f"{lines[at][:_SHOWN]!r} does not fit that",
                hunk=number,
                line=at + 1,
            )
        old_left, new_left = old_left - (op != "+"), new_left - (op != "-")
        newline = "\n"
        if at + 1 < len(lines) and lines[at + 1].startswith("\\ "):
            newline, at = "", at + 1
        ops.append((op, (text + newline).encode()))
        at += 1
    return (
        _Hunk(
            number,
            start + 1,
            old_start,
            new_start,
            tuple(line for op, line in ops if op != "+"),
            tuple(line for op, line in ops if op != "-"),
        ),
        at,
    )


def _applied(before: bytes, hunks: Sequence[_Hunk], path: str) -> bytes:
    lines = before.split(b"\n")
    have = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    out: list[bytes] = []
    at = 0
    for hunk in hunks:
        start = hunk.old_start - 1 if hunk.old else hunk.old_start  # where nothing is removed: behind that line
        if not at <= start <= len(have):
            why = f"it is for line {hunk.old_start}; {path!r} has {len(have)} lines here, {at} behind the hunk before"
            raise _misplaced(hunk, why)
        for number, line in enumerate(hunk.old, start=start):
            if number >= len(have) or have[number] != line:
                there = repr(have[number][:_SHOWN]) if number < len(have) else "the end of the file"
                why = f"line {number + 1} of {path!r} is {there}, the patch expects {line[:_SHOWN]!r}"
                raise _misplaced(hunk, why)
        out += have[at:start]
        stated = hunk.new_start - 1 if hunk.new else hunk.new_start
        if stated != len(out):
            expected = len(out) + (1 if hunk.new else 0)
            raise _misplaced(hunk, f"its new side starts at line {hunk.new_start}, by its old side at {expected}")
        out += hunk.new
        at = start + len(hunk.old)
    out += have[at:]
    for number, line in enumerate(out[:-1], start=1):
        if not line.endswith(b"\n"):
            raise PatchMismatch(
                f"the patch leaves line {number} of {path!r} without a newline, and lines behind it", hunk=0, line=1
            )
    return b"".join(out)


def _misplaced(hunk: _Hunk, why: str) -> PatchMismatch:
    return PatchMismatch(
        f"hunk {hunk.number} (line {hunk.at} of the patch) does not fit: {why}", hunk=hunk.number, line=hunk.at
    )
