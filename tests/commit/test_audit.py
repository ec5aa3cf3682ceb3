"""Verify, the story, figures and explanations, over real ledgers that real commits made."""

import asyncio
import json
from pathlib import Path
from typing import Any

import apsw
import pytest
from commit_bench import Bench, call, write
from gate_debates import Clock, debate

from madflow.commit.audit import PROBLEMS_MAX, verify_all, verify_proposal
from madflow.commit.explanation import Explanation, explain
from madflow.commit.exported import ExportedLedger, read_export
from madflow.commit.snapshot import take_snapshot
from madflow.commit.stats import percentiles, stats
from madflow.commit.steps import Step
from madflow.commit.story import plain_record, records_of, tell
from madflow.core.journal import CommitRecord, commit_id
from madflow.core.plan import idempotency_key
from madflow.errors import LedgerError, UnknownProposal
from madflow.ledger.sqlite import open_ledger
from madflow.panel.api import propose, vote
from madflow.panel.history import history
from madflow.ports import Entry, Event

NOW = 1  # before any vote has expired
TRUE = {"step": "test", "cmd": ["true"]}
FALSE = {"step": "test", "cmd": ["false"]}


def unsure() -> Step:
    def do(_args: Any, _ctx: Any) -> None:
        raise RuntimeError("half way")

    return Step(name="unsure", do=do, nothing_to_undo=True)


async def every_ending(bench: Bench) -> dict[str, str]:
    """One proposal for each way a commit ends, by that ending."""
    plans: dict[str, list[dict[str, Any]]] = {
        "committed": [write("a.txt"), TRUE],
        "compensated": [write("b.txt"), FALSE],
        "rejected": [{"step": "write", "target": "file:elsewhere/a.txt", "content": "x"}],
        "in_doubt": [call("unsure")],
    }
    names = {ending: await bench.approved(plan) for ending, plan in plans.items()}
    for ending, name in names.items():
        assert (await bench.committer(unsure()).commit(name, wait_s=5)).status == ending
    return names


def export(bench: Bench, path: Path) -> ExportedLedger:
    path.write_text("".join(f"{line}\n" for line in bench.ledger.export_lines()))
    return read_export(path)


def explained(bench: Bench, name: str) -> Explanation:
    return explain(bench.ledger, name, now_ms=NOW)


def lines(found: Explanation, question: str) -> str:
    return "\n".join(dict(found.answers)[question])


# --- verify -----------------------------------------------------------------------------------------------------


async def test_a_sound_ledger_verifies_and_so_does_its_export(bench: Bench, tmp_path: Path) -> None:
    """Would catch a check that sees problems where none are, in a ledger with every ending, or in an export of it."""
    await every_ending(bench)
    await take_snapshot(bench.ledger, "root")
    found = verify_all(bench.ledger)
    assert (found.problems, found.scopes, found.proposals) == ((), 1, 4)
    again = verify_all(export(bench, tmp_path / "copy.jsonl"))
    assert again == found


TAMPERED = [
    ("UPDATE records SET payload = CAST(replace(payload, 'done', 'gone') AS BLOB) WHERE kind = 'outcome'", "digest"),
    ("UPDATE records SET hash = prev_hash WHERE seq = 7", "record 7"),
    ("DELETE FROM records WHERE seq = 5", "record 6"),
    ("DELETE FROM slots WHERE slot LIKE '%/terminal'", "is taken by nobody"),
    ("UPDATE slots SET slot = slot || 'x' WHERE slot LIKE '%/closed'", "is taken by nobody"),
    ("UPDATE fences SET term = term + 1", "sealed it last"),
    ("DELETE FROM fences", "no fence"),
]


@pytest.mark.parametrize(("statement", "says"), TAMPERED)
async def test_what_somebody_with_a_disk_editor_did(bench: Bench, statement: str, says: str) -> None:
    """Would catch a verify that overlooks a changed payload, a broken chain, or a slot that is free again: then the
    same step could be recorded twice."""
    await bench.committer().commit(await bench.approved([write("a.txt"), TRUE]))
    copy = bench.root / "copy.db"
    _copy(bench.path, copy)
    connection = apsw.Connection(str(copy))
    connection.execute(statement)
    assert connection.changes() >= 1
    connection.close()
    with open_ledger(copy, readonly=True) as ledger:
        found = verify_all(ledger)
    assert found.problems and says in found.problems[0]


def _copy(source: Path, target: Path) -> None:
    connection = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.execute("VACUUM INTO ?", (str(target),))
    connection.close()


async def test_broken_promises_are_found_though_the_chain_holds(tmp_path: Path) -> None:
    """Would catch a verify that stops at the chain: these records were written by a submitter with a defect."""
    with open_ledger(tmp_path / "ledger.db") as ledger:
        await ledger.seal("s", 1, Event("term_sealed", {"term": 1, "agent_id": "n", "node": "n"}))
        payload = {"term": 1, "commit_id": "c-1", "proposal_id": "p", "proposal_digest": "d", "agent_id": "n"}
        step = {**payload, "idempotency_key": "k", "step_index": 0, "direction": "do", "attempt": 1}
        outcome = Event("outcome", {**step, "result": {"status": "done"}})
        await ledger.append("s", 1, [Entry(outcome, "k/terminal"), Entry(Event("what", {"term": 1}), "")])
        await ledger.record("election/s", [Event("vote", {"term": n, "candidate": "n"}) for n in (2, 2)], after=0)
        await ledger.record("proposal/p", [Event("proposed", {"subject": {}})], after=0)
        found = verify_all(ledger)
    said = "\n".join(found.problems)
    for problem in ("key k has no intent", "record 3", "terms only grow", "proposal/p"):
        assert problem in said
    assert found.to_json()["ok"] is False


async def test_a_snapshot_is_compared_with_the_records(bench: Bench) -> None:
    """Would catch a snapshot that says of a commit what its records do not: every submitter would believe it."""
    await bench.committer().commit(await bench.approved([write("a.txt")]))
    records = bench.ledger.read("commit/root")
    part = {"version": 1, "from": 0, "place": len(records), "head": records[-1].hash, "term": 1, "requests": 0}
    await bench.ledger.record("snapshot/root", [Event("snapshot", {**part, "commits": []})], after=0)
    (problem,) = verify_all(bench.ledger).problems
    assert "the snapshot and the records differ" in problem
    await bench.ledger.record("snapshot/root", [Event("snapshot", {})], after=1)
    (problem,) = verify_all(bench.ledger).problems
    assert "cannot be used" in problem


async def test_one_proposal_is_verified_after_the_whole_chain(bench: Bench, tmp_path: Path) -> None:
    """Would catch a check of one proposal that blames it for another's records, or that overlooks its own."""
    names = await every_ending(bench)
    for name in names.values():
        found = verify_proposal(bench.ledger, name)
        assert (found.problems, found.scopes, found.proposals) == ((), 1, 1)
        assert found.records == bench.ledger.verify(), "the chain is checked whole"
        assert verify_proposal(export(bench, tmp_path / "copy.jsonl"), name) == found
    with pytest.raises(UnknownProposal):
        verify_proposal(bench.ledger, "nobody")
    term = max(r.payload["term"] for r in bench.ledger.read("commit/root") if r.kind == "term_sealed")
    forged = {"term": term, "commit_id": "c-1", "proposal_id": "bad", "idempotency_key": "k", "step_index": 0}
    outcome = {**forged, "direction": "do", "attempt": 1, "result": {"status": "done"}}
    await bench.ledger.append("root", term, [Entry(Event("outcome", outcome), "k/terminal")])
    assert verify_proposal(bench.ledger, names["committed"]).problems == ()
    assert any("c-1 is not the id" in problem for problem in verify_proposal(bench.ledger, "bad").problems)
    bench.ledger.close()
    bench.ledger = open_ledger(tmp_path / "sound.db")  # the bench checks its ledger at the end


async def test_a_proposal_in_two_scopes_is_said(bench: Bench) -> None:
    """Would catch silence about what was carried out twice, once in each scope under keys of its own."""
    name = await bench.approved([write("a.txt")])
    await bench.committer().commit(name)
    refused = await bench.committer(scope="other").commit(name)
    assert refused.reasons[0]["code"] == "other_scope" and verify_all(bench.ledger).problems == ()
    found = explained(bench, name)
    assert found.where == "nowhere" and found.commands == (), "it went well, whoever else was refused"
    assert "belongs to scope root" in lines(found, "Are there duplicate keys?")
    told = [tell(record).what for record in records_of(bench.ledger, proposal_id=name)]
    assert "the proposal belongs to scope root from here on" in told
    (row,) = history(bench.ledger).rows
    assert (row.status, row.scopes) == ("committed", ("root",))
    await forge_admission(bench, name, "third")
    for problems in (verify_all(bench.ledger).problems, verify_proposal(bench.ledger, name).problems):
        said = "\n".join(problems)
        assert f"{name!r} was admitted in scopes 'root'" in said and "'third' (record" in said
        assert "belongs to scope 'root'" in said
    twice = lines(explained(bench, name), "Are there duplicate keys?")
    assert twice.startswith("Yes, two of each step: scopes root, third") and "No:" not in twice
    assert history(bench.ledger).rows[0].scopes == ("root", "third")


async def forge_admission(bench: Bench, name: str, scope: str) -> None:
    """As a submitter without the binding would have admitted it."""
    (intent,) = [record for record in bench.ledger.read("commit/root") if record.kind == "intent"]
    await bench.ledger.seal(scope, 1, Event("term_sealed", {"term": 1, "agent_id": "n", "node": "n"}))
    key = idempotency_key(scope, name, 0, "do")
    payload = {**intent.payload, "term": 1, "commit_id": commit_id(scope, name), "idempotency_key": key}
    await bench.ledger.append(scope, 1, [Entry(Event("intent", payload), f"{key}/intent")])


async def test_problems_are_bounded(tmp_path: Path) -> None:
    """Would catch a report as long as the ledger."""
    with open_ledger(tmp_path / "ledger.db") as ledger:
        votes = [Event("vote", {"term": 1, "candidate": "n"}) for _ in range(PROBLEMS_MAX + 5)]
        await ledger.record("election/s", votes, after=0)
        found = verify_all(ledger)
    assert len(found.problems) == PROBLEMS_MAX + 1 and "more than" in found.problems[-1]


async def test_an_export_reads_as_its_ledger(bench: Bench, tmp_path: Path) -> None:
    """Would catch a reader that loses a record, its order, or says nothing of what was pruned."""
    name = await bench.approved([write("a.txt")])
    await bench.committer().commit(name)
    copy = export(bench, tmp_path / "copy.jsonl")
    assert copy.streams() == bench.ledger.streams()
    assert list(copy.scan()) == list(bench.ledger.scan()) and list(copy.scan(3)) == list(bench.ledger.scan(3))
    assert all(copy.read(stream, after=1) == bench.ledger.read(stream, after=1) for stream in copy.streams())
    assert explain(copy, name, now_ms=NOW) == explained(bench, name)
    bench.ledger.prune(lambda record: not record.stream.startswith("proposal/"))
    pruned = export(bench, tmp_path / "pruned.jsonl")
    with pytest.raises(LedgerError, match="pruned"):
        pruned.read(f"proposal/{name}")
    assert list(pruned.scan(pruned="skip")) == list(bench.ledger.scan(pruned="skip"))
    with pytest.raises(LedgerError, match="is an export"):
        await pruned.record("x", [], after=0)


# --- explain ----------------------------------------------------------------------------------------------------


async def test_where_each_commit_ended(bench: Bench) -> None:
    """Would catch an explanation that blames the debate for the commit, or hides which step failed and why."""
    names = await every_ending(bench)
    found = {ending: explained(bench, name) for ending, name in names.items()}
    assert {ending: one.where for ending, one in found.items()} == {
        "committed": "nowhere",
        "compensated": "commit",
        "rejected": "gate",
        "in_doubt": "human",
    }
    failed = found["compensated"]
    assert "step 1 (test command:false) failed: exit_code" in failed.answer
    assert "taken back (steps 0)" in failed.answer and "rollback complete" in lines(failed, "What happened?")
    assert "path_not_allowed" in found["rejected"].answer
    assert "elsewhere/a.txt" in lines(found["rejected"], "What happened?")
    doubted = found["in_doubt"]
    key = doubted.commits[0].steps[0].idempotency_key
    assert "step 0 (call" in doubted.answer and "half way" in doubted.answer
    assert doubted.commands == (f"madflow resolve {key[:16]} --as done|failed|retry --by NAME",)
    done = found["committed"]
    assert lines(done, "Who proposed it?").startswith("eve, to a panel")
    assert "ann (voter, weight 1): approve" in lines(done, "Who approved it?")
    assert "as the elected submitter of term 1" in lines(done, "Who carried it out?")
    assert "sha256" in lines(done, "What happened?") and "exit_code 0" in lines(done, "What happened?")


async def test_any_name_leads_to_the_proposal(bench: Bench) -> None:
    """Would catch a prefix that names two things and picks one, and a name that nobody knows and is explained."""
    name = await bench.approved([write("a.txt")])
    receipt = await bench.committer().commit(name)
    key = receipt.steps[0].idempotency_key
    for asked in (name, receipt.commit_id, receipt.commit_id[:8], key, key[:8]):
        assert explained(bench, asked).proposal_id == name
    for asked in ("nobody", key[:7], "", "c-"):
        with pytest.raises(UnknownProposal, match="madflow history"):
            explained(bench, asked)


async def test_what_the_panel_or_the_debate_decided(bench: Bench) -> None:
    """Would catch a rejected plan that is blamed on the commit, and an open vote that is told as decided."""
    rejected = await propose(bench.ledger, {"plan": [TRUE]}, panel="ann,bob", proposer="eve", root=bench.root)
    assert explained(bench, rejected).answer == "Neither yet: the vote is open."
    await vote(bench.ledger, rejected, agent="ann", decision="reject", notes="no test")
    await vote(bench.ledger, rejected, agent="bob", decision="reject", notes="no")
    found = explained(bench, rejected)
    assert found.where == "debate" and found.answer.startswith("The vote: rejected")
    assert "ann (voter, weight 1): reject: no test" in lines(found, "Who approved it?")
    await debate(bench.ledger, Clock(), {"a": "approve", "b": "reject", "c": "reject"})
    for asked in ("d", "d-p1", "d-p2"):
        landed = explained(bench, asked)
        assert landed.where == "debate" and "against the outcome: a" in landed.answer
    assert landed.commands == (f"madflow resolve-conflict {landed.proposal_id}",)
    waiting = await bench.approved([write("a.txt")])
    assert explained(bench, waiting).commands == (f"madflow commit {waiting}",)


async def test_duplicates_and_takeovers_are_told(bench: Bench) -> None:
    """Would catch silence about a proposal that was asked for twice, or carried out by two submitters in turn."""
    name = await bench.approved([write("a.txt")])
    committer = bench.committer()
    for _ in range(3):
        await committer.submit(name)
    await committer.recover(wait_s=5)
    found = explained(bench, name)
    assert lines(found, "Are there duplicate keys?").startswith("No")
    assert "asked for 3 times, and carried out once" in lines(found, "Are there duplicate keys?")
    doubted = await bench.approved([call("unsure")])
    await bench.committer(unsure()).commit(doubted, wait_s=5)
    key = bench.committer().receipt(doubted).steps[0].idempotency_key
    await bench.committer(unsure()).resolve(key, "done", by="ann", note="looked", wait_s=5)
    settled = explained(bench, doubted)
    assert "one after the other" in lines(settled, "Did submitters conflict?")
    assert "ann settled step 0: looked" in lines(settled, "Who carried it out?")


async def test_a_file_that_was_refused_is_told(bench: Bench) -> None:
    """Would catch silence about an edited file: no commit record is written for it."""
    name = await bench.approved([write("a.txt")])
    reasons = [{"code": "digest", "message": "its votes were edited", "step": None}]
    said = {"proposal_id": name, "reasons": reasons, "by": "mallory"}
    await bench.ledger.record("requests/root", [Event("refused", said)], after=0)
    happened = lines(explained(bench, name), "What happened?")
    assert "mallory gave a file" in happened and "its votes were edited" in happened
    await bench.committer().commit(name)
    await take_snapshot(bench.ledger, "root")
    found = stats(bench.ledger)["conflicts"]
    assert (found["files_refused"], found["rejected"], found["rate"]) == (1, {"digest": 1}, 0.5)
    assert verify_all(bench.ledger).problems == ()


async def test_what_was_pruned_is_explained_by_its_commit(bench: Bench) -> None:
    """Would catch an explanation that needs the ballots to say what was done."""
    name = await bench.approved([write("a.txt"), FALSE])
    await bench.committer().commit(name)
    bench.ledger.prune(lambda record: not record.stream.startswith("proposal/"))
    found = explained(bench, name)
    assert found.where == "commit" and "pruned" in lines(found, "Who proposed it?")


# --- the story and the figures ----------------------------------------------------------------------------------


async def test_the_story_of_one_proposal(bench: Bench) -> None:
    """Would catch another proposal's records in the story, and a term or a request that is missing from it."""
    names = await every_ending(bench)
    story = list(records_of(bench.ledger, proposal_id=names["compensated"]))
    assert [record.stream.partition("/")[0] for record in story[:4]] == ["proposal", "proposal", "requests", "election"]
    assert [record.kind for record in story if record.stream == "commit/root"] == [
        "term_sealed",
        *bench.kinds(names["compensated"]),
    ]
    others = set(names.values()) - {names["compensated"]}
    assert not any(other in json.dumps(record.payload) for record in story for other in others)
    told = [tell(record) for record in story]
    assert [one.what for one in told if one.error][-1] == "step 1: failed for good"
    assert {one.term for one in told if one.stream == "commit/root"} == {2}
    commits = [plain_record(record) for record in story if record.stream == "commit/root"]
    for data in commits:
        CommitRecord.model_validate({name: value for name, value in data.items() if name != "stream"})
    assert len(list(records_of(bench.ledger))) == len(list(bench.ledger.scan()))


async def test_every_kind_of_record_is_told_whatever_it_holds(bench: Bench) -> None:
    """Would catch a log that falls over a record with fields that are missing or of another type."""
    await debate(bench.ledger, Clock(), {"a": "approve", "b": "approve", "c": "abstain"})
    names = await every_ending(bench)
    await take_snapshot(bench.ledger, "root")
    records = list(records_of(bench.ledger, accounts=True))
    assert len(records) == len(list(bench.ledger.scan())) and names
    told_of = {record.stream.partition("/")[0] for record in records_of(bench.ledger)}
    assert told_of == {"debate", "proposal", "requests", "election", "commit", "bound"}, (
        "no accounts, no snapshots unless asked"
    )
    for record in records:
        assert tell(record).what
        for value in (None, [1], "x", {}):
            payload = dict.fromkeys(record.payload, value)
            forged = type(record)(**{**{n: getattr(record, n) for n in record.__slots__}, "payload": payload})
            tell(forged)


async def test_the_figures(bench: Bench) -> None:
    """Would catch a rate over the wrong whole, and a doubt that is counted as open after it was settled."""
    names = await every_ending(bench)
    await bench.committer().submit(names["committed"])  # ended before: no request is recorded
    found = stats(bench.ledger)
    assert found["commits"] == {"committed": 1, "compensated": 1, "in_doubt": 1, "rejected": 1}
    assert found["failures"] == {"exit_code": 1, "raised": 1}
    assert found["rollbacks"] == {"compensated": 1, "of": 2, "rate": 0.5}
    assert found["conflicts"]["rejected"] == {"path_not_allowed": 1}
    assert (found["conflicts"]["requests"], found["conflicts"]["repeated"], found["conflicts"]["rate"]) == (4, 0, 0.25)
    assert (found["in_doubt"]["open"], found["in_doubt"]["keys"], found["in_doubt"]["rate"]) == (1, 1, 0.1667)
    assert found["in_doubt"]["resolved_ms"] is None
    counted = {kind: times["n"] for kind, times in found["latency_ms"]["steps"].items()}
    assert counted == {"call": 1, "test": 2, "undo write": 1, "write": 2}
    assert found["latency_ms"]["commit"]["n"] == 2
    assert found["elections"]["root"]["sealed"] == 4
    key = bench.committer().receipt(names["in_doubt"]).steps[0].idempotency_key
    await bench.committer(unsure()).resolve(key, "done", by="ann", wait_s=5)
    after = stats(bench.ledger, "root")
    assert (after["in_doubt"]["open"], after["in_doubt"]["resolved_ms"]["n"]) == (0, 1)
    assert after["conflicts"]["taken_over"] == 1
    assert stats(bench.ledger, "elsewhere")["commits"] == {}


async def test_a_commit_takes_as_long_as_what_was_admitted(bench: Bench) -> None:
    """Would catch the days between a request that the gate refused and the one that it let in, as a commit's."""
    name = await bench.approved([write("a.txt")])
    asked = {"proposal_id": name, "by": "ann"}
    first = (await bench.ledger.record("requests/root", [Event("commit", asked)], after=0))[0]
    await bench.ledger.seal("root", 1, Event("term_sealed", {"term": 1, "agent_id": "n", "node": "n"}))
    common = {"term": 1, "commit_id": commit_id("root", name), "proposal_id": name, "proposal_digest": "d"}
    result = {"reasons": [{"code": "no_policy", "message": "", "step": None}], "request": first.seq}
    said = {**common, "agent_id": "n", "role": "submitter", "node": "n", "result": result, "error_code": "no_policy"}
    await bench.ledger.append("root", 1, [Entry(Event("rejected", said), "")])
    await asyncio.sleep(0.3)
    second = (await bench.ledger.record("requests/root", [Event("commit", asked)], after=1))[0]
    assert (await bench.committer().recover(wait_s=5))[0].committed
    closed = bench.ledger.read("commit/root")[-1]
    took = stats(bench.ledger)["latency_ms"]["commit"]
    assert took["n"] == 1 and took["max"] == closed.at_ms - second.at_ms < closed.at_ms - first.at_ms - 250


async def test_the_figures_of_one_proposal(bench: Bench) -> None:
    """Would catch another proposal's failures among one's own."""
    names = await every_ending(bench)
    figures = {ending: stats(bench.ledger, proposal_id=name) for ending, name in names.items()}
    assert [one["commits"] for one in figures.values()] == [{ending: 1} for ending in figures]
    assert figures["compensated"]["failures"] == {"exit_code": 1} and figures["committed"]["failures"] == {}
    assert {one["conflicts"]["requests"] for one in figures.values()} == {1}
    assert figures["in_doubt"]["latency_ms"]["commit"] is None and figures["rejected"]["conflicts"]["rate"] == 1.0
    assert stats(bench.ledger, proposal_id="nobody")["elections"] == {}


@pytest.mark.parametrize(
    ("values", "p50", "p90", "p99"),
    [([7], 7, 7, 7), ([2, 1], 1, 2, 2), (list(range(1, 101)), 50, 90, 99), (list(range(1, 11)), 5, 9, 10)],
)
def test_percentiles_are_the_nearest_rank(values: list[int], p50: int, p90: int, p99: int) -> None:
    """Would catch an interpolation, and an index that is off by one."""
    found = percentiles(values)
    assert found is not None and (found["p50"], found["p90"], found["p99"]) == (p50, p90, p99)
    assert percentiles([]) is None
