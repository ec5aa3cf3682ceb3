"""`madflow worker`."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import click

from .committing import commit_options, committer_of, open_committer_ledger
from .exits import DONE
from .output import note
from .text import one_line

if TYPE_CHECKING:
    from ..commit.api import Committer

__all__ = ["command"]


@click.command("worker")
@commit_options
@click.option("--requested-only", is_flag=True, help="Commit only what is asked for, not all that is approved.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def command(requested_only: bool, quiet: bool, **options: Any) -> int:
    """A long-running node: campaigns, and as the leader commits every approved proposal that the policy allows.

    The default ledger is made where there is none yet; one that --ledger names has to be there.

    SIGINT or SIGTERM lets it finish what runs, resign, and end with 0.
    """
    ledger = open_committer_ledger(options["root"], options["ledger"], create=True)
    try:
        asyncio.run(_work(committer_of(ledger, options), approved=not requested_only, quiet=quiet))
    finally:
        ledger.close()
    return DONE


async def _work(committer: Committer, *, approved: bool, quiet: bool) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def say(text: str) -> None:
        if not quiet:
            note(one_line(f"{committer.node}: {text}", 500))

    await committer.work(stop, approved=approved, on_change=say)
    say("stopped")
