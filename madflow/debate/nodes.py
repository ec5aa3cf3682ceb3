"""The graph's nodes: each performs the one effect that is due, and records what came of it.

Nodes hold no state of their own. A node that runs again after a crash finds in the ledger what is already answered and
asks only the rest. Whatever a seat does, no exception leaves a node because of it: LangGraph would cancel its siblings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..core.budget import Amount
from ..core.debate import AskHuman, AskSeats, Land, due, land
from ..core.proposal import Proposal
from ..core.state import Stage
from ..errors import BudgetExceeded, ConfigError
from ..models.wellformed import well_formed
from ..ports import Event
from .calls import ask_seat, reserve
from .session import Prepared, Session

__all__ = ["ask_stage", "human_question", "land_debate", "next_step", "record_human", "reserve_first_attempts"]

WARM_SECONDS_MAX = 10.0
"""How long the others wait for a first seat's first token."""

_WORD_CHARS_MAX = 4_000
STEPS = {
    "position": "speak",
    "discuss": "speak",
    "draft": "speak",
    "find": "speak",
    "same": "speak",
    "revise": "speak",
    "select": "vote",
    "ballot": "vote",
    "assess": "vote",
    "judge": "judge",
    "mediate": "mediate",
}


def next_step(session: Session) -> str:
    """The node that performs what is due: speak, vote, judge, mediate, human, land or end."""
    effect = due(session.state)
    if isinstance(effect, AskSeats):
        return STEPS[effect.stage.kind]
    if isinstance(effect, AskHuman):
        return "human"
    return "land" if isinstance(effect, Land) else "end"


async def ask_stage(session: Session) -> None:
    """Ask every outstanding seat of the current stage, in parallel, each under its own deadline."""
    effect = due(session.state)
    if not isinstance(effect, AskSeats):
        return
    if session.cancelled:
        await session.cut("cancelled", {"stage": effect.stage.number}, land=False)
        return
    landing = session.state.cut is not None
    left = session.seconds_left(landing=landing)
    if left <= 0:
        await _cut_for_time(session, landing=landing, unstarted=True)
        return
    timeout_s = min(float(session.config.limits.call_seconds), left)
    if session.first is not None:
        (prepared, keys), session.first = session.first, None
    else:
        prepared = [session.prepare(effect.stage, ask, timeout_s) for ask in effect.asks]
        hold = session.landing_hold(effect.stage, prepared)
        exceeded = session.over_budget(prepared, hold)
        if exceeded is not None and not landing:
            await session.cut("budget_exceeded", _budget_numbers(exceeded), land=True, unstarted=True)
            return
        session.hold = Amount() if landing else hold
        keys, events = reserve_first_attempts(session, prepared)
        session.hold = hold  # a retry or repair in the landing leaves the fallbacks theirs
        if events:
            await session.stream.record(*events)
    out_of_time = False
    if not session.cancelled:  # a cancellation that came during the write found no call to drop
        out_of_time = await _ask_all(session, effect.stage, prepared, keys, left)
    if session.state.phase != "asking":
        return
    if session.cancelled:
        await session.cut("cancelled", {"stage": effect.stage.number}, land=False)
    elif out_of_time and session.state.stage is effect.stage:
        await _cut_for_time(session, landing=landing)


async def _cut_for_time(session: Session, *, landing: bool, unstarted: bool = False) -> None:
    """End the debate because its time is out; it still takes the final vote where time was held back for it."""
    numbers = {"seconds": session.config.limits.seconds, "elapsed_ms": session.stream.elapsed_ms()}
    may_land = not landing and session.seconds_left(landing=True) > 0
    await session.cut("timeout", numbers, land=may_land, unstarted=unstarted)


def _budget_numbers(error: BudgetExceeded) -> dict[str, Any]:
    """The numbers of a budget stop."""
    return {"resource": error.resource, "limit": error.limit, "actual": error.actual, "held": error.held}


def reserve_first_attempts(session: Session, prepared: Sequence[Prepared]) -> tuple[list[str | None], list[Event]]:
    """Reserve the first attempt of every call; the events are for one durable write. With warm-first, only the first
    call's; but in the landing all, for no seat's retry may spend what another's ballot was held back for."""
    landing = session.state.cut is not None
    first = prepared[:1] if session.config.warm_first and not landing else prepared
    keys: list[str | None] = [None] * len(prepared)
    events = []
    for index, item in enumerate(first):
        if item.request.call_id in session.stream.replies:
            continue  # answered before a crash
        try:
            keys[index], event = reserve(session, item)
        except BudgetExceeded:
            continue  # asked again by the seat itself, which then records the miss with its cause
        events.append(event)
    return keys, events


async def _ask_all(
    session: Session, stage: Stage, prepared: Sequence[Prepared], keys: Sequence[str | None], left: float
) -> bool:
    """Ask at once, for at most `left` seconds. Whether the debate's own time ran out before a seat's did."""
    warm = asyncio.Event() if session.config.warm_first and len(prepared) > 1 else None
    warm_s = min(WARM_SECONDS_MAX, session.config.limits.call_seconds / 2)

    async def one(index: int, item: Prepared) -> None:
        if warm is not None and index > 0:
            with suppress(TimeoutError):  # a first seat that hangs costs its cache, not the others' turns
                await asyncio.wait_for(warm.wait(), warm_s)
        request = item.request
        if warm is not None and index == 0:
            item = _with_first_token(session, item, warm)
        try:
            await ask_seat(session, stage, item, keys[index])
        finally:
            if warm is not None:
                warm.set()
        session.renderer.warmed(request)
        if _closed_early(session, stage):
            _drop_others(session)

    tasks = [asyncio.create_task(one(i, item)) for i, item in enumerate(prepared)]
    session.tasks, session.in_flight = set(tasks), len(tasks)
    out_of_time = False

    def expire() -> None:
        nonlocal out_of_time
        out_of_time = True
        session.drop_calls()

    bounded = left <= session.config.limits.call_seconds
    timer = asyncio.get_running_loop().call_later(left, expire) if bounded else None
    try:
        results = await asyncio.gather(*tasks, return_exceptions=True)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    finally:
        session.tasks = set()
        if timer is not None:
            timer.cancel()
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result
    return out_of_time


def _with_first_token(session: Session, item: Prepared, warm: asyncio.Event) -> Prepared:
    def started() -> None:
        session.renderer.warmed(item.request)
        warm.set()

    return replace(item, request=replace(item.request, on_first_token=started))


def _closed_early(session: Session, stage: Stage) -> bool:
    """Whether the vote was decided before every seat had answered: what is still on its way is not waited for."""
    closed = next((c for c in reversed(session.state.closed) if c.stage is stage), None)
    return closed is not None and any(answer.cause == "unassailable" for answer in closed.answers.values())


def _drop_others(session: Session) -> None:
    current = asyncio.current_task()
    for task in session.tasks:
        if task is not current:
            task.cancel()


def human_question(session: Session) -> dict[str, Any]:
    """What a human is asked, as plain JSON: the options, the tally so far, and how to answer."""
    effect = due(session.state)
    options = effect.options if isinstance(effect, AskHuman) else ()
    stop = session.state.stop
    return {
        "debate_id": session.config.debate_id,
        "question": session.config.task.question,
        "options": [{"id": oid, "text": text} for oid, text in options],
        "stop_reason": stop.reason if stop else None,
        "answer_with": {"choice": "an option's id, or none", "by": "your name", "notes": ""},
    }


async def record_human(session: Session, word: Mapping[str, Any]) -> None:
    """Record a human's word; a choice that was not offered, or none at all, is refused and the question stays.

    Raises ConfigError where it is no mapping.
    """
    if not isinstance(word, Mapping):
        raise ConfigError(f'a human\'s word is {{"choice", "by", "notes"}}, not {type(word).__name__}')
    texts = {key: str(word.get(key) or "") for key in ("choice", "by", "notes")}
    payload = {key: well_formed(text, chars_max=_WORD_CHARS_MAX) for key, text in texts.items()}
    payload["by"] = payload["by"] or "human"
    await session.stream.record(Event("human", payload))


async def land_debate(session: Session) -> Proposal:
    """Write the proposal into the ledger. The same state lands in the same bytes, whoever folds it.

    A run that LangGraph takes up at this node may find the proposal there: its process died after the write and before
    the checkpoint.
    """
    if session.stream.landed is not None:
        return Proposal.model_validate(session.stream.landed)
    body = land(session.state)
    session.hold = Amount()
    proposal = Proposal.model_validate(body)
    session.proposal = proposal
    payload = {"proposal": body, "digest": body["digest"], "proposal_id": body["proposal_id"]}
    await session.stream.record(Event("landed", payload))
    return proposal
