"""The transition table, event by event. Catches a phase that swallows an event, or one that runs where it must not."""

from typing import Any, get_args

import pytest
from debate_script import AT_MS, answered, make_config, opened, play, valid

from madflow.core.debate import TABLE, AskHuman, AskSeats, Land, apply, due, fold, land
from madflow.core.state import Phase, State
from madflow.errors import ConfigError

EVENTS = ("opened", "answered", "cut", "human", "landed", "late", "resumed", "reserved", "nonsense")
PAYLOADS: dict[str, dict[str, Any]] = {
    "opened": {},
    "answered": {"stage": 1, "agent": "a", "kind": "position", "part": 0, **valid("position", answer="A")},
    "cut": {"reason": "timeout", "numbers": {"seconds": 1}, "land": True},
    "human": {"choice": "A", "by": "ann", "notes": ""},
    "landed": {"digest": "0" * 64},
    "late": {"agent": "a", "cause": "late"},
    "resumed": {"limits": None},
    "reserved": {},
    "nonsense": {},
}
KNOWN = {
    "new": {"opened"},
    "asking": {"answered", "cut", "late", "resumed"},
    "waiting": {"answered", "cut", "human", "late", "resumed"},
    "ready": {"answered", "cut", "landed", "late", "resumed"},
    "landed": {"answered", "late", "resumed"},
}
SPLIT = {"a": "A", "b": "B"}


def in_phase(phase: str) -> State:
    config = make_config("a b", "A=yes,B=no", rounds=1, fallback=("human",))
    if phase == "new":
        return State(config)
    if phase == "asking":
        return opened(config)
    state = opened(config)
    for agent in ("a", "b"):
        assert state.stage is not None
        ask = next(a for a in state.stage.asks if a.agent == agent)
        state = apply(state, "answered", answered(state.stage, ask, valid("position", answer=SPLIT[agent])), AT_MS)
    if phase == "waiting":
        return state
    state = apply(state, "human", PAYLOADS["human"], AT_MS)
    return state if phase == "ready" else apply(state, "landed", {"digest": land(state)["digest"]}, AT_MS)


@pytest.mark.parametrize("phase", get_args(Phase))
@pytest.mark.parametrize("kind", EVENTS)
def test_every_event_in_every_phase_is_handled_or_refused_by_name(phase: str, kind: str) -> None:
    state = in_phase(phase)
    assert state.phase == phase
    if kind in KNOWN[phase]:
        after = apply(state, kind, PAYLOADS[kind], AT_MS)
        assert after.phase in get_args(Phase)
        return
    with pytest.raises(ConfigError, match=f"{kind}.*{phase}") as refused:
        apply(state, kind, PAYLOADS[kind], AT_MS)
    assert all(known in str(refused.value) for known in KNOWN[phase]), "the refusal names what can follow"


def test_the_table_holds_nothing_beyond_what_is_tested_here() -> None:
    assert set(TABLE) == {(phase, kind) for phase, kinds in KNOWN.items() for kind in kinds}


def test_what_is_due_follows_from_the_phase_alone() -> None:
    expected = {"new": type(None), "asking": AskSeats, "waiting": AskHuman, "ready": Land, "landed": type(None)}
    assert {phase: type(due(in_phase(phase))) for phase in get_args(Phase)} == expected


def test_a_state_is_a_value_two_futures_of_it_do_not_touch() -> None:
    """Catches what one future caches being read by another: positions freeze into options per future."""
    config = make_config("a b", rounds=2)
    state = opened(config)
    assert state.stage is not None
    first, second = state.stage.asks
    state = apply(state, "answered", answered(state.stage, first, valid("position", answer="Paris")), AT_MS)
    assert state.stage is not None

    def future(answer: str) -> State:
        assert state.stage is not None
        return apply(state, "answered", answered(state.stage, second, valid("position", answer=answer)), AT_MS)

    rome, oslo = future("Rome"), future("Oslo")
    assert rome.stage is not None and oslo.stage is not None
    assert rome.stage.options == (("o1", "Paris"), ("o2", "Rome"))
    assert oslo.stage.options == (("o1", "Oslo"), ("o2", "Paris"))
    assert future("Rome") == rome


def test_folding_the_events_again_gives_the_same_state() -> None:
    config = make_config("a b c", rounds=3)
    state, events = play(config, lambda _stage, ask: valid(ask.kind, answer=f"x{ask.agent}"))
    assert fold(config, events) == state
    assert land(fold(config, events)) == land(state)


@pytest.mark.parametrize(
    ("agent", "stage", "cause"), [("a", 1, "duplicate"), ("b", 7, "late"), ("ghost", 1, "late"), ("b", None, "late")]
)
def test_an_answer_that_nobody_waits_for_is_refused_recorded_and_changes_nothing(
    agent: str, stage: int | None, cause: str
) -> None:
    state = opened(make_config("a b", "A=yes,B=no"))
    assert state.stage is not None
    state = apply(state, "answered", answered(state.stage, state.stage.asks[0], valid("position", answer="A")), AT_MS)
    body = {"stage": stage, "agent": agent, "kind": "position", "part": 0, **valid("position", answer="B")}
    after = apply(state, "answered", body, AT_MS)
    assert after.refused == ((agent, cause),)
    assert (after.answers, after.stage, after.phase) == (state.answers, state.stage, state.phase)


def test_a_raised_limit_is_folded_and_a_landed_debate_keeps_its_own() -> None:
    state = in_phase("asking")
    limits = state.config.limits.model_copy(update={"tokens": 500_000}).model_dump()
    assert apply(state, "resumed", {"limits": limits}, AT_MS).config.limits.tokens == 500_000
    landed = in_phase("landed")
    assert apply(landed, "resumed", {"limits": limits}, AT_MS) == landed


def test_the_human_is_asked_again_after_a_word_that_was_not_offered() -> None:
    state = in_phase("waiting")
    after = apply(state, "human", {"choice": "C", "by": "ann", "notes": ""}, AT_MS)
    assert after.phase == "waiting"
    assert after.refused == (("ann", "unknown_option: C"),)
    assert isinstance(due(after), AskHuman)
