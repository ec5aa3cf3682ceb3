"""policy.toml as data: what is refused, what its patterns match, what limits it sets."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.policy import Policy, any_match, glob_match, parse_policy
from madflow.errors import PolicyError

FULL: dict[str, Any] = {
    "admit": {"rule": "supermajority:4/6", "min_eligible": 3, "min_families": 2, "max_age_s": 60},
    "allow": [{"step": ["http"], "hosts": ["a.example", "b.example:8080"], "methods": ["GET"], "roles": ["auditor"]}],
    "limits": {"file:src/**": 2, "git:**": 3},
    "http": {"idempotent_hosts": ["a.example"]},
    "databases": {"app": "data/app.db"},
    "commands": {"env": ["HOME"]},
    "time": {"step_s": 1, "commit_s": 2},
    "retry": {"attempts": 1},
}


def test_a_full_policy_is_read() -> None:
    """Would catch a key that is accepted and dropped."""
    policy = parse_policy(FULL)
    assert policy.admit.rule == "supermajority:2/3"
    assert policy.model_dump(exclude_defaults=True).keys() == FULL.keys()
    assert policy.honours_keys("a.example") and not policy.honours_keys("A.example")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"alow": []}, "alow"),
        ({"allow": [{}]}, "allow.0.step"),
        ({"allow": [{"step": []}]}, "allow.0.step"),
        ({"allow": [{"step": ["rm"]}]}, "allow.0.step.0"),
        ({"allow": [{"step": ["read"], "path": ["**"]}]}, "allow.0.path"),
        ({"allow": [{"step": ["read"], "paths": "**"}]}, "allow.0.paths"),
        ({"allow": [{"step": ["http"], "hosts": ["API.example"]}]}, "lower case"),
        ({"allow": [{"step": ["http"], "hosts": ["https://api.example"]}]}, "host or host:port"),
        ({"allow": [{"step": ["http"], "methods": ["get"]}]}, "no method"),
        ({"http": {"idempotent_hosts": ["u@a.example"]}}, "host or host:port"),
        ({"admit": {"rule": "most of them"}}, "rule"),
        ({"admit": {"rule": "judge"}}, "counts ballots"),
        ({"admit": {"rule": "veto:judge"}}, "counts ballots"),
        ({"admit": {"min_eligible": 0}}, "min_eligible"),
        ({"admit": {"max_age_s": 0}}, "max_age_s"),
        ({"databases": {"ledger": "x.db"}}, "another name"),
        ({"limits": {"file:**": 0}}, "do not allow"),
        ({"limits": {"file:**": True}}, "limits.file:**"),
        ({"admit": {"min_eligible": "3"}}, "min_eligible"),
        ({"time": {"step_s": 0}}, "time.step_s"),
        ({"retry": {"attempts": 11}}, "retry.attempts"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(data: dict[str, Any], says: str) -> None:
    """Would catch a typing error that silently allows, or denies, something else than was meant."""
    with pytest.raises(PolicyError, match=re.escape(says)) as caught:
        parse_policy(data, "my/policy.toml")
    assert str(caught.value).startswith("my/policy.toml: ")


def test_the_digest_is_of_what_it_says() -> None:
    """Would catch an audit that cannot tell two policies apart, or tells one from itself."""
    backwards = {key: FULL[key] for key in reversed(FULL)}
    assert parse_policy(FULL).digest() == parse_policy(backwards).digest() != Policy().digest()


def test_limits() -> None:
    """Would catch two commits at once in one file, and a limit that a looser pattern overrides."""
    policy = parse_policy(FULL)
    assert policy.limit_of("file:src/a.py") == 2 and policy.limit_of("file:a.py") == 1
    assert policy.limit_of("git:refs/heads/x") == 3 and Policy().limit_of("git:refs/heads/x") == 1
    assert policy.limit_of("url:a.example") is None
    assert policy.limit_of("db:app") == 1 and policy.limit_of("db:ledger") is None
    assert parse_policy({"limits": {"file:**": 5, "file:src/*": 2}}).limit_of("file:src/a") == 2


@pytest.mark.parametrize(
    ("pattern", "matches", "fails"),
    [
        ("src/*", ["src/a", "src/a.b", "src/"], ["src", "src/a/b", "xsrc/a", "SRC/a", "src/a/"]),
        ("src/**", ["src/a", "src/a/b", "src/"], ["src", "srcx/a", "x/src/a"]),
        ("**/a", ["a", "x/a", "x/y/a"], ["xa", "x/ya", "a/b"]),
        ("src/**/a", ["src/a", "src/x/a", "src/x/y/a"], ["src/xa", "srca"]),
        ("a?c", ["abc", "a.c", "a\nc"], ["ac", "a/c", "abbc"]),
        ("a.c", ["a.c"], ["abc"]),
        ("[ab]", ["[ab]"], ["a", "b"]),
        ("$(x)^", ["$(x)^"], ["x"]),
        ("", [""], ["a", "/"]),
        ("**", ["", "a", "a/b", "a\nb"], []),
    ],
)
def test_patterns(pattern: str, matches: list[str], fails: list[str]) -> None:
    """Would catch a pattern that matches a part of a path, crosses a slash, or is read as a regular expression."""
    assert [text for text in matches if not glob_match(pattern, text)] == []
    assert [text for text in fails if glob_match(pattern, text)] == []


def brute(pattern: str, text: str) -> bool:
    """The definition, letter by letter."""
    if not pattern:
        return not text
    if pattern.startswith("**/"):
        rest = pattern[3:]
        starts = [0, *(at + 1 for at, char in enumerate(text) if char == "/")]
        return any(brute(rest, text[at:]) for at in starts)
    if pattern.startswith("**"):
        return any(brute(pattern[2:], text[at:]) for at in range(len(text) + 1))
    if pattern[0] == "*":
        return brute(pattern[1:], text) or (text[:1] not in ("", "/") and brute(pattern, text[1:]))
    if pattern[0] == "?":
        return text[:1] not in ("", "/") and brute(pattern[1:], text[1:])
    return text[:1] == pattern[0] and brute(pattern[1:], text[1:])


@given(st.text("ab/*?.", max_size=7), st.text("ab/.\n", max_size=7))
def test_patterns_against_their_definition(pattern: str, text: str) -> None:
    """Would catch a translation of patterns that is clever and wrong."""
    assert glob_match(pattern, text) == brute(pattern, text)
    assert any_match((pattern, "zz"), text) == (brute(pattern, text) or text == "zz")
