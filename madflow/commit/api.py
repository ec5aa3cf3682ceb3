"""`Committer`: what an app or the command line uses to commit proposals, settle doubts, and look at what happened.

A commit is asked for in the ledger, and carried out by whoever leads the scope: this process, if nobody does, or the
one that does, while this one waits. Either way the receipt is read from the ledger's records.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..clock import SystemClock
from ..core.gate import Admitted, Rejected
from ..core.journal import CommitState, commit_id
from ..core.policy import Policy
from ..core.proposal import Proposal
from ..errors import ConfigError
from ..ports import Clock, Effect, Elector, Event, FencedLedger, Leader
from .gate import Gate, ledger_place, opened
from .gating import Asked, proposal_of
from .kit import scope_of
from .receipt import Receipt, receipt_of
from .requests import CommitRequest, is_node_name, request
from .session import Resolved, Session, Setup
from .snapshot import load_journal
from .steps import Step, registry

__all__ = ["LEASE_S", "WAIT_S", "Committer", "Ticket"]

LEASE_S: Final = 5.0
WAIT_S: Final = 300.0
_WORDS: Final = ("done", "failed", "retry")


@dataclass(frozen=True, slots=True)
class Ticket:
    """A commit that was asked for. `seq`: of the request in the ledger; 0 where the commit had ended before."""

    proposal_id: str
    commit_id: str
    seq: int


class Committer:
    """Commits proposals beneath one root.

    Args:
        root: the tree the steps touch; the ledger defaults to `.madflow/ledger.db` beneath it.
        ledger: a path, or an open ledger that the caller closes.
        policy: a policy, or the path of a policy.toml; by default `<root>/policy.toml`, read anew for each proposal.
        steps: the app's own steps, all of them: a recovery needs their code.
        scope: what one submitter serves; by default this root.
        node: this submitter's name in records; by default the host's name, the process's number and a random part.
        lease_s: how long a submitter that does not move is waited for.
        own_process: True only where this process is madflow's own, as in its command line: another submitter may then
            kill it once it has not moved for a lease. A host application is never killed.
        effects, elector, clock: replace the default ones.
    """

    def __init__(
        self,
        root: str | Path = ".",
        *,
        ledger: str | Path | FencedLedger | None = None,
        policy: Policy | str | Path | None = None,
        steps: Sequence[Step] = (),
        scope: str = "",
        node: str = "",
        lease_s: float = LEASE_S,
        own_process: bool = False,
        effects: Mapping[str, Effect] | None = None,
        elector: Elector | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.root = Path(root)
        self._gate = Gate(root, ledger=ledger, policy=policy, steps=steps, clock=clock)
        if not 0.05 <= lease_s <= 3_600:
            raise ConfigError(f"lease_s={lease_s}: a lease lasts 0.05 to 3600 seconds; the default is {LEASE_S:g}")
        place = ledger_place(root, ledger)
        self.scope = scope or scope_of(self.root, place)
        self.node = node or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.clock = clock or SystemClock()
        self._setup = Setup(
            root=self.root,
            ledger=place,
            policy=policy,
            steps=registry(steps),
            scope=self.scope,
            node=self.node,
            lease_s=lease_s,
            own_process=own_process,
            effects=effects,
            elector=elector,
            clock=self.clock,
        )

    async def commit(
        self, proposal: Proposal | Mapping[str, Any] | str, *, wait_s: float = WAIT_S, confirmed_by: str = ""
    ) -> Receipt:
        """Commit an approved proposal, once: a second call returns the same receipt and does nothing.

        Args:
            proposal: the proposal, its JSON data, or its id. What is committed is what the ledger knows under the id;
                data that differs from it is refused.
            wait_s: how long to wait for another submitter, or for a resource. The receipt is `pending` after that.
            confirmed_by: the human who confirms a proposal that asks for one.

        Raises:
            UsageError: the policy cannot be read, the data is no proposal, the ledger has none of this id; nothing is
                recorded then. LedgerError. CommitError.
        """
        with self._session() as session:
            ticket = await self._submit(session, proposal, confirmed_by)
            return await session.answer(ticket.proposal_id, ticket.seq, wait_s)

    async def submit(self, proposal: Proposal | Mapping[str, Any] | str, *, confirmed_by: str = "") -> Ticket:
        """Ask for a commit without waiting for it: durable when it returns. Same arguments and errors as `commit`."""
        with self._session() as session:
            return await self._submit(session, proposal, confirmed_by)

    async def wait(self, ticket: Ticket, *, wait_s: float = WAIT_S) -> Receipt:
        """The receipt of what was asked for, leading meanwhile if nobody does; `pending` after `wait_s`."""
        with self._session() as session:
            return await session.answer(ticket.proposal_id, ticket.seq, wait_s)

    def ticket(self, proposal_id: str, seq: int) -> Ticket:
        """A ticket from its parts, as another process kept them."""
        return Ticket(proposal_id, commit_id(self.scope, proposal_id), seq)

    async def _submit(
        self, session: Session, proposal: Proposal | Mapping[str, Any] | str, confirmed_by: str
    ) -> Ticket:
        self._setup.gatekeeper(session.ledger)  # a policy that cannot be used is said before anything is asked for
        asked = proposal_of(session.ledger, proposal, self.clock)
        name = commit_id(self.scope, asked.proposal_id)
        state, after = session.state(name), session.journal.requests
        said: dict[str, Any] = {"proposal_id": asked.proposal_id, "by": self.node}
        if asked.refusals:
            event = Event("refused", {**said, "reasons": self._refusals(session, asked, confirmed_by, state)})
        elif state is not None and state.closed:
            return Ticket(asked.proposal_id, name, 0)
        else:
            event = Event("commit", {**said, "confirmed_by": confirmed_by})
        record = await request(session.ledger, self.scope, event, self.clock, after=after)
        return Ticket(asked.proposal_id, name, record.seq)

    def _refusals(
        self, session: Session, asked: Asked, confirmed_by: str, state: CommitState | None
    ) -> list[Mapping[str, Any]]:
        """Every reason at once: what is wrong with the file, and what the gate says of what it has not admitted."""
        if state is not None and state.admitted:
            return list(asked.refusals)
        wanted = CommitRequest(0, asked.proposal_id, asked.refusals, confirmed_by)
        verdict = self._setup.gatekeeper(session.ledger).ask(wanted)
        return [reason.to_json() for reason in verdict.reasons] if isinstance(verdict, Rejected) else []

    async def recover(self, *, wait_s: float = WAIT_S) -> list[Receipt]:
        """Finish or compensate what a dead submitter left, and carry out what is still asked for.

        Returns:
            the receipts of all commits that were open or asked for.
        """
        with self._session() as session:
            return await session.recover(wait_s)

    async def resolve(self, key: str, word: str, *, by: str, note: str = "", wait_s: float = WAIT_S) -> Resolved:
        """A human's word on a key in doubt: "done" (it happened), "failed" (it did not), or "retry".

        The first word counts.

        Raises:
            UnknownProposal: the ledger does not know the key, or it was never in doubt. ConfigError: another word, or
                no name. CommitError: no leader applied it in time.
        """
        if word not in _WORDS:
            raise ConfigError(f"a key is resolved as {', '.join(_WORDS)}, not {word[:40]!r}")
        if not by.strip():
            raise ConfigError("a resolution needs a name: who says so? (by=)")
        with self._session() as session:
            return await session.resolve(key, word, by, note, wait_s)

    def check(self, proposal: Proposal | Mapping[str, Any] | str, *, confirmed_by: str = "") -> Admitted | Rejected:
        """What the gate says now (`Gate.check`); nothing is recorded (`commit --dry-run`)."""
        return self._gate.check(proposal, confirmed_by=confirmed_by)

    def receipt(self, proposal_id: str) -> Receipt:
        """What the ledger has of a proposal's commit; nothing is done."""
        with opened(self._setup.ledger, self.clock) as ledger:
            journal = load_journal(ledger, self.scope)
            return receipt_of(self.scope, proposal_id, journal.commits.get(commit_id(self.scope, proposal_id)))

    async def work(
        self,
        stop: asyncio.Event,
        *,
        approved: bool = True,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        """A long-running node: campaigns, and as the leader carries out what is asked, until `stop` is set.

        Args:
            approved: also commit every approved proposal that has a plan and has not been refused, without being asked.
            on_change: told, in words, when this node leads, waits or is deposed.
        """
        with self._session() as session:
            await session.work(stop, approved=approved, say=on_change or (lambda _: None))

    async def observe(self) -> Leader | None:
        """Who leads the scope."""
        with self._session() as session:
            return await session.elector.observe(self.scope)

    async def ask_leader(self, *, transfer_to: str = "", by: str = "") -> None:
        """Ask the leader to resign, or to hand over to a node. Raises ConfigError for a name that no node can have."""
        if transfer_to and not is_node_name(transfer_to):
            raise ConfigError(
                f"no node is called {transfer_to[:40]!r}: a name has 1 to 200 printable characters, this has "
                f"{len(transfer_to)}"
            )
        event = Event("transfer", {"to": transfer_to, "by": by}) if transfer_to else Event("resign", {"by": by})
        with self._session() as session:
            await request(session.ledger, self.scope, event, self.clock)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with opened(self._setup.ledger, self.clock) as ledger:
            yield Session(self._setup, ledger)
