"""Repairs that code can suggest, as unified diffs: ruff's safe edits, and a debugging aid's line taken out.

ruff marks an edit *safe* where it keeps the program's meaning; only those are taken. Of a debugging aid it has no edit:
its line is removed where it is a whole statement and its block keeps another one, by Python's own tokens. The texts are
a stranger's; they are tokenised, never compiled. A suggestion is small: one that spans more lines is none.
"""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from ..core.findings import REDACTED
from ..core.unified import PATCH_CHARS_MAX, Hunk, write_patch

__all__ = ["edits_patch", "removal_patch"]

CONTEXT_LINES = 3
SPAN_LINES_MAX = 200
EDITS_MAX = 50
TOKENISED_CHARS_MAX = 256 * 1024
_AID = re.compile(r"[ \t]*(?:breakpoint|(?:[a-z]*pdb|pudb)\.(?:set_trace|post_mortem))\(\)[ \t]*(?:#.*)?\r?\n?")
_OPENS = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
_BLANK = (tokenize.COMMENT, tokenize.NL)


def edits_patch(path: str, lines: Sequence[str], fix: Mapping[str, Any] | None) -> str:
    """ruff's fix of a file as a patch; empty where it has none, none that is safe, or one that is too large.

    Args:
        lines: the file's lines with their line ends (`core.unified.file_lines`).
        fix: the row `fix` of ruff's JSON output: rows and columns from 1, columns in characters, ends exclusive.

    Raises:
        KeyError, TypeError, ValueError: it is not of that form.
    """
    if not fix or fix["applicability"] != "safe" or not 0 < len(fix["edits"]) <= EDITS_MAX:
        return ""
    edits = sorted(
        (_place(edit["location"]), _place(edit["end_location"]), str(edit["content"])) for edit in fix["edits"]
    )
    first, last = edits[0][0][0], max(end[0] for _, end, _ in edits)
    if last - first > SPAN_LINES_MAX or first >= len(lines):
        return ""
    low, high = max(0, first - CONTEXT_LINES), min(len(lines), last + 1 + CONTEXT_LINES)
    old = lines[low:high]
    starts = [0]
    for line in old:
        starts.append(starts[-1] + len(line))
    text, out, done = "".join(old), [], 0
    for begin, end, content in edits:
        left, right = (starts[min(row - low, len(old))] + column for row, column in (begin, end))
        if not done <= left <= right <= len(text):
            return ""  # edits that overlap or leave the file are no suggestion
        out += [text[done:left], content]
        done = right
    new = "".join((*out, text[done:]))
    return _bounded(path, _hunks(old, [*_kept(new)], low))


def _place(location: Mapping[str, Any]) -> tuple[int, int]:
    return int(location["row"]) - 1, int(location["column"]) - 1


def _kept(text: str) -> Iterable[str]:
    return (line for line in re.split(r"(?<=\n)", text) if line)


def _hunks(old: Sequence[str], new: Sequence[str], offset: int) -> list[Hunk]:
    hunks = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for group in matcher.get_grouped_opcodes(CONTEXT_LINES):
        lines: list[tuple[str, str]] = []
        for tag, low, high, begin, end in group:
            if tag == "equal":
                lines += [(" ", text) for text in old[low:high]]
            else:
                lines += [("-", text) for text in old[low:high]]
                lines += [("+", text) for text in new[begin:end]]
        hunks.append(Hunk(offset + group[0][1], tuple(lines)))
    return hunks


def _bounded(path: str, hunks: Sequence[Hunk]) -> str:
    patch = write_patch(path, hunks) if hunks else ""
    # What a secret stands in is not known here as it is in the file: such a patch could not apply.
    return "" if len(patch) > PATCH_CHARS_MAX or REDACTED.search(patch) else patch


def removal_patch(path: str, lines: Sequence[str], number: int) -> str:
    """A patch that takes out line `number` (1-based), where it is a debugging aid, a whole statement, and not the only
    one of its block; else empty."""
    if not 0 < number <= len(lines) or not _AID.fullmatch(lines[number - 1]):
        return ""
    if sum(map(len, lines)) > TOKENISED_CHARS_MAX or not _is_spare(lines, number):
        return ""
    at = max(0, number - 1 - CONTEXT_LINES)
    shown = [
        ("-" if place == number - 1 else " ", lines[place])
        for place in range(at, min(len(lines), number + CONTEXT_LINES))
    ]
    return _bounded(path, [Hunk(at, tuple(shown))])


def _is_spare(lines: Sequence[str], number: int) -> bool:
    rows = iter(lines)
    try:
        read = tokenize.generate_tokens(lambda: next(rows, ""))
        tokens = [token for token in read if token.type not in _BLANK]
    except (tokenize.TokenError, SyntaxError):
        return False
    here = [index for index, token in enumerate(tokens) if token.start[0] == number and token.type not in _OPENS[1:]]
    if not here or tokens[here[-1]].type != tokenize.NEWLINE or tokens[here[-1]].start[0] != number:
        return False
    before = tokens[here[0] - 1].type if here[0] else tokenize.ENCODING
    behind = tokens[here[-1] + 1].type if here[-1] + 1 < len(tokens) else tokenize.ENDMARKER
    alone = before == tokenize.INDENT and behind in (tokenize.DEDENT, tokenize.ENDMARKER)
    return before in _OPENS and not alone
