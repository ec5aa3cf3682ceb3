"""`madflow explain`: what became of a proposal, and why, in plain words.

First where it ended, then the questions that one asks when something went wrong: was it the debate or the commit, are
there duplicate keys, did submitters conflict; then who proposed, who approved, who carried it out, and what happened.
Everything is read from the records; a proposal that was pruned is explained by what its commits say.

Texts are of other origin: whoever prints them cleans them first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..core.gate import Known
from ..core.journal import CommitState, Journal, KeyState, commit_id
from ..ports import Ledger, Record
from .binding import bound_scope
from .known import known_proposal
from .named import proposal_named, scopes_of
from .receipt import Receipt, receipt_of
from .story import summary_of, tell
from .streams import REQUESTS

__all__ = ["Explanation", "explain"]

_LISTED_MAX: Final = 20
_UNDECIDED: Final = {
    "budget_exceeded": "its budget ran out before the panel had decided",
    "timeout": "its time ran out before the panel had decided",
    "quorum_lost": "too few seats gave a valid ballot",
    "deadlock": "everybody had voted, and neither side had it",
    "human": "it waits for people to vote",
    "cancelled": "another proposal took its place",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of one proposal.

    Attributes:
        asked: the id it was asked for by.
        where: it ended: "debate", "gate", "commit", "human" (in doubt), or "nowhere": it went well, or is not over.
        answer: one sentence. answers: (question, lines), in the order to read them.
        commands: what to run next.
        commits: their receipts, one a scope.
    """

    asked: str
    proposal_id: str
    where: str
    answer: str
    answers: tuple[tuple[str, tuple[str, ...]], ...]
    commands: tuple[str, ...]
    commits: tuple[Receipt, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        names = ("asked", "proposal_id", "where", "answer")
        answers = [{"question": question, "lines": list(lines)} for question, lines in self.answers]
        plain: dict[str, Any] = {name: getattr(self, name) for name in names}
        plain |= {"answers": answers, "commands": list(self.commands)}
        return {**plain, "commits": [receipt.to_json() for receipt in self.commits]}


@dataclass(frozen=True, slots=True)
class _Commit:
    """One scope's commit of the proposal. `records`: its own; `requests`: who asked for it."""

    scope: str
    state: CommitState
    records: Sequence[Record]
    requests: Sequence[Record]
    nodes: Mapping[int, str]


def explain(ledger: Ledger, asked: str, *, now_ms: int) -> Explanation:
    """Explain the proposal that `asked` names: by its id, its debate's, its commit's, or an idempotency key; of the
    last two the first 8 characters are enough.

    Raises:
        UnknownProposal: the ledger knows nothing of that name, or several things.
        LedgerError: the records cannot be read.
    """
    scopes = scopes_of(ledger)
    name = proposal_named(ledger, asked, scopes)
    known = known_proposal(ledger, name, now_ms=now_ms)
    if known is not None:
        name = known.proposal_id
    commits = [found for scope, records in scopes.items() if (found := _commit_of(ledger, scope, name, records))]
    where, answer = _where(known, commits)
    answers = (
        ("Was it the debate or the commit?", (answer,)),
        ("Who proposed it?", _proposed(known)),
        ("Who approved it?", _approved(known)),
        ("Who carried it out?", _executed(commits)),
        ("What happened?", (*_happened(commits), *_refused_files(ledger, name))),
        ("Are there duplicate keys?", _duplicates(commits, bound_scope(ledger, name))),
        ("Did submitters conflict?", _conflicts(commits)),
    )
    receipts = tuple(receipt_of(one.scope, name, one.state) for one in commits)
    return Explanation(asked, name, where, answer, answers, _commands(name, known, commits), receipts)


def _commit_of(ledger: Ledger, scope: str, name: str, records: Sequence[Record]) -> _Commit | None:
    own = [record for record in records if record.payload.get("commit_id") == commit_id(scope, name)]
    if not own:
        return None
    state = next(iter(Journal(own).commits.values()))
    asked = [r for r in ledger.read(f"{REQUESTS}{scope}", pruned="skip") if r.payload.get("proposal_id") == name]
    nodes = {int(r.payload["term"]): str(r.payload.get("node")) for r in records if r.kind == "term_sealed"}
    return _Commit(scope, state, own, asked, nodes)


# --- where it ended ---------------------------------------------------------------------------------------------


def _where(known: Known | None, commits: Sequence[_Commit]) -> tuple[str, str]:
    for one in sorted(commits, key=lambda one: not one.state.admitted):  # a refusal elsewhere is not where it ended
        if not one.state.admitted and any(other.state.admitted for other in commits):
            continue
        ended = _ended(one.state)
        if ended:
            return ended
    if any(one.state.closed == "committed" for one in commits):
        return "nowhere", "Neither: it was approved and committed, every step is done."
    if commits:
        return "nowhere", "Neither yet: it is being committed; `madflow recover` goes on where its submitter is gone."
    if known is None or known.body is None:
        return "nowhere", "Neither, as far as is known: nothing was committed, and the debate or vote has not landed."
    return _undecided(known, known.body)


def _ended(state: CommitState) -> tuple[str, str] | None:
    """What went wrong with a commit; None where nothing did, so far."""
    if state.status == "in_doubt":
        key = state.doubts[0]
        return "human", f"Neither yet: {_step(key)} is in doubt ({_said(key)}), and a human has to look."
    if state.status == "compensated":
        return "commit", f"The commit: {_failed(state)}"
    if state.status == "rejected":
        return "gate", f"The commit, before it began: the gate refused it ({_codes(state)})."
    return None


def _undecided(known: Known, body: Mapping[str, Any]) -> tuple[str, str]:
    what, decision = "debate" if known.source == "debate" else "vote", body["decision"]
    result, reason = decision["result"], decision["stop_reason"]
    if known.open:
        return "nowhere", f"Neither yet: the {what} is open."
    if result != "approved":
        by = ", ".join(str(row.get("agent")) for row in decision["dissent"])
        why = _UNDECIDED.get(reason, f"it stopped as {reason}") if result != "rejected" else f"rejected, stop: {reason}"
        numbers = ", ".join(f"{name} {value}" for name, value in sorted(decision["stop_numbers"].items()))
        return "debate", f"The {what}: {result}; {why} ({numbers})" + (f"; against the outcome: {by}." if by else ".")
    if not body["plan"]:
        return "nowhere", f"Neither: the {what} approved it, and it has no plan to commit."
    return "nowhere", f"Neither: the {what} approved it, and nobody has asked to commit it yet, or it waits its turn."


def _failed(state: CommitState) -> str:
    undone = [key for key in state.keys.values() if key.direction == "undo"]
    failed = [key for key in state.keys.values() if key.direction == "do" and key.status == "failed"]
    first = min(failed, key=lambda key: key.index)
    back = ", ".join(str(key.index) for key in sorted(undone, key=lambda key: -key.index) if key.status == "done")
    then = f"what was done before was taken back (steps {back})" if back else "nothing was to be taken back"
    partial = "; a human spoke for the rest" if state.rollback == "partial" else ""
    return f"{_step(first)} failed: {_said(first)}; {then}{partial}."


def _codes(state: CommitState) -> str:
    return ", ".join(dict.fromkeys(str(reason["code"]) for reason in state.rejections[-1]["result"]["reasons"]))


def _step(key: KeyState) -> str:
    about = " ".join([key.step, ", ".join(key.targets[:3])]).strip()
    return f"{'the undo of step' if key.direction == 'undo' else 'step'} {key.index} ({about})"


def _said(key: KeyState) -> str:
    return ": ".join(part for part in (key.error_code or "", summary_of(key.result)) if part)


# --- who, and what ----------------------------------------------------------------------------------------------


def _proposed(known: Known | None) -> tuple[str, ...]:
    if known is None:
        return ("Unknown: the ledger has commit records of it only.",)
    if known.body is None:
        return tuple(problem.message for problem in known.problems) or ("The debate has not landed yet.",)
    role = f" ({known.proposer_role})" if known.proposer_role else ""
    how = "by debate" if known.source == "debate" else "to a panel"
    lines = [f"{known.body['proposer']}{role}, {how}, {known.body['created_at']}"]
    return (*lines, *(problem.message for problem in known.problems))


def _approved(known: Known | None) -> tuple[str, ...]:
    if known is None or known.body is None:
        return ("The ballots are not there (any more).",) if known is None or known.problems else ("Nobody yet.",)
    decision = known.body["decision"]
    lines = [f"{decision['result']} under {decision['rule']}, decided by {decision['decided_by']}"]
    for vote in known.body["votes"][:_LISTED_MAX]:
        notes = f": {vote['notes']}" if vote["notes"] else ""
        lines.append(f"{vote['agent']} ({vote['role']}, weight {vote['weight']}): {vote['decision']}{notes}"[:300])
    more = len(known.body["votes"]) - _LISTED_MAX
    return (*lines, *([f"and {more} more"] if more > 0 else []))


def _executed(commits: Sequence[_Commit]) -> tuple[str, ...]:
    lines = []
    for one in commits:
        by = ", ".join(dict.fromkeys(str(record.payload.get("by")) for record in one.requests)) or "a worker"
        for term in _terms(one):
            lines.append(f"scope {one.scope}: {one.nodes.get(term, '?')}, as the elected submitter of term {term}")
        humans = [r for r in one.records if r.kind == "resolved"]
        lines += [
            f"{r.payload['agent_id']} settled step {r.payload['step_index']}: {r.payload.get('note')}" for r in humans
        ]
        lines.append(f"asked for by {by}")
    return tuple(lines) or ("Nobody: it was not committed.",)


def _terms(one: _Commit) -> list[int]:
    return list(dict.fromkeys(int(record.payload["term"]) for record in one.records))


def _happened(commits: Sequence[_Commit]) -> tuple[str, ...]:
    lines = []
    for one in commits:
        lines.append(
            f"scope {one.scope}: {one.state.status}"
            + (f", rollback {one.state.rollback}" if one.state.rollback else "")
        )
        for key in sorted(one.state.keys.values(), key=lambda key: (key.direction, key.index)):
            tries = f" after {key.attempt} attempts" if key.attempt > 1 else ""
            said = f": {_said(key)}" if _said(key) else ""
            by = f", said by {key.resolved_by}" if key.resolved_by else ""
            lines.append(f"{_step(key)}: {key.status}{tries}{by}{said}, key {key.key[:16]}")
        if one.state.status == "rejected":
            lines += [str(reason["message"]) for reason in one.state.rejections[-1]["result"]["reasons"]]
    return tuple(lines) or ("Nothing: no step was begun.",)


def _refused_files(ledger: Ledger, name: str) -> Iterator[str]:
    """Files that somebody gave for it, and that are not what the ledger knows."""
    for stream in ledger.streams():
        if stream.startswith(REQUESTS):
            for record in ledger.read(stream, pruned="skip"):
                if record.kind == "refused" and record.payload.get("proposal_id") == name:
                    told = tell(record)
                    yield f"{told.who} {told.what}: {told.result}"


def _duplicates(commits: Sequence[_Commit], bound: str) -> tuple[str, ...]:
    lines = [f"the proposal belongs to scope {bound}; no other commits it"] if bound else []
    admitted = [one.scope for one in commits if one.state.admitted]
    if len(admitted) > 1:
        lines = [
            f"Yes, two of each step: scopes {', '.join(admitted)} have all admitted it, each under keys of its own"
            f"{f'; it belongs to {bound}' if bound else ''}. What it does may have happened once in each."
        ]
    for one in commits:
        terminal = Counter(
            str(record.payload["idempotency_key"])
            for record in one.records
            if record.kind.endswith("outcome")
            or (record.kind == "resolved" and record.payload["result"]["as"] != "retry")
        )
        twice = [key[:16] for key, count in terminal.items() if count > 1]
        if twice:
            lines.append(
                f"Yes, in scope {one.scope}: {', '.join(twice)}. The ledger refuses that; run `madflow ledger verify`."
            )
        asked = sum(record.kind == "commit" for record in one.requests)
        if asked > 1:
            lines.append(f"scope {one.scope}: it was asked for {asked} times, and carried out once")
        retried = [key for key in one.state.keys.values() if key.attempt > 1]
        lines += [f"{_step(key)}: {key.attempt} attempts under one key" for key in retried]
    if not any(line.startswith("Yes") for line in lines):
        lines.insert(0, "No: one outcome at most under each key.")
    return tuple(lines)


def _conflicts(commits: Sequence[_Commit]) -> tuple[str, ...]:
    lines = []
    for one in commits:
        terms, order = _terms(one), [int(record.payload["term"]) for record in one.records]
        if order != sorted(order):
            lines.append(
                f"Yes, in scope {one.scope}: records of terms {terms} interleave; run `madflow ledger verify`."
            )
        elif len(terms) > 1:
            nodes = ", then ".join(f"{one.nodes.get(term, '?')} (term {term})" for term in terms)
            lines.append(f"scope {one.scope}: one after the other: {nodes}; who was deposed could append nothing more")
        lost = [r for r in one.records if r.payload.get("error_code") == "submitter_lost"]
        lines += [
            f"step {r.payload['step_index']}: attempt {r.payload['attempt']} was lost with its submitter" for r in lost
        ]
    if not any(line.startswith("Yes") for line in lines):
        lines.insert(0, "No: no two of them wrote at the same time.")
    return tuple(lines)


def _commands(name: str, known: Known | None, commits: Sequence[_Commit]) -> tuple[str, ...]:
    found = []
    for one in commits:
        for key in one.state.doubts:
            found.append(f"madflow resolve {key.key[:16]} --as done|failed|retry --by NAME")
        if one.state.admitted and not one.state.closed and not one.state.doubts:
            found.append("madflow recover")
        if one.state.status == "rejected" and not any(other.state.admitted for other in commits):
            found.append(f"madflow commit {name}")
    if not commits and known is not None and known.body is not None and not known.open:
        result = known.body["decision"]["result"]
        if result == "approved" and known.body["plan"]:
            found.append(f"madflow commit {name}")
        elif result in ("rejected", "no_decision"):
            found.append(f"madflow resolve-conflict {name}")
    return tuple(dict.fromkeys(found))
