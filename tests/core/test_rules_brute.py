"""Decision rules against dumb twins, and `unassailable` against the full vote.

The twins share no code with the rules. They work on lists of (agent, weight, ballot), where a ballot is a tuple of
options or one of the words "abstain", "invalid", "missing", "outstanding"; they use fractions where the rules use
integers, lists of every completed ranking where the rules use averages, and subsets where the rules grow a set.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.ballots import BallotBox
from madflow.core.rules import decide, parse_rule, unassailable

PLAIN = ["majority", "supermajority:2/3", "supermajority:3/4", "unanimity", "plurality", "judge"]
RANKED = ["approval", "borda", "condorcet", "irv"]
VETOES = ["veto:majority", "veto(s0,s3):supermajority:2/3", "veto(s1):plurality", "veto:judge", "veto(s2):irv"]
TIES = ["none", "judge", "earliest"]
OPTIONS = ("a", "b", "c")
MOTION = ("approve", "reject")


# ── the twins ──────────────────────────────────────────────────────────────────────────────────────────────────────


def twin_standing(rule: str, options: tuple[str, ...], seats) -> tuple[str | None, tuple[str, ...], bool]:
    """(winner, tied, blocked) of a vote that has a valid ballot."""
    if rule == "judge":
        return None, (), False
    if options == MOTION:
        if twin_carries(rule, seats):
            return "approve", (), False
        wish = [(a, w, b if isinstance(b, tuple) and b[0] == "reject" else ("approve",)) for a, w, b in seats]
        if not twin_carries(rule, wish):
            return None, (), True
        yes, no = twin_first("approve", seats), twin_first("reject", seats)
        return None, MOTION if yes == no and yes > 0 else (), False
    if rule in ("condorcet", "irv"):
        best = twin_smith(options, seats) if rule == "condorcet" else twin_runoff(list(options), seats)
        return (best[0], (), False) if len(best) == 1 else (None, tuple(best), False)
    scores = {option: twin_score(rule, options, option, seats) for option in options}
    best = [option for option in options if scores[option] == max(scores.values())]
    if len(best) > 1:
        return None, tuple(best), False
    return (best[0] if twin_enough(rule, scores[best[0]], seats) else None), (), False


def twin_first(option: str, seats) -> int:
    return sum(w for _, w, b in seats if isinstance(b, tuple) and b[0] == option)


def twin_enough(rule: str, score: Fraction, seats) -> bool:
    share = Fraction(score) / sum(w for _, w, _ in seats)
    if rule == "majority":
        return share > Fraction(1, 2)
    if rule.startswith("supermajority"):
        return share >= Fraction(rule.split(":")[1])
    return share == 1 if rule == "unanimity" else True


def twin_carries(rule: str, seats) -> bool:
    yes, no = twin_first("approve", seats), twin_first("reject", seats)
    if rule in ("majority", "unanimity") or rule.startswith("supermajority"):
        return twin_enough(rule, Fraction(yes), seats)
    return yes > no


def twin_score(rule: str, options: tuple[str, ...], option: str, seats) -> Fraction:
    if rule == "approval":
        return Fraction(sum(w for _, w, b in seats if isinstance(b, tuple) and option in b))
    if rule != "borda":
        return Fraction(twin_first(option, seats))
    total = Fraction(0)
    for _, weight, ballot in seats:
        if isinstance(ballot, tuple):
            full = [r for r in itertools.permutations(options) if r[: len(ballot)] == ballot]
            total += weight * Fraction(sum(len(options) - 1 - r.index(option) for r in full), len(full))
    return total


def twin_prefers(ballot: tuple[str, ...], one: str, other: str) -> bool:
    return one in ballot and (other not in ballot or ballot.index(one) < ballot.index(other))


def twin_smith(options: tuple[str, ...], seats) -> list[str]:
    def beats(one: str, other: str) -> bool:
        ballots = [(w, b) for _, w, b in seats if isinstance(b, tuple)]
        return sum(w for w, b in ballots if twin_prefers(b, one, other)) > sum(
            w for w, b in ballots if twin_prefers(b, other, one)
        )

    for size in range(1, len(options) + 1):
        for group in itertools.combinations(options, size):
            if all(beats(one, other) for one in group for other in options if other not in group):
                return list(group)
    raise AssertionError("the whole set always beats nobody")


def twin_runoff(options: list[str], seats) -> list[str]:
    best = [(w, [o for o in b if o in options]) for _, w, b in seats if isinstance(b, tuple)]
    counts = [sum(w for w, b in best if b and b[0] == option) for option in options]
    for option, count in zip(options, counts, strict=True):
        if Fraction(count) > Fraction(sum(counts), 2):
            return [option]
    rest = [option for option, count in zip(options, counts, strict=True) if count > min(counts)]
    return twin_runoff(rest, seats) if rest else options


def twin_decide(rule: str, options: tuple[str, ...], seats, quorum: int, tie: str, judged: str | None = None):
    """(result, winner, tied, needs_judge, met)."""
    if sum(w for _, w, b in seats if isinstance(b, tuple)) < max(quorum, 1):
        return "quorum_failed", None, (), False, False
    if rule.startswith("veto"):
        head, rule = rule.split(":", 1)
        holders = head[5:-1].split(",") if "(" in head else [a for a, _, _ in seats]
        if options == MOTION and any(a in holders and b[0] == "reject" for a, _, b in seats if isinstance(b, tuple)):
            return "rejected", None, (), False, False
    winner, tied, blocked = twin_standing(rule, options, seats)
    if winner:
        return "approved", winner, (), False, True
    if blocked:
        return "rejected", None, (), False, False
    if rule == "judge" or (tied and tie == "judge"):
        if judged is None:
            return "no_decision", None, tied, True, False
        if judged in (options if rule == "judge" else tied):
            if options == MOTION and judged == "reject":
                return "rejected", None, tied, False, False
            return "approved", judged, tied, False, False
    elif tied and tie == "earliest" and options != MOTION:
        return "approved", tied[0], tied, False, False
    return "no_decision", None, tied, False, False


def twin_sign(rule: str, options: tuple[str, ...], seats, quorum: int, tie: str):
    """What must not change: result, winner, whether the quorum is met, and what a judge would be asked."""
    result, winner, tied, needs_judge, _ = twin_decide(rule, options, seats, quorum, tie)
    return result, winner, needs_judge, tied if needs_judge else ()


# ── the real thing ─────────────────────────────────────────────────────────────────────────────────────────────────


def box_of(options: tuple[str, ...], seats) -> BallotBox:
    box = BallotBox.open("s", options, {agent: weight for agent, weight, _ in seats})
    for agent, _, ballot in seats:
        if isinstance(ballot, tuple):
            box, cause = box.cast(agent, ballot, subject="s")
            assert cause == ""
        elif ballot == "abstain":
            box = box.abstain(agent)
        elif ballot == "invalid":
            box = box.spoil(agent, "no_json")
        elif ballot == "missing":
            box = box.miss(agent, "timeout")
    return box


def rankings(options: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [r for n in range(1, len(options) + 1) for r in itertools.permutations(options, n)]


def panels(words=("abstain", "invalid", "missing"), *, seats_max: int = 6, weight_max: int = 4):
    def of(options: tuple[str, ...]):
        ballot = st.one_of(
            st.sampled_from(rankings(options)), st.sampled_from(rankings(options)), st.sampled_from(words)
        )
        seat = st.tuples(st.integers(1, weight_max), ballot)
        return st.tuples(st.just(options), st.lists(seat, max_size=seats_max))

    options = st.sampled_from([MOTION, MOTION, OPTIONS, OPTIONS, ("a", "b"), ("a",), ("d", "c", "b", "a")])
    named = options.flatmap(of)
    return named.map(lambda found: (found[0], [(f"s{i}", w, b) for i, (w, b) in enumerate(found[1])]))


@settings(max_examples=600, deadline=None)
@given(
    panels(),
    st.sampled_from(PLAIN + RANKED + VETOES),
    st.sampled_from(TIES),
    st.integers(-1, 8),
    st.sampled_from([None, "a", "b", "c", "approve", "reject", "zebra"]),
)
def test_every_rule_equals_its_twin(panel, rule, tie, quorum, judged):
    """Catches any wrong count, threshold, tie, veto or precedence."""
    options, seats = panel
    outcome = decide(parse_rule(rule), box_of(options, seats), quorum=quorum, tie=tie, judged=judged)
    found = (outcome.result, outcome.winner, outcome.tied, outcome.needs_judge, outcome.met)
    assert found == twin_decide(rule, options, seats, quorum, tie, judged)
    if options == MOTION or rule not in ("veto(s2):irv", "condorcet", "irv"):
        counted = rule if options != MOTION else "plurality"
        assert outcome.scores == {option: str(twin_score(counted, options, option, seats)) for option in options}


@settings(max_examples=300, deadline=None)
@given(panels(), st.sampled_from(PLAIN + RANKED + VETOES), st.sampled_from(TIES), st.randoms(use_true_random=False))
def test_permuting_agents_changes_nothing(panel, rule, tie, random):
    """Catches a result that follows the order of seats or of arrival."""
    options, seats = panel
    shuffled = list(seats)
    random.shuffle(shuffled)
    one, other = (decide(parse_rule(rule), box_of(options, s), quorum=2, tie=tie) for s in (seats, shuffled))
    assert one == other
    assert list(one.scores.items()) == list(other.scores.items())


@settings(max_examples=300, deadline=None)
@given(panels(seats_max=5), st.sampled_from(PLAIN + RANKED + VETOES), st.sampled_from(["none", "judge"]), st.data())
def test_renaming_agents_or_options_renames_the_result(panel, rule, tie, data):
    """Catches a rule that favours an id or an option's place (neutrality); "earliest" is meant to."""
    options, seats = panel
    if options == MOTION or rule.startswith("veto"):
        return
    order = data.draw(st.permutations(options))
    renamed = dict(zip(options, order, strict=True))
    moved = [(a, w, tuple(renamed[o] for o in b) if isinstance(b, tuple) else b) for a, w, b in seats]
    one, other = (decide(parse_rule(rule), box_of(options, s), quorum=1, tie=tie) for s in (seats, moved))
    assert other.result == one.result
    assert other.winner == (renamed[one.winner] if one.winner else None)
    assert set(other.tied) == {renamed[option] for option in one.tied}


def completions(options: tuple[str, ...], seats, ballots):
    slots = [(ballots if ballot == "outstanding" else [ballot]) for _, _, ballot in seats]
    for filled in itertools.product(*slots):
        yield [(a, w, b) for (a, w, _), b in zip(seats, filled, strict=True)]


@settings(max_examples=400, deadline=None)
@given(
    panels(("abstain", "outstanding", "outstanding", "outstanding"), seats_max=5),
    st.sampled_from([*PLAIN, "approval", *VETOES]),
    st.sampled_from(TIES),
    st.integers(0, 10),
)
def test_unassailable_equals_the_full_vote_with_weights(panel, rule, tie, quorum):
    """Catches a vote called too early (an unsound bound) or too late (a loose one), for weighted seats."""
    options, seats = panel
    if rule == "approval":
        ballots = ["missing", *(c for n in range(1, len(options) + 1) for c in itertools.combinations(options, n))]
    else:
        ballots = ["missing", *((option,) for option in options)]
    if sum(b == "outstanding" for _, _, b in seats) > (3 if len(ballots) > 5 else 5):
        return
    if rule == "veto(s2):irv" and options != MOTION:
        return  # rankings matter there: see below
    signs = {twin_sign(rule, options, s, quorum, tie) for s in completions(options, seats, ballots)}
    assert unassailable(parse_rule(rule), box_of(options, seats), quorum=quorum, tie=tie) == (len(signs) == 1)


@settings(max_examples=250, deadline=None)
@given(
    panels(("abstain", "outstanding"), seats_max=5, weight_max=3),
    st.sampled_from(["borda", "condorcet", "irv"]),
    st.sampled_from(TIES),
    st.integers(0, 6),
)
def test_unassailable_equals_the_full_vote_by_rankings(panel, rule, tie, quorum):
    """The same, where an outstanding seat may cast any ranking, whole or cut short."""
    options, seats = panel
    if len(options) > 3 or sum(b == "outstanding" for _, _, b in seats) > 2:
        return
    ballots = ["abstain", "invalid", "missing", *rankings(options)]
    signs = {twin_sign(rule, options, s, quorum, tie) for s in completions(options, seats, ballots)}
    assert unassailable(parse_rule(rule), box_of(options, seats), quorum=quorum, tie=tie) == (len(signs) == 1)


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize(
    ("rule", "seats_max"),
    [*((rule, 5) for rule in PLAIN), ("approval", 5), ("borda", 4), ("condorcet", 4), ("irv", 4)],
)
def test_unassailable_equals_the_full_vote_by_enumeration(rule: str, seats_max: int, tie: str):
    """Every vote of up to five equal seats over three options, whatever is in and whatever is still out."""
    if rule == "approval":
        ballots = [c for n in range(1, 4) for c in itertools.combinations(OPTIONS, n)]
    else:
        ballots = rankings(OPTIONS)[: 9 if rule in RANKED else 3]
    parsed = parse_rule(rule)

    @cache
    def sign(filled: tuple, quorum: int):
        return twin_sign(rule, OPTIONS, [(f"s{i}", 1, b) for i, b in enumerate(filled)], quorum, tie)

    kinds = [*ballots, "missing"]
    place = {kind: i for i, kind in enumerate(kinds)}
    for size in range(1, seats_max + 1):
        for quorum in {1, size // 2 + 1}:
            for out in range(size + 1):
                for known in itertools.combinations_with_replacement(kinds, size - out):
                    seats = [(f"s{i}", 1, b) for i, b in enumerate([*known, *["outstanding"] * out])]
                    found = unassailable(parsed, box_of(OPTIONS, seats), quorum=quorum, tie=tie)
                    ends = {
                        sign(tuple(sorted((*known, *added), key=place.__getitem__)), quorum)
                        for added in itertools.combinations_with_replacement(kinds, out)
                    }
                    assert found == (len(ends) == 1), (known, out, quorum, ends)
