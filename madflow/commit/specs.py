"""From a plan to what the saga runs: keys, classes and bounds of every step, and the effect that performs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..core.journal import CommitState, Direction, commit_id
from ..core.plan import (
    TRANSACTION_MS_MAX,
    CallStep,
    EffectClass,
    effect_class,
    idempotency_key,
    parse_plan,
    step_digest,
    targets,
    undoable,
)
from ..core.plan import Step as PlanStep
from ..core.policy import Policy
from ..core.saga import StepSpec
from ..errors import PlanError
from .steps import Step

__all__ = ["Work", "work_of"]

_DIRECTIONS: Final[tuple[Direction, Direction]] = ("do", "undo")


@dataclass(frozen=True, slots=True)
class Work:
    """An admitted plan, ready to run.

    Attributes:
        plan: the steps as they were voted on, plain JSON without nulls; specs: the same steps for the saga.
        targets: every resource the plan touches.
        rerun_tests: whether a test that fails once is run once more.
    """

    commit_id: str
    proposal_id: str
    proposal_digest: str
    task_id: str
    plan: tuple[Mapping[str, Any], ...]
    specs: tuple[StepSpec, ...]
    targets: tuple[str, ...]
    rerun_tests: bool = False


def work_of(
    body: Mapping[str, Any], scope: str, policy: Policy, *, steps: Mapping[str, Step], known: CommitState | None
) -> Work:
    """The work of a proposal.

    Args:
        body: the proposal as the ledger knows it; steps: the app's own, by name.
        known: the commit as recorded: a key's class stays what its intent says, whatever the policy says today.

    Raises:
        PlanError: a step cannot be used, or its code is not registered here.
    """
    proposal_id = str(body["proposal_id"])
    plan = tuple({key: value for key, value in step.items() if value is not None} for step in body["plan"])
    parsed = parse_plan(plan)
    missing = sorted({step.name for step in parsed if isinstance(step, CallStep) and step.name not in steps})
    if missing:
        known_names = ", ".join(sorted(steps)) or "none"
        raise PlanError(f"no step {missing[0]!r} is registered here; registered: {known_names}", step=None)
    specs = []
    for index, step in enumerate(parsed):
        classes = _classes(index, step, policy, steps, known)
        timeout_ms = step.timeout_ms or policy.time.step_s * 1000
        specs.append(
            StepSpec(
                index=index,
                keys={direction: idempotency_key(scope, proposal_id, index, direction) for direction in _DIRECTIONS},
                digest=step_digest(plan[index]),
                classes=classes,
                undoable=undoable(step, {name: own.undoable for name, own in steps.items()}),
                attempts_max=policy.retry.attempts,
                timeout_ms=min(timeout_ms, TRANSACTION_MS_MAX) if "transactional" in classes.values() else timeout_ms,
                targets=targets(step),
            )
        )
    return Work(
        commit_id=commit_id(scope, proposal_id),
        proposal_id=proposal_id,
        proposal_digest=str(body["digest"]),
        task_id=str(body["task_id"]),
        plan=plan,
        specs=tuple(specs),
        targets=tuple(sorted({target for step in parsed for target in targets(step)})),
        rerun_tests=any(note["kind"] == "test_failed_twice" for note in body.get("stop_conditions") or ()),
    )


def _classes(
    index: int, step: PlanStep, policy: Policy, steps: Mapping[str, Step], known: CommitState | None
) -> dict[Direction, EffectClass]:
    registered = {name: own.effect_class for name, own in steps.items()}
    classes: dict[Direction, EffectClass] = {}
    for direction in _DIRECTIONS:
        key = known.keys.get((index, direction)) if known else None
        classes[direction] = key.effect_class if key else effect_class(step, policy, registered, direction)
    return classes
