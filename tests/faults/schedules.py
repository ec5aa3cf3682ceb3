"""Random schedules of whole debates under a greedy provider: the harness behind test_budget_schedules.py.

A schedule is a function of its seed: panel, protocol, rule or policy, caps, what the provider does, and where the
process dies.
Most die in this process (`Crash`); every fifth runs in forked children that are killed by SIGKILL. A schedule is
resumed until it lands, and its outcome is compared with the bill that the provider kept for itself.

    python schedules.py FIRST COUNT        prints one JSON document: figures, and every seed that failed with the reason
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "debate"))

from panels import IN_MEMORY, warm_up

from madflow.core.limits import Limits
from madflow.core.messages import Agent
from madflow.core.policies import POLICIES, Policy, Reliabilities
from madflow.core.proposal import Proposal, check_digests
from madflow.debate.run import Pending, Progress, replay, run
from madflow.debate.setup import Debate
from madflow.errors import BudgetTooSmall
from madflow.ledger.sqlite import open_ledger
from madflow.ports import TurnView
from madflow.testing.clock import ManualClock
from madflow.testing.faults import Bill, Crash, GreedyModel, KillingLedger, KillingModel, Life, Moods

RULES = ("majority", "supermajority:2/3", "unanimity", "plurality", "borda", "veto:majority", "judge")
STOPS = ("", "converged | unassailable | quorum_lost | max_rounds", "max_rounds", "converged | stable:2 | max_rounds")
LIVES_MAX = 4
SECONDS_MAX = 30  # of real time, for one life: a bound on a hang


def padded(view: TurnView, reply: dict[str, Any], field_name: str) -> dict[str, Any]:
    """The reply, its text as long as the seat may write: later prompts are then as long as they can get."""
    room = view.seat.max_output_tokens * 4 - len(json.dumps(reply)) - 40
    return {**reply, field_name: "word " * max(0, min(room, 30_000) // 5)}


def reply_to(seed: int, view: TurnView) -> dict[str, Any]:
    """A valid reply of any kind, drawn from the seed and who is asked what."""
    drawn = random.Random(f"{seed}/{view.stage}/{view.round}/{view.seat.agent}")
    ids = [oid for oid, _ in view.options] or ["alpha", "beta", "gamma"]
    if view.stage in ("position", "discuss"):
        return padded(view, {"answer": drawn.choice([*ids, "abstain", "Z"]), "claims": ["c"]}, "reasoning")
    if view.stage == "concern":
        return padded(view, {"claims": ["too large"]}, "reasoning")
    if view.stage in ("draft", "revise"):
        plan = [{"step": "write", "target": f"file:src/{view.seat.agent}.py", "content": "x = 1\n" * 5}]
        return padded(view, {"summary": f"plan {drawn.randint(1, 3)}", "plan": plan}, "reasoning")
    if view.stage == "select":
        return padded(view, {"choices": [drawn.choice(ids)]}, "notes")
    if view.stage == "ballot":
        decision = drawn.choice(["approve", "reject", "abstain"])
        return padded(view, {"decision": decision, "objections": ["no rollback"]}, "notes")
    if view.stage == "judge":
        return padded(view, {"choice": drawn.choice([*ids, "none"])}, "reasoning")
    draft = {"summary": "a smaller plan", "plan": []} if drawn.random() < 0.5 else None
    return padded(view, {"kind": "modified_proposal", "draft": draft, "text": "x"}, "text")


@dataclass(slots=True)
class Schedule:
    """One schedule, drawn from its seed."""

    seed: int
    folder: Path
    sigkill: bool
    bill: Bill
    debate: Debate = field(init=False)
    deaths: list[tuple[str, str, int]] = field(init=False)
    cancel_at: int = field(init=False)

    def __post_init__(self) -> None:
        drawn = random.Random(self.seed)
        protocol = drawn.choice(["answer", "proposal"])
        moods = Moods(
            drop=drawn.choice([0, 0.05, 0.2]),
            refuse=drawn.choice([0, 0.1]),
            fail=drawn.choice([0, 0.1]),
            final=drawn.choice([0, 0.05]),
            silent=drawn.choice([0, 0.1]),
            garble=drawn.choice([0, 0.1, 0.3]),
        )
        roles = ["proposer", "critic", "auditor"] if protocol == "proposal" else ["debater"]
        voters = [(f"a{i}", roles[0] if i == 0 else drawn.choice(roles)) for i in range(drawn.randint(1, 5))]
        fallback = tuple(drawn.sample(["mediator", "judge", "human"], drawn.randint(0, 3)))
        price = drawn.choice([0, 150, 2_500])
        exact = drawn.random() < 0.8
        agents = tuple(
            Agent(
                id=agent,
                role=role,
                weight=drawn.choice([1, 1, 2]),
                max_output_tokens=drawn.choice([60, 200, 500]),
                model=GreedyModel(
                    lambda view: reply_to(self.seed, view), self.bill, moods, price, self.seed, exact, name="greedy"
                ),
            )
            for agent, role in (*voters, ("j", "judge"), ("m", "mediator"))
        )
        self.debate = Debate(
            task={"question": f"Question {self.seed}?", **({"options": ["yes", "no"]} if drawn.random() < 0.5 else {})},
            agents=agents,
            crew="generic",
            protocol=protocol,  # type: ignore[arg-type]
            rule=drawn.choice(RULES),
            tie=drawn.choice(["none", "judge", "earliest"]),  # type: ignore[arg-type]
            rounds=drawn.randint(1, 3),
            stop=drawn.choice(STOPS),
            topology=drawn.choice(["all", "ring", "sparse:2"]),
            fallback=fallback,
            warm_first=drawn.random() < 0.2,
            budget=Limits(tokens=1, calls=1, usd_nanos=1 if price else None, seconds=drawn.choice([2, 900])),
            id=f"s{self.seed}",
        )
        self.deaths = [
            (
                drawn.choice(["ledger", "model"]),
                drawn.choice(["before", "after"]),
                drawn.randint(1, drawn.choice([6, 20])),
            )
            for _ in range(drawn.randint(0, LIVES_MAX - 1))
        ]
        self.cancel_at = drawn.randint(2, 60) if drawn.random() < 0.15 else 0
        if protocol == "answer" and drawn.random() < 0.5:
            self.guide(drawn, [agent for agent, _ in voters])

    def guide(self, drawn: random.Random, voters: list[str]) -> None:
        """Put the debate under a policy in place of a rule: a ready one, or one that asks one by one in every round."""
        own = Policy("own", ask="lead:3", go_on="unanimous", rounds_max=3, pool=drawn.choice(["last", "all"]))
        policy = drawn.choice([*POLICIES.values(), own])
        known = Reliabilities({agent: drawn.choice([0.2, 0.5, 0.9]) for agent in voters})
        learned = replace(known, rank=known.ranked()) if drawn.random() < 0.5 else None
        rounds = min(self.debate.rounds, policy.rounds_max)
        agents = tuple(replace(agent, weight=1) for agent in self.debate.agents)
        guided = {"policy": policy, "learned": learned, "rule": "", "stop": "", "rounds": rounds}
        self.debate = replace(self.debate, agents=agents, **guided)

    def afford(self, error: BudgetTooSmall) -> None:
        """Raise the cap that was named: to exactly what is needed, or to up to twenty times as much."""
        drawn = random.Random(f"{self.seed}/afford/{error}")
        needed, resource = error.needed, error.resource
        assert needed > getattr(self.debate.budget, resource), f"refused what is enough: {error}"
        enough = round(needed * drawn.choice([1, drawn.uniform(1, 4), drawn.uniform(1, 4), 20]))
        self.debate = replace(self.debate, budget=self.debate.budget.model_copy(update={resource: enough}))

    async def live(self, number: int) -> Proposal:
        """One process's part: until it lands, or Crash."""
        life = Life(kill=self.sigkill)
        where, side, at = self.deaths[number] if number < len(self.deaths) else ("", "", 0)
        clock = ManualClock()
        inner = open_ledger(self.folder / "ledger.db", clock=clock)
        ledger = KillingLedger(inner, **({side: at} if where == "ledger" else {}), life=life)
        count = [0]
        fault = {side: at} if where == "model" else {}
        agents = tuple(
            replace(agent, model=KillingModel(agent.model, **fault, life=life, count=count))
            for agent in self.debate.agents
        )
        cancel, seen = asyncio.Event(), 0

        def progress(_: Progress) -> None:
            nonlocal seen
            seen += 1
            if seen == self.cancel_at:
                cancel.set()

        async def human(question: Mapping[str, Any]) -> Mapping[str, Any]:
            drawn = random.Random(f"{self.seed}/human")
            return {"choice": drawn.choice([o["id"] for o in question["options"]] + ["none"]), "by": "ann"}

        try:
            while True:
                debate = replace(self.debate, ledger=ledger, agents=agents)
                try:
                    async with asyncio.timeout(SECONDS_MAX):
                        outcome = await run(debate, human=human, clock=clock, cancel=cancel, on_progress=progress)
                except BudgetTooSmall as error:
                    assert not self.bill.charges, "something was billed before the budget was refused"
                    self.afford(error)
                    continue
                assert not isinstance(outcome, Pending)
                return outcome
        finally:
            inner.close()

    def check(self, proposal: Proposal, figures: Counter[str], deaths: int) -> None:
        """The bill against the caps, and the proposal against its own digests and its ledger."""
        caps, charges = self.debate.budget, self.bill.charges
        tokens, usd = sum(c.tokens for c in charges), sum(c.usd_nanos for c in charges)
        assert tokens <= caps.tokens, f"billed {tokens} tokens, the cap is {caps.tokens}"
        assert len(charges) <= caps.calls, f"billed {len(charges)} calls, the cap is {caps.calls}"
        assert caps.usd_nanos is None or usd <= caps.usd_nanos, f"billed {usd} nanos, the cap is {caps.usd_nanos}"
        data = proposal.to_json()
        assert check_digests(data) == [], check_digests(data)
        tally = data["decision"]["tally"]
        assert tally["eligible"] == sum(tally[k] for k in ("valid", "abstain", "invalid", "missing"))
        reported = data["usage"]["prompt_tokens"] + data["usage"]["output_tokens"]
        assert tokens <= reported <= caps.tokens, f"billed {tokens}, accounted {reported}, cap {caps.tokens}"
        again = replay(self.folder / "ledger.db", self.debate.id)
        assert again.to_json() == data, "the replay differs"
        figures["calls"] += len(charges)
        figures["under a policy"] += self.debate.policy is not None
        figures[f"stop {proposal.decision.stop_reason}"] += 1
        figures[f"result {proposal.decision.result}"] += 1
        lost = self.unaffordable()
        figures["seats never affordable after a death" if deaths else "seats never affordable"] += lost
        if lost and not deaths and os.environ.get("MADFLOW_SHOW"):
            print(self.seed, self.debate.protocol, self.debate.budget, proposal.decision.stop_numbers, file=sys.stderr)

    def unaffordable(self) -> int:
        """Seats that were not asked even once, for want of budget: what was held back for them was too little."""
        ledger = open_ledger(self.folder / "ledger.db", readonly=True)
        records = ledger.read(f"debate/{self.debate.id}")
        ledger.close()
        asked = {record.payload["call_id"] for record in records if record.kind == "reserved"}
        lost = 0
        for body in (record.payload for record in records if record.kind == "answered"):
            call_id = f"{body['stage']}/{body['kind']}/{body['agent']}/{body['part']}"
            if str(body.get("cause", "")).startswith("budget_exceeded") and call_id not in asked:
                lost += 1
        return lost


def in_process(schedule: Schedule) -> tuple[Proposal, int]:
    for number in range(LIVES_MAX):
        try:
            return asyncio.run(schedule.live(number)), number
        except Crash:
            continue
    raise AssertionError("it died more often than it was told to")


def by_sigkill(schedule: Schedule) -> tuple[Proposal, int]:
    """Each life in a forked child, which leaves its caps, and at the end its proposal, in files."""
    result, caps = schedule.folder / "result.json", schedule.folder / "caps.json"
    for number in range(LIVES_MAX):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if caps.exists():
                    limits = Limits.model_validate_json(caps.read_text())
                    schedule.debate = replace(schedule.debate, budget=limits)
                else:
                    afford_first(schedule)
                    caps.write_text(schedule.debate.budget.model_dump_json())
                proposal = asyncio.run(schedule.live(number))
                result.write_text(json.dumps(proposal.to_json()))
                code = 0
            except BaseException as error:
                (schedule.folder / "error.txt").write_text("".join(traceback.format_exception(error)))
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            continue
        if status != 0:
            raise AssertionError((schedule.folder / "error.txt").read_text())
        schedule.debate = replace(schedule.debate, budget=Limits.model_validate_json(caps.read_text()))
        return Proposal.model_validate_json(result.read_text()), number
    raise AssertionError("it was killed more often than it was told to")


def afford_first(schedule: Schedule) -> None:
    """Find caps that cover round 1 in a ledger of its own, so that each life opens with the same."""
    probe = replace(schedule.debate, ledger=str(schedule.folder / "probe.db"))
    stop = asyncio.Event()
    stop.set()
    refused = replace_models(probe)
    while True:
        try:
            asyncio.run(run(replace(refused, budget=schedule.debate.budget), cancel=stop, clock=ManualClock()))
        except BudgetTooSmall as error:
            schedule.afford(error)
            continue
        return


def replace_models(debate: Debate) -> Debate:
    """The same panel with models that quote the same, and bill elsewhere."""
    away = Bill()
    return replace(debate, agents=tuple(replace(a, model=replace(a.model, bill=away)) for a in debate.agents))


def main(first: int, count: int) -> dict[str, Any]:
    warm_up()
    gc.freeze()
    began, figures, failures = time.perf_counter(), Counter[str](), list[tuple[int, str]]()
    base = Path(tempfile.mkdtemp(prefix="madflow-schedules-", dir=IN_MEMORY))
    try:
        for seed in range(first, first + count):
            folder = base / str(seed)
            folder.mkdir()
            sigkill = seed % 5 == 0
            bill = Bill(folder / "bill.jsonl" if sigkill else None)
            schedule = Schedule(seed, folder, sigkill, bill)
            try:
                proposal, deaths = (by_sigkill if sigkill else in_process)(schedule)
                schedule.check(proposal, figures, deaths)
                figures["sigkill" if sigkill else "crash"] += deaths
            except Exception as error:
                failures.append((seed, "".join(traceback.format_exception(error))[-3000:]))
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    seconds = time.perf_counter() - began
    return {
        "schedules": count,
        "seconds": round(seconds, 1),
        "per_second": round(count / seconds, 1),
        "figures": dict(sorted(figures.items())),
        "failures": failures,
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
