"""Stop conditions: when each fires, with which numbers, and their text."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.stopping import (
    DEFAULT_STOP,
    DebateView,
    RoundRecord,
    Stop,
    StopCondition,
    StopReason,
    converged,
    deadlock,
    max_rounds,
    no_new_claims,
    parse_stop,
    quorum_lost,
    stable,
    unassailable,
)
from madflow.errors import ConfigError


def rounds(*positions: str, met: bool = False, claims: tuple[int, ...] = ()) -> tuple[RoundRecord, ...]:
    """One round a text: seat i holds its i-th character, "-" for none."""
    return tuple(
        RoundRecord(
            round=i,
            met=met and i == len(positions),
            winner="a" if met and i == len(positions) else None,
            positions={f"s{j}": "" if held == "-" else held for j, held in enumerate(text)},
            new_claims=claims[i - 1] if claims else 1,
            answered=len(text),
        )
        for i, text in enumerate(positions, start=1)
    )


def view(*positions: str, **kw) -> DebateView:
    record = {key: kw.pop(key) for key in ("met", "claims") if key in kw}
    return DebateView(rounds(*positions, **record), kw.pop("max_rounds", 5), **kw)


def test_the_reasons_are_the_twelve_of_the_design():
    """Catches a reason added or renamed in passing: records hold them for ever."""
    assert get_args(StopReason) == (
        "converged", "unassailable", "stable", "no_new_claims", "deadlock", "max_rounds",
        "budget_exceeded", "timeout", "judge", "human", "cancelled", "quorum_lost",
    )  # fmt: skip


def test_converged_only_when_the_last_round_meets_the_rule():
    """Catches agreement of an earlier round that was given up later."""
    assert converged()(view("aab", met=True)) == Stop("converged", {"round": 1, "winner": "a"})
    assert converged()(view("aab")) is None
    assert converged()(view()) is None
    lost = DebateView((*rounds("aaa", met=True), *rounds("aab")), 5)
    assert converged()(lost) is None


def test_unassailable_and_quorum_lost_read_the_view():
    """Catches the comparison the wrong way round: a quorum that is just reached is no loss."""
    assert unassailable()(view("aa", unassailable=True)) == Stop("unassailable", {"round": 1})
    assert unassailable()(view("aa")) is None
    assert quorum_lost()(view("aa", quorum=2, live_weight=1)) == Stop("quorum_lost", {"live_weight": 1, "quorum": 2})
    assert quorum_lost()(view("aa", quorum=2, live_weight=2)) is None


def test_max_rounds():
    """Catches one round too many, or one too few."""
    assert max_rounds()(view("a", "b", max_rounds=3)) is None
    assert max_rounds()(view("a", "b", "a", max_rounds=3)) == Stop("max_rounds", {"round": 3, "max_rounds": 3})
    assert max_rounds()(view(max_rounds=3)) is None


@pytest.mark.parametrize(
    ("positions", "n", "fires"),
    [
        (("aab", "aab"), 2, True),
        (("aab",), 2, False),
        (("aab", "aba"), 2, False),  # as many each, but seats moved
        (("aab", "aab"), 3, False),
        (("aba", "aab", "aab"), 2, True),
        (("ab-", "ab-"), 2, False),  # no leader: a deadlock
        (("a--", "a--"), 2, True),
        (("---", "---"), 2, False),
        (("aab", "aab", "abb"), 2, False),
    ],
)
def test_stable(positions: tuple[str, ...], n: int, fires: bool):
    """Catches stability read from counts, from too few rounds, or from a panel without a position."""
    stop = stable(n)(view(*positions))
    assert (stop is not None) is fires
    if stop:
        assert stop.numbers["rounds"] == n
        assert stop.numbers["leader"] == "a"
        assert stop.numbers["round"] == len(positions)


def test_stable_and_deadlock_lead_by_weight():
    """Catches heads counted where weights vote."""
    weighty = view("abb", "abb", weights={"s0": 3})
    assert stable()(weighty) == Stop("stable", {"round": 2, "rounds": 2, "leader": "a", "weight": 3})
    level = view("abb", "abb", weights={"s0": 2})
    assert stable()(level) is None
    assert deadlock()(level) == Stop("deadlock", {"round": 2, "rounds": 2, "tied": "a,b", "weight": 2})


@pytest.mark.parametrize(
    ("positions", "fires"),
    [
        (("ab", "ab"), True),
        (("ab",), False),
        (("aab", "aab"), False),  # stable, not stuck
        (("ab", "ba", "ab"), True),  # a circle
        (("aab", "aba", "aab"), True),  # a circle with a leader in it
        (("aab", "abb", "bbb", "aab"), True),
        (("aab", "aba", "baa"), False),
        (("aab", "aab", "aba"), False),
        (("--", "--"), False),
        (("--", "ab", "--"), False),
    ],
)
def test_deadlock(positions: tuple[str, ...], fires: bool):
    """Catches circles missed, progress taken for one, and silence taken for disagreement."""
    assert (deadlock()(view(*positions)) is not None) is fires


def test_a_circle_names_the_round_it_returned_to():
    """Catches numbers that do not say why."""
    assert deadlock()(view("ab", "ba", "ab")) == Stop("deadlock", {"round": 3, "same_as_round": 1})


def test_no_new_claims_never_fires_in_round_one():
    """Catches a debate that ends before anyone could answer anyone."""
    assert no_new_claims()(view("ab", claims=(0,))) is None
    assert no_new_claims()(view("ab", "ab", claims=(3, 0))) == Stop("no_new_claims", {"round": 2, "rounds": 1})
    assert no_new_claims()(view("ab", "ab", claims=(3, 1))) is None
    assert no_new_claims(2)(view("ab", "ab", claims=(0, 0))) is None
    assert no_new_claims(2)(view("ab", "ab", "ab", claims=(3, 0, 0))) is not None


def test_or_is_the_first_that_fires_and_and_needs_all():
    """Catches a reason that depends on luck, and numbers lost on the way."""
    last = view("aab", "aab", met=True, max_rounds=2)
    assert (converged() | max_rounds())(last).reason == "converged"  # type: ignore[union-attr]
    assert (max_rounds() | converged())(last).reason == "max_rounds"  # type: ignore[union-attr]
    both = (stable() & max_rounds())(last)
    assert both == Stop("stable", {"round": 2, "rounds": 2, "leader": "a", "weight": 2, "max_rounds": 2})
    assert (stable() & quorum_lost())(last) is None
    assert (quorum_lost() & stable())(last) is None


def test_the_default_policy():
    """Catches a default that debates on after agreement, or never ends."""
    policy = parse_stop(DEFAULT_STOP)
    assert str(policy) == DEFAULT_STOP
    assert policy.bounded
    assert policy(view("aab", met=True)).reason == "converged"  # type: ignore[union-attr]
    assert policy(view("abc", quorum=2, live_weight=3)) is None
    assert policy(view("abc", quorum=2, live_weight=1)).reason == "quorum_lost"  # type: ignore[union-attr]
    assert policy(view("abc", max_rounds=1, quorum=2, live_weight=3)).reason == "max_rounds"  # type: ignore[union-attr]


def test_bounded_conditions():
    """Catches a policy that can wait for ever passed as one that cannot."""
    bounded = {"max_rounds": True, "converged": False, "converged | max_rounds": True, "stable & max_rounds": False}
    assert {text: parse_stop(text).bounded for text in bounded} == bounded


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("converged|stable|max_rounds", "converged | stable:2 | max_rounds"),
        ("converged | stable:3 & no_new_claims", "converged | stable:3 & no_new_claims:1"),
        ("( converged | stable ) & deadlock:4", "(converged | stable:2) & deadlock:4"),
        ("converged | (stable & (unassailable & max_rounds))", "converged | stable:2 & unassailable & max_rounds"),
        ("((quorum_lost))", "quorum_lost"),
    ],
)
def test_conditions_have_one_text(text: str, canonical: str):
    """Catches precedence lost in printing, and two texts for one policy."""
    assert str(parse_stop(text)) == canonical
    assert parse_stop(canonical) == parse_stop(text)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("", "a condition is expected"),
        ("converge", "'converge' where a condition"),
        ("converged max_rounds", "'max_rounds' where & or"),
        ("converged |", "'the end'"),
        ("converged and max_rounds", "'and' where"),
        ("(converged", "closing parenthesis"),
        ("converged)", r"'\)' where"),
        ("stable:1", "stable:2"),
        ("stable:0", "rounds=0"),
        ("no_new_claims:0", "no_new_claims:1"),
        ("deadlock:99999", "rounds=99999"),
        ("converged:2", "takes no number"),
        ("stable:x", "unreadable at ':x'"),
        ("Converged", "unreadable"),
        ("timeout", "'timeout' where a condition"),
        ("(" * 400 + "converged" + ")" * 400, "parentheses"),
        ("converged | " * 200, "characters=2400"),
    ],
)
def test_bad_conditions_name_the_fix(text: str, fix: str):
    """Catches a typo that silently never fires."""
    with pytest.raises(ConfigError, match=fix):
        parse_stop(text)


LEAVES = st.sampled_from(
    [converged(), unassailable(), stable(), stable(3), no_new_claims(), deadlock(), max_rounds(), quorum_lost()]
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda of: st.tuples(of, of, st.booleans()).map(lambda t: t[0] & t[1] if t[2] else t[0] | t[1]),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(CONDITIONS, st.lists(st.text("ab-", min_size=3, max_size=3), max_size=4), st.booleans(), st.integers(1, 4))
def test_text_and_tree_mean_the_same(condition: StopCondition, held, met: bool, limit: int):
    """Round trip: parse(str(c)) is c, and fires alike. Catches precedence and parentheses gone wrong."""
    again = parse_stop(str(condition))
    assert again == condition
    seen = view(*held, met=met, max_rounds=limit, quorum=2, live_weight=len(held))
    assert again(seen) == condition(seen)
