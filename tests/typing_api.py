"""Public calls as a caller writes them. Never run: mypy --strict reads it (tests/test_api.py, `make lint`)."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

import madflow
from madflow import (
    Agent,
    Budget,
    Committer,
    Crew,
    Debate,
    Gate,
    MadflowError,
    Policy,
    Proposal,
    Receipt,
    Saga,
    Step,
    TurnView,
    load_crew,
    replay,
    review_debate,
    rules,
    run,
    run_sync,
    stream,
)
from madflow.commit import Admitted, Rejected, Resolved, StepContext
from madflow.core.messages import Task
from madflow.crews import generic_crew
from madflow.debate.run import Pending, Progress
from madflow.models.scripted import ScriptedModel


async def own(view: TurnView) -> dict[str, object]:
    return {"answer": view.options[0][0], "reasoning": view.task.question}


async def kim(question: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"choice": question["options"][0]["id"], "by": "kim"}


def debates() -> list[Debate]:
    agents = [Agent("a", "openai/gpt-5-mini"), Agent(id="b", model=own, role="critic", weight=2)]
    scripted = Agent("c", ScriptedModel({"*": {"answer": "A"}}))
    return [
        Debate(task="Where do retries live?", agents=[*agents, scripted]),
        Debate(task={"question": "Q?", "options": ["x", "y"]}, crew="generic", rule="supermajority:2/3", tie="judge"),
        Debate(task=Task(task_id="t", question="Q?"), crew=generic_crew(5, ["m"]), topology="sparse:2"),
        Debate(task=Path("task.json"), crew=load_crew("./crew", models=["m", "n"]), budget=Budget.of(usd="0.50")),
        review_debate(b"diff", root=Path(), models=["m"], budget=Budget(tokens=40_000), id="r1"),
    ]


async def main() -> None:
    for debate in debates():
        cancel = asyncio.Event()
        outcome = await run(debate, human=kim, cancel=cancel, on_progress=lambda progress: print(progress.kind))
        assert_type(outcome, Proposal | Pending)
        if isinstance(outcome, Pending):
            print(outcome.debate_id, outcome.question["options"])
            continue
        assert_type(outcome.approved, bool)
        print(outcome.decision.stop_reason, outcome.votes[0].decision, outcome.to_json()["digest"])
        async for progress in stream(debate):
            assert_type(progress, Progress)
        assert_type(replay(".madflow/ledger.db", "d1"), Proposal)


def plain(crew: Crew) -> str:
    try:
        outcome = run_sync(Debate(task="Q?", crew=crew))
    except MadflowError as error:
        return str(error)
    rule = rules.parse_rule("majority")
    return f"{rule} {outcome} {madflow.__version__}"


def book(args: Mapping[str, Any], ctx: StepContext) -> Mapping[str, Any]:
    return {"seat": args["seat"], "key": ctx.key, "term": ctx.term}


async def cancel_booking(args: Mapping[str, Any], ctx: StepContext) -> None:
    print(args, ctx.result, ctx.attempt, ctx.timeout_s)


def booked(args: Mapping[str, Any], ctx: StepContext) -> bool | None:
    return None


async def commits(proposal: Proposal, policy: Policy) -> None:
    step = Step(name="book", do=book, undo=cancel_booking, probe=booked, effect_class="verifiable")
    verdict = Gate(".", policy=policy, steps=[step]).check(proposal)
    assert_type(verdict, Admitted | Rejected)
    committer = Committer(Path(), ledger=".madflow/ledger.db", policy="policy.toml", steps=[step], lease_s=2.0)
    receipt = await committer.commit(proposal, wait_s=10, confirmed_by="ann")
    assert_type(receipt, Receipt)
    assert_type(receipt.committed, bool)
    ticket = await committer.submit("d1-p1")
    assert_type(await committer.wait(ticket), Receipt)
    assert_type(await committer.recover(), list[Receipt])
    assert_type(await committer.resolve(receipt.steps[0].idempotency_key, "done", by="ann"), Resolved)
    saga = Saga([step], approved_by="shop")
    assert_type(await saga.run("order-7", {"book": {"seat": "12A"}}), Receipt)
    await saga.committer.work(asyncio.Event(), on_change=print)
