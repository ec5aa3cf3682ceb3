"""A plan put to a panel, by its records alone: who is counted, when it is decided, and that nothing else matters."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.ballots import BallotBox
from madflow.core.panel import PanelState, panel_state, refusal
from madflow.core.panel_request import panel_subject, parse_panel, parse_plan_file
from madflow.core.proposal import Proposal, check_digests
from madflow.core.quorum import quorum
from madflow.core.rules import decide, parse_rule
from madflow.errors import LedgerCorrupt

START = 1_760_000_000_000
STEP = {"step": "write", "target": "file:a.txt", "content": "x"}
RULES = ("majority", "supermajority:2/3", "unanimity", "plurality", "veto:majority", "veto(a):supermajority:3/4", "irv")


@dataclass(frozen=True)
class Rec:
    seq: int
    stream: str
    kind: str
    payload: dict[str, Any]
    at_ms: int


def proposed(panel: str = "a,b,c", rule: str = "majority", expires_s: int = 60, name: str = "p1") -> Rec:
    subject = panel_subject(
        parse_plan_file({"plan": [STEP]}),
        proposal_id=name,
        proposer="x",
        panel=parse_panel(panel),
        rule=rule,
        created_ms=START,
        expires_s=expires_s,
    )
    return Rec(1, f"proposal/{name}", "proposed", {"subject": subject}, START)


def ballot(first: Rec, agent: str, decision: str, at_ms: int = START + 1, **fields: Any) -> Rec:
    payload = {
        "agent": agent,
        "decision": decision,
        "notes": f"{agent} says so",
        "confidence": None,
        "subject_digest": first.payload["subject"]["subject_digest"],
        **fields,
    }
    return Rec(2, first.stream, "ballot", payload, at_ms)


def other(first: Rec, kind: str, at_ms: int, **payload: Any) -> Rec:
    return Rec(3, first.stream, kind, payload, at_ms)


def checked(state: PanelState, now_ms: int) -> Proposal:
    body = state.body(now_ms)
    proposal = Proposal.model_validate(body)
    assert check_digests(body) == check_digests(proposal.to_json()) == []
    tally = proposal.decision.tally
    assert tally.eligible == tally.valid + tally.abstain + tally.invalid + tally.missing == len(proposal.votes)
    assert tally.eligible_weight == sum(vote.weight for vote in proposal.votes)
    return proposal


SEATS = st.lists(
    st.tuples(st.sampled_from(["approve", "reject", "abstain", "nonsense", ""]), st.integers(1, 5)),
    min_size=1,
    max_size=6,
)


@given(SEATS, st.sampled_from(RULES), st.data())
def test_closes_exactly_when_nothing_could_change(seats: list[tuple[str, int]], rule: str, data: st.DataObject) -> None:
    """Would catch a vote that closes while a ballot could still turn it, or stays open when none could."""
    names = "abcdef"[: len(seats)]
    first = proposed(",".join(f"{name}:{weight}" for name, (_, weight) in zip(names, seats, strict=True)), rule)
    order = data.draw(st.permutations(list(zip(names, (said for said, _ in seats), strict=True))))
    records = [first]
    for agent, said in order:
        records.append(ballot(first, agent, said))
        state = panel_state(records)
        proposal = checked(state, START + 2)
        if state.end is None:
            assert proposal.decision.result == "no_decision"
            assert len(_futures(state)) > 1
        else:
            assert state.end.kind == "decided"
            assert _futures(state) == {(proposal.decision.result, proposal.decision.choice)}
            break


def _futures(state: PanelState) -> set[tuple[str, str | None]]:
    """Every result that some completion of the ballots gives, by trying them all."""
    fresh = panel_box(state)
    waiting = fresh.outstanding
    found = set()
    for rest in product(("approve", "reject", "abstain"), repeat=len(waiting)):
        box = fresh
        for agent, said in zip(waiting, rest, strict=True):
            box = box.abstain(agent) if said == "abstain" else box.cast(agent, (said,), subject=box.subject)[0]
        outcome = decide(state.rule, box, quorum=state.quorum)
        found.add((outcome.result, outcome.winner))
    return found


def panel_box(state: PanelState) -> BallotBox:
    """The ballots of the state, in a box that is open."""
    weights = {entry.agent: entry.weight for entry in state.box.seats}
    box = BallotBox.open(state.box.subject, ("approve", "reject"), weights)
    for entry in state.box.seats:
        if entry.status == "valid":
            box = box.cast(entry.agent, entry.choices, subject=box.subject)[0]
        elif entry.status == "abstain":
            box = box.abstain(entry.agent)
        elif entry.status == "invalid":
            box = box.spoil(entry.agent, "spoilt")
    return box


@given(
    st.lists(st.tuples(st.sampled_from("abcdx"), st.sampled_from(["approve", "reject", "abstain", "?"])), max_size=12),
    st.sampled_from(RULES),
    st.randoms(use_true_random=False),
)
def test_one_ballot_a_seat_whoever_comes_first(said: list[tuple[str, str]], rule: str, random: Any) -> None:
    """Would catch a changed ballot, a stranger's, and a result that depends on who voted first while open."""
    first = proposed("a:2,b,c,d", rule)
    state = panel_state([first, *(ballot(first, agent, decision) for agent, decision in said)])
    proposal = checked(state, START + 2)
    took = dict(state.voted)
    assert len(took) == len(state.voted) and "x" not in took
    assert len(state.voted) + len(state.refused) == len(said)
    for vote in proposal.votes:
        if vote.agent in took:
            mine = next(decision for agent, decision in said if agent == vote.agent)
            assert vote.decision == ("invalid" if mine == "?" else mine)
        else:
            assert vote.decision == "missing"
    taken = [(agent, next(d for name, d in said if name == agent)) for agent in took]
    random.shuffle(taken)
    again = panel_state([first, *(ballot(first, agent, decision) for agent, decision in taken)])
    if state.end is None:
        assert again.body(START + 2) == state.body(START + 2)


def test_the_reader_s_clock_is_in_no_byte() -> None:
    """Would catch a decision time, or any other byte, that comes from who reads."""
    first = proposed()
    records = [first, ballot(first, "a", "approve")]
    state = panel_state(records)
    late = START + 60_000
    assert state.body(START + 2) == state.body(late - 1)
    assert state.body(late) == state.body(late + 10**9)
    assert state.body(late) != state.body(late - 1)
    noticed = panel_state([*records, other(first, "closed", late + 5)])
    assert noticed.body(0) == noticed.body(late) == state.body(late)
    decided = panel_state([*records, ballot(first, "b", "approve", START + 7)])
    assert decided.body(START + 7) == decided.body(10**15)
    assert decided.closed_at(10**15) == START + 7


def test_expiry_by_the_records() -> None:
    """Would catch a ballot after the expiry that counts, also where the clock went back in between."""
    first = proposed(rule="plurality")
    end = START + 60_000
    early = [ballot(first, "a", "approve", end - 1)]
    late = ballot(first, "b", "approve", end)
    back = ballot(first, "c", "approve", end - 1)
    state = panel_state([first, *early, late, back])
    assert [(r.agent, r.cause) for r in state.refused] == [("b", "late"), ("c", "late")]
    proposal = checked(state, 0)
    assert proposal.decision.stop_reason == "timeout"
    assert proposal.decision.result == "quorum_failed"
    assert [vote.notes for vote in proposal.votes] == ["a says so", "timeout", "timeout"]
    in_time = panel_state([first, *early, replace(late, at_ms=end - 1)])
    assert checked(in_time, end).decision.result == "approved"


@pytest.mark.parametrize(
    ("record", "cause"),
    [
        (lambda first: ballot(first, "zoe", "approve"), "not_a_member"),
        (lambda first: ballot(first, "b", "approve", subject_digest="0" * 64), "wrong_subject"),
        (lambda first: ballot(first, "b", "approve", subject_digest=None), "wrong_subject"),
        (lambda first: ballot(first, "a", "reject"), "duplicate"),
        (lambda first: ballot(first, "b", "approve", START + 60_000), "late"),
    ],
)
def test_refused_ballots(record: Any, cause: str) -> None:
    """Would catch a ballot for another subject that counts here, and a refusal that leaves no trace."""
    first = proposed()
    state = panel_state([first, ballot(first, "a", "approve"), record(first)])
    assert [refused.cause for refused in state.refused] == [cause]
    assert state.box.tally().valid == 1


def test_a_ballot_for_one_plan_is_none_for_another() -> None:
    """Would catch ballots that are moved from one proposal's stream to another's."""
    one, two = proposed(name="one"), proposed(name="two")
    moved = [replace(ballot(one, agent, "approve"), stream=two.stream) for agent in "abc"]
    state = panel_state([two, *moved])
    assert {refused.cause for refused in state.refused} == {"wrong_subject"}
    assert checked(state, START + 2).decision.tally.valid == 0


def test_superseded_before_the_decision_decides_nothing() -> None:
    """Would catch an old plan that is still approved after another took its place, and one that loses its approval."""
    first = proposed(panel="a,b,c,d", rule="plurality")
    votes = [ballot(first, "a", "approve"), ballot(first, "b", "approve"), ballot(first, "c", "approve")]
    by = other(first, "superseded", START + 5, by="p2")
    replaced = panel_state([first, *votes[:2], by, *votes[2:]])
    proposal = checked(replaced, START + 6)
    assert (proposal.decision.result, proposal.decision.stop_reason) == ("no_decision", "cancelled")
    assert proposal.decision.stop_numbers["superseded_by"] == "p2"
    assert [refused.cause for refused in replaced.refused] == ["late"]
    kept = panel_state([first, *votes, by])
    assert checked(kept, START + 6).approved
    assert kept.superseded_by == "p2"
    assert panel_state([first, by, other(first, "superseded", START + 6, by="p3")]).superseded_by == "p2"


def test_how_it_stopped() -> None:
    first = proposed()

    def stop(*said: str, now_ms: int = START + 2) -> tuple[str, str]:
        votes = [ballot(first, agent, decision) for agent, decision in zip("abc", said, strict=False)]
        decision = checked(panel_state([first, *votes]), now_ms).decision
        return decision.result, decision.stop_reason

    assert stop() == ("no_decision", "human")
    assert stop("approve", "approve") == ("approved", "unassailable")
    assert stop("abstain", "approve", "approve") == ("approved", "converged")
    assert stop("reject", "reject") == ("rejected", "unassailable")
    assert stop("approve", "reject", "abstain") == ("no_decision", "deadlock")
    assert stop("abstain", "abstain") == ("quorum_failed", "quorum_lost")
    assert stop("approve", now_ms=START + 60_000) == ("quorum_failed", "timeout")


@pytest.mark.parametrize("sure", [True, 1.5, -1, "yes", [1]])
def test_a_ballot_that_makes_no_sense_is_spent(sure: Any) -> None:
    """Would catch a garbled ballot that becomes a choice, or that may be cast again."""
    first = proposed()
    state = panel_state([first, ballot(first, "a", "approve", confidence=sure), ballot(first, "a", "approve")])
    assert checked(state, START + 2).votes[0].decision == "invalid"
    assert [refused.cause for refused in state.refused] == ["duplicate"]


def _with(first: Rec, **fields: Any) -> Rec:
    return replace(first, payload={"subject": {**first.payload["subject"], **fields}})


@pytest.mark.parametrize(
    "record",
    [
        replace(proposed(), kind="ballot"),
        replace(proposed(), stream="proposal/other"),
        replace(proposed(), payload={}),
        _with(proposed(), protocol="review"),
        _with(proposed(), proposal_id="d-p1"),
        _with(proposed(), rule="judge"),
        _with(proposed(), rule="whatever"),
        _with(proposed(), panel=[]),
        _with(proposed(), panel=proposed().payload["subject"]["panel"] * 2),
        _with(proposed(), plan=[STEP]),
        _with(proposed(), expires_at="tomorrow"),
        _with(proposed(), expires_at="2030-01-01T00:00:00"),
        replace(_with(proposed(), proposal_id="d-p1"), stream="proposal/d-p1"),
    ],
)
def test_a_forged_proposal_is_none(record: Rec) -> None:
    """Would catch a stream whose first record is believed as it stands."""
    with pytest.raises(LedgerCorrupt, match="proposal/"):
        panel_state([record])


def test_a_stored_digest_is_not_believed() -> None:
    """Would catch a plan that is edited in place under the digest that was voted on."""
    first = proposed()
    edited = _with(first, plan=[{**first.payload["subject"]["plan"][0], "content": "evil"}])
    state = panel_state([edited, ballot(first, "a", "approve")])
    assert state.refused[0].cause == "wrong_subject"
    assert check_digests(state.body(START)) == []


def test_strange_records_are_named() -> None:
    first = proposed()
    for kind in ("proposed", "landed", ""):
        with pytest.raises(LedgerCorrupt, match="unknown record kind"):
            panel_state([first, other(first, kind, START)])
    with pytest.raises(LedgerCorrupt, match="empty"):
        panel_state([])


def test_refusals_kept_are_bounded() -> None:
    first = proposed()
    state = panel_state([first, *(ballot(first, "zoe", "approve") for _ in range(1_200))])
    assert len(state.refused) == 1_000


def test_refusal_names_the_first_cause() -> None:
    first = proposed()
    state = panel_state([first, ballot(first, "a", "approve")])
    digest = state.box.subject
    assert refusal(state, "a", digest, START + 60_000) == "duplicate"
    assert refusal(state, "b", digest, START + 59_999) == ""
    assert state.quorum == quorum(3)
    assert parse_rule(str(state.rule)) == state.rule
