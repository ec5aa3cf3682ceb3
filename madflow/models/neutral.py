"""Checks of the diff itself, in any language: what shows in its added lines and in its paths.

They see a task's files as they are there: secret-looking values are already `<redacted:KIND>` (core.findings.REDACTED),
secret-looking files have neither diff nor text. Codes start with `diff/` (core.findings.NEUTRAL).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.findings import NEUTRAL, REDACTED, SECRET_FILE
from ..core.messages import Severity, TaskFile

__all__ = ["NeutralChecks", "Noted"]

_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_CONFLICT = re.compile(r"^(?:<{7}|>{7}|\|{7})(?: |$)")
_MIDDLE = re.compile(r"^={7}$")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_PASSWORDS = frozenset({"url-password"})
_LEFTOVERS = (
    ("", "marked-temporary", "the line itself says that it should not be merged"),
    (None, "debug-leftover", "a debugging aid was left in the change"),
)
_NO_SECRET = frozenset({"base64-block"})


@dataclass(frozen=True, slots=True)
class Noted:
    """One result: `code` with its `diff/` prefix, `quote` the line's text."""

    area: str
    path: str
    line: int
    code: str
    severity: Severity
    text: str
    quote: str = ""


class NeutralChecks:
    """The checks, with the patterns of `config` (the tables `debug` and `files` of analysers.toml)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._debug = {
            language: [re.compile(pattern) for pattern in patterns] for language, patterns in config["debug"].items()
        }
        files = config["files"]
        self._generated = [re.compile(pattern) for pattern in files["generated"]]
        self._leftover = [re.compile(pattern) for pattern in files["leftover"]]
        self._mark = re.compile(files["generated_mark"])
        self._added_max, self._chars_max = int(files["added_lines_max"]), int(files["line_chars_max"])

    def run(self, file: TaskFile) -> list[Noted]:
        """Everything that the checks of all areas note of one file, by line."""
        if file.left_out == "secret":
            text = f"{file.path} looks like a file of secrets and is part of the change; keep it out of the repository"
            return [Noted("security", file.path, 1, SECRET_FILE, "critical", text)]
        lines = list(_added(file))
        found = [noted for number, line in lines for noted in self._line(file, number, line)]
        found += self._conflict(file, lines)
        found += self._file(file, lines)
        return sorted(found, key=lambda noted: (noted.line, noted.code))

    def _line(self, file: TaskFile, number: int, line: str) -> Iterator[Noted]:
        quote = line.strip()[:400]
        kinds = sorted(set(REDACTED.findall(line)) - _NO_SECRET)
        if kinds:
            text = f"a secret stands in the change ({', '.join(kinds)}); revoke it and read it from the environment"
            severity: Severity = "major" if set(kinds) <= _PASSWORDS else "critical"
            yield Noted("security", file.path, number, f"{NEUTRAL}secret", severity, text, quote)
        bidi = _BIDI.search(line)
        if bidi:
            text = f"an invisible direction mark (U+{ord(bidi.group()):04X}) makes the line read otherwise than it runs"
            yield Noted("security", file.path, number, f"{NEUTRAL}bidi", "major", text, quote)
        for name, code, text in _LEFTOVERS:
            patterns = self._debug.get(file.language if name is None else name, ())
            if any(pattern.search(line) for pattern in patterns):
                yield Noted("maintainability", file.path, number, f"{NEUTRAL}{code}", "minor", text, quote)

    def _conflict(self, file: TaskFile, lines: list[tuple[int, str]]) -> list[Noted]:
        marks = [(number, line) for number, line in lines if _CONFLICT.match(line)]
        if not marks:
            return []
        marks += [(number, line) for number, line in lines if _MIDDLE.match(line.rstrip())]
        text = "a merge conflict's marker was left in the file"
        return [
            Noted("correctness", file.path, number, f"{NEUTRAL}conflict-marker", "critical", text, line.strip()[:400])
            for number, line in marks
        ]

    def _file(self, file: TaskFile, lines: list[tuple[int, str]]) -> Iterator[Noted]:
        if not lines:
            return
        first, quote = lines[0][0], lines[0][1].strip()[:400]
        if any(pattern.search(file.path) for pattern in self._leftover):
            text = "a merge tool's or an editor's leftover file is part of the change"
            yield Noted("correctness", file.path, first, f"{NEUTRAL}leftover-file", "minor", text, quote)
        made = any(pattern.search(file.path) for pattern in self._generated)
        made = made or any(self._mark.search(line) for _, line in lines[:5])
        made = made or any(len(line) > self._chars_max for _, line in lines)
        if made:
            text = "a generated, locked or minified file: review its source instead"
            yield Noted("maintainability", file.path, first, f"{NEUTRAL}generated-file", "info", text, quote)
        elif len(lines) > self._added_max:
            text = f"{len(lines)} added lines in one file, more than {self._added_max}: too many to review at once"
            yield Noted("maintainability", file.path, first, f"{NEUTRAL}huge-file", "minor", text, quote)


def _added(file: TaskFile) -> Iterator[tuple[int, str]]:
    number = 0
    for line in file.diff.split("\n"):
        hunk = _HUNK.match(line)
        if hunk:
            number = max(int(hunk.group(1)), 1)
        elif number and line[:1] == "+":
            yield number, line[1:].rstrip("\r")
            number += 1
        elif number and line[:1] == " ":
            number += 1
