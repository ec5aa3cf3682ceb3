"""What the ledger knows of a proposal, folded from its events.

A debate's proposal is decided again from its recorded answers, by the same fold that ran the debate; what was stored
when it landed is only compared with. A panel's proposal is folded from its ballots. Nothing here asks a model, and
nothing here decides: that is the gate's (`core.gate`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ValidationError

from ..core.config import Config
from ..core.debate import TABLE, apply, land
from ..core.gate import Known, Reason
from ..core.panel import DEBATES_PROPOSAL, panel_state
from ..core.panel import stream_name as panel_stream
from ..core.state import State
from ..errors import ConfigError, LedgerCorrupt, LedgerError
from ..ports import Ledger, Record
from .streams import DEBATES, PANELS

__all__ = ["Listed", "known_proposal", "list_known"]

_DEBATE_EVENTS: Final = frozenset(kind for _, kind in TABLE)
_CALL_EVENTS: Final = frozenset({"reserved", "settled", "note"})  # the budget's, not the decision's
_VERSION: Final = re.compile(r"(?P<debate>.+)-p(?P<number>[1-9][0-9]{0,8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Listed:
    """A proposal that the ledger names. `seq`: of the record that does, to go on from."""

    seq: int
    proposal_id: str
    source: Literal["debate", "panel"]


def known_proposal(ledger: Ledger, proposal_id: str, *, now_ms: int) -> Known | None:
    """What the ledger knows of `proposal_id`; None where it knows nothing of that name.

    A proposal of a debate that has a later version comes back as that later one. One whose records were pruned comes
    back without a body, and with that problem.

    Args:
        now_ms: wall clock, milliseconds since the epoch: whether a panel's vote has expired; nothing else.

    Raises:
        LedgerCorrupt: its records cannot be folded; names the stream and the record.
    """
    if DEBATES_PROPOSAL.search(proposal_id):
        version = _VERSION.fullmatch(proposal_id)
        return _of_debate(ledger, version["debate"], int(version["number"])) if version else None
    records = _read(ledger, panel_stream(proposal_id))
    if records is None:
        return _pruned(proposal_id, "panel")
    return _of_panel(records, now_ms) if records else None


def list_known(ledger: Ledger, from_seq: int = 1) -> Iterator[Listed]:
    """Proposals by the record that names them, from `from_seq` on: debates that landed, and plans put to a panel.

    One pass over the ledger, nothing is folded; whether a proposal may be committed is not known by that.
    """
    for record in ledger.scan(from_seq, pruned="skip"):
        if record.kind == "landed" and record.stream.startswith(DEBATES):
            yield Listed(record.seq, str(record.payload["proposal"]["proposal_id"]), "debate")
        elif record.kind == "proposed" and record.stream.startswith(PANELS):
            yield Listed(record.seq, record.stream.removeprefix(PANELS), "panel")


def _read(ledger: Ledger, stream: str) -> list[Record] | None:
    """The stream's records; None where some of them are pruned."""
    try:
        return ledger.read(stream)
    except LedgerCorrupt:
        raise
    except LedgerError:
        ledger.read(stream, pruned="skip")  # raises again where anything else is wrong
        return None


def _pruned(proposal_id: str, source: str) -> Known:
    why = f"the records of {proposal_id[:120]!r} were pruned: nobody can count its ballots any more; decide it anew"
    return Known(proposal_id, None, None, "", 0, 0, source, problems=(Reason("pruned", why),))


# --- debates ----------------------------------------------------------------------------------------------------


def _of_debate(ledger: Ledger, debate_id: str, version: int) -> Known | None:
    records, asked = _read(ledger, f"{DEBATES}{debate_id}"), f"{debate_id}-p{version}"
    if records is None:
        return _pruned(asked, "debate")
    if not records:
        return None
    before, landed = _fold(records, debate_id)
    created_ms, max_age_ms = before.opened_ms, before.config.max_age_s * 1000
    if landed is None:
        return Known(asked, None, None, "", created_ms, created_ms + max_age_ms, "debate", open=True)
    body = _landed_again(before, debate_id)
    newest = _VERSION.fullmatch(str(body["proposal_id"]))
    if newest is None or version > int(newest["number"]):
        return None
    problems = _differs(body, landed, debate_id)
    role = next((seat.role for seat in before.config.seats if seat.agent == body["proposer"]), "")
    return Known(
        proposal_id=str(body["proposal_id"]),
        body=body,
        stored_digest=str(landed.get("digest")),
        proposer_role=role,
        created_ms=created_ms,
        expires_ms=created_ms + max_age_ms,
        source="debate",
        problems=problems,
    )


def _fold(records: Sequence[Record], debate_id: str) -> tuple[State, Mapping[str, Any] | None]:
    """The state that landed (or where the debate stands), and the proposal that was stored when it did."""
    first = records[0]
    if first.kind != "opened":
        raise LedgerCorrupt(f"debate {debate_id!r} does not begin with its opening (found {first.kind!r})")
    place = first.seq
    try:
        state = State(Config.model_validate(first.payload["config"]))
        for record in records:
            place = record.seq
            if record.kind == "landed":
                return state, record.payload["proposal"]
            if record.kind in _DEBATE_EVENTS:
                state = apply(state, record.kind, record.payload, record.at_ms)
            elif record.kind not in _CALL_EVENTS:
                raise LedgerCorrupt(f"debate {debate_id!r}: unknown record kind {record.kind!r} at seq {place}")
    except (ConfigError, ValidationError, KeyError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {str(error)[:300]}"
        raise LedgerCorrupt(f"debate {debate_id!r}: the record at seq {place} cannot be folded: {why}") from error
    return state, None


def _landed_again(before: State, debate_id: str) -> dict[str, Any]:
    if before.phase != "ready":
        raise LedgerCorrupt(f"debate {debate_id!r} landed while it was {before.phase!r}, before it had ended")
    return land(before)


def _differs(body: Mapping[str, Any], landed: Mapping[str, Any], debate_id: str) -> tuple[Reason, ...]:
    if body == landed:
        return ()
    names = ", ".join(sorted(name for name in {*body, *landed} if body.get(name) != landed.get(name)))
    return (
        Reason(
            "ledger_differs",
            f"debate {debate_id!r}: its recorded answers give another proposal than the one that is recorded as landed "
            f"(in {names[:200]}); run `madflow ledger verify`",
        ),
    )


# --- panels -----------------------------------------------------------------------------------------------------


def _of_panel(records: Sequence[Record], now_ms: int) -> Known:
    state = panel_state(records)
    body = state.body(now_ms)
    roles = {member["agent"]: member["role"] for member in body["panel"]}
    problems: tuple[Reason, ...] = ()
    if state.superseded_by:
        why = f"{state.proposal_id!r} was superseded by {state.superseded_by[:120]!r}; commit that one"
        problems = (Reason("superseded", why),)
    return Known(
        proposal_id=state.proposal_id,
        body=body,
        stored_digest=None,
        proposer_role=str(roles.get(body["proposer"], "")),
        created_ms=state.created_ms,
        expires_ms=state.expires_ms,
        source="panel",
        open=state.open(now_ms),
        problems=problems,
    )
