"""Live progress on stderr: a table where it is a terminal, else one line an event; nothing at all with --quiet.

Both draw from one `Standing`, which is folded from the ledger's records, so a resumed debate shows what it already has.
Progress never costs the debate anything: when stderr cannot be written to any more, it ends, and the debate goes on.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Protocol

from ..core.budget import Account, Reservation, Settlement
from ..core.config import Config
from ..core.limits import Limits, usd_text
from .text import one_line

if TYPE_CHECKING:
    from ..debate.run import Progress
    from ..ports import Ledger

__all__ = ["SeatRow", "Standing", "Watcher", "minutes", "open_progress", "standing_of"]


@dataclass(slots=True)
class SeatRow:
    """A seat as it stands: what it does (`waiting`, `asked`, `valid`, `invalid`, `missing`) and what it last said."""

    agent: str
    role: str
    doing: str = "waiting"
    said: str = ""


@dataclass(slots=True)
class Standing:
    """Where a debate stands, for someone who watches it. All texts are cleaned.

    `failures`: per seat, the last answer that was missing or invalid, its cause, and what the failed call said.
    """

    debate_id: str = ""
    question: str = ""
    rounds: int = 0
    round: int = 0
    stage: str = ""
    number: int = 0
    seats: dict[str, SeatRow] = field(default_factory=dict)
    votes: Counter[str] = field(default_factory=Counter)
    account: Account | None = None
    ending: str = ""
    failures: dict[str, str] = field(default_factory=dict)
    _open: dict[str, tuple[str, int]] = field(default_factory=dict)  # attempt → its seat and reserved tokens
    _details: dict[str, str] = field(default_factory=dict)  # seat → what its last failed call said

    def see(self, kind: str, payload: Mapping[str, Any], round_: int = 0) -> str:
        """Take in one record; a line that says what happened, empty where it is not worth one."""
        handler = getattr(self, f"_{kind}", None)
        line: str = handler(payload) if handler is not None else ""
        self.round = max(self.round, round_)
        return line

    def burnt(self) -> str:
        """What the debate is charged with so far, of its caps; what open calls reserve is told apart."""
        if self.account is None:
            return ""
        spent, caps = self.account.committed, self.account.limits
        reserved = sum(tokens for _, tokens in self._open.values())
        tokens = f"{spent.tokens - reserved:,} spent, {reserved:,} reserved" if reserved else f"{spent.tokens:,}"
        text = f"{tokens} of {caps.tokens:,} tokens, {spent.calls} of {caps.calls} calls"
        if caps.usd_nanos is not None:
            text += f", ${usd_text(spent.usd_nanos or 0)} of ${usd_text(caps.usd_nanos)}"
        return text

    def tally(self) -> str:
        """What the seats chose in this stage."""
        return ", ".join(f"{choice} {count}" for choice, count in sorted(self.votes.items()))

    def _opened(self, payload: Mapping[str, Any]) -> str:
        config = Config.model_validate(payload["config"])
        self.debate_id = config.debate_id
        self.question, self.rounds = one_line(config.task.question, 120), config.rounds
        self.seats = {seat.agent: SeatRow(one_line(seat.agent), seat.role) for seat in config.seats}
        self.account = Account(config.limits)
        rule = one_line(config.rule)
        return f"debate {config.debate_id}: {len(self.seats)} seats, rule {rule}, at most {config.rounds} rounds"

    def _resumed(self, payload: Mapping[str, Any]) -> str:
        if payload.get("limits") and self.account is not None:
            self.account.raise_limits(Limits.model_validate(payload["limits"]))
        return "resumed"

    def _reserved(self, payload: Mapping[str, Any]) -> str:
        entry = Reservation.from_json(payload["entry"])
        if self.account is not None:
            self.account.apply(entry)
        self._open[entry.key] = (str(payload["agent"]), entry.amount.tokens)
        if payload["attempt"] == 1:
            self._details.pop(str(payload["agent"]), None)
        self._enter(int(str(payload["call_id"]).partition("/")[0]), str(payload["purpose"]))
        seat = self.seats.get(str(payload["agent"]))
        if seat is not None:
            seat.doing = "asked" if payload["attempt"] == 1 else f"asked again ({payload['attempt']})"
        return ""

    def _settled(self, payload: Mapping[str, Any]) -> str:
        entry = Settlement.from_json(payload["entry"])
        if self.account is not None:
            self.account.apply(entry)
        agent, _ = self._open.pop(entry.key, ("", 0))
        if payload.get("status") != "error":
            return ""
        self._details[agent] = _why(str(payload.get("code", "")), str(payload.get("detail", "")))
        return f"{one_line(agent)}: a call failed: {self._details[agent]}"

    def _answered(self, payload: Mapping[str, Any]) -> str:
        self._enter(int(payload["stage"]), str(payload["kind"]))
        agent, (choice, said) = str(payload["agent"]), _said(payload)
        if payload["status"] != "valid":
            detail = self._details.get(agent, "")
            said = detail if detail.startswith(f"{said}:") else said
            self.failures[agent] = f"{payload['kind']} {payload['status']}: {said}"
        seat = self.seats.get(agent)
        if seat is not None:
            seat.doing, seat.said = str(payload["status"]), said
        if choice and payload["stage"] == self.number:
            self.votes[choice] += 1
        return f"{one_line(agent)} {payload['kind']} {payload['status']}: {said}"

    def _cut(self, payload: Mapping[str, Any]) -> str:
        return f"stopped: {one_line(str(payload['reason']))}"

    def _human(self, payload: Mapping[str, Any]) -> str:
        return f"{one_line(str(payload['by']), 60)} decides: {one_line(str(payload['choice']), 60)}"

    def _landed(self, payload: Mapping[str, Any]) -> str:
        decision = payload["proposal"]["decision"]
        self.ending = f"{decision['result']} ({decision['stop_reason']})"
        return f"landed: {self.ending}"

    def _enter(self, number: int, stage: str) -> None:
        """A new stage: its votes begin anew. A late answer of an earlier one changes nothing."""
        if number > self.number:
            self.number, self.stage, self.votes = number, stage, Counter()


def _why(code: str, detail: str) -> str:
    """A failed call's code and what it said, where the one does not say the other already."""
    return one_line(
        detail if detail.startswith(f"{code}:") or not code else f"{code}: {detail}".removesuffix(": "), 300
    )


def _said(payload: Mapping[str, Any]) -> tuple[str, str]:
    """The choice an answer makes, if any, and what it says in short."""
    if payload["status"] != "valid":
        return "", one_line(str(payload.get("cause", "")))
    reply, kind = payload.get("reply") or {}, str(payload["kind"])
    if kind in ("find", "same", "concern"):
        return "", _counted(kind, reply)
    if kind in ("draft", "revise"):
        return "", one_line(str(reply.get("summary", "")))
    if kind == "mediate":
        return "", one_line(str(reply.get("text", "")))
    choice = (
        reply.get("answer") or reply.get("decision") or reply.get("choice") or " > ".join(reply.get("choices") or ())
    )
    return one_line(str(choice), 40), one_line(str(choice))


def _counted(kind: str, reply: Mapping[str, Any]) -> str:
    if kind == "find":
        found = len(reply.get("findings") or ())
        return f"{found} finding{'' if found == 1 else 's'}"
    if kind == "same":
        pairs = [row["same"] for row in reply.get("pairs") or ()]
        return f"{pairs.count(True)} of {len(pairs)} pairs are the same"
    return f"{len(reply.get('claims') or ())} concerns"


class Watcher(Protocol):
    """What is told of a debate's progress."""

    def feed(self, progress: Progress) -> None: ...

    def say(self, message: str) -> None: ...


class _Silent:
    def feed(self, progress: Progress) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        print(f"madflow: {message}", file=sys.stderr, flush=True)


class _Lines:
    """One line an event, for logs and pipes."""

    def __init__(self, standing: Standing, out: IO[str]) -> None:
        self.standing, self._out, self._began = standing, out, time.monotonic()
        self._broken = False

    def feed(self, progress: Progress) -> None:
        during = self.standing.round  # the last answer of a round already moves the debate into the next
        line = self.standing.see(progress.kind, progress.data, progress.round)
        if line:
            where = f"round {during}, " if during else ""
            budget = self.standing.burnt() if progress.kind in ("answered", "landed") else ""
            self.say(f"{where}{line}" + (f" [{budget}]" if budget else ""))

    def say(self, message: str) -> None:
        if self._broken:
            return
        try:
            print(f"{minutes(time.monotonic() - self._began)} {message}", file=self._out, flush=True)
        except OSError:
            self._broken = True  # nobody reads stderr any more; the debate does not depend on it


def minutes(seconds: float) -> str:
    """Elapsed time as m:ss."""
    whole = int(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def standing_of(ledger: Ledger, debate_id: str) -> Standing:
    """Where a recorded debate stands; an empty standing for one that the ledger does not have."""
    from ..debate.stream import stream_name

    standing = Standing()
    for record in ledger.read(stream_name(debate_id)) if debate_id else ():
        standing.see(record.kind, record.payload)
    return standing


@contextmanager
def open_progress(ledger: Ledger, debate_id: str, *, quiet: bool) -> Iterator[Watcher]:
    """Progress of one debate while the block runs; what the ledger already has of it is taken in first."""
    if quiet:
        yield _Silent()
        return
    standing = standing_of(ledger, debate_id)
    if sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb":
        from .screen import Screen

        with Screen(standing, sys.stderr) as screen:
            yield screen
    else:
        yield _Lines(standing, sys.stderr)
