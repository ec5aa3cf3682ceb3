"""Which suggested patches become steps: their own vote, one state of a file, no collision, a bound."""

from __future__ import annotations

from typing import Any

import pytest

from madflow.core.findings import Claim, Finding, Judged, Vote, check_claims, judge, merge
from madflow.core.messages import Task, TaskFile
from madflow.core.suggestions import PATCHES_CHARS_MAX, limit_patches, patch_accepted, suggested_steps

SEATS = {"a": 1, "b": 1, "c": 1, "d": 1}
LINES = 40
TEXT = "".join(f"line {number}\n" for number in range(1, LINES + 1))
TASK = Task(
    task_id="t",
    question="q",
    files=tuple(
        TaskFile(path=path, language="", diff=f"+++ b/{path}\n", added=tuple(range(1, LINES + 1)), text=TEXT)
        for path in ("one.py", "two.py")
    ),
)


def patch(path: str, line: int, new: str = "new") -> str:
    return f"--- a/{path}\n+++ b/{path}\n@@ -{line},1 +{line},1 @@\n-line {line}\n+{new}\n"


def found(*places: tuple[str, int], fact: dict[str, Any] | None = None, new: str = "new") -> tuple[Finding, ...]:
    """Findings of seat a, each with a patch of its line."""
    claims = [
        Claim(text=f"wrong {path} {line}", file=path, line=line, severity="major", patch=patch(path, line, new))
        for path, line in places
    ]
    facts = {str(index): fact or {"sha256_before": "0" * 64} for index in range(len(claims))}
    return merge(check_claims(TASK, "a", claims, facts))


def judged(finding: Finding, votes: dict[str, Vote]) -> Judged:
    return judge(finding, votes, SEATS, SEATS)


def said(**decisions: str) -> dict[str, Vote]:
    """Votes by seat: "accept/reject" is the word on the finding and the word on its patch."""
    rows = {}
    for agent, words in decisions.items():
        decision, _, word = words.partition("/")
        rows[agent] = Vote(agent=agent, decision=decision, patch=word or "abstain")  # type: ignore[arg-type]
    return rows


@pytest.mark.parametrize(
    ("votes", "accepted"),
    [
        (said(b="accept/accept", c="accept/accept", d="accept/reject"), True),
        (said(b="accept/accept", c="accept/accept"), True),
        (said(b="accept/accept", c="accept", d="accept"), False),  # silence on the patch is no yes
        (said(b="accept", c="accept", d="accept"), False),
        (said(b="reject/accept", c="reject/accept", d="reject/accept"), False),  # no repair of what is no defect
        (said(a="accept/accept", b="accept/accept", c="accept/reject", d="accept"), False),  # its own does not count
        (said(x="accept/accept", y="accept/accept", b="accept/accept", c="accept"), False),  # nor a stranger's
    ],
)
def test_a_patch_has_a_vote_of_its_own(votes: dict[str, Vote], accepted: bool) -> None:
    """Would catch a patch that is applied because its finding is right, by silence, or by its own author."""
    (finding,) = found(("one.py", 5))
    row = judged(finding, votes)
    assert patch_accepted(row, votes, SEATS) is accepted
    steps, outcome = suggested_steps([row], {finding.id: votes}, SEATS)
    assert len(steps) == accepted
    assert outcome[finding.id].status == ("accepted" if accepted else "rejected")


YES = said(b="accept/accept", c="accept/accept")


def test_patches_of_one_file_become_one_step_and_the_first_wins() -> None:
    """Would catch a step a finding (the second would fail its precondition), and a collision that is applied anyway."""
    findings = found(("one.py", 5), ("one.py", 20), ("two.py", 7), ("one.py", 21))
    rows = [judged(finding, YES) for finding in findings]
    steps, outcome = suggested_steps(rows, {finding.id: YES for finding in findings}, SEATS)
    assert [step["target"] for step in steps] == ["file:one.py", "file:two.py"]
    assert steps[0]["patch"] == (
        "--- a/one.py\n+++ b/one.py\n@@ -5,1 +5,1 @@\n-line 5\n+new\n@@ -20,1 +20,1 @@\n-line 20\n+new\n"
    )
    assert [outcome[f.id].status for f in findings] == ["accepted", "accepted", "left_out", "accepted"]
    assert outcome[findings[2].id].note == f"it collides with the patch of {findings[1].id}"


def test_patches_of_two_states_of_a_file_are_not_mixed() -> None:
    """Would catch a step whose patch no single state of the file takes."""
    first, second = found(("one.py", 5)), found(("one.py", 20), fact={"sha256_before": "1" * 64})
    findings = [first[0], second[0].model_copy(update={"id": "F2"})]
    steps, outcome = suggested_steps([judged(f, YES) for f in findings], {f.id: YES for f in findings}, SEATS)
    assert steps[0]["sha256_before"] == "0" * 64 and "line 20" not in steps[0]["patch"]
    assert "changed in the tree" in outcome["F2"].note


@pytest.mark.parametrize(
    ("fact", "says"),
    [
        ({}, "no tree to try it on"),
        ({"problem": "hunk 1 does not fit"}, "hunk 1 does not fit"),
        (None, "not of one.py"),
    ],
)
def test_a_patch_that_does_not_apply_is_dropped_and_noted(fact: dict[str, Any] | None, says: str) -> None:
    """Would catch a patch that enters the vote untried; a recorded fact alone lets none in."""
    text = patch("two.py" if fact is None else "one.py", 5)
    claim = Claim(text="wrong", file="one.py", line=5, severity="major", patch=text)
    facts = {"0": {"sha256_before": "0" * 64} if fact is None else fact}
    (finding,) = merge(check_claims(TASK, "a", [claim], facts))
    assert finding.patch == finding.patch_by == finding.patch_before == ""
    assert "suggested patch left out" in finding.note and says in finding.note


def test_the_patches_of_a_review_are_bounded() -> None:
    """Would catch a hundred patches of 16 KiB in every voter's prompt."""
    findings = found(*[("one.py", line) for line in range(1, 21, 3)], new="x" * 16_000)
    kept = limit_patches(findings)
    assert sum(len(finding.patch) for finding in kept) <= PATCHES_CHARS_MAX
    assert [bool(finding.patch) for finding in kept] == [True] * 6 + [False]
    assert "at most 98304 characters" in kept[-1].note


@pytest.mark.parametrize(("weight", "accepted"), [(1, False), (2, False), (3, True)])
def test_a_patch_is_accepted_by_weight(weight: int, accepted: bool) -> None:
    """Would catch seats that are counted instead of their weights, and a half that is taken for more."""
    (finding,) = found(("one.py", 5))
    weights, votes = {**SEATS, "b": weight}, said(b="accept/accept", c="accept", d="accept")
    row = judge(finding, votes, weights, weights)
    assert row.published and patch_accepted(row, votes, weights) is accepted
