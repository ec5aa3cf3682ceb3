"""Simulated seats in the real debate graph, and panels explored with policies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from madflow import Agent, Debate, Proposal, run_sync
from madflow.core.policies import Policy
from madflow.errors import ConfigError, PermanentModelError
from madflow.ports import ModelRequest
from madflow.testing.panels.client import SimulatedModel, task_of
from madflow.testing.panels.explore import explore
from madflow.testing.panels.model import AgentModel, PanelModel, QuestionKind, agents
from madflow.testing.panels.seats import pose
from madflow.testing.panels.simulate import simulate

PANEL = PanelModel(
    agents(4, AgentModel(role="adversary")),
    kinds=(QuestionKind(1.5, 0.5, 0.3), QuestionKind(-1, 0.8, 0.3)),
    reply_chars=30,
)


def held(panel: PanelModel, key: str, rounds: int) -> Proposal:
    client = SimulatedModel(panel, seed=3)
    seats = [Agent(seat, model=client) for seat in panel.seats]
    proposal = run_sync(Debate(task=task_of(panel, key), agents=seats, rounds=rounds, stop="max_rounds"))
    assert isinstance(proposal, Proposal)
    return proposal


@pytest.mark.parametrize("options", [4, 0])
def test_the_graph_holds_the_debates_that_simulate_holds(options: int) -> None:
    """Catches seats that read the transcript wrongly: another's turn for their own, another round, an unread reply."""
    panel = replace(PANEL, options=options)
    for one in simulate(panel, 6, seed=3):
        content = held(panel, one.question, 3).content
        texts = {option["id"]: option["text"] for option in content["options"]}
        for number, row in enumerate(content["positions"], start=1):
            named = {key if options else texts[key]: count for key, count in row["counts"].items() if count}
            said = Counter(one.debated.votes(number).values())
            frozen = {answer: count for answer, count in said.items() if options or answer in texts.values()}
            assert named == frozen
            if frozen != said:
                break  # an open answer that nobody gave in round 1 is none of the options: the graph goes on otherwise


def test_a_simulated_seat_refuses_what_it_is_not() -> None:
    """Catches a panel that answers as a judge or without a view, with an answer nobody modelled."""
    request = ModelRequest(call_id="c", model="m", system="", prompt="", max_output_tokens=10, timeout_s=1.0)
    with pytest.raises(PermanentModelError, match="without a view"):
        run_sync_complete(SimulatedModel(PANEL, seed=1), request)
    strangers = [Agent(name, model=SimulatedModel(PANEL, seed=1)) for name in ("x", "y", "z")]
    done = run_sync(Debate(task=task_of(PANEL, "q0"), agents=strangers))
    assert isinstance(done, Proposal)
    assert not done.approved


def run_sync_complete(client: SimulatedModel, request: ModelRequest) -> None:
    import asyncio

    asyncio.run(client.complete(request))


def test_exploring_counts_what_is_asked_and_who_is_right() -> None:
    """Catches tokens of replies nobody asked for, bad agents that are not seated, and a policy that is not held."""
    panel = replace(PANEL, agents=agents(3), question_chars=100, reply_chars=20)
    rows = explore(
        panel,
        ["vote", "debate", Policy("two", rounds_max=2, go_on="always", pool="last")],
        seats=(3, 4),
        bad=(0, 0.5),
        questions=120,
    )
    assert [(row.seats, row.bad) for row in rows[::3]] == [(3, 0), (3, 2), (4, 0), (4, 2)]
    vote, debate, two = rows[:3]
    assert (vote.calls, debate.calls, two.calls) == (3, 9, 6)
    assert vote.tokens == 3 * (100 + 20) / 4
    assert debate.tokens == (9 * 120 + 6 * 3 * 20) / 4
    assert (vote.rounds, two.rounds, debate.rounds) == (1, 2, 3)
    assert vote.collapses == 0
    assert rows[3].accuracy < vote.accuracy - 0.2
    by_hand = [
        one.debated.votes(1)
        for run in range(3)
        for one in simulate(
            replace(panel, agents=agents(3)),
            [f"q{n}" for n in range(50 * run, min(120, 50 * run + 50))],
            seed=0,
            run=f"run-{run}",
        )
    ]
    shares = []
    for place, votes in enumerate(by_hand):
        counts = Counter(votes.values())
        top = [answer for answer, count in counts.items() if count == max(counts.values())]
        shares.append((pose(panel, f"q{place}", 0).gold in top) / max(1, len(top)))
    assert vote.accuracy == pytest.approx(sum(shares) / 120)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"questions": 10**9}, "replies="),
        ({"questions": 0}, "replies=0"),
        ({"bad": (1.2,)}, "0 to 1"),
        ({"run_questions": 0}, "run_questions=0"),
        ({"policies": ["best"]}, "no policy 'best'"),
    ],
)
def test_exploring_is_bounded(settings: dict[str, object], says: str) -> None:
    """Catches a call that would run for days, or a share that is none."""
    with pytest.raises(ConfigError, match=says):
        explore(PANEL, **settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="none of the 1 seats is honest"):
        explore(PanelModel((AgentModel(role="flipper"),)))
