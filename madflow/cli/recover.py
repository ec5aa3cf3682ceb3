"""`madflow recover`."""

from __future__ import annotations

from typing import Any

import click

from .committing import commit_options, committer_of, open_committer_ledger, receipt_exit, receipt_text, run_async
from .exits import DONE
from .output import print_text
from .text import json_text

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
        receipts = run_async(committer_of(ledger, options).recover(wait_s=wait_s))
    finally:
        ledger.close()
    if as_json:
        print_text(json_text({"receipts": [receipt.to_json() for receipt in receipts]}))
    else:
        print_text("\n".join(map(receipt_text, receipts)) if receipts else "nothing to recover\n")
    return max((receipt_exit(receipt) for receipt in receipts), default=DONE)
