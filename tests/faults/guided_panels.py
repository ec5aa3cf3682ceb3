"""Two guided debates that use what only guided debates have, and always the same: material for lives.py.

`robust`: five seats with reliabilities learned from earlier debates. Round 1 is asked in four parts and round 2 in four
more, the most reliable seats first: 10 seats asked in 8 stages. `open`: an open question. Rounds are asked in parts,
new answers come up in every round, and the last one ends in a tie, which a judge breaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from madflow.core.limits import Limits
from madflow.core.messages import Agent
from madflow.core.policies import Debated, Policy, Reliabilities, Said, policy_named
from madflow.debate.setup import Debate
from madflow.ports import TurnView

GUIDED = ("robust", "open")
SEATS = "abcde"
OPEN_SEATS = "abcd"
OPTIONS = ["red", "green", "blue", "grey"]
LETTERS = ("CACAB", "ABABA")
"""What each seat of `robust` answers, by round."""

SAID = {
    "a": ("13", "12", "14"),
    "b": ("12", "o1", "15"),
    "c": ("13.", " 14.", "o4"),
    "d": ("[0, 1)", "abstain", "15"),
}
"""What each seat of `open` answers, by round: a number, an option's id, or nothing."""

OPEN = Policy("one-by-one", ask="lead:2", ask_first=2, go_on="unanimous", rounds_max=3, pool="last")


def past() -> list[Debated]:
    """Earlier debates of the five seats of `robust`: a is mostly right, e mostly alone."""
    debates = []
    for n in range(24):
        one, other = "ABCD"[n % 4], "ABCD"[(n + 1 + n // 4) % 4]
        says = {
            "a": one,
            "b": one if n % 2 else other,
            "c": one if n % 3 else other,
            "d": one if n % 5 else other,
            "e": other if n % 4 else one,
        }
        spoken = tuple(Said(seat, answer, None, "because " * (3 + n % 5)) for seat, answer in says.items())
        debates.append(Debated((spoken,), tuple(SEATS), 2, len(OPTIONS)))
    return debates


def learned() -> Reliabilities:
    """What `robust` knows of its seats beforehand."""
    return policy_named("robust").learn(past())


def guided_reply(view: TurnView) -> Mapping[str, Any]:
    """Whichever of the two debates is asking."""
    agent = view.seat.agent
    if view.stage == "judge":
        return {"choice": min(oid for oid, _ in view.options), "reasoning": "the first of them"}
    answer = LETTERS[view.round - 1][SEATS.index(agent)] if view.task.options else SAID[agent][view.round - 1]
    return {"answer": answer, "reasoning": f"{agent} argues in round {view.round}"}


def make_guided(shape: str, model: Any, ledger: Any, known: Reliabilities, **values: Any) -> Debate:
    """The debate of that shape. `known`: what `learned` returns, for `robust`."""
    shared: dict[str, Any] = {"id": "d1", "ledger": ledger, "budget": Limits(), **values}
    if shape == "robust":
        agents = [Agent(id=seat, role="debater", model=model, max_output_tokens=200) for seat in SEATS]
        task = {"question": "Which colour?", "options": OPTIONS}
        return Debate(task=task, agents=agents, policy="robust", learned=known, **shared)
    agents = [Agent(id=seat, role="debater", model=model, max_output_tokens=200) for seat in OPEN_SEATS]
    judge = Agent(id="j", role="judge", model=model, max_output_tokens=200)
    return Debate(task="How many?", agents=[*agents, judge], policy=OPEN, tie="judge", **shared)
