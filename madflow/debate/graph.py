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
from langgraph.types import Command, interrupt

from .nodes import ask_stage, human_question, land_debate, next_step, record_human
from .session import Session

__all__ = ["DebateContext", "DebateGraphState", "build_debate_graph"]

_FALLBACKS = ("judge", "mediate", "human", "land")
_ASKING = {
    "speak": ("speak", "vote", *_FALLBACKS),
    "vote": ("speak", "vote", *_FALLBACKS),
    "judge": ("human", "mediate", "land"),
    "mediate": ("vote", "judge", "human", "land"),
}
_STEPS = (*_ASKING, "human", "land")


class DebateGraphState(TypedDict, total=False):
    """What passes between nodes. `request` is only read by `open`, where no session was handed in; `next` says where a
    run with a session begins."""

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

    def go(session: Session) -> Command[Any]:
        """On to what is due. A command rather than a conditional edge: those cost a third of a debate's CPU."""
        state, step = session.state, next_step(session)
        stage = state.stage or (state.closed[-1].stage if state.closed else None)
        update = {
            "debate_id": session.config.debate_id,
            "stage": len(state.closed),
            "round": stage.round if stage else 0,
        }
        return Command(goto=END if step == "end" else step, update=update)

    async def open_(state: DebateGraphState, runtime: Runtime[DebateContext]) -> Command[Any]:
        return go(await session_of(state, runtime))

    async def ask(state: DebateGraphState, runtime: Runtime[DebateContext]) -> Command[Any]:
        session = await session_of(state, runtime)
        await ask_stage(session)
        return go(session)

    async def human(state: DebateGraphState, runtime: Runtime[DebateContext]) -> DebateGraphState:
        session = await session_of(state, runtime)
        return {"human": dict(interrupt(human_question(session)))}

    async def heard(state: DebateGraphState, runtime: Runtime[DebateContext]) -> Command[Any]:
        session = await session_of(state, runtime)
        if next_step(session) == "human":
            await record_human(session, state["human"])
        return go(session)

    async def land(state: DebateGraphState, runtime: Runtime[DebateContext]) -> DebateGraphState:
        session = await session_of(state, runtime)
        proposal = await land_debate(session)
        opened.pop(session.config.debate_id, None)
        return {
            "proposal_id": proposal.proposal_id,
            "digest": proposal.digest,
            "result": proposal.decision.result,
            "stop_reason": proposal.decision.stop_reason,
        }

    graph = StateGraph(DebateGraphState, context_schema=DebateContext)
    graph.add_node("open", open_, destinations=(*_STEPS, END))
    for name, ways in _ASKING.items():
        graph.add_node(name, ask, destinations=ways)
    graph.add_node("human", human)
    graph.add_node("heard", heard, destinations=("human", "land"))
    graph.add_node("land", land)
    graph.add_conditional_edges(START, _entry, ["open", *_STEPS])
    graph.add_edge("human", "heard")
    graph.add_edge("land", END)
    return graph.compile(checkpointer=checkpointer, name="debate")


async def _entry(state: DebateGraphState) -> str:
    """A run that was handed its session says what is due; any other opens first."""
    return state.get("next") or "open"
