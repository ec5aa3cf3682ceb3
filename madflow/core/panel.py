"""A plan put to a named panel: people, scripts and agents outside of any debate, who vote one by one.

    proposed ──▶ open ──ballot──▶ open
                  │  └──ballot that decides──▶ decided
                  ├──any record from `expires_at` on──▶ expired
                  └──superseded──▶ superseded

One stream holds one proposal: `proposed` first, with the whole subject, then ballots and what else became of it.

- A ballot names the subject's digest. One ballot a seat, never changed: the first one counts.
- Voting ends when no completion of the outstanding ballots could change the result (`rules.unassailable`), when the
  proposal expires, or when another one takes its place. The first of these stands. A vote that was superseded before
  it was decided decides nothing, whatever its ballots say.
- Time is the time of the *records*, never the reader's: the first record stamped at or after the expiry ends the vote,
  whatever it is. So the same records, and whether the proposal has expired, give the same bytes. (`closed` is that
  record where nobody votes any more: whoever first notices the expiry writes it.)
- A ballot that is refused stays on record with its cause: "not_a_member", "wrong_subject", "duplicate", "late". It is
  written as `refused` by whoever refuses it, and a `ballot` that should not have been taken is refused here again.

While voting is open the result is `no_decision`, with `stop_reason` "human": it waits for its people. Afterwards the
stop reason is `converged` (every seat voted and it is decided), `unassailable` (decided with ballots outstanding),
`deadlock` (every seat voted, nothing is decided), `quorum_lost`, `timeout` or `cancelled` (superseded).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol, TypeAlias

from ..errors import ConfigError, LedgerCorrupt
from .ballots import BallotBox
from .proposal import Proposal, seal, subject_digest
from .quorum import quorum
from .rules import Outcome, Rule, decide, parse_rule, unassailable

__all__ = [
    "DEBATES_PROPOSAL",
    "DECISIONS",
    "EVENTS",
    "NOTES_CHARS_MAX",
    "SEATS_MAX",
    "End",
    "PanelRecord",
    "PanelState",
    "RefusedBallot",
    "apply_record",
    "at_ms",
    "panel_state",
    "refusal",
    "stream_name",
]

SEATS_MAX: Final = 64
NOTES_CHARS_MAX: Final = 2_000
DECISIONS: Final = ("approve", "reject", "abstain")
EVENTS: Final = ("proposed", "ballot", "refused", "closed", "superseded", "recommended")
DEBATES_PROPOSAL: Final = re.compile(r"-p[0-9]+$", re.ASCII)
"""How the id of a debate's proposal ends (DEBATE-p1): no panel's proposal may take such a name."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OPTIONS: Final = ("approve", "reject")
_REFUSED_KEPT: Final = 1_000
_CLOSED_AS: Final[Mapping[str, str]] = {"decided": "unassailable", "expired": "timeout", "superseded": "cancelled"}

EndKind: TypeAlias = Literal["decided", "expired", "superseded"]


class PanelRecord(Protocol):
    """The part of a ledger's record that the fold reads. `at_ms`: wall clock when it was written."""

    @property
    def seq(self) -> int: ...
    @property
    def stream(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...
    @property
    def at_ms(self) -> int: ...


@dataclass(frozen=True, slots=True)
class End:
    """How and when voting ended, milliseconds since the epoch; an expiry ends it at `expires_ms`."""

    kind: EndKind
    at_ms: int


@dataclass(frozen=True, slots=True)
class RefusedBallot:
    """A ballot that was not taken, and why."""

    agent: str
    cause: str
    decision: str
    notes: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class PanelState:
    """One proposal and its vote, as the records tell it.

    Attributes:
        subject: every field that is voted on, and `subject_digest`.
        box: the ballots; closed once `end` is there. quorum: valid weight needed.
        created_ms, expires_ms: from the proposal, milliseconds since the epoch.
        end: how voting ended by the records alone; what the clock says besides, `ended` tells.
        voted: (agent, at_ms) of each ballot that was taken, in their order.
        refused: ballots that were not, in their order, the first 1,000.
        superseded_by: the id of the proposal that took this one's place, "" while none has.
        recommendations: what `resolve-conflict` recorded, oldest first.
    """

    subject: Mapping[str, Any]
    rule: Rule
    quorum: int
    box: BallotBox
    created_ms: int
    expires_ms: int
    end: End | None = None
    voted: tuple[tuple[str, int], ...] = ()
    refused: tuple[RefusedBallot, ...] = ()
    superseded_by: str = ""
    recommendations: tuple[Mapping[str, Any], ...] = ()

    @property
    def proposal_id(self) -> str:
        return str(self.subject["proposal_id"])

    def ended(self, now_ms: int) -> End | None:
        """How voting ended, if it has at `now_ms`."""
        return self.end or (End("expired", self.expires_ms) if now_ms >= self.expires_ms else None)

    def open(self, now_ms: int) -> bool:
        """Whether a ballot may still be cast at `now_ms`."""
        return self.ended(now_ms) is None

    def closed_at(self, now_ms: int) -> int | None:
        """When voting ended, milliseconds since the epoch; None while it is open at `now_ms`."""
        end = self.ended(now_ms)
        return end.at_ms if end else None

    def outcome(self, now_ms: int) -> Outcome:
        """What the rule says, at `now_ms`: no decision while voting is open, nor where it was superseded before."""
        end = self.ended(now_ms)
        outcome = decide(self.rule, self.box, quorum=self.quorum)
        if end is None or end.kind == "superseded":
            return replace(outcome, result="no_decision", winner=None, met=False)
        return outcome

    def body(self, now_ms: int) -> dict[str, Any]:
        """The whole proposal as it stands at `now_ms`, both digests filled in; valid against `core.proposal.Proposal`.

        `now_ms` only says whether the proposal has expired: nothing else of it gets into the bytes.
        """
        end = self.ended(now_ms)
        box = self.box.close(_CLOSED_AS[end.kind]) if end else self.box
        return seal(self.subject, self._votes(box), self._decision(box, end, self.outcome(now_ms)))

    def _votes(self, box: BallotBox) -> list[dict[str, Any]]:
        roles = {str(member["agent"]): str(member["role"]) for member in self.subject["panel"]}
        return [
            {
                "agent": entry.agent,
                "role": roles[entry.agent],
                "decision": entry.choices[0] if entry.status == "valid" else entry.status,
                "notes": entry.notes if entry.status in ("valid", "abstain") else entry.cause,
                "confidence": entry.confidence,
                "round": self._rounds,
                "weight": entry.weight,
            }
            for entry in box.seats
        ]

    @property
    def _rounds(self) -> int:
        return int(bool(self.voted))

    def _decision(self, box: BallotBox, end: End | None, outcome: Outcome) -> dict[str, Any]:
        tally = box.tally()
        names = ("eligible", "valid", "abstain", "invalid", "missing")
        counts = {name: getattr(tally, name) for name in names}
        weights = {f"{name}_weight": getattr(tally, f"{name}_weight") for name in names}
        reason, numbers = self._stop(box, end, outcome)
        stood = "reject" if outcome.result == "rejected" else outcome.winner
        return {
            "rule": self.subject["rule"],
            "threshold": outcome.threshold,
            "quorum": self.quorum,
            "tie": "none",
            "result": outcome.result,
            "choice": outcome.winner,
            "tally": {**counts, **weights, "scores": dict(sorted(outcome.scores.items()))},
            "stop_reason": reason,
            "stop_numbers": numbers,
            "rounds": self._rounds,
            "decided_by": "ballots",
            "dissent": [
                {"agent": entry.agent, "choice": entry.choices[0], "notes": entry.notes}
                for entry in box.seats
                if end and entry.status == "valid" and entry.choices[0] != stood
            ],
            "mediation": None,
        }

    def _stop(self, box: BallotBox, end: End | None, outcome: Outcome) -> tuple[str, dict[str, int | str]]:
        """The stop reason, and the numbers behind it: weights by ballot, and seats that are outstanding."""
        outstanding = len(box.seats) - len(self.voted)
        tally = box.tally()
        numbers: dict[str, int | str] = {
            "approve": tally.first["approve"],
            "reject": tally.first["reject"],
            "eligible": tally.eligible_weight,
            "outstanding": outstanding,
        }
        if end is None:
            return "human", numbers
        if end.kind == "superseded":
            return "cancelled", {**numbers, "superseded_by": self.superseded_by}
        if end.kind == "expired":
            return "timeout", {**numbers, "expires_at": str(self.subject["expires_at"])}
        if outcome.result == "quorum_failed":
            return "quorum_lost", {**numbers, "valid": tally.valid_weight, "quorum": self.quorum}
        if outstanding:
            return "unassailable", numbers
        return ("deadlock" if outcome.result == "no_decision" else "converged"), numbers


def at_ms(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 timestamp with an offset. Raises ValueError for anything else."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError(f"the timestamp {text[:60]!r} has no offset; write e.g. 2026-01-31T12:00:00.000Z")
    return (when - _EPOCH) // timedelta(milliseconds=1)


def stream_name(proposal_id: str) -> str:
    """The ledger stream of a proposal that was put to a panel."""
    return f"proposal/{proposal_id}"


def panel_state(records: Iterable[PanelRecord]) -> PanelState:
    """Fold one proposal's stream.

    Raises:
        LedgerCorrupt: it does not begin with a usable `proposed`, or holds a record that does not belong there.
    """
    state: PanelState | None = None
    for record in records:
        state = _proposed(record) if state is None else apply_record(state, record)
    if state is None:
        raise LedgerCorrupt("the stream of a proposal is empty: it has no record that proposes anything")
    return state


def apply_record(state: PanelState, record: PanelRecord) -> PanelState:
    """The state after one more record behind `proposed`. Raises LedgerCorrupt for a kind that does not belong there."""
    if record.kind not in EVENTS or record.kind == "proposed":
        raise LedgerCorrupt(f"{record.stream}: unknown record kind {record.kind!r} at seq {record.seq}")
    if state.end is None and record.at_ms >= state.expires_ms:
        state = _closed(state, End("expired", state.expires_ms))
    if record.kind == "ballot":
        return _ballot(state, record)
    if record.kind == "refused":
        return _refuse(state, record, str(record.payload.get("cause", "")))
    if record.kind == "superseded":
        by = state.superseded_by or str(record.payload.get("by", ""))
        state = replace(state, superseded_by=by)
        return _closed(state, End("superseded", record.at_ms)) if state.end is None else state
    if record.kind == "recommended":
        return replace(state, recommendations=(*state.recommendations, record.payload))
    return state


def refusal(state: PanelState, agent: str, of_subject: str, at_ms: int) -> str:
    """Why a ballot of `agent` on the subject of this digest cannot be taken at `at_ms`; "" if it can."""
    entry = state.box.entries.get(agent)
    if entry is None:
        return "not_a_member"
    if of_subject != state.box.subject:
        return "wrong_subject"
    if any(agent == voter for voter, _ in state.voted):
        return "duplicate"
    return "" if state.open(at_ms) else "late"


def _proposed(record: PanelRecord) -> PanelState:
    """The state of a proposal that was just made. Nothing stored about it is trusted: its digest, its quorum and the
    shape of its subject are computed again."""
    where = f"{record.stream}, seq {record.seq}"
    if record.kind != "proposed":
        raise LedgerCorrupt(f"{where}: a proposal does not begin with {record.kind!r}")
    try:
        subject = {**record.payload["subject"]}
        subject["subject_digest"] = subject_digest(subject)
        electorate = {str(member["agent"]): member["weight"] for member in subject["panel"]}
        state = PanelState(
            subject=subject,
            rule=parse_rule(subject["rule"]),
            quorum=quorum(sum(electorate.values())),
            box=BallotBox.open(subject["subject_digest"], _OPTIONS, electorate),
            created_ms=at_ms(subject["created_at"]),
            expires_ms=at_ms(subject["expires_at"]),
        )
        written = Proposal.model_validate(state.body(0)).to_json()
    except (KeyError, TypeError, ValueError, ConfigError) as error:  # pydantic's ValidationError is a ValueError
        raise LedgerCorrupt(f"{where}: this is no proposal ({type(error).__name__}: {str(error)[:200]})") from error
    if subject_digest(written) != subject["subject_digest"]:
        raise LedgerCorrupt(f"{where}: the proposal is not written out: its file would have another digest")
    if problem := _misfit(record.stream, state):
        raise LedgerCorrupt(f"{where}: {problem}")
    return state


def _misfit(stream: str, state: PanelState) -> str:
    """What a well-formed proposal says that no panel's proposal may say; empty if nothing."""
    name, seats = state.proposal_id, state.subject["panel"]
    checks = (
        (stream == stream_name(name), f"the proposal calls itself {name[:100]!r}"),
        (not DEBATES_PROPOSAL.search(name), f"{name[:100]!r} is the id of a debate's proposal"),
        (state.subject["protocol"] == "proposal", "a panel votes on a plan, by the protocol proposal"),
        (0 < len(state.box.seats) == len(seats) <= SEATS_MAX, f"a panel has 1 to {SEATS_MAX} seats, each named once"),
        (not state.rule.needs_judge, "a panel has no judge to decide"),
    )
    return next((problem for holds, problem in checks if not holds), "")


def _ballot(state: PanelState, record: PanelRecord) -> PanelState:
    payload = record.payload
    agent, decision = str(payload.get("agent", "")), str(payload.get("decision", ""))
    cause = refusal(state, agent, str(payload.get("subject_digest", "")), record.at_ms)
    if cause:
        return _refuse(state, record, cause)
    notes = str(payload.get("notes") or "")[:NOTES_CHARS_MAX]
    if decision == "abstain":
        box = state.box.abstain(agent, notes)
    else:
        sure: Any = payload.get("confidence")
        sure = str(sure) if isinstance(sure, bool) else sure  # a bool is an int to Python, but no confidence
        box, _ = state.box.cast(agent, (decision,), subject=state.box.subject, notes=notes, confidence=sure)
    state = replace(state, box=box, voted=(*state.voted, (agent, record.at_ms)))
    if unassailable(state.rule, box, quorum=state.quorum):
        return _closed(state, End("decided", record.at_ms))
    return state


def _closed(state: PanelState, end: End) -> PanelState:
    return replace(state, end=end, box=state.box.close(_CLOSED_AS[end.kind]))


def _refuse(state: PanelState, record: PanelRecord, cause: str) -> PanelState:
    if len(state.refused) >= _REFUSED_KEPT:
        return state
    payload = record.payload
    texts = (str(payload.get(key) or "") for key in ("agent", "decision", "notes"))
    agent, decision, notes = (text[:NOTES_CHARS_MAX] for text in texts)
    return replace(state, refused=(*state.refused, RefusedBallot(agent, cause[:80], decision, notes, record.at_ms)))
