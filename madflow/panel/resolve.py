"""What can be done about a proposal that is undecided or was rejected, and the record of what was done.

A proposal of a panel has its own stream for that. A debate's stream is closed once it landed; what becomes of its
proposal afterwards is kept in `mediation/<proposal_id>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..clock import SystemClock
from ..core.panel import DEBATES_PROPOSAL, stream_name
from ..core.panel_advice import Advice, Objection, advise
from ..core.rules import decide, parse_rule
from ..errors import ConfigError, LedgerConflict, UnknownProposal
from ..ports import Clock, Event, Ledger, Record
from .api import TRIES_MAX, read_panel, supersede
from .history import debate_objections

__all__ = ["Conflict", "find_conflict", "mediable", "record_recommendation", "replace_with"]

_RECOMMENDATIONS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Conflict:
    """A proposal whose vote came to nothing, or has not come to anything yet.

    Attributes:
        source: "panel" or "debate". body: the proposal as it stands. is_open: whether its vote is.
        stands: what the rule says of the ballots as they are, counting those that are outstanding as missing.
        superseded_by: the proposal that took its place already, or "".
    """

    proposal_id: str
    source: str
    body: Mapping[str, Any]
    is_open: bool
    stands: str
    objections: tuple[Objection, ...]
    advice: Advice
    superseded_by: str


def find_conflict(ledger: Ledger, proposal_id: str, *, clock: Clock | None = None) -> Conflict:
    """The conflict over one proposal.

    Raises:
        UnknownProposal: the ledger has none of this id, or its debate has not landed.
        ConfigError: it is approved, or was no vote on a plan: there is no conflict that could be resolved here.
    """
    now_ms = (clock or SystemClock()).now_ms()
    debate = DEBATES_PROPOSAL.sub("", proposal_id)
    records = ledger.read(f"debate/{debate}") if debate != proposal_id else []
    if records:
        body, is_open = _landed(records, proposal_id), False
        stands, objections = str(body["decision"]["result"]), debate_objections(records)
        taken = [str(r.payload["by"]) for r in ledger.read(_mediation(proposal_id)) if r.kind == "superseded"]
        source, by = "debate", taken[0] if taken else ""
    else:
        state = read_panel(ledger, proposal_id)
        body, is_open, by = state.body(now_ms), state.open(now_ms), state.superseded_by
        stands = decide(state.rule, state.box, quorum=state.quorum).result
        source, objections = "panel", ()
    if body["decision"]["result"] == "approved":
        raise ConfigError(f"proposal {proposal_id!r} is approved: there is no conflict to resolve")
    if body["protocol"] != "proposal" or not body["plan"]:
        raise ConfigError(
            f"proposal {proposal_id!r} is no vote on a plan (protocol {body['protocol']}, {len(body['plan'])} steps): "
            "there is nothing to modify; debate the question again"
        )
    return Conflict(
        proposal_id, source, body, is_open, stands, objections, advise(body, objections, is_open=is_open), by
    )


def mediable(conflict: Conflict) -> str:
    """Why a mediator cannot be asked about this, or "" if one can."""
    rule = parse_rule(str(conflict.body["rule"]))
    if rule.needs_judge:
        return f"the rule {rule} leaves the choice to a judge"
    if conflict.stands == "approved":
        return "as the ballots stand it will be approved when it expires: let the vote end"
    if conflict.stands == "quorum_failed":
        return "too few seats have cast a valid ballot for a quorum: there are no two sides yet"
    return ""


async def record_recommendation(ledger: Ledger, conflict: Conflict, recommendation: Mapping[str, Any]) -> int | None:
    """Record a recommendation; its seq, or None where the same one, or a hundred others, are on record already."""
    stream = stream_name(conflict.proposal_id) if conflict.source == "panel" else _mediation(conflict.proposal_id)
    for _ in range(TRIES_MAX):
        records = ledger.read(stream)
        told = [record.payload for record in records if record.kind == "recommended"]
        if len(told) >= _RECOMMENDATIONS_MAX or (told and dict(told[-1]) == dict(recommendation)):
            return None
        event = Event("recommended", recommendation)
        try:
            return (await ledger.record(stream, [event], after=records[-1].place if records else 0))[0].seq
        except LedgerConflict:
            continue
    raise LedgerConflict(f"proposal {conflict.proposal_id!r}: {TRIES_MAX} others wrote first, each time; try again")


async def replace_with(ledger: Ledger, conflict: Conflict, by: str, *, clock: Clock | None = None) -> str:
    """Record that proposal `by` takes this one's place; the id of the one that has, which may be an earlier one."""
    if conflict.source == "panel":
        return await supersede(ledger, conflict.proposal_id, by, clock=clock)
    stream = _mediation(conflict.proposal_id)
    for _ in range(TRIES_MAX):
        records = ledger.read(stream)
        taken = [str(record.payload["by"]) for record in records if record.kind == "superseded"]
        if taken:
            return taken[0]
        try:
            await ledger.record(stream, [Event("superseded", {"by": by})], after=records[-1].place if records else 0)
        except LedgerConflict:
            continue
        return by
    raise LedgerConflict(f"proposal {conflict.proposal_id!r}: {TRIES_MAX} others wrote first, each time; try again")


def _mediation(proposal_id: str) -> str:
    return f"mediation/{proposal_id}"


def _landed(records: list[Record], proposal_id: str) -> Mapping[str, Any]:
    body: Mapping[str, Any] | None = next((r.payload["proposal"] for r in records if r.kind == "landed"), None)
    if body is None:
        raise UnknownProposal(f"the debate of {proposal_id!r} has not landed; run it again with its --id")
    if body["proposal_id"] != proposal_id:
        raise UnknownProposal(f"that debate landed with {body['proposal_id']!r}, not {proposal_id!r}; name that one")
    return body
