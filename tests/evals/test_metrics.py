"""Metrics by hand on small debates, and against brute force."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.policies import POLICIES, Debated, Said, policy_named
from madflow.errors import ConfigError
from madflow.evals import metrics
from madflow.evals.bootstrap import Item, total
from madflow.evals.records import Outcome, Recording, by_run, outcomes, tokens


def recording(*rounds: str, gold: str | None = "A", key: str = "1", bad: str = "", **more) -> Recording:
    """One text a round: seat i said its i-th character, "-" nothing readable, " " was not asked."""
    seats = tuple(f"s{i}" for i in range(len(rounds[0])))
    said = tuple(
        tuple(Said(seat, None if c == "-" else c, text="four") for seat, c in zip(seats, text, strict=True) if c != " ")
        for text in rounds
    )
    debated = Debated(said, seats, len(said), 4)
    more = {"question": f"q{key}", "run": "r", **more}
    return Recording(key=key, debated=debated, gold=gold, adversaries=frozenset(bad.split()), **more)


def outcome(one: Recording, tied: str = "", *, abstained: bool = False, confidence: float = 0.5, suspicion: float = 0):
    return Outcome(one, tuple(tied), abstained, confidence, suspicion, "max_rounds", 1, 1, 10.0)


def test_ties_are_split_and_failures_stay_in_the_denominator() -> None:
    """Catches: a tie scored as right, an arm without an answer dropped, an unreadable seat not counted as wrong."""
    arms = [outcome(recording("AAB"), "A"), outcome(recording("AB-"), "AB"), outcome(recording("---"))]
    assert total(metrics.accuracy(arms)) == pytest.approx(1.5 / 3)
    given = [recording("AAB"), recording("AB-"), recording("---")]
    assert total(metrics.round_accuracy(given, 1)) == pytest.approx(1.5 / 3)
    assert total(metrics.seat_accuracy(given, 1)) == pytest.approx(3 / 9)
    assert total(metrics.oracle(given)) == pytest.approx(2 / 3)
    assert total(metrics.all_wrong(given)) == pytest.approx(1 / 3)


def test_a_round_that_was_not_held_is_the_last_one_that_was() -> None:
    """Catches: a debate that stopped early counted as wrong in the rounds it did not need."""
    assert total(metrics.round_accuracy([recording("ABB", "AAA")], 3)) == 1.0


def test_gain_collapses_corrections_and_oracle_gap() -> None:
    """Catches: a sign; a collapse that a correction elsewhere cancels out."""
    lost, mended = outcome(recording("AAB"), "B"), outcome(recording("ABB"), "A")
    half = outcome(recording("AB-"), "A")
    arms = [lost, mended, half]
    assert total(metrics.gain(arms)) == pytest.approx(0.5 / 3)
    assert total(metrics.collapses(arms)) == pytest.approx(1 / 3)
    assert total(metrics.corrections(arms)) == pytest.approx(1.5 / 3)
    assert total(metrics.oracle_gap(arms)) == pytest.approx(1 / 3)


def test_flips_are_of_honest_seats_that_were_asked_twice() -> None:
    """Catches: a wrong denominator; an unreadable second answer that is not a loss; an adversary's change counted."""
    one = recording("AABA", "ABA ", "-BAA", bad="s1")
    # s0: right, right, unread. s2: wrong, right, right. s3: right, not asked, right. s1 misleads.
    assert total(metrics.right_to_wrong([one])) == pytest.approx(1 / 3)
    assert total(metrics.wrong_to_right([one])) == pytest.approx(1 / 1)


def test_adoption_of_the_mode_and_collapse_of_disagreement() -> None:
    """Catches: a tied mode that is adopted, a unanimous debate in the denominator, a silent end read as agreement."""
    assert total(metrics.modal_adoption([recording("AABC", "AAAC"), recording("ABC-", "AAAA")])) == pytest.approx(1 / 2)
    led = recording("AAAB", "AAAB", bad="s3")
    assert math.isnan(total(metrics.modal_adoption([led]))), "a seat that is told to mislead adopts nothing"
    given = [recording("AAB", "BBB"), recording("AAB", "AAC"), recording("AAA", "AAA"), recording("AB-", "---")]
    assert total(metrics.disagreement_collapses(given)) == pytest.approx(1 / 3)


def test_abstentions_and_what_is_left() -> None:
    arms = [outcome(recording("AAA"), "A"), outcome(recording("BBB"), "B", abstained=True)]
    assert total(metrics.abstentions(arms)) == 0.5
    assert total(metrics.selective_accuracy(arms)) == 1.0
    assert math.isnan(total(metrics.selective_accuracy(arms[1:])))


def test_tokens_are_a_quarter_of_the_characters_asked_for() -> None:
    """Catches: prompts left out; replies paid for that were not asked for."""
    one = recording("AAB", "AAA", prompt_chars={(1, "s0"): 100, (2, "s0"): 200})
    assert tokens(one) == (6 * 4 + 300) / 4
    arms = outcomes(policy_named("vote"), [one])
    assert arms[0].tokens == (3 * 4 + 100) / 4
    assert total(metrics.token_share(arms)) == pytest.approx(112 / 324)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_gold_condition_names_and_marks_change_no_outcome(name: str) -> None:
    """Catches: an arm that reads what only the judge may know."""
    rows = [("AAB", "AAA"), ("BBC", "ABC"), ("-AB", "AAB"), ("ABC", "CCC")]
    plain = [recording(*row, key=str(n)) for n, row in enumerate(rows)]
    told = [
        recording(*row, key=f"x{n}", gold="C", bad="s1", run="other", question="same", condition="adversary")
        for n, row in enumerate(rows)
    ]
    seen = [
        [(o.tied, o.confidence, o.calls, o.tokens) for o in outcomes(policy_named(name), rs)] for rs in (plain, told)
    ]
    assert seen[0] == seen[1]


def test_measures_without_gold_refuse_instead_of_counting_wrong() -> None:
    unknown = recording("AAB", gold=None)
    for measure in (lambda: metrics.accuracy([outcome(unknown, "A")]), lambda: metrics.oracle([unknown])):
        with pytest.raises(ConfigError, match="recording 1 has no gold"):
            measure()


def test_who_is_detected() -> None:
    given = [recording("AAB", bad="s2"), recording("AAB", key="2", run="other", bad="s0"), recording("A", run="clean")]
    scores = {("r", "s0"): 0.1, ("r", "s1"): 0.5, ("r", "s2"): 0.5} | {("other", f"s{n}"): n / 10 for n in range(3)}
    assert [item.part for item in metrics.detection(given, scores)] == [0.5, 0.0]


CASES = st.lists(st.tuples(st.integers(0, 4).map(float), st.booleans()), max_size=14)


@given(CASES)
def test_auc_equals_counting_pairs(cases) -> None:
    pairs = [(y > n) + (y == n) / 2 for y, is_yes in cases if is_yes for n, is_no in cases if not is_no]
    found = metrics.auc(cases)
    assert found == pytest.approx(sum(pairs) / len(pairs)) if pairs else math.isnan(found)


@given(CASES, st.integers(0, 10).map(lambda n: n / 10))
def test_interception_is_a_point_of_the_roc_curve(cases, rate) -> None:
    """Catches: ties flagged in favour of the wrong ones; a rate overrun. The twin walks the curve's corners."""
    wrong, right = [s for s, bad in cases if bad], [s for s, bad in cases if not bad]
    found = metrics.interception(cases, rate)
    if not wrong or not right:
        assert math.isnan(found)
        return
    corners = [(0.0, 0.0)]
    for t in sorted({s for s, _ in cases}, reverse=True):
        corners.append((sum(s >= t for s in right) / len(right), sum(s >= t for s in wrong) / len(wrong)))
    best = 0.0
    for (x0, y0), (x1, y1) in pairwise(corners):
        if x0 <= rate + 1e-12:
            best = max(best, y1 if x1 <= rate else y0 + (y1 - y0) * max(0.0, rate - x0) / (x1 - x0))
    assert found == pytest.approx(best)


def test_which_debates_have_a_consensus() -> None:
    arms = [
        outcome(recording("AAB"), "B", suspicion=0.3),
        outcome(recording("BB-"), "AB", suspicion=0.7),
        outcome(recording("AB-"), "A"),
    ]
    assert metrics.consensus_cases(arms) == [("q1", 0.3, False), ("q1", 0.7, True)]
    assert metrics.consensus_cases(arms, "outcome") == [("q1", 0.3, True), ("q1", 0, False)]
    with pytest.raises(ConfigError, match="of='best'"):
        metrics.consensus_cases(arms, "best")


def test_swap_consistency_counts_what_cannot_be_read() -> None:
    judged = [("q", "A", "A"), ("q", "A", "B"), ("q", None, None)]
    assert total(metrics.swap_consistency(judged)) == pytest.approx(1 / 3)


def test_error_correlation_by_hand() -> None:
    """Catches: answers correlated instead of errors; runs mixed; an adversary counted as a peer."""
    together = [recording("AAB", bad="s2"), recording("BCA", key="2", bad="s2")]
    assert metrics.error_correlation(together) == pytest.approx(1.0)
    apart = [recording("AB", run="x"), recording("BA", key="2", run="x")]
    assert metrics.error_correlation([*together, *apart]) == pytest.approx(0.0)
    assert math.isnan(metrics.error_correlation([recording("AA")]))


def test_calibration_by_hand() -> None:
    """Catches: 1.0 in a bin of its own or out of range; a bin not weighted by its cases; signs that cancel in a sum."""
    assert metrics.calibration_error([(1.0, 0.0), (0.95, 1.0), (0.0, 0.0), (0.05, 1.0)]) == pytest.approx(
        (abs(1.95 - 1) + abs(0.05 - 1)) / 4
    )
    assert math.isnan(metrics.calibration_error([]))
    assert total(metrics.brier([outcome(recording("A"), "A", confidence=0.8)])) == pytest.approx(0.04)


def test_latency_is_the_slowest_seat_of_each_round() -> None:
    timed = {(1, "s0"): 10, (1, "s1"): 30, (2, "s0"): 5, (2, "s1"): 1}
    assert metrics.latencies([recording("AB", "AA", latency_ms=timed), recording("AB")]) == [35]
    assert [metrics.percentile([4, 1, 3, 2], share) for share in (0, 0.5, 0.75, 1)] == [1, 2, 3, 4]
    assert math.isnan(metrics.percentile([], 0.5))


def test_recordings_are_told_apart() -> None:
    with pytest.raises(ConfigError, match="key '1'"):
        by_run([recording("A"), recording("A")])
    with pytest.raises(ConfigError, match="hold no seat"):
        recording("A", bad="s9")
    assert metrics.accuracy([outcome(recording("A"), "A")]) == [Item("q1", 1.0)]
