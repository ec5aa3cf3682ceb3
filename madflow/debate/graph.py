"""The debate as a LangGraph graph. The sole importer of langgraph on the debate's side.

State holds ids and small JSON only; turns and ballots are in the ledger. A round is one node that asks its seats in
parallel: a branch that raises would cancel its siblings, and every extra superstep costs the whole debate.
Checkpoints are optional: with all of them deleted the ledger alone resumes the debate. A checkpointer is needed only to
wait for a human across processes, by LangGraph's `interrupt`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from .nodes import ask_stage, human_question, land_debate, next_step, record_human
from .session import Session

__all__ = ["DebateContext", "DebateGraphState", "build_debate_graph"]

_ASKING = ("speak", "vote", "judge", "mediate")
_STEPS = (*_ASKING, "human", "land", "end")


class DebateGraphState(TypedDict, total=False):
    """What passes between nodes. `request` is only read by `open`, where no session was handed in."""

    request: dict[str, Any]
    debate_id: str
    next: str
    stage: int
    round: int
    human: dict[str, Any]
    proposal_id: str
    digest: str
    result: str
    stop_reason: str


@dataclass(frozen=True, slots=True)
class DebateContext:
    """A run's context: the open session its nodes work with."""

    session: Session


Opener = Callable[[Mapping[str, Any]], Awaitable[Session]]


def build_debate_graph(opener: Opener | None = None, *, checkpointer: Any = None) -> Any:
    """The compiled graph.

    Args:
        opener: makes a session from the input's `request` (for LangGraph's own tools); without it a DebateContext
            must be handed in as the run's context.
        checkpointer: any LangGraph checkpointer; only a human fallback across processes needs one.
    """
    opened: dict[str, Session] = {}

    async def session_of(state: DebateGraphState, runtime: Runtime[DebateContext]) -> Session:
        if runtime.context is not None:
            return runtime.context.session
        if opener is None:
            raise ValueError("this graph needs a DebateContext as its run's context, or an opener when it is built")
        debate_id = state.get("debate_id", "")
        if debate_id not in opened:
            session = await opener({**state.get("request", {}), **({"id": debate_id} if debate_id else {})})
            opened[session.config.debate_id] = session
            return session
        return opened[debate_id]

    def at(session: Session) -> DebateGraphState:
        state = session.state
        last = state.closed[-1].stage if state.closed else None
        return {
            "debate_id": session.config.debate_id,
            "next": next_step(session),
            "stage": len(state.closed),
            "round": last.round if last else 0,
        }

    async def open_(state: DebateGraphState, runtime: Runtime[DebateContext]) -> DebateGraphState:
        return at(await session_of(state, runtime))

    async def ask(state: DebateGraphState, runtime: Runtime[DebateContext]) -> DebateGraphState:
        session = await session_of(state, runtime)
        await ask_stage(session)
        return at(session)

    async def human(state: DebateGraphState, runtime: Runtime[DebateContext]) -> DebateGraphState:
        session = await session_of(state, runtime)
        return {"human": dict(interrupt(human_question(session)))}

    async def heard(state: DebateGraphState, runtime: Runtime[DebateContext]) -> DebateGraphState:
        session = await session_of(state, runtime)
        if next_step(session) == "human":
            await record_human(session, state["human"])
        return at(session)

    async def land(state: DebateGraphState, runtime: Runtime[DebateContext]) -> DebateGraphState:
        session = await session_of(state, runtime)
        proposal = await land_debate(session)
        opened.pop(session.config.debate_id, None)
        done = at(session)
        done["proposal_id"], done["digest"] = proposal.proposal_id, proposal.digest
        done["result"], done["stop_reason"] = proposal.decision.result, proposal.decision.stop_reason
        return done

    graph = StateGraph(DebateGraphState, context_schema=DebateContext)
    graph.add_node("open", open_)
    for name in _ASKING:
        graph.add_node(name, ask)
    graph.add_node("human", human)
    graph.add_node("heard", heard)
    graph.add_node("land", land)
    graph.add_edge(START, "open")
    ways: dict[Any, str] = {name: name for name in _STEPS if name != "end"} | {"end": END}
    for name in ("open", *_ASKING, "heard"):
        graph.add_conditional_edges(name, _way, ways)
    graph.add_edge("human", "heard")
    graph.add_edge("land", END)
    return graph.compile(checkpointer=checkpointer, name="debate")


def _way(state: DebateGraphState) -> str:
    return state["next"]
