"""Commit records, and their fold into where every commit of a scope stands.

A scope's records are one stream. They are appended under a term, and some of them take a *slot*: a name that at most
one record of the scope may ever have. The slots are what makes a record final, whoever writes it and however often:

    KEY/intent              what is about to be done under the key: the step's digest, its class, what a probe needs
    KEY/started/N           from here on attempt N may have happened
    KEY/attempt_failed/N    attempt N is over and did not do it, or was lost
    KEY/in_doubt/N          nobody can tell what attempt N did: a human is asked
    KEY/retry/N             a human grants another attempt after attempt N
    KEY/terminal            the outcome, or the human's word in its place: the last thing said about the key
    COMMIT/closed           committed or compensated: the last thing said about the commit

A rejection takes no slot: the same proposal may be admitted later, under another policy. The fold trusts nothing but
the order of the records; `violations` checks that the order keeps the promises.

A long stream need not be folded from its beginning: `Journal.dump` gives where commits stand as plain data, and
`Journal.restore` goes on from there. What is restored says the same of every receipt, and of what is due, as a fold of
all the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from .canonical import digest
from .plan import EffectClass, Undoable

__all__ = [
    "COMMIT_RECORD_SCHEMA",
    "KINDS",
    "CommitDocument",
    "CommitRecord",
    "CommitState",
    "Direction",
    "Journal",
    "KeyState",
    "KeyStatus",
    "Recorded",
    "commit_id",
    "commit_record_schema",
    "record_of",
    "slot_of",
]

COMMIT_RECORD_SCHEMA: Final = "madflow/commit_record/1"
_STEP_KINDS: Final = ("intent", "started", "attempt_failed", "outcome")
KINDS: Final = (
    "term_sealed",
    *_STEP_KINDS,
    *(f"compensation_{kind}" for kind in _STEP_KINDS),
    "in_doubt",
    "resolved",
    "committed",
    "compensated",
    "rejected",
)

_COMMIT_SLOTS: Final = {
    "term_sealed": "term/{term}",
    "committed": "{commit_id}/closed",
    "compensated": "{commit_id}/closed",
    "rejected": "",
}

Direction: TypeAlias = Literal["do", "undo"]
KeyStatus: TypeAlias = Literal["intended", "started", "retryable", "done", "failed", "in_doubt"]


class Recorded(Protocol):
    """The part of a ledger's record that the fold reads."""

    @property
    def seq(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...
    @property
    def at_ms(self) -> int: ...


class CommitRecord(BaseModel):
    """One record of the commit layer, as `commit_record.json` and `ledger log --json` show it.

    `seq`, `at`, `prev_hash` and `hash` are the ledger's; a key's `direction` is "undo" in a compensation. The first
    intent of a commit carries its `admission`: the policy's digest, and every resource the plan touches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: int = Field(ge=1)
    term: int = Field(ge=1)
    commit_id: str = ""
    proposal_id: str = ""
    proposal_digest: str = ""
    task_id: str = ""
    agent_id: str = ""
    role: Literal["proposer", "auditor", "submitter"] = "submitter"
    node: str = ""
    step_index: int | None = Field(default=None, ge=0)
    direction: Direction | None = None
    kind: str
    idempotency_key: str | None = None
    step: str | None = None
    step_digest: str | None = None
    effect_class: EffectClass | None = None
    undoable: Undoable | None = None
    resource_targets: tuple[str, ...] = ()
    attempt: int | None = Field(default=None, ge=0)
    retry_reason: str | None = None
    timeout_ms: int | None = None
    latency_ms: int | None = None
    facts: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error_code: str | None = None
    rollback: str | None = None
    note: str | None = None
    admission: dict[str, Any] | None = None
    at: str
    prev_hash: str
    hash: str


class CommitDocument(BaseModel):
    """`commit --out`: a commit's records as one document."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["madflow/commit_record/1"] = Field(default="madflow/commit_record/1", alias="schema")
    scope: str
    commit_id: str
    proposal_id: str
    proposal_digest: str
    status: Literal["committed", "compensated", "in_doubt", "rejected", "pending"]
    records: tuple[CommitRecord, ...]


def commit_record_schema() -> dict[str, Any]:
    """The JSON schema of commit_record.json (draft 2020-12)."""
    schema = CommitDocument.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": COMMIT_RECORD_SCHEMA, **schema}


def commit_id(scope: str, proposal_id: str) -> str:
    """A proposal is committed once in a scope, under this id."""
    return f"c-{digest([scope, proposal_id])[:20]}"


def slot_of(kind: str, payload: Mapping[str, Any]) -> str:
    """The slot a record takes; empty for none."""
    if kind in _COMMIT_SLOTS:
        return _COMMIT_SLOTS[kind].format(**payload)
    key, step_kind = payload["idempotency_key"], kind.removeprefix("compensation_")
    if kind == "resolved":
        retry = payload["result"]["as"] == "retry"
        return f"{key}/retry/{payload['attempt']}" if retry else f"{key}/terminal"
    if step_kind in ("intent", "outcome"):
        return f"{key}/intent" if step_kind == "intent" else f"{key}/terminal"
    return f"{key}/{step_kind}/{payload['attempt']}"


def record_of(record: Any, at: str) -> dict[str, Any]:
    """A ledger's record (with prev_hash and hash) as the plain data of a `CommitRecord`."""
    own = {"seq": record.seq, "kind": record.kind, "at": at, "prev_hash": record.prev_hash, "hash": record.hash}
    fields = {name: record.payload[name] for name in CommitRecord.model_fields if name in record.payload}
    return CommitRecord.model_validate({**fields, **own}).model_dump(mode="json")


@dataclass(slots=True)
class KeyState:
    """Where one idempotency key stands.

    Attributes:
        attempt: the number of the last attempt that was started, from 1; 0 before.
        granted: further attempts that a human granted.
        facts: what the intent stores for probe and undo; result: what came of it.
        unsure: whether an attempt that is over may have happened, and no later one has told. Only where a step may be
            repeated without knowing, which is idempotent.
        started_ms: wall clock of the last `started`.
        doubt_seq: the record that put it in doubt, while it is.
    """

    key: str
    index: int
    direction: Direction
    step_digest: str
    effect_class: EffectClass
    facts: Mapping[str, Any]
    timeout_ms: int
    step: str = ""
    targets: tuple[str, ...] = ()
    status: KeyStatus = "intended"
    attempt: int = 0
    granted: int = 0
    result: Mapping[str, Any] | None = None
    error_code: str | None = None
    unsure: bool = False
    started_ms: int = 0
    doubt_seq: int = 0
    resolved_by: str = ""


@dataclass(slots=True)
class CommitState:
    """Where one commit stands. `closed`: committed or compensated, once it is; rejections: their payloads, in order."""

    commit_id: str
    proposal_id: str
    proposal_digest: str
    task_id: str = ""
    targets: tuple[str, ...] = ()
    keys: dict[tuple[int, Direction], KeyState] = field(default_factory=dict)
    closed: str = ""
    rollback: str | None = None
    rejections: list[Mapping[str, Any]] = field(default_factory=list)
    first_ms: int = 0
    last_ms: int = 0

    @property
    def admitted(self) -> bool:
        """Whether the gate let it in: its first intent is recorded."""
        return bool(self.keys)

    @property
    def doubts(self) -> list[KeyState]:
        """Keys that wait for a human, in the order of their steps."""
        return sorted((key for key in self.keys.values() if key.status == "in_doubt"), key=lambda key: key.index)

    @property
    def status(self) -> Literal["committed", "compensated", "in_doubt", "rejected", "pending"]:
        """For people and receipts."""
        if self.closed:
            return "committed" if self.closed == "committed" else "compensated"
        if any(key.status == "in_doubt" for key in self.keys.values()):
            return "in_doubt"
        return "rejected" if self.rejections and not self.keys else "pending"


_KEY_FIELDS: Final = tuple(one.name for one in fields(KeyState))
_COMMIT_FIELDS: Final = tuple(one.name for one in fields(CommitState))


class Journal:
    """The fold of one scope's records, in their order.

    Attributes:
        term: the term that sealed the scope last; commits: by commit id, in the order of their first record.
        keys: by idempotency key.
        place: the place of the last record in the stream, to go on from.
        restored: the place up to which it was restored from a snapshot; requests: up to which place of the scope's
            requests all were answered by then.
    """

    def __init__(self, records: Iterable[Recorded] = ()) -> None:
        self.term, self.place, self.restored, self.requests = 0, 0, 0, 0
        self.commits: dict[str, CommitState] = {}
        self.keys: dict[str, KeyState] = {}
        for record in records:
            self.add(record)

    def add(self, record: Recorded) -> None:
        """Take the next record."""
        kind, payload = record.kind, record.payload
        self.place += 1
        if kind == "term_sealed":
            self.term = int(payload["term"])
            return
        name = str(payload["commit_id"])
        commit = self.commits.get(name)
        if commit is None:
            commit = CommitState(name, payload["proposal_id"], payload["proposal_digest"], payload.get("task_id", ""))
            commit.first_ms = record.at_ms
            self.commits[name] = commit
        commit.last_ms = record.at_ms
        if kind in ("committed", "compensated"):
            commit.closed, commit.rollback = kind, payload.get("rollback")
        elif kind == "rejected":
            commit.rejections.append(payload)
        else:
            self._step(commit, kind, record)

    def dump(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """These commits as plain JSON data, for `restore`; without what a probe would need, where one is closed."""
        return [_dumped(self.commits[name]) for name in names]

    def restore(self, commits: Iterable[Mapping[str, Any]], *, term: int, place: int) -> None:
        """Take over what `dump` gave of a fold up to `place`; a commit that is known already is replaced.

        Raises:
            KeyError, TypeError, ValueError: it is not what `dump` gave.
        """
        for data in commits:
            keys = [KeyState(**{**key, "targets": tuple(key["targets"])}) for key in data["keys"]]
            own = {**data, "targets": tuple(data["targets"]), "rejections": list(data["rejections"])}
            commit = CommitState(**{**own, "keys": {(key.index, key.direction): key for key in keys}})
            self.commits[commit.commit_id] = commit
            self.keys.update((key.key, key) for key in keys)
        self.term, self.place, self.restored = term, place, place

    def _step(self, commit: CommitState, kind: str, record: Recorded) -> None:
        payload, kind = record.payload, kind.removeprefix("compensation_")
        key = self.keys.get(payload["idempotency_key"])
        if kind == "intent":
            key = _intended(payload)
            self.keys[key.key] = commit.keys[key.index, key.direction] = key
            if payload.get("admission"):
                commit.targets = tuple(payload["admission"]["targets"])
                commit.proposal_digest = payload["proposal_digest"]  # what was refused before may have been another
            return
        if key is None:
            return  # a record without its intent: `violations` says so
        if kind == "started":
            key.status, key.attempt, key.started_ms = "started", int(payload["attempt"]), record.at_ms
            key.resolved_by = ""
        elif kind == "attempt_failed":
            key.status, key.error_code, key.result = "retryable", payload.get("error_code"), payload.get("result")
            if key.effect_class == "idempotent" and (key.result or {}).get("applied") is None:
                key.unsure = True
        elif kind == "outcome":
            key.status = "done" if payload["result"]["status"] == "done" else "failed"
            key.result, key.error_code = payload["result"], payload.get("error_code")
        elif kind == "in_doubt":
            key.status, key.error_code, key.doubt_seq = "in_doubt", payload.get("error_code"), record.seq
            key.result, key.unsure = payload.get("result"), key.unsure or key.effect_class == "idempotent"
        elif kind == "resolved":
            word = payload["result"]["as"]
            key.resolved_by, key.result, key.doubt_seq = payload["agent_id"], payload["result"], 0
            key.status = "retryable" if word == "retry" else word
            key.granted += word == "retry"


def _dumped(commit: CommitState) -> dict[str, Any]:
    """Shallow: `dataclasses.asdict` copies every result, which takes ten times as long."""
    keys = [{name: getattr(key, name) for name in _KEY_FIELDS} for key in commit.keys.values()]
    if commit.closed:
        for key in keys:
            key["facts"] = {}
    return {**{name: getattr(commit, name) for name in _COMMIT_FIELDS}, "keys": keys}


def _intended(payload: Mapping[str, Any]) -> KeyState:
    return KeyState(
        key=payload["idempotency_key"],
        index=int(payload["step_index"]),
        direction=payload["direction"],
        step_digest=payload["step_digest"],
        effect_class=payload["effect_class"],
        facts=payload.get("facts") or {},
        timeout_ms=int(payload.get("timeout_ms") or 0),
        step=str(payload.get("step") or ""),
        targets=tuple(payload.get("resource_targets") or ()),
    )
