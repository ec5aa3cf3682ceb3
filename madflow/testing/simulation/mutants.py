"""Where a run's parts can be replaced, and defects that a simulation must find.

A mutant is a part with one rule left out. Production code has no switch for any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from ...core.election import HardState, RequestVote, Tip, Voter
from ...core.journal import CommitState, KeyState
from ...core.saga import Action, Begin, Done, Doubt, Draft, Failed, Retry, StepSpec, drafts_for_result, due
from .model_ledger import ModelLedger
from .submitter import STEP_TICKS, Execution
from .world import Request

__all__ = ["MUTANTS", "Seams"]


@dataclass(frozen=True, slots=True)
class Seams:
    """The parts of a run. `persists`: whether a node's hard state survives its crash."""

    voter: Voter = Voter()  # noqa: RUF009 - it has no state
    ledger: type[ModelLedger] = ModelLedger
    due: Callable[[CommitState, Sequence[StepSpec]], Action] = due
    execution: type[Execution] = Execution
    persists: bool = True


class _VotesTwice(Voter):
    """Forgets whom it voted for."""

    __slots__ = ()

    def is_free(self, hard: HardState, request: RequestVote) -> bool:
        return request.term == hard.term


class _VotesForAnybody(Voter):
    """Does not compare the tips."""

    __slots__ = ()

    def is_up_to_date(self, tip: Tip, request: RequestVote) -> bool:
        return True


class _NoFence(ModelLedger):
    """Stores what any term appends."""

    def admits(self, term: int) -> bool:
        return True


class _TrustsLeases(ModelLedger):
    """Stores what a node appends that believes to lead: its lease was renewed, so it must be the leader."""

    def admits(self, term: int) -> bool:
        return self.believes(term)


class _NoSlots(ModelLedger):
    """Stores a record a second time."""

    def is_free(self, slot: str) -> bool:
        return True


class _NoStarted(Execution):
    """Acts on the intent alone."""

    def started(self, attempt: int, reason: str = "") -> list[Draft]:
        return []


class _KeyPerAttempt(Execution):
    """Sends each attempt under a key of its own."""

    def request(self, key: KeyState) -> Request:
        return replace(super().request(key), key=f"{key.key}/{key.attempt}")


class _DoesNotSettle(Execution):
    """Takes for over what an earlier attempt began."""

    def settled(self, key: KeyState) -> Generator[int, None, bool]:
        yield 0
        return True


class _LockWithoutTerm(Execution):
    """Takes a free lock, whoever asked for it before."""

    def may_begin(self, key: KeyState) -> bool:
        return True


class _LateClock(Execution):
    """Begins an attempt's time when it is sent, not before it is recorded, where there is nothing but time."""

    def time_left(self, begun: int) -> int:
        return STEP_TICKS


class _ForgetsDoubt(Execution):
    """Believes the last attempt, whatever the ones before may have done."""

    def drafts(self, spec: StepSpec, key: KeyState, result: Done | Failed) -> list[Draft]:
        return drafts_for_result(spec, replace(key, unsure=False), result)


def _retries_anything(commit: CommitState, specs: Sequence[StepSpec]) -> Action:
    action = due(commit, specs)
    if isinstance(action, Doubt) and action.code == "submitter_lost":
        key = commit.keys[action.index, action.direction]
        return Retry(action.index, action.direction, key.attempt + 1, action.code, lost=True)
    return action


def _compensates_forward(commit: CommitState, specs: Sequence[StepSpec]) -> Action:
    action = due(commit, specs)
    if isinstance(action, Begin) and action.direction == "undo":
        left = [
            spec.index
            for spec in specs[: action.index + 1]
            if spec.undoable == "yes" and (spec.index, "undo") not in commit.keys
        ]
        return Begin(left[0], "undo")
    return action


MUTANTS: Final[Mapping[str, Seams]] = MappingProxyType(
    {
        "skip_fence": Seams(ledger=_NoFence),
        "renewal_is_authority": Seams(ledger=_TrustsLeases),
        "skip_slots": Seams(ledger=_NoSlots),
        "vote_twice": Seams(voter=_VotesTwice()),
        "forget_votes": Seams(persists=False),
        "skip_tip_check": Seams(voter=_VotesForAnybody()),
        "skip_started": Seams(execution=_NoStarted),
        "retry_non_verifiable": Seams(due=_retries_anything),
        "compensate_forward": Seams(due=_compensates_forward),
        "key_per_attempt": Seams(execution=_KeyPerAttempt),
        "skip_settled": Seams(execution=_DoesNotSettle),
        "lock_without_term": Seams(execution=_LockWithoutTerm),
        "late_clock": Seams(execution=_LateClock),
        "forget_doubt": Seams(execution=_ForgetsDoubt),
    }
)
"""Planted defects, by name."""
