"""The debate as a LangGraph graph. The sole importer of langgraph on the debate's side.

State holds ids and small JSON only; turns and ballots are in the ledger. A round is one node that asks its seats in
parallel: a branch that raises would cancel its siblings, and every extra superstep costs the whole debate.
Checkpoints are optional: with all of them deleted the ledger alone resumes the debate. A checkpointer is needed only to
wait for a human across processes, by LangGraph's `interrupt`.

`run` hands its session in as the run's context. A run of LangGraph's own tools brings none: then the nodes open one
from the input's `request`, and close it, its ledger and its lock when the debate lands, waits for a human, or fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from ..core.proposal import Proposal
from ..errors import ConfigError
from .nodes import ask_stage, human_question, land_debate, next_step, record_human
from .session import Session

__all__ = ["DebateContext", "DebateGraphState", "Opener", "build_debate_graph"]

_FALLBACKS = ("judge", "mediate", "human", "land")
_ASKING = {
    "speak": ("speak", "vote", *_FALLBACKS),
    "vote": ("speak", "vote", *_FALLBACKS),
    "judge": ("human", "mediate", "land"),
    "mediate": ("vote", "judge", "human", "land"),
}
_STEPS = (*_ASKING, "human", "land")


class DebateGraphState(TypedDict, total=False):
    """What passes between nodes. `request` is only read where no session was handed in; `next` says where a run with a
    session begins; `question` is what a human is asked, and `human` the answer."""

    request: dict[str, Any]
    debate_id: str
    next: str
    stage: int
    round: int
    question: dict[str, Any]
    human: dict[str, Any]
    proposal_id: str
    digest: str
    result: str
    stop_reason: str


@dataclass(frozen=True, slots=True)
class DebateContext:
    """A run's context: the open session its nodes work with."""

    session: Session


Opener: TypeAlias = Callable[[Mapping[str, Any]], AbstractAsyncContextManager[Session]]
"""Opens a session from a request, and closes what it opened. A request with an `id` that is known resumes it."""
_Runtime: TypeAlias = Runtime[DebateContext]


class _Nodes:
    """The nodes, and the sessions they opened themselves, by debate id."""

    def __init__(self, opener: Opener | None) -> None:
        self._opener = opener
        self._opened: dict[str, tuple[Session, AbstractAsyncContextManager[Session]]] = {}

    async def open(self, state: DebateGraphState, runtime: _Runtime) -> Command[Any]:
        async with self._session(state, runtime) as session:
            return await self._go(session)

    async def ask(self, state: DebateGraphState, runtime: _Runtime) -> Command[Any]:
        async with self._session(state, runtime) as session:
            await ask_stage(session)
            return await self._go(session)

    async def human(self, state: DebateGraphState) -> DebateGraphState:
        return {"human": dict(interrupt(state["question"]))}

    async def heard(self, state: DebateGraphState, runtime: _Runtime) -> Command[Any]:
        async with self._session(state, runtime) as session:
            if next_step(session) == "human":
                await record_human(session, state["human"])
            return await self._go(session)

    async def land(self, state: DebateGraphState, runtime: _Runtime) -> DebateGraphState:
        async with self._session(state, runtime) as session:
            proposal = await land_debate(session)
            await self._release(session.config.debate_id)
        return _outcome(proposal)

    async def _go(self, session: Session) -> Command[Any]:
        """On to what is due. A command rather than a conditional edge: those cost a third of a debate's CPU."""
        state, step = session.state, next_step(session)
        stage = state.stage or (state.closed[-1].stage if state.closed else None)
        update: dict[str, Any] = {
            "debate_id": session.config.debate_id,
            "stage": len(state.closed),
            "round": stage.round if stage else 0,
        }
        if step == "human":  # the answer may take days, and may come in another process
            update["question"] = human_question(session)
        if step == "end" and session.stream.landed is not None:  # by a run before this one
            update.update(_outcome(Proposal.model_validate(session.stream.landed)))
        if step in ("human", "end"):
            await self._release(session.config.debate_id)
        return Command(goto=END if step == "end" else step, update=update)

    @asynccontextmanager
    async def _session(self, state: DebateGraphState, runtime: _Runtime) -> AsyncIterator[Session]:
        """The run's own session, else what an earlier node opened, else a new one. An error closes what is ours."""
        if runtime.context is not None:
            yield runtime.context.session
            return
        if self._opener is None:
            raise ConfigError("this graph needs a DebateContext as its run's context, or an opener when it is built")
        debate_id = state.get("debate_id", "")
        if debate_id not in self._opened:
            closing = self._opener({**state.get("request", {}), **({"id": debate_id} if debate_id else {})})
            session = await closing.__aenter__()
            debate_id = session.config.debate_id
            self._opened[debate_id] = (session, closing)
        try:
            yield self._opened[debate_id][0]
        except BaseException:
            await self._release(debate_id)
            raise

    async def _release(self, debate_id: str) -> None:
        held = self._opened.pop(debate_id, None)
        if held is not None:
            await held[1].__aexit__(None, None, None)


def _outcome(proposal: Proposal) -> DebateGraphState:
    return {
        "proposal_id": proposal.proposal_id,
        "digest": proposal.digest,
        "result": proposal.decision.result,
        "stop_reason": proposal.decision.stop_reason,
    }


def build_debate_graph(opener: Opener | None = None, *, checkpointer: Any = None) -> Any:
    """The compiled graph.

    Args:
        opener: makes a session from the input's `request` (for LangGraph's own tools); without it a DebateContext
            must be handed in as the run's context.
        checkpointer: any LangGraph checkpointer; only a human fallback across processes needs one.
    """
    nodes = _Nodes(opener)
    graph = StateGraph(DebateGraphState, context_schema=DebateContext)
    graph.add_node("open", nodes.open, destinations=(*_STEPS, END))
    for name, ways in _ASKING.items():
        graph.add_node(name, nodes.ask, destinations=ways)
    graph.add_node("human", nodes.human)
    graph.add_node("heard", nodes.heard, destinations=("human", "land"))
    graph.add_node("land", nodes.land)
    graph.add_conditional_edges(START, _entry, ["open", *_STEPS])
    graph.add_edge("human", "heard")
    graph.add_edge("land", END)
    return graph.compile(checkpointer=checkpointer, name="debate")


async def _entry(state: DebateGraphState) -> str:
    """A run that was handed its session says what is due; any other opens first."""
    return state.get("next") or "open"
