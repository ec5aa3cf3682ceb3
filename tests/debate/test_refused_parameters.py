"""Servers that do not take a parameter: a debate is told once, remembers it in its ledger, and pays nothing for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from panels import sound

from madflow.core.limits import Limits
from madflow.core.messages import Agent
from madflow.debate.run import Progress, run
from madflow.debate.setup import Debate
from madflow.errors import BudgetTooSmall, ParameterRefused
from madflow.ledger.sqlite import open_ledger
from madflow.models.http_pool import aclose_all
from madflow.ports import ModelReply, ModelRequest, Quote, Usage
from madflow.testing.openai_server import LoopbackServer

NO_SCHEMA = ["response_format:json_object", "response_format:json_schema"]
ANSWER = '{"answer": "A", "reasoning": "", "claims": []}'


@pytest.fixture(autouse=True)
async def _pool() -> AsyncIterator[None]:
    yield
    await aclose_all()


def debate(server: LoopbackServer, ledger: Any, **values: Any) -> Debate:
    agents = [Agent(id=name, model="openai/local", max_output_tokens=100) for name in "abc"]
    given = {"task": {"question": "Which?", "options": ["yes", "no"]}, "agents": agents, "ledger": ledger, "id": "d1"}
    return Debate(**{**given, "api_base": server.base_url, "stop": "max_rounds", "rounds": 3, **values})


async def test_a_refusal_costs_its_call_and_comes_once(tmp_path: Path) -> None:
    """Catches: refused attempts charged as if they had been answered; a schema that is tried again in each round."""
    async with LoopbackServer(ANSWER, schemas=()) as server:
        outcome = sound(await run(debate(server, tmp_path / "l.db")))
        statuses = [one.status for one in server.served]
        billed = (server.stats.prompt_tokens, server.stats.output_tokens)
    assert outcome.approved and outcome.decision.rounds == 3
    assert statuses[:6] == [400] * 6 and statuses[6:] == [200] * 9, "each seat of round 1, which speak at once, twice"
    assert outcome.usage["calls"] == 15
    assert (outcome.usage["prompt_tokens"], outcome.usage["output_tokens"]) == billed
    assert outcome.usage["unreported"]["calls"] == 0
    assert outcome.usage["without"] == {"openai/local": NO_SCHEMA}


async def test_a_seat_that_goes_first_learns_for_the_others(tmp_path: Path) -> None:
    """With warm-first the others begin after it. Catches: knowledge that each seat keeps for itself."""
    async with LoopbackServer(ANSWER, schemas=(), limit="max_completion_tokens") as server:
        agents = [Agent(id=name, model=f"openai/{model}", max_output_tokens=100) for name, model in ("ax", "bx", "cy")]
        sound(await run(debate(server, tmp_path / "l.db", agents=agents, warm_first=True)))
        refused = Counter(one.model for one in server.served if one.status == 400)
    assert refused == {"x": 3, "y": 3}, "json_schema, json_object and max_tokens, once a model"


async def test_a_resumed_debate_knows_what_was_refused(tmp_path: Path) -> None:
    """Another process has new clients. Catches: what a server refuses kept in a client and not in the ledger."""

    def die(progress: Progress) -> None:
        if progress.kind == "reserved" and progress.round == 2:
            raise RuntimeError("killed")

    async with LoopbackServer(ANSWER, schemas=()) as server:
        with open_ledger(tmp_path / "l.db") as ledger:
            with pytest.raises(RuntimeError, match="killed"):
                await run(debate(server, ledger), on_progress=die)
            before = Counter(one.status for one in server.served)
            outcome = sound(await run(debate(server, ledger)))
            after = Counter(one.status for one in server.served)
    assert before[400] == after[400] == 6
    assert outcome.approved and outcome.usage["without"] == {"openai/local": NO_SCHEMA}


async def test_a_cap_that_just_covers_the_debate_covers_one_that_is_refused(tmp_path: Path) -> None:
    """Catches: worst cases of refused attempts that use up a cap without any bill, and cost seats their turn."""
    async with LoopbackServer(ANSWER, schemas=()) as server:
        with pytest.raises(BudgetTooSmall) as refused:
            await run(debate(server, tmp_path / "a.db", rounds=1, budget=Limits(tokens=1)))
        budget = Limits(tokens=refused.value.needed)
        outcome = sound(await run(debate(server, tmp_path / "b.db", rounds=1, budget=budget)))
    assert [vote.decision for vote in outcome.votes] == ["A", "A", "A"]


class Refusing:
    """A client that refuses `words`, one after another, whatever it was told before."""

    def __init__(self, *words: Any, unbilled: Any = True, heeds: bool = True) -> None:
        self.words, self.unbilled, self.heeds = words, unbilled, heeds
        self.name = "refusing"
        self.asked: list[frozenset[str]] = []

    def quote(self, request: ModelRequest) -> Quote:
        return Quote(1000, 100, None, True)

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.asked.append(request.refused)
        for word in self.words:
            if not (self.heeds and word in request.refused):
                raise ParameterRefused("parameter_rejected", "no", word=word, unbilled=self.unbilled)
        return ModelReply(ANSWER, Usage(10, 10))


async def run_with(client: Refusing, folder: Path) -> Any:
    task = {"question": "Which?", "options": ["yes", "no"]}
    made = Debate(task=task, agents=[Agent("a", model=client)], rounds=1, ledger=folder / "l.db", id="d1")
    return sound(await run(made))


async def test_a_client_of_the_apps_own_is_told_what_was_refused(tmp_path: Path) -> None:
    client = Refusing("seed", "temperature")
    outcome = await run_with(client, tmp_path)
    assert client.asked == [frozenset(), frozenset({"seed"}), frozenset({"seed", "temperature"})]
    assert outcome.approved
    usage = outcome.usage
    assert (usage["calls"], usage["prompt_tokens"], usage["unreported"]["calls"]) == (3, 10, 0)


def seated(folder: Path, clients: dict[str, Refusing], **values: Any) -> Debate:
    task = {"question": "Which?", "options": ["yes", "no"]}
    agents = [Agent(name, model=client) for name, client in clients.items()]
    given = {"task": task, "agents": agents, "rounds": 2, "stop": "max_rounds", "ledger": folder / "l.db", "id": "d1"}
    return Debate(**{**given, **values})


async def test_two_servers_of_one_name_are_two(tmp_path: Path) -> None:
    """Catches: refusals known by a model's name alone: a server that takes schemas is no longer sent any."""
    plain, able = Refusing("seed"), Refusing()
    outcome = sound(await run(seated(tmp_path, {"a": plain, "b": able, "c": plain})))
    assert set(able.asked) == {frozenset()} and len(able.asked) == 2
    assert plain.asked[-2:] == [frozenset({"seed"})] * 2
    assert outcome.usage["without"] == {"refusing": ["seed"]}


async def test_who_shares_a_client_knows_what_was_refused_before_it_asks(tmp_path: Path) -> None:
    """This client learns nothing itself, and b begins after a. Catches: each seat refused for the same reason."""
    shared = Refusing("seed")
    outcome = sound(await run(seated(tmp_path, {"a": shared, "b": shared}, rounds=1, warm_first=True)))
    assert shared.asked == [frozenset(), frozenset({"seed"}), frozenset({"seed"})]
    assert outcome.usage["calls"] == 3


async def test_a_resume_keeps_two_servers_of_one_name_apart(tmp_path: Path) -> None:
    """All clients are new. Catches: what one seat was refused forgotten by a resume, or told to the wrong seat; seats
    that share a client now and did not before."""

    def die(progress: Progress) -> None:
        if progress.kind == "reserved" and progress.round == 2:
            raise RuntimeError("killed")

    with open_ledger(tmp_path / "l.db") as ledger:
        first = {"a": Refusing("seed"), "b": Refusing(), "c": Refusing()}
        with pytest.raises(RuntimeError, match="killed"):
            await run(seated(tmp_path, first, ledger=ledger), on_progress=die)
        plain, able = Refusing("seed"), Refusing()
        outcome = sound(await run(seated(tmp_path, {"a": plain, "b": able, "c": plain}, ledger=ledger)))
    assert set(plain.asked) == {frozenset({"seed"})} and set(able.asked) == {frozenset()}
    assert outcome.usage["without"] == {"refusing": ["seed"]}


@pytest.mark.parametrize(
    ("client", "calls", "charged", "notes"),
    [
        (Refusing("seed", heeds=False), 4, 3000, "parameter_rejected"),
        (Refusing("seed", unbilled=False), 2, 1010, ""),
        (Refusing("tools"), 1, 1000, "client"),
        (Refusing(["seed"]), 1, 1000, "client"),
    ],
    ids=["told and refused all the same", "worked on", "no word of ours", "no word"],
)
async def test_what_is_no_plain_refusal_stays_charged(
    client: Refusing, calls: int, charged: int, notes: str, tmp_path: Path
) -> None:
    """Catches: a client that makes every failure free by calling it a refusal, or records what it likes."""
    outcome = await run_with(client, tmp_path)
    assert (outcome.usage["calls"], outcome.usage["prompt_tokens"]) == (calls, charged)
    assert outcome.votes[0].notes == notes
