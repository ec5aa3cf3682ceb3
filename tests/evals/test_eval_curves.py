"""Clever code against its dumb twin: the measures that are ready for draws give what their definitions give."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.evals import metrics
from madflow.evals.bootstrap import resampled, statistic
from madflow.evals.curves import Ranked, binned

SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.25000001, 0.5, 0.9, 1.0, 2.0])
GROUPS = st.lists(st.lists(st.tuples(SCORES, st.booleans()), max_size=4), min_size=1, max_size=6)
SURE = st.lists(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), max_size=4), min_size=1, max_size=6
)
SHARE = st.sampled_from([0.0, 0.216, 0.5, 0.75, 1.0])
DRAWN = st.lists(st.integers(0, 5), min_size=1, max_size=12)


def same(one: float, other: float) -> bool:
    return (math.isnan(one) and math.isnan(other)) or one == pytest.approx(other, abs=1e-12)


@given(GROUPS, DRAWN, SHARE)
def test_a_draw_of_ranked_cases_is_the_list_of_them(
    groups: list[list[tuple[float, bool]]], drawn: list[int], share: float
) -> None:
    """Catches: equal scores in the wrong order, a threshold off by one case, a question drawn twice counted once."""
    places = [place % len(groups) for place in drawn]
    cases = [case for place in places for case in groups[place]]
    ranked = Ranked(groups)

    def draw(values: list[int]) -> list[int]:
        return [values[place] for place in places]

    assert same(ranked.interception(draw, share), metrics.interception(cases, share))
    assert same(ranked.auc(draw), metrics.auc(cases))


@given(SURE, DRAWN)
def test_a_draw_of_bins_is_the_list_of_cases(groups: list[list[tuple[float, float]]], drawn: list[int]) -> None:
    """Catches: a confidence in the next bin, gaps of two bins that cancel."""
    places = [place % len(groups) for place in drawn]
    cases = [case for place in places for case in groups[place]]
    value = binned(groups)(lambda values: [values[place] for place in places])
    assert same(value, metrics.calibration_error(cases))


def test_intervals_are_those_of_the_definition() -> None:
    """Catches: draws that go to other questions than in `statistic`."""
    groups = [[(n % 7 / 7, n % 3 == 0), (n % 5 / 5, n % 2 == 0)] for n in range(30)]
    named = {f"q{n:02}": held for n, held in enumerate(groups)}
    fast = resampled(len(groups), lambda draw: Ranked(groups).interception(draw, 0.3), draws=50)
    slow = statistic(named, lambda cases: metrics.interception(cases, 0.3), draws=50)
    assert (fast.low, fast.high, fast.questions) == pytest.approx((slow.low, slow.high, slow.questions))
