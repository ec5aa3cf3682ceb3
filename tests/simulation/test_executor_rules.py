"""What the executor adds to the saga: time, and what a ledger's silence means."""

from typing import Any

import pytest
from test_twin import (
    SCOPE,
    ModelLedger,
    Plain,
    RealExecution,
    Script,
    Scripted,
    admission_of,
    plan_of,
    refill,
    specs_of,
)

from madflow.commit.desk import Desk
from madflow.commit.specs import Work
from madflow.core.plan import EffectClass
from madflow.core.policy import Policy
from madflow.errors import CommitError
from madflow.ports import Term, Unknown
from madflow.testing.clock import ManualClock


class Counted(Scripted):
    """Counts what is done."""

    done = 0

    async def do(self, step: Any, facts: Any, ctx: Any) -> Any:
        self.done += 1
        return await super().do(step, facts, ctx)


class Slow(Plain):
    """The process is stopped for a minute while `started` is appended."""

    clock: ManualClock

    async def append(self, scope: str, term: int, entries: Any) -> Any:
        answer = await super().append(scope, term, entries)
        if any(entry.event.kind == "started" for entry in entries):
            await self.clock.sleep(60)
        return answer


class Silent(Plain):
    """Nobody learns what became of a transaction."""

    async def transact(self, scope: str, term: int, slot: str, work: Any, *, timeout_s: float) -> Any:
        return Unknown("the connection was lost")


def execution(kind: EffectClass, ledger: type[Plain], tmp_path: Any, script: Script) -> tuple[RealExecution, Counted]:
    commit, model = plan_of((kind, kind)), ModelLedger(SCOPE, now=lambda: 0, stored=lambda *_: None, believes=bool)
    refill(model, ())
    specs, clock = specs_of(commit), ManualClock()
    classes = {(0, "do"): kind, (0, "undo"): kind}
    effect, plain = Counted(script, classes, ()), ledger(model)
    plain.clock = clock  # type: ignore[attr-defined]
    desk = Desk(
        ledger=plain,  # type: ignore[arg-type]
        scope=SCOPE,
        term=Term(SCOPE, model.term, "n"),
        clock=clock,
        root=tmp_path,
        run_dir=tmp_path,
        policy=Policy(),
        effects={"call": effect},
        steps={},
    )
    desk.catch_up()
    plan = ({"step": "call", "index": 0},)
    work = Work(commit.commit_id, commit.proposal_id, commit.proposal_id, "t", plan, specs, commit.targets)
    return RealExecution(desk, work, admission=admission_of(commit)), effect


async def test_a_submitter_that_was_stopped_after_started_does_nothing(tmp_path: Any) -> None:
    """Catches an effect that is begun when its time is over: a successor has waited that time, found nothing, and done
    it again."""
    run, effect = execution("verifiable", Slow, tmp_path, Script([]))
    state = await run.run()
    assert effect.done == 0
    assert state.closed == "compensated"


async def test_a_transaction_that_nobody_knows_about_is_no_failure_of_its_step(tmp_path: Any) -> None:
    """Catches a lost connection that is recorded as a failed step, and compensated."""
    run, _ = execution("transactional", Silent, tmp_path, Script([]))
    with pytest.raises(CommitError, match="did not say"):
        await run.run()
    assert run.commit.keys[0, "do"].status == "started"
