"""A plan from elsewhere and a panel in one line: what is refused, and that the message says what would do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.panel_request import check_proposal_id, panel_subject, parse_panel, parse_plan_file
from madflow.errors import ConfigError, PlanError

STEP = {"step": "read", "target": "file:a.txt"}


def test_only_a_plan_is_needed() -> None:
    file = parse_plan_file({"plan": [STEP]})
    assert (file.plan, file.risks, file.content) == ((STEP,), (), {})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "an object like"),
        ([STEP], "not a list"),
        ({"plan": STEP}, "a list of steps"),
        ({"plan": [1]}, "a list of steps"),
        ({}, "a list of steps"),
        ({"plan": []}, "no steps"),
        ({"plan": [STEP] * 201}, "the limit is 200"),
        ({"plan": [{"step": "rm"}]}, "step 0"),
        ({"plan": [STEP], "votes": []}, "keys: plan, task_id"),
        ({"plan": [STEP], "risks": [{"kind": "bad luck"}]}, "use one of timeouts"),
        ({"plan": [STEP], "stop_conditions": [{"kind": "never"}]}, "use one of budget_exceeded"),
        ({"plan": [STEP], "risks": [{"kind": "other", "note": "x" * 2001}]}, "risks.0.note"),
        ({"plan": [STEP], "content": {"a": "x" * 300_000}}, "the limit is 262144"),
        ({"plan": [STEP], "content": {"supersedes": "p9"}}, "resolve-conflict"),
        ({"plan": [STEP], "content": {"a": float("nan")}}, r"\$"),
        ({"plan": [STEP], "task_id": "\ud800"}, "unicode"),
    ],
)
def test_refused_with_the_fix(data: Any, says: str) -> None:
    """Would catch a key that is dropped in silence, and a file without a bound."""
    with pytest.raises(PlanError, match=says):
        parse_plan_file(data)


def test_evidence_does_not_vouch_for_itself() -> None:
    """Would catch a file whose evidence is verified because it says so."""
    file = parse_plan_file({"plan": [STEP], "evidence": [{"kind": "url", "ref": "x", "verified": True, "id": "E9"}]})
    assert [(item.id, item.verified) for item in file.claims()] == [("E1", None)]


def test_a_panel_in_one_line() -> None:
    panel = parse_panel("bob:2, ann,ci:3@scripts")
    assert [(m.agent, m.weight, m.family) for m in panel] == [
        ("ann", 1, "unstated"),
        ("bob", 2, "unstated"),
        ("ci", 3, "scripts"),
    ]
    assert parse_panel(["ann", "bob:2", "ci:3@scripts"]) == panel


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one seat"),
        ("a,,b", "cannot name an agent"),
        ("a,a", "twice"),
        ("a:0", "from 1 to 1000000"),
        ("a:1000001", "from 1 to 1000000"),
        ("a:1.5", "NAME"),
        ("a:-1", "NAME"),
        ("a:x", "NAME"),
        ("a b", "cannot name an agent"),
        ("ä", "cannot name an agent"),
        (",".join(f"s{n}" for n in range(65)), "at most 64 seats"),
    ],
)
def test_a_panel_that_is_none(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_panel(text)


@given(st.text(max_size=30))
def test_any_panel_is_read_or_refused(text: str) -> None:
    """Would catch a crash on hostile text, and a seat that could not vote under its name."""
    try:
        panel = parse_panel(text)
    except ConfigError:
        return
    assert parse_panel(",".join(member.agent for member in panel))


@pytest.mark.parametrize("name", ["", "d-p1", "../x", "a" * 101, "a/b", "-a", "a\n"])
def test_ids_that_name_no_proposal(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a proposal"):
        check_proposal_id(name)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rule": "judge"}, "a panel has none"),
        ({"rule": "veto:judge"}, "a panel has none"),
        ({"rule": "veto(zoe):majority"}, "without a seat: zoe"),
        ({"expires_s": 0}, "not 0 s"),
        ({"expires_s": 10**9}, "366 days"),
        ({"proposer": "a b"}, "cannot name an agent"),
    ],
)
def test_a_subject_that_makes_no_sense(changed: dict[str, Any], says: str) -> None:
    fields: dict[str, Any] = {"proposal_id": "x", "proposer": "p", "panel": parse_panel("a,b"), "rule": "majority"}
    with pytest.raises(ConfigError, match=says):
        panel_subject(parse_plan_file({"plan": [STEP]}), **{**fields, "created_ms": 0, "expires_s": 60, **changed})
