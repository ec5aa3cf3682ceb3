"""What `ledger verify` says of commit records: nothing of good ones, and the broken promise of each planted defect."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.invariants import VIOLATIONS_MAX, violations
from madflow.core.journal import KINDS, commit_id
from madflow.core.plan import STEPS_MAX, idempotency_key

SCOPE, PROPOSAL = "here", "p1"


@dataclass
class Rec:
    seq: int
    kind: str
    payload: dict[str, Any]
    at_ms: int = 0


class Story:
    """Builds a stream; every method appends one record that is right unless its fields say otherwise."""

    def __init__(self) -> None:
        self.records: list[Rec] = []
        self.term = 0

    def put(self, kind: str, **payload: Any) -> "Story":
        self.records.append(Rec(len(self.records) + 1, kind, {"term": self.term, **payload}))
        return self

    def seal(self, term: int) -> "Story":
        self.term = term
        return self.put("term_sealed")

    def of(self, kind: str, proposal: str = PROPOSAL, **payload: Any) -> "Story":
        who = {"commit_id": commit_id(SCOPE, proposal), "proposal_id": proposal, "proposal_digest": f"d-{proposal}"}
        return self.put(kind, **{**who, "agent_id": "node", **payload})

    def step(self, kind: str, index: int, attempt: int, *, undo: bool = False, **more: Any) -> "Story":
        direction, proposal = ("undo" if undo else "do"), more.get("proposal", PROPOSAL)
        prefix = "compensation_" if undo and kind not in ("in_doubt", "resolved") else ""
        fields = {
            "step_index": index,
            "direction": direction,
            "attempt": attempt,
            "idempotency_key": idempotency_key(SCOPE, proposal, index, direction),
        }
        return self.of(f"{prefix}{kind}", **{**fields, **more})

    def intent(
        self, index: int, *, undo: bool = False, steps: int = 2, cls: str = "verifiable", **more: Any
    ) -> "Story":
        admission = {"admission": {"targets": [], "steps": steps}} if index == 0 and not undo else {}
        fields = {"step_digest": f"s{index}", "effect_class": cls, "undoable": "yes", **admission}
        return self.step("intent", index, 0, undo=undo, **{**fields, **more})

    def started(self, index: int, attempt: int = 1, **more: Any) -> "Story":
        return self.step("started", index, attempt, **more)

    def lost(self, index: int, attempt: int = 1, **more: Any) -> "Story":
        return self.step("attempt_failed", index, attempt, **more)

    def outcome(self, index: int, status: str = "done", attempt: int = 1, **more: Any) -> "Story":
        return self.step("outcome", index, attempt, result={"status": status}, **more)

    def doubt(self, index: int, attempt: int = 1, **more: Any) -> "Story":
        return self.step("in_doubt", index, attempt, **more)

    def resolved(self, index: int, word: str, attempt: int = 1, **more: Any) -> "Story":
        return self.step("resolved", index, attempt, result={"as": word}, **more)

    def done(self, index: int, **more: Any) -> "Story":
        return self.intent(index, **more).started(index).outcome(index)

    def undone(self, index: int) -> "Story":
        return self.intent(index, undo=True).started(index, undo=True).outcome(index, undo=True)

    def failed(self, index: int, **more: Any) -> "Story":
        return self.intent(index, **more).started(index).lost(index).outcome(index, "failed")

    def check(self) -> list[str]:
        return violations(self.records, scope=SCOPE)


def story() -> Story:
    return Story().seal(1)


def key_of(index: int) -> str:
    return idempotency_key(SCOPE, PROPOSAL, index, "do")


GOOD: dict[str, Callable[[], Story]] = {
    "nothing": Story,
    "committed": lambda: story().done(0).done(1).of("committed"),
    "compensated": lambda: (
        story().done(0, steps=3).done(1).failed(2).undone(1).undone(0).of("compensated")
    ),
    "over two terms": lambda: (
        story().intent(0).started(0).seal(4).lost(0).started(0, 2).outcome(0, attempt=2).done(1).of("committed")
    ),
    "a human grants another attempt": lambda: (
        story().intent(0, steps=1, cls="non_verifiable").started(0).doubt(0).resolved(0, "retry").started(0, 2)
        .outcome(0, attempt=2).of("committed")
    ),
    "a human says done": lambda: story().intent(0, steps=1).started(0).doubt(0).resolved(0, "done").of("committed"),
    "a human leaves what has no undo": lambda: (
        story().done(0).failed(1).intent(0, undo=True, undoable="no").doubt(0, 0, undo=True)
        .resolved(0, "failed", 0, undo=True).of("compensated")
    ),
    "nothing to undo": lambda: story().done(0, undoable="nothing").failed(1).of("compensated"),
    "rejected, then admitted": lambda: story().of("rejected").done(0, steps=1).of("committed"),
    "two commits interleaved": lambda: (
        story().intent(0).intent(0, proposal="p2").started(0, proposal="p2").started(0)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_is_right_is_no_violation(name: str) -> None:
    """Catches a check that is stricter than the promise."""
    assert GOOD[name]().check() == []


BAD: dict[str, tuple[Callable[[], Story], str]] = {
    "a term again": (lambda: story().seal(1), "strictly increase"),
    "a term that goes back": (lambda: story().seal(5).seal(3), "term 3 is sealed after term 5"),
    "a deposed leader writes": (lambda: story().intent(0).seal(2).started(0, term=1), "written in term 1"),
    "before any term": (lambda: Story().of("rejected", term=1), "the term sealed last is none"),
    "a record of the future": (lambda: story().intent(0, term=7), "written in term 7"),
    "no intent": (lambda: story().started(0), "has no intent"),
    "an outcome without started": (lambda: story().intent(0).outcome(0), "the last one started is none"),
    "two outcomes": (lambda: story().done(0).outcome(0), "terminal record is the last"),
    "a human after the outcome": (lambda: story().done(0).resolved(0, "failed"), "terminal record is the last"),
    "started after the outcome": (lambda: story().done(0).started(0, 2), "terminal record is the last"),
    "an attempt left out": (lambda: story().intent(0).started(0).lost(0).started(0, 3), "consecutive"),
    "an attempt again": (lambda: story().intent(0).started(0).lost(0).started(0, 1), "consecutive"),
    "two attempts at once": (lambda: story().intent(0).started(0).started(0, 2), "while attempt 1 has no end"),
    "an attempt fails twice": (lambda: story().intent(0).started(0).lost(0).lost(0), "no attempt is open"),
    "another attempt's end": (lambda: story().intent(0).started(0).lost(0, 2), "attempt 2 fails"),
    "another attempt's outcome": (lambda: story().intent(0).started(0).outcome(0, attempt=2), "attempt 2"),
    "done after it failed": (lambda: story().intent(0).started(0).lost(0).outcome(0), "no attempt is open"),
    "non-verifiable, again by itself": (
        lambda: story().intent(0, cls="non_verifiable").started(0).lost(0).started(0, 2),
        "for which a human granted 0",
    ),
    "non-verifiable, more than was granted": (
        lambda: story().intent(0, cls="non_verifiable").started(0).doubt(0).resolved(0, "retry").started(0, 2)
        .lost(0, 2).started(0, 3),
        "for which a human granted 1",
    ),
    "attempted while in doubt": (lambda: story().intent(0).started(0).doubt(0).started(0, 2), "in doubt"),
    "an outcome while in doubt": (lambda: story().intent(0).started(0).doubt(0).outcome(0), "in doubt"),
    "in doubt twice": (lambda: story().intent(0).started(0).doubt(0).doubt(0), "in doubt already"),
    "in doubt about another attempt": (lambda: story().intent(0).started(0).doubt(0, 2), "attempt 2 is in doubt"),
    "resolved without a doubt": (lambda: story().intent(0).started(0).resolved(0, "done"), "not in doubt"),
    "resolved about another attempt": (
        lambda: story().intent(0).started(0).doubt(0).resolved(0, "retry", 2), "attempt 2 is resolved",
    ),
    "resolved by nobody": (
        lambda: story().intent(0).started(0).doubt(0).resolved(0, "done", agent_id=""), "by nobody",
    ),
    "resolved as something else": (lambda: story().intent(0).started(0).doubt(0).resolved(0, "maybe"), "'maybe'"),
    "no outcome at all": (lambda: story().intent(0).started(0).outcome(0, "perhaps"), "'perhaps'"),
    "out of order": (lambda: story().intent(0, steps=3).started(0).intent(1), "before step 0 is done"),
    "a step left out": (lambda: story().done(0, steps=3).done(2), "before step 1 is done"),
    "on after a failure": (lambda: story().failed(0, steps=2).intent(1), "begins after step 0 failed"),
    "compensated for no reason": (lambda: story().done(0).undone(0), "no step of commit"),
    "what was not done is undone": (
        lambda: story().done(0, steps=3).failed(1).undone(1), "was not done",
    ),
    "the undo of a later step comes late": (
        lambda: story().done(0, steps=3).done(1).failed(2).undone(0), "before step 1, which comes first",
    ),
    "forward compensation": (
        lambda: story().done(0, steps=3).done(1).failed(2).undone(0).undone(1), "from the last to the first",
    ),
    "the next undo begins too early": (
        lambda: story().done(0, steps=3).done(1).failed(2).intent(1, undo=True).intent(0, undo=True),
        "before step 1, which comes first",
    ),
    "undone twice": (
        lambda: story().done(0).failed(1).undone(0).intent(0, undo=True), "has an intent already",
    ),
    "an undo fails without a human": (
        lambda: story().done(0).failed(1).intent(0, undo=True).started(0, undo=True)
        .outcome(0, "failed", undo=True),
        "without asking a human",
    ),
    "committed too early": (lambda: story().done(0).of("committed"), "step 1 of the 2"),
    "committed with nothing": (lambda: story().of("committed"), "was never admitted"),
    "committed after a failure": (lambda: story().done(0).failed(1).of("committed"), "step 1 of the 2"),
    "committed and compensated": (
        lambda: story().done(0).failed(1).undone(0).of("committed"), "has compensations",
    ),
    "compensated, nothing failed": (lambda: story().done(0).done(1).of("compensated"), "no step of commit"),
    "compensated, not undone": (lambda: story().done(0).failed(1).of("compensated"), "neither undone"),
    "compensated, undo in doubt": (
        lambda: story().done(0).failed(1).intent(0, undo=True).started(0, undo=True).doubt(0, undo=True)
        .of("compensated"),
        "neither undone",
    ),
    "after the end": (lambda: story().done(0, steps=1).of("committed").intent(1), "nothing comes after"),
    "closed twice": (lambda: story().done(0, steps=1).of("committed").of("committed"), "nothing comes after"),
    "rejected after it was admitted": (lambda: story().intent(0).of("rejected"), "rejected after"),
    "another step under the key": (lambda: story().intent(0).intent(0, step_digest="x"), "another step under key"),
    "two intents": (lambda: story().intent(0).intent(0), "a second intent"),
    "the key of another step": (
        lambda: story().done(0).intent(1, idempotency_key=key_of(7)), "the key of step 1",
    ),
    "a key used for another step": (
        lambda: story().done(0).intent(1).step("started", 0, 1, idempotency_key=key_of(1)),
        "names another step",
    ),
    "another digest than the intent's": (lambda: story().intent(0).started(0, step_digest="x"), "another step than"),
    "a do record of an undo": (
        lambda: story().done(0).failed(1).intent(0, undo=True).of(
            "started", step_index=0, direction="undo", attempt=1,
            idempotency_key=idempotency_key(SCOPE, PROPOSAL, 0, "undo"),
        ),
        "names another step",
    ),
    "another scope's commit": (lambda: story().of("rejected", commit_id="c-1"), "not the id of proposal"),
    "another proposal": (lambda: story().intent(0).started(0, proposal_digest="x"), "names another"),
    "no admission": (lambda: story().intent(0, admission=None), "carries no admission"),
    "admitted twice": (lambda: story().done(0).intent(1, admission={"steps": 2}), "was admitted before"),
    "beyond what was admitted": (lambda: story().done(0, steps=1).intent(1), "beyond the 1 admitted"),
    "more than a plan may have": (lambda: story().intent(0, steps=STEPS_MAX + 1), f"the limit is {STEPS_MAX}"),
    "no class": (lambda: story().intent(0, cls="magic"), "no effect class"),
    "the wrong direction": (lambda: story().intent(0, direction="undo"), "the direction of this kind"),
    "no kind": (lambda: story().of("paid"), "no kind of commit record"),
    "no attempt": (lambda: story().intent(0).step("started", 0, True), "attempt is True"),
    "no result": (lambda: story().intent(0).started(0).step("outcome", 0, 1), "result is missing"),
    "no name": (lambda: story().of("committed", commit_id=7), "commit_id is 7"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_planted_violation_is_named(name: str) -> None:
    """Each entry is one broken promise; catches a check that is left out, or that blames another record."""
    make, said = BAD[name]
    planted = make()
    found = planted.check()
    assert any(said in line for line in found), found
    assert found[0].startswith("record ")


def test_the_scope_is_read_from_the_stream_where_nobody_names_it() -> None:
    """Catches a check of keys that is skipped because no scope was given."""

    class Streamed(Rec):
        stream = "commit/elsewhere"

    records = [Streamed(r.seq, r.kind, r.payload) for r in story().intent(0).records]
    found = violations(records)
    assert any("not the id of proposal" in line for line in found)
    assert violations(story().intent(0).records) == []


def test_a_step_has_one_key_where_nobody_knows_the_scope() -> None:
    """Catches a submitter that takes another key for each attempt, in a stream that does not name its scope."""
    planted = story().intent(0).intent(0, idempotency_key="another", admission=None)
    assert any("has another key already" in line for line in violations(planted.records))


def test_the_list_is_bounded() -> None:
    """Catches a report that grows with a broken ledger."""
    planted = story()
    for _ in range(10_000):
        planted.seal(1)
    found = planted.check()
    assert len(found) == VIOLATIONS_MAX + 1
    assert f"more than {VIOLATIONS_MAX}" in found[-1]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = ("term", "commit_id", "proposal_id", "proposal_digest", "step_index", "attempt", "idempotency_key", "result",
           "admission", "effect_class", "undoable", "step_digest", "direction", "agent_id")  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from((*KINDS, "x")), st.sampled_from(_FIELDS), _JSON), max_size=8))
def test_forged_fields_never_raise(forged: list[tuple[str, str, Any]]) -> None:
    """Catches an exception where a violation is due: verify must survive whatever is in the file."""
    planted = GOOD["compensated"]()
    for kind, name, value in forged:
        planted.of(kind, **{"idempotency_key": idempotency_key(SCOPE, PROPOSAL, 0, "do"), "attempt": 1, name: value})
    assert all(isinstance(line, str) for line in planted.check())
