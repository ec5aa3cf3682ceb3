"""`madflow vote`."""

from __future__ import annotations

import asyncio

import click

from .exits import DONE, UNDECIDED
from .options import check_root, ledger_option, ledger_path, open_for_reading, open_for_writing
from .output import note, print_text
from .text import json_text

__all__ = ["command"]


@click.command("vote")
@click.argument("proposal_id", metavar="ID")
@click.option("--agent", required=True, metavar="NAME", help="The seat that votes.")
@click.option("--decision", required=True, metavar="CHOICE", help="approve, reject or abstain.")
@click.option("--notes", metavar="TEXT", default="", help="Why.")
@click.option("--confidence", type=float, default=None, metavar="0…1", help="How sure; recorded, never counted.")
@click.option("--digest", metavar="HEX", default="", help="The subject_digest that was read: no other is voted on.")
@ledger_option
@click.option("--json", "as_json", is_flag=True, help="Print what became of the ballot as JSON on stdout.")
def command(
    proposal_id: str,
    *,
    agent: str,
    decision: str,
    notes: str,
    confidence: float | None,
    digest: str,
    root: str,
    ledger: str,
    as_json: bool,
) -> int:
    """Cast one seat's ballot on the proposal ID. A seat has one ballot; it is never changed.

    A ballot that is refused (late, twice, by a stranger, on another text) is recorded as such, and exits with 3.
    """
    from ..clock import SystemClock
    from ..core.proposal import Proposal
    from ..panel.api import Recorded, read_panel, vote
    from .check import standing

    path = ledger_path(ledger, check_root(root))
    reading = open_for_reading(path)
    try:
        read_panel(reading, proposal_id)  # a ledger is not made, nor opened for writing, for a vote on nothing
    finally:
        reading.close()
    opened = open_for_writing(path)
    try:
        said = asyncio.run(
            vote(
                opened,
                proposal_id,
                agent=agent,
                decision=decision,
                notes=notes,
                confidence=confidence,
                subject_digest=digest,
            )
        )
    finally:
        opened.close()
    now_ms = SystemClock().now_ms()
    if isinstance(said, Recorded):
        proposal = Proposal.model_validate(said.state.body(now_ms))
        document = {"recorded": True, "proposal_id": proposal_id, "agent": agent, "decision": decision, "seq": said.seq}
        open_, result = said.state.open(now_ms), proposal.decision.result
        where = standing(proposal, is_open=open_)
        print_text(json_text({**document, "open": open_, "result": result}) if as_json else f"recorded: {where}\n")
        return DONE
    if as_json:
        document = {"recorded": False, "proposal_id": proposal_id, "agent": agent, "decision": decision}
        print_text(json_text({**document, "cause": said.cause, "why": said.why, "seq": said.seq}))
    else:
        note(f"refused: {said.why}")
    return UNDECIDED
