"""Suggested patches as text: read strictly, written anew, merged; what comes out is for the effect that applies it."""

from __future__ import annotations

import shutil
import subprocess
from difflib import unified_diff
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.unified import PATCH_CHARS_MAX, file_lines, merge_hunks, read_hunks, write_patch
from madflow.effects.patch import apply_patch
from madflow.errors import PlanError

PATH = "src/a.py"
WORDS = st.sampled_from(["", "x", "y = 1", "  z", "\t", "é\u2028", "a\rb", "-- x", "++ y", "@@ -1 +1 @@", "\r"])
TEXTS = st.tuples(st.lists(WORDS, max_size=14), st.booleans()).map(
    lambda made: "\n".join(made[0]) + ("\n" if made[1] and made[0] else "")
)


def diff(old: str, new: str, context: int = 3) -> str:
    """What diff -u prints, with the mark of a last line without its end."""
    rows = unified_diff(file_lines(old), file_lines(new), f"a/{PATH}", f"b/{PATH}", n=context)
    return "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows)


@given(TEXTS, TEXTS, st.integers(0, 3))
def test_a_patch_that_is_written_anew_is_the_same_patch(old: str, new: str, context: int) -> None:
    """Would catch a wrong line number, a lost line end or a mark that moves to another line."""
    text = diff(old, new, context)
    if not text or not old:
        return
    again = write_patch(PATH, read_hunks(text, PATH))
    assert apply_patch(old.encode(), again, PATH) == new.encode()
    assert write_patch(PATH, read_hunks(again, PATH)) == again


def edited(lines: list[str], at: int, kind: str, word: str) -> list[str]:
    """`lines` with one edit before, at or instead of line `at`."""
    keep = 0 if kind == "insert" else 1
    return [*lines[:at], *([] if kind == "delete" else [f"{word}\n"]), *lines[at + keep :]]


@given(
    st.integers(6, 30),
    st.lists(st.tuples(st.integers(0, 29), st.sampled_from(["insert", "delete", "replace"])), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_merged_patches_do_what_each_of_them_does(count: int, edits: list[tuple[int, str]], context: int) -> None:
    """Would catch a merged patch that lacks, doubles or moves an edit, or lets two that touch in together."""
    lines = [f"line {number}\n" for number in range(count)]
    patches, taken, expected = {}, dict[str, tuple[int, str]](), list[tuple[int, str, str]]()
    for index, (at, kind) in enumerate(edits):
        if at >= count:
            continue
        name = f"F{index}"
        patches[name] = read_hunks(diff("".join(lines), "".join(edited(lines, at, kind, name)), context), PATH)
        span = (at, at + (kind != "insert"))
        if any(span[0] <= held[0] + (how != "insert") and held[0] <= span[1] for held, how in _held(taken)):
            continue
        taken[name] = (at, kind)
        expected.append((at, kind, name))
    if not patches:
        return
    merged, collided = merge_hunks(patches)
    assert set(collided) == set(patches) - set(taken)
    want = lines
    for at, kind, name in sorted(expected, reverse=True):
        want = edited(want, at, kind, name)
    made = apply_patch("".join(lines).encode(), write_patch(PATH, merged), PATH)
    assert made == "".join(want).encode()


def _held(taken: dict[str, tuple[int, str]]) -> list[tuple[tuple[int], str]]:
    return [((at,), kind) for at, kind in taken.values()]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_applies_what_we_write(tmp_path: Path) -> None:
    """Would catch numbers that only our own applier takes for right. One merged patch of three, one at the end."""
    old = "".join(f"line {number}\n" for number in range(20)) + "last"
    lines = file_lines(old)
    first = [*lines[:2], "new\n", *lines[2:]]
    second = [*lines[:5], *lines[6:]]
    third = [*lines[:20], "last, too"]
    patches = {str(i): read_hunks(diff(old, "".join(new)), PATH) for i, new in enumerate((first, second, third))}
    merged, collided = merge_hunks(patches)
    assert not collided
    (tmp_path / "src").mkdir()
    (tmp_path / PATH).write_text(old)
    subprocess.run(["git", "apply", "-"], input=write_patch(PATH, merged), text=True, cwd=tmp_path, check=True)
    assert (tmp_path / PATH).read_text() == "".join([*lines[:2], "new\n", *lines[2:5], *lines[6:20], "last, too"])


HEAD = f"--- a/{PATH}\n+++ b/{PATH}\n"
HUNK = "@@ -1,2 +1,2 @@\n one\n-two\n+TWO\n"


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ("", "where `--- a/"),
        (HUNK, "where `--- a/"),
        ("--- a/other.py\n+++ b/other.py\n" + HUNK, "not of src/a.py"),
        (f"--- a/../{PATH}\n+++ b/../{PATH}\n" + HUNK, "not of src/a.py"),
        (f"--- a/{PATH}\n+++ b/other.py\n" + HUNK, "not of src/a.py"),
        (f"--- /dev/null\n+++ b/{PATH}\n" + HUNK, "creates or deletes"),
        (f"--- a/{PATH}\n+++ /dev/null\n" + HUNK, "creates or deletes"),
        ("diff --git a/x b/y\n" + HEAD + HUNK, "another file"),
        (f"diff --git a/{PATH} b/{PATH}\nold mode 100644\nnew mode 100755\n" + HEAD + HUNK, "neither modes nor names"),
        (f"diff --git a/{PATH} b/{PATH}\nrename from {PATH}\nrename to b\n" + HEAD + HUNK, "neither modes nor names"),
        (f"diff --git a/{PATH} b/{PATH}\nGIT binary patch\nliteral 3\nKcmZ=\n", "neither modes nor names"),
        (f"diff --git a/{PATH} b/{PATH}\nnew file mode 100644\n" + HEAD + HUNK, "neither modes nor names"),
        (HEAD, "no hunk"),
        (HEAD + "@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n", "cut short"),
        (HEAD + "@@ -1,1 +1,1 @@\n one\n-two\n+TWO\n", "changes nothing"),
        (HEAD + "@@ -1,2 +1,1 @@\n one\n-two\n+TWO\n", "no hunk header"),
        (HEAD + HUNK + HEAD + HUNK, "no hunk header"),
        (HEAD + HUNK + "--- a/etc\n+++ b/etc\n" + HUNK, "no hunk header"),
        (HEAD + HUNK + HUNK, "before the one above ends"),
        (HEAD + "@@ -0,1 +0,1 @@\n-one\n+two\n", "starts at line 1"),
        (HEAD + "@@ -1 +1 @@\n one\n", "changes nothing"),
        (HEAD + "@@ -1 +1 @@\n?one\n", "neither context"),
        (HEAD + "@@ -99999999999,1 +1 @@\n-one\n+two\n", "no hunk header"),
        (HEAD + "@@ -1 +1 @@\n-one\n+tw\0o\n", "NUL"),
        (HEAD + f"@@ -1 +1 @@\n-one\n+{'x' * PATCH_CHARS_MAX}\n", "the limit is 16384"),
    ],
)
def test_what_is_no_suggestion_is_refused(patch: str, says: str) -> None:
    """Would catch a patch that touches another file, a name or a mode, or hides a second patch behind the first."""
    with pytest.raises(PlanError, match=says):
        read_hunks(patch, PATH)


def test_what_git_prints_is_read() -> None:
    """A positive control: git's own header, a timestamp, a section, and names without a prefix."""
    full = f"diff --git a/{PATH} b/{PATH}\nindex 81683fe..9b8fa32 100644\n--- a/{PATH}\t2026-01-01\n+++ b/{PATH}\n"
    for head in (full, HEAD, f"--- {PATH}\n+++ {PATH}\n"):
        assert write_patch(PATH, read_hunks(head + HUNK.replace(" @@", " @@ def f():"), PATH)) == HEAD + HUNK
