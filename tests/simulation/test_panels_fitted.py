"""A panel fitted to debates says such debates again: on simulated ones with a known truth, and on recordings."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest

from madflow.core.linear import solve
from madflow.core.policies import Debated, Said
from madflow.errors import ConfigError
from madflow.evals.special import simulations
from madflow.evals.suites import Group, Suite, Target
from madflow.testing.panels.behaviour import chances_of
from madflow.testing.panels.calibration import Deviation, calibration_report, crossed_report, halves, measures, worst
from madflow.testing.panels.fitting import course_of, fit
from madflow.testing.panels.histogram import histogram, pattern_of
from madflow.testing.panels.logit import Case, fit_logit
from madflow.testing.panels.model import AgentModel, Course, PanelModel, Persuasion, QuestionKind, agents
from madflow.testing.panels.simulate import simulate

KINDS = (
    QuestionKind(2.0, 0.8, 0.02, share=0.5),
    QuestionKind(-1.0, 0.8, 0.02, share=0.3),
    QuestionKind(0.0, 0.0, 0.3, share=0.2),
)
PERSUASION = Persuasion(keep=0.8, conform=2.5, unanimous=-0.5, right_kept=0.6, right_seen=0.3)
TRUTH = PanelModel(
    agents(2, AgentModel(role="adversary", slips_first=0.2, slips=0.1, tempting=0.8)),
    kinds=KINDS,
    persuasion=PERSUASION,
    unison=0.4,
    reply_chars=1,
)


@dataclass(frozen=True)
class Held:
    """A debate written down by hand: a text a round, one letter a seat, "-" for unreadable."""

    rounds: tuple[str, ...]
    gold: str | None = "A"
    question: str = "q"
    run: str = "r"
    adversaries: frozenset[str] = frozenset()
    most: int = 3

    @property
    def debated(self) -> Debated:
        said = tuple(
            tuple(Said(f"s{place}", None if letter == "-" else letter) for place, letter in enumerate(text))
            for text in self.rounds
        )
        return Debated(said, tuple(f"s{place}" for place in range(len(self.rounds[0]))), self.most, options=4)


@dataclass(frozen=True)
class Recorded:
    debated: Debated
    gold: str | None = "A"
    question: str = "q"
    run: str = "r"
    adversaries: frozenset[str] = frozenset()


def test_elimination_and_newton_against_known_answers() -> None:
    """Catches a pivot, a sign or a derivative that is wrong: every fitted weight would be."""
    assert solve([[0, 2], [3, 1]], [4, 11]) == pytest.approx([3, 2])
    with pytest.raises(ConfigError, match=r"singular.*leave out"):
        solve([[1, 1], [1, 1]], [1, 2])
    offered = ((0.0, (1.0, 0.0)), (math.log(2), (0.0, 1.0)), (0.0, (0.0, 0.0)))
    shares = (0.5, 0.3, 0.2)
    beta = fit_logit([Case(10_000 * share, place, offered) for place, share in enumerate(shares)], 2, ridge=1e-6)
    assert beta == pytest.approx([math.log(0.5 / 0.2), math.log(0.3 / 0.4)], abs=1e-4)
    assert chances_of([offset + beta[0] * x[0] + beta[1] * x[1] for offset, x in offered]) == pytest.approx(shares)
    certain = fit_logit([Case(5, 0, offered)], 2)  # a feature that tells perfectly: the ridge keeps it finite
    assert all(abs(weight) < 5 for weight in certain)
    with pytest.raises(ConfigError, match="ridge is above 0"):
        fit_logit([], 2, ridge=0)


def test_the_histogram_finds_kinds_again() -> None:
    """Catches temptation and easiness mixed up, or a likelihood that forgets that the tempting answer is unknown."""
    debates = simulate(replace(TRUTH, agents=agents(6), course=Course(rounds=1)), 2_000, seed=1)
    answers = [[said.answer for said in one.debated.rounds[0]] for one in debates]
    patterns = Counter(pattern_of(given, one.gold, 4) for given, one in zip(answers, debates, strict=True))
    kinds = histogram(patterns)
    assert sum(kind.share for kind in kinds) == pytest.approx(1, abs=0.03)

    def mean(of: str, among: tuple[QuestionKind, ...]) -> float:
        rights = [1 / (1 + math.exp(-kind.easiness)) for kind in among]
        values = rights if of == "right" else [getattr(kind, of) for kind in among]
        whole = sum(kind.share for kind in among)
        return sum(kind.share * value for kind, value in zip(among, values, strict=True)) / whole

    assert mean("right", kinds) == pytest.approx(mean("right", KINDS), abs=0.02)
    assert mean("unreadable", kinds) == pytest.approx(mean("unreadable", KINDS), abs=0.02)
    assert mean("temptation", kinds) == pytest.approx(mean("temptation", KINDS), abs=0.1)


@pytest.fixture(scope="module")
def fitted() -> PanelModel:
    return fit(simulate(TRUTH, 1_500, seed=2))


def test_the_fit_finds_its_own_panel(fitted: PanelModel) -> None:
    """Catches roles, slips, unison or persuasion that is read from the wrong replies."""
    bad = fitted.agents[-1]
    assert [agent.role for agent in fitted.agents] == ["honest", "honest", "adversary"]
    assert bad.slips_first == pytest.approx(0.2, abs=0.06)
    assert bad.slips == pytest.approx(0.1, abs=0.05)
    assert bad.tempting == pytest.approx(0.8, abs=0.12)
    assert fitted.unison == pytest.approx(0.4, abs=0.12)
    assert fitted.persuasion.keep == pytest.approx(PERSUASION.keep, abs=0.4)
    assert fitted.persuasion.conform == pytest.approx(PERSUASION.conform, abs=0.6)
    assert (fitted.options, fitted.course) == (4, Course(3))


def test_new_debates_of_the_fitted_panel_are_as_recorded_ones() -> None:
    """Catches errors that add up over rounds: on debates it was not fitted to, every figure is near."""
    report = calibration_report(simulate(TRUTH, 1_200, seed=2), simulate(TRUTH, 1_500, seed=3), 4, debates=1_500)
    assert {(row.measure, row.round) for row in report} >= {("accuracy", 3), ("unanimity", 1), ("right_to_wrong", 2)}
    for row in report:
        assert abs(row.points) <= 2 + 200 * row.error, row


def test_measures_of_debates_written_by_hand() -> None:
    """Catches a tie that is not split, an unreadable reply that agrees, a flip counted over the wrong seats."""
    held = [
        Held(("AAB", "AAA"), question="1"),
        Held(("AB-", "BBB", "BBC"), question="2"),
        Held(("CCC",), question="3", adversaries=frozenset({"s0"})),
    ]
    found = {name: value for name, (value, _) in measures(held).items()}
    assert found["accuracy", 1] == pytest.approx((1 + 0.5 + 0) / 3)
    assert found["accuracy", 3] == pytest.approx((1 + 0 + 0) / 3)
    assert found["unanimity", 1] == pytest.approx(1 / 3)
    assert found["unanimity", 2] == pytest.approx(1)
    assert found["unanimity", 3] == pytest.approx(2 / 3)
    assert found["votes_right", 1] == pytest.approx(3 / 8)
    assert found["right_to_wrong", 1] == pytest.approx(1 / 3)
    assert found["wrong_to_right", 1] == pytest.approx(1 / 3)
    assert found["wrong_to_right", 2] == 0
    assert math.isnan(found["right_to_wrong", 2])


def test_standard_errors_are_of_questions() -> None:
    """Catches an error bar that counts debates on one question as independent."""
    once = [Held(("AAA",) if n % 2 else ("BBB",), question=str(n)) for n in range(40)]
    value, error = measures(once)["accuracy", 1]
    assert (value, error) == pytest.approx((0.5, 0.5 / math.sqrt(39)))
    assert measures(once * 5)["accuracy", 1][1] == pytest.approx(error)


def test_the_course_is_read_off_the_endings() -> None:
    """Catches a wrong share of agreement, and agreement that was overlooked counted as a rule of its own."""
    assert course_of([Held(("AAB", "AAA", "AAA"))]) == Course(3)
    early = [Held(("AAA",)), Held(("AAB", "AAA")), Held(("AAB", "ABB", "ABB"))] * 5
    assert course_of(early) == Course(3, agree=Fraction(2, 3))
    assert course_of([*early, Held(("AAA", "AAA"))]).missed == pytest.approx(1 / 12)
    fewer = Held(("AABB", "AABB"), most=3)
    assert course_of([fewer, _narrowed(fewer)]).asked == (0, 0, 2)
    half = [Held(("AABB", "AAAB")), Held(("AABB", "AABC", "AABC"))]
    assert course_of([*half, Held(("AAABB"[:5],), most=3)]).agree == Fraction(1, 2)


def _narrowed(held: Held) -> Recorded:
    """With a third round in which two of the seats are asked."""
    debated = held.debated
    return Recorded(replace(debated, rounds=(*debated.rounds, debated.rounds[-1][:2])))


def test_halves_keep_a_question_together() -> None:
    """Catches a leak: debates on one question in both halves."""
    debates = [replace(one, run=run) for run in "ab" for one in simulate(TRUTH, 50, seed=1)]
    first, second = halves(debates)
    assert not {one.question for one in first} & {one.question for one in second}
    assert len(first) + len(second) == 100
    assert first
    assert second


def test_the_worst_is_of_either_sign_and_of_figures_that_are_there() -> None:
    """Catches a negative deviation that is passed over, and nan, which is greater and less than nothing."""
    rows = [
        Deviation("accuracy", 1, 0.5, math.nan, 0.1),
        Deviation("unanimity", 1, 0.5, 0.6, 0.1),
        Deviation("accuracy", 2, 0.5, 0.2, 0.1),
        Deviation("votes_right", 1, 0.5, 1.0, 0.1),
    ]
    assert worst(rows) == rows[2]
    assert worst(rows[:1]) is None


def test_a_suite_measures_the_worst_half_and_the_null() -> None:
    """Catches halves that are pooled before they are compared, a panel compared with what it was fitted to, no null.

    What is right in one half is wrong in the other: what one half says of the other is off by all there is, and pooled
    figures do not show it.
    """
    names = [str(number) for number in range(30)]
    second = {one.question for one in halves([Held(("AAA",), question=name) for name in names])[1]}
    recorded = [Held(("BBB",) if name in second else ("AAA",), question=name) for name in names]
    target = Target(name="t", data="d", arm="simulated", measure="deviation_max", target="<= 0.02")
    absent = target.model_copy(update={"data": "absent"})
    suite = Suite(name="s", title="s", source="simulator", target=(target, absent))
    group = Group(label="d", files=(), condition="", rows_per_run=None, arms=())
    scored = simulations(suite, [(group, recorded)], 1, 1, debates=200).scored  # type: ignore[list-item]
    values = {(one.group.get("half", ""), one.arm, one.measure): one.value or 0.0 for one in scored.measures}
    assert len(values) == len(scored.measures)
    assert values["", "simulated", "deviation_max"] > 0.9
    assert values["", "copied", "deviation_max"] == 1
    assert values["", "simulated", "deviation_pooled_max"] < 0.1
    assert values["", "copied", "deviation_max_noise"] == 0
    assert [values[half, "recorded", "accuracy:1"] for half in "12"] == [1, 0]
    assert [values[half, "copied", "accuracy:1"] for half in "12"] == [0, 1]
    assert values["1", "simulated", "accuracy:1"] < 0.1 < 0.9 < values["2", "simulated", "accuracy:1"]
    assert {one.questions for one in scored.measures if "half" in one.group} == {15}
    assert [(one.met, one.n, one.why) for one in scored.targets] == [(False, 30, ""), (None, None, "no data")]


def test_what_cannot_be_fitted_is_refused() -> None:
    """Catches a fit to nothing, or to debates whose right answer is not known."""
    with pytest.raises(ConfigError, match="recorded=0"):
        fit([])
    with pytest.raises(ConfigError, match="no gold"):
        fit([Held(("AAA",), gold=None)])
    with pytest.raises(ConfigError, match="test=0"):
        calibration_report([Held(("AAA",))], [], 1)
    with pytest.raises(ConfigError, match="half of the debates"):
        crossed_report([Held(("AAA",))], 1)


@pytest.mark.parametrize("condition", ["clean", "adversary"])
def test_recorded_debates(condition: str) -> None:
    """Catches a change that takes the simulation away from debates of real models, on halves it was not fitted to."""
    from madflow.evals.load import load_recorded

    folder = os.environ.get("MADFLOW_RECORDED", "")
    path = Path(folder) / "attack-scalr.jsonl.gz"
    if not folder or not path.is_file():
        pytest.skip("MADFLOW_RECORDED names no folder with attack-scalr.jsonl.gz: real recordings are not shipped")
    rows = [row.recording for row in load_recorded(path) if row.recording.condition == condition]
    crossed = crossed_report(rows, 7)
    first, second = crossed.simulated
    assert len(first) == len(second) == 13
    for one, two in zip(first, second, strict=True):
        for row in (one, two):
            assert abs(row.points) <= 2 + 200 * math.hypot(one.error, two.error), row
