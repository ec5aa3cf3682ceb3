"""The strict applier: it agrees with git where both apply, and refuses everything that needs a guess."""

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.effects.patch import PatchMismatch, apply_patch
from madflow.errors import EffectError

OLD = b"one\ntwo\nthree\nfour\n"
PATCH = "--- a/f.txt\n+++ b/f.txt\n@@ -2,2 +2,3 @@ one\n two\n-three\n+drei\n+und\n"


def applied(before: bytes | None, patch: str, path: str = "f.txt") -> bytes | None:
    return apply_patch(before, patch, path)


def test_a_patch_applies() -> None:
    """Catches an applier that loses or misplaces a line; the last newline of the patch may be missing."""
    assert applied(OLD, PATCH) == b"one\ntwo\ndrei\nund\nfour\n" == applied(OLD, PATCH.removesuffix("\n"))
    assert applied(OLD, PATCH.replace("a/", "").replace("b/", "")) == b"one\ntwo\ndrei\nund\nfour\n"
    assert applied(OLD, PATCH.replace("f.txt\n", "f.txt\t2026-01-01 00:00:00\n")) is not None
    git = "diff --git a/f.txt b/f.txt\nindex 0123abc..4567def 100644\n"
    assert applied(OLD, git + PATCH) is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("@@ -2,2", "@@ -1,2"), "does not fit"),  # one line off: no search
        (("@@ -2,2", "@@ -3,2"), "does not fit"),
        (("+2,3 @@", "+3,3 @@"), "new side starts at line 3, by its old side at 2"),
        (("-2,2 +2,3", "-2,3 +2,3"), "the patch ends before that"),
        (("-2,2 +2,3", "-2,2 +2,2"), "the next hunk's header"),
        ((" two", " twO"), "does not fit"),  # no fuzz in the context
        ((" two", " two "), "does not fit"),
        ((" two", " two\r"), "does not fit"),
        (("b/f.txt", "b/g.txt"), "one step patches one file"),
        (("a/f.txt", "f.txt"), "one step patches one file"),
        (("a/f.txt", "b/f.txt"), "one step patches one file"),
        (("a/f.txt", "a/../f.txt"), "one step patches one file"),
        (("--- a/f.txt", "old mode 100644\nnew mode 100755\n--- a/f.txt"), "stands where"),
        (("--- a/f.txt", "rename from g\n--- a/f.txt"), "stands where"),
        (("--- a/f.txt", "new file mode 100644\n--- a/f.txt"), "disagree"),
        (("--- a/f.txt", "Here is the patch:\n--- a/f.txt"), "stands where"),
        (("--- a/f.txt", "diff --git a/g b/g\n--- a/f.txt"), "another file"),
        (("+und\n", "+und\n-- \n2.39\n"), "the next hunk's header"),
        (("+und\n", "+und\ndiff --git a/g b/g\n--- a/g\n+++ b/g\n@@ -0,0 +1 @@\n+x\n"), "the next hunk's header"),
        (("+und\n", "+und\n@@ -1,1 +1,1 @@\n-one\n+uno\n"), "behind the hunk before"),  # backwards
        (("+und\n", "+und\n@@ -3,1 +4,1 @@\n-three\n+x\n"), "behind the hunk before"),  # overlapping
        (("+und\n", "+und\n\\ No newline at end of file\n"), "without a newline"),
        (("@@ -2,2 +2,3 @@ one\n", "@@ -2,2 +2,3 @@ one\n@@ -2,2 +2,3 @@\n"), "does not fit that"),
        (("@@ -2,2 +2,3 @@ one\n two\n-three\n+drei\n+und\n", ""), "no hunk"),
        (("@@ -2,2 +2,3 @@ one\n two\n-three\n+drei\n+und\n", "@@ -2,0 +2,0 @@\n"), "is empty"),
        (("@@ -2,2", "@@ -9999999999,2"), "stands where"),
        (("@@ -2,2", "@@ -0,2"), "for line 0"),
    ],
)
def test_what_needs_a_guess_is_refused(change: tuple[str, str], said: str) -> None:
    """Catches fuzz, offsets, untrue headers, a second file, and anything but content that a diff may change."""
    changed = PATCH.replace(*change)
    assert changed != PATCH
    with pytest.raises(PatchMismatch, match="patch") as caught:
        applied(OLD, changed)
    assert said in str(caught.value)
    assert caught.value.code == "patch_mismatch"
    assert caught.value.applied is False


def test_a_file_is_made_and_removed() -> None:
    """Catches a creation that overwrites, and a removal that throws away lines the patch does not show."""
    make = "--- /dev/null\n+++ b/f.txt\n@@ -0,0 +1,2 @@\n+a\n+b\n"
    drop = "--- a/f.txt\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n"
    assert applied(None, make) == b"a\nb\n"
    assert applied(None, "new file mode 100644\nindex 0000000..422c2b7\n" + make) == b"a\nb\n"
    assert applied(b"a\nb\n", drop) is None
    for before, patch in ((b"", make), (None, drop), (None, PATCH), (b"a\nb\nc\n", drop), (b"a\nb", drop)):
        with pytest.raises(PatchMismatch):
            applied(before, patch)
    with pytest.raises(PatchMismatch, match="disagree"):
        applied(b"a\nb\n", "deleted file mode 100644\nnew file mode 100644\n" + drop)


def test_line_ends_are_part_of_the_line() -> None:
    """Catches a CR that is lost or made, and a newline at the end of the file that comes or goes unasked."""
    crlf = "--- a/f.txt\n+++ b/f.txt\n@@ -1,2 +1,2 @@\n a\r\n-b\r\n+c\r\n"
    assert applied(b"a\r\nb\r\n", crlf) == b"a\r\nc\r\n"
    with pytest.raises(PatchMismatch):
        applied(b"a\nb\n", crlf)
    bare = "--- a/f.txt\n+++ b/f.txt\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n"
    assert applied(b"a", bare) == b"b\n"
    with pytest.raises(PatchMismatch):
        applied(b"a\n", bare)
    gone = "--- a/f.txt\n+++ b/f.txt\n@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file\n"
    assert applied(b"a\n", gone) == b"b"
    # Only \n ends a line: these are one line each.
    odd = "a\x0cb\x85c\u2028d\rx"
    assert applied(f"{odd}\n".encode(), f"--- f.txt\n+++ f.txt\n@@ -1 +1 @@\n-{odd}\n+y\n") == b"y\n"


def test_names_may_be_quoted_as_git_does() -> None:
    """Catches a path outside ASCII that cannot be patched, and an escape that leads to another file."""
    path = 'fö "x".txt'
    quoted = '"%s/f\\303\\266 \\"x\\".txt"'
    patch = f"diff --git {quoted % 'a'} {quoted % 'b'}\n--- {quoted % 'a'}\n+++ {quoted % 'b'}\n@@ -0,0 +1 @@\n+a\n"
    assert applied(b"", patch, path) == b"a\n"
    for bad in ("\\303(", "\\q", "\\"):
        with pytest.raises(PatchMismatch):
            applied(b"", patch.replace("\\303\\266", bad), path)
    with pytest.raises(EffectError, match="surrogate"):
        applied(b"", PATCH + "\ud800")


def test_bytes_that_are_no_text_stay() -> None:
    """Catches an applier that decodes the file: what the hunks do not touch may be anything."""
    before = b"\xff\xfe\n" + OLD + b"\x00\x80"
    assert applied(before, PATCH.replace("-2,2 +2,3", "-3,2 +3,3")) == before.replace(b"three", b"drei\nund")


def test_a_long_patch_takes_its_length() -> None:
    """Catches an applier that is quadratic in hunks or lines: this one would take minutes."""
    count = 60_000
    before = b"".join(b"%d\n" % number for number in range(2 * count))
    hunks = "".join(f"@@ -{2 * n + 1} +{2 * n + 1} @@\n-{2 * n}\n+x\n" for n in range(count))
    after = applied(before, "--- f.txt\n+++ f.txt\n" + hunks + "\n" * count)
    assert after is not None
    assert after.count(b"x\n") == count


lines = st.lists(st.sampled_from(["", "a", "b", "c\r", "\\ x", "-- y", "+", "@@ -1 +1 @@"]), max_size=12)


@given(before=lines, after=lines, ends=st.tuples(st.booleans(), st.booleans()))
def test_it_agrees_with_git(before: list[str], after: list[str], ends: tuple[bool, bool], tmp_path_factory) -> None:
    """Catches every difference to what `git diff` means, over hostile-looking lines and ends."""
    texts = ["\n".join(side) + ("\n" if end and side else "") for side, end in zip((before, after), ends, strict=True)]
    if texts[0] == texts[1]:
        return
    folder = tmp_path_factory.getbasetemp() / "agrees"
    folder.mkdir(exist_ok=True)
    for name, text in zip("ab", texts, strict=True):
        (folder / name).write_bytes(text.encode())
    command = ["git", "-c", "core.autocrlf=false", "diff", "--no-index", "--text", "-U1", "a", "b"]
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    diff = subprocess.run(command, cwd=folder, env=env, capture_output=True, check=False).stdout.decode()
    body = diff[diff.index("@@") :]
    assert applied(texts[0].encode(), f"--- a/f.txt\n+++ b/f.txt\n{body}") == texts[1].encode()
