"""The subject of a proposal: what is voted on, built from the state alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..proposal import PROPOSAL_SCHEMA, subject_digest
from ..state import State

__all__ = ["rfc3339", "subject_body"]


def rfc3339(at_ms: int) -> str:
    """A UTC timestamp with milliseconds, as RFC 3339 writes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def subject_body(state: State, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of the subject, and its digest. `parts` is what the protocol's `subject` returned."""
    config = state.config
    body: dict[str, Any] = {
        "schema": PROPOSAL_SCHEMA,
        "proposal_id": f"{config.debate_id}-p{parts.get('version', 1)}",
        "task_id": config.task.task_id,
        "protocol": config.protocol,
        "proposer": parts["proposer"],
        "content": parts["content"],
        "plan": list(parts.get("plan") or ()),
        "risks": list(parts.get("risks") or ()),
        "evidence": list(parts.get("evidence") or ()),
        "stop_conditions": list(parts.get("stop_conditions") or ()),
        "panel": [
            {"agent": seat.agent, "role": seat.role, "weight": seat.weight, "family": seat.family}
            for seat in sorted(config.seats, key=lambda seat: seat.agent)
        ],
        "rule": config.rule,
        "created_at": rfc3339(state.opened_ms),
        "expires_at": rfc3339(state.opened_ms + config.max_age_s * 1000),
    }
    body["subject_digest"] = subject_digest(body)
    return body
