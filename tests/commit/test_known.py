"""What a real ledger knows of real debates and panels, and what it does not."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gate_debates import WRITE, Altered, Clock, debate

from madflow.commit.known import Listed, known_proposal, list_known
from madflow.core.proposal import check_digests
from madflow.debate.run import replay
from madflow.errors import LedgerCorrupt
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.panel.api import propose, supersede, vote
from madflow.ports import Event

ALL = {"a": "approve", "b": "approve", "c": "approve"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[SqliteLedger]:
    opened = open_ledger(tmp_path / "ledger.db", clock=clock)
    yield opened
    opened.close()


async def test_a_debate_that_landed_is_decided_again(ledger: SqliteLedger, clock: Clock) -> None:
    """Would catch a loader that hands out what was stored, or folds something else than the debate did."""
    proposal = await debate(ledger, clock, ALL)
    known = known_proposal(ledger, "d-p1", now_ms=clock.now_ms())
    assert known is not None and known.body is not None
    assert check_digests(known.body) == [] and known.body["digest"] == known.stored_digest
    assert known.body["digest"] == replay(ledger, "d").digest == proposal.digest  # type: ignore[union-attr]
    assert (known.proposer_role, known.source, known.open, known.problems) == ("proposer", "debate", False, ())
    assert known.expires_ms - known.created_ms == 86_400_000


async def test_a_stored_result_is_not_trusted(ledger: SqliteLedger, clock: Clock) -> None:
    """Would catch trust in the record of the landing: its ballots are changed to approval, the answers are not."""
    proposal = await debate(ledger, clock, {"a": "approve", "b": "reject", "c": "reject"})
    name = proposal.proposal_id  # type: ignore[union-attr]

    def approve(payload: Any) -> Any:
        changed = copy.deepcopy(payload)
        changed["proposal"]["decision"]["result"] = "approved"
        return changed

    known = known_proposal(Altered(ledger, "landed", approve), name, now_ms=0)  # type: ignore[arg-type]
    assert known is not None and known.body is not None and known.body["decision"]["result"] == "rejected"
    assert [problem.code for problem in known.problems] == ["ledger_differs"]
    assert "decision" in known.problems[0].message


async def test_a_changed_ballot_shows(ledger: SqliteLedger, clock: Clock) -> None:
    """Would catch a loader that folds the answers and forgets to compare."""
    await debate(ledger, clock, ALL)

    def turn(payload: Any) -> Any:
        changed = copy.deepcopy(payload)
        if (changed.get("reply") or {}).get("decision") == "approve" and changed["agent"] == "c":
            changed["reply"]["decision"] = "reject"
        return changed

    known = known_proposal(Altered(ledger, "answered", turn), "d-p1", now_ms=0)  # type: ignore[arg-type]
    assert known is not None and [problem.code for problem in known.problems] == ["ledger_differs"]


async def test_versions(ledger: SqliteLedger, clock: Clock) -> None:
    """Would catch a superseded plan that is committed, and a version that never was."""
    proposal = await debate(ledger, clock, {"a": "approve", "b": "reject", "c": "abstain"})
    assert proposal.proposal_id == "d-p2"  # type: ignore[union-attr]
    first, second = (known_proposal(ledger, f"d-p{n}", now_ms=0) for n in (1, 2))
    assert first is not None and second is not None
    assert first.proposal_id == second.proposal_id == "d-p2"
    for name in ("d-p3", "d-p0", "d-p02", "d-p", "e-p1", "d", "-p1", "", "d-p1\n", "d-p٢"):
        assert known_proposal(ledger, name, now_ms=0) is None, name


async def test_a_debate_under_way_is_open(ledger: SqliteLedger, clock: Clock) -> None:
    """Would catch a proposal that is taken before its last ballot."""
    await debate(ledger, clock, ALL)
    opening = ledger.read("debate/d")[:4]
    payload = copy.deepcopy(dict(opening[0].payload))
    payload["config"]["debate_id"] = "e"
    await ledger.record(
        "debate/e", [Event("opened", payload), *(Event(r.kind, r.payload) for r in opening[1:])], after=0
    )
    known = known_proposal(ledger, "e-p1", now_ms=0)
    assert known is not None and known.open and known.body is None


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([Event("answered", {})], "begin with its opening"),
        ([Event("opened", {})], "cannot be folded: KeyError"),
        ([Event("opened", {"config": {"debate_id": "x"}})], "cannot be folded: ValidationError"),
    ],
)
async def test_records_that_make_no_debate(ledger: SqliteLedger, events: list[Event], says: str) -> None:
    """Would catch a crash without a name, or a proposal made of garbage."""
    await ledger.record("debate/x", events, after=0)
    with pytest.raises(LedgerCorrupt, match=says):
        known_proposal(ledger, "x-p1", now_ms=0)


async def test_records_that_do_not_follow(ledger: SqliteLedger, clock: Clock) -> None:
    """Would catch an unknown event that is skipped, and a landing before the debate had ended."""
    await debate(ledger, clock, ALL)
    opened, landed = ledger.read("debate/d")[0], ledger.read("debate/d")[-1]
    for kind, payload, says in (
        ("dance", {}, "unknown record kind 'dance'"),
        ("landed", landed.payload, "landed while"),
    ):
        name = f"y{kind}"
        await ledger.record(f"debate/{name}", [Event("opened", opened.payload), Event(kind, payload)], after=0)
        with pytest.raises(LedgerCorrupt, match=says):
            known_proposal(ledger, f"{name}-p1", now_ms=0)


async def test_a_panels_vote(ledger: SqliteLedger, clock: Clock) -> None:
    """Would catch ballots that are not counted, an expiry that is not seen, a successor that is not named."""
    name = await propose(ledger, [WRITE], panel="a,b:2,c", proposer="a", rule="majority", expires_s=60, clock=clock)
    known = known_proposal(ledger, name, now_ms=clock.now_ms())
    assert known is not None and known.open and known.source == "panel" and known.stored_digest is None
    await vote(ledger, name, agent="b", decision="approve", clock=clock)
    late = known_proposal(ledger, name, now_ms=clock.now_ms() + 60_000)
    assert late is not None and not late.open and late.body is not None
    assert late.body["decision"]["stop_reason"] == "timeout"
    await vote(ledger, name, agent="a", decision="approve", clock=clock)
    done = known_proposal(ledger, name, now_ms=clock.now_ms())
    assert done is not None and done.body is not None and not done.open
    assert done.body["decision"]["result"] == "approved" and done.proposer_role == done.body["panel"][0]["role"]
    assert done.expires_ms - done.created_ms == 60_000

    other = await propose(ledger, [WRITE], panel="a", proposer="zoe", clock=clock)
    await supersede(ledger, other, "p-next", clock=clock)
    gone = known_proposal(ledger, other, now_ms=clock.now_ms())
    assert gone is not None and [p.code for p in gone.problems] == ["superseded"] and gone.proposer_role == ""


async def test_a_list_of_what_is_known_goes_on_where_it_stopped(ledger: SqliteLedger, clock: Clock) -> None:
    """Would catch a worker that misses a proposal, sees one twice, or takes a debate's records for a proposal."""
    assert list(list_known(ledger)) == []
    await debate(ledger, clock, ALL)
    (first,) = list_known(ledger)
    name = await propose(ledger, [WRITE], panel="a", proposer="a", clock=clock)
    await vote(ledger, name, agent="a", decision="approve", clock=clock)
    (second,) = list_known(ledger, first.seq + 1)
    assert (first.proposal_id, first.source) == ("d-p1", "debate")
    assert second == Listed(second.seq, name, "panel") and second.seq > first.seq
    assert list(list_known(ledger)) == [first, second]


async def test_what_was_pruned_cannot_be_counted(ledger: SqliteLedger, clock: Clock) -> None:
    """Would catch a worker that dies of a pruned debate, or a vote counted without the ballots that are gone."""
    await debate(ledger, clock, ALL)
    name = await propose(ledger, [WRITE], panel="a,b", proposer="a", clock=clock)
    await vote(ledger, name, agent="a", decision="approve", clock=clock)
    ledger.prune(lambda record: record.kind not in ("answered", "ballot"))
    for pruned in ("d-p1", name):
        known = known_proposal(ledger, pruned, now_ms=clock.now_ms())
        assert known is not None and known.body is None and [p.code for p in known.problems] == ["pruned"]
    assert [listed.proposal_id for listed in list_known(ledger)] == ["d-p1", name]
    ledger.prune(lambda record: record.kind not in ("landed", "proposed"))
    assert list(list_known(ledger)) == []
