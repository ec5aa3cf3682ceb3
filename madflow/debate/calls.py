"""Asking one seat: reserve, call, settle, parse, repair once; and whatever happens, one recorded answer.

Every attempt is reserved durably before it is made, and settled together with what its reply became, in one write. A
failure costs this seat and nothing else. What cannot be read is an *invalid* answer after one bounded repair; what did
not come is *missing*, with its cause.

What a seat's server refuses to take (a schema, a seed) is recorded with the refused attempt. Every later attempt of
this seat, and of those that share its client, goes without it, in this process or in one that resumes the debate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from ..core.budget import Amount
from ..core.replies import REPLY_BYTES_MAX, parse_reply
from ..core.state import Stage
from ..errors import BudgetExceeded, ModelError, ParameterRefused, PermanentModelError, ReplyError
from ..models.retry import ATTEMPTS_MAX, with_retries
from ..models.wellformed import to_record, well_formed
from ..ports import Event, ModelReply, ModelRequest, Usage
from .contract import DETAIL_CHARS_MAX, LABEL_CHARS_MAX, checked_usage, complete
from .session import Prepared, Session

__all__ = ["ask_seat", "reserve"]

_TEXT_MAX = REPLY_BYTES_MAX + 1  # one more than a reply may have: what is recorded of a longer one is too long, too


def reserve(session: Session, prepared: Prepared) -> tuple[str, Event]:
    """Reserve one attempt. Raises BudgetExceeded."""
    request = prepared.request
    about = {
        "agent": prepared.ask.agent,
        "purpose": prepared.ask.kind,
        "model": request.model,
        "prompt_chars": len(request.system) + len(request.prompt),
        "prefix_chars": session.renderer.shared_prefix(request),
        "prompt_sha256": sha256((request.system + "\0" + request.prompt).encode()).hexdigest(),
    }
    return session.stream.reserve(
        request.call_id, prepared.amount, session.hold, utf8_bytes=prepared.utf8_bytes, about=about
    )


async def ask_seat(session: Session, stage: Stage, prepared: Prepared, key: str | None) -> None:
    """One ask, from its request to its recorded answer. `key`: a first attempt that is already reserved."""
    ask, seat_deadline = prepared.ask, session.clock.monotonic() + prepared.request.timeout_s
    settled: list[Event] = []
    try:
        answer = await _answer(session, prepared, key, seat_deadline, settled)
    except BudgetExceeded as error:
        answer = _missing(f"budget_exceeded: {error.resource}")
    except ModelError as error:
        answer = _missing(error.code)
    body = {"stage": stage.number, "agent": ask.agent, "kind": ask.kind, "part": ask.part, **answer}
    session.in_flight -= 1
    await session.stream.record(*settled, Event("answered", body), linger=session.in_flight > 0)


def _missing(cause: str) -> dict[str, Any]:
    return {"status": "missing", "cause": cause}


async def _answer(
    session: Session, prepared: Prepared, key: str | None, deadline: float, settled: list[Event]
) -> dict[str, Any]:
    text = session.stream.replies.pop(prepared.request.call_id, None)
    if text is None:
        text = (await _call(session, prepared, key, deadline, settled)).text
    parsed = _parsed(prepared.ask.kind, text)
    if isinstance(parsed, ReplyError):
        if settled:
            await session.stream.record(*settled)
            settled.clear()
        repair = session.renderer.repair(prepared.request, text, parsed)
        again = session.price(prepared.ask, repair)
        try:
            reply = await _call(session, again, None, deadline, settled)
        except (ModelError, BudgetExceeded) as error:
            how = error.code if isinstance(error, ModelError) else "budget_exceeded"
            return {"status": "invalid", "cause": f"{parsed.cause}; repair: {how}"}
        repaired = _parsed(prepared.ask.kind, reply.text)
        if isinstance(repaired, ReplyError):
            return {"status": "invalid", "cause": repaired.cause}
        parsed = repaired
    facts: dict[str, Any] = {}
    if session.verify is not None:  # it reads files: in a thread, so that no other seat's call waits for it
        facts = dict(await asyncio.to_thread(session.verify, session.config, prepared.ask, parsed))
    return {"status": "valid", "reply": parsed, **({"facts": facts} if facts else {})}


def _parsed(kind: str, text: str) -> Mapping[str, Any] | ReplyError:
    try:
        parsed: dict[str, Any] = parse_reply(kind, text).model_dump(mode="json")
    except ReplyError as error:
        return error
    return parsed


@dataclass(slots=True)
class _Attempts:
    """One call's attempts, as the retry layer drives them."""

    session: Session
    prepared: Prepared
    first_key: str | None
    deadline: float
    settled: list[Event]

    async def __call__(self, number: int) -> ModelReply:
        session, request = self.session, self.prepared.request
        key = self.first_key if number == 1 else None
        if key is None:
            key, event = reserve(session, self.prepared)
            await session.stream.record(*self.settled, event)
            self.settled.clear()
        started = session.clock.monotonic()
        left = self.deadline - started
        try:
            async with asyncio.timeout(max(left, 0)):
                refused = session.refused(self.prepared.ask.agent)
                if number > 1 or refused:
                    request = replace(request, timeout_s=left if number > 1 else request.timeout_s, refused=refused)
                reply = await complete(session.clients[self.prepared.ask.agent], request)
        except TimeoutError as error:
            await self._failed(key, PermanentModelError("timeout", ""), request, started)
            raise PermanentModelError("timeout", f"no reply within {request.timeout_s:.1f} s") from error
        except ModelError as error:
            await self._failed(key, error, request, started)
            raise
        usage = checked_usage(reply.usage)
        text = reply.text[:_TEXT_MAX]
        about = {
            "status": "ok",
            "latency_ms": int((session.clock.monotonic() - started) * 1000),
            "finish_reason": well_formed(str(reply.finish_reason), chars_max=LABEL_CHARS_MAX),
            "cached_tokens": usage.cached_tokens if usage else 0,
            **to_record(text),
        }
        self.settled.append(session.stream.settle(key, _used(usage), about))
        return replace(reply, text=text)  # what is read now is what a resumed debate will read

    async def _failed(self, key: str, error: ModelError, request: ModelRequest, started: float) -> None:
        latency_ms = int((self.session.clock.monotonic() - started) * 1000)
        about: dict[str, Any] = {"status": "error", "code": error.code, "latency_ms": latency_ms}
        if str(error):
            about["detail"] = well_formed(str(error), chars_max=DETAIL_CHARS_MAX)
        free = False
        if isinstance(error, ParameterRefused):
            about |= {"model": request.model, "refused": error.word}
            # Once only: who was told to go without a word, and is refused for it, has not gone without it.
            free = bool(error.unbilled) and error.word not in request.refused
        await self.session.stream.record(self.session.stream.settle(key, None, about, refused=free))


async def _call(
    session: Session, prepared: Prepared, key: str | None, deadline: float, settled: list[Event]
) -> ModelReply:
    attempts = _Attempts(session, prepared, key, deadline, settled)
    before = session.stream.attempts.get(prepared.request.call_id, 0) - (key is not None)
    return await with_retries(
        attempts,
        sleep=session.clock.sleep,
        monotonic=session.clock.monotonic,
        deadline_s=max(0.0, deadline - session.clock.monotonic()),
        attempts_max=max(1, ATTEMPTS_MAX - before),  # those of a dead process count, but one is always left
    )


def _used(usage: Usage | None) -> Amount | None:
    return None if usage is None else Amount(usage.prompt_tokens, usage.output_tokens, usage.usd_nanos, 1)
