"""The whole way in one LangGraph workflow: debate, gate, commit.

    begin ─▶ debate ─▶ gate ─▶ commit ─▶ END
      │                 └─▶ END            not approved, or refused: the reasons are in the state
      └─▶ commit                           the debate of this id was committed before: its receipt is what is wanted

Debate and commit are the two subgraphs of `debate/graph.py` and `commit/graph.py`. The gate here only says what it says
now, so that a workflow need not ask for what will be refused; the submitter asks it again. It is not asked about a
commit that was let in before: what that has changed would be held against it, and its receipt is what is wanted. Both
human questions, of the debate and of a step in doubt, are LangGraph interrupts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from .clock import SystemClock
from .commit.api import WAIT_S, Committer
from .commit.gate import default_ledger, opened
from .commit.graph import build_commit_graph
from .commit.known import known_proposal
from .core.gate import Rejected
from .debate.entry import debate_from, opener_of
from .debate.graph import build_debate_graph
from .debate.setup import Debate
from .review.entry import review_from

__all__ = ["WorkflowState", "build_workflow"]


class WorkflowState(TypedDict, total=False):
    """Plain JSON. `request` is what is debated (see `debate/entry.py`), or with a `diff` reviewed (`review/entry.py`);
    the rest is what came of it."""

    request: dict[str, Any]
    debate_id: str
    proposal_id: str
    digest: str
    result: str
    stop_reason: str
    confirmed_by: str
    commit_id: str
    seq: int
    status: str
    reasons: list[dict[str, Any]]
    receipt: dict[str, Any]


def build_workflow(
    committer: Committer | None = None,
    *,
    root: str | Path = ".",
    ledger: str | Path | None = None,
    debate_of: Callable[[Mapping[str, Any]], Debate] | None = None,
    wait_s: float = WAIT_S,
    checkpointer: Any = None,
) -> Any:
    """The compiled workflow.

    Args:
        committer: commits what is approved; by default one over `root`, its policy.toml and its ledger.
        root, ledger: the tree and the ledger of both layers. A request's own `root` and `ledger` are not read.
        debate_of: makes the debate of a request, with an app's own agents for instance; its ledger is replaced by this
            workflow's. By default a request with a `diff` is a review, any other a debate.
        wait_s: how long to wait for a commit at a time.
        checkpointer: any LangGraph checkpointer; needed for a human's word.
    """
    place = Path(ledger) if ledger is not None else default_ledger(root)
    own = committer or Committer(root, ledger=place)

    def here(request: Mapping[str, Any]) -> Debate:
        asked = {**request, "root": str(root), "ledger": str(place)}
        return replace((debate_of or _debate_or_review)(asked), ledger=place)

    async def gate(state: WorkflowState) -> Command[Any]:
        name = state["proposal_id"]
        if (await asyncio.to_thread(own.receipt, name)).steps:
            return Command(goto="commit")
        verdict = await asyncio.to_thread(own.check, name, confirmed_by=state.get("confirmed_by", ""))
        if isinstance(verdict, Rejected):
            reasons = [reason.to_json() for reason in verdict.reasons]
            return Command(goto=END, update={"status": "rejected", "reasons": reasons})
        return Command(goto="commit")

    async def begin(state: WorkflowState) -> Command[Any]:
        """What is committed already is not debated anew: its tree is no longer the one the request is about."""
        found = await asyncio.to_thread(_decided, place, str(state.get("request", {}).get("id") or ""))
        if found and (await asyncio.to_thread(own.receipt, found["proposal_id"])).steps:
            return Command(goto="commit", update=found)
        return Command(goto="debate")

    graph = StateGraph(WorkflowState)
    graph.add_node("begin", begin, destinations=("debate", "commit"))
    graph.add_node("debate", build_debate_graph(opener_of(here)))
    graph.add_node("gate", gate, destinations=("commit", END))
    graph.add_node("commit", build_commit_graph(own, wait_s=wait_s))
    graph.add_edge(START, "begin")
    graph.add_edge("debate", "gate")
    graph.add_edge("commit", END)
    return graph.compile(checkpointer=checkpointer, name="workflow")


def _decided(place: Path, debate_id: str) -> dict[str, Any]:
    """The proposal of a debate that has landed, as the workflow's state names it; empty where there is none."""
    if not debate_id or not place.is_file():
        return {}
    clock = SystemClock()
    with opened(place, clock) as ledger:
        known = known_proposal(ledger, f"{debate_id}-p1", now_ms=clock.now_ms())
    if known is None or known.body is None:
        return {}
    body, decision = known.body, known.body["decision"]
    named = {"proposal_id": body["proposal_id"], "digest": body["digest"]}
    return {**named, "result": decision["result"], "stop_reason": decision["stop_reason"]}


def _debate_or_review(request: Mapping[str, Any]) -> Debate:
    return review_from(request) if "diff" in request else debate_from(request)
