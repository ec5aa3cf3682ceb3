"""The same id with anything else that could change the outcome is refused, and the message names it."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from panels import make_debate, reply, sound

from madflow.core.limits import Limits
from madflow.core.messages import Agent
from madflow.crews import load_crew
from madflow.debate.run import run
from madflow.debate.setup import Debate
from madflow.errors import DebateBusy, ResumeRefused
from madflow.ledger.sqlite import open_ledger
from madflow.prompts import find_prompts
from madflow.testing.clock import ManualClock
from madflow.testing.faults import Crash, KillingLedger
from madflow.testing.models import ScriptedModel


async def begun(folder: Path, **values: Any) -> Debate:
    """A debate whose process died after its first round."""
    inner = open_ledger(folder / "ledger.db", clock=ManualClock())
    debate = make_debate("answer", ScriptedModel(reply), KillingLedger(inner, after=5), **values)
    with pytest.raises(Crash):
        await run(debate, clock=ManualClock())
    inner.close()
    return debate


def agents(**first: Any) -> list[Agent]:
    model = first.pop("model", ScriptedModel(reply))
    rest = [Agent(id=agent, model=ScriptedModel(reply), max_output_tokens=200) for agent in "bc"]
    return [Agent(**{"id": "a", "model": model, "max_output_tokens": 200, **first}), *rest]


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "task": ({"task": "Which other?"}, "task.question"),
    "rule": ({"rule": "unanimity"}, "rule: 'majority' → 'unanimity'"),
    "tie": ({"tie": "earliest"}, "tie"),
    "rounds": ({"rounds": 2}, "rounds: 3 → 2"),
    "stop": ({"stop": "max_rounds"}, "stop"),
    "topology": ({"topology": "ring"}, "topology: 'all' → 'ring'"),
    "seed": ({"seed": 7}, "seed: 0 → 7"),
    "fallback": ({"fallback": ("human",)}, "fallback"),
    "protocol": ({"protocol": "proposal"}, "protocol: 'answer' → 'proposal'"),
    "model": ({"agents": agents(model=ScriptedModel(reply, name="other"))}, "seats.a.model: 'scripted' → 'other'"),
    "weight": ({"agents": agents(weight=2)}, "seats.a.weight: 1 → 2"),
    "persona": ({"agents": agents(persona="a pessimist")}, "seats.a.persona"),
    "max_output_tokens": ({"agents": agents(max_output_tokens=300)}, "seats.a.max_output_tokens: 200 → 300"),
    "agent": ({"agents": agents(id="z")}, "seats.z: added"),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_a_changed_debate_is_refused_by_name_and_pays_nothing(tmp_path: Path, what: str) -> None:
    await begun(tmp_path)
    values, named = CHANGES[what]
    changed = make_debate("answer", ScriptedModel(reply), tmp_path, **values)
    with pytest.raises(ResumeRefused) as refused:
        await run(changed, clock=ManualClock())
    assert named in str(refused.value)
    assert all(agent.model.calls == 0 for agent in changed.agents)


async def test_a_changed_prompt_is_refused_by_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "crew"
    shutil.copytree(find_prompts() / "generic", folder)
    await begun(tmp_path, crew=load_crew(folder))
    role = folder / "debater.md"
    role.write_text(role.read_text() + "\nBe brief.\n")
    changed = make_debate("answer", ScriptedModel(reply), tmp_path, crew=load_crew(folder))
    with pytest.raises(ResumeRefused, match=r"prompts\..*debater\.md"):
        await run(changed, clock=ManualClock())


async def test_a_budget_may_be_raised_and_that_is_recorded_but_not_lowered(tmp_path: Path) -> None:
    await begun(tmp_path, budget=Limits(calls=50))
    lower = make_debate("answer", ScriptedModel(reply), tmp_path, budget=Limits(calls=49))
    with pytest.raises(ResumeRefused, match="calls from 50 to 49"):
        await run(lower, clock=ManualClock())
    raised = make_debate("answer", ScriptedModel(reply), tmp_path, budget=Limits(calls=51))
    proposal = sound(await run(raised, clock=ManualClock()))
    assert proposal.usage["caps"]["calls"] == 51
    ledger = open_ledger(tmp_path / "ledger.db", readonly=True)
    assert ["calls"] in [record.payload.get("raised") for record in ledger.read("debate/d1")]
    ledger.close()


async def test_a_debate_that_landed_costs_nothing_to_run_again(tmp_path: Path) -> None:
    first, second = ScriptedModel(reply), ScriptedModel(reply)
    one = sound(await run(make_debate("answer", first, tmp_path), clock=ManualClock()))
    two = sound(await run(make_debate("answer", second, tmp_path), clock=ManualClock()))
    assert second.calls == 0
    assert two.to_json() == one.to_json()


async def test_two_runs_of_one_debate_at_once_the_second_is_told_who_is_first(tmp_path: Path) -> None:
    """Catches two processes that both pay for the same calls."""
    slow = ScriptedModel(reply, latency_s=0.05)
    first = asyncio.create_task(run(make_debate("answer", slow, tmp_path)))
    await asyncio.sleep(0.03)
    with pytest.raises(DebateBusy, match="process"):
        await run(make_debate("answer", ScriptedModel(reply), tmp_path))
    sound(await first)
