"""The gate refuses each attack with its reason, and admits the harmless twin beside it."""

from typing import Any

import pytest
from gate_world import (
    CALL,
    COMMAND,
    EVERY_KIND,
    GIT,
    HERE,
    HTTP,
    PATCH,
    POLICY,
    READ,
    SQL,
    TEST,
    WRITE,
    body_of,
    codes,
    facts_of,
    judge,
    reasons,
    reseal,
)

from madflow.core.gate import Admitted, PathFact, Request, admit
from madflow.core.policy import parse_policy
from madflow.core.proposal import check_digests


def but(step: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The step with some fields changed; None takes a field away."""
    return {name: value for name, value in {**step, **changes}.items() if value is not None}


def put(url: str) -> dict[str, Any]:
    return {"step": "http", "method": "PUT", "url": url}


@pytest.mark.parametrize("step", EVERY_KIND, ids=lambda step: step["step"])
def test_every_kind_is_admitted_where_it_is_allowed(step: dict[str, Any]) -> None:
    """The positive control of all that follows: would catch a gate that refuses everything."""
    verdict = judge([step])
    assert isinstance(verdict, Admitted), reasons(verdict)
    assert verdict.plan == (step,) and len(verdict.steps) == len(verdict.classes) == 1


BAD_TEXT = [
    "../x",
    "src/../../x",
    "/etc/passwd",
    "~/x",
    "~root/x",
    "src//a",
    "./src/a",
    "src/.",
    "src\\a",
    "src/a\nb",
    "",
]


@pytest.mark.parametrize("path", [*BAD_TEXT, "src/\x00a", "x" * 1025])
@pytest.mark.parametrize("step", [READ, WRITE, PATCH], ids=lambda step: step["step"])
def test_a_path_that_leaves_the_root_by_its_text(step: dict[str, Any], path: str) -> None:
    """Would catch a path that climbs, is absolute, names a home, or hides in an odd spelling."""
    assert codes(
        judge([but(step, target=f"file:{path}")], policy={"allow": [{"step": ["read"], "paths": ["**"]}]})
    ) == ["bad_step"]


@pytest.mark.parametrize("path", BAD_TEXT)
def test_no_other_part_of_a_step_leaves_the_root(path: str) -> None:
    """Would catch a cwd or a path to commit that is checked less than a target."""
    for step in (but(TEST, cwd=path), but(COMMAND, cwd=path), but(GIT, paths=["src/a.py", path])):
        assert codes(judge([step])) == ["bad_step"]


@pytest.mark.parametrize(
    "path",
    [
        "policy.toml",
        "POLICY.toml",
        "Policy.TOML.",
        "state/ledger.db",
        "State/x/y",
        ".madflow/ledger.db",
        ".MadFlow/x",
        "src/.madflow/x",
        ".git/config",
        ".GIT/hooks/pre-commit",
        "src/.git/config",
        ".git./config",
        ".git /config",
        "git~1/config",
        ".git::$INDEX_ALLOCATION/config",
        ".g\u200bit/config".replace("\u200b", "\u200c"),
        "\uff0egit/config",
    ],
)
def test_the_submitters_own_files_are_nobodys(path: str) -> None:
    """Would catch a plan that rewrites its policy, its ledger or git's hooks, in any spelling that is folded."""
    policy = {
        "allow": [
            {"step": ["read", "write", "patch"], "paths": ["**"]},
            {"step": ["git_commit"], "refs": ["**"], "paths": ["**"]},
        ]
    }
    for step in (
        but(WRITE, target=f"file:{path}"),
        but(PATCH, target=f"file:{path}"),
        but(READ, target=f"file:{path}"),
    ):
        assert codes(judge([step], policy=policy)) == ["protected"]
    assert codes(judge([but(GIT, paths=["src/a.py", path])], policy=policy)) == ["protected"]
    anywhere = {"allow": [{"step": ["test"], "commands": ["pytest"], "paths": ["**"]}]}
    assert codes(judge([but(TEST, cwd=path)], policy=anywhere)) == ["protected"]


@pytest.mark.parametrize(
    "path", ["policy.toml.txt", "docs/policy.toml", "stately/x", ".gitignore", ".github/x", "git/x", "state.txt"]
)
def test_what_only_resembles_them_is_free(path: str) -> None:
    """Would catch a protection by prefix of text: .gitignore is no part of .git."""
    policy = {"allow": [{"step": ["write"], "paths": ["**"]}]}
    assert isinstance(judge([but(WRITE, target=f"file:{path}")], policy=policy), Admitted)


def test_what_the_tree_says_of_a_path_is_a_reason() -> None:
    """Would catch a gate that ignores a symlink that its facts name, or admits what nobody looked at."""
    for step in (READ, WRITE, PATCH, GIT):
        linked = {"paths": {"src/a.py": PathFact("src/a.py", "src is a symlink")}}
        assert codes(judge([step], facts=linked)) == ["path_refused"]
        assert codes(judge([step], facts={"paths": {}})) == ["no_fact"]
    for step in (COMMAND, TEST):
        assert codes(judge([step], facts={"folders": {"src": PathFact("src", "a symlink")}})) == ["path_refused"]
        assert codes(judge([step], facts={"folders": {}})) == ["no_fact"]
    assert codes(judge([SQL], facts={"paths": {"data/app.db": PathFact("data/app.db", "a symlink")}})) == [
        "path_refused"
    ]
    assert codes(judge([SQL], facts={"paths": {}})) == ["path_refused"]


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (but(WRITE, target="file:other/a.py"), "path_not_allowed"),
        (but(WRITE, target="file:SRC/a.py"), "path_not_allowed"),
        (but(WRITE, target="file:out/deep/a.py"), "path_not_allowed"),
        (but(TEST, cmd=["Pytest"]), "command_not_allowed"),
        (but(TEST, cmd=["pytest "]), "command_not_allowed"),
        (but(TEST, cmd=["make"]), "command_not_allowed"),
        (but(TEST, cwd="src/deep"), "path_not_allowed"),
        (but(COMMAND, cmd=["sh", "-c", "make"]), "command_not_allowed"),
        (but(COMMAND, probe=["sh", "-c", "true"]), "command_not_allowed"),
        (but(COMMAND, undo=["rm", "-rf", "src"]), "command_not_allowed"),
        (but(COMMAND, cmd=["tools/deep/run"]), "command_not_allowed"),
        (but(SQL, target="db:other"), "database_not_allowed"),
        (but(SQL, target="db:APP"), "database_not_allowed"),
        (but(GIT, target="git:refs/heads/main"), "ref_not_allowed"),
        (but(GIT, target="git:refs/heads/madflow/a/b"), "ref_not_allowed"),
        (but(GIT, paths=["src/a.py", "setup.py"]), "path_not_allowed"),
        (but(CALL, name="Deploy"), "name_not_allowed"),
        (put("https://evil.example.com/"), "host_not_allowed"),
        (put("https://api.example.com.evil.example/"), "host_not_allowed"),
        (put("https://api.example.com:8443/"), "host_not_allowed"),
        (put("http://localhost/"), "host_not_allowed"),
        (put("http://127.0.0.1:8080/"), "host_not_allowed"),
        (put("http://[::1]:8080/"), "host_not_allowed"),
        (but(put("https://api.example.com/"), method="POST"), "method_not_allowed"),
        (but(HTTP, undo={"method": "DELETE", "url": "https://evil.example.com/"}), "host_not_allowed"),
        (but(HTTP, undo={"method": "POST", "url": "https://api.example.com/"}), "method_not_allowed"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["step"],
)
def test_what_no_entry_allows(step: dict[str, Any], code: str) -> None:
    """Would catch a part of a step that is not asked for: a probe, an undo, a cwd, the host of an undo."""
    assert code in codes(judge([step]))


@pytest.mark.parametrize("program", ["/bin/sh", "./pytest", "../pytest", "~/pytest", "tools/../../x", "tools\\x"])
def test_a_program_is_a_bare_name_or_a_plain_path_beneath_the_root(program: str) -> None:
    """Would catch a program from outside of the tree under a policy that is too generous."""
    policy = {"allow": [{"step": ["test", "command"], "commands": ["**"]}]}
    for step in ({"step": "test", "cmd": [program]}, {"step": "command", "cmd": ["make"], "undo": [program]}):
        assert codes(judge([step], policy=policy)) == ["bad_program"]
    assert isinstance(judge([{"step": "test", "cmd": ["tools/x"]}], policy=policy), Admitted)


@pytest.mark.parametrize(
    "url",
    [
        "https://API.example.com/",
        "https://api.example.com./",
        "https://user@api.example.com/",
        "https://user:pw@api.example.com/",
        "https://api.example.com@evil.example/",
        "https://evil.example\\@api.example.com/",
        "https://evil.example\\.api.example.com/",
        "https://api.example.com\t.evil.example/",
        " https://api.example.com/",
        "https://api.example.com/\n",
        "https://api%2eexample.com/",
        "https://api。example.com/",
        "//api.example.com/",
        "ftp://api.example.com/",
        "https:/api.example.com/",
        "https://",
        "http://2130706433:8080/",
        "http://0x7f000001:8080/",
        "http://127.1:8080/",
        "http://0177.0.0.1:8080/",
        "http://127.0.0.256:8080/",
        "http://localhost:08080/",
        "http://localhost:80800/",
        "http://localhost:/",
        "http://[::1%25eth0]:8080/",
        "http://[::1/",
    ],
)
def test_a_host_has_one_spelling(url: str) -> None:
    """Would catch a URL that a checker and a client read differently, whatever the policy allows."""
    generous = {"allow": [{"step": ["http"], "hosts": ["**"]}]}
    assert codes(judge([put(url)], policy=generous)) == ["bad_step"]
    undo = but(HTTP, undo={"method": "DELETE", "url": url})
    assert codes(judge([undo], policy=generous)) == ["bad_step"]


@pytest.mark.parametrize(
    "url", ["https://api.example.com:443/", "http://api.example.com:80/x?y=@#z", "http://localhost:8080"]
)
def test_a_port_that_goes_without_saying_is_the_same_host(url: str) -> None:
    """The control: the schemes' own ports are not another host."""
    assert isinstance(judge([put(url)]), Admitted)


def test_one_entry_has_to_allow_the_whole_step() -> None:
    """Would catch two entries that add up to a permission that nobody gave."""
    policy = {
        "allow": [
            {"step": ["http"], "hosts": ["a.example"], "methods": ["GET"]},
            {"step": ["http"], "hosts": ["b.example"], "methods": ["PUT"]},
        ]
    }
    assert codes(judge([put("https://a.example/")], policy=policy)) == ["method_not_allowed"]
    assert isinstance(judge([put("https://b.example/")], policy=policy), Admitted)
    split = {
        "allow": [
            {"step": ["git_commit"], "refs": ["**"], "paths": ["a"]},
            {"step": ["git_commit"], "refs": ["**"], "paths": ["b"]},
        ]
    }
    assert codes(judge([but(GIT, paths=["a", "b"])], policy=split)) == ["path_not_allowed"]


def test_roles_are_the_proposers() -> None:
    """Would catch a permission for one role that every proposer has."""
    policy = {"allow": [{"step": ["write"], "paths": ["**"], "roles": ["auditor"]}]}
    assert codes(judge(policy=policy)) == ["role_not_allowed"]
    assert codes(judge(policy=policy, known={"proposer_role": ""})) == ["role_not_allowed"]
    assert isinstance(judge(policy=policy, known={"proposer_role": "auditor"}), Admitted)


def test_databases_are_files_beneath_the_root_and_not_the_ledger() -> None:
    """Would catch a `sql` step that reaches the ledger's own file as an ordinary database."""
    for path, code in (("state/ledger.db", "protected"), (".madflow/ledger.db", "protected"), ("../x.db", "protected")):
        policy = {**POLICY, "databases": {"app": path}}
        assert code in codes(judge([SQL], policy=policy, facts={"paths": {path: PathFact(path)}}))
    assert codes(judge([SQL], policy={**POLICY, "databases": {}})) == ["unknown_database"]
    assert isinstance(judge([but(SQL, target="db:ledger")], policy={**POLICY, "databases": {}}), Admitted)


def test_what_the_plan_was_frozen_against_is_still_there() -> None:
    """Would catch a write over what somebody else wrote meanwhile; and a later step held against it."""
    changed = {"paths": {"src/a.py": PathFact("src/a.py", "", True, "b" * 64, 1)}}
    gone = {"paths": {"src/a.py": PathFact("src/a.py")}}
    for step in (WRITE, PATCH, but(READ, sha256=HERE)):
        assert codes(judge([step], facts=changed)) == ["changed_since"]
        assert codes(judge([step], facts=gone)) == ["changed_since"]
    assert isinstance(judge([but(WRITE, sha256_before="absent")], facts=gone), Admitted)
    assert codes(judge([but(WRITE, sha256_before="absent")])) == ["changed_since"]
    assert codes(judge([but(WRITE, sha256_before=None)])) == ["unpinned"]
    assert isinstance(judge([but(PATCH, sha256_before=None)]), Admitted)
    assert codes(judge([READ], facts=gone)) == ["missing"]
    later = but(PATCH, sha256_before="c" * 64)
    assert isinstance(judge([WRITE, later, but(READ, sha256="d" * 64)]), Admitted)
    assert [(r.code, r.step) for r in reasons(judge([later, WRITE]))] == [("changed_since", 0)]
    assert [(r.code, r.step) for r in reasons(judge([READ, GIT, later]))] == [("changed_since", 2)]


def test_timeouts_and_names_that_cannot_be() -> None:
    """Would catch a step that outlives its commit, and a step whose code nobody has."""
    assert codes(judge([but(TEST, timeout_ms=900_001)])) == ["timeout_too_long"]
    assert isinstance(judge([but(TEST, timeout_ms=900_000)]), Admitted)
    named = {"allow": [{"step": ["call"], "names": ["*"]}]}
    assert codes(judge([but(CALL, name="launch")], policy=named)) == ["unregistered"]


# ---- the file is only a request


FORGERIES = {
    "edited": ({"plan": [but(WRITE, content="evil")]}, "edited"),
    "another target": ({"plan": [but(WRITE, target="file:src/b.py")]}, "edited"),
    "a step more": ({"plan": [WRITE, TEST]}, "edited"),
    "a longer life": ({"expires_at": "2030-01-01T00:00:00.000Z"}, "edited"),
    "other weights": ({"panel": [{"agent": "a", "role": "debater", "weight": 9, "family": "human"}]}, "edited"),
    "another rule": ({"rule": "plurality"}, "edited"),
    "no condition": ({"stop_conditions": [{"kind": "human", "note": ""}]}, "edited"),
}


@pytest.mark.parametrize(("changes", "code"), FORGERIES.values(), ids=FORGERIES)
def test_a_file_that_was_edited_and_digested_again(changes: dict[str, Any], code: str) -> None:
    """Would catch trust in a file because its digests fit: whoever writes the file can write its digests."""
    honest = body_of([WRITE])
    forged = reseal(honest, **changes)
    assert check_digests(forged) == []
    found = reasons(judge(file=forged))
    assert found[0].code == code and "ledger → file" in found[0].message
    assert isinstance(judge(file={**honest, "usage": {"tokens": 1}}), Admitted)


def test_a_file_with_votes_added_or_turned_round() -> None:
    """Would catch ballots, weights or a result that are read from the file."""
    honest = body_of([WRITE])
    extra = [*honest["votes"], {**honest["votes"][0], "agent": "d"}]
    heavier = [{**honest["votes"][0], "weight": 5}, *honest["votes"][1:]]
    for votes in (extra, heavier, honest["votes"][:2]):
        assert codes(judge(file=reseal(honest, votes=votes))) == ["votes_differ"]
    decision = {**honest["decision"], "decided_by": "human:nobody"}
    assert codes(judge(file=reseal(honest, decision=decision))) == ["decision_differs"]
    rejected = {
        "votes": {"a": "approve", "b": "reject", "c": "reject"},
        "decided": {"result": "rejected", "choice": None},
    }
    lost = body_of([WRITE], **rejected)
    won = reseal(lost, votes=honest["votes"], decision=honest["decision"])
    assert check_digests(won) == []
    assert codes(judge(file=won, **rejected)) == ["votes_differ", "decision_differs", "rejected"]


def test_a_file_that_does_not_verify() -> None:
    """Would catch a file that is edited and not digested again, is no proposal, or is hostile data."""
    honest = body_of([WRITE])
    assert codes(judge(file={**honest, "task_id": "u"})) == ["digest_mismatch", "digest_mismatch", "edited"]
    assert codes(judge(file={**honest, "digest": "0" * 64})) == ["digest_mismatch", "digest_mismatch"]
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    for strange in (
        {**honest, "content": {"x": deep}},
        {**honest, "content": {"x": float("nan")}},
        {**honest, "plan": 3},
        {},
    ):
        assert "schema" in codes(judge(file=strange)) and "edited" in codes(judge(file=strange))
    for none in ([], "plan-1", 3, True):
        assert codes(judge(file=none)) == ["schema"]


def test_a_proposal_of_another_ledger() -> None:
    """Would catch a file that is believed because nothing contradicts it."""
    file = body_of([WRITE])
    verdict = admit(Request.of_file(file), None, parse_policy(POLICY), facts_of([WRITE]), {})
    assert codes(verdict) == ["unknown_proposal"] and "another ledger" in reasons(verdict)[0].message
    assert Request.of_file({"proposal_id": ["x"]}).proposal_id == Request.of_file([]).proposal_id == ""


def test_a_ledger_that_contradicts_itself() -> None:
    """Would catch a landing that is believed although its ballots say something else."""
    assert codes(judge(known={"stored_digest": "0" * 64})) == ["ledger_differs"]
    assert isinstance(judge(known={"stored_digest": None}), Admitted)
    flipped = body_of([WRITE], votes={"a": "approve", "b": "reject", "c": "reject"})
    assert codes(judge(votes={"a": "approve", "b": "reject", "c": "reject"})) == ["not_approved"]
    broken = {**flipped, "digest": "0" * 64}
    assert codes(judge(known={"body": broken, "stored_digest": None})) == ["ledger_differs"]
    assert codes(judge(known={"proposal_id": "plan-2"})) == ["superseded"]
