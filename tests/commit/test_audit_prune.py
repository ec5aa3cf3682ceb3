"""Pruning: the texts of what is over go, everything that somebody may still need stays, and no receipt changes."""

import fcntl
import json
import time
from typing import Any

import pytest
from commit_bench import Bench, call, write
from gate_debates import Clock, debate

from madflow.commit.audit import verify_all
from madflow.commit.prune import prunable, prune
from madflow.commit.run_files import remove_run_files, run_files
from madflow.commit.snapshot import snapshot_of
from madflow.commit.steps import Step
from madflow.core.proposal import Proposal
from madflow.errors import LedgerError
from madflow.ledger.sqlite import open_ledger
from madflow.panel.api import check, propose, vote

FALSE = {"step": "test", "cmd": ["false"]}
LATER = 4_000_000_000_000


def unsure() -> Step:
    def do(_args: Any, _ctx: Any) -> None:
        raise RuntimeError("half way")

    return Step(name="unsure", do=do, nothing_to_undo=True)


async def rejected(bench: Bench) -> str:
    name = await propose(bench.ledger, {"plan": [FALSE]}, panel="ann", proposer="eve", root=bench.root)
    await vote(bench.ledger, name, agent="ann", decision="reject")
    return name


async def test_what_may_go_and_what_must_stay(bench: Bench) -> None:
    """Would catch the pruning of a vote that is open, of a plan that a new submitter needs, or of one that is approved
    and waits."""
    done = await bench.approved([write("a.txt")])
    failed = await bench.approved([write("b.txt"), FALSE])
    doubted = await bench.approved([call("unsure")])
    for name in (done, failed, doubted):
        await bench.committer(unsure()).commit(name, wait_s=5)
    refused = await bench.approved([{"step": "write", "target": "file:elsewhere/a", "content": "x"}])
    await bench.committer().commit(refused, wait_s=5)
    waiting, against = await bench.approved([write("c.txt")]), await rejected(bench)
    is_open = await propose(bench.ledger, {"plan": [FALSE]}, panel="ann", proposer="eve", root=bench.root)
    await debate(bench.ledger, Clock(), {"a": "reject", "b": "reject", "c": "reject"})
    found = prunable(bench.ledger, before_ms=LATER, now_ms=1)
    assert set(found.streams) == {f"proposal/{done}", f"proposal/{failed}", f"proposal/{against}", "debate/d"}
    assert found.kept == {"approved, not committed": 2, "being committed or in doubt": 1, "open": 1}
    assert {f"proposal/{name}" for name in (doubted, refused, waiting, is_open)}.isdisjoint(found.streams)
    assert prunable(bench.ledger, before_ms=1, now_ms=1).kept == {"too young": 8}
    assert verify_all(bench.ledger).problems == ()


async def test_a_pruned_proposal_keeps_its_receipt(bench: Bench) -> None:
    """Would catch a second effect, or another receipt, once nobody can count the ballots any more; whether it is asked
    for by its id or by its file."""
    plans = [[write("a.txt")], [write("b.txt"), FALSE]]
    names = [await bench.approved(plan) for plan in plans]
    files = [(await check(bench.ledger, name)).to_json() for name in names]
    receipts = [await bench.committer().commit(name) for name in names]
    kinds = bench.kinds()
    bench.root.joinpath("out/a.txt").write_text("changed since\n")
    chosen, done = await prune(bench.ledger, before_ms=LATER, now_ms=1)
    assert (done.count, chosen.records, len(chosen.streams), done.erased) == (4, 4, 2, True)
    assert bench.ledger.read(snapshot_of("root"))[-1].payload["place"] == len(kinds)
    assert "changed since" not in bench.path.read_text(errors="replace")
    for name, file, before in zip(names, files, receipts, strict=True):
        with pytest.raises(LedgerError, match="pruned"):
            bench.ledger.read(f"proposal/{name}")
        for asked in (name, file, Proposal.model_validate(file)):
            assert await bench.committer().commit(asked, wait_s=5) == before
    assert [kind for kind in bench.kinds() if kind != "term_sealed"] == [k for k in kinds if k != "term_sealed"]
    assert bench.read("a.txt") == "changed since\n"
    assert verify_all(bench.ledger).problems == ()
    assert (await prune(bench.ledger, before_ms=LATER, now_ms=1))[1].count == 0


async def test_a_doubt_is_settled_after_pruning(bench: Bench) -> None:
    """Would catch the pruning of the plan whose compensation is still to come."""
    name = await bench.approved([write("a.txt"), call("unsure")])
    receipt = await bench.committer(unsure()).commit(name, wait_s=5)
    assert receipt.status == "in_doubt"
    await prune(bench.ledger, before_ms=LATER, now_ms=1)
    key = receipt.steps[1].idempotency_key
    settled = await bench.committer(unsure()).resolve(key, "failed", by="ann", wait_s=5)
    assert (settled.receipt.status, bench.read("a.txt")) == ("compensated", None)


async def test_what_was_never_committed_is_refused_by_name(bench: Bench) -> None:
    """Would catch a pruned proposal that is taken for one that never was, or that is committed on its file's word."""
    name = await rejected(bench)
    file = json.loads(json.dumps((await check(bench.ledger, name)).to_json()))
    await prune(bench.ledger, before_ms=LATER, now_ms=1)
    for asked in (name, file):
        receipt = await bench.committer().commit(asked, wait_s=5)
        assert receipt.status == "rejected"
        assert "pruned" in {reason["code"] for reason in receipt.reasons}


# --- files beside the ledger ------------------------------------------------------------------------------------

DAY_MS = 86_400_000


def in_a_month() -> int:
    return int(time.time() * 1000) + 30 * DAY_MS


def aged(bench: Bench) -> tuple[set[str], set[str]]:
    """The locks and the kept contents that are there."""
    run = bench.root / ".madflow" / "run"
    return {path.name for path in run.glob("*.lock")}, {path.name for path in (run / "kept").iterdir()}


async def replaced(bench: Bench, name: str, *more: dict[str, Any]) -> Any:
    """The receipt of a commit that replaces a file, and so keeps what it held."""
    bench.root.joinpath("out", name).write_text(f"old {name}\n")
    plan = [write(name), *more]
    return await bench.committer(unsure()).commit(await bench.approved(plan), wait_s=5)


async def test_locks_and_kept_contents_of_what_ended_go(bench: Bench) -> None:
    """Would catch the removal of what a compensation still needs, and a run folder that only grows."""
    ended, doubted = await replaced(bench, "a.txt"), await replaced(bench, "b.txt", call("unsure"))
    assert (ended.status, doubted.status) == ("committed", "in_doubt")
    locks, contents = aged(bench)
    later = in_a_month()
    assert run_files(bench.ledger, before_ms=later, now_ms=later - 30 * DAY_MS).to_json()["locks"] == 0, "a day old"
    assert run_files(bench.ledger, before_ms=1, now_ms=later).to_json()["kept_contents"] == 0, "too young"
    assert aged(bench) == (locks, contents), "asking removes nothing"
    gone = remove_run_files(bench.ledger, before_ms=later, now_ms=later)
    assert gone.keys == [step.idempotency_key for step in ended.steps]
    assert (len(gone.contents), gone.size) == (1, len("old a.txt\n"))
    assert aged(bench) == (locks - {f"{key}.lock" for key in gone.keys}, contents - set(gone.contents))
    assert gone.left["wanted by a commit"] == 1
    key = doubted.steps[1].idempotency_key
    settled = await bench.committer(unsure()).resolve(key, "failed", by="ann", wait_s=5)
    assert (settled.receipt.status, bench.read("b.txt")) == ("compensated", "old b.txt\n")


async def test_what_is_in_use_stays(bench: Bench) -> None:
    """Would catch a lock that is unlinked while an attempt holds it, and contents that go while a submitter, who keeps
    them before it says so, leads."""
    ended = await replaced(bench, "a.txt")
    before, later = aged(bench), in_a_month()
    (lock,) = (bench.root / ".madflow" / "run" / f"{step.idempotency_key}.lock" for step in ended.steps)
    (leader,) = (bench.root / ".madflow" / "locks").glob("*.leader")
    with lock.open("rb") as held, leader.open("rb") as leads:
        fcntl.flock(held, fcntl.LOCK_EX)
        fcntl.flock(leads, fcntl.LOCK_EX)
        gone = remove_run_files(bench.ledger, before_ms=later, now_ms=later)
    assert (gone.keys, gone.contents, gone.left) == ([], [], {"in use": 1, "a submitter leads": 1})
    assert aged(bench) == before
    with open_ledger(bench.path.with_name("other")):
        shared = remove_run_files(bench.ledger, before_ms=later, now_ms=later)
    assert shared.left == {"shared with other": 2} and aged(bench) == before


async def test_the_scope_of_a_proposal_is_never_pruned(bench: Bench) -> None:
    """Would catch a proposal that another scope may commit once its texts are gone."""
    name = await bench.approved([write("a.txt")])
    await bench.committer().commit(name)
    await prune(bench.ledger, before_ms=LATER, now_ms=1)
    assert (await bench.committer(scope="other").commit(name)).status == "rejected"
    assert [record.payload["scope"] for record in bench.ledger.read(f"bound/{name}")] == ["root"]
