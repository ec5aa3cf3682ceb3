"""Exact stopping rules and conformal thresholds against brute force."""

import math
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.policies import abstention_threshold, beta_lead, conformal_threshold, overturn, vote_value
from madflow.errors import ConfigError

COUNTS = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda pair: (max(pair), min(pair)))


def urn(colours: list[int], draws: int):
    """Every sequence of draws from a Pólya urn with its exact probability: the twin of each closed form."""
    for drawn in product(range(len(colours)), repeat=draws):
        balls, chance = list(colours), Fraction(1)
        for colour in drawn:
            chance *= Fraction(balls[colour], sum(balls))
            balls[colour] += 1
        yield balls, chance


@given(COUNTS)
def test_beta_lead_is_the_integral_of_the_beta_density(counts) -> None:
    """Catches: a tail of the wrong length; v1 and v2 the wrong way round."""
    leader, second = counts
    steps = 20_000
    grid = [(i + 0.5) / steps for i in range(steps // 2, steps)]
    norm = math.gamma(leader + second + 2) / math.gamma(leader + 1) / math.gamma(second + 1)
    area = sum(norm * x**leader * (1 - x) ** second for x in grid) / steps
    assert float(beta_lead(leader, second)) == pytest.approx(area, abs=1e-4)


@settings(deadline=None)
@given(COUNTS, st.integers(0, 6))
def test_overturn_equals_playing_every_end(counts, left) -> None:
    leader, second = counts
    lost = Fraction(0)
    for balls, chance in urn([leader + 1, second + 1], left):
        lost += chance * (Fraction(1, 2) if balls[0] == balls[1] else balls[0] < balls[1])
    assert overturn(leader, second, left) == lost
    if leader - second > left:
        assert lost == 0


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.integers(0, 4), st.integers(0, 4))
def test_value_equals_playing_every_end(counts, others, left) -> None:
    """Catches: a rise not divided by the votes it costs, a pseudo-vote missing, a share taken before the draws."""
    leader, second = counts
    best = Fraction(0)
    for h in range(1, left + 1):
        rise = sum(
            chance * Fraction(max(0, balls[1] - balls[0]), sum(balls))
            for balls, chance in urn([leader + 1, second + 1, others + 1], h)
        )
        best = max(best, rise / h)
    assert vote_value(leader, second, others, left) == best


def test_counts_out_of_order_or_out_of_bounds_are_refused() -> None:
    for wrong in (lambda: beta_lead(1, 2), lambda: overturn(1, 0, -1), lambda: beta_lead(2_000, 0)):
        with pytest.raises(ConfigError, match="in order"):
            wrong()
    with pytest.raises(ConfigError, match="others=-1"):
        vote_value(1, 0, -1, 2)


@given(st.lists(st.integers(0, 8), max_size=12), st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.9]))
def test_conformal_threshold_keeps_its_promise_on_every_left_out_case(scores, alpha) -> None:
    """Catches: ⌈n(1 − α)⌉ for ⌈(n + 1)(1 − α)⌉. Exchangeability as an average: each of n cases left out once."""
    whole = [*map(float, scores), 4.0]
    above = sum(whole[i] > conformal_threshold(whole[:i] + whole[i + 1 :], alpha) for i in range(len(whole)))
    assert Fraction(above, len(whole)) <= Fraction(str(alpha))


CASES = st.lists(st.tuples(st.integers(0, 6).map(lambda n: n / 6), st.booleans()), max_size=12)


@given(CASES, st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_abstention_threshold_is_the_smallest_that_passes(cases, alpha) -> None:
    """Catches: an off-by-one in how many wrong answers may pass; a threshold stricter than it needs to be."""
    found = abstention_threshold(cases, alpha)

    def passes(t: float) -> bool:
        wrong = sum(confidence >= t and not right for confidence, right in cases)
        return Fraction(wrong + 1, len(cases) + 1) <= Fraction(str(alpha))

    known = sorted({confidence for confidence, _ in cases})
    expected = next((t for t in known if passes(t)), math.inf)
    assert found == expected


def test_thresholds_refuse_what_is_no_level_and_no_number() -> None:
    with pytest.raises(ConfigError, match="alpha=1"):
        conformal_threshold([0.1], 1)
    with pytest.raises(ConfigError, match="not a number"):
        abstention_threshold([(math.nan, True)], 0.1)
    assert conformal_threshold([1.0, 2.0], 0.1) == math.inf
    assert conformal_threshold([float(n) for n in range(1, 10)], 0.1) == 9.0
