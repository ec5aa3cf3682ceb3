"""Policies: what they ask, when they stop, what they conclude, and what they may not depend on."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import fields, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.policies import (
    POLICIES,
    Ask,
    Debated,
    Policy,
    Reliabilities,
    Said,
    abstaining,
    followers,
    policy_named,
    replay,
    shares,
    suspicions,
    trust,
)
from madflow.core.stopping import Stop
from madflow.errors import ConfigError

NOTHING = Reliabilities()


def debated(*rounds: str, rounds_max: int = 3, options: int = 4) -> Debated:
    """One text a round: seat i said its i-th character, "-" nothing readable, " " was not asked."""
    names = [f"s{i}" for i in range(max(map(len, rounds)))]
    said = tuple(
        tuple(
            Said(name, None if answer == "-" else answer, text=f"{name} {number} {answer}")
            for name, answer in zip(names, text, strict=False)
            if answer != " "
        )
        for number, text in enumerate(rounds, start=1)
    )
    return Debated(said, tuple(names), rounds_max, options)


@st.composite
def runs(draw: st.DrawFn) -> list[Debated]:
    seats = draw(st.integers(1, 5))
    texts = st.text("ABC-", min_size=seats, max_size=seats)
    return [debated(*draw(st.lists(texts, min_size=1, max_size=3))) for _ in range(draw(st.integers(1, 5)))]


POLICY = st.sampled_from(sorted(POLICIES)).map(policy_named)


@settings(max_examples=150, deadline=None)
@given(POLICY, runs(), st.randoms(use_true_random=False))
def test_order_and_names_of_seats_and_rows_change_nothing(policy, run, chance) -> None:
    """Catches: a seat that counts because it is first; a sum that depends on order; a name or a place that matters."""
    seats = list(max(run, key=lambda one: len(one.seats)).seats)
    others = [f"z{n}" for n in range(len(seats))]
    chance.shuffle(others)
    name = dict(zip(seats, others, strict=True))

    def moved(one: Debated) -> Debated:
        rounds = []
        for spoken in one.rounds:
            again = [replace(said, seat=name[said.seat]) for said in spoken]
            chance.shuffle(again)
            rounds.append(tuple(again))
        return replace(one, rounds=tuple(rounds), seats=tuple(sorted(name[seat] for seat in one.seats)))

    places = list(range(len(run)))
    chance.shuffle(places)
    before = replay(policy, run)
    after = replay(policy, [moved(run[place]) for place in places])
    for place, there in zip(places, after, strict=True):
        assert there.verdict == before[place].verdict
        assert there.calls == before[place].calls


@settings(max_examples=100, deadline=None)
@given(POLICY, runs())
def test_what_was_not_asked_for_is_not_looked_at(policy, run) -> None:
    """Catches: a replay that peeks: every later round that no debate of the run reached is replaced."""
    before = replay(policy, run)
    spoiled = [
        replace(
            one,
            rounds=tuple(
                spoken if number < len(done.seen.rounds) else tuple(replace(said, answer="C") for said in spoken)
                for number, spoken in enumerate(one.rounds)
            ),
        )
        for one, done in zip(run, before, strict=True)
    ]
    assert [done.verdict for done in replay(policy, spoiled)] == [done.verdict for done in before]


@settings(max_examples=100, deadline=None)
@given(POLICY, runs())
def test_a_verdict_is_one_of_the_answers_with_a_share_of_one(policy, run) -> None:
    """Catches: an answer made up, shares beyond 1, an unreadable reply that becomes a choice, calls never made."""
    for one, done in zip(run, replay(policy, run), strict=True):
        given = {said.answer for spoken in done.seen.rounds for said in spoken} - {None}
        assert (done.verdict.answer is None) == (not done.verdict.tied)
        assert set(done.verdict.tied) <= given
        assert 0 <= done.verdict.confidence <= 1 + 1e-12
        assert sum(done.verdict.shares.values()) <= 1 + 1e-9
        assert 1 <= done.calls <= sum(map(len, one.rounds))
        assert done.verdict.abstained == (not done.verdict.tied)


@settings(max_examples=100, deadline=None)
@given(POLICY, runs())
def test_next_always_ends_within_what_there_is(policy, run) -> None:
    """Catches: asking for no seat, for more than there are, or forever."""
    for one in run:
        seen = replace(one, rounds=())
        for _ in range(3 * len(one.seats) + 1):
            step = policy.next(seen, NOTHING)
            if isinstance(step, Stop):
                break
            spoken = seen.rounds[step.round - 1] if step.round <= len(seen.rounds) else ()
            assert step.round in (len(seen.rounds), len(seen.rounds) + 1)
            assert 1 <= step.seats <= len(one.seats) - len(spoken)
            new = [Said(seat, "A") for seat in one.seats[len(spoken) : len(spoken) + step.seats]]
            seen = replace(seen, rounds=(*seen.rounds[: step.round - 1], (*spoken, *new)))
        else:
            raise AssertionError("it never stopped")


def test_what_is_learned_rests_on_what_was_asked_for() -> None:
    """Catches: a replay that lets a policy learn from replies it never asked for, or from more than the openings whom
    to ask."""
    told: list[list[Debated]] = []

    class Spy(Policy):
        def learn(self, run: Iterable[Debated]) -> Reliabilities:
            told.append(list(run))
            return NOTHING

    run = [debated("AAAAB", "BBBBB"), debated("ABCAA", "AAAAA")]
    done = replay(Spy("spy", ask="lead:2", go_on="always", rounds_max=2), run)
    openings, first = told
    assert [len(one.rounds[0]) for one in openings] == [1, 1]
    assert [one.rounds for one in first] == [one.seen.rounds[:1] for one in done]
    assert sum(len(one.seen.rounds[0]) for one in done) < 10


def test_a_policy_is_given_no_place_for_gold() -> None:
    """Catches: a field by which the right answer, the condition or an adversary's mark could reach a policy."""
    assert {field.name for field in fields(Said)} == {"seat", "answer", "confidence", "text"}
    assert {field.name for field in fields(Debated)} == {"rounds", "seats", "rounds_max", "options"}


@pytest.mark.parametrize(
    ("rounds", "number", "names"),
    [
        (("AAB", "AAA"), 2, {"s2"}),  # the minority joins the majority
        (("AAB", "ABB"), 2, set()),  # against the majority: it was persuaded by reasons
        (("AAB", "BBA"), 2, {"s2"}),
        (("ABC", "AAC"), 2, {"s1"}),  # all lead
        (("AB-", "AAA"), 2, {"s1"}),  # s2 had no answer to leave
        (("AAB", "AA-", "AAA"), 3, {"s2"}),  # its last own answer is two rounds old
        (("AAB", "AAA", "AAA"), 3, set()),  # it keeps what it has
        (("AAB",), 1, set()),
    ],
)
def test_who_merely_followed(rounds, number, names) -> None:
    assert followers(debated(*rounds), number) == names


def test_shares_by_hand() -> None:
    """Catches: a discount applied to the wrong round, an unreadable reply left out of the whole."""
    one = debated("AAB", "AA-", "AAA")
    assert shares(one, NOTHING) == {"A": pytest.approx(2 / 3), "B": pytest.approx(1 / 3)}
    assert shares(one, NOTHING, "last", followed=0.25) == {"A": 1.0}
    assert shares(one, NOTHING, "all", followed=0.25) == {"A": pytest.approx(6.25 / 8.25), "B": pytest.approx(1 / 8.25)}
    stated = Debated(((Said("a", "A", 0.2), Said("b", "B", 0.9), Said("c", "A")),), ("a", "b", "c"))
    assert shares(stated, NOTHING, weighing="confidence") == {"A": pytest.approx(0.7 / 3), "B": pytest.approx(0.3)}
    known = Reliabilities({"s0": 0.25, "s1": 0.25, "s2": 0.75})
    assert shares(debated("AAB"), known, weighing="reliability")["B"] == pytest.approx(9 / 12)


def test_reliabilities_turn_a_majority_over() -> None:
    """Catches: weights learned and not used. Seat s2 misleads in every debate, s0 errs with it once."""
    run = [debated("AAB"), debated("BBC"), debated("CCA"), debated("DDA"), debated("AAC"), debated("CBC")]
    voted = [done.verdict.answer for done in replay(policy_named("vote"), run)]
    weighed = [done.verdict.answer for done in replay(policy_named("robust"), run)]
    assert voted == ["A", "B", "C", "D", "A", "C"]
    assert weighed == ["A", "B", "C", "D", "A", "B"]


@pytest.mark.parametrize(
    ("policy", "seen", "step"),
    [
        (Policy("p"), debated("  ", rounds_max=1), Ask(1, 2)),
        (Policy("p"), debated("A  "), Ask(1, 2)),
        (Policy("p"), debated("AAB"), "max_rounds"),
        (Policy("p", ask="lead:2"), debated("A    "), Ask(1, 1)),
        (Policy("p", ask="lead:2"), debated("AA    "), "converged"),
        (Policy("p", ask="lead:9"), debated("AAA  "), "unassailable"),
        (Policy("p", ask="lead:9"), debated("AA  "), Ask(1, 1)),
        (Policy("p", ask="beta:0.95"), debated("AAA       "), Ask(1, 1)),  # 15/16
        (Policy("p", ask="beta:0.95"), debated("AAAA      "), "converged"),  # 31/32
        (Policy("p", ask="value:0.001", ask_first=3), debated("A        "), Ask(1, 2)),
        (Policy("p", ask="lead:1"), debated("---  "), Ask(1, 1)),
        (Policy("p", go_on="met", rounds_max=2), debated("AAB"), "converged"),
        (Policy("p", go_on="met", rounds_max=2), debated("A-B"), Ask(2, 3)),
        (Policy("p", go_on="met", rounds_max=2), debated("AABB"), Ask(2, 4)),
        (Policy("p", go_on="met", rounds_max=2), debated("AAB-"), Ask(2, 4)),
        (Policy("p", go_on="unanimous", rounds_max=2), debated("AAB"), Ask(2, 3)),
        (Policy("p", go_on="unanimous", rounds_max=2), debated("AA-"), Ask(2, 3)),
        (Policy("p", go_on="unanimous", rounds_max=2), debated("AAA"), "converged"),
        (Policy("p", go_on="unanimous", rounds_max=2), debated("AAB", "ABC"), "max_rounds"),
        (Policy("p", go_on="unanimous", rounds_max=9), debated("AAB", rounds_max=1), "max_rounds"),
        (Policy("p", go_on="unanimous", rounds_max=9), debated("AAA", rounds_max=1), "converged"),
        (Policy("p", go_on="tied", rounds_max=2), debated("AB-"), Ask(2, 3)),
        (Policy("p", go_on="tied", rounds_max=2), debated("AAB"), "converged"),
        (Policy("p", go_on="confident:0.7", rounds_max=2), debated("AAB"), Ask(2, 3)),
        (Policy("p", go_on="confident:0.6", rounds_max=2), debated("AAB"), "converged"),
    ],
)
def test_what_is_asked_next_and_why_it_stops(policy, seen, step) -> None:
    found = policy.next(seen, NOTHING)
    assert (found.reason if isinstance(found, Stop) else found) == step
    if isinstance(found, Stop):
        assert policy.decide(seen, NOTHING).stop == found


@pytest.mark.parametrize("name", ["reliable", "robust"])
def test_a_weak_panel_with_open_answers_is_not_worse_off_for_being_weighed(name: str) -> None:
    """Catches: an open question taken to have few answers: then seats that scatter make agreement look like error."""
    chance = random.Random(5)
    competence = {"s0": 0.15, "s1": 0.25, "s2": 0.5, "s3": 0.6}
    run = []
    for n in range(120):
        said = [
            Said(seat, "right" if chance.random() < p else f"wrong {chance.randrange(40)}", text=f"{seat} {n}")
            for seat, p in competence.items()
        ]
        run.append(Debated((tuple(said),), tuple(competence)))

    def right(policy: str) -> float:
        tied = [done.verdict.tied for done in replay(policy_named(policy), run)]
        return sum(("right" in answers) / len(answers) for answers in tied)

    assert right(name) > right("vote") + 5


def test_trust_by_hand() -> None:
    """Catches: a sum for the mean, an unreadable reply left out of the mean, a follower counted whole or not at all."""
    even = Reliabilities({"s0": 0.5, "s1": 0.5, "s2": 0.5})  # each vote has the weight log 3 with 4 options
    assert trust(debated("AAA"), even) == pytest.approx({"A": 3 / 6})
    assert trust(debated("AAB"), even) == pytest.approx(
        {"A": 3 ** (2 / 3) / (3 ** (2 / 3) + 3 ** (1 / 3) + 2), "B": 3 ** (1 / 3) / (3 ** (2 / 3) + 3 ** (1 / 3) + 2)}
    )
    assert trust(debated("AA-"), even) == pytest.approx({"A": 3 ** (2 / 3) / (3 ** (2 / 3) + 3)})
    late = {"A": (2 + 2 + 0.25) / 5.25, "B": 1 / 5.25}  # s2 follows in round 2: a quarter of a vote
    powers = {answer: 3**share for answer, share in late.items()}
    whole = sum(powers.values()) + 2
    assert trust(debated("AAB", "AAA"), even) == pytest.approx({a: power / whole for a, power in powers.items()})
    assert trust(debated("---"), even) == {}


@settings(max_examples=100, deadline=None)
@given(runs(), st.lists(st.floats(0.05, 0.95), min_size=5, max_size=5))
def test_trust_orders_answers_as_the_shares_do(run, numbers) -> None:
    """Catches: a confidence that belongs to another answer than the one that was chosen."""
    learned = Reliabilities({f"s{n}": p for n, p in enumerate(numbers)})
    for one in run:
        sure, counted = trust(one, learned), shares(one, learned, "all", "reliability", 0.25)
        assert sure.keys() == counted.keys()
        assert sum(sure.values()) <= 1 + 1e-9
        for a, b in pairwise(sorted(counted, key=lambda answer: counted[answer])):
            assert sure[a] <= sure[b] + 1e-9


@pytest.mark.parametrize("seats", [1, 3, 9])
def test_a_panel_that_agrees_is_trusted_as_far_as_one_of_its_seats(seats: int) -> None:
    """Catches: trust that grows with the size of a panel that holds one model."""
    learned = Reliabilities({f"s{n}": 0.8 for n in range(seats)})
    assert trust(debated("A" * seats), learned)["A"] == pytest.approx(0.8)
    if seats > 1:
        assert shares(debated("A" * seats), learned, "all", "reliability")["A"] > 0.95


@settings(max_examples=100, deadline=None)
@given(runs())
def test_suspicion_is_what_robust_has_no_confidence_in(run) -> None:
    """Catches: two scores for one thing that rank outcomes differently. Bit for bit."""
    held = replay(policy_named("robust"), run)
    doubts = suspicions([(one.seen, one.verdict.answer) for one in held])
    assert doubts == [1 - one.verdict.confidence for one in held]
    assert all(0 <= doubt <= 1 for doubt in doubts)


def test_a_consensus_that_one_seat_talked_the_others_into_is_the_most_suspect() -> None:
    """Catches: reliabilities learned after the persuading; first replies forgotten; a panel's record ignored."""
    honest = [debated(f"{a}{a}{b}", f"{a}{a}{a}") for a, b in ("AB", "BC", "CD", "DA", "AC", "BD", "CA", "DB")]
    talked = debated("AAB", "BAB", "BBB")
    doubts = suspicions([*((one, next(iter(one.votes(2).values()))) for one in honest), (talked, "B")])
    assert min(doubts[-1] - doubt for doubt in doubts[:-1]) > 0.5
    calm, quarrelling = [debated("AAA")] * 6, [debated("AAA"), *(debated(s) for s in ("ABC", "BCD", "AAB", "CDA"))]
    sure = suspicions([(one, "A") for one in calm])[0]
    assert suspicions([(one, "A") for one in quarrelling])[0] > sure + 0.1


def test_nothing_said_for_an_outcome_is_all_doubt() -> None:
    assert suspicions([(debated("AAB"), None), (debated("---"), "A"), (debated("AAB"), "C")]) == [1.0, 1.0, 1.0]
    assert suspicions([]) == []


def test_silence_is_no_answer_and_ties_are_told() -> None:
    """Catches: a None that wins; a tie hidden behind its first answer."""
    silent, tied = replay(policy_named("vote"), [debated("---"), debated("BA-")])
    assert (silent.verdict.answer, silent.verdict.abstained, silent.verdict.confidence) == (None, True, 0.0)
    assert (tied.verdict.answer, tied.verdict.tied, tied.verdict.confidence) == ("A", ("A", "B"), pytest.approx(1 / 3))
    stated = Debated(((Said("a", "A", 0.1), Said("b", "A", 0.2), Said("c", "B", 0.3)),), ("a", "b", "c"))
    assert replay(policy_named("confident"), [stated])[0].verdict.tied == ("A", "B")  # 0.1 + 0.2 is 0.3 here
    strict = replace(policy_named("vote"), abstain_below=0.5)
    assert replay(strict, [debated("BA-")])[0].verdict.abstained


def test_an_abstaining_policy_answers_from_its_threshold_on() -> None:
    """Catches: a threshold that abstains at the confidence it may answer at; one above 1 that is taken for a policy."""
    run = [debated("AAA"), debated("BBB"), debated("AAB"), debated("BBC"), debated("ABC"), debated("CDA")]
    vote = policy_named("vote")
    cases = [(done.verdict.confidence, n in (0, 1, 3)) for n, done in enumerate(replay(vote, run))]
    careful = abstaining(vote, cases, 0.3)  # one wrong answer may pass: (1 + 1) / 7
    assert [done.verdict.abstained for done in replay(careful, run)] == [False, False, False, False, True, True]
    stricter = abstaining(vote, cases, 0.2)  # 1 / 7: no wrong one
    assert [done.verdict.abstained for done in replay(stricter, run)] == [False, False, True, True, True, True]
    with pytest.raises(ConfigError, match=r"keeps wrong answers to 0\.1 of all on 6 cases, 3 of them wrong"):
        abstaining(vote, cases, 0.1)


def test_seats_a_recording_lacks_are_no_calls() -> None:
    """Catches: a replay that waits forever for a seat that was never recorded, or that charges for it."""
    done = replay(policy_named("debate"), [debated("AAB", "A B", "A  ")])[0]
    assert (done.calls, len(done.seen.rounds), done.verdict.answer) == (6, 3, "A")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Policy("p", ask="some"),
        lambda: Policy("p", ask="lead:0"),
        lambda: Policy("p", go_on="sometimes"),
        lambda: Policy("p", rounds_max=0),
        lambda: Policy("p", followed=1.5),
        lambda: policy_named("best"),
        lambda: debated("AA", "AA", rounds_max=1),
        lambda: debated("AA", options=1),
        lambda: Debated(((Said("x", "A"),),), ("a",)),
        lambda: Debated((), ()),
        lambda: Said("a", ""),
        lambda: Said("a", "A", 1.5),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(wrong) -> None:
    with pytest.raises(ConfigError):
        wrong()
