"""The fold of commit records: slots, keys, where a commit stands; and how records are shown."""

from typing import Any

import pytest
from saga_runner import PROPOSAL, SCOPE, Rec, Saga, spec

from madflow.core.journal import (
    COMMIT_RECORD_SCHEMA,
    KINDS,
    CommitDocument,
    Journal,
    commit_id,
    commit_record_schema,
    record_of,
    slot_of,
)
from madflow.ports import Record

KEY = "k" * 64


@pytest.mark.parametrize(
    ("kind", "payload", "slot"),
    [
        ("term_sealed", {"term": 7}, "term/7"),
        ("intent", {}, f"{KEY}/intent"),
        ("compensation_intent", {}, f"{KEY}/intent"),
        ("started", {"attempt": 2}, f"{KEY}/started/2"),
        ("compensation_started", {"attempt": 2}, f"{KEY}/started/2"),
        ("attempt_failed", {"attempt": 2}, f"{KEY}/attempt_failed/2"),
        ("outcome", {"attempt": 2}, f"{KEY}/terminal"),
        ("compensation_outcome", {"attempt": 2}, f"{KEY}/terminal"),
        ("in_doubt", {"attempt": 0}, f"{KEY}/in_doubt/0"),
        ("resolved", {"attempt": 2, "result": {"as": "done"}}, f"{KEY}/terminal"),
        ("resolved", {"attempt": 2, "result": {"as": "failed"}}, f"{KEY}/terminal"),
        ("resolved", {"attempt": 2, "result": {"as": "retry"}}, f"{KEY}/retry/2"),
        ("committed", {"commit_id": "c-1"}, "c-1/closed"),
        ("compensated", {"commit_id": "c-1"}, "c-1/closed"),
        ("rejected", {"commit_id": "c-1"}, ""),
    ],
)
def test_the_slot_of_a_record(kind: str, payload: dict[str, Any], slot: str) -> None:
    """Catches two final records that fit into one stream: an outcome and a human's word, a commit that ends twice."""
    assert slot_of(kind, {"idempotency_key": KEY, **payload}) == slot


def test_every_kind_has_its_slot_rule() -> None:
    """Catches a new kind that takes no slot by accident."""
    payload = {"idempotency_key": KEY, "attempt": 1, "term": 1, "commit_id": "c", "result": {"as": "done"}}
    assert [kind for kind in KINDS if not slot_of(kind, payload)] == ["rejected"]


def test_a_commits_id_is_its_scope_and_proposal() -> None:
    """Catches commits of two scopes, or of two proposals, that share their records."""
    assert commit_id("a", "p") == commit_id("a", "p")
    assert len({commit_id("a", "p"), commit_id("b", "p"), commit_id("a", "q"), commit_id("a/p", "")}) == 4


def test_folding_at_once_or_one_by_one_is_the_same() -> None:
    """Catches a fold that depends on how far it had read before: a new leader, and one that goes on."""
    saga = Saga([spec(0, "verifiable"), spec(1, "idempotent")])
    for result in ("done", "timeout", "refused"):
        saga.play(result)
    saga.human(1, "do", "failed")
    saga.play("done")
    saga.play()
    whole, half = Journal(saga.records), Journal(saga.records[:4])
    for record in saga.records[4:]:
        half.add(record)
    assert whole.commits == half.commits
    assert (whole.term, whole.place) == (half.term, half.place) == (1, len(saga.records))


def test_where_a_commit_stands() -> None:
    """Catches a status that people would act on, and that is not so."""
    saga = Saga([spec(0, "non_verifiable")])
    assert saga.commit.status == "pending"
    assert not saga.commit.admitted
    saga.put("rejected", {"result": {"reasons": []}})
    assert saga.commit.status == "rejected"
    saga.play("crash")
    assert (saga.commit.status, saga.commit.admitted) == ("pending", True)
    saga.play()
    assert saga.commit.status == "in_doubt"
    assert [key.index for key in saga.commit.doubts] == [0]
    assert saga.commit.doubts[0].doubt_seq == saga.records[-1].seq
    saga.human(0, "do", "retry")
    assert (saga.commit.status, saga.commit.doubts) == ("pending", [])
    assert saga.commit.keys[0, "do"].granted == 1
    saga.play("done")
    saga.play()
    assert saga.commit.status == saga.commit.closed == "committed"


def test_an_attempt_that_may_have_happened_is_remembered() -> None:
    """Catches an idempotent step whose first attempt is forgotten; and a certain failure that is taken for a doubt."""
    for first, unsure in (("timeout", True), ("busy", False)):
        saga = Saga([spec(0, "idempotent", attempts=3)])
        saga.play(first)
        saga.play("busy")
        assert saga.commit.keys[0, "do"].unsure is unsure
    transactional = Saga([spec(0, "transactional")])
    transactional.play("crash")
    transactional.play("busy")
    assert transactional.commit.keys[0, "do"].unsure is False


def test_a_record_without_its_intent_changes_nothing() -> None:
    """Catches a fold that raises on a ledger that verify is to report about."""
    journal = Journal([Rec(1, "started", {"term": 1, "commit_id": "c", "proposal_id": "p", "proposal_digest": "d",
                                          "idempotency_key": KEY, "attempt": 1})])  # fmt: skip
    assert journal.keys == {}


def test_a_record_is_shown_with_what_the_ledger_adds() -> None:
    """Catches a document whose records cannot be matched with the ledger, or that lets unknown fields through."""
    saga = Saga([spec(0, "verifiable")])
    saga.play("done")
    shown = [
        record_of(
            Record(r.seq, r.stream, r.seq, r.kind, {**r.payload, "private": 1}, 0, "a" * 64, "b" * 64), "2026-01-01"
        )
        for r in saga.records
    ]
    assert [row["kind"] for row in shown] == ["term_sealed", "intent", "started", "outcome"]
    assert {(row["prev_hash"], row["hash"], row["at"]) for row in shown} == {("a" * 64, "b" * 64, "2026-01-01")}
    assert all("private" not in row for row in shown)
    assert shown[1]["admission"] == {"targets": [], "steps": 1}
    document = CommitDocument.model_validate(
        {
            "scope": SCOPE,
            "commit_id": saga.commit_id,
            "proposal_id": PROPOSAL,
            "proposal_digest": "d",
            "status": "pending",
            "records": shown,
        }
    )
    assert document.model_dump(mode="json", by_alias=True)["schema"] == COMMIT_RECORD_SCHEMA
    assert commit_record_schema()["$id"] == COMMIT_RECORD_SCHEMA
