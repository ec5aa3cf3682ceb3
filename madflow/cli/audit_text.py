"""How records, explanations and figures are shown. All of it is of other origin: every text is cleaned here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from .text import one_line

if TYPE_CHECKING:
    from ..commit.explanation import Explanation
    from ..commit.story import Told

__all__ = ["explanation_text", "stats_text", "story_text"]

_WIDTH_MIN = 120
_LINE_MAX = 400


def story_text(lines: Sequence[Told], left_out: int = 0) -> str:
    """The story as a table, oldest first; ends in a newline. `left_out`: how many older records are not shown."""
    if not lines:
        return "no records\n"
    days = dict.fromkeys(_at(told.at_ms)[:10] for told in lines)
    rows = [
        (
            str(told.seq),
            _at(told.at_ms)[0 if len(days) > 1 else 11 : 23],
            told.who,
            told.role,
            "" if told.term is None else str(told.term),
            told.key[:8],
            "" if not told.attempt else str(told.attempt),
            told.what,
            ": ".join(part for part in (told.error, told.result) if part),
        )
        for told in lines
    ]
    head = (
        "seq",
        next(iter(days)) if len(days) == 1 else "time",
        "who",
        "role",
        "term",
        "key",
        "try",
        "what",
        "result",
    )
    more = f"{left_out} older records; --limit shows more\n" if left_out else ""
    return more + _table(head, rows)


def explanation_text(found: Explanation) -> str:
    """The answers, one below the other; ends in a newline."""
    out = [f"{one_line(found.proposal_id, 120)}: {one_line(found.answer, _LINE_MAX)}"]
    for question, lines in found.answers[1:]:
        out += ["", question, *(f"  {one_line(line, _LINE_MAX)}" for line in lines)]
    if found.commands:
        out += ["", "Next", *(f"  {one_line(command, _LINE_MAX)}" for command in found.commands)]
    return "\n".join(out) + "\n"


def stats_text(found: Mapping[str, Any]) -> str:
    """The figures in a few lines; ends in a newline."""
    rollbacks, conflicts, doubt, latency = (found[n] for n in ("rollbacks", "conflicts", "in_doubt", "latency_ms"))
    rejected = _counts(conflicts["rejected"])
    lines = [
        f"Commits: {_counts(found['commits'])}",
        f"Failures: {_counts(found['failures'])}",
        f"Retries: {_counts(found['retries'])}",
        f"Rollbacks: {rollbacks['compensated']} of {rollbacks['of']} ended commits ({_percent(rollbacks)})",
        f"Requests: {conflicts['requests']}, of which {conflicts['repeated']} for what was asked for before",
        f"Refused by the gate: {rejected}",
        f"Conflicts: {_percent(conflicts)} of all requests were repeated or refused",
        f"Taken over: {conflicts['taken_over']} commits; lost attempts: {conflicts['lost_attempts']}",
        f"In doubt: {doubt['keys']} keys ({_percent(doubt)}), {doubt['open']} open: {_counts(doubt['by_code'])}",
        f"Time to resolve a doubt: {_times(doubt['resolved_ms'])}",
        f"Time of a commit: {_times(latency['commit'])}",
        *(f"  {one_line(kind, 60)}: {_times(times)}" for kind, times in latency["steps"].items()),
    ]
    for scope, counts in found["elections"].items():
        lines.append(f"Elections of scope {one_line(scope, 80)}: {_counts(counts)}")
    return "\n".join(lines) + "\n"


def _percent(part: Mapping[str, Any]) -> str:
    return f"{100 * part['rate']:.1f} %"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {one_line(name, 60)}" for name, count in counts.items()) or "none"


def _times(times: Mapping[str, int] | None) -> str:
    if times is None:
        return "none"
    return f"median {times['p50']} ms, p90 {times['p90']} ms, p99 {times['p99']} ms (n = {times['n']})"


def _at(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; the last two share what is left of the line. Texts go in as `Text`, never as markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = StringIO()
    console = Console(file=out, width=max(_WIDTH_MIN, get_terminal_size().columns), highlight=False, emoji=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in head[:-2]:
        table.add_column(heading, no_wrap=True, max_width=24, overflow="ellipsis")
    for heading, ratio in zip(head[-2:], (3, 2), strict=True):
        table.add_column(heading, ratio=ratio, overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell, 300)) for cell in row))
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
