"""Debates under a policy through the real graph and ledger: what it asks and records, and what is learned from it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from madflow.clock import SystemClock
from madflow.core.messages import Agent
from madflow.core.policies import Policy, policy_named
from madflow.core.proposal import Proposal
from madflow.debate.learning import Past, debated, learn_from
from madflow.debate.run import hold, replay, run
from madflow.debate.setup import Debate
from madflow.debate.stream import DebateStream
from madflow.errors import ConfigError, LedgerError, ResumeRefused
from madflow.ledger.sqlite import open_ledger
from madflow.models.scripted import ScriptedModel
from madflow.ports import Record
from madflow.testing.faults import Crash, KillingLedger

OPTIONS = ["red", "green", "blue", "grey"]


class Counting(ScriptedModel):
    """A scripted model that remembers who was asked in which round, and what it was shown."""

    def __init__(self, letters: dict[str, list[str]]) -> None:
        self.seats_asked: list[tuple[str, int]] = []
        self.shown: dict[tuple[str, int], int] = {}

        def reply(view: Any) -> dict[str, Any]:
            self.seats_asked.append((view.seat.agent, view.round))
            self.shown[view.seat.agent, view.round] = len(view.transcript)
            return {"reasoning": f"{view.seat.agent} argues", "answer": letters[view.seat.agent][view.round - 1]}

        super().__init__(reply)


def debate_of(model: Any, ledger: Any, name: str, agents: int = 3, **values: Any) -> Debate:
    task = {"task_id": name, "question": "Which colour?", "options": OPTIONS}
    return Debate(
        task=task, agents=[Agent(f"s{i}", model=model) for i in range(agents)], ledger=ledger, id=name, **values
    )


async def test_a_policy_asks_no_more_than_it_needs(tmp_path: Path) -> None:
    """Catches: a whole panel asked where a few are enough; a seat of a later part that sees the part before it."""
    model = Counting({f"s{i}": ["A"] for i in range(10)})
    with open_ledger(tmp_path / "l.db") as ledger:
        outcome = await run(debate_of(model, ledger, "d1", agents=10, policy="lead"))
        assert isinstance(outcome, Proposal)
        assert outcome.approved and outcome.decision.choice == "A"
        assert len(model.seats_asked) == 3 == outcome.usage["calls"]
        assert set(model.shown.values()) == {0}
        assert outcome.decision.tally.missing == 7
        assert outcome.content["policy"]["asked"] == [3]
        assert [len(spoken) for spoken in debated(ledger, "d1").rounds] == [3]
        assert replay(ledger, "d1").digest == outcome.digest
        assert ledger.verify() > 0


async def test_a_second_round_sees_the_whole_first_one(tmp_path: Path) -> None:
    """Catches: a round held in parts shown as several rounds, or only its last part."""
    one_by_one = Policy("one-by-one", ask="lead:3", go_on="always", rounds_max=2, pool="last")
    model = Counting({"s0": ["A", "A"], "s1": ["B", "A"], "s2": ["C", "A"]})
    with open_ledger(tmp_path / "l.db") as ledger:
        outcome = await run(debate_of(model, ledger, "d1", policy=one_by_one))
    assert isinstance(outcome, Proposal)
    assert {model.shown[f"s{i}", 1] for i in range(3)} == {0}
    assert {shown for (_, number), shown in model.shown.items() if number == 2} == {3}
    assert outcome.decision.rounds == 2 and outcome.decision.choice == "A"


async def test_what_is_learned_turns_a_vote_around(tmp_path: Path) -> None:
    """Catches: reliabilities that are learned and never used, or that come from other panels."""
    letters = {"s0": ["A"], "s1": ["A"], "s2": ["B"]}
    with open_ledger(tmp_path / "l.db") as ledger:
        for n in range(12):  # s2 is alone everywhere but with s1 here and there
            said = {"s0": ["ABCD"[n % 4]], "s1": ["ABCD"[n % 4]], "s2": ["ABCD"[(n + 1) % 4]]}
            await run(debate_of(Counting(said), ledger, f"past-{n}", policy="reliable"))
        names = [f"past-{n}" for n in range(12)]
        learned = learn_from(ledger, "reliable", names)
        assert learned.by_seat["s0"] > 0.7 > 0.25 > learned.by_seat["s2"]
        split = {"s0": ["A"], "s1": ["C"], "s2": ["B"]}
        plain = await run(debate_of(Counting(split), ledger, "plain", policy="reliable"))
        wise = await run(debate_of(Counting(split), ledger, "wise", policy="reliable", learned=learned))
        assert isinstance(plain, Proposal) and isinstance(wise, Proposal)
        assert plain.decision.result == "no_decision" and set(plain.content["policy"]["tied"]) == {"A", "B", "C"}
        assert "B" not in wise.content["policy"]["tied"]
        with pytest.raises(ResumeRefused, match="learned"):
            await run(debate_of(Counting(split), ledger, "wise", policy="reliable"))
        await run(debate_of(Counting(letters), ledger, "ruled"))
        assert learn_from(ledger, "reliable", [*names, "ruled"]).questions == 13
        await run(debate_of(Counting(letters), ledger, "fewer", agents=2, policy="reliable"))
        with pytest.raises(ConfigError, match="different panels"):
            learn_from(ledger, "reliable", [*names, "fewer"])
        with pytest.raises(ConfigError, match="had another panel"):
            learn_from(ledger, "reliable", names, {"s0": "m", "s1": "m", "s2": "other"})
        with pytest.raises(ConfigError, match="at least one"):
            learn_from(ledger, policy_named("reliable"), [])
        with pytest.raises(LedgerError, match="no debate"):
            learn_from(ledger, "reliable", ["never-held"])


async def test_a_policy_of_no_name_and_a_stop_beside_it_are_refused(tmp_path: Path) -> None:
    """Catches: a typing error that silently debates under the default rule."""
    model = Counting({f"s{i}": ["A"] for i in range(3)})
    with open_ledger(tmp_path / "l.db") as ledger:
        with pytest.raises(ConfigError, match="no policy 'robusst'"):
            await run(debate_of(model, ledger, "d1", policy="robusst"))
        with pytest.raises(ConfigError, match="leave stop out"):
            await run(debate_of(model, ledger, "d1", policy="robust", stop="converged | max_rounds"))
        with pytest.raises(ConfigError, match="holds 2 rounds at most"):
            await run(debate_of(model, ledger, "d1", policy="robust", rounds=3))
    assert model.seats_asked == []


class Read(KillingLedger):
    """A ledger that counts how often each debate is read."""

    reads: Counter[str]

    def read(self, stream: str, **options: Any) -> list[Record]:
        self.reads = getattr(self, "reads", Counter())
        self.reads[stream.removeprefix("debate/")] += 1
        return super().read(stream, **options)


async def test_what_is_learned_again_and_again_reads_each_debate_once(tmp_path: Path) -> None:
    """Catches: learning whose cost is the square of a run's debates; a kept debate that says something else."""
    with open_ledger(tmp_path / "l.db") as inner:
        ledger = Read(inner)
        names = [f"past-{n}" for n in range(6)]
        for n, name in enumerate(names):
            said = {"s0": ["ABCD"[n % 4]], "s1": ["ABCD"[n % 4]], "s2": ["ABCD"[(n + 1) % 4]]}
            await run(debate_of(Counting(said), ledger, name, policy="reliable"))
        ledger.reads = Counter()
        past = Past(ledger)
        for known in range(1, 7):
            learned = past.learn("reliable", names[:known])
            assert learned == learn_from(inner, "reliable", names[:known])
        assert past.debated("past-0") == debated(inner, "past-0")
        assert ledger.reads == Counter(dict.fromkeys(names, 1))
        _, state = await hold(debate_of(Counting({f"s{i}": ["A"] for i in range(3)}), inner, "new", policy="reliable"))
        assert past.add(state) == debated(inner, "new")
        assert past.learn("reliable", [*names, "new"]) == learn_from(inner, "reliable", [*names, "new"])
        assert ledger.reads["new"] == 0
        with pytest.raises(ConfigError, match="different panels"):
            await run(debate_of(Counting({"s0": ["A"], "s1": ["A"]}), ledger, "two", agents=2, policy="reliable"))
            past.learn("reliable", [*names, "two"])


async def test_a_debate_that_is_not_over_is_read_again(tmp_path: Path) -> None:
    """Catches: a debate kept as it was seen in the middle, whose later votes are never learned from."""
    model = Counting({f"s{i}": ["ABC"[i]] for i in range(3)})
    with open_ledger(tmp_path / "l.db") as inner:
        past = Past(inner)
        with pytest.raises(Crash):
            dying = KillingLedger(inner, after=4)
            await run(debate_of(model, dying, "d1", policy="lead"))
        early = past.debated("d1")
        assert past.add(DebateStream.load(inner, "d1", SystemClock()).state) == early
        outcome, state = await hold(debate_of(model, inner, "d1", policy="lead"))
        assert isinstance(outcome, Proposal)
        whole = past.debated("d1")
        assert [len(spoken) for spoken in early.rounds] < [len(spoken) for spoken in whole.rounds] == [3]
        assert whole == debated(inner, "d1") == past.add(state) == past.add(state)


async def test_a_debate_of_another_ledger_takes_nobodys_place(tmp_path: Path) -> None:
    """Catches: a debate of the same id replaced in silence, so that a run learns from what it never held."""
    states = []
    for letter in "AB":
        with open_ledger(tmp_path / f"{letter}.db") as ledger:
            model = Counting({f"s{i}": [letter] for i in range(3)})
            states.append((await hold(debate_of(model, ledger, "d1", policy="lead")))[1])
    with open_ledger(tmp_path / "A.db") as ledger:
        past = Past(ledger)
        first = past.add(states[0])
        with pytest.raises(ConfigError, match="'d1' is known and says something else"):
            past.add(states[1])
        assert past.debated("d1") == first == debated(ledger, "d1")


async def test_a_ledger_is_learned_from_by_its_path(tmp_path: Path) -> None:
    """Catches: a path that ends in AttributeError, or one that is not there and is made."""
    path = tmp_path / "l.db"
    with open_ledger(path) as ledger:
        await run(debate_of(Counting({"s0": ["A"], "s1": ["A"], "s2": ["B"]}), ledger, "past", policy="reliable"))
        expected, held = learn_from(ledger, "reliable", ["past"]), debated(ledger, "past")
        assert learn_from(ledger, "reliable", ["past"]) == expected, "an open ledger stays open"
    for given in (path, str(path)):
        assert learn_from(given, "reliable", ["past"]) == expected
        assert debated(given, "past") == held
    with pytest.raises(LedgerError):
        learn_from(tmp_path / "no.db", "reliable", ["past"])
    assert not (tmp_path / "no.db").exists()
    with pytest.raises(ConfigError, match="give open_ledger"):
        Past(str(path))  # type: ignore[arg-type]
