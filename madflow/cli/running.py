"""Running one debate for the command line: progress, signals, the human's word, and what is printed at the end.

The first SIGINT or SIGTERM lands the debate as `cancelled`; from then on the signals have their default effect, so that
a second one ends the process at once. Either way the ledger has everything, and the same command resumes.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, UsageError
from .exits import UNDECIDED, exit_code
from .options import RunOptions
from .output import note, print_text, write_atomically
from .text import clean, json_text, one_line

if TYPE_CHECKING:
    from ..core.proposal import Proposal
    from ..debate.run import Pending, Progress
    from ..debate.setup import Debate
    from ..ledger.sqlite import SqliteLedger

__all__ = ["report", "run_debate"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Human = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


def run_debate(debate: Debate, options: RunOptions, ledger: SqliteLedger, fail_on: str = "") -> int:
    """Run or resume `debate`, print its outcome, and return the exit code."""
    from ..debate.run import Pending
    from .progress import open_progress

    human = _human(options, ledger) if options.human else None
    with open_progress(ledger, debate.id, quiet=options.quiet) as progress:
        outcome = asyncio.run(_run(debate, human, progress.feed, progress.say))
    if isinstance(outcome, Pending):
        return _report_pending(outcome, options)
    if options.out:
        write_atomically(Path(options.out), json_text(outcome.to_json()))
    report(outcome, as_json=options.as_json)
    return exit_code(outcome, fail_on)


def report(proposal: Proposal, *, as_json: bool) -> None:
    """The proposal on stdout: whole as JSON, or a summary."""
    from .summary import summary

    print_text(json_text(proposal.to_json()) if as_json else summary(proposal))


async def _run(
    debate: Debate, human: Human | None, on_progress: Callable[[Progress], None], say: Callable[[str], None]
) -> Proposal | Pending:
    from ..debate.run import run
    from ..models.http_pool import aclose_all

    cancel, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        for one in _SIGNALS:
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_DFL)
        cancel.set()
        say(f"{number.name}: landing the debate as cancelled; once more ends it at once, and the ledger can resume it")

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        return await run(debate, human=human, cancel=cancel, on_progress=on_progress)
    finally:
        await aclose_all()


def _human(options: RunOptions, ledger: SqliteLedger) -> Human:
    """Gives the word of --human to a debate that waits for it now: nobody answers before the question is there."""
    from ..clock import SystemClock
    from ..debate.stream import DebateStream, stream_name

    debate_id = options.debate_id or ""
    known = bool(ledger.read(stream_name(debate_id)))
    if not known or DebateStream.load(ledger, debate_id, SystemClock()).state.phase != "waiting":
        raise ConfigError(f"debate {debate_id!r} does not wait for a human; run it without --human")

    async def word(question: Mapping[str, Any]) -> Mapping[str, Any]:
        offered = [str(option["id"]) for option in question["options"]] + ["none"]
        if options.human not in offered:
            raise UsageError(f"--human {options.human!r} was not offered; choose one of {', '.join(offered)}")
        return {"choice": options.human, "by": options.by, "notes": options.notes}

    return word


def _report_pending(pending: Pending, options: RunOptions) -> int:
    question = dict(pending.question)
    if options.as_json:
        print_text(json_text({"pending": question}))
    else:
        lines = [f"pending: debate {pending.debate_id} waits for a human", "", clean(str(question["question"])), ""]
        lines += [f"  {one_line(str(o['id']), 60)}: {one_line(str(o['text']))}" for o in question["options"]]
        lines += ["  none: leave it undecided", ""]
        lines += [f"Answer with the same command and: --id {pending.debate_id} --human CHOICE --by NAME"]
        print_text("\n".join(lines) + "\n")
    if options.out:
        note(f"{options.out} was not written: there is no proposal yet")
    return UNDECIDED
