"""A debate that was opened under an earlier edition of the rules is carried on, replayed and admitted under its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from madflow.core.config import EDITION
from madflow.core.messages import Agent
from madflow.core.policies import Reliabilities
from madflow.core.proposal import Proposal
from madflow.debate.run import replay, run
from madflow.debate.setup import Debate, build_config, crew_of, prompts_of
from madflow.debate.stream import stream_name
from madflow.ledger.sqlite import open_ledger
from madflow.ports import Event
from madflow.testing.models import ScriptedModel

SAID = {"a": "[0, 1)", "b": "(0, 1)", "c": "{2}"}


def debate_of(ledger: Any, name: str, **values: Any) -> Debate:
    model = ScriptedModel(lambda view: {"answer": SAID[view.seat.agent]})
    agents = [Agent(agent, model=model) for agent in values.pop("seats", "abc")]
    return Debate(task="Which interval?", agents=agents, ledger=ledger, id=name, **values)


async def open_under_the_first_edition(debate: Debate, ledger: Any) -> None:
    """The opening as a debate's ledger holds it that was recorded before there were editions."""
    crew = crew_of(debate)
    config = build_config(debate, debate.id, crew, prompts_of(crew, "answer")).model_dump(mode="json")
    assert config.pop("edition") == EDITION
    await ledger.record(stream_name(debate.id), [Event("opened", {"config": config})], after=0)


async def test_a_resumed_debate_keeps_the_edition_it_was_opened_under(tmp_path: Path) -> None:
    """Catches: a resume refused for a field that no user set; a debate whose ledger says one thing and its proposal
    another."""
    with open_ledger(tmp_path / "l.db") as ledger:
        fresh = await run(debate_of(ledger, "fresh", rounds=1))
        old = debate_of(ledger, "old", rounds=1)
        await open_under_the_first_edition(old, ledger)
        carried_on = await run(old)
        assert isinstance(fresh, Proposal) and isinstance(carried_on, Proposal)
        assert [option["text"] for option in fresh.content["options"]] == ["(0, 1)", "[0, 1)", "{2}"]
        assert [option["text"] for option in carried_on.content["options"]] == ["(0, 1)", "{2}"]
        assert (fresh.decision.result, carried_on.decision.result) == ("no_decision", "approved")
        for name, outcome in (("fresh", fresh), ("old", carried_on)):
            assert replay(ledger, name).digest == outcome.digest


@pytest.mark.parametrize("tie", ["none", "earliest"])
async def test_an_answer_less_likely_than_a_guess_is_not_approved(tmp_path: Path, tie: Any) -> None:
    """Catches: a seat known for wrong answers whose word is approved because nobody else has one."""
    known = Reliabilities({"a": 0.02})
    values: dict[str, Any] = {"seats": "a", "policy": "reliable", "learned": known, "tie": tie}
    with open_ledger(tmp_path / "l.db") as ledger:
        fresh = await run(debate_of(ledger, "fresh", **values))
        await open_under_the_first_edition(debate_of(ledger, "old", **values), ledger)
        carried_on = await run(debate_of(ledger, "old", **values))
        assert isinstance(fresh, Proposal) and isinstance(carried_on, Proposal)
        assert (fresh.decision.result, fresh.content["answer"]) == ("no_decision", None)
        assert fresh.content["policy"]["abstained"] and fresh.content["policy"]["answer"] == "o1"
        assert carried_on.approved and not carried_on.content["policy"]["abstained"]
        assert replay(ledger, "old").digest == carried_on.digest
