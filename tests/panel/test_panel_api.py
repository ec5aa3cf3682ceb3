"""Panels over a real ledger: everybody who votes is counted once, by whoever else writes at the same time."""

import asyncio
import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest

from madflow.core.panel import stream_name
from madflow.core.proposal import check_digests
from madflow.errors import ConfigError, LedgerConflict, PlanError, UnknownProposal
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.panel.api import Recorded, Refused, check, propose, read_panel, supersede, vote
from madflow.ports import Event
from madflow.testing.clock import ManualClock

PLAN = [{"step": "command", "cmd": ["true"], "undo": []}]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock) -> Any:
    with SqliteLedger(tmp_path / "ledger.db", clock=clock) as opened:
        yield opened


async def test_a_plan_is_decided(ledger: SqliteLedger, clock: ManualClock) -> None:
    name = await propose(ledger, PLAN, panel="a,b,c", proposer="x", rule="supermajority:2/3", clock=clock)
    first = await vote(ledger, name, agent="a", decision="approve", notes="fine", confidence=0.5, clock=clock)
    assert isinstance(first, Recorded) and first.state.end is None
    last = await vote(ledger, name, agent="c", decision="approve", clock=clock)
    assert isinstance(last, Recorded) and last.state.end is not None
    proposal = await check(ledger, name, clock=clock)
    assert proposal.approved and check_digests(proposal.to_json()) == []
    assert [(v.agent, v.decision) for v in proposal.votes] == [("a", "approve"), ("b", "missing"), ("c", "approve")]
    late = await vote(ledger, name, agent="b", decision="reject", clock=clock)
    assert isinstance(late, Refused) and late.cause == "late" and late.seq is not None and "decided" in late.why
    assert (await check(ledger, name, clock=clock)) == proposal
    assert [record.kind for record in ledger.read(stream_name(name))] == ["proposed", "ballot", "ballot", "refused"]


async def test_expiry_is_noticed_once(ledger: SqliteLedger, clock: ManualClock) -> None:
    """Would catch an expiry that everybody records, that nobody records, or that a clock which goes back undoes."""
    name = await propose(ledger, PLAN, panel="a,b", proposer="x", expires_s=60, clock=clock)
    await vote(ledger, name, agent="a", decision="approve", clock=clock)
    clock.advance(59.999)
    assert read_panel(ledger, name).open(clock.now_ms())
    clock.advance(0.001)
    looked = [await check(ledger, name, clock=clock) for _ in range(3)]
    assert looked[0] == looked[1] == looked[2]
    assert looked[0].decision.stop_reason == "timeout"
    assert [record.kind for record in ledger.read(stream_name(name))] == ["proposed", "ballot", "closed"]
    back = ManualClock()
    said = await vote(ledger, name, agent="b", decision="approve", clock=back)
    assert isinstance(said, Refused) and said.cause == "late"


async def test_the_ledgers_time_counts(ledger: SqliteLedger, clock: ManualClock) -> None:
    """Would catch a ballot that a voter's slow clock lets in after the expiry."""
    name = await propose(ledger, PLAN, panel="a,b", proposer="x", expires_s=60, clock=clock)
    clock.advance(61)
    said = await vote(ledger, name, agent="a", decision="approve", clock=ManualClock())
    assert isinstance(said, Refused) and said.cause == "late"
    assert read_panel(ledger, name).box.tally().valid == 0


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"agent": "zoe"}, "not_a_member"),
        ({"subject_digest": "0" * 64}, "wrong_subject"),
        ({"agent": "b"}, "duplicate"),
    ],
)
async def test_refused_and_recorded(
    ledger: SqliteLedger, clock: ManualClock, fields: dict[str, str], cause: str
) -> None:
    name = await propose(ledger, PLAN, panel="a,b,c", proposer="x", clock=clock)
    await vote(ledger, name, agent="b", decision="reject", clock=clock)
    said = await vote(ledger, name, **{"agent": "a", "decision": "approve", "clock": clock, **fields})
    assert isinstance(said, Refused) and said.cause == cause
    state = read_panel(ledger, name)
    assert [refused.cause for refused in state.refused] == [cause]
    assert state.box.tally().first == {"approve": 0, "reject": 1}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"decision": "yes"}, "one of approve, reject, abstain"),
        ({"notes": "x" * 2001}, "at most 2000 characters, not 2001"),
        ({"notes": "\udcff"}, "surrogate"),
        ({"confidence": 1.1}, "between 0 and 1"),
        ({"confidence": float("nan")}, "between 0 and 1"),
        ({"agent": "a b"}, "cannot name an agent"),
    ],
)
async def test_what_is_no_ballot_is_no_record(
    ledger: SqliteLedger, clock: ManualClock, fields: dict[str, Any], says: str
) -> None:
    """Would catch a typo that spends a seat's only ballot."""
    name = await propose(ledger, PLAN, panel="a,b", proposer="x", clock=clock)
    with pytest.raises(ConfigError, match=says):
        await vote(ledger, name, **{"agent": "a", "decision": "approve", "clock": clock, **fields})
    assert len(ledger.read(stream_name(name))) == 1


async def test_unknown_proposals_are_told_apart(ledger: SqliteLedger, clock: ManualClock) -> None:
    name = await propose(ledger, PLAN, panel="a,b", proposer="x", clock=clock)
    with pytest.raises(UnknownProposal, match=name):
        read_panel(ledger, "other")
    await ledger.record("debate/d1", [Event("opened", {})], after=0)
    with pytest.raises(UnknownProposal, match="seats of debate 'd1'"):
        await vote(ledger, "d1-p1", agent="a", decision="approve", clock=clock)


async def test_a_named_proposal_is_made_once(ledger: SqliteLedger, clock: ManualClock) -> None:
    """Would catch a retry that proposes twice, and another plan under the same name."""
    fields: dict[str, Any] = {"panel": "a,b", "proposer": "x", "proposal_id": "mine", "clock": clock}
    assert await propose(ledger, PLAN, **fields) == "mine"
    clock.advance(5)
    assert await propose(ledger, PLAN, **fields) == "mine"
    assert len(ledger.read("proposal/mine")) == 1
    with pytest.raises(ConfigError, match="another panel"):
        await propose(ledger, PLAN, **{**fields, "panel": "a,b,c"})
    with pytest.raises(ConfigError, match="another task_id, plan"):
        await propose(ledger, [{"step": "command", "cmd": ["false"]}], **{**fields})
    with pytest.raises(ConfigError, match="cannot name a proposal"):
        await propose(ledger, PLAN, **{**fields, "proposal_id": "d1-p1"})


async def test_a_plan_is_pinned_to_its_tree(ledger: SqliteLedger, clock: ManualClock, tmp_path: Path) -> None:
    """Would catch a vote on a file's change that says nothing of the file it changes."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("old")
    plan = [{"step": "write", "target": f"file:{name}", "content": "new"} for name in ("a.txt", "b.txt")]
    name = await propose(ledger, plan, panel="a", proposer="x", root=tmp_path / "tree", clock=clock)
    pins = [step["sha256_before"] for step in read_panel(ledger, name).subject["plan"]]
    assert len(pins[0]) == 64 and pins[1] == "absent"
    patch = [{"step": "patch", "target": "file:a.txt", "patch": "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-x\n+y\n"}]
    with pytest.raises(PlanError, match="step"):
        await propose(ledger, patch, panel="a", proposer="x", root=tmp_path / "tree", clock=clock)


async def test_superseded_by_the_first(ledger: SqliteLedger, clock: ManualClock) -> None:
    name = await propose(ledger, PLAN, panel="a,b", proposer="x", clock=clock)
    assert [await supersede(ledger, name, by, clock=clock) for by in ("one", "two")] == ["one", "one"]
    said = await vote(ledger, name, agent="a", decision="approve", clock=clock)
    assert isinstance(said, Refused) and "'one' has taken its place" in said.why
    approved = await propose(ledger, PLAN, panel="a", proposer="x", clock=clock)
    await vote(ledger, approved, agent="a", decision="approve", clock=clock)
    with pytest.raises(ConfigError, match="is approved"):
        await supersede(ledger, approved, "three", clock=clock)


async def test_refusals_on_record_are_bounded(ledger: SqliteLedger, clock: ManualClock) -> None:
    """Would catch a stranger who fills the ledger with ballots that do not count."""
    name = await propose(ledger, PLAN, panel="a,b", proposer="x", clock=clock)
    refused = [Event("refused", {"agent": "zoe", "cause": "not_a_member"})] * 1_000
    await ledger.record(stream_name(name), refused, after=1)
    said = await vote(ledger, name, agent="zoe", decision="approve", clock=clock)
    assert isinstance(said, Refused) and (said.cause, said.seq) == ("not_a_member", None)
    assert len(ledger.read(stream_name(name))) == 1_001
    assert isinstance(await vote(ledger, name, agent="a", decision="approve", clock=clock), Recorded)


class Contended:
    """A ledger on which somebody else always writes first."""

    def __init__(self, inner: SqliteLedger) -> None:
        self.inner, self.tries = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def record(self, stream: str, events: Any, *, after: int) -> Any:
        self.tries += 1
        raise LedgerConflict("somebody was faster")


async def test_a_ledger_that_is_never_free_is_given_up(ledger: SqliteLedger, clock: ManualClock) -> None:
    """Would catch a vote that is tried for ever."""
    name = await propose(ledger, PLAN, panel="a,b", proposer="x", clock=clock)
    contended: Any = Contended(ledger)
    with pytest.raises(LedgerConflict, match="nothing was recorded"):
        await vote(contended, name, agent="a", decision="approve", clock=clock)
    assert contended.tries == 200


def _votes(path: str, name: str, agent: str, ready: Any) -> None:
    async def twice() -> None:
        with open_ledger(Path(path)) as opened:
            await asyncio.to_thread(ready.wait, 30)
            await asyncio.gather(*(vote(opened, name, agent=agent, decision="approve") for _ in range(2)))

    asyncio.run(twice())


def test_sixteen_processes_vote_at_once(tmp_path: Path) -> None:
    """Would catch a ballot that is lost to a faster one, and one that counts twice."""
    path, agents = tmp_path / "ledger.db", [f"s{n}" for n in range(16)]
    with open_ledger(path) as opened:
        name = asyncio.run(propose(opened, PLAN, panel=agents, proposer="x", rule="unanimity"))
    forked = multiprocessing.get_context("fork")
    ready = forked.Barrier(16)
    processes = [forked.Process(target=_votes, args=(str(path), name, agent, ready)) for agent in agents]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 16
    with open_ledger(path, readonly=True) as opened:
        state = read_panel(opened, name)
        assert opened.verify() == 33
    assert sorted(agent for agent, _ in state.voted) == sorted(agents)
    assert len(state.refused) == 16 and {refused.cause for refused in state.refused} == {"duplicate"}
    assert state.body(0)["decision"]["result"] == "approved"


def test_threads_of_one_process_vote_at_once(tmp_path: Path) -> None:
    agents = [f"s{n}" for n in range(16)]
    with open_ledger(tmp_path / "ledger.db") as opened:
        name = asyncio.run(propose(opened, PLAN, panel=agents, proposer="x", rule="unanimity"))

        def one(agent: str) -> None:
            asyncio.run(vote(opened, name, agent=agent, decision="approve"))

        threads = [threading.Thread(target=one, args=(agent,)) for agent in agents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert read_panel(opened, name).body(0)["decision"]["tally"]["valid"] == 16
