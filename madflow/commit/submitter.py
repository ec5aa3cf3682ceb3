"""The submitter: seals its term, finishes or compensates what a dead one left, then carries out what is asked.

    campaign ─▶ seal ─▶ read the journal ─▶ recover open commits ─▶ admit what is asked ─▶ … ─▶ resign

Several commits run at once, each in a task of its own; commits that touch the same resource wait for each other as the
policy's limits say. Who holds what is read from the journal, so a commit that is in doubt keeps its resources.

One commit's trouble is its own: what cannot go on here and now is *parked*, with the reason, and looked at again when
another commit has ended, or after a second. Only a lost term and a failing ledger end the submitter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..core.gate import Rejected
from ..core.journal import CommitState, KeyState, commit_id
from ..errors import CommitError, LedgerCorrupt, LedgerError, LedgerPoisoned, PlanError
from ..ports import Event, Stale
from .binding import bind
from .desk import Desk, TermLost
from .executor import Execution
from .gating import Gatekeeper
from .requests import CommitRequest, Inbox, Resolution
from .specs import Work, work_of

__all__ = ["AT_ONCE_MAX", "POLL_S", "Submitter"]

AT_ONCE_MAX: Final = 16
"""Commits that run at once under one term."""

POLL_S: Final = 0.05

LOOK_AGAIN_S: Final = 1.0
"""How soon a parked commit is looked at again."""

LEAVE_S: Final = 10.0
"""How long cancelled commits are waited for; an effect that goes on is left behind, under its key's lock."""

_TREE: Final = frozenset({"changed_since", "missing"})
"""Reasons of the gate that may be gone once another commit has ended."""

_LACKING: Final = frozenset({"unregistered"})
"""Reasons that hold for this submitter, and may not for another."""


class Submitter:
    """One term of one scope.

    Args:
        desk: not sealed yet.
        gatekeeper: says of a proposal whether it may be committed.
        also: proposals to commit beside those that are requested, asked each time the inbox is empty.
        stop: whether this process is told to end: as if the leader were asked to go.
        say: told, in words, what became of each commit.
    """

    def __init__(
        self,
        desk: Desk,
        gatekeeper: Gatekeeper,
        *,
        also: Callable[[], list[str]] | None = None,
        stop: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.desk, self._gatekeeper, self._also, self._stop, self._say = desk, gatekeeper, also, stop, say
        self._running: dict[str, asyncio.Task[None]] = {}
        self._targets: dict[str, tuple[str, ...]] = {}
        self._parked: dict[str, str] = {}
        self._look_at: dict[str, float] = {}
        self._seen_to: set[str] = set()
        self.broken: dict[str, str] = {}
        self.lacking: set[str] = set()
        self.inbox = Inbox(desk.ledger, desk.scope, place=desk.journal.requests)

    @property
    def parked(self) -> Mapping[str, str]:
        """Commits that wait, by commit id, and for what. `lacking`: those whose code is not registered here; `broken`:
        those that ended in an error of their own, by commit id."""
        return self._parked

    async def take_over(self) -> None:
        """Seal the term and read the journal. Raises TermLost where a later term has sealed the scope."""
        term = self.desk.term
        payload = {"term": term.number, "agent_id": term.node, "role": "submitter", "node": term.node}
        answer = await self.desk.ledger.seal(self.desk.scope, term.number, Event("term_sealed", payload))
        if isinstance(answer, Stale):
            raise TermLost(f"scope {self.desk.scope!r}: term {term.number} is stale, term {answer.term} has sealed it")
        self.desk.catch_up()
        self.inbox.since = answer.record.seq

    async def serve(self, over: Callable[[], bool], *, drain: bool = False) -> None:
        """Recover, then carry out what is asked, until `over()` or the leader is asked to go: what runs is finished,
        and nothing new is begun.

        Args:
            drain: also return once nothing is left that could go on.

        Raises:
            TermLost: another submitter has taken over; what ran here was cancelled. LedgerError: the ledger fails.
        """
        first, going = True, False
        try:
            while True:
                self.inbox.catch_up()
                going = going or self._asked_to_go or (not first and over())
                if not going:
                    await self._resolve()
                    await self._start(recovering=first)
                first = False
                if not self._running and (going or (drain and not self.inbox.catch_up()) or self._useless):
                    return
                await self._wait()
        finally:
            await self._end()

    @property
    def _asked_to_go(self) -> bool:
        return bool(self.inbox.transfer) or self.inbox.resign or self._stop()

    @property
    def _useless(self) -> bool:
        """Whether all that is left to do needs code that is not registered here: another submitter may have it."""
        return bool(self.lacking) and self.lacking.issuperset(self._parked)

    async def _wait(self) -> None:
        """Until a commit ends, at most one poll. What failed in one commit parks that commit."""
        self.desk.check()
        tasks = list(self._running.values())
        if tasks:
            await asyncio.wait(tasks, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await self.desk.clock.sleep(POLL_S)
        for name, task in list(self._running.items()):
            if task.done():
                del self._running[name], self._targets[name]
                self._look_at.clear()
                try:
                    task.result()
                    state = self.desk.journal.commits[name]
                    self._say(f"{state.proposal_id}: {state.status}")
                except (TermLost, LedgerError):
                    raise
                except Exception as error:
                    said = str(error) if isinstance(error, CommitError) else f"{type(error).__name__}: {error}"
                    self.broken[name] = said[:2000]
                    self._park(name, self.broken[name])

    async def _end(self) -> None:
        for task in self._running.values():
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=LEAVE_S)
        self._running.clear()

    def _park(self, name: str, why: str) -> None:
        if self._parked.get(name) != why:
            self._say(f"{name}: waits: {why}")
        self._parked[name] = why
        self._look_at[name] = self.desk.clock.monotonic() + LOOK_AGAIN_S

    def _resting(self, name: str) -> bool:
        """Whether a parked commit was looked at a moment ago, or there is no room for one more."""
        return len(self._running) >= AT_ONCE_MAX or self.desk.clock.monotonic() < self._look_at.get(name, 0.0)

    async def _resolve(self) -> None:
        """Apply humans' words: the first for a key in doubt counts, later ones find it settled."""
        for word in self.inbox.resolutions:
            key = self.desk.journal.keys.get(word.key)
            if key is not None and key.status == "in_doubt" and word.seq > key.doubt_seq:
                await self.desk.append([("resolved", self._resolved(key, word))])
        self.inbox.resolutions.clear()

    def _resolved(self, key: KeyState, word: Resolution) -> dict[str, Any]:
        commit = next(c for c in self.desk.journal.commits.values() if c.keys.get((key.index, key.direction)) is key)
        return {
            "term": self.desk.term.number,
            "commit_id": commit.commit_id,
            "proposal_id": commit.proposal_id,
            "proposal_digest": commit.proposal_digest,
            "task_id": commit.task_id,
            "agent_id": word.by,
            "role": "auditor",
            "node": self.desk.term.node,
            "step_index": key.index,
            "direction": key.direction,
            "idempotency_key": key.key,
            "attempt": key.attempt,
            "result": {"as": word.word, "by": word.by, "request": word.seq},
            "note": word.note,
        }

    async def _start(self, *, recovering: bool) -> None:
        """Start what can run: open commits first, then what is asked, oldest request first."""
        for state in list(self.desk.journal.commits.values()):
            name = state.commit_id
            if state.admitted and not state.closed and name not in self._running and not self._resting(name):
                self._resume(state, settle=recovering)
        self.inbox.commits = [wanted for wanted in self.inbox.commits if not self._answered(wanted)]
        for wanted in self.inbox.commits:
            await self._consider(wanted)
        for proposal_id in self._also() if self._also is not None else ():
            if proposal_id not in self._seen_to:
                wish = CommitRequest(0, proposal_id)
                if self._answered(wish):
                    self._seen_to.add(proposal_id)
                await self._consider(wish)

    def _resume(self, state: CommitState, *, settle: bool) -> None:
        """Go on with a commit that was admitted before; nothing to do where it waits for a human."""
        if state.status == "in_doubt" and not settle:
            return
        try:
            body = self._gatekeeper.body_of(state.proposal_id)
            if body is None:
                self._park(state.commit_id, f"the ledger no longer knows proposal {state.proposal_id!r}")
                return
            work = self._work(body, state)
        except PlanError as error:
            self.lacking.add(state.commit_id)
            self._park(state.commit_id, f"{error}; a submitter that has it goes on")
            return
        except LedgerError as error:
            if isinstance(error, LedgerPoisoned):
                raise
            self._park(state.commit_id, str(error))
            return
        self._run(Execution(self.desk, work), settle=settle)

    def _answered(self, request: CommitRequest) -> bool:
        """Whether the request needs nothing more: its commit is admitted, or the gate has refused it since."""
        state = self.desk.journal.commits.get(commit_id(self.desk.scope, request.proposal_id))
        if state is None:
            return False
        return state.admitted or any(record["result"]["request"] >= request.seq for record in state.rejections)

    async def _consider(self, request: CommitRequest) -> None:
        """Admit a proposal, or record why not; once a request."""
        name = commit_id(self.desk.scope, request.proposal_id)
        if name in self._running or self._answered(request) or self._resting(name):
            return
        answer = await asyncio.to_thread(self._gatekeeper.ask, request)
        self.desk.policy = self._gatekeeper.policy
        state = self.desk.journal.commits.get(name)
        if isinstance(answer, Rejected):
            held = self._held(request, answer, state)
            if held:
                self._park(name, held)
            else:
                self._parked.pop(name, None)
                await self._reject(name, request, answer)
            return
        body = self._gatekeeper.body_of(request.proposal_id)
        assert body is not None  # noqa: S101 - the gate admits nothing that is not known
        work = self._work(body, state)
        busy = self._busy(work)
        if busy:
            self._park(name, busy)
            return
        holder = await bind(self.desk.ledger, request.proposal_id, self.desk.scope)
        if holder != self.desk.scope:
            await self._reject(name, request, self._gatekeeper.elsewhere(request, holder))
            return
        admission = {"policy_digest": self.desk.policy.digest(), "targets": list(work.targets), "steps": len(work.plan)}
        if request.confirmed_by:
            admission["confirmed_by"] = request.confirmed_by
        self._run(Execution(self.desk, work, admission=admission), settle=False)

    def _work(self, body: Mapping[str, Any], state: CommitState | None) -> Work:
        return work_of(body, self.desk.scope, self.desk.policy, steps=self.desk.steps, known=state)

    def _busy(self, work: Work) -> str:
        """Which resource has no room for this commit, or the empty string."""
        holders = {c.commit_id: c.targets for c in self.desk.journal.commits.values() if c.admitted and not c.closed}
        holders.update(self._targets)  # those that run here may not have their first intent yet
        for target in work.targets:
            limit = self.desk.policy.limit_of(target)
            using = [name for name, held in holders.items() if target in held and name != work.commit_id]
            if limit is not None and len(using) >= limit:
                return f"{target} is in use by {', '.join(using[:3])} (at most {limit} at once)"
        return ""

    def _held(self, request: CommitRequest, answer: Rejected, state: CommitState | None) -> str:
        """Why a refused proposal should rather wait: a resource that another commit holds, where nothing but the tree
        speaks against this one, which may yet be put back as it was; or code that is not registered here."""
        codes = {reason.code for reason in answer.reasons}
        if codes <= _LACKING:
            self.lacking.add(commit_id(self.desk.scope, request.proposal_id))
            return f"{answer.reasons[0].message}; a submitter that has it goes on"
        if codes == {"bad_policy"}:
            return answer.reasons[0].message  # which says nothing against the proposal
        body = self._gatekeeper.body_of(request.proposal_id) if codes <= _TREE else None
        return self._busy(self._work(body, state)) if body is not None else ""

    async def _reject(self, name: str, request: CommitRequest, answer: Rejected) -> None:
        try:
            known = self._gatekeeper.body_of(request.proposal_id) or {}
        except LedgerCorrupt:
            known = {}  # which is what the reasons say
        reasons = [reason.to_json() for reason in answer.reasons]
        payload = {
            "term": self.desk.term.number,
            "commit_id": name,
            "proposal_id": request.proposal_id,
            "proposal_digest": known.get("digest", ""),
            "task_id": known.get("task_id", ""),
            "agent_id": self.desk.term.node,
            "role": "submitter",
            "node": self.desk.term.node,
            "result": {"reasons": reasons, "request": request.seq},
            "error_code": reasons[0]["code"],
        }
        await self.desk.append([("rejected", payload)])
        self._say(f"{request.proposal_id}: rejected ({', '.join(dict.fromkeys(r.code for r in answer.reasons))})")

    def _run(self, execution: Execution, *, settle: bool) -> None:
        async def go() -> None:
            if settle:
                await execution.recover()
            await execution.run()

        name = execution.work.commit_id
        self._parked.pop(name, None)
        self.lacking.discard(name)
        self._targets[name] = execution.work.targets
        self._running[name] = asyncio.create_task(go(), name=f"commit {name}")
