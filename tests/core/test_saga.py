"""What a submitter may do about a step, by what it finds: the crash table, the results, and that every saga ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from saga_runner import DIRECTIONS, RESULTS, Saga, spec

from madflow.core.journal import Direction
from madflow.core.plan import EffectClass
from madflow.core.saga import Action, Begin, Close, Doubt, Draft, Failed, Finished, GiveUp, Mismatch, Probe, Retry, Wait

CLASSES: tuple[EffectClass, ...] = ("none", "idempotent", "verifiable", "transactional", "non_verifiable")
LOST = "submitter_lost"


def saga_at(direction: Direction, effect_class: EffectClass, attempts: int = 2) -> Saga:
    """A saga in which step 0 of this class is due; as an undo, because step 1 failed."""
    if direction == "do":
        return Saga([spec(0, effect_class, attempts=attempts)])
    found = Saga([spec(0, "verifiable", effect_class, attempts=attempts), spec(1, "verifiable")])
    found.play("done")
    found.play("refused")
    return found


def after_crash(direction: Direction, effect_class: EffectClass) -> dict[str, Action]:
    """The table: what is due by the crash point."""
    again = Retry(0, direction, 2, LOST, lost=True)
    started: dict[EffectClass, Action] = {
        "none": again,
        "idempotent": again,
        "verifiable": Probe(0, direction),
        "transactional": again,
        "non_verifiable": Doubt(0, direction, LOST),
    }
    return {
        "nothing": Begin(0, direction),
        "intent": Retry(0, direction, 1, ""),
        "started": started[effect_class],
        "outcome": Close("committed" if direction == "do" else "compensated"),
    }


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("effect_class", CLASSES)
@pytest.mark.parametrize("point", ["nothing", "intent", "started", "outcome"])
def test_the_crash_table(point: str, effect_class: EffectClass, direction: Direction) -> None:
    """Catches a class that is repeated where it must not be, or asks a human where it need not."""
    saga = saga_at(direction, effect_class)
    if point == "intent":
        saga.record(saga.specs[0], direction, [saga.intent(0, direction)])
    elif point != "nothing":
        saga.play("crash" if point == "started" else "done")
    assert saga.due() == after_crash(direction, effect_class)[point]
    assert saga.broken() == []


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("answer", "kinds", "due"),
    [
        ("done", ["outcome"], Close),
        ("absent", ["attempt_failed"], Retry),
        ("uncertain", ["in_doubt"], Wait),
        ("crash", [], Probe),
    ],
)
def test_what_a_probe_finds(answer: str, kinds: list[str], due: type, direction: Direction) -> None:
    """Catches a probe's answer that is taken for another, or for certain when it is not."""
    saga = saga_at(direction, "verifiable")
    saga.play("crash")
    before = len(saga.records)
    saga.play(answer)
    assert [record.kind.removeprefix("compensation_") for record in saga.records[before:]] == kinds
    assert isinstance(saga.due(), due)


ENDS = {
    # class: result -> the records after `started`; "F" stands for the end of a failed key, see below
    "none": {"refused": "F", "ran": "F", "busy": "R", "timeout": "R", "broken": "F"},
    "idempotent": {"refused": "F", "ran": "F", "busy": "R", "timeout": "R", "broken": "D"},
    "verifiable": {"refused": "F", "ran": "F", "busy": "R", "timeout": "P", "broken": "P"},
    "transactional": {"refused": "F", "ran": "F", "busy": "R", "timeout": "R", "broken": "F"},
    "non_verifiable": {"refused": "F", "ran": "F", "busy": "F", "timeout": "D", "broken": "D"},
}
KINDS = {"R": ["attempt_failed"], "P": [], "D": ["attempt_failed", "in_doubt"]}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("effect_class", CLASSES)
@pytest.mark.parametrize("result", [name for name in RESULTS if name != "done"])
def test_what_is_recorded_of_a_failure(result: str, effect_class: EffectClass, direction: Direction) -> None:
    """Catches a failure that is retried though it may have happened, or ends though it may be retried; an undo that
    fails ends with a human, never as an outcome."""
    saga = saga_at(direction, effect_class)
    before = len(saga.records) + 2  # the intent and `started`
    saga.play(result)
    end = ENDS[effect_class][result]
    failed = ["attempt_failed", "outcome" if direction == "do" else "in_doubt"]
    assert [r.kind.removeprefix("compensation_") for r in saga.records[before:]] == KINDS.get(end, failed)
    assert saga.broken() == []


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("effect_class", CLASSES)
def test_attempts_are_bounded_crashes_included(effect_class: EffectClass, direction: Direction) -> None:
    """Catches a submitter that dies, is replaced, and tries again for ever."""
    saga, starts = saga_at(direction, effect_class, attempts=3), 0
    while not isinstance(action := saga.due(), Doubt | GiveUp | Probe):
        assert isinstance(action, Begin | Retry), action
        saga.play("crash")
        starts += 1
        assert starts <= 3
    assert starts == {"verifiable": 1, "non_verifiable": 1}.get(effect_class, 3)
    if isinstance(action, Probe):
        return
    certain = effect_class in ("none", "transactional") and direction == "do"
    code = LOST if effect_class == "non_verifiable" else "attempts_used_up"
    assert action == (GiveUp(0, direction, code) if certain else Doubt(0, direction, code))
    saga.play()
    assert saga.due() == (Close("compensated") if certain else Wait((saga.specs[0].keys[direction],)))


def test_what_may_have_happened_never_ends_as_failed() -> None:
    """Catches a timeout that is forgotten because a later attempt was refused: the first may have taken effect, and
    nobody would take it back."""
    saga = saga_at("do", "idempotent", attempts=3)
    saga.play("timeout")
    saga.play("refused")
    assert saga.commit.status == "in_doubt"
    saga.human(0, "do", "retry")
    saga.play("refused")
    assert saga.commit.status == "in_doubt", "the human granted an attempt, and did not say what the first had done"
    saga.human(0, "do", "failed")
    assert saga.due() == Close("compensated")


def test_a_lost_last_attempt_is_not_forgotten_by_a_human_who_grants_another() -> None:
    """Catches a retry after which only the granted attempt counts."""
    saga = saga_at("do", "idempotent", attempts=1)
    saga.play("crash")
    assert saga.play() == Doubt(0, "do", "attempts_used_up")
    saga.human(0, "do", "retry")
    saga.play("refused")
    assert saga.commit.status == "in_doubt"


def test_what_a_probe_never_finds_is_not_tried_for_ever() -> None:
    """Catches a verifiable step without a bound: it certainly did not happen, each time."""
    saga = saga_at("do", "verifiable", attempts=2)
    for result in ("crash", "absent", "timeout", "absent"):
        saga.play(result)
    assert saga.due() == Close("compensated")
    assert saga.commit.keys[0, "do"].error_code == "attempts_used_up"


def test_a_later_success_answers_for_the_attempts_before() -> None:
    """Catches a doubt that outlives its answer."""
    saga = saga_at("do", "idempotent", attempts=3)
    saga.play("timeout")
    saga.play("done")
    assert saga.due() == Close("committed")


def test_a_certain_failure_is_no_doubt() -> None:
    """Catches a human who is asked about nothing."""
    saga = saga_at("do", "idempotent", attempts=3)
    saga.play("busy")
    saga.play("refused")
    assert saga.due() == Close("compensated")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("before", ["busy", "timeout", "human"])
@pytest.mark.parametrize("effect_class", ["idempotent", "non_verifiable"])
def test_no_time_is_left(effect_class: EffectClass, before: str, direction: Direction) -> None:
    """Catches a record that would take a slot again, so that a submitter asks the ledger for ever; and a step that
    ends as failed though it may have happened."""
    saga = saga_at(direction, effect_class)
    saga.play("crash" if before == "human" else before)
    if before == "human" or effect_class == "non_verifiable":
        for _ in range(4):
            if not saga.commit.doubts and not isinstance(saga.due(), Close):
                saga.play("crash")
        if isinstance(saga.due(), Close):
            return
        saga.human(0, direction, "retry")
    assert isinstance(saga.due(), Retry)
    saga.late(0, direction)
    certain = before == "busy" and direction == "do"
    assert isinstance(saga.due(), Close if certain else Wait)
    assert saga.broken() == []


def test_no_time_is_left_before_anything_was_tried() -> None:
    """Catches a step that nobody began and that waits for a human."""
    saga = saga_at("do", "non_verifiable")
    saga.record(saga.specs[0], "do", [saga.intent(0, "do")])
    saga.late(0, "do")
    assert saga.due() == Close("compensated")
    assert saga.broken() == []


def test_another_step_under_the_key_is_refused() -> None:
    """Catches a plan that was changed after its intent."""
    saga = saga_at("do", "verifiable")
    saga.play("crash")
    saga.specs = (spec(0, "verifiable"),)
    assert saga.due() == Probe(0, "do")
    saga.specs = (spec(1, "verifiable"),)
    object.__setattr__(saga.specs[0], "index", 0)
    assert saga.due() == Mismatch(0, "do")


def test_another_step_under_the_key_of_an_undo_is_refused() -> None:
    """Catches a compensation of something else."""
    saga = saga_at("undo", "verifiable")
    intent = saga.intent(0, "undo")
    saga.record(saga.specs[0], "undo", [Draft("intent", 0, {**intent.fields, "step_digest": "another"})])
    assert saga.due() == Mismatch(0, "undo")


def test_what_has_no_undo_waits_for_a_human_at_its_turn() -> None:
    """Catches a compensation that skips what it cannot take back, or that asks before the later steps are undone."""
    saga = Saga([spec(0, "verifiable", undoable="no"), spec(1, "verifiable"), spec(2, "verifiable")])
    for result in ("done", "done", "refused"):
        saga.play(result)
    assert saga.play("done") == Begin(1, "undo")
    assert saga.play() == Doubt(0, "undo", "no_undo", new=True)
    saga.human(0, "undo", "failed")
    assert saga.play() == Close("compensated")
    assert saga.records[-1].payload["rollback"] == "partial"
    assert saga.broken() == []


def test_a_human_who_grants_an_attempt_grants_one() -> None:
    """Catches a word that opens the door for good."""
    saga = saga_at("do", "non_verifiable")
    saga.play("crash")
    saga.play()
    saga.human(0, "do", "retry")
    assert saga.play("crash") == Retry(0, "do", 2, "granted by ann")
    assert saga.due() == Doubt(0, "do", LOST)


def test_draft_and_failure_have_safe_defaults() -> None:
    """Catches a failure that counts as certain or repeatable unless it says so."""
    assert Failed("x", "y").applied is None
    assert Failed("x", "y").transient is False
    assert Draft("started", 1).fields == {}


_STEP = st.tuples(
    st.sampled_from(CLASSES),
    st.sampled_from(CLASSES),
    st.sampled_from(["yes", "yes", "no", "nothing"]),
    st.integers(1, 3),
)
_PLAYS = st.sampled_from([*RESULTS, "crash", "crash", "dead", "absent", "uncertain", "late"])
_WORDS = st.sampled_from(["done", "failed", "retry"])


@given(st.lists(_STEP, min_size=1, max_size=4), st.data())
def test_every_saga_ends_or_waits_for_a_human(
    steps: list[tuple[EffectClass, EffectClass, str, int]], data: st.DataObject
) -> None:
    """Catches a livelock, a slot that is asked for twice, a compensation out of order, and any broken promise of the
    records, whatever happens in whatever order."""
    saga = Saga([spec(i, do, undo, can, attempts=n) for i, (do, undo, can, n) in enumerate(steps)])
    words, dead, asked = 0, 0, 0
    bound = sum(2 * 2 * (n + 1) for *_, n in steps) + len(steps) + 2
    while not isinstance(action := saga.due(), Finished):
        asked += 1
        if isinstance(action, Wait):
            word = data.draw(_WORDS) if words < 5 else data.draw(st.sampled_from(["done", "failed"]))
            words += 1
            saga.human(saga.commit.doubts[0].index, saga.commit.doubts[0].direction, word)
        else:
            dead += _play(saga, action, data)
        assert asked <= bound + dead + 5 * words, [record.kind for record in saga.records]
    assert saga.broken() == []
    undone = [r.payload["step_index"] for r in saga.records if r.kind == "compensation_intent"]
    assert undone == sorted(undone, reverse=True)


def _play(saga: Saga, action: Action, data: st.DataObject) -> bool:
    """One action with a drawn result; whether it left nothing behind."""
    before, drawn = len(saga.records), data.draw(_PLAYS)
    if isinstance(action, Probe):
        drawn = drawn if drawn in ("done", "absent", "uncertain") else data.draw(st.sampled_from(["done", "absent"]))
    elif drawn in ("absent", "uncertain"):
        drawn = "refused"
    if drawn == "late" and isinstance(action, Retry) and not action.lost:
        saga.late(action.index, action.direction)
    else:
        saga.play("busy" if drawn == "late" else drawn)
    return len(saga.records) == before
