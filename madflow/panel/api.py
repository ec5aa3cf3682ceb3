"""Putting a plan to a panel, voting on it, and looking where it stands: `core.panel` over a ledger.

Every write names the place it follows (`record(after=…)`), and is decided again from the stream when somebody else was
faster: two who vote at once both count, and nobody votes on a state that is no longer there. The tries are bounded.

Who votes is whoever says so: `agent` is a name, not a proof. What keeps a stranger out is who may write to the ledger,
and what an approval may do is the policy's word, not the panel's.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from ..clock import SystemClock
from ..core.messages import Evidence
from ..core.panel import (
    DEBATES_PROPOSAL,
    DECISIONS,
    NOTES_CHARS_MAX,
    PanelState,
    apply_record,
    panel_state,
    refusal,
    stream_name,
)
from ..core.panel_request import (
    PlanFile,
    check_agent,
    check_proposal_id,
    panel_subject,
    parse_panel,
    parse_plan_file,
)
from ..core.proposal import PanelMember, Proposal
from ..effects.freeze import freeze_plan
from ..effects.own import protected_paths
from ..errors import ConfigError, LedgerConflict, UnknownProposal
from ..ports import Clock, Event, Ledger, Record

__all__ = ["EXPIRES_S", "TRIES_MAX", "Recorded", "Refused", "check", "propose", "read_panel", "supersede", "vote"]

EXPIRES_S: Final = 86_400
TRIES_MAX: Final = 200
"""How often a write is decided again because somebody else was faster; each such time one of them got through."""
_REFUSALS_MAX: Final = 1_000
_PAUSE_S_MAX: Final = 0.02

Verify: TypeAlias = Callable[[tuple[Evidence, ...]], Sequence[Evidence]]
_Decide: TypeAlias = Callable[[PanelState], Event | None]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The ballot counts. `state`: where the vote stands with it; `seq`: its record in the ledger."""

    agent: str
    decision: str
    seq: int
    state: PanelState


@dataclass(frozen=True, slots=True)
class Refused:
    """The ballot does not count. `cause`: not_a_member, wrong_subject, duplicate or late; `why`: for people.

    `seq`: the record of the refusal; None where a thousand are on record already.
    """

    agent: str
    cause: str
    why: str
    seq: int | None
    state: PanelState


async def propose(
    ledger: Ledger,
    plan: PlanFile | Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    panel: str | Sequence[str] | Sequence[PanelMember],
    proposer: str,
    rule: str = "majority",
    expires_s: int = EXPIRES_S,
    root: Path | None = None,
    proposal_id: str = "",
    verify: Verify | None = None,
    supersedes: str = "",
    clock: Clock | None = None,
) -> str:
    """Put a plan to a panel, and return the proposal's id.

    Args:
        plan: the steps, or the data of a plan.json (see `core.panel_request.PlanFile`).
        panel: e.g. "ann,bob:2,ci@scripts".
        root: the tree the plan is pinned to: the files that it changes are voted on as they are now. Without a root
            nothing is pinned, and the gate will refuse to write.
        proposal_id: names the proposal; the same proposal under the same id is not made twice. Made up where empty.
        verify: checks the plan's evidence.

    Raises:
        PlanError, ConfigError: what cannot be used, before anything is recorded; an id that is taken by another plan.
        LedgerError: it could not be recorded.
    """
    clock = clock or SystemClock()
    if isinstance(plan, PlanFile):
        file = plan
    else:
        file = parse_plan_file(plan if isinstance(plan, Mapping) else {"plan": [dict(step) for step in plan]})
    if root is not None:
        own = protected_paths(root, ledger, None)
        file = file.model_copy(update={"plan": tuple(freeze_plan(list(file.plan), root, protected=own))})
    now_ms = clock.now_ms()
    claims = file.claims()
    subject = panel_subject(
        file,
        proposal_id=check_proposal_id(proposal_id) if proposal_id else f"p-{now_ms:x}-{secrets.token_hex(3)}",
        proposer=proposer,
        panel=_members(panel),
        rule=rule,
        evidence=tuple(verify(claims)) if verify and claims else claims,
        created_ms=now_ms,
        expires_s=expires_s,
        supersedes=supersedes,
    )
    name = str(subject["proposal_id"])
    try:
        await ledger.record(stream_name(name), [Event("proposed", {"subject": subject})], after=0)
    except LedgerConflict:
        _same(read_panel(ledger, name).subject, subject)
    return name


async def vote(
    ledger: Ledger,
    proposal_id: str,
    *,
    agent: str,
    decision: str,
    notes: str = "",
    confidence: float | None = None,
    subject_digest: str = "",
    clock: Clock | None = None,
) -> Recorded | Refused:
    """Cast a seat's one ballot. A ballot that is refused is recorded, too.

    Args:
        decision: approve, reject or abstain.
        notes: why, at most 2,000 characters. confidence: in [0, 1]; recorded, never counted.
        subject_digest: what the voter read; where it is given and differs, the ballot is refused. Where it is empty,
            the ballot is on what the ledger holds.

    Raises:
        ConfigError: a name, decision, note or confidence that cannot be one. UnknownProposal: nothing to vote on here.
        LedgerError: the ballot could not be recorded.
    """
    clock = clock or SystemClock()
    _check_ballot(agent, decision, notes, confidence)

    def ballot(state: PanelState) -> Event | None:
        of_subject = subject_digest or state.box.subject
        body = {
            "agent": agent,
            "decision": decision,
            "notes": notes,
            "confidence": confidence,
            "subject_digest": of_subject,
        }
        cause = refusal(state, agent, of_subject, clock.now_ms())
        if not cause:
            return Event("ballot", body)
        return Event("refused", {**body, "cause": cause}) if len(state.refused) < _REFUSALS_MAX else None

    state, record = await _write(ledger, proposal_id, ballot, clock)
    if record is not None and record.kind == "ballot":
        if (agent, record.at_ms) in state.voted:
            return Recorded(agent, decision, record.seq, state)
        cause = "late"  # the expiry came between the look and the write
    elif record is not None:
        cause = str(record.payload["cause"])
    else:
        cause = refusal(state, agent, subject_digest or state.box.subject, clock.now_ms()) or "late"
    return Refused(agent, cause, _why(state, agent, cause), record.seq if record else None, state)


async def check(ledger: Ledger, proposal_id: str, *, clock: Clock | None = None) -> Proposal:
    """The proposal as it stands. Whoever first notices that it has expired records that.

    Raises:
        UnknownProposal: no panel votes on this here. LedgerError: the expiry could not be recorded.
    """
    clock = clock or SystemClock()
    now_ms = clock.now_ms()
    state = read_panel(ledger, proposal_id)
    if state.end is None and not state.open(now_ms):
        expired: _Decide = lambda state: Event("closed", {"reason": "expired"}) if state.end is None else None  # noqa: E731
        state, _ = await _write(ledger, proposal_id, expired, clock)
    return Proposal.model_validate(state.body(now_ms))


async def supersede(ledger: Ledger, proposal_id: str, by: str, *, clock: Clock | None = None) -> str:
    """Let proposal `by` take the place of this one, which closes its vote; the id of the one that has taken it.

    The first one to take a place keeps it: the answer may be another id. Raises ConfigError where it is approved.
    """
    clock = clock or SystemClock()
    now_ms = clock.now_ms()

    def replaced(state: PanelState) -> Event | None:
        if state.outcome(now_ms).result == "approved":
            raise ConfigError(f"proposal {proposal_id!r} is approved: nothing takes its place; propose another plan")
        return None if state.superseded_by else Event("superseded", {"by": by})

    state, _ = await _write(ledger, proposal_id, replaced, clock)
    return state.superseded_by


def read_panel(ledger: Ledger, proposal_id: str) -> PanelState:
    """The vote on one proposal, from the ledger.

    Raises:
        UnknownProposal: the ledger knows none of this id, or it is the proposal of a debate, whose seats vote there.
        LedgerCorrupt: the stream is no proposal's.
    """
    return panel_state(_records(ledger, proposal_id))


def _records(ledger: Ledger, proposal_id: str) -> Sequence[Record]:
    records = ledger.read(stream_name(proposal_id))
    if records:
        return records
    debate = DEBATES_PROPOSAL.sub("", proposal_id)
    if debate != proposal_id and ledger.read(f"debate/{debate}"):
        raise UnknownProposal(
            f"{proposal_id!r} was voted on by the seats of debate {debate!r}, and that vote is closed; "
            "put its plan to a panel of your own with `madflow propose`"
        )
    known = [name.removeprefix("proposal/") for name in ledger.streams() if name.startswith("proposal/")]
    shown = ", ".join(known[-5:]) or "none"
    raise UnknownProposal(f"this ledger has no proposal {proposal_id[:100]!r}; the latest put to a panel: {shown}")


async def _write(ledger: Ledger, proposal_id: str, decide: _Decide, clock: Clock) -> tuple[PanelState, Record | None]:
    """Write what `decide` says of the vote as it stands, again if somebody else was faster; None writes nothing."""
    for tried in range(TRIES_MAX):
        records = _records(ledger, proposal_id)
        state = panel_state(records)
        event = decide(state)
        if event is None:
            return state, None
        try:
            written = await ledger.record(stream_name(proposal_id), [event], after=records[-1].place)
        except LedgerConflict:
            await clock.sleep(min(_PAUSE_S_MAX, 0.001 * tried))
            continue
        return apply_record(state, written[0]), written[0]
    raise LedgerConflict(
        f"proposal {proposal_id!r}: {TRIES_MAX} others wrote first, each time; nothing was recorded, try again"
    )


def _members(panel: str | Sequence[str] | Sequence[PanelMember]) -> tuple[PanelMember, ...]:
    if isinstance(panel, str):
        return parse_panel(panel)
    if all(isinstance(member, PanelMember) for member in panel):
        members = [member for member in panel if isinstance(member, PanelMember)]
        parse_panel([f"{member.agent}:{member.weight}" for member in members])
        return tuple(sorted(members, key=lambda member: member.agent))
    return parse_panel([str(member) for member in panel])


def _same(known: Mapping[str, Any], subject: Mapping[str, Any]) -> None:
    """Refuse another proposal under an id that is taken; when it was made and expires does not make it another."""
    dated = ("created_at", "expires_at", "subject_digest")
    differ = [name for name in subject if name not in dated and known.get(name) != subject[name]]
    if differ:
        raise ConfigError(
            f"proposal {str(subject['proposal_id'])!r} is there already, with another {', '.join(differ[:5])}; "
            "choose another id"
        )


def _check_ballot(agent: str, decision: str, notes: str, confidence: float | None) -> None:
    check_agent(agent)
    if decision not in DECISIONS:
        raise ConfigError(f"a ballot is one of {', '.join(DECISIONS)}, not {decision[:60]!r}")
    if len(notes) > NOTES_CHARS_MAX:
        raise ConfigError(f"the notes of a ballot have at most {NOTES_CHARS_MAX} characters, not {len(notes)}; shorten")
    if not notes.isascii() and notes.encode("utf-8", "replace").decode() != notes:
        raise ConfigError("the notes of a ballot hold a lone surrogate, which is not Unicode text; write them as UTF-8")
    if confidence is not None and not 0 <= confidence <= 1:
        raise ConfigError(f"a confidence lies between 0 and 1, not {confidence}")


def _why(state: PanelState, agent: str, cause: str) -> str:
    """The refusal of a ballot, for people."""
    name, seats = state.proposal_id, ", ".join(entry.agent for entry in state.box.seats)
    entry = state.box.entries.get(agent)
    if cause == "not_a_member":
        return f"{agent!r} has no seat in the panel of {name!r}; its seats: {seats[:500]}"
    if cause == "wrong_subject":
        return f"the ballot is on another text than {name!r}, whose subject_digest is {state.box.subject}"
    if cause == "duplicate" and entry is not None:
        said = entry.choices[0] if entry.choices else entry.status
        return f"{agent!r} has voted on {name!r} already ({said}); a ballot is never changed"
    ends = {"decided": "it is decided", "superseded": f"{state.superseded_by!r} has taken its place"}
    why = ends.get(state.end.kind if state.end else "", f"it expired at {state.subject['expires_at']}")
    return f"the vote on {name!r} is closed: {why}"
