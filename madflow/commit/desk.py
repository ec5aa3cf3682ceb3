"""The submitter's desk: one scope, one term, the journal as far as it is read, and the only way to append to it.

Every append goes through `append`, which answers three questions at once: is the term still the one that sealed the
scope, is each slot free, is it durable. A lost term raises `TermLost`, which ends everything this submitter does.
A slot that is taken, or a commit whose end is unknown, is no error: the journal is read again and the saga asked anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..core.journal import Journal, KeyState, slot_of
from ..core.policy import Policy
from ..core.saga import Draft, StepSpec
from ..errors import CommitError, LedgerBusy, LedgerCorrupt
from ..ports import (
    Appended,
    AppendResult,
    Clock,
    Duplicate,
    Effect,
    Entry,
    Event,
    Execute,
    Fenced,
    FencedLedger,
    Term,
    Unknown,
)
from .snapshot import load_journal
from .specs import Work
from .steps import Step

__all__ = ["Desk", "TermLost", "step_payload"]

UNKNOWN_TRIES_MAX: Final = 5
BUSY_TRIES_MAX: Final = 12
"""How often a locked ledger is asked; each time waits as long as the ledger does."""


class TermLost(CommitError):
    """Another submitter has sealed the scope, or this one's lease is gone: nothing more may be done here."""


@dataclass(slots=True)
class Desk:
    """What everything that runs under one term shares.

    Attributes:
        lost: set by the heartbeat when the lease is gone: no new effect is begun then.
        effects: by step kind; steps: the app's own, by name.
    """

    ledger: FencedLedger
    scope: str
    term: Term
    clock: Clock
    root: Path
    run_dir: Path
    policy: Policy
    effects: Mapping[str, Effect]
    steps: Mapping[str, Step]
    journal: Journal = field(default_factory=Journal)
    lost: str = ""

    def catch_up(self) -> None:
        """Fold what the journal has not seen yet."""
        load_journal(self.ledger, self.scope, self.journal)

    def check(self) -> None:
        """Raise TermLost once the heartbeat has lost the lease."""
        if self.lost:
            raise TermLost(f"scope {self.scope!r}: {self.lost}; the next submitter goes on from the ledger")

    async def append(self, drafts: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
        """Append records, all or none: (kind, payload). False: a slot was taken; the journal is up to date again.

        Raises:
            TermLost: the scope is sealed by another term. CommitError: the ledger's answer stays unknown.
        """
        entries, unknown = [Entry(Event(kind, payload), slot_of(kind, payload)) for kind, payload in drafts], False
        known = self.journal.place
        for _ in range(UNKNOWN_TRIES_MAX):
            answer = await self._unless_busy(lambda: self.ledger.append(self.scope, self.term.number, entries))
            if unknown and isinstance(answer, Duplicate) and answer.existing.payload == entries[0].event.payload:
                self.catch_up()  # it was appended, and only the answer was lost
                return True
            if isinstance(answer, Duplicate) and answer.existing.place <= known:
                raise LedgerCorrupt(
                    f"scope {self.scope!r}: slot {answer.slot!r} was taken by record {answer.existing.seq}, which the "
                    "journal was read past without finding it; run `madflow ledger verify`"
                )
            unknown = unknown or isinstance(answer, Unknown)
            taken = self._take(answer)
            if taken is not None:
                return taken
        raise CommitError(f"scope {self.scope!r}: the ledger did not say what became of an append; run it again")

    async def transact(self, slot: str, work: Callable[[Execute], Event], timeout_s: float) -> bool:
        """`append` of the one record that `work` makes inside the ledger's transaction. Raises what `work` raises."""
        for _ in range(UNKNOWN_TRIES_MAX):
            answer = await self._unless_busy(
                lambda: self.ledger.transact(self.scope, self.term.number, slot, work, timeout_s=timeout_s)
            )
            taken = self._take(answer)
            if taken is not None:
                return taken
        raise CommitError(f"scope {self.scope!r}: the ledger did not say what became of a transaction; run it again")

    async def _unless_busy(self, ask: Callable[[], Awaitable[AppendResult]]) -> AppendResult:
        """The ledger's answer; asked again while other writers keep it locked, which has recorded nothing."""
        for _ in range(BUSY_TRIES_MAX - 1):
            try:
                return await ask()
            except LedgerBusy:
                self.check()
        return await ask()

    def _take(self, answer: AppendResult) -> bool | None:
        """Fold an answer; None: nobody knows yet, ask again (the slots make that safe)."""
        if isinstance(answer, Fenced):
            self.lost = self.lost or f"term {self.term.number} is fenced: term {answer.term} has sealed the scope"
            self.check()
        self.catch_up()
        if isinstance(answer, Appended):
            return True
        return False if isinstance(answer, Duplicate) else None

    def payload(self, work: Work, **fields: Any) -> dict[str, Any]:
        """A record's payload: who and what, and `fields`."""
        return {
            "term": self.term.number,
            "commit_id": work.commit_id,
            "proposal_id": work.proposal_id,
            "proposal_digest": work.proposal_digest,
            "task_id": work.task_id,
            "agent_id": self.term.node,
            "role": "submitter",
            "node": self.term.node,
            **fields,
        }


def step_payload(
    desk: Desk, work: Work, spec: StepSpec, draft: Draft, key: KeyState | None, **more: Any
) -> tuple[str, Any]:
    """A draft as (kind, payload) of one step. `key`: its state, once there is an intent."""
    direction = more.pop("direction", None) or (key.direction if key else "do")
    prefix = "compensation_" if direction == "undo" and draft.kind not in ("in_doubt", "resolved") else ""
    return f"{prefix}{draft.kind}", desk.payload(
        work,
        step_index=spec.index,
        direction=direction,
        idempotency_key=spec.keys[direction],
        resource_targets=list(spec.targets),
        attempt=draft.attempt,
        **draft.fields,
        **more,
    )
