"""What people get wrong in the two documents they write by hand, and the words they read then."""

from typing import Any

import pytest

from madflow.core.plan import parse_step
from madflow.core.policy import parse_policy
from madflow.errors import PlanError, PolicyError


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"allow": [{"step": "write"}]}, 'allow.0.step: a list is meant here, e.g. ["write"]'),
        ({"alow": []}, "alow: there is no such key; did you mean allow?"),
        ({"allow": [{"step": ["write"], "path": ["x"]}]}, "path: there is no such key; did you mean paths?"),
        ({"admit": 3}, "admit: a table of keys is meant here"),
        ({"time": {"step_s": 0}}, "time.step_s: Input should be greater than or equal to 1 (value: '0')"),
    ],
)
def test_a_policy_says_what_is_meant(document: dict[str, Any], said: str) -> None:
    """Would catch the reader's own types in the message: a person who writes TOML knows of no tuple."""
    with pytest.raises(PolicyError) as caught:
        parse_policy(document)
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"step": "wrte"}, "step 0 (wrte): no such kind of step; there are read, write,"),
        ({"step": "test", "cmd": "pytest -q"}, 'step 0 (test): cmd: a list is meant here, e.g. ["pytest -q"]'),
        ({"step": "test", "cmd": ["x"], "timeout_s": 3}, "timeout_s: there is no such key; did you mean timeout_ms?"),
        ({"step": "write", "content": "a"}, "step 0 (write): target: is needed and is not there"),
    ],
)
def test_a_step_says_what_is_meant(step: dict[str, Any], said: str) -> None:
    """Would catch a message that names the union behind the steps, or a field twice."""
    with pytest.raises(PlanError) as caught:
        parse_step(step)
    assert said in str(caught.value)
