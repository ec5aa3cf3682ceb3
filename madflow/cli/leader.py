"""`madflow leader`."""

from __future__ import annotations

from typing import Any

import click

from .committing import commit_options, committer_of, open_committer_ledger, run_async
from .exits import DONE, UNDECIDED
from .output import print_text
from .text import json_text, one_line

__all__ = ["command", "resign", "status", "transfer"]


@click.group("leader")
def command() -> None:
    """Who submits for a scope; ask it to resign, or to hand over."""


@command.command("status")
@commit_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else there.")
def status(as_json: bool, **options: Any) -> int:
    """Who leads, and in which term. Exit code 3 where nobody does."""
    ledger = open_committer_ledger(options["root"], options["ledger"])
    try:
        committer = committer_of(ledger, options)
        found = run_async(committer.observe())
    finally:
        ledger.close()
    leader = None if found is None else {"node": found.node, "term": found.term, "alive": found.alive}
    if as_json:
        print_text(json_text({"scope": committer.scope, "leader": leader}))
    elif found is None:
        print_text(f"scope {committer.scope}: nobody leads\n")
    else:
        alive = "alive" if found.alive else "not seen to move for a lease"
        print_text(f"scope {committer.scope}: {one_line(found.node, 120)} leads in term {found.term} ({alive})\n")
    return DONE if found is not None and found.alive else UNDECIDED


@command.command("transfer")
@click.argument("to", metavar="NODE")
@click.option("--by", metavar="NAME", default="", help="Who asks.")
@commit_options
def transfer(to: str, by: str, **options: Any) -> int:
    """Ask the leader to finish what runs and hand over to NODE, another worker's --node."""
    return _ask(options, transfer_to=to, by=by)


@command.command("resign")
@click.option("--by", metavar="NAME", default="", help="Who asks.")
@commit_options
def resign(by: str, **options: Any) -> int:
    """Ask the leader to finish what runs and step down."""
    return _ask(options, transfer_to="", by=by)


def _ask(options: dict[str, Any], *, transfer_to: str, by: str) -> int:
    ledger = open_committer_ledger(options["root"], options["ledger"])
    asked = {name: value for name, value in options.items() if name != "node"}
    try:
        committer = committer_of(ledger, {**asked, "node": ""})
        found = run_async(committer.observe())
        if found is None:
            print_text(f"scope {committer.scope}: nobody leads\n")
            return UNDECIDED
        run_async(committer.ask_leader(transfer_to=transfer_to, by=by))
    finally:
        ledger.close()
    print_text(f"asked {one_line(found.node, 120)}\n")
    return DONE
