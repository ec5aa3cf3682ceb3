"""Evidence of a plan, against a tree and a diff. References come from a model: none may read what it should not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from madflow.core.messages import Evidence, Task, TaskFile
from madflow.debate.evidence import check_evidence

DIFF = "--- a/d.py\n+++ b/d.py\n@@ -1,1 +1,2 @@\n first line\n+second line\n"
TASK = Task(
    task_id="t",
    question="q",
    files=(
        TaskFile(path="d.py", language="python", diff=DIFF, added=(2,)),
        TaskFile(path=".env", language="", diff="", left_out="secret"),
    ),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    inside = tmp_path / "root"
    (inside / "src").mkdir(parents=True)
    (inside / "src" / "x.py").write_text("import os\n\ndef run():\n    return 42\n")
    (inside / "token.py").write_text(f"T = 'ghp_{'a1B2' * 9}'\n")
    (inside / ".env").write_text("KEY=1\n")
    (tmp_path / "outside.py").write_text("import os\n")
    (inside / "link.py").symlink_to(tmp_path / "outside.py")
    os.mkfifo(inside / "pipe.py")
    return inside


def checked(root: Path | None, ref: str, quote: str = "", kind: str = "file") -> tuple[bool | None, str]:
    item = Evidence(id="E1", kind=kind, ref=ref, quote=quote)  # type: ignore[arg-type]
    (result,) = check_evidence([item], root=root, task=TASK)
    assert (result.id, result.kind, result.quote) == ("E1", kind, quote)
    return result.verified, result.ref


@pytest.mark.parametrize(
    ("ref", "quote", "verified", "now"),
    [
        ("file:src/x.py:4", "return 42", True, "file:src/x.py:4"),
        ("file:src/x.py:1", "return 42", True, "file:src/x.py:4"),
        ("src/x.py", "return 42", True, "file:src/x.py:4"),
        ("file:src/x.py:4", "return 43", False, "file:src/x.py:4"),
        ("file:src/x.py:4", "", True, "file:src/x.py:4"),
        ("file:src/x.py:5", "", False, "file:src/x.py:5"),
        ("file:src/x.py", "", True, "file:src/x.py"),
        ("file:nowhere.py", "", False, "file:nowhere.py"),
        ("file:../outside.py", "import os", False, "file:../outside.py"),
        ("file:/etc/passwd", "root", False, "file:/etc/passwd"),
        ("file:link.py", "import os", False, "file:link.py"),
        ("file:.env", "KEY=1", None, "file:.env"),  # neither true nor false: a model must not learn it by asking
        ("file:.env", "KEY=2", None, "file:.env"),
        ("file:pipe.py", "", None, "file:pipe.py"),
        ("file:token.py:1", "ghp_a1B2a1B2a1B2", False, "file:token.py:1"),  # nor guess a token piece by piece
        ("diff:d.py:1", "second line", True, "diff:d.py:2"),
        ("diff:d.py:1", "third line", False, "diff:d.py:1"),
        ("diff:.env", "KEY=1", None, "diff:.env"),
        ("diff:other.py", "", False, "diff:other.py"),
        ("file:a\0b", "", None, "file:a\0b"),
        ("file:" + "x" * 5000, "", None, "file:" + "x" * 5000),
    ],
)
def test_references(root: Path, ref: str, quote: str, verified: bool | None, now: str) -> None:
    assert checked(root, ref, quote) == (verified, now)


def test_without_a_root_files_are_looked_up_in_the_diff() -> None:
    assert checked(None, "file:d.py:2", "second line") == (True, "file:d.py:2")
    assert checked(None, "file:src/x.py:4", "return 42") == (False, "file:src/x.py:4")


def test_what_is_not_a_place_is_not_checkable(root: Path) -> None:
    assert checked(root, "https://example.test", "x", "url") == (None, "https://example.test")
    assert checked(root, "as everybody knows", "", "note")[0] is None
