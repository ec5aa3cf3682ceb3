"""Reliability of detectors, learned without labels, and how far to accept: against known rates and brute force."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.detection import Case, Detectors, cut_for_f1, learn_detectors
from madflow.errors import ConfigError

RATES = {"sharp": (0.8, 0.02), "good": (0.6, 0.05), "fair": (0.5, 0.05), "noisy": (0.5, 0.4), "quiet": (0.1, 0.01)}


def drawn(count: int, real: float = 0.3, seed: int = 5) -> list[tuple[bool, Case]]:
    """Cases as the model has them; those that nobody raised are not there, as in life."""
    chance = random.Random(seed)
    cases: list[tuple[bool, Case]] = []
    while len(cases) < count:
        is_real = chance.random() < real
        raised = frozenset(name for name, rates in RATES.items() if chance.random() < rates[not is_real])
        if raised:
            cases.append((is_real, (raised, frozenset(RATES))))
    return cases


def test_it_finds_who_is_sharp_and_who_is_noisy() -> None:
    """Catches one coin for both, silence that counts as a finding, a prior that swamps the data."""
    learned = learn_detectors(case for _, case in drawn(3_000))
    assert learned.settled
    a, b = learned.sensitivity, learned.false_alarms
    assert a["sharp"] > a["good"] + 0.05 > a["fair"] > a["quiet"] + 0.2
    assert b["noisy"] > 3 * b["good"] > 3 * b["quiet"]


def test_what_was_learned_ranks_better_than_counting_heads() -> None:
    """Catches probabilities that are not better than the number of detectors, the thing they are for."""
    cases = drawn(1_500, seed=8)
    learned = learn_detectors(case for _, case in cases)

    def ranked(score: object) -> float:
        real = [score(case) for is_real, case in cases if is_real]  # type: ignore[operator]
        spurious = [score(case) for is_real, case in cases if not is_real]  # type: ignore[operator]
        return sum((a > b) + 0.5 * (a == b) for a in real for b in spurious) / len(real) / len(spurious)

    assert ranked(learned.probability) > ranked(lambda case: len(case[0])) + 0.02


def test_a_stranger_counts_for_nothing_and_without_learning_shares_count() -> None:
    """Catches a KeyError or a vote for a detector nobody has seen, and a default that accepts all."""
    learned = learn_detectors(case for _, case in drawn(500))
    case = (frozenset({"sharp"}), frozenset({"sharp", "good"}))
    assert learned.probability(case) == learned.probability((case[0] | {"new"}, case[1] | {"new"}))
    assert Detectors().probability(case) == 0.5
    assert learn_detectors([]) == Detectors()


def test_where_raising_together_is_rarer_than_chance_nothing_is_learned() -> None:
    """Catches the twin solution, in which real and spurious change places, being believed."""
    both = frozenset({"a", "b"})
    cases = [(frozenset({"a"}), both)] * 20 + [(frozenset({"b"}), both)] * 10 + [(both, both)] * 2
    learned = learn_detectors(cases)
    assert not learned.sensitivity
    assert not learned.false_alarms
    assert learned.probability((both, both)) == 1.0


@given(
    st.lists(st.tuples(st.sets(st.sampled_from("abcd"), min_size=1), st.just(set("abcde"))), min_size=1, max_size=30)
)
@settings(max_examples=50, deadline=None)
def test_order_does_not_matter_and_probabilities_are_sound(cases: list[Case]) -> None:
    """Catches sums that depend on order, and probabilities or rates at or beyond 0 and 1."""
    learned = learn_detectors(cases)
    assert learned == learn_detectors(cases[::-1])
    assert all(0 < rate < 1 for rate in (*learned.sensitivity.values(), *learned.false_alarms.values(), learned.real))
    assert all(0 <= learned.probability(case) <= 1 for case in cases)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_the_cut_is_the_best_of_all_cuts(probabilities: list[float]) -> None:
    """Catches an F1 without the missed ones in it, or a threshold other than half of F*."""
    cut = cut_for_f1(probabilities)
    ordered, whole = sorted(probabilities, reverse=True), math.fsum(probabilities)
    values = [2 * math.fsum(ordered[:k]) / (k + whole) for k in range(1, len(ordered) + 1)]
    assert cut.f1 == pytest.approx(max(values, default=0.0))
    assert cut.count == sum(value > cut.above for value in probabilities)
    if cut.count:
        assert values[cut.count - 1] == pytest.approx(cut.f1)


def test_misuse_is_refused() -> None:
    """Catches a case nobody raised, which would be real or not for no reason, and probabilities that are none."""
    with pytest.raises(ConfigError, match=r"raised by \[\]"):
        learn_detectors([(set(), {"a"})])
    with pytest.raises(ConfigError, match=r"raised by \['b'\]"):
        learn_detectors([({"b"}, {"a"})])
    with pytest.raises(ConfigError, match="greatest 2"):
        cut_for_f1([2.0])
