"""Hoppe's urn: what a vote is worth, against playing every end by hand; what a run teaches, against its neighbours."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.policies import (
    Ask,
    Debated,
    Policy,
    Reliabilities,
    Said,
    Urn,
    learn_run,
    learn_urn,
    policy_named,
    replay,
    urn_gain,
)
from madflow.core.stopping import Stop
from madflow.errors import ConfigError


def asked(answers: str, length: int = 0, seats: int = 10) -> Debated:
    """One round: seat i said its i-th character ("-": nothing readable), in so many characters each."""
    said = tuple(Said(f"s{i}", None if a == "-" else a, text="x" * length) for i, a in enumerate(answers))
    return Debated((said,) if said else (), tuple(f"s{i}" for i in range(seats)))


def best(counts: tuple[int, ...], left: int, alpha: float, price: float) -> float:
    """The plan found by trying everything, no answer left out, nothing remembered."""
    votes = sum(counts)
    now = max(counts, default=0) / (votes + alpha)
    if left == 0:
        return now
    ends = [
        (count / (votes + alpha), (*counts[:place], count + 1, *counts[place + 1 :]))
        for place, count in enumerate(counts)
    ]
    ends.append((alpha / (votes + alpha), (*counts, 1)))
    return max(now, sum(chance * best(after, left - 1, alpha, price) for chance, after in ends) - price)


COUNTS = st.lists(st.integers(1, 4), max_size=4)


@settings(max_examples=80, deadline=None)
@given(COUNTS, st.integers(0, 4), st.integers(-8, 8), st.sampled_from([0.0005, 0.005, 0.02, 0.1]))
def test_the_gain_is_that_of_the_best_plan(counts, left, quarter, price) -> None:
    """Catches: an answer that can still win taken for one that cannot, equal answers counted once, a vote not paid."""
    alpha = 2.0 ** (quarter / 4)
    whole = best(tuple(counts), left, alpha, price) - max(counts, default=0) / (sum(counts) + alpha)
    assert urn_gain(counts, left, alpha, price) == pytest.approx(whole, abs=1e-12)
    assert urn_gain(counts, left, alpha, price) == urn_gain(counts[::-1], left, alpha, price)


@given(COUNTS, st.integers(0, 9), st.floats(0.05, 20), st.floats(0.001, 0.2))
@settings(max_examples=60, deadline=None)
def test_a_gain_is_never_below_zero_and_falls_with_the_price(counts, left, alpha, price) -> None:
    gain = urn_gain(counts, left, alpha, price)
    assert gain >= 0
    assert urn_gain(counts, left, alpha, 2 * price) <= gain + 1e-12
    assert urn_gain(counts, 0, alpha, price) == 0


def test_what_cannot_be_is_refused() -> None:
    for wrong in (([1, 0], 1, 1.0, 0.1), ([1_001], 1, 1.0, 0.1), ([1], -1, 1.0, 0.1)):
        with pytest.raises(ConfigError, match="left="):
            urn_gain(*wrong)
    for alpha, price in ((0.0, 0.1), (math.inf, 0.1), (math.nan, 0.1), (1.0, 0.0)):
        with pytest.raises(ConfigError, match="alpha="):
            urn_gain([1], 1, alpha, price)


def log_posterior(run: list[Debated], level: float, slope: float, centre: float) -> float:
    """The posterior, vote by vote, as the urn is drawn from."""
    found = -slope * slope / 2
    pairs = [(0.0, "AA"), (0.0, "AB")]
    for one in run:
        said = one.rounds[0] if one.rounds else ()
        lengths = [math.log1p(len(s.text)) for s in said if s.text]
        x = sum(lengths) / len(lengths) - centre if lengths else 0.0
        pairs.append((x, "".join(s.answer for s in said if s.answer)))
    for x, answers in pairs:
        alpha = math.exp(level + slope * x)
        for n in range(1, len(answers)):
            known = answers[:n].count(answers[n])
            found += math.log((known or alpha) / (n + alpha))
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text("ABC-", max_size=5), st.sampled_from([0, 10, 60, 400])), max_size=8))
def test_what_is_learned_is_the_top_of_the_posterior(rows) -> None:
    """Catches: a wrong gradient, a prior left out, an unreadable reply counted as a vote, a step that overshoots."""
    run = [asked(answers, length) for answers, length in rows]
    urn = learn_urn(run)
    assert urn.settled
    top = log_posterior(run, urn.level, urn.slope, urn.centre)
    for by_level, by_slope in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3), (0.3, 0.3), (-0.3, 0.3)):
        assert log_posterior(run, urn.level + by_level, urn.slope + by_slope, urn.centre) <= top + 1e-12
    assert urn.questions == sum(len(answers.replace("-", "")) > 1 for answers, _ in rows)


def test_order_changes_nothing_that_is_learned() -> None:
    chance = random.Random(4)
    run = [asked("".join(chance.choices("AABC-", k=4)), chance.randrange(300)) for _ in range(30)]
    moved = [replace(one, rounds=(tuple(reversed(one.rounds[0])),)) for one in run[::-1]]
    assert learn_urn(run) == learn_urn(moved)


def test_where_longer_replies_agree_less_a_long_one_is_asked_on() -> None:
    """Catches: a slope of the wrong sign, lengths not compared with the run's, a rule that never reads the urn."""
    run = [asked("AA", 20)] * 40 + [asked("AB", 900)] * 20 + [asked("AA", 900)] * 20
    policy = Policy("p", ask="urn:0.005", ask_first=2)
    learned = policy.learn(run)
    assert learned.urn.slope > 0.5
    assert isinstance(policy.next(asked("AA", 20), learned), Stop)
    assert policy.next(asked("AA", 900), learned) == Ask(1, 1)
    assert policy.next(asked("AA"), Reliabilities()) == Ask(1, 1)  # nothing is known: two that agree are not enough
    assert learn_urn([asked("AB")] * 9).slope == 0  # no texts
    assert Urn().alpha(asked("AB", 50).rounds[0]) == 1.0


def test_a_panel_is_asked_whole_or_by_a_few() -> None:
    """Catches: a small panel of which a seat stays unknown, an opening that depends on what was learned."""
    policy = Policy("p", ask="urn:0.005", ask_first=2, ask_whole=3)
    known = Reliabilities(rank={"s0": 1, "s1": 0})
    assert [policy.opening(asked("", seats=n)) for n in (1, 2, 3, 4)] == [1, 2, 3, 2]
    assert policy.next(asked("A", seats=3), known) == Ask(1, 2)
    assert policy.next(asked("A", seats=4), known) == Ask(1, 1)  # whom the lot drew, whoever is better
    assert policy.next(asked("AB", seats=4), known) == Ask(1, 1, known.rank)


def test_the_better_seats_are_next_and_equals_by_lot() -> None:
    ask = Ask(1, 2, {"a": 1, "b": 0, "c": 1})
    assert ask.chosen(("c", "a", "b")) == ("b", "c")
    assert ask.chosen(("a", "c")) == ("a", "c")
    assert Ask(1, 1).chosen(("z", "a")) == ("z",)
    assert Reliabilities({"a": 0.3, "b": 0.9, "c": 0.3 + 1e-9}).ranked() == {"a": 1, "b": 0, "c": 1}


def test_a_hopeless_round_is_not_held() -> None:
    """Catches: a second round bought for a panel that agrees about nothing; a reason that says it agreed."""
    policy = Policy("p", ask="urn:0.005", ask_first=2, ask_whole=3, go_on="confident:0.7", rounds_max=2, pool="all")
    priced = replace(policy, round_price=0.05)
    split = Debated(asked("ABC", seats=3).rounds, ("s0", "s1", "s2"), rounds_max=2)
    hopeful, hopeless = (Reliabilities(urn=Urn(level)) for level in (0.0, 3.0))
    assert policy.next(split, hopeless) == Ask(2, 2) == priced.next(split, hopeful)
    stopped = priced.next(split, hopeless)
    assert isinstance(stopped, Stop) and stopped.reason == "deadlock"
    assert priced.decide(split, hopeless).stop == stopped


def test_a_later_round_ends_when_it_has_done_what_it_was_for() -> None:
    """Catches: a third seat asked though the first two settled it; a round cut short though nothing is settled."""
    policy = Policy("p", ask="lead:3", ask_first=2, ask_whole=3, go_on="confident:0.55", rounds_max=2, pool="last")
    first = (Said("s0", "A"), Said("s1", "B"), Said("s2", "C"))
    settled = Debated((first, (Said("s0", "A"), Said("s1", "A"))), ("s0", "s1", "s2"), rounds_max=2)
    open_ = Debated((first, (Said("s0", "A"), Said("s1", "B"))), ("s0", "s1", "s2"), rounds_max=2)
    stopped = policy.next(settled, Reliabilities())
    assert isinstance(stopped, Stop)
    assert policy.next(open_, Reliabilities()) == Ask(2, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("AB-", min_size=6, max_size=6), min_size=1, max_size=6), st.integers(1, 400))
def test_what_was_learned_of_is_what_is_asked_for_again(rows, length) -> None:
    """Catches: a run learned from replies that the debates, held with what was learned, do not ask for."""
    told: list[list[Debated]] = []

    class Spy(Policy):
        def learn(self, run):  # type: ignore[no-untyped-def]
            known = list(run)
            told.append(known)
            return Policy.learn(self, known)

    base = policy_named("robust")
    spy = Spy(**{name: getattr(base, name) for name in Policy.__dataclass_fields__})
    run = [asked(answers, length * (1 + n), 6) for n, answers in enumerate(rows)]
    held = replay(spy, run)
    assert [one.rounds[0] for one in told[1]] == [one.seen.rounds[0] for one in held]
    assert all(len(one.rounds[0]) == 2 for one in told[0])


def test_the_lot_does_not_sort_seats_by_what_they_say() -> None:
    """Catches: an order by the reply's digest. Where there are only votes it asks those who agree first, and stops."""
    chance = random.Random(9)
    run = [asked("".join(chance.choices("AAAB", k=9)), seats=9) for _ in range(60)]
    seen = replay(Policy("p", ask="lead:9", ask_first=2, rounds_max=1), run)
    agreeing = sum(one.seen.rounds[0][0].answer == one.seen.rounds[0][1].answer for one in seen)
    assert agreeing < 50  # 5 of 8 would by chance; all 60 would, sorted
    assert learn_run(Policy("p"), []) == Reliabilities()


def test_another_lot_asks_other_seats_and_the_same_lot_the_same_ones() -> None:
    """Catches: a lot that is not read, or that changes what a policy makes of a panel it asks whole."""
    run = [asked("AABBC", 20 + n, seats=5) for n in range(30)]
    few = Policy("p", ask="lead:2", ask_first=2)

    def first(lot: str) -> list[list[str]]:
        return [[said.seat for said in one.seen.rounds[0][:2]] for one in replay(few, run, lot)]

    assert first("") == first("") != first("1") == first("1") != first("2")
    assert [one.verdict for one in replay(Policy("p"), run)] == [one.verdict for one in replay(Policy("p"), run, "1")]
