"""The saga: what is due in a commit, as a table; forward, and backward where a step failed.

Steps run in the order of the plan. Each goes through *intent → started → effect → outcome*; nothing outside is touched
before `started` is durable. When a step fails for good, the steps that were done are compensated in reverse (Garcia-
Molina and Salem, "Sagas", 1987); a compensation is a step with a key of its own, and obeys the same table.

What a submitter finds after a crash decides what it may do (`due`), never what it remembers:

    found                      none, idempotent      verifiable              transactional        non_verifiable
    no `started`               run                   run                     run                  run
    `started`, no outcome      run again, attempt+1  probe: done → record;   run again: were it   in doubt
                                                     absent → run again;     done, the outcome
                                                     else in doubt           would be there
    outcome                    return it             return it               return it            return it

And what came of an attempt decides what is recorded of it (`drafts_for_…`): an attempt that certainly did nothing
may be repeated within one bound, crashes included; one that may have done something only where the class allows it.
A step in doubt waits for a human, and so does a compensation that fails or that nobody wrote.

All functions are pure. `due` gives one action at a time; whoever performs it appends the records that it comes to, and
asks again. Nothing here knows terms or ledgers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from .journal import CommitState, Direction, KeyState
from .plan import EffectClass, Undoable

__all__ = [
    "Absent",
    "Action",
    "Begin",
    "Close",
    "Done",
    "Doubt",
    "Draft",
    "Failed",
    "Finished",
    "GiveUp",
    "Mismatch",
    "Probe",
    "Retry",
    "StepSpec",
    "Uncertain",
    "Wait",
    "closed_with",
    "drafts_for_giving_up",
    "drafts_for_late",
    "drafts_for_probe",
    "drafts_for_result",
    "due",
    "rollback_of",
]

LOST: Final = "submitter_lost"


@dataclass(frozen=True, slots=True)
class Done:
    """The effect has happened. `result`: plain JSON for the record, bounded by the effect."""

    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed.

    Attributes:
        code: short machine-readable cause, e.g. "exit_code", "timeout", "precondition_failed", "permission_denied".
        message: for people; bounded.
        transient: whether another attempt may succeed.
        applied: False: the effect certainly did not happen; True: it ran and failed, as a command that exits with 1;
            None: not known.
    """

    code: str
    message: str
    transient: bool = False
    applied: bool | None = None
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Absent:
    """A probe found that the effect has not happened."""


@dataclass(frozen=True, slots=True)
class Uncertain:
    """A probe cannot tell."""

    why: str


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One step of an admitted plan, as the saga needs it: keys by direction, digest, classes by direction, bounds."""

    index: int
    keys: Mapping[Direction, str]
    digest: str
    classes: Mapping[Direction, EffectClass]
    undoable: Undoable
    attempts_max: int = 3
    timeout_ms: int = 60_000
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Begin:
    """Prepare the step, record its intent with the first `started`, then perform it."""

    index: int
    direction: Direction


@dataclass(frozen=True, slots=True)
class Retry:
    """Record `started` for this attempt (and, where `lost`, that the one before was lost), then perform it."""

    index: int
    direction: Direction
    attempt: int
    reason: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the target what the open attempt did, and record the answer."""

    index: int
    direction: Direction


@dataclass(frozen=True, slots=True)
class Doubt:
    """Record that only a human can tell. `new`: there is no intent yet, record that first."""

    index: int
    direction: Direction
    code: str
    new: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Record that the key failed for good: its attempts are used up, and the last certainly did nothing."""

    index: int
    direction: Direction
    code: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done before a human has spoken about these keys."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """Record the end of the commit."""

    kind: Literal["committed", "compensated"]


@dataclass(frozen=True, slots=True)
class Finished:
    """The commit has ended."""

    kind: str


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key is taken by another step: refused."""

    index: int
    direction: Direction


Action: TypeAlias = Begin | Retry | Probe | Doubt | GiveUp | Wait | Close | Finished | Mismatch


@dataclass(frozen=True, slots=True)
class Draft:
    """A record to be: its kind without "compensation_", and the fields that differ from the step's own."""

    kind: str
    attempt: int
    fields: Mapping[str, Any] = field(default_factory=dict)


def due(commit: CommitState, specs: Sequence[StepSpec]) -> Action:
    """The one thing that is due, judged by the records alone, with nothing in flight."""
    if commit.closed:
        return Finished(commit.closed)
    for spec in specs:
        key = commit.keys.get((spec.index, "do"))
        if key is not None and key.step_digest != spec.digest:
            return Mismatch(spec.index, "do")
        if key is None:
            return Begin(spec.index, "do")
        if key.status == "failed":
            return _compensate(commit, specs[: spec.index])
        if key.status != "done":
            return _go_on(spec, key)
    return Close("committed")


def closed_with(commit: CommitState, specs: Sequence[StepSpec], key: KeyState, drafts: Sequence[Draft]) -> Close | None:
    """What is due as soon as `drafts` of `key` are recorded, where that is the end: the commit of which they finish the
    last step. Both belong into one append, since nothing can come between them, and so cost one sync."""
    if not drafts or drafts[-1].kind != "outcome" or drafts[-1].fields["result"]["status"] != "done":
        return None
    if key.direction == "undo":
        return None
    others = [commit.keys.get((spec.index, "do")) for spec in specs if spec.index != key.index]
    return Close("committed") if all(other and other.status == "done" for other in others) else None


def _compensate(commit: CommitState, done: Sequence[StepSpec]) -> Action:
    for spec in reversed(done):
        if spec.undoable == "nothing":
            continue
        key = commit.keys.get((spec.index, "undo"))
        if key is None:
            if spec.undoable == "no":
                return Doubt(spec.index, "undo", "no_undo", new=True)
            return Begin(spec.index, "undo")
        if key.step_digest != spec.digest:
            return Mismatch(spec.index, "undo")
        if key.status not in ("done", "failed"):
            return (
                Doubt(spec.index, "undo", "no_undo")
                if spec.undoable == "no" and key.status == "intended"
                else (_go_on(spec, key))
            )
    return Close("compensated")


def _go_on(spec: StepSpec, key: KeyState) -> Action:
    """A key with an intent and without a terminal record."""
    if key.status == "in_doubt":
        return Wait((key.key,))
    if key.status in ("intended", "retryable"):
        return Retry(key.index, key.direction, key.attempt + 1, "" if key.status == "intended" else _why(key))
    return _lost(spec, key)


def _why(key: KeyState) -> str:
    return f"granted by {key.resolved_by}" if key.resolved_by else key.error_code or ""


def _lost(spec: StepSpec, key: KeyState) -> Action:
    """The row "`started`, no outcome" of the table."""
    index, direction = key.index, key.direction
    if key.effect_class == "verifiable":
        return Probe(index, direction)
    if key.effect_class == "non_verifiable":
        return Doubt(index, direction, LOST)
    if key.attempt < _attempts(spec, key):
        return Retry(index, direction, key.attempt + 1, LOST, lost=True)
    if key.effect_class == "idempotent" or direction == "undo":
        return Doubt(index, direction, "attempts_used_up")
    return GiveUp(index, direction, "attempts_used_up")


def _attempts(spec: StepSpec, key: KeyState) -> int:
    return spec.attempts_max + key.granted


def drafts_for_result(spec: StepSpec, key: KeyState, result: Done | Failed) -> list[Draft]:
    """What to record of the open attempt of `key`. Empty: the target has to be probed first."""
    if isinstance(result, Done):
        return [_outcome(key, "done", result.result)]
    kind = key.effect_class
    unknown = result.applied is None and kind not in ("none", "transactional")
    if unknown and kind == "verifiable":
        return []
    left = key.attempt < _attempts(spec, key)
    repeatable = kind in ("none", "idempotent") or (kind != "non_verifiable" and result.applied is not True)
    if result.transient and left and repeatable:
        return [_attempt_failed(key, result)]
    if unknown or key.unsure:
        return [_attempt_failed(key, result), _in_doubt(key, result.code, result)]
    return [_attempt_failed(key, result), *_failed(key, result)]


def drafts_for_probe(spec: StepSpec, key: KeyState, found: Done | Absent | Uncertain) -> list[Draft]:
    """What to record of the open attempt of `key` after asking its target."""
    if isinstance(found, Done):
        return [_outcome(key, "done", {**found.result, "learnt_by": "probe"})]
    if isinstance(found, Uncertain):
        return [_in_doubt(key, "probe_uncertain", Failed("probe_uncertain", found.why))]
    lost = Failed("not_applied", "the probe found that the attempt did not happen", applied=False)
    if key.attempt < _attempts(spec, key):
        return [_attempt_failed(key, lost)]
    return [_attempt_failed(key, lost), *_failed(key, Failed("attempts_used_up", lost.message, applied=False))]


def drafts_for_giving_up(key: KeyState, code: str) -> list[Draft]:
    """What to record of a key whose attempts are used up and certainly did nothing."""
    failed = Failed(code, f"{key.attempt} attempts were lost with their submitters", applied=False)
    return [_attempt_failed(key, failed), *_failed(key, failed)]


def drafts_for_late(key: KeyState, late: Failed) -> list[Draft]:
    """What to record where another attempt is allowed, but the commit has no time left for it.

    It gets a number where the last one has been answered for (by nobody having begun, or by a human): a record of the
    same number would find its slot taken.
    """
    fresh = key.attempt == 0 or bool(key.resolved_by)
    attempt = key.attempt + fresh
    drafts = [Draft("started", attempt)] if fresh else []
    if key.direction == "undo" or key.unsure or key.resolved_by:
        fields = {"error_code": late.code, "result": {**late.result, "message": late.message}}
        return [*drafts, Draft("in_doubt", attempt, fields)]
    said = {**late.result, "status": "failed", "message": late.message, "applied": False}
    return [*drafts, Draft("outcome", attempt, {"error_code": late.code, "result": said})]


def _failed(key: KeyState, result: Failed) -> list[Draft]:
    """The end of a key that failed: of a step its outcome, of a compensation a human."""
    if key.direction == "undo":
        return [_in_doubt(key, result.code, result)]
    return [
        _outcome(key, "failed", {**result.result, "message": result.message, "applied": result.applied}, result.code)
    ]


def _outcome(key: KeyState, status: str, result: Mapping[str, Any], code: str | None = None) -> Draft:
    return Draft("outcome", key.attempt, {"result": {**result, "status": status}, "error_code": code})


def _attempt_failed(key: KeyState, result: Failed) -> Draft:
    said = {**result.result, "message": result.message, "applied": result.applied, "transient": result.transient}
    return Draft("attempt_failed", key.attempt, {"error_code": result.code, "result": said})


def _in_doubt(key: KeyState, code: str, result: Failed) -> Draft:
    return Draft("in_doubt", key.attempt, {"error_code": code, "result": {**result.result, "message": result.message}})


def rollback_of(commit: CommitState, specs: Sequence[StepSpec]) -> Literal["none_needed", "complete", "partial"]:
    """How much of what was done is taken back, when a commit is closed as compensated.

    A step that ran and failed, as a command that exits with 1, may have done half of its work, and is not undone.
    """
    undone = [key for key in commit.keys.values() if key.direction == "undo"]
    half = any(
        key.status == "failed" and key.effect_class != "none" and (key.result or {}).get("applied") is True
        for key in commit.keys.values()
    )
    if half or any(key.status != "done" for key in undone):
        return "partial"
    return "complete" if undone else "none_needed"
