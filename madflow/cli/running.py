"""Running one debate for the command line: progress, signals, the human's word, and what is printed at the end.

The first SIGINT or SIGTERM lands the debate as `cancelled`: that debate is over. From then on the signals have their
default effect, so that a second one ends the process at once; only a debate that had not landed by then is resumed by
its id.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import ConfigError, UsageError
from .exits import UNDECIDED, exit_code
from .options import RunOptions
from .output import note, print_text, write_atomically
from .text import clean, json_text, one_line

if TYPE_CHECKING:
    from ..commit.receipt import Receipt
    from ..core.proposal import Proposal
    from ..debate.run import Pending, Progress
    from ..debate.setup import Debate
    from ..ledger.sqlite import SqliteLedger
    from ..ports import Ledger

__all__ = ["report", "run_debate"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Human = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


def run_debate(debate: Debate, options: RunOptions, ledger: SqliteLedger, fail_on: str = "") -> int:
    """Run or resume `debate`, print its outcome, and return the exit code."""
    from ..debate.run import Pending
    from .progress import open_progress

    human = _human(options, ledger) if options.human else None
    with open_progress(ledger, debate.id, quiet=options.quiet) as progress, _Interrupts(progress.say) as interrupts:
        outcome = asyncio.run(_run(debate, human, progress.feed, interrupts))
    if isinstance(outcome, Pending):
        return _report_pending(outcome, options)
    if options.out:
        write_atomically(Path(options.out), json_text(outcome.to_json()))
    report(outcome, ledger, as_json=options.as_json, out=options.out, where=_where(debate, options))
    return exit_code(outcome, fail_on)


def _where(debate: Debate, options: RunOptions) -> tuple[str, ...]:
    """How the next command finds this debate's tree and ledger."""
    root = () if debate.root is None or Path(debate.root) == Path() else ("--root", str(debate.root))
    return (*root, "--ledger", options.ledger) if options.ledger else root


def report(
    proposal: Proposal,
    ledger: Ledger,
    *,
    as_json: bool,
    out: str,
    where: tuple[str, ...] = (),
    commit: Receipt | None = None,
) -> None:
    """The proposal on stdout: whole as JSON, or a summary, with what `ledger` recorded of calls that failed.

    `where`: the options with which `madflow commit` finds the tree and the ledger. `commit`: what became of it.
    """
    from .progress import standing_of
    from .summary import summary

    if as_json:
        print_text(json_text(proposal.to_json()))
        return
    failures = standing_of(ledger, proposal.proposal_id.rpartition("-p")[0]).failures
    print_text(summary(proposal, failures, out, where, commit))


class _Interrupts(AbstractContextManager["_Interrupts"]):
    """SIGINT and SIGTERM while the block runs: the first one sets `cancel`, a second one has its default effect.

    The handlers are there before the event loop is: `asyncio.run` then leaves SIGINT alone, and a signal that comes
    while the loop or an import begins is kept until `cancel` can be set.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.cancel = asyncio.Event()
        self._say = say
        self._loop: asyncio.AbstractEventLoop | None = None
        self._came: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def attach(self) -> None:
        """From the running event loop on, a signal sets `cancel`; one that came before does so now."""
        self._loop = asyncio.get_running_loop()
        if self._came is not None:
            self._stop()

    def detach(self) -> None:
        """The debate is done: a signal that still comes is only remembered."""
        self._loop = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        self._came = signal.Signals(number)
        if self._loop is not None:  # not from here: a handler may run in the middle of another write to stderr
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self.cancel.set()
        name = self._came.name if self._came is not None else ""
        self._say(
            f"{name}: landing the debate as cancelled; a second one ends it at once, and then the same --id resumes"
        )


async def _run(
    debate: Debate, human: Human | None, on_progress: Callable[[Progress], None], interrupts: _Interrupts
) -> Proposal | Pending:
    interrupts.attach()
    from ..debate.run import run
    from ..models.http_pool import aclose_all

    try:
        return await run(debate, human=human, cancel=interrupts.cancel, on_progress=on_progress)
    finally:
        await aclose_all()
        interrupts.detach()


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
