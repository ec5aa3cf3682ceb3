"""One use of a committer: its ledger, its elector, what it has read; and leading, where nobody else does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from ..core.journal import CommitState, Journal, commit_id
from ..core.policy import Policy
from ..errors import CommitError, LedgerError, LedgerPoisoned, UnknownProposal
from ..ports import Clock, Effect, Elector, Event, FencedLedger, Held, Term
from .desk import Desk, TermLost
from .gating import Gatekeeper
from .kit import default_effects, default_elector, heartbeat, run_dir_of
from .named import KEY_PREFIX_MIN
from .receipt import Receipt, receipt_of, refusal_of
from .requests import request
from .snapshot import SNAPSHOT_EVERY, load_journal, take_snapshot
from .steps import Step
from .streams import stream_of
from .submitter import POLL_S, Submitter

__all__ = ["Resolved", "Session", "Setup"]

LEASES_ASIDE_MAX: Final = 12
"""How long a worker that lacks a step's code leaves the field to others, at most, in leases."""

Led: TypeAlias = Literal["led", "held", "lost", "resigned", "lacking"]
Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of a human's word. `applied`: whether it was the first; `by`, `word`: whose word counts."""

    key: str
    applied: bool
    by: str
    word: str
    receipt: Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a committer was made with; see `Committer`."""

    root: Path
    ledger: str | Path | FencedLedger
    policy: Policy | str | Path | None
    steps: Mapping[str, Step]
    scope: str
    node: str
    lease_s: float
    own_process: bool
    effects: Mapping[str, Effect] | None
    elector: Elector | None
    clock: Clock

    def gatekeeper(self, ledger: FencedLedger) -> Gatekeeper:
        """The gate over what this ledger knows."""
        return Gatekeeper(ledger, self.root, self.policy, steps=self.steps, clock=self.clock, scope=self.scope)


def _silent(_: str) -> None:
    return None


class Session:
    """A committer at work on an open ledger."""

    def __init__(self, setup: Setup, ledger: FencedLedger) -> None:
        self.setup, self.ledger = setup, ledger
        self.scope, self.clock, self.journal = setup.scope, setup.clock, Journal()
        self.run_dir = run_dir_of(ledger, setup.root)
        self.elector = setup.elector or default_elector(
            ledger, self.run_dir, setup.clock, may_be_killed=setup.own_process
        )
        self.waits_for = self.holder = ""
        self.parked: Mapping[str, str] = {}
        self.broken: dict[str, str] = {}

    def read(self) -> Journal:
        """The journal as the ledger is now."""
        return load_journal(self.ledger, self.scope, self.journal)

    def state(self, name: str) -> CommitState | None:
        """A commit as the ledger is now."""
        return self.read().commits.get(name)

    async def answer(self, proposal_id: str, seq: int, wait_s: float) -> Receipt:
        """The receipt, once the request is answered or the time is over; leads meanwhile if nobody does.

        Raises:
            CommitError: the commit cannot go on, as where one of its keys was given to another step. LedgerError.
        """
        name = commit_id(self.scope, proposal_id)
        asked = next(self.ledger.scan(seq), None) if seq else None
        if asked is not None and asked.kind == "refused":
            return refusal_of(self.scope, proposal_id, asked.payload)
        await self._until(lambda: name in self.broken or _answered(self.state(name), seq), wait_s)
        if name in self.broken:
            raise CommitError(self.broken[name])
        waits_for = self.parked.get(name) or self.waits_for
        return receipt_of(self.scope, proposal_id, self.state(name), seq=seq, waits_for=waits_for)

    async def recover(self, wait_s: float) -> list[Receipt]:
        """Lead until nothing is left that could go on; the receipts of what was open or asked for.

        Raises:
            CommitError: another goes on leading, or asks this one to go, all the time.
        """
        before = {name for name, commit in self.read().commits.items() if commit.admitted and not commit.closed}
        seen, deadline = self.journal.place, self.clock.monotonic() + wait_s

        def late() -> bool:
            return self.clock.monotonic() >= deadline

        while await self.lead(late, drain=True) not in ("led", "lacking"):
            if late():
                raise CommitError(
                    f"scope {self.scope!r}: {self.waits_for or 'another submitter leads'}, and {wait_s:g} s were not "
                    "enough; the leader recovers by itself, or try again later"
                )
            await self.clock.sleep(POLL_S)
        now, since = self.read(), self.ledger.read(stream_of(self.scope), after=seen)
        touched = {str(record.payload.get("commit_id")) for record in since}
        return [
            receipt_of(self.scope, c.proposal_id, c, waits_for=self.parked.get(name, ""))
            for name, c in now.commits.items()
            if name in before | touched
        ]

    async def resolve(self, key: str, word: str, by: str, note: str, wait_s: float) -> Resolved:
        """Record the word, see to it that a leader applies it, and say whose word counts."""
        key = self._key(key)
        known, seq = self.journal.keys[key], 0
        if known.status == "in_doubt":
            payload = {"key": key, "as": word, "by": by, "note": note[:4_000]}
            after = self.journal.requests
            seq = (await request(self.ledger, self.scope, Event("resolve", payload), self.clock, after=after)).seq
            began = self.clock.monotonic()
            await self._until(lambda: self._said(key, seq) is not None, wait_s)
            await self._until(lambda: self._rests(key), wait_s - (self.clock.monotonic() - began), unless_lacking=True)
        said, commit = self._said(key, seq), self._commit_of(key)
        if said is None and seq:
            raise CommitError(f"key {key[:16]}…: no leader applied the word within {wait_s:g} s; the next one will")
        if said is None:
            raise UnknownProposal(f"key {key[:16]}… of {commit.proposal_id!r} is not in doubt: it is {known.status}")
        waits_for = self.parked.get(commit.commit_id) or self.waits_for
        receipt = receipt_of(self.scope, commit.proposal_id, commit, waits_for=waits_for)
        return Resolved(key, said["request"] == seq, said["by"], said["as"], receipt)

    def _commit_of(self, key: str) -> CommitState:
        return next(c for c in self.read().commits.values() if any(k.key == key for k in c.keys.values()))

    def _rests(self, key: str) -> bool:
        """Whether the commit of a key that was resolved has gone on as far as it can."""
        commit = self._commit_of(key)
        return bool(commit.closed or commit.doubts)

    def _key(self, key: str) -> str:
        known = self.read().keys
        matching = [key] if key in known else [n for n in known if len(key) >= KEY_PREFIX_MIN and n.startswith(key)]
        if len(matching) != 1:
            raise UnknownProposal(
                f"scope {self.scope!r} has {len(matching)} keys that start with {key[:80]!r}; `madflow ledger log` "
                f"lists them; the first {KEY_PREFIX_MIN} characters are enough where they name one"
            )
        return matching[0]

    def _said(self, key: str, seq: int) -> Mapping[str, Any] | None:
        """The human's word on the key that answers request `seq`: its own, or the one that came first."""
        records = self.ledger.read(stream_of(self.scope))
        own = [r for r in records if r.payload.get("idempotency_key") == key and r.kind in ("in_doubt", "resolved")]
        if not own or (own[-1].kind == "in_doubt" and own[-1].seq < seq):
            return None
        words = [r.payload["result"] for r in own if r.kind == "resolved"]
        return words[-1] if words else None

    async def _until(self, done: Callable[[], bool], wait_s: float, *, unless_lacking: bool = False) -> None:
        """Until `done`, or the time is over: lead, or watch the leader. `unless_lacking`: give up where what is left
        needs code that is not registered here."""
        deadline = self.clock.monotonic() + wait_s

        def over() -> bool:
            return done() or self.clock.monotonic() >= deadline

        while not over():
            led = await self.lead(over)
            if led == "lacking" and unless_lacking:
                return
            if led in ("lacking", "resigned"):
                await self._stand_aside(over)
            elif led != "led":
                await self.clock.sleep(POLL_S)

    async def work(self, stop: asyncio.Event, *, approved: bool, say: Say) -> None:
        """Campaign and lead until `stop` is set."""
        said, leases = "", 1
        while not stop.is_set():
            led = await self.lead(stop.is_set, approved=approved, stop=stop.is_set, say=say)
            if led == "held" and self.holder != said:
                said = self.holder
                say(f"waiting: {self.waits_for}")
            leases = min(2 * leases, LEASES_ASIDE_MAX) if led == "lacking" else 1
            if led in ("resigned", "lacking"):
                say("resigned as asked" if led == "resigned" else f"stands aside: {self._lack()}")
                await self._stand_aside(stop.is_set, leases)
            await self.clock.sleep(POLL_S)

    def _lack(self) -> str:
        return next(iter(self.parked.values()), "it has not the code of any step that is left")

    async def _stand_aside(self, over: Callable[[], bool], leases: int = 1) -> None:
        """Let another node lead first."""
        until = self.clock.monotonic() + self.setup.lease_s * leases
        while not over() and self.clock.monotonic() < until:
            await self.clock.sleep(POLL_S)

    async def lead(
        self,
        over: Callable[[], bool],
        *,
        drain: bool = False,
        approved: bool = False,
        stop: Callable[[], bool] = lambda: False,
        say: Say = _silent,
    ) -> Led:
        """Lead until `over`, if nobody else does; with `drain`, or until nothing is left that could go on.

        Raises:
            PolicyError: the policy cannot be used; found before anybody is elected. LedgerError.
        """
        gatekeeper = self.setup.gatekeeper(self.ledger)
        won = await self.elector.campaign(self.scope, self.setup.node, ttl_s=self.setup.lease_s, timeout_s=0)
        if isinstance(won, Held):
            self.waits_for = won.why
            self.holder = f"{won.leader.node} {won.leader.term}" if won.leader is not None else "?"
            return "held"
        submitter: Submitter | None = None
        try:
            say(f"leading scope {self.scope!r} in term {won.number}")
            desk = self._desk(won, gatekeeper)
            also = gatekeeper.approved if approved else None
            submitter = Submitter(desk, gatekeeper, also=also, stop=stop, say=say)
            self.broken = submitter.broken
            async with heartbeat(self.elector, won, self.setup.lease_s, desk):
                await submitter.take_over()
                await submitter.serve(over, drain=drain)
        except TermLost as error:
            self.waits_for = str(error)
            say(self.waits_for)
            return "lost"
        finally:
            self.parked = dict(submitter.parked) if submitter is not None else {}
            await self._go(won, submitter.inbox.transfer if submitter is not None else "")
        await self._snapshot(say)
        self.waits_for = ""
        if submitter.inbox.resign or submitter.inbox.transfer:
            return "resigned"
        return "lacking" if submitter.lacking else "led"

    async def _go(self, term: Term, to: str) -> None:
        """Hand over, or resign; the lock is given back in any case."""
        try:
            if to:
                await self.elector.transfer(term, to)
        finally:
            await self.elector.resign(term)

    async def _snapshot(self, say: Say) -> None:
        """Spare the next submitter a long stream. It saves time and nothing else, so it fails nobody's commit."""
        journal = self.read()
        if journal.place - journal.restored < SNAPSHOT_EVERY:
            return
        try:
            await take_snapshot(self.ledger, self.scope)
            journal.restored = journal.place
        except LedgerPoisoned:
            raise
        except LedgerError as error:
            say(f"no snapshot was taken: {error}")

    def _desk(self, term: Term, gatekeeper: Gatekeeper) -> Desk:
        setup = self.setup
        return Desk(
            ledger=self.ledger,
            scope=self.scope,
            term=term,
            clock=self.clock,
            root=setup.root,
            run_dir=self.run_dir,
            policy=gatekeeper.policy,
            effects=setup.effects or default_effects(setup.steps, gatekeeper.protected),
            steps=setup.steps,
            journal=self.read(),
        )


def _answered(state: CommitState | None, seq: int) -> bool:
    """Whether a leader has dealt with the request: closed, waiting for a human, or refused since."""
    if state is None:
        return False
    if state.closed or state.doubts:
        return True
    return not state.admitted and any(record["result"]["request"] >= seq for record in state.rejections)
