"""Live arms against a loopback server: what is asked, paid, learned and resumed, and what comes out as figures."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from madflow.clock import SystemClock
from madflow.core.budget import Budget
from madflow.debate.stream import DebateStream
from madflow.errors import BudgetExceeded, ConfigError, MissingKey
from madflow.evals.dataset import Question, load_questions
from madflow.evals.live import LEARN_EVERY, LIVE_ARMS, Panel, equal_seats, hold_arm, live_arm
from madflow.evals.live_suite import Caps, LiveRun, run_live
from madflow.evals.results import read_results
from madflow.evals.suites import Suite, list_suites, load_suite
from madflow.ledger.sqlite import open_ledger
from madflow.models.scripted import ScriptedModel
from madflow.ports import Record
from madflow.testing.faults import KillingLedger
from madflow.testing.openai_server import loopback_process

SUMS = [(a, b) for a in range(2, 8) for b in range(3, 8)]


def sums(count: int = len(SUMS)) -> list[Question]:
    return [Question(f"q{a}-{b}", f"What is {a} + {b}?", (), str(a + b)) for a, b in SUMS[:count]]


def choices(count: int) -> list[Question]:
    options = (("A", "red"), ("B", "green"), ("C", "blue"))
    return [Question(f"c{n}", f"Which colour has number {n}?", options, "ABC"[n % 3]) for n in range(count)]


class Adder(ScriptedModel):
    """Adds, and counts how often it was asked. `wrong`: seats that are off by one."""

    def __init__(self, wrong: tuple[str, ...] = (), name: str = "adder") -> None:
        self.calls_made = 0

        def reply(view: Any) -> Mapping[str, Any]:
            self.calls_made += 1
            a, b = map(int, re.findall(r"\d+", view.task.question))
            total = a + b + (view.seat.agent in wrong)
            if view.options:  # later rounds name an option
                known = {text: oid for oid, text in view.options}
                return {"reasoning": "sum", "answer": known.get(str(total), str(total))}
            return {"reasoning": "sum", "answer": f"{total}"}

        super().__init__(reply)
        self.name = name


def suite_of(**values: Any) -> Suite:
    return Suite(
        name="mine",
        title="Mine",
        source="live",
        arms=values.pop("arms", ("single", "vote", "debate", "vote-equal", "robust")),
        measures=("accuracy", "tokens", "calls", "latency_ms:50", "oracle:1"),
        **values,
    )


async def test_every_arm_answers_and_its_debate_is_recorded(tmp_path: Path) -> None:
    """Catches: an arm whose live set-up differs from the recorded one, an answer lost between ballot and outcome."""
    panel = Panel(models=(Adder(wrong=("s3",)),))
    with open_ledger(tmp_path / "l.db") as ledger:
        for arm in LIVE_ARMS.values():
            held = await hold_arm(arm, sums(4), panel, ledger)
            assert [one.outcome.recording.question for one in held] == [q.task_id for q in sums(4)]
            for one in held:
                assert one.outcome.calls > 0 and one.spent.tokens == one.outcome.tokens > 0
                if arm.name not in ("single", "judge", "judge-swapped"):
                    assert one.outcome.tied == (one.outcome.recording.gold,), arm.name
                assert set(one.outcome.recording.latency_ms) >= {
                    (number, said.seat)
                    for number, spoken in enumerate(one.outcome.recording.debated.rounds, 1)
                    for said in spoken
                }
        assert ledger.verify() > 0


async def test_what_was_held_is_not_paid_for_again(tmp_path: Path) -> None:
    """Catches: a second run that asks the models again, or that answers another question from the ledger."""
    model = Adder()
    with open_ledger(tmp_path / "l.db") as ledger:
        first = await hold_arm(live_arm("vote"), sums(5), Panel(models=(model,)), ledger)
        asked = model.calls_made
        again = await hold_arm(live_arm("vote"), sums(6), Panel(models=(model,)), ledger)
        assert asked == 15 and model.calls_made == 18
        assert [one.outcome.tied for one in again[:5]] == [one.outcome.tied for one in first]
        other = Adder(wrong=("s1", "s2", "s3"), name="other")
        wrong = await hold_arm(live_arm("vote"), sums(5), Panel(models=(other,)), ledger)
        assert other.calls_made == 15 and all(one.outcome.tied != (one.outcome.recording.gold,) for one in wrong)


async def test_seats_are_learned_of_as_the_run_goes_on(tmp_path: Path) -> None:
    """Catches: reliabilities learned from the questions themselves; a piece that knows nothing of those before."""
    lone = Panel(models=(Adder(wrong=("s2",)),))
    with open_ledger(tmp_path / "l.db") as ledger:
        held = await hold_arm(live_arm("reliable"), sums(LEARN_EVERY + 4), lone, ledger)
        early, late = held[0].outcome, held[-1].outcome
        assert late.confidence > early.confidence, "later on it knows that s2 is off"
        names = [name.removeprefix("debate/") for name in ledger.streams() if name.startswith("debate/")]
        known = {name: DebateStream.load(ledger, name, SystemClock()).state.config.learned for name in names}
        assert sum(learned is None for learned in known.values()) == LEARN_EVERY


async def test_learning_as_the_run_goes_on_reads_no_debate_again(tmp_path: Path) -> None:
    """Catches: a piece of the run that folds all pieces before it anew."""
    read = Counter[str]()

    class Counted(KillingLedger):
        def read(self, stream: str, **options: Any) -> list[Record]:
            read[stream] += 1
            return super().read(stream, **options)

    with open_ledger(tmp_path / "l.db") as ledger:
        counted = Counted(ledger)
        await hold_arm(live_arm("reliable"), sums(LEARN_EVERY + 1), Panel(models=(Adder(wrong=("s2",)),)), counted)
    assert len(read) == LEARN_EVERY + 1 and len(set(read.values())) == 1, read


def test_a_suite_runs_and_goes_on_after_its_cap(tmp_path: Path) -> None:
    """Catches: a cap that is passed, figures of half a run, a second run that pays again."""
    data = tmp_path / "mine.jsonl"
    data.write_text(
        "".join(json.dumps({"id": q.task_id, "question": q.question, "answer": q.gold}) + "\n" for q in sums(8))
    )
    model = Adder(wrong=("s3",))
    panel = Panel(models=(model,), budget=Budget.of(tokens=30_000))
    live = LiveRun(suite_of(), data, tuple(load_questions(data)), panel)
    with pytest.raises(BudgetExceeded):
        run_live(live, tmp_path / "out", caps=Caps(tokens=34_000))
    assert not (tmp_path / "out/mine/results.json").exists()
    before = model.calls_made
    assert before > 0
    ran = run_live(live, tmp_path / "out", caps=Caps(tokens=10_000_000), command="the command")
    once = model.calls_made
    run_live(live, tmp_path / "out")
    assert model.calls_made == once
    results = ran.results
    assert read_results(ran.path).measures == results.measures, "the second run, for nothing, has the same figures"
    assert results.command == "the command" and results.data[0].rows == 8
    got = {(one.arm, one.measure): one for one in results.measures}
    assert got["vote", "accuracy"].value == 1.0 and got["vote", "calls"].value == 3.0
    assert got["vote", "usd"].value == 0.0
    assert got["vote-equal", "calls"].value == results.config["seats"]["vote-equal"] > 3
    assert got["vote-equal", "tokens"].value <= got["debate", "tokens"].value
    lines = (tmp_path / "out/mine/vote.jsonl").read_text().splitlines()
    assert len(lines) == 8 and "What is" not in "".join(lines)


def test_judges_are_asked_in_both_orders(tmp_path: Path) -> None:
    """Catches: a swapped judge that sees the same order, a consistency of nothing."""
    first = ScriptedModel(
        lambda view: (
            {"reasoning": "", "choice": view.options[0][0]}
            if view.stage == "judge"
            else {"reasoning": "", "answer": "ABC"[int(view.seat.agent[1:]) % 3]}
        )
    )
    data = tmp_path / "mine.jsonl"
    data.write_text("{}\n")
    suite = suite_of(arms=("judge", "judge-swapped"), answers="choice")
    ran = run_live(LiveRun(suite, data, tuple(choices(5)), Panel(models=(first,))), tmp_path / "out")
    (swapped,) = [one for one in ran.results.measures if one.measure == "swap_consistency"]
    assert swapped.value == 0.0 and swapped.n == 5, "a judge that takes the first option contradicts itself"


def test_a_real_server_is_asked_and_billed(tmp_path: Path) -> None:
    """Catches: a model by name that never reaches the wire, usage that is not the server's."""
    questions = choices(3)
    data = tmp_path / "mine.jsonl"
    data.write_text("{}\n")
    with loopback_process() as server:
        panel = Panel(models=("openai/any",), api_base=server, budget=Budget.of(tokens=60_000))
        ran = run_live(
            LiveRun(suite_of(arms=("vote",), answers="choice"), data, tuple(questions), panel), tmp_path / "o"
        )
    calls = next(one for one in ran.results.measures if one.measure == "calls")
    assert calls.value is not None and calls.value >= 3


def test_what_cannot_be_run_is_said_before_the_first_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a run that pays before it finds out."""
    data = tmp_path / "mine.jsonl"
    data.write_text("{}\n")
    model = Adder()
    panel = Panel(models=(model,))
    for questions, suite, said in (
        ((), suite_of(), "holds no question"),
        ((Question("a", "What is 1 + 1?"),), suite_of(), "1 of 1 questions have no gold"),
        (tuple(sums(1)), suite_of(arms=("vote-equal", "vote", "debate")), "stands behind vote and debate"),
        (tuple(sums(1)), suite_of(arms=("nobody",)), "no live arm 'nobody'"),
        (tuple(sums(1)), suite_of().model_copy(update={"measures": ("acuracy",)}), "no measure 'acuracy'"),
    ):
        with pytest.raises(ConfigError, match=said):
            run_live(LiveRun(suite, data, questions, panel), tmp_path / "out")
    assert model.calls_made == 0
    with pytest.raises(ConfigError, match="needs a model"):
        Panel(models=())
    with pytest.raises(ConfigError, match="1 to 26 seats"):
        Panel(models=("m",), size=27)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(MissingKey):
        run_live(LiveRun(suite_of(), data, tuple(sums(1)), Panel(models=("openai/gpt-5-mini",))), tmp_path / "out")


async def test_a_question_that_cannot_be_held_stays_in_the_denominator(tmp_path: Path) -> None:
    """Catches: a question too long for its budget that is dropped, or that ends the run."""
    long = Question("long", "What is 1 + 1?" + " really" * 30_000, (), "2")
    panel = Panel(models=(Adder(),), budget=Budget.of(tokens=20_000))
    with open_ledger(tmp_path / "l.db") as ledger:
        held = await hold_arm(live_arm("vote"), [*sums(2), long], panel, ledger)
    assert [bool(one.error) for one in held] == [False, False, True]
    assert held[2].outcome.tied == () and held[2].outcome.abstained and "long" in held[2].error


async def test_equal_tokens_buy_whole_seats(tmp_path: Path) -> None:
    """Catches: a vote that costs more than what it is compared with, a seat count without end."""
    panel = Panel(models=(Adder(),))
    with open_ledger(tmp_path / "l.db") as ledger:
        vote = await hold_arm(live_arm("vote"), sums(3), panel, ledger)
        debate = await hold_arm(live_arm("debate"), sums(3), panel, ledger)
    spent = sum(one.spent.tokens for one in debate) / 3
    seat = sum(one.spent.tokens for one in vote) / 9
    assert equal_seats(debate, vote, 3) == int(spent / seat) > 3
    assert equal_seats(debate * 20, vote[:1], 3) <= 26
    assert equal_seats([], [], 3) == 3, "nothing was paid: the panel as it is"


def test_the_shipped_live_suites_name_arms_that_exist() -> None:
    """Catches: a suite that fails only once it is paid for."""
    found = [load_suite(path) for path in list_suites().values()]
    live = [suite for suite in found if suite.source == "live"]
    assert {suite.name for suite in live} == {"live-gsm8k", "live-mmlu", "live-truthfulqa"}
    for suite in live:
        assert all(live_arm(arm) for arm in suite.arms)
        assert suite.arms.index("vote-equal") > max(suite.arms.index("vote"), suite.arms.index("debate"))


def test_a_server_that_is_not_there_is_a_failure_and_no_figure_of_quality(tmp_path: Path) -> None:
    """Catches: a run against a dead address that ends as 0 % accuracy, with costs, and nothing failed."""
    data = tmp_path / "mine.jsonl"
    data.write_text("{}\n")
    panel = Panel(models=("openai/any",), api_base="http://127.0.0.1:9/v1", budget=Budget.of(tokens=60_000))
    ran = run_live(LiveRun(suite_of(arms=("single",)), data, tuple(sums(2)), panel), tmp_path / "out")
    assert len(ran.results.failed) == 2 and "no seat answered (" in ran.results.failed[0].error


def test_a_raised_budget_does_not_lock_a_run_that_learns(tmp_path: Path) -> None:
    """Catches: a question that failed and then succeeds, after which the debates that came later cannot be resumed."""
    questions = [Question("long", "What is 1 + 1?" + " really" * 9_000, (), "2"), *sums(LEARN_EVERY + 3)]
    data = tmp_path / "mine.jsonl"
    data.write_text("{}\n")
    model = Adder()
    for tokens in (20_000, 200_000):
        panel = Panel(models=(model,), budget=Budget.of(tokens=tokens))
        ran = run_live(LiveRun(suite_of(arms=("robust",)), data, tuple(questions), panel), tmp_path / "out")
        assert len(ran.results.failed) == (tokens == 20_000)


def test_caps_that_no_debate_fits_under_are_refused(tmp_path: Path) -> None:
    """Catches: an exit code of a spent budget where nothing was spent; a cap on money that caps nothing."""
    data = tmp_path / "mine.jsonl"
    data.write_text("{}\n")
    live = LiveRun(suite_of(), data, tuple(sums(1)), Panel(models=(Adder(),), budget=Budget.of(tokens=60_000)))
    with pytest.raises(ConfigError, match="below that of one debate"):
        run_live(live, tmp_path / "out", caps=Caps(tokens=20_000))
    with pytest.raises(ConfigError, match="needs one on each debate's"):
        run_live(live, tmp_path / "out", caps=Caps(usd_nanos=10**9))
    wrong = LiveRun(suite_of(answers="choice"), data, tuple(sums(1)), live.panel)
    with pytest.raises(ConfigError, match="takes questions with options; 1 are none"):
        run_live(wrong, tmp_path / "out")
    twice = LiveRun(suite_of(), data, (*sums(1), *sums(1)), live.panel)
    with pytest.raises(ConfigError, match="share an id"):
        run_live(twice, tmp_path / "out")
