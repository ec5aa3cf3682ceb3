"""The submitter and its executor, step by step: the twin of `madflow.commit` that a simulation can stop anywhere.

What is decided is decided by the same functions: `core.journal`, `core.saga`. What differs is only how one waits: each
`yield N` is a point at which the node may die, or be stopped and go on later with what it believed before.

How is a submitter kept from acting that was stopped after its `started`, and goes on when another has taken over?

- Where submitters share a machine, an effect begins under a lock that carries the term: whoever takes over asks for it
  first (`settled`), and from then on no smaller term gets it. This is what `madflow.effects` does.
- Where they share none, there is only time: an attempt's time runs from *before* its `started` is appended, so who was
  stopped finds it used up.

In both, a request never reaches its target after the attempt's time; who takes over waits for that, and then probes.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ...core.journal import CommitState, Direction, Journal, KeyState, slot_of
from ...core.plan import idempotency_key
from ...core.saga import (
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
    Mismatch,
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
    rollback_of,
)
from ...ports import Event, Sealed
from .desk import Desk, LedgerSilent, TermLost
from .world import Request, SimCommit

if TYPE_CHECKING:
    from .cluster import Cluster, Member

__all__ = ["SCOPE", "Execution", "Submitter", "Waiting", "specs_of"]

SCOPE: Final = "sim"
STEP_TICKS: Final = 28
"""How long an attempt may take, in ticks of its submitter's clock."""

SETTLE_TICKS: Final = 37
"""How long one waits for an attempt to be over: its time, and what clocks may differ by."""

COMMIT_TICKS: Final = 400
POLL_TICKS: Final = 8
ATTEMPTS_MAX: Final = 3

Waiting: TypeAlias = Generator[int, None, None]


def specs_of(commit: SimCommit) -> tuple[StepSpec, ...]:
    """What the saga needs to know of the plan."""
    directions: tuple[Direction, Direction] = ("do", "undo")
    return tuple(
        StepSpec(
            index=index,
            keys={direction: idempotency_key(SCOPE, commit.proposal_id, index, direction) for direction in directions},
            digest=f"{commit.proposal_id}/{index}",
            classes=step.classes,
            undoable=step.undoable,
            attempts_max=ATTEMPTS_MAX,
            timeout_ms=STEP_TICKS,
            targets=(step.target,),
        )
        for index, step in enumerate(commit.steps)
    )


class Submitter:
    """One term of one node: seals, reads, recovers, and carries out what is asked."""

    def __init__(self, cluster: Cluster, member: Member, term: int) -> None:
        self.cluster, self.member = cluster, member
        self.desk = Desk(cluster, member, term, Journal())
        self.running: set[str] = set()
        self._told: set[str] = set()

    def serve(self) -> Waiting:
        """Lead until the term is lost."""
        cluster, desk = self.cluster, self.desk
        try:
            yield cluster.delay()
            answer = cluster.ledger.seal(desk.term, Event("term_sealed", {"term": desk.term}))
            yield cluster.delay()
            if not isinstance(answer, Sealed):
                raise TermLost
            cluster.note(self.member, "sealed", [f"term {desk.term}"])
            desk.catch_up()
            recovering = True
            while True:
                desk.check()
                yield from self._resolve()
                self._start(recovering)
                recovering = False
                yield POLL_TICKS
        except (TermLost, LedgerSilent) as error:
            self.end(type(error).__name__)

    def end(self, why: str) -> None:
        """Stop everything under this term."""
        self.desk.lost = True
        self.cluster.note(self.member, "ends", [f"term {self.desk.term}: {why}"])
        self.member.resign(self.desk.term)

    def _resolve(self) -> Waiting:
        """Apply humans' words: the first for a key in doubt counts."""
        for word in self.cluster.people.words_for(self.desk.journal):
            key = self.desk.journal.keys[word.key]
            commit = self.cluster.commits[word.place[0]]
            fields = _step_fields(self.cluster.specs[commit.commit_id][key.index], key.direction, key.attempt)
            said = {"agent_id": word.by, "result": {"as": word.word, "by": word.by}}
            payload = {**self.desk.payload(commit, **fields), **said}
            self.cluster.people.counts(word)
            yield from self.desk.append([("resolved", payload)])

    def _start(self, recovering: bool) -> None:
        for name in list(self.cluster.requested):
            commit, state = self.cluster.commits[name], self.desk.journal.commits.get(name)
            if name in self.running or name in self._told:
                continue
            if state is not None and state.closed:
                self._told.add(name)
                self.cluster.answered(name, state)
            elif state is not None and state.admitted:
                if state.status != "in_doubt" or recovering:
                    self._run(commit, None, settle=recovering)
            elif not self._busy(commit):
                admission = {"targets": list(commit.targets), "steps": len(commit.steps), "policy_digest": "p"}
                self._run(commit, admission, settle=False)

    def _busy(self, commit: SimCommit) -> bool:
        """Whether another commit holds one of its resources."""
        held = {t for name in self.running for t in self.cluster.commits[name].targets}
        for state in self.desk.journal.commits.values():
            if state.admitted and not state.closed:
                held.update(state.targets)
        return not held.isdisjoint(commit.targets)

    def _run(self, commit: SimCommit, admission: Mapping[str, Any] | None, *, settle: bool) -> None:
        self.running.add(commit.commit_id)
        execution = self.cluster.seams.execution(self, commit, admission)
        self.cluster.spawn(self.member, self._guard(execution, settle), 1)

    def _guard(self, execution: Execution, settle: bool) -> Waiting:
        try:
            if settle:
                yield from execution.recover()
            yield from execution.run()
            self.running.discard(execution.plan.commit_id)
        except (TermLost, LedgerSilent) as error:
            self.end(type(error).__name__)


def _step_fields(spec: StepSpec, direction: Direction, attempt: int) -> dict[str, Any]:
    return {
        "step_index": spec.index,
        "direction": direction,
        "idempotency_key": spec.keys[direction],
        "attempt": attempt,
    }


class Execution:
    """One commit under one term; mutants replace its small methods."""

    def __init__(self, submitter: Submitter, plan: SimCommit, admission: Mapping[str, Any] | None) -> None:
        self.cluster, self.member, self.desk = submitter.cluster, submitter.member, submitter.desk
        self.plan, self.specs, self.admission = plan, submitter.cluster.specs[plan.commit_id], admission
        self.deadlines: dict[Direction, int] = {}

    @property
    def commit(self) -> CommitState:
        """Where the commit stands by the journal."""
        found = self.desk.journal.commits.get(self.plan.commit_id)
        return found or CommitState(self.plan.commit_id, self.plan.proposal_id, self.plan.proposal_id)

    def recover(self) -> Waiting:
        """See to it that nothing an earlier submitter began is still to happen, or put it in doubt."""
        for key in list(self.commit.keys.values()):
            if key.status == "started" and not (yield from self.settled(key)):
                yield from self._doubt(key, "still_running")

    def run(self) -> Waiting:
        """Go on until the commit is closed or waits for a human."""
        while True:
            action = self.cluster.seams.due(self.commit, self.specs)
            if isinstance(action, Wait | Finished):
                return
            self.desk.check()
            yield self.cluster.gap(self.member)
            yield from self._perform(action)

    def _perform(self, action: Action) -> Waiting:
        if isinstance(action, Close):
            rollback = rollback_of(self.commit, self.specs) if action.kind == "compensated" else None
            yield from self.desk.append([(action.kind, self.desk.payload(self.plan, rollback=rollback))])
            return
        if isinstance(action, Wait | Finished | Mismatch):
            raise AssertionError(f"{action} cannot be performed")
        spec = self.specs[action.index]
        if isinstance(action, Begin):
            yield from self._begin(spec, action.direction)
            return
        if isinstance(action, Doubt) and action.new:
            intent = self._intent(spec, "undo", "non_verifiable")
            yield from self._record(spec, "undo", [intent, Draft("in_doubt", 0, {"error_code": action.code})])
            return
        key = self.commit.keys[spec.index, action.direction]
        if isinstance(action, Retry):
            yield from self._retry(spec, key, action)
        elif isinstance(action, Probe):
            yield from self._probe(spec, key)
        elif isinstance(action, GiveUp):
            yield from self._record(spec, key.direction, drafts_for_giving_up(key, action.code))
        else:
            yield from self._doubt(key, action.code)

    def _intent(self, spec: StepSpec, direction: Direction, effect_class: str) -> Draft:
        fields = {"step_digest": spec.digest, "effect_class": effect_class, "undoable": spec.undoable, "timeout_ms": 1}
        admission = self.admission if not self.commit.admitted else None
        return Draft("intent", 0, fields if admission is None else {**fields, "admission": admission})

    def _begin(self, spec: StepSpec, direction: Direction) -> Waiting:
        begun = self.member.clock()
        late = direction == "do" and self._left(direction) <= 0
        intent = self._intent(spec, direction, spec.classes[direction])
        if not (yield from self._record(spec, direction, [intent, *self.started(1)])):
            return
        key = self.commit.keys[spec.index, direction]
        if late:
            failed = Failed("commit_deadline", "too late", applied=False)
            yield from self._record(spec, direction, drafts_for_result(spec, key, failed))
        else:
            yield from self._attempt(spec, key, begun)

    def _retry(self, spec: StepSpec, key: KeyState, action: Retry) -> Waiting:
        if self._left(key.direction) <= 0 and not action.lost:
            late = Failed("commit_deadline", "too late", applied=False)
            yield from self._record(spec, key.direction, drafts_for_late(key, late))
            return
        if not action.lost and action.attempt > 1:
            yield 2**action.attempt
        begun = self.member.clock()
        lost = {"error_code": action.reason, "result": {"applied": None}}
        drafts = [Draft("attempt_failed", key.attempt, lost)] if action.lost else []
        started = self.started(action.attempt, action.reason)
        if (drafts or started) and not (yield from self._record(spec, key.direction, [*drafts, *started])):
            return
        yield from self._attempt(spec, self.commit.keys[spec.index, key.direction], begun)

    def started(self, attempt: int, reason: str = "") -> list[Draft]:
        """What makes an attempt durable before anything is done."""
        return [Draft("started", attempt, {"retry_reason": reason or None})]

    def _attempt(self, spec: StepSpec, key: KeyState, begun: int) -> Waiting:
        """Perform the attempt whose `started` is durable, and record what came of it."""
        self.cluster.maybe_stop(self.member)
        yield 0
        self.desk.check()
        begun = self.member.clock() if self.cluster.scenario.locks else begun
        if key.effect_class == "transactional":
            result = yield from self._transact(spec, key)
            if isinstance(result, Done):
                return
        elif not self.may_begin(key):
            result = Failed("deposed", "a later submitter has asked for the lock", applied=False)
        elif self.time_left(begun) <= 0:
            result = Failed("timeout", "no time was left to send it", transient=True, applied=False)
        else:
            result = yield from self._do(spec, key, begun)
        drafts = self.drafts(spec, key, result)
        if drafts:
            yield from self._record(spec, key.direction, drafts)

    def drafts(self, spec: StepSpec, key: KeyState, result: Done | Failed) -> list[Draft]:
        """What to record of the attempt."""
        return drafts_for_result(spec, key, result)

    def may_begin(self, key: KeyState) -> bool:
        """Where there are locks: whether no later submitter has asked for this one."""
        return not self.cluster.scenario.locks or self.cluster.world.lock(key.key, self.desk.term)

    def time_left(self, begun: int) -> int:
        """What is left of the attempt's time, by the node's own clock."""
        return STEP_TICKS - (self.member.clock() - begun)

    def request(self, key: KeyState) -> Request:
        """The effect as it is sent."""
        return Request((self.plan.commit_id, key.index, key.direction), key.key, key.effect_class)

    def _fails(self, key: KeyState) -> Failed | None:
        step = self.plan.steps[key.index]
        return step.fails if key.direction == "do" else step.undo_fails

    def _transact(self, spec: StepSpec, key: KeyState) -> Generator[int, None, Done | Failed]:
        fails = self._fails(key)
        if fails is not None:
            return replace(fails, applied=False)
        if self.cluster.world.fate(quiet=self.cluster.quiet) == "flaky":
            return Failed("busy", "the database is busy", transient=True, applied=False)
        done = {"result": {"status": "done"}}
        payload = self.desk.payload(self.plan, **_step_fields(spec, key.direction, key.attempt), **done)
        kind = f"compensation_{'outcome'}" if key.direction == "undo" else "outcome"
        yield from self.desk.transact(slot_of(kind, payload), Event(kind, payload), self.request(key))
        return Done()

    def _do(self, spec: StepSpec, key: KeyState, begun: int) -> Generator[int, None, Done | Failed]:
        """Send the effect; what comes back, and when, is the world's business."""
        cluster, fails, request = self.cluster, self._fails(key), self.request(key)
        fate = cluster.world.fate(quiet=cluster.quiet)
        if fate == "dies_before":
            cluster.crash(self.member)
            yield 0
        cluster.note(self.member, fate, [f"{key.direction} step {key.index} of {self.plan.commit_id}, {key.attempt}"])
        cluster.world.send(request)
        left = self.time_left(begun)
        if fails is None and fate not in ("request_lost", "flaky"):
            longest = self.member.true_ticks(left)  # within the attempt's time, however little of it is left
            late = cluster.rng.randint(1, longest) if longest and fate in ("late", "dies_late") else 0
            cluster.land(request, late)
        if fate in ("dies_after", "dies_late"):
            cluster.crash(self.member)
        if fate in ("answer_lost", "request_lost", "late"):
            yield left
            return Failed("timeout", "no answer in time", transient=True)
        yield min(left, cluster.delay())
        if fails is not None:
            return fails
        return Failed("busy", "try later", transient=True, applied=False) if fate == "flaky" else Done()

    def settled(self, key: KeyState) -> Generator[int, None, bool]:
        """Wait until nothing of the open attempt can happen any more. Returns whether that is certain."""
        if key.effect_class == "transactional":
            return True
        if self.cluster.scenario.locks:
            self.cluster.world.lock(key.key, self.desk.term)
        yield SETTLE_TICKS
        return self.cluster.quiet or self.cluster.rng.random() > 0.04

    def found(self, key: KeyState) -> Done | Absent | Uncertain:
        """What the target says."""
        if not self.cluster.quiet and self.cluster.rng.random() < 0.1:
            return Uncertain("the target does not answer")
        return Done() if self.cluster.world.has(self.request(key).key) else Absent()

    def _probe(self, spec: StepSpec, key: KeyState) -> Waiting:
        found = self.found(key)
        yield self.cluster.delay()
        yield from self._record(spec, key.direction, drafts_for_probe(spec, key, found))

    def _doubt(self, key: KeyState, code: str) -> Waiting:
        draft = Draft("in_doubt", key.attempt, {"error_code": code})
        yield from self._record(self.specs[key.index], key.direction, [draft])

    def _record(self, spec: StepSpec, direction: Direction, drafts: Sequence[Draft]) -> Generator[int, None, bool]:
        items = []
        for draft in drafts:
            prefix = "compensation_" if direction == "undo" and draft.kind != "in_doubt" else ""
            fields = {**_step_fields(spec, direction, draft.attempt), **draft.fields}
            items.append((f"{prefix}{draft.kind}", self.desk.payload(self.plan, **fields)))
        key = self.commit.keys.get((spec.index, direction))
        end = closed_with(self.commit, self.specs, key, drafts) if key is not None else None
        if end is not None:
            items.append((end.kind, self.desk.payload(self.plan, rollback=None)))
        return (yield from self.desk.append(items))

    def _left(self, direction: Direction) -> int:
        now = self.member.clock()
        return self.deadlines.setdefault(direction, now + COMMIT_TICKS) - now
