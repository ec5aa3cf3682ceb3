"""The simulated executor and the real one, given the same plan and the same results, write the same records.

What the simulation shows of its twin is worth as much as the two are alike.
"""

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from madflow.commit.desk import Desk
from madflow.commit.executor import Execution as RealExecution
from madflow.commit.specs import Work
from madflow.core.invariants import violations
from madflow.core.journal import KeyState, commit_id
from madflow.core.plan import EffectClass
from madflow.core.policy import Policy
from madflow.core.saga import Absent, Done, Failed, StepSpec, Uncertain
from madflow.errors import EffectError
from madflow.ports import EffectContext, Entry, Event, Record, Term
from madflow.testing.clock import ManualClock
from madflow.testing.simulation.cluster import Cluster
from madflow.testing.simulation.model_ledger import ModelLedger
from madflow.testing.simulation.mutants import Seams
from madflow.testing.simulation.submitter import SCOPE, Execution, Submitter, specs_of
from madflow.testing.simulation.world import SimCommit, SimStep

CLASSES: tuple[EffectClass, ...] = ("none", "idempotent", "verifiable", "transactional", "non_verifiable")
RESULTS: Mapping[str, Done | Failed] = {
    "done": Done(),
    "refused": Failed("refused", "no", applied=False),
    "ran": Failed("exit_code", "exit 1", applied=True),
    "busy": Failed("busy", "later", transient=True, applied=False),
    "timeout": Failed("timeout", "no answer", transient=True),
    "broken": Failed("broken", "half an answer"),
}
PROBES: Mapping[str, Done | Absent | Uncertain] = {"done": Done(), "absent": Absent(), "uncertain": Uncertain("?")}


class Script:
    """Results in the order in which they are asked for; when they are used up, everything is done."""

    def __init__(self, attempts: Sequence[str], probes: Sequence[str] = ()) -> None:
        self._attempts, self._probes = list(attempts), list(probes)

    def attempt(self, effect_class: str) -> Done | Failed:
        result = RESULTS[self._attempts.pop(0) if self._attempts else "done"]
        if effect_class == "transactional" and isinstance(result, Failed):
            return Failed(result.code, result.message, transient=result.transient, applied=False)
        return result

    def probe(self) -> Done | Absent | Uncertain:
        return PROBES[self._probes.pop(0) if self._probes else "done"]


class Plain:
    """A `FencedLedger` around the simulation's: as much of it as a desk uses."""

    def __init__(self, model: ModelLedger) -> None:
        self.model = model

    async def append(self, scope: str, term: int, entries: Sequence[Entry]) -> Any:
        return self.model.append(term, entries)

    async def transact(
        self, scope: str, term: int, slot: str, work: Callable[[Any], Event], *, timeout_s: float
    ) -> Any:
        return self.model.transact(term, slot, lambda: work(None))

    def read(self, stream: str, *, after: int = 0, pruned: str = "raise") -> list[Record]:
        return self.model.records[after:] if stream == f"commit/{SCOPE}" else []


class Scripted:
    """An effect whose results come from a script."""

    def __init__(self, script: Script, classes: Mapping[tuple[int, str], str], plan: Sequence[Any]) -> None:
        self._script, self._classes, self._plan = script, classes, plan

    async def prepare(self, step: Any, ctx: EffectContext) -> Any:
        return {}

    async def do(self, step: Any, facts: Any, ctx: EffectContext) -> Any:
        return self._script.attempt(self._classes[step["index"], ctx.direction])

    async def probe(self, step: Any, facts: Any, ctx: EffectContext) -> Any:
        return self._script.probe()

    async def settled(self, step: Any, ctx: EffectContext) -> bool:
        return True

    def work(self, step: Any, facts: Any, ctx: EffectContext) -> Callable[[Any], Any]:
        result = self._script.attempt("transactional")

        def run(_: Any) -> dict[str, Any]:
            if isinstance(result, Failed):
                raise EffectError(result.code, result.message, transient=result.transient, applied=False)
            return {}

        return run


class Twin(Execution):
    """The simulated executor with a script for a world."""

    script: Script

    def _do(self, spec: StepSpec, key: KeyState, begun: int) -> Generator[int, None, Done | Failed]:
        yield 1
        return self.script.attempt(key.effect_class)

    def _transact(self, spec: StepSpec, key: KeyState) -> Generator[int, None, Done | Failed]:
        result = self.script.attempt("transactional")
        return result if isinstance(result, Failed) else (yield from super()._transact(spec, key))

    def found(self, key: KeyState) -> Done | Absent | Uncertain:
        return self.script.probe()


def plan_of(*classes: tuple[EffectClass, EffectClass]) -> SimCommit:
    steps = tuple(SimStep({"do": do, "undo": undo}, "yes", "file:a") for do, undo in classes)
    return SimCommit(commit_id(SCOPE, "p"), "p", steps, ("file:a",))


def admission_of(commit: SimCommit) -> dict[str, Any]:
    return {"targets": list(commit.targets), "steps": len(commit.steps), "policy_digest": "p"}


def shown(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    names = ("step_index", "direction", "attempt", "error_code", "effect_class", "admission", "rollback")
    rows = []
    for record in records:
        result = record.payload.get("result") or {}
        said = tuple(result.get(name) for name in ("status", "applied", "learnt_by"))
        rows.append((record.kind, *(record.payload.get(name) for name in names), *said))
    return rows


async def really(commit: SimCommit, script: Script, before: Sequence[Record]) -> list[tuple[Any, ...]]:
    ledger = ModelLedger(SCOPE, now=lambda: 0, stored=lambda *_: None, believes=lambda _: True)
    refill(ledger, before)
    specs = specs_of(commit)
    plan = tuple({"step": "call", "index": spec.index} for spec in specs)
    classes = {(spec.index, str(direction)): kind for spec in specs for direction, kind in spec.classes.items()}
    effect: Any = Scripted(script, classes, plan)
    desk = Desk(
        ledger=Plain(ledger),  # type: ignore[arg-type]
        scope=SCOPE,
        term=Term(SCOPE, ledger.term, "n"),
        clock=ManualClock(),
        root=Path("nowhere"),
        run_dir=Path("nowhere"),
        policy=Policy(),
        effects={"call": effect},
        steps={},
    )
    desk.catch_up()
    work = Work(commit.commit_id, commit.proposal_id, commit.proposal_id, "t", plan, specs, commit.targets)
    execution = RealExecution(desk, work, admission=admission_of(commit))
    await execution.recover()
    await execution.run()
    assert violations(ledger.records) == []
    return shown(ledger.records)


def simulated(commit: SimCommit, script: Script, before: Sequence[Record]) -> tuple[ModelLedger, list[tuple[Any, ...]]]:
    cluster = Cluster(random.Random(1), Seams())
    cluster.quiet = True
    cluster.commits, cluster.specs = {commit.commit_id: commit}, {commit.commit_id: specs_of(commit)}
    refill(cluster.ledger, before)
    submitter = Submitter(cluster, next(iter(cluster.members.values())), cluster.ledger.term)
    submitter.desk.catch_up()
    twin = Twin(submitter, commit, admission_of(commit))
    twin.script = script
    for steps in (twin.recover(), twin.run()):
        for _ in steps:
            pass
    return cluster.ledger, shown(cluster.ledger.records)


def refill(ledger: ModelLedger, before: Sequence[Record]) -> None:
    """What a submitter before left, and the seal of this one."""
    for record in before:
        if record.kind == "term_sealed":
            ledger.seal(record.payload["term"], Event(record.kind, record.payload))
        else:
            assert record.payload["term"] == ledger.term
            key = record.payload["idempotency_key"]
            tail = "intent" if record.kind.endswith("intent") else f"started/{record.payload['attempt']}"
            ledger.append(ledger.term, [Entry(Event(record.kind, record.payload), f"{key}/{tail}")])
    ledger.seal(ledger.term + 1, Event("term_sealed", {"term": ledger.term + 1}))


@pytest.mark.parametrize("probe", ["done", "absent", "uncertain"])
@pytest.mark.parametrize("attempts", [[name] for name in RESULTS] + [["busy", "busy", "busy"], ["timeout", "refused"]])
@pytest.mark.parametrize("effect_class", CLASSES)
async def test_both_write_the_same(effect_class: EffectClass, attempts: list[str], probe: str) -> None:
    """Catches an executor that decides for itself, in either world: another order, another attempt, another end."""
    commit = plan_of((effect_class, effect_class), ("verifiable", "verifiable"))
    for script in ([*attempts, "refused"], ["done", *attempts], ["done", "refused", *attempts]):
        _, twin = simulated(commit, Script(script, [probe]), ())
        assert await really(commit, Script(script, [probe]), ()) == twin


@pytest.mark.parametrize("probe", ["done", "absent", "uncertain"])
@pytest.mark.parametrize("effect_class", CLASSES)
async def test_both_recover_the_same(effect_class: EffectClass, probe: str) -> None:
    """Catches a successor that treats an open attempt in another way than the table, in either world."""
    commit = plan_of((effect_class, "verifiable"), ("verifiable", "verifiable"))
    ledger, _ = simulated(commit, Script([]), ())
    left = ledger.records[:3]
    assert [record.kind for record in left] == ["term_sealed", "intent", "started"]
    _, twin = simulated(commit, Script(["busy"], [probe]), left)
    assert await really(commit, Script(["busy"], [probe]), left) == twin
