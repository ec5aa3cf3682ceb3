"""One-coin Dawid–Skene against twins that are too slow and too plain to be wrong in the same way."""

import math
from collections import Counter
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from madflow.core.policies import Reliabilities, learn_disputed, learn_reliabilities, log_odds, posterior
from madflow.core.policies.reliability import RELIABILITY_UNKNOWN
from madflow.errors import ConfigError

SEATS = ("a", "b", "c", "d", "e")
ANSWERS = ("A", "B", "C")
QUESTIONS = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(SEATS), st.sampled_from(ANSWERS)), st.just(3)), max_size=12
)


def likelihood(votes: dict[str, str], truth: str, belief: dict[str, float], choices: int) -> float:
    """P(what was said | the right answer), straight from the model."""
    return math.prod(belief[s] if a == truth else (1 - belief[s]) / (choices - 1) for s, a in votes.items())


def twin(questions, steps, a=2.0, b=2.0):
    """EM by the book: every answer's likelihood as a product, over a list of questions, nothing shared."""
    seats = sorted({seat for votes, _ in questions for seat in votes})
    belief = dict.fromkeys(seats, 0.7)
    for _ in range(steps):
        right, asked = Counter(), Counter()
        for votes, choices in questions:
            names = sorted(set(votes.values()))
            names += [f"unseen {n}" for n in range(choices - len(names))]
            found = {name: likelihood(votes, name, belief, choices) for name in names}
            for seat, answer in votes.items():
                right[seat] += found[answer] / sum(found.values())
                asked[seat] += 1
        belief = {s: min(0.99, max(0.01, (a - 1 + right[s]) / (a + b - 2 + asked[s]))) for s in seats}
    return belief


def log_joint(questions, belief, a=2.0, b=2.0):
    """log P(reliabilities, answers), by summing over every assignment of truths to all questions: exact."""
    truths = [[*ANSWERS] for _ in questions]
    total = 0.0
    for assigned in product(*truths):
        total += math.prod(
            likelihood(votes, truth, belief, 3) / 3 for (votes, _), truth in zip(questions, assigned, strict=True)
        )
    return math.log(total) + sum((a - 1) * math.log(p) + (b - 1) * math.log(1 - p) for p in belief.values())


@settings(max_examples=40, deadline=None)
@given(QUESTIONS)
def test_em_equals_the_plain_twin(questions) -> None:
    """Catches: a pattern counted once instead of as often as it occurred, unseen options left out, a wrong prior."""
    learned = learn_reliabilities(questions)
    if learned.by_seat:
        assert dict(learned.by_seat) == pytest.approx(twin(questions, steps=learned.steps))


@settings(max_examples=30, deadline=None)
@given(QUESTIONS.filter(lambda q: 0 < len(q) <= 5 and any(v for v, _ in q)))
def test_em_ends_on_a_peak_of_the_exact_posterior(questions) -> None:
    """Catches: an M step that is not the posterior's: the exact joint, by enumeration, must not rise nearby."""
    questions = [(votes, choices) for votes, choices in questions if votes]
    belief = dict(learn_reliabilities(questions).by_seat)
    assume(belief)
    here = log_joint(questions, belief)
    for seat, step in product(belief, (-1e-3, 1e-3)):
        there = belief[seat] + step
        if 0.01 <= there <= 0.99:
            assert log_joint(questions, {**belief, seat: there}) <= here + 1e-7


@given(st.dictionaries(st.sampled_from(SEATS), st.sampled_from(ANSWERS), min_size=1), st.lists(st.floats(0.05, 0.95)))
def test_posterior_is_bayes_rule(votes, numbers) -> None:
    """Catches: a sign, a missing K − 1, or an answer nobody gave that takes no probability."""
    belief = dict(zip(SEATS, [*numbers, 0.3, 0.5, 0.6, 0.7, 0.8], strict=False))
    scores: dict[str, float] = {}
    for seat, answer in votes.items():
        scores[answer] = scores.get(answer, 0.0) + log_odds(belief[seat], 4)
    plain = {answer: likelihood(votes, answer, belief, 4) for answer in [*ANSWERS, "D"]}
    expected = {answer: plain[answer] / sum(plain.values()) for answer in scores}
    assert posterior(scores, 4) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(QUESTIONS, st.permutations(SEATS), st.permutations(ANSWERS), st.randoms(use_true_random=False))
def test_renaming_and_reordering_change_names_only(questions, seats, answers, chance) -> None:
    """Catches: a sum that depends on order, a seat or an answer preferred by its name. Bit for bit."""
    seat_to, answer_to = dict(zip(SEATS, seats, strict=True)), dict(zip(ANSWERS, answers, strict=True))
    renamed = [({seat_to[s]: answer_to[a] for s, a in votes.items()}, choices) for votes, choices in questions]
    chance.shuffle(renamed)
    before, after = learn_reliabilities(questions), learn_reliabilities(renamed)
    assert {seat_to[s]: p for s, p in before.by_seat.items()} == dict(after.by_seat)
    assert (before.questions, before.steps) == (after.questions, after.steps)


def test_a_persuasive_seat_loses_its_weight_and_the_two_honest_ones_keep_theirs() -> None:
    """Catches: weights that cannot fall below zero, or a start from which EM believes the odd one out."""
    agree = [({"a": "A", "b": "A", "bad": "B"}, 4)] * 8
    split = [({"a": "A", "b": "C", "bad": "C"}, 4), ({"a": "D", "b": "A", "bad": "B"}, 4)]
    learned = learn_reliabilities([*agree, *split])
    assert learned.of("bad") < 0.25 < 0.6 < min(learned.of("a"), learned.of("b"))
    assert log_odds(learned.of("bad"), 4) < 0


def test_a_panel_that_agrees_is_believed() -> None:
    """Catches: a start below chance, from which EM finds the solution with right and wrong exchanged."""
    learned = learn_reliabilities([({"a": "A", "b": "A", "c": "A"}, 3)] * 10)
    assert min(learned.by_seat.values()) > 0.9


def test_a_panel_learned_upside_down_is_not_believed() -> None:
    """Catches: seats below chance whose agreement counts against an answer. Where all differ, all but one are wrong."""
    scattered = [({"a": f"{n}a", "b": f"{n}b", "c": f"{n}c", "d": f"{n}d"}, 4) for n in range(30)]
    agreed = [({"a": "x", "b": "x", "c": "x", "d": "x"}, 2)] * 3
    learned = learn_reliabilities([*scattered, *agreed])
    assert learned.by_seat == {}
    assert learned.questions == 33
    assert learned.of("a") == RELIABILITY_UNKNOWN


def test_nothing_seen_is_known_as_nothing() -> None:
    assert learn_reliabilities([]) == Reliabilities()
    assert learn_reliabilities([({}, 2)]) == Reliabilities()
    assert Reliabilities().of("anyone") == RELIABILITY_UNKNOWN
    assert log_odds(0.25, 4) == pytest.approx(0.0)
    assert posterior({}, 3) == {}


def test_what_cannot_be_is_refused_with_its_numbers() -> None:
    with pytest.raises(ConfigError, match="2 answers were given"):
        learn_reliabilities([({"a": "A", "b": "B"}, 1)])
    with pytest.raises(ConfigError, match="Beta"):
        learn_reliabilities([], prior=(0.5, 2))


def log_evidence(questions, belief):
    """log P(what was said), by every assignment of truths: what Schwarz's criterion compares."""
    return math.fsum(
        math.log(sum(likelihood(votes, truth, belief, choices) / choices for truth in ANSWERS))
        for votes, choices in questions
        if votes
    )


def one_coin_for_all(questions, a=2.0, b=2.0):
    seats = sorted({seat for votes, _ in questions for seat in votes})
    p = 0.7
    for _ in range(500):
        right, asked = 0.0, 0
        for votes, choices in questions:
            found = {truth: likelihood(votes, truth, dict.fromkeys(seats, p), choices) for truth in ANSWERS}
            right += sum(found[answer] for answer in votes.values()) / sum(found.values())
            asked += len(votes)
        p = min(0.99, max(0.01, (a - 1 + right) / (a + b - 2 + asked)))
    return dict.fromkeys(seats, p)


@settings(max_examples=60, deadline=None)
@given(st.one_of(QUESTIONS, QUESTIONS.map(lambda many: many * 4)))
def test_disputed_questions_are_used_where_the_criterion_says_that_seats_differ(questions) -> None:
    """Catches: a criterion without its penalty, or with the number of votes for that of questions, or never met."""
    every = learn_reliabilities(questions)
    learned = learn_disputed(questions)
    if len(every.by_seat) < 2:
        assert learned == every
        return
    asked = sum(bool(votes) for votes, _ in questions)
    gained = log_evidence(questions, every.by_seat) - log_evidence(questions, one_coin_for_all(questions))
    margin = 2 * gained - (len(every.by_seat) - 1) * math.log(asked)
    assume(abs(margin) > 1e-6)
    disputed = learn_reliabilities([one for one in questions if len(set(one[0].values())) > 1])
    if margin > 0 and disputed.by_seat:
        assert dict(learned.by_seat) == {**every.by_seat, **disputed.by_seat}
    else:
        assert learned == every


def test_agreeing_on_easy_questions_does_not_make_a_misleading_seat_look_fair() -> None:
    """Catches: weights learned from questions on which nobody needs them."""
    easy = [({"a": "A", "b": "A", "bad": "A"}, 4)] * 12
    hard = [({"a": "A", "b": "A", "bad": "B"}, 4)] * 14
    joined = [({"a": "C", "b": "D", "bad": "C"}, 4), ({"a": "B", "b": "D", "bad": "D"}, 4)] * 3
    run = [*easy, *hard, *joined]
    assert log_odds(learn_reliabilities(run).of("bad"), 4) > 0
    learned = learn_disputed(run)
    assert log_odds(learned.of("bad"), 4) < 0 < log_odds(min(learned.of("a"), learned.of("b")), 4)
    assert learned.questions == 20


def test_seats_that_differ_by_chance_count_alike() -> None:
    """Catches: two of three equal seats taken for the good ones, because disputed questions alone always split."""
    alone = [{"a": "A", "b": "A", "c": "B"}, {"a": "A", "b": "B", "c": "A"}, {"a": "B", "b": "A", "c": "A"}]
    run = [({"a": "A", "b": "A", "c": "A"}, 4)] * 20 + [(votes, 4) for votes in alone] * 4 + [(alone[0], 4)] * 2
    assert learn_disputed(run) == learn_reliabilities(run)
    spread = learn_disputed(run).by_seat.values()
    assert max(spread) - min(spread) < 0.15
