"""The gate counts the ballots again, minds the calendar, and gives all its reasons at once."""

import tomllib
from typing import Any

from gate_world import (
    DAY,
    EVERY_KIND,
    NOW,
    POLICY,
    TEST,
    WRITE,
    body_of,
    codes,
    judge,
    known_of,
    reasons,
)

from madflow.core.gate import CREATED_SKEW_MS, REASONS_MAX, Admitted, Reason, Rejected
from madflow.core.permits import denials
from madflow.core.plan import parse_step
from madflow.core.policy import Policy, parse_policy


def but(step: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The step with some fields changed; None takes a field away."""
    return {name: value for name, value in {**step, **changes}.items() if value is not None}


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
    silent = {"a": "approve", "b": "approve", "c": "missing"}
    assert codes(judge(votes=silent, policy=strict)) == ["policy_rule"]
    veto = {**POLICY, "admit": {"rule": "veto(c):majority"}}
    assert codes(judge(votes=two, policy=veto)) == ["policy_rule"]
    assert codes(judge(policy={**POLICY, "admit": {"rule": "veto(boss):majority"}})) == ["policy_rule"]


def test_a_judges_seat_holds_no_ballot() -> None:
    """Would catch a judge's weight that is counted as eligible, or as a seat."""
    panel = [*body_of([WRITE])["panel"], {"agent": "j", "role": "judge", "weight": 9, "family": "x"}]
    assert isinstance(judge(panel=panel, policy={**POLICY, "admit": {"min_eligible": 3}}), Admitted)
    assert codes(judge(panel=panel, policy={**POLICY, "admit": {"min_eligible": 4}})) == ["too_few_seats"]


def test_what_the_loader_found_counts() -> None:
    """Would catch a proposal that is admitted although its records say that another took its place."""
    problem = Reason("superseded", "by another")
    assert codes(judge(known={"problems": (problem,)})) == ["superseded"]
    assert codes(judge(known={"problems": (problem,), "body": None})) == ["superseded"]
    assert codes(judge(known={"body": None})) == ["ledger_differs"]


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


def test_what_is_not_allowed_says_what_to_add() -> None:
    """Would catch a denial that leaves the reader to guess which line of the policy lacks what, or one without end."""
    message = denials(parse_step(WRITE), "x", Policy(allow=[{"step": ["write"], "paths": ["else/*"]}]))[0][1]
    text = message.partition("add to the policy:\n")[2]
    assert denials(parse_step(WRITE), "x", parse_policy(tomllib.loads(text))) == ()
    many = {
        "step": "git_commit",
        "target": "git:refs/heads/a",
        "message": "m",
        "paths": [f"d/{n:0>190}" for n in range(15)],
    }
    assert max(len(said) for _, said in denials(parse_step(many), "x", Policy())) < 1_500


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
