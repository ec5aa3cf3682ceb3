"""Receipts: what a commit came to, read from the ledger's records alone, so that every caller gets the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from ..core.journal import CommitDocument, CommitState, Journal, KeyState, commit_id, record_of
from ..core.protocols.subject import rfc3339
from ..ports import Ledger, Record
from .streams import stream_of

__all__ = [
    "RECEIPT_SCHEMA",
    "Receipt",
    "StepReceipt",
    "commit_document",
    "commit_records",
    "receipt_of",
    "receipt_schema",
    "refusal_of",
]

RECEIPT_SCHEMA: Final = "madflow/receipt/1"


Status: TypeAlias = Literal["committed", "compensated", "in_doubt", "rejected", "pending"]


class StepReceipt(BaseModel):
    """One step of a commit, in one direction. `step`: its kind; `targets`: what it touches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step_index: int
    direction: Literal["do", "undo"]
    idempotency_key: str
    step: str
    targets: tuple[str, ...]
    effect_class: str
    status: Literal["intended", "started", "retryable", "done", "failed", "in_doubt"]
    attempts: int
    result: dict[str, Any] | None = None
    error_code: str | None = None
    resolved_by: str = ""


class Receipt(BaseModel):
    """What a commit came to.

    Attributes:
        status: committed | compensated | in_doubt | rejected | pending.
        rollback: how much was taken back, of a compensated commit: none_needed | complete | partial.
        steps: those that were begun, in the order of the plan, a step before its compensation.
        reasons: why the gate refused it, of a rejected commit: {"code", "message", "step"}.
        waits_for: what a pending commit waits for; the only part that is not a fact of the ledger.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["madflow/receipt/1"] = Field(default="madflow/receipt/1", alias="schema")
    scope: str
    commit_id: str
    proposal_id: str
    proposal_digest: str
    status: Status
    rollback: str | None = None
    steps: tuple[StepReceipt, ...] = ()
    reasons: tuple[dict[str, Any], ...] = ()
    waits_for: str = ""

    @property
    def committed(self) -> bool:
        """Whether every step was done."""
        return self.status == "committed"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data with the document's field names."""
        return self.model_dump(mode="json", by_alias=True)


def receipt_schema() -> dict[str, Any]:
    """The JSON schema of a receipt (draft 2020-12)."""
    schema = Receipt.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": RECEIPT_SCHEMA, **schema}


def refusal_of(scope: str, proposal_id: str, said: Mapping[str, Any]) -> Receipt:
    """The receipt of a request that was refused for the file it came from; `said` is its record's payload."""
    return Receipt(
        scope=scope,
        commit_id=commit_id(scope, proposal_id),
        proposal_id=proposal_id,
        proposal_digest=str(said.get("proposal_digest") or ""),
        status="rejected",
        reasons=tuple(said["reasons"]),
    )


def receipt_of(
    scope: str, proposal_id: str, state: CommitState | None, *, seq: int = 0, waits_for: str = ""
) -> Receipt:
    """The receipt of a proposal's commit; pending where the journal knows nothing of it.

    Args:
        seq: of the request it answers: a refusal before that is none of it.
        waits_for: what a pending commit waits for.
    """
    if state is None:
        name = commit_id(scope, proposal_id)
        return Receipt(
            scope=scope,
            commit_id=name,
            proposal_id=proposal_id,
            proposal_digest="",
            status="pending",
            waits_for=waits_for,
        )
    keys = sorted(state.keys.values(), key=lambda key: (key.index, key.direction))
    refused = [record["result"] for record in state.rejections if record["result"]["request"] >= seq]
    rejected = state.status == "rejected" and bool(refused)
    status: Status = "pending" if state.status == "rejected" and not rejected else state.status
    return Receipt(
        scope=scope,
        commit_id=state.commit_id,
        proposal_id=state.proposal_id,
        proposal_digest=state.proposal_digest,
        status=status,
        rollback=state.rollback,
        steps=tuple(_step(key) for key in keys),
        reasons=tuple(refused[-1]["reasons"]) if rejected else (),
        waits_for=waits_for if status == "pending" else "",
    )


def _step(key: KeyState) -> StepReceipt:
    return StepReceipt(
        step_index=key.index,
        direction=key.direction,
        idempotency_key=key.key,
        step=key.step,
        targets=key.targets,
        effect_class=key.effect_class,
        status=key.status,
        attempts=key.attempt,
        result=None if key.result is None else dict(key.result),
        error_code=key.error_code,
        resolved_by=key.resolved_by,
    )


def commit_records(ledger: Ledger, scope: str, name: str) -> list[Record]:
    """The records of one commit, oldest first."""
    return [record for record in ledger.read(stream_of(scope)) if record.payload.get("commit_id") == name]


def commit_document(ledger: Ledger, scope: str, proposal_id: str) -> dict[str, Any]:
    """`commit_record.json`: a commit's records as one document (`madflow schema commit_record`)."""
    records = commit_records(ledger, scope, commit_id(scope, proposal_id))
    receipt = receipt_of(scope, proposal_id, _state(records))
    return CommitDocument.model_validate(
        {
            "scope": scope,
            "commit_id": receipt.commit_id,
            "proposal_id": proposal_id,
            "proposal_digest": receipt.proposal_digest,
            "status": receipt.status,
            "records": tuple(record_of(record, rfc3339(record.at_ms)) for record in records),
        }
    ).model_dump(mode="json", by_alias=True)


def _state(records: Sequence[Record]) -> CommitState | None:
    return next(iter(Journal(records).commits.values()), None)
