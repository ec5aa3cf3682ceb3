"""A tree beside the diff: whose side it holds, what it lacks, and what must not be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from madflow.core.messages import TaskFile
from madflow.debate.reading import TEXT_BYTES_MAX, read_beneath
from madflow.errors import TaskError
from madflow.review.diff import read_diff

DIFF = "--- a/f.py\n+++ b/f.py\n@@ -2,3 +2,3 @@\n two\n-three\n+THREE\n four\n"
OLD, NEW = "one\ntwo\nthree\nfour\nfive\n", "one\ntwo\nTHREE\nfour\nfive\n"
ADDED = "diff --git a/n.py b/n.py\nnew file mode 100644\n--- /dev/null\n+++ b/n.py\n@@ -0,0 +1,1 @@\n+new\n"
MOVED = "diff --git a/a.py b/b.py\nsimilarity index 100%\nrename from a.py\nrename to b.py\n"


def texts(diff: str, root: Path) -> dict[str, str | None]:
    return {file.path: file.text for file in files(diff, root)}


def files(diff: str, root: Path) -> tuple[TaskFile, ...]:
    return read_diff(diff, question="q", root=root).files


def test_the_tree_after_and_the_tree_before_give_the_same_text(tmp_path: Path) -> None:
    for held in (NEW, OLD):
        (tmp_path / "f.py").write_text(held)
        assert texts(DIFF, tmp_path) == {"f.py": NEW}


def test_windows_checkouts_match_and_keep_their_line_ends(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_bytes(NEW.replace("\n", "\r\n").encode())
    assert texts(DIFF, tmp_path) == {"f.py": NEW.replace("\n", "\r\n")}
    (tmp_path / "f.py").write_bytes(OLD.replace("\n", "\r\n").encode())
    assert texts(DIFF, tmp_path) == {"f.py": NEW.replace("\n", "\r\n")}


def test_there_is_no_fuzz(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("zero\n" + OLD)  # the same lines, one further down
    with pytest.raises(TaskError, match=r"f\.py:2: the tree holds neither"):
        texts(DIFF, tmp_path)
    (tmp_path / "f.py").write_text(OLD.replace("four", "for"))
    with pytest.raises(TaskError, match=r"f\.py:3: "):
        texts(DIFF, tmp_path)


def test_files_that_the_root_lacks_are_named(tmp_path: Path) -> None:
    many = "".join(DIFF.replace("f.py", f"f{number}.py") for number in range(5))
    with pytest.raises(TaskError, match=r"names 5 file\(s\) that .* f0.py, f1.py, f2.py and 2 more; give --root"):
        texts(many, tmp_path)


def test_an_added_file_must_be_there_unless_the_tree_is_the_one_before(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"n\.py"):
        texts(ADDED, tmp_path)
    (tmp_path / "f.py").write_text(NEW)
    with pytest.raises(TaskError, match=r"names 1 file.*n\.py"):
        texts(DIFF + ADDED, tmp_path)
    (tmp_path / "f.py").write_text(OLD)
    assert texts(DIFF + ADDED, tmp_path) == {"f.py": NEW, "n.py": "new\n"}
    (tmp_path / "n.py").write_text("new\nand more\n")
    with pytest.raises(TaskError, match=r"n\.py:2: .*neither"):
        texts(ADDED, tmp_path)


def test_a_tree_half_way_through_the_change_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(NEW)
    (tmp_path / "g.py").write_text(OLD)
    with pytest.raises(TaskError, match=r"half way.*new side of f\.py.*old side of g\.py"):
        texts(DIFF + DIFF.replace("f.py", "g.py"), tmp_path)


def test_a_renamed_file_is_found_under_either_name(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x\n")
    assert texts(MOVED, tmp_path) == {"b.py": "x\n"}
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert texts(MOVED, tmp_path) == {"b.py": "x\n"}
    (tmp_path / "b.py").unlink()
    with pytest.raises(TaskError, match=r"b\.py"):
        texts(MOVED, tmp_path)


def test_a_root_that_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="is not a directory"):
        texts(DIFF, tmp_path / "nowhere")


def test_a_link_that_leaves_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text(NEW)
    root = tmp_path / "root"
    root.mkdir()
    (root / "f.py").symlink_to(tmp_path / "outside.py")
    with pytest.raises(TaskError, match=r"f\.py leads out of the root"):
        texts(DIFF, root)
    (root / "f.py").unlink()
    (root / "sub").symlink_to(tmp_path)
    with pytest.raises(TaskError, match="leads out of the root"):
        texts(DIFF.replace("f.py", "sub/outside.py"), root)


def test_a_link_within_the_root_is_followed_but_never_to_a_secret(tmp_path: Path) -> None:
    (tmp_path / "real.py").write_text(NEW)
    (tmp_path / "f.py").symlink_to("real.py")
    assert texts(DIFF, tmp_path) == {"f.py": NEW}
    (tmp_path / ".env").write_text(NEW)
    (tmp_path / "f.py").unlink()
    (tmp_path / "f.py").symlink_to(".env")
    assert texts(DIFF, tmp_path) == {"f.py": None}


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.py")  # opened without O_NONBLOCK this test hangs
    assert read_beneath(tmp_path, "f.py") == "not a regular file"
    assert texts(DIFF, tmp_path) == {"f.py": None}


def test_a_file_that_is_too_large_keeps_its_diff_only(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(NEW + "#" * TEXT_BYTES_MAX)
    (file,) = files(DIFF, tmp_path)
    assert (file.text, file.added, file.left_out) == (None, (3,), "")


def test_loops_and_missing_folders_are_no_surprise(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert str(read_beneath(tmp_path, "loop")).startswith(("not readable", "missing"))
    assert read_beneath(tmp_path, "no/such/file") == "missing"


def test_a_secret_file_of_the_tree_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PASSWORD=1\n")
    assert read_beneath(tmp_path, ".env") == "secret"
    (file,) = files(DIFF.replace("f.py", "id_rsa"), tmp_path)  # nor missed: it need not even be there
    assert (file.left_out, file.diff) == ("secret", "")
