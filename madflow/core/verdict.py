"""What the gate is asked, what it is told, and what it says: plain values, see `core.gate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .plan import EffectClass, Step

__all__ = [
    "Admitted",
    "Facts",
    "Known",
    "PathFact",
    "Reason",
    "Rejected",
    "Request",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a proposal is refused. `step`: the 0-based index of the step it is about, None for the whole."""

    code: str
    message: str
    step: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as records keep it."""
        return {"code": self.code, "message": self.message, "step": self.step}


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: a proposal by its id, with the file that asks for it where there is one.

    Attributes:
        file: the data of a proposal.json, from anywhere; hostile.
        confirmed_by: the human who confirms this commit, where somebody does.
    """

    proposal_id: str
    file: Any = None
    confirmed_by: str = ""

    @classmethod
    def of_file(cls, data: Any, confirmed_by: str = "") -> Request:
        """The request that a file makes: for the proposal that it names, if it names one."""
        named = data.get("proposal_id") if isinstance(data, Mapping) else None
        return cls(named if isinstance(named, str) else "", data, confirmed_by)


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of a proposal, folded from its events.

    Attributes:
        body: the proposal as the events give it now: subject, votes, decision, digests; None while there is none.
        stored_digest: the digest that was recorded when it landed; None where none is recorded.
        proposer_role: role of the proposer's seat, "" where the proposer is no seat.
        created_ms, expires_ms: wall clock, milliseconds since the epoch.
        source: "debate" or "panel".
        open: voting is not over.
        problems: what the loader found wrong with the records themselves.
    """

    proposal_id: str
    body: Mapping[str, Any] | None
    stored_digest: str | None
    proposer_role: str
    created_ms: int
    expires_ms: int
    source: str
    open: bool = False
    problems: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class PathFact:
    """What is at a path beneath the root.

    Attributes:
        problem: why it cannot be used (a symlink, not a regular file, too large, …); empty where it can.
        sha256: of the content, 64 hex digits; None where there is no file.
        size: bytes.
    """

    path: str
    problem: str = ""
    exists: bool = False
    sha256: str | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the gate is told of the world.

    Attributes:
        now_ms: wall clock, milliseconds since the epoch.
        paths: every file the plan names, and the databases of its sql steps; by path.
        folders: every cwd; by path.
        protected: paths beneath the root that are the submitter's own: its policy file, its ledger.
        ledger, policy_file: what people call them, for messages.
        has_policy: there is a policy file; without one everything is denied.
    """

    now_ms: int
    paths: Mapping[str, PathFact] = field(default_factory=dict)
    folders: Mapping[str, PathFact] = field(default_factory=dict)
    protected: tuple[str, ...] = ()
    ledger: str = "this ledger"
    policy_file: str = "policy.toml"
    has_policy: bool = True


@dataclass(frozen=True, slots=True)
class Admitted:
    """The proposal may be carried out, exactly as `plan` says.

    Attributes:
        plan: the steps as voted on, plain JSON; steps: the same, parsed; classes: their effect classes (of "do").
        proposal_digest: the digest of what the ledger knows; policy_digest: of the policy that let it in.
    """

    proposal_id: str
    proposal_digest: str
    policy_digest: str
    plan: tuple[Mapping[str, Any], ...]
    steps: tuple[Step, ...]
    classes: tuple[EffectClass, ...]
    proposer: str
    proposer_role: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The proposal may not be carried out; `reasons` is never empty."""

    proposal_id: str
    proposal_digest: str
    policy_digest: str
    reasons: tuple[Reason, ...]


Verdict: TypeAlias = Admitted | Rejected
