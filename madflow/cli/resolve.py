"""`madflow resolve`."""

from __future__ import annotations

from typing import Any

import click

from .committing import commit_options, committer_of, open_committer_ledger, receipt_text, run_async, where_given
from .exits import DONE, UNDECIDED
from .output import print_text
from .text import json_text, one_line

__all__ = ["command"]


@click.command("resolve")
@click.argument("key", metavar="KEY")
@click.option("--as", "word", type=click.Choice(["done", "failed", "retry"]), required=True, help="What you found.")
@click.option("--by", metavar="NAME", required=True, help="Who says so.")
@click.option("--note", metavar="TEXT", default="", help="How you know.")
@commit_options
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to wait.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON on stdout, and nothing else there.")
def command(key: str, word: str, by: str, note: str, wait_s: float, as_json: bool, **options: Any) -> int:  # noqa: PLR0917 - click passes by name
    """Say of a step in doubt that it happened (done), did not (failed), or may be tried again (retry).

    KEY is its idempotency key; the first 8 characters are enough. The first word counts: exit code 3 where somebody
    was faster, or where the commit still waits.
    """
    ledger = open_committer_ledger(options["root"], options["ledger"])
    try:
        outcome = run_async(committer_of(ledger, options).resolve(key, word, by=by, note=note, wait_s=wait_s))
    finally:
        ledger.close()
    said = {"key": outcome.key, "applied": outcome.applied, "by": outcome.by, "as": outcome.word}
    if as_json:
        print_text(json_text({**said, "receipt": outcome.receipt.to_json()}))
    else:
        first = "" if outcome.applied else "somebody was first: "
        told = receipt_text(outcome.receipt, where_given(options))
        print_text(f"{first}{outcome.word}, said by {one_line(outcome.by, 80)}\n{told}")
    return DONE if outcome.applied and outcome.receipt.status != "pending" else UNDECIDED
