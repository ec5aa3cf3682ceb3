"""What agents say, as data: seats, claims, evidence, turns.

Every model here is frozen and refuses unknown fields. Tuples, never lists, so that a value can be shared between
states of a debate. An agent is always named by its id; its order in a panel never matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .unified import PATCH_CHARS_MAX

__all__ = ["Agent", "Claim", "Evidence", "Frozen", "Seat", "Severity", "Task", "TaskFile"]

Severity = Literal["info", "minor", "major", "critical"]

AgentId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]


class Frozen(BaseModel):
    """Base of every message: immutable, closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Agent:
    """A debater.

    Args:
        id: unique in its debate; letters, digits, `_`, `.`, `-`, at most 64.
        model: a model name for litellm (`"openai/gpt-5-mini"`), a `ModelClient`, or an async callable that takes a
            `TurnView` and returns text or a dict.
        role: debater | proposer | critic | auditor | judge | mediator. Judges and mediators hold no ballot.
        weight: integer voting weight, at least 1.
        family: model family for diversity rules; derived from the model's name where empty.
        persona: free text put at the end of this agent's prompt.
        max_output_tokens: bound of one reply.
    """

    id: str
    model: str | Callable[..., Any] | Any = ""
    role: str = "debater"
    weight: int = 1
    family: str = ""
    persona: str = ""
    max_output_tokens: int = 1024


class Seat(Frozen):
    """An agent's place in one debate, as frozen when the debate opens."""

    agent: AgentId
    role: Literal["debater", "proposer", "critic", "auditor", "judge", "mediator"] = "debater"
    model: str
    family: str
    weight: int = Field(default=1, ge=1, le=1_000_000)
    persona: str = ""
    max_output_tokens: int = Field(default=1024, ge=1, le=1_000_000)

    @property
    def votes(self) -> bool:
        """Whether this seat holds a ballot."""
        return self.role not in ("judge", "mediator")


class TaskFile(Frozen):
    """One file of a review task: the diff of it, what is known of its new text, and where its changes are.

    `diff` is the file's unified diff; `added` are the changed line numbers of the new side, 1-based;
    `text` is the whole new text where it is known (a root was given, or the file is new), else None.
    """

    path: str
    language: str
    diff: str
    added: tuple[int, ...] = ()
    text: str | None = None
    binary: bool = False
    left_out: str = ""  # why no seat may read it (secret-looking, binary, too large), else empty


class Task(Frozen):
    """What is debated. `options` are fixed choices as (id, text); empty for an open question."""

    task_id: str = Field(min_length=1, max_length=200)
    question: str = Field(min_length=1)
    options: tuple[tuple[str, str], ...] = ()
    context: str = ""
    files: tuple[TaskFile, ...] = ()


class Evidence(Frozen):
    """What a claim rests on. `verified`: True checked and found, False checked and not found, None not checkable."""

    id: str
    kind: Literal["file", "diff", "url", "tool", "note"]
    ref: str
    quote: str = ""
    verified: bool | None = None


class Claim(Frozen):
    """One statement of a seat; in a review, a finding on a line of the new side (1-based)."""

    text: str = Field(min_length=1, max_length=4000)
    file: str | None = None
    line: int | None = Field(default=None, ge=1)
    severity: Severity | None = None
    quote: str = Field(default="", max_length=2000)
    code: str = ""  # a tool's rule id, where a tool raised it
    patch: str = Field(default="", max_length=PATCH_CHARS_MAX)  # a suggested repair: a unified diff of `file`
