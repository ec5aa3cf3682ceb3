"""proposal.json: what a debate ends in, and the two digests that make it checkable.

A proposal has three layers, written in this order:

    the subject     everything that is voted on: from `schema` to `expires_at`
    the decision    `votes` (one entry a seat) and `decision` (rule, result, tally, stop reason)
    the accounts    `usage`, in no digest: what it cost does not change what was decided

`subject_digest` is the SHA-256 of the RFC 8785 canonical JSON of the subject. Ballots name it, so that a ballot can
never be counted for another text. `digest` is the SHA-256 over {subject_digest, votes, decision}.

Weights are integers. Thresholds and scores are strings of exact fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ConfigError
from .canonical import digest
from .messages import Evidence, Frozen
from .stopping import StopReason

__all__ = [
    "PROPOSAL_SCHEMA",
    "RISK_KINDS",
    "STEP_KINDS",
    "STOP_CONDITION_KINDS",
    "Decision",
    "Note",
    "PanelMember",
    "PlanStep",
    "Proposal",
    "TallyReport",
    "Vote",
    "check_digests",
    "proposal_schema",
    "seal",
    "subject_digest",
]

PROPOSAL_SCHEMA = "madflow/proposal/1"
STEP_KINDS = ("read", "write", "patch", "command", "test", "http", "sql", "git_commit", "call")
RISK_KINDS = (
    "timeouts",
    "retries",
    "idempotency",
    "concurrency",
    "rollback",
    "isolation",
    "permissions",
    "auditing",
    "observability",
    "degradation",
    "other",
)
STOP_CONDITION_KINDS = (
    "budget_exceeded",
    "test_failed_twice",
    "permission_denied",
    "timeout",
    "conflict",
    "precondition_failed",
    "human",
    "other",
)

StepKind = Literal["read", "write", "patch", "command", "test", "http", "sql", "git_commit", "call"]


class PlanStep(BaseModel):
    """One step of a plan: its kind, its target, and the fields of its kind."""

    model_config = ConfigDict(frozen=True, extra="allow")

    step: StepKind
    target: str | None = Field(default=None, max_length=4096)
    timeout_ms: int | None = Field(default=None, ge=1, le=86_400_000)


class Note(Frozen):
    """A word of a closed vocabulary and a free note."""

    kind: str
    note: str = ""


class PanelMember(Frozen):
    """A seat as the proposal names it."""

    agent: str
    role: str
    weight: int = Field(ge=1)
    family: str


class Vote(Frozen):
    """One seat's ballot as counted. `decision`: approve | reject | abstain | invalid | missing, or option ids."""

    agent: str
    role: str
    decision: str
    notes: str = ""
    confidence: float | None = Field(default=None, ge=0, le=1)
    round: int = Field(ge=0)
    weight: int = Field(ge=1)


class TallyReport(Frozen):
    """Seats and weights by what became of their ballot. eligible = valid + abstain + invalid + missing, in both."""

    eligible: int = Field(ge=0)
    valid: int = Field(ge=0)
    abstain: int = Field(ge=0)
    invalid: int = Field(ge=0)
    missing: int = Field(ge=0)
    eligible_weight: int = Field(ge=0)
    valid_weight: int = Field(ge=0)
    abstain_weight: int = Field(ge=0)
    invalid_weight: int = Field(ge=0)
    missing_weight: int = Field(ge=0)
    scores: dict[str, str] = Field(default_factory=dict)


class Decision(Frozen):
    """What the rule said of the ballots, and why the debate ended."""

    rule: str
    threshold: str
    quorum: int = Field(ge=1)
    tie: Literal["none", "judge", "earliest"]
    result: Literal["approved", "rejected", "no_decision", "quorum_failed"]
    choice: str | None = None
    tally: TallyReport
    stop_reason: StopReason
    stop_numbers: dict[str, int | str] = Field(default_factory=dict)
    rounds: int = Field(ge=0)
    decided_by: str = "ballots"
    dissent: tuple[dict[str, Any], ...] = ()
    mediation: dict[str, Any] | None = None


class Proposal(Frozen):
    """A checked, structured outcome of a debate (`madflow schema proposal` prints its JSON schema)."""

    schema_: Literal["madflow/proposal/1"] = Field(default="madflow/proposal/1", alias="schema")
    proposal_id: str
    task_id: str
    protocol: Literal["answer", "proposal", "review"]
    proposer: str
    content: dict[str, Any]
    plan: tuple[PlanStep, ...] = ()
    risks: tuple[Note, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    stop_conditions: tuple[Note, ...] = ()
    panel: tuple[PanelMember, ...]
    rule: str
    created_at: str
    expires_at: str
    subject_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    votes: tuple[Vote, ...]
    decision: Decision
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    usage: dict[str, Any] = Field(default_factory=dict)

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data with the file's field names, in the file's order.

        Objects of no fixed shape are ordered by key: the same proposal gives the same bytes, whether it was just
        decided or read back from the ledger's canonical JSON.
        """
        data = self.model_dump(mode="json", by_alias=True, exclude_none=False)
        steps = [{name: _by_key(step[name]) for name in sorted(step, key=_step_order)} for step in data["plan"]]
        decision = {key: _by_key(value) if key in _FREE else value for key, value in data["decision"].items()}
        tally = decision["tally"]
        decision["tally"] = {**tally, "scores": _by_key(tally["scores"])}
        free = {"content": _by_key(data["content"]), "usage": _by_key(data["usage"])}
        return {**data, **free, "plan": steps, "decision": decision}

    @property
    def approved(self) -> bool:
        """Whether the rule was met. Approval grants entry to the commit layer, nothing more."""
        return self.decision.result == "approved"


_STEP_FIELDS = tuple(PlanStep.model_fields)
_FREE = ("stop_numbers", "dissent", "mediation")


def _step_order(name: str) -> tuple[int, str]:
    return (_STEP_FIELDS.index(name), "") if name in _STEP_FIELDS else (len(_STEP_FIELDS), name)


def _by_key(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _by_key(value[key]) for key in sorted(value)}
    return [_by_key(item) for item in value] if isinstance(value, list) else value


_SUBJECT = (
    "schema",
    "proposal_id",
    "task_id",
    "protocol",
    "proposer",
    "content",
    "plan",
    "risks",
    "evidence",
    "stop_conditions",
    "panel",
    "rule",
    "created_at",
    "expires_at",
)


def subject_digest(data: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical subject of `data`. Raises ConfigError naming a missing field."""
    missing = [name for name in _SUBJECT if name not in data]
    if missing:
        raise ConfigError(f"a proposal's subject lacks {', '.join(missing)}")
    return digest({name: data[name] for name in _SUBJECT})


def seal(subject: Mapping[str, Any], votes: list[dict[str, Any]], decision: Mapping[str, Any]) -> dict[str, Any]:
    """The whole proposal, both digests filled in; `usage` is added by the caller, outside of them."""
    inner = subject.get("subject_digest") or subject_digest(subject)
    outer = digest({"subject_digest": inner, "votes": votes, "decision": decision})
    body = {name: subject[name] for name in _SUBJECT}
    return {**body, "subject_digest": inner, "votes": votes, "decision": dict(decision), "digest": outer}


def check_digests(data: Mapping[str, Any]) -> list[str]:
    """What does not verify in a proposal read from anywhere; empty when both digests and the schema hold."""
    try:
        Proposal.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        return [f"schema: {'.'.join(map(str, first['loc']))}: {first['msg']}"]
    problems = []
    inner = subject_digest(data)
    if inner != data["subject_digest"]:
        problems.append(
            f"subject_digest: the file says {data['subject_digest'][:12]}…, its content gives {inner[:12]}…"
        )
    outer = digest({"subject_digest": inner, "votes": data["votes"], "decision": data["decision"]})
    if outer != data["digest"]:
        problems.append(f"digest: the file says {data['digest'][:12]}…, its content gives {outer[:12]}…")
    return problems


def proposal_schema() -> dict[str, Any]:
    """The JSON schema of proposal.json (draft 2020-12)."""
    schema = Proposal.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": PROPOSAL_SCHEMA, **schema}
