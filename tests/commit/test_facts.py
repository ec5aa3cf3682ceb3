"""Facts are what the tree says, and nothing is reached through a link; the submitter's own files are known by name."""

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from gate_debates import BEFORE, tree

from madflow.commit.facts import PATHS_MAX, gather_facts, protected_paths
from madflow.core.gate import Facts
from madflow.core.permits import never
from madflow.core.policy import Policy, parse_policy

HASH = hashlib.sha256(BEFORE.encode()).hexdigest()


def read(path: str) -> dict[str, Any]:
    return {"step": "read", "target": f"file:{path}"}


def gather(root: Path, *plan: Any, policy: Policy | None = None) -> Facts:
    return gather_facts(plan, root, policy or Policy(), now_ms=1)


def test_files_and_folders(tmp_path: Path) -> None:
    """Would catch a hash of something else, an absent file that is there, a folder taken for a file."""
    root = tree(tmp_path)
    test = {"step": "test", "cmd": ["x"], "cwd": "src"}
    facts = gather(
        root,
        read("src/a.py"),
        read("src/new/b.py"),
        read("src"),
        test,
        {**test, "cwd": "src/a.py"},
        {**test, "cwd": "nowhere"},
    )
    here = facts.paths["src/a.py"]
    assert (here.problem, here.exists, here.sha256, here.size) == ("", True, HASH, len(BEFORE))
    assert (facts.paths["src/new/b.py"].problem, facts.paths["src/new/b.py"].exists) == ("", False)
    assert "folder" in facts.paths["src"].problem
    assert facts.folders["src"].exists and not facts.folders["src"].problem
    assert facts.folders["src/a.py"].problem
    assert not facts.folders["nowhere"].exists and not facts.folders["nowhere"].problem


def test_links_and_strange_files(tmp_path: Path) -> None:
    """Would catch a link that is followed, in the middle or at the end, and a pipe that is waited for."""
    root = tree(tmp_path / "root")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.py").write_text("secret")
    (root / "linked").symlink_to(outside)
    (root / "inner").symlink_to(root / "src")
    (root / "file").symlink_to(outside / "a.py")
    (root / "dangling").symlink_to(outside / "none")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # a socket's address is short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        names = ("linked/a.py", "linked/new", "inner/a.py", "file", "dangling", "pipe", "socket")
        facts = gather(root, *(read(name) for name in names))
        folders = gather(root, *({"step": "test", "cmd": ["x"], "cwd": name} for name in ("linked", "inner", "pipe")))
    assert {name for name in names if not facts.paths[name].problem} == set()
    assert {fact.sha256 for fact in facts.paths.values()} == {None}
    assert all(fact.problem for fact in folders.folders.values())


def test_databases_are_looked_at_and_not_read(tmp_path: Path) -> None:
    """Would catch a database reached by a link, and one that is refused for its size."""
    root = tree(tmp_path)
    with (root / "big.db").open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    (root / "link.db").symlink_to(root / "big.db")
    (root / "dir").symlink_to(root / "src")
    (root / "folder.db").mkdir()
    names = {
        "big": "big.db",
        "new": "new.db",
        "none": "not/there.db",
        "link": "link.db",
        "dir": "dir/x.db",
        "at": "folder.db",
    }
    facts = gather(root, policy=parse_policy({"databases": {**names, "out": "../x.db"}}))
    assert [bool(facts.paths[path].problem) for path in names.values()] == [False, False, False, True, True, True]
    assert facts.paths["big.db"].exists and facts.paths["big.db"].sha256 is None and "../x.db" not in facts.paths


def test_a_plan_cannot_have_the_whole_disk_hashed(tmp_path: Path) -> None:
    """Would catch a plan that keeps the gate busy for ever; and a plan whose steps cannot be read."""
    root = tree(tmp_path)
    paths = [f"x/{n}" for n in range(1_000)]
    steps = [
        {"step": "git_commit", "target": "git:refs/heads/x", "paths": [f"{p}{k}" for p in paths], "message": "m"}
        for k in "abc"
    ]
    facts = gather(root, *steps)
    assert len(facts.paths) == PATHS_MAX + 1
    assert sum(bool(fact.problem) for fact in facts.paths.values()) == 1
    assert gather(root, {"step": "no"}, [], {"step": "read", "target": "file:../x"}, read("src/a.py")).paths.keys() == {
        "src/a.py"
    }


def test_whether_there_is_a_policy(tmp_path: Path) -> None:
    """Would catch the hint for beginners where a policy was given, and its absence where none was."""
    root = tree(tmp_path, policy=None)
    assert not gather(root).has_policy and gather(root).policy_file == str(root / "policy.toml")
    assert gather(root, policy=parse_policy({"retry": {"attempts": 1}})).has_policy
    assert gather_facts((), root, Policy(), now_ms=1, policy_file=root / "policy.toml").has_policy


def test_the_submitters_own_paths(tmp_path: Path) -> None:
    """Would catch a policy or a ledger that is free under its other name, wherever it lies."""
    root = tree(tmp_path / "root")
    assert protected_paths(root, None, None) == ("policy.toml",)
    assert protected_paths(root, root / "state" / "l.db", root / "ops" / "p.toml") == (
        "ops/p.toml",
        "policy.toml",
        "state",
    )
    assert protected_paths(root, tmp_path / "l.db", tmp_path / "p.toml") == ("policy.toml",)
    beside = protected_paths(root, str(root / "l.db"), None)
    assert {"l.db", "l.db-wal", "l.db-shm", "locks", "run"} <= set(beside) and "src" not in beside
    (root / "real").mkdir()
    (root / "real" / "p.toml").write_text("")
    (root / "ledgers").symlink_to(root / "real")
    (root / "policy.toml").unlink()
    (root / "policy.toml").symlink_to(root / "real" / "p.toml")
    assert protected_paths(root, root / "ledgers" / "l.db", root / "policy.toml") == (
        "policy.toml",
        "real",
        "real/p.toml",
    )
    assert protected_paths(root, None, None) == ("policy.toml", "real/p.toml")
    (root / "other.toml").symlink_to(root / "src" / "a.py")
    assert protected_paths(root, None, root / "other.toml")[-1] == "src/a.py"
    (tmp_path / "alias").symlink_to(root)
    assert protected_paths(tmp_path / "alias", tmp_path / "alias" / "state" / "l.db", None)[0] == "policy.toml"
    assert "state" in protected_paths(tmp_path / "alias", root / "state" / "l.db", None)


@pytest.mark.parametrize("given", ["state/l.db", "./state/l.db", "src/../state/l.db"])
def test_however_the_ledger_is_named(tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a ledger that is protected only under the spelling that it was given by."""
    monkeypatch.chdir(tree(tmp_path))
    own = protected_paths(Path(), given, Path("policy.toml"))
    assert own == ("policy.toml", "state")
    assert never("State/L.db", own) and never("POLICY.TOML", own) and not never("src/state", own)
