"""`madflow check`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .exits import UNDECIDED, exit_code
from .options import check_root, ledger_option, ledger_path, open_for_reading, open_for_writing
from .output import note, print_text
from .summary import count, where_words
from .text import json_text

if TYPE_CHECKING:
    from ..commit.receipt import Receipt
    from ..core.proposal import Proposal
    from ..ports import FencedLedger

__all__ = ["command", "commit_of", "standing"]


@click.command("check")
@click.argument("proposal_id", metavar="ID")
@ledger_option
@click.option("--json", "as_json", is_flag=True, help="Print the proposal as JSON on stdout, and nothing else there.")
def command(proposal_id: str, root: str, ledger: str, as_json: bool) -> int:
    """Look where the proposal ID stands: decided again from its recorded ballots, a debate's proposal too.

    Exits with 0 if it is approved, with 3 if it is open, undecided or rejected.
    """
    from ..core.panel import DEBATES_PROPOSAL, stream_name
    from ..panel.api import read_panel

    path, where = ledger_path(ledger, check_root(root)), where_words(root, ledger)
    opened = open_for_reading(path)
    try:
        debate = DEBATES_PROPOSAL.sub("", proposal_id)
        if not opened.read(stream_name(proposal_id)) and opened.read(f"debate/{debate}"):
            return _debate(opened, debate, proposal_id, root, where, as_json=as_json)
        read_panel(opened, proposal_id)
    finally:
        opened.close()
    return _panel(path, proposal_id, root, where, as_json=as_json)


def standing(proposal: Proposal, *, is_open: bool) -> str:
    """Where a panel's vote stands, in one line."""
    decision, tally = proposal.decision, proposal.decision.tally
    numbers = decision.stop_numbers
    votes = f"{numbers['approve']} approve, {numbers['reject']} reject, of weight {tally.eligible_weight}"
    if is_open:
        voted, have = tally.eligible - tally.missing, "has" if tally.eligible == 1 else "have"
        return f"open: {voted} of {count(tally.eligible, 'seat')} {have} voted ({votes})"
    return f"{decision.result}: {decision.stop_reason} ({votes})"


def _panel(path: Path, proposal_id: str, root: str, where: Sequence[str], *, as_json: bool) -> int:
    from ..clock import SystemClock
    from ..panel.api import check, read_panel
    from .summary import summary

    reading = open_for_reading(path)
    try:
        state, commit = read_panel(reading, proposal_id), commit_of(reading, proposal_id, Path(root))
    finally:
        reading.close()
    now_ms = SystemClock().now_ms()
    is_open = state.open(now_ms)
    if state.end is None and not is_open:
        writing = open_for_writing(path)
        try:
            proposal = asyncio.run(check(writing, proposal_id))
        finally:
            writing.close()
    else:
        from ..core.proposal import Proposal

        proposal = Proposal.model_validate(state.body(now_ms))
    if as_json:
        print_text(json_text(proposal.to_json()))
        return exit_code(proposal)
    print_text(f"{standing(proposal, is_open=is_open)}\n\n{summary(proposal, where=where, commit=commit)}")
    if state.superseded_by:
        note(f"proposal {state.superseded_by!r} has taken its place")
    return exit_code(proposal)


def commit_of(ledger: FencedLedger, proposal_id: str, root: Path) -> Receipt | None:
    """What became of the proposal's commit, in the scope that has it, else the root's; None where nobody began one."""
    from ..commit.binding import bound_scope
    from ..commit.kit import scope_of
    from ..commit.receipt import receipt_of
    from ..commit.snapshot import load_journal
    from ..core.journal import commit_id

    scope = bound_scope(ledger, proposal_id) or scope_of(root, ledger)
    state = load_journal(ledger, scope).commits.get(commit_id(scope, proposal_id))
    return None if state is None else receipt_of(scope, proposal_id, state)


def _debate(
    ledger: FencedLedger, debate: str, proposal_id: str, root: str, where: Sequence[str], *, as_json: bool
) -> int:
    from ..clock import SystemClock
    from ..debate.run import replay
    from ..debate.stream import DebateStream
    from ..errors import UnknownProposal
    from .running import report

    if DebateStream.load(ledger, debate, SystemClock()).landed is None:
        note(f"debate {debate!r} has not landed yet; run the command that started it again to finish it")
        return UNDECIDED
    proposal = replay(ledger, debate)
    if proposal_id not in (debate, proposal.proposal_id):
        raise UnknownProposal(f"debate {debate!r} landed with {proposal.proposal_id!r}, not {proposal_id!r}")
    commit = commit_of(ledger, proposal.proposal_id, Path(root))
    report(proposal, ledger, as_json=as_json, out="", where=tuple(where), commit=commit)
    return exit_code(proposal)
