"""The submitter: seals its term, finishes or compensates what a dead one left, then carries out what is asked.

    campaign ─▶ seal ─▶ read the journal ─▶ recover open commits ─▶ admit what is asked ─▶ … ─▶ resign

Several commits run at once, each in a task of its own; commits that touch the same resource wait for each other as the
policy's limits say. Who holds what is read from the journal, so a commit that is in doubt keeps its resources.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..core.gate import Rejected
from ..core.journal import CommitState, KeyState, commit_id
from ..errors import PlanError
from ..ports import Event, Stale
from .desk import Desk, TermLost
from .executor import Execution
from .gating import Gatekeeper
from .requests import CommitRequest, Inbox, Resolution
from .specs import Work, work_of

__all__ = ["AT_ONCE_MAX", "POLL_S", "Submitter"]

AT_ONCE_MAX: Final = 16
"""Commits that run at once under one term."""

POLL_S: Final = 0.05

_TREE: Final = frozenset({"changed_since", "missing"})
"""Reasons of the gate that may be gone once another commit has ended."""


class Submitter:
    """One term of one scope.

    Args:
        desk: not sealed yet.
        gatekeeper: says of a proposal whether it may be committed.
        also: proposals to commit beside those that are requested, asked each time the inbox is empty.
        stop: whether this process is told to end: as if the leader were asked to go.
    """

    def __init__(
        self,
        desk: Desk,
        gatekeeper: Gatekeeper,
        *,
        also: Callable[[], list[str]] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.desk, self._gatekeeper, self._also, self._stop = desk, gatekeeper, also, stop
        self._running: dict[str, asyncio.Task[None]] = {}
        self._targets: dict[str, tuple[str, ...]] = {}
        self._parked: dict[str, str] = {}
        self.inbox = Inbox(desk.ledger, desk.scope, place=desk.journal.requests)

    @property
    def parked(self) -> Mapping[str, str]:
        """Commits that wait, by commit id, and for what."""
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

    async def serve(self, done: Callable[[], bool] = lambda: True) -> None:
        """Recover, then carry out what is asked, until nothing runs and `done()`, or the leader is asked to go.

        Raises:
            TermLost: another submitter has taken over; what ran here was cancelled.
        """
        first = True
        try:
            while True:
                self.inbox.catch_up()
                if not self._going:
                    await self._resolve()
                    await self._start(recovering=first)
                    first = False
                if not self._running and (self._going or (done() and not self.inbox.catch_up())):
                    return
                await self._wait()
        finally:
            await self._end()

    @property
    def _going(self) -> bool:
        """Whether the leader is asked to hand over, or to end: what runs is finished, nothing new is begun."""
        return bool(self.inbox.transfer) or self.inbox.resign or self._stop()

    async def _wait(self) -> None:
        """Until a commit ends, at most one poll; an error of a commit's own task is raised here."""
        self.desk.check()
        tasks = list(self._running.values())
        if tasks:
            await asyncio.wait(tasks, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await self.desk.clock.sleep(POLL_S)
        for name, task in list(self._running.items()):
            if task.done():
                del self._running[name], self._targets[name]
                task.result()

    async def _end(self) -> None:
        for task in self._running.values():
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values())
        self._running.clear()

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
            if state.admitted and not state.closed and state.commit_id not in self._running:
                self._resume(state, settle=recovering)
        wanted = sorted(self.inbox.commits.values(), key=lambda request: request.seq)
        for request in wanted:
            await self._consider(request)
        for proposal_id in self._also() if self._also is not None else ():
            await self._consider(CommitRequest(0, proposal_id))

    def _resume(self, state: CommitState, *, settle: bool) -> None:
        """Go on with a commit that was admitted before; nothing to do where it waits for a human."""
        if state.status == "in_doubt" and not settle:
            return
        body = self._gatekeeper.body_of(state.proposal_id)
        if body is None:
            self._parked[state.commit_id] = f"the ledger no longer knows proposal {state.proposal_id!r}"
            return
        try:
            work = self._work(body, state)
        except PlanError as error:
            self._parked[state.commit_id] = f"{error}; a submitter that has it goes on"
            return
        self._run(Execution(self.desk, work), settle=settle)

    async def _consider(self, request: CommitRequest) -> None:
        """Admit a proposal, or record why not; once a request."""
        name = commit_id(self.desk.scope, request.proposal_id)
        state = self.desk.journal.commits.get(name)
        if name in self._running or (state is not None and self._answered(state, request)):
            return
        if len(self._running) >= AT_ONCE_MAX:
            return
        answer = await asyncio.to_thread(self._gatekeeper.ask, request)
        self.desk.policy = self._gatekeeper.policy
        if isinstance(answer, Rejected):
            if held := self._held(request, answer, state):
                self._parked[name] = held
            else:
                await self._reject(name, request, answer)
            return
        body = self._gatekeeper.body_of(request.proposal_id)
        assert body is not None  # noqa: S101 - the gate admits nothing that is not known
        work = self._work(body, state)
        busy = self._busy(work)
        if busy:
            self._parked[name] = busy
            return
        admission = {"policy_digest": self.desk.policy.digest(), "targets": list(work.targets), "steps": len(work.plan)}
        if request.confirmed_by:
            admission["confirmed_by"] = request.confirmed_by
        self._run(Execution(self.desk, work, admission=admission), settle=False)

    def _answered(self, state: CommitState, request: CommitRequest) -> bool:
        if state.admitted or state.closed:
            return True
        return any(record["result"]["request"] >= request.seq for record in state.rejections)

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
        """Which resource another commit holds, where nothing but the tree speaks against this one: it may yet be put
        back as it was. Otherwise the empty string."""
        body = self._gatekeeper.body_of(request.proposal_id)
        if body is None or any(reason.code not in _TREE for reason in answer.reasons):
            return ""
        return self._busy(self._work(body, state))

    async def _reject(self, name: str, request: CommitRequest, answer: Rejected) -> None:
        known = self._gatekeeper.body_of(request.proposal_id) or {}
        reasons = [{"code": r.code, "message": r.message, "step": r.step} for r in answer.reasons]
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

    def _run(self, execution: Execution, *, settle: bool) -> None:
        async def go() -> None:
            if settle:
                await execution.recover()
            await execution.run()

        name = execution.work.commit_id
        self._parked.pop(name, None)
        self._targets[name] = execution.work.targets
        self._running[name] = asyncio.create_task(go(), name=f"commit {name}")
