"""`ledger stats`: what goes wrong, how often, and how long things take, counted from the records.

What leaves no record is not counted: an append that the ledger refused (fenced, or a slot that was taken) writes
nothing. What it leaves behind is counted instead: attempts that were lost with their submitter, commits that one term
began and another ended, and requests for a proposal that was asked for before.

Latencies are nearest-rank percentiles, in milliseconds: of a step, from its effect's start to its end, as measured by
the submitter; of a commit, by the ledger's clock, from the request that was admitted to its end. That is the first one
behind the last that the gate refused; where a worker took the proposal up unasked, it is the first intent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.journal import Journal, commit_id
from ..ports import Ledger, Record
from .named import is_about
from .streams import COMMITS, ELECTIONS, REQUESTS

__all__ = ["percentiles", "stats"]


def percentiles(values: Sequence[int]) -> dict[str, int] | None:
    """{"n", "p50", "p90", "p99", "max"} by nearest rank; None for no values."""
    if not values:
        return None
    ordered = sorted(values)
    ranks = {f"p{p}": ordered[max(0, -(-len(ordered) * p // 100) - 1)] for p in (50, 90, 99)}
    return {"n": len(ordered), **ranks, "max": ordered[-1]}


@dataclass(slots=True)
class _Counts:
    failures: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)
    steps: dict[str, list[int]] = field(default_factory=dict)
    resolved_ms: list[int] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    doubted_at: dict[str, int] = field(default_factory=dict)
    terms: dict[str, set[int]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """One commit record."""
        payload, kind = record.payload, record.kind.removeprefix("compensation_")
        key, code = str(payload.get("idempotency_key") or ""), str(payload.get("error_code") or "unknown")
        if record.kind != "rejected" and "commit_id" in payload:
            self.terms.setdefault(str(payload["commit_id"]), set()).add(int(payload["term"]))
        if kind == "intent":
            self.kinds[key] = ("undo " if payload.get("direction") == "undo" else "") + str(payload.get("step"))
        elif kind == "started" and payload.get("retry_reason"):
            self.retries[_reason(str(payload["retry_reason"]))] += 1
        elif kind == "attempt_failed":
            self.failures[code] += 1
        elif kind == "in_doubt":
            self.doubts[code] += 1
            self.doubted_at[key] = record.at_ms
        elif kind == "resolved":
            self.resolved_ms.append(max(0, record.at_ms - self.doubted_at.pop(key, record.at_ms)))
        elif kind == "rejected":
            self.refusals.update({str(reason.get("code")) for reason in payload["result"]["reasons"]})
        if isinstance(payload.get("latency_ms"), int):
            self.steps.setdefault(self.kinds.get(key, "unknown"), []).append(payload["latency_ms"])


def stats(ledger: Ledger, scope: str = "", proposal_id: str = "") -> dict[str, Any]:
    """The figures of all scopes together, or of one, as plain JSON data; `madflow ledger stats --json` shows the names.

    Args:
        proposal_id: of a proposal or a debate, only its requests and commits; `elections` are then of the scopes that
            have such a commit.

    Raises:
        LedgerError: the records cannot be read.
    """
    names = [name.removeprefix(COMMITS) for name in ledger.streams() if name.startswith(COMMITS)]
    counts, statuses, whole, asked = _Counts(), Counter[str](), list[int](), Counter[str]()
    keys = taken_over = 0
    elections: dict[str, dict[str, int]] = {}
    for name in names:
        if scope and name != scope:
            continue
        stream = ledger.read(f"{COMMITS}{name}")
        records = [record for record in stream if not proposal_id or _about(record, proposal_id)]
        for record in records:
            counts.add(record)
        journal = Journal(records)
        statuses.update(commit.status for commit in journal.commits.values())
        keys += sum(1 for key in journal.keys.values() if key.attempt)
        requests = _asked(ledger, name, asked, counts.refusals, proposal_id)
        began = _began(records, requests)
        for commit in journal.commits.values():
            taken_over += len(counts.terms.get(commit.commit_id, ())) > 1
            if commit.closed:
                whole.append(max(0, commit.last_ms - began.get(commit.commit_id, commit.first_ms)))
        if records or not proposal_id:
            elections[name] = _elections(ledger, name, stream)
    closed = statuses["committed"] + statuses["compensated"]
    doubted = sum(counts.doubts.values())
    return {
        "commits": dict(sorted(statuses.items())),
        "failures": _most(counts.failures),
        "retries": _most(counts.retries),
        "rollbacks": {
            "compensated": statuses["compensated"],
            "of": closed,
            "rate": _rate(statuses["compensated"], closed),
        },
        "conflicts": {
            **asked,
            "taken_over": taken_over,
            "lost_attempts": counts.failures["submitter_lost"],
            "rejected": _most(counts.refusals),
            "rate": _rate(
                asked["repeated"] + asked["files_refused"] + statuses["rejected"],
                asked["requests"] + asked["files_refused"],
            ),
        },
        "in_doubt": {
            "keys": doubted,
            "rate": _rate(doubted, keys),
            "by_code": _most(counts.doubts),
            "open": len(counts.doubted_at),
            "resolved_ms": percentiles(counts.resolved_ms),
        },
        "latency_ms": {
            "commit": percentiles(whole),
            "steps": {kind: percentiles(values) for kind, values in sorted(counts.steps.items())},
        },
        "elections": elections,
    }


def _asked(
    ledger: Ledger, scope: str, asked: Counter[str], refusals: Counter[str], proposal_id: str
) -> Mapping[str, list[Record]]:
    """Count the requests for commits, and the files that were refused; the requests for each commit, in their order."""
    found: dict[str, list[Record]] = {}
    asked.update({"requests": 0, "repeated": 0, "files_refused": 0})
    for record in ledger.read(f"{REQUESTS}{scope}", pruned="skip"):
        if proposal_id and not _about(record, proposal_id):
            continue
        if record.kind == "commit":
            name = commit_id(scope, str(record.payload.get("proposal_id")))
            asked["requests"] += 1
            asked["repeated"] += name in found
            found.setdefault(name, []).append(record)
        elif record.kind == "refused":
            asked["files_refused"] += 1
            refusals.update({str(reason.get("code")) for reason in record.payload.get("reasons") or ()})
    return found


def _about(record: Record, proposal_id: str) -> bool:
    return is_about(str(record.payload.get("proposal_id") or ""), proposal_id)


def _began(records: Sequence[Record], requests: Mapping[str, Sequence[Record]]) -> dict[str, int]:
    """When what came to each admitted commit began: at the request that was admitted, or its first intent."""
    answered: dict[str, int] = {}
    began: dict[str, int] = {}
    for record in records:
        name = str(record.payload.get("commit_id"))
        if record.kind == "rejected":
            answered[name] = max(answered.get(name, 0), int(record.payload["result"].get("request") or 0))
        elif record.kind == "intent" and name not in began:
            between = (r.at_ms for r in requests.get(name, ()) if answered.get(name, 0) < r.seq < record.seq)
            began[name] = next(between, record.at_ms)
    return began


def _elections(ledger: Ledger, scope: str, records: Sequence[Record]) -> dict[str, int]:
    voted = Counter(record.kind for record in ledger.read(f"{ELECTIONS}{scope}", pruned="skip"))
    sealed = [int(record.payload["term"]) for record in records if record.kind == "term_sealed"]
    last = max(sealed, default=0)
    return {"votes": voted["vote"], "sealed": len(sealed), "transfers": voted["transferred"], "last_term": last}


def _reason(text: str) -> str:
    """A human's grant names the human; that is one reason, whoever it was."""
    return "granted by a human" if text.startswith("granted by ") else text


def _most(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _rate(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
