"""What the command line says of a plan, and the policies that ship: a starter, and the demo's."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from madflow.core.plan import parse_plan
from madflow.core.policy import any_match, parse_policy

from .conftest import Cli

PULL_REQUEST = Path(__file__).parents[2] / "examples" / "pull_request"


@pytest.fixture
def change() -> list[str]:
    shutil.copytree(PULL_REQUEST, "pr dir")
    return ["review", "pr dir/change.diff", "--root", "pr dir/tree"]


def test_the_summary_names_the_steps_and_the_next_command(cli: Cli, change: list[str]) -> None:
    """Would catch a plan that nobody learns of, and a command that does not find the tree it is for."""
    ran = cli(*change, "--test", 'python3 -B -c "import invoices.client"', "--out", "my p.json", "--id", "r1")
    lines = [line.strip() for line in ran.out.splitlines()]
    at = lines.index("Plan")
    assert lines[at + 1 : at + 4] == [
        "step 0: write file:reviews/r1.md",
        "step 1: patch file:invoices/client.py",
        "step 2: test python3 -B -c import invoices.client",
    ]
    assert lines[-1] == "Next: madflow commit 'my p.json' --root 'pr dir/tree'"
    assert json.loads(Path("my p.json").read_text())["plan"][2]["cmd"] == [
        "python3",
        "-B",
        "-c",
        "import invoices.client",
    ]
    assert cli(*change, "--id", "r2", "--no-fix", "--review-file", "R.md").out.count("file:R.md") == 1


def test_what_has_no_plan_has_no_next_command(cli: Cli) -> None:
    """Would catch a reader who is sent on to commit a review that was not published."""
    Path("x.diff").write_text("--- a/x.go\n+++ b/x.go\n@@ -1 +1 @@\n-package a\n+package b\n")
    out = cli("review", "x.diff").out
    assert "Plan" not in out and "Next:" not in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--test", 'pytest "-q'), "No closing quotation"),
        (("--review-file", "../r.md"), "does not climb"),
        (("--review-file", "invoices/client.py"), "write the review elsewhere"),
    ],
)
def test_a_plan_that_could_not_be_is_a_usage_error(
    options: tuple[str, ...], says: str, cli: Cli, change: list[str]
) -> None:
    """Would catch a traceback, and a review that is run first and refused afterwards."""
    ran = cli(*change, *options)
    assert ran.code == 2 and says in ran.err


def test_the_starter_policy_is_read_and_safe(cli: Cli) -> None:
    """Would catch a starter that does not parse, or that allows more than reviews, patches and a test."""
    cli("init")
    policy = parse_policy(tomllib.loads(Path("policy.toml").read_text()), source="policy.toml")
    assert {kind for allow in policy.allow for kind in allow.step} == {"write", "read", "patch", "test"}
    written = [path for allow in policy.allow if "write" in allow.step for path in allow.paths]
    assert any_match(written, "reviews/r1.md") and not any_match(written, "src/app.py")


def test_the_demos_policy_allows_the_demos_plan_and_no_other(cli: Cli, change: list[str]) -> None:
    """Would catch a demo whose commit is refused."""
    ran = cli(*change, "--test", "python3 -B -c 0", "--json", "--id", "demo")
    plan = parse_plan(ran.json["plan"])
    policy = parse_policy(tomllib.loads(Path("pr dir/tree/policy.toml").read_text()), source="policy.toml")
    for step in plan:
        allowed = [allow for allow in policy.allow if step.step in allow.step]
        target = getattr(step, "target", None)
        if target is None:
            assert any(any_match(allow.commands, "python3") for allow in allowed)
        else:
            assert any(any_match(allow.paths, target.removeprefix("file:")) for allow in allowed)
    assert not any(any_match(allow.paths, "policy.toml") for allow in policy.allow)
