"""A frozen plan says of each file what it holds before the step that changes it."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from madflow.effects.freeze import freeze_plan
from madflow.errors import PlanError

MORE = "--- a/f\n+++ b/f\n@@ -1 +1,2 @@\n {}\n+more\n"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write(path: str, content: str, **more: Any) -> dict[str, Any]:
    return {"step": "write", "target": f"file:{path}", "content": content, **more}


def test_steps_build_on_each_other(tmp_path: Path) -> None:
    """Catches a step that is pinned to the tree although a step before it changes the file; and anything written."""
    (tmp_path / "f").write_text("old\n")
    plan = [
        {"step": "patch", "target": "file:f", "patch": MORE.format("old")},
        write("f", "whole\n"),
        {"step": "patch", "target": "file:f", "patch": "--- f\n+++ /dev/null\n@@ -1 +0,0 @@\n-whole\n"},
        write("f", "again\n", sha256_before=None),
        write("new/g", "x"),
        {"step": "test", "cmd": ["true"]},
    ]
    kept = [dict(step) for step in plan]
    frozen = freeze_plan(plan, tmp_path)
    assert [step.get("sha256_before") for step in frozen] == [
        sha("old\n"),
        sha("old\nmore\n"),
        sha("whole\n"),
        "absent",
        "absent",
        None,
    ]
    assert plan == kept
    assert [{**step, "sha256_before": None} for step in frozen] == [{**step, "sha256_before": None} for step in plan]
    assert freeze_plan(frozen, tmp_path) == frozen
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_pin_that_is_given_stays(tmp_path: Path) -> None:
    """Catches a freeze that turns a stale plan into a fresh one."""
    (tmp_path / "f").write_text("old\n")
    plan = [write("f", "new", sha256_before=sha("older"))]
    assert freeze_plan(plan, tmp_path) == plan


@pytest.mark.parametrize(
    ("steps", "index", "said"),
    [
        ([write("f", "a\n"), {"step": "patch", "target": "file:f", "patch": MORE.format("old")}], 1, "does not fit"),
        ([write("link/f", "x")], 0, "symbolic link"),
        ([write("link", "x")], 0, "symbolic link"),
        ([write("a", "x"), write("a/b", "x")], 1, "has to be a folder"),
        ([write("a/b", "x"), write("a", "x")], 1, "has to be a folder"),
        ([write(".git/config", "x")], 0, ".git"),
        ([write("policy.toml", "x")], 0, "submitter's own"),
        ([write("../f", "x")], 0, "climb"),
        ([write(f"f{n}", "x" * (8 * 1024 * 1024)) for n in range(9)], 8, "the limit is 67108864"),
    ],
)
def test_what_cannot_be_frozen_is_named(steps: list[Any], index: int, said: str, tmp_path: Path) -> None:
    """Catches a plan that is voted on although a step of it can never be carried out."""
    (tmp_path / "f").write_text("old\n")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(PlanError, match=f"step {index}") as caught:
        freeze_plan(steps, tmp_path, protected=["policy.toml"])
    assert caught.value.step == index
    assert said in str(caught.value)
