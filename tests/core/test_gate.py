"""The gate refuses each attack with its reason, and admits the harmless twin beside it."""

from typing import Any

import pytest
from gate_world import (
    CALL,
    COMMAND,
    DAY,
    EVERY_KIND,
    GIT,
    HERE,
    HTTP,
    NOW,
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
    known_of,
    reasons,
    reseal,
)

from madflow.core.gate import CREATED_SKEW_MS, REASONS_MAX, Admitted, PathFact, Rejected, Request, admit
from madflow.core.policy import Policy, parse_policy
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


# ---- the decision


def test_undecided_rejected_without_quorum_and_open() -> None:
    """Would catch anything but an approval that gets in."""
    for result, code in (("rejected", "rejected"), ("no_decision", "undecided"), ("quorum_failed", "no_quorum")):
        assert codes(judge(decided={"result": result, "choice": None})) == [code]
    assert codes(judge(known={"open": True})) == ["open"]
    assert codes(judge(known={"open": True, "body": None})) == ["open"]
    quiet = {"a": "approve", "b": "abstain", "c": "missing", "d": "invalid"}
    assert "no_quorum" in codes(judge(votes=quiet))
    assert codes(
        judge(decided={"quorum": 1}, rule="plurality", votes={"a": "approve", "b": "missing", "c": "missing"})
    ) == ["no_quorum"]


def test_a_judge_or_a_human_decides_only_what_the_panel_left_open() -> None:
    """Would catch a word that overrules the ballots."""
    tie = {"a": "approve", "b": "reject", "c": "abstain", "d": "abstain"}
    tied = {"votes": {"a": "approve", "b": "reject", "c": "abstain"}, "decided": {"decided_by": "human:ann"}}
    assert isinstance(judge(**tied), Admitted)
    assert "no_quorum" in codes(judge(votes=tie, decided={"decided_by": "human:ann"}))
    assert codes(judge(decided={"decided_by": "human:ann"})) == ["not_approved"]
    lost = {"a": "approve", "b": "reject", "c": "reject"}
    assert codes(judge(votes=lost, decided={"decided_by": "judge:j"})) == ["not_approved"]


def test_the_policys_rule_counts_the_ballots_again() -> None:
    """Would catch an [admit] rule that is read and not applied."""
    two = {"a": "approve", "b": "approve", "c": "reject"}
    strict = {**POLICY, "admit": {"rule": "unanimity"}}
    assert codes(judge(votes=two, policy=strict)) == ["policy_rule"]
    assert isinstance(judge(policy=strict), Admitted)
    assert isinstance(judge(votes=two, policy={**POLICY, "admit": {"rule": "supermajority:2/3"}}), Admitted)
    heavy = {**POLICY, "admit": {"rule": "supermajority:3/4"}}
    assert isinstance(judge(votes=two, weights={"a": 2, "b": 2}, policy=heavy), Admitted)
    assert codes(judge(votes=two, weights={"c": 2}, rule="plurality", policy=heavy))[-1] == "policy_rule"
    veto = {**POLICY, "admit": {"rule": "veto(c):majority"}}
    assert codes(judge(votes=two, policy=veto)) == ["policy_rule"]
    assert codes(judge(policy={**POLICY, "admit": {"rule": "veto(boss):majority"}})) == ["policy_rule"]


def test_how_many_and_how_diverse() -> None:
    """Would catch seats or families that are counted although they did not approve, or not at all."""
    seats = {**POLICY, "admit": {"min_eligible": 4}}
    assert codes(judge(policy=seats)) == ["too_few_seats"]
    assert isinstance(judge(policy=seats, votes=dict.fromkeys("abcd", "approve")), Admitted)
    diverse = {**POLICY, "admit": {"min_families": 2}}
    mixed = {"a": "x", "b": "x", "c": "y"}
    assert codes(judge(policy=diverse, families=dict.fromkeys("abc", "x"))) == ["too_few_families"]
    assert isinstance(judge(policy=diverse, families=mixed), Admitted)
    against = {"a": "approve", "b": "approve", "c": "reject"}
    assert codes(judge(policy=diverse, families=mixed, votes=against)) == ["too_few_families"]


def test_freshness_on_the_millisecond() -> None:
    """Would catch a proposal that is too old, expired, or from the future."""
    aged = {**POLICY, "admit": {"max_age_s": 60}}
    assert isinstance(judge(policy=aged), Admitted)
    assert codes(judge(policy=aged, known={"created_ms": NOW - 60_001})) == ["too_old"]
    assert codes(judge(known={"expires_ms": NOW})) == ["expired"]
    assert isinstance(judge(known={"expires_ms": NOW + 1}), Admitted)
    assert isinstance(judge(known={"created_ms": NOW + CREATED_SKEW_MS}), Admitted)
    assert codes(judge(known={"created_ms": NOW + CREATED_SKEW_MS + 1})) == ["created_in_future"]
    assert isinstance(judge(known={"created_ms": NOW - 300 * DAY}), Admitted)  # without max_age_s its expiry decides


def test_stop_conditions_that_hold_at_the_gate() -> None:
    """Would catch a proposal that waits for a human and goes in without one."""
    human = [{"kind": "human", "note": "ops signs"}]
    assert codes(judge(stop_conditions=human)) == ["needs_human"]
    assert isinstance(judge(stop_conditions=human, confirmed_by="ann"), Admitted)
    tied = {"votes": {"a": "approve", "b": "reject", "c": "abstain"}}
    assert isinstance(judge(stop_conditions=human, decided={"decided_by": "human:ann"}, **tied), Admitted)
    spent = {"stop_reason": "budget_exceeded"}
    assert codes(judge(stop_conditions=[{"kind": "budget_exceeded", "note": ""}], decided=spent)) == ["budget_exceeded"]
    assert isinstance(judge(decided=spent), Admitted)
    assert codes(judge(stop_conditions=[{"kind": "full_moon", "note": ""}])) == ["unknown_stop_condition"]
    others = [{"kind": kind, "note": ""} for kind in ("test_failed_twice", "timeout", "conflict", "other")]
    assert isinstance(judge(stop_conditions=others), Admitted)


def test_nothing_to_commit() -> None:
    """Would catch an opinion that is committed."""
    assert codes(judge([])) == ["nothing_to_commit"]
    assert codes(judge(protocol="answer")) == ["nothing_to_commit"]


# ---- the reasons


def test_every_reason_at_once_in_order_and_bounded() -> None:
    """Would catch a gate that stops at the first reason, or drowns its reader in them."""
    plan = [
        but(WRITE, target="file:no/a"),
        but(TEST, cmd=["sh"]),
        {"step": "test", "cmd": []},
        but(WRITE, sha256_before=None),
    ]
    verdict = judge(plan, known={"expires_ms": NOW - 1}, votes={"a": "reject", "b": "approve", "c": "reject"})
    assert [(r.code, r.step) for r in reasons(verdict)] == [
        ("not_approved", None),
        ("expired", None),
        ("bad_step", 2),
        ("path_not_allowed", 0),
        ("command_not_allowed", 1),
        ("unpinned", 3),
    ]
    many = judge([but(WRITE, target=f"file:no/{n}") for n in range(150)])
    assert len(reasons(many)) == REASONS_MAX and codes(many)[-1] == "more" and "51 further" in reasons(many)[-1].message
    assert codes(judge([WRITE] * 201)) == ["bad_plan"]
    loud = judge([but(WRITE, target="file:" + "é" * 1_000)] * 3, policy={}, facts={"has_policy": False})
    assert all(len(reason.message) < 7_000 for reason in reasons(loud))


def test_no_policy_says_what_to_write() -> None:
    """Would catch a hint that does not work, allows more than the plan, or is lost among a denial for each step."""
    verdict = judge(EVERY_KIND, policy=Policy(), facts={"has_policy": False})
    assert codes(verdict) == ["no_policy", "unknown_database"]
    assert "policy.toml" in reasons(verdict)[0].message and "[[allow]]" in reasons(verdict)[0].message


def test_steps_that_are_no_objects() -> None:
    """Would catch a crash on a plan from elsewhere; a body that is no proposal is the ledger's fault, and said so."""
    assert codes(judge([[], WRITE])) == ["ledger_differs"]


def test_the_verdict_names_what_let_it_in() -> None:
    """Would catch an admission that cannot be audited."""
    admitted, refused = judge(EVERY_KIND), judge(EVERY_KIND, policy={})
    assert isinstance(admitted, Admitted) and isinstance(refused, Rejected)
    assert admitted.proposal_digest == refused.proposal_digest == known_of(body_of(EVERY_KIND)).stored_digest
    assert admitted.policy_digest == parse_policy(POLICY).digest() != refused.policy_digest
    assert admitted.classes[3:8] == ("verifiable", "none", "idempotent", "verifiable", "verifiable")
    assert (admitted.proposer, admitted.proposer_role, admitted.task_id) == ("a", "debater", "t")
