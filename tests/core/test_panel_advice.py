"""What would decide a vote: the smallest sets of seats, against every set; and objections put to their steps."""

from itertools import chain, combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from madflow.core.ballots import BallotBox
from madflow.core.panel_advice import Objection, advise
from madflow.core.quorum import quorum
from madflow.core.rules import decide, parse_rule, unassailable

PLAN = [
    {"step": "write", "target": "file:src/a.py"},
    {"step": "test", "cmd": ["pytest"]},
    {"step": "write", "target": "file:src/a.py.bak"},
]
RULES = st.sampled_from(
    ["majority", "supermajority:2/3", "unanimity", "plurality", "veto:majority", "veto(a):plurality"]
)
SEATS = st.lists(
    st.tuples(st.sampled_from(["approve", "reject", "abstain", "invalid", "missing"]), st.integers(1, 4)),
    min_size=1,
    max_size=6,
)


def body(seats: list[tuple[str, int]], rule: str = "majority", notes: str = "") -> dict[str, Any]:
    votes = [
        {"agent": agent, "decision": said, "weight": weight, "notes": notes}
        for agent, (said, weight) in zip("abcdef", seats, strict=False)
    ]
    needed = quorum(sum(weight for _, weight in seats))
    return {"plan": PLAN, "votes": votes, "rule": rule, "decision": {"quorum": needed}}


def decides(data: dict[str, Any], names: tuple[str, ...], choice: str, *, is_open: bool) -> bool:
    """The rule, asked directly."""
    box = BallotBox.open("s", ("approve", "reject"), {v["agent"]: v["weight"] for v in data["votes"]})
    for vote in data["votes"]:
        said = choice if vote["agent"] in names else vote["decision"]
        if said in ("approve", "reject"):
            box = box.cast(vote["agent"], (said,), subject="s")[0]
        elif said == "abstain":
            box = box.abstain(vote["agent"])
        elif said == "invalid" or not is_open:
            box = box.spoil(vote["agent"], "lost")
    rule, needed = parse_rule(data["rule"]), data["decision"]["quorum"]
    wanted = {"approve": "approved", "reject": "rejected"}[choice]
    return decide(rule, box, quorum=needed).result == wanted and unassailable(rule, box, quorum=needed)


@given(SEATS, RULES, st.booleans())
def test_the_smallest_sets_that_decide(seats: list[tuple[str, int]], rule: str, is_open: bool) -> None:
    """Would catch advice that would not decide the vote, that asks more seats than needed, or that misses a way."""
    data = body(seats, rule)
    advice = advise(data, is_open=is_open)
    may = ("missing",) if is_open else ("missing", "invalid", "abstain", "reject")
    names = [vote["agent"] for vote in data["votes"] if vote["decision"] in may]
    subsets = list(chain.from_iterable(combinations(names, size) for size in range(len(names) + 1)))
    for choice, found in (("approve", advice.approve), ("reject", advice.reject)):
        if choice == "reject" and not is_open:
            continue
        deciding = [subset for subset in subsets if decides(data, subset, choice, is_open=is_open)]
        least = min((len(subset) for subset in deciding), default=None)
        assert list(found) == sorted(subset for subset in deciding if len(subset) == least)
    assert advice.exact


def test_many_seats_are_answered_at_once() -> None:
    """Would catch a search over every set of 64 seats."""
    votes = [{"agent": f"s{n}", "decision": "missing", "weight": 1, "notes": ""} for n in range(64)]
    advice = advise({"plan": PLAN, "votes": votes, "rule": "majority", "decision": {"quorum": 33}}, is_open=True)
    assert not advice.exact
    assert len(advice.approve) == 1 and len(advice.approve[0]) == 33


def test_objections_stand_by_the_step_they_name() -> None:
    """Would catch an objection to one file that is put to another whose name begins alike."""
    said = [
        Objection("a", "step 1 tests nothing"),
        Objection("b", "src/a.py is generated"),
        Objection("b", "SRC/A.PY is generated"),
        Objection("c", "too early; steps 99"),
        Objection("c", "file:src/a.py.bak is litter"),
    ]
    advice = advise(body([("reject", 1)] * 3), said, is_open=False)
    steps = {step: [item.agent for item in items] for step, items in advice.by_step}
    assert steps == {0: ["b"], 1: ["a"], 2: ["c"]}
    assert [item.text for item in advice.general] == ["too early; steps 99"]
    assert advice.untouched == ()


def test_a_split_is_offered_only_where_steps_are_named() -> None:
    named = advise(body([("reject", 1), ("approve", 1)], notes="step 0 is wrong"), is_open=False)
    assert named.untouched == (1, 2)
    vague = advise(body([("reject", 1)], notes="no"), is_open=False)
    assert (vague.untouched, len(vague.general)) == ((), 1)


def test_a_lead_that_others_could_turn_decides_nothing() -> None:
    """Would catch advice that counts a lead as a decision while others may still vote."""
    seats = [("approve", 1), ("reject", 1), ("missing", 1), ("missing", 1), ("missing", 1)]
    advice = advise(body(seats, "plurality"), is_open=True)
    assert advice.approve == (("c", "d"), ("c", "e"), ("d", "e"))
