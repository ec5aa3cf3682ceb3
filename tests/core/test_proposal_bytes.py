"""One proposal, one sequence of bytes: what was just decided and what the ledger gives back are written alike."""

import json
from typing import Any

from madflow.core.proposal import Proposal

STEP = {"timeout_ms": 5, "undo": ["b", "a"], "env": {"z": 1, "a": {"y": 2, "b": 3}}, "step": "command", "cmd": ["x"]}
DECISION = {
    "rule": "majority",
    "threshold": ">1/2",
    "quorum": 1,
    "tie": "none",
    "result": "approved",
    "tally": dict.fromkeys(("eligible", "valid", "abstain", "invalid", "missing"), 0)
    | dict.fromkeys((f"{name}_weight" for name in ("eligible", "valid", "abstain", "invalid", "missing")), 0)
    | {"scores": {"o2": "1", "o1": "2"}},
    "stop_reason": "converged",
    "stop_numbers": {"winner": "o1", "round": 1},
    "rounds": 1,
    "dissent": [{"notes": "", "agent": "a"}],
    "mediation": {"text": "t", "kind": "recommendation"},
}
BODY: dict[str, Any] = {
    "proposal_id": "d-p1",
    "task_id": "t",
    "protocol": "proposal",
    "proposer": "a",
    "content": {"summary": "s", "author": "a", "details": {"z": [{"b": 1, "a": 2}]}},
    "plan": [STEP],
    "panel": [],
    "rule": "majority",
    "created_at": "",
    "expires_at": "",
    "subject_digest": "0" * 64,
    "votes": [],
    "decision": DECISION,
    "digest": "0" * 64,
    "usage": {"tokens": 1, "caps": {"usd": None, "calls": 1}},
}


def test_key_order_of_the_source_does_not_show() -> None:
    """Would catch a replay that says the same in other bytes (insertion order against the ledger's sorted keys)."""
    live = json.dumps(Proposal.model_validate(BODY).to_json())
    from_ledger = json.loads(json.dumps(BODY, sort_keys=True))
    assert json.dumps(Proposal.model_validate(from_ledger).to_json()) == live
    assert list(json.loads(live))[:3] == ["schema", "proposal_id", "task_id"]
    assert list(json.loads(live)["plan"][0]) == ["step", "target", "timeout_ms", "cmd", "env", "undo"]
