"""Parts: every file is in one part or is left out with a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.messages import Task, TaskFile
from madflow.errors import ConfigError
from madflow.review.parts import diff_chars, split


def task(*sizes: int, left_out: int = -1) -> Task:
    files = [
        TaskFile(path=f"f{n:03}.py", language="python", diff="x" * size, left_out="secret" if n == left_out else "")
        for n, size in enumerate(sizes)
    ]
    return Task(task_id="t", question="q", files=tuple(files))


@given(st.lists(st.integers(0, 3_000), max_size=20), st.integers(1_000, 4_000), st.integers(1, 5))
def test_nothing_is_lost_and_no_part_overflows(sizes: list[int], limit: int, parts_max: int) -> None:
    whole = task(*sizes)
    parts = split(whole, limit, parts_max)
    held = [path for paths in parts.paths for path in paths]
    out = [file.path for file in parts.task.files if file.left_out]
    assert sorted(held + out) == [file.path for file in whole.files]
    assert len(parts.paths) == len(parts.chars) <= parts_max
    by_path = {file.path: file for file in whole.files}
    for paths, chars in zip(parts.paths, parts.chars, strict=True):
        assert paths and list(paths) == sorted(paths)
        assert chars == sum(diff_chars(by_path[path]) for path in paths) <= limit
    for file in parts.task.files:
        if file.left_out:
            assert str(f"{limit:,}") in file.left_out  # the reason names the limit


def test_a_small_change_is_one_part_and_the_task_as_it_was() -> None:
    whole = task(10, 20, left_out=1)
    parts = split(whole, 1_000, 3)
    assert (parts.paths, parts.task) == ((("f000.py",),), whole)


def test_one_huge_file_is_left_out_with_its_size() -> None:
    parts = split(task(5_000, 10), 2_000, 1)
    assert parts.paths == (("f001.py",),)
    assert "5,207 characters" in parts.task.files[0].left_out


def test_what_finds_no_room_says_so() -> None:
    parts = split(task(700, 700, 10), 1_000, 1)
    assert parts.paths == (("f000.py",),)
    assert "no room left in 1 part(s)" in parts.task.files[1].left_out


def test_limits_that_hold_nothing_are_refused() -> None:
    for limit, parts_max in ((999, 1), (1_000, 0)):
        with pytest.raises(ConfigError, match="raise the budget"):
            split(task(1), limit, parts_max)
