"""Intervals: clustered by question, paired, the same for every order, and honest about what they cover."""

from __future__ import annotations

import math
import random
import tracemalloc
from itertools import product

import pytest

from madflow.errors import ConfigError
from madflow.evals import bootstrap
from madflow.evals.bootstrap import Item, difference, estimate, statistic, total


def items(*parts: float, question: str = "q") -> list[Item]:
    return [Item(f"{question}{n}", part) for n, part in enumerate(parts)]


def test_the_interval_is_that_of_every_possible_draw() -> None:
    """Catches: items drawn instead of questions, wrong percentiles. Three questions have 27 draws: here are all."""
    known = [*items(1.0, 0.0, 0.0), Item("q0", 1.0), Item("q0", 1.0)]
    groups = [[i for i in known if i.question == q] for q in ("q0", "q1", "q2")]
    every = sorted(total([item for group in drawn for item in group]) for drawn in product(groups, repeat=3))
    found = estimate(known, draws=20_000, level=0.8)
    assert found.value == pytest.approx(3 / 5)
    assert found.low == every[round(0.1 * 27)]
    assert found.high == every[round(0.9 * 27) - 1]


def test_both_tails_share_what_the_level_leaves() -> None:
    """Catches: the whole of 1 - level cut off on each side. Two questions draw 0, 1/2, 1 with chances 1/4, 1/2, 1/4."""
    assert (estimate(items(0.0, 1.0), level=0.6).low, estimate(items(0.0, 1.0), level=0.6).high) == (0.0, 1.0)
    assert (estimate(items(0.0, 1.0), level=0.4).low, estimate(items(0.0, 1.0), level=0.4).high) == (0.5, 0.5)


def test_pairing_takes_out_what_makes_questions_hard() -> None:
    """Catches: the two sides drawn apart: then this interval would span ±0.2 and more."""
    hard = items(*([0.0] * 50 + [1.0] * 50))
    easier = [Item(item.question, item.part * 0.9 + 0.1) for item in hard]
    found = difference(easier, hard)
    assert found.value == pytest.approx(0.05)
    assert 0.03 < found.low < 0.05 < found.high < 0.07
    assert found.excludes_zero
    assert not difference(hard, hard).excludes_zero


def test_copies_of_a_question_are_no_new_evidence() -> None:
    """Catches: an interval that shrinks when every debate is held ten times."""
    once = items(*([0.0] * 10 + [1.0] * 10))
    assert estimate(once * 10).low == pytest.approx(estimate(once).low)


def test_the_same_seed_and_any_order_give_the_same_interval() -> None:
    known = items(*(n % 3 for n in range(30)))
    moved = known.copy()
    random.Random(1).shuffle(moved)
    assert estimate(known, seed=7) == estimate(moved, seed=7) != estimate(known, seed=8)


def test_nineteen_of_twenty_intervals_cover_the_truth() -> None:
    """Catches: a level that is not what it says. 200 samples of 80 questions; chance alone is ± 3 points."""
    chance = random.Random(3)
    hits = 0
    for seed in range(200):
        found = estimate(items(*(float(chance.random() < 0.4) for _ in range(80))), seed=seed, draws=300)
        hits += found.low <= 0.4 <= found.high
    assert 0.925 <= hits / 200 <= 0.98, hits


def test_any_function_of_cases_has_an_interval() -> None:
    clusters = {f"q{n}": [n / 10] for n in range(11)}
    found = statistic(clusters, lambda cases: max(cases, default=math.nan))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 1.0


def test_too_little_has_no_interval_and_says_so() -> None:
    """Catches: an interval of width zero around one question; a mean of nothing that reads 0."""
    one = estimate([Item("q", 1.0)])
    assert (one.value, one.questions) == (1.0, 1)
    assert math.isnan(one.low) and not one.excludes_zero
    assert math.isnan(estimate([]).value)
    assert math.isnan(total([Item("q", 0.0, 0.0)]))
    rare = [Item("q0", 1.0), *(Item(f"q{n}", 0.0, 0.0) for n in range(1, 4))]
    assert estimate(rare).value == 1.0
    with pytest.raises(ConfigError, match="draws=0"):
        estimate(items(1.0, 0.0), draws=0)
    with pytest.raises(ConfigError, match="level=1"):
        estimate(items(1.0, 0.0), level=1)


def test_an_interval_reads_as_one() -> None:
    assert str(estimate(items(1.0, 1.0))) == "1.0000 [1.0000, 1.0000]"


def test_draws_that_are_not_kept_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: draws that depend on how many are kept, or on who asked before."""
    known = items(*(random.Random(n).random() for n in range(30)))
    whole = estimate(known, seed=71)
    for places in (0, 30 * 700):
        monkeypatch.setattr(bootstrap, "_PLACES_KEPT", places)
        bootstrap._draws.cache_clear()
        estimate(known, seed=71, draws=800)
        assert estimate(known, seed=71) == whole == estimate(known, seed=71)
    bootstrap._draws.cache_clear()


def test_memory_does_not_grow_with_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: every draw kept for the next measure, 8 bytes a place: 4.8 MB for these, here bound to 0.8 MB."""
    monkeypatch.setattr(bootstrap, "_PLACES_KEPT", 100_000)
    known = items(*([0.5] * 3_000))
    bootstrap._draws.cache_clear()
    tracemalloc.start()
    try:
        estimate(known, draws=200)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        bootstrap._draws.cache_clear()
    assert most < 3_000_000


def test_a_share_of_nothing_or_all_has_an_exact_bound() -> None:
    """Catches: an interval of no width, which says that what was never seen cannot be; questions without a case."""
    for n in (2, 20, 300):
        all_right = [Item(f"q{number}", 1.0) for number in range(n)]
        found = estimate(all_right, share=True)
        assert found.high == 1 and found.low**n == pytest.approx(0.05)
        none = [Item(one.question, 0.0) for one in all_right]
        blank = [Item(f"blank{number}", 0.0, 0.0) for number in range(n)]
        mirrored = estimate([*none, *none, *blank], share=True)
        assert mirrored.low == 0 and mirrored.high == pytest.approx(1 - found.low)
        plain = estimate(all_right)
        assert (plain.low, plain.high) == (1, 1)
    assert estimate(all_right[:20], share=True).low == pytest.approx(0.8609, abs=1e-4)
    mixed = [*all_right, Item("q0", 0.0)]
    assert estimate(mixed, share=True) == estimate(mixed)
    assert math.isnan(estimate(all_right[:1], share=True).low), "one question has no interval"
