"""Simulated debates say what the model says: its laws, its roles, its course, and the same in every process."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.errors import ConfigError
from madflow.testing.panels.behaviour import Sight, chances_of, choices, first_chances, later_scores
from madflow.testing.panels.draws import Draws
from madflow.testing.panels.model import AgentModel, Course, PanelModel, Persuasion, QuestionKind, agents
from madflow.testing.panels.seats import answers_of, cast, pose
from madflow.testing.panels.simulate import Simulated, simulate

KIND = QuestionKind(easiness=0.6, temptation=0.5, unreadable=0.1)
PANEL = PanelModel(agents(3), kinds=(KIND,), reply_chars=4)


def votes(one: Simulated, number: int) -> list[str | None]:
    return [said.answer for said in one.debated.rounds[number - 1]]


def near(count: int, whole: int, chance: float) -> bool:
    """Within four standard errors of a share."""
    return abs(count / whole - chance) <= 4 * math.sqrt(chance * (1 - chance) / whole) + 1e-9


def test_the_same_in_every_process() -> None:
    """Catches draws that depend on the interpreter, the hash seed, or what was drawn before."""
    debates = simulate(replace(PANEL, course=Course(topology="sparse:1"), spread=0.5), 40, seed=9, run="r")
    said = "".join("".join(answer or "-" for answer in votes(one, n)) for one in debates for n in (1, 2, 3))
    assert hashlib.sha256(said.encode()).hexdigest()[:16] == "0afe38cc4a7aa37d"
    again = simulate(replace(PANEL, course=Course(topology="sparse:1"), spread=0.5), ["q7"], seed=9, run="r")
    assert again == [debates[7]]
    assert simulate(PANEL, 40, seed=8, run="r") != simulate(PANEL, 40, seed=9, run="r")


def test_first_replies_follow_their_law() -> None:
    """Catches a chance put to the wrong answer, temptation or unreadability that is not what was set."""
    debates = simulate(replace(PANEL, agents=agents(1), course=Course(rounds=1)), 6_000, seed=1)
    tempting = {one.question: pose(PANEL, one.question, 1).tempting for one in debates}
    found: Counter[str] = Counter()
    for one in debates:
        (answer,) = votes(one, 1)
        right, tempted = answer == one.gold, answer == tempting[one.question]
        found["blank" if answer is None else "right" if right else "tempted" if tempted else "other"] += 1
    right_, tempted_, other, blank = first_chances(KIND, 0.0, 4)
    assert right_ == pytest.approx(0.9 / (1 + math.exp(-0.6)))
    assert tempted_ / other == pytest.approx((0.5 + 0.5 / 3) / (0.5 / 3))
    for name, chance in (("right", right_), ("tempted", tempted_), ("other", 2 * other), ("blank", blank)):
        assert near(found[name], 6_000, chance), name


def test_later_replies_follow_the_logit() -> None:
    """Catches noise that is not Gumbel's, or weights put to the wrong feature, which would bend every flip rate."""
    panel = replace(PANEL, persuasion=Persuasion(keep=0.7, conform=1.5, right_seen=0.4, unseen=-1.0, blank=-1.0))
    playing = cast(panel, "run", 5)
    found: Counter[str | None] = Counter()
    sight = Sight("A", (("B", False), (None, False)))
    for place in range(4_000):
        question = replace(pose(panel, f"q{place}", 5), gold="B", tempting="C")
        found[playing.reply(question, "s0", 2, sight)] += 1
    offered = choices(sight, "B", 4)
    chances = dict(zip("AB*-", chances_of(later_scores(offered, panel.persuasion, panel.agents[0])), strict=True))
    assert near(found["A"], 4_000, chances["A"])
    assert near(found["B"], 4_000, chances["B"])
    assert near(found["C"] + found["D"], 4_000, chances["*"])
    assert near(found[None], 4_000, chances["-"])
    assert near(found["C"], found["C"] + found["D"], 0.5)


def test_unison_moves_seats_together_and_no_seat_more_often() -> None:
    """Catches a coupling that changes the chance of a single seat, which would break the fitted flip rates."""
    debates = {
        unison: simulate(replace(PANEL, unison=unison, course=Course(rounds=2)), 2_500, seed=2) for unison in (0.0, 1.0)
    }
    moved = {
        unison: sum(a != b for one in held for a, b in zip(votes(one, 1), votes(one, 2), strict=True))
        for unison, held in debates.items()
    }
    assert near(moved[1.0], 7_500, moved[0.0] / 7_500)
    alike = {unison: sum(len(set(votes(one, 2))) == 1 for one in held) for unison, held in debates.items()}
    assert alike[1.0] > 1.15 * alike[0.0]


def test_a_seat_more_changes_nothing_said_before() -> None:
    """Catches draws shared between seats: settings would then differ by luck (common random numbers)."""
    three, four = (simulate(replace(PANEL, agents=agents(n)), 60, seed=3) for n in (3, 4))
    assert [votes(one, 1) for one in three] == [votes(one, 1)[:3] for one in four]
    assert [one.gold for one in three] == [one.gold for one in four]


def test_stubborn_seats_keep_and_conformists_follow() -> None:
    """Catches stubbornness or conformity that does nothing, or the reverse."""
    firm = replace(PANEL, agents=(AgentModel(stubbornness=40),) * 3, kinds=(replace(KIND, unreadable=0),))
    assert all(votes(one, 1) == votes(one, 3) for one in simulate(firm, 200, seed=4))
    led = replace(firm, agents=(AgentModel(conformity=15),) * 3, unison=0.0)
    for one in simulate(led, 200, seed=4):
        answer, count = Counter(votes(one, 1)).most_common(1)[0]
        if count == 3:
            assert votes(one, 2) == [answer] * 3


def test_an_adversary_argues_for_one_wrong_answer() -> None:
    """Catches one that drifts, or that says what is right unless it slips."""
    panel = replace(PANEL, agents=agents(2, AgentModel(role="adversary", tempting=1.0)))
    for one in simulate(panel, 100, seed=5):
        said = {answer for n in (1, 2, 3) for answer in votes(one, n)[2:]}
        assert said == {pose(panel, one.question, 5).tempting}
        assert one.adversaries == {"s2"}
    slipping = replace(panel, agents=agents(2, AgentModel(role="adversary", slips_first=1.0)))
    first = [votes(one, 1)[2] == one.gold for one in simulate(slipping, 2_000, seed=5)]
    assert near(sum(first), 2_000, first_chances(KIND, 0.0, 4)[0])


def test_an_equivocator_tells_readers_different_things_and_a_flipper_turns() -> None:
    """Catches one voice for all readers, a right answer among the two, or a flipper that repeats itself."""
    panel = replace(PANEL, agents=agents(6, AgentModel(role="equivocator")))
    playing, both = cast(panel, "run-0", 6), 0
    for one in simulate(panel, 60, seed=6):
        question, answer = pose(panel, one.question, 6), votes(one, 1)[6]
        heard = {playing.told(question, "s6", 1, answer, reader) for reader in panel.seats[:6]}
        assert one.gold not in heard
        assert heard <= {playing.told(question, "s6", 2, answer, reader) for reader in panel.seats[:6]}
        both += len(heard) == 2
    assert both > 40
    turning = replace(PANEL, agents=agents(2, AgentModel(role="flipper")))
    assert all(len({votes(one, n)[2] for n in (1, 2, 3)}) == 3 for one in simulate(turning, 50, seed=6))


@pytest.mark.parametrize(("topology", "shown"), [("all", 5), ("ring", 3), ("sparse:1", 2)])
def test_a_seat_sees_what_the_topology_shows(topology: str, shown: int) -> None:
    """Catches a simulation that lets everybody see everybody, or prompts that do not count what is shown."""
    panel = replace(PANEL, agents=agents(5), course=Course(rounds=2, topology=topology), question_chars=100)
    for one in simulate(panel, 10, seed=7):
        assert {one.prompt_chars[1, seat] for seat in panel.seats} == {100}
        assert {one.prompt_chars[2, seat] for seat in panel.seats} == {100 + 4 * shown}


def test_the_course_ends_on_agreement() -> None:
    """Catches a debate that goes on after agreement, ends without it, or asks seats it need not ask."""
    course = Course(rounds=3, agree=Fraction(2, 3), one_by_one=True, asked=(0, 0, 2))
    early = 0
    for one in simulate(replace(PANEL, agents=agents(4), course=course), 300, seed=8):
        *before, last = [Counter(filter(None, votes(one, n))) for n in range(1, len(one.debated.rounds) + 1)]
        assert all(max(counts.values(), default=0) < 3 for counts in before)
        assert max(last.values(), default=0) == 3 or len(before) == 2
        early += len(one.debated.rounds[0]) == 3
        assert all(len(spoken) <= most for spoken, most in zip(one.debated.rounds, (4, 4, 2), strict=False))
    assert early > 50
    missed = simulate(replace(PANEL, agents=agents(4), course=replace(course, missed=1.0)), 20, seed=8)
    assert {len(one.debated.rounds) for one in missed} == {3}


def test_competence_is_drawn_once_a_run() -> None:
    """Catches a seat that is another one in every debate: nothing could then be learned about it across a run."""
    panel = replace(PANEL, spread=2.0)
    one, other = cast(panel, "a", 1).seats, cast(panel, "b", 1).seats
    assert one == cast(panel, "a", 1).seats
    assert one["s0"].competence != other["s0"].competence
    drawn = [Draws(1).normal("x", n) for n in range(3_000)]
    assert abs(sum(drawn)) / 3_000 < 0.08
    assert sum(each * each for each in drawn) / 3_000 == pytest.approx(1, abs=0.1)


def test_stated_confidence_is_about_its_mean() -> None:
    """Catches confidence that says nothing about being right, or that an unreadable reply states."""
    panel = replace(PANEL, agents=(AgentModel(confidence=(0.9, 0.6)),) * 3)
    for one in simulate(panel, 100, seed=1):
        for said in one.debated.rounds[0]:
            if said.answer is None:
                assert said.confidence is None
            else:
                assert said.confidence == pytest.approx(0.9 if said.answer == one.gold else 0.6, abs=0.101)


@given(
    seats=st.integers(1, 6),
    options=st.sampled_from([0, 2, 3, 5, 30]),
    bad=st.integers(0, 2),
    role=st.sampled_from(["adversary", "flipper"]),
    topology=st.sampled_from(["all", "ring", "sparse:2"]),
    seed=st.integers(-5, 10**12),
)
@settings(max_examples=40, deadline=None)
def test_every_panel_can_debate(seats: int, options: int, bad: int, role: str, topology: str, seed: int) -> None:
    """Catches an answer that is none, a seat without a reply, or an error in a corner of the settings."""
    cast_ = agents(seats, *[AgentModel(role=role)] * bad)  # type: ignore[arg-type]
    panel = PanelModel(cast_, kinds=(KIND, QuestionKind(-3, 0.9)), options=options, course=Course(3, topology))
    for one in simulate(panel, 4, seed=seed):
        assert one.gold in answers_of(panel)
        assert [len(spoken) for spoken in one.debated.rounds] == [seats + bad] * 3
        assert all(said.answer in {None, *answers_of(panel)} for spoken in one.debated.rounds for said in spoken)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: PanelModel(()), "1 to 101 seats"),
        (lambda: PanelModel(agents(1), options=1), "2 options or more"),
        (lambda: PanelModel(agents(1, AgentModel(role="equivocator")), options=2), "3 options or more"),
        (lambda: PanelModel(agents(1), kinds=()), "kind of question"),
        (lambda: PanelModel(agents(1), unison=1.5), "unison"),
        (lambda: PanelModel(agents(1), spread=-1), "spread"),
        (lambda: PanelModel(agents(1), reply_chars=-1), "lengths"),
        (lambda: QuestionKind(math.nan), "easiness"),
        (lambda: QuestionKind(0, share=0), "share"),
        (lambda: Persuasion(keep=99), "keep"),
        (lambda: AgentModel(conformity=-1), "conformity"),
        (lambda: AgentModel(role="spy"), "role"),  # type: ignore[arg-type]
        (lambda: AgentModel(confidence=(2, 0)), "confidence"),
        (lambda: Course(rounds=0), "1 to 50 rounds"),
        (lambda: Course(agree=Fraction(1)), "agree"),
        (lambda: Course(asked=(-1,)), "one seat or more"),
        (lambda: Course(topology="star"), "topology"),
        (lambda: simulate(PANEL, ["a", "a"], seed=1), "distinct"),
        (lambda: simulate(PANEL, 2_000_000, seed=1), "1000000"),
    ],
)
def test_what_cannot_be_is_refused(wrong: object, says: str) -> None:
    """Catches a setting outside its range that is taken, and messages that do not name it."""
    with pytest.raises(ConfigError, match=says):
        wrong()  # type: ignore[operator]
