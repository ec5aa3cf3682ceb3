"""A ledger as a story: who did what, when, in which term, and what came of it; one line a record.

All texts here are of other origin (models, voters, commands): whoever prints them cleans them first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..core.journal import record_of
from ..core.panel import DEBATES_PROPOSAL
from ..core.protocols.subject import rfc3339
from ..ports import Ledger, Record
from .streams import BOUND, COMMITS, DEBATES, ELECTIONS, PANELS, REQUESTS, SNAPSHOTS

__all__ = ["Told", "plain_record", "records_of", "summary_of", "tell"]

_TEXT_MAX: Final = 300
_ACCOUNTS: Final = frozenset({"reserved", "settled", "note"})
_SHOWN: Final = (
    "message",
    "status",
    "exit_code",
    "http_status",
    "sha256",
    "commit",
    "rows",
    "bytes",
    "stdout",
    "stderr",
)


@dataclass(frozen=True, slots=True)
class Told:
    """One record in words.

    Attributes:
        who, role: who acted, and as what. what: in words. key: the idempotency key, "" where there is none.
        result: what came of it; error: a short code, "" for none. term: None outside of elections and commits.
    """

    seq: int
    at_ms: int
    stream: str
    who: str
    role: str
    what: str
    key: str = ""
    attempt: int | None = None
    result: str = ""
    error: str = ""
    term: int | None = None


def records_of(ledger: Ledger, *, proposal_id: str = "", scope: str = "", accounts: bool = False) -> Iterator[Record]:
    """The records that tell the story, oldest first; pruned ones are left out.

    Args:
        proposal_id: only what is about this proposal, or the debate of this id: the debate or the vote, its requests,
            its commits, the scope it belongs to, and the elections of the terms that carried them out.
        scope: only this scope's commits, requests and elections.
        accounts: also what a debate's calls were charged, and snapshots.
    """
    wanted = _about(ledger, proposal_id, scope) if proposal_id else lambda _: True
    for record in ledger.scan(pruned="skip"):
        kind_of, _, name = record.stream.partition("/")
        if scope and (f"{kind_of}/" not in (COMMITS, REQUESTS, ELECTIONS) or name != scope) and not proposal_id:
            continue
        account = f"{kind_of}/" == SNAPSHOTS or (f"{kind_of}/" == DEBATES and record.kind in _ACCOUNTS)
        if (accounts or not account) and wanted(record):
            yield record


def _about(ledger: Ledger, proposal_id: str, scope: str) -> Callable[[Record], bool]:
    debate = DEBATES_PROPOSAL.sub("", proposal_id)
    own = {f"{PANELS}{proposal_id}", f"{DEBATES}{debate}"}
    versions = DEBATES_PROPOSAL if f"{DEBATES}{debate}" in ledger.streams() else None
    terms: set[tuple[str, Any]] = set()
    keys: set[str] = set()

    def named(payload: Mapping[str, Any]) -> bool:
        return is_named(str(payload.get("proposal_id") or ""))

    def is_named(name: str) -> bool:
        return name == proposal_id or (
            versions is not None and debate == proposal_id and versions.sub("", name) == debate
        )

    for stream in ledger.streams():
        if stream.startswith(COMMITS):
            for record in ledger.read(stream, pruned="skip"):
                if named(record.payload):
                    terms.add((stream.removeprefix(COMMITS), record.payload.get("term")))
                    keys.add(str(record.payload.get("idempotency_key") or ""))

    def wanted(record: Record) -> bool:
        payload, (kind_of, _, name) = record.payload, record.stream.partition("/")
        if record.stream in own or (f"{kind_of}/" == BOUND and is_named(name)):
            return True
        if f"{kind_of}/" not in (COMMITS, REQUESTS, ELECTIONS) or (scope and name != scope):
            return False
        if record.kind in ("vote", "term_sealed"):
            return (name, payload.get("term")) in terms
        return named(payload) or (record.kind == "resolve" and str(payload.get("key")) in keys)

    return wanted


def plain_record(record: Record) -> dict[str, Any]:
    """A record as plain JSON data: a commit's as a `CommitRecord`, any other with its payload as it is."""
    at = rfc3339(record.at_ms)
    if record.stream.startswith(COMMITS):
        return {"stream": record.stream, **record_of(record, at)}
    names = ("seq", "stream", "place", "kind", "payload", "prev_hash", "hash")
    return {**{name: getattr(record, name) for name in names}, "at": at}


def tell(record: Record) -> Told:
    """One record in words; whatever it holds."""
    kind_of = f"{record.stream.partition('/')[0]}/"
    words = _WORDS.get(kind_of)
    said = words(record.kind, record.payload) if words else {"what": record.kind}
    return Told(record.seq, record.at_ms, record.stream, **{"who": "", "role": "", **said})


def summary_of(result: Any) -> str:
    """What a step's result says, in one short text."""
    if not isinstance(result, Mapping):
        return ""
    parts: list[str] = []
    for name in _SHOWN:
        value = result.get(name)
        if value in (None, "", "done", "failed") or (name == "exit_code" and parts):
            continue
        text = str(value)[:12] if name in ("sha256", "commit") and value != "absent" else str(value)[:_TEXT_MAX]
        parts.append(text if name == "message" else f"{name} {text}")
    return ", ".join(parts)[:_TEXT_MAX]


# --- commits ----------------------------------------------------------------------------------------------------


def _commit(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    undo, plain = (
        kind.startswith("compensation_") or payload.get("direction") == "undo",
        kind.removeprefix("compensation_"),
    )
    return {
        "who": _text(payload, "agent_id"),
        "role": _text(payload, "role"),
        "what": _step_words(plain, payload, "undo" if undo else "step"),
        "key": _text(payload, "idempotency_key"),
        "attempt": payload.get("attempt") if isinstance(payload.get("attempt"), int) else None,
        "result": _reasons(payload) if plain == "rejected" else summary_of(payload.get("result")),
        "error": _text(payload, "error_code"),
        "term": payload.get("term") if isinstance(payload.get("term"), int) else None,
    }


def _step_words(kind: str, payload: Mapping[str, Any], direction: str) -> str:
    if kind == "term_sealed":
        return "leads from here on"
    if kind == "committed":
        return f"committed {_text(payload, 'proposal_id')}"
    if kind == "compensated":
        return f"compensated {_text(payload, 'proposal_id')}, rollback {_text(payload, 'rollback')}"
    if kind == "rejected":
        return f"the gate refuses {_text(payload, 'proposal_id')}"
    result = payload.get("result")
    said: Mapping[str, Any] = result if isinstance(result, Mapping) else {}
    reason = _text(payload, "retry_reason")
    words = {
        "intent": f"planned, {_text(payload, 'step')} {_targets(payload)}",
        "started": "begins" + (f" again, after {reason}" if reason else ""),
        "attempt_failed": "an attempt failed",
        "outcome": "done" if said.get("status") == "done" else "failed for good",
        "in_doubt": "in doubt: a human has to look",
        "resolved": f"settled as {_text(said, 'as')}: {_text(payload, 'note')}".removesuffix(": "),
    }
    return f"{direction} {payload.get('step_index')}: {words.get(kind, kind)}"[:_TEXT_MAX]


def _targets(payload: Mapping[str, Any]) -> str:
    targets = payload.get("resource_targets")
    return ", ".join(str(target)[:120] for target in targets[:10]) if isinstance(targets, list) else ""


def _reasons(payload: Mapping[str, Any]) -> str:
    """Why the gate refuses, of its record or of a request that its caller refused."""
    result = payload.get("result")
    reasons = result.get("reasons") if isinstance(result, Mapping) else payload.get("reasons")
    listed = reasons if isinstance(reasons, list) else []
    return "; ".join(_text(reason, "message") for reason in listed[:20])[:_TEXT_MAX]


# --- everything else --------------------------------------------------------------------------------------------


def _debate(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    who, role = _text(payload, "agent") or _text(payload, "by"), "seat"
    status, cause = _text(payload, "status"), _text(payload, "cause")
    if kind == "opened":
        config = payload.get("config")
        rule = _text(config, "rule") if isinstance(config, Mapping) else ""
        return {"what": f"debate opened, rule {rule}", "role": "debate"}
    if kind == "answered":
        what = f"{_text(payload, 'kind')}: {status}" if status != "valid" else _text(payload, "kind")
        return {"who": who, "role": role, "what": f"says ({what})", "result": _reply(payload), "error": cause}
    if kind == "landed":
        proposal = payload.get("proposal")
        body: Mapping[str, Any] = proposal if isinstance(proposal, Mapping) else {}
        decision = body.get("decision")
        said: Mapping[str, Any] = decision if isinstance(decision, Mapping) else {}
        what = f"{_text(body, 'proposal_id')} landed: {_text(said, 'result')}"
        return {"who": _text(body, "proposer"), "role": "proposer", "what": what, "result": _text(said, "stop_reason")}
    words = {
        "cut": f"cut: {_text(payload, 'reason')}",
        "human": f"a human chose {_text(payload, 'choice')}",
        "late": "an answer came too late",
        "resumed": "debate resumed",
    }
    role = "human" if kind == "human" else "debate"
    return {"who": who, "role": role, "what": words.get(kind, kind), "error": cause}


def _reply(payload: Mapping[str, Any]) -> str:
    reply = payload.get("reply")
    if not isinstance(reply, Mapping):
        return ""
    decision = _text(reply, "decision") or _text(reply, "answer")
    text = reply.get("objections") or reply.get("reasoning") or reply.get("summary") or ""
    said = "; ".join(map(str, text)) if isinstance(text, list) else str(text)
    return ": ".join(part for part in (decision, said) if part)[:_TEXT_MAX]


def _panel(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    subject = payload.get("subject")
    if kind == "proposed" and isinstance(subject, Mapping):
        plan, content = subject.get("plan"), subject.get("content")
        steps = f"{len(plan)} steps" if isinstance(plan, list) else ""
        about = _text(content, "summary") if isinstance(content, Mapping) else ""
        what = f"proposes {_text(subject, 'proposal_id')}: {about or steps}"
        return {"who": _text(subject, "proposer"), "role": "proposer", "what": what, "result": _text(subject, "rule")}
    words = {
        "ballot": f"votes {_text(payload, 'decision')}",
        "refused": f"a ballot is refused: {_text(payload, 'decision')}",
        "closed": "voting is over",
        "superseded": f"another takes its place: {_text(payload, 'by')}",
        "recommended": "a recommendation",
    }
    who = _text(payload, "agent")
    said = {"who": who, "role": "voter" if who else "panel", "what": words.get(kind, kind)}
    return {**said, "result": _text(payload, "notes"), "error": _text(payload, "cause")}


def _request(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    words = {
        "commit": f"asks to commit {_text(payload, 'proposal_id')}",
        "refused": f"gave a file that is not {_text(payload, 'proposal_id')} as the ledger knows it",
        "resolve": f"says {_text(payload, 'as')} of a step in doubt",
        "transfer": f"asks the leader to hand over to {_text(payload, 'to')}",
        "resign": "asks the leader to resign",
    }
    confirmed = _text(payload, "confirmed_by")
    result = f"confirmed by {confirmed}" if confirmed else _text(payload, "note") or _reasons(payload)
    said = {"who": _text(payload, "by"), "role": "caller", "what": words.get(kind, kind)}
    return {**said, "key": _text(payload, "key"), "result": result}


def _election(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    term = payload.get("term") if isinstance(payload.get("term"), int) else None
    if kind == "vote":
        before = payload.get("before")
        ended = f"before: {_text(before, 'node')} {_text(before, 'ended')}" if isinstance(before, Mapping) else ""
        return {
            "who": _text(payload, "candidate"),
            "role": "submitter",
            "what": "is elected",
            "term": term,
            "result": ended,
        }
    what = f"hands over to {_text(payload, 'to')}" if kind == "transferred" else kind
    return {"who": _text(payload, "node"), "role": "submitter", "what": what, "term": term}


def _snapshot(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"what": f"{kind} of commit records up to place {payload.get('place')}"}


def _bound(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    what = f"the proposal belongs to scope {_text(payload, 'scope')} from here on" if kind == "bound" else kind
    return {"role": "submitter", "what": what}


def _pruned(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"what": f"payloads of {payload.get('count')} records {kind}"}


def _text(data: Any, name: str) -> str:
    value = data.get(name) if isinstance(data, Mapping) else None
    return "" if value is None else str(value)[:_TEXT_MAX]


_WORDS: Final[Mapping[str, Callable[[str, Mapping[str, Any]], dict[str, Any]]]] = {
    COMMITS: _commit,
    DEBATES: _debate,
    PANELS: _panel,
    REQUESTS: _request,
    ELECTIONS: _election,
    SNAPSHOTS: _snapshot,
    BOUND: _bound,
    "pruned/": _pruned,
}
