"""`ledger prune`: which payloads may go, because nothing needs them any more.

What goes, all of it older than the given time:

    debates     that landed, with what every seat said
    panels      whose vote is over, with their ballots

What stays, whatever its age:

    commit records, votes of elections, requests, snapshots      who did what, by whose word, stays readable
    the scope that a proposal belongs to                         no other may commit it, however old it is
    debates and votes that are open                              somebody may still decide them
    what is approved, has a plan, and is not committed           it may still be carried out
    what was admitted and has not ended, or is in doubt          a new submitter needs its plan to finish it

Before anything goes, every scope gets its snapshot. A proposal that was pruned is known by its commit records:
committing it again returns the same receipt. One that was never committed is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..core.journal import CommitState
from ..ledger.pruning import Pruned
from ..ports import FencedLedger, Ledger, Record
from .known import known_proposal
from .snapshot import load_journal, take_snapshot
from .streams import COMMITS, DEBATES, PANELS

__all__ = ["Prunable", "PruningLedger", "prunable", "prune"]


class PruningLedger(FencedLedger, Protocol):
    """A ledger that can remove payloads."""

    def prune(self, keep: Callable[[Record], bool]) -> Pruned:
        """Remove the payloads of what `keep` does not keep."""
        ...


@dataclass(frozen=True, slots=True)
class Prunable:
    """What may go.

    Attributes:
        streams: by name, the seq of the last record that may go; records: how many payloads these are together.
        kept: how many streams of debates and panels stay, by reason.
    """

    streams: dict[str, int]
    records: int
    kept: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"streams": list(self.streams), "records": self.records, "kept": dict(sorted(self.kept.items()))}


def prunable(ledger: Ledger, *, before_ms: int, now_ms: int) -> Prunable:
    """What `prune` would remove.

    Args:
        before_ms: only streams whose last record is older, milliseconds since the epoch.
        now_ms: whether a vote has expired.

    Raises:
        LedgerError, LedgerCorrupt: it cannot be read: then nothing is to be removed either.
    """
    commits: dict[str, list[CommitState]] = {}
    names = ledger.streams()
    for name in names:
        if name.startswith(COMMITS):
            for commit in load_journal(ledger, name.removeprefix(COMMITS)).commits.values():
                commits.setdefault(commit.proposal_id, []).append(commit)
    found: dict[str, int] = {}
    kept: dict[str, int] = {}
    count = 0
    for name in names:
        if not name.startswith((DEBATES, PANELS)):
            continue
        records = ledger.read(name, pruned="skip")
        if not records:
            continue
        why = "too young" if records[-1].at_ms >= before_ms else _needed(ledger, name, commits, now_ms)
        if why:
            kept[why] = kept.get(why, 0) + 1
        else:
            found[name] = records[-1].seq
            count += len(records)
    return Prunable(found, count, kept)


def _needed(ledger: Ledger, stream: str, commits: dict[str, list[CommitState]], now_ms: int) -> str:
    """Why a stream stays, or the empty string."""
    debate = stream.startswith(DEBATES)
    asked = f"{stream.removeprefix(DEBATES)}-p1" if debate else stream.removeprefix(PANELS)
    known = known_proposal(ledger, asked, now_ms=now_ms)
    if known is None or any(problem.code == "pruned" for problem in known.problems):
        return ""  # some of it was pruned before, and nobody can count it any more
    if known.open or known.body is None:
        return "open"
    own = commits.get(known.proposal_id, [])
    if any(commit.admitted and not commit.closed for commit in own):
        return "being committed or in doubt"
    superseded = any(problem.code == "superseded" for problem in known.problems)
    wanted = known.body["decision"]["result"] == "approved" and known.body["plan"] and not superseded
    return "approved, not committed" if wanted and not any(commit.closed for commit in own) else ""


async def prune(ledger: PruningLedger, *, before_ms: int, now_ms: int) -> tuple[Prunable, Pruned]:
    """Take the snapshots, then remove what is `prunable`. Blocks this thread until that is durable.

    Raises:
        LedgerError: nothing, or only a part, was removed; run it again.
    """
    for name in ledger.streams():
        if name.startswith(COMMITS):
            await take_snapshot(ledger, name.removeprefix(COMMITS))
    chosen = prunable(ledger, before_ms=before_ms, now_ms=now_ms)
    if not chosen.streams:
        return chosen, Pruned(0, (), erased=True)
    return chosen, ledger.prune(lambda record: record.seq > chosen.streams.get(record.stream, 0))
