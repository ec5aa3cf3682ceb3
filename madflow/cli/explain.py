"""`madflow explain`."""

from __future__ import annotations

import click

from .audit_text import explanation_text, story_text
from .options import check_root, ledger_option, ledger_path, open_for_reading
from .output import print_text
from .text import json_text

__all__ = ["command"]


@click.command("explain")
@click.argument("name", metavar="ID")
@ledger_option
@click.option("--json", "as_json", is_flag=True, help="Print the explanation and its records as JSON on stdout.")
def command(name: str, root: str, ledger: str, as_json: bool) -> None:
    """Say what became of ID: was it the debate or the commit, are there duplicate keys, did submitters conflict; who
    proposed, who approved, who carried it out, and what happened; then the story.

    ID is a proposal's, a debate's or a commit's, or an idempotency key; of the last two the first 8 characters are
    enough.
    """
    from ..clock import SystemClock
    from ..commit.explanation import explain
    from ..commit.story import plain_record, records_of, tell

    opened = open_for_reading(ledger_path(ledger, check_root(root)))
    try:
        found = explain(opened, name, now_ms=SystemClock().now_ms())
        records = list(records_of(opened, proposal_id=found.proposal_id))
    finally:
        opened.close()
    if as_json:
        print_text(json_text({**found.to_json(), "records": [plain_record(record) for record in records]}))
    else:
        print_text(f"{explanation_text(found)}\n{story_text([tell(record) for record in records])}")
