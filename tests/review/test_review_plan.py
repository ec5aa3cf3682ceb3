"""The plan of a review, end to end and offline: write the review, apply the accepted patches, run the test."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from madflow.core.messages import Agent
from madflow.core.plan import parse_plan
from madflow.core.proposal import Proposal, check_digests
from madflow.crews import load_crew
from madflow.debate.run import replay, run
from madflow.effects.freeze import freeze_plan
from madflow.effects.patch import apply_patch
from madflow.errors import ConfigError, PlanError
from madflow.ledger.sqlite import open_ledger
from madflow.ports import TurnView
from madflow.review.api import review_debate
from madflow.testing.clock import ManualClock
from madflow.testing.faults import Crash, KillingLedger
from madflow.testing.models import ScriptedModel

PULL_REQUEST = Path(__file__).parents[2] / "examples" / "pull_request"
DIFF = (PULL_REQUEST / "change.diff").read_bytes()
TEST = ["python3", "-B", "-c", "import invoices.client"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PULL_REQUEST / "tree", tmp_path / "tree"))


def ledger_in(folder: Path, name: str = "l.db") -> Any:
    return open_ledger(folder / name, clock=ManualClock())


def reviewed(ledger: Any, **options: Any) -> Proposal:
    options = {"diff": DIFF, "id": "r1", **options}
    proposal = asyncio.run(run(review_debate(options.pop("diff"), ledger=ledger, **options), clock=ManualClock()))
    assert isinstance(proposal, Proposal)
    assert check_digests(proposal.to_json()) == []
    return proposal


def steps(proposal: Proposal) -> list[dict[str, Any]]:
    return list(proposal.to_json()["plan"])


def carried_out(proposal: Proposal, root: Path) -> None:
    """The write and patch steps, done by git and by hand: a second opinion beside our own effects."""
    for step in steps(proposal):
        path = root / str(step["target"]).removeprefix("file:")
        if step["step"] == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step["content"])
        elif step["step"] == "patch":
            assert hashlib.sha256(path.read_bytes()).hexdigest() == step["sha256_before"]
            for check in (["--check"], []):  # a patch may have no context: its step pins the whole file
                command = ["git", "apply", "--unidiff-zero", *check, "-"]
                subprocess.run(command, input=step["patch"], text=True, cwd=root, check=True)


def test_the_analysers_plan_writes_patches_and_tests(tree: Path, tmp_path: Path) -> None:
    """Would catch a plan that does not carry out, one that is not pinned, and a replay that needs the tree."""
    ledger = ledger_in(tmp_path)
    proposal = reviewed(ledger, root=tree, test=TEST)
    assert [(step["step"], step["target"]) for step in steps(proposal)] == [
        ("write", "file:reviews/r1.md"),
        ("patch", "file:invoices/client.py"),
        ("test", None),
    ]
    parse_plan(steps(proposal))
    assert freeze_plan(steps(proposal), tree) == steps(proposal)
    assert {stop.kind for stop in proposal.stop_conditions} >= {"precondition_failed", "test_failed_twice"}
    assert {risk.kind for risk in proposal.risks} == {"concurrency", "rollback", "isolation"}
    before = (tree / "invoices/client.py").read_text()
    carried_out(proposal, tree)
    after = (tree / "invoices/client.py").read_text()
    assert after == before.replace("            breakpoint()\n", "")
    subprocess.run(TEST, cwd=tree, check=True)
    document = (tree / "reviews/r1.md").read_text()
    for finding in proposal.content["findings"]:
        assert f"`{finding['file']}:{finding['line']}`" in document
    assert document.startswith("# Review: request changes\n") and "-            breakpoint()" in document
    shutil.rmtree(tree)
    assert replay(ledger, "r1").to_json() == proposal.to_json()


def test_what_is_written_where_is_the_callers(tree: Path, tmp_path: Path) -> None:
    """Would catch an option that is dropped on its way, and a review that overwrites what nobody looked at."""
    (tree / "REVIEW.md").write_text("old\n")
    proposal = reviewed(ledger_in(tmp_path), root=tree, review_file="REVIEW.md", fix=False)
    (write,) = steps(proposal)
    assert (write["target"], write["sha256_before"]) == ("file:REVIEW.md", hashlib.sha256(b"old\n").hexdigest())
    assert "no patches were asked for" in str(proposal.content["findings"])
    crew = load_crew("analysers")
    crew = replace(crew, defaults=crew.defaults.model_copy(update={"test": ("true",)}))
    assert steps(reviewed(ledger_in(tmp_path, "c.db"), root=tree, crew=crew))[-1]["cmd"] == ["true"]


def test_without_a_root_nothing_is_patched(tmp_path: Path) -> None:
    """Would catch a patch that was tried on nothing. A new file's path is free, as far as anyone can know."""
    proposal = reviewed(ledger_in(tmp_path))
    assert [step["step"] for step in steps(proposal)] == ["write"]
    assert steps(proposal)[0]["sha256_before"] == "absent"


def test_a_change_nobody_could_read_has_no_plan(tmp_path: Path) -> None:
    """Would catch a plan, however small, of a review that is not published."""
    go = "--- /dev/null\n+++ b/main.go\n@@ -0,0 +1,2 @@\n+package main\n+// DO NOT MERGE\n"
    proposal = reviewed(ledger_in(tmp_path), diff=go)
    assert proposal.decision.result == "quorum_failed"
    assert (steps(proposal), proposal.risks, proposal.stop_conditions) == ([], (), ())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"review_file": "../r.md"}, "does not climb"),
        ({"review_file": "/etc/r.md"}, "not absolute"),
        ({"review_file": ".git/hooks/pre-commit"}, r"\.git"),
        ({"review_file": "invoices/client.py"}, "write the review elsewhere"),
        ({"test": "pytest -q"}, "no shell splits it"),
        ({"test": [""]}, "a program and its arguments"),
    ],
)
def test_a_plan_that_could_not_be_is_refused_before_the_first_call(
    options: dict[str, Any], says: str, tree: Path, tmp_path: Path
) -> None:
    """Would catch a review that is paid for and then cannot be written."""
    with pytest.raises((ConfigError, PlanError), match=says):
        reviewed(ledger_in(tmp_path), root=tree, **options)


# --- hostile patches, from seats that are code


TEXT = "".join(f"value_{number} = {number}\n" for number in range(1, 31))
NEW = "diff --git a/f.py b/f.py\nnew file mode 100644\n--- /dev/null\n+++ b/f.py\n@@ -0,0 +1,30 @@\n" + "".join(
    f"+{line}\n" for line in TEXT.splitlines()
)
HEAD = "--- a/f.py\n+++ b/f.py\n"


def hunk(line: int, new: str = "fixed = 0") -> str:
    return f"@@ -{line},1 +{line},1 @@\n-value_{line} = {line}\n+{new}\n"


def panel(patches: dict[str, list[tuple[int, str]]], refuse: tuple[str, ...] = ()) -> list[Agent]:
    """Seats a, b and c; each raises a finding for every (line, patch) of its own. Seats in `refuse` accept no patch."""

    def reply(view: TurnView) -> dict[str, Any]:
        me = view.seat.agent
        if view.stage == "find":
            rows = [
                {"file": "f.py", "line": line, "severity": "major", "text": f"{me} {line}", "quote": "", "patch": text}
                for line, text in patches.get(me, ())
            ]
            return {"findings": rows}
        word = "reject" if me in refuse else "accept"
        votes = [{"finding": row["id"], "decision": "accept", "patch": word} for row in view.subject["findings"]]
        return {"decision": "approve", "votes": votes}

    return [Agent(agent, model=ScriptedModel(reply)) for agent in "abc"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    root = tmp_path / "small"
    root.mkdir()
    (root / "f.py").write_text(TEXT)
    (root / "other.py").write_text(TEXT)
    return root


def suggested(root: Path, folder: Path, agents: list[Agent], **options: Any) -> Proposal:
    crew = load_crew("review", models=["x/y"])
    return reviewed(ledger_in(folder), diff=NEW, root=root, crew=crew, agents=agents, **options)


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        (HEAD.replace("f.py", "other.py") + hunk(5), "not of f.py"),
        (HEAD.replace("f.py", "../f.py") + hunk(5), "not of f.py"),
        (HEAD.replace("f.py", ".git/config") + hunk(5), "not of f.py"),
        (HEAD + hunk(5).replace("-5,1", "-6,1"), "does not fit"),  # no offset is searched for
        (HEAD + hunk(5).replace("-value_5 = 5", "-value_5 =  5"), "does not fit"),  # and blanks count
        (HEAD + hunk(5).replace("-5,1 +5,1", "-400,1 +400,1"), "does not fit"),
        ("diff --git a/f.py b/f.py\nold mode 100644\nnew mode 100755\n", "neither modes nor names"),
        ("diff --git a/f.py b/f.py\nrename from f.py\nrename to g.py\n", "neither modes nor names"),
        ("diff --git a/f.py b/f.py\nGIT binary patch\nliteral 1\nIc${NkU}|;|M00aO5\n", "neither modes nor names"),
        (HEAD.replace("a/f.py", "/dev/null") + "@@ -0,0 +1,1 @@\n+x\n", "creates or deletes"),
        (HEAD + hunk(5) + HEAD.replace("f.py", "other.py") + hunk(5), "no hunk header"),
        (HEAD + hunk(5, f"T = 'ghp_{'a1B2' * 9}'"), "it is not tried"),
        ("please apply this", "where `--- a/f.py`"),
    ],
)
def test_a_hostile_patch_is_dropped_with_a_note(patch: str, says: str, small: Path, tmp_path: Path) -> None:
    """Would catch a patch that reaches a voter, or a plan, without fitting the one file it may touch."""
    proposal = suggested(small, tmp_path, panel({"a": [(5, patch)]}))
    (finding,) = proposal.content["findings"]
    assert [step["step"] for step in steps(proposal)] == ["write"]
    assert "patch" not in finding and says in finding["note"]


def test_a_patch_that_is_too_large_is_no_valid_reply(small: Path, tmp_path: Path) -> None:
    """Would catch a bound that only the text of the prompt knows."""
    proposal = suggested(small, tmp_path, panel({"a": [(5, HEAD + hunk(5, "x" * 20_000))]}))
    assert proposal.content["findings"] == []


def test_accepted_patches_merge_and_the_first_of_two_wins(small: Path, tmp_path: Path) -> None:
    """Would catch two steps on one file, a collision that is applied, and a later patch that wins by its seat."""
    agents = panel({"a": [(20, HEAD + hunk(20, "late = 1"))], "b": [(5, HEAD + hunk(5)), (25, HEAD + hunk(20))]})
    proposal = suggested(small, tmp_path, agents)
    _, patch = steps(proposal)
    after = apply_patch(TEXT.encode(), patch["patch"], "f.py")
    assert after == TEXT.replace("value_5 = 5\n", "fixed = 0\n").replace("value_20 = 20\n", "late = 1\n").encode()
    rows = {row["line"]: row["patch"] for row in proposal.content["findings"]}
    assert [rows[line]["status"] for line in (5, 20, 25)] == ["accepted", "accepted", "left_out"]
    assert rows[25]["note"].startswith("it collides with the patch of F")
    carried_out(proposal, small)


def test_a_patch_the_others_refuse_is_not_applied_though_its_finding_is_accepted(small: Path, tmp_path: Path) -> None:
    """Would catch a plan made of findings instead of votes on patches."""
    proposal = suggested(small, tmp_path, panel({"a": [(5, HEAD + hunk(5))]}, refuse=("b",)))
    (finding,) = proposal.content["findings"]
    assert (finding["status"], finding["patch"]["status"]) == ("accepted", "rejected")  # one of two is no majority
    assert [step["step"] for step in steps(proposal)] == ["write"]
    assert "Suggested patch, rejected" in steps(proposal)[0]["content"]


def test_a_link_out_of_the_tree_is_not_patched(small: Path, tmp_path: Path) -> None:
    """Would catch a file that is read through a link; an effect would refuse it, so nobody votes on its patch."""
    (small / "real.py").write_text(TEXT)
    (small / "f.py").unlink()
    (small / "f.py").symlink_to("real.py")
    proposal = suggested(small, tmp_path, panel({"a": [(5, HEAD + hunk(5))]}))
    assert [step["step"] for step in steps(proposal)] == ["write"]
    assert "link" in proposal.content["findings"][0]["note"]


def test_a_review_that_dies_at_any_write_has_the_same_plan(small: Path, tmp_path: Path) -> None:
    """Would catch a plan that depends on the tree at the landing: the file changes between the lives."""

    def once(ledger: Any) -> Proposal:
        agents = panel({"a": [(5, HEAD + hunk(5))], "c": [(9, HEAD + hunk(9))]})
        return reviewed(ledger, diff=NEW, root=small, crew=load_crew("review", models=["x/y"]), agents=agents)

    whole = once(ledger_in(tmp_path, "whole.db"))
    assert [step["step"] for step in steps(whole)] == ["write", "patch"]
    for number in range(1, 30):
        name = f"{number}.db"
        inner = ledger_in(tmp_path, name)
        try:
            once(KillingLedger(inner, after=number))
            return
        except Crash:
            inner.close()
        (small / "reviews").mkdir(exist_ok=True)
        (small / "reviews" / "r1.md").write_text("somebody was here")  # after the opening: the plan stays pinned
        again = ledger_in(tmp_path, name)
        resumed = once(again)
        shutil.rmtree(small / "reviews")
        if number == 1 and steps(resumed)[0]["sha256_before"] != "absent":
            continue  # it died before its opening was recorded: this is another debate
        assert resumed.to_json()["plan"] == whole.to_json()["plan"] and resumed.digest == whole.digest
        assert replay(again, "r1").to_json() == resumed.to_json()
        again.close()
    pytest.fail("it never ended by itself")
