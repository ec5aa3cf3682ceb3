"""A saga driven by hand: asks what is due, plays an attempt's result, appends what has to be recorded.

Results of an attempt, by name, with what they say of the effect:

    done        it happened                          busy      it did not, and may be tried again
    refused     it did not, for good                 timeout   not known, and may be tried again
    ran         it ran and failed, for good          broken    not known, for good
    crash       `started` is durable, and nothing more is known          dead    not even that

A probe answers done, absent, uncertain or crash.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from madflow.core.invariants import violations
from madflow.core.journal import CommitState, Direction, Journal, commit_id, slot_of
from madflow.core.plan import EffectClass, Undoable, idempotency_key
from madflow.core.saga import (
    Absent,
    Action,
    Begin,
    Close,
    Done,
    Doubt,
    Draft,
    Failed,
    Finished,
    GiveUp,
    Probe,
    Retry,
    StepSpec,
    Uncertain,
    Wait,
    closed_with,
    drafts_for_giving_up,
    drafts_for_late,
    drafts_for_probe,
    drafts_for_result,
    due,
    rollback_of,
)

SCOPE, PROPOSAL = "here", "p1"
DIRECTIONS: tuple[Direction, Direction] = ("do", "undo")
RESULTS: Mapping[str, Done | Failed] = {
    "done": Done({"exit": 0}),
    "refused": Failed("refused", "no", applied=False),
    "ran": Failed("exit_code", "exit 1", applied=True),
    "busy": Failed("busy", "later", transient=True, applied=False),
    "timeout": Failed("timeout", "no answer", transient=True),
    "broken": Failed("broken", "half an answer"),
}
PROBES: Mapping[str, Done | Absent | Uncertain] = {
    "done": Done(),
    "absent": Absent(),
    "uncertain": Uncertain("no answer"),
}


@dataclass
class Rec:
    seq: int
    kind: str
    payload: dict[str, Any]
    at_ms: int = 0
    stream: str = f"commit/{SCOPE}"


def spec(
    index: int, do: EffectClass, undo: EffectClass = "verifiable", undoable: Undoable = "yes", *, attempts: int = 2
) -> StepSpec:
    return StepSpec(
        index=index,
        keys={
            "do": idempotency_key(SCOPE, PROPOSAL, index, "do"),
            "undo": idempotency_key(SCOPE, PROPOSAL, index, "undo"),
        },
        digest=f"step-{index}",
        classes={"do": do, "undo": undo},
        undoable=undoable,
        attempts_max=attempts,
    )


class Saga:
    """One commit; `records` is its stream."""

    def __init__(self, specs: Sequence[StepSpec]) -> None:
        self.specs, self.commit_id = tuple(specs), commit_id(SCOPE, PROPOSAL)
        self.records: list[Rec] = []
        self.journal = Journal()
        self.slots: set[str] = set()
        self.put("term_sealed", {"term": 1})

    @property
    def commit(self) -> CommitState:
        return self.journal.commits.get(self.commit_id) or CommitState(self.commit_id, PROPOSAL, "d")

    def due(self) -> Action:
        return due(self.commit, self.specs)

    def put(self, kind: str, payload: Mapping[str, Any]) -> None:
        full = {"term": 1, "commit_id": self.commit_id, "proposal_id": PROPOSAL, "proposal_digest": "d", **payload}
        slot = slot_of(kind, full)
        assert slot not in self.slots, f"{slot} is taken: a ledger would refuse {kind}, and nothing would go on"
        self.slots.add(slot)
        record = Rec(len(self.records) + 1, kind, {"agent_id": "n", **full})
        self.records.append(record)
        self.journal.add(record)

    def record(self, at: StepSpec, direction: Direction, drafts: Sequence[Draft]) -> None:
        key = self.commit.keys.get((at.index, direction))
        end = closed_with(self.commit, self.specs, key, drafts) if key is not None else None
        for draft in drafts:
            prefix = "compensation_" if direction == "undo" and draft.kind not in ("in_doubt", "resolved") else ""
            who = {"step_index": at.index, "direction": direction, "idempotency_key": at.keys[direction]}
            self.put(f"{prefix}{draft.kind}", {**who, "attempt": draft.attempt, **draft.fields})
        if drafts and drafts[-1].kind != "resolved":  # a human's word is recorded by itself
            assert (end or "goes on") == (self.due() if self.due() == Close("committed") else "goes on")

    def human(self, index: int, direction: Direction, word: str) -> None:
        key = self.commit.keys[index, direction]
        said = {"agent_id": "ann", "result": {"as": word}}
        self.record(self.specs[index], direction, [Draft("resolved", key.attempt, said)])

    def late(self, index: int, direction: Direction) -> None:
        """The commit has no time left when another attempt is due."""
        why = Failed("commit_deadline", "too late", applied=False)
        self.record(self.specs[index], direction, drafts_for_late(self.commit.keys[index, direction], why))

    def play(self, result: str = "done") -> Action:
        """Perform what is due, with this result of an attempt or a probe; returns what was due."""
        action = self.due()
        if isinstance(action, Close):
            self.put(action.kind, {"rollback": rollback_of(self.commit, self.specs)})
        elif isinstance(action, Begin | Retry):
            if result != "dead":
                self._start(action)
                self._attempt(action, result)
        elif isinstance(action, Probe | Doubt | GiveUp):
            self._other(action, result)
        else:
            assert isinstance(action, Wait | Finished), action
        return action

    def intent(self, index: int, direction: Direction) -> Draft:
        at = self.specs[index]
        fields: dict[str, Any] = {
            "step_digest": at.digest,
            "effect_class": at.classes[direction],
            "undoable": at.undoable,
        }
        if not self.commit.admitted:
            fields["admission"] = {"targets": [], "steps": len(self.specs)}
        return Draft("intent", 0, fields)

    def _start(self, action: Begin | Retry) -> None:
        at = self.specs[action.index]
        if isinstance(action, Begin):
            drafts = [self.intent(action.index, action.direction), Draft("started", 1)]
        else:
            key = self.commit.keys[action.index, action.direction]
            lost = Draft("attempt_failed", key.attempt, {"error_code": action.reason, "result": {"applied": None}})
            drafts = [*([lost] if action.lost else []), Draft("started", action.attempt)]
        self.record(at, action.direction, drafts)

    def _attempt(self, action: Begin | Retry, result: str) -> None:
        at, key = self.specs[action.index], self.commit.keys[action.index, action.direction]
        if result != "crash":
            self.record(at, action.direction, drafts_for_result(at, key, RESULTS[result]))

    def _other(self, action: Probe | Doubt | GiveUp, result: str) -> None:
        at, direction = self.specs[action.index], action.direction
        if isinstance(action, Doubt):
            intent = [self.intent(action.index, direction)] if action.new else []
            attempt = 0 if action.new else self.commit.keys[action.index, direction].attempt
            self.record(at, direction, [*intent, Draft("in_doubt", attempt, {"error_code": action.code})])
            return
        key = self.commit.keys[action.index, direction]
        if isinstance(action, GiveUp):
            self.record(at, direction, drafts_for_giving_up(key, action.code))
        elif result != "crash":
            self.record(at, direction, drafts_for_probe(at, key, PROBES[result]))

    def broken(self) -> list[str]:
        return violations(self.records)
