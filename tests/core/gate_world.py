"""A small world for the gate: a proposal as a ledger would know it, facts about its files, a policy that allows it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from madflow.core.canonical import digest
from madflow.core.gate import Facts, Known, PathFact, Reason, Rejected, Request, Verdict, admit
from madflow.core.plan import parse_step, path_problem, step_paths
from madflow.core.policy import Policy, parse_policy
from madflow.core.proposal import seal
from madflow.core.quorum import quorum
from madflow.errors import PlanError

NOW = 1_790_000_000_000
DAY = 86_400_000
HERE = digest("what is there")
"""The hash of every file that is there in this world."""

READ = {"step": "read", "target": "file:src/a.py"}
WRITE = {"step": "write", "target": "file:src/a.py", "content": "x", "sha256_before": HERE}
PATCH = {"step": "patch", "target": "file:src/a.py", "patch": "--- a\n+++ b\n", "sha256_before": HERE}
COMMAND = {"step": "command", "cmd": ["make", "all"], "probe": ["true"], "undo": ["make", "clean"], "cwd": "src"}
TEST = {"step": "test", "cmd": ["pytest", "-q"], "cwd": "src"}
HTTP = {
    "step": "http",
    "method": "PUT",
    "url": "https://api.example.com/x",
    "undo": {"method": "DELETE", "url": "https://api.example.com/x"},
}
SQL = {"step": "sql", "target": "db:app", "statement": "DELETE FROM t"}
GIT = {"step": "git_commit", "target": "git:refs/heads/madflow/x", "paths": ["src/a.py"], "message": "m"}
CALL = {"step": "call", "name": "deploy", "args": {"to": "here"}}
EVERY_KIND = (READ, WRITE, PATCH, COMMAND, TEST, HTTP, SQL, GIT, CALL)

POLICY: dict[str, Any] = {
    "allow": [
        {"step": ["read", "write", "patch"], "paths": ["src/**", "out/*"]},
        {"step": ["command"], "commands": ["make", "true", "tools/*"], "paths": ["src"]},
        {"step": ["test"], "commands": ["pytest"], "paths": ["src"]},
        {"step": ["http"], "hosts": ["api.example.com", "localhost:8080"], "methods": ["PUT", "DELETE"]},
        {"step": ["sql"], "databases": ["app", "ledger"]},
        {"step": ["git_commit"], "refs": ["refs/heads/madflow/*"], "paths": ["src/**"]},
        {"step": ["call"], "names": ["deploy"]},
    ],
    "databases": {"app": "data/app.db"},
}
REGISTERED = {"deploy": "idempotent"}


def body_of(
    plan: Sequence[Any],
    *,
    votes: Mapping[str, str] | None = None,
    weights: Mapping[str, int] | None = None,
    families: Mapping[str, str] | None = None,
    rule: str = "majority",
    decided: Mapping[str, Any] | None = None,
    **subject: Any,
) -> dict[str, Any]:
    """A sealed proposal: by default a, b and c approve the plan by majority."""
    votes = votes or {"a": "approve", "b": "approve", "c": "approve"}
    weights, families = weights or {}, families or {}
    panel = [
        {"agent": agent, "role": "debater", "weight": weights.get(agent, 1), "family": families.get(agent, "human")}
        for agent in sorted(votes)
    ]
    data = {
        "schema": "madflow/proposal/1",
        "proposal_id": "plan-1",
        "task_id": "t",
        "protocol": "proposal",
        "proposer": "a",
        "content": {"summary": "s"},
        "plan": list(plan),
        "risks": [],
        "evidence": [],
        "stop_conditions": [],
        "panel": panel,
        "rule": rule,
        "created_at": "2026-09-21T14:13:20.000Z",
        "expires_at": "2026-09-22T14:13:20.000Z",
        **subject,
    }
    rows = [
        {
            "agent": seat["agent"],
            "role": seat["role"],
            "decision": votes[seat["agent"]],
            "notes": "",
            "confidence": None,
            "round": 1,
            "weight": seat["weight"],
        }
        for seat in panel
    ]
    total = sum(seat["weight"] for seat in panel)
    names = ("eligible", "valid", "abstain", "invalid", "missing")
    decision = {
        "rule": rule,
        "threshold": ">1/2",
        "quorum": quorum(total),
        "tie": "none",
        "result": "approved",
        "choice": "approve",
        "tally": {**dict.fromkeys(names, 0), **{f"{name}_weight": 0 for name in names}, "scores": {}},
        "stop_reason": "converged",
        "stop_numbers": {},
        "rounds": 1,
        "decided_by": "ballots",
        "dissent": [],
        "mediation": None,
        **(decided or {}),
    }
    return seal(data, rows, decision)


def known_of(body: Mapping[str, Any], /, **values: Any) -> Known:
    """What the ledger knows, with this body."""
    known = Known(
        proposal_id=body["proposal_id"],
        body=body,
        stored_digest=body["digest"],
        proposer_role="debater",
        created_ms=NOW - 60_000,
        expires_ms=NOW + DAY,
        source="debate",
    )
    return replace(known, **values)


def facts_of(plan: Sequence[Any], **values: Any) -> Facts:
    """Facts in which every file of the plan is there, with the content `HERE`."""
    files, folders = {"data/app.db": PathFact("data/app.db", "", True, HERE, 1)}, {}
    for step in plan:
        try:
            paths = step_paths(parse_step(step))
        except PlanError:
            continue
        for path in paths:
            if not path_problem(path):
                into = folders if step["step"] in ("command", "test") else files
                into[path] = PathFact(path, "", True, HERE, 1)
    return replace(Facts(NOW, files, folders, protected=("policy.toml", "state")), **values)


def judge(
    plan: Sequence[Any] = (WRITE,),
    *,
    policy: Mapping[str, Any] | Policy = POLICY,
    facts: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
    file: Any = None,
    confirmed_by: str = "",
    **body: Any,
) -> Verdict:
    """The gate's verdict on a plan that a, b and c approved, unless said otherwise."""
    sealed = body_of(plan, **body)
    rules = policy if isinstance(policy, Policy) else parse_policy(policy)
    request = Request(sealed["proposal_id"], file, confirmed_by)
    return admit(
        request,
        known_of(sealed, **(known or {})),
        rules,
        facts_of(plan, **(facts or {})),
        REGISTERED,  # type: ignore[arg-type]
    )


def codes(verdict: Verdict) -> list[str]:
    """The reasons' codes in order; empty where it is admitted."""
    return [reason.code for reason in reasons(verdict)]


def reasons(verdict: Verdict) -> tuple[Reason, ...]:
    return verdict.reasons if isinstance(verdict, Rejected) else ()


def reseal(body: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The proposal with fields changed and both digests made to fit again: what a forger does."""
    data = {**copy.deepcopy(dict(body)), **changes}
    subject = {
        name: value for name, value in data.items() if name not in ("subject_digest", "digest", "votes", "decision")
    }
    return seal(subject, data["votes"], data["decision"])
