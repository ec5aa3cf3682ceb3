"""What a round, a hang and an early decision cost in time. Only the first test measures: the best of three."""

import asyncio
import time
from pathlib import Path

from panels import make_debate, sound

from madflow.core.limits import Limits
from madflow.core.messages import Agent
from madflow.core.proposal import Proposal
from madflow.debate.run import run
from madflow.debate.setup import Debate
from madflow.ports import TurnView
from madflow.testing.clock import ManualClock
from madflow.testing.models import HANG, ScriptedModel


def five(model: object, ledger: Path, **values: object) -> Debate:
    agents = [Agent(id=name, model=model) for name in "abcde"]
    return Debate(task={"question": "?", "options": ["yes", "no"]}, agents=agents, ledger=ledger, **values)  # type: ignore[arg-type]


async def test_five_agents_of_200_ms_finish_a_round_in_less_than_400_ms(tmp_path: Path) -> None:
    """Catches seats that speak one after the other: that would take 1,000 ms."""
    took = []
    for attempt in range(3):
        model = ScriptedModel({"*": {"answer": "A"}}, latency_s=0.2)
        began = time.perf_counter()
        proposal = sound(await run(five(model, tmp_path / f"{attempt}.db")))
        took.append(time.perf_counter() - began)
        assert model.calls == 5
        assert proposal.decision.rounds == 1
    print(f"best of three: {min(took) * 1000:.0f} ms")
    assert 0.2 <= min(took) < 0.4


async def test_one_that_hangs_costs_its_seat_and_nothing_else(tmp_path: Path) -> None:
    """The hanging seat is given up at its deadline, is missing by timeout, and stays charged; the rest decide."""
    good, bad = ScriptedModel({"*": {"answer": "A"}}), ScriptedModel({"*": HANG}, sleep=lambda _: asyncio.sleep(3600))
    agents = [Agent(id=name, model=bad if name == "c" else good) for name in "abcde"]
    debate = Debate(
        task={"question": "?", "options": ["yes", "no"]},
        agents=agents,
        ledger=tmp_path / "l.db",
        budget=Limits(call_seconds=1),
    )
    async with asyncio.timeout(10):
        proposal = sound(await run(debate))
    assert (proposal.decision.result, proposal.decision.choice) == ("approved", "A")
    assert {vote.agent: vote.notes for vote in proposal.votes if vote.decision == "missing"} == {"c": "timeout"}
    assert (good.calls, bad.calls) == (4, 1), "a seat that hung is not asked again"
    assert proposal.usage["by_agent"]["c"]["output_tokens"] == 1024, "charged at its reservation"


async def test_a_vote_that_is_decided_does_not_wait_for_the_last_seat(tmp_path: Path) -> None:
    """`unassailable`: the hanging seat can change nothing. Catches an early close that still waits for its calls."""
    good, bad = ScriptedModel({"*": {"answer": "A"}}), ScriptedModel({"*": HANG}, sleep=lambda _: asyncio.sleep(3600))
    agents = [Agent(id=name, model=bad if name == "c" else good) for name in "abcde"]
    debate = Debate(
        task={"question": "?", "options": ["yes", "no"]},
        agents=agents,
        ledger=tmp_path / "l.db",
        stop="converged | unassailable | max_rounds",
    )
    async with asyncio.timeout(10):
        proposal = sound(await run(debate))
    assert proposal.decision.stop_reason == "unassailable"
    assert next(vote.notes for vote in proposal.votes if vote.agent == "c") == "unassailable"


async def test_a_cap_on_seconds_lands_as_timeout_with_what_was_said(tmp_path: Path) -> None:
    clock = ManualClock()
    model = ScriptedModel(lambda view: {"answer": f"o-{view.seat.agent}-{view.round}"}, latency_s=1, sleep=clock.sleep)
    debate = make_debate("answer", model, tmp_path, budget=Limits(seconds=5, call_seconds=2), rounds=50)
    proposal = sound(await run(debate, clock=clock))
    assert proposal.decision.stop_reason == "timeout"
    assert proposal.decision.stop_numbers["seconds"] == 5
    assert proposal.decision.tally.missing == 0
    assert model.calls < 9


async def test_a_cap_on_seconds_still_takes_the_final_vote_of_a_plan(tmp_path: Path) -> None:
    """The drafts took most of the time; one call is kept for the vote. Catches a plan nobody was asked about."""
    clock = ManualClock()

    async def slow(view: TurnView) -> dict[str, object]:
        if view.stage == "ballot":
            return {"decision": "approve"}
        await clock.sleep(1.8)
        return {"summary": "v1", "plan": []} if view.stage == "draft" else {"claims": []}

    debate = make_debate("proposal", slow, tmp_path, budget=Limits(seconds=10, call_seconds=7), fallback=())
    proposal = sound(await run(debate, clock=clock))
    assert proposal.decision.stop_reason == "converged"
    assert proposal.decision.result == "approved"


async def test_a_debate_out_of_time_while_it_waits_lands_where_it_stands(tmp_path: Path) -> None:
    """One seat hangs beyond the debate's own end: its call is cut at what is left, and no further round begins."""
    good, bad = ScriptedModel({"*": {"answer": "A"}}), ScriptedModel({"*": HANG}, sleep=lambda _: asyncio.sleep(3600))
    models = {"a": good, "b": ScriptedModel({"*": {"answer": "B"}}), "c": bad}
    task = {"question": "?", "options": ["yes", "no"]}
    debate = make_debate("answer", models, tmp_path, task=task, budget=Limits(seconds=1, call_seconds=60))
    async with asyncio.timeout(10):
        proposal = sound(await run(debate))
    assert isinstance(proposal, Proposal)
    assert proposal.decision.stop_reason == "timeout"
    assert [vote.decision for vote in proposal.votes] == ["A", "B", "missing"]


async def test_seats_that_outlast_the_debate_are_its_timeout_not_a_lost_quorum(tmp_path: Path) -> None:
    """All three hang: what ended is the debate's time. Catches seats' timeouts that hide it."""

    async def hang(view: TurnView) -> str:
        await asyncio.sleep(3600)
        return ""

    debate = make_debate("answer", hang, tmp_path, budget=Limits(seconds=1, call_seconds=60))
    async with asyncio.timeout(10):
        proposal = sound(await run(debate))
    assert (proposal.decision.stop_reason, proposal.decision.result) == ("timeout", "quorum_failed")
    assert {vote.notes for vote in proposal.votes} == {"timeout"}


async def test_warm_first_waits_for_a_hanging_first_seat_only_so_long(tmp_path: Path) -> None:
    """The first seat hangs: the others still speak, within their own deadline. Catches a round that waits for it."""
    good, bad = ScriptedModel({"*": {"answer": "A"}}), ScriptedModel({"*": HANG})
    models = {"a": bad, "b": good, "c": good}
    task = {"question": "?", "options": ["yes", "no"]}
    budget = Limits(call_seconds=2)
    debate = make_debate("answer", models, tmp_path, task=task, budget=budget, warm_first=True, rounds=1)
    async with asyncio.timeout(10):
        proposal = sound(await run(debate))
    assert [vote.decision for vote in proposal.votes] == ["missing", "A", "A"]


async def test_unassailable_alone_stops_at_a_decided_vote(tmp_path: Path) -> None:
    """Catches a condition that fires only beside another one, and a decided vote that is debated on."""
    model = ScriptedModel({"*": {"answer": "A"}})
    task = {"question": "?", "options": ["yes", "no"]}
    debate = make_debate("answer", model, tmp_path, task=task, stop="unassailable", rounds=3)
    proposal = sound(await run(debate))
    assert (proposal.decision.stop_reason, proposal.decision.choice, model.calls) == ("unassailable", "A", 3)
