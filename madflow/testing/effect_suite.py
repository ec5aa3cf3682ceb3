"""The conformance suite of `ports.Effect`: every effect whose target can be asked runs it, an app's own steps too.

    class TestMyEffect(EffectSuite):
        @pytest.fixture
        def world(self, tmp_path):
            return MyWorld(tmp_path)

A `World` is one place with one step that can be done there: it makes the effect, and looks at the target from outside,
never through the effect. What an effect cannot do is declared in `lacks`, and the tests that need it return at once;
nothing is lacking silently. Nothing here imports pytest.

Capabilities:
    absent    `probe` tells that the step has not happened (else: it cannot tell, and says so)
    undo      the step can be taken back
    keyed     doing it twice under one key is doing it once
    conflict  `world.interfere` changes the target behind the effect's back, and the effect must then refuse
    bounded   a step without time left does nothing
    fenced    once a successor has asked whether it is settled, an attempt of a smaller term does nothing
"""

# ruff: noqa: S101 (its assertions are what this file is for)

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol

from ..core.policy import Policy
from ..core.saga import Absent, Done, Failed, Uncertain
from ..ports import Effect, EffectContext

__all__ = ["FACTS_CHARS_MAX", "EffectSuite", "World", "effect_context"]

FACTS_CHARS_MAX = 256_000
"""Most characters of JSON that an effect may store in an intent or an outcome."""


def effect_context(
    root: Path,
    run_dir: Path,
    *,
    direction: Literal["do", "undo"] = "do",
    name: str = "step",
    term: int = 1,
    attempt: int = 1,
    timeout_s: float = 20.0,
    policy: Policy | None = None,
) -> EffectContext:
    """A context as the executor makes one; its key depends on `name` and `direction` alone."""
    return EffectContext(
        key=sha256(f"{name}/{direction}".encode()).hexdigest(),
        term=term,
        attempt=attempt,
        commit_id=f"commit-{name}",
        direction=direction,
        timeout_s=timeout_s,
        root=root,
        run_dir=run_dir,
        policy=policy or Policy(),
    )


class World(Protocol):
    """A place for one step.

    Attributes:
        root, run_dir: as in EffectContext; step: the step, as plain JSON; policy: what it is done under.
    """

    root: Path
    run_dir: Path
    step: Mapping[str, Any]
    policy: Policy

    def effect(self) -> Effect:
        """A new effect: as of a process that knows nothing of the one before."""
        ...

    def state(self) -> Any:
        """What the target is like, seen from outside; comparable."""
        ...

    def interfere(self) -> None:
        """Change the target as somebody else would, so that it is neither as before the step nor as after it."""
        ...


@dataclass(slots=True)
class _Run:
    """One step's way through an effect: what the executor would remember of it."""

    world: World
    facts: Mapping[str, Any] = field(default_factory=dict)

    def context(self, **changed: Any) -> EffectContext:
        return effect_context(self.world.root, self.world.run_dir, policy=self.world.policy, **changed)

    async def prepare(self) -> Mapping[str, Any]:
        facts = await self.world.effect().prepare(self.world.step, self.context())
        assert not isinstance(facts, Failed), facts
        self.facts = json.loads(json.dumps(facts))
        return facts

    async def do(self, **changed: Any) -> Done | Failed:
        return await self.world.effect().do(self.world.step, self.facts, self.context(**changed))

    async def done(self, **changed: Any) -> Mapping[str, Any]:
        result = await self.do(**changed)
        assert isinstance(result, Done), result
        if changed.get("direction") != "undo":
            self.facts = {**self.facts, "result": json.loads(json.dumps(dict(result.result)))}
        return result.result

    async def probe(self, **changed: Any) -> Done | Absent | Uncertain:
        return await self.world.effect().probe(self.world.step, self.facts, self.context(**changed))


class EffectSuite:
    """Subclass it, and give it a `world` fixture."""

    lacks: frozenset[str] = frozenset()

    async def test_done_is_probed_as_done(self, world: World) -> None:
        """Catches an effect that does nothing, one that happens in `prepare`, and a probe that does not find it."""
        run, before = _Run(world), world.state()
        await run.prepare()
        assert world.state() == before, "prepare changed the target"
        self._check_not_there(await run.probe())
        assert world.state() == before, "probe changed the target"
        await run.done()
        after = world.state()
        assert after != before, "do changed nothing"
        assert isinstance(await run.probe(), Done)
        assert world.state() == after, "probe changed the target"

    def _check_not_there(self, found: Done | Absent | Uncertain) -> None:
        assert isinstance(found, Uncertain if "absent" in self.lacks else Absent), found

    async def test_twice_under_one_key_is_once(self, world: World) -> None:
        """Catches an effect that is applied again by the attempt after a lost one."""
        if "keyed" in self.lacks:
            return
        run = _Run(world)
        await run.prepare()
        await run.done()
        after = world.state()
        await run.done(attempt=2, term=2)
        assert world.state() == after
        assert isinstance(await run.probe(attempt=2, term=2), Done)

    async def test_what_crosses_a_crash_is_plain_and_bounded(self, world: World) -> None:
        """Catches facts or results that JSON changes, or that fill the ledger."""
        run = _Run(world)
        facts = await run.prepare()
        result = await run.done()
        for told in (facts, result):
            text = json.dumps(told)
            assert json.loads(text) == told
            assert len(text) <= FACTS_CHARS_MAX

    async def test_taken_back_it_is_as_before(self, world: World) -> None:
        """Catches an undo that leaves something, a probe that is not mirrored, and a second undo that does harm."""
        if "undo" in self.lacks:
            return
        run, before = _Run(world), world.state()
        await run.prepare()
        await run.done()
        self._check_not_there(await run.probe(direction="undo"))
        await run.done(direction="undo")
        assert world.state() == before
        assert isinstance(await run.probe(direction="undo"), Done)
        await run.done(direction="undo", attempt=2)
        assert world.state() == before

    async def test_somebody_elses_change_is_not_overwritten(self, world: World) -> None:
        """Catches a lost update: between preparing and doing, and between doing and taking back."""
        if "conflict" in self.lacks:
            return
        run = _Run(world)
        await run.prepare()
        world.interfere()
        theirs = world.state()
        result = await run.do()
        assert isinstance(result, Failed), result
        assert (result.applied, result.transient) == (False, False), result
        assert not isinstance(await run.probe(), Done)
        assert world.state() == theirs

    async def test_somebody_elses_change_is_not_taken_back(self, world: World) -> None:
        """Catches an undo that throws away what was done on top."""
        if {"conflict", "undo"} & self.lacks:
            return
        run = _Run(world)
        await run.prepare()
        await run.done()
        world.interfere()
        theirs = world.state()
        result = await run.do(direction="undo")
        assert isinstance(result, Failed), result
        assert result.applied is False, result
        assert not isinstance(await run.probe(direction="undo"), Done)
        assert world.state() == theirs

    async def test_without_time_nothing_happens(self, world: World) -> None:
        """Catches an effect that ignores its deadline."""
        if "bounded" in self.lacks:
            return
        run, before = _Run(world), world.state()
        await run.prepare()
        result = await run.do(timeout_s=0.0)
        assert isinstance(result, Failed), result
        assert result.applied is not True, result
        assert world.state() == before
        await run.done(attempt=2)

    async def test_a_cancelled_attempt_can_be_told(self, world: World) -> None:
        """Catches a cancellation that leaves something neither done nor absent."""
        run = _Run(world)
        await run.prepare()
        doing = asyncio.ensure_future(run.do())
        for _ in range(3):
            await asyncio.sleep(0)
        doing.cancel()
        await asyncio.wait([doing])
        assert await world.effect().settled(world.step, run.context(term=2, timeout_s=5.0))
        found = await run.probe(attempt=2, term=2)
        if "absent" not in self.lacks:
            assert isinstance(found, Done | Absent), found
        if isinstance(found, Absent):
            await run.done(attempt=2, term=2)

    async def test_a_deposed_submitter_is_fenced(self, world: World) -> None:
        """Catches an attempt of an old term that begins after its successor has seen to it that nothing runs."""
        run, before = _Run(world), world.state()
        await run.prepare()
        assert await world.effect().settled(world.step, run.context(term=7))
        if "fenced" in self.lacks:
            return
        result = await run.do(term=6)
        assert isinstance(result, Failed), result
        assert (result.applied, result.transient) == (False, False), result
        assert world.state() == before
        await run.done(term=7)

    async def test_a_step_of_another_kind_is_a_value(self, world: World) -> None:
        """Catches an effect that performs, or fails with a traceback for, what it was not made for."""
        before = world.state()
        run = _Run(world)
        facts = await world.effect().prepare({"step": "nonsense"}, run.context())
        assert isinstance(facts, Failed), facts
        assert world.state() == before
