"""`madflow recover`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from .committing import (
    commit_options,
    committer_of,
    open_committer_ledger,
    receipt_exit,
    receipt_text,
    run_async,
    where_given,
)
from .exits import DONE
from .output import note, print_text
from .text import json_text

if TYPE_CHECKING:
    from ..ledger.sqlite import SqliteLedger

__all__ = ["command"]


@click.command("recover")
@commit_options
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to wait.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipts as JSON on stdout, and nothing else there.")
def command(wait_s: float, as_json: bool, **options: Any) -> int:
    """Finish or compensate what a dead submitter left, and carry out what is still asked for.

    The exit code is that of the worst commit: 5 where one is compensated or in doubt, 3 where one waits or is refused.
    """
    ledger = open_committer_ledger(options["root"], options["ledger"])
    try:
        committer = committer_of(ledger, options)
        receipts = run_async(committer.recover(wait_s=wait_s))
        elsewhere = _open_elsewhere(ledger, committer.scope)
    finally:
        ledger.close()
    for scope, count in elsewhere.items():
        note(f"scope {scope!r} has {count} open: madflow recover{where_given(options)} --scope {shlex.quote(scope)}")
    if as_json:
        print_text(json_text({"receipts": [receipt.to_json() for receipt in receipts]}))
    else:
        told = [receipt_text(receipt, where_given(options)) for receipt in receipts]
        print_text("\n".join(told) or "nothing to recover\n")
    return max((receipt_exit(receipt) for receipt in receipts), default=DONE)


def _open_elsewhere(ledger: SqliteLedger, scope: str) -> dict[str, int]:
    """How many commits are open in each other scope of the ledger; only scopes that have some."""
    from ..commit.snapshot import load_journal
    from ..commit.streams import COMMITS

    others = (name.removeprefix(COMMITS) for name in ledger.streams() if name.startswith(COMMITS))
    counts = {
        other: sum(state.admitted and not state.closed for state in load_journal(ledger, other).commits.values())
        for other in others
        if other != scope
    }
    return {other: count for other, count in counts.items() if count}
