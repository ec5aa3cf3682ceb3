"""What code suggests as a repair: ruff's safe edits as patches, and a debugging aid's line taken out."""

from __future__ import annotations

from typing import Any

import pytest

from madflow.core.unified import file_lines
from madflow.effects.patch import apply_patch
from madflow.models.fixes import edits_patch, removal_patch
from madflow.models.lint import RuffLinter

PATH = "f.py"


def repaired(text: str, *rules: str) -> dict[str, str | None]:
    """By rule: the text after the fix that ruff's diagnostic carries, None where it carries none."""
    found = {}
    for item in RuffLinter(rules).lint({PATH: text}):
        after = apply_patch(text.encode(), item.fix, PATH) if item.fix else None
        found[item.code] = after.decode() if after is not None else None
    return found


@pytest.mark.parametrize(
    ("text", "rule", "after"),
    [
        ("import os\n\nx = 1\n", "F401", "\nx = 1\n"),
        ("x = 1\nimport os", "F401", "x = 1\n"),
        ('s = "é😀"; t = f"plain"\n', "F541", 's = "é😀"; t = "plain"\n'),  # columns are characters, not bytes
        ("import os\r\nx = 1\r\n", "F401", "x = 1\r\n"),
        ("def f(x=[]):\n    return x\n", "B006", None),  # an unsafe edit changes what the program does
        ("import os  # noqa\n", "F401", None),  # somebody wants it there
        ("def f():\n    breakpoint()\n    return 1\n", "T100", "def f():\n    return 1\n"),
        ("def f():\n    return 1\n    breakpoint()  # look\n", "T100", "def f():\n    return 1\n"),
        ("x = 1\nbreakpoint()\n", "T100", "x = 1\n"),
        ("def f():\n    breakpoint()\n", "T100", None),  # the block would be empty
        ("def f():\n    breakpoint()\n\n\nx = 1\n", "T100", None),
        ("def f():\n    # why\n    breakpoint()\n", "T100", None),
        ("x = 1\nif x: breakpoint()\n", "T100", None),
        ("x = (\n    breakpoint()\n    or 1\n)\n", "T100", None),
        ("x = [\n    1,\n    breakpoint()\n]\n", "T100", None),
        ("breakpoint(); x = 1\n", "T100", None),
        ("def f():\n    breakpoint()  # noqa\n    return 1\n", "T100", None),
    ],
)
def test_repairs(text: str, rule: str, after: str | None) -> None:
    """Would catch an edit at the wrong place, an unsafe one, and a removal that leaves no statement or cuts one."""
    assert repaired(text, rule)[rule] == after


def test_a_removal_is_of_a_statement_not_of_a_string() -> None:
    """Would catch a line that only looks like a debugger inside of a text."""
    assert removal_patch(PATH, file_lines('"""\nbreakpoint()\n"""\nx = 1\n'), 2) == ""
    assert removal_patch(PATH, file_lines("x = (\nbreakpoint()\n"), 2) == ""  # and no tokens at all
    assert removal_patch(PATH, file_lines("x = 1\nbreakpoint()\n"), 9) == ""


EDIT = {"location": {"row": 1, "column": 1}, "end_location": {"row": 1, "column": 2}, "content": "y"}


@pytest.mark.parametrize(
    ("edits", "applicability"),
    [
        ([EDIT], "unsafe"),
        ([EDIT], "display"),
        ([], "safe"),
        ([EDIT, EDIT], "safe"),  # two edits of one place
        ([{**EDIT, "end_location": {"row": 1, "column": 99}}], "safe"),
        ([{**EDIT, "location": {"row": 9, "column": 1}, "end_location": {"row": 9, "column": 1}}], "safe"),
        ([{**EDIT, "end_location": {"row": 1_000, "column": 1}}], "safe"),
        ([{**EDIT, "content": "<redacted:token>"}], "safe"),
        ([{**EDIT, "content": "x" * 17_000}], "safe"),
    ],
)
def test_what_is_no_small_safe_edit_is_no_suggestion(edits: list[Any], applicability: str) -> None:
    """Would catch a patch made of edits that overlap, leave the file or are too large."""
    lines = file_lines("x = 1\nz = 2\n")
    assert edits_patch(PATH, lines, {"applicability": applicability, "edits": edits}) == ""
    assert edits_patch(PATH, lines, None) == ""
    assert edits_patch(PATH, lines, {"applicability": "safe", "edits": [EDIT]}) != ""
