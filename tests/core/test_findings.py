"""Findings: what a check makes of a claim, what merges, and what the votes of others make of it."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.findings import (
    SEVERITIES,
    Finding,
    Judged,
    Raised,
    Vote,
    can_judge,
    check_claims,
    coverage,
    judge,
    merge,
    verdict,
    why_unread,
)
from madflow.core.messages import Claim, Task, TaskFile

PYTHON = frozenset({"python"})


def raised(agent: str = "a", line: int = 1, text: str = "the loop never ends", **more: Any) -> Raised:
    fields = {"file": "f.py", "severity": "major", "verified": True, "stated_line": line, "stated_severity": "major"}
    return Raised(**{**fields, "agent": agent, "line": line, "text": text, **more})


def finding(*agents: str, severity: str = "major", code: str = "") -> Finding:
    return merge([raised(agent, severity=severity, code=code) for agent in agents])[0]


def votes(**decisions: str) -> dict[str, Vote]:
    return {agent: Vote(agent=agent, decision=word, notes=f"{agent}'s") for agent, word in decisions.items()}  # type: ignore[arg-type]


# --- merge


def test_similar_words_near_each_other_merge_and_the_gravest_speaks() -> None:
    one = raised("a", 10, "the loop never ends when n is zero", severity="minor")
    two = raised("b", 12, "when n is zero the loop does not end", severity="critical")
    (merged,) = merge([one, two])
    assert (merged.raised_by, merged.severity, merged.line) == (("a", "b"), "critical", 12)
    assert Counter(merged.lineage) == Counter([one, two])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (raised("a", 10), raised("b", 13)),  # too far apart
        (raised("a", 10), raised("a", 11)),  # one seat, two lines: it says itself that they are two
        (raised("a", 10, "undefined name x", code="F821"), raised("a", 10, "undefined name y", code="F821")),
        (raised("a", 10, code="B006"), raised("b", 10, code="F821")),  # two rules
        (raised("a", 10), raised("b", 10, "a password is printed")),  # other words
        (raised("a", 10), raised("b", 10, file="g.py")),
    ],
)
def test_what_differs_stays_apart(left: Raised, right: Raised) -> None:
    assert len(merge([left, right])) == 2


def test_the_same_rule_merges_whatever_the_words() -> None:
    assert len(merge([raised("a", 1, code="B006"), raised("b", 2, "mutable default", code="B006")])) == 1


def test_a_seat_that_repeats_itself_has_one_finding() -> None:
    assert len(merge([raised("a", 10), raised("a", 10)])) == 1


def test_one_seats_two_claims_are_not_bridged_by_another_seats_claim_between_them() -> None:
    # Single linkage would chain 10-11-12 into one finding.
    found = merge([raised("a", 10), raised("b", 11), raised("a", 12)])
    assert [len(item.lineage) for item in found] == [2, 1]


def test_an_unverified_gravity_does_not_carry_over() -> None:
    # The check capped b's claim before the merge: its stated "critical" must not come back.
    (merged,) = merge([raised("a", severity="minor"), raised("b", severity="minor", stated_severity="critical")])
    assert merged.severity == "minor"


def test_verified_by_one_is_verified_and_the_verified_quote_is_shown() -> None:
    (merged,) = merge([raised("a", quote="made up", verified=False, severity="minor"), raised("b", quote="while n:")])
    assert (merged.verified, merged.quote) == (True, "while n:")
    assert merge([raised("a", verified=False), raised("b", verified=None)])[0].verified is None


WORDS = st.lists(st.sampled_from(["loop", "never", "ends", "password", "printed", "zero"]), min_size=1, max_size=4)
CLAIMS = st.lists(
    st.builds(
        lambda agent, line, words, severity, code, file: raised(
            agent, line, " ".join(words), severity=severity, code=code, file=file
        ),
        st.sampled_from("abcd"),
        st.integers(1, 8),
        WORDS,
        st.sampled_from(SEVERITIES),
        st.sampled_from(["", "", "B006", "F821"]),
        st.sampled_from(["f.py", "g.py"]),
    ),
    max_size=12,
)


@given(CLAIMS, st.randoms(use_true_random=False))
def test_merging_depends_on_the_claims_not_on_their_order_and_loses_none(claims: list[Raised], random: Any) -> None:
    found = merge(claims)
    shuffled = claims.copy()
    random.shuffle(shuffled)
    assert merge(shuffled) == found
    assert Counter(item for merged in found for item in merged.lineage) == Counter(claims)
    assert [item.id for item in found] == [f"F{n}" for n in range(1, len(found) + 1)]
    assert sorted((item.file, item.line) for item in found) == [(item.file, item.line) for item in found]
    for merged in found:
        gravest = max((item.severity for item in merged.lineage), key=SEVERITIES.index)
        assert merged.severity == gravest
        assert set(merged.raised_by) == {item.agent for item in merged.lineage}
        assert len({item.code for item in merged.lineage} - {""}) <= 1


def test_the_threshold_is_exact() -> None:
    left, right = raised("a", 1, "alpha beta"), raised("b", 1, "alpha gamma")  # 1 of 3 words
    assert len(merge([left, right], similar=Fraction(1, 3))) == 1
    assert len(merge([left, right], similar=Fraction(34, 100))) == 2


def test_thousands_of_claims_on_one_line_merge_in_bounded_time_and_all_are_kept() -> None:
    claims = [raised("a", 1, f"claim{number}") for number in range(1_500)]
    assert len(merge(claims)) == 1_500


# --- judge


PANEL = {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("raisers", "cast", "able", "status", "severity"),
    [
        ("a", {"b": "accept", "c": "accept"}, "abc", "accepted", "critical"),
        ("a", {"b": "accept", "c": "reject"}, "abc", "rejected", "critical"),  # half is not more than half
        ("a", {"b": "accept", "c": "abstain"}, "abc", "rejected", "critical"),  # an abstention is no acceptance
        ("a", {"b": "accept", "c": "invalid"}, "abc", "rejected", "critical"),
        ("a", {"b": "accept"}, "abc", "rejected", "critical"),  # nor is silence
        ("a", {}, "abc", "rejected", "critical"),
        ("a", {"b": "accept"}, "ab", "accepted", "critical"),  # c cannot read it: no part of the electorate
        ("a", {"b": "reject", "c": "accept"}, "ab", "rejected", "critical"),  # and its vote does not count
        ("a", {"a": "accept"}, "abc", "rejected", "critical"),  # nor does one's own
        ("a", {}, "a", "unconfirmed", "minor"),  # nobody else could judge it
        ("a", {}, "", "unconfirmed", "minor"),  # nobody could
        ("abc", {}, "abc", "corroborated", "critical"),
        ("ab", {"c": "reject"}, "abc", "corroborated", "critical"),  # two of three found it on their own
        ("ab", {"c": "accept"}, "abc", "accepted", "critical"),
        ("ab", {}, "", "unconfirmed", "minor"),  # raised by seats that could not read it: no corroboration
    ],
)
def test_outcomes(raisers: str, cast: dict[str, str], able: str, status: str, severity: str) -> None:
    judged = judge(finding(*raisers, severity="critical"), votes(**cast), PANEL, able)
    assert (judged.status, judged.severity) == (status, severity)


def test_weights_decide_not_heads() -> None:
    panel = {"a": 1, "b": 5, "c": 1, "d": 1}
    assert judge(finding("a"), votes(b="accept", c="reject", d="reject"), panel, panel).status == "accepted"
    assert judge(finding("a"), votes(b="reject", c="accept", d="accept"), panel, panel).status == "rejected"


def test_dissent_is_kept_on_either_side() -> None:
    panel = dict.fromkeys("abcd", 1)
    accepted = judge(finding("a"), votes(b="accept", c="accept", d="reject"), panel, panel)
    assert [(vote.agent, vote.notes) for vote in accepted.dissent] == [("d", "d's")]
    rejected = judge(finding("a"), votes(b="accept", c="reject", d="reject"), panel, panel)
    assert [vote.agent for vote in rejected.dissent] == ["b"]


WORD = st.sampled_from(["accept", "reject", "abstain", "invalid", "missing"])


@given(
    st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 9), min_size=1),
    st.dictionaries(st.sampled_from("abcdefgh"), WORD),
    st.sets(st.sampled_from("abcdefg"), min_size=1),
    st.sets(st.sampled_from("abcdefg")),
)
def test_every_seat_is_accounted_for(
    panel: dict[str, int], cast: dict[str, str], raisers: set[str], able: set[str]
) -> None:
    given_votes = votes(**{agent: word for agent, word in cast.items() if word != "missing"})
    judged = judge(finding(*sorted(raisers)), given_votes, panel, able)
    tally, outcomes = judged.tally, ("accept", "reject", "abstain", "invalid", "missing")
    assert tally["eligible"] == sum(tally[name] for name in outcomes)
    assert tally["eligible_weight"] == sum(tally[f"{name}_weight"] for name in outcomes)
    electorate = (set(panel) & able) - raisers
    assert tally["eligible"] == len(electorate)
    assert tally["eligible"] + len(set(judged.unable)) + len(raisers & set(panel)) == len(panel)
    # The dumb twin of acceptance.
    accepting = sum(weight for agent, weight in panel.items() if agent in electorate and cast.get(agent) == "accept")
    others = sum(panel[agent] for agent in electorate)
    assert (judged.status == "accepted") == (accepting > others - accepting)


def test_the_verdict_counts_published_grave_findings_only() -> None:
    def one(severity: str, **cast: str) -> Judged:
        return judge(finding("a", severity=severity), votes(**cast), PANEL, PANEL)

    assert verdict([]) == "approve"
    assert verdict([one("minor", b="accept", c="accept")]) == "approve"
    assert verdict([one("critical", b="reject", c="reject")]) == "approve"
    assert verdict([one("major", b="accept", c="accept")]) == "request_changes"
    assert verdict([judge(finding("a", severity="critical"), {}, PANEL, "a")]) == "approve"  # unconfirmed: minor


# --- who can judge, coverage


def file(path: str = "f.py", language: str = "python", **more: Any) -> TaskFile:
    diff = "--- a/f\n+++ b/f\n@@ -1,1 +1,2 @@\n one\n+two\n"
    return TaskFile(**{"path": path, "language": language, "diff": diff, "added": (2,), **more})


def test_who_reads_what() -> None:
    assert why_unread(file(text="one\ntwo\n"), PYTHON) == ""
    assert "no root was given" in why_unread(file(), PYTHON)
    deleted = file(diff="--- a/f.py\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-one\n", added=())
    assert why_unread(deleted, PYTHON) == "the file is deleted"
    quoting = file(diff="--- a/f.py\n+++ b/f.py\n@@ -1,1 +1,2 @@\n one\n+++ /dev/null\n")
    assert "no root was given" in why_unread(quoting, PYTHON)
    assert why_unread(file(language="go", text="x"), PYTHON) == "language go: this seat reads python"
    assert why_unread(file(language="go"), None) == ""
    assert why_unread(file(left_out="secret"), None) == "left out: secret"
    assert why_unread(file(binary=True), None) == "left out: binary"


def test_a_finding_on_the_diff_itself_needs_no_language() -> None:
    go = file(language="go", text="x")
    assert can_judge("diff/secret", go, PYTHON)
    assert not can_judge("", go, PYTHON)
    assert can_judge("", go, None)
    assert can_judge("", None, PYTHON)


def test_coverage_says_who_read_what_and_why_not() -> None:
    task = Task(
        task_id="t",
        question="q",
        files=(file("b.go", "go"), file("a.py", text="one\ntwo\n"), file(".env", "", left_out="secret", diff="")),
    )
    rows = coverage(task, {"llm": None, "ruff": PYTHON}, shown={"llm": ["b.go"], "ruff": ["a.py", "b.go", ".env"]})
    assert [row["file"] for row in rows["files"]] == [".env", "a.py", "b.go"]
    secret, python, go = rows["files"]
    assert (secret["read_by"], secret["left_out"]) == ([], "secret")
    assert (python["read_by"], python["unread"]) == (["ruff"], {"llm": "not shown to this seat"})
    assert go["read_by"] == ["llm"]
    assert "language go" in go["unread"]["ruff"]
    assert (rows["read"], rows["unread"]) == (2, 1)
    left = coverage(task, {"llm": None}, left_out={"b.go": "over the budget"})["files"][2]
    assert (left["read_by"], left["left_out"]) == ([], "over the budget")


# --- check


TEXT = "import os\n\ndef run(n):\n    while n:\n        n = n - 1\n    return n\n\n\n\n\nrun(3)\n"
DIFF = (
    "--- a/f.py\n+++ b/f.py\n@@ -3,4 +3,4 @@\n def run(n):\n-    while n > 0:\n+    while n:\n"
    "         n = n - 1\n     return n\n"
)
CHANGE = Task(
    task_id="t",
    question="q",
    files=(
        TaskFile(path="f.py", language="python", diff=DIFF, added=(4,), text=TEXT),
        TaskFile(path="g.go", language="go", diff=DIFF.replace("f.py", "g.go"), added=(4,)),
        TaskFile(path=".env", language="", diff="", left_out="secret"),
    ),
)


def check(line: int, quote: str = "", file: str = "f.py", severity: str = "critical", code: str = "") -> Raised:
    claim = Claim(text="t", file=file, line=line, severity=severity, quote=quote, code=code)  # type: ignore[arg-type]
    return check_claims(CHANGE, "a", [claim])[0]


@pytest.mark.parametrize(
    ("line", "quote", "path", "now", "verified", "severity"),
    [
        (4, "while n:", "f.py", 4, True, "critical"),
        (4, "  while   n:  ", "f.py", 4, True, "critical"),  # white space does not matter
        (6, "    while n:\n        n = n - 1", "f.py", 4, True, "critical"),  # two lines, two lines off
        (400, "n = n - 1", "f.py", 5, True, "critical"),  # elsewhere in the file
        (4, "+    while n:", "f.py", 4, True, "critical"),  # the diff's margin was copied
        (4, "while n > 0:", "f.py", 4, True, "critical"),  # a removed line
        (4, "while True:", "f.py", 4, False, "minor"),  # made up
        (4, "n", "f.py", 4, False, "minor"),  # too short to be a part of a line
        (4, "", "f.py", 4, None, "major"),  # a changed line, nothing quoted
        (5, "", "f.py", 5, None, "minor"),  # an unchanged line, nothing quoted
        (99, "", "f.py", 99, False, "minor"),  # no such line
        (4, "while n:", "b/f.py", 4, True, "critical"),
        (4, "while n:", "nowhere.py", 4, False, "minor"),
        (5, "n = n - 1", "g.go", 5, True, "critical"),  # only the diff is known
        (1, "import os", "g.go", 1, False, "minor"),
        (99, "", "g.go", 99, None, "minor"),  # whether it exists is not known
        (1, "KEY=1", ".env", 1, None, "minor"),  # left out: nothing to check against
    ],
)
def test_evidence(line: int, quote: str, path: str, now: int, verified: bool | None, severity: str) -> None:
    item = check(line, quote, path)
    assert (item.line, item.verified, item.severity) == (now, verified, severity)
    assert (item.stated_line, item.stated_severity) == (line, "critical")
    if now != line or verified is not True:
        assert item.note


def test_the_check_never_raises_a_severity() -> None:
    assert check(4, "while n:", severity="info").severity == "info"
    assert check(4, "made up line", severity="info").severity == "info"


def test_a_secret_file_is_its_own_evidence() -> None:
    assert check(1, file=".env", code="diff/secret-file").verified is True
    assert check(1, file="f.py", code="diff/secret-file").verified is None  # a forged code on another file


def test_the_nearest_of_several_places_is_taken() -> None:
    text = "return value\n" * 9
    task = CHANGE.model_copy(update={"files": (TaskFile(path="f.py", language="", diff="", text=text),)})
    claim = Claim(text="t", file="f.py", line=7, severity="minor", quote="return value")
    assert check_claims(task, "a", [claim])[0].line == 7
