"""Snapshots in a ledger: a journal that starts from one says the same, and nothing happens twice because of it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commit_bench import Bench, call, write

from madflow.clock import SystemClock
from madflow.commit import session, snapshot
from madflow.commit.receipt import receipt_of
from madflow.commit.requests import request
from madflow.commit.snapshot import check_snapshot, load_journal, snapshot_of, take_snapshot
from madflow.commit.steps import Step
from madflow.core.journal import Journal
from madflow.errors import LedgerCorrupt
from madflow.ports import Event


def whole(bench: Bench) -> Journal:
    return Journal(bench.ledger.read("commit/root"))


async def mixed(bench: Bench) -> list[str]:
    """A commit that ended well, one that was taken back, one refused, one in doubt."""
    plans: list[list[dict[str, Any]]] = [
        [write("a.txt"), {"step": "test", "cmd": ["true"]}],
        [write("b.txt"), {"step": "test", "cmd": ["false"]}],
        [{"step": "write", "target": "file:elsewhere/a.txt", "content": "x"}],
        [call("unsure")],
    ]
    names = [await bench.approved(plan) for plan in plans]
    for name in names:
        await bench.committer(unsure()).commit(name, wait_s=5)
    return names


def unsure(hits: list[str] | None = None) -> Step:
    def do(_args: Any, ctx: Any) -> None:
        if hits is not None:
            hits.append(ctx.key)
        raise RuntimeError("half way")

    return Step(name="unsure", do=do, nothing_to_undo=True)


async def test_every_receipt_is_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a snapshot that forgets a rejection, a doubt or a result; in one part or in many."""
    monkeypatch.setattr(snapshot, "_PART_RECORDS_MAX", 4)
    names = await mixed(bench)
    records = len(bench.ledger.read("commit/root"))
    assert await take_snapshot(bench.ledger, "root") == records
    assert len(bench.ledger.read(snapshot_of("root"))) == -(-records // 4)
    loaded, full = load_journal(bench.ledger, "root"), whole(bench)
    assert loaded.restored == loaded.place == full.place == records
    statuses = []
    for state in full.commits.values():
        own = receipt_of("root", state.proposal_id, loaded.commits[state.commit_id])
        assert own == receipt_of("root", state.proposal_id, state)
        statuses.append(own.status)
    assert statuses == ["committed", "compensated", "rejected", "in_doubt"]
    assert check_snapshot(bench.ledger, "root") == []
    assert await take_snapshot(bench.ledger, "root") == 0, "a part that says nothing new"
    assert [receipt.status for receipt in map(bench.committer().receipt, names)] == statuses


async def test_committing_goes_on_behind_a_snapshot(bench: Bench) -> None:
    """Would catch a second effect, a doubt that nobody can settle any more, and a request that is answered twice."""
    names = await mixed(bench)
    before = [bench.committer().receipt(name) for name in names]
    await take_snapshot(bench.ledger, "root")
    hits: list[str] = []
    committer = bench.committer(unsure(hits))
    bench.root.joinpath("out/a.txt").write_text("changed since\n")
    kinds = bench.kinds()
    assert await committer.commit(names[0]) == before[0]
    assert await committer.commit(names[1]) == before[1]
    assert bench.kinds() == kinds, "nothing is recorded for what has ended"
    assert bench.read("a.txt") == "changed since\n"
    assert (await committer.commit(names[2], wait_s=5)).status == "rejected"
    assert bench.kinds(names[2]) == ["rejected", "rejected"], "asked again, refused again, once"
    (key,) = [key.key for key in load_journal(bench.ledger, "root").keys.values() if key.status == "in_doubt"]
    assert (await committer.resolve(key, "done", by="ann", wait_s=5)).receipt.status == "committed"
    assert hits == []
    assert (await committer.commit(await bench.approved([write("new.txt")]))).status == "committed"
    assert check_snapshot(bench.ledger, "root") == []
    loaded = load_journal(bench.ledger, "root")
    assert loaded.dump(loaded.commits) == whole(bench).dump(whole(bench).commits)


async def test_what_is_asked_and_not_answered_stays_asked(bench: Bench) -> None:
    """Would catch a snapshot that takes a waiting request for an answered one: it would never be carried out."""
    done = await bench.approved([write("a.txt")])
    await bench.committer().commit(done)
    asked = await bench.approved([write("b.txt")])
    await bench.committer().submit(asked)
    await take_snapshot(bench.ledger, "root")
    assert load_journal(bench.ledger, "root").requests == 1
    (receipt,) = await bench.committer().recover(wait_s=5)
    assert (receipt.proposal_id, receipt.status) == (asked, "committed")


async def test_a_submitter_takes_one_when_the_stream_is_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a snapshot that is never taken, or at every commit."""
    monkeypatch.setattr(session, "SNAPSHOT_EVERY", 12)
    for number in range(5):  # five records each: a seal, an intent, a start, an outcome, an end
        await bench.committer().commit(await bench.approved([write(f"{number}.txt")]))
    assert [record.payload["place"] for record in bench.ledger.read(snapshot_of("root"))] == [15]
    assert load_journal(bench.ledger, "root").place == 25


async def test_two_at_once_are_one(bench: Bench) -> None:
    """Would catch two chains of parts in one stream."""
    await bench.committer().commit(await bench.approved([write("a.txt")]))
    covered = await asyncio.gather(*(take_snapshot(bench.ledger, "root") for _ in range(3)))
    assert sorted(covered) == [0, 0, 5]
    assert check_snapshot(bench.ledger, "root") == []


async def test_another_process_is_first(bench: Bench) -> None:
    """Would catch a part that is put behind one which its writer has not read: no journal could start from there."""
    await bench.committer().commit(await bench.approved([write("a.txt")]))
    other = bench.ledger

    class Between:
        """A ledger in which another process takes a snapshot right after the first look at the parts."""

        looked = False

        def __getattr__(self, name: str) -> Any:
            return getattr(other, name)

        def read(self, stream: str, **more: Any) -> Any:
            found = other.read(stream, **more)
            if stream == snapshot_of("root") and not self.looked:
                self.looked = True
                head = other.read("commit/root")[-1]
                part = {"version": 1, "from": 0, "place": head.place, "head": head.hash, "term": 1, "requests": 0}
                other.record_now(stream, [Event("snapshot", {**part, "commits": []})], after=0)
            return found

    assert await take_snapshot(Between(), "root") == 0  # type: ignore[arg-type]
    assert len(other.read(snapshot_of("root"))) == 1


FORGED: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("is of version", lambda part: {**part, "version": 2}),
    ("KeyError", lambda part: {name: value for name, value in part.items() if name != "commits"}),
    ("another one", lambda part: {**part, "head": "0" * 64}),
    ("another one", lambda part: {**part, "place": 99}),
    ("covers places 3", lambda part: {**part, "from": 3}),
    ("TypeError", lambda part: {**part, "commits": [{**part["commits"][0], "colour": "red"}]}),
]


@pytest.mark.parametrize(("says", "change"), FORGED)
async def test_a_snapshot_that_does_not_fit(bench: Bench, says: str, change: Callable[[Any], Any]) -> None:
    """Would catch a snapshot of another ledger, or of another madflow, that is taken for this one's."""
    await bench.committer().commit(await bench.approved([write("a.txt")]))
    await take_snapshot(bench.ledger, "root")
    part = json.loads(json.dumps(bench.ledger.read(snapshot_of("root"))[0].payload))
    other = Bench(Path(f"{bench.root}-other") / bench.root.name)
    await other.committer().commit(await other.approved([write("a.txt")]))
    real = {**part, "head": other.ledger.read("commit/root")[-1].hash}
    await other.ledger.record(snapshot_of("root"), [Event("snapshot", change(real))], after=0)
    assert says in check_snapshot(other.ledger, "root")[0], "it is told, not hidden"
    loaded = load_journal(other.ledger, "root")
    assert (loaded.restored, loaded.place) == (0, 5)
    assert loaded.dump(loaded.commits) == whole(other).dump(loaded.commits)
    assert await take_snapshot(other.ledger, "root") == 5, "the next one starts over behind it"
    assert load_journal(other.ledger, "root").restored == 5 and check_snapshot(other.ledger, "root") == []
    assert (await other.committer().commit(await other.approved([write("b.txt")]))).committed
    other.close()


async def test_nothing_left_to_start_from(bench: Bench) -> None:
    """Would catch commits that are forgotten, and done again, where neither snapshot nor records are whole."""
    await bench.committer().commit(await bench.approved([write("a.txt")]))
    await bench.ledger.record(snapshot_of("root"), [Event("snapshot", {"version": 2})], after=0)
    other = bench.ledger

    class Pruned:
        def read(self, stream: str, **more: Any) -> Any:
            found = other.read(stream, **more)
            return [record for record in found if record.stream != "commit/root" or record.place != 2]

    with pytest.raises(LedgerCorrupt, match=r"version 2.* lacks the record at place 2"):
        load_journal(Pruned(), "root")  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [1, 2])
async def test_two_whose_parts_meet(bench: Bench, parts: int) -> None:
    """Would catch a scope in which nothing can be committed any more after two processes took a snapshot at once: one
    has read the parts before, the other where they end after somebody has written."""
    names = [await bench.approved([write(f"{n}.txt")]) for n in range(3)]
    payloads = []
    for name in names[:parts]:
        before = await bench.committer().commit(name)
        full = whole(bench)
        head = bench.ledger.read("commit/root")[-1]
        part = {"version": 1, "from": 0, "place": head.place, "head": head.hash, "term": full.term, "requests": 0}
        payloads.append({**part, "commits": full.dump(full.commits)})
    twice = [Event("snapshot", payload) for payload in (*payloads, payloads[0])]
    await bench.ledger.record(snapshot_of("root"), twice, after=0)
    assert load_journal(bench.ledger, "root").restored == payloads[-1]["place"]
    assert await bench.committer().commit(names[parts - 1]) == before
    assert (await bench.committer().commit(names[2])).committed
    assert await take_snapshot(bench.ledger, "root") > 0 and check_snapshot(bench.ledger, "root") == []


async def test_a_snapshot_that_says_otherwise_shows(bench: Bench) -> None:
    """Would catch a check that only looks whether the snapshot can be read."""
    name = await bench.approved([write("a.txt"), {"step": "test", "cmd": ["false"]}])
    await bench.committer().commit(name)
    await take_snapshot(bench.ledger, "root")
    part = json.loads(json.dumps(bench.ledger.read(snapshot_of("root"))[0].payload))
    part["commits"][0]["closed"] = "committed"
    other = bench.ledger

    class Forged:
        def read(self, stream: str, **more: Any) -> Any:
            found = other.read(stream, **more)
            if stream != snapshot_of("root"):
                return found
            return [type(found[0])(**{**{n: getattr(found[0], n) for n in found[0].__slots__}, "payload": part})]

    assert "differ on where commit" in check_snapshot(Forged(), "root")[0]  # type: ignore[arg-type]


async def test_a_word_that_nobody_applied_yet_stays_said(bench: Bench) -> None:
    """Would catch a snapshot that takes a human's word for applied, because records came after it."""
    name = await bench.approved([call("unsure")])
    receipt = await bench.committer(unsure()).commit(name, wait_s=5)
    said = {"key": receipt.steps[0].idempotency_key, "as": "done", "by": "ann", "note": ""}
    await request(bench.ledger, "root", Event("resolve", said), SystemClock())
    term = bench.ledger.fence("root") + 1
    await bench.ledger.seal("root", term, Event("term_sealed", {"term": term, "agent_id": "n", "node": "n"}))
    await take_snapshot(bench.ledger, "root")
    assert load_journal(bench.ledger, "root").requests == 1
    await bench.committer(unsure()).recover(wait_s=5)
    assert bench.committer().receipt(name).status == "committed"
