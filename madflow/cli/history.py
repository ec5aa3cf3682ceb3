"""`madflow history`."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click

from .options import check_root, ledger_option, ledger_path, open_for_reading
from .output import print_text
from .propose import parse_duration
from .text import json_text, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from ..panel.history import History, Row

__all__ = ["command"]

_PAIRS = 10
_OBJECTIONS = 10


@click.command("history")
@click.option("--status", metavar="STATUS", default="", help="Only these, e.g. approved, open, committed, in_doubt.")
@click.option("--proposer", metavar="NAME", default="", help="Only what this agent proposed.")
@click.option("--since", metavar="TIME", default="", help="Only what was proposed so long ago or later: 12h, 7d.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="List at most so many.")
@ledger_option
@click.option("--json", "as_json", is_flag=True, help="Print the proposals and their trends as JSON on stdout.")
def command(*, status: str, proposer: str, since: str, limit: int, root: str, ledger: str, as_json: bool) -> None:
    """List the proposals of debates and panels, newest first, with trends over all that were found.

    Trends: how often two agents choose the same, what is objected to most, and how long decisions take. The status is
    the last thing known; --status also finds a vote's result, so that "approved" lists what was committed since.
    """
    from ..clock import SystemClock
    from ..panel.history import history

    since_ms = SystemClock().now_ms() - parse_duration("--since", since) * 1000 if since else 0
    opened = open_for_reading(ledger_path(ledger, check_root(root)))
    try:
        found = history(opened, status=status, proposer=proposer, since_ms=since_ms, limit=limit)
    finally:
        opened.close()
    print_text(json_text(found.to_json()) if as_json else _text(found))


def _text(found: History) -> str:
    """The list as a table, and the trends below it. Texts go in as `Text`, never as markup."""
    from rich.console import Console

    if not found.rows:
        return "no proposals\n"
    out = StringIO()
    console = Console(file=out, width=max(100, get_terminal_size().columns), highlight=False, emoji=False)
    counts = ", ".join(f"{count} {name}" for name, count in found.statuses.items())
    console.print(f"{found.found} proposals: {counts}\n", markup=False)
    rows = [
        (
            row.proposal_id,
            row.status,
            row.proposer,
            _time(row.decided_ms),
            f"{row.created_at[:16]}Z",
            _marks(row) + row.summary + (f" (modifies {row.supersedes})" if row.supersedes else ""),
        )
        for row in found.rows
    ]
    console.print(_table(("proposal", "status", "proposer", "decided in", "proposed", "summary"), rows))
    if found.found > len(found.rows):
        console.print(f"and {found.found - len(found.rows)} older ones; --limit shows more", markup=False)
    if found.decided:
        times = f"median {_time(found.median_ms)}, 90 % within {_time(found.p90_ms)}"
        console.print(f"\nTime to decide: {times} ({found.decided} decided)", markup=False)
    if found.alignment:
        pairs = [
            (", ".join(pair.agents), f"{pair.agree} of {pair.n}", f"{100 * pair.agree // pair.n} %")
            for pair in found.alignment[:_PAIRS]
        ]
        console.print("\nAlignment: proposals on which both chose the same", _table(("agents", "same", ""), pairs))
    if found.objections:
        said = [(str(seats), text) for text, seats in found.objections[:_OBJECTIONS]]
        console.print("\nCommon objections", _table(("seats", "what they said"), said))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _marks(row: Row) -> str:
    return f"(in {len(row.scopes)} scopes: {', '.join(row.scopes)}) " if len(row.scopes) > 1 else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in head[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(head[-1], no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(one_line(cell, 120)) for cell in row))
    return table


def _time(milliseconds: int | None) -> str:
    """A duration for people."""
    if milliseconds is None:
        return "-"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"
