"""Carrying one commit through: asks the saga what is due, does it, records what came of it, and asks again.

Nothing is decided here: `core.saga` decides. What is added is time: each step's own deadline, one for the whole commit
and one more for its compensation; and the pause before another attempt. An effect is begun only after its `started` is
durable under a term that was the scope's at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any, Final

from ..core.journal import CommitState, Direction, KeyState, slot_of
from ..core.saga import (
    Begin,
    Close,
    Done,
    Doubt,
    Draft,
    Failed,
    Finished,
    GiveUp,
    Mismatch,
    Probe,
    Retry,
    StepSpec,
    Wait,
    closed_with,
    drafts_for_giving_up,
    drafts_for_late,
    drafts_for_probe,
    drafts_for_result,
    due,
    rollback_of,
)
from ..errors import CommitError, EffectError, LedgerError
from ..ports import Effect, EffectContext, Event, Execute, TransactionalEffect
from .desk import Desk, step_payload
from .specs import Work

__all__ = ["Execution"]

PAUSE_S: Final = 0.2
PAUSE_S_MAX: Final = 10.0
GRACE_S: Final = 5.0
"""How much longer than its deadline an effect may take to come back, before it is given up on."""

CANCEL_S: Final = 2.0
"""How long an effect that is cancelled may take to end."""

SETTLE_MS_MIN: Final = 5_000
"""What an earlier attempt is waited for in any case: a clock that jumped ahead must not make it look long gone."""

MESSAGE_CHARS_MAX: Final = 4_000


class Execution:
    """One commit under one term.

    Args:
        admission: what the gate recorded, kept with the first intent; None where the commit was admitted before.
    """

    def __init__(self, desk: Desk, work: Work, *, admission: Mapping[str, Any] | None = None) -> None:
        self.desk, self.work, self._admission = desk, work, admission
        self._deadlines: dict[Direction, float] = {}

    @property
    def commit(self) -> CommitState:
        """Where the commit stands by the journal."""
        found = self.desk.journal.commits.get(self.work.commit_id)
        return found or CommitState(self.work.commit_id, self.work.proposal_id, self.work.proposal_digest)

    async def recover(self) -> None:
        """See to it that nothing an earlier submitter began for this commit is still running, or put it in doubt."""
        for key in self.commit.keys.values():
            if key.status == "started":
                spec = self.work.specs[key.index]
                ctx = self._context(spec, key.direction, key.attempt, self._remaining_s(key))
                if not await self._effect(spec).settled(self._step(spec), ctx):
                    why = Failed("still_running", "what an earlier submitter started may still be running")
                    await self._record(spec, key, [Draft("in_doubt", key.attempt, _doubt_fields(why))])

    def _remaining_s(self, key: KeyState) -> float:
        """How long to wait at most for the open attempt to have ended: what is left of its time, and some of it even
        where the wall clock says that it is over; the whole of it where the clock went back."""
        since = self.desk.clock.now_ms() - key.started_ms
        left = key.timeout_ms - since if since >= 0 else key.timeout_ms
        return max(left, min(key.timeout_ms, SETTLE_MS_MIN)) / 1000 + 0.05

    async def run(self) -> CommitState:
        """Go on until the commit is closed or waits for a human.

        Raises:
            TermLost: another submitter took the scope. CommitError: a key is taken by another step. LedgerError.
        """
        while True:
            action = due(self.commit, self.work.specs)
            if isinstance(action, Wait | Finished):
                return self.commit
            self.desk.check()
            await self._perform(action)

    async def _perform(self, action: Any) -> None:
        if isinstance(action, Close):
            await self._close(action)
            return
        spec = self.work.specs[action.index]
        key = self.commit.keys.get((spec.index, action.direction))
        if isinstance(action, Begin):
            await self._begin(spec, action.direction)
        elif isinstance(action, Mismatch):
            raise CommitError(
                f"step {spec.index} of {self.work.proposal_id!r}: its key {spec.keys[action.direction][:16]}… was "
                "given to another step before; a proposal's plan never changes: propose the new plan under a new id"
            )
        elif isinstance(action, Doubt) and action.new:
            await self._doubt_without_undo(spec, action)
        elif key is None:
            raise CommitError(f"step {spec.index} of {self.work.proposal_id!r} has no intent, but {action} is due")
        elif isinstance(action, Retry):
            await self._retry(spec, key, action)
        elif isinstance(action, Probe):
            await self._probe(spec, key)
        elif isinstance(action, GiveUp):
            await self._record(spec, key, drafts_for_giving_up(key, action.code))
        elif isinstance(action, Doubt):
            fields = _doubt_fields(Failed(action.code, _DOUBTS.get(action.code, action.code)))
            await self._record(spec, key, [Draft("in_doubt", key.attempt, fields)])

    async def _begin(self, spec: StepSpec, direction: Direction) -> None:
        """Prepare; record the intent and the first `started` together; perform. A step that cannot be prepared, or for
        which there is no time left, is recorded as an attempt that did nothing."""
        ctx = self._context(spec, direction, 1)
        facts: Mapping[str, Any] | Failed
        if direction == "undo":
            done = self.commit.keys[spec.index, "do"]
            facts = {**done.facts, "result": dict(done.result or {})}
        elif ctx.timeout_s <= 0:
            facts = self._too_late(direction)
        else:
            facts = await self._prepare(spec)
        failed = replace(facts, transient=False, applied=False) if isinstance(facts, Failed) else None
        intent: dict[str, Any] = {
            "step": self._step(spec)["step"],
            "step_digest": spec.digest,
            "effect_class": spec.classes[direction],
            "undoable": spec.undoable,
            "timeout_ms": spec.timeout_ms,
            "facts": {} if isinstance(facts, Failed) else dict(facts),
        }
        if self._admission is not None and not self.commit.admitted:
            intent["admission"] = dict(self._admission)
        drafts = [Draft("intent", 0, intent), Draft("started", 1, {"timeout_ms": spec.timeout_ms})]
        began = self.desk.clock.monotonic()
        if not await self._record(spec, None, drafts, direction=direction):
            return
        key = self.commit.keys[spec.index, direction]
        if failed is not None:
            await self._record(spec, key, drafts_for_result(spec, key, failed))
        else:
            await self._attempt(spec, key, began)

    async def _prepare(self, spec: StepSpec) -> Mapping[str, Any] | Failed:
        """What the intent stores. Nothing has happened yet, so a transient failure is tried again within the bound."""
        for attempt in range(1, spec.attempts_max + 1):
            ctx = self._context(spec, "do", 1)
            facts = await self._bounded(self._effect(spec).prepare(self._step(spec), ctx), ctx.timeout_s)
            if not isinstance(facts, Failed) or not facts.transient or attempt == spec.attempts_max:
                break
            await self.desk.clock.sleep(max(0.0, min(PAUSE_S * 2.0 ** (attempt - 1), self._left_s("do"))))
        found: Mapping[str, Any] | Failed = facts
        return found

    async def _retry(self, spec: StepSpec, key: KeyState, action: Retry) -> None:
        if self._left_s(key.direction) <= 0 and not action.lost:
            await self._record(spec, key, drafts_for_late(key, self._too_late(key.direction)))
            return
        if not action.lost and (key.result or {}).get("transient"):
            await self._pause(key)
        drafts = []
        if action.lost:
            lost = {"error_code": action.reason, "result": {"message": _DOUBTS[action.reason], "applied": None}}
            drafts.append(Draft("attempt_failed", key.attempt, lost))
        started = {"timeout_ms": spec.timeout_ms, "retry_reason": action.reason or None}
        drafts.append(Draft("started", action.attempt, started))
        began = self.desk.clock.monotonic()
        if await self._record(spec, key, drafts):
            await self._attempt(spec, self.commit.keys[spec.index, key.direction], began)

    async def _pause(self, key: KeyState) -> None:
        asked = (key.result or {}).get("retry_after_s")
        pause = float(asked) if isinstance(asked, int | float) else PAUSE_S * 2.0 ** (key.attempt - 1)
        await self.desk.clock.sleep(max(0.0, min(pause, PAUSE_S_MAX, self._left_s(key.direction))))

    async def _attempt(self, spec: StepSpec, key: KeyState, began: float) -> None:
        """Perform the attempt whose `started` is durable, and record what came of it.

        Its time runs from `began`, before `started` was appended: a successor that finds the record may wait that time
        out, and a submitter that was stopped in between finds it used up.
        """
        self.desk.check()
        effect, step = self._effect(spec), self._step(spec)
        ctx = self._context(spec, key.direction, key.attempt)
        left_s = ctx.timeout_s - (self.desk.clock.monotonic() - began)
        result: Done | Failed
        if left_s <= 0:
            result = Failed("timeout", "no time was left to begin it", transient=True, applied=False)
        elif key.effect_class == "transactional" and isinstance(effect, TransactionalEffect):
            result = await self._transact(effect, spec, key, replace(ctx, timeout_s=left_s))
            if isinstance(result, Done):
                return
        else:
            found = await self._bounded(effect.do(step, key.facts, replace(ctx, timeout_s=left_s)), left_s)
            result = found if isinstance(found, Done | Failed) else Failed("bad_effect", f"returned {found!r}"[:500])
        if step["step"] == "test" and self.work.rerun_tests and isinstance(result, Failed):
            result = replace(result, transient=key.attempt < 2)
        drafts = drafts_for_result(spec, key, result)
        if not drafts:
            return  # what it did is not known, and its target can be asked: that is due next
        latency = round((self.desk.clock.monotonic() - began) * 1000)
        await self._record(spec, key, drafts, latency_ms=latency)

    async def _transact(
        self, effect: TransactionalEffect, spec: StepSpec, key: KeyState, ctx: EffectContext
    ) -> Done | Failed:
        """Effect and outcome in one transaction: Done is recorded when this returns it."""

        def work(execute: Execute) -> Event:
            done = Draft("outcome", key.attempt, {"result": {**run(execute), "status": "done"}})
            return Event(*step_payload(self.desk, self.work, spec, done, key))

        kind, payload = step_payload(self.desk, self.work, spec, Draft("outcome", key.attempt, {}), key)
        try:
            run = effect.work(self._step(spec), key.facts, ctx)
            await self.desk.transact(slot_of(kind, payload), work, ctx.timeout_s)
        except EffectError as error:
            return Failed(error.code, str(error)[:MESSAGE_CHARS_MAX], transient=error.transient, applied=False)
        except (CommitError, LedgerError):
            raise  # the term is lost, or nobody knows what became of the transaction: no failure of the step
        except Exception as error:
            return Failed("raised", f"{type(error).__name__}: {error}"[:MESSAGE_CHARS_MAX], applied=False)
        return Done()

    async def _probe(self, spec: StepSpec, key: KeyState) -> None:
        ctx = self._context(spec, key.direction, key.attempt, spec.timeout_ms / 1000)
        found = await self._bounded(self._effect(spec).probe(self._step(spec), key.facts, ctx), ctx.timeout_s)
        if isinstance(found, Failed):
            fields = _doubt_fields(Failed("probe_failed", found.message))
            await self._record(spec, key, [Draft("in_doubt", key.attempt, fields)])
        else:
            await self._record(spec, key, drafts_for_probe(spec, key, found))

    async def _doubt_without_undo(self, spec: StepSpec, action: Doubt) -> None:
        intent = {
            "step": self._step(spec)["step"],
            "step_digest": spec.digest,
            "effect_class": "non_verifiable",
            "undoable": spec.undoable,
            "timeout_ms": spec.timeout_ms,
        }
        fields = _doubt_fields(Failed(action.code, _DOUBTS[action.code]))
        drafts = [Draft("intent", 0, intent), Draft("in_doubt", 0, fields)]
        await self._record(spec, None, drafts, direction=action.direction)

    async def _close(self, action: Close) -> None:
        rollback = rollback_of(self.commit, self.work.specs) if action.kind == "compensated" else None
        await self.desk.append([(action.kind, self.desk.payload(self.work, rollback=rollback))])

    async def _record(
        self,
        spec: StepSpec,
        key: KeyState | None,
        drafts: list[Draft],
        *,
        direction: Direction | None = None,
        latency_ms: int | None = None,
    ) -> bool:
        items = [step_payload(self.desk, self.work, spec, draft, key, direction=direction) for draft in drafts]
        if latency_ms is not None:
            items[0][1]["latency_ms"] = latency_ms
        end = closed_with(self.commit, self.work.specs, key, drafts) if key is not None else None
        if end is not None:
            items.append((end.kind, self.desk.payload(self.work, rollback=None)))
        return await self.desk.append(items)

    async def _bounded(self, doing: Awaitable[Any], timeout_s: float) -> Any:
        """An effect's answer. It bounds its own time; one that does not is given up on, and may have happened. So may
        one that raises, which none of ours does: that it did is recorded, not hidden. An effect that does not end even
        when it is cancelled is left behind: it holds its key's lock until it ends."""
        limit_s = max(0.0, timeout_s) + GRACE_S
        task: asyncio.Future[Any] = asyncio.ensure_future(doing)
        try:
            await asyncio.wait({task}, timeout=limit_s)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=CANCEL_S)
        if not task.done() or task.cancelled():
            return Failed("timeout", f"no answer within {limit_s:g} s", transient=True)
        error = task.exception()
        if isinstance(error, LedgerError):
            raise error
        if error is not None:
            return Failed("raised", f"the effect raised {type(error).__name__}: {error}"[:MESSAGE_CHARS_MAX])
        return task.result()

    def _left_s(self, direction: Direction) -> float:
        """What is left of the time for going forward, or for compensating; each starts when it is first asked for."""
        now = self.desk.clock.monotonic()
        return self._deadlines.setdefault(direction, now + self.desk.policy.time.commit_s) - now

    def _too_late(self, direction: Direction) -> Failed:
        limit = self.desk.policy.time.commit_s
        what = "the commit" if direction == "do" else "its compensation"
        return Failed("commit_deadline", f"{what} took longer than the policy's commit_s of {limit} s", applied=False)

    def _context(
        self, spec: StepSpec, direction: Direction, attempt: int, timeout_s: float | None = None
    ) -> EffectContext:
        own = spec.timeout_ms / 1000
        return EffectContext(
            key=spec.keys[direction],
            term=self.desk.term.number,
            attempt=attempt,
            commit_id=self.work.commit_id,
            direction=direction,
            timeout_s=min(own, self._left_s(direction)) if timeout_s is None else timeout_s,
            root=self.desk.root,
            run_dir=self.desk.run_dir,
            policy=self.desk.policy,
        )

    def _step(self, spec: StepSpec) -> Mapping[str, Any]:
        return self.work.plan[spec.index]

    def _effect(self, spec: StepSpec) -> Effect:
        return self.desk.effects[str(self._step(spec)["step"])]


def _doubt_fields(why: Failed) -> dict[str, Any]:
    return {"error_code": why.code, "result": {**why.result, "message": why.message}}


_DOUBTS: Final[Mapping[str, str]] = {
    "submitter_lost": "the submitter was lost after it started this attempt",
    "no_undo": "the step was done and has no undo: take it back by hand, or leave it, and say so",
    "attempts_used_up": "every attempt was lost with its submitter, and any of them may have happened",
}
