"""A debate as a transition table: (state, event) → state, and the effects that are due in a state.

    phase     event             next
    new       opened            asking
    asking    answered          asking, until the stage closes: then asking (next stage), waiting, or ready
    asking    cut               asking (the held-back final vote), waiting, or ready
    asking    resumed           asking
    waiting   human             ready
    waiting   cut, resumed      ready, waiting
    ready     landed            landed
    any       late              the same phase; the reply is refused and kept

Events come from the ledger only; nothing here reads a clock, draws a random number or does I/O. Rebuilding a state is
folding its events. What must be done next is a function of the state (`due`), so a resumed debate asks only what has no
answer yet. Answers are kept by ask, so their order of arrival cannot change the outcome; where time or money decided,
that decision is itself an event (`cut`).

How a debate ends, in this order: its stop condition or its last round; then, where the panel did not decide, each
configured fallback once (mediator, judge, human); and whatever happens, it lands in one proposal with one stop reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ConfigError
from .ballots import BallotBox
from .config import Config
from .proposal import seal
from .protocols import protocol_of
from .protocols.base import MOTION, final_outcome
from .protocols.subject import subject_body
from .rules import Outcome, unassailable
from .state import Answer, Ask, Closed, Phase, Stage, State
from .stopping import Stop

__all__ = ["TABLE", "AskHuman", "AskSeats", "Effect", "Land", "apply", "due", "fold", "human_options", "land"]


@dataclass(frozen=True, slots=True)
class AskSeats:
    """Ask these seats, all at once; record an answer or a miss for each."""

    stage: Stage
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class AskHuman:
    """Ask a human to choose one of `options` (or "none"), and record the word."""

    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Land:
    """Write the proposal."""


_TURNS = ("position", "discuss", "draft", "find")
_VOTES = ("ballot", "assess")

Effect = AskSeats | AskHuman | Land
Handler = Callable[[State, Mapping[str, Any], int], State]


def due(state: State) -> Effect | None:
    """The one thing to do next; None before the opening and after the landing."""
    if state.phase == "asking" and state.stage is not None:
        return AskSeats(state.stage, state.outstanding())
    if state.phase == "waiting":
        return AskHuman(human_options(state))
    return Land() if state.phase == "ready" else None


def apply(state: State, kind: str, payload: Mapping[str, Any], at_ms: int = 0) -> State:
    """The state after one event. Raises ConfigError for an event that the table does not know in this phase."""
    handler = TABLE.get((state.phase, kind))
    if handler is None:
        known = ", ".join(sorted(k for phase, k in TABLE if phase == state.phase))
        raise ConfigError(f"event {kind!r} cannot follow in phase {state.phase!r} (known there: {known})")
    return handler(state, payload, at_ms)


def fold(config: Config, events: list[tuple[str, Mapping[str, Any], int]]) -> State:
    """The state after `events`, each (kind, payload, at_ms)."""
    state = State(config)
    for kind, payload, at_ms in events:
        state = apply(state, kind, payload, at_ms)
    return state


def land(state: State) -> dict[str, Any]:
    """The whole proposal of a state that is ready, without `usage`."""
    protocol = protocol_of(state.config)
    box = protocol.box(state)
    outcome, decided_by = final_outcome(protocol, state, box)
    subject = subject_body(state, protocol.subject(state))
    return seal(subject, _votes(state, box), _decision(state, box, outcome, decided_by))


def human_options(state: State) -> tuple[tuple[str, str], ...]:
    """What a judge or a human may choose: approve and reject, or the frozen options."""
    protocol = protocol_of(state.config)
    box = protocol.box(state)
    outcome = protocol.outcome(state, box)
    if box.is_motion:
        return MOTION
    texts = dict(protocol.options(state))
    ids = outcome.tied or tuple(box.options)
    return tuple((oid, texts.get(oid, oid)) for oid in ids)


# --- handlers ---------------------------------------------------------------------------------------------------


def _opened(state: State, _payload: Mapping[str, Any], at_ms: int) -> State:
    opened = replace(state, phase="asking", opened_ms=at_ms)
    return replace(opened, stage=protocol_of(state.config).first(opened))


def _answered(state: State, payload: Mapping[str, Any], _at_ms: int) -> State:
    ask = Ask(str(payload["agent"]), str(payload["kind"]), int(payload.get("part", 0)))
    stage = state.stage
    if stage is None or payload.get("stage") != stage.number or ask not in stage.asks:
        return _refuse(state, ask.agent, "late")
    if ask in state.answers:
        return _refuse(state, ask.agent, "duplicate")
    answer = Answer(
        status=payload["status"],
        reply=payload.get("reply"),
        cause=str(payload.get("cause", "")),
        facts=payload.get("facts") or {},
    )
    return _maybe_close(replace(state, answers={**state.answers, ask: answer}))


def _late(state: State, payload: Mapping[str, Any], _at_ms: int) -> State:
    return _refuse(state, str(payload["agent"]), str(payload.get("cause", "late")))


def _refuse(state: State, agent: str, cause: str) -> State:
    return replace(state, refused=(*state.refused, (agent, cause)))


def _resumed(state: State, payload: Mapping[str, Any], _at_ms: int) -> State:
    limits = payload.get("limits")
    if not limits:
        return state
    raised = type(state.config.limits).model_validate(limits)
    return replace(state, config=state.config.model_copy(update={"limits": raised}))


def _cut(state: State, payload: Mapping[str, Any], _at_ms: int) -> State:
    cut = Stop(payload["reason"], dict(payload.get("numbers") or {}))
    if state.phase == "waiting" or state.stage is None:
        return _ready(replace(state, cut=cut), cut)
    asked_nothing = not state.answers
    answers = dict(state.answers)
    for ask in state.outstanding():
        answers[ask] = Answer("missing", cause=cut.reason)
    closed = Closed(state.stage, answers, cut=True)
    # A stage that was never started leaves no trace: the round before it is the last one.
    unstarted = asked_nothing and payload.get("unstarted", False) and state.closed
    state = replace(
        state,
        closed=state.closed if unstarted else (*state.closed, closed),
        memo=dict(state.memo),
        stage=None,
        answers={},
        cut=state.cut or cut,
    )
    stage = protocol_of(state.config).landing(state) if payload.get("land") else None
    if stage is not None and (unstarted or stage.kind != closed.stage.kind):
        return replace(state, stage=stage)
    if payload.get("land") and state.cut is cut:
        return _finish(state, cut)
    return _ready(state, state.cut or cut)


def _human(state: State, payload: Mapping[str, Any], _at_ms: int) -> State:
    allowed = {oid for oid, _ in human_options(state)} | {"none"}
    if payload["choice"] not in allowed:
        return _refuse(state, str(payload.get("by", "human")), f"unknown_option: {payload['choice']}")
    return _ready(replace(state, human=dict(payload)), Stop("human", {"choice": str(payload["choice"])}))


def _landed(state: State, payload: Mapping[str, Any], _at_ms: int) -> State:
    return replace(state, phase="landed", digest=str(payload["digest"]))


def _maybe_close(state: State) -> State:
    if not state.outstanding():
        return _close(state)
    if "unassailable" in state.config.stop and _settled_early(state):
        answers = dict(state.answers)
        for ask in state.outstanding():
            answers[ask] = Answer("missing", cause="unassailable")
        return _close(replace(state, answers=answers))
    return state


def _settled_early(state: State) -> bool:
    """Whether no completion of the outstanding ballots could change the result or the quorum."""
    if state.stage is None or state.stage.kind not in ("position", "discuss", "ballot") or not state.stage.options:
        return False
    if state.config.policy is not None:
        return False  # a policy counts in its own way; it says itself when the seats left cannot change the result
    protocol = protocol_of(state.config)
    so_far = Closed(state.stage, state.answers)
    box = protocol.live(state, so_far)
    config = state.config
    return unassailable(config.rule_, box, quorum=config.quorum, tie=config.tie)


def _close(state: State) -> State:
    assert state.stage is not None  # noqa: S101 - only called for an open stage
    early = any(a.cause == "unassailable" for a in state.answers.values())
    closed = Closed(state.stage, dict(state.answers))
    state = replace(state, closed=(*state.closed, closed), stage=None, answers={}, memo=dict(state.memo))
    if closed.stage.kind == "judge":
        return _after_judge(state)
    if state.cut is not None and closed.stage.kind != "mediate":
        return _finish(state, state.cut)
    following = protocol_of(state.config).next(state)
    if isinstance(following, Stage):
        return replace(state, stage=following)
    following = state.cut or following
    if early and following.reason in ("converged", "unassailable"):
        missing = sum(1 for a in closed.answers.values() if a.cause == "unassailable")
        following = Stop("unassailable", {"outstanding": missing, **following.numbers})
    return _finish(state, following)


def _after_judge(state: State) -> State:
    protocol = protocol_of(state.config)
    outcome, decided_by = final_outcome(protocol, state, protocol.box(state))
    if decided_by.startswith("judge:") and outcome.result != "no_decision":
        return _ready(state, state.cut or Stop("judge", {"choice": str(outcome.winner)}))
    before = state.stop or Stop("deadlock", {})
    return _finish(state, before)


def _finish(state: State, stop: Stop) -> State:
    """The panel is done: try each fallback once while there is no decision, then land."""
    protocol = protocol_of(state.config)
    outcome = protocol.outcome(state, protocol.box(state))
    state = replace(state, stop=stop)
    wanted = list(state.config.fallback)
    if outcome.needs_judge and "judge" not in wanted:
        wanted.insert(0, "judge")
    for name in wanted:
        if name in state.used or not _open_to(name, outcome):
            continue
        state = replace(state, used=(*state.used, name))
        if name == "human":
            return replace(state, phase="waiting")
        seat = state.config.seat_of(name)
        if seat is not None:
            return replace(state, stage=_fallback_stage(state, name, seat.agent))
    return _ready(state, stop)


def _open_to(fallback: str, outcome: Outcome) -> bool:
    return outcome.result == "no_decision" or (fallback == "mediator" and outcome.result == "rejected")


def _fallback_stage(state: State, name: str, agent: str) -> Stage:
    kind = {"judge": "judge", "mediator": "mediate"}[name]
    ballots = getattr(protocol_of(state.config), "ballot_subject", None)
    subject = ballots(state) if ballots is not None and state.last("ballot") else {}
    round_ = state.closed[-1].stage.round
    return Stage(len(state.closed) + 1, kind, round_, (Ask(agent, kind),), human_options(state), subject)


def _ready(state: State, stop: Stop) -> State:
    return replace(state, phase="ready", stage=None, answers={}, stop=stop)


# --- the landing ------------------------------------------------------------------------------------------------


def _votes(state: State, box: BallotBox) -> list[dict[str, Any]]:
    entries = box.entries
    last, voted_in = _rounds(state), protocol_of(state.config).voted_in(state)
    rows = []
    for seat in state.config.voters:
        entry = entries[seat.agent]
        decision = " > ".join(entry.choices) if entry.status == "valid" else entry.status
        notes = entry.notes if entry.status in ("valid", "abstain") else entry.cause
        rows.append(
            {
                "agent": seat.agent,
                "role": seat.role,
                "decision": decision,
                "notes": notes,
                "confidence": entry.confidence,
                "round": voted_in.get(seat.agent, last),
                "weight": seat.weight,
            }
        )
    return rows


def _rounds(state: State) -> int:
    """Rounds that were debated: a revision that nobody voted on is none, nor is a round that was cut after others."""
    whole = [c.stage.round for c in state.closed if c.stage.kind in _VOTES or (c.stage.kind in _TURNS and not c.cut)]
    spoken = any(answer.status != "missing" for c in state.closed for answer in c.answers.values())
    return max(whole, default=int(spoken))


def _backs(choices: tuple[str, ...], outcome: Outcome, reads: str) -> bool:
    """Whether a ballot is for what was decided: a rejection is backed by those who rejected. Nothing decided: none."""
    stood = "reject" if outcome.result == "rejected" else outcome.winner
    return stood in (choices if reads == "set" else choices[:1])


def _decision(state: State, box: BallotBox, outcome: Outcome, decided_by: str) -> dict[str, Any]:
    stop = state.stop or Stop("deadlock", {})
    tally = box.tally()
    names = ("eligible", "valid", "abstain", "invalid", "missing")
    counts = {name: getattr(tally, name) for name in names}
    weights = {f"{name}_weight": getattr(tally, f"{name}_weight") for name in names}
    dissent = [
        {"agent": agent, "choice": " > ".join(entry.choices), "notes": entry.notes}
        for agent, entry in sorted(box.entries.items())
        if entry.status == "valid" and not _backs(entry.choices, outcome, state.config.rule_.reads)
    ]
    mediation = state.last("mediate")
    body: dict[str, Any] = {
        "rule": state.config.rule,
        "threshold": outcome.threshold,
        "quorum": protocol_of(state.config).quorum(state),
        "tie": state.config.tie,
        "result": outcome.result,
        "choice": outcome.winner,
        "tally": {**counts, **weights, "scores": dict(sorted(outcome.scores.items()))},
        "stop_reason": stop.reason,
        "stop_numbers": dict(stop.numbers),
        "rounds": _rounds(state),
        "decided_by": decided_by,
        "dissent": dissent,
        "mediation": next(iter(mediation.valid().values()), None) if mediation else None,
    }
    return body


def _same(state: State, _payload: Mapping[str, Any], _at_ms: int) -> State:
    return state


TABLE: dict[tuple[Phase, str], Handler] = {
    ("new", "opened"): _opened,
    ("asking", "answered"): _answered,
    ("asking", "cut"): _cut,
    ("asking", "resumed"): _resumed,
    ("asking", "late"): _late,
    ("waiting", "answered"): _late,
    ("waiting", "human"): _human,
    ("waiting", "cut"): _cut,
    ("waiting", "resumed"): _resumed,
    ("waiting", "late"): _late,
    ("ready", "answered"): _late,
    ("ready", "landed"): _landed,
    ("ready", "cut"): _same,
    ("ready", "resumed"): _resumed,
    ("ready", "late"): _late,
    ("landed", "answered"): _late,
    ("landed", "late"): _late,
    ("landed", "resumed"): _same,
}
