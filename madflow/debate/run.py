"""Running a debate: open or resume, drive the graph, land, report.

`run` returns a Proposal whatever the debate's ending; a debate that waits for a human returns Pending. Errors are for
what can be known before the first call, and for a ledger that fails.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..clock import SystemClock
from ..core.budget import Amount
from ..core.config import Config, changes
from ..core.debate import apply, land
from ..core.limits import usd_text
from ..core.proposal import Proposal
from ..core.state import State
from ..errors import BudgetTooSmall, ConfigError, LedgerCorrupt, LedgerError, ResumeRefused
from ..ports import Clock, Event, Ledger, Record
from .facts import verifier
from .nodes import human_question, next_step, record_human, reserve_first_attempts
from .rendering import Renderer
from .session import Prepared, Session
from .setup import Debate, build_clients, build_config, crew_of, prompts_of, root_of
from .stream import DebateStream, stream_name
from .usage import usage_report

__all__ = ["Pending", "Progress", "hold", "open_session", "replay", "run", "run_sync", "stream"]

HUMAN_TRIES_MAX = 3
Human = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Pending:
    """A debate that waits for a human's word. Run it again with the same id and `human=`."""

    debate_id: str
    question: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """Something that just became durable: the ledger's record and where the debate stands after it.

    `kind` is the record's kind (opened, reserved, settled, answered, cut, human, landed, resumed, late); the last one
    of a run has the kind "proposal" or "pending" and carries the outcome.
    """

    kind: str
    debate_id: str
    at_ms: int = 0
    round: int = 0
    phase: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    outcome: Proposal | Pending | None = None


@lru_cache(maxsize=1)
def _graph() -> Any:
    from .graph import build_debate_graph

    return build_debate_graph()


def _open_ledger(ledger: str | Path | Ledger) -> tuple[Ledger, bool]:
    if isinstance(ledger, str | Path):
        from ..ledger.sqlite import open_ledger

        return open_ledger(Path(ledger)), True
    return ledger, False


def _lock(ledger: Ledger, debate_id: str) -> AbstractContextManager[None]:
    locker = getattr(ledger, "lock_stream", None)
    return locker(stream_name(debate_id)) if locker is not None else nullcontext()


async def open_session(
    debate: Debate,
    ledger: Ledger,
    *,
    debate_id: str,
    clock: Clock,
    observer: Callable[[Record, State], None] | None = None,
) -> Session:
    """Open the debate in the ledger, or resume the one of this id.

    Raises ResumeRefused naming what changed, BudgetTooSmall with the numbers, ConfigError, MissingKey, UnknownModel.
    """
    crew = crew_of(debate)
    prompts = prompts_of(crew, debate.protocol or crew.protocol)
    config = build_config(debate, debate_id, crew, prompts)
    clients = build_clients(crew.agents, debate.api_base)
    known = ledger.read(stream_name(debate_id)) if debate.id else []
    stream = DebateStream.load(ledger, debate_id, clock) if known else DebateStream(ledger, config, clock)
    renderer = Renderer(config, prompts)
    session = Session(stream, clients, renderer, clock, verifier(root_of(debate), debate.verify))
    if observer is not None:
        stream.observers.append(observer)
    if known:
        await _resume(stream, config, merge_given=bool(debate.merge))
    else:
        prepared = _first_round(session)
        keys, reserved = reserve_first_attempts(session, prepared)
        await stream.record(Event("opened", {"config": config.model_dump(mode="json")}), *reserved)
        session.first = (prepared, keys)
    return session


async def _resume(stream: DebateStream, config: Config, *, merge_given: bool) -> None:
    """`merge_given`: whether the caller names the merge rule; otherwise the recorded one holds on."""
    old = stream.state.config
    if not merge_given:
        config = config.model_copy(update={"merge": config.merge.model_copy(update={"rule": old.merge.rule})})
    changed = _worded(changes(old.identity(), config.identity()), old, config)
    if changed:
        listed = "; ".join(changed[:8]) + (f"; and {len(changed) - 8} more" if len(changed) > 8 else "")
        raise ResumeRefused(
            f"debate {config.debate_id!r} was opened differently: {listed}. Use another id, or restore what changed"
        )
    raised = config.limits.raised_over(old.limits)
    if stream.state.phase != "landed":
        limits = config.limits.model_dump() if raised else None
        await stream.record(Event("resumed", {"raised": raised, "limits": limits}), *stream.abandon_open())


def _worded(changed: list[str], old: Config, new: Config) -> list[str]:
    """The changes, with what was learned named by the option that brings it: its figures say nothing to a reader."""
    others = [one for one in changed if not one.startswith(("learned:", "learned."))]
    if len(others) == len(changed):
        return changed
    given = "is missing" if new.learned is None else "was not given then" if old.learned is None else "names others"
    return [f"--learn-from (learned=): {given}", *others]


def _first_round(session: Session) -> list[Prepared]:
    """Round 1's calls, priced. Refuses a cap that does not cover them and the landing, before anything is recorded."""
    config = session.config
    opened = apply(session.state, "opened", {}, 0)
    session.stream.state, before = opened, session.stream.state
    try:
        stage = opened.stage
        if stage is None:
            raise LedgerCorrupt(f"debate {config.debate_id!r} opens without a stage")
        timeout_s = min(float(config.limits.call_seconds), session.seconds_left(landing=False))
        prepared = [session.prepare(stage, ask, timeout_s) for ask in stage.asks]
        hold = session.landing_hold(stage, prepared)
        exceeded = session.over_budget(prepared, hold)
    finally:
        session.stream.state = before
    if exceeded is None:
        session.hold = hold
        return prepared
    need = sum((item.amount for item in prepared), Amount())
    values = {"tokens": need.tokens, "calls": need.calls, "usd_nanos": need.usd_nanos or 0}
    held = {"tokens": hold.tokens, "calls": hold.calls, "usd_nanos": hold.usd_nanos or 0}
    what = exceeded.resource
    needed = values[what] + held[what]
    name, shown = ("usd", usd_text) if what == "usd_nanos" else (what, str)
    raise BudgetTooSmall(
        f"the {name} limit of {shown(exceeded.limit)} does not cover round 1 ({shown(values[what])}) and the landing "
        f"({shown(held[what])}); raise it to at least {shown(needed)}, or give fewer agents or a "
        "smaller max_output_tokens",
        resource=what,
        limit=exceeded.limit,
        needed=needed,
    )


async def _drive(session: Session, human: Human | None) -> Proposal | Pending:
    """Run the graph until it lands or waits for a human nobody here can ask."""
    from .graph import DebateContext

    graph, context, asked = _graph(), DebateContext(session), 0
    while True:
        step = next_step(session)
        if step == "end":
            break
        if step == "human":
            if session.cancelled:
                await session.cut("cancelled", {"waiting_for": "human"}, land=False)
            elif human is None or asked == HUMAN_TRIES_MAX:
                return Pending(session.config.debate_id, human_question(session))
            else:
                asked += 1
                await _ask_human(session, human)
            continue
        rounds, seats = session.config.rounds, len(session.config.seats)
        config = {"recursion_limit": (4 + seats) * rounds + 50}  # a policy may ask one seat at a time
        await graph.ainvoke({"debate_id": session.config.debate_id, "next": step}, config, context=context)
    if session.proposal is not None:
        return session.proposal.model_copy(update={"usage": usage_report(session.stream)})
    return _landed(session.stream)


async def _ask_human(session: Session, human: Human) -> None:
    """Record the human's word; a cancellation of the debate drops the question."""

    async def answer() -> Mapping[str, Any]:
        return await human(human_question(session))

    asking = asyncio.create_task(answer())
    session.tasks = {asking}
    try:
        word = await asking
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if not session.cancelled or (task is not None and task.cancelling()):
            raise
        return
    finally:
        session.tasks = set()
    await record_human(session, word)


def _landed(stream: DebateStream) -> Proposal:
    body = stream.landed
    if body is None:
        raise LedgerError(f"debate {stream.state.config.debate_id!r} has not landed; run it again with the same id")
    return Proposal.model_validate({**body, "usage": usage_report(stream)})


async def run(
    debate: Debate,
    *,
    human: Human | None = None,
    cancel: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Clock | None = None,
) -> Proposal | Pending:
    """Run or resume one debate to its end.

    Args:
        human: asked when the fallback is "human": gets the question, returns {"choice", "by", "notes"}. After three
            words that were not offered the debate is Pending.
        cancel: once set, the debate lands with the stop reason `cancelled`.
        on_progress: called after each durable record, in the event loop; keep it short. An error it raises ends the
            run, which resumes by its id.

    Returns:
        The proposal, whatever the result; or Pending where a human is needed and `human` is None.

    Raises:
        UsageError and its kinds before the first call; DebateBusy; LedgerError. Nothing a model does raises.
    """
    return (await hold(debate, human=human, cancel=cancel, on_progress=on_progress, clock=clock))[0]


async def hold(
    debate: Debate,
    *,
    human: Human | None = None,
    cancel: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Clock | None = None,
) -> tuple[Proposal | Pending, State]:
    """`run`, and with its outcome the state that the debate's records fold to. Arguments and errors as for `run`."""
    clock = clock or SystemClock()
    ledger, owned = _open_ledger(debate.ledger)
    debate_id = debate.id or f"d-{clock.now_ms():x}-{secrets.token_hex(3)}"

    def observe(record: Record, state: State) -> None:
        if on_progress is not None:
            round_ = state.stage.round if state.stage else (state.closed[-1].stage.round if state.closed else 0)
            on_progress(Progress(record.kind, debate_id, record.at_ms, round_, state.phase, record.payload))

    watcher: asyncio.Task[None] | None = None
    try:
        with _lock(ledger, debate_id):
            session = await open_session(debate, ledger, debate_id=debate_id, clock=clock, observer=observe)
            if cancel is not None:
                watcher = asyncio.create_task(_watch(cancel, session))
            outcome = await _drive(session, human)
    finally:
        if watcher is not None:
            watcher.cancel()
        if owned:
            ledger.close()
    return outcome, session.state


async def _watch(cancel: asyncio.Event, session: Session) -> None:
    await cancel.wait()
    session.cancel()


def run_sync(debate: Debate, **options: Any) -> Proposal | Pending:
    """`run` for code without an event loop. Raises ConfigError inside one: await `run` there."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise ConfigError("run_sync was called where an event loop runs, as in a notebook; write `await run(…)`")
    return asyncio.run(_run_and_close(debate, options))


async def _run_and_close(debate: Debate, options: Mapping[str, Any]) -> Proposal | Pending:
    from ..models.http_pool import aclose_all

    try:
        return await run(debate, **options)
    finally:
        await aclose_all()


async def stream(debate: Debate, **options: Any) -> AsyncGenerator[Progress, None]:
    """Run a debate and yield its progress; the last item carries the outcome. Closing the iterator cancels the debate's
    calls; once it is closed (`aclosing`, for a loop that is left early), the same debate can be resumed by its id."""
    queue: asyncio.Queue[Progress | None] = asyncio.Queue()
    task = asyncio.create_task(run(debate, on_progress=queue.put_nowait, **options))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (progress := await queue.get()) is not None:
            yield progress
        outcome = task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)  # until it has given back the ledger and its lock
    kind = "pending" if isinstance(outcome, Pending) else "proposal"
    debate_id = outcome.debate_id if isinstance(outcome, Pending) else outcome.proposal_id.rpartition("-p")[0]
    yield Progress(kind, debate_id, outcome=outcome)


def replay(ledger: str | Path | Ledger, debate_id: str, *, clock: Clock | None = None) -> Proposal:
    """The proposal of a debate that landed, decided again from its recorded answers, offline and without any client.

    Raises:
        LedgerError: no such debate, or it has not landed.
        LedgerCorrupt: the recorded answers no longer give the recorded proposal.
    """
    opened, owned = _open_ledger(ledger)
    try:
        loaded = DebateStream.load(opened, debate_id, clock or SystemClock())
    finally:
        if owned:
            opened.close()
    proposal = _landed(loaded)
    assert loaded.before_landing is not None  # noqa: S101 - set together with `landed`
    again = land(loaded.before_landing)
    if again != loaded.landed:
        raise LedgerCorrupt(
            f"debate {debate_id!r}: its answers fold to digest {again['digest'][:12]}…, "
            f"the ledger says {proposal.digest[:12]}…"
        )
    return proposal
