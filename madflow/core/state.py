"""The state of a debate, as values: stages of asks, the answers to them, and how it stopped.

A debate is a row of *stages*. A stage asks some seats one thing each (or one thing per part of a large task), all at
once, and closes when every ask is accounted for: valid, invalid, or missing with its cause. Answers are kept by ask,
never in order of arrival, so that the state does not depend on who was faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .config import Config
from .stopping import Stop

__all__ = ["Answer", "Ask", "Closed", "Phase", "Stage", "State", "whole_rounds"]

Phase = Literal["new", "asking", "waiting", "ready", "landed"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to one seat. `kind` names the reply's shape; `part` is the part of the task it is about."""

    agent: str
    kind: str
    part: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an ask. `facts` are what code checked about the reply (evidence), recorded with it."""

    status: Literal["valid", "invalid", "missing"]
    reply: Mapping[str, Any] | None = None
    cause: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """A set of asks made at once. `options`: what may be chosen; `subject`: the frozen thing that is voted on."""

    number: int
    kind: str
    round: int
    asks: tuple[Ask, ...]
    options: tuple[tuple[str, str], ...] = ()
    subject: Mapping[str, Any] = field(default_factory=dict)

    def call_id(self, ask: Ask) -> str:
        """Unique in the debate, and the same after a resume."""
        return f"{self.number}/{ask.kind}/{ask.agent}/{ask.part}"


@dataclass(frozen=True, slots=True)
class Closed:
    """A stage that ended. `cut`: it was ended from outside before every seat had answered."""

    stage: Stage
    answers: Mapping[Ask, Answer]
    cut: bool = False

    def valid(self) -> dict[str, Mapping[str, Any]]:
        """Valid replies by agent, in agent order (single-part stages)."""
        items = sorted(self.answers.items(), key=lambda item: (item[0].agent, item[0].part))
        return {ask.agent: a.reply for ask, a in items if a.status == "valid" and a.reply is not None}


def whole_rounds(closed: Iterable[Closed]) -> list[Closed]:
    """Stages with those joined that asked the seats of one round in parts, under the number of the last part."""
    joined: list[Closed] = []
    for part in closed:
        before = joined[-1] if joined else None
        if before is not None and (before.stage.kind, before.stage.round) == (part.stage.kind, part.stage.round):
            stage = replace(part.stage, asks=(*before.stage.asks, *part.stage.asks))
            joined[-1] = Closed(stage, {**before.answers, **part.answers}, before.cut or part.cut)
        else:
            joined.append(part)
    return joined


@dataclass(frozen=True, slots=True)
class State:
    """Where a debate stands. Rebuilt from the ledger's events alone.

    Attributes:
        opened_ms: wall clock of the opening; the proposal's dates come from it.
        closed: the stages that ended, oldest first; stage, answers: the one that is asked now.
        cut: why the debate was ended from outside (budget, time, cancellation), where it was.
        stop: the one stop reason, once there is one.
        used: fallbacks already tried, each at most once.
        human: the human's word, where one was given: {"choice", "by", "notes"}.
        memo: what protocols derived from closed stages, which never change; a state that closes another stage
            gets a copy, so that two futures of one state never read each other's.
        refused: (agent, cause) of every ballot or reply that came too late, twice, or from nobody.
    """

    config: Config
    phase: Phase = "new"
    opened_ms: int = 0
    closed: tuple[Closed, ...] = ()
    stage: Stage | None = None
    answers: Mapping[Ask, Answer] = field(default_factory=dict)
    cut: Stop | None = None
    stop: Stop | None = None
    used: tuple[str, ...] = ()
    human: Mapping[str, Any] | None = None
    refused: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    memo: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def outstanding(self) -> tuple[Ask, ...]:
        """Asks of the current stage that have no answer yet."""
        if self.stage is None or self.phase != "asking":
            return ()
        return tuple(ask for ask in self.stage.asks if ask not in self.answers)

    def last(self, *kinds: str) -> Closed | None:
        """The latest closed stage of one of these kinds."""
        return next((c for c in reversed(self.closed) if c.stage.kind in kinds), None)
