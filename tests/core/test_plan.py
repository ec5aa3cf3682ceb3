"""Plans as data: hostile steps are refused by name, and what a step is, touches and can take back is told right."""

import re
from typing import Any

import pytest
from gate_world import CALL, COMMAND, EVERY_KIND, GIT, HTTP, PATCH, READ, SQL, TEST, WRITE
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.plan import (
    STEPS_MAX,
    effect_class,
    idempotency_key,
    parse_plan,
    parse_step,
    path_problem,
    step_digest,
    step_paths,
    targets,
    undoable,
    url_host,
)
from madflow.core.policy import Policy, parse_policy
from madflow.core.proposal import STEP_KINDS
from madflow.errors import PlanError


@pytest.mark.parametrize("step", EVERY_KIND, ids=lambda step: step["step"])
def test_every_kind_is_read_and_nothing_is_lost(step: dict[str, Any]) -> None:
    """Would catch a field that is dropped between the vote and the effect."""
    parsed = parse_step(step)
    assert parsed.model_dump(exclude_unset=True, mode="json") == step
    assert {step["step"] for step in EVERY_KIND} == set(STEP_KINDS)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({}, "step"),
        ({"step": "rm"}, "step 3 (rm)"),
        ({**WRITE, "mode": 0o777}, "mode"),
        ({**WRITE, "content": b"x"}, "content"),
        ({**WRITE, "content": 3}, "content"),
        ({**WRITE, "target": "src/a.py"}, "file:PATH"),
        ({**WRITE, "sha256_before": "A" * 64}, "sha256_before"),
        ({**WRITE, "sha256_before": "a" * 63}, "sha256_before"),
        ({**WRITE, "timeout_ms": 0}, "timeout_ms"),
        ({**WRITE, "timeout_ms": "5"}, "timeout_ms"),
        ({**PATCH, "patch": ""}, "patch"),
        ({**TEST, "cmd": []}, "list whose first item"),
        ({**TEST, "cmd": ["", "x"]}, "list whose first item"),
        ({**TEST, "cmd": "pytest -q"}, "cmd"),
        ({**TEST, "cmd": ["pytest", "a\0b"]}, "NUL"),
        ({**TEST, "undo": ["x"]}, "undo"),
        ({**COMMAND, "probe": []}, "list whose first item"),
        ({**HTTP, "method": "CONNECT"}, "method"),
        ({**HTTP, "headers": {"Host": "evil.example"}}, "set by the submitter"),
        ({**HTTP, "headers": {"idempotency-KEY": "1"}}, "set by the submitter"),
        ({**HTTP, "headers": {"X-Madflow-Term": "9"}}, "set by the submitter"),
        ({**HTTP, "headers": {"Proxy-Authorization": "x"}}, "set by the submitter"),
        ({**HTTP, "headers": {"X-A": "b\r\nHost: evil.example"}}, "control characters"),
        ({**HTTP, "headers": {"X A": "b"}}, "plain name"),
        ({**HTTP, "headers": {"X-A": "b", "x-a": "c"}}, "twice"),
        ({**HTTP, "undo": {"method": "DELETE", "url": "https://a.example/", "headers": {"Host": "b"}}}, "submitter"),
        ({**HTTP, "undo": True}, "undo"),
        ({**SQL, "target": "db:../x"}, "db:NAME"),
        ({**SQL, "target": "db:app\n"}, "db:NAME"),
        ({**SQL, "params": [{"x": 1}]}, "params"),
        ({**GIT, "target": "git:refs/tags/x"}, "refs/heads"),
        ({**GIT, "target": "git:refs/heads/../../config"}, "refs/heads"),
        ({**GIT, "target": "git:refs/heads/a..b"}, "refs/heads"),
        ({**GIT, "target": "git:refs/heads/-x"}, "refs/heads"),
        ({**GIT, "target": "git:refs/heads/x.lock"}, "no name git allows"),
        ({**GIT, "target": "git:refs/heads/a//b"}, "no name git allows"),
        ({**GIT, "target": "git:refs/heads/a/.b"}, "no name git allows"),
        ({**GIT, "target": "git:refs/heads/x\n"}, "refs/heads"),
        ({**GIT, "target": "git:refs/heads/é"}, "refs/heads"),
        ({**GIT, "paths": []}, "paths"),
        ({**CALL, "name": "os.system('x')"}, "name"),
        ({**CALL, "args": []}, "args"),
    ],
    ids=lambda value: str(value)[:70],
)
def test_a_hostile_step_is_refused_by_name(step: dict[str, Any], says: str) -> None:
    """Would catch a step that means something else to whoever performs it than to whoever voted on it."""
    with pytest.raises(PlanError, match=re.escape(says)) as caught:
        parse_step(step, 3)
    assert caught.value.step == 3


def test_plans_are_bounded_and_not_empty() -> None:
    """Would catch an endless plan, and a commit of nothing."""
    assert len(parse_plan([READ] * STEPS_MAX)) == STEPS_MAX
    with pytest.raises(PlanError, match=f"{STEPS_MAX + 1} steps, the limit is {STEPS_MAX}"):
        parse_plan([READ] * (STEPS_MAX + 1))
    with pytest.raises(PlanError, match="no steps"):
        parse_plan([])
    with pytest.raises(PlanError, match="a step is a JSON object"):
        parse_plan([READ, "rm -rf"])  # type: ignore[list-item]


@given(st.text(st.sampled_from("ab/.~\\ \x00\nü"), max_size=12))
def test_a_path_without_a_problem_stays_beneath_the_root(path: str) -> None:
    """Would catch a spelling that climbs: what passes has only plain names, joined by single slashes."""
    if path_problem(path) == "":
        parts = path.split("/")
        assert parts and all(part not in ("", ".", "..") for part in parts)
        assert path[0] not in "/~" and not set(path) & {"\\", "\x00", "\n"}
    else:
        with pytest.raises(PlanError):
            parse_step({**READ, "target": f"file:{path}"})


def test_the_digest_of_a_step_counts_null_as_absent() -> None:
    """Would catch a key that refuses the very step it was given, because a file wrote its nulls."""
    assert step_digest({**WRITE, "timeout_ms": None}) == step_digest(dict(reversed(WRITE.items())))
    assert step_digest({**WRITE, "timeout_ms": 5}) != step_digest(WRITE)
    assert (
        len({idempotency_key(*key) for key in (("s", "p", 1, "do"), ("s", "p", 1, "undo"), ("s", "p1", 1, "do"))}) == 3
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("step", "do", "undo", "can"),
    [
        (READ, "none", "none", "nothing"),
        (WRITE, "verifiable", "verifiable", "yes"),
        (PATCH, "verifiable", "verifiable", "yes"),
        (COMMAND, "verifiable", "verifiable", "yes"),
        ({"step": "command", "cmd": ["x"]}, "non_verifiable", "non_verifiable", "no"),
        ({"step": "command", "cmd": ["x"], "undo": []}, "non_verifiable", "non_verifiable", "nothing"),
        (TEST, "none", "none", "nothing"),
        (HTTP, "idempotent", "idempotent", "yes"),
        ({"step": "http", "method": "POST", "url": "http://x.example/"}, "non_verifiable", "non_verifiable", "no"),
        ({"step": "http", "method": "POST", "url": "http://k.example:80/"}, "idempotent", "idempotent", "no"),
        ({"step": "http", "method": "GET", "url": "http://x.example/"}, "none", "none", "nothing"),
        ({**HTTP, "undo": {"method": "POST", "url": "http://x.example/"}}, "idempotent", "non_verifiable", "yes"),
        ({**HTTP, "undo": False}, "idempotent", "idempotent", "nothing"),
        (SQL, "verifiable", "verifiable", "no"),
        ({**SQL, "target": "db:ledger", "undo": "SELECT 1"}, "transactional", "transactional", "yes"),
        (GIT, "verifiable", "verifiable", "yes"),
        (CALL, "transactional", "transactional", "no"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["step"],
)
def test_what_may_be_done_about_a_step_after_a_crash(step: dict[str, Any], do: str, undo: str, can: str) -> None:
    """Would catch an effect that is repeated although nobody can tell whether it happened."""
    policy = parse_policy({"http": {"idempotent_hosts": ["k.example"]}})
    parsed = parse_step(step)
    assert effect_class(parsed, policy, {"deploy": "transactional"}) == do
    assert effect_class(parsed, policy, {"deploy": "transactional"}, "undo") == undo
    assert undoable(parsed, {"deploy": "no"}) == can


def test_a_step_that_nobody_registered() -> None:
    """Would catch a `call` that gets a class by default."""
    with pytest.raises(PlanError, match="registered: other"):
        effect_class(parse_step(CALL), Policy(), {"other": "none"})


def test_what_a_step_touches() -> None:
    """Would catch two commits that meet in a resource neither of them names."""
    assert [targets(parse_step(step)) for step in EVERY_KIND] == [
        ("file:src/a.py",),
        ("file:src/a.py",),
        ("file:src/a.py",),
        ("command:make",),
        ("command:pytest",),
        ("url:api.example.com",),
        ("db:app",),
        ("git:refs/heads/madflow/x", "file:src/a.py"),
        ("call:deploy",),
    ]
    assert [step_paths(parse_step(step)) for step in (READ, COMMAND, TEST, GIT, SQL)] == [
        ("src/a.py",),
        ("src",),
        ("src",),
        ("src/a.py",),
        (),
    ]
    assert url_host("http://a.example:443/x") == "a.example:443" and url_host("https://a.example:443") == "a.example"
