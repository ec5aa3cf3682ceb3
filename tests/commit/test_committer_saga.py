"""`Saga`: an app's steps without a debate, through the same gate, submitter and records."""

import asyncio
from typing import Any

import pytest
from commit_bench import POLICY, Bench, until

from madflow import Saga, Step
from madflow.core.policy import parse_policy
from madflow.errors import ConfigError, EffectError, PlanError
from madflow.panel.api import check


def shop(said: list[str], *, fails: bool = False) -> list[Step]:
    def charge(args: Any, ctx: Any) -> dict[str, Any]:
        said.append(f"charge {args['cents']}")
        if fails:
            raise EffectError("declined", "the card is declined", applied=False)
        return {"charge": 17}

    reserve = Step(
        name="reserve",
        do=lambda args, ctx: said.append(f"reserve {args['seat']}"),
        undo=lambda args, ctx: said.append(f"release {args['seat']}"),
        effect_class="idempotent",
    )
    return [reserve, Step(name="charge", do=charge, undo=lambda args, ctx: said.append("refund"))]


ARGS = {"reserve": {"seat": "12A"}, "charge": {"cents": 900}}


async def test_all_steps_once_in_their_order(bench: Bench) -> None:
    """Would catch a saga that runs again when it is asked again, and one whose approval is not on record."""
    said: list[str] = []
    saga = Saga(shop(said), root=bench.root, ledger=bench.ledger, approved_by="shop")
    first = await saga.run("order-7", ARGS)
    assert (first.status, said) == ("committed", ["reserve 12A", "charge 900"])
    assert (first.steps[1].result or {})["returned"] == {"charge": 17}
    assert await Saga(shop(said), root=bench.root, approved_by="shop").run("order-7", ARGS) == first
    assert len(said) == 2
    proposal = await check(bench.ledger, "order-7")
    assert (proposal.proposer, [(vote.agent, vote.decision) for vote in proposal.votes]) == (
        "shop",
        [("shop", "approve")],
    )


async def test_a_step_that_fails_takes_back_the_others(bench: Bench) -> None:
    said: list[str] = []
    saga = Saga(shop(said, fails=True), root=bench.root, ledger=bench.ledger)
    receipt = await saga.run("order-8", ARGS)
    assert (receipt.status, receipt.rollback) == ("compensated", "complete")
    assert said == ["reserve 12A", "charge 900", "release 12A"]


async def test_a_name_is_one_saga_for_ever(bench: Bench) -> None:
    """Would catch other arguments under a name that is done: the caller would believe that they were used."""
    said: list[str] = []
    saga = Saga(shop(said), root=bench.root, ledger=bench.ledger)
    await saga.run("order-7", ARGS)
    with pytest.raises(ConfigError, match="is there already"):
        await saga.run("order-7", {**ARGS, "charge": {"cents": 1}})
    with pytest.raises(ConfigError, match="has no step 'chrage'; its steps: reserve, charge"):
        await saga.run("order-9", {"chrage": {}})
    with pytest.raises((ConfigError, PlanError)):
        await saga.run("order-9", {"charge": {"cents": object()}})
    with pytest.raises(ConfigError, match="needs steps"):
        Saga([], root=bench.root)
    assert len(said) == 2


async def test_a_policy_counts_where_one_is_given(bench: Bench) -> None:
    """Would catch a saga that gets past the policy of its root."""
    said: list[str] = []
    (bench.root / "policy.toml").write_text(POLICY.replace('names = ["*"]', 'names = ["reserve"]'))
    strict = Saga(shop(said), root=bench.root, ledger=bench.ledger, policy=bench.root / "policy.toml")
    refused = await strict.run("order-7", ARGS)
    assert (refused.status, said) == ("rejected", [])
    none = Saga(shop(said), root=bench.root, ledger=bench.ledger, policy=parse_policy({}))
    assert (await none.run("order-7", ARGS)).status == "rejected", "an empty policy is a policy"


async def test_what_a_dead_process_left_is_finished(bench: Bench) -> None:
    said: list[str] = []
    entered = asyncio.Event()

    async def hang(args: Any, ctx: Any) -> None:
        entered.set()
        await asyncio.sleep(60)

    slow = Step(name="reserve", do=hang, undo=lambda args, ctx: None, effect_class="idempotent")
    task = asyncio.create_task(Saga([slow, shop(said)[1]], root=bench.root, ledger=bench.ledger).run("o", ARGS))
    await entered.wait()
    task.cancel()
    await until(task.done)
    saga = Saga(shop(said), root=bench.root, ledger=bench.ledger)
    (receipt,) = await saga.committer.recover()
    assert (receipt.status, said) == ("committed", ["reserve 12A", "charge 900"])
