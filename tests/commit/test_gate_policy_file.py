"""policy.toml as a file: what is refused before a word of it counts."""

import os
import re
from pathlib import Path

import pytest

from madflow.commit.policy_file import POLICY_BYTES_MAX, load_policy
from madflow.core.policy import Policy
from madflow.errors import PolicyError

GOOD = '[[allow]]\nstep = ["read"]\npaths = ["src/**"]\n'


def test_found_where_it_is_looked_for(tmp_path: Path) -> None:
    """Would catch a policy that is not read, and a default that allows."""
    assert load_policy(None, tmp_path) == (Policy(), None)
    (tmp_path / "policy.toml").write_text(GOOD)
    policy, file = load_policy(None, tmp_path)
    assert file == tmp_path / "policy.toml" and policy.allow[0].paths == ("src/**",)
    other = tmp_path / "other.toml"
    other.write_text("")
    assert load_policy(str(other), tmp_path) == (Policy(), other)
    (tmp_path / "link.toml").symlink_to(tmp_path / "policy.toml")
    assert load_policy(tmp_path / "link.toml", tmp_path)[0] == policy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[admit\n", "line 1"),
        (b"a = 1\na = 2\n", "line 2"),
        (b"[admit]\nrule = '\xff'\n", "not UTF-8 at byte 16"),
        (b"[admit]\nquorum = 3\n", "admit.quorum"),
        (b"x = " + b"[" * 50_000, "no TOML|nested too deeply"),
        (b"#" * (POLICY_BYTES_MAX + 1), f"more than {POLICY_BYTES_MAX} bytes"),
    ],
    ids=["toml", "twice", "utf8", "unknown", "deep", "long"],
)
def test_what_is_no_policy(tmp_path: Path, text: bytes, says: str) -> None:
    """Would catch a broken policy that counts as an empty one, or an error that names neither file nor place."""
    file = tmp_path / "policy.toml"
    file.write_bytes(text)
    with pytest.raises(PolicyError, match=says) as caught:
        load_policy(None, tmp_path)
    assert str(file) in str(caught.value)


def test_who_may_write_it(tmp_path: Path) -> None:
    """Would catch a policy that everybody on the machine may widen."""
    file = tmp_path / "policy.toml"
    file.write_text(GOOD)
    file.chmod(0o646)
    with pytest.raises(PolicyError, match="chmod o-w"):
        load_policy(None, tmp_path)
    file.chmod(0o664)
    assert load_policy(None, tmp_path)[1] == file


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    """Would catch a policy that was named, is missing, and is silently done without; and a pipe that is waited for."""
    with pytest.raises(PolicyError, match="no policy file"):
        load_policy(tmp_path / "policy.toml", tmp_path)
    (tmp_path / "policy.toml").symlink_to(tmp_path / "none")
    with pytest.raises(PolicyError, match="no policy file"):
        load_policy(None, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(PolicyError, match=re.escape("no regular file")):
            load_policy(tmp_path / name, tmp_path)
