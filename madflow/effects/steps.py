"""What effects check of a step before they perform it: that it is one of theirs, and that the policy still allows it.

The gate has asked the policy before; an effect asks again, because it is the last to be able to. Only the proposer's
role is not known here. What takes a step back, or only looks, is not asked about again: it was admitted with its step,
and a policy that has become narrower since must not leave half a commit behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.permits import denials
from ..core.plan import Step, parse_step
from ..errors import EffectError, PlanError
from ..ports import EffectContext

__all__ = ["check_allowed", "no_undo", "parsed", "wrong_kind"]


def parsed(step: Mapping[str, Any]) -> Step:
    """The step, validated again. Raises EffectError: "bad_step"."""
    try:
        return parse_step(step)
    except PlanError as error:
        raise EffectError("bad_step", str(error), applied=False) from error


def wrong_kind(effect: str, kinds: str, step: Step) -> EffectError:
    """The error for a step that is another effect's."""
    return EffectError("bad_step", f"{effect} performs {kinds}, not {step.step}", applied=False)


def no_undo() -> EffectError:
    """The error for a step that cannot be taken back."""
    return EffectError("no_undo", "the step names no undo, so only a human can take it back", applied=False)


def check_allowed(step: Step, ctx: EffectContext) -> None:
    """Raise EffectError ("permission_denied") where no entry of the policy allows every part of the step; never for
    an undo, which was allowed with its step."""
    if ctx.direction == "undo":
        return
    policy = ctx.policy
    anyone = policy.model_copy(
        update={"allow": tuple(entry.model_copy(update={"roles": ()}) for entry in policy.allow)}
    )
    problems = denials(step, "", anyone)
    if problems:
        raise EffectError("permission_denied", "; ".join(why for _, why in problems)[:2_000], applied=False)
