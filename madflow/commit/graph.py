"""The commit as a LangGraph graph. The sole importer of langgraph on the commit's side.

The graph only enqueues and waits: no effect runs in a node's body, which LangGraph may run twice. The request is
recorded in the ledger; whoever leads the scope carries it out, and the journal makes it happen once however often a
node runs again. A node that waits may lead meanwhile, in tasks of the submitter's own.

    submit ─▶ wait ─▶ END                        committed, compensated, rejected, or pending after `wait_s`
               ▲ │
               │ ▼ a step is in doubt
      heard ◀─ human ◀┐                          LangGraph's interrupt: {"key", "as", "by", "note"}
        └────────┴────┘ an answer that cannot be used: asked again, with the reason

A human may as well answer by `madflow resolve`; whichever word the leader sees first counts. An answer is checked
before it is kept: one that no leader would take must not stand in the thread, where every further run would meet it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from ..errors import ConfigError, UsageError
from .api import WAIT_S, Committer
from .receipt import Receipt

__all__ = ["CommitGraphState", "build_commit_graph", "doubt_question"]


PROBLEM_CHARS_MAX: Final = 2_000
_ANSWERS: Final = ("done", "failed", "retry")


class CommitGraphState(TypedDict, total=False):
    """Plain JSON. `proposal`: a proposal's data, or `proposal_id` alone; `receipt` is what it came to."""

    proposal: dict[str, Any]
    proposal_id: str
    confirmed_by: str
    seq: int
    commit_id: str
    status: str
    question: dict[str, Any]
    word: dict[str, Any]
    receipt: dict[str, Any]


def doubt_question(receipt: Receipt) -> dict[str, Any]:
    """What a human is asked about the first step in doubt. Asked again it has a `problem`, too: what was wrong with the
    answer before."""
    step = next(step for step in receipt.steps if step.status == "in_doubt")
    return {
        "key": step.idempotency_key,
        "proposal_id": receipt.proposal_id,
        "commit_id": receipt.commit_id,
        "step_index": step.step_index,
        "direction": step.direction,
        "why": str((step.result or {}).get("message", step.error_code or "")),
        "answers": list(_ANSWERS),
    }


def _problem(word: Any) -> str:
    """Why an answer cannot be used; empty where it can."""
    if not isinstance(word, Mapping):
        return f'the answer is a {type(word).__name__}; answer {{"as": "done" | "failed" | "retry", "by": "NAME"}}'
    if word.get("as") not in _ANSWERS:
        return f'"as" is {str(word.get("as"))[:40]!r}; it is one of {", ".join(_ANSWERS)}'
    if not isinstance(word.get("by"), str) or not word["by"].strip():
        return '"by" is missing: who says so?'
    strange = [name for name in ("key", "note") if not isinstance(word.get(name) or "", str)]
    return f'"{strange[0]}" is a {type(word[strange[0]]).__name__}; give a text, or leave it out' if strange else ""


def build_commit_graph(committer: Committer, *, wait_s: float = WAIT_S, checkpointer: Any = None) -> Any:
    """The compiled graph.

    Args:
        wait_s: how long one node waits for the commit; the status is `pending` after that, and a further run goes on.
        checkpointer: any LangGraph checkpointer; needed for a human's word by interrupt.
    """
    nodes = _Nodes(committer, wait_s)
    graph = StateGraph(CommitGraphState)
    graph.add_node("submit", nodes.submit)
    graph.add_node("wait", nodes.wait, destinations=("human", END))
    graph.add_node("human", nodes.human, destinations=("human", "heard"))
    graph.add_node("heard", nodes.heard, destinations=("human", "wait"))
    graph.add_edge(START, "submit")
    graph.add_edge("submit", "wait")
    return graph.compile(checkpointer=checkpointer, name="commit")


class _Nodes:
    def __init__(self, committer: Committer, wait_s: float) -> None:
        self._committer, self._wait_s = committer, wait_s

    async def submit(self, state: CommitGraphState) -> CommitGraphState:
        wanted = state.get("proposal") or state.get("proposal_id")
        if not wanted:
            raise ConfigError('the commit graph needs a proposal: give {"proposal": {…}} or {"proposal_id": "…"}')
        ticket = await self._committer.submit(wanted, confirmed_by=state.get("confirmed_by", ""))
        return {"proposal_id": ticket.proposal_id, "commit_id": ticket.commit_id, "seq": ticket.seq}

    async def wait(self, state: CommitGraphState) -> Command[Any]:
        ticket = self._committer.ticket(state["proposal_id"], state["seq"])
        receipt = await self._committer.wait(ticket, wait_s=self._wait_s)
        update: dict[str, Any] = {"receipt": receipt.to_json(), "status": receipt.status}
        if receipt.status == "in_doubt":
            return Command(goto="human", update={**update, "question": doubt_question(receipt)})
        return Command(goto=END, update=update)

    async def human(self, state: CommitGraphState) -> Command[Any]:
        word = interrupt(state["question"])
        if problem := _problem(word):
            return _asked_again(state, problem)
        kept = {name: word[name] for name in ("key", "as", "by", "note") if word.get(name)}
        return Command(goto="heard", update={"word": kept})

    async def heard(self, state: CommitGraphState) -> Command[Any]:
        """Hand the word to the leader. Another's that came first counts; then there is nothing to do here."""
        word: Mapping[str, Any] = state["word"]
        key = word.get("key") or state["question"]["key"]
        try:
            await self._committer.resolve(key, word["as"], by=word["by"], note=word.get("note", ""))
        except UsageError as error:
            return _asked_again(state, str(error))
        return Command(goto="wait")


def _asked_again(state: CommitGraphState, problem: str) -> Command[Any]:
    return Command(goto="human", update={"question": {**state["question"], "problem": problem[:PROBLEM_CHARS_MAX]}})
