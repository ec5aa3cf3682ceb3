"""The ballot box: what becomes of every ballot. Each test names the mistake it would catch."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.ballots import OPTIONS_MAX, OUTSTANDING, SEATS_MAX, BallotBox, Tally
from madflow.core.canonical import canonical
from madflow.errors import ConfigError

PANEL = {"ann": 1, "bob": 2, "cid": 3}


def box(options=("a", "b", "c"), electorate=None, recused=None) -> BallotBox:
    return BallotBox.open("s1", options, PANEL if electorate is None else electorate, recused or {})


def cast(b: BallotBox, agent: str, *choices: str, **kw) -> BallotBox:
    taken, cause = b.cast(agent, choices, subject=kw.pop("subject", "s1"), **kw)
    assert not cause, cause
    return taken


def conserved(tally: Tally) -> bool:
    seats = tally.valid + tally.abstain + tally.invalid + tally.missing
    weights = tally.valid_weight + tally.abstain_weight + tally.invalid_weight + tally.missing_weight
    return tally.eligible == seats and tally.eligible_weight == weights


def test_an_open_box_counts_every_seat_as_missing():
    """Catches outstanding seats left out of the denominator."""
    tally = box().tally()
    assert (tally.eligible, tally.missing, tally.missing_weight) == (3, 3, 6)
    assert box().outstanding == ("ann", "bob", "cid")
    assert {entry.cause for entry in box().seats} == {OUTSTANDING}


def test_seats_and_weights_are_counted_by_status():
    """Catches a status counted as another, or seats mixed up with weights."""
    b = box(electorate={**PANEL, "dan": 4})
    b = cast(b, "ann", "b", "a").abstain("bob", "unsure").spoil("cid", "no_json").miss("dan", "timeout")
    assert b.tally() == Tally(4, 1, 1, 1, 1, 10, 1, 2, 3, 4, {"a": 0, "b": 1, "c": 0})
    assert [(e.agent, e.status, e.choices, e.cause) for e in b.seats] == [
        ("ann", "valid", ("b", "a"), ""),
        ("bob", "abstain", (), ""),
        ("cid", "invalid", (), "no_json"),
        ("dan", "missing", (), "timeout"),
    ]
    assert b.entries["bob"].notes == "unsure"


def test_empty_reply_is_an_invalid_ballot():
    """Catches an empty ballot dropped, or counted for the first option."""
    b = cast(box(), "ann")
    assert (b.entries["ann"].status, b.entries["ann"].cause) == ("invalid", "empty")
    assert sum(b.tally().first.values()) == 0


def test_duplicate_ballot_is_refused_and_the_first_one_stands():
    """Catches the last ballot winning."""
    b, cause = cast(box(), "bob", "a").cast("bob", ["b"], subject="s1")
    assert cause == "duplicate"
    assert b.entries["bob"].choices == ("a",)
    assert b.refused == (("bob", "duplicate"),)


@pytest.mark.parametrize("spent", ["abstain", "invalid"])
def test_abstaining_or_spoiling_spends_the_ballot(spent: str):
    """Catches a second try after a bad or blank ballot."""
    b = box().abstain("bob") if spent == "abstain" else box().spoil("bob", "no_json")
    b, cause = b.cast("bob", ["b"], subject="s1")
    assert (cause, b.entries["bob"].status) == ("duplicate", spent)


def test_unknown_option_spends_the_ballot_as_invalid():
    """Catches a ballot for nothing on the list that turns into a choice, or is asked for again."""
    b = cast(box(), "ann", "a", "zebra")
    assert (b.entries["ann"].status, b.entries["ann"].cause) == ("invalid", "unknown_option: zebra")
    assert b.cast("ann", ["a"], subject="s1")[1] == "duplicate"


@pytest.mark.parametrize("word", ["abstain", "missing", "A", " a", "a b", ""])
def test_words_that_only_look_like_options_are_unknown(word: str):
    """Catches fuzzy matching in the box: matching is the parser's work."""
    assert cast(box(), "ann", word).entries["ann"].status == "invalid"


def test_repeated_option_is_invalid():
    """Catches one seat approving an option twice."""
    assert cast(box(), "ann", "a", "b", "a").entries["ann"].cause == "repeated_option: a"


def test_self_vote_of_a_recused_seat_is_refused_with_its_cause():
    """Catches a finding confirmed by the seat that raised it, and recused seats kept in the denominator."""
    b, cause = box(recused={"bob": "self_vote"}).cast("bob", ["a"], subject="s1")
    assert cause == "self_vote"
    assert b.refused == (("bob", "self_vote"),)
    assert (b.tally().eligible, b.tally().eligible_weight) == (2, 4)
    assert b.abstain("bob").refused == (("bob", "self_vote"),) * 2


def test_a_stranger_and_a_wrong_subject_are_refused():
    """Catches a ballot counted for another proposal, or from outside the panel."""
    b, cause = box().cast("eve", ["a"], subject="s1")
    assert cause == "not_eligible"
    b, cause = b.cast("ann", ["a"], subject="s2")
    assert cause == "wrong_subject"
    assert b.outstanding == ("ann", "bob", "cid"), "a refused ballot does not spend the seat"
    assert b.refused == (("ann", "wrong_subject"), ("eve", "not_eligible"))


def test_closing_makes_outstanding_seats_missing_and_refuses_late_ballots():
    """Catches late ballots counted, and the cause of the end lost."""
    b = cast(box(), "ann", "a").close("timeout")
    assert [e.cause for e in b.seats] == ["", "timeout", "timeout"]
    late, cause = b.cast("cid", ["b"], subject="s1")
    assert (cause, late.tally(), late.refused) == ("closed", b.tally(), (("cid", "closed"),))
    assert b.close("later") == b
    assert late.spoil("bob", "no_json").entries["bob"].status == "missing"


def test_a_straggler_given_up_on_is_late():
    """Catches a missing seat revived after its place was counted."""
    assert box().miss("ann", "timeout").cast("ann", ["a"], subject="s1")[1] == "closed"


def test_a_box_is_a_value():
    """Catches a cast that changes the box it was called on."""
    before = box()
    after = cast(before, "ann", "a")
    assert before.outstanding == ("ann", "bob", "cid")
    assert hash(before) != hash(after)
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.closed = "x"  # type: ignore[misc]
    after.entries.clear()
    assert len(after.entries) == 3


@pytest.mark.parametrize("confidence", [1.5, -0.1, math.nan, math.inf, 85, "high"])
def test_impossible_confidence_is_invalid(confidence):
    """Catches NaN reaching canonical JSON."""
    b = cast(box(), "ann", "a", confidence=confidence)
    assert b.entries["ann"].cause.startswith("bad_confidence")
    assert b.entries["ann"].confidence is None


def test_hostile_option_names_are_fit_for_a_record():
    """Catches a megabyte, or a lone surrogate that canonical JSON cannot encode, carried into the ledger."""
    b = cast(box(), "ann", "\ud800" + "x" * 1_000_000)
    assert len(b.entries["ann"].cause) < 120
    canonical({"cause": b.entries["ann"].cause})


def test_a_text_is_not_a_list_of_choices():
    """Catches `cast(agent, "ab")` voting for a and b."""
    with pytest.raises(TypeError, match="sequence of options"):
        box().cast("ann", "ab", subject="s1")


@pytest.mark.parametrize("name", ["abstain", "Invalid", " missing ", "", "  "])
def test_reserved_option_names(name: str):
    """Catches an abstention that could win."""
    with pytest.raises(ConfigError, match="rename it"):
        box(options=("a", name))


def test_bad_boxes_name_the_fix():
    """Catches repeated options, float or zero weights, nameless recusals, and boxes without bounds."""
    with pytest.raises(ConfigError, match="drop the repeated one"):
        box(options=("a", "a"))
    for weight in (0, -1, 1.0, True):
        with pytest.raises(ConfigError, match=r"ann.*whole number"):
            box(electorate={"ann": weight})
    with pytest.raises(ConfigError, match="needs a subject"):
        BallotBox.open("", ("a",), PANEL)
    with pytest.raises(ConfigError, match="no cause"):
        box(recused={"ann": ""})
    with pytest.raises(ConfigError, match=f"options={OPTIONS_MAX + 1}"):
        box(options=[str(i) for i in range(OPTIONS_MAX + 1)])
    with pytest.raises(ConfigError, match=f"seats={SEATS_MAX + 1}"):
        box(electorate={str(i): 1 for i in range(SEATS_MAX + 1)})
    for lost in (lambda: box().miss("ann", ""), lambda: box().close(OUTSTANDING)):
        with pytest.raises(ValueError, match="name why"):
            lost()


def test_motions_are_recognised_in_any_order():
    """Catches `reject` being electable because it was listed first."""
    assert box(options=("approve", "reject")).is_motion
    assert box(options=("reject", "approve")).is_motion
    assert not box(options=("approve", "reject", "defer")).is_motion


ACTIONS = st.one_of(
    st.lists(st.sampled_from(["a", "b", "c", "z"]), max_size=4).map(lambda choices: ("cast", choices)),
    st.sampled_from([("abstain", None), ("spoil", None), ("miss", None), ("stale", None)]),
)


def act(b: BallotBox, agent: str, action) -> BallotBox:
    kind, choices = action
    if kind == "cast":
        return b.cast(agent, choices, subject="s1")[0]
    if kind == "stale":
        return b.cast(agent, ["a"], subject="old")[0]
    return b.abstain(agent) if kind == "abstain" else getattr(b, kind)(agent, "cause")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_conservation(data):
    """eligible = valid + abstain + invalid + missing after every event. Catches any status that escapes the count."""
    names = data.draw(st.lists(st.sampled_from("abcdefg"), unique=True, max_size=6))
    electorate = {name: data.draw(st.integers(1, 5)) for name in names}
    recused = {name: "self_vote" for name in names if data.draw(st.booleans())}
    b = box(electorate=electorate, recused=recused)
    eligible = len(names) - len(recused)
    refused = 0
    for agent, action in data.draw(st.lists(st.tuples(st.sampled_from("abcdefg"), ACTIONS), max_size=20)):
        after = b.close("expired") if data.draw(st.integers(0, 15)) == 0 else act(b, agent, action)
        assert conserved(after.tally())
        assert after.tally().eligible == eligible
        assert sum(after.tally().first.values()) == after.tally().valid_weight
        spent = {e.agent: e for e in b.seats if not e.outstanding}
        assert all(after.entries[agent] == entry for agent, entry in spent.items()), "a ballot was changed"
        assert len(after.refused) >= refused
        b, refused = after, len(after.refused)


@settings(max_examples=100, deadline=None)
@given(st.lists(ACTIONS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_neither_panel_order_nor_cast_order_matters(actions, random):
    """Catches results that follow arrival: whole boxes are equal, refusals of strangers included."""
    agents = [f"s{i}" for i in range(len(actions))]
    events = [*zip(agents, actions, strict=True), ("eve", ("cast", ["a"])), ("adam", ("abstain", None))]
    electorate = {agent: i + 1 for i, agent in enumerate(agents)}
    expected = None
    for order in itertools.islice(itertools.permutations(events), 0, 720, 29):
        shuffled = list(electorate.items())
        random.shuffle(shuffled)
        b = box(electorate=dict(shuffled))
        for agent, action in order:
            b = act(b, agent, action)
        expected = expected or b
        assert b == expected
        assert list(b.entries) == sorted(agents)
