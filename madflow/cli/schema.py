"""`madflow schema`."""

from __future__ import annotations

from typing import Final

import click

from .output import print_text
from .text import json_text

__all__ = ["command"]

_DOCUMENTS: Final = ("proposal", "commit_record", "receipt")


@click.command("schema")
@click.argument("document", type=click.Choice(_DOCUMENTS))
@click.option("--json", "as_json", is_flag=True, help="The schema is JSON with or without this.")
def command(document: str, as_json: bool) -> None:
    """Print the JSON schema (draft 2020-12) of a DOCUMENT that madflow writes."""
    from ..commit.receipt import receipt_schema
    from ..core.journal import commit_record_schema
    from ..core.proposal import proposal_schema

    made = {"proposal": proposal_schema, "commit_record": commit_record_schema, "receipt": receipt_schema}
    print_text(json_text(made[document]()))
