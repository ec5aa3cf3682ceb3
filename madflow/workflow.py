"""The whole way in one LangGraph workflow: debate, gate, commit.

    debate ─▶ gate ─▶ commit ─▶ END
                └─▶ END            not approved, or refused: the reasons are in the state

Debate and commit are the two subgraphs of `debate/graph.py` and `commit/graph.py`. The gate here only says what it says
now, so that a workflow need not ask for what will be refused; the submitter asks it again. Both human questions, of the
debate and of a step in doubt, are LangGraph interrupts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from .commit.api import WAIT_S, Committer
from .commit.graph import build_commit_graph
from .core.gate import Rejected
from .debate.entry import debate_from, opener_of
from .debate.graph import build_debate_graph
from .debate.session import Session

__all__ = ["WorkflowState", "build_workflow"]


class WorkflowState(TypedDict, total=False):
    """Plain JSON. `request` is what is debated (see `debate/entry.py`); the rest is what came of it."""

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
    wait_s: float = WAIT_S,
    checkpointer: Any = None,
) -> Any:
    """The compiled workflow.

    Args:
        committer: commits what is approved; by default one over `root`, its policy.toml and its ledger.
        root, ledger: the tree and the ledger of both layers. A request's own `root` and `ledger` are not read.
        wait_s: how long to wait for a commit at a time.
        checkpointer: any LangGraph checkpointer; needed for a human's word.
    """
    place = Path(ledger) if ledger is not None else Path(root) / ".madflow" / "ledger.db"
    own = committer or Committer(root, ledger=place)
    opener = opener_of(debate_from)

    def opened(request: Mapping[str, Any]) -> AbstractAsyncContextManager[Session]:
        return opener({**request, "root": str(root), "ledger": str(place)})

    async def gate(state: WorkflowState) -> Command[Any]:
        verdict = await asyncio.to_thread(own.check, state["proposal_id"], confirmed_by=state.get("confirmed_by", ""))
        if isinstance(verdict, Rejected):
            reasons = [reason.to_json() for reason in verdict.reasons]
            return Command(goto=END, update={"status": "rejected", "reasons": reasons})
        return Command(goto="commit")

    graph = StateGraph(WorkflowState)
    graph.add_node("debate", build_debate_graph(opened))
    graph.add_node("gate", gate, destinations=("commit", END))
    graph.add_node("commit", build_commit_graph(own, wait_s=wait_s))
    graph.add_edge(START, "debate")
    graph.add_edge("debate", "gate")
    graph.add_edge("commit", END)
    return graph.compile(checkpointer=checkpointer, name="workflow")
