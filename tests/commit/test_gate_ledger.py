"""Whole requests against real ledgers and a real tree: what a forger, a late comer and a second ledger get."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gate_debates import POLICY, WRITE, Clock, ask, codes, debate, tree

from madflow.core.gate import Admitted, Rejected
from madflow.core.proposal import check_digests, seal
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.panel.api import propose, vote

ALL = {"a": "approve", "b": "approve", "c": "approve"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "root")


@pytest.fixture
def ledger(root: Path, clock: Clock) -> Iterator[SqliteLedger]:
    opened = open_ledger(root / ".madflow" / "ledger.db", clock=clock)
    yield opened
    opened.close()


async def file_of(ledger: SqliteLedger, clock: Clock, **draft: Any) -> dict[str, Any]:
    """The proposal.json of an approved debate, as a reader of the file gets it."""
    proposal = await debate(ledger, clock, ALL, **draft)
    return json.loads(json.dumps(proposal.to_json()))  # type: ignore[union-attr]


def resealed(file: dict[str, Any], **changes: Any) -> dict[str, Any]:
    data = {**file, **changes}
    subject = {
        key: value for key, value in data.items() if key not in ("subject_digest", "digest", "votes", "decision")
    }
    forged = {**seal(subject, data["votes"], data["decision"]), "usage": data["usage"]}
    assert check_digests(forged) == []
    return forged


async def test_the_file_of_an_approved_debate_is_admitted(ledger: SqliteLedger, clock: Clock, root: Path) -> None:
    """The control: would catch a gate that takes the ledger's own file for another, by a null or an order of keys."""
    file = await file_of(ledger, clock)
    for asked in (file, {**file, "usage": {}}, file["proposal_id"]):
        verdict = ask(root, ledger, clock, asked)
        assert isinstance(verdict, Admitted), verdict
        assert verdict.proposal_digest == file["digest"] and verdict.plan[0]["content"] == WRITE["content"]


async def test_forged_files(ledger: SqliteLedger, clock: Clock, root: Path) -> None:
    """Would catch any part of a file that is believed."""
    file = await file_of(ledger, clock)
    evil = [{**file["plan"][0], "content": "import os"}]
    assert codes(ask(root, ledger, clock, resealed(file, plan=evil))) == ["edited"]
    assert codes(ask(root, ledger, clock, resealed(file, expires_at="2099-01-01T00:00:00.000Z"))) == ["edited"]
    votes = [*file["votes"], {**file["votes"][0], "agent": "z"}]
    assert codes(ask(root, ledger, clock, resealed(file, votes=votes))) == ["votes_differ"]
    weighed = [{**file["votes"][0], "weight": 9}, *file["votes"][1:]]
    assert codes(ask(root, ledger, clock, resealed(file, votes=weighed))) == ["votes_differ"]
    by_human = {**file["decision"], "decided_by": "human:ann"}
    assert codes(ask(root, ledger, clock, resealed(file, decision=by_human))) == ["decision_differs"]
    assert "digest_mismatch" in codes(ask(root, ledger, clock, {**file, "plan": evil}))


async def test_a_rejected_debate_with_a_forged_approval(ledger: SqliteLedger, clock: Clock, root: Path) -> None:
    """Would catch a decision that is read from the file, or from the record of the landing."""
    proposal = await debate(ledger, clock, {"a": "approve", "b": "reject", "c": "reject"})
    file = json.loads(json.dumps(proposal.to_json()))  # type: ignore[union-attr]
    assert codes(ask(root, ledger, clock, file)) == ["rejected"]
    votes = [{**row, "decision": "approve"} for row in file["votes"]]
    decision = {**file["decision"], "result": "approved", "choice": "approve"}
    forged = resealed(file, votes=votes, decision=decision)
    assert codes(ask(root, ledger, clock, forged)) == ["votes_differ", "decision_differs", "rejected"]


async def test_another_ledger(ledger: SqliteLedger, clock: Clock, root: Path, tmp_path: Path) -> None:
    """Would catch a proposal that was approved elsewhere: unknown here, or known under its name as something else."""
    elsewhere = open_ledger(tmp_path / "other.db", clock=clock)
    file = await file_of(elsewhere, clock, summary="theirs")
    elsewhere.close()
    assert codes(ask(root, ledger, clock, file)) == ["unknown_proposal"]
    await debate(ledger, clock, {"a": "approve", "b": "reject", "c": "reject"}, debate_id="d")
    found = codes(ask(root, ledger, clock, file))
    assert found == ["edited", "votes_differ", "decision_differs", "superseded", "rejected"]
    own = await debate(ledger, clock, ALL, debate_id="d2")
    theirs = {**file, "proposal_id": own.proposal_id}  # type: ignore[union-attr]
    assert codes(ask(root, ledger, clock, resealed(theirs))) == ["edited"]


async def test_time_passes(ledger: SqliteLedger, clock: Clock, root: Path) -> None:
    """Would catch a proposal that is committed after its expiry, or older than the policy wants."""
    file = await file_of(ledger, clock)
    (root / "policy.toml").write_text(f"[admit]\nmax_age_s = 3600\n{POLICY}")
    clock.advance(3_590)
    assert isinstance(ask(root, ledger, clock, file), Admitted)
    clock.advance(11)
    assert codes(ask(root, ledger, clock, file)) == ["too_old"]
    clock.advance(86_400)
    assert codes(ask(root, ledger, clock, file)) == ["expired", "too_old"]


async def test_the_tree_changes(ledger: SqliteLedger, clock: Clock, root: Path, tmp_path: Path) -> None:
    """Would catch a write over what was written since, or through a link that was put there since."""
    file = await file_of(ledger, clock)
    (root / "src" / "a.py").write_text("x = 3\n")
    assert codes(ask(root, ledger, clock, file)) == ["changed_since"]
    (root / "src" / "a.py").unlink()
    assert codes(ask(root, ledger, clock, file)) == ["changed_since"]
    (tmp_path / "a.py").write_text("x = 1\n")
    (root / "src" / "a.py").symlink_to(tmp_path / "a.py")
    assert codes(ask(root, ledger, clock, file)) == ["path_refused"]
    (root / "src").rename(root / "real")
    (root / "src").symlink_to(root / "real")
    assert codes(ask(root, ledger, clock, file)) == ["path_refused"]


async def test_no_policy_and_what_to_write(ledger: SqliteLedger, clock: Clock, root: Path) -> None:
    """Would catch a hint that does not help whoever follows it."""
    file = await file_of(ledger, clock)
    (root / "policy.toml").unlink()
    verdict = ask(root, ledger, clock, file)
    assert isinstance(verdict, Rejected) and codes(verdict) == ["no_policy"]
    (root / "policy.toml").write_text(verdict.reasons[0].message.partition("\n")[2])
    assert isinstance(ask(root, ledger, clock, file), Admitted)


@pytest.mark.parametrize("name", ["state", ".hidden/deep"])
async def test_the_ledger_is_safe_wherever_it_lies(root: Path, clock: Clock, name: str) -> None:
    """Would catch a plan that writes into a ledger that is not called .madflow."""
    opened = open_ledger(root / name / "my.db", clock=clock)
    try:
        (root / "policy.toml").write_text('[[allow]]\nstep = ["write"]\npaths = ["**"]\n')
        for target in (f"{name}/my.db", f"{name.upper()}/my.db-wal", f"{name}/run/x.lock", "policy.toml"):
            step = {"step": "write", "target": f"file:{target}", "content": "", "sha256_before": "absent"}
            made = await propose(opened, [step], panel="a", proposer="a", clock=clock)
            await vote(opened, made, agent="a", decision="approve", clock=clock)
            assert "protected" in codes(ask(root, opened, clock, made)), target
    finally:
        opened.close()


async def test_a_panels_plan(ledger: SqliteLedger, clock: Clock, root: Path) -> None:
    """Would catch a plan from elsewhere that gets in before its vote, unpinned, or by a file of its vote half-way."""
    bare = {key: value for key, value in WRITE.items() if key != "sha256_before"}
    loose = await propose(ledger, [bare], panel="a", proposer="a", clock=clock)
    await vote(ledger, loose, agent="a", decision="approve", clock=clock)
    assert codes(ask(root, ledger, clock, loose)) == ["unpinned"]
    made = await propose(ledger, [bare], panel="a,b,c", proposer="a", root=root, clock=clock)
    assert codes(ask(root, ledger, clock, made)) == ["open"]
    await vote(ledger, made, agent="a", decision="approve", clock=clock)
    assert codes(ask(root, ledger, clock, made)) == ["open"]
    await vote(ledger, made, agent="b", decision="approve", clock=clock)
    assert isinstance(ask(root, ledger, clock, made), Admitted)
    lost = await propose(ledger, [bare], panel="a,b", proposer="a", root=root, expires_s=60, clock=clock)
    clock.advance(61)
    assert codes(ask(root, ledger, clock, lost)) == ["no_quorum", "expired"]
